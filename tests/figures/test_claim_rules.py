"""The engine of verdicts, and every rule of every claim just inside and just outside its bounds."""

import importlib
import math
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import pytest
import rules_of_capitals
import rules_of_forecasts
import rules_of_paper
import rules_of_people

from sim.experiments.common.claim import CLAIMS, PREDICTED, Cell, Claim, Reading, Rule
from sim.figures import claims
from sim.figures.claims import FAILS, HOLDS, IN_PART, UNDECIDED
from sim.lab import intervals

INF, GUESS = math.inf, 0.1
RULES = {}
for path in sorted(Path(__file__).parent.glob("rules_*.py")):
    RULES |= importlib.import_module(path.stem).RULES
OPEN = {"above": lambda bound: (bound, INF), "below": lambda bound: (-INF, bound)}

SECOND = 0.4
"""What every second cell has, without an interval."""


def rule_of(number, name):
    (rule,) = [rule for rule in CLAIMS[number].rules if rule.name == name]
    return rule


def tables(number, name, low, high, trials=None):
    """(rule, readings of its cells) of which every number has the interval (low, high)."""
    rule, (_, _, by_table, _, second) = rule_of(number, name), RULES[number, name]
    if second == "ratio":
        ends = low * SECOND, high * SECOND
    else:
        ends = low + (second or 0) * SECOND, high + (second or 0) * SECOND
    first = Reading(sum(ends) / 2, *ends, GUESS if by_table else math.nan, 20, trials)
    other = Reading(SECOND, SECOND, SECOND, trials=trials)
    measured = dict.fromkeys(rule.to, other) | dict.fromkeys(rule.of, first)
    if isinstance(rule.null, Cell):
        measured[rule.null] = Reading(predicted=GUESS, trials=500)
    return rule, measured


def verdict_of(rule, measured):
    lines = tuple(claims.line(rule, cells, measured) for cells in rule.comparisons)
    return claims.Part(rule, lines).verdict


def test_the_table_holds_every_rule():
    assert {(number, rule.name) for number, item in CLAIMS.items() for rule in item.rules} == set(RULES)
    assert sum(len(item.rules) for item in CLAIMS.values()) == len(RULES)
    for item in CLAIMS.values():
        assert date.fromisoformat(item.fixed) and all(rule.answers == 20 for rule in item.rules)
    for rules in (rules_of_capitals, rules_of_forecasts, rules_of_paper, rules_of_people):
        assert {CLAIMS[number].fixed for number, _ in rules.RULES} == {rules.FIXED}
    ours = [*rules_of_people.RULES, *rules_of_capitals.RULES]
    ours = [rule for number, _ in ours for rule in CLAIMS[number].rules]
    assert all("before any run" in rule.history for rule in ours)


EPSILON, WIDE = 1e-6, 0.3


@pytest.mark.parametrize(("number", "name"), RULES, ids=map(" ".join, RULES))
class TestRules:
    def bounds(self, number, name):
        side, margin, nulls, _, _ = RULES[number, name]
        null = GUESS if nulls else 0.0
        return (null - margin, null + margin) if side == "within" else OPEN[side](null + margin)

    def test_just_inside_and_just_outside(self, number, name):
        lower, upper = self.bounds(number, name)
        cases = []
        if math.isfinite(lower):
            far = lower + WIDE if upper == INF else upper - EPSILON
            cases += [(lower + EPSILON, far, HOLDS), (lower - EPSILON, far, UNDECIDED)]
            cases += [(lower - WIDE, lower + EPSILON, UNDECIDED), (lower - WIDE, lower - EPSILON, FAILS)]
        if math.isfinite(upper):
            far = upper - WIDE if lower == -INF else lower + EPSILON
            cases += [(far, upper - EPSILON, HOLDS), (far, upper + EPSILON, UNDECIDED)]
            cases += [(upper - EPSILON, upper + WIDE, UNDECIDED), (upper + EPSILON, upper + WIDE, FAILS)]
        for low, high, verdict in cases:
            assert verdict_of(*tables(number, name, low, high)) == verdict, (low, high)

    def test_one_line_is_enough_to_leave_the_region(self, number, name):
        lower, upper = self.bounds(number, name)
        edge, outward = (lower, -1) if math.isfinite(lower) else (upper, 1)

        def at(*places):
            return tables(number, name, *sorted(edge + outward * place for place in places))

        rule, inside = at(-0.02, -0.01)
        assert len(rule.comparisons) == RULES[number, name][3] and verdict_of(rule, inside) == HOLDS
        for cells in rule.comparisons:
            if rule.of.count(cells[0]) == 1:
                for places, verdict in (((0.01, 0.02), FAILS), ((-0.01, 0.01), UNDECIDED)):
                    assert verdict_of(rule, inside | {cells[0]: at(*places)[1][cells[0]]}) == verdict, cells
            else:  # one cell compared with several: one of these moves
                second = SECOND - outward * 0.04
                assert verdict_of(rule, inside | {cells[1]: Reading(second, second, second)}) == FAILS, cells

    def test_few_answers_are_not_judged(self, number, name):
        lower, upper = self.bounds(number, name)
        inside = (lower + EPSILON, lower + 0.01) if math.isfinite(lower) else (upper - 0.01, upper - EPSILON)
        for trials, verdict in ((19, UNDECIDED), (20, HOLDS)):
            rule, measured = tables(number, name, *inside, trials=trials)
            lines = [claims.line(rule, cells, measured) for cells in rule.comparisons]
            assert {line.verdict for line in lines} == ({HOLDS} if trials == 20 else {None})
            assert claims.Part(rule, tuple(lines)).verdict == verdict


