"""Predicted logits of every merge from those of single adapters, batch by batch, reduced to three numbers.

The disentangled prediction needs whole vectors of logits at every answer token, one for each adapter and
strength; they live as long as a batch, on the model's device: up to 1 + K (G + 1) arrays of N x V float32 for
K adapters at G strengths and N answer tokens.
"""

import functools
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from sim.hf.tokens import Batch
from sim.predict.weights import Weights
from sim.reuse import predictors

Run = Callable[[Weights], torch.Tensor]
"""The logits (N, V) of a batch's answer tokens, each adapter at its strength."""

Judged = tuple[np.ndarray, np.ndarray]
"""Of P questions: log-likelihood of the answer (nats, summed over its tokens), and lead: how far the logit of
the right token stands above the best other, at the answer token where that is least. A positive lead is an
exact match of greedy decoding."""


def judged(logits: torch.Tensor, batch: Batch) -> Judged:
    """The two numbers of every question from the logits (N, V) of its answer tokens."""
    target = torch.as_tensor(batch.target, device=logits.device)
    row = torch.as_tensor(batch.row, device=logits.device)
    right = logits.gather(-1, target[:, None])[:, 0]
    values, at = logits.topk(2, dim=-1)
    lead = right - torch.where(at[:, 0] == target, values[:, 1], values[:, 0])
    count = len(batch.tokens)
    total = right.new_zeros(count).index_add(0, row, right - logits.logsumexp(-1))
    least = right.new_full((count,), torch.inf).scatter_reduce(0, row, lead, "amin")
    return total.cpu().numpy(), least.cpu().numpy()


Inside = tuple[Run, Callable[[torch.Tensor], torch.Tensor]]
"""Streams (N, D) of a batch's answer tokens, each adapter at its strength; and the logits of streams."""

STEP = {torch.float32: 0.01}
"""Half the difference of strengths that a derivative is taken over, by the type of the base's numbers."""
COARSE = 0.1
"""The same for types of 16 bits, whose rounding would drown a smaller one."""


def predicted(
    run: Run, batch: Batch, each: Sequence[Weights], inside: Inside | None = None, step: float = COARSE
) -> Mapping[str, list[Judged]]:
    """{predictor: what it says of every merge}; theory/README.md, section 12. Runs no merge.

    Single adapters and the base are said by "disentangled" as they are. "crossed" needs ``inside``: it also
    runs each adapter at each strength with every other one at ``step`` and at -``step``, for derivatives.
    """
    if not inside:
        with torch.inference_mode():
            return _first_order(run, batch, each)
    streams, logits = functools.cache(inside[0]), inside[1]
    with torch.inference_mode():
        predictions = _first_order(lambda one: logits(streams(one)), batch, each)
        merges = _crossed(inside[0], streams, each, step)
        return predictions | {"crossed": [judged(logits(stream), batch) for stream in merges]}


def _crossed(run: Run, cached_run: Run, each: Sequence[Weights], step: float) -> list[torch.Tensor]:
    """The stream of every merge, by ``predictors.crossed``; ``cached_run`` is ``run`` with a cache."""
    count = len(each[0])

    def at(i: int, lam: float, j: int = 0, by: float = 0.0) -> Weights:
        """Adapter i at lam, and another one j at a small strength."""
        return tuple(lam * (k == i) + by * (k == j) for k in range(count))

    @functools.cache
    def slope(i: int, lam: float, j: int) -> torch.Tensor:
        return (run(at(i, lam, j, step)) - run(at(i, lam, j, -step))) / (2 * step)

    def others(i: int, one: Weights, there: tuple[int, float]) -> torch.Tensor:
        """What the adapters but i change together, where one is at a strength."""
        return sum(one[j] * slope(*there, j) for j in range(count) if j != i and one[j])

    base, streams = cached_run(at(0, 0.0)), []
    for one in each:
        used = [i for i in range(count) if one[i]]
        if len(used) < 2:  # as it is
            streams.append(cached_run(one))
            continue
        across = [others(i, one, (i, one[i])) for i in used]
        at_base = [others(i, one, (0, 0.0)) for i in used]
        streams.append(predictors.crossed(base, [cached_run(at(i, one[i])) for i in used], across, at_base))
    return streams


def _first_order(run: Run, batch: Batch, each: Sequence[Weights]) -> dict[str, list[Judged]]:
    """What "disentangled" and "tangent" say."""
    count = len(each[0])
    strengths = {(i, one[i]) for one in each for i in range(count) if one[i]} | {
        (i, 1.0) for i in range(count)
    }
    base = run((0.0,) * count)
    singles = {(i, lam): run(tuple(lam * (i == j) for j in range(count))) for i, lam in sorted(strengths)}
    full = [singles[i, 1.0] for i in range(count)]
    predictions: dict[str, list[Judged]] = {"disentangled": [], "tangent": []}
    for one in each:
        weakened = [singles[i, lam] for i, lam in enumerate(one) if lam]
        predictions["disentangled"].append(judged(predictors.disentangled(base, weakened), batch))
        predictions["tangent"].append(judged(predictors.tangent(base, full, one), batch))
    return predictions


def measured(run: Run, batch: Batch, each: Sequence[Weights]) -> Mapping[str, list[Judged]]:
    """What every merge answers, run with all adapters at once."""
    return {"measured": [judged(run(one), batch) for one in each]}
