"""The lines of a referee's figure: models, question, theorem of the null, or the removed assumption; and the
schedules, libraries and bases of the runs behind them."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from sim.experiments.common.claim import PREDICTED, QUARTER, Cell, Rule
from sim.lab import style
from sim.lab.figure import points_across
from sim.merge.looks import ONE_ADAPTER, look_of
from sim.model.training import Schedule
from sim.reuse.config import ReuseConfig
from sim.worlds import probe
from sim.worlds.controls import RANDOM, stand_ins, without

SERIES = ("sum", "average", "one adapter", "base")

PANELS = {
    "accuracy": (probe.given_among_answers, "right answers, in units of a guess"),
    "gain": (probe.loss_gain, "gain over a guess, nats"),
    "over base": (probe.excess_loss_gain, "the same less the base's"),
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


IDENTITIES = (("pretraining", "pretraining"), ("data", "the adapters' data"), ("both", "all data"))
"""(place of identities, its name). The figures have the last, where a link is most likely."""


def controls_of(parts: tuple[str, str], proved: bool) -> tuple[Control, ...]:
    """All lines; "plain base": pretraining showed it no two-hop answers.

    The joint adapter's data hold both facts, in different documents.

    Args:
        parts: the world's two adapters, hop 1 and hop 2.
        proved: whether theorems 2a to 2e are about this world (``sim.worlds.controls`` says of which they
            are not).
    """
    one, two = parts
    both = ("parts", "joint", True)
    table = [  # name, label, (library, single adapter, base), question, theorem, removes, lacks
        ("both hops edited", "linked/none", both, "direct", "", LINK),
        ("with an expert on direct answers", "linked/none", ("direct_expert",) * 2, "direct", "", LINK),
        ("random adapter for hop 1", "linked/none", (RANDOM + one, two), "direct", "2a", "", one),
        ("random adapter for hop 2", "linked/none", (RANDOM + two, one), "direct", "2a", "", two),
        ("unrelated adapter for hop 1", "linked/none", (f"unrelated_for_{one}",), "direct", "2a", "", one),
        ("unrelated adapter for hop 2", "linked/none", (f"unrelated_for_{two}",), "direct", "2a", "", two),
    ]
    pairs = (
        ("hop 1 edited, hop 2 known", "parts", one, "direct_known_second", LINK),
        ("hop 1 known, hop 2 edited", "parts", two, "direct_known_first", LINK_AND_HOP),
        ("both hops known", "parts", "", "direct_known_both", LINK_AND_HOP),
    )
    table += [(name, "linked/none", (*of, True), question, "", link) for name, *of, question, link in pairs]
    for key, where in IDENTITIES:
        table += [(f"identities in {where}", f"linked/{key}", both, "direct", "", LINK)]
    table += [("plain base: both hops edited", "unlinked/none", both, "direct", "2d")]
    table += [
        (f"plain base: {name}", "unlinked/none", of, question, "2d") for name, *of, question, _ in pairs[:2]
    ]
    for key, where in IDENTITIES:
        table += [(f"plain base: identities in {where}", f"unlinked/{key}", both, "direct", "", LINK)]
    compared = ("compared", "kinds", True)
    table += [
        ("comparison, one value edited each", "linked/none", compared, "compare", "", NO_BRIDGE),
        ("comparison, both values known", "linked/none", compared, "untouched_compare", "", NO_BRIDGE),
    ]
    lines = (Control(name, label, merged(*models), *rest) for name, label, models, *rest in table)
    return tuple(lines) if proved else tuple(replace(control, theorem="") for control in lines)


def against_nulls(summary: pd.DataFrame, controls: Sequence[Control], panels: Sequence[str]) -> pd.DataFrame:
    """One row a control, series and panel that the run has: measurement and null."""
    rows = summary[summary["predictor"] == "chance"]
    keys = rows[["label", "library", "method", "metric"]].itertuples(index=False, name=None)
    rows_by_key, table = dict(zip(keys, rows.to_dict("records"), strict=True)), []
    for control in (control for control in controls if control.label.endswith(("/none", "/both"))):
        about = {"control": control.name, "theorem": control.theorem}
        about |= {"removes": control.removes, "lacking": bool(control.lacks)}
        nulls = (*([without(control.lacks)] if control.lacks else []), probe.UNIFORM_BASELINE)
        for panel in panels:
            for series, model in zip(SERIES, control.models, strict=True):
                candidates = (
                    (control.label, *model, PANELS[panel][0](control.probe, null)) for null in nulls
                )
                if row := next((rows_by_key[key] for key in candidates if key in rows_by_key), None):
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


def order(rows: pd.DataFrame) -> list[str]:
    """The controls, the largest gain of the sum first; mean over worlds, if there are several."""
    gains = rows[(rows["panel"] == "gain") & (rows["series"] == "sum")].groupby("control")["measured"].mean()
    return list(gains.sort_values(ascending=False, kind="stable").index)


def draw_panels(panels: Mapping, rows: pd.DataFrame, shaded: str) -> None:
    """Draw in {axes: (rows, panel)} a line a control, in the order of all ``rows``, its null dashed.

    shaded: the column of the rows that have a grey band.
    """
    names = order(rows)
    bands = set(rows["control"][rows[shaded].notna() & rows[shaded].astype(bool)])
    for axes, (part, panel) in panels.items():
        for y in (names.index(name) for name in names if name in bands):
            axes.axhspan(y - 0.5, y + 0.5, color="0.92", linewidth=0, zorder=-1)
        style.reference(axes, 1.0 if panel == "accuracy" else 0.0, "", across=True)
        for place, series in enumerate(SERIES):
            chosen = part[(part["panel"] == panel) & (part["series"] == series)].set_index("control")
            if panel == "accuracy":
                chosen = chosen[["measured", "low", "high"]].div(chosen["predicted"], axis=0)
            look = ONE_ADAPTER if series == "one adapter" else look_of(series)
            points_across(axes, chosen, names, (place - 1.5) * 0.19, look, series)
        axes.set_xlabel(PANELS[panel][1])
    style.rows(list(panels), names)


def with_batches(schedule: Schedule, *batches: tuple[str, int]) -> Schedule:
    """The schedule that draws from further groups as well."""
    return replace(schedule, batch=schedule.batch + batches)


def libraries(parts: tuple[str, ...]) -> tuple[str, ...]:
    """Names of the libraries in which an unrelated or a random adapter stands in for a part."""
    return tuple(name for other in ("unrelated", RANDOM) for name, _ in stand_ins(parts, other))


def unlinked(config: ReuseConfig) -> ReuseConfig:
    """The same with a base that sees no traces and no answers to questions of two or more hops."""
    batch = tuple(pair for pair in config.pretraining.batch if not pair[0].startswith(("direct", "traces")))
    return replace(config, pretraining=replace(config.pretraining, batch=batch))
