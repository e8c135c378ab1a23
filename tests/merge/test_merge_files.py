"""PEFT folders: golden files made by PEFT, round trips, the merge command, and every way a file can be bad.

tests/merge/data/make_peft_golden.py made the golden files with PEFT 0.21.2; test_merge_peft.py needs PEFT.
"""

import json
import shutil
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from sim.merge import Adapter, merge, merge_adapters, read_adapter, write_adapter
from sim.merge.peft import write as peft_write
from sim.merge.peft.config import CONFIG, matched
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank, dense

DATA = Path(__file__).parent / "data"


def pair(kind):
    return [read_adapter(DATA / kind / name) for name in ("first", "second")]


def golden(kind, case):
    tensors = load_file(DATA / kind / "golden.safetensors")
    return {key[len(case) + 1 :]: value for key, value in tensors.items() if key.startswith(case + ".")}


def delta(update):
    return np.asarray(dense(LowRank(*update)) if isinstance(update, tuple) else update)


def assert_all_close(found, expected, tolerance=1e-5):
    assert found.keys() == expected.keys() and found
    for name, value in expected.items():
        error = np.linalg.norm(delta(found[name]) - value) / np.linalg.norm(value)
        assert error < tolerance, (name, error)


def merged(adapters, method, weights=None, **options):
    return {
        name: merge(method, [adapter.modules[name] for adapter in adapters], weights, **options)
        for name in adapters[0].modules
    }


@pytest.mark.parametrize("kind", ["plain", "equal_rank", "rslora"])
def test_reading_gives_the_delta_that_peft_computes(kind):
    for name, adapter in zip(("first", "second"), pair(kind), strict=True):
        assert_all_close(adapter.modules, golden(kind, name), 1e-6)


def test_scales_and_ranks_follow_the_patterns():
    modules = pair("plain")[0].modules
    found = {name: (update.a.shape[0], update.scale) for name, update in modules.items()}
    assert found == {
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
    """Bit for bit but for the one rounding of scale * B, which is none where the scale is a power of 2."""
    adapter = pair(kind)[0]
    updates, _ = merge_adapters([adapter], "average", [1.0])
    write_adapter(tmp_path / "out", updates, [adapter])
    again = read_adapter(tmp_path / "out")
    assert again.modules.keys() == adapter.modules.keys()
    for name, update in adapter.modules.items():
        copy, rank = again.modules[name], update.a.shape[0]
        assert np.array_equal(copy.a[:rank], update.a) and copy.scale == 1.0
        exact = update.scale * update.b.astype(np.float64)
        assert np.array_equal(copy.b[:, :rank], exact.astype(np.float32))
        assert not copy.a[rank:].any() and not copy.b[:, rank:].any()


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
    assert matched(patterns, name, 2) == expected


def test_the_command_merges_and_leaves_the_sources_alone(tmp_path, command):
    sources = [shutil.copytree(DATA / "plain" / name, tmp_path / name) for name in ("first", "second")]
    before = {file: file.read_bytes() for source in sources for file in source.iterdir()}
    arguments = ["--method", "ties", "--option", "density=0.5", "--weight", "1", "-0.5", "--rank", "3"]
    out = tmp_path / "out"
    code, printed, err = command("sim.merge", *sources, *arguments, "--out", out)
    assert code == 0, err
    assert "ties of 2 adapters, 4 modules, rank 3, float32; the rank cut off" in printed
    assert sorted(file.name for file in out.iterdir()) == ["README.md", CONFIG, WEIGHTS]
    assert {file: file.read_bytes() for source in sources for file in source.iterdir()} == before
    expected = merged(pair("plain"), "ties", [1, -0.5], density=0.5, rank=3)
    assert_all_close(read_adapter(out).modules, {name: delta(update) for name, update in expected.items()})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--method", "avg"], "unknown merge method 'avg'; known: average,"),
        (["--method", "sum", "--rank", "0"], "--rank 0 must be between 1 and 10"),
        (["--method", "sum", "--rank", "11"], "--rank 11 must be between 1 and 10"),
        (["--method", "sum", "--weight", "1"], "--weight: 1 numbers for 2 adapters"),
        (["--method", "average", "--weight", "1", "-1"], "sum of the weights, which is 0; use sum"),
        (["--method", "ties", "--option", "densty=1"], "takes NAME=VALUE out of: density=0.2, vote=mass"),
        (["--method", "ties", "--option", "density=x"], "density must be a float"),
        (["--method", "ties", "--option", "density=7"], "density must be in (0, 1], not 7.0"),
        (["--method", "regmean"], "regmean is not data-free: it needs grams"),
        (["--method", "sum", "--weight", "1", "nan"], "--weight must be finite"),
    ],
)
def test_bad_arguments_are_one_line(arguments, message, tmp_path, command):
    out = tmp_path / "out"
    sources = [DATA / "plain" / name for name in ("first", "second")]
    assert message in failure(command, *sources, *arguments, "--out", out)
    assert list(tmp_path.iterdir()) == []


