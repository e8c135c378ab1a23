"""Predictions of a merge that never run the merged model (theory/README.md, section 12)."""

from collections.abc import Sequence

import numpy as np


def tangent_logits(base: np.ndarray, singles: Sequence[np.ndarray], lams: Sequence[float]) -> np.ndarray:
    """base + sum_i lambda_i (single_i - base): logits of a merge from logits of each adapter alone.

    Exact for adapters on the readout W (or the last MLP output, up to the final RMSNorm, which does not
    change the argmax); a first-order expansion in lambda for any other adapter. All arrays (..., V).
    """
    return base + sum(lam * (single - base) for lam, single in zip(lams, singles, strict=True))


def accuracy(logits: np.ndarray, target: np.ndarray) -> float:
    """Share of completions whose every token is the argmax: logits (S, L, V), target (S, L)."""
    return float(np.mean(np.all(np.argmax(logits, axis=-1) == target, axis=-1)))
