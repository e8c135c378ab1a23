"""Factors in the narrow type of a file: balanced, so that rounding costs little, and the cost measured."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from theory.lowrank import LowRank, inner

MOST = 0.01
"""The largest share of a module's update that rounding may cost unless the user allows more."""

OFFERED = ("float16", "bfloat16", "float32")
"""Types whose losses are compared where one loses too much."""

NOISE = 1e-5
"""Merges are computed in float32, which leaves 6e-8 of terms that cancel: an update below this share of its
rank-one terms is itself not known to ``MOST``."""


@dataclass(frozen=True)
class Rounding:
    """What the cast to ``dtype`` costs the module that loses most (``round_factors``)."""

    dtype: str
    module: str
    loss: float


def balance(update: LowRank) -> LowRank:
    """The same Delta W in float64 with scale 1, each column of B as long as its row of A, to a power of two.

    scale * b_k a_k = (2^n scale b_k)(2^-n a_k), n = round(log2(|a_k| / |scale b_k|) / 2): the two norms
    differ by at most a factor of two, and no digit changes. With all of a small scale in B, its entries fall
    below 6e-5, where float16 has fewer digits, or 3e-8, where it has none. Every rank-one term has a power of
    its own, because adapters of very different scales may be stacked in one module.
    """
    b = np.asarray(update.b, np.float64) * float(update.scale)
    a = np.asarray(update.a, np.float64)
    columns, rows = np.linalg.norm(b, axis=0), np.linalg.norm(a, axis=1)
    ratio = np.divide(rows, columns, out=np.ones_like(rows), where=(columns > 0) & (rows > 0))
    power = np.round(np.log2(ratio) / 2).astype(int)
    return LowRank(np.ldexp(b, power), np.ldexp(a, -power[:, None]), 1.0)


def round_factors(
    update: LowRank, dtype: str
) -> tuple[Float[np.ndarray, "out r"], Float[np.ndarray, "r in"], float]:
    """(B', A', |B' A' - B A|_F / |B A|_F): the balanced factors in the type, and what the cast costs.

    The norm of ``B' A' - B A = [B' - B, B] [A'; A' - A]`` comes from the Gram matrices of the stacked
    factors; no Delta W is formed. The loss of an update of zero is 0, and infinite if a number is too large
    for the type. An update whose terms cancel counts as ``NOISE`` times their size at least.
    """
    b, a, _ = exact = balance(update)
    with np.errstate(over="ignore"):
        left, right = (side.astype(np.dtype(dtype)) for side in (b, a))
    if not (np.isfinite(left).all() and np.isfinite(right).all()):
        return left, right, np.inf
    wide = left.astype(np.float64), right.astype(np.float64)
    change = LowRank(np.concatenate([wide[0] - b, b], axis=1), np.concatenate([wide[1], wide[1] - a]))
    terms = float(np.linalg.norm(b, axis=0) @ np.linalg.norm(a, axis=1))
    size = max(_norm(exact), NOISE * terms)
    return left, right, _norm(change) / size if size else 0.0


def refuse_loss(modules: Mapping[str, LowRank], rounding: Rounding) -> None:
    """Raise ValueError if more than ``MOST`` of a module is lost; it says what the other types would lose."""
    if rounding.loss <= MOST:
        return
    losses = {
        dtype: max(round_factors(update, dtype)[2] for update in modules.values())
        for dtype in OFFERED
        if dtype != rounding.dtype
    }
    offers = [f"--dtype {dtype} (loses at most {share(loss)})" for dtype, loss in losses.items()]
    raise ValueError(
        f"{rounding.module} loses {share(rounding.loss)} of its update by rounding to {rounding.dtype}: "
        f"choose {' or '.join(offers)}, or write it all the same by --allow-rounding"
    )


def share(loss: float) -> str:
    """A loss as a percentage."""
    return f"{100 * loss:.2g}%" if np.isfinite(loss) else "all: a number is too large"


def _norm(update: LowRank) -> float:
    """|Delta W|_F; what rounding leaves of a square of zero may be negative."""
    return float(np.sqrt(max(inner(update, update), 0.0)))
