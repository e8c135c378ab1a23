"""From a cell's arrays to rows of the results table."""

import math
from collections.abc import Mapping
from dataclasses import fields

import numpy as np

from sim.reuse.ask import Losses
from sim.reuse.config import BASE, Cell, ReuseConfig, linear_models
from sim.reuse.forecast import strengths
from sim.reuse.margins import PREDICTORS
from sim.worlds import FACTS, World, kind_of
from sim.worlds.probe import (
    NOT_APPLICABLE,
    UNIFORM_BASELINE,
    among_answers,
    excess_loss_gain,
    given_among_answers,
    loss_gain,
    whole,
)

CLOSEST = "disentangled"
"""The predictor whose agreement with the merge is told question by question."""

PAIR = "pair"
"""The "method" of what is measured of the parts before they are merged, and how its metrics begin."""


def recall_of(group: str) -> str:
    """Name of the metric that says how much of a group of its data an adapter knows."""
    return "own_recall" if group == FACTS else f"{group.removesuffix('s')}_recall"


def rows_of(config: ReuseConfig, cell: Cell, world: World, result: Mapping) -> list[dict]:
    """One row a model, metric and predictor; a metric that nothing predicts has one row without predictor.

    Predictors: "chance", a guess that knows which answers occur (section 2; a theorem for the one-layer
    model, a claim here), "bound", the most that who lacks a step scores (2f, 2g), and those of ``forecast``
    for linear merges of the parts, beside "base": the merge answers as the base does.
    ``agreement_METRIC`` is the share of questions on which ``CLOSEST`` and model agree; ``kappa_STEP`` the
    empirical overlap of a step in a trace; ``own_recall`` the share of its own facts that an adapter knows
    after ``training_steps``, ``trace_recall`` of its own traces (``recall_of``); ``pair_METRIC`` is one of
    ``pairs.METRICS``.
    ``PROBE_loss`` is the mean loss of right answers beside its null (``ask.losses``),
    ``PROBE_loss_gain`` the null less the loss: above 0, it is knowledge; ``PROBE_loss_gain_over_base`` how
    far it is above the base's, with which it shares its luck; both once more for each of ``Probe.nulls``,
    and ``PROBE_given_among_answers``, there of the likeliest answer. ``knowledge`` and ``retention`` are of
    ``margins.measure``.
    Of a language model besides: ``PROBE_rank``, the mean place of the right answer among the probe's answers
    by likelihood, ``PROBE_likeliest``, how often it is the first, ``name_loss_ROLE``, the base's mean
    -log p of the names in nats, and margins, swings and disturbances of the steps in nats
    (``sim.reuse.language.forecast.Forecast``).
    """
    common = {
        "experiment": cell.experiment,
        "world": kind_of(config.world).name,
        "label": cell.label,
        "rank": max(rank for _, rank in cell.ranks) if cell.ranks else config.rank,
        "seed": cell.seed,
        **{field.name: getattr(cell.setting, field.name) for field in fields(cell.setting)},
        "facts": world.probes[world.parts[0]].count,
    }
    rows, merges = [], {}
    for family in result["training"]:
        merges |= linear_models(config, family, world)

    def add(model, metric, measured, trials=math.nan, predictor="", predicted=math.nan):
        values = dict(zip(("adapter", "library", "method"), model, strict=True))
        values |= {"lam": _common(merges.get(model)), "metric": metric}
        values |= {"predictor": predictor, "predicted": float(predicted)}
        rows.append(common | values | {"measured": float(measured), "trials": trials})

    for model, scores in result["outcomes"].items():
        forecasts = _forecasts(config, world, result["forecasts"], model, merges)
        null = _null(world, scores)
        for metric, outcomes in scores.items():
            answers = outcomes[outcomes != NOT_APPLICABLE]
            if not answers.size:
                continue
            predictions = dict(null.get(metric, {}))
            predictions |= {p: np.mean(values[metric]) for p, values in forecasts.items() if metric in values}
            if metric in forecasts.get(CLOSEST, {}):
                # What a prediction must beat: that merging does nothing.
                predictions["base"] = np.mean(result["outcomes"][BASE][metric] == 1)
            for predictor, predicted in (predictions or {"": math.nan}).items():
                add(model, metric, np.mean(answers == 1), answers.size, predictor, predicted)
            if metric in forecasts.get(CLOSEST, {}):
                same = np.mean(forecasts[CLOSEST][metric] == (outcomes == 1))
                add(model, f"agreement_{metric}", same, answers.size, CLOSEST)
    for model, losses in result["losses"].items():
        for name, measured in losses.items():
            loss, nulls = _means(measured)
            base_loss, of_base = _means(result["losses"][BASE][name])
            add(model, f"{name}_loss", loss, predictor="chance", predicted=nulls[UNIFORM_BASELINE])
            for null, by_chance in nulls.items():
                gain = by_chance - loss
                excess = gain - (of_base[null] - base_loss)
                for metric, value in {loss_gain: gain, excess_loss_gain: excess}.items():
                    add(model, metric(name, null), value, predictor="chance", predicted=0.0)
            for null, by_luck in measured.by_luck.items():
                metric, right = given_among_answers(name, null), np.asarray(measured.right)
                add(model, metric, np.mean(right), right.size, "chance", np.mean(by_luck))
    for model, ranks in result.get("ranks", {}).items():
        for name, places in ranks.items():
            middle, chance = (places.size + 1) / 2, world.probes[name].chance
            add(model, f"{name}_rank", np.mean(places), predictor="chance", predicted=middle)
            add(model, f"{name}_likeliest", np.mean(places == 1), places.size, "chance", chance)
    for role, loss in result.get("names", {}).items():
        add(BASE, f"name_loss_{role}", loss)
    for model, effects in result.get("effects", {}).items():
        for metric, value in effects.items():
            add(model, metric, value)
    for model, metrics in result.get("margins", {}).items():
        for metric, (measured, predicted) in metrics.items():
            add(model, metric, measured, math.nan, PREDICTORS[metric], predicted)
    for family, adapters in result["training"].items():
        for name, record in adapters.items():
            add((family, "single", name), "training_steps", record.steps)
            for group, share in record.recall.items():
                if not np.isnan(share):  # it is taught something of the group
                    add((family, "single", name), recall_of(group), share)
    for family, traces in result["kappa"].items():
        for overlaps in traces.values():
            for step, value in overlaps.items():
                add((family, "single", step), f"kappa_{step}", value)
    for family, metrics in result["pairs"].items():
        for name, value in metrics.items():
            add((family, "parts", PAIR), f"{PAIR}_{name}", value)
    return rows


