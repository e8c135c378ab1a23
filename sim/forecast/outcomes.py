"""What a run of a merge is read for: the lead of every prompt, and its gaps over a few rival tokens.

A gap is the logit of the right token less that of a rival, smooth in the strengths; the lead is the least
of all gaps over an answer's tokens and the vocabulary, and bends where the nearest rival changes. A prompt
is right, under greedy decoding, where its lead is positive. Shape letters: n runs, P prompts, N answer
tokens, R rivals, V vocabulary.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

RIVALS = 8
"""Rivals of an answer token."""

NEAREST = 3
"""The nearest others of each run from which rivals are chosen."""


class Outcomes(NamedTuple):
    """Of n runs: leads, gaps, and the prompt of each answer token, in order."""

    lead: Float[np.ndarray, "n P"]
    gap: Float[np.ndarray, "n N R"]
    row: Int[np.ndarray, " N"]

    def take(self, places: Sequence[int]) -> "Outcomes":
        """Some of the runs."""
        return Outcomes(self.lead[places], self.gap[places], self.row)


def joined(parts: Sequence[Outcomes]) -> Outcomes:
    """Runs of several outcomes, one after the other."""
    return Outcomes(*(np.concatenate([part[i] for part in parts]) for i in range(2)), parts[0].row)


def of_leads(lead: Float[np.ndarray, "n P"]) -> Outcomes:
    """Outcomes of which leads are all that is known: the lead is the only gap."""
    lead = np.asarray(lead, float)
    return Outcomes(lead, lead[:, :, None], np.arange(lead.shape[1]))


def choose_rivals(
    nearest: Int[np.ndarray, "n N m"], target: Int[np.ndarray, " N"], count: int = RIVALS
) -> Int[np.ndarray, "N R"]:
    """Tokens that come nearest to the right one over n runs: each gives 1, 1/2, 1/3 to its likeliest others.

    nearest: the m likeliest tokens of each run, in order, m > ``NEAREST``; the right one among them is passed
    over. Where fewer than ``count`` tokens came near, the first is repeated.
    """
    rivals = np.empty((len(target), count), int)
    for token, right in enumerate(target):
        points: dict[int, float] = {}
        for likeliest in nearest[:, token]:
            others = [int(other) for other in likeliest if other != right][:NEAREST]
            for rank, other in enumerate(others):
                points[other] = points.get(other, 0.0) + 1 / (1 + rank)
        order = sorted(points, key=lambda other: (-points[other], other))[:count]
        rivals[token] = order + order[:1] * (count - len(order))
    return rivals


def of_logits(
    logits: Float[np.ndarray, "n N V"],
    target: Int[np.ndarray, " N"],
    row: Int[np.ndarray, " N"],
    rivals: Int[np.ndarray, "N R"],
) -> Outcomes:
    """Outcomes of whole vectors of logits."""
    place = np.arange(len(target))
    right = logits[:, place, target]
    others = logits.copy()
    others[:, place, target] = -np.inf
    lead = np.full((len(logits), row.max() + 1), np.inf)
    np.minimum.at(lead, (slice(None), row), right - others.max(-1))
    return Outcomes(lead, right[:, :, None] - logits[:, place[:, None], rivals], row)
