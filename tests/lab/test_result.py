"""What commands return in Python: the same as they write, and results that print and draw themselves."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from sim.diagnose import diagnose, diagnose_folders
from sim.lab import style
from sim.lab.report import Result
from sim.merge import METHODS, merge_folders, read_adapter

DATA = Path(__file__).parents[1] / "merge" / "data" / "equal_rank"
FOLDERS = (DATA / "first", DATA / "second")

IMPORTS = """
import os, signal, sys, warnings
import jax, matplotlib, numpy, pandas, scipy.special

OURS = {"jax_enable_x64", "jax_default_matmul_precision"}
os.environ["OPENBLAS_NUM_THREADS"] = "1"  # as theory has it

def state():
    config = {name: value for name, value in jax.config.values.items() if name not in OURS}
    process = signal.getsignal(signal.SIGINT), sys.excepthook, list(sys.path), dict(os.environ)
    return config, process, list(warnings.filters), dict(matplotlib.rcParams), numpy.geterr()

before = state()
import sim, theory, sim.diagnose, sim.merge, sim.predict
assert all(now == then for now, then in zip(state(), before)), [n for n, t in zip(state(), before) if n != t]
assert jax.numpy.ones(1).dtype == "float64" and jax.config.jax_default_matmul_precision == "highest"
assert not any(callable(package) for package in (sim, sim.diagnose, sim.merge, sim.predict))
assert "torch" not in sys.modules
"""


@pytest.mark.slow
def test_imports_change_nothing_but_what_theory_says():
    done = subprocess.run([sys.executable, "-c", IMPORTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


def test_a_diagnosis_is_the_commands(tmp_path):
    result = diagnose_folders(*FOLDERS)
    expected = diagnose([read_adapter(folder) for folder in FOLDERS])
    assert result.report["total"]["norm"] == expected["total"]["norm"]
    assert repr(result) == "\n".join(result.verdict) and result.verdict[0].startswith("Merge them by average")
    assert result.verdict[1].startswith("Next: python -m sim.predict ")
    assert str(result).startswith(repr(result)) and "worst" in str(result)
    assert set(result.modules().index) == set(expected["modules"])
    result.write(tmp_path)
    assert {path.suffix for path in tmp_path.iterdir()} == {
        ".json",
        ".jsonl",
        ".csv",
        ".html",
        ".pdf",
        ".png",
    }


def test_a_merge_is_the_commands(tmp_path, command):
    result = merge_folders(*FOLDERS, method="average", weights=(2.0, 1.0), rank=3)
    result.write(tmp_path / "python")
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
    folders = ", ".join(repr(str(folder)) for folder in FOLDERS)
    assert f"sim.merge.merge_folders({folders}, method='average', weights=(2.0, 1.0))" in card
    with pytest.raises(ValueError, match="not empty"):
        result.write(tmp_path / "python")


def test_a_merge_says_how_much_of_each_adapter_is_in_it():
    first = merge_folders(*FOLDERS, method="sum", weights=(1.0, 0.0)).table()
    assert first.loc["adapter 1", "cosine"] == pytest.approx(1.0) == first.loc["merge", "cosine"]
    assert first.loc["merge", "norm"] == pytest.approx(first.loc["adapter 1", "norm"])
    opposed = merge_folders(*FOLDERS, method="sum", weights=(-1.0, 0.0)).table()
    assert opposed.loc["adapter 1", "cosine"] == pytest.approx(-1.0)
    with pytest.raises(ValueError, match="3 numbers for 2 adapters"):
        merge_folders(*FOLDERS, method="sum", weights=(1.0, 2.0, 3.0))
    with pytest.raises(ValueError, match="at least one adapter"):
        merge_folders(method="sum")
    assert "ties" in METHODS and repr(merge_folders(*FOLDERS, method="ties")).startswith(
        "ties of 2 adapters: "
    )


class Example(Result):
    verdict = ("a < b", "c")

    def table(self):
        return pd.DataFrame({"x": [0.12345]}, index=["<row>"])

    def figure(self):
        return style.figure()[0]


def test_results_show_verdict_table_and_figure():
    result = Example()
    assert repr(result) == "a < b\nc" and str(result).startswith("a < b\nc\n\n") and "0.123" in str(result)
    html = result._repr_html_()
    assert "<p>a &lt; b</p><p>c</p><img" in html and "&lt;row&gt;" in html and "0.123" in html
    assert result._repr_png_().startswith(b"\x89PNG")
