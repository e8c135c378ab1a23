"""The lines of a referee's figure: models, question, theorem of the null, or the removed assumption."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from sim.experiments.common.claim import PREDICTED, QUARTER, Cell, Rule
from sim.lab import style
from sim.merge.looks import ONE_ADAPTER, look_of
from sim.worlds import probe
from sim.worlds.controls import RANDOM, without

SERIES = ("sum", "average", "one adapter", "base")

PANELS = {
    "accuracy": (probe.given_among_answers, "accuracy / chance"),
    "gain": (probe.loss_gain, "null − loss, nats"),
    "over base": (probe.excess_loss_gain, "the same, less the base's"),
}
"""panel: (function of a probe and a null that gives the metric, title)."""

LINK = "(i) of 2d"
"""The assumption that no training sequence shows the bridge both as an answer and as a subject. Without it 2d
says nothing: the base saw two-hop answers, or identities are in pretraining or in the data."""

LINK_AND_HOP = "(i) of 2d, the uniform first hop of 2a"
"""The same if the first hop is an old fact: the base's knowledge of it is not an independent draw."""

NO_BRIDGE = "the last step of 2d's proof"
"""The right answer does not move as bridges are relabelled: nothing is composed."""


@dataclass(frozen=True)
class Control:
    """One line: models and their question.

    models: (library, method) of each series, "" for a series that has none here; see ``SERIES``.
    theorem: of theory/README.md, section 2, that proves the null of the merges; "" where none does.
    removes: the assumption of 2a to 2e that the control removes, if any.
    lacks: the part, if any, whose facts are in no adapter and in no base, so that nobody can know the answer.
            The null is that of a model that lacks it, if the world's probes have one.
    """

    name: str
    label: str
    models: tuple[tuple[str, str], ...]
    probe: str = "direct"
    theorem: str = ""
    removes: str = ""
    lacks: str = ""


def merged(library: str, single: str = "", base: bool = False) -> tuple[tuple[str, str], ...]:
    """Sum and average of a library, then a single adapter and the base if named."""
    merges = ((library, "sum"), (library, "average")) if library else (("", ""), ("", ""))
    return (*merges, ("single", single) if single else ("", ""), ("single", "base") if base else ("", ""))


IDENTITIES = (("pretraining", "pretraining"), ("data", "the data"), ("both", "both"))


def controls_of(parts: tuple[str, str], proved: bool) -> tuple[Control, ...]:
    """All lines in the order of the figure, from the top. ``against_nulls`` leaves out those that a run
    lacks.

    The joint adapter's data hold both facts, in different documents.

    Args:
        parts: the world's two adapters, hop 1 and hop 2.
        proved: whether theorems 2a to 2e are about this world (``sim.worlds.controls`` says of which they
            are not).
    """
    one, two = parts
    lines = (
        Control(
            "both hops edited; joint adapter", "linked/none", merged("parts", "joint", True), removes=LINK
        ),
        Control(
            "+ expert on direct answers",
            "linked/none",
            merged("direct_expert", "direct_expert"),
            removes=LINK,
        ),
        *(
            Control(
                f"{what} in place of hop {hop}", "linked/none", models, theorem="2a", lacks=parts[hop - 1]
            )
            for what, hop, models in (
                ("random", 1, merged(RANDOM + one, two)),
                ("random", 2, merged(RANDOM + two, one)),
                ("unrelated", 1, merged(f"unrelated_for_{one}")),
                ("unrelated", 2, merged(f"unrelated_for_{two}")),
            )
        ),
        *(
            Control(name, "linked/none", merged("parts", single, True), f"direct_known_{hops}", "", removes)
            for name, single, hops, removes in (
                ("hop 1 edited, hop 2 known", one, "second", LINK),
                ("hop 1 known, hop 2 edited", two, "first", LINK_AND_HOP),
                ("both hops known, held out", "", "both", LINK_AND_HOP),
            )
        ),
        *(
            Control(f"identity in {where}", f"linked/{key}", merged("parts", "joint", True), removes=LINK)
            for key, where in IDENTITIES
        ),
        Control(
            "base without two-hop answers", "unlinked/none", merged("parts", "joint", True), theorem="2d"
        ),
        Control("the same, hop 2 known", "unlinked/none", merged("parts", one), "direct_known_second", "2d"),
        Control("the same, hop 1 known", "unlinked/none", merged("parts", two), "direct_known_first", "2d"),
        *(
            Control(
                f"the same, identity in {where}",
                f"unlinked/{key}",
                merged("parts", "joint", True),
                removes=LINK,
            )
            for key, where in IDENTITIES
        ),
        *(
            Control(name, "linked/none", merged("compared", "kinds", True), question, removes=NO_BRIDGE)
            for name, question in (
                ("compared, edited apart", "compare"),
                ("compared, held out", "untouched_compare"),
            )
        ),
    )
    return lines if proved else tuple(replace(control, theorem="") for control in lines)


