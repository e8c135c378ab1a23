"""The one-layer fact model: embeddings, one attention step, features, base (theory/README.md, section 0).

    h(p)   = sum over earlier tokens of w_t V e_t + e_last        pre-feature vector, in R^d
    phi(p) = relu(U h(p))   (or U h(p))                           features, in R^m
    f(p)   = W phi(p)                                             logits over bridges, then answers

Token numbers: subjects 0..N-1, bridges N..2N-1, the relation words 2N (REL1) and 2N+1 (REL2), then
``fillers`` spare words for other templates. Answers are never read, so they have no embedding.
Output rows: bridges 0..N-1, answers N..2N-1.
"""

import math
from dataclasses import dataclass
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from theory import checks

_CHOICES = {
    "embeddings": ("orthonormal", "gaussian"),
    "attention": ("sum", "mean"),
    "activation": ("relu", "identity"),
}


@dataclass(frozen=True)
class ModelConfig:
    """Sizes and choices of the one-layer model; every field is static under jit.

    ``entities`` is N (subjects = bridges = answers), ``dim`` is d, ``features`` is m. ``embeddings``:
    "orthonormal" makes all e_t and all V e_t one orthonormal set (needs d >= 2 * tokens), "gaussian"
    draws e_t and V with variance 1/d. ``attention`` weighs the earlier tokens by 1 ("sum") or by one
    over their number ("mean"); with ``window`` = k only the last k earlier tokens are seen.
    Raises ValueError for a size that is no whole number of at least 1, an unknown choice, or an orthonormal
    set that does not fit.
    """

    entities: int
    dim: int
    features: int
    embeddings: Literal["orthonormal", "gaussian"] = "orthonormal"
    attention: Literal["sum", "mean"] = "sum"
    window: int | None = None
    activation: Literal["relu", "identity"] = "relu"
    fillers: int = 0

    def __post_init__(self):
        checks.whole(entities=self.entities, dim=self.dim, features=self.features)
        checks.whole(0, fillers=self.fillers)
        for name, choices in _CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}; use {' or '.join(choices)}")
        if self.window is not None:
            checks.whole(window=self.window)
        if self.embeddings == "orthonormal" and self.dim < 2 * self.tokens:
            raise ValueError(
                f"{self.tokens} tokens need dim >= {2 * self.tokens} for orthonormal embeddings, "
                f'got {self.dim}; raise dim or use embeddings="gaussian"'
            )

    @property
    def tokens(self) -> int:
        """Input vocabulary: 2N entities, two relation words, the fillers."""
        return 2 * self.entities + 2 + self.fillers

    @property
    def outputs(self) -> int:
        """Output rows: N bridges, then N answers."""
        return 2 * self.entities


class Model(NamedTuple):
    """The frozen part: embeddings (tokens, d), value map V (d, d), feature map U (m, d)."""

    embed: Float[Array, "tokens d"]
    value: Float[Array, "d d"]
    up: Float[Array, "m d"]


def gaussian(key: Array, shape: tuple[int, ...]) -> Float[Array, "*shape"]:
    """Standard normal numbers in float64, drawn flat: XLA compiles that several times faster than a block."""
    return jax.random.normal(key, (math.prod(shape),), jnp.float64).reshape(shape)


def make(config: ModelConfig, key: Array) -> Model:
    """Draw a model. U has variance 2/m for relu and 1/m for identity, so that E|phi(h)|^2 = |h|^2."""
    keys = [jax.random.fold_in(key, index) for index in range(3)]
    dim, tokens = config.dim, config.tokens
    gain = 2.0 if config.activation == "relu" else 1.0
    up = gaussian(keys[0], (config.features, dim)) * (gain / config.features) ** 0.5
    if config.embeddings == "orthonormal":
        # The standard basis is every orthonormal set: U is Gaussian, so its law ignores rotations.
        # The barrier keeps the compiler from multiplying these constants out, which takes it seconds.
        basis = jax.lax.optimization_barrier(jnp.eye(dim, dtype=jnp.float64))
        return Model(basis[:tokens], jnp.roll(basis, tokens, axis=0), up)  # V moves e_t to place tokens + t
    embed = gaussian(keys[1], (tokens, dim)) / dim**0.5
    value = gaussian(keys[2], (dim, dim)) / dim**0.5
    return Model(embed, value, up)


def prompt1(config: ModelConfig, subject: Int[Array, "*batch"]) -> Int[Array, "*batch 2"]:
    """p1(a) = "a REL1", for subject indices 0..N-1."""
    return _joined(subject, [2 * config.entities])


def prompt2(config: ModelConfig, bridge: Int[Array, "*batch"]) -> Int[Array, "*batch 2"]:
    """p2(b) = "b REL2", for bridge indices 0..N-1."""
    return _joined(bridge + config.entities, [2 * config.entities + 1])


