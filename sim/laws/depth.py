"""Section 8: two stacked memories, in both layer orders, and familiarity; the figure of depth."""

import numpy as np
import pandas as pd

from sim.lab import seeds, style
from sim.lab.check import average, check, exact, rate
from sim.lab.figure import LINES, Source, figure, gap, law, line, point, points
from sim.lab.seeds import Effort
from sim.twins import depth as twin
from theory import depth as closed


@check("depth: direct two-hop accuracy", "8", "asymptotic")
def _depth(effort: Effort):
    """Off by less than 1.5/d: two memories add up, and the moments beyond the fourth are left out."""
    for alignment in (0.8, 0.5):
        for dim, draws in effort.some(((16, 600), (32, 300), (64, 100), (128, 40))):
            key = seeds.key(21, dim, round(10 * alignment))
            runs = twin.accuracy(dim, dim, alignment, key=key, draws=effort(draws))
            text = f"N=d={dim}, rho_b={alignment}"
            yield rate(text, closed.accuracy(dim, dim, alignment), runs, dim, slack=1.5 / dim)


@check("depth: wrong layer order", "8b", "exact")
def _wrong_order(effort: Effort):
    for entities in effort.some((2, 3, 4, 5)):
        for residual in (True, False):
            right, trials = twin.wrong_order_count(entities, seeds.key(22, entities), residual)
            text = f"N={entities}, residual {residual}, all bijections"
            yield exact(text, closed.wrong_order_accuracy(entities), right / trials, 1e-12)


@check("familiarity: cosine after c exposures", "8", "model")
def _familiarity(effort: Effort):
    """Off by less than 1/d: the model takes the norm of the noise for its mean."""
    dim = 400
    for exposures in effort.some((1, 2, 4, 8, 16, 3, 6, 32)):
        runs = twin.familiarity(exposures, 4.0, dim=dim, key=seeds.key(23, exposures), draws=effort(100))
        text = f"c={exposures}, c0=4, d={dim}"
        yield average(text, closed.familiarity(exposures, 4.0), runs, slack=1 / dim)


ORDERS = ("right", "wrong")
CURVES = {"law": closed.accuracy, "leading order": closed.accuracy_leading}


def _collect(source: Source) -> pd.DataFrame:
    effort, rows = source.effort, []
    for place, (dim, draws) in effort.some(list(enumerate(((32, 60), (64, 40), (128, 12))))):
        for order in ORDERS:
            setting = {"panel": "accuracy", "dim": dim, "order": order}
            chance = closed.wrong_order_accuracy(dim)

            def says(rho, dim=dim, order=order, chance=chance):
                return closed.accuracy(dim, dim, rho) if order == "right" else chance

            rows += [law(says(rho), alignment=rho, **setting) for rho in np.linspace(0, 1, 41)]
            for step, rho in effort.some(list(enumerate(np.linspace(0, 1, 6)))):
                key, wrong = seeds.key(3, place, step), order == "wrong"
                runs = twin.accuracy(dim, dim, rho, key=key, draws=effort(draws), wrong_order=wrong)
                rows.append(point(says(rho), np.asarray(runs), alignment=rho, **setting))
    sizes = ((16, 600), (32, 300), (64, 150), (128, 60), (256, 16))
    for place, (dim, draws) in effort.some(list(enumerate(sizes))):
        for rho in (0.8, 0.4):
            runs = np.asarray(twin.accuracy(dim, dim, rho, key=seeds.key(4, place), draws=effort(draws)))
            setting = {"panel": "convergence", "dim": dim, "alignment": rho, "order": "right"}
            rows += [gap(says(dim, dim, rho), runs, curve=curve, **setting) for curve, says in CURVES.items()]
    return pd.DataFrame(rows)


@figure(
    "Stacked adapters compose two hops in latent space exactly as far as the bridge is read as it is "
    "written, if the first hop is stored below the second; in the other order they stay at 1/N.",
    "Two layers of Gaussian memories, N = d facts, sum of both adapters." + LINES,
    _collect,
    section="section 8",
    panels=(
        "Filled: first hop below the second; hollow and dashed: above it.",
        "Measured minus predicted accuracy, filled by the law, hollow by its leading order.",
    ),
)
def depth(rows: pd.DataFrame):
    """Two-hop accuracy against bridge alignment in both layer orders, and the laws' gaps against d."""
    picture, (left, right) = style.figure(style.PAGE, 2.8, ncols=2)
    for dim, look in zip((32, 64, 128), style.levels(3), strict=True):
        for order in ORDERS:
            part = rows[(rows["panel"] == "accuracy") & (rows["dim"] == dim) & (rows["order"] == order)]
            line(left, part, "alignment", look, linestyle="-" if order == "right" else "--")
            label = f"N = d = {dim}" if order == "right" else None
            points(left, part, "alignment", look, label, hollow=order == "wrong")
    left.set(xlabel=r"bridge alignment $\rho_b$", ylabel="direct two-hop accuracy")
    left.set_title("right and wrong layer order", loc="left")
    style.unit(left, "xy")
    right.axhline(0, color="black", linewidth=0.8)
    for series, (curve, rho) in enumerate((curve, rho) for curve in CURVES for rho in (0.8, 0.4)):
        part = rows[(rows["curve"] == curve) & np.isclose(rows["alignment"], rho)]
        shifted = part.assign(dim=part["dim"] * 1.07 ** (series - 1.5))
        look = style.Look(("#000000", "#157DA8")[series % 2], "Pv"[series % 2])
        points(right, shifted, "dim", look, f"{curve}, $\\rho_b$ = {rho}", hollow=curve != "law")
    style.sizes(right, (16, 32, 64, 128, 256))
    right.set(xlabel="d", ylabel="measured − predicted", title="distance from the law")
    style.key(picture, [left], place="left", share=0.4)
    style.key(picture, [right], place="right", share=0.6)
    return picture
