"""The report in words: what to do, what it loses, what would make it certain; and the numbers behind it."""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sim.diagnose.marks import alarms, next_command
from sim.diagnose.recommend import TYPICAL
from sim.lab.figure import Source, committed

ASSUMED = (
    "assumes that each singular direction is one exact overwrite, margin 1 and swing 2, and that what others "
    "write beside it wins nothing (theory, sections 3 and 5); cross entropy overshoots and needs less lambda"
)
TWO = "answers that need two adapters in one step"
UNMET = (
    "no two adapters change one module, so that none overwrites another in any matrix, and what they do to "
    "each other through the layers between is not in their files"
)
NOT_ANSWERS = "energy is not answers: how many of these are lost is not in the files"
CERTAIN = (
    "python -m sim.predict with these adapters, --base and --prompts, which runs merges and finds the best; "
    "the files tell neither the base's margin M nor each adapter's swing Delta on your prompts, and an edit "
    "stays iff lambda kappa rho Delta > M"
)
AVERAGE, SUM = "average", "sum"
LOW = 0.05
RUN = "merge_forecast"
"""The experiment whose committed tables are read."""


def verdict(report: Mapping[str, Any], out: Path = Path("runs/diagnose")) -> list[str]:
    """Two sentences, and the next command: runs, since weights alone do not tell what a merge keeps.

    out: the folder of the diagnosis.
    """
    advice, reasons_against = report["total"]["recommendation"], alarms(report)
    count = len(advice["kept"])
    each = f"1/{count}" if advice["action"] == "average" else f"{advice['lam']:.3g}"
    what = {
        "route": "do not merge them unless runs say otherwise: give each prompt to its own adapter",
        "train": "do not merge them unless runs say otherwise: train one adapter on all the data",
    }.get(advice["action"], f"merge them by {advice['action']}, each at {each}, if runs agree")
    if reasons_against:
        more = f" ({len(reasons_against) - 1} more below)" if len(reasons_against) > 1 else ""
        lines = f"Not sure: {reasons_against[0]}{more}. If that is as it should be, {what}."
    elif advice["action"] in ("route", "train"):
        lines = f"{what[0].upper()}{what[1:]}. No common strength keeps {TYPICAL} of every adapter."
    else:
        lines = f"{what[0].upper()}{what[1:]}. {worth_sentence(advice['lam'])}."
    return [lines, f"Next: {next_command(report, out)}"]


@dataclass(frozen=True)
class Worth:
    """Share of an adapter's answers that a merge of two keeps, over pairs: median and ``LOW`` quantile."""

    pairs: int
    median: float
    low: float


@functools.cache
def worth(merge: str) -> Worth:
    """Of the pairs of the test bed, experiment ``merge_forecast``, that the files advise to merge.

    merge: "average" (lambda = 1/2) or "sum" (1). Each adapter of a pair counts.
    """
    rows = Source(committed() / "experiments").summary(RUN, "pairs_measured")
    rows = rows[(rows["merge"] == merge) & rows["action"].isin([AVERAGE, SUM])]
    pairs = len(rows.drop_duplicates(["adapters", "design", "seed", "left", "right"]))
    return Worth(pairs, rows["answers"].median(), rows["answers"].quantile(LOW))


def nearest_merge(lam: float) -> str:
    """The merge that was run at the strength nearer to lam."""
    return AVERAGE if lam <= 0.75 else SUM


def worth_sentence(lam: float) -> str:
    """What a merge at a strength near lam kept, in words."""
    merge = nearest_merge(lam)
    one = worth(merge)
    return (
        f"What is kept the files cannot tell: of {one.pairs} pairs of a language model that they advise to "
        f"merge, the {merge} kept {one.median:.0%} of the answers of an adapter in the median, and less than "
        f"{one.low:.0%} in one case of twenty"
    )


def reasons(report: Mapping[str, Any]) -> list[str]:
    """Three lines: the recommendation, what is lost on which assumption, what would make it certain."""
    return [
        f"Recommendation (weights alone): {_recommended(report['total']['recommendation'])}",
        f"Lost: {_lost(report)}; {NOT_ANSWERS}; {ASSUMED}",
        f"Certain with: {_certain(report)}",
    ]