def prompt12(config: ModelConfig, subject: Int[Array, "*batch"]) -> Int[Array, "*batch 3"]:
    """p12(a) = "a REL1 REL2", the two-hop prompt."""
    return _joined(subject, [2 * config.entities, 2 * config.entities + 1])


def _joined(first: Array, rest: list[int]) -> Array:
    tail = jnp.broadcast_to(jnp.asarray(rest, first.dtype), (*first.shape, len(rest)))
    return jnp.concatenate([first[..., None], tail], axis=-1)


class Words(NamedTuple):
    """Token numbers of a k-hop world: names of levels 0..k-1, relations 1..k, two marks."""

    names: tuple[int, ...]  # first token of each level
    relations: tuple[int, ...]
    think: int
    sep: int


def words(entities: int, hops: int) -> tuple[Words, int]:
    """The token layout of a k-hop world and the number of fillers its ``ModelConfig`` needs.

    Levels 0 and 1 and the first two relations are the model's own; further levels and relations, THINK and
    SEP are fillers. Output rows: entity j of level l is row (l - 1) N + j. Raises ValueError for hops < 1.
    """
    checks.whole(entities=entities, hops=hops)
    first = 2 * entities + 2
    more = max(hops - 2, 0)
    names = [0, entities, *(first + level * entities for level in range(more))]
    after = first + more * entities
    relations = [2 * entities, 2 * entities + 1, *(after + index for index in range(more))]
    marks = after + more
    return Words(tuple(names[:hops]), tuple(relations[:hops]), marks, marks + 1), more * (entities + 1) + 2


def plain_prompt(layout: Words, hop: int, entity: Int[Array, "*batch"]) -> Int[Array, "*batch 2"]:
    """ "x REL_hop", as in an adapter's data; hop counts from 0 and x is an entity of level ``hop``."""
    relation = jnp.full(entity.shape, layout.relations[hop], entity.dtype)
    return jnp.stack([layout.names[hop] + entity, relation], axis=-1)


def trace_prompt(layout: Words, path: Int[Array, "*batch depth"]) -> Int[Array, "*batch length"]:
    """The trace up to the hop that follows ``path``, entities of levels 0..depth-1 as written so far:

    x REL_1 .. REL_k THINK | x REL_1 y SEP y REL_2 z SEP z REL_3 ...
    """
    hops = path.shape[-1]
    fixed = lambda token: jnp.full(path.shape[:-1], token, path.dtype)  # noqa: E731
    tokens = [layout.names[0] + path[..., 0], *map(fixed, layout.relations), fixed(layout.think)]
    for hop in range(hops):
        name = layout.names[hop] + path[..., hop]
        if hop:
            tokens += [name, fixed(layout.sep)]
        tokens += [name, fixed(layout.relations[hop])]
    return jnp.stack(tokens, axis=-1)


def hidden(
    config: ModelConfig, model: Model, prompt: Int[Array, "*batch length"]
) -> Float[Array, "*batch d"]:
    """h(p): attention over the earlier tokens of the prompt, plus the last token itself."""
    earlier = prompt[..., :-1] if config.window is None else prompt[..., -1 - config.window : -1]
    weight = 1.0 if config.attention == "sum" else 1.0 / max(earlier.shape[-1], 1)
    read = jnp.sum(model.embed[earlier], axis=-2) * weight
    return read @ model.value.T + model.embed[prompt[..., -1]]


def activated(config: ModelConfig, model: Model, pre: Float[Array, "*batch d"]) -> Float[Array, "*batch m"]:
    """phi from a pre-feature vector h: relu(U h), or U h for the linear model."""
    out = pre @ model.up.T
    return jax.nn.relu(out) if config.activation == "relu" else out


def features(
    config: ModelConfig, model: Model, prompt: Int[Array, "*batch length"]
) -> Float[Array, "*batch m"]:
    """phi(p) for token prompts: ``activated`` of ``hidden``."""
    return activated(config, model, hidden(config, model, prompt))


def base_weights(keys: Float[Array, "facts m"], targets: Float[Array, "facts n"]) -> Float[Array, "n m"]:
    """W0 = R Phi^+, the minimum-norm W with W phi = target on every fact (least squares if impossible).

    ``keys`` holds the features phi as rows (Phi = keys^T), ``targets`` the wanted logits as rows.
    Singular values below the usual rounding cut-off are dropped, so dependent facts are allowed.
    Raises ValueError for NaN or no facts.
    """
    checks.finite(keys=keys, targets=targets)
    return jnp.linalg.lstsq(keys, targets, rcond=None)[0].T


def one_hot(rows: Int[Array, "*batch"], outputs: int) -> Float[Array, "*batch n"]:
    """i_y in float64, for output rows y."""
    return jax.nn.one_hot(rows, outputs, dtype=jnp.float64)
