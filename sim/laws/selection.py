"""Section 10: alignment and choices of Arrow's prototypes against routed adapters, and the figure."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import average, check, exact, rate
from sim.lab.figure import LINES, Source, figure, law, line, point, points, points_across
from sim.lab.seeds import Effort
from sim.model.routers import published
from sim.twins import selection as twin
from theory import selection as closed
from theory.lowrank import LowRank
from theory.model import ModelConfig, gaussian


@functools.partial(jax.jit, static_argnums=(1, 2))
def _alignments(theta, aspect: float, features: int, sight, keys: jax.Array) -> jax.Array:
    return jax.lax.map(functools.partial(twin.alignment, theta, aspect, sight, features), keys)


@check("Arrow: alignment of the prototype", "10a", "asymptotic")
def _alignment(effort: Effort):
    """Off by less than 1/m above the transition."""
    cases = ((0, (3.0, 1.0, 1.0)), (2, (2.0, 1.0, 0.8)), (1, (2.0, 2.0, 1.0)))
    for (place, (theta, aspect, sight)), features in effort.some(
        [(case, features) for case in cases for features in (16, 32, 64, 128)]
    ):
        keys = seeds.keys(seeds.key(25, place, features), effort(32))
        runs = _alignments(theta, aspect, features, sight, keys)
        text = f"theta={theta}, c={aspect}, tau={sight}, m={features}"
        yield average(text, closed.alignment(theta, aspect, sight), runs, slack=1 / features)


@check("Arrow: alignment with orthogonal keys", "10a", "exact")
def _orthogonal(effort: Effort):
    for facts in effort.some((3, 7, 12, 1, 2, 5, 9, 16)):
        frame = jnp.linalg.qr(gaussian(seeds.key(26, facts), (20, facts + 1)))[0].T
        prototype = published.arrow(LowRank(jnp.eye(facts), frame[:1] + frame[1:]))[0]
        measured = jnp.square(prototype @ frame[0])
        yield exact(f"F={facts}, m=20", closed.alignment_orthogonal(facts), measured, 1e-9)


GATES = ((2.0, 1.0, 2, 1.0, 1), (2.0, 1.0, 4, 1.0, 1), (2.0, 1.0, 4, 0.5, 2))
"""(theta, aspect, adapters, temperature, top k)."""


@functools.partial(jax.jit, static_argnums=(0, 1))
def _gated(case: tuple, features: int, keys: jax.Array) -> jax.Array:
    """Mean gate of the right adapter in each draw of a case of ``GATES``."""
    *model, temperature, top_k = case

    def one(key):
        gates = twin.gates(*model, features, key, temperature=temperature, top_k=top_k)
        return gates[:, 0].mean()

    return jax.lax.map(one, keys)


@check("Arrow: gate of the right adapter", "10b", "asymptotic")
def _gates(effort: Effort):
    """Off by less than 1/m, like the alignment that the scores are made of."""
    cases = [(place, case, features) for place, case in enumerate(GATES) for features in (16, 32, 48)]
    for place, case, features in effort.some(cases):
        theta, aspect, adapters, temperature, top_k = case
        keys = seeds.keys(seeds.key(27, place, features), effort(32))
        right = closed.score_law(theta, aspect)
        wrong = closed.score_law(theta, aspect, 0.0, other=1.0, features=features)
        mean, spread = zip(right, *[wrong] * (adapters - 1), strict=True)
        predicted = closed.expected_gate(mean, spread, temperature, top_k)[0]
        text = f"theta={theta}, c={aspect}, K={adapters}, T={temperature}, top {top_k}, m={features}"
        yield average(text, predicted, _gated(case, features, keys), slack=1 / features)


class Prompt(NamedTuple):
    """A prompt of the one-layer model and what it holds for Arrow.

    words: its name in the figure.
    tokens: (subject a, bridge b, REL1, filler) -> its tokens; REL2 and a second filler follow REL1 and the
    filler. first, second: (load, seen) of adapters 1 and 2, as ``closed.score_law`` takes them.
    """

    words: str
    tokens: Callable
    first: tuple[float, float]
    second: tuple[float, float]
    noise: float


PROMPTS = {
    "p1": Prompt("hop 1", lambda a, b, r, s: [a, r], (1.0, 1.0), (0.0, 0.0), 1.0),
    "p1, other's\nentity": Prompt(
        "hop 1 of a hop 2 entity", lambda a, b, r, s: [b, r], (1.0, 0.0), (0.0, 1.0), 1.0
    ),
    "p2": Prompt("hop 2", lambda a, b, r, s: [b, r + 1], (0.0, 0.0), (1.0, 1.0), 1.0),
    "p12": Prompt("both hops at once", lambda a, b, r, s: [a, r, r + 1], (0.0, 1.0), (1.0, 0.0), 2.0),
    "CoT\nstep 1": Prompt(
        "step 1 of a trace", lambda a, b, r, s: [a, r, r + 1, s, a, r], (1.0, 2.0), (0.0, 0.0), 7.0
    ),
    "CoT\nstep 2": Prompt(
        "step 2 of a trace",
        lambda a, b, r, s: [a, r, r + 1, s, a, r, b, s + 1, b, r + 1],
        (0.0, 2.0),
        (1.0, 2.0),
        15.0,
    ),
}
LIBRARIES = ("sighted", "blind", "permuted")


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _chosen(kind: str, size: int, edits: tuple[twin.Edit, ...], keys: jax.Array) -> jax.Array:
    """Share of ``size`` prompts of a kind that go to adapter 1, (draws, edits): F = N = m = ``size``."""
    config = ModelConfig(size, 4 * size + 8, size, activation="identity", fillers=2)
    subjects, first = jnp.arange(size), 2 * size
    tokens = PROMPTS[kind].tokens(subjects, subjects + size, first, first + 2)
    prompt = jnp.stack([jnp.broadcast_to(jnp.asarray(token), (size,)) for token in tokens], axis=-1)
    relations = jnp.asarray([first, first + 1])

    def one(key):
        gates = [twin.prompt_gates(config, size, prompt, edit, 1, relations, key) for edit in edits]
        return jnp.stack(gates).mean(axis=1)[:, 0]

    return jax.lax.map(one, keys)


def _choice(edit: str, kind: str, size: int) -> float:
    """Probability that adapter 1 has the larger score; a blind prototype meets any mean by chance only."""
    prompt, both = PROMPTS[kind], []
    for (load, seen), (other, _) in ((prompt.first, prompt.second), (prompt.second, prompt.first)):
        if edit == "sighted":
            options = {"sight": 1.0, "other": other}
        else:
            options = {"sight": 0.0, "other": load + other}
            load = 0.0
        both.append(
            closed.score_law(size**0.5, 1.0, load, seen=seen, noise=prompt.noise, features=size, **options)
        )
    return float(closed.selection(*zip(*both, strict=True))[0])


@check("Arrow: choice at each prompt", "10", "asymptotic")
def _selection(effort: Effort):
    """Off by less than 1/m."""
    kinds = enumerate(("p1", "p1, other's\nentity", "p2", "p12"))
    for (place, kind), size in effort.some([(kind, size) for kind in kinds for size in (12, 24)]):
        keys = seeds.keys(seeds.key(28, size, place), effort(24))
        runs = _chosen(kind, size, ("sighted",), keys)[:, 0]
        text = f"{kind}, F=N=m={size}, adapter 1 chosen".replace("\n", " ")
        yield rate(text, _choice("sighted", kind, size), runs, size, slack=1 / size)


EDITS = {"sighted": (1.0, "sighted (τ = 1)"), "partly": (0.8, "τ = 0.8"), "blind": (0.0, "blind (τ = 0)")}
WIDTH = 24  # entities, facts and features of the one-layer model, so that theta^2 = 24 and c = 1


def _collect(source: Source) -> pd.DataFrame:
    effort, rows = source.effort, []
    for place, (edit, (sight, _)) in effort.some(list(enumerate(EDITS.items()))):
        setting = {"panel": "alignment", "edit": edit, "sight": sight, "aspect": 1.0}
        for theta in np.linspace(0.02, 5, 120):
            rows.append(law(closed.alignment(theta, 1.0, sight), theta=theta, **setting))
        for step, theta in effort.some(list(enumerate(np.linspace(0.5, 5, 10)))):
            keys = seeds.keys(seeds.key(0, place, step), effort(24))
            runs = np.asarray(_alignments(theta, 1.0, 96, sight, keys))
            predicted = closed.alignment(theta, 1.0, sight)
            rows.append(point(predicted, runs, theta=theta, features=96, **setting))
    for place, kind in effort.some(list(enumerate(PROMPTS))):
        keys = seeds.keys(seeds.key(1, place), effort(48))
        runs = np.asarray(_chosen(kind, WIDTH, LIBRARIES, keys))
        for column, edit in enumerate(LIBRARIES):
            setting = {"panel": "selection", "edit": edit, "prompt": kind, "place": place}
            rows.append(point(_choice(edit, kind, WIDTH), runs[:, column], **setting))
    return pd.DataFrame(rows)


@figure(
    "Arrow's prototype holds what the prompts of an adapter share, above a sharp threshold and only if the "
    "edit moves the answer marginal: sighted Arrow follows the last relation, blind Arrow the entity.",
    "Two adapters, each taught one hop by F edits; m features, c = m/F = 1. τ: how far an edit moves the "
    "answer marginal, sighted all the way, blind not at all." + LINES,
    _collect,
    section="section 10",
    panels=(
        "Alignment of the prototype v₁ with the mean μ of an adapter's keys, of spread σ; m = 96.",
        "How often a prompt goes to the adapter of hop 1, in the one-layer model without relu, F = N = m = "
        "24. Strokes: law, which takes a flat spectrum; permuted answers, hollow, have an uneven one and no "
        "law of their own.",
    ),
)
def arrow(rows: pd.DataFrame):
    """Alignment against theta, and choice of adapter 1 by prompt, most often first."""
    picture, (left, right) = style.figure(style.PAGE, 2.9, ncols=2, width_ratios=(1, 1.3))
    looks = dict(zip(EDITS, style.levels(len(EDITS)), strict=True))
    looks["permuted"] = style.Look("#17966B", "D")
    for edit, (_, label) in EDITS.items():
        part = rows[(rows["panel"] == "alignment") & (rows["edit"] == edit)]
        line(left, part, "theta", looks[edit])
        points(left, part, "theta", looks[edit], label)
    left.set(xlabel="θ = |μ|/σ", ylabel="alignment ⟨v₁, μ̂⟩²", title="prototype")
    style.unit(left)
    chosen = rows[rows["panel"] == "selection"]
    sighted = chosen[chosen["edit"] == "sighted"].sort_values("measured", ascending=False, kind="stable")
    prompts = list(sighted["prompt"])
    for edit, shift in zip(LIBRARIES, (-0.25, 0.02, 0.25), strict=True):
        part, label = chosen[chosen["edit"] == edit], EDITS[edit][1] if edit in EDITS else edit
        series, hollow = looks[edit], edit == "permuted"
        drawn = points_across(right, part.set_index("prompt"), prompts, shift, series, label, hollow)
        if not hollow:
            right.vlines(drawn["predicted"], drawn["y"] - 0.13, drawn["y"] + 0.13, color=series.colour)
    style.rows([right], [PROMPTS[prompt].words for prompt in prompts])
    right.set(xlabel="P(adapter of hop 1 is chosen)", title="choice by prompt")
    style.unit(right, "x")
    style.key(picture, [left, right])
    return picture
