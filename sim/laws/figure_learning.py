"""Figures of what adapters learn and what Arrow sees of it (theory/README.md, sections 10 and 11)."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import style
from sim.lab.figure import figure
from sim.lab.rows import gap, law, line, point, points
from sim.twins import dynamics as descents
from sim.twins import selection as routers
from theory import dynamics as flow_law
from theory import model as one_layer
from theory import selection as laws
from theory.lowrank import LowRank, dense

EDITS = {"sighted": (1.0, "sighted (τ = 1)"), "partly": (0.8, "τ = 0.8"), "blind": (0.0, "blind (τ = 0)")}
LIBRARIES = ("sighted", "blind", "permuted")
WIDTH = 24  # entities, facts and features of the one-layer model, so that theta^2 = 24 and c = 1

# tokens after a subject a and a bridge b, (load, seen) of adapter 1 and of adapter 2, noise
PROMPTS = {
    "p1": (lambda a, b: [a, 48], (1.0, 1.0), (0.0, 0.0), 1.0),
    "p1, other's\nentity": (lambda a, b: [b, 48], (1.0, 0.0), (0.0, 1.0), 1.0),
    "p2": (lambda a, b: [b, 49], (0.0, 0.0), (1.0, 1.0), 1.0),
    "p12": (lambda a, b: [a, 48, 49], (0.0, 1.0), (1.0, 0.0), 2.0),
    "CoT\nstep 1": (lambda a, b: [a, 48, 49, 50, a, 48], (1.0, 2.0), (0.0, 0.0), 7.0),
    "CoT\nstep 2": (lambda a, b: [a, 48, 49, 50, a, 48, b, 51, b, 49], (0.0, 2.0), (1.0, 2.0), 15.0),
}


def _key(*path: int) -> jax.Array:
    return functools.reduce(jax.random.fold_in, path, jax.random.key(0))


def _more(profile: str, draws: int) -> int:
    """Draws of a profile: the paper's are eight times as many."""
    return 8 * draws if profile == "paper" else draws


def _keys(root: jax.Array, draws: int) -> jax.Array:
    return jax.vmap(lambda index: jax.random.fold_in(root, index))(jnp.arange(draws))


@functools.partial(jax.jit, static_argnums=(1, 2))
def _alignments(theta, aspect: float, features: int, sight, keys) -> jax.Array:
    one = functools.partial(routers.alignment, theta, aspect, sight, features)
    return jax.lax.map(one, keys)


@functools.partial(jax.jit, static_argnums=0)
def _gates(config: one_layer.ModelConfig, prompt, relations, keys) -> jax.Array:
    """Share of the prompts that go to adapter 1, for each draw and each of ``LIBRARIES``."""

    def one(key):
        found = [routers.prompt_gates(config, WIDTH, prompt, edit, 1, relations, key) for edit in LIBRARIES]
        return jnp.stack(found).mean(axis=1)[:, 0]

    return jax.lax.map(one, keys)


def _choice(edit: str, first, second, noise: float) -> float:
    """Probability that adapter 1 has the larger score; a blind prototype meets any mean by chance only."""
    theta = WIDTH**0.5
    both = []
    for (load, seen), (other_load, _) in ((first, second), (second, first)):
        if edit == "sighted":
            options = {"sight": 1.0, "other": other_load}
        else:
            options = {"sight": 0.0, "other": load + other_load}
            load = 0.0
        both.append(laws.score_law(theta, 1.0, load, seen=seen, noise=noise, features=WIDTH, **options))
    return float(laws.selection(*zip(*both, strict=True))[0])