def failure(command, *arguments):
    """The one error line of a merge that must exit with 2."""
    code, _, err = command("sim.merge", *arguments)
    assert code == 2
    lines = [line for line in err.split("\n") if line.startswith("error: ")]
    assert len(lines) == 1
    return lines[0]


def edit_config(folder, **fields):
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps({**config, **fields}))


def edit_tensors(folder, change):
    tensors = load_file(folder / WEIGHTS)
    change(tensors)
    save_file(tensors, folder / WEIGHTS)


KEY = f"{PREFIX}layers.0.q_proj.lora_A.weight"
BREAKS = {
    "truncated": (
        lambda f: (f / WEIGHTS).write_bytes((f / WEIGHTS).read_bytes()[:-40]),
        "is not a whole safetensors file",
    ),
    "header only": (lambda f: (f / WEIGHTS).write_bytes(b"\x07"), "is not a whole safetensors file"),
    "zip in disguise": (lambda f: (f / WEIGHTS).write_bytes(b"PK\x03\x04" + bytes(99)), "is a zip archive"),
    "pickle in disguise": (lambda f: (f / WEIGHTS).write_bytes(b"\x80\x02}q" + bytes(99)), "is a pickle"),
    "only a pickle": (
        lambda f: (f / WEIGHTS).rename(f / "adapter_model.bin"),
        "only a pickle (adapter_model.bin): save it as safetensors",
    ),
    "no weights": (lambda f: (f / WEIGHTS).unlink(), f"{WEIGHTS} is missing"),
    "no config": (lambda f: (f / CONFIG).unlink(), "is missing; is"),
    "config not JSON": (lambda f: (f / CONFIG).write_text("{"), "is not valid JSON"),
    "no rank": (lambda f: edit_config(f, r=None), "'r' must be a number, found None"),
    "rank in words": (lambda f: edit_config(f, rank_pattern={"q_proj": "two"}), "'q_proj' must be a number"),
    "bad pattern": (lambda f: edit_config(f, alpha_pattern={"(": 2}), "not a table of regular expressions"),
    "pattern list": (lambda f: edit_config(f, rank_pattern=[4]), "not a table of regular expressions"),
    "rank 0": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((0, 12), np.float32)})),
        "has lora_A (0, 12)",
    ),
    "not LoRA": (lambda f: edit_config(f, peft_type="IA3"), "peft_type is 'IA3'; only LORA"),
    "DoRA": (lambda f: edit_config(f, use_dora=True), "uses DoRA magnitudes"),
    "lora_bias": (lambda f: edit_config(f, lora_bias=True), "biases on lora_B"),
    "bias": (lambda f: edit_config(f, bias="all"), "trains biases (bias='all')"),
    "saved modules": (lambda f: edit_config(f, modules_to_save=["head"]), "whole trained modules"),
    "pissa": (lambda f: edit_config(f, init_lora_weights="pissa_niter_4"), "changes the base weights"),
    "missing key": (lambda f: edit_tensors(f, lambda t: t.pop(KEY)), "layers.0.q_proj has no lora_A"),
    "NaN": (lambda f: edit_tensors(f, lambda t: t[KEY].fill(np.nan)), f"{KEY} holds NaN"),
    "wrong rank": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((5, 12), np.float32)})),
        "has lora_A (5, 12) and lora_B (10, 2), but adapter_config.json gives it rank 2",
    ),
    "other model": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 13), np.float32)})),
        "these adapters belong to different base models",
    ),
    "embedding": (
        lambda f: edit_tensors(f, lambda t: t.update({f"{PREFIX}e.lora_embedding_A": t[KEY]})),
        "(an adapted embedding); only lora_A and lora_B can be merged",
    ),
    "convolution": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 3, 3, 3), np.float32)})),
        "has 4 dimensions; only linear layers can be merged",
    ),
    "integers": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 12), np.int8)})),
        "is int8, not a float type",
    ),
    "ZeRO-3": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones(0, np.float32)})),
        "is empty, as DeepSpeed ZeRO-3 saves what it has not gathered: convert the checkpoint by its",
    ),
    "fp8": (
        lambda f: edit_tensors(f, lambda t: t.update({KEY: np.ones((2, 12), ml_dtypes.float8_e4m3fn)})),
        "is in 8-bit floats (F8_E4M3), too coarse to merge: save it as bfloat16",
    ),
    "several checkpoints": (
        lambda f: (
            [shutil.copytree(f, f / "checkpoint-1"), (f / "checkpoint-1").rename(f / "checkpoint-5")]
            and [shutil.copytree(f / "checkpoint-5", f / "checkpoint-10"), (f / CONFIG).unlink()]
        ),
        "holds several adapters, one folder down: give one of checkpoint-10, checkpoint-5",
    ),
    "another base model": (
        lambda f: [
            edit_config(f, base_model_name_or_path="org/other"),
            edit_tensors(
                f, lambda t: [t.update({k.replace(PREFIX, f"{PREFIX}other."): t.pop(k)}) for k in list(t)]
            ),
        ],
        "share no module and name different base models",
    ),
    "other layout": (lambda f: edit_config(f, fan_in_fan_out=True), "differ in fan_in_fan_out"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_broken_files_are_one_line_and_leave_nothing(name, tmp_path, command):
    change, message = BREAKS[name]
    folder = shutil.copytree(DATA / "plain" / "second", tmp_path / "second")
    change(folder)
    out = tmp_path / "out"
    arguments = [DATA / "plain" / "first", folder, "--method", "sum", "--out", out]
    assert message in failure(command, *arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["second"]


def test_an_existing_or_unwritable_out_is_refused(tmp_path, command):
    sources = [DATA / "plain" / name for name in ("first", "second")]
    (tmp_path / "file").write_text("mine")
    for out, message in (
        (tmp_path, "exists already and is not empty"),
        (tmp_path / "file", "exists already"),
        (tmp_path / "file" / "below", "choose another --out"),
    ):
        assert message in failure(command, *sources, "--method", "sum", "--out", out)
    assert (tmp_path / "file").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), OSError(28, "No space left on device")])
def test_a_folder_appears_whole_or_not_at_all(stop, tmp_path, monkeypatch):
    """Interrupted, or the disk full, between its two files: nobody ever sees the first without the second."""

    def failing(tensors, metadata):
        assert not (tmp_path / "out").exists()
        assert [path.name for path in tmp_path.rglob("*.json")] == [CONFIG]
        raise stop

    monkeypatch.setattr(peft_write, "save", failing)
    with pytest.raises(type(stop)):
        write_adapter(tmp_path / "out", pair("plain")[0].modules, pair("plain"))
    assert list(tmp_path.iterdir()) == []
