"""The explorer's page: ``template.html`` with the numbers of ``theory`` that it checks itself against.

The page computes in the reader's browser, so its formulas are written once more, in JavaScript. Three things
hold them to ``theory``: the tests move its sliders in a real browser, the page itself compares its formulas
with ``CHECKED`` settings that are computed here, and each number is shown with the Python that gives it.
"""

import json
from importlib import resources
from typing import Any

import numpy as np

from theory import coverage, starvation

CHECKED = 64
"""Settings at which the page checks itself when it is opened."""

SLIDERS = {
    "lam": ("coefficient λ of the merge", 0.05, 1.5, 0.01, 0.5),
    "overlap": ("overlap κ of the prompt with the one that was taught", 0.0, 1.2, 0.01, 1.0),
    "rank": ("rank r of an adapter", 1, 64, 1, 8),
    "facts": ("facts F it overwrites", 1, 64, 1, 16),
    "adapters": ("adapters K in the library", 1, 12, 1, 2),
    "margin": ("margin M of the base's old answer", 0.1, 4.0, 0.05, 1.0),
    "swing": ("swing Δ of the full edit", 0.1, 8.0, 0.05, 2.0),
}
"""What each slider sets: label, smallest, largest, step, value at the start (two averaged overwrites)."""

NEW, OLD = "#0072B2", "#D55E00"
"""Colours of the two outcomes, distinct for colour-blind readers and dark enough for a line."""

WHOLE = ("rank", "facts", "adapters")


def random_settings(count: int, seed: int) -> list[dict[str, Any]]:
    """Settings on the sliders' own grids; "shared": whether the keys share a direction."""
    rng = np.random.default_rng(seed)
    settings = []
    for _ in range(count):
        setting: dict[str, Any] = {}
        for name, (_, low, high, step, _) in SLIDERS.items():
            value = low + step * int(rng.integers(round((high - low) / step) + 1))
            setting[name] = int(value) if name in WHOLE else round(value, 10)
        settings.append(setting | {"shared": bool(rng.integers(2))})
    return settings


def numbers(setting: dict[str, Any]) -> dict[str, Any]:
    """What the page shows of a setting, from ``theory``; None for infinity, which JSON lacks.

    share rho = min(1, r/F); arrives lambda kappa rho Delta; decides the coverage law; critical the smallest
    lambda, library the largest K whose average keeps the fact of mean share; kept, kept_average the share of
    facts that answer new at lambda and at 1/K.
    """
    s = setting
    share = min(1.0, s["rank"] / s["facts"])
    critical = float(coverage.critical_lambda(s["margin"], s["overlap"] * share * s["swing"]))
    recall = starvation.shared_overwrite_recall if s["shared"] else starvation.overwrite_recall

    def recall_at(lam: float) -> float:
        return float(recall(s["facts"], s["rank"], lam * s["overlap"] * s["swing"] / (2 * s["margin"])))

    return {
        "share": share,
        "arrives": float(coverage.strength(s["lam"], s["overlap"], share)) * s["swing"],
        "decides": bool(coverage.decides(s["lam"], s["overlap"], share, s["margin"], s["swing"])),
        "critical": critical if np.isfinite(critical) else None,
        "library": coverage.largest_library(critical),
        "kept": recall_at(s["lam"]),
        "kept_average": recall_at(1 / s["adapters"]),
    }


def page() -> str:
    """The whole page as text."""
    template = resources.files("sim.explore").joinpath("template.html").read_text(encoding="utf-8")
    settings = random_settings(CHECKED, seed=1)
    data = {
        "sliders": {
            name: dict(zip(("label", "min", "max", "step", "value"), given, strict=True))
            for name, given in SLIDERS.items()
        },
        "colours": [NEW, OLD],
        "checked": [{"setting": setting, "numbers": numbers(setting)} for setting in settings],
    }
    return template.replace("/* DATA */ null", json.dumps(data, ensure_ascii=False))
