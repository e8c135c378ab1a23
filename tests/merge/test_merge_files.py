"""PEFT folders: golden files made by PEFT, round trips, patterns and the merge command.

tests/merge/data/make_peft_golden.py made the golden files with PEFT 0.21.2; test_merge_peft.py needs PEFT.
"""

import json
import shutil

import numpy as np
import pytest
from folders import DATA, assert_all_close, assert_written, delta, golden, merged, pair

from sim.merge import Adapter, merge, merge_adapters, read_adapter, write_adapter
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.scales import by_pattern
from theory.lowrank import LowRank


@pytest.mark.parametrize("kind", ["plain", "equal_rank", "rslora"])
def test_reading_gives_the_delta_that_peft_computes(kind):
    for name, adapter in zip(("first", "second"), pair(kind), strict=True):
        assert_all_close(adapter.modules, golden(kind, name), 1e-6)


def test_scales_and_ranks_follow_the_patterns():
    modules = pair("plain")[0].modules
    scales = {name: (update.a.shape[0], update.scale) for name, update in modules.items()}
    assert scales == {
        "layers.0.q_proj": (2, 6 / 2),
        "layers.0.v_proj": (4, 3 / 4),
        "layers.1.q_proj": (2, 5 / 2),
        "layers.1.v_proj": (2, 3 / 2),
    }
    assert {update.scale for update in pair("rslora")[0].modules.values()} == {6 / 2.0}


@pytest.mark.parametrize(
    ("case", "method", "weights", "options"),
    [
        ("cat", "concat", [0.7, -0.4], {}),
        ("cat", "sum", [0.7, -0.4], {}),
        ("svd", "svd", [0.7, 0.4], {"rank": 3}),
        ("ties_total", "ties", None, {"density": 0.5}),
        ("magnitude_prune", "magnitude_prune", [0.7, 0.4], {"density": 0.4}),
    ],
)
def test_equals_peft_where_peft_is_right(case, method, weights, options):
    assert_all_close(merged(pair("plain"), method, weights, **options), golden("plain", case))


def test_linear_factors_is_peft_linear_and_not_the_sum():
    adapters, weights = pair("equal_rank"), [0.7, -0.4]
    assert_all_close(merged(adapters, "linear_factors", weights), golden("equal_rank", "linear"))
    exact = merged(adapters, "sum", weights)
    for name, value in golden("equal_rank", "linear").items():
        assert np.linalg.norm(value - delta(exact[name])) > 0.3 * np.linalg.norm(value)


def test_peft_scales_a_merge_of_rslora_adapters_by_the_root_of_the_new_rank():
    """PEFT 0.21.2 copies use_rslora into the merge with alpha = r, so the scale is sqrt(r), not 1."""
    adapters = pair("rslora")
    for case, method, rank, weights in (("cat", "sum", 8, [0.7, -0.4]), ("svd", "svd", 3, [0.7, 0.4])):
        wrong = {name: value / np.sqrt(rank) for name, value in golden("rslora", case).items()}
        options = {"rank": rank} if method == "svd" else {}
        assert_all_close(merged(adapters, method, weights, **options), wrong)


def test_peft_count_vote_breaks_draws_towards_plus():
    """Of two entries of opposite sign PEFT's "frequency" keeps the positive, ours the larger; else equal."""
    adapters = pair("plain")
    ours = merged(adapters, "ties", density=0.5, vote="count")
    for name, value in golden("plain", "ties_frequency").items():
        first, second = (delta(merge("magnitude_prune", [a.modules[name]], density=0.5)) for a in adapters)
        conflict = first * second < 0
        assert conflict.any()
        np.testing.assert_allclose(delta(ours[name])[~conflict], value[~conflict], atol=2e-5)
        np.testing.assert_allclose(np.maximum(first, second)[conflict], value[conflict], atol=2e-5)
        larger = np.where(np.abs(first) > np.abs(second), first, second)
        np.testing.assert_allclose(larger[conflict], delta(ours[name])[conflict], atol=2e-5)


def test_peft_elects_signs_before_weighting():
    """PEFT votes with the unweighted entries; ours (as mergekit) with w_i tau_i, which is what is merged."""
    adapters, weights = pair("plain"), [2.0, 0.5]
    ours = merged(adapters, "ties", weights, density=0.5)
    differ = [
        np.linalg.norm(delta(ours[name]) - value) > 1e-3 * np.linalg.norm(value)
        for name, value in golden("plain", "ties_weighted").items()
    ]
    assert any(differ)
    for name, value in golden("plain", "ties_weighted").items():
        trimmed = [delta(merge("magnitude_prune", [a.modules[name]], density=0.5)) for a in adapters]
        sign = np.where(sum(trimmed) >= 0, 1, -1)
        agrees = [np.sign(t) == sign for t in trimmed]
        expected = sum(w * t * a for w, t, a in zip(weights, trimmed, agrees, strict=True))
        np.testing.assert_allclose(
            expected / np.maximum(sum(a.astype(int) for a in agrees), 1), value, atol=5e-5
        )


