"""The decoder's attention and MLP as one kernel each way, for training adapters on a GPU.

As separate operations a step of training writes and reads tens of megabytes of activations an adapter, and
waits for memory. Here a tile of ``ROWS`` tokens goes through a block of a layer in registers: the block reads
and writes the residual stream alone, and going back it computes the tile again instead of reading what it
kept. Gradients are of the factors, tile by tile, summed in a fixed order. The values are those of
``sim.model.transformer`` with ``lora.fold`` but for rounding (theory/README.md, section 12).

Shape letters: N tokens of all sequences, D width, K head width, P the ranks of a block's matrices, side by
side, padded.
"""

import jax
from jaxtyping import Array, Float, Int

from sim.model import lora, transformer
from sim.model.fused.attention import attention
from sim.model.fused.mlp import mlp
from sim.model.fused.tiles import LEAST, ROUNDED, ROWS, Tiles
from sim.model.transformer import ATTENTION, MLP, Decoder, Params, rms_norm

WIDEST = 128
"""The widest decoder with which the kernels were measured, and are faster than separate operations."""
HIGHEST = 16
"""The highest rank of an adapter; of higher ones separate operations are faster (sim/bench/README.md)."""


def can(decoder: Decoder, adapter: lora.Adapter, tokens: int) -> bool:
    """Whether ``completion_logits`` takes this adapter and sequences of that many tokens, and gains."""
    head = decoder.width // decoder.heads
    return (
        set(adapter) == set(decoder.modules())
        and all(update.a.shape[0] <= HIGHEST for update in adapter.values())
        and head >= LEAST
        and decoder.width <= WIDEST
        and decoder.hidden % decoder.width == 0
        and all(side & (side - 1) == 0 for side in (decoder.width, head))
        and tokens - 1 <= ROWS
    )


def completion_logits(
    decoder: Decoder,
    params: Params,
    adapter: lora.Adapter,
    tokens_BT: Int[Array, "B T"],
    prompt: int,
    interpret: bool = False,
    kind: type = ROUNDED,
) -> Float[Array, "B L V"]:
    """``transformer.completion_logits`` of the base with an adapter of every matrix, of scale 1.

    Differentiable in the adapter's factors alone; ``interpret`` and ``kind``: see ``Tiles``.
    """
    read = tokens_BT[:, :-1]
    tiles = Tiles(*read.shape, decoder.heads, interpret, kind)

    def block(run, tiles, x, layer, norm, kinds):
        names = [f"{layer}.{kind}" for kind in kinds]
        factors = tuple((adapter[name].b, adapter[name].a) for name in names)
        return run(tiles, x, params[f"{layer}.{norm}"], tuple(params[name] for name in names), factors)

    x = params["embed"][read.reshape(-1)]
    for layer in range(decoder.layers):
        x = block(attention, tiles._replace(first=layer == 0), x, layer, "attention_norm", ATTENTION)
        if layer == decoder.layers - 1:
            # Nothing after its attention is computed where no token of the completion is decided.
            x = x.reshape(*read.shape, -1)[:, prompt - 1 :].reshape(-1, decoder.width)
            tiles = tiles._replace(tokens=tiles.tokens - prompt + 1)
        x = block(mlp, tiles, x, layer, "mlp_norm", MLP)
    x = x.reshape(tiles.sequences, tiles.tokens, -1)
    return rms_norm(x, params["final_norm"]) @ params["unembed"].T


def folded_logits(
    decoder: Decoder, params: Params, adapter: lora.Adapter, tokens_BT: Int[Array, "B T"], prompt: int
) -> Float[Array, "B L V"]:
    """Logits of the completion with the update added to the weights.

    A batch has more tokens than a matrix has rows, so that W + B A costs less than two thin products a token,
    which machines do badly besides.
    """
    return transformer.completion_logits(decoder, lora.fold(params, adapter), tokens_BT, prompt)


def adapted_logits(
    decoder: Decoder, params: Params, adapter: lora.Adapter, tokens_BT: Int[Array, "B T"], prompt: int
) -> Float[Array, "B L V"]:
    """``folded_logits`` while an adapter of scale 1 is trained: by the kernels on a GPU, if they ``can``."""
    if jax.default_backend() == "gpu" and can(decoder, adapter, tokens_BT.shape[1]):
        return completion_logits(decoder, params, adapter, tokens_BT, prompt)
    return folded_logits(decoder, params, adapter, tokens_BT, prompt)