@pytest.mark.parametrize("number", CLAIMS)
def test_every_claim_can_fail(number):
    """Tables in which no part of it holds."""
    item, rng = CLAIMS[number], np.random.default_rng(0)
    for _ in range(1000):
        values = {cell: rng.choice([0.02, 0.98]) for cell in sorted(item.cells, key=str)}
        measured = {cell: Reading(v, v, v, GUESS, 20, 500) for cell, v in values.items()}
        judgement = claims.decide(item, measured)
        if judgement.verdict == FAILS:
            break
    assert judgement.verdict == FAILS and {part.verdict for part in judgement.parts} == {FAILS}


RULE = Rule("a", "a number", (Cell("run", "x", "sum"),), above=0.5)


def decided(rules, values, **rest):
    item = Claim("9", "It is so", "figure", ("run",), "2026-01-01", tuple(rules), "Is {a}.", **rest)
    return claims.decide(item, values)


@pytest.mark.parametrize(
    ("verdicts", "whole"),
    [
        ([HOLDS], HOLDS),
        ([HOLDS, HOLDS], HOLDS),
        ([HOLDS, FAILS], IN_PART),
        ([UNDECIDED, HOLDS], IN_PART),
        ([FAILS, UNDECIDED], FAILS),
        ([FAILS], FAILS),
        ([UNDECIDED, UNDECIDED], UNDECIDED),
    ],
)
def test_a_claim_follows_from_its_parts(verdicts, whole):
    assert claims.whole(verdicts) == whole
    values = {HOLDS: (0.6, 0.7), FAILS: (0.3, 0.4), UNDECIDED: (0.4, 0.6)}
    cells = [Cell("run", str(place), "sum") for place in range(len(verdicts))]
    rules = [replace(RULE, name=("a", "b")[place], of=(cell,)) for place, cell in enumerate(cells)]
    measured = {
        cell: Reading(sum(values[v]) / 2, *values[v]) for cell, v in zip(cells, verdicts, strict=True)
    }
    assert decided(rules, measured).verdict == whole


def test_the_deciding_line_has_the_least_room_and_speaks_for_the_rule():
    """Room is counted from the end of the interval; a line with too few answers decides nothing."""
    readings = (
        Reading(0.65, 0.64, 0.66, trials=40),
        Reading(0.7, 0.6, 0.9, trials=50),
        Reading(0.1, 0.0, 1.0, trials=9),
    )
    cells = tuple(Cell("run", str(place), "sum") for place in range(3))
    judgement = decided([replace(RULE, of=cells)], dict(zip(cells, readings, strict=True)))
    (part,) = judgement.parts
    assert judgement.evidence == "Is 0.700 [0.600, 0.900] (35 of 50)." and part.of is readings[1]
    assert (part.count, part.silent, part.verdict) == (2, 1, HOLDS)
    below = decided(
        [replace(RULE, of=cells[:2], above=None, below=1)], dict(zip(cells, readings, strict=False))
    )
    assert below.parts[0].of is readings[1]
    silent = decided([RULE], {RULE.of[0]: Reading(0.9, 0.8, 1.0, trials=3)})
    assert silent.evidence == "Is no number (too few answers)." and silent.verdict == UNDECIDED


def test_both_cells_of_a_comparison_need_answers():
    cells = RULE.of[0], Cell("run", "y", "sum")
    for trials in ((20, 19), (19, 20), (20, 20)):
        measured = {
            cell: Reading(0.9, 0.9, 0.9, trials=count) for cell, count in zip(cells, trials, strict=True)
        }
        line = claims.line(replace(RULE, to=cells[1:], above=-0.1), cells, measured)
        assert line.verdict == (HOLDS if min(trials) == 20 else None)