def _forecasts(
    config: ReuseConfig, world: World, forecasts: Mapping, model, merges: Mapping
) -> dict[str, dict]:
    """{predictor: {metric: predictions}} of one model; empty if it is no linear merge of the parts."""
    family = model[0]
    models = strengths(config, family, world) if family in forecasts else []
    if merges.get(model) not in models:
        return {}
    place = models.index(merges[model])
    return {
        predictor: {metric: np.asarray(values)[place] for metric, values in metrics.items()}
        for predictor, metrics in forecasts[family].items()
    }


def _null(world: World, scores: Mapping) -> dict[str, dict[str, float]]:
    """{metric: {predictor: null}}: what a guess scores, the layout's chance, and the most that who lacks a
    step does, ``Probe.bound`` where the probe has nulls. Each among the answers, and over all questions that
    times how often this model's answer is among them, which says nothing of which answer it gives."""
    nulls = {}
    for name, probe in world.probes.items():
        if probe.chance is not None:
            among = np.asarray(scores[among_answers(name)]) == 1
            of = {"chance": probe.chance} | ({"bound": probe.bound(among)} if probe.nulls else {})
            nulls[given_among_answers(name)] = of
            share = np.mean(among)
            nulls[whole(name, probe)] = {key: value * share if share else 0.0 for key, value in of.items()}
    return nulls


def _means(measured: Losses) -> tuple[float, dict[str, float]]:
    """A loss and its nulls, means over the questions."""

    def mean(values):
        return float(np.mean(values, dtype=np.float64))

    return mean(measured.loss), {null: mean(values) for null, values in measured.nulls.items()}


def _common(coefficients: tuple[float, ...] | None) -> float:
    """The coefficient that all parts share, NaN if they do not."""
    return coefficients[0] if coefficients and len(set(coefficients)) == 1 else math.nan
