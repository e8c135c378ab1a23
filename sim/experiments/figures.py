"""Figures of the experiments on trained transformers, drawn from the tables of ``sim.grid``."""

from pathlib import Path

import numpy as np
import pandas as pd

from sim.experiments.all import DEFAULT
from sim.lab import style
from sim.lab.figure import figure
from sim.lab.store import read_table

TABLES = Path(__file__).parents[2] / "figures" / "grid"
"""Where the committed tables of ``python -m sim.grid --profile paper`` are kept."""

SEEDS = (
    "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices; "
    "20 seeds a cell."
)

ENTITIES = ("real", "half_fake", "half_fake_subject", "fake")

NAMES = {
    "real": "real",
    "half_fake": "bridge unseen",
    "half_fake_subject": "subject unseen",
    "fake": "both unseen",
}

METHODS = (
    ("single", "joint", "joint\n(ceiling)"),
    ("hops", "oracle", "oracle\nrouter"),
    ("hops", "sum", "sum"),
    ("hops", "lambda=0.75", "λ = ¾"),
    ("hops", "average", "average"),
    ("hops", "svd", "SVD"),
    ("hops", "ties", "TIES"),
    ("hops", "arrow", "Arrow"),
    ("bridge", "sum", "+ bridge,\nsum"),
    ("expert", "sum", "+ expert,\nsum"),
)
"""(library, method, label) in the order of the main figure."""


def table(experiment: str) -> pd.DataFrame:
    """The committed summary of an experiment.

    Raises:
        ValueError: there is none; the message names the command that makes it.
    """
    path = TABLES / experiment / "summary.csv"
    if not path.exists():
        raise ValueError(
            f"{path} is missing; make it with: python -m sim.grid {experiment} --profile paper --out {TABLES}"
        )
    return read_table(path).drop(columns="experiment")


def measured(experiment: str, metrics: tuple[str, ...], methods: tuple[tuple[str, str], ...]) -> pd.DataFrame:
    """Rows of these metrics for these (library, method) pairs."""
    rows = table(experiment)
    pairs = pd.MultiIndex.from_frame(rows[["library", "method"]])
    return rows[pairs.isin(methods) & rows["metric"].isin(metrics)].reset_index(drop=True)


def _chance(axes) -> None:
    axes.axhline(DEFAULT.world.chance, color="black", linestyle="--", linewidth=0.8, zorder=0)


def _line(axes, x, rows: pd.DataFrame, series: int, label: str, hollow: bool = False) -> None:
    """Points with bars, joined by a thin guide for the eye."""
    axes.plot(x, rows["mean"], color=style.COLOURS[series], linewidth=0.5, alpha=0.6)
    style.points(axes, x, rows["mean"], rows["low"], rows["high"], series, label, hollow)


@figure(
    "Direct two-hop answers stay at chance for every library and method; by chain of thought reuse works for "
    "real entities with a shared template, and not for unseen ones.",
    SEEDS + " Left: traces of other entities in pretraining and in both data sets; right: in neither. "
    "Filled: chain of thought, hollow: direct, dashed: chance among the edited answers.",
    "experiment familiarity",
    lambda profile: measured(
        "familiarity", ("cot_answer", "direct"), tuple((library, method) for library, method, _ in METHODS)
    ),
)
def library_and_familiarity(rows: pd.DataFrame):
    """The main figure: two-hop accuracy by method, one series a familiarity."""
    picture, panels = style.figure(style.PAGE, 2.7, ncols=2, sharey=True)
    for axes, template in zip(panels, ("both", "none"), strict=True):
        _chance(axes)
        for series, entities in enumerate(ENTITIES):
            cell = rows[rows["label"] == f"{entities}/{template}"].set_index(["library", "method"])
            x = np.arange(len(METHODS)) + (series - 1.5) * 0.18
            for metric, hollow in (("cot_answer", False), ("direct", True)):
                found = cell[cell["metric"] == metric].loc[[(a, b) for a, b, _ in METHODS]]
                label = None if hollow else NAMES[entities]
                style.points(axes, x, found["mean"], found["low"], found["high"], series, label, hollow)
        axes.set_xticks(range(len(METHODS)), [label for _, _, label in METHODS], rotation=90, fontsize=6)
        axes.set_ylim(-0.03, 1.03)
    panels[0].set_ylabel("two-hop accuracy")
    panels[1].legend(loc="upper right", title="entities of the edited facts")
    panels[0].text(0.99, 0.98, "shared template", transform=panels[0].transAxes, ha="right", va="top")
    panels[1].text(0.01, 0.98, "no template", transform=panels[1].transAxes, ha="left", va="top")
    return picture


