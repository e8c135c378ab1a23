"""Notebook 1: what one edit does elsewhere, and how a LoRA learns its modes."""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
from jaxtyping import Array, Float
from matplotlib.figure import Figure

from sim.lab import style
from sim.tour.curves import Curve, curves
from sim.twins import dynamics as twin
from theory import crosstalk, dynamics, lowrank, model


@style.styled
def leads(lam: float) -> Figure:
    """Logits of the old and the new answer of an exact overwrite against lambda, and at this one."""
    grid = np.linspace(0, 1.5, 2)
    old, new = (
        Curve("old answer", grid, 1 - grid, [lam], [1 - lam]),
        Curve("new answer", grid, grid, [lam], [lam]),
    )
    return curves(old, new, xlabel="share of the edit, λ", ylabel="logit", ylim=(-0.6, 1.6))


def overlaps(
    config: model.ModelConfig, prompts: Mapping[str, Array], phi: Mapping[str, Float[Array, "N m"]]
) -> pd.DataFrame:
    """Overlap kappa of the edits of p1 with other prompts: by the kernel, and in this model."""
    size = jnp.sum(phi["p1(a)"] ** 2, axis=1)[:, None]
    kappas = {name: phi["p1(a)"] @ features.T / size for name, features in phi.items()}
    same = jnp.eye(config.entities, dtype=bool)
    places = {
        "other subject, same relation": ("p1(a)", 1, ~same),
        "a bridge under REL2: nothing shared": ("p2(b)", 0, same | ~same),
        "two-hop prompt of the same subject": ("p12(a)", 0, same),
        "two-hop prompt of another subject": ("p12(a)", 1, ~same),
    }
    rows = {
        what: {
            "κ, theory": float(crosstalk.prompt_kappa(config, prompts["p1(a)"][0], prompts[kind][index])),
            "measured in this model": float(jnp.mean(kappas[kind], where=pairs)),
        }
        for what, (kind, index, pairs) in places.items()
    }
    return pd.DataFrame(rows).T.round(3)


def learned(
    modes: Float[np.ndarray, "6"], rank: int, key: Array, end: float = 7.0
) -> tuple[Figure, pd.DataFrame, float]:
    """Singular values of BA while six facts of these modes are learned: closed form, descent, half-times.

    Returns the picture, a table of half-times (predicted, and read off the closed form) of the first ``rank``
    modes, and the largest gap between descent (2000 small steps) and the closed form.
    """
    parts = [jax.random.fold_in(key, 10 + index) for index in range(4)]
    keys = twin.whitened_keys(6, 9, parts[0])
    left, right = twin.whitened_keys(6, 7, parts[1]), twin.whitened_keys(6, 6, parts[2])
    wanted = right.T @ (jnp.asarray(modes)[:, None] * left)
    start = twin.start_on(keys, rank, 1e-2, parts[3])
    gradient = wanted.T @ keys
    flow, singular = jax.jit(dynamics.flow), jax.jit(lowrank.singular)
    descend = jax.jit(twin.flow, static_argnames="steps")
    times, marks = np.linspace(0.05, end, 80), np.linspace(1.0, end, 7)
    law = np.array([singular(flow(gradient, start, t))[1] for t in times])
    exact = np.array([singular(flow(gradient, start, t))[1] for t in marks])
    points = np.array([singular(descend(keys, wanted, start, t, steps=2000))[1] for t in marks])
    series = [
        Curve(f"mode {modes[i]:g}", times, law[:, i], marks, [[value] for value in points[:, i]])
        for i in range(rank)
    ]
    picture = curves(*series, xlabel="time (step size × steps)", ylabel="singular values of BA")
    half_times = np.asarray(dynamics.learning_times(gradient, start))[:rank]
    for index, time in enumerate(half_times):
        picture.axes[0].axvline(time, color=style.COLOURS[index], linestyle=":", linewidth=0.8)
    read_off = [np.interp(modes[i] / 2, law[:, i], times) for i in range(rank)]
    table = pd.DataFrame(
        {"half-time, predicted": half_times, "half-time, read off": read_off},
        index=pd.Index([one.name for one in series]),
    )
    return picture, table.round(2), float(np.abs(points - exact).max())