def _recommended(advice: Mapping[str, Any]) -> str:
    lams = f"lambda in ({advice['low']:.3g}, {advice['high']:.3g}]"
    count = len(advice["kept"])
    if advice["action"] == "average":
        return f"merge by average, lambda = 1/{count}; {lams} {_promised(advice)}"
    if advice["action"] == "sum":
        weights = " ".join([f"{advice['lam']:.3g}"] * count)
        return f"merge by sum, --weight {weights}; {lams} {_promised(advice)}"
    why = f"no lambda keeps {TYPICAL} of every adapter and overdoes none: "
    needs = "infinity" if np.isinf(advice["low"]) else f"{advice['low']:.3g}"
    why += f"one needs more than {needs}, one bears at most {advice['high']:.3g}"
    if advice["action"] == "route":
        return f"do not merge: route, by |Delta W x| (SpectR); {why}"
    return f"do not merge: train one adapter on all the data; {why}, and a router cannot tell them apart"


def _promised(advice: Mapping[str, Any]) -> str:
    if advice["keeps"] == TYPICAL:
        return f"keeps {TYPICAL} of each adapter (not every direction) and overdoes none of these"
    return f"keeps {advice['keeps']} and overdoes none"


def _lost(report: Mapping[str, Any]) -> str:
    """What the recommendation costs, the adapter that pays most first."""
    if _is_disjoint(report):
        return f"not known: {UNMET}, and {TWO}"
    advice = report["total"]["recommendation"]
    merged = f"{_most_lost(advice['kept'])} of the adapters' energy"
    if advice["action"] in ("average", "sum"):
        worst = f"{_most_lost(advice['certain'])} if all that is written beside an edit falls on one answer"
        return f"{merged} at lambda = {advice['lam']:.3g}, {worst}, and {TWO}"
    routed = f"{_most_lost(advice['routed'])} where another adapter answers louder"
    if advice["action"] == "route":
        return f"by the average {merged}; by routing {routed}, and {TWO}"
    return f"by the average {merged}; by routing {routed}; by one adapter nothing but its training"


def _is_disjoint(report: Mapping[str, Any]) -> bool:
    """Whether no two adapters change one module."""
    count = len(report["adapters"])
    return len(report["disjoint"]) == count * (count - 1) // 2


def _most_lost(shares: Sequence[float]) -> str:
    least = int(np.argmin(shares))
    return f"up to {1 - shares[least]:.0%} (adapter {least + 1})"


def _certain(report: Mapping[str, Any]) -> str:
    covered = [m["features"]["covered_by_any"] for m in report["modules"].values() if "features" in m]
    if not covered:
        return f"{CERTAIN} (sim.record writes --features, which measure kappa)"
    return (
        f"{CERTAIN}; at margin 1 and swing 2 the kappa of your features lets the average decide "
        f"{np.median(covered):.0%} of tokens (median of {len(covered)} modules)"
    )


def details(report: Mapping[str, Any]) -> list[str]:
    """What theory says of this library, in sentences: exact merges, ties, largest K, smallest lambda."""
    total, count = report["total"], len(report["adapters"])
    pairs = ~np.eye(count, dtype=bool)
    interference = np.array(total["interference"])[pairs].max()
    tie = "a tie of old and new" if count == 2 else f"below 1/2, as for every library of {count} > 2"
    lines = [
        "norms: " + ", ".join(f"{value:.4g}" for value in total["norm"]),
        f"interference |DW_j V_i| / |DW_i|: at most {interference:.3f}; largest cosine of two Delta W: "
        f"{np.abs(np.array(total['cosine'])[pairs]).max():.3f}",
        f"Arrow: mean |cosine| of two prototypes {np.array(total['prototype_cosine'])[pairs].max():.3f} "
        "(1: the adapters look alike to it, 0: told apart)",
        f"average, sum, concat: exact, rank adds up; svd at the largest rank loses {total['svd_lost']:.1%} "
        "of the squared norm",
    ]
    if total["cross_term_norm"] is None:
        lines.append("linear_factors: undefined, the ranks differ")
    elif total["average_norm"] > 0:
        ratio = total["cross_term_norm"] / total["average_norm"]
        lines.append(f"linear_factors: the average plus cross terms of {ratio:.1%} of the average's norm")
    lines += [
        f"exact overwrites: the average has lambda = 1/{count}, {tie}; energy in surviving directions: "
        + _shares(total["kept_average"])
        + "; under the sum: "
        + _shares(total["kept_sum"]),
        f"smallest lambda that keeps the typical direction: {max(total['smallest_lambda_typical']):.3f}, "
        f"every direction: {total['smallest_lambda_worst']:.3f}",
        f"largest library that uniform averaging keeps: K = {total['largest_library_typical']} (typical "
        f"direction), {total['largest_library_worst']} (every direction)",
    ]
    return lines


def _shares(values: Sequence[float]) -> str:
    return ", ".join(f"{value:.0%}" for value in values)
