"""Checks of sections 1 to 6."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np

from sim import merge as merging
from sim.figure.one_layer import angles, overlap
from sim.lab.check import average, check, exact, key_of, rate
from sim.model import routing
from sim.twins import boundary, phase
from sim.twins import composition as composition_twin
from sim.twins import coverage as coverage_twin
from sim.twins import cross_entropy as cross_entropy_twin
from sim.twins import crosstalk as crosstalk_twin
from sim.twins import edits as edits_twin
from sim.twins import starvation as starvation_twin
from theory import composition, coverage, cross_entropy, crosstalk, edits, starvation
from theory import model as one_layer
from theory.lowrank import dense


@check("rank-one edit, norm", "1", "exact")
def _rank_one(scale: int):
    for index, (width, outputs) in enumerate(((5, 3), (7, 5), (12, 4), (20, 8))):
        phi = one_layer.gaussian(key_of(1, index, 0), (width,))
        change = one_layer.gaussian(key_of(1, index, 1), (outputs,))
        law = jnp.linalg.norm(dense(edits.rank_one_edit(phi, change)))
        found = jnp.linalg.norm(edits_twin.rank_one_edit(phi, change))
        yield exact(f"m={width}, n={outputs}, 200 steps", law, found, 1e-9)


@check("least-squares adapter, loss", "1", "exact")
def _least_squares(scale: int):
    for rank in (1, 2, 4):
        for seed in range(3):
            keys = jnp.linalg.qr(one_layer.gaussian(key_of(2, seed, 0), (10, 6)))[0].T
            keys = keys * jnp.linspace(1.0, 1.5, 6)[:, None]
            residual = one_layer.gaussian(key_of(2, seed, 1), (6, 5))
            law = edits.least_squares_loss(keys, residual, rank)
            found = edits_twin.least_squares_loss(keys, residual, rank, key=key_of(2, seed, 2))
            yield exact(f"F=6, m=10, n=5, r={rank}, draw {seed}, 4000 steps", law, found, 1e-6)


def _average(first, second):
    return 0.5 * (dense(first) + dense(second))


def _ties(first, second):
    return merging.merge("ties", [first, second])


def _svd(first, second):
    return dense(merging.merge("svd", [first, second]))


def _arrow(first, second, phi):
    gates = routing.gate(phi, routing.prototypes("arrow", [first, second]))
    return gates[:, 0], gates[:, 1]


@check("two-hop accuracy, every bijection", "2a", "exact")
def _two_hop(scale: int):
    cases = [
        (3, "sum", {}, 2),
        (4, "sum", {}, 1),
        (4, "average, two-hop in base", {"merge": _average, "two_hop_in_base": True}, 1),
        (4, "ties", {"merge": _ties}, 2),
        (8, "sum, shifts", {"every": composition_twin.shifts(8)}, 4),
        (16, "average, shifts", {"merge": _average, "every": composition_twin.shifts(16)}, 4),
    ]
    for index, (entities, name, options, rank) in enumerate(cases):
        right, asked = composition_twin.two_hop_accuracy(entities, key=key_of(3, index), rank=rank, **options)
        yield exact(
            f"N={entities}, r={rank}, {name}", composition.two_hop_accuracy(entities), right / asked, 1e-12
        )


@check("two-hop accuracy, every relabelling", "2b", "exact")
def _relabelled(scale: int):
    options = {
        "svd": {"merge": _svd},
        "arrow": {"gate": _arrow},
        "ce": {"train": composition_twin.cross_entropy},
    }
    for index, (name, option) in enumerate(options.items()):
        for entities in (3, 4):
            right, asked = composition_twin.two_hop_accuracy(
                entities, key=key_of(4, index), rank=2, relabel=True, **option
            )
            law = composition.two_hop_accuracy(entities)
            yield exact(f"N={entities}, r=2, {name}", law, right / asked, 1e-12)


@check("two-hop accuracy, adapters anywhere", "2d", "exact")
def _boundary(scale: int):
    entities, draws = 5, 2
    config = one_layer.ModelConfig(entities, 2 * (2 * entities + 2), 60)
    for module, base in (("w", "fake"), ("up", "fake"), ("value", "one_hop")):
        setting = boundary.Setting(module, base)
        hits = [
            boundary.two_hop(config, setting, jnp.asarray([0.5, 1.0]), key_of(5, draw)).two_hop.mean()
            for draw in range(draws)
        ]
        law = composition.two_hop_accuracy(entities)
        yield exact(f"N=5, adapters on {module}, {base} base", law, np.mean(hits), 1e-12, draws)


@check("critical lambda", "3", "exact")
def _critical(scale: int):
    margin, swing = (0.1 + 2 * jax.random.uniform(key_of(6, i), (10,), jnp.float64) for i in range(2))
    found = coverage_twin.critical_lambda(margin, swing, key=key_of(6, 2))
    for m, s, law, value in zip(margin, swing, coverage.critical_lambda(margin, swing), found, strict=True):
        yield exact(f"M={m:.3f}, Delta={s:.3f}", law, value, 1e-10)


@check("retention", "3", "exact")
def _retention(scale: int):
    for margin, swing in ((1.0, 2.0), (0.5, 2.5)):
        tie = margin / swing
        for lam in (tie / 2, tie - 1e-6, tie, tie + 1e-6, 1.0):
            law = coverage.retention(lam, margin, swing)
            found = coverage_twin.retention(lam, margin, swing, key=key_of(7))
            yield exact(f"lambda={lam:.6f}, M={margin}, Delta={swing}", law, found, 1e-12)


@check("kappa, arc-cosine kernel", "4", "asymptotic")
def _kappa(scale: int):
    unit = jnp.asarray([1.0, 0.0])
    for features in (64, 256, 1024, 4096):
        for degrees in (30, 60, 90, 120):
            turn = math.radians(degrees)
            read = jnp.asarray([math.cos(turn), math.sin(turn)])
            runs = crosstalk_twin.kappa(
                unit, read, key=key_of(8, features, degrees), features=features, draws=64 * scale
            )
            yield average(f"m={features}, angle {degrees}", crosstalk.kappa(unit, read), runs)


@check("whitened overlap", "4w", "asymptotic")
def _whitened(scale: int):
    cases = (("relu", "p12", 2), ("relu", "p12", 6), ("relu", "new word", 6), ("identity", "new word", 2))
    for activation, name, facts in (*cases, ("identity", "new word", 6)):
        subjects = jnp.arange(facts)
        for features in (64, 512):
            config = one_layer.ModelConfig(facts, 40, features, activation=activation, fillers=1)
            first = one_layer.prompt1(config, subjects)
            read = (
                one_layer.prompt12(config, subjects)
                if name == "p12"
                else first.at[:, 1].set(config.tokens - 1)
            )
            kernel = [crosstalk.prompt_kappa(config, first[0], at) for at in (first[1], read[0], read[1])]
            law = crosstalk.mean_overlap(facts, *kernel)
            key = key_of(9, facts, features)
            runs = crosstalk_twin.mean_overlap(facts, config, read, key=key, draws=32 * scale)
            yield average(f"F={facts}, m={features}, {activation}, read at {name}", law, runs)


@check("coverage law, orthogonal keys", "5", "exact")
def _decides(scale: int):
    for index, lam in enumerate((0.55, 0.7, 0.85, 1.0, 1.25, 1.5)):
        kappa, share = jax.random.uniform(key_of(10, index), (2, 500), jnp.float64)
        kappa = kappa / max(lam, 1.0)  # lambda kappa <= 1, as the theorem asks
        strength = jnp.full(500, lam)
        law = coverage.decides(strength, kappa, share).mean()
        found = coverage_twin.decides(strength, kappa, share, key=key_of(10, index, 1)).mean()
        yield exact(f"lambda={lam}, share of 500 random (kappa, rho) that flip", law, found, 1e-12, 500)


@check("solution traces covered", "5", "exact")
def _covers(scale: int):
    for adapters, steps in ((1, 1), (2, 2), (3, 2), (4, 3)):
        laws, found = [], []
        for draw in range(100):
            kappa, share = jax.random.uniform(key_of(11, adapters, draw), (2, adapters, steps), jnp.float64)
            lam = 0.4 + jax.random.uniform(key_of(11, adapters, draw, 1), (adapters,), jnp.float64)
            laws.append(bool(coverage.covers(lam, kappa, share)))
            found.append(bool(coverage_twin.covers(lam, kappa, share, key=key_of(11, adapters, draw, 2))))
        text = f"K={adapters}, {steps} steps, share of 100 random libraries"
        yield exact(text, np.mean(laws), np.mean(found), 1e-12, 100)


@check("coverage recall, relu keys, product form", "5", "model")
def _phase(scale: int):
    facts, draws = 16, 16 * scale
    kappas, strengths = np.array([0.55, 0.7, 0.85, 1.0]), np.array([0.6, 0.8, 1.0])
    turns = jnp.asarray(angles(facts, kappas))
    for rank in (10, 13, 16):
        runs = phase.recall(
            jnp.asarray(strengths), turns, facts=facts, rank=rank, key=key_of(12, rank), draws=draws
        )
        for i, turn in enumerate(turns):
            kappa = overlap(facts, float(turn))
            for j, lam in enumerate(strengths):
                law = starvation.overwrite_recall(facts, rank, lam * kappa)
                text = f"F=16, r={rank}, lambda={lam}, kappa={kappa:.3f}, m=1024"
                yield rate(text, law, runs[:, i, j], facts)


CELLS = ((6, 4), (8, 2), (8, 6), (16, 10), (24, 16), (32, 20), (32, 26))


@check("overwrite recall", "6a", "law")
def _overwrite(scale: int):
    for facts, rank in CELLS:
        for step, lam in enumerate((0.6, 0.75, 0.9, 1.0)):
            runs = starvation_twin.overwrite_recall(
                facts, rank, lam, key=key_of(13, facts, rank, step), draws=128 * scale
            )
            law = starvation.overwrite_recall(facts, rank, lam)
            yield rate(f"F={facts}, r={rank}, lambda={lam}", law, runs, facts)


@check("insertion recall", "6b", "law")
def _insertion(scale: int):
    for facts, ranks in (
        (6, (1, 2, 4)),
        (8, (1, 2, 6)),
        (16, (2, 4, 10)),
        (24, (3, 6, 16)),
        (32, (4, 8, 20)),
    ):
        for rank in ranks:
            runs = starvation_twin.insertion_recall(
                facts, rank, key=key_of(14, facts, rank), draws=128 * scale
            )
            yield rate(f"F={facts}, r={rank}", starvation.insertion_recall(facts, rank), runs, facts)


@check("mean share r/F of trained adapters", "6g", "exact")
def _mean_share(scale: int):
    for facts, rank in ((8, 2), (16, 6), (24, 15)):
        runs = starvation_twin.shares(facts, rank, key=key_of(15, facts), draws=32)
        a, b = starvation.share_law(facts, rank)
        yield exact(f"F={facts}, r={rank}, 300 steps", a / (a + b), runs.mean(), 1e-6, 32)


@check("one cycle of answers, recall", "6c", "exact")
def _cycle(scale: int):
    for length, ranks in ((16, (3, 5, 7)), (33, (6, 8, 10)), (64, (15, 17, 19))):
        for rank in ranks:
            law = coverage.retention(starvation.cycle_shares(length, rank))
            found = starvation_twin.cycle_recall(length, rank, key=key_of(16, length))
            yield exact(f"L={length}, r={rank}", law, found, 1e-12)


def _one_fact(answers: int, time: float, steps: int) -> np.ndarray:
    """(lead of new over old, loss) of one fact of 5, B alone trained on orthonormal keys."""
    keys, base = jnp.eye(5, dtype=jnp.float64), jnp.eye(answers, 5, dtype=jnp.float64)
    target = (jnp.arange(5) + 1) % 5
    found = cross_entropy_twin.train(
        base, keys, target, key_of(17), rank=5, step=time / steps, steps=steps, freeze_a=True
    )
    logits = keys @ base.T + keys @ found.a.T @ found.b.T
    loss = cross_entropy_twin.loss_of(logits, target, "cross_entropy") / 5
    return np.array([logits[0, 1] - logits[0, 0], loss])


@check("cross entropy: critical lambda at a loss", "6x", "exact")
def _critical_at_loss(scale: int):
    for answers, time in ((6, 1.0), (6, 3.0), (8, 5.0), (40, 20.0)):
        coarse, fine = (_one_fact(answers, time, steps) for steps in (1000, 2000))
        lead, loss = 2 * fine - coarse  # Richardson: the flow to O(step^2)
        law = cross_entropy.critical_lambda_at_loss(loss, answers)
        yield exact(f"n={answers}, flow time {time}, loss {loss:.4f}", law, 1 / (1 + lead), 1e-4)


@check("cross entropy: lead after a time, two answers", "6x", "exact")
def _trained_lead(scale: int):
    keys, base = jnp.ones((1, 1)), jnp.asarray([[1.0], [0.0]])
    train = functools.partial(cross_entropy_twin.train, base, keys, jnp.asarray([1]), key_of(18), rank=1)
    for time in (0.5, 1.0, 3.0, 10.0):
        leads = []
        for steps in (1000, 2000):
            found = train(step=time / steps, steps=steps, freeze_a=True)
            moved = found.b[:, 0] * found.a[0, 0]
            leads.append(float(moved[1] - moved[0] - 1))
        law = cross_entropy.trained_lead(time)
        yield exact(f"flow time {time}", law, 2 * leads[1] - leads[0], 1e-4)


@check("cross entropy: merged recall from single margins", "6x", "law")
def _margins(scale: int):
    config = one_layer.ModelConfig(entities=24, dim=100, features=300)
    lam = jnp.asarray([0.02, 0.03, 0.05, 0.08, 0.12, 0.25, 1.0])
    for rank in (2, 4, 12):
        laws, found = [], []
        for seed in range(3 * scale):
            key = key_of(19, rank, seed)
            library = cross_entropy_twin.two_adapters(config, key, rank=rank, step=0.02, steps=2000)
            margin, swing, third = cross_entropy_twin.margins(library)
            critical = np.where(third > 0, coverage.critical_lambda(margin, swing), np.inf)
            laws.append(np.mean(np.asarray(lam)[:, None, None] > critical[None], axis=(1, 2)))
            found.append(np.mean(cross_entropy_twin.merged_recall(library, lam), axis=(1, 2)))
        for j, value in enumerate(lam):
            text = f"F=24, r={rank}, lambda={value:.2f}"
            yield rate(text, np.mean([law[j] for law in laws]), [run[j] for run in found], 48)
