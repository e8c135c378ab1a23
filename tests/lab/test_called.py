"""Packages that can be called, and results that print and draw themselves."""

import inspect
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import sim
import sim.diagnose.report
from sim import diagnose, merge, predict
from sim.diagnose.report import diagnose as plain
from sim.lab import style
from sim.lab.entry.shown import Shown
from sim.merge import METHODS, read_adapter

DATA = Path(__file__).parents[1] / "merge" / "data" / "equal_rank"
FOLDERS = (DATA / "first", DATA / "second")

ORDERS = """
import sys, sim
assert not {name for name in sys.modules if name.startswith(("sim.diagnose", "sim.merge", "sim.predict"))}
%s
from sim import diagnose, merge, predict
import sim.diagnose.report, sim.merge.registry, sim.predict.tables
assert diagnose is sim.diagnose and callable(diagnose) and callable(diagnose.report.diagnose)
assert merge is sim.merge and callable(merge) and merge.registry.METHODS is merge.METHODS
assert predict is sim.predict and callable(predict) and predict.tables.TRUSTED
assert "torch" not in sys.modules
"""


@pytest.mark.parametrize(
    "first",
    [
        "",
        "from sim.diagnose.report import diagnose",
        "import sim.merge.registry",
        "sim.diagnose; sim.predict",
    ],
)
def test_a_package_and_its_function_are_one_whatever_is_imported_first(first):
    done = subprocess.run([sys.executable, "-c", ORDERS % first], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_help_says_what_a_package_takes():
    assert list(inspect.signature(diagnose).parameters) == ["adapters", "features", "rename"]
    assert inspect.signature(merge).parameters["method"].kind is inspect.Parameter.KEYWORD_ONLY
    assert {"base", "prompts", "check"} <= set(inspect.signature(predict).parameters)
    with pytest.raises(AttributeError, match="no attribute 'marge'"):
        sim.marge  # noqa: B018


def test_a_diagnosis_is_the_commands(tmp_path):
    found = diagnose(*FOLDERS)
    expected = plain([read_adapter(folder) for folder in FOLDERS])
    assert found.report["total"]["norm"] == expected["total"]["norm"]
    assert repr(found) == "\n".join(found.verdict) and found.verdict[-3].startswith("Recommendation: ")
    assert str(found).startswith(repr(found)) and "worst" in str(found)
    assert set(found.modules().index) == set(expected["modules"])
    found.write(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {".json", ".csv", ".html", ".pdf", ".png"}


def test_a_merge_is_the_commands(tmp_path, command):
    found = merge(*FOLDERS, method="average", weights=(2.0, 1.0), rank=3)
    found.write(tmp_path / "python")
    arguments = [
        *FOLDERS,
        "--method",
        "average",
        "--weight",
        2,
        1,
        "--rank",
        3,
        "--out",
        tmp_path / "command",
    ]
    code, _, err = command("sim.merge", *arguments)
    assert code == 0, err
    for name in ("adapter_model.safetensors", "adapter_config.json"):
        assert (tmp_path / "python" / name).read_bytes() == (tmp_path / "command" / name).read_bytes()
    card = (tmp_path / "python" / "README.md").read_text()
    assert (
        f"sim.merge({str(FOLDERS[0])!r}, {str(FOLDERS[1])!r}, method='average', weights=(2.0, 1.0))" in card
    )
    with pytest.raises(ValueError, match="not empty"):
        found.write(tmp_path / "python")


def test_a_merge_says_how_much_of_each_adapter_is_in_it():
    alone = merge(*FOLDERS, method="sum", weights=(1.0, 0.0)).table()
    assert alone.loc["adapter 1", "cosine"] == pytest.approx(1.0) == alone.loc["merge", "cosine"]
    assert alone.loc["merge", "norm"] == pytest.approx(alone.loc["adapter 1", "norm"])
    opposed = merge(*FOLDERS, method="sum", weights=(-1.0, 0.0)).table()
    assert opposed.loc["adapter 1", "cosine"] == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="3 numbers for 2 adapters"):
        merge(*FOLDERS, method="sum", weights=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="at least one adapter"):
        merge(method="sum")
    assert "ties" in METHODS and repr(merge(*FOLDERS, method="ties")).startswith("ties of 2 adapters: ")


class Found(Shown):
    verdict = ("a < b", "c")

    def table(self):
        return pd.DataFrame({"x": [0.12345]}, index=["<row>"])

    def figure(self):
        return style.figure()[0]


def test_results_show_verdict_table_and_figure():
    found = Found()
    assert repr(found) == "a < b\nc" and str(found).startswith("a < b\nc\n\n") and "0.123" in str(found)
    html = found._repr_html_()
    assert "<p>a &lt; b</p><p>c</p><img" in html and "&lt;row&gt;" in html and "0.123" in html
    assert found._repr_png_().startswith(b"\x89PNG")