def _arrow(profile: str) -> pd.DataFrame:
    rows = []
    draws = _more(profile, 24)
    for place, (edit, (sight, _)) in enumerate(EDITS.items()):
        setting = {"panel": "alignment", "edit": edit, "sight": sight, "aspect": 1.0}
        for theta in np.linspace(0.02, 5, 120):
            rows.append(law(laws.alignment(theta, 1.0, sight), theta=theta, **setting))
        for step, theta in enumerate(np.linspace(0.5, 5, 10)):
            runs = _alignments(theta, 1.0, 96, sight, _keys(_key(0, place, step), draws))
            predicted = laws.alignment(theta, 1.0, sight)
            rows.append(point(predicted, np.asarray(runs), theta=theta, features=96, **setting))
    config = one_layer.ModelConfig(entities=WIDTH, dim=104, features=WIDTH, activation="identity", fillers=2)
    subjects, relations = jnp.arange(WIDTH), jnp.asarray([48, 49])
    for place, (kind, (build, first, second, noise)) in enumerate(PROMPTS.items()):
        columns = build(subjects, subjects + WIDTH)
        prompt = jnp.stack([jnp.broadcast_to(jnp.asarray(column), (WIDTH,)) for column in columns], axis=-1)
        runs = np.asarray(_gates(config, prompt, relations, _keys(_key(1, place), _more(profile, 48))))
        for column, edit in enumerate(LIBRARIES):
            predicted = _choice(edit, first, second, noise)
            where = {"panel": "selection", "edit": edit, "prompt": kind, "place": place}
            rows.append(point(predicted, runs[:, column], **where))
    cases = ((3.0, 1.0), (2.0, 0.8), (1.0, 1.0), (3.0, 0.0))
    for place, (theta, sight) in enumerate(cases):
        for features, count in ((16, 96), (32, 96), (64, 48), (128, 24), (256, 8)):
            keys = _keys(_key(2, place, features), _more(profile, count))
            runs = np.asarray(_alignments(theta, 1.0, features, sight, keys))
            setting = {"panel": "convergence", "theta": theta, "sight": sight, "features": features}
            rows.append(gap(laws.alignment(theta, 1.0, sight), runs, **setting))
    return pd.DataFrame(rows)


@figure(
    "Arrow's prototype holds what the prompts of an adapter share, above a sharp threshold and only if the "
    "edit moves the answer marginal: sighted Arrow follows the last relation, blind Arrow the entity.",
    "Left: spiked features, c = m/F = 1, m = 96, 24 draws. Middle: one-layer model without relu, "
    "F = N = m = 24, two adapters, 48 draws; bars: law, which takes a flat spectrum; permuted answers, "
    "drawn hollow, have an uneven one and no law of their own. Right: measured minus limit, "
    "c = 1, 96, 96, 48, 24, 8 draws at m = 16 to 256 (quick profile; paper: 8 times as many).",
    "section 10",
    _arrow,
)
def arrow(rows: pd.DataFrame):
    """Alignment against theta, choice of adapter 1 by prompt, and the convergence of the alignment."""
    picture, (left, middle, right) = style.figure(
        style.PAGE, 2.5, ncols=3, gridspec_kw={"width_ratios": (1, 1.45, 1)}
    )
    for series, (edit, (_, label)) in enumerate(EDITS.items()):
        part = rows[(rows["panel"] == "alignment") & (rows["edit"] == edit)]
        line(left, part, "theta", series)
        points(left, part, "theta", series, label)
    left.set(xlabel="θ = |μ|/σ", ylabel="⟨v₁, μ̂⟩²", ylim=(-0.03, 1.25))
    left.legend(loc="upper left")
    chosen = rows[rows["panel"] == "selection"]
    for edit, series, shift in zip(LIBRARIES, (0, 2, 3), (-0.2, 0.05, 0.25), strict=True):
        part = chosen[chosen["edit"] == edit]
        if edit != "permuted":
            middle.hlines(
                part["predicted"],
                part["place"] - (0.38 if edit == "sighted" else 0.05),
                part["place"] + (0.0 if edit == "sighted" else 0.4),
                color=style.COLOURS[series],
            )
        points(middle, part, "place", series, edit, hollow=edit == "permuted", shift=shift)
    names = chosen.drop_duplicates("place").sort_values("place")["prompt"]
    middle.set_xticks(range(len(names)), list(names), fontsize=6)
    middle.set(ylabel="P(adapter 1 chosen)", ylim=(-0.03, 1.25))
    middle.legend(loc="upper center", ncols=3, columnspacing=0.8, handletextpad=0.2)
    right.axhline(0, color="black", linewidth=0.8)
    converging = rows[rows["panel"] == "convergence"]
    for series, ((theta, sight), part) in enumerate(converging.groupby(["theta", "sight"], sort=False)):
        shifted = part.assign(features=part["features"] * 1.06 ** (series - 1.5))
        points(right, shifted, "features", series, f"θ = {theta:g}, τ = {sight:g}")
    right.set_xscale("log")
    right.set_xticks([16, 64, 256], ["16", "64", "256"])
    right.minorticks_off()
    right.set(xlabel="features m", ylabel="measured − limit")
    right.legend(loc="upper right", fontsize=6)
    return picture


