"""What commands say: help texts that read, missing options, folders that are files."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.lab import cli, files
from sim.lab.cli import shortened

ROOT = Path(__file__).parents[2]
COMMANDS = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__main__")
    for path in (ROOT / "sim").rglob("*.py")
    if re.search(r"^    (cli\.)?run_command\(", path.read_text(), re.M)
)
"""Every module that is a command."""


@pytest.mark.parametrize(
    ("metavar", "short"),
    [
        ("[PATH [PATH ...]]", "PATH ..."),
        ("PATH [PATH ...]", "PATH ..."),
        ("{None}|STR", "STR"),
        ("{None}|{[STR [STR ...]]}", "STR ..."),
        ("{None,float32,bfloat16}", "{float32,bfloat16}"),
        ("[{own,shared} [{own,shared} ...]]", "{own,shared} ..."),
        ("[{a,b} [...]]", "{a,b} ..."),
        ("INT", "INT"),
    ],
)
def test_metavars(metavar, short):
    assert shortened(metavar) == short


def test_every_command_is_there():
    assert {"sim.merge", "sim.plan.miniature", "sim.lm", "sim.sweep"} <= set(COMMANDS) and len(COMMANDS) >= 12


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_text_reads_and_has_two_examples(name, command):
    code, out, _ = command(name, "--help")
    assert code == 0 and "[[" not in out and "{None" not in out
    assert sum(line.startswith("* python -m sim.") for line in out.splitlines()) == 2


@dataclass(frozen=True)
class Config:
    """Counts."""

    number: int
    batch_size: int
    out: Path = Path("x")
    label: str | None = None


def answer(monkeypatch, capsys, *words):
    monkeypatch.setattr(sys, "argv", ["count", *words])
    code = 0
    try:
        cli.run_command(Config, print, "sim.count")
    except SystemExit as stop:
        code = stop.code
    return (code, *capsys.readouterr())


def test_missing_options_are_one_line(monkeypatch, capsys):
    line = "error: give --number and --batch-size; python -m sim.count --help has two examples\n"
    assert answer(monkeypatch, capsys) == (2, "", line)
    assert answer(monkeypatch, capsys, "--number", "3")[2].startswith("error: give --batch-size; ")
    code, out, _ = answer(monkeypatch, capsys, "--number=3", "--batch_size", "4", "--label", "a")
    assert code == 0 and "number=3, batch_size=4" in out and "label='a'" in out


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    files.check_folder(tmp_path / "new" / "deep")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ValueError, match=rf"^--out {path}: {tmp_path / 'file'} is a file; give a folder"):
            files.check_folder(path)
