"""Ten rules for data whose adapters are to be reused, as data: text, comparisons that show the effect,
section of the theory, and where it fails. ``sim.figures.guide_page`` measures and writes them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from sim.experiments.common.claim import Cell, Rule

MINIATURE, LANGUAGE = "In the miniature", "In the language model"
PLACES = (MINIATURE, LANGUAGE)

MERGED = ("sum", "average", "oracle", "lambda=0.75", "lambda=1.25")
"""What is made of both adapters; other models are single ones."""

Pair = tuple[Cell, Cell]
"""A cell, and the cell that it is compared with."""


@dataclass(frozen=True)
class Advice:
    """One rule for whoever makes data sets.

    text:    the rule, an imperative.
    reason:  why, one sentence.
    section: number of the section of theory/README.md that explains it.
    effects: place -> the comparison that shows it; a place without one is not measured. ``above`` or
             ``below`` 0 is the side that the rule expects; neither: the sign says which choice is better.
    fails:   where it fails; ``{name}`` stands for the effect of that name in ``cases``.
    cases:   name -> the pair of cells of an effect, or a cell.
    tool:    the command that does this for data of one's own, if there is one.
    """

    text: str
    reason: str
    section: str
    effects: Mapping[str, Rule] = field(default_factory=dict)
    fails: str = ""
    cases: Mapping[str, Pair | Cell] = field(default_factory=dict)
    tool: str = ""

    @property
    def runs(self) -> list[str]:
        """The experiments of all its cells, in order."""
        cells = [cell for rule in self.effects.values() for pair in rule.comparisons for cell in pair]
        cells += [cell for case in self.cases.values() for cell in cells_of(case)]
        return list(dict.fromkeys(cell.experiment for cell in cells))


def cells_of(case: Pair | Cell) -> tuple[Cell, ...]:
    """The cells of a case."""
    return (case,) if isinstance(case, Cell) else case


def _pair(experiment: str, of: str, to: str, method: str = "sum", than: str = "") -> Pair:
    """Two settings under one method, or (``than``) two methods."""

    def cell(label: str, name: str) -> Cell:
        return Cell(experiment, label, name, library="parts" if name in MERGED else "single")

    return cell(of, method), cell(to, than or method)


def _rule(says: str, *pairs: Pair, above: float | None = None, below: float | None = None) -> Rule:
    of, to = zip(*pairs, strict=True)
    return Rule("effect", says, of, to, above=above, below=below)


ADVICE = (
    Advice(
        "Put worked solutions into every data set, each about a step of its own facts, all in one form.",
        "A question solved step by step is a chain of one-step prompts, each of which some adapter has seen.",
        "9",
        {
            MINIATURE: _rule(
                "four worked solutions in each data set, less none (pretraining knows the form)",
                _pair("bridges", "both/shared/4", "both/shared/0"),
                above=0.0,
            ),
            LANGUAGE: _rule(
                "four worked solutions a fact in each data set, less none (real names)",
                _pair("people", "real/shared", "real/none"),
                _pair("people", "real/shared", "real/none", "average"),
                above=0.0,
            ),
        },
        "A form that the data sets hold and pretraining lacks changes the sum of the miniature by {alone}. "
        "Four solutions in the wording of each data set, and not in that of pretraining, change it by "
        "{worded}. In the language model 128 solutions in each data set, less 4, change it by {many}.",
        {
            "alone": _pair("familiarity", "real/data", "real/none"),
            "worded": _pair("bridges", "both/paraphrased/4", "both/shared/0"),
            "many": _pair("people_dose", "real/shared/128", "real/shared/4"),
        },
    ),
    Advice(
        "Write every fact in several wordings.",
        "An edit acts at a prompt in proportion to its overlap κ with the prompts that it was taught at.",
        "4",
        fails="No run varies the wordings of a fact: the miniature has one, the language model always "
        "several.",
    ),
    Advice(
        "Prefer names that the base knows.",
        "The bridge must be written by one adapter and read by the other; a name that the base never copied "
        "breaks the chain there.",
        "8",
        {
            MINIATURE: _rule(
                "real names, less unseen ones (worked solutions everywhere)",
                _pair("familiarity", "real/both", "fake/both"),
                above=0.0,
            ),
            LANGUAGE: _rule(
                "real names, less made-up ones (worked solutions in the data)",
                _pair("people", "real/shared", "fake/shared"),
                _pair("people", "real/shared", "fake/shared", "average"),
                above=0.0,
            ),
        },
        "In the miniature the difference is {pieces} where unseen names are spelled with known pieces. In "
        "the language model that of the joint adapter is {joint}; familiar countries, less obscure ones, "
        "where the adapter of the second hop has the first from pretraining: {capitals}.",
        {
            "pieces": _pair("names", "real", "fake"),
            "joint": _pair("people", "real/shared", "fake/shared", "joint"),
            "capitals": _pair("capitals", "familiar/shared", "obscure/shared", "hop2"),
        },
    ),
    Advice(
        "Where names must be new, show them in worked solutions before adapters are trained, not in facts "
        "alone.",
        "Copying a name into the next step is practised on that name.",
        "13",
        {
            MINIATURE: _rule(
                "names that pretraining saw in 16 worked solutions and no fact, less in 4 facts and no "
                "solution",
                _pair("exposure", "facts0/traces16", "facts4/traces0"),
                above=0.0,
            )
        },
        "One solution a name, less none, gives {one}. Facts count as well where there are solutions: four, "
        "less none, give {facts} at 16 solutions.",
        {
            "one": _pair("exposure", "facts0/traces1", "facts0/traces0"),
            "facts": _pair("exposure", "facts4/traces16", "facts0/traces16"),
        },
    ),
    Advice(
        "Teach no relation in two data sets.",
        "Two adapters that answer the same prompts disturb each other, whichever facts they were taught.",
        "12",
        {
            LANGUAGE: _rule(
                "worked solutions with a step of another relation, less solutions of both relations about "
                "other people (real names)",
                _pair("people", "real/shared", "real/same"),
                _pair("people", "real/shared", "real/same", "average"),
                above=0.0,
            )
        },
        "In the miniature solutions in both data sets are of both relations, about other entities, and help "
        "where pretraining knows the form: 256 in each data set, less 4, {more}. The joint adapter of the "
        "language model changes by {joint}.",
        {
            "more": _pair("bridges", "both/shared/256", "both/shared/4"),
            "joint": _pair("people", "real/shared", "real/same", "joint"),
        },
    ),
    Advice(
        "For a sum, stop training soon after the adapter knows its data.",
        "An adapter that is trained on grows, and with it what it does to the prompts of the other.",
        "6",
        {
            MINIATURE: _rule(
                "training 16 times as long as an adapter needs, less as long as it needs",
                _pair("stopping", "both/times16", "both/times1"),
                below=0.0,
            ),
            LANGUAGE: _rule(
                "training 16 times as long as an adapter needs, less as long as it needs",
                _pair("people_stopping", "real/shared/x16", "real/shared/x1"),
                below=0.0,
            ),
        },
        "Four times as long as needed changes the sum by {miniature} in the miniature and by {language} in "
        "the language model.",
        {
            "miniature": _pair("stopping", "both/times4", "both/times1"),
            "language": _pair("people_stopping", "real/shared/x4", "real/shared/x1"),
        },
    ),
    Advice(
        "For an average, train longer.",
        "An average keeps an edit at half its strength: it stands if the adapter has overshot.",
        "3",
        {
            MINIATURE: _rule(
                "training 16 times as long as an adapter needs, less as long as it needs",
                _pair("stopping", "both/times16", "both/times1", "average"),
                above=0.0,
            ),
            LANGUAGE: _rule(
                "training 16 times as long as an adapter needs, less as long as it needs",
                _pair("people_stopping", "real/shared/x16", "real/shared/x1", "average"),
                above=0.0,
            ),
        },
        "The average of the miniature then has {longest}; rank 64, less rank 4, changes it by {rank}.",
        {
            "longest": _pair("stopping", "both/times16", "both/times1", "average")[0],
            "rank": _pair("rank", "rank64", "rank4", "average"),
        },
    ),
    Advice(
        "Give adapters the rank that their facts need: a middling one for a sum, a high one for an average.",
        "An adapter whose rank is short holds a share of its facts, and one with rank to spare disturbs "
        "more.",
        "6",
        {
            MINIATURE: _rule(
                "rank 16, less rank 1 (16 facts an adapter)",
                _pair("rank", "rank16", "rank1"),
                _pair("rank", "rank16", "rank1", "average"),
                above=0.0,
            )
        },
        "From rank 16 to 64 the sum changes by {sum} and the average by {average}.",
        {
            "sum": _pair("rank", "rank64", "rank16"),
            "average": _pair("rank", "rank64", "rank16", "average"),
        },
        "python -m sim.plan --facts 16 --adapters 2 --lam 0.5",
    ),
    Advice(
        "Choose λ by a few merges that you run: neither sum nor average is safe.",
        "An edit stands where λΔ > M, and Δ, M and the disturbance are those of your base and your training.",
        "3",
        {
            MINIATURE: _rule(
                "average, less sum (rank 4, worked solutions everywhere)",
                _pair("familiarity", "real/both", "real/both", "average", "sum"),
            ),
            LANGUAGE: _rule(
                "average, less sum (rank 8, real names, worked solutions in the data)",
                _pair("people", "real/shared", "real/shared", "average", "sum"),
            ),
        },
        "Other coefficients: 1¼, less 1, gives {miniature} in the miniature and {language} in the language "
        "model; ¾, less 1, {smaller} and {less}.",
        {
            "miniature": _pair("familiarity", "real/both", "real/both", "lambda=1.25", "sum"),
            "language": _pair("people", "real/shared", "real/shared", "lambda=1.25", "sum"),
            "smaller": _pair("familiarity", "real/both", "real/both", "lambda=0.75", "sum"),
            "less": _pair("people", "real/shared", "real/shared", "lambda=0.75", "sum"),
        },
        "python -m sim.predict A B --base FOLDER --prompts FILE.jsonl",
    ),
    Advice(
        "Train one adapter on all the data where the data can be had.",
        "No merge joins in its weights what no data set holds together, and every merge dilutes or disturbs.",
        "2",
        {
            MINIATURE: _rule(
                "joint adapter of rank 8, less the sum of two of rank 4",
                _pair("rank", "rank8", "rank4", "joint", "sum"),
                above=0.0,
            ),
            LANGUAGE: _rule(
                "joint adapter of rank 16, less the sum and the average of two of rank 8 (real names)",
                _pair("people", "real/shared", "real/shared", "joint_2r", "sum"),
                _pair("people", "real/shared", "real/shared", "joint_2r", "average"),
                above=0.0,
            ),
        },
        "Under a router that is told whose step it is adapters need not be merged: oracle, less joint "
        "adapter, {oracle} in the language model. Without worked solutions the joint adapter has {none} "
        "there.",
        {
            "oracle": _pair("people", "real/shared", "real/shared", "oracle", "joint_2r"),
            "none": _pair("people", "real/none", "real/none", "joint")[0],
        },
    ),
)
