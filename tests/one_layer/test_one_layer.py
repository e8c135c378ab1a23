"""The one-layer experiment against its predictions, row by row (sections 2, 3, 5, 6)."""

import math

import numpy as np
import pandas as pd
import pytest
import speed

from sim import one_layer
from sim.lab import parallel
from sim.one_layer import jobs
from sim.one_layer.forecast import predict

pytestmark = pytest.mark.slow

SEEDS = range(36)
CONFIG = one_layer.for_rank(4)


@pytest.fixture(scope="module")
def table():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "compiler_options", speed.of_effort)  # it runs for longer than it compiles
        rows = one_layer.run(CONFIG, SEEDS)
    return pd.DataFrame(rows).assign(predicted=predict(CONFIG, one_layer.rows(CONFIG)) * len(SEEDS))


def _means(table, metric):
    cells = table[table.metric == metric].groupby(["method", "lam", "facts", "template"], dropna=False)
    return cells.agg(
        measured=("measured", "mean"), spread=("measured", "std"), predicted=("predicted", "mean")
    ).reset_index()


def test_direct_two_hop_is_exactly_chance_for_every_seed_and_row_wise_merge(table):
    rows = table[(table.metric == "direct") & (table.method != "svd")]
    assert {"base", "adapter1", "adapter2", "average", "sum", "concat", "ties"} == set(rows.method)
    np.testing.assert_allclose(rows.measured, 1 / CONFIG.entities, atol=1e-12)
    np.testing.assert_allclose(rows.predicted, 1 / CONFIG.entities)


def test_direct_two_hop_of_truncation_is_chance_on_average(table):
    rows = _means(table[table.method == "svd"], "direct")
    assert len(rows) == 2
    assert (abs(rows.measured - 1 / CONFIG.entities) < 4 * rows.spread / 6).all()
    assert (rows.spread > 0).all()  # it does depend on s1, seed by seed


def test_one_hop_recall_is_the_coefficient_against_one_half(table):
    for metric in ("hop1", "hop2"):
        rows = _means(table, metric)
        linear = rows[rows.method != "svd"]
        np.testing.assert_allclose(linear.measured, linear.predicted, atol=1e-12)
        assert rows[rows.method == "svd"].predicted.isna().all()
        chance = linear.set_index("method").measured
        assert chance["sum"] == 1.0 and chance["average"] == pytest.approx(0.5, abs=0.03)


def test_retention_threshold_is_at_one_half(table):
    rows = _means(table, "retention")
    np.testing.assert_allclose(rows.measured, rows.predicted, atol=1e-12)
    scaled = rows[rows.method == "scaled"].set_index("lam").measured
    assert scaled[0.45] == 0.0 and scaled[0.5] == 0.5 and scaled[0.55] == 1.0
    averages = rows[rows.method == "average"].sort_values("lam").measured
    np.testing.assert_array_equal(averages, [0.0, 0.0, 0.5])  # K = 4, 3, 2


@pytest.mark.parametrize("metric", ["overwrite_recall", "insertion_recall"])
def test_starvation_laws_within_002_and_within_error(table, metric):
    rows = _means(table, metric)
    assert len(rows) == len(CONFIG.facts) * (len(CONFIG.strengths) if metric == "overwrite_recall" else 1)
    gap = abs(rows.measured - rows.predicted)
    assert (gap < 0.02).all()
    assert (gap < 4 * rows.spread / 6 + 1e-3).all()
    assert rows.predicted.max() - rows.predicted.min() > 0.5


def test_coverage_law(table):
    exact, split = _means(table, "coverage_rule_exact"), _means(table, "coverage_rule")
    assert (exact.measured > 0.998).all()
    assert (split.measured > 0.93).all()
    on_template = split[split.template == "angle=0"]
    assert (on_template.measured == 1.0).all()
    recall = _means(table, "coverage_recall")
    assert (abs(recall.measured - recall.predicted) < 0.05).all()
    assert recall.predicted.max() - recall.predicted.min() > 0.5


