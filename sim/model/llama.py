"""A Llama: RMSNorm, rotary positions, grouped-query attention, SwiGLU (Touvron et al., arXiv 2302.13971;
2307.09288).

Shape letters: B batch, T tokens, S tokens with keys and values, D width, G key-value heads, H heads, K head
width, M hidden (MLP features), V vocabulary, N layers. Weights are stored (out, in), as in PEFT, with the
layers of a kind in one array (N, out, in), and run by one ``lax.scan``. Every product with an adaptable
weight goes through ``project``, so the decoder knows nothing of LoRA; ``jax.vmap`` over adapters alone shares
the base's products among them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory import lowrank

Params = dict[str, Array]
Project = Callable[[str, Array, Any, Array], Array]
"""(kind, weight (out, in), this layer's slice of the state or None, x (B, T, in)) -> (B, T, out)."""

KINDS = ("q", "k", "v", "o", "gate", "up", "down")
"""The adaptable weights of a layer."""

NORMS = ("attention_norm", "mlp_norm")


@dataclass(frozen=True)
class Llama:
    """Shape of the decoder. ``heads`` is a multiple of ``groups``, the number of key-value heads.

    theta: base of the rotary angles. epsilon: added to the mean square in RMSNorm. tied: logits are read out
    by the embedding. scaling: Llama 3's stretch of slow angles, (factor, low, high, original length), or ()
    for none.
    """

    vocab: int
    layers: int
    width: int
    heads: int
    groups: int
    head: int
    hidden: int
    theta: float = 10000.0
    epsilon: float = 1e-5
    tied: bool = True
    scaling: tuple[float, ...] = ()

    def shape(self, kind: str) -> tuple[int, int]:
        """(out, in) of an adaptable weight."""
        queries, keys = self.heads * self.head, self.groups * self.head
        return {
            "q": (queries, self.width),
            "k": (keys, self.width),
            "v": (keys, self.width),
            "o": (self.width, queries),
            "gate": (self.hidden, self.width),
            "up": (self.hidden, self.width),
            "down": (self.width, self.hidden),
        }[kind]

    def rates(self) -> Float[Array, "K/2"]:
        """Angle of a rotary pair at position 1: theta^(-2k/K), stretched as ``scaling`` says."""
        rate = self.theta ** (-jnp.arange(0, self.head, 2, dtype=jnp.float32) / self.head)
        if not self.scaling:
            return rate
        factor, low, high, length = self.scaling
        turns = length * rate / (2 * math.pi)  # of the pair over the original length
        smooth = jnp.clip((turns - low) / (high - low), 0.0, 1.0)
        return rate * (smooth + (1 - smooth) / factor)


def plain(kind: str, weight: Array, state: Any, x: Array) -> Array:
    """The bare product W x for row vectors x; the default ``project``."""
    return x @ weight.T


def adapted(kind: str, weight: Array, state: dict[str, lowrank.LowRank], x: Array) -> Array:
    """W x + scale B (A x), in factors, where the state has an update of this kind."""
    y = plain(kind, weight, None, x)
    if kind not in state:
        return y
    update = jax.tree.map(lambda leaf: jnp.asarray(leaf, x.dtype), state[kind])
    return y + lowrank.apply(update, x)


def rms_norm(x: Array, gain_D: Array, epsilon: float) -> Array:
    """x / sqrt(mean x^2 + epsilon) * gain over the last axis, the mean in float32."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return jnp.broadcast_to(gain_D, x.shape) * wide.astype(x.dtype)


def rotary(x_BTHK: Array, angle_BTK: Array) -> Array:
    """Rotate pairs (k, k + K/2) by their angles, in float32."""
    cos, sin = jnp.cos(angle_BTK)[:, :, None, :], jnp.sin(angle_BTK)[:, :, None, :]
    first, second = jnp.split(x_BTHK.astype(jnp.float32), 2, axis=-1)
    turned = jnp.concatenate([first * cos - second * sin, first * sin + second * cos], axis=-1)
    return turned.astype(x_BTHK.dtype)


def attention(q_BTHK: Array, k_BSGK: Array, v_BSGK: Array, visible_BTS: Array | None) -> Array:
    """Softmax attention over the visible keys, scores scaled by 1/sqrt(K); each key serves H/G queries.

    ``visible_BTS`` None: each token sees itself and those before. Then a GPU runs bfloat16 in one kernel, if
    the number of tokens is even, as cuDNN asks for: a step of training takes a tenth less (SmolLM2-135M,
    H200).
    """
    if visible_BTS is None:
        on_gpu, is_even = jax.default_backend() == "gpu", q_BTHK.shape[1] % 2 == 0
        one_kernel = on_gpu and is_even and q_BTHK.dtype == jnp.bfloat16
        implementation = "cudnn" if one_kernel else "xla"
        return jax.nn.dot_product_attention(
            q_BTHK, k_BSGK, v_BSGK, is_causal=True, implementation=implementation
        )
    return jax.nn.dot_product_attention(
        q_BTHK, k_BSGK, v_BSGK, mask=visible_BTS[:, None], implementation="xla"
    )


class Cache(NamedTuple):
    """Keys and values of the tokens read so far, (N, B, S, G, K) each; zero where none was read yet."""

    keys: Array
    values: Array


def empty_cache(model: Llama, batch: int, tokens: int, dtype: Any) -> Cache:
    """Room for ``tokens`` tokens a row."""
    shape = (model.layers, batch, tokens, model.groups, model.head)
    return Cache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))


def hidden(
    model: Llama,
    params: Params,
    tokens_BT: Int[Array, "B T"],
    state: Any = None,
    project: Project = plain,
    *,
    padding_B: Int[Array, " B"] | None = None,
    cache: Cache | None = None,
    start: int | Array = 0,
    remat: bool = False,
) -> tuple[Float[Array, "B T D"], Cache | None]:
    """(the residual stream after the last layer and before the final norm, the cache with the new tokens).

    Args:
        state: pytree whose leaves carry the layers in front, (N, ...): what ``project`` gets, layer by layer.
        padding_B: how many tokens in front of a row are padding, which nothing sees; positions start behind
            them.
        cache, start: keys and values of ``start`` tokens read before; None to read the whole sequence at
            once.
        remat: compute a layer again on the way back instead of storing what it computed.
    """
    batch, count = tokens_BT.shape
    padded = padding_B is not None
    padding_B = padding_B if padded else jnp.zeros(batch, jnp.int32)
    slot_T = start + jnp.arange(count)
    slot_S = slot_T if cache is None else jnp.arange(cache.keys.shape[2])
    key_S, query_T = slot_S[None, None, :], slot_T[None, :, None]
    visible_BTS = (key_S <= query_T) & (key_S >= padding_B[:, None, None]) if padded or cache else None
    position_BT = (slot_T[None, :] - padding_B[:, None]).astype(jnp.float32)
    angle_BTK = position_BT[..., None] * model.rates()[None, None, :]

    def layer(x, slices):
        weights, state, room = slices

        def to(kind, value):
            return project(kind, weights[kind], state, value)

        def split(kind, value, heads):
            return to(kind, value).reshape(batch, count, heads, model.head)

        normed = rms_norm(x, weights["attention_norm"], model.epsilon)
        q = rotary(split("q", normed, model.heads), angle_BTK)
        k = rotary(split("k", normed, model.groups), angle_BTK)
        v = split("v", normed, model.groups)
        if room is not None:
            k, v = (
                jax.lax.dynamic_update_slice_in_dim(old, new, start, axis=1)
                for old, new in zip(room, (k, v), strict=True)
            )
            room = Cache(k, v)
        x = x + to("o", attention(q, k, v, visible_BTS).reshape(batch, count, -1))
        normed = rms_norm(x, weights["mlp_norm"], model.epsilon)
        return x + to("down", jax.nn.silu(to("gate", normed)) * to("up", normed)), room

    weights = {name: params[name] for name in (*KINDS, *NORMS)}
    body = jax.checkpoint(layer) if remat else layer
    return jax.lax.scan(body, params["embed"][tokens_BT], (weights, state, cache))


@jax.custom_vjp
def _product(x: Array, weight: Array) -> Array:
    """x W^T with float32 sums."""
    return jnp.matmul(x, weight.T, preferred_element_type=jnp.float32)


def _product_forward(x: Array, weight: Array) -> tuple[Array, Array]:
    return _product(x, weight), weight


def _product_backward(weight: Array, slope: Array) -> tuple[Array, None]:
    # In the weights' own type: a float32 product with the vocabulary takes a ninth of a step of training.
    return slope.astype(weight.dtype) @ weight, None


_product.defvjp(_product_forward, _product_backward)


def read_out(model: Llama, params: Params, x: Float[Array, "*tokens D"]) -> Float[Array, "*tokens V"]:
    """Logits of a residual stream, in float32. Its gradient takes the weights as frozen."""
    unembed = params["embed" if model.tied else "unembed"]
    return _product(rms_norm(x, params["final_norm"], model.epsilon), unembed)


def forward(
    model: Llama,
    params: Params,
    tokens_BT: Int[Array, "B T"],
    state: Any = None,
    project: Project = plain,
    **options,
) -> Float[Array, "B T V"]:
    """Next-token logits; those at t see tokens 0..t only. Options as ``hidden`` takes them."""
    return read_out(model, params, hidden(model, params, tokens_BT, state, project, **options)[0])
