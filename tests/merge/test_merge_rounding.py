"""Merges in half precision: balanced factors, the loss by rounding against dense algebra, and its refusal."""

import json
import re

import ml_dtypes
import numpy as np
import pytest
from folders import delta, failure
from safetensors.numpy import load_file, save_file

from sim.merge import Adapter, read_adapter, write_adapter
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX
from sim.merge.peft.rounding import Rounding, balance, refuse_loss, round_factors
from theory.lowrank import LowRank

HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}


def relative(value, expected):
    return np.linalg.norm(value - expected) / np.linalg.norm(expected)


def half(folder, seed, rank, alpha, size, kind=np.float16, names=("layers.0.q", "layers.1.q")):
    """An adapter in half precision as it is trained: A uniform, B of the given size."""
    rng = np.random.default_rng(seed)
    folder.mkdir()
    tensors = {}
    for name in names:
        tensors[f"{PREFIX}{name}.lora_A.weight"] = (rng.uniform(-1, 1, (rank, 96)) / 96**0.5).astype(kind)
        tensors[f"{PREFIX}{name}.lora_B.weight"] = (size * rng.normal(size=(80, rank))).astype(kind)
    save_file(tensors, folder / WEIGHTS)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "target_modules": ["q"]}
    (folder / CONFIG).write_text(json.dumps(config))
    return folder


def exact(folders, weights):
    """The weighted sum of the adapters of folders, dense, in float64, from the files themselves."""
    total = {}
    for folder, weight in zip(folders, weights, strict=True):
        config, tensors = json.loads((folder / CONFIG).read_text()), load_file(folder / WEIGHTS)
        for key in tensors:
            if "lora_A" in key:
                b, a = (tensors[key.replace("_A", side)].astype(np.float64) for side in ("_B", "_A"))
                name = key.removeprefix(PREFIX).removesuffix(".lora_A.weight")
                scale = weight * config["lora_alpha"] / config["r"]
                total[name] = total.get(name, 0) + scale * b @ a
    return total


@pytest.mark.parametrize("size", [1e-3, 1e-4, 1e-5])
def test_alpha_far_below_the_rank_loses_nothing_in_half_precision(size, tmp_path, command):
    """All of alpha/r = 1/256 in B lost 0.9%, 9% and 81% of these."""
    folders = [half(tmp_path / str(i), i, 256, 1, size) for i in range(2)]
    out = tmp_path / "out"
    code, printed, err = command("sim.merge", *folders, "--method", "average", "--out", out)
    assert code == 0 and ", float16;" in printed, err
    assert {tensor.dtype.name for tensor in load_file(out / WEIGHTS).values()} == {"float16"}
    modules, expected = read_adapter(out).modules, exact(folders, (0.5, 0.5))
    losses = {name: relative(delta(modules[name]), value) for name, value in expected.items()}
    assert max(losses.values()) < 2e-3
    worst = max(losses, key=losses.get)
    card = (out / "README.md").read_text()
    row = re.search(r"\| lost by rounding \| at most (\S+)% of an update, that of (\S+) \|", card)
    assert row[2] == worst and float(row[1]) == pytest.approx(100 * losses[worst], rel=0.05)


def some_update(seed=0, scale=0.3, rank=5):
    rng = np.random.default_rng(seed)
    return LowRank(rng.normal(size=(8, rank)), rng.normal(size=(rank, 9)) * 1e-4, scale)


def test_balancing_changes_no_digit_and_makes_norms_alike():
    update = some_update(scale=-0.25)
    update.b[:, 1], update.b[:, 2], update.a[3] = 1e-12 * update.b[:, 1], 0, 0
    result = balance(update)
    assert result.scale == 1.0
    np.testing.assert_array_equal(result.b[:, :, None] * result.a, -0.25 * update.b[:, :, None] * update.a)
    columns, rows = np.linalg.norm(result.b, axis=0), np.linalg.norm(result.a, axis=1)
    alive = [0, 1, 4]
    ratio = columns[alive] / rows[alive]
    assert (ratio > 0.5).all() and (ratio < 2).all()
    np.testing.assert_array_equal(result.b[:, 3], -0.25 * update.b[:, 3])  # no partner to share with
    np.testing.assert_array_equal(result.a[2], update.a[2])


@pytest.mark.parametrize("kind", HALF)
@pytest.mark.parametrize("scale", [1.0, 3e-3, 1e-8])
def test_the_loss_is_that_of_the_dense_update(kind, scale):
    update = some_update(1, scale)
    b, a, loss = round_factors(update, kind)
    assert b.dtype == a.dtype == np.dtype(kind)
    dense = b.astype(np.float64) @ a.astype(np.float64)
    assert loss == pytest.approx(relative(dense, scale * update.b @ update.a), rel=1e-9) and loss > 1e-5


def test_what_cancels_is_measured_against_what_is_left():
    """B_1 A - B_2 A with B_2 near B_1: rounding of the terms is large beside their difference."""
    b, a, _ = some_update(2)
    near = b * (1 + 1e-3 * np.random.default_rng(3).normal(size=b.shape))
    update = LowRank(np.concatenate([b, -near], axis=1), np.concatenate([a, a]), 1.0)
    left, right, loss = round_factors(update, "bfloat16")
    dense = left.astype(np.float64) @ right.astype(np.float64)
    assert loss == pytest.approx(relative(dense, (b - near) @ a), rel=1e-6) and loss > 0.5


