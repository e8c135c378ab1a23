"""What the one-layer experiment runs: its settings and the rows it fills in."""

from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float

from sim.merge import METHODS
from theory.edits import check_rank
from theory.model import ModelConfig

TIE = 1e-9
"""Logits closer than this are a tie: far above float64 rounding, far below any real margin."""


@dataclass(frozen=True)
class Setting:
    """What varies between the rows of a seed besides method and metric: columns of the results.

    ``template``: how far the relation word is turned from the trained one, as "angle=RADIANS".
    """

    template: str = ""


@dataclass(frozen=True)
class OneLayerConfig:
    """Settings of the one-layer experiment; static under jit. Defaults and their reasons:

    ``rank`` of every adapter. ``entities`` = 20: chance is 1/20, and an edit of 4 facts fills
    a fifth of the output rows, the default density of TIES. ``features`` = 256: more than
    the facts of any part, so that keys are independent. ``methods``: merges of the two-hop part.
    ``lambdas``: both sides of the retention threshold 1/2, close and far, and the tie itself.
    ``libraries``: sizes K whose average is taken. ``facts``: fact counts F of the starvation part, around the
    overwrite threshold 2 r lambda and the insertion threshold e^(r/2) of rank 4. ``strengths``: lambda
    there. ``fact_trials``: facts read per seed and F, so that 64 seeds bring the standard error under 0.005.
    ``angles``: how far the relation word is turned to a paraphrase (radians) in the coverage part, from the
    trained prompt to a word never seen; ``shares``: mean share r/F there. ``two_hop_in_base``: whether
    the base was also trained on the (old) two-hop answers. ``root``: seed of the whole experiment.
    Raises ValueError for a rank that is 0 or above a dimension, an unknown method, or an empty grid.
    """

    rank: int = 4
    entities: int = 20
    features: int = 256
    methods: tuple[str, ...] = ("average", "sum", "concat", "svd", "ties")
    lambdas: tuple[float, ...] = (0.1, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7, 0.9, 1.0)
    libraries: tuple[int, ...] = (2, 3, 4)
    facts: tuple[int, ...] = (6, 8, 16, 32, 128)
    strengths: tuple[float, ...] = (0.75, 1.0)
    fact_trials: int = 256
    angles: tuple[float, ...] = (0.0, 0.5, 1.0, 1.5708)
    shares: tuple[float, ...] = (0.5, 0.75)
    two_hop_in_base: bool = False
    root: int = 0

    def __post_init__(self):
        check_rank(self.rank, self.entities, self.features)
        if self.rank >= self.entities:
            raise ValueError(
                f"rank {self.rank} needs more than {self.rank} entities, got {self.entities}; "
                "raise entities or lower the rank"
            )
        for name in self.methods:
            _ = METHODS[name]  # raises for an unknown name
        for name in ("methods", "lambdas", "libraries", "facts", "strengths", "angles", "shares"):
            if not getattr(self, name):
                raise ValueError(f"{name} is empty; give at least one value")
        if max(self.facts) > self.features:
            raise ValueError(
                f"{max(self.facts)} facts need at least as many features, got {self.features}; raise features"
            )

    @property
    def hop1_facts(self) -> int:
        """Facts the first adapter rewires: r, which a rank-r adapter fits exactly."""
        return self.rank

    @property
    def hop2_facts(self) -> int:
        """Facts the second adapter rotates among themselves: r + 1, a residual of rank exactly r."""
        return self.rank + 1

    @property
    def retained_facts(self) -> int:
        """Facts an adapter holds in the retention part: r, at most 8, all fitted exactly."""
        return min(self.rank, 8)

    def coverage_facts(self, share: float) -> int:
        """F with r/F nearest to ``share``, and at least r."""
        return max(self.rank, round(self.rank / share))

    def model(self, entities: int, fillers: int = 0) -> ModelConfig:
        """The one-layer relu model with orthonormal embeddings for N entities."""
        tokens = 2 * entities + 2 + fillers
        return ModelConfig(entities, 2 * tokens, self.features, fillers=fillers)


def for_rank(rank: int, **settings: Any) -> OneLayerConfig:
    """The default experiment at a rank, with as many entities and features as the rank needs.

    Raises ValueError for a rank below 1.
    """
    default = OneLayerConfig()
    if rank < 1:
        check_rank(rank, default.entities, default.features)
    grown = replace(
        default,
        rank=rank,
        entities=max(default.entities, 2 * rank),
        features=max(default.features, 8 * rank),
    )
    return replace(grown, **settings)


def row(method: str, metric: str, lam: float, facts: int, trials: int, template: str = "") -> dict[str, Any]:
    """One row without its measurement; the same fields whatever the part of the experiment."""
    return {
        "method": method,
        "metric": metric,
        "lam": lam,
        "facts": facts,
        "trials": trials,
        "template": template,
    }


def recalled(logits: Float[Array, "*batch n"], target: Array) -> Float[Array, "*batch"]:
    """1 if the target leads, 1/k if it ties with k - 1 others within ``TIE`` (a fair draw), else 0."""
    leading = logits >= jnp.max(logits, axis=-1, keepdims=True) - TIE
    hit = jnp.take_along_axis(leading, target[..., None], axis=-1)[..., 0]
    return hit / jnp.sum(leading, axis=-1)
