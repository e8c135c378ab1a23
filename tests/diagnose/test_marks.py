"""Marks: no false alarm on healthy pairs, a mark on each planted fault, the verdict and the next command."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from sim.diagnose import diagnose
from sim.diagnose.fold import folded, intruders, rounding_loss
from sim.diagnose.marks import alarms, marks, next_command
from sim.diagnose.page import begun, write
from sim.diagnose.verdict import verdict
from sim.hf.prompts import groups, read_prompts
from sim.merge import Adapter
from theory.lowrank import LowRank, dense

WIDTH, RANK = 96, 4


def trained(rng, rank, out_dim, in_dim, alpha, start=None):
    """As training leaves a module: B of falling spectrum, A near its random start."""
    a = rng.uniform(-1, 1, size=(rank, in_dim)) * (3 / in_dim) ** 0.5 if start is None else start
    a = a + 0.05 * rng.normal(size=a.shape) / in_dim**0.5
    mixed = np.linalg.qr(rng.normal(size=(rank, rank)))[0]
    b = rng.normal(size=(out_dim, rank)) * (1 / np.arange(1, rank + 1)) @ mixed * 0.02
    return LowRank(b, a, alpha / rank)


def pair(seed, rank=RANK, alpha=8.0, shapes=((WIDTH, WIDTH), (2 * WIDTH, WIDTH))):
    rng = np.random.default_rng(seed)
    return [
        Adapter(
            Path(f"a{i}"),
            {},
            {f"layers.{n}.q": trained(rng, rank, *shape, alpha) for n, shape in enumerate(shapes)},
        )
        for i in range(2)
    ]


def changed(adapter, change):
    return Adapter(Path("x"), {}, {name: change(update) for name, update in adapter.modules.items()})


@pytest.fixture(scope="module")
def healthy():
    """Fifty pairs with their reports. Ranks, alphas, shapes, numbers of modules and seeds vary; spectra fall
    as those of training do."""
    rng, pairs = np.random.default_rng(9), []
    for seed in range(50):
        shapes = [tuple(rng.choice([96, 160], 2)) for _ in range(rng.integers(1, 4))]
        adapters = pair(seed, int(rng.choice([4, 6, 8, 12])), float(rng.choice([4, 8, 16, 32])), shapes)
        pairs.append((adapters, diagnose(adapters)))
    return pairs


@pytest.mark.slow
def test_fifty_healthy_pairs_give_no_alarm(healthy):
    for seed, (_, report) in enumerate(healthy):
        assert report["warnings"] == [] and alarms(report) == []
        table = marks(report)
        assert set(table["mark"]) == {"good", "unknown"}, (seed, table)
        unknown = list(table.index[table["mark"] == "unknown"])
        assert unknown == [
            "folded into a bfloat16 base: share lost",
            "intruder dimensions among the 10 largest",
        ]
        assert verdict(report)[0].startswith("Merge them by ")


def base_of(rng, adapters, ratio, folder):
    """A base of falling spectra beside which the first adapter's updates have this share of the norm."""
    tensors = {}
    for name, update in adapters[0].modules.items():
        out, size = dense(update).shape
        count = min(out, size)
        left, right = (np.linalg.qr(rng.normal(size=(side, count)))[0] for side in (out, size))
        matrix = (left * np.arange(1, count + 1) ** -0.5) @ right.T
        matrix *= np.linalg.norm(dense(update)) / np.linalg.norm(matrix) / ratio
        tensors[f"{name}.weight"] = matrix.astype(ml_dtypes.bfloat16)
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.mark.slow
def test_fifty_healthy_pairs_on_their_base_give_no_alarm(healthy, tmp_path):
    """Updates of 1% to 6% of the base's norm; at half of it an intruder is seen in nearly all."""
    rng, seen = np.random.default_rng(1), 0
    for seed, (adapters, report) in enumerate(healthy):
        base = base_of(rng, adapters, float(rng.uniform(0.01, 0.06)), tmp_path)
        table = marks({**report, "total": {**report["total"], **folded(adapters, base)}})
        assert set(table["mark"]) == {"good"}, (seed, table)
        if seed % 5 == 0:
            strong = folded(adapters, base_of(rng, adapters, 0.5, tmp_path))
            table = marks({**report, "total": {**report["total"], **strong}})
            seen += table.loc["intruder dimensions among the 10 largest", "mark"] == "bad"
    assert seen >= 8


def nearly_opposite(update):
    return update._replace(scale=-update.scale, b=update.b * (1 + 2.0**-10))


SICK = {
    "cosine of two updates": lambda u: u._replace(scale=0.5 * u.scale),
    "interference / (that of random updates, or 1/3)": lambda u: u._replace(b=u.b[::-1]),
    "cosine of two Arrow prototypes": lambda u: u._replace(b=u.b[::-1]),
    "ratio of norms": lambda u: u._replace(b=9 * u.b[::-1], a=u.a[:, ::-1]),
    "cosine of two first factors A": lambda u: u._replace(b=u.b[::-1]),
    "energy that survives at the lambda above": nearly_opposite,
    "PEFT's linear: cross terms / average": lambda u: u._replace(b=u.b[::-1] / 9, a=9 * u.a[:, ::-1]),
    "the sum in bfloat16: share lost": nearly_opposite,
}


@pytest.mark.parametrize("row", SICK)
def test_a_sick_pair_is_marked(row):
    first = pair(0)[0]
    report = diagnose([first, changed(first, SICK[row])])
    assert marks(report).loc[row, "mark"] == "bad"
    assert marks(report).loc[row, "if bad"]


