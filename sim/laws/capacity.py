"""Section 7: the capacity of a truncated memory against random memories, and its figure."""

import jax
import numpy as np
import pandas as pd
from scipy import special

from sim.lab import intervals, seeds, style
from sim.lab.check import average, check
from sim.lab.figure import LINES, Source, build_row, figure, gap, law, line, point, points
from sim.lab.seeds import Effort
from sim.twins import capacity as twin
from theory import capacity as closed

SIZES = (
    *((*map(int, size), None) for size in closed.sizes_at_load([16, 32, 64, 128], 0.125, 2.0)),
    *((100, 64, 8, None), (256, 64, 16, None), (320, 64, 64, None), (600, 64, 8, 8)),
)
"""(facts, dimension, rank, candidates)."""


@check("capacity: recall of a truncated memory", "7", "asymptotic")
def _capacity(effort: Effort):
    """Off by less than 1.5/d, as the theory page states (.2/d to .8/d at these sizes)."""
    for size, draws in effort.some(list(zip(SIZES, (320, 160, 40, 10, 40, 20, 20, 40), strict=True))):
        facts, dim, rank, candidates = size
        runs = twin.recall(*size, key=seeds.key(20, facts, dim, rank), draws=effort(draws))
        text = f"F={facts}, d={dim}, r={rank}, among {candidates or facts}"
        yield average(text, closed.recall(*size), runs, slack=1.5 / dim)


SHARE = 0.125  # r / d of the truncated memories
COLLAPSE = {32: 60, 128: 12, 512: 4}  # width: draws a load
LOADS = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0)
LINE = np.geomspace(0.2, 5.6, 29)
WIDE = 4096  # width of a line without points, to show where the laws go
CAPACITY_RANKS = {64: (4, 8, 16, 64), 128: (8, 32)}  # ranks at which the capacity is measured, by width


def _size(dim: int, load: float) -> tuple[tuple[int, int, int], float]:
    """((facts, dim, rank), its own load 2 F ln F / (f d^2)): whole facts nearest to a load."""
    facts, _, rank = (int(number) for number in closed.sizes_at_load([dim], SHARE, load)[0])
    return (facts, dim, rank), 2 * facts * np.log(facts) / (closed.captured(SHARE) * dim**2)


def _measure_capacity(dim: int, rank: int, draws: int, key: jax.Array) -> tuple[float, float, float]:
    """(F, low, high): facts at which half are recalled, by bisection on a grid of ratio sqrt(2).

    log F is interpolated in the probit of recall between the two grid points; the interval follows from the
    errors of both recalls. No prediction enters.
    """
    grid = [round(4 * 2 ** (step / 2)) for step in range(20)]
    recalls = {}

    def at(place):
        if place not in recalls:
            runs = np.asarray(twin.recall(grid[place], dim, rank, key=key, draws=draws))
            recalls[place] = (runs.mean(), runs.std(ddof=1) / draws**0.5)
        return recalls[place]

    low, high = 0, len(grid) - 1
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if at(middle)[0] > 0.5 else (low, middle)
    ends = [at(place) for place in (low, high)]
    probit = [float(special.ndtri(np.clip(mean, 1e-3, 1 - 1e-3))) for mean, _ in ends]
    part = probit[0] / (probit[0] - probit[1])
    slope = (probit[0] - probit[1]) / np.log(grid[high] / grid[low])
    density = np.exp(-(np.array(probit) ** 2) / 2) / np.sqrt(2 * np.pi)
    error = np.hypot((1 - part) * ends[0][1] / density[0], part * ends[1][1] / density[1]) / slope
    middle = np.log(grid[low]) + part * np.log(grid[high] / grid[low])
    measured, below, above = np.exp([middle, middle - intervals.Z * error, middle + intervals.Z * error])
    return measured, below, above


