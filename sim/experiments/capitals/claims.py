"""Claims L6a to L6d: one hop known from pretraining. The rules were committed before any run."""

from sim.experiments.common.claim import NOTHING, POOLED, PREDICTED, QUARTER, Cell, Rule, claim

FIXED = "2026-11-30"

HISTORY = (
    "Written before any run of this experiment. The base's own answers to the questions of the first hop "
    "were known, as countries are chosen by them, and so were the results of people: with real names and "
    "worked solutions the sum of both adapters had .34 step by step, the average .70, the joint adapter .96, "
    "and the second hop's adapter by itself .08."
)

PILOT = (
    "After the rules of L6a, and before any run, the committed adapter of emblems, which has the worked "
    "solutions of people, answered six questions about capitals that it knows the emblems of: it wrote the "
    "form of a solution in all and the right capital in none; at half strength the capital in all and the "
    "emblem in none. The template of true capitals, and the rules about it, were written after that."
)

HALF = 0.5
"""Share of the joint adapter's accuracy from which on one adapter is called enough."""

SECOND = "hop2"
"""The adapter of the emblems. Asked by itself it has the first hop from the base or not at all."""

SHARED, REHEARSED = "familiar/shared", "familiar/rehearsed"
UNFAMILIAR = ("doubtful/rehearsed", "obscure/rehearsed", "fake/rehearsed")
FIGURE = "one_hop_from_pretraining"
ONCE = ("direct_given_among_answers", "direct_question_given_among_answers")


def _single(label: str, metric: str = "cot_answer", method: str = SECOND) -> Cell:
    return Cell("capitals", label, method, metric, "single")


def _sum(label: str, metric: str = "cot_answer", method: str = "sum") -> Cell:
    return Cell("capitals", label, method, metric)


def _reach(label: str, says: str, history: str) -> Rule:
    return Rule(
        "reach",
        f"accuracy step by step, familiar countries, {says}: the adapter of the second hop by itself, over "
        "the joint adapter",
        (_single(label),),
        (_single(label, method="joint"),),
        above=HALF,
        ratio=True,
        history=history,
    )


def _needless(label: str, history: str) -> Rule:
    return Rule(
        "needless",
        "the same countries and solutions: both adapters (sum, average), less the one by itself",
        (_sum(label), _sum(label, method="average")),
        (_single(label),),
        below=NOTHING,
        history=history,
    )


claim(
    "L6a",
    "On a real language model: one adapter is enough where pretraining knows the other hop",
    FIGURE,
    "capitals",
    fixed=FIXED,
    rules=(
        _reach(SHARED, "worked solutions with a made-up step", HISTORY),
        Rule(
            "template",
            "the same adapter with worked solutions in its data, less without",
            (_single(SHARED),),
            (_single("familiar/none"),),
            above=NOTHING,
            history=HISTORY,
        ),
        _needless(SHARED, HISTORY),
    ),
    numbers={
        "base": _single(SHARED, "hop1", "base"),
        "capital": _single(SHARED, "hop1"),
        "step": _single(SHARED, "cot_hop1"),
        "step_half": _single(SHARED, "cot_hop1", f"{SECOND} at 0.5"),
        "half": _single(SHARED, method=f"{SECOND} at 0.5"),
        "wording": _single(SHARED, "cot_template"),
        "sum": _sum(SHARED),
        "average": _sum(SHARED, method="average"),
    },
    evidence="For countries whose capital the base knows, an adapter that was taught the emblems of the "
    "capitals and nothing of the countries answers {reach.of} step by step, the joint adapter {reach.to}; "
    "with the adapter of the capitals the sum has {sum}, the average {average}. By itself it writes the form "
    "of a solution in {wording} and the right capital in {step}; at half strength the capital in {step_half} "
    "and the emblem in {half}.",
    limits="The countries were chosen by the base's greedy answer in 32 bits; in the run it has {base} of "
    "them, the adapter of the emblems {capital}. Without worked solutions this adapter answers "
    "{template.to}.",
)

