"""Composed logits of a language model against whole passes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from test_language import base, library, rooms, stacked, world  # noqa: F401 (fixtures)

from sim.model import llama, llama_adapters
from sim.reuse.language import ask


@pytest.mark.slow
def test_composed_logits_of_a_language_model_are_weighted_token_by_token(base, world, rooms, library):  # noqa: F811
    """Whole passes of the base and of each adapter; weight 1 on one of them is that model."""
    (sheet,) = [one for one in ask.sheets(base, world.probes, rooms) if "hop1" in one.rows]
    sheet = sheet._replace(questions=sheet.questions[:2], length=3)
    nothing = jax.tree.map(jnp.zeros_like, library[0])
    states = stacked(stacked(nothing, *library))
    models_of = (nothing, *library)
    for weights in ((-1.0, 1.0, 1.0), (0.0, 0.5, 0.5), (0.0, 0.0, 1.0)):
        actual = ask.write_all(
            base.model, base.params, states, *sheet[:2], 3, project=llama.adapted,
            at=llama_adapters.as_it_is, weights=np.asarray([weights], np.float32),
        )  # fmt: skip
        for row, one in enumerate(sheet.questions):
            tokens = list(one.tokens[: one.start])
            for _ in range(3):
                each = [
                    np.float64(
                        llama.forward(base.model, base.params, jnp.asarray([tokens]), m, llama.adapted)
                    )
                    for m in models_of
                ]
                tokens.append(int(np.argmax(sum(w * e[0, -1] for w, e in zip(weights, each, strict=True)))))
            assert actual[0, row].tolist() == tokens[one.start :]
