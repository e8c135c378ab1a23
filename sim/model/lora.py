"""LoRA on any subset of the decoder's matrices (theory/README.md, section 0).

An adapter is a dict from module name to ``LowRank`` factors; training starts from B = 0 and
A ~ N(0, 1/in), so the adapted model starts at the base.
"""

from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
from jaxtyping import Array

from sim.model.transformer import Decoder, Params, Project, plain
from theory import lowrank
from theory.lowrank import LowRank

Adapter = Mapping[str, LowRank]


def check_rank(decoder: Decoder, names: tuple[str, ...], rank: int) -> None:
    """Raise ValueError unless 1 <= rank <= the smallest side of every adapted matrix."""
    limit = min(min(decoder.shape(name)) for name in names)
    if not 1 <= rank <= limit:
        raise ValueError(f"rank {rank} is outside 1..{limit}, the smallest side of the adapted matrices")


def init(decoder: Decoder, names: tuple[str, ...], rank: int, key: Array) -> dict[str, LowRank]:
    """B = 0 (out, rank), A ~ N(0, 1/in) (rank, in), scale 1, float32, for each named module.

    Raises:
        ValueError: the rank does not fit the matrices (``check_rank``).
    """
    check_rank(decoder, names, rank)
    adapter = {}
    for index, name in enumerate(names):
        out, into = decoder.shape(name)
        a = jax.random.normal(jax.random.fold_in(key, index), (rank, into), jnp.float32) * into**-0.5
        adapter[name] = LowRank(jnp.zeros((out, rank), jnp.float32), a, 1.0)
    return adapter


def random_like(update: LowRank, key: Array, spectrum: bool = False) -> LowRank:
    """Gaussian factors of the same shapes with the same |Delta W|_F, which stands in the scale.

    ``spectrum``: the singular values of Delta W between random orthonormal directions instead.
    """
    b, a = (
        jax.random.normal(jax.random.fold_in(key, side), factor.shape, factor.dtype)
        for side, factor in enumerate((update.b, update.a))
    )
    if spectrum:
        _, s, _ = lowrank.singular(update)
        b, a = (_orthonormal(side) for side in (b, jnp.swapaxes(a, -1, -2)))
        drawn = lowrank.from_singular(b, s, jnp.swapaxes(a, -1, -2))
        return drawn._replace(scale=jnp.ones_like(update.scale))
    drawn = LowRank(b, a, jnp.ones_like(update.scale))
    return drawn._replace(scale=lowrank.norm(update) / lowrank.norm(drawn))


def _orthonormal(gaussian: Array) -> Array:
    """Columns of a uniformly random frame: Q of QR with a positive diagonal of R (Mezzadri 2007)."""
    q, r = jnp.linalg.qr(gaussian)
    return q * jnp.sign(jnp.diagonal(r, axis1=-2, axis2=-1))[..., None, :]


def adapted(adapter: Adapter) -> Project:
    """The projection W x + scale B (A x), in factors, for the modules that the adapter holds."""

    def project(name, weight, x):
        y = plain(name, weight, x)
        return y + lowrank.apply(adapter[name], x) if name in adapter else y

    return project


def linear(library: Sequence[Adapter], strengths: Sequence[float | Array]) -> dict[str, LowRank]:
    """sum_i strength_i Delta W_i in factors, of rank sum_i r_i: exact."""
    return {
        name: lowrank.concatenated(
            [lowrank.scaled(adapter[name], by) for adapter, by in zip(library, strengths, strict=True)]
        )
        for name in library[0]
    }


def of_one_shape(adapter: Adapter) -> list[list[str]]:
    """Names of the modules by the shape of their factors, so that a method is compiled once for each."""
    shapes: dict[tuple, list[str]] = {}
    for name, update in adapter.items():
        shapes.setdefault((update.b.shape, update.a.shape), []).append(name)
    return list(shapes.values())


def fold(params: Params, update: Mapping[str, LowRank | Array]) -> Params:
    """Weights W + Delta W, for decoding. Accepts factors or the dense result of an elementwise merge."""
    deltas = {
        name: lowrank.dense(delta) if isinstance(delta, LowRank) else delta for name, delta in update.items()
    }
    return {
        **params,
        **{name: params[name] + delta.astype(params[name].dtype) for name, delta in deltas.items()},
    }
