"""Section 11: the flow of a LoRA against gradient descent on its factors, and the figure."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import check, exact, limit
from sim.lab.figure import Source, certain, figure, law, line, point, points
from sim.lab.seeds import Effort
from sim.twins import dynamics as twin
from theory import dynamics as closed
from theory import edits
from theory.lowrank import LowRank, dense

STRENGTHS = (3.0, 2.2, 1.5, 1.0, 0.6, 0.3)
WIDTH, OUT, RANK = 9, 7, 3


def _problem(key: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Whitened keys (6, 9) and a residual (6, 7) with modes ``STRENGTHS``."""
    parts, facts = [jax.random.fold_in(key, index) for index in range(3)], len(STRENGTHS)
    keys = twin.whitened_keys(facts, WIDTH, parts[0])
    left = twin.whitened_keys(facts, OUT, parts[1])
    right = twin.whitened_keys(facts, facts, parts[2])
    return keys, right.T @ (jnp.asarray(STRENGTHS)[:, None] * left)


_descended = jax.jit(twin.flow, static_argnames="steps")


@jax.jit
def _flowed(gradient: jax.Array, start: jax.Array, time) -> jax.Array:
    """Delta W of the exact flow."""
    return dense(closed.flow(gradient, start, time))


@jax.jit
def _half_times(gradient: jax.Array, start: jax.Array) -> jax.Array:
    """Times at which the exact flow holds half of each of the first r modes, by bisection."""
    u, s, vt = jnp.linalg.svd(gradient, full_matrices=False)

    def half(mode):
        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            low = u[:, mode] @ _flowed(gradient, start, middle) @ vt[mode] < s[mode] / 2
            return jnp.where(low, middle, ends[0]), jnp.where(low, ends[1], middle)

        return jax.lax.fori_loop(0, 26, halve, (jnp.asarray(0.0), jnp.asarray(30.0)))[0]

    return jax.lax.map(half, jnp.arange(RANK))


@check("LoRA flow: size of the update", "11b", "exact")
def _flow(effort: Effort):
    keys, residual = _problem(seeds.key(29, 0))
    for size in effort.some((0.05, 0.5, 2.0)):
        start = twin.start_on(keys, RANK, size, seeds.key(29, 0, 3))
        for time in (0.3, 0.8, 1.2):
            steps = [dense(_descended(keys, residual, start, time, count)) for count in (500, 1000, 2000)]
            once = [2 * steps[i + 1] - steps[i] for i in range(2)]
            measured = jnp.linalg.norm((4 * once[1] - once[0]) / 3)
            predicted = jnp.linalg.norm(_flowed(residual.T @ keys, start, time))
            text = f"|A0|={size}, t={time}, SGD of 500, 1000, 2000 steps, Richardson twice"
            yield exact(text, predicted, measured, 1e-5)


@check("LoRA flow: limit", "11c", "exact")
def _limit(effort: Effort):
    for draw in effort.some(range(4)):
        keys, residual = _problem(seeds.key(29, draw))
        start = twin.start_on(keys, RANK, 0.3, seeds.key(29, draw, 3))
        predicted = dense(edits.least_squares_adapter(keys, residual, RANK)) @ keys.T
        measured = dense(_descended(keys, residual, start, 200.0, 2000)) @ keys.T
        text = f"draw {draw}, 2000 steps of 0.1"
        yield exact(f"{text}, entry 0", predicted[0, 0], measured[0, 0], 1e-9)
        yield exact(f"{text}, norm", jnp.linalg.norm(predicted), jnp.linalg.norm(measured), 1e-9)


@check("LoRA flow: early law", "11a", "asymptotic")
def _early(effort: Effort):
    """Off by |B A| / s_1 in relation, the term that the early law leaves out, from the law's own factors."""
    keys, residual = _problem(seeds.key(29, 1))
    for size in effort.some((1e-1, 3e-2, 1e-2, 1e-3)):
        start = twin.start_on(keys, RANK, size, seeds.key(29, 1, 3))
        for time in (0.25, 0.5, 1.0):
            coarse, fine = (_descended(keys, residual, start, time, count).b for count in (1000, 2000))
            measured = jnp.linalg.norm(2 * fine - coarse) / size
            factors = closed.early(residual.T @ keys, start, time)
            predicted = float(jnp.linalg.norm(factors.b)) / size
            slack = predicted * float(jnp.linalg.norm(dense(factors))) / STRENGTHS[0]
            yield limit(f"|A0|={size}, t={time}, |B|/|A0|", predicted, measured, slack)


@check("LoRA flow: half-times of the modes", "11e", "asymptotic")
def _learned(effort: Effort):
    """Off by less than 0.1 |A0|^(2 - 2 s_(i+1)/s_i): how far the next mode is when mode i is learned."""
    keys, residual = _problem(seeds.key(29, 0))
    gradient = residual.T @ keys
    for size in effort.some((1e-1, 1e-2, 1e-4, 1e-6)):
        start = twin.start_on(keys, RANK, size, seeds.key(29, 0, 3))
        measured, predicted = _half_times(gradient, start), closed.learning_times(gradient, start)
        for mode in range(RANK):
            slack = 0.1 * size ** (2 - 2 * STRENGTHS[mode + 1] / STRENGTHS[mode])
            yield limit(f"|A0|={size}, mode {mode + 1}", predicted[mode], measured[mode], slack)


SHOWN = 0.05  # |A_0| of the paths
STEP, EVERY, PLACES = 0.005, 60, 17  # of their descent: step size, steps between points, points
END = 1.2  # time at which descent is compared with the flow


