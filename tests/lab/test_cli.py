"""What every command does alike: one line for every mistake, and the exit code that belongs to it."""

import errno
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from sim.lab import cli


@dataclass(frozen=True)
class Config:
    """Counts."""

    number: int = 3


def ended(monkeypatch, capsys, main, *words):
    """(exit code, stdout, stderr) of a command."""
    monkeypatch.setattr(sys, "argv", ["count", *words])
    code = 0
    try:
        cli.run_command(Config, main, "sim.count", "what was counted is kept")
    except SystemExit as stop:
        code = stop.code
    out, err = capsys.readouterr()
    return code, out, err


def raising(error):
    def main(config):
        raise error

    return main


def test_the_parsed_configuration_is_handed_over(monkeypatch, capsys):
    assert ended(monkeypatch, capsys, print, "--number", "5") == (0, "Config(number=5)\n", "")
    assert ended(monkeypatch, capsys, print) == (0, "Config(number=3)\n", "")


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (ValueError("number is 0; give at least 1"), 2, "error: number is 0; give at least 1"),
        (ValueError("two\n   lines"), 2, "error: two lines"),
        (
            OSError(errno.ENOSPC, "No space left on device", "a.csv"),
            2,
            "error: a.csv: No space left on device",
        ),
        (FileNotFoundError("base.safetensors is missing"), 2, "error: base.safetensors is missing"),
        (FloatingPointError("the loss became nan"), 1, "error: the loss became nan"),
        (KeyboardInterrupt(), 130, "interrupted: what was counted is kept"),
    ],
)
def test_a_mistake_is_one_line(monkeypatch, capsys, error, code, line):
    assert ended(monkeypatch, capsys, raising(error)) == (code, "", f"{line}\n")


def test_words_that_cannot_be_parsed_end_with_2(monkeypatch, capsys):
    code, _, err = ended(monkeypatch, capsys, print, "--number", "many")
    assert code == 2 and "number" in err and "Traceback" not in err


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch, capsys):
    with pytest.raises(KeyError):
        ended(monkeypatch, capsys, raising(KeyError("ours")))


PIPED = """
from dataclasses import dataclass
from sim.lab.cli import run_command

@dataclass
class Config:
    pass

def main(config):
    for line in range(100_000):
        print(line)

run_command(Config, main, "sim.count")
"""


@pytest.mark.slow
def test_a_reader_that_leaves_early_is_no_error():
    process = subprocess.Popen(
        [sys.executable, "-c", PIPED],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"0\n"
    process.stdout.close()
    assert process.stderr.read() == b"" and process.wait() == 0
