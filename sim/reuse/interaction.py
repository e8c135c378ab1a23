"""What two adapters do to each other inside the decoder, told without a forward pass of their merge.

Single adapters are run at their own coefficients; of the others only the derivative is taken there. Where
that is not enough, the last MLP's ReLU and output matrix, and nothing below, see all adapters at once
(theory/README.md, section 12, has the orders of what each predictor leaves out).
"""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from sim.lab.parallel import brief_program
from sim.model import closed_form, lora
from sim.model.transformer import Decoder, Params, hidden
from sim.reuse import predictors
from sim.reuse.ask import Probes, of_one_shape, split_rows, stacked_rows
from sim.reuse.library import Factors, adapter_of
from sim.worlds.probe import whole

PREDICTORS = ("stream", "second_order", "crossed", "composed")
"""In the order of what they cost; the first three run nothing of the merge."""


class Seen(NamedTuple):
    """What the last layer of a model sees and leaves, where each token of a completion is decided.

    stream: the residual stream after it. middle: before its MLP. before: what enters its ReLU.
    """

    stream: Float[Array, "S L D"]
    middle: Float[Array, "S L D"]
    before: Float[Array, "S L M"]


def forecast(
    decoder: Decoder, base: Params, probes: Probes, parts: Sequence[Factors], strengths: Sequence[np.ndarray]
) -> list[dict[str, dict[str, Array]]]:
    """{predictor: {metric: (runs, S) bool}} for each of ``strengths`` (runs, K): whether every token of a
    completion is predicted to be right, by ``PREDICTORS``. All arrays carry the runs of a chunk first."""
    derivatives = brief_program(at_base, decoder)(base, probes, parts)
    return [brief_program(predict, decoder)(base, probes, parts, *derivatives, lam) for lam in strengths]


def seen(
    decoder: Decoder, params: Params, probes: Probes, parts: Sequence[Factors], lam: Float[Array, " K"]
) -> dict[str, Seen]:
    """What the base with sum_i lam_i Delta W_i sees at every probe, the right completion as context. Both
    predictions and the merge itself are this function at some ``lam``."""
    last = decoder.layers - 1
    adapted, seen = lora.adapted(lora.linear([adapter_of(part) for part in parts], lam)), {}
    for names in of_one_shape(probes):
        together, outputs = stacked_rows([probes[name] for name in names]), {}

        def project(name, weight, x, outputs=outputs):
            outputs[name] = adapted(name, weight, x)
            return outputs[name]

        stream = hidden(decoder, params, together.tokens[:, :-1], project)
        whole_seen = Seen(stream, stream - outputs[f"{last}.down"], outputs[f"{last}.up"])
        leaves = [split_rows(leaf[:, together.prompt - 1 :], names, probes) for leaf in whole_seen]
        seen |= {name: Seen(*(leaf[name] for leaf in leaves)) for name in names}
    return seen


def at_base(
    decoder: Decoder, params: Params, probes: Probes, parts: Sequence[Factors]
) -> tuple[dict[str, Seen], dict[str, Seen], dict[str, Seen]]:
    """(what the base sees, its derivatives in each lambda (K, ...), its mixed second derivatives in each pair
    of them (pairs, ...), the pairs in the order of ``numpy.triu_indices``)."""
    units = jnp.eye(len(parts), dtype=jnp.float32)

    def at(lam):
        return seen(decoder, params, probes, parts, lam)

    def slope(lam, along):
        return jax.jvp(at, (lam,), (along,))[1]

    def bend(one, other):
        return jax.jvp(lambda lam: slope(lam, one), (jnp.zeros_like(one),), (other,))[1]

    base = at(jnp.zeros_like(units[0]))
    slopes = jax.vmap(slope, (None, 0))(jnp.zeros_like(units[0]), units)
    one, other = (units[index] for index in np.triu_indices(len(parts), 1))
    return base, slopes, jax.vmap(bend)(one, other)


def predict(
    decoder: Decoder,
    params: Params,
    probes: Probes,
    parts: Sequence[Factors],
    base: dict[str, Seen],
    slopes: dict[str, Seen],
    bends: dict[str, Seen],
    lam: Float[Array, " K"],
) -> dict[str, dict[str, Array]]:
    """What every predictor says of the merge at ``lam`` in one cell: {predictor: {metric: (S,) bool}}."""
    predicted = streams(decoder, params, probes, parts, base, slopes, bends, lam)
    return {
        predictor: {whole(n, probes[n]): _right(params, streams_of[n], probes[n]) for n in probes}
        for predictor, streams_of in predicted.items()
    }


def streams(
    decoder: Decoder,
    params: Params,
    probes: Probes,
    parts: Sequence[Factors],
    base: dict[str, Seen],
    slopes: dict[str, Seen],
    bends: dict[str, Seen],
    lam: Float[Array, " K"],
) -> dict[str, dict[str, Float[Array, "S L D"]]]:
    """{predictor: {probe: the stream before the final norm}} of the merge at ``lam``; base, slopes, bends:
    ``at_base``."""
    count = len(parts)

    def of_one(own, others):
        return jax.jvp(lambda at: seen(decoder, params, probes, parts, at), (own,), (others,))

    own = jnp.diag(lam)
    singles, across = jax.vmap(of_one)(own, lam[None, :] - own)
    one, other = np.triu_indices(count, 1)

    def stream(base, singles):
        return predictors.disentangled(base, list(singles))

    def second_order(base, singles, bends):
        by = (lam[one] * lam[other]).reshape(-1, *(1,) * base.ndim)
        return predictors.second_order(base, list(singles), list(by * bends))

    def crossed(base, singles, across, slopes):
        here = lam.reshape(-1, *(1,) * base.ndim) * slopes
        # Of the base's slopes all but the adapter's own.
        others = [jnp.sum(here, axis=0) - here[i] for i in range(count)]
        return predictors.crossed(base, list(singles), list(across), others)

    together = jax.tree.map(crossed, base, singles, across, slopes)
    return {
        "stream": {n: stream(base[n].stream, singles[n].stream) for n in probes},
        "second_order": {n: second_order(base[n].stream, singles[n].stream, bends[n].stream) for n in probes},
        "crossed": {n: together[n].stream for n in probes},
        "composed": {n: last_mlp(decoder, params, parts, lam, together[n]) for n in probes},
    }


def last_mlp(
    decoder: Decoder, params: Params, parts: Sequence[Factors], lam: Float[Array, " K"], given: Seen
) -> Float[Array, "S L D"]:
    """The stream after the last layer from what enters its ReLU: middle + (W + sum_i lam_i Delta W_i) relu.

    The only weights in which two adapters meet, in factors."""
    name = closed_form.last_module(decoder)
    project = lora.adapted(lora.linear([adapter_of(part) for part in parts], lam))
    return given.middle + project(name, params[name], jax.nn.relu(given.before))


def _right(params: Params, stream: Array, probe) -> Array:
    # The final norm only rescales the stream: it is exact here, and moves no argmax.
    return predictors.right(closed_form.linear_logits(params, stream), probe.target).all(axis=-1)
