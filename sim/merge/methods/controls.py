"""Controls: what a merge would do by its size, or by its spectrum, if its directions said nothing.

A merge that beats the sum may do so by its lambda alone: hold it against the sum at another size. One that
does damage may do so whatever it says: hold it against noise of the same singular values. (An adapter of
noise in place of one that was trained is a library, not a merge: ``sim.worlds.controls``.)
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge.methods.linear import combination
from sim.merge.registry import method
from theory.lowrank import LowRank, absorbed, norm, scaled


@method("control", float64=True, normalises=True)
def scaled_sum(updates: Sequence[LowRank], weights: Float[Array, "K"]) -> LowRank:
    """The sum at the mean norm of the adapters: the scale of a spherical merge, not its geometry.

    S sum_i w_i |Delta W_i| / |S| with S = sum_i w_i Delta W_i; 0 where S is but for rounding. In factors. K
    updates at right angles, of one norm, come out at lambda = 1/sqrt K, as from ``karcher``.
    """
    total = combination(updates, weights)
    size, wanted = norm(total), jnp.sum(weights * jnp.stack([norm(update) for update in updates]))
    alive = size > 1e-6 * jnp.abs(wanted)
    return scaled(total, jnp.where(alive, wanted / jnp.where(alive, size, 1), 0))


@method("control", float64=True, identity=None)
def random_spectrum(updates: Sequence[LowRank], weights: Float[Array, "K"], *, key: Array) -> LowRank:
    """The sum in random bases: noise of its size, its rank and its singular values. Seeded. In factors.

    With sum_i w_i Delta W_i = Q_B (R_B R_A^T) Q_A^T by QR of the stacked factors, Q_B and Q_A are replaced by
    the orthonormal factors of Gaussian matrices of their shapes.
    """
    total = absorbed(combination(updates, weights))
    sides = []
    for side, factor in enumerate((total.b, total.a.T)):
        root = jnp.linalg.qr(factor)[1]
        shape = (factor.shape[0], root.shape[0])
        drawn = jax.random.normal(jax.random.fold_in(key, side), shape, jnp.float64)
        sides.append(jnp.linalg.qr(drawn)[0] @ root)
    return LowRank(sides[0], sides[1].T, 1.0)
