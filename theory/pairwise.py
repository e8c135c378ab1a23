"""Published pairwise metrics of mergeability, data-free and in factors (theory/README.md, section 12).

Definitions of the task-vector and subspace metrics: Zhou, Zhao, Yu, Rodola 2026 (arXiv 2601.22285) and the
code its authors publish. Differences: subspaces are all of an adapter's directions and not its ten strongest,
and both overlaps are divided by sqrt(k), where that code divides the left one by k, so that equal adapters
have 1. Left out, as they say nothing more or nothing at all here: scores 2 - effective rank, and overlaps of
the k weakest directions, which read the null space of a low-rank update.
"""

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from theory.interference import effective_rank
from theory.lowrank import LowRank, dense, directions, inner

Adapter = Mapping[str, LowRank]

METRICS = (
    *("cosine", "angle", "dot", "distance", "norm", "magnitude_ratio", "sign_agreement"),
    *("effective_rank", "layer_effective_rank", "stable_rank", "spectral_gap", "singular_ratio"),
    *("spectrum_overlap", "left_overlap", "right_overlap", "interaction_overlap"),
)
"""Of ``measure``."""


def of_module(left: LowRank, right: LowRank) -> dict[str, Array]:
    """What the metrics need of one matrix, float64: Gram matrix of the two updates, cosine of their spectra,
    squared overlaps of column and row spaces, number of directions, share of entries of equal sign.

    All but the last through r x r cores; signs of entries are no property of the factors, and need the
    dense updates.
    """
    left, right = (jax.tree.map(lambda x: jnp.asarray(x, jnp.float64), update) for update in (left, right))
    (u, s, vt), (p, t, qt) = directions(left), directions(right)
    size = max(s.shape[0], t.shape[0])
    spectra = [jnp.pad(x, (0, size - x.shape[0])) for x in (s, t)]
    norms2 = [jnp.sum(jnp.square(x)) for x in spectra]
    both = inner(left, right)
    scale = jnp.sqrt(norms2[0] * norms2[1])
    return {
        "gram": jnp.stack([jnp.stack([norms2[0], both]), jnp.stack([both, norms2[1]])]),
        "spectra": _share(spectra[0] @ spectra[1], scale),
        "columns2": jnp.sum(jnp.square(u.T @ p)),
        "rows2": jnp.sum(jnp.square(vt @ qt.T)),
        "count": jnp.minimum(jnp.sum(s > 0), jnp.sum(t > 0)).astype(jnp.float64),
        "signs": jnp.mean(jnp.sign(dense(left)) == jnp.sign(dense(right)), dtype=jnp.float64),
    }


def stacked_spectrum(gram: Float[Array, "*batch 2 2"]) -> Float[Array, "*batch 2"]:
    """Singular values, largest first, of the matrix whose two rows have this Gram matrix."""
    one, both, other = gram[..., 0, 0], gram[..., 0, 1], gram[..., 1, 1]
    middle, half = (one + other) / 2, jnp.hypot((one - other) / 2, both)
    return jnp.sqrt(jnp.maximum(jnp.stack([middle + half, middle - half], axis=-1), 0.0))


def measure(left: Adapter, right: Adapter) -> dict[str, Float[Array, ""]]:
    """``METRICS`` of two adapters of the same matrices.

    Task vectors are all updates in one vector each: cosine, angle (degrees), dot, distance, norm (the mean of
    the two), magnitude_ratio (smaller over larger), share of entries of equal sign. Of the two of them as two
    rows with singular values s_1 >= s_2: effective_rank exp(entropy of s / sum s), stable_rank
    (sum s)^2 / sum s^2, spectral_gap 1 - s_2 / s_1, singular_ratio s_2 / s_1; layer_effective_rank is the
    first matrix by matrix, weighed by the norms. Means over matrices: spectrum_overlap, the cosine of the
    singular values; left_overlap |U_1^T U_2|_F / sqrt(k) and right_overlap |V_1^T V_2|_F / sqrt(k) for k
    directions; interaction_overlap, the mean squared cosine of the angles between the row spaces.

    Invariant to the gauge B R, R^-1 A of the factors. A matrix that an adapter leaves alone is in no mean;
    two adapters that share none have NaN.

    Raises:
        ValueError: the adapters change different matrices.
    """
    if set(left) != set(right):
        raise ValueError(
            f"adapters of different matrices: {', '.join(sorted(set(left) ^ set(right)))} is in one only"
        )
    terms = _of_modules(left, right)
    changed = terms["count"] > 0
    sizes = jnp.asarray([left[name].b.shape[-2] * left[name].a.shape[-1] for name in left], jnp.float64)
    weight = jnp.sum(jnp.sqrt(jnp.stack([terms["gram"][:, i, i] for i in range(2)])), axis=0)
    gram = jnp.sum(terms["gram"], axis=0)
    norms, (first, second) = jnp.sqrt(jnp.stack([gram[0, 0], gram[1, 1]])), stacked_spectrum(gram)
    cosine = jnp.clip(_share(gram[0, 1], norms[0] * norms[1]), -1.0, 1.0)

    def mean(values, of=1.0):
        of = jnp.where(changed, of, 0.0)
        return _share(jnp.sum(jnp.where(changed, values, 0.0) * of), jnp.sum(of))

    at_least_one = jnp.maximum(terms["count"], 1.0)
    return {
        "cosine": cosine,
        "angle": jnp.degrees(jnp.arccos(cosine)),
        "dot": gram[0, 1],
        "distance": jnp.sqrt(jnp.maximum(gram[0, 0] + gram[1, 1] - 2 * gram[0, 1], 0.0)),
        "norm": jnp.mean(norms),
        "magnitude_ratio": _share(jnp.min(norms), jnp.max(norms)),
        "sign_agreement": mean(terms["signs"], sizes),
        "effective_rank": effective_rank(jnp.stack([first, second])),
        "layer_effective_rank": mean(effective_rank(stacked_spectrum(terms["gram"])), weight),
        "stable_rank": _share(jnp.square(first + second), jnp.square(first) + jnp.square(second)),
        "spectral_gap": 1 - _share(second, first),
        "singular_ratio": _share(second, first),
        "spectrum_overlap": mean(terms["spectra"]),
        "left_overlap": mean(jnp.sqrt(terms["columns2"] / at_least_one)),
        "right_overlap": mean(jnp.sqrt(terms["rows2"] / at_least_one)),
        "interaction_overlap": mean(terms["rows2"] / at_least_one),
    }


def _of_modules(left: Adapter, right: Adapter) -> dict[str, Array]:
    """``of_module`` of every matrix, stacked in the order of ``left``. Matrices of one shape go through one
    loop, one at a time: batched LAPACK calls wait for each other's threads on a CPU."""
    shapes: dict[tuple, list[str]] = {}
    for name in left:
        key = tuple(x.shape for update in (left[name], right[name]) for x in (update.b, update.a))
        shapes.setdefault(key, []).append(name)
    terms = {}
    for names in shapes.values():
        pairs = [
            tuple(jax.tree.map(jnp.asarray, adapter[name]) for adapter in (left, right)) for name in names
        ]
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *pairs)
        values = jax.lax.map(lambda pair: of_module(*pair), stacked)
        terms |= {name: jax.tree.map(lambda x, i=i: x[i], values) for i, name in enumerate(names)}
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *(terms[name] for name in left))


def _share(part: Array, whole: Array) -> Array:
    return part / jnp.where(whole > 0, whole, jnp.nan)
