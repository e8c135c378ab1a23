"""``python -m sim.figures``: choosing, drawing committed tables and runs, and what a wheel holds."""

import dataclasses
import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from sim.figures import FIGURES, captions, gallery
from sim.figures import __main__ as command
from sim.lab.figure import Source, committed
from sim.lab.seeds import EFFORTS
from sim.lab.store import LARGEST, compress_tables, table_path

RUNS = Source(committed() / "experiments")
EXPERIMENTS = [item for item in FIGURES.values() if item.experiments]


def test_list_prints_every_figure_and_draws_none(tmp_path, capsys):
    command.main(command.Draw(listed=True, out=tmp_path))
    lines = capsys.readouterr().out.splitlines()
    items, left_out = gallery.chosen(())
    assert [line.split()[0] for line in lines] == [item.name for item in items]
    assert {item.name for item in items} | {line.split()[0] for line in left_out} == set(FIGURES)
    assert not list(tmp_path.iterdir())


def test_the_list_stands_in_columns_as_wide_as_the_terminal():
    items = gallery.ordered()
    lines = command.listed(items, 100)
    assert max(map(len, lines)) <= 100 and len(lines) > len(items)
    place = lines[0].index(items[0].claim.split()[0])
    for line in lines:
        assert line[place - 1] == " " and line[place] != " "  # the column of the claims
    starts = [line for line in lines if not line.startswith(" ")]
    assert [line.split()[0] for line in starts] == [item.name for item in items]
    words = " ".join(line[place:] for line in lines).split()
    assert words == " ".join(item.claim for item in items).split()


def test_laws_come_in_the_order_of_their_sections_and_experiments_last():
    names = [item.name for item in gallery.ordered()]
    assert names.index("retention") < names.index("coverage_phase") < names.index("arrow")
    assert names.index("lora_flow") < min(names.index(item.name) for item in EXPERIMENTS)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["no_such_figure"], ["unknown figure 'no_such_figure'", "which --help lists"]),
        (["rank", "--from", "nowhere"], ["--from nowhere is no folder", "python -m sim.sweep NAME"]),
        (["arrow", "--from", "."], ["draw it without --from"]),
        (["--from", "nowhere"], ["--from nowhere is no folder"]),
        (["rank", "--format", "pdf,gif"], ["unknown --format 'gif'", "pgf"]),
        (["rank", "--width", "2"], ["2.0 inches", "3 to 20"]),
        (["rank", "--font", "5"], ["5.0 points", "7.5"]),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(arguments, words, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["sim.figures", *arguments])
    with pytest.raises(SystemExit) as stopped:
        command.cli.run_command(command.Draw, command.main, "sim.figures")
    assert stopped.value.code == 2
    message = capsys.readouterr().err.strip().splitlines()
    assert len(message) == 1 and all(word in message[0] for word in words), message


def test_a_committed_table_is_drawn_into_another_folder(tmp_path):
    gallery.draw_all([FIGURES["crosstalk"]], tmp_path)
    assert (tmp_path / "crosstalk.csv").read_text() == (committed() / "crosstalk.csv").read_text()
    assert (tmp_path / "crosstalk.pdf").read_bytes().startswith(b"%PDF") and (
        tmp_path / "crosstalk.png"
    ).exists()
    page = (tmp_path / "README.md").read_text()
    assert "[crosstalk](crosstalk.pdf)" in page and "[arrow]" not in page and "CLAIMS" not in page


def test_a_table_that_is_there_is_drawn_and_not_computed(tmp_path):
    rows = pd.read_csv(committed() / "crosstalk.csv")
    rows.iloc[::2].to_csv(tmp_path / "crosstalk.csv", index=False)
    before = (tmp_path / "crosstalk.csv").read_bytes()
    gallery.draw(FIGURES["crosstalk"], tmp_path)
    assert (tmp_path / "crosstalk.csv").read_bytes() == before