def test_a_null_is_a_number_or_stands_in_the_tables():
    cell, other = Cell("run", "x", "sum"), Cell("run", "x", "sum", "direct")
    measured = {cell: Reading(0.25, 0.22, 0.28, predicted=0.2), other: Reading(0.9, 0.9, 0.9, predicted=0.3)}
    rule = Rule("a", "a number", (cell,), below=0.05, null=PREDICTED)
    assert claims.line(rule, (cell,), measured).region == (-INF, 0.25)
    assert claims.line(replace(rule, null=other), (cell,), measured).region == (-INF, 0.35)
    assert claims.line(replace(rule, null=0.5), (cell,), measured).region == (-INF, 0.55)
    assert claims.line(replace(rule, below=None, within=0.1), (cell,), measured).region == pytest.approx(
        (0.1, 0.3)
    )
    assert claims.line(replace(rule, below=None, above=0.05), (cell,), measured).region == (0.25, INF)
    with pytest.raises(ValueError, match="run x: parts/sum, cot_answer has no null"):
        claims.line(rule, (cell,), {cell: Reading(0.25, 0.22, 0.28)})


class TestNumbers:
    def test_a_difference_squares_and_adds(self):
        interval = claims.difference((0.5, 0.4, 0.7), (0.3, 0.1, 0.35))
        np.testing.assert_allclose(interval, (0.2, 0.2 - (0.01 + 0.0025) ** 0.5, 0.2 + (0.04 + 0.04) ** 0.5))
        paired = claims.difference((0.5, 0.4, 0.7), (0.3, 0.1, 0.35), 0.5)
        low, high = (0.01 + 0.0025 - 0.1 * 0.05) ** 0.5, (0.04 + 0.04 - 0.2 * 0.2) ** 0.5
        np.testing.assert_allclose(paired, (0.2, 0.2 - low, 0.2 + high))

    def test_of_means_it_is_the_interval_of_paired_differences(self):
        rng = np.random.default_rng(3)
        x = rng.normal(size=12)
        y = 0.6 * x + rng.normal(size=12)
        values = [dict(enumerate(each)) for each in (x, y)]
        interval = claims.difference(intervals.mean(x), intervals.mean(y), claims.correlation(*values))
        np.testing.assert_allclose(interval, intervals.mean(x - y))

    def test_a_ratio_is_a_difference_of_logarithms(self):
        value, low, high = claims.ratio((0.6, 0.5, 0.7), (0.8, 0.7, 0.85))
        assert value == pytest.approx(0.75)
        assert low == pytest.approx(0.75 * math.exp(-math.hypot(math.log(6 / 5), math.log(85 / 80))))
        assert high == pytest.approx(0.75 * math.exp(math.hypot(math.log(7 / 6), math.log(8 / 7))))
        assert claims.ratio((0.0, 0.0, 0.1), (0.5, 0.4, 0.6))[:2] == (pytest.approx(0, abs=1e-9),) * 2

    def test_correlation_takes_the_seeds_of_both(self):
        first, second = {0: 0.1, 1: 0.4, 2: 0.3, 9: 5.0}, {2: 0.2, 0: 0.3, 1: 0.9, 7: -5.0}
        expected = np.corrcoef([0.1, 0.4, 0.3], [0.3, 0.9, 0.2])[0, 1]
        assert claims.correlation(first, second) == pytest.approx(expected)
        assert claims.correlation({0: 0.1, 1: 0.2}, second) == 0.0
        assert claims.correlation(dict.fromkeys(range(5), 1.0), second) == 0.0

    @pytest.mark.parametrize("rho", [0.0, 0.6])
    def test_the_ends_cover_differences_and_ratios_of_shares(self, rho):
        """Two models of 20 seeds with 16 questions, whose abilities vary together by seed: each end errs in 1
        to 4% where the seeds are paired, and less if they are taken for independent."""
        rng, runs, errors = np.random.default_rng(5), 400, {"paired": [0] * 4, "independent": [0] * 4}
        p, q = 0.75, 0.6
        for _ in range(runs):
            shared = rng.normal(size=20) * rho**0.5
            noise = rng.normal(size=(2, 20)) * (1 - rho) ** 0.5
            shares = np.clip([[p], [q]] + 0.1 * (shared + noise), 0, 1)
            right = rng.binomial(16, shares)
            each = [intervals.proportion(r, np.full(20, 16)) for r in right]
            pair = claims.correlation(*(dict(enumerate(r / 16)) for r in right))
            for name, r in (("paired", pair), ("independent", 0.0)):
                _, low, high = claims.difference(*each, r)
                _, least, most = claims.ratio(*each, r)
                missed = (low > p - q, high < p - q, least > p / q, most < p / q)
                errors[name] = [count + miss for count, miss in zip(errors[name], missed, strict=True)]
        assert all(0.004 * runs <= count <= 0.05 * runs for count in errors["paired"]), errors
        assert sum(errors["independent"]) <= sum(errors["paired"])