@figure(
    "Reuse falls with familiarity, fake below half fake below real, when a name is a pair of known pieces.",
    "Two-hop world with names of two tokens, template in pretraining and in both data sets; 3 layers, "
    "rank 4; 20 seeds a cell, 16 edits each. Dashed: chance among the edited answers.",
    "experiment names",
    lambda profile: measured(
        "names",
        ("cot_answer", "direct", "cot_name_copied", "cot_hop1"),
        (("hops", "sum"), ("single", "joint")),
    ),
)
def two_token_names(rows: pd.DataFrame):
    """Two-hop accuracy and what breaks first, by familiarity."""
    picture, axes = style.figure(style.COLUMN, 2.3)
    _chance(axes)
    order = ENTITIES[::-1]
    shown = (
        ("single", "joint", "cot_answer", "joint, chain of thought"),
        ("hops", "sum", "cot_answer", "sum, chain of thought"),
        ("hops", "sum", "cot_name_copied", "sum, names copied"),
        ("hops", "sum", "direct", "sum, direct"),
    )
    for series, (library, method, metric, label) in enumerate(shown):
        chosen = rows[(rows["library"] == library) & (rows["method"] == method) & (rows["metric"] == metric)]
        found = chosen.set_index("label").loc[list(order)]
        x = np.arange(4) + (series - 1.5) * 0.12
        style.points(axes, x, found["mean"], found["low"], found["high"], series, label, metric == "direct")
    axes.set_xticks(range(4), [NAMES[entities] for entities in order])
    axes.set(ylabel="accuracy", ylim=(-0.03, 1.03))
    axes.legend(loc="upper left")
    return picture