def test_an_equal_start_is_marked_though_both_were_trained():
    rng = np.random.default_rng(3)
    start = rng.uniform(-1, 1, size=(RANK, WIDTH)) * (3 / WIDTH) ** 0.5
    same = [Adapter(Path(n), {}, {"q": trained(rng, RANK, WIDTH, WIDTH, 8, start)}) for n in "ab"]
    report = diagnose(same)
    assert marks(report).loc["cosine of two first factors A", "mark"] == "bad"
    assert verdict(report)[0].startswith("Not sure: adapters 1 and 2 began from the same random A")
    assert "more below). If that is as it should be, " in verdict(report)[0]
    assert next_command(report).startswith("python -m sim.predict a b --base BASE --prompts ")


def test_a_rank_that_cuts_an_adapter_off_is_marked_and_is_no_doubt():
    report = diagnose(pair(1, rank=1))
    row = marks(report).loc["svd at the largest rank: squared norm lost"]
    assert row["mark"] == "bad" and 0.3 < row["value"] <= 0.5
    assert alarms(report) == []


def test_folding_and_intruders_against_the_definition():
    rng = np.random.default_rng(0)
    left, right = (np.linalg.qr(rng.normal(size=(30, 30)))[0] for _ in range(2))
    matrix = left[:, :20] * np.linspace(3, 1, 20) @ right[:, :20].T
    new = 9 * np.outer(left[:, 25], right[:, 25])
    assert intruders(matrix, 0 * matrix) == 0 and intruders(matrix, new) == 1
    assert intruders(matrix, 9 * np.outer(left[:, 1], right[:, 1])) == 0
    wide = np.float32(1.0) * np.ones((4, 4))
    assert rounding_loss(wide, np.full((4, 4), 2.0**-10)) == 1  # below half a step: all of it is lost
    assert rounding_loss(wide, np.full((4, 4), 2.0**-7)) == 0  # a step
    total = (matrix + new).astype(np.float64)
    cast = total.astype(ml_dtypes.bfloat16).astype(np.float64)
    assert rounding_loss(matrix, new) == pytest.approx(np.linalg.norm(cast - total) / 9)


@pytest.mark.parametrize(("size", "mark"), [(1.0, "good"), (0.01, "bad")])
def test_the_base_is_read_and_folding_is_marked(tmp_path, size, mark):
    adapters = [changed(a, lambda u: u._replace(b=size * u.b)) for a in pair(2)]
    rng = np.random.default_rng(1)
    shapes = {name: dense(update).shape for name, update in adapters[0].modules.items()}
    save_file(
        {f"{n}.weight": (0.03 * rng.normal(size=s)).astype(np.float32) for n, s in shapes.items()},
        tmp_path / "model.safetensors",
    )
    table = marks(diagnose(adapters, base=tmp_path))
    assert table.loc["folded into a bfloat16 base: share lost", "mark"] == mark
    assert table.loc["intruder dimensions among the 10 largest", "value"] >= 0
    for name in shapes:
        strange = {f"{name}.weight": np.zeros((3, 5), np.float32)}
    save_file(strange, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"is \(3, 5\), the adapters have .*: another model"):
        diagnose(adapters, base=tmp_path)
    save_file({"other.weight": np.zeros((3, 5), np.float32)}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"has no module layers\.0\.q: it is another model"):
        diagnose(adapters, base=tmp_path)


def test_an_intruder_is_marked(tmp_path):
    adapters = [changed(a, lambda u: u._replace(b=300 * u.b)) for a in pair(2)]
    rng = np.random.default_rng(1)
    save_file(
        {
            f"{name}.weight": (0.03 * rng.normal(size=dense(u).shape)).astype(np.float32)
            for name, u in adapters[0].modules.items()
        },
        tmp_path / "model.safetensors",
    )
    table = marks(diagnose(adapters, base=tmp_path))
    assert table.loc["intruder dimensions among the 10 largest", "mark"] == "bad"


def test_the_verdict_is_two_sentences_and_the_command_that_follows():
    report = diagnose(pair(0))
    advice = report["total"]["recommendation"]
    weight = f"{advice['lam']:.3g}"
    first, then = verdict(report)
    assert advice["action"] == "sum" and first.startswith(
        f"Merge them by sum, each at {weight}, if runs agree. What is kept the files cannot tell: of 258 "
    )
    assert first.count(". ") == 1 and first.endswith(".")
    assert then == "Next: python -m sim.predict a0 a1 --base BASE --prompts runs/diagnose/prompts.jsonl"


@pytest.mark.slow
def test_where_runs_come_next_a_file_of_prompts_is_begun_and_never_replaced(tmp_path):
    first = pair(0)[0]
    report = diagnose([first, changed(first, lambda u: u._replace(scale=-u.scale))])
    write(report, tmp_path)
    path = tmp_path / "prompts.jsonl"
    assert next_command(report, tmp_path) == (
        f"python -m sim.predict a0 x --base BASE --prompts {tmp_path / 'prompts.jsonl'}"
    )
    assert path.read_text() == begun(report)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert [line["group"] for line in lines] == ["adapter 1", "adapter 2", "untouched"]
    with pytest.raises(ValueError, match="line 1: prompt is still the placeholder 'WRITE a question of this"):
        read_prompts(path)
    path.write_text(json.dumps({**lines[0], "prompt": "my question"}))
    with pytest.raises(ValueError, match="line 1: answer is still the placeholder ' its answer': write"):
        read_prompts(path)
    path.write_text("".join(json.dumps({**line, "prompt": "q", "answer": " a"}) + "\n" for line in lines))
    assert groups(read_prompts(path)) == ["adapter 1", "adapter 2", "untouched"]
    path.write_text("mine")
    write(report, tmp_path)
    assert path.read_text() == "mine"
    assert json.loads((tmp_path / "diagnosis.json").read_text())["verdict"] == verdict(report, tmp_path)
