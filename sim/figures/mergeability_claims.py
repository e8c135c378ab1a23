"""What foretells a merge: the run of the experiment ``mergeability``, said in sentences with verdicts."""

import pandas as pd

from sim.experiments.common.predicted import prediction_errors
from sim.experiments.familiarity import RANGES
from sim.experiments.mergeability import ALL, METRICS, NULL, OURS, compared
from sim.figures.worlds_claims import number
from sim.reuse import interaction

AIMS = {RANGES[0][2]: 0.03, RANGES[1][2]: 0.06}
"""Mean absolute error that a forecast should keep to on undecided cells, by range of lambda."""

Verdict = tuple[bool, bool, str, str]
"""(whether all of a claim shows, whether part of it does, what was measured, in short)."""


def forecasts(rows: pd.DataFrame) -> Verdict:
    """Errors of the predictors of ``OURS``, ``composed`` by setting as well. All: ``composed`` keeps to
    ``AIMS`` with the upper end of its interval; part: it is better than ``disentangled``, intervals apart.

    rows: ``sim.experiments.mergeability.outcomes``.
    """
    short = []
    kept, better, told = [], [], [f"{rows['seed'].nunique()} seeds. Mean absolute error on undecided cells"]
    for low, high, words in RANGES[:2]:
        part = rows[(rows["lam"] > low) & (rows["lam"] <= high)]
        errors = _undecided(part, OURS)
        kept.append(errors.loc["composed", "high"] <= AIMS[words])
        better.append(errors.loc["composed", "high"] < errors.loc["disentangled", "low"])
        short.append(f"error at {words} {number(errors.loc['composed'])}, aim {AIMS[words]:.2f}")
        told.append(f"{words} (aim {AIMS[words]:.2f}): " + _listed(errors, OURS) + ".")
        settings = {label: _undecided(of, ("composed",)) for label, of in part.groupby("label")}
        settings = {label: errors.loc["composed"] for label, errors in settings.items() if len(errors)}
        worst = max(settings, key=lambda label: settings[label]["measured"])
        told.append(f"Composed in its worst setting, {worst}: {number(settings[worst])}.")
    merge_free = ", ".join(interaction.PREDICTORS[:-1])
    told.append(
        f"Nothing of the merge is run for {merge_free}; composed runs its last ReLU and output matrix."
    )
    return all(kept), all(better), " ".join(told), "; ".join(short)


def metrics(rows: pd.DataFrame) -> Verdict:
    """Published metrics, each fitted to the other settings, beside those settings' mean and our forecasts.
    All: for both ranges even the best metric errs more than ``disentangled``, intervals apart. Part: for one.
    """
    table = compared(rows).set_index(["quantity", "predictor"])
    names = [name for group in METRICS.values() for name in group]
    beaten, short, told = (
        [],
        [],
        [f"{rows['seed'].nunique()} seeds, {rows['label'].nunique()} settings, undecided cells."],
    )
    ranks = table.loc["rank"].loc[names]
    strongest = ranks["measured"].abs().idxmax()
    told.append(
        f"Rank correlation with the outcome: of {len(names)} metrics the strongest is {strongest}, "
        f"{number(ranks.loc[strongest])}; disentangled {number(table.loc[('rank', 'disentangled')])}, "
        f"composed {number(table.loc[('rank', 'composed')])}."
    )
    for _, _, words in RANGES[:2]:
        errors = table.loc[f"error, {words}"]
        best = errors.loc[names]["measured"].idxmin()
        low = (f"{name} {number(errors.loc[name])}" for name in (best, "disentangled"))
        short.append(f"error at {words}: {', '.join(low)}")
        beaten.append(errors.loc["disentangled", "high"] < errors.loc[best, "low"])
        shown = errors.loc[[best, ALL, NULL, "disentangled", "composed"]]
        told.append(f"Mean absolute error, {words}: best metric " + _listed(shown, shown.index) + ".")
    return all(beaten), any(beaten), " ".join(told), short[0]


def _undecided(rows: pd.DataFrame, predictors) -> pd.DataFrame:
    errors = prediction_errors(rows, predictors)
    return errors[errors["scope"] == "undecided"].set_index("predictor")


def _listed(errors: pd.DataFrame, names) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {number(errors.loc[name])}" for name in names)
