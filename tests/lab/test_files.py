"""Files are whole or absent, whoever reads or stops in the middle."""

import os

import pytest

from sim.lab import files


def test_a_reader_in_the_middle_sees_the_old_file(tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("old")
    with files.replacing(path) as part:
        part.write_text("new")
        assert part != path and path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_the_file_appears_in_one_rename_after_reaching_the_disk(tmp_path, monkeypatch):
    """fsync of the scratch file, then one rename from its own folder: neither is left out or turned round."""
    events = []
    original = {"fsync": os.fsync, "replace": os.replace}

    def fsync(handle):
        events.append("fsync")
        original["fsync"](handle)

    def replace(source, target):
        events.append("replace")
        assert source.stat().st_dev == target.parent.stat().st_dev and source.read_text() == "new"
        original["replace"](source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    files.write_text(tmp_path / "deep" / "results.csv", "new")
    assert events == ["fsync", "replace"]
    assert (tmp_path / "deep" / "results.csv").read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_in_the_block_leaves_the_old_file(tmp_path, error):
    path = tmp_path / "results.csv"
    path.write_text("old")
    with pytest.raises(error), files.replacing(path) as part:
        part.write_text("ne")
        raise error
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_full_disk_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "results.csv"
    path.write_text("old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        files.write_text(path, "new")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["results.csv"]


def test_a_folder_comes_whole_with_every_file_on_the_disk(tmp_path, monkeypatch):
    synced = []
    original = os.fsync
    monkeypatch.setattr(os, "fsync", lambda handle: (synced.append(handle), original(handle)))
    path = tmp_path / "adapter"
    with files.replacing(path) as part:
        (part / "deep").mkdir(parents=True)
        (part / "config.json").write_text("{}")
        (part / "deep" / "weights").write_text("w")
        assert not path.exists()
    assert sorted(str(file.relative_to(path)) for file in path.rglob("*")) == [
        "config.json", "deep", "deep/weights",
    ]  # fmt: skip
    assert len(synced) == 2
    assert os.listdir(tmp_path) == ["adapter"]