@pytest.mark.parametrize("kind", ["plain", "rslora"])
def test_one_adapter_at_weight_one_is_written_back_with_its_scale_in_b(kind, tmp_path):
    """Bit for bit but for powers of 2 and the one rounding of scale * B (none if that is one as well)."""
    adapter = pair(kind)[0]
    updates, _ = merge_adapters([adapter], "average", [1.0])
    write_adapter(tmp_path / "out", updates, [adapter])
    again = read_adapter(tmp_path / "out")
    assert again.modules.keys() == adapter.modules.keys()
    for name, update in adapter.modules.items():
        copy = again.modules[name]
        assert copy.scale == 1.0
        assert_written(copy.b, copy.a, update, "float32")


@pytest.mark.parametrize(("method", "kind"), [("average", "plain"), ("sum", "rslora")])
def test_written_merges_read_back_exactly(method, kind, tmp_path):
    adapters = pair(kind)
    updates, _ = merge_adapters(adapters, method, [0.5, 1.5])
    write_adapter(tmp_path / "out", updates, adapters)
    again = read_adapter(tmp_path / "out")
    weights = np.array([0.5, 1.5]) / (2.0 if method == "average" else 1.0)
    for name, update in again.modules.items():
        parts = [adapter.modules[name] for adapter in adapters]
        assert np.linalg.matrix_rank(delta(update)) == sum(part.a.shape[0] for part in parts)
        exact = sum(
            w * p.scale * p.b.astype(float) @ p.a.astype(float) for w, p in zip(weights, parts, strict=True)
        )
        assert np.linalg.norm(delta(update) - exact) < 1e-6 * np.linalg.norm(exact)
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert config["use_rslora"] is False and config["target_modules"] == adapters[0].config["target_modules"]
    assert config["fan_in_fan_out"] is (kind == "rslora")


NAMES = ["proj", "q.proj", "a.q.proj", "v", "w"]


def overlapping(order):
    """Modules whose names end one another's, of different ranks and scales, in a given order."""
    rng = np.random.default_rng(0)
    return {
        name: LowRank(rng.normal(size=(5, 1 + i % 3)), rng.normal(size=(1 + i % 3, 4)), (-2.5) ** (i - 2))
        for i, name in sorted(enumerate(NAMES), key=lambda pair: order(pair[1]))
    }


ORDERS = {"forward": lambda name: NAMES.index(name), "backward": lambda name: -NAMES.index(name)}


@pytest.mark.parametrize("order", ORDERS)
def test_a_written_folder_needs_no_patterns(order, tmp_path):
    """A name that ends like another keeps its own scale and rank, whichever is spelt or written first."""
    modules = overlapping(ORDERS[order])
    source = Adapter(tmp_path, {"r": 2, "lora_alpha": 2, "target_modules": ["proj", "v", "w"]}, modules)
    write_adapter(tmp_path / "out", modules, [source])
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert config["r"] == config["lora_alpha"] == 3 and not config["use_rslora"]
    assert config["rank_pattern"] == config["alpha_pattern"] == {}
    again = read_adapter(tmp_path / "out")
    assert again.modules.keys() == modules.keys()
    for name, update in modules.items():
        np.testing.assert_allclose(delta(again.modules[name]), delta(update), rtol=1e-12, atol=1e-12)


PATTERNS = [
    ({"proj": 4, "q.proj": 8}, "q.proj", 4),  # the first in the file's order, not the longest
    ({"q.proj": 8, "proj": 4}, "q.proj", 8),
    ({"^proj": 4}, "q.proj", 2),  # anchored: the whole name
    ({"^proj": 4}, "proj", 4),
    ({"proj": 4}, "qproj", 2),  # an end after a dot, not any end
    ({"q_pro": 4}, "q_proj", 2),
    ({r"layers\.[01]\.q": 4}, "model.layers.1.q", 4),
    ({r".*\.q": 4}, "q", 2),
    ({"a|b.q": 4}, "x.a", 4),
]


@pytest.mark.parametrize(
    ("patterns", "name", "expected"),
    PATTERNS,
)
def test_a_pattern_is_read_by_the_rule_of_peft(patterns, name, expected):
    assert by_pattern("rank_pattern", patterns, [name, "other"], 2) == {name: expected, "other": 2}


def test_the_command_merges_and_leaves_the_sources_alone(tmp_path, command):
    sources = [shutil.copytree(DATA / "plain" / name, tmp_path / name) for name in ("first", "second")]
    before = {file: file.read_bytes() for source in sources for file in source.iterdir()}
    arguments = ["--method", "ties", "--option", "density=0.5", "--weight", "1", "-0.5", "--rank", "3"]
    out = tmp_path / "out"
    code, printed, err = command("sim.merge", *sources, *arguments, "--out", out)
    assert code == 0, err
    assert "ties of 2 adapters, 4 modules, rank 3, float32; the rank cut off" in printed
    assert sorted(file.name for file in out.iterdir()) == ["README.md", CONFIG, WEIGHTS, "recipe.yaml"]
    assert {file: file.read_bytes() for source in sources for file in source.iterdir()} == before
    expected = merged(pair("plain"), "ties", [1, -0.5], density=0.5, rank=3)
    assert_all_close(read_adapter(out).modules, {name: delta(update) for name, update in expected.items()})
