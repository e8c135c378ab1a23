"""A small decoder: RMSNorm, rotary positions, causal attention, ReLU MLP (theory/README.md, section 12).

Shape letters: B batch, T tokens, D width, H heads, K head width, M hidden (MLP features), V vocabulary.
Parameters are one flat dict from module name to array, weights stored (out, in) as in PEFT. Every
product with an adaptable weight goes through ``project``, so adapters, routers and probes are functions
handed to ``forward``, and the decoder knows nothing of LoRA.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

Params = dict[str, Array]
Project = Callable[[str, Array, Array], Array]

ATTENTION = ("q", "k", "v", "o")
MLP = ("up", "down")
EPSILON = 1e-6
"""Added to the mean square in RMSNorm."""


@dataclass(frozen=True)
class Decoder:
    """Shape of the decoder. ``width`` must be divisible by 2 * ``heads`` (rotary pairs)."""

    vocab: int
    layers: int = 2
    width: int = 64
    heads: int = 4
    hidden: int = 256

    def __post_init__(self):
        if self.layers < 1:
            raise ValueError(f"layers is {self.layers}: a decoder has at least one")
        if self.width % (2 * self.heads):
            raise ValueError(f"width {self.width} is not a multiple of 2 * heads = {2 * self.heads}")

    def modules(self, kinds: tuple[str, ...] = ATTENTION + MLP) -> tuple[str, ...]:
        """Names of the adaptable weights of the given kinds, layer by layer."""
        return tuple(f"{layer}.{kind}" for layer in range(self.layers) for kind in kinds)

    def shape(self, name: str) -> tuple[int, int]:
        """(out, in) of an adaptable weight."""
        shapes = {"up": (self.hidden, self.width), "down": (self.width, self.hidden)}
        return shapes.get(name.split(".")[1], (self.width, self.width))


def init(decoder: Decoder, key: Array) -> Params:
    """Fresh parameters, float32: weights N(0, 1/in), residual outputs divided by sqrt(2 layers), norms 1."""
    names = decoder.modules()
    keys = jax.random.split(key, len(names) + 2)
    params = {
        "embed": jax.random.normal(keys[-1], (decoder.vocab, decoder.width), jnp.float32),
        "unembed": jax.random.normal(keys[-2], (decoder.vocab, decoder.width), jnp.float32)
        / decoder.width**0.5,
        "final_norm": jnp.ones(decoder.width, jnp.float32),
    }
    for name, name_key in zip(names, keys, strict=False):
        out, into = decoder.shape(name)
        residual = name.endswith((".o", ".down"))
        spread = (into * (2 * decoder.layers if residual else 1)) ** -0.5
        params[name] = spread * jax.random.normal(name_key, (out, into), jnp.float32)
    for layer in range(decoder.layers):
        params[f"{layer}.attention_norm"] = jnp.ones(decoder.width, jnp.float32)
        params[f"{layer}.mlp_norm"] = jnp.ones(decoder.width, jnp.float32)
    return params


def plain(name: str, weight: Array, x_BTI: Array) -> Array:
    """The bare product W x for row vectors x; the default ``project``."""
    return x_BTI @ weight.T


def rms_norm(x_BTD: Array, gain_D: Array) -> Array:
    """x / sqrt(mean x^2 + 1e-6) * gain, over the last axis."""
    scale = jax.lax.rsqrt(jnp.mean(jnp.square(x_BTD), axis=-1, keepdims=True) + EPSILON)
    return x_BTD * scale * jnp.broadcast_to(gain_D, x_BTD.shape)


def rotary(x_BTHK: Array, start: int | Array = 0) -> Array:
    """Rotate pairs (k, k + K/2) at position t by the angle t * 100^(-2k/K) (short sequences, hence 100).

    The first token stands at position ``start``.
    """
    half = x_BTHK.shape[-1] // 2
    rate_k = 100.0 ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = (start + jnp.arange(x_BTHK.shape[1])).astype(jnp.float32)[:, None] * rate_k[None, :]
    cos, sin = (f(angle)[None, :, None, :] for f in (jnp.cos, jnp.sin))
    first, second = x_BTHK[..., :half], x_BTHK[..., half:]
    return jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)


def softmax(scores: Array) -> Array:
    """exp(s) / sum exp(s) over the last axis, of scores that are not all minus infinity.

    XLA rewrites a quotient and its gradient in one way for one device and in another for several, which
    changes last bits; it leaves the product with a reciprocal behind a barrier as it is.
    """
    exponentials = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, axis=-1, keepdims=True)))
    return exponentials * jax.lax.optimization_barrier(1.0 / jnp.sum(exponentials, axis=-1, keepdims=True))


def attention(q_BTHK: Array, k_BSHK: Array, v_BSHK: Array, start: int | Array = 0) -> Array:
    """Causal softmax attention, scores scaled by 1/sqrt(K); the first query stands at position ``start``."""
    width = q_BTHK.shape[-1]
    # Heads first: XLA's small batched products on a CPU are slow where the batch is not in front.
    turned = (rotary(q_BTHK, start), rotary(k_BSHK), v_BSHK)
    q_BHTK, k_BHSK, v_BHSK = (jnp.swapaxes(x, 1, 2) for x in turned)
    scores_BHTS = jnp.einsum("bhtk,bhsk->bhts", q_BHTK, k_BHSK) * width**-0.5
    position_T = start + jnp.arange(q_BTHK.shape[1])
    causal = (jnp.arange(k_BSHK.shape[1])[None, :] <= position_T[:, None])[None, None]
    weights_BHTS = softmax(jnp.where(causal, scores_BHTS, -jnp.inf))
    return jnp.swapaxes(jnp.einsum("bhts,bhsk->bhtk", weights_BHTS, v_BHSK), 1, 2)


Attend = Callable[[int, Array, Array, Array], Array]
"""(layer, queries, keys, values of the tokens at hand) -> what each of them reads, (B, T, H, K)."""


def _stream(
    decoder: Decoder, params: Params, tokens_BT: Array, project: Project, attend: Attend, wanted: int = 0
) -> Array:
    """The residual stream after the last layer at the positions from ``wanted`` on, (B, T - wanted, D).

    The last layer reads all positions and computes nothing else at those before.
    """
    x = params["embed"][tokens_BT]
    for layer in range(decoder.layers):

        def to(kind, value, layer=layer):
            return project(f"{layer}.{kind}", params[f"{layer}.{kind}"], value)

        def heads(kind, value, to=to):
            return to(kind, value).reshape(*value.shape[:2], decoder.heads, -1)

        normed = rms_norm(x, params[f"{layer}.attention_norm"])
        k, v = heads("k", normed), heads("v", normed)
        if layer == decoder.layers - 1:
            x, normed = x[:, wanted:], normed[:, wanted:]
        x = x + to("o", attend(layer, heads("q", normed), k, v).reshape(x.shape))
        features = jax.nn.relu(to("up", rms_norm(x, params[f"{layer}.mlp_norm"])))
        x = x + to("down", features)
    return x


def hidden(decoder: Decoder, params: Params, tokens_BT: Int[Array, "B T"], project: Project = plain) -> Array:
    """The residual stream after the last layer, before the final norm: (B, T, D).

    The final RMSNorm only rescales it, so the argmax of the logits is the argmax of
    unembed @ (final_norm * hidden): linear in the last MLP output, which is what section 12 uses.
    """
    return _stream(decoder, params, tokens_BT, project, lambda layer, q, k, v: attention(q, k, v))


def forward(
    decoder: Decoder, params: Params, tokens_BT: Int[Array, "B T"], project: Project = plain
) -> Float[Array, "B T V"]:
    """Next-token logits: unembed @ RMSNorm(hidden). Logits at t see tokens 0..t only."""
    x = hidden(decoder, params, tokens_BT, project)
    return rms_norm(x, params["final_norm"]) @ params["unembed"].T


def completion_logits(
    decoder: Decoder, params: Params, tokens_BT: Int[Array, "B T"], prompt: int, project: Project = plain
) -> Float[Array, "B L V"]:
    """Logits that decide the L = T - prompt completion tokens, the right ones given (teacher forcing)."""
    first = prompt - 1

    def attend(layer, q, k, v):
        return attention(q, k, v, start=k.shape[1] - q.shape[1])

    x = _stream(decoder, params, tokens_BT[:, :-1], project, attend, wanted=first)
    return rms_norm(x, params["final_norm"]) @ params["unembed"].T


Cache = Float[Array, "layers 2 B S H K"]
"""Keys and values of the tokens that were read, layer by layer, zero where none was read yet."""


def no_cache(decoder: Decoder, batch: int, tokens: int) -> Cache:
    """Room for ``tokens`` tokens, none of them read."""
    shape = (decoder.layers, 2, batch, tokens, decoder.heads, decoder.width // decoder.heads)
    return jnp.zeros(shape, jnp.float32)


def read_on(
    decoder: Decoder,
    params: Params,
    tokens_BT: Int[Array, "B T"],
    start: int | Array,
    cache: Cache,
    project: Project = plain,
) -> tuple[Float[Array, "B V"], Cache]:
    """(logits of the token after the last of T new tokens, cache with them), the first at position ``start``.

    The same logits as ``forward`` over the whole sequence gives there, for the work of T tokens.
    """
    seen = []

    def attend(layer, q, k, v):
        keys_values = jax.lax.dynamic_update_slice_in_dim(cache[layer], jnp.stack([k, v]), start, axis=2)
        seen.append(keys_values)
        return attention(q, keys_values[0], keys_values[1], start)

    x = _stream(decoder, params, tokens_BT, project, attend)[:, -1]
    return rms_norm(x, params["final_norm"]) @ params["unembed"].T, jnp.stack(seen)