def test_a_seed_does_not_depend_on_its_company(table):
    single = pd.DataFrame(one_layer.run(CONFIG, [5]))
    mixed = pd.DataFrame(one_layer.run(CONFIG, [7, 5, 0]))
    expected = table[table.seed == 5].measured.to_numpy()
    np.testing.assert_array_equal(single.measured.to_numpy(), expected)
    np.testing.assert_array_equal(mixed[mixed.seed == 5].measured.to_numpy(), expected)


def test_rows_and_predictions_line_up():
    rows = one_layer.rows(CONFIG)
    fields = {"method", "metric", "lam", "facts", "trials", "template"}
    assert all(set(row) == fields for row in rows)
    keys = [(r["metric"], r["method"], r["lam"], r["facts"], r["template"]) for r in rows]
    assert len(set(keys)) == len(keys)
    missing = [
        row["method"] for row, value in zip(rows, predict(CONFIG, rows), strict=True) if math.isnan(value)
    ]
    assert set(missing) == {"svd"}


def test_a_job_precompiles_chunks_of_the_size_it_runs():
    counts = []

    class Recorder(parallel.RunContext):
        def precompile(self, stages, job, count):
            counts.append(count)

        def map_runs(self, stages, inputs):
            counts.append(len(inputs))
            yield range(len(inputs)), np.zeros((len(inputs), len(one_layer.rows(CONFIG))))

    part, context = jobs.Part(CONFIG), Recorder()
    for count, done in (
        (3, set()),
        (40, set()),
        (2, {f"main/one_layer/rank4/seed00{seed}" for seed in (0, 1)}),
    ):
        part.precompile(context, "main", count, done)
        for _, _, work in part.stages(context, "main", count, done):
            list(work)
    assert counts == [3, 3, jobs.CHUNK, jobs.CHUNK, jobs.CHUNK, 40 - 2 * jobs.CHUNK]


def test_every_row_of_a_job_has_the_prediction_of_its_own_setting():
    done = "main/one_layer/rank4/seed001"
    ((_, _, work),) = jobs.Part(CONFIG).stages(parallel.THIS_PROCESS, "main", 4, {done})
    units = {unit: rows for finished, _ in work for unit, rows in finished.items()}
    assert set(units) == {f"main/one_layer/rank4/seed{seed:03d}" for seed in (0, 2, 3)}
    for rows in units.values():
        assert len(rows) == len(one_layer.rows(CONFIG))
        np.testing.assert_array_equal([row["predicted"] for row in rows], predict(CONFIG, rows))
        assert all((row["predictor"] == "law") == math.isfinite(row["predicted"]) for row in rows)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"rank": 0}, "rank is 0; give a whole number of at least 1"),
        ({"rank": 300}, r"rank 300 is above the dimension of a \(20, 256\) matrix; give at most 20"),
        ({"rank": 20}, "rank 20 needs more than 20 entities, got 20; raise entities or lower the rank"),
        ({"methods": ("mean",)}, "unknown merge method 'mean'; did you mean "),
        ({"lambdas": ()}, "lambdas is empty; give at least one value"),
        ({"facts": (300,)}, "300 facts need at least as many features, got 256; raise features"),
    ],
)
def test_bad_settings_name_the_remedy(settings, message):
    with pytest.raises(ValueError, match=message):
        one_layer.OneLayerConfig(**settings)


def test_for_rank_grows_what_the_rank_needs():
    assert one_layer.for_rank(4) == one_layer.OneLayerConfig()
    big = one_layer.for_rank(32, methods=("sum",))
    assert big.entities == 64 and big.methods == ("sum",)
    with pytest.raises(ValueError, match="rank is 0"):
        one_layer.for_rank(0)
    with pytest.raises(ValueError, match="seed -1 is negative; give whole numbers from 0 on"):
        one_layer.run(CONFIG, [-1])
    assert one_layer.run(CONFIG, []) == []