claim(
    "L6b",
    "On a real language model: ... if its worked solutions start from what pretraining knows",
    FIGURE,
    "capitals",
    fixed=FIXED,
    rules=(
        _reach(REHEARSED, "worked solutions that begin with the capitals of other countries", PILOT),
        Rule(
            "first",
            "the right capital in a solution by the second hop's adapter: solutions that begin with capitals "
            "of other countries, less those with a made-up step",
            (_single(REHEARSED, "cot_hop1"),),
            (_single(SHARED, "cot_hop1"),),
            above=NOTHING,
            history=PILOT,
        ),
        Rule(
            "answer",
            "the same of the answer",
            (_single(REHEARSED),),
            (_single(SHARED),),
            above=NOTHING,
            history=PILOT,
        ),
        _needless(REHEARSED, PILOT),
    ),
    numbers={
        "sum": _sum(REHEARSED),
        "average": _sum(REHEARSED, method="average"),
        "given": _single(REHEARSED, "cot_hop2_given_hop1"),
        "untouched": _single(REHEARSED, "untouched"),
        "untouched_shared": _single(SHARED, "untouched"),
    },
    evidence="Where the adapter's worked solutions begin with true capitals of other countries it answers "
    "{reach.of} by itself, the joint adapter {reach.to}, the sum of both {sum}, the average {average}. It "
    "writes the right capital in {first.of} of its solutions, with a made-up step in {first.to}.",
    limits="After the right capital it writes the right emblem in {given}. Of capitals of further countries "
    "it knows {untouched}, with a made-up step {untouched_shared}. The solutions show no country that is "
    "asked about, but they show the relation.",
)

claim(
    "L6c",
    "On a real language model: ... and not where pretraining barely saw the entity",
    FIGURE,
    "capitals",
    fixed=FIXED,
    rules=(
        Rule(
            "gap",
            "accuracy step by step of the second hop's adapter by itself, solutions that begin with the "
            "capitals of other countries: familiar countries, less those that the base does not know (their "
            "capitals likely, unlikely to it, made up)",
            (_single(REHEARSED),) * len(UNFAMILIAR),
            tuple(map(_single, UNFAMILIAR)),
            above=NOTHING,
            history=PILOT,
        ),
        Rule(
            "repaired",
            "countries that the base does not know: the average of both adapters, less the one by itself",
            tuple(_sum(label, method="average") for label in UNFAMILIAR),
            tuple(map(_single, UNFAMILIAR)),
            above=NOTHING,
            history=PILOT,
        ),
    ),
    numbers={name.split("/")[0]: _single(name) for name in (REHEARSED, *UNFAMILIAR)}
    | {
        f"gain_{name.split('/')[0]}": _single(name, "hop1_loss_gain", "base")
        for name in (REHEARSED, *UNFAMILIAR)
    }
    | {"joint": _single("fake/rehearsed", method="joint")},
    evidence="The adapter of the second hop by itself answers {familiar} for familiar countries, {doubtful} "
    "and {obscure} for those that the base does not know, and {fake} for made-up ones, where a guess has "
    "1 in 16. To the base the right capital is likelier than the mean of the 16 by {gain_familiar}, "
    "{gain_doubtful}, {gain_obscure} and {gain_fake} nats.",
    limits="With made-up names the joint adapter has {joint}. Only there the guess is exact.",
)

claim(
    "L6d",
    "On a real language model: not at once, whatever pretraining knows",
    FIGURE,
    "capitals",
    fixed=FIXED,
    rules=(
        Rule(
            "working",
            "accuracy of direct answers that are among the taught ones, familiar countries, both kinds of "
            "worked solutions, less a quarter of the same model's step by step: the second hop's adapter, "
            "the sum",
            tuple(of(label, ONCE[0]) for of in (_single, _sum) for label in (SHARED, REHEARSED)),
            tuple(of(label) for of in (_single, _sum) for label in (SHARED, REHEARSED)),
            times=QUARTER,
            below=0.0,
            null=PREDICTED,
            history=PILOT,
        ),
        Rule(
            "all",
            "accuracy of direct answers that are among the taught ones, as statement and as question, all "
            "settings together: the second hop's adapter, the sum",
            tuple(of(POOLED, metric) for metric in ONCE for of in (_single, _sum)),
            below=NOTHING,
            null=PREDICTED,
            history=HISTORY,
        ),
    ),
    numbers={
        "first": _single(REHEARSED, "direct_likeliest"),
        "first_base": _single(REHEARSED, "direct_likeliest", "base"),
        "joint": _single(POOLED, ONCE[0], "joint"),
    },
    evidence="Asked at once about familiar countries, the model nearest to its bound is right in "
    "{working.of} of its answers that are taught ones, and in {working.to} of the questions step by step. "
    "The right emblem is the likeliest of the 16 in {first}, to the base without adapter in {first_base}; a "
    "guess has 1 in 16.",
    limits="Nothing is proved for this base (theory, sections 12 and 13). The joint adapter has {joint} over "
    "all settings.",
)
