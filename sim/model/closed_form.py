"""Closed-form adapters on the last MLP output of a trained decoder (theory/README.md, section 12).

With everything else frozen, the answer is the argmax of G (h + Delta W phi), G = unembed * final_norm:
phi are the features that enter the last "down" matrix and h is the residual stream (the final RMSNorm only
rescales it). That is the one-layer memory of section 0, with h in place of W0 phi.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.model.sequences import Sequences
from sim.model.transformer import Decoder, Params, hidden, plain, rms_norm
from theory import lowrank
from theory.edits import least_squares_adapter
from theory.lowrank import LowRank


def last_module(decoder: Decoder) -> str:
    """Name of the matrix that these adapters change."""
    return f"{decoder.layers - 1}.down"


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Remembered(Sequences):
    """Sequences with what the frozen decoder makes of them, where each completion token is decided.

    features: phi, the input of the last "down" matrix (M numbers a token).
    stream:   h, the residual stream after the last layer (D numbers a token).
    """

    features: Float[Array, "S L M"] = None
    stream: Float[Array, "S L D"] = None


def remember(decoder: Decoder, params: Params, group: Sequences) -> Remembered:
    """Run the decoder once over ``group``, the right completions given as context (teacher forcing)."""
    seen = {}

    def probe(name, weight, x):
        seen[name] = x[:, group.prompt - 1 :]
        return plain(name, weight, x)

    stream = hidden(decoder, params, group.tokens[:, :-1], probe)[:, group.prompt - 1 :]
    return Remembered(group.tokens, group.weight, group.prompt, seen[last_module(decoder)], stream)


def adapted_stream(group: Remembered, update: LowRank) -> Float[Array, "S L D"]:
    """h + Delta W phi."""
    return group.stream + lowrank.apply(update, group.features)


def readout(params: Params) -> Float[Array, "V D"]:
    """G = unembed * final_norm: its product with the residual stream has the argmax of the logits."""
    return params["unembed"] * params["final_norm"][None, :]


def linear_logits(params: Params, stream: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """G h: same argmax as the decoder's logits, and linear in the stream."""
    return stream @ readout(params).T


def logits(params: Params, stream: Float[Array, "... D"]) -> Float[Array, "... V"]:
    """The decoder's own logits: unembed @ RMSNorm(h)."""
    return rms_norm(stream, params["final_norm"]) @ params["unembed"].T


def wanted_change(params: Params, stream: Float[Array, "F D"], target: Array) -> Float[Array, "F D"]:
    """The smallest change of h that swaps the logits of the old answer and the new one, fact by fact.

    Old answer o: the argmax without the adapter. With w = G_new - G_o and margin M = (G_o - G_new) h:
    2 M w / |w|^2, so that the margin goes from M to -M at lambda = 1 and lambda_c = 1/2 (section 3).
    Zero where the base is right already.
    """
    gain = readout(params)
    logits = stream @ gain.T
    old = jnp.argmax(logits, axis=-1)
    direction = gain[target] - gain[old]
    margin = -jnp.sum(direction * stream, axis=-1, keepdims=True)
    size = jnp.sum(jnp.square(direction), axis=-1, keepdims=True)
    return 2.0 * margin * direction / jnp.where(size > 0, size, 1.0)


def solve(params: Params, group: Remembered, rank: int) -> LowRank:
    """The rank-r least-squares adapter for the facts of ``group`` that carry weight (section 1).

    Facts of weight zero get key zero and residual zero, which leaves them out exactly. Solved in float64
    from the decoder's float32 features, returned in float32.
    """
    features, stream = (
        x.reshape(-1, x.shape[-1]).astype(jnp.float64) for x in (group.features, group.stream)
    )
    target = group.tokens[:, group.prompt :].reshape(-1)
    present = jnp.repeat(group.weight > 0, group.tokens.shape[1] - group.prompt)[:, None]
    gain = {name: params[name].astype(jnp.float64) for name in ("unembed", "final_norm")}
    residual = jnp.where(present, wanted_change(gain, stream, target), 0.0)
    solved = least_squares_adapter(jnp.where(present, features, 0.0), residual, rank)
    return LowRank(solved.b.astype(jnp.float32), solved.a.astype(jnp.float32), 1.0)
