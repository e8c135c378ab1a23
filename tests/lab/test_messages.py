"""A mistake in any command is one line that names the thing and the remedy, and ends with code 2."""

from pathlib import Path

import pytest
from test_help import COMMANDS

ADAPTERS = Path(__file__).parents[2] / "notebooks" / "adapters"
A, B = ADAPTERS / "home", ADAPTERS / "emblem"
MERGE, PAIR, EXAMPLES = ("sim.merge", A, B), (A, B), "--help has two examples"
BASED = ("--base", A, "--prompts", ADAPTERS / "questions.jsonl")

MISTAKES = {
    # names that do not exist
    ("sim.sweep", "familarity"): "unknown experiment 'familarity'; did you mean familiarity?",
    ("sim.sweep", "--world", "two_hopp"): "unknown world 'two_hopp'; did you mean two_hop?",
    ("sim.sweep", "--method", "summ"): "unknown merge method 'summ'; did you mean sum?",
    ("sim.sweep", "--profile", "papr"): "unknown --profile 'papr'; did you mean paper?",
    ("sim.figures", "rnk"): "unknown figure 'rnk'; did you mean rank?",
    ("sim.figures", "--preset", "icmll"): "unknown --preset 'icmll'; did you mean icml?",
    ("sim.figures", "--format", "jpg"): "unknown --format 'jpg'; did you mean png or pgf?",
    (*MERGE, "--method", "summ", "--out", "x"): "unknown merge method 'summ'; did you mean sum?",
    (*MERGE, "--method", "sum", "--dtype", "float8", "--out", "x"): "unknown --dtype 'float8'; did you",
    ("sim.predict", *PAIR, *BASED, "--method", "summ"): "unknown merge method 'summ'; did you mean sum?",
    ("sim.bench", "merg"): "unknown benchmark 'merg'; did you mean merge?",
    ("sim.lm", "fech"): "unknown action 'fech'; did you mean fetch",
    ("sim.experiments.merge_forecast", "minature"): "unknown stages 'minature'; did you mean miniature",
    # what is missing
    ("sim.merge",): f"give --method NAME, or --recipe FILE; python -m sim.merge {EXAMPLES}",
    (*MERGE, "--method", "sum"): "give --out DIR, the folder to write, or --check MERGED",
    ("sim.diagnose",): f"give two or more adapters, not 0; python -m sim.diagnose {EXAMPLES}",
    ("sim.diagnose", A): f"give two or more adapters, not 1; python -m sim.diagnose {EXAMPLES}",
    ("sim.predict", A): f"give --base and --prompts; python -m sim.predict {EXAMPLES}",
    ("sim.record", A): f"give --base and --prompts and --out; python -m sim.record {EXAMPLES}",
    ("sim.plan",): f"give --facts; python -m sim.plan {EXAMPLES}",
    ("sim.plan", "--facts"): "Missing value for argument '--facts'",
    ("sim.lm",): f"give {{fetch,teach}}; python -m sim.lm {EXAMPLES}",
    ("sim.experiments.merge_forecast",): "give one or more stages: prepare, check, train",
    # values that cannot be read
    ("sim.sweep", "--rank", "four"): "--rank: ",
    ("sim.plan", "--facts", "many"): "--facts: invalid literal for int() with base 10: 'many'; python",
    (*MERGE, "--method", "sum", "--weight", "a", "--out", "x"): "--weight: ",
    ("sim.plan", "--fact", "3"): "unknown option '--fact'; did you mean --facts?",
    ("sim.plan", "--facts", "20", "3"): "Unrecognized options: 3; python -m sim.plan",
    # files and folders that are not there
    ("sim.figures", "--from", "none"): "--from none is no folder; give the --out of python -m sim.sweep",
    ("sim.figures", "--from", ADAPTERS): f"--from {ADAPTERS} holds no finished run of an experiment: ",
    ("sim.merge", A, "none", "--method", "sum", "--out", "x"): "none is not a folder; give the folder that",
    (*MERGE, "--check", "none"): "none",
    ("sim.predict", A, "--base", "none", "--prompts", "none"): "none: No such file",
    # one folder twice
    ("sim.merge", A, A, "--method", "sum", "--out", "x"): f"{A} and {A} are the same folder: which other one",
    ("sim.diagnose", A, A): f"{A} and {A} are the same folder: which other one",
    ("sim.predict", A, A, *BASED): f"{A} and {A} are the same folder: which other one",
    ("sim.record", A, A, *BASED, "--out", "x"): f"{A} and {A} are the same folder: which other one",
}  # fmt: skip
"""Words of a command -> the beginning of what it says."""

FOLDERS = (
    ("sim.sweep", "--rank", "4"),
    ("sim.sweep", "familiarity"),
    ("sim.figures", "rank"),
    (*MERGE, "--method", "sum"),
    ("sim.diagnose", *PAIR),
    ("sim.predict", *PAIR, *BASED),
    ("sim.lm", "teach"),
    ("sim.bench", "merge"),
    ("sim.experiments.merge_forecast", "miniature"),
)
"""Commands whose --out is a folder."""

FILES = (("sim.explore",), ("sim.record", *PAIR, *BASED), ("sim.experiments.capitals",))
"""Commands whose --out is a file."""


@pytest.fixture
def line(command, tmp_path, monkeypatch):
    """What a command says of a mistake: one line on stderr and nothing on stdout, code 2, nothing written."""
    monkeypatch.chdir(tmp_path)

    def run(*words):
        code, out, err = command(*words)
        assert (code, out) == (2, ""), (code, out, err)
        text = err.rpartition("\r")[2].strip()  # behind a bar that is taken away
        assert text.count("\n") == 0 and text.startswith("error: ")
        return text.removeprefix("error: ")

    return run


@pytest.mark.parametrize(
    "words", MISTAKES, ids=lambda words: " ".join(str(getattr(w, "name", w)) for w in words)
)
def test_a_mistake_is_one_line_that_names_it(words, line):
    text = line(*words)
    assert text.startswith(MISTAKES[words]) and len(text) < 400
    assert not list(Path().iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_that_does_not_exist_is_named(name, line):
    assert line(name, "--hlep").startswith("unknown option '--hlep'; did you mean --help")


@pytest.mark.parametrize("words", FOLDERS, ids=lambda words: words[0])
def test_a_file_in_the_place_of_the_folder_is_named(words, line):
    Path("file").write_text("")
    assert line(*words, "--out", "file").startswith("--out file: file is a file; give a folder")
    assert not Path("file").read_text()


@pytest.mark.parametrize("words", FILES, ids=lambda words: words[0])
def test_a_folder_in_the_place_of_the_file_is_named(words, line):
    Path("folder").mkdir()
    assert line(*words, "--out", "folder").startswith("--out folder is a folder; give the file to write")
    assert not list(Path("folder").iterdir())
