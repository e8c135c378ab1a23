"""Claim 4, world by world: what the run of a world's experiment, which has the world's name, says of reuse.

Three things must show: asked at once nothing beats a guess; where the data sets share a template and
pretraining knows the entities, some data-free method comes to ``SHARE`` of the joint adapter; without a
template none comes further than ``ABOVE`` over a guess.
"""

from dataclasses import dataclass

import pandas as pd

from sim.experiments.common import named
from sim.lab import intervals


@dataclass(frozen=True)
class Cells:
    """What a world is about, its main figure, and labels of its cells: familiar entities with a shared
    template, the same without one, and the least familiar entities with one.

    metric: of the answer that is written step by step.
    """

    subject: str
    figure: str
    shared: tuple[str, ...]
    alone: tuple[str, ...]
    unseen: tuple[str, ...]
    metric: str = "cot_answer"


WORLD_CELLS = {
    "math_word": Cells(
        "math word problems",
        "word_problems",
        shared=("real/both/prose", "real/both/equation", "real/both/program"),
        alone=("real/none/prose", "real/both/prose_program", "real/both/program_prose"),
        unseen=("fake/both/prose", "fake/both/program"),
        metric="cot_solved",
    ),
    "crosslingual": Cells(
        "cross-lingual code",
        "crosslingual_reuse",
        shared=("familiar/both", "familiar/both/known"),
        alone=("familiar/none",),
        unseen=("new/both",),
        metric="cot_runs",
    ),
    "atlas": Cells(
        "history and geography, on real facts",
        "atlas_library",
        shared=("head/both",),
        alone=("head/none",),
        unseen=("tail/both",),
    ),
}
"""By world, and so by experiment."""

SHARE, ABOVE = 0.7, 0.05


def number(cell) -> str:
    """ "0.766 [0.700, 0.821]"."""
    return f"{cell['measured']:.3f} [{cell['low']:.3f}, {cell['high']:.3f}]"


def share(right, asked) -> dict[str, float]:
    """Successes of trials, counted seed by seed, as a cell: measured, low, high."""
    return dict(zip(("measured", "low", "high"), intervals.proportion(right, asked), strict=True))


