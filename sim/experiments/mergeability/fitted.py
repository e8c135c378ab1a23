"""Outcomes fitted by a linear law of metrics; each setting is predicted from the other settings."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from sim.lab import intervals

STRATA = ["lam", "metric"]
"""Columns of a stratum of comparable cells: one coefficient and one question. Each stratum has its own
law."""

PENALTY = 1.0
"""Weight of the ridge on standardised features; the sum of squared errors has weight 1."""


def ridge(x: np.ndarray, y: np.ndarray, penalty: float = PENALTY) -> tuple[float, np.ndarray]:
    """(intercept a, coefficients b (p,)) with least sum (y - a - x b)^2 + penalty |b * deviation of x|^2.

    x (n, p), y (n,). Closed form; the intercept is free. Without features (p = 0) a is the mean of y; a
    feature that does not vary has coefficient 0.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 0, spread, np.inf)
    z = (x - mean) / spread
    b = np.linalg.solve(z.T @ z + penalty * np.eye(x.shape[1]), z.T @ (y - y.mean())) / spread
    return float(y.mean() - mean @ b), b


def leave_one_out(rows: pd.DataFrame, features: Sequence[str]) -> pd.Series:
    """Fitted ``measured`` of every row: ``ridge`` on the rows of its stratum with another setting (label),
    clipped to 0 to 1. NaN in strata of a single setting."""
    given, measured = rows[list(features)].to_numpy(float), rows["measured"].to_numpy(float)
    setting, fits = pd.factorize(rows["label"])[0], np.full(len(rows), np.nan)
    for stratum in rows.groupby(STRATA).indices.values():
        x, y, of = given[stratum], measured[stratum], setting[stratum]
        for one in np.unique(of):
            test = of == one
            if test.all():
                continue
            a, b = ridge(x[~test], y[~test])
            fits[stratum[test]] = np.clip(a + x[test] @ b, 0.0, 1.0)
    return pd.Series(fits, index=rows.index)


def rank_correlation(rows: pd.DataFrame, column: str) -> tuple[float, float, float]:
    """(Spearman's correlation of a column with ``measured``, low, high), within strata and pooled over them.

    Ranks are taken in each stratum by itself and centred; the correlation is that of all centred ranks.
    95% interval by bootstrap over seeds. 0 where the column does not vary.
    """
    pairs = rows.dropna(subset=[column, "measured"])
    centred = [
        pairs.groupby(STRATA)[name].transform(lambda x: x.rank() - (len(x) + 1) / 2)
        for name in (column, "measured")
    ]
    x, y = (ranks.to_numpy(float) for ranks in centred)
    moments = pd.DataFrame({"xy": x * y, "xx": x * x, "yy": y * y}).groupby(pairs["seed"].to_numpy()).sum()

    def correlation(sums):
        size = np.sqrt(sums[..., 1] * sums[..., 2])
        return sums[..., 0] / np.where(size > 0, size, np.inf)

    each = moments.to_numpy()
    low, high = np.quantile(correlation(intervals.resamples(len(each)) @ each), (0.025, 0.975))
    return float(correlation(each.sum(axis=0))), float(low), float(high)
