"""What merges answer to a batch of questions: log-likelihood, lead and gaps over rival tokens."""

from collections.abc import Callable, Sequence

import numpy as np
import torch

from sim.forecast.outcomes import NEAREST, choose_rivals
from sim.hf._model import Loaded
from sim.hf._run import fitting
from sim.hf.passes._stack import merge_logits
from sim.hf.tokens import Batch, Question, batch
from sim.predict.run import Answer

CHECKED = 2 * NEAREST
"""Likeliest tokens of a run that rivals are chosen from."""


def ask(
    loaded: Loaded,
    items: Sequence[Question],
    weights: np.ndarray,
    rivals: list | None,
    advance: Callable[[int], object] = int,
) -> tuple[list[list[Answer]], list[list[list[int]]]]:
    """The answers of each question under each merge, and the rivals of its tokens, chosen if not given.

    advance: called with the number of merges after each pass of the model.
    """
    together = batch(items)
    counts = np.bincount(together.row, minlength=len(items))
    with fitting(), torch.inference_mode():
        if rivals is None:  # the logits are needed again when rivals are known
            logits = list(_passes(loaded, together, weights, advance))
            nearest = np.concatenate([part.topk(CHECKED, dim=-1).indices.cpu().numpy() for part in logits])
            table = choose_rivals(nearest, together.target)
        else:
            logits = _passes(loaded, together, weights, advance)
            table = np.concatenate([np.array(each) for each in rivals])
        parts = [_read(part, together, table) for part in logits]
    loglik, lead, gap = (np.concatenate(side) for side in zip(*parts, strict=True))
    edges = np.cumsum(counts)[:-1]
    gaps = [np.split(one, edges) for one in gap]
    answers = [
        [Answer(float(loglik[m, q]), float(lead[m, q]), gaps[m][q].tolist()) for m in range(len(weights))]
        for q in range(len(items))
    ]
    return answers, [part.tolist() for part in np.split(table, edges)]


def _passes(loaded, together: Batch, weights: np.ndarray, advance: Callable[[int], object]):
    """The logits of the merges, pass by pass."""
    for count, part in merge_logits(loaded, together, weights.tolist()):
        advance(count)
        yield part


def _read(logits: torch.Tensor, together: Batch, rivals: np.ndarray) -> tuple[np.ndarray, ...]:
    """(log-likelihood (m, P), lead (m, P), gaps (m, N, R)) of logits (m, N, V)."""
    device, count = logits.device, int(together.row.max()) + 1
    target = torch.as_tensor(together.target, device=device)[None, :, None].expand(len(logits), -1, 1)
    row = torch.as_tensor(together.row, device=device)[None].expand(len(logits), -1)
    right = logits.gather(-1, target)
    values, tokens = logits.topk(2, dim=-1)
    other = torch.where(tokens[..., :1] == target, values[..., 1:], values[..., :1])
    lead = right.new_full((len(logits), count), torch.inf)
    lead = lead.scatter_reduce(1, row, (right - other)[..., 0], "amin")
    loglik = right.new_zeros(len(logits), count)
    loglik = loglik.scatter_add(1, row, (right[..., 0] - logits.logsumexp(-1)))
    places = torch.as_tensor(rivals, device=device)[None].expand(len(logits), -1, -1)
    return tuple(part.cpu().numpy() for part in (loglik, lead, right - logits.gather(-1, places)))
