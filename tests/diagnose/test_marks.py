"""Marks: no false alarm on healthy pairs, a mark on each planted fault, the next command."""

from pathlib import Path

import numpy as np
import pytest

from sim.diagnose import diagnose
from sim.diagnose.marks import marks, next_command
from sim.merge import Adapter
from theory.lowrank import LowRank

D, R = 48, 2


def drawn(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    modules = {
        f"layers.{i}.q": LowRank(rng.normal(size=(D, R)), rng.normal(size=(R, D)), scale) for i in range(2)
    }
    return Adapter(Path(f"a{seed}"), {}, modules)


def test_fifty_healthy_pairs_give_no_alarm():
    for seed in range(50):
        report = diagnose([drawn(2 * seed), drawn(2 * seed + 1)])
        assert report["warnings"] == []
        assert (marks(report)["mark"] == "good").all(), marks(report)
        assert next_command(report).startswith(f"python -m sim.merge a{2 * seed} a{2 * seed + 1} --method ")


@pytest.mark.parametrize(
    ("other", "row"),
    [
        (lambda a: drawn(1, 9.0), "ratio of norms"),
        (
            lambda a: Adapter(Path("x"), {}, {n: u._replace(scale=0.5) for n, u in a.modules.items()}),
            "cosine of two updates",
        ),
        (
            lambda a: Adapter(Path("x"), {}, {n: u._replace(b=u.b[::-1]) for n, u in a.modules.items()}),
            "interference of two adapters",
        ),
    ],
)
def test_a_planted_fault_is_marked(other, row):
    first = drawn(0)
    assert marks(diagnose([first, other(first)])).loc[row, "mark"] == "bad"


def test_the_next_command_follows_the_advice():
    first = drawn(0)
    opposed = Adapter(Path("x"), {}, {n: u._replace(scale=-1.0) for n, u in first.modules.items()})
    assert next_command(diagnose([first, opposed])) == (
        "python -m sim.predict a0 x --base BASE --prompts prompts.jsonl"
    )
    report = diagnose([drawn(0), drawn(1)])
    advice = report["total"]["recommendation"]
    assert advice["action"] == "sum"
    weight = f"{advice['lam']:.3g}"
    assert next_command(report) == (
        f"python -m sim.merge a0 a1 --method sum --weight {weight} {weight} --out merged"
    )