def _starts(keys: jax.Array, size: float, root: jax.Array, draws: int) -> jax.Array:
    return jax.lax.map(lambda key: twin.start_on(keys, RANK, size, key), seeds.keys(root, draws))


def _zero(start: jax.Array) -> LowRank:
    return LowRank(jnp.zeros((OUT, RANK), jnp.float64), start)


def _paths(keys: jax.Array, residual: jax.Array) -> list[dict]:
    """Singular values of Delta W along one descent, and along the flow from the same start."""
    gradient = residual.T @ keys
    start = _starts(keys, SHOWN, seeds.key(4), 1)[0]

    def values(factors):
        return jnp.linalg.svd(dense(factors), compute_uv=False)[:RANK]

    @jax.jit
    def flow(times):
        return jax.lax.map(lambda time: values(closed.flow(gradient, start, time)), times)

    @jax.jit
    def descent():
        def one(factors, _):
            after = twin.descend(keys, residual, factors, STEP, EVERY)
            return after, values(after)

        return jax.lax.scan(one, _zero(start), None, length=PLACES)[1]

    rows, fine = [], np.linspace(0.0, STEP * EVERY * PLACES, 171)
    coarse = STEP * EVERY * np.arange(1, PLACES + 1)
    lines, at_points, measured = (np.asarray(value) for value in (flow(fine), flow(coarse), descent()))
    for mode in range(RANK):
        setting = {"panel": "path", "mode": mode + 1, "strength": STRENGTHS[mode], "size": SHOWN}
        rows += [law(value, time=time, **setting) for time, value in zip(fine, lines[:, mode], strict=True)]
        for time, predicted, value in zip(coarse, at_points[:, mode], measured[:, mode], strict=True):
            rows.append(certain(predicted, value, time=time, step=STEP, **setting))
    return rows


def _collect(source: Source) -> pd.DataFrame:
    effort, (keys, residual) = source.effort, _problem(seeds.key(3))
    gradient, rows = residual.T @ keys, _paths(keys, residual)

    @functools.partial(jax.jit, static_argnums=2)
    def distances(starts, wanted, steps):
        def one(pair):
            adapter = twin.descend(keys, residual, _zero(pair[0]), END / steps, steps)
            return jnp.linalg.norm(dense(adapter) - pair[1]) / jnp.linalg.norm(pair[1])

        return jax.lax.map(one, (starts, wanted))

    for place, size in effort.some(list(enumerate((0.05, 0.5, 2.0)))):
        starts = _starts(keys, size, seeds.key(5, place), effort(8))
        ends = jnp.stack([_flowed(gradient, start, END) for start in starts])
        for steps in effort.some((20, 40, 80, 160, 320, 640)):
            runs = np.asarray(distances(starts, ends, steps))
            rows.append(point(0.0, runs, panel="step", size=size, step=END / steps))
    for place, size in effort.some(list(enumerate((1e-1, 1e-2, 1e-3, 1e-4, 1e-5)))):
        errors = []
        for start in _starts(keys, size, seeds.key(6, place), effort(8)):
            times = _half_times(gradient, start)
            errors.append(float(jnp.mean(jnp.abs(closed.learning_times(gradient, start) / times - 1))))
        rows.append(point(0.0, errors, panel="half-times", size=size))
    return pd.DataFrame(rows)


@figure(
    "Gradient descent on a LoRA follows the closed-form flow, strongest mode first, with an error in "
    "proportion to the step; the rank is spent on the first r modes to be learned.",
    "Whitened keys, 6 facts with modes 3, 2.2, 1.5, 1, 0.6, 0.3, rank 3, B = 0. Bars: 95% intervals.",
    _collect,
    section="section 11",
    panels=(
        "Singular values of ΔW from one start with |A₀| = 0.05; lines: the flow; points: gradient descent "
        "with step 0.005; dotted: modes.",
        "Relative distance of descent to the flow at t = 1.2; dashed: proportional to the step.",
        "Error of the predicted half-times against the exact flow.",
    ),
)
def lora_flow(rows: pd.DataFrame):
    """Singular-value paths, the gap of descent to the flow against the step, and half-times."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.7, ncols=3)
    looks = style.levels(RANK)
    for series in range(RANK):
        part = rows[(rows["panel"] == "path") & (rows["mode"] == series + 1)]
        line(left, part, "time", looks[series])
        points(left, part, "time", looks[series])
        top = part["strength"].iloc[0]
        left.text(0, top + 0.03, f"mode {series + 1}", fontsize="small")
        left.axhline(top, color=looks[series].colour, linewidth=0.6, linestyle=":")
    left.set(xlabel="time (steps × step size)", ylabel="singular values of ΔW", ylim=(-0.1, 3.4))
    left.set_title("flow and descent", loc="left")
    steps = rows[rows["panel"] == "step"]
    for series, (size, part) in enumerate(steps.groupby("size")):
        points(middle, part, "step", looks[series], f"|A₀| = {size:g} (b)")
        first = part.sort_values("step").iloc[0]
        x = np.array([part["step"].min(), part["step"].max()])
        guide = first["measured"] * x / first["step"]
        middle.plot(x, guide, color=looks[series].colour, linestyle="--", linewidth=0.8)
    middle.set(xscale="log", yscale="log", xlabel="step size", ylabel="relative distance to the flow")
    middle.set_xticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
    middle.minorticks_off()
    middle.set_title("finite steps", loc="left")
    points(right, rows[rows["panel"] == "half-times"], "size", looks[0])
    right.set(xscale="log", xlabel="|A₀|", ylabel="relative error of half-times", ylim=(0, None))
    right.set_xticks([1e-5, 1e-3, 1e-1])
    right.minorticks_off()
    right.set_title("finite start", loc="left")
    style.key(picture, [middle])
    return picture
