"""Token sequences as training and decoding see them: a prompt, a completion, and how often each is drawn."""

from dataclasses import dataclass, field

import jax
from jaxtyping import Array, Float, Int


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Sequences:
    """Token sequences of one kind: the first ``prompt`` tokens are given, the rest is to be produced.

    All sequences of a group have one prompt length and one total length, so shapes are static and nothing is
    padded. ``weight`` is the relative frequency at which training draws a sequence; 0 means never.
    """

    tokens: Int[Array, "S T"]
    weight: Float[Array, " S"]
    prompt: int = field(metadata={"static": True})

    @property
    def target(self) -> Int[Array, "S L"]:
        """The right completions."""
        return self.tokens[:, self.prompt :]
