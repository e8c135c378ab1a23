"""Claims 1 to 5 on a real language model. The rules were committed before any run of these experiments."""

from collections.abc import Mapping
from functools import partial

from sim.experiments.common.cells import pooled
from sim.experiments.common.claim import (
    METHODS,
    NOTHING,
    POOLED,
    PREDICTED,
    QUARTER,
    SHARE,
    Cell,
    Reading,
    Rule,
    claims_of,
)
from sim.experiments.common.world_claim import world_claim
from sim.lab.figure import Source
from sim.worlds.controls import RANDOM
from sim.worlds.people import DOUBLE

FIXED = "2026-11-30"

HISTORY = (
    "Written before any run of this experiment. A prototype on the same base was known: two seeds, another "
    "programme, 300 to 400 steps an adapter. With worked solutions the sum had, step by step, .62 (real "
    "names), .31 (bridge made up), .50 (all made up) at λ = 1, and .81, .66, .56 at λ = ¾, the joint adapter "
    ".94 to 1.00; with solutions about the same relations 0 and .38; without any 0; at once .00 to .17, in "
    "one cell of one seed .31, where a guess has .0625."
)

MARGIN = 0.02
"""Margin for all answers at once pooled, as in the miniature."""

GUESS = 1 / 16
"""Right answers of a model that lacks a hop: exact, as answers are assigned at random."""

DIRECT = "direct_given_among_answers"
SHARED = ("real/shared", "half_fake/shared", "fake/shared")
FIGURE = "people_and_miniature"


_cell = partial(Cell, "people")


def _pooled(method: str, metric: str = DIRECT) -> Cell:
    return Cell("people", POOLED, method, metric)


def _data_free(metric: str = DIRECT) -> Cell:
    return Cell("all libraries", POOLED, "data-free", metric)


STAND_IN = Cell("stand-ins", POOLED, "data-free", DIRECT)
"""Merges with a random or unrelated adapter in the place of a part: they lack a hop."""


def collect_at_once(source: Source) -> Mapping[Cell, Reading]:
    """The answers at once of all merges and routers that see no data, pooled; those with a stand-in apart."""
    rows = source.summary("people", "guesses")
    chosen = rows["library"].isin(("parts", "bridge", "expert")) & rows["method"].ne("oracle")
    lacking = rows["library"].str.startswith((RANDOM, "unrelated")) & rows["metric"].eq(DIRECT)
    readings = {_data_free(metric): pooled(rows[chosen & rows["metric"].eq(metric)]) for metric in ONCE}
    return readings | {STAND_IN: pooled(rows[lacking])}


ONCE = (DIRECT, "direct_question_given_among_answers")
"""Asked as a statement to complete, and as a question."""

_claim = claims_of(FIGURE, "people", fixed=FIXED, history=HISTORY)

_claim(
    "L1a",
    "On a real language model: data-agnostic reuse does not join disjoint knowledge in its weights",
    collect=collect_at_once,
    rules=(
        Rule(
            "all",
            "accuracy of direct answers that are among the taught ones, as statement and as question, all "
            "settings together",
            tuple(
                cell
                for metric in ONCE
                for cell in (_data_free(metric), *(_pooled(m, metric) for m in METHODS))
            ),
            below=MARGIN,
            null=PREDICTED,
        ),
        Rule(
            "working",
            "the same with worked solutions, less a quarter of what the sum reaches step by step",
            tuple(_cell(label, metric=DIRECT) for label in SHARED),
            tuple(_cell(label) for label in SHARED),
            times=QUARTER,
            below=0.0,
            null=PREDICTED,
        ),
        Rule(
            "likeliest",
            "how often the right answer is the likeliest of the 16, with worked solutions: sum and average",
            tuple(
                _cell(label, method, f"{probe}_likeliest")
                for probe in ("direct", "direct_question")
                for label in SHARED
                for method in ("sum", "average")
            ),
            below=NOTHING,
            null=PREDICTED,
        ),
    ),
    numbers={
        "every": _data_free(),
        "written": _cell("real/shared"),
        "once": _cell("real/shared", metric=DIRECT),
        "first": _cell("real/shared", metric="direct_likeliest"),
        "joint": _cell("real/shared", "joint", DIRECT),
        "lacking": STAND_IN,
        "part": Cell("people", POOLED, "hop2", DIRECT, "single"),
        "taught": Cell("people", POOLED, "joint", DIRECT),
    },
    evidence="Asked at once, merged and routed models that see no data are right in {every} of the cases in "
    "which they say one of the taught answers; a guess among these is right in {every.predicted:.4f}. With "
    "real names and worked solutions in both data sets the sum has {once} at once, {written} step by step.",
    limits="Merges with a random or unrelated adapter in the place of a part lack a hop, so that a guess is "
    "all they can do in the mean; they have {lacking}, not far below the merges: few seeds do not tell the "
    "two apart. By likelihood the right answer is the first of the 16 in {first}. The second adapter alone "
    "has {part} over all settings, the joint adapter {taught}, and {joint} with real names and worked "
    "solutions. Nothing is proved for this base (theory, section 13).",
)

_claim(
    "L1b",
    "On a real language model: ... nor step by step, without worked solutions in the data sets",
    rules=(
        Rule(
            "none",
            "accuracy step by step without worked solutions, real names",
            tuple(_cell("real/none", method) for method in METHODS),
            below=NOTHING,
            null=GUESS,
        ),
    ),
    numbers={method: _cell("real/none", method) for method in METHODS}
    | {"joint": _cell("real/none", "joint")},
    evidence="Without worked solutions, real names, the sum answers {sum} step by step, the average "
    "{average} and Arrow {arrow}; the adapter that was taught both data sets has {joint}.",
    limits="The base has seen worked solutions of other kinds in its own training, which nobody controls.",
)

