"""What the figure and the claims about a language model's merges read, on tables made up by hand."""

import itertools
import math

import pandas as pd
import pytest

from sim.experiments.common.claim import CLAIMS
from sim.experiments.people import figures, forecasts
from sim.figures import claims_page, gallery
from sim.figures.claims import HOLDS, judge
from sim.lab.figure import FIGURES, Source

SEEDS = (0, 1, 2)
MEASURED = {0.25: 0.2, 0.5: 0.6, 0.75: 0.5, 1.0: 0.4, 1.25: 0.0}
"""By strength, of every kind of question; a seed adds a hundredth of its number. The last is at its floor."""


def predictions():
    """First order is .02 too high up to one half, .04 above; the tangent twice that; coverage .1 and .3."""
    rows = []
    for (lam, value), seed in itertools.product(MEASURED.items(), SEEDS):
        wide = lam > 0.5
        for metric in ("hop1", "hop2", "cot_exact", "untouched"):
            measured = value + 0.01 * seed if value else 0.0
            first = 0.04 if wide else 0.02
            own = math.nan if metric == "untouched" else measured + (0.3 if wide else 0.1)
            keys = {"world": "people", "label": "real/shared", "seed": seed, "adapter": "lora"}
            keys |= {"library": "parts", "method": f"lambda={lam:g}", "lam": lam, "metric": metric}
            rows.append(
                keys
                | {"measured": measured, "disentangled": measured + first, "tangent": measured + 2 * first}
                | {"coverage": own, "base": 1.0 if metric == "untouched" else 0.0}
            )
    table = pd.DataFrame(rows)
    average = table[table["lam"] == 0.5].assign(method="average", disentangled=1.0)  # the same merge again
    return pd.concat([table, average])


def summary():
    values = {"margin": 4.0, "swing": 10.0, "disturbance": -3.0}
    models = {"margin": ("base", "base"), "swing": ("hop1", "hop2"), "disturbance": ("hop2", "hop1")}
    rows = []
    for (effect, value), (step, name) in itertools.product(
        values.items(), enumerate(("hop1", "hop2", "cot_hop1", "cot_hop2"))
    ):
        rows.append((models[effect][step % 2], f"{effect}_{name}", value + step))
    rows += [("hop1", "kappa_hop1", 1.2), ("hop2", "kappa_hop2", 13 / 11), ("joint", "training_steps", 100.0)]
    table = pd.DataFrame(rows, columns=["method", "metric", "measured"])
    ends = {"low": table["measured"] - 0.5, "high": table["measured"] + 0.5, "seeds": 3}
    return table.assign(label="real/shared", library="single", predictor="", predicted=math.nan, **ends)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "people"
    folder.mkdir()
    summary().to_csv(folder / "summary.csv", index=False)
    predictions().to_csv(folder / "predictions.csv", index=False)
    return Source(tmp_path)


def test_claims_read_errors_excess_and_what_half_an_adapter_carries(source):
    readings = forecasts.collect(source)
    measured = {(c.label, c.method, c.metric): r.measured for c, r in readings.items()}
    half, whole = (f"error, {name}" for name in (forecasts.HALF, forecasts.WHOLE))
    expected = {
        ("open outcomes", "disentangled", half): 0.02,
        ("open outcomes", "disentangled", whole): 0.04,
        ("open outcomes", "tangent", whole): 0.08,
        ("open outcomes", "base", half): (3 * 0.41 + 0.59) / 4,  # of capitals the base has all
        ("open edits", "coverage", half): 0.1,
        ("open edits", "coverage", whole): 0.3,
        ("open edits", "disentangled", whole): 0.04,
        ("open edits", "base", whole): 0.46,
        ("open edits", "coverage", f"predicted less measured, {forecasts.WHOLE}"): 0.3,
        ("open edits", "disentangled", f"predicted less measured, {forecasts.WHOLE}"): 0.04,
        ("all settings", "coverage", "hop1 at λ = ½"): 0.71,
        ("all settings", "coverage", "hop2 at λ = ½"): 0.71,
    }
    assert {key: measured[key] for key in expected} == pytest.approx(expected)
    assert all(reading.seeds == 3 for reading in readings.values())
    carried = readings[forecasts._carried("hop1")]
    assert carried.by_seed == pytest.approx({0: 0.7, 1: 0.71, 2: 0.72})


def test_claims_are_judged_and_their_sentences_are_whole(source):
    for number in ("L5+a", "L5+b"):
        judgement = judge(CLAIMS[number], source)
        verdicts = {part.rule.name: part.verdict for part in judgement.parts}
        assert all(verdicts[name] == HOLDS for name in verdicts if name != "overshoot"), verdicts
        assert "{" not in judgement.evidence + judgement.limits
        assert "nan" not in judgement.evidence + judgement.limits
    assert "moves that by 10.000 [9.500, 10.500] and 11.000" in judgement.evidence


def test_the_figure_has_every_prediction_and_every_effect(source):
    table = FIGURES["people_predictions"].collect(source)
    cells = table[table["panel"] == "cell"]
    assert len(cells) == 5 * (4 * 3 + 3)  # the coverage law says nothing of capitals
    one = cells[(cells["predictor"] == "tangent") & (cells["lam"] == 0.5) & (cells["metric"] == "hop1")]
    assert one["predicted"].item() == pytest.approx(0.65) and one["measured"].item() == pytest.approx(0.61)
    effects = table[table["panel"] == "effect"].set_index(["effect", "step"])["measured"]
    assert len(effects) == 3 * 4 + 2 and effects["swing", "cot_hop2"] == 13.0
    assert effects["kappa", "cot_hop1"] == 1.2 and effects["margin", "hop2"] == 5.0
    picture = FIGURES["people_predictions"].draw(table)
    left, middle, right = picture.axes[:3]
    assert [text.get_text() for text in right.get_yticklabels()][2] == "hop 1, in a trace\nκ = 1.20"
    clouds = {one.get_label(): one for one in left.get_lines()}
    assert {"disentangled", "tangent", "coverage"} <= set(clouds) and "base" not in clouds
    assert len(clouds["coverage"].get_xdata()) == 5 * 3
    assert set(figures.EFFECTS.values()) == set(right.get_legend_handles_labels()[1])
    assert "as the base answers" in middle.get_legend_handles_labels()[1]


def test_a_run_without_predictions_has_neither_figure_nor_claim(source):
    (source.runs / "people" / "predictions.csv").unlink()
    items, left_out = gallery.chosen((), source.runs)
    assert "people_predictions" not in {item.name for item in items}
    line = "people_predictions left out: people/predictions.csv missing; make it with: python -m sim.sweep"
    assert any(each.startswith(line) for each in left_out)
    assert claims_page.missing(CLAIMS["L5+a"], source) == ["people"]
    assert claims_page.missing(CLAIMS["L5"], source) == []
