"""What cross entropy does to the overwrite threshold (theory/README.md, section 6, "Cross-entropy").

One overwritten fact with orthogonal key in a base that fits it exactly: logits 1 for the old answer, 0 for
the other n - 1. Gradient flow of the cross entropy on W (or on B, with the rows of A orthonormal and spanning
the keys) moves the n logits of this fact alone, by dz/dt = |phi|^2 (i_new - softmax z).
"""

import numpy as np
from jaxtyping import Float
from scipy import optimize, special

from theory import checks


def _logits(rest: float, answers: int) -> tuple[float, float]:
    """(new, old) when the n - 2 other answers have moved from 0 to ``rest`` <= 0."""
    old = rest - np.log1p(-(1 - np.exp(-1.0)) * np.exp(rest))  # no overflow however far the rest has gone
    return 1 - old - (answers - 2) * rest, old


def logits_at_loss(loss: float, answers: int) -> tuple[float, float, float]:
    """(new, old, rest): the logits of the fact when its cross entropy has come down to ``loss``.

    The flow leaves the sum of the logits and every difference exp(-z_i) - exp(-z_j) between losing answers
    unchanged, so it runs on a curve, and the loss says where: with q = exp(-rest) >= 1,

        old = -log(q - 1 + 1/e)    new = 1 - old - (n - 2) rest
        loss = log(1 + e^(old - new) + (n - 2) e^(rest - new))

    Raises ValueError for fewer than 2 answers or a loss outside (0, log(e + n - 1)), the loss of the base.
    """
    checks.whole(2, answers=answers)
    start = float(np.log(np.e + answers - 1))
    if not 0 < loss <= start:
        raise ValueError(f"loss must be above 0 and at most the base's {start:.4g}, not {loss}")

    def excess(depth):
        new, old = _logits(-depth, answers)
        return np.log1p(np.exp(old - new) + (answers - 2) * np.exp(-depth - new)) - loss

    if excess(0.0) <= 0:
        return 0.0, 1.0, 0.0
    deepest = 1.0
    while excess(deepest) > 0:
        deepest *= 2
    depth = float(optimize.brentq(excess, 0.0, deepest, xtol=1e-14, rtol=1e-14))
    return (*_logits(-depth, answers), -depth)


def critical_lambda_at_loss(loss: float, answers: int) -> float:
    """lambda_c = M_old / Delta = 1 / (1 + new - old) of a fact trained to cross entropy ``loss``.

    The margin form of section 3 along the flow: infinite before anything moved, 1/2 where the new answer
    leads by 1 as the exact overwrite does, and towards 0 as 1 / (1 + log((n - 1)/loss)) as the loss vanishes.
    Raises ValueError as ``logits_at_loss``.
    """
    new, old, _ = logits_at_loss(loss, answers)
    swing = 1 + new - old
    return 1 / swing if swing > 0 else float("inf")


def loss_for_library(adapters: int, answers: int) -> float:
    """The training loss below which every overwrite survives the uniform average of K adapters.

    Where lambda_c = 1/K, that is new - old = K - 1: about (n - 1) e^(1-K) for large K. Least squares never
    gets there for K >= 2. Raises ValueError for fewer than 1 adapter or 2 answers.
    """
    checks.whole(2, answers=answers)
    checks.whole(adapters=adapters)

    def lead(depth):
        new, old = _logits(-depth, answers)
        return new - old - (adapters - 1)

    depth = float(optimize.brentq(lead, 0.0, float(adapters), xtol=1e-14))
    new, old = _logits(-depth, answers)
    return float(np.log1p(np.exp(old - new) + (answers - 2) * np.exp(-depth - new)))


def trained_lead(time: Float[np.ndarray, "..."], start: float = -1.0) -> Float[np.ndarray, "..."]:
    """Two answers: lead = new - old after flow time ``time`` = |phi|^2 t, from ``start``.

        lead + e^lead = start + e^start + 2 time,   so  lead = x - omega(x),  omega the Wright function

    It grows as log(2 time): lambda_c falls no faster than one over the logarithm of the training time.
    Raises ValueError for a negative time, or numbers that are not finite.
    """
    checks.at_least(0, time=time)
    checks.finite(start=start)
    x = start + np.exp(start) + 2 * np.asarray(time, np.float64)
    return np.log(special.wrightomega(x))[()]


def time_of_lead(lead: Float[np.ndarray, "..."], start: float = -1.0) -> Float[np.ndarray, "..."]:
    """The flow time |phi|^2 t at which ``trained_lead`` reaches ``lead``:

        (lead + e^lead - start - e^start) / 2

    Raises ValueError for a lead below the start, or numbers that are not finite.
    """
    checks.finite(start=start)
    checks.at_least(start, lead=lead)
    lead = np.asarray(lead, np.float64)
    with np.errstate(over="ignore"):  # no training is that long
        return ((lead + np.exp(lead) - start - np.exp(start)) / 2)[()]


def merge_times(lam: float, margin: float, overlap: float, other: float) -> tuple[float, float]:
    """(first, last): between these flow times of an edit a merge at ``lam`` has it and spares another fact.

    Two answers, base margin M = ``margin`` of the edited fact and M_u = ``other`` of the other one, whose old
    answer is the one that the edit lowers and whose key has inner product ``overlap`` = kappa |phi|^2 with
    the edited key. With Delta(t) = M + lead(t), the edit holds in the merge from lam Delta > M on, the other
    fact as long as lam kappa Delta < M_u:

        first = time_of_lead(M / lam - M, -M)    last = time_of_lead(M_u / (lam kappa) - M, -M)

    infinite if kappa <= 0. Times of a smaller lambda are later, both by a factor that is exponential in
    1/lambda; whether there is any such time, kappa M < M_u, does not depend on lambda. Raises ValueError for
    margins or a lambda not above 0.
    """
    checks.above(0, lam=lam, margin=margin, other=other)
    checks.finite(overlap=overlap)
    first = float(time_of_lead(margin / lam - margin, -margin))
    if overlap <= 0:
        return first, float("inf")
    return first, float(time_of_lead(other / (lam * overlap) - margin, -margin))
