"""A base's folder looked at without loading it: what identifies it, and what does not belong there."""

import hashlib

import pytest

from sim.hf.base import contents, require_base
from sim.lab import files

FILES = {
    "config.json": "{}",
    "model-00001-of-00002.safetensors": "first",
    "model-00002-of-00002.safetensors": "second",
    "model.safetensors.index.json": "index",
    "tokenizer.json": "words",
    "tokenizer.model": "pieces",
    "merges.txt": "pairs",
    "generation_config.json": "no logits",
    "README.md": "prose",
}
WITHOUT_EFFECT = {"generation_config.json", "README.md"}


def write(folder, texts):
    for name, text in texts.items():
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize("changed", FILES)
def test_a_file_changed_in_place_changes_its_digest_alone(tmp_path, changed):
    before = contents(write(tmp_path, FILES))
    assert before.keys() == FILES.keys() - WITHOUT_EFFECT
    (tmp_path / changed).write_text(FILES[changed][::-1] + "!"[: changed == "config.json"])
    after = contents(tmp_path)
    assert {name for name in before if before[name] != after[name]} == {changed} - WITHOUT_EFFECT


def test_pickled_weights_count_where_they_are_read(tmp_path):
    texts = {"config.json": "{}", "pytorch_model.bin": "weights", "training_args.bin": "not weights"}
    before = contents(write(tmp_path, texts))
    assert before.keys() == {"config.json", "pytorch_model.bin"}
    (tmp_path / "pytorch_model.bin").write_text("WEIGHTS")
    assert contents(tmp_path)["pytorch_model.bin"] != before["pytorch_model.bin"]
    for name in ("model.safetensors", "model.safetensors.index.json"):
        (tmp_path / name).write_text("read first")
        assert contents(tmp_path).keys() == {"config.json", name}
        (tmp_path / name).unlink()


def test_a_digest_is_that_of_all_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "CHUNK", 7)
    texts = {"b": bytes(range(50)), "a": b"", "c": bytes(range(49)) + b"\0"}
    for name, text in texts.items():
        (tmp_path / name).write_bytes(text)
    (tmp_path / "folder").mkdir()
    expected = {name: hashlib.sha256(text).hexdigest()[:16] for name, text in texts.items()}
    assert files.digests(tmp_path.iterdir()) == expected
    assert len(set(expected.values())) == 3


def test_what_is_no_base_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ValueError, match=r"is not the folder of a model: it holds no config\.json"):
            contents(folder)
    write(tmp_path, {"adapter_config.json": "{}"})
    with pytest.raises(ValueError, match="an adapter's folder: give that of its base"):
        require_base(tmp_path)
    write(tmp_path, {"config.json": "{}"})
    with pytest.raises(ValueError, match=r"beside the base: .*; move the adapter_\* files to a folder of"):
        contents(tmp_path)