def test_recomputing_replaces_the_table_and_says_how(tmp_path):
    (tmp_path / "crosstalk.csv").write_text("stale")
    gallery.draw(FIGURES["crosstalk"], tmp_path, EFFORTS["smoke"])
    rows = pd.read_csv(tmp_path / "crosstalk.csv")
    assert rows["seeds"].max() == 8
    caption = (tmp_path / "crosstalk.md").read_text()
    assert caption.startswith(f"**{FIGURES['crosstalk'].claim}** (a) ")
    assert "8 seeds a point (smoke profile)" in caption
    assert "`python -m sim.figures crosstalk --recompute --profile smoke`" in caption
    origin = captions.recorded(tmp_path)["crosstalk"]
    assert origin.profile == "smoke" and origin.device and origin.seconds > 0


def test_a_picture_for_a_journal_has_its_width_and_formats(tmp_path, monkeypatch):
    given = command.Draw(("crosstalk",), out=tmp_path, preset="neurips", font=9.0, formats="svg,pgf")
    command.main(given)
    assert {path.suffix for path in tmp_path.glob("crosstalk.*")} == {".csv", ".md", ".tex", ".svg", ".pgf"}
    assert "{3.100000in}" in (tmp_path / "crosstalk.pgf").read_text()
    assert f'width="{3.1 * 72:g}pt"' in (tmp_path / "crosstalk.svg").read_text()


@pytest.mark.slow
def test_runs_give_the_figures_they_hold_and_name_those_they_do_not(tmp_path, capsys):
    """A folder with the run of one experiment: its figures from its numbers, a line for each other figure."""
    item = next(item for item in EXPERIMENTS if len(item.experiments) == 1)
    (experiment,) = item.experiments
    summary = RUNS.summary(experiment)
    shutil.copytree(committed() / "experiments" / experiment, tmp_path / experiment)
    halved = {name: summary[name] / 2 for name in ("measured", "low", "high")}
    summary.assign(**halved).to_csv(tmp_path / experiment / "summary.csv", index=False)
    command.main(command.Draw(runs=tmp_path))
    drawn = {path.stem for path in tmp_path.glob("*.png")}
    assert drawn == {other.name for other in EXPERIMENTS if other.experiments == item.experiments}
    text = capsys.readouterr().out
    assert "arrow left out: it computes its own numbers" in text
    assert all(f"{other.name} left out" in text for other in FIGURES.values() if other.name not in drawn)
    ours, theirs = (pd.read_csv(folder / f"{item.name}.csv") for folder in (tmp_path, committed()))
    assert ours["measured"].max() == pytest.approx(theirs["measured"].max() / 2, rel=1e-3)
    assert f"python -m sim.sweep {experiment} " in (tmp_path / f"{item.name}.md").read_text()


def test_a_large_table_of_a_run_is_compressed_and_read_as_before(tmp_path):
    """The newer of two files counts; the same rows give the same bytes; what a run resumes from stays."""
    (run := tmp_path / "run").mkdir()
    rows = pd.DataFrame({"unit": "007", "label": ["a", ""] * 9000, "measured": [1 / 3, np.nan] * 9000})
    for name in ("summary", "results"):
        rows.to_csv(run / f"{name}.csv", index=False)
    rows[:9].to_csv(run / "counts.csv", index=False)
    assert (run / "summary.csv").stat().st_size > LARGEST > (run / "counts.csv").stat().st_size
    compress_tables(tmp_path)
    packed = run / "summary.csv.gz"
    assert {path.name for path in run.iterdir()} == {"counts.csv", "results.csv", "summary.csv.gz"}
    assert packed.stat().st_size < LARGEST / 20
    pd.testing.assert_frame_equal(Source(tmp_path).summary("run"), rows)
    before = packed.read_bytes()
    assert before[4:8] == bytes(4)  # no time of writing
    rows.to_csv(run / "summary.csv", index=False)
    os.utime(packed, (0, 0))
    compress_tables(tmp_path)
    assert packed.read_bytes() == before and packed.stat().st_mtime > 0
    rows[:9].to_csv(run / "summary.csv", index=False)
    assert len(Source(tmp_path).summary("run")) == 9
    compress_tables(tmp_path)
    assert table_path(run, "summary") == run / "summary.csv" and not packed.exists()


def test_the_committed_tables_are_small():
    """Six MB in all; ``python -m sim.figures`` compresses those of new runs."""
    paths = [path for path in committed().rglob("*.csv*") if not path.name.startswith("results.")]
    sizes = {str(path.relative_to(committed())): path.stat().st_size for path in paths}
    plain = {name: size for name, size in sizes.items() if name[:11] == "experiments" and name[-4:] == ".csv"}
    assert len(sizes) > 60 and max(plain.values()) <= LARGEST, max(plain, key=plain.get)
    assert sum(sizes.values()) <= 6e6, sorted(sizes, key=sizes.get)[-5:]