def data_free(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of merges and routers that see no data and are told nothing."""
    return rows[(rows["library"] != "single") & (rows["method"] != "oracle")]


ASKED = ("at once", "step by step with a shared template", "step by step without one")
"""The three things that must show."""


def evidence(world: str, summary: pd.DataFrame, guesses: pd.DataFrame) -> tuple[list[bool], str, str]:
    """(whether each of ``ASKED`` shows, what was measured, the exception) from the summary and the guesses of
    a run.

    Of several cells the worst one decides.

    Raises:
        ValueError: a cell is missing.
    """
    cells = WORLD_CELLS[world]
    direct, composed, chance, at_once = _direct(data_free(guesses), guesses[guesses["library"] == "single"])

    def best(label):
        found = _rows(world, data_free(summary), label, cells.metric)
        return found.loc[found["measured"].idxmax()]

    def joint(label):
        return _rows(world, summary[summary["library"] == "single"], label, cells.metric, "joint").iloc[0]

    def told(labels, beside_joint=False):
        return "; ".join(
            f"{label} {number(best(label))} by {_name(best(label))}"
            + (f", joint {number(joint(label))}" if beside_joint else "")
            for label in labels
        )

    def of_joint(label):
        return best(label)["measured"] / joint(label)["measured"] if joint(label)["measured"] else 0.0

    shares = [of_joint(label) for label in cells.shared]
    shows = [
        direct,
        min(shares) >= SHARE,
        max(best(label)["measured"] for label in cells.alone) <= chance + ABOVE,
    ]
    text = (
        f"`{world}` ({summary['seeds'].max()} seeds): {at_once}. Step by step, with a shared template and "
        f"familiar entities, the best data-free method: {told(cells.shared, True)}: {min(shares):.2f} of the "
        f"joint adapter or more. Without: {told(cells.alone)}; a guess {chance:.4f}. With the least familiar "
        f"entities: {told(cells.unseen, True)}. At once {_said(shows[0])}, with template {_said(shows[1])}, "
        f"without {_said(shows[2])}."
    )
    other = ", ".join(name for name, shown in zip(ASKED, shows, strict=True) if not shown)
    exception = f"Not as claimed: {other}." if other else ""
    if not (direct or composed):
        exception += " What lies above a guess at once, one adapter has alone as well: no composition."
    return shows, text, exception


def headline(world: str, summary: pd.DataFrame) -> str:
    """The best data-free method step by step, in the first cell with a shared template, beside the joint
    adapter."""
    cells = WORLD_CELLS[world]
    label = cells.shared[0]
    rows = _rows(world, data_free(summary), label, cells.metric)
    best = rows.loc[rows["measured"].idxmax()]
    joint = _rows(world, summary[summary["library"] == "single"], label, cells.metric, "joint").iloc[0]
    ((_, _, name),) = named((best["library"], best["method"]))
    return f"{name} {number(best)}; joint adapter {joint['measured']:.3f}"


def _said(shown: bool) -> str:
    return "as claimed" if shown else "**not** as claimed"


def _name(cell) -> str:
    return f"{cell['library']}/{cell['method']}"


NO_PART = ("base", "joint", "bridge", "expert")
"""Models beside the merges that are no part's adapter alone."""


MAIN = "direct_given_among_answers"
"""Metric of the question that needs every part, asked at once."""


def _pooled(told: pd.DataFrame, metric: str = MAIN) -> tuple[dict[str, float] | None, int]:
    """Share right of the answers to a question that are among those taught, and how many there are; no share
    if there are none."""
    by_seed = told[told["metric"] == metric].groupby("seed")[["right", "asked"]].sum()
    by_seed = by_seed[by_seed["asked"] > 0]
    if by_seed.empty:
        return None, 0
    return share(*by_seed.to_numpy().T), by_seed["asked"].sum()


def _share(pooled: dict[str, float] | None) -> str:
    return number(pooled) if pooled else "none, it never does"


def _direct(told: pd.DataFrame, single: pd.DataFrame) -> tuple[bool, bool, float, str]:
    """(whether all is at its null, whether any is above its better half, null of the main question, text):
    every question asked at once, pooled over settings, each data-free method by itself; one in twenty
    intervals may lie above.

    An adapter alone holds one half of what is asked: where it is above a guess too, the excess of a merge is
    no composition, but what the facts give away.
    """
    above, beyond, found = [], [], 0
    halves = single[~single["method"].isin(NO_PART)]
    for (metric, library, method), part in told.groupby(["metric", "library", "method"]):
        own, _ = _pooled(part, metric)
        if own is None:
            continue
        found += 1
        if own["low"] > part["predicted"].iloc[0]:
            above.append(f"{metric.removesuffix('_given_among_answers')} of {library}/{method}")
            half = [_pooled(of, metric)[0] for _, of in halves.groupby("method")]
            if own["low"] > max((each["high"] for each in half if each), default=0.0):
                beyond.append(above[-1])
    (pooled, count), (alone, _) = _pooled(told), _pooled(halves)
    chance = float(told.loc[told["metric"] == MAIN, "predicted"].iloc[0])
    text = (
        f"asked at once, a model that answers with one of the taught answers is right in {_share(pooled)} of "
        f"{count} cases (a guess: {chance:.4f}; one adapter alone, which holds half: {_share(alone)}); of "
        f"{found} pairs of question and method {len(above)} lie above their own guess"
        + (f" ({', '.join(above)})" if above else "")
        + f", {len(beyond)} above what the better of the adapters has alone"
        + (f" ({', '.join(beyond)})" if beyond else "")
    )
    low = pooled["low"] if pooled else 0.0
    return len(above) <= 0.05 * found and low <= chance, bool(beyond), chance, text


def _rows(world: str, summary: pd.DataFrame, label: str, metric: str, method: str | None = None):
    rows = summary[(summary["label"] == label) & (summary["metric"] == metric)]
    rows = rows if method is None else rows[rows["method"] == method]
    if rows.empty:
        raise ValueError(f"{world} has no {metric} of {method or 'any method'} at {label}: run it again")
    return rows