STRENGTHS = (3.0, 2.2, 1.5, 1.0, 0.6, 0.3)
OUT, KEYS, RANK = 7, 9, 3
SHOWN = 0.05  # |A_0| of the paths


def _problem() -> tuple[jax.Array, jax.Array]:
    """Whitened keys (6, 9) and a residual (6, 7) with modes ``STRENGTHS``."""
    facts = len(STRENGTHS)
    keys = descents.whitened_keys(facts, KEYS, _key(3, 0))
    left = descents.whitened_keys(facts, OUT, _key(3, 1))
    right = descents.whitened_keys(facts, facts, _key(3, 2))
    return keys, right.T @ (jnp.asarray(STRENGTHS)[:, None] * left)


def _flow(profile: str) -> pd.DataFrame:
    keys, residual = _problem()
    gradient, rows = residual.T @ keys, []
    draws, step, every, places = _more(profile, 8), 0.005, 60, 17

    def values(product):
        return jnp.linalg.svd(product, compute_uv=False)[:RANK]

    def zero(start):
        return LowRank(jnp.zeros((OUT, RANK), jnp.float64), start)

    def starts(size, root):
        return jax.lax.map(lambda key: descents.start_on(keys, RANK, size, key), _keys(root, draws))

    def law_path(start, times):
        return jax.lax.map(lambda time: values(dense(flow_law.flow(gradient, start, time))), times)

    def path(start):
        def one(factors, _):
            after = descents.descend(keys, residual, factors, step, every)
            return after, values(dense(after))

        return jax.lax.scan(one, zero(start), None, length=places)[1]

    chosen = starts(SHOWN, _key(4))
    fine, coarse = jnp.linspace(0.0, step * every * places, 171), step * every * jnp.arange(1, places + 1)
    lines = np.asarray(jax.jit(law_path)(chosen[0], fine))
    at_points = np.asarray(jax.jit(law_path)(chosen[0], coarse))
    measured = np.asarray(jax.jit(path)(chosen[0]))
    for mode in range(RANK):
        setting = {"panel": "path", "mode": mode + 1, "strength": STRENGTHS[mode], "size": SHOWN}
        rows += [law(value, time=float(t), **setting) for t, value in zip(fine, lines[:, mode], strict=True)]
        for t, predicted, found in zip(coarse, at_points[:, mode], measured[:, mode], strict=True):
            row = law(predicted, time=float(t), step=step, **setting)
            rows.append({**row, "measured": found, "low": found, "high": found, "draws": 1})

    end = 1.2

    @functools.partial(jax.jit, static_argnums=2)
    def distances(starts, wanted, steps):
        def one(pair):
            found = descents.descend(keys, residual, zero(pair[0]), end / steps, steps)
            return jnp.linalg.norm(dense(found) - pair[1]) / jnp.linalg.norm(pair[1])

        return jax.lax.map(one, (starts, wanted))

    at_end = jax.jit(lambda some: jax.lax.map(lambda a: dense(flow_law.flow(gradient, a, end)), some))
    for place, size in enumerate((0.05, 0.5, 2.0)):
        some = starts(size, _key(5, place))
        exact = at_end(some)
        for steps in (20, 40, 80, 160, 320, 640):
            runs = np.asarray(distances(some, exact, steps))
            rows.append(point(np.nan, runs, panel="step", size=size, step=end / steps))

    half_times = jax.jit(functools.partial(_half_times, gradient))
    for place, size in enumerate((1e-1, 1e-2, 1e-3, 1e-4, 1e-5)):
        some = starts(size, _key(6, place))
        errors = np.asarray(half_times(some))
        rows.append(point(0.0, errors, panel="half-times", size=size))
    return pd.DataFrame(rows)


