"""Predicted logits of every merge from those of single adapters, batch by batch, reduced to three numbers.

The disentangled prediction needs whole vectors of logits at every answer token, one for each adapter and
strength; they live as long as a batch, on the model's device: up to 1 + K (G + 1) arrays of N x V float32 for
K adapters at G strengths and N answer tokens.
"""

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


def predicted(run: Run, batch: Batch, each: Sequence[Weights]) -> Mapping[str, list[Judged]]:
    """{predictor: what it says of every merge}; theory/README.md, section 12. Runs no merge.

    Single adapters and the base are said by "disentangled" as they are.
    """
    count = len(each[0])
    strengths = {(i, one[i]) for one in each for i in range(count) if one[i]} | {
        (i, 1.0) for i in range(count)
    }
    with torch.inference_mode():
        base = run((0.0,) * count)
        alone = {(i, lam): run(tuple(lam * (i == j) for j in range(count))) for i, lam in sorted(strengths)}
        full = [alone[i, 1.0] for i in range(count)]
        said: dict[str, list[Judged]] = {"disentangled": [], "tangent": []}
        for one in each:
            weakened = [alone[i, lam] for i, lam in enumerate(one) if lam]
            said["disentangled"].append(judged(predictors.disentangled(base, weakened), batch))
            said["tangent"].append(judged(predictors.tangent(base, full, one), batch))
    return said


def measured(run: Run, batch: Batch, each: Sequence[Weights]) -> Mapping[str, list[Judged]]:
    """What every merge answers, run with all adapters at once."""
    return {"measured": [judged(run(one), batch) for one in each]}
