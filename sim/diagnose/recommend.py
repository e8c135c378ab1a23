"""What to do with a library: merge and how strongly, route, or train one adapter (theory, sections 3 to 5).

Each singular direction of an update stands for one exact overwrite [model]: margin 1, swing 2. A merge
lambda * sum_j Delta W_j gives direction k the share lambda g_k of its full swing (``interference.retained``).
It survives above its critical lambda c_k = 1/(2 g_k), and it is pushed no harder than its own adapter pushes
it alone up to 1/g_k = 2 c_k.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float

EVERY, TYPICAL = "every direction", "the typical direction"


@dataclass(frozen=True)
class Directions:
    """The singular directions of one adapter in all modules: ``interference``, energy s^2."""

    critical: Float[np.ndarray, "n"]
    leakage: Float[np.ndarray, "n"]
    rival: Float[np.ndarray, "n"]
    energy: Float[np.ndarray, "n"]

    def survival(self, lam: float) -> float:
        """Share of the energy in directions that survive at lambda; a tie counts half."""
        return self._share(np.where(np.isclose(self.critical, lam, atol=1e-9), 0.5, self.critical < lam))

    def certain(self, lam: float) -> float:
        """Share of the energy that survives although all that is written beside it falls on one answer."""
        safe = np.sqrt(3.0) * self.leakage < 1.0 / (2.0 * self.critical)  # sqrt 3 p_k < g_k
        return self._share(safe & (self.critical < lam) & ~np.isclose(self.critical, lam, atol=1e-9))

    def routed(self) -> float:
        """Share of the energy in directions for which |Delta W x| is largest here; a tie counts half."""
        return self._share(np.where(np.isclose(self.rival, 1, atol=1e-9), 0.5, self.rival < 1))

    def typical(self) -> float:
        """The median critical lambda, by energy: above it more than half survives. NaN without directions."""
        if not self.critical.size:
            return np.nan
        order = np.argsort(self.critical)
        running = np.cumsum(self.energy[order])
        return float(self.critical[order][np.searchsorted(running, running[-1] / 2)])

    def largest(self) -> float:
        """The critical lambda of the direction that needs most."""
        return float(np.max(self.critical))

    def smallest(self) -> float:
        """The critical lambda of the direction that needs least, and is overdone first."""
        return float(np.min(self.critical))

    def _share(self, fraction: np.ndarray) -> float:
        return float(np.sum(fraction * self.energy) / np.sum(self.energy))


@dataclass(frozen=True)
class Recommendation:
    """``action``: average, sum, route or train. ``low``, ``high``: the lambda of a merge, high included.

    ``keeps``: what every lambda between them keeps. ``lam``: the one taken; for route and train that of the
    average. ``survival``, ``certain``: shares of each adapter's energy at lam, and at worst;
    ``routed``: by a router.
    """

    action: str
    low: float
    high: float
    lam: float
    keeps: str
    survival: list[float]
    certain: list[float]
    routed: list[float]


def gathered(modules: Sequence[Mapping[str, Any]]) -> list[Directions]:
    """The known directions of each adapter, from what ``measure_module`` says of each module."""

    def of_adapter(i: int) -> Directions:
        critical, leakage, rival, s = (
            np.concatenate([np.asarray(module[key][i]) for module in modules])
            for key in ("critical_lambda", "beside", "rival", "spectrum")
        )
        valid = ~np.isnan(critical)
        return Directions(critical[valid], leakage[valid], rival[valid], np.square(s[valid]))

    return [of_adapter(i) for i in range(len(modules[0]["norm2"]))]


def window(least: Sequence[float], most: Sequence[float]) -> tuple[float, float]:
    """(low, high]: the lambda at which the directions that need most survive and none is overdone.

    low = max_i most_i, and high = min(1, 2 min_i least_i): up to there the merge does to each direction at
    most what its own adapter does alone, and no adapter acts more strongly than it was trained to. Empty,
    low >= high, where the others double one direction and leave another alone.
    """
    return max(most), min(1.0, 2.0 * min(least))


def recommend(library: Sequence[Directions]) -> Recommendation:
    """Merge if one lambda keeps every direction, or else the typical one of every adapter; or else not.

    Of the window the average is taken if it is inside: being a convex combination it leaves right whatever
    every adapter alone leaves right (where logits are linear in the weights). Else the sum at its middle.
    Without a window: route, if for every adapter a router on |Delta W x| finds most of the energy in its
    directions; train one adapter if not even that.
    """
    count = len(library)
    routed = [directions.routed() for directions in library]
    typical = [directions.typical() for directions in library]
    windows = {
        EVERY: window([d.smallest() for d in library], [d.largest() for d in library]),
        TYPICAL: window(typical, typical),
    }
    open_ones = [keeps for keeps, (low, high) in windows.items() if low < high and not np.isclose(low, high)]
    keeps = open_ones[0] if open_ones else ""
    low, high = windows[keeps or TYPICAL]
    if not keeps:
        action, lam = "route" if min(routed) > 0.5 else "train", 1 / count
    elif low < 1 / count <= high * (1 + 1e-9) and not np.isclose(low, 1 / count):
        action, lam = "average", 1 / count
    else:
        action, lam = "sum", (low + high) / 2
    survival = [directions.survival(lam) for directions in library]
    certain = [directions.certain(lam) for directions in library]
    return Recommendation(action, low, high, lam, keeps, survival, certain, routed)