def against_nulls(summary: pd.DataFrame, controls: Sequence[Control]) -> pd.DataFrame:
    """One row a control, series and panel: measurement and null."""
    rows = summary[summary["predictor"] == "chance"]
    keys = rows[["label", "library", "method", "metric"]].itertuples(index=False, name=None)
    rows_by_key, table = dict(zip(keys, rows.to_dict("records"), strict=True)), []
    for control in controls:
        about = {"control": control.name, "theorem": control.theorem}
        about |= {"removes": control.removes, "lacking": bool(control.lacks)}
        nulls = (*([without(control.lacks)] if control.lacks else []), probe.UNIFORM_BASELINE)
        for panel, (metric_of, _) in PANELS.items():
            for series, model in zip(SERIES, control.models, strict=True):
                candidates = ((control.label, *model, metric_of(control.probe, null)) for null in nulls)
                row = next((rows_by_key[key] for key in candidates if key in rows_by_key), None)
                if row and (panel, series) != ("over base", "base"):
                    columns = ("label", "metric", "predicted", "measured", "low", "high", "seeds")
                    where = about | {"series": series, "panel": panel}
                    table.append(where | {name: row[name] for name in columns})
    return pd.DataFrame(table)


def cells_of(experiment: str, controls: Sequence[Control], panel: str, lacking: bool = False) -> list[Cell]:
    """The cells of merges and single adapters in a panel; ``lacking``: against the null of who lacks the part
    that nobody was taught."""
    metric_of, _ = PANELS[panel]
    return [
        Cell(
            experiment,
            control.label,
            method,
            metric_of(control.probe, without(control.lacks) if lacking else probe.UNIFORM_BASELINE),
            library,
        )
        for control in controls
        for series, (library, method) in zip(SERIES, control.models, strict=True)
        if library and series != "base"
    ]


def rules_of(
    name: str, says: str, cells: Callable[[str], list[Cell]], answers: int, history: str = ""
) -> tuple[Rule, Rule]:
    """(loss, accuracy): each stays below ``QUARTER`` of what knowing the right one of the answers would give.

    cells: panel -> its cells.
    """
    loss = "gain of the loss over its null, and over the base's gain, nats: "
    accuracy = "accuracy of direct answers that are among those that occur: "
    return (
        Rule(
            f"{name}_loss",
            loss + says,
            (*cells("gain"), *cells("over base")),
            below=QUARTER * math.log(answers),
            null=PREDICTED,
            history=history,
        ),
        Rule(
            f"{name}_accuracy",
            accuracy + says,
            tuple(cells("accuracy")),
            below=QUARTER * (1 - 1 / answers),
            null=PREDICTED,
            history=history,
        ),
    )


def draw_panel(axes, rows: pd.DataFrame, panel: str, names: Sequence[str]) -> None:
    """One panel of one world's rows, a line a control in the order of ``names``, its null dashed."""
    style.reference(axes, 1.0 if panel == "accuracy" else 0.0, "", across=True)
    for place, series in enumerate(SERIES):
        measurements = rows[(rows["panel"] == panel) & (rows["series"] == series)]
        unit = measurements["predicted"] if panel == "accuracy" else 1.0
        y = np.array([names.index(name) for name in measurements["control"]]) + (place - 1.5) * 0.19
        mean, low, high = (measurements[column] / unit for column in ("measured", "low", "high"))
        look = ONE_ADAPTER if series == "one adapter" else look_of(series)
        style.points_across(axes, mean, y, low, high, look, series)
