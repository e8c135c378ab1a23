"""What adapters do to each other, by order of interaction (theory/README.md, section 12).

A merge of K adapters is a point w of [0, inf)^K, its output f(w) a number or an array of them (logits). With
w_T the point that has the strengths of w in the subset T and 0 elsewhere,

    f(w) = sum_T I_T(w),    I_T(w) = sum_{U in T} (-1)^(|T| - |U|) f(w_U)

I of the empty set is the base, of one adapter its effect, of two what they do to each other, and so on. The
decomposition anchored at 0 of Kuo, Sloan, Wasilkowski and Wozniakowski (Math. Comp. 79, 2010). Tables of a
function over subsets are arrays (2, ..., 2, ...): one axis of length 2 for each adapter, in or out.
"""

from math import comb

import numpy as np
from jaxtyping import Float

from theory import checks


def interactions(values: Float[np.ndarray, "..."], adapters: int) -> np.ndarray:
    """I_T of every subset T from f of every subset: the Moebius transform, a difference along each axis.

    values: ``adapters`` axes of length 2, then any. Raises ValueError for another shape.
    """
    terms = _table(values, adapters).copy()
    for axis in range(adapters):
        ahead = np.moveaxis(terms, axis, 0)
        ahead[1] -= ahead[0]
    return terms


def sums(terms: Float[np.ndarray, "..."], adapters: int) -> np.ndarray:
    """f of every subset from I_T of every subset; the inverse of ``interactions``."""
    values = _table(terms, adapters).copy()
    for axis in range(adapters):
        ahead = np.moveaxis(values, axis, 0)
        ahead[1] += ahead[0]
    return values


def truncated(values: Float[np.ndarray, "..."], adapters: int, order: int) -> np.ndarray:
    """f of every subset without its interactions of more than ``order`` adapters. Reads only f of subsets of
    up to ``order``."""
    sizes = np.indices((2,) * adapters).sum(0)
    terms = interactions(values, adapters)
    return sums(np.where(_wide(sizes, terms) <= order, terms, 0.0), adapters)


def coefficient(size: int, subset: int, order: int) -> int:
    """What f of each subset of ``subset`` adapters is multiplied by in the truncated f of ``size`` of them:

        P_m f(w) = sum_{|U| <= m} (-1)^(m - |U|) C(|S| - |U| - 1, m - |U|) f(w_U),    |S| > m

    and 1 for the merge itself where |S| <= m. Raises ValueError for numbers below 0 or subset > size.
    """
    checks.whole(0, size=size, subset=subset, order=order)
    if subset > size:
        raise ValueError(f"subset {subset} is larger than its set of {size}")
    if size <= order:
        return int(subset == size)
    if subset > order:
        return 0
    return (-1) ** (order - subset) * comb(size - subset - 1, order - subset)


def covariance(
    left: Float[np.ndarray, "n K"],
    right: Float[np.ndarray, "m K"],
    gains: Float[np.ndarray, " K"],
    depth: int,
) -> Float[np.ndarray, "n m"]:
    """E f(w) f(w') / E f(0)^2 of a deep linear network whose adapters are independent:

        f(w) = v^T prod_l (W_l + sum_i w_i D_l^i) x,    l = 1 .. L
        E f(w) f(w') = |x|^2 (1 + sum_i g_i w_i w_i')^L

    for orthogonal W_l, v ~ N(0, I) and D_l^i with independent entries of mean 0 and variance g_i / d. For
    g_i = gamma_i / L and many layers this is exp(sum_i gamma_i w_i w_i'): a product of the adapters.
    """
    return (1 + (np.asarray(left) * gains) @ np.asarray(right).T) ** depth


def saturating_covariance(
    left: Float[np.ndarray, "n K"], right: Float[np.ndarray, "m K"], gains: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "n m"]:
    """E f(w) f(w') of a wide layer whose units saturate, f(w) = sum_u v_u erf(b_u + sum_i w_i a_ui):

        2/pi arcsin(2 s(w, w') / sqrt((1 + 2 s(w, w)) (1 + 2 s(w', w'))))
        s(w, w') = 1 + sum_i g_i w_i w_i'

    for b ~ N(0, 1), a_ui ~ N(0, g_i), v_u independent of mean 0 and variance 1 over the number of units
    (Williams, Neural Computation 10, 1998). All orders of interaction, and they cancel: strong adapters do
    not add up, where the linear network's do.
    """

    def product(one, other):
        return 1 + np.sum(one * gains * other, axis=-1)

    left, right = np.asarray(left, float), np.asarray(right, float)
    sizes = np.sqrt(1 + 2 * product(left, left))[:, None] * np.sqrt(1 + 2 * product(right, right))[None, :]
    return 2 / np.pi * np.arcsin(2 * (1 + (left * gains) @ right.T) / sizes)


def order_variances(adapters: int, gain: float, depth: int) -> Float[np.ndarray, " orders"]:
    """E of the squared sum of all interactions of k adapters, k = 0 .. s, over E f(0)^2, in that network:

        C(s, k) sum_j (-1)^(k - j) C(k, j) (1 + j g)^L,    g = lambda^2 times the gain

    the k-th difference of (1 + g x)^L, which is 0 for k > L. Interactions of different subsets are
    uncorrelated, so the mean square that order m leaves out is the sum of those with k > m.
    Raises: ValueError for fewer than 0 adapters or layers, or a negative gain.
    """
    checks.whole(0, adapters=adapters, depth=depth)
    checks.within(0, np.inf, gain=gain)
    at = (1 + gain * np.arange(adapters + 1)) ** depth
    return np.array([comb(adapters, k) * np.diff(at[: k + 1], k)[0] for k in range(adapters + 1)])


def kriging(
    inner: Float[np.ndarray, "n n"], cross: Float[np.ndarray, "m n"], prior: Float[np.ndarray, " m"]
) -> tuple[Float[np.ndarray, "m n"], Float[np.ndarray, " m"]]:
    """(weights of the n runs, mean squared error) of the best linear prediction of m merges of mean 0.

    inner, cross: covariances of the runs with each other and of the merges with the runs; prior: variances of
    the merges. weights = cross inner^-1, error = prior - diag(weights cross^T). With the covariance above,
    and all subsets of up to m adapters at the merge's strengths as runs, it is P_m f: interactions of
    different subsets are uncorrelated, so that those which no run holds are best taken as 0.
    """
    weights = np.linalg.lstsq(inner, cross.T, rcond=None)[0].T
    return weights, np.maximum(prior - np.sum(weights * cross, axis=1), 0.0)


def _table(values: np.ndarray, adapters: int) -> np.ndarray:
    values = np.asarray(values, float)
    if adapters < 1 or values.shape[:adapters] != (2,) * adapters:
        raise ValueError(
            f"a table over subsets of {adapters} adapters has {adapters} axes of length 2 in front, "
            f"not the shape {values.shape}"
        )
    return values


def _wide(sizes: np.ndarray, terms: np.ndarray) -> np.ndarray:
    return sizes.reshape(*sizes.shape, *(1,) * (terms.ndim - sizes.ndim))
