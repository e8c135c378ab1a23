"""Sign election: TIES and its relatives (Yadav et al. 2023, arXiv 2306.01708), on the entries of Delta W."""

from collections.abc import Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.elementwise import count_entries, map_rows, sum_updates, threshold, threshold_of
from sim.merge.registry import method
from theory.lowrank import LowRank

VOTES = ("mass", "count")


def elected(total: Array, noise: float | Array) -> Array:
    """The sign of a total; 0 where it is no more than the rounding of what was added up."""
    return jnp.where(jnp.abs(total) > noise, jnp.sign(total), 0)


def rounding(entries: Float[Array, "K n in"]) -> Float[Array, "n in"]:
    """What the rounding of K entries, each a product of factors, may leave of a sum that is zero."""
    return 32 * jnp.finfo(entries.dtype).eps * sum_updates(jnp.abs(entries))


def elected_mean(
    entries: Float[Array, "K n in"], vote: str = "mass", noise: float | Array | None = None
) -> Float[Array, "n in"]:
    """Disjoint merge: the mean of the entries whose sign won the vote, 0 where none did.

    vote "mass": the sign of sum_i tau_i, and none where the sum is below ``noise`` (``rounding`` by default).
    vote "count": the sign held by more updates (zeros abstain), a draw settled by mass, so that negating
    every update negates the merge.
    """
    if vote not in VOTES:
        raise ValueError(f"vote must be one of {', '.join(VOTES)}, not {vote!r}")
    winner = elected(sum_updates(entries), rounding(entries) if noise is None else noise)
    if vote == "count":
        ballots = jnp.sign(sum_updates(jnp.sign(entries)))
        winner = jnp.where(ballots == 0, winner, ballots)
    agrees = (jnp.sign(entries) == winner[None]) & (entries != 0)
    count = jnp.maximum(sum_updates(agrees.astype(entries.dtype)), 1)
    return sum_updates(jnp.where(agrees, entries, 0)) / count


def trimmed(entries: Float[Array, "K n in"], at: Float[Array, "K"]) -> Float[Array, "K n in"]:
    """Entries of magnitude at least ``at`` of their update; the others 0."""
    return jnp.where(jnp.abs(entries) >= at[:, None, None], entries, 0)


def voted(
    stack: Float[Array, "K m n"], weights: Array, density: float, vote: str, count: Array, noise: Array
) -> Float[Array, "m n"]:
    """TIES of K matrices that are known to ``noise`` (K,), of which ``count`` entries are not zero by
    construction. Rounding elects no sign."""
    stack = jnp.where(jnp.abs(stack) > noise[:, None, None], stack, 0)
    keep = jnp.maximum(jnp.floor(density * count + 1e-9).astype(int), 1)
    at = jnp.stack([threshold_of(jnp.abs(one), keep) for one in stack])
    return elected_mean(weights[:, None, None] * trimmed(stack, at), vote, jnp.sum(jnp.abs(weights) * noise))


@method("sign", dense=True, identity={"density": 1.0})
def ties(
    updates: Sequence[LowRank], weights: Float[Array, "K"], *, density: float = 0.2, vote: str = "mass"
) -> Float[Array, "out in"]:
    """TIES: trim each Delta W to its largest entries, elect a sign an entry, average those that agree.

    tau_i keeps the floor(density * out * in) entries of largest magnitude (entries tied with the last one
    are kept too); with weighted entries w_i tau_i, the merge is the mean over the updates whose sign won
    (by total mass, or by count). Dividing by the number of winners, not by weights, is the paper's rule
    and PEFT's. density 0.2 is the paper's default.
    """
    keep = count_entries(density, updates[0].b.shape[0] * updates[0].a.shape[1])
    return map_rows(updates, _rows, weights, *threshold(updates, keep), vote=vote)


def _rows(entries: Array, rows: Array, weights: Array, at: Array, *, vote: str) -> Array:
    return elected_mean(weights[:, None, None] * trimmed(entries, at), vote)