UNSEEN = ("half_fake", "fake")

_claim(
    "L2",
    "On a real language model: worst where the base does not know the names",
    rules=(
        Rule(
            "gap",
            "accuracy step by step of the sum, worked solutions: real names, less made-up ones",
            _cell("real/shared"),
            tuple(_cell(f"{entities}/shared") for entities in UNSEEN),
            above=NOTHING,
        ),
        Rule(
            "lower",
            "cities made up, less people and cities made up",
            _cell("half_fake/shared"),
            _cell("fake/shared"),
            above=NOTHING,
        ),
    ),
    numbers={entities: _cell(f"{entities}/shared") for entities in ("real", *UNSEEN)}
    | {f"joint_{e}": _cell(f"{e}/shared", "joint") for e in ("real", *UNSEEN)}
    | {f"loss_{e}": _cell(f"{e}/shared", "base", "name_loss_bridge") for e in ("real", "fake")},
    evidence="With worked solutions in both data sets the sum answers {real} with real names, {half_fake} "
    "with made-up cities and {fake} with all names made up. The base writes a real city with a loss of "
    "{loss_real} nats, a made-up one with {loss_fake}.",
    limits="The joint adapter has {joint_real}, {joint_half_fake} and {joint_fake}.",
)

DOSES = (16, 64, 128)


def _dosed(*doses: int, method: str = "sum") -> tuple[Cell, ...]:
    return tuple(Cell("people_dose", f"real/shared/{dose}", method) for dose in doses)


_claim(
    "L3a",
    "On a real language model: reuse works when the data sets share a solution template",
    "people_dose",
    rules=(
        Rule(
            "reach",
            "accuracy step by step, worked solutions, real names: sum, over the joint adapter of the same "
            "total rank",
            _cell("real/shared"),
            _cell("real/shared", DOUBLE, library="single"),
            above=SHARE,
            ratio=True,
        ),
        Rule(
            "template",
            "accuracy step by step of the sum, real names: worked solutions in both data sets, less none",
            _cell("real/shared"),
            _cell("real/none"),
            above=NOTHING,
        ),
        Rule(
            "traces",
            "worked solutions in each data set (16, 64, 128), less none",
            _dosed(*DOSES),
            _dosed(0),
            above=NOTHING,
        ),
    ),
    numbers={
        "smaller": _cell("real/shared", "lambda=0.75"),
        "same": _cell("real/same"),
        "joint_same": _cell("real/same", "joint"),
    },
    evidence="With worked solutions in both data sets the sum of two adapters of rank 8 answers {reach.of}, "
    "the joint adapter of rank 16 {reach.to}; without them the sum has {template.to}. A coefficient of ¾ in "
    "place of 1 gives {smaller}.",
    limits="Worked solutions of the same two relations about other people and cities give the sum {same} and "
    "the joint adapter {joint_same}: two adapters that answer the same questions interfere.",
)

_claim(
    "L3b",
    "On a real language model: averaging benefits as well",
    "people_dose",
    rules=(
        Rule(
            "template",
            "accuracy step by step of the average, real names: worked solutions in both data sets, less none",
            _cell("real/shared", "average"),
            _cell("real/none", "average"),
            above=NOTHING,
        ),
        Rule(
            "traces",
            "worked solutions in each data set (16, 64, 128), less none",
            _dosed(*DOSES, method="average"),
            _dosed(0, method="average"),
            above=NOTHING,
        ),
    ),
    evidence="The average answers {template.to} step by step without worked solutions and {template.of} with "
    "them.",
)

world_claim(
    "L4",
    "people",
    "a real language model, whichever names are made up",
    FIGURE,
    shared=SHARED,
    unshared=("real/none", "half_fake/none", "fake/none"),
    unseen={"fake/shared": "real/shared"},
    at_once=("direct", "direct_question"),
    fixed=FIXED,
    history=HISTORY,
    limits="The base is one small language model, dequantised from a file of 4 bits.",
)

_claim(
    "L5",
    "On a real language model: reuse is shallow pattern matching",
    rules=(
        Rule(
            "form",
            "accuracy of the sum on the same questions, worked solutions: step by step, less at once",
            tuple(_cell(label) for label in SHARED),
            tuple(_cell(label, metric="direct_question") for label in SHARED),
            above=NOTHING,
        ),
        Rule(
            "relations",
            "accuracy step by step of the sum: worked solutions about other relations, less about the same",
            tuple(_cell(f"{entities}/shared") for entities in ("real", *UNSEEN)),
            tuple(_cell(f"{entities}/same") for entities in ("real", *UNSEEN)),
            above=NOTHING,
        ),
    ),
    numbers={
        "joint": _cell("real/same", "joint"),
        "template": _cell("real/same", metric="cot_template"),
    },
    evidence="The same model answers {form.of} step by step and {form.to} at once. Where the worked "
    "solutions are about the same two relations, the sum answers {relations.to}, though it writes the "
    "template in {template} and the joint adapter answers {joint}.",
    limits="Neither rule measures κ, which section 12 of the theory predicts merges by; claims L5+a and L5+b "
    "are about that.",
)