def test_what_float32_leaves_of_terms_that_cancel_may_be_written_in_float32():
    """B A - (B Q)(Q^T A) is zero but for float32, which no further rounding to float32 can spoil."""
    update = some_update(8, rank=3)
    turn = np.linalg.qr(np.random.default_rng(9).normal(size=(3, 3)))[0]
    b, a = (side.astype(np.float32) for side in (update.b, update.a))
    opposed = LowRank(
        np.concatenate([b, (-b @ turn).astype(np.float32)], axis=1),
        np.concatenate([a, (turn.T @ a).astype(np.float32)]),
        0.3,
    )
    assert np.linalg.norm(delta(opposed)) < 1e-6 * np.linalg.norm(delta(LowRank(b, a, 0.3)))
    assert round_factors(opposed, "float32")[2] < 0.01
    assert round_factors(opposed, "bfloat16")[2] > 10  # where nothing is, bfloat16 writes its rounding


def test_nothing_loses_nothing_and_what_is_too_large_all():
    update = some_update(4)
    assert round_factors(update._replace(b=0 * update.b), "float16")[2] == 0
    same = LowRank(np.concatenate([update.b, -update.b], axis=1), np.concatenate([update.a, update.a]), 1.0)
    assert round_factors(same, "bfloat16")[2] < 1e-3  # zero, and zero after rounding, but for float64's own
    assert round_factors(update, "float64")[2] == 0
    assert round_factors(update._replace(scale=1e20), "float16")[2] == np.inf


def test_a_small_adapter_beside_a_large_one_survives():
    """Two blocks of one module, a million times apart: each term has a power of two of its own."""
    rng = np.random.default_rng(5)
    b, a = np.zeros((8, 4)), np.zeros((4, 8))
    b[:4, :2], a[:2, :4] = rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    b[4:, 2:], a[2:, 4:] = 1e-6 * rng.normal(size=(4, 2)), rng.normal(size=(2, 4))
    left, right, loss = round_factors(LowRank(b, a, 1.0), "float16")
    dense = left.astype(np.float64) @ right.astype(np.float64)
    assert loss < 1e-3
    assert relative(dense[4:, 4:], b[4:, 2:] @ a[2:, 4:]) < 1e-3


def test_a_lossy_merge_is_refused_with_what_other_types_lose_unless_it_is_allowed(tmp_path, command):
    folders = [half(tmp_path / str(i), i, 64, 1, 1e-4) for i in range(2)]
    small = [*folders, "--method", "sum", "--weight", "1e-6", "1e-6"]
    line = failure(command, *small, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    refusal = re.search(r"(\S+) loses (\S+)% of its update by rounding to float16: choose ", line)
    offers = dict(re.findall(r"--dtype (\w+) \(loses at most (\S+)%\)", line))
    assert list(offers) == ["bfloat16", "float32"] and line.endswith("by --allow-rounding")
    expected = exact(folders, (1e-6, 1e-6))
    runs = {**dict.fromkeys(offers, ()), "float16": ("--allow-rounding",)}
    for kind, flags in runs.items():
        out = tmp_path / kind
        code, printed, err = command("sim.merge", *small, "--dtype", kind, *flags, "--out", out)
        assert code == 0, err
        modules = read_adapter(out).modules
        loss = max(relative(delta(modules[name]), value) for name, value in expected.items())
        stated = {**offers, "float16": refusal[2]}[kind]
        assert float(stated) == pytest.approx(100 * loss, rel=0.06, abs=2e-5)
        assert ("warning: rounding to float16 lost" in printed) == bool(flags) == (loss > 0.01)
        assert ("--allow-rounding" in (out / "README.md").read_text()) == bool(flags)
    assert re.search(r"\| lost by rounding \| at most \d", (tmp_path / "float16" / "README.md").read_text())


def test_one_percent_is_the_limit_and_offers_are_of_the_worst_module():
    """In bfloat16 a factor of powers of two loses nothing, one of random digits 0.2%."""
    digits = some_update(7)
    powers = LowRank(np.sign(digits.b), np.sign(digits.a), 1.0)
    modules = {"first": powers, "second": digits, "third": powers}
    refuse_loss(modules, Rounding("float16", "third", 0.01))
    with pytest.raises(
        ValueError, match=r"^third loses 1\.1% of its update by rounding to float16"
    ) as refusal:
        refuse_loss(modules, Rounding("float16", "third", 0.0105))
    offer = re.search(r"--dtype bfloat16 \(loses at most (\S+)%\)", str(refusal.value))
    assert float(offer[1]) == pytest.approx(100 * round_factors(digits, "bfloat16")[2], rel=0.05)
    assert round_factors(powers, "bfloat16")[2] == 0


def test_python_refuses_as_the_command_does(tmp_path):
    source = Adapter(tmp_path, {"peft_type": "LORA", "target_modules": ["q"]}, {"q": some_update(6, 1e-12)})
    with pytest.raises(ValueError, match=r"q loses .* by rounding to float16: choose --dtype bfloat16"):
        write_adapter(tmp_path / "out", source.modules, [source], "float16")
    rounding = write_adapter(tmp_path / "out", source.modules, [source], "float16", allow_rounding=True)
    assert (rounding.dtype, rounding.module) == ("float16", "q") and rounding.loss > 0.01