def test_drawing_into_the_repository_compresses_its_runs(tmp_path, monkeypatch):
    packed = []
    monkeypatch.setattr(gallery, "compress_tables", packed.append)
    monkeypatch.setattr(gallery, "PAGES", {"A.md": lambda source, folder: f"{source.runs} {folder}"})
    gallery.draw_all([], tmp_path)
    assert packed == [] and not (tmp_path / "A.md").exists()
    monkeypatch.setattr(gallery, "committed", lambda: tmp_path)
    gallery.draw_all([], tmp_path)
    assert packed == [tmp_path / "experiments"]
    assert (tmp_path / "A.md").read_text() == f"{tmp_path / 'experiments'} {tmp_path}"


def test_a_run_that_lacks_units_gives_no_figure(tmp_path):
    """It was interrupted, or some units failed: its summary is there, and is not all of it."""
    shutil.copytree(committed() / "experiments" / "rank", tmp_path / "rank")
    mine = [item.name for item in EXPERIMENTS if item.experiments == ("rank",)]
    assert mine and [item.name for item in gallery.chosen((), tmp_path)[0]] == mine
    path = tmp_path / "rank" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"finished": False}))
    drawn, left_out = gallery.chosen((), tmp_path)
    assert drawn == []
    assert f"{mine[0]} left out: rank not finished; go on with: python -m sim.sweep rank" in left_out


def test_every_figure_of_an_experiment_is_drawn_from_the_committed_runs():
    drawn, _ = gallery.chosen((), committed() / "experiments")
    assert {item.name for item in drawn} == {item.name for item in EXPERIMENTS}


def test_an_experiment_that_was_not_run_has_no_figure_among_all(monkeypatch):
    """Its figure is left out with the command that makes it; asked for by name, the table says so itself."""
    new = dataclasses.replace(FIGURES["rank"], name="relay", experiments=("relays",))
    monkeypatch.setitem(FIGURES, "relay", new)
    items, left_out = gallery.chosen(())
    absent = {name for name in FIGURES if not (committed() / f"{name}.csv").exists()}
    assert "relay" in absent and {line.split()[0] for line in left_out} == absent
    assert {item.name for item in items} == set(FIGURES) - absent
    assert "relay left out: relays/summary.csv missing; make it with: python -m sim.sweep relays" in left_out
    assert gallery.chosen(("relay",)) == ([new], [])


def test_home_is_the_checkout_or_else_where_one_stands(tmp_path, monkeypatch):
    assert gallery.home() == Path(gallery.__file__).parents[2] / "figures" == committed()
    monkeypatch.setattr(gallery, "committed", lambda: tmp_path)
    assert gallery.home() == Path("figures")


@pytest.mark.slow
def test_a_wheel_carries_the_tables_and_none_of_the_pictures(tmp_path):
    wheels = pytest.importorskip("hatchling.builders.wheel")
    (wheel,) = wheels.WheelBuilder(str(Path(__file__).parents[2])).build(directory=str(tmp_path))
    names = set(zipfile.ZipFile(wheel).namelist())
    assert "sim/explore/template.html" in names
    home = "sim/figures/tables"
    ran = {
        e for item in EXPERIMENTS for e in item.experiments if table_path(RUNS.runs / e, "summary").exists()
    }
    shown = [
        name
        for name, item in FIGURES.items()
        if set(item.experiments) <= ran and not RUNS.missing(item.experiments, item.tables)
    ]
    tables = {f"{home}/{name}{suffix}" for name in shown for suffix in (".csv", ".md")}
    paths = {table_path(RUNS.runs / e, "summary") for e in ran}
    runs = {f"{home}/{path.relative_to(committed())}" for path in paths}
    assert tables | runs | {"sim/laws/coverage.py", "theory/coverage.py"} <= names
    assert {name.split("/")[0].split("-")[0] for name in names} == {"sim", "theory", "lora_reuse"}
    assert not [name for name in names if name.endswith((".pdf", ".png"))]
