"""Chain of thought as the bridge: k hops as a product of k steps (theory/README.md, section 9).

A solution trace restates each hop in a known template, and decoding re-embeds every bridge it writes:

    P(k hops) = P(template kept) * prod_l P(hop l right in its context | hops before it right)

Each step obeys the coverage law with its own overlap: kappa between the prompt as it stands in the trace
and the prompt in the adapter's data. Facts meet at random along the chain: that is the product's spread.
"""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from theory import coverage, crosstalk, starvation
from theory import model as one_layer


def product(steps: Float[Array, "*batch hops"], template: Float[Array, "*batch"] | float = 1.0) -> Array:
    """P(template kept) * prod over hops of the (conditional) step accuracies: exact by the chain rule."""
    return jnp.asarray(template, jnp.float64) * jnp.prod(jnp.asarray(steps, jnp.float64), axis=-1)


def solved(
    lam: Float[Array, "hops facts"] | float,
    overlap: Float[Array, "hops facts"],
    share: Float[Array, "hops facts"],
    margin: Float[Array, "hops facts"] | float = 1.0,
    swing: Float[Array, "hops facts"] | float = 2.0,
) -> Array:
    """Deterministic form, (facts,) booleans: chain j is solved iff the coverage law holds at its every hop.

    Column j holds the facts of chain j, hop by hop, in its own contexts. Exact when each fact has one rival.
    """
    return jnp.all(coverage.decides(lam, overlap, share, margin, swing), axis=0)


def step_accuracy(
    facts: int,
    rank: int,
    lam: float,
    overlap: float | Float[np.ndarray, "..."] = 1.0,
    margin: float | Float[np.ndarray, "..."] = 1.0,
    swing: float | Float[np.ndarray, "..."] = 2.0,
) -> float:
    """Averaged form: mean of P(lambda kappa rho Delta > M), rho ~ Beta(r/2, (F-r)/2).

    One hop of F distinct overwrites by a rank-r adapter: ``starvation.overwrite_recall`` at
    lambda kappa Delta / (2 M). kappa, M and Delta are taken as independent of rho. A base without a lead
    (M <= 0) loses to any positive strength. Raises ValueError for facts or rank below 1.
    """
    overlap, margin, swing = np.broadcast_arrays(
        *(np.asarray(v, np.float64) for v in (overlap, margin, swing))
    )
    push = np.maximum(lam * overlap * swing, 0.0)
    effective = np.where(
        margin > 0, push / (2 * np.where(margin > 0, margin, 1.0)), np.where(push > 0, np.inf, 0)
    )
    return float(np.mean(starvation.overwrite_recall(facts, rank, np.minimum(effective, 1e9))))


def matched(steps: Float[np.ndarray, "hops"], facts: int) -> tuple[float, float]:
    """(mean, standard deviation) of k-hop accuracy over F chains whose facts meet by random bijections.

    ``steps`` are the shares of the F facts of each hop that are right. Survivors after each hop are
    hypergeometric, H_l | H_{l-1} ~ Hyp(F, H_{l-1}, n_l) with n_l = F p_l: the mean is the plain product, and
    E[H_l (H_l - 1)] = E[H_{l-1} (H_{l-1} - 1)] n_l (n_l - 1) / (F (F - 1)). Exact when the step events do not
    depend on who meets whom. Two hops: variance p q (1-p) (1-q) / (F - 1).
    Raises ValueError for fewer than 2 facts or a share outside [0, 1].
    """
    steps = np.asarray(steps, np.float64)
    if facts < 2:
        raise ValueError(f"facts is {facts}; matching needs at least 2")
    if (steps < 0).any() or (steps > 1).any():
        raise ValueError(f"steps {steps.tolist()} must be shares from 0 to 1")
    mean = np.prod(steps)
    counts = facts * steps
    pairs = facts * (facts - 1) * np.prod(counts * (counts - 1) / (facts * (facts - 1)))
    variance = pairs / facts**2 + mean / facts - mean**2
    return float(mean), float(max(variance, 0.0) ** 0.5)


def bounds(steps: Float[np.ndarray, "hops"]) -> tuple[float, float]:
    """[max(0, sum p - (k - 1)), min p]: all the step accuracies alone allow, however correlated (Frechet)."""
    steps = np.asarray(steps, np.float64)
    return float(max(0.0, steps.sum() - (len(steps) - 1))), float(steps.min())


def kernel_overlap(
    config: one_layer.ModelConfig, stored: Sequence[Int[Array, "facts length"]], read: Int[Array, "prompts n"]
) -> Float[Array, "facts prompts"]:
    """c = G^-1 g(read), the m -> infinity limit of ``crosstalk.edit_overlap``, for orthonormal embeddings.

    G_ij = |u_i| |u_j| arc(cos(u_i, u_j)) is the arc-cosine kernel of the pre-feature vectors (for the linear
    model their inner product). A full-rank least-squares adapter on the stored prompts changes the logits at
    a read prompt, extra tokens and all, by R c: c of the own fact is its kappa in that context. The base's
    logits there are its targets times its own c. ``stored`` may hold groups of prompts of different length.
    """

    tokens = config.tokens
    basis = jnp.eye(2 * tokens, dtype=jnp.float64)
    ideal = one_layer.Model(basis[:tokens], jnp.roll(basis, tokens, axis=0), basis[:1])
    u = jnp.concatenate([one_layer.hidden(config, ideal, prompts) for prompts in stored])
    v = one_layer.hidden(config, ideal, read)

    def gram(left, right):
        inner = left @ right.T
        if config.activation == "identity":
            return inner
        size = jnp.linalg.norm(left, axis=1)[:, None] * jnp.linalg.norm(right, axis=1)[None, :]
        return size * crosstalk.arc_cosine(inner / size)

    return jnp.linalg.solve(gram(u, u), gram(u, v))