def _collect(source: Source) -> pd.DataFrame:
    effort, rows = source.effort, []
    for place, (dim, draws) in effort.some(list(enumerate(COLLAPSE.items()))):
        setting = {"panel": "recall", "dim": dim}
        for size, load in effort.some([_size(dim, load) for load in LINE]):
            rows.append(law(closed.recall(*size), load=load, facts=size[0], rank=size[2], **setting))
        for step, (size, load) in effort.some([(step, _size(dim, load)) for step, load in enumerate(LOADS)]):
            runs = np.asarray(twin.recall(*size, key=seeds.key(0, place, step), draws=effort(draws)))
            rows.append(point(closed.recall(*size), runs, load=load, facts=size[0], rank=size[2], **setting))
    for load in effort.some(LINE):
        size = _size(WIDE, load)[0]
        rows.append(law(closed.recall(*size), panel="recall", dim=WIDE, load=load, facts=size[0]))
    for dim, ranks in CAPACITY_RANKS.items():
        for rank in effort.some(np.unique(np.geomspace(ranks[0], ranks[-1], 17).round().astype(int))):
            setting = {"dim": dim, "rank": rank, "parameters": rank * dim}
            rows.append(law(closed.facts_at_recall(dim, rank), panel="held", **setting))
            rows.append(law(closed.facts_small_share(dim, rank), panel="count", **setting))
    for dim, rank in effort.some([(dim, rank) for dim, ranks in CAPACITY_RANKS.items() for rank in ranks]):
        draws, predicted = effort(8), closed.facts_at_recall(dim, rank)
        setting = {"panel": "held", "dim": dim, "rank": rank, "parameters": rank * dim}
        rows.append(
            build_row(
                predicted, _measure_capacity(dim, rank, draws, seeds.key(1, dim, rank)), draws, **setting
            )
        )
    for place, (dim, draws) in effort.some(
        list(enumerate(((16, 400), (32, 200), (64, 80), (128, 24), (256, 6))))
    ):
        size = _size(dim, 2.0)[0]
        runs = np.asarray(twin.recall(*size, key=seeds.key(2, place), draws=effort(draws)))
        setting = {"panel": "convergence", "dim": dim, "rank": size[2], "facts": size[0]}
        rows.append(gap(closed.recall(*size), runs, curve="any load", **setting))
        rows.append(gap(closed.recall_large(*size), runs, curve="F ≫ d", **setting))
    return pd.DataFrame(rows)


@figure(
    "Recall collapses around F ln F = f d²/2, ever more sharply with d; a memory of rank r holds fewer facts "
    "than the count F ln F = 2rd, far fewer at small r, and the law for any load and rank says how many.",
    "Gaussian keys and values, Hebbian memory truncated to rank r by SVD; stored values compete, up to 1000 "
    "facts are asked." + LINES,
    _collect,
    section="section 7",
    panels=(
        "r = d/8; dashed: the law at a width without measurements; upright: load 1.",
        "Facts at which half are recalled, bisected on a grid of ratio √2; dotted: F ln F = 2rd.",
        "Measured minus predicted recall at r = d/8 and load 2, by the law for any load and by its leading "
        "order in F ≫ d.",
    ),
)
def capacity(rows: pd.DataFrame):
    """Recall against load, facts held against r d, and the gap of two laws against d."""
    picture, (left, middle, right) = style.figure(style.PAGE, 2.7, ncols=3)
    # A width has one look in all panels.
    looks = dict(zip((32, 64, 128, 512), style.levels(4), strict=True))
    for dim in COLLAPSE:
        part = rows[(rows["panel"] == "recall") & (rows["dim"] == dim)]
        line(left, part, "load", looks[dim])
        points(left, part, "load", looks[dim], f"d = {dim}")
    wide = rows[(rows["panel"] == "recall") & (rows["dim"] == WIDE)]
    line(left, wide, "load", 4, linestyle="--", label=f"d = {WIDE}, law")
    left.axvline(1.0, color="black", linewidth=0.6, linestyle=":")
    style.sizes(left, (0.25, 0.5, 1, 2, 4))
    left.set(xlabel="load  2 F ln F / (f d²)", ylabel="recall", title="collapse")
    style.unit(left)
    for dim in CAPACITY_RANKS:
        part = rows[(rows["panel"] == "held") & (rows["dim"] == dim)]
        line(middle, part, "parameters", looks[dim])
        points(middle, part, "parameters", looks[dim], f"d = {dim}")
    count = rows[rows["panel"] == "count"].drop_duplicates("parameters")
    line(middle, count, "parameters", 4, linestyle=":", label="F ln F = 2rd")
    style.sizes(middle, (256, 1024, 4096))
    middle.set(yscale="log", xlabel="r d", ylabel="facts held (recall ½)", title="facts held")
    right.axhline(0, color="black", linewidth=0.8)
    for series, curve in enumerate(("any load", "F ≫ d")):
        part = rows[(rows["panel"] == "convergence") & (rows["curve"] == curve)]
        points(
            right, part, "dim", style.Look("#4D4D4D", "Pv"[series]), f"law for {curve}", hollow=series == 1
        )
    style.sizes(right, (16, 32, 64, 128, 256))
    right.set(xlabel="d", ylabel="measured − law", title="gap to the law")
    style.key(picture, [left, middle, right])
    return picture