@figure(
    "Traces in the adapters' own data bridge the hops only if pretraining knows the template and they are "
    "worded alike: 4 shared traces raise the sum, 4 paraphrased ones destroy it.",
    SEEDS + " Traces of other, real entities in each adapter's data.",
    "experiment bridges",
    lambda profile: measured("bridges", ("cot_answer",), (("hops", "sum"), ("single", "joint"))),
)
def bridge_dose(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the number of traces, by wording and base."""
    picture, axes = style.figure(style.COLUMN, 2.4)
    _chance(axes)
    doses = [0, 4, 16, 64, 256]
    shown = (
        ("both", "shared", "joint", "joint, shared"),
        ("both", "shared", "sum", "sum, shared"),
        ("both", "paraphrased", "sum", "sum, paraphrased"),
        ("both", "different", "sum", "sum, hops reversed"),
        ("data", "shared", "sum", "sum, shared, base lacks template"),
    )
    for series, (template, wording, method, label) in enumerate(shown):
        chosen = rows[rows["method"] == method].set_index("label")
        found = chosen.loc[[f"{template}/{wording}/{dose}" for dose in doses]]
        _line(axes, np.arange(5) + (series - 2) * 0.06, found, series, label)
    axes.set_xticks(range(5), doses)
    axes.set(xlabel="traces of other entities in each data set", ylabel="two-hop accuracy (CoT)")
    axes.set_ylim(-0.03, 1.03)
    axes.legend(loc="center right", fontsize=6, bbox_to_anchor=(1.0, 0.42))
    return picture


@figure(
    "Familiarity is a dose of traces, not of facts: names seen in four facts and no trace stay at chance, "
    "names seen in traces and no separate fact do not.",
    SEEDS + " Otherwise unseen names; sum of the two adapters, template in pretraining and data.",
    "experiment exposure",
    lambda profile: measured(
        "exposure", ("cot_answer", "cot_name_copied"), (("hops", "sum"), ("single", "joint"))
    ),
)
def familiarity_dose(rows: pd.DataFrame):
    """Chain-of-thought accuracy against traces seen, one series for each number of facts seen."""
    picture, panels = style.figure(style.COLUMN, 2.3, ncols=2, sharey=True)
    traces = [0, 1, 4, 16]
    for axes, metric, title in zip(
        panels, ("cot_answer", "cot_name_copied"), ("two-hop accuracy", "names copied"), strict=True
    ):
        for series, facts in enumerate((0, 1, 2, 4)):
            chosen = rows[(rows["method"] == "sum") & (rows["metric"] == metric)].set_index("label")
            found = chosen.loc[[f"facts{facts}/traces{trace}" for trace in traces]]
            _line(axes, np.arange(4) + (series - 1.5) * 0.08, found, series, str(facts))
        axes.set_xticks(range(4), traces)
        axes.set(xlabel="traces seen per name", ylim=(-0.03, 1.03))
        axes.text(0.03, 0.98, title, transform=axes.transAxes, va="top")
    _chance(panels[0])
    panels[0].set_ylabel("share of queries")
    panels[0].legend(title="facts seen", loc="upper left", bbox_to_anchor=(0, 0.92))
    return picture


@figure(
    "More rank lets the average keep its edits, and beyond rank 16 makes the sum break the copying of names: "
    "the best data-free merge changes with the rank, and Arrow gains from it throughout.",
    SEEDS.replace("rank 4", "the rank shown") + " Real entities, template in pretraining and data.",
    "experiment rank",
    lambda profile: measured(
        "rank",
        ("cot_answer",),
        (("single", "joint"), ("hops", "oracle"), ("hops", "sum"), ("hops", "average"), ("hops", "arrow")),
    ),
)
def rank(rows: pd.DataFrame):
    """Chain-of-thought accuracy against the adapters' rank, by method; MLP and attention alone beside it."""
    picture, axes = style.figure(style.COLUMN, 2.4)
    _chance(axes)
    places = ["rank1", "rank2", "rank4", "rank8", "rank16", "rank32", "rank64", "mlp", "attention"]
    x = np.append(np.arange(7), [7.7, 8.7])
    for series, method in enumerate(("joint", "oracle", "sum", "average", "arrow")):
        found = rows[rows["method"] == method].set_index("label").loc[places]
        shift = (series - 2) * 0.1
        axes.plot(x[:7] + shift, found["mean"][:7], color=style.COLOURS[series], linewidth=0.5, alpha=0.6)
        style.points(axes, x + shift, found["mean"], found["low"], found["high"], series, method)
    axes.set_xticks(x, ["1", "2", "4", "8", "16", "32", "64", "MLP\nr = 4", "attn\nr = 4"])
    axes.set(xlabel="rank (all matrices)", ylabel="two-hop accuracy (CoT)", ylim=(-0.03, 1.18))
    axes.legend(ncols=3, loc="upper left", fontsize=6, columnspacing=0.8, handletextpad=0.2)
    return picture


def _sizes(_: str) -> pd.DataFrame:
    methods = tuple(pair for pair, _ in SIZE_METHODS)
    return pd.concat(
        [measured(name, ("cot_answer",), methods) for name in ("depth", "width")], ignore_index=True
    )


SIZE_METHODS = (
    (("single", "joint"), "joint"),
    (("hops", "oracle"), "oracle"),
    (("hops", "sum"), "sum"),
    (("hops", "average"), "average"),
    (("hops", "arrow"), "arrow"),
)


@figure(
    "The pattern holds at every depth and width; at fixed rank and step budget deeper and wider bases are "
    "harder to edit through the trace, for the joint adapter as for the merges.",
    SEEDS.replace("2 layers of width 64", "depth or width as shown") + " Template in pretraining and data.",
    "experiments depth, width",
    _sizes,
)
def depth_and_width(rows: pd.DataFrame):
    """Chain-of-thought accuracy against layers and against width, by method."""
    picture, panels = style.figure(style.COLUMN, 2.3, ncols=2, sharey=True)
    places = (
        ("layers", [f"layers{n}/width64" for n in (1, 2, 4)], ["1", "2", "4"]),
        ("width", [f"layers2/width{n}" for n in (64, 128, 256)], ["64", "128", "256"]),
    )
    for axes, (name, labels, ticks) in zip(panels, places, strict=True):
        _chance(axes)
        for series, ((library, method), label) in enumerate(SIZE_METHODS):
            chosen = rows[(rows["library"] == library) & (rows["method"] == method)]
            found = chosen.drop_duplicates("label").set_index("label").loc[labels]
            _line(axes, np.arange(3) + (series - 2) * 0.08, found, series, label)
        axes.set_xticks(range(3), ticks)
        axes.set(xlabel=name, ylim=(-0.03, 1.03))
    panels[0].set_ylabel("two-hop accuracy (CoT)")
    panels[1].legend(loc="center left", bbox_to_anchor=(-0.02, 0.5), fontsize=6, handletextpad=0.2)
    return picture


def _forecasts(_: str) -> pd.DataFrame:
    rows = table("familiarity")
    kept = rows[rows["predictor"].ne("") & rows["metric"].str.match("exact_|error_|agreement_")]
    return kept.assign(lam=kept["method"].str.removeprefix("lambda=").astype(float)).reset_index(drop=True)


@figure(
    "Single adapters predict their merge: adding what each does alone at its own coefficient is good to a "
    "few hundredths up to λ = 1/2 and overrates the edits beyond; the coverage law, blind to damage, fails.",
    SEEDS
    + " All 16 settings of the main experiment. Left: predicted against measured accuracy of the merged "
    "model, one point a setting, probe and λ. Right: mean absolute error a seed against λ.",
    "experiment familiarity",
    _forecasts,
)
def prediction_and_outcome(rows: pd.DataFrame):
    """Calibration of the disentangled predictor, and the error of every predictor against lambda."""
    picture, (left, right) = style.figure(style.PAGE, 2.5, ncols=2)
    exact = rows[(rows["predictor"] == "disentangled") & rows["metric"].str.startswith("exact_")]
    left.plot([0, 1], [0, 1], color="black", linewidth=0.8, zorder=0)
    for series, (low, high, label) in enumerate(
        ((0.0, 0.5, "λ ≤ ½"), (0.5, 1.0, "½ < λ ≤ 1"), (1.0, 2.0, "λ > 1"))
    ):
        part = exact[(exact["lam"] > low) & (exact["lam"] <= high)]
        x, y = part["predicted"], part["mean"]
        left.plot(
            x, y, style.MARKERS[series], color=style.COLOURS[series], markersize=2.5, alpha=0.6, label=label
        )
    left.set(xlabel="predicted by single adapters (disentangled)", ylabel="measured accuracy of the merge")
    left.legend(loc="upper left")
    errors = rows[rows["metric"].str.startswith("error_")]
    for series, predictor in enumerate(("disentangled", "tangent", "coverage", "product")):
        part = errors[errors["predictor"] == predictor]
        found = part.groupby("lam").agg(mean=("mean", "mean"), spread=("mean", "sem")).reset_index()
        half = 1.96 * found["spread"]
        found = found.assign(low=found["mean"] - half, high=found["mean"] + half)
        _line(right, found["lam"] + (series - 1.5) * 0.01, found, series, predictor)
    right.axhline(0.05, color="black", linestyle=":", linewidth=0.8)
    right.set(xlabel="common coefficient λ", ylabel="mean absolute error")
    right.legend(loc="upper left")
    return picture


def _trade(_: str) -> pd.DataFrame:
    rows = table("familiarity")
    wanted = {f"exact_{name}" for name in ("hop1", "hop2", "untouched")}
    chosen = rows[
        rows["label"].isin(("real/pretraining", "real/both"))
        & rows["metric"].isin(wanted)
        & rows["predictor"].eq("disentangled")
    ]
    return chosen.assign(lam=chosen["method"].str.removeprefix("lambda=").astype(float)).reset_index(
        drop=True
    )


@figure(
    "A sum keeps the edits and damages what nobody edited, an average does the reverse; the best coefficient "
    "lies between, and single adapters predict it.",
    SEEDS + " Real entities. Lines: disentangled prediction; points: the merged model.",
    "experiment familiarity",
    _trade,
)
def retention_and_damage(rows: pd.DataFrame):
    """Recall of the edits and of untouched facts against lambda, predicted and measured."""
    picture, panels = style.figure(style.COLUMN, 2.3, ncols=2, sharey=True)
    for axes, label in zip(panels, ("real/pretraining", "real/both"), strict=True):
        cell = rows[rows["label"] == label]
        for series, (metrics, name) in enumerate(
            ((("exact_hop1", "exact_hop2"), "edited"), (("exact_untouched",), "untouched"))
        ):
            found = (
                cell[cell["metric"].isin(metrics)].groupby("lam")[["predicted", "mean", "low", "high"]].mean()
            )
            axes.plot(found.index, found["predicted"], color=style.COLOURS[series])
            style.points(axes, found.index, found["mean"], found["low"], found["high"], series, name)
        axes.set(xlabel="λ", ylim=(-0.03, 1.03))
        template = {"real/pretraining": "in pretraining", "real/both": "in both"}[label]
        axes.text(0.97, 0.02, f"template {template}", transform=axes.transAxes, ha="right", fontsize=6)
    panels[0].set_ylabel("facts recalled")
    panels[1].legend(loc="center right")
    return picture
