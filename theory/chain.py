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

from theory import checks, coverage, crosstalk, starvation
from theory import model as one_layer


def product(steps: Float[Array, "*batch hops"], template: Float[Array, "*batch"] | float = 1.0) -> Array:
    """P(template kept) * prod over hops of the (conditional) step accuracies: exact by the chain rule.

    Raises ValueError for no steps, or anything outside [0, 1].
    """
    checks.within(0, 1, steps=steps, template=template)
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
    lambda kappa Delta / (2 M). kappa, M and Delta are taken as independent of rho and may have any sign: the
    case table of ``coverage.lambda_range`` with rho in the place of lambda (a base without a lead, M < 0, is
    lost only to a swing below M; M = lambda kappa Delta = 0 is a tie, 1/2). Raises ValueError for facts or
    rank that are no whole numbers of at least 1, and for numbers that are not finite.
    """
    checks.finite(lam=lam, overlap=overlap, margin=margin, swing=swing)
    push, margin = np.broadcast_arrays(
        np.asarray(lam, np.float64) * overlap * swing, np.asarray(margin, np.float64)
    )
    low, high = (np.asarray(end) for end in coverage.lambda_range(margin, push))

    def above(share):
        """P(rho > share): 1 at 0, where no share is needed, and 0 at infinity."""
        inside = (share > 0) & np.isfinite(share)
        law = starvation.overwrite_recall(facts, rank, 0.5 / np.where(inside, share, 1.0))
        return np.where(inside, law, np.where(share > 0, 0.0, 1.0))

    accuracy = above(low) - above(high)
    return float(np.mean(np.where((margin == 0) & (push == 0), 0.5, accuracy)))


def matched(steps: Float[np.ndarray, "hops"], facts: int) -> tuple[float, float]:
    """(mean, standard deviation) of k-hop accuracy over F chains whose facts meet by random bijections.

    ``steps`` are the shares of the F facts of each hop that are right. Survivors after each hop are
    hypergeometric, H_l | H_{l-1} ~ Hyp(F, H_{l-1}, n_l) with n_l = F p_l: the mean is the plain product, and
    E[H_l (H_l - 1)] = E[H_{l-1} (H_{l-1} - 1)] n_l (n_l - 1) / (F (F - 1)). Exact when the step events do not
    depend on which facts meet. Two hops: variance p q (1-p) (1-q) / (F - 1).
    Raises ValueError for fewer than 2 facts or a share outside [0, 1].
    """
    steps = np.asarray(steps, np.float64)
    checks.whole(2, facts=facts)
    checks.within(0, 1, steps=steps)
    mean = np.prod(steps)
    counts = facts * steps
    pairs = facts * (facts - 1) * np.prod(counts * (counts - 1) / (facts * (facts - 1)))
    variance = pairs / facts**2 + mean / facts - mean**2
    return float(mean), float(max(variance, 0.0) ** 0.5)


def bounds(steps: Float[np.ndarray, "hops"]) -> tuple[float, float]:
    """[max(0, sum p - (k - 1)), min p]: all the step accuracies alone allow, however correlated (Frechet).

    Raises ValueError for no steps, or a share outside [0, 1].
    """
    steps = np.asarray(steps, np.float64)
    checks.within(0, 1, steps=steps)
    return float(max(0.0, steps.sum() - (len(steps) - 1))), float(steps.min())


def kernel_overlap(
    config: one_layer.ModelConfig, stored: Sequence[Int[Array, "facts length"]], read: Int[Array, "prompts n"]
) -> Float[Array, "facts prompts"]:
    """c = G^-1 g(read), the m -> infinity limit of ``crosstalk.edit_overlap``, for orthonormal embeddings.

    G_ij = |u_i| |u_j| arc(cos(u_i, u_j)) is the arc-cosine kernel of the pre-feature vectors (for the linear
    model their inner product). A full-rank least-squares adapter on the stored prompts changes the logits at
    a read prompt, extra tokens and all, by R c: c of the own fact is its kappa in that context. The base's
    logits there are its targets times its own c. ``stored`` may hold groups of prompts of different length.
    Raises ValueError when no prompt is stored, or a stored prompt repeats (G is then singular).
    """
    if not stored:
        raise ValueError("stored is empty; give at least one group of prompts")
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

    overlap = jnp.linalg.solve(gram(u, u), gram(u, v))
    if not checks.traced(overlap) and not bool(jnp.isfinite(overlap).all()):
        raise ValueError("stored holds a prompt twice; give each fact its own")
    return overlap
