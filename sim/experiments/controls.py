"""The controls a referee asks for: what else might join two facts, asked of the same world and held to nulls.

Cells "linked/I" have a base that was shown two-hop answers and traces, "unlinked/I" one that was not; I says
where identities ("b IS b") occur. A world that offers controls (``sim.worlds.controls``) is one ``Part``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sim.experiments.common import SMALL
from sim.experiments.registry import experiment
from sim.lab import style
from sim.lab.figure import Source, figure
from sim.merge.looks import ONE_ADAPTER, look_of
from sim.model.training import Schedule
from sim.reuse.config import ReuseConfig
from sim.reuse.jobs import Part, plain
from sim.worlds import probe, two_hop
from sim.worlds.controls import RANDOM, stand_ins
from sim.worlds.two_hop import TEMPLATES, Setting
from sim.worlds.two_hop import controls as two_hop_controls
from sim.worlds.two_hop.writer import PARTS


def _with(schedule: Schedule, *batches: tuple[str, int]) -> Schedule:
    return replace(schedule, batch=schedule.batch + batches)


ALONE = replace(
    SMALL,
    world=two_hop.Config(controls=True),
    # Half as many steps more than elsewhere: comparisons are learned last.
    pretraining=replace(_with(two_hop.PRETRAINING, *two_hop_controls.PRETRAINING), steps=600),
    finetuning=_with(two_hop.FINETUNING, *two_hop_controls.FINETUNING),
    methods=("average", "sum"),
    lambdas=(),
    routers=(),
    oracle=False,
    losses=True,
)
"""The two hop adapters and the joint one, in a world with controls."""

STAND_INS = tuple(name for other in ("unrelated", RANDOM) for name, _ in stand_ins(PARTS, other))

ALL = replace(ALONE, extras=("direct_expert", *STAND_INS, "compared", "kinds"))
"""The same with every library that the world names."""


def unlinked(config: ReuseConfig) -> ReuseConfig:
    """The same with a base that is shown facts, comparisons, identities, and no two-hop answer or trace."""
    batch = tuple(pair for pair in config.pretraining.batch if pair[0] not in ("direct", "traces"))
    return replace(config, pretraining=replace(config.pretraining, batch=batch))


@experiment(
    quick={"linked": ("both",), "without": ("none", "both")},
    paper={"linked": ("pretraining", "data", "both"), "without": tuple(TEMPLATES)},
)
def controls(linked: Sequence[str], without: Sequence[str]) -> Iterator[Part]:
    """Controls: known and compared facts, stand-ins, a direct expert, identities; chance of the loss."""
    yield plain(ALL, {"linked/none": Setting()})
    yield plain(ALONE, {f"linked/{i}": Setting(identity=i) for i in linked})
    yield plain(unlinked(ALONE), {f"unlinked/{i}": Setting(template="none", identity=i) for i in without})


@dataclass(frozen=True)
class Control:
    """One line of the figure: who is asked what.

    models: (library, method) of each series, "" for a series that has none here; see ``SERIES``.
    theorem: of theory/README.md, section 2, that proves the null of the merges; "" where none does.
    """

    name: str
    label: str
    models: tuple[tuple[str, str], ...]
    probe: str = "direct"
    theorem: str = ""


SERIES = ("sum", "average", "one adapter", "base")


def merged(library: str, alone: str = "", base: bool = False) -> tuple[tuple[str, str], ...]:
    """Sum and average of a library, and beside them a single adapter or the base, if named."""
    merges = ((library, "sum"), (library, "average")) if library else (("", ""), ("", ""))
    return (*merges, ("single", alone) if alone else ("", ""), ("single", "base") if base else ("", ""))


CONTROLS = (
    Control("both hops edited; joint adapter", "linked/none", merged("parts", "joint", True)),
    Control("+ expert on direct answers", "linked/none", merged("direct_expert", "direct_expert")),
    Control("random in place of hop 1", "linked/none", merged(RANDOM + "hop1", "hop2"), theorem="2a"),
    Control("random in place of hop 2", "linked/none", merged(RANDOM + "hop2", "hop1"), theorem="2a"),
    Control("unrelated in place of hop 1", "linked/none", merged("unrelated_for_hop1"), theorem="2a"),
    Control("unrelated in place of hop 2", "linked/none", merged("unrelated_for_hop2"), theorem="2a"),
    Control("hop 1 edited, hop 2 known", "linked/none", merged("parts", "hop1", True), "direct_known_second"),
    Control("hop 1 known, hop 2 edited", "linked/none", merged("parts", "hop2", True), "direct_known_first"),
    Control("both hops known, held out", "linked/none", merged("parts", "", True), "direct_known_both"),
    *(
        Control(f"identity in {where}", f"linked/{key}", merged("parts", "joint", True))
        for key, where in (("pretraining", "pretraining"), ("data", "the data"), ("both", "both"))
    ),
    Control("base without two-hop answers", "unlinked/none", merged("parts", "joint", True), theorem="2d"),
    Control("the same, hop 2 known", "unlinked/none", merged("parts", "hop1"), "direct_known_second", "2d"),
    Control("the same, hop 1 known", "unlinked/none", merged("parts", "hop2"), "direct_known_first", "2d"),
    *(
        Control(f"the same, identity in {where}", f"unlinked/{key}", merged("parts", "joint", True))
        for key, where in (("pretraining", "pretraining"), ("data", "the data"), ("both", "both"))
    ),
    Control("compared, edited apart", "linked/none", merged("compared", "kinds", True), "compare"),
    Control("compared, held out", "linked/none", merged("compared", "kinds", True), "untouched_compare"),
)
"""In the order of the figure, from the top. Lines that a run does not hold are left out."""

PANELS = {
    "accuracy": (probe.given_among_answers, "(a) accuracy / chance"),
    "gain": (lambda name: f"{name}_loss_gain", "(b) null − loss, nats"),
    "over base": (lambda name: f"{name}_loss_gain_over_base", "(c) the same, less the base's"),
}
"""panel: (metric of a probe, title)."""


def against_nulls(summary: pd.DataFrame) -> pd.DataFrame:
    """One row a control, series and panel: what was measured beside its null."""
    rows = summary[summary["predictor"] == "chance"]
    keys = rows[["label", "library", "method", "metric"]].itertuples(index=False, name=None)
    told, found = dict(zip(keys, rows.to_dict("records"), strict=True)), []
    for control in CONTROLS:
        for panel, (metric_of, _) in PANELS.items():
            for series, model in zip(SERIES, control.models, strict=True):
                row = told.get((control.label, *model, metric_of(control.probe)))
                if row and (panel, series) != ("over base", "base"):
                    where = {"control": control.name, "theorem": control.theorem, "series": series}
                    kept = ("label", "metric", "predicted", "measured", "low", "high", "seeds")
                    found.append(where | {"panel": panel} | {name: row[name] for name in kept})
    return pd.DataFrame(found)


def _collect(source: Source) -> pd.DataFrame:
    return against_nulls(source.summary("controls"))


@figure(
    "Two edited hops are joined in no answer and no loss, whatever is added or stands in; an edited and a "
    "known hop are, in the loss alone, if pretraining showed two-hop answers; comparisons show no edit.",
    "Two-hop world of 64 entities, 16 edits a hop; 2 layers of width 64, rank 4 on all matrices. (a) Right "
    "answers among those that occur, in units of a guess (dashed: 1). (b) Mean -log p over all pairings of "
    "questions and answers, less that of the right pairs (dashed: 0). (c) How far it is above the base's, "
    "paired by seed.",
    "experiment controls",
    _collect,
    ("controls",),
)
def referee(rows: pd.DataFrame):
    """Every control against its null: answers that occur, and the loss."""
    picture, panels = style.figure(style.PAGE, 4.2, ncols=3, sharey=True)
    names = [control.name for control in CONTROLS if control.name in set(rows["control"])]
    for axes, (panel, (_, title)) in zip(panels, PANELS.items(), strict=True):
        null = 1.0 if panel == "accuracy" else 0.0
        axes.axvline(null, color="black", linestyle="--", linewidth=0.8, zorder=0)
        for place, series in enumerate(SERIES):
            found = rows[(rows["panel"] == panel) & (rows["series"] == series)]
            unit = found["predicted"] if panel == "accuracy" else 1.0
            y = np.array([names.index(name) for name in found["control"]]) + (place - 1.5) * 0.19
            mean, low, high = (found[column] / unit for column in ("measured", "low", "high"))
            look = ONE_ADAPTER if series == "one adapter" else look_of(series)
            style.points_across(axes, mean, y, low, high, look, series)
        axes.set_title(title, loc="left")
        axes.grid(axis="y", color="0.93", linewidth=0.5)
    panels[0].set_yticks(range(len(names)), names)
    panels[0].invert_yaxis()
    title = f"mean and 95% interval of {rows['seeds'].max():.0f} seeds"
    handles = panels[0].get_legend_handles_labels()
    picture.legend(*handles, loc="outside lower center", ncols=len(SERIES), title=title, title_fontsize=7)
    return picture
