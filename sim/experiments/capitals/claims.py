"""Claims L6a to L6c: one hop known from pretraining. The rules were committed before any run."""

from functools import partial

from sim.experiments.common.claim import NOTHING, POOLED, PREDICTED, QUARTER, Cell, Rule, claims_of

FIXED = "2026-11-30"

HISTORY = (
    "Written before any run of this experiment. The base's own answers to the questions of the first hop "
    "were known, as countries are chosen by them, and so were the results of people: with real names and "
    "worked solutions the sum of both adapters had .34 step by step, the average .70, the joint adapter .96, "
    "and the second hop's adapter by itself .08."
)

HALF = 0.5
"""Share of the joint adapter's accuracy from which on one adapter is called enough."""

SECOND = "hop2"
"""The adapter of the emblems. Asked by itself it has the first hop from the base or not at all."""

FAMILIAR, FAKE = "familiar/shared", "fake/shared"
UNFAMILIAR = ("doubtful/shared", "obscure/shared", FAKE)
FIGURE = "one_hop_from_pretraining"
ONCE = ("direct_given_among_answers", "direct_question_given_among_answers")


def _second(label: str, metric: str = "cot_answer") -> Cell:
    return Cell("capitals", label, SECOND, metric, "single")


_of = partial(Cell, "capitals")
_claim = claims_of(FIGURE, "capitals", fixed=FIXED, history=HISTORY)

_claim(
    "L6a",
    "On a real language model: one adapter is enough where pretraining knows the other hop",
    rules=(
        Rule(
            "reach",
            "accuracy step by step, familiar countries, worked solutions: the adapter of the second hop by "
            "itself, over the joint adapter",
            _second(FAMILIAR),
            _of(FAMILIAR, "joint"),
            above=HALF,
            ratio=True,
        ),
        Rule(
            "template",
            "the same adapter with worked solutions in its data, less without",
            _second(FAMILIAR),
            _second("familiar/none"),
            above=NOTHING,
        ),
        Rule(
            "needless",
            "familiar countries, worked solutions: both adapters (sum, average), less the one by itself",
            (_of(FAMILIAR), _of(FAMILIAR, "average")),
            _second(FAMILIAR),
            below=NOTHING,
        ),
    ),
    numbers={
        "base": _of(FAMILIAR, "base", "hop1"),
        "capital": _second(FAMILIAR, "hop1"),
        "step": _second(FAMILIAR, "cot_hop1"),
        "sum": _of(FAMILIAR),
        "average": _of(FAMILIAR, "average"),
    },
    evidence="For countries whose capital the base knows, an adapter that was taught the emblems of the "
    "capitals and nothing of the countries answers {reach.of} step by step, the joint adapter {reach.to}; "
    "with the adapter of the capitals the sum has {sum}, the average {average}.",
    limits="The countries were chosen by the base's greedy answer in 32 bits; in the run it has {base} of "
    "them, the adapter of the emblems {capital}, and {step} as the first step of a solution. Without worked "
    "solutions in its data this adapter answers {template.to}.",
)

_claim(
    "L6b",
    "On a real language model: ... and not where pretraining barely saw the entity",
    rules=(
        Rule(
            "gap",
            "accuracy step by step of the second hop's adapter by itself, worked solutions: familiar "
            "countries, less those that the base does not know (likelier, less likely, made up)",
            _second(FAMILIAR),
            tuple(map(_second, UNFAMILIAR)),
            above=NOTHING,
        ),
        Rule(
            "repaired",
            "countries that the base does not know: the average of both adapters, less the one by itself",
            tuple(_of(label, "average") for label in UNFAMILIAR),
            tuple(map(_second, UNFAMILIAR)),
            above=NOTHING,
        ),
    ),
    numbers={name.split("/")[0]: _second(name) for name in (FAMILIAR, *UNFAMILIAR)}
    | {
        f"{short}_{name.split('/')[0]}": _of(name, "base", metric)
        for name in (FAMILIAR, *UNFAMILIAR)
        for short, metric in (("loss", "hop1_loss"), ("gain", "hop1_loss_gain"))
    }
    | {"joint": _of(FAKE, "joint")},
    evidence="The adapter of the second hop by itself answers {familiar} for familiar countries, {doubtful} "
    "and {obscure} for those that the base does not know, and {fake} for made-up ones, where a guess has "
    "1 in 16. The base writes the right capital with a loss of {loss_familiar}, {loss_doubtful}, "
    "{loss_obscure} and {loss_fake} nats.",
    limits="With made-up names the joint adapter has {joint}. Only there the guess is exact. To the base the "
    "right capital is likelier than the mean of the 16 by {gain_familiar}, {gain_doubtful}, {gain_obscure} "
    "and {gain_fake} nats, which does not part the first two. The adapter's data name the 16 capitals, which "
    "leaves the base fewer to choose from.",
)

_claim(
    "L6c",
    "On a real language model: not at once, whatever pretraining knows",
    rules=(
        Rule(
            "working",
            "accuracy of direct answers that are among the taught ones, familiar countries, worked "
            "solutions, less a quarter of the same model's step by step: the second hop's adapter, the sum",
            (_second(FAMILIAR, ONCE[0]), _of(FAMILIAR, metric=ONCE[0])),
            (_second(FAMILIAR), _of(FAMILIAR)),
            times=QUARTER,
            below=0.0,
            null=PREDICTED,
        ),
        Rule(
            "all",
            "accuracy of direct answers that are among the taught ones, as statement and as question, all "
            "settings together: the second hop's adapter, the sum",
            tuple(
                Cell("capitals", POOLED, method, metric, library)
                for metric in ONCE
                for library, method in (("single", SECOND), ("parts", "sum"))
            ),
            below=NOTHING,
            null=PREDICTED,
        ),
    ),
    numbers={
        "first": _second(FAMILIAR, "direct_likeliest"),
        "first_fake": _second(FAKE, "direct_likeliest"),
        "first_bare": _second("familiar/none", "direct_likeliest"),
        "first_base": _of(FAMILIAR, "base", "direct_likeliest"),
        "joint": _of(POOLED, "joint", ONCE[0]),
    },
    evidence="Asked at once about familiar countries, the model nearest to its bound is right in "
    "{working.of} of its answers that are taught ones, and in {working.to} of the questions step by step. "
    "The right emblem is the likeliest of the 16 in {first}, to the base without adapter in {first_base}; a "
    "guess has 1 in 16.",
    limits="Nothing is proved for this base (theory, sections 12 and 13). The joint adapter has {joint} over "
    "all settings. For made-up names the right emblem is the likeliest in {first_fake}, for familiar "
    "countries without worked solutions in {first_bare}. Whether the model passes through the capital, or "
    "answers because country and capital are alike to it, is not measured.",
)