def _half_times(gradient, starts) -> jax.Array:
    """Mean relative error over the modes of ``learning_times``, a start at a time, on the exact flow."""
    u, s, vt = jnp.linalg.svd(gradient, full_matrices=False)

    def strength(start, time, mode):
        return u[:, mode] @ dense(flow_law.flow(gradient, start, time)) @ vt[mode] / s[mode]

    def half(start, mode):
        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            low = strength(start, middle, mode) < 0.5
            return jnp.where(low, middle, ends[0]), jnp.where(low, ends[1], middle)

        return jax.lax.fori_loop(0, 26, halve, (jnp.asarray(0.0), jnp.asarray(30.0)))[0]

    def one(start):
        found = jax.lax.map(lambda mode: half(start, mode), jnp.arange(RANK))
        return jnp.mean(jnp.abs(flow_law.learning_times(gradient, start) / found - 1))

    return jax.lax.map(one, starts)


@figure(
    "Gradient descent on a LoRA follows the closed-form flow, strongest mode first, with an error in "
    "proportion to the step; the rank is spent on the first r modes to be learned.",
    "Whitened keys, 6 facts with modes 3, 2.2, 1.5, 1, 0.6, 0.3, rank 3, B = 0. Left: singular values of ΔW "
    "from one start with |A₀| = 0.05, optax.sgd with step 0.005; dotted: modes. Middle: relative "
    "distance to the flow at t = 1.2, 8 starts; dashed: proportional to the step. "
    "Right: error of the predicted half-times against the exact flow, 8 starts (paper profile: 64).",
    "section 11",
    _flow,
)
def lora_flow(rows: pd.DataFrame):
    """Singular-value paths, the gap of descent to the flow against the step, and half-times."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.3, ncols=3)
    for series in range(RANK):
        part = rows[(rows["panel"] == "path") & (rows["mode"] == series + 1)]
        line(left, part, "time", series)
        points(left, part, "time", series)
        top = part["strength"].iloc[0]
        left.text(0, top + 0.03, f"mode {series + 1}", color=style.COLOURS[series], fontsize=7)
        left.axhline(top, color=style.COLOURS[series], linewidth=0.6, linestyle=":")
    left.set(xlabel="time (steps × step size)", ylabel="singular values of ΔW", ylim=(-0.1, 3.4))
    steps = rows[rows["panel"] == "step"]
    for series, (size, part) in enumerate(steps.groupby("size")):
        points(middle, part, "step", series, f"|A₀| = {size:g}")
        first = part.sort_values("step").iloc[0]
        x = np.array([part["step"].min(), part["step"].max()])
        guide = first["measured"] * x / first["step"]
        middle.plot(x, guide, color=style.COLOURS[series], linestyle="--", linewidth=0.8)
    middle.set(xscale="log", yscale="log", xlabel="step size", ylabel="relative distance to the flow")
    middle.set_ylim(top=5)
    middle.set_xticks([0.003, 0.01, 0.03], ["0.003", "0.01", "0.03"])
    middle.minorticks_off()
    middle.legend(loc="upper left")
    points(right, rows[rows["panel"] == "half-times"], "size", 0)
    right.set(xscale="log", xlabel="|A₀|", ylabel="relative error of half-times", ylim=(0, None))
    return picture
