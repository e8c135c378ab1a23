"""The claims about controls: which lines of a figure lie apart from their nulls."""

import pandas as pd

from sim.figures.worlds_claims import number, share

EXPECTED = 0.05
"""Share of exact 95% intervals that may lie above their null, when half of those that miss lie below."""


def told(rows: pd.DataFrame, what: str) -> str:
    """How many of these lines lie above and below their nulls; those above by what the control takes away."""
    text = f"{len(rows)} lines {what}: {_above(rows).sum()} above it, {_below(rows).sum()} below"
    found = []
    for removes, part in rows[_above(rows)].groupby("removes", sort=False):
        lines = "; ".join(_line(row) for row in part.itertuples())
        found.append(f"{f'without {removes}' if removes else 'nothing taken away'}: {lines}")
    return text + (f" (above, {'. Above, '.join(found)}). " if found else ". ")


def share_above(rows: pd.DataFrame) -> tuple[int, int]:
    """(how many of the lines lie above their null, how many there are)."""
    return int(_above(rows).sum()), len(rows)


def within(rows: pd.DataFrame) -> bool:
    """Whether no more of the lines lie above their null than exact intervals would."""
    above, lines = share_above(rows)
    return above <= EXPECTED * lines


CHANCE = 1
"""Models of a world that may lie above their null: of a dozen exact intervals one does in one run of four."""


def of_world(world: str, rows: pd.DataFrame) -> tuple[bool, str, str]:
    """(whether models are at their null where a hop is known to nobody, what was measured, in short) of a
    world that no theorem is about.

    A model is above it if its accuracy is above a guess, or its loss gains on the null and on the base: facts
    of the real world are no guess to the base, and what it gains by itself is no reuse. The null is that
    of who lacks the hop, where the world knows it (theory, 2f).
    """
    lacking = rows[rows["lacking"] & (rows["series"] != "base")]
    above = []
    for (control, series), part in lacking.groupby(["control", "series"], sort=False):
        found = dict(zip(part["panel"], _above(part), strict=True))
        if found.get("accuracy", False) or (found["gain"] and found["over base"]):
            above.append(f"{control}, {series}")
    models = lacking.groupby(["control", "series"]).ngroups
    text = (
        f"`{world}` ({int(rows['seeds'].max())} seeds): of {models} models with a hop that nobody was taught "
    )
    text += f"{len(above)} lie above a guess, in accuracy or in a loss that the base does not have as well"
    text += f" ({'; '.join(above)}). " if above else ". "
    text += told(rows[~rows["lacking"]], "of other controls")
    part = share([len(above)], [models])
    short = f"{len(above)} of {models} models above a guess, {number(part)}; at most {CHANCE} by chance"
    return len(above) <= CHANCE, text + ENDING, short


ENDING = "Gains of the loss in nats; a line is a control, a model and a panel; a seed's models share luck."


def _above(rows: pd.DataFrame) -> pd.Series:
    return rows["low"] > rows["predicted"]


def _below(rows: pd.DataFrame) -> pd.Series:
    return rows["high"] < rows["predicted"]


def _line(row) -> str:
    null = f", null {row.predicted:.4f}" if row.predicted else ""
    return f"{row.control}, {row.series}, {row.panel} {number(row._asdict())}{null}"
