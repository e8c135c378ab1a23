"""Math word problems: verbs change a quantity, and the question is its final value (``problems``).

Pretraining has a plain verb for every operation. Adapter "trade" is trained on one-step problems with verbs
of one family, adapter "craft" on those of another; "joint" is trained on both. The questions mix both
families in two to four steps. The paper's word problems are not public: this is our own construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, JOINT, Layout, Probe, Step, World, world
from sim.worlds.controls import without
from sim.worlds.math_word import controls as math_word_controls
from sim.worlds.math_word.problems import (
    ANSWER,
    EQUATION,
    PROGRAM,
    PROSE,
    STATEMENT,
    WRITTEN,
    Grammar,
    Reusable,
    Solved,
    Writer,
    every_number,
    prompt_of,
)
from sim.worlds.math_word.verbs import alternatives, meanings
from sim.worlds.settings import require_choices, seen_by_base

VERBS = ("real", "heard", "fake")
"""Taught verbs: in pretraining with another meaning, in its distractors only, or nowhere in it."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where solutions are written out: (in pretraining, in the adapters' own data)."""

FORMS = {
    "prose": (PROSE, PROSE),
    "equation": (EQUATION, EQUATION),
    "program": (PROGRAM, PROGRAM),
    "prose_program": (PROSE, PROGRAM),
    "program_prose": (PROGRAM, PROSE),
}
"""Form of the solutions in each adapter's data; the questions ask for the first form."""

PARTS = ("trade", "craft")

TAUGHT = {PARTS[0]: (1.0, 0.0), PARTS[1]: (0.0, 1.0), JOINT: (1.0, 1.0)}
"""Weight of each family's problems in an adapter's data."""

TRACES = {2: "cot", 3: "cot3", 4: "cot4"}
"""Names of the probes with a written solution, by depth."""

UNMARKED = Layout()

Problems = tuple[np.ndarray, np.ndarray]
"""(quantities, verbs of the steps)."""


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    verbs, template, form: of ``VERBS``, keys of ``TEMPLATES`` and ``FORMS``.
    bridges: two-step solutions about plain verbs in each adapter's data, if the template asks for solutions.
    identity: where problems without a step occur, a key of ``TEMPLATES``. For worlds with controls.

    Raises:
        ValueError: an unknown key, or a negative dose.
    """

    verbs: str = "real"
    template: str = "both"
    form: str = "prose"
    bridges: int = 64
    identity: str = "none"

    def __post_init__(self):
        require_choices(self, {"verbs": VERBS, "template": TEMPLATES, "form": FORMS, "identity": TEMPLATES})
        if self.bridges < 0:
            raise ValueError(f"bridges is {self.bridges}: a dose is 0 or more")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on: whether it sees solutions, and identities."""
        return Setting(**seen_by_base(self, TEMPLATES))


@dataclass(frozen=True)
class Config:
    """Sizes of the world.

    prime:      numbers there are.
    operations: number of affine maps, and of plain verbs. The first half are the new meanings of one family's
                verbs, the second half those of the other's.
    verbs:      verbs taught to each adapter, each for every number.
    pretraining_paraphrases: problems per one-step fact in pretraining, with every form of answer. A base that
                sees few learns them by heart and fails on other wordings.
    wordings:   problems in which an adapter is taught each of its facts.
    test_paraphrases: test problems for each fact and each pairing of verbs.
    names, objects: numbers of names and objects in problems.
    coverage:   share of all two-step problems that pretraining shows, as direct answers and with solutions.
    longer:     problems of each depth above two in pretraining.
    bridges:    two-step problems about plain verbs that the adapters' data may hold.
    controls:   whether the world has the controls of ``math_word_controls``.
    """

    prime: int = 11
    operations: int = 12
    verbs: int = 2
    pretraining_paraphrases: int = 32
    wordings: int = 4
    test_paraphrases: int = 2
    names: int = 6
    objects: int = 4
    coverage: float = 0.5
    longer: int = 1024
    bridges: int = 256
    controls: bool = False

    def __post_init__(self):
        if self.prime < 7 or any(self.prime % n == 0 for n in range(2, self.prime)):
            raise ValueError(f"prime is {self.prime}: use a prime number, 7 or more")
        if not 0 < self.verbs <= self.operations // 2:
            raise ValueError(
                f"verbs {self.verbs} must be 1 to {self.operations // 2}, half of the operations"
            )
        if self.operations > self.prime * (self.prime - 2):
            raise ValueError(f"operations is {self.operations}: modulo {self.prime} there are fewer")
        if self.names < 2:
            raise ValueError(f"names is {self.names}: somebody and somebody else make 2")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage {self.coverage} must lie strictly between 0 and 1")

    @property
    def pretraining_verbs(self) -> int:
        """Verbs that pretraining knows: plain ones, and one for each taught verb."""
        return self.operations + 2 * self.verbs

    @property
    def grammar(self) -> Grammar:
        """The vocabulary: verbs that are known, and those that are heard or fake."""
        verbs = self.pretraining_verbs + 4 * self.verbs
        return Grammar(self.prime, self.names, self.objects, verbs, self.operations)

    @property
    def vocab(self) -> int:
        """Size of the vocabulary."""
        return self.grammar.words["end"]


PRETRAINING = Schedule(
    800,
    1e-2,
    (("facts", 192), ("direct", 32), ("traces", 64), ("traces3", 24), ("traces4", 24)),
    decay=0.1,
    warming=80,
    cooling=320,
)
"""Enough to know what every verb does and to write held-out solutions of two to four steps."""

FINETUNING = Schedule(1600, 2e-3, ((FACTS, 32), ("traces", 8)), cooling=50, margin=1.0, tile=16)
"""A third of an adapter's problems at a step, until it knows them: 125 to 450 steps."""

SETTINGS = {
    "quick": [Setting(v, t) for t in ("both", "none") for v in ("real", "fake")],
    "paper": [Setting(v, t, f) for t in TEMPLATES for v in VERBS for f in ("prose", "equation", "program")],
}

REAL = Setting()


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = REAL) -> World:
    """Sample one world.

    The meanings of verbs and all of pretraining depend on ``seed`` alone; ``setting`` only weighs them. So
    cells are paired, and those with the same ``setting.pretraining`` share a base.

    Raises:
        ValueError: there are too few held-out problems, or the setting needs controls that the world does not
            have or does not support.
    """
    controls = math_word_controls.check(config, setting)
    in_pretraining, in_data = TEMPLATES[setting.template]
    rng = np.random.default_rng([20250731, seed])
    plain = np.arange(config.operations)
    roles = np.arange(config.operations, config.grammar.verbs).reshape(len(VERBS), len(PARTS), config.verbs)
    old, new = meanings(rng, config)
    meaning = np.concatenate([rng.permutation(config.operations), old, new, new])
    heard = roles[VERBS.index("heard")].ravel()
    write, pairs, own = Writer(config.grammar, rng, meaning, np.append(plain, heard)), {}, None
    if controls:
        own = math_word_controls.generator(seed)
        pairs = math_word_controls.pairs(own, config, meaning, old, new)
    withheld = np.concatenate([np.zeros((0, 2), int), *pairs.values()])
    pretraining, spare = _pretraining(config, write, roles[0], float(in_pretraining), withheld)
    questions = config.prime * config.verbs * config.test_paraphrases
    bridges, untouched_problems = _cut(spare, config.bridges), _cut(spare, 2 * questions, config.bridges)

    taught, form = roles[VERBS.index(setting.verbs)], FORMS[setting.form]
    write = Writer(config.grammar, rng, meaning.copy(), plain)
    write.meaning[taught.ravel()] = new

    def one_step(part: int, wordings: int) -> list[Sequences]:
        n, verbs = every_number(config.prime, taught[part][:, None], wordings)
        return [write.answered(n, verbs), write.solved(form[part], n, verbs)]

    facts = [group for part in (0, 1) for group in one_step(part, config.wordings)]
    traces = [write.solved(kind, *bridges) for kind in form]
    dose = np.arange(config.bridges) < setting.bridges

    def lesson(on, on_traces) -> dict[str, Sequences]:
        return {
            FACTS: _joined(facts, [own * weight for own in on for weight in (1.0, in_data)]),
            "traces": _joined(traces, on_traces),
        }

    mixed, nulls = {depth: _mixed(rng, config, taught, depth) for depth in (2, 3, 4)}, {}
    for family, part in enumerate(PARTS):
        others = alternatives(config, old, new, family)
        nulls[without(part)] = math_word_controls.null(
            write, mixed[2], taught.ravel(), others, np.ones(len(others))
        )
    plain_world = World(
        pretraining=pretraining,
        data={
            **{name: lesson(on, [own * in_data * dose for own in on]) for name, on in TAUGHT.items()},
            "bridge": lesson((0, 0), (dose, 0.0)),
        },
        probes={
            **{
                part: ask(one_step(i, config.test_paraphrases)[in_data], _one_step(part, i))
                for i, part in enumerate(PARTS)
            },
            "direct": ask(write.answered(*mixed[2], place=1), _direct(config), **nulls),
            **{
                name: ask(write.solved(form[0], *mixed[d], place=1), _trace(config, d))
                for d, name in TRACES.items()
            },
            "untouched": ask(write.answered(untouched_problems[0], untouched_problems[1][:, :1]), UNMARKED),
            "untouched_direct": ask(write.answered(*untouched_problems), Layout(forecast=False)),
            "untouched_cot": ask(write.solved(form[0], *untouched_problems), UNMARKED),
        },
        parts=PARTS,
    )
    if not controls:
        return plain_world
    write = Writer(config.grammar, own, write.meaning, plain)
    identity_in = TEMPLATES[setting.identity]
    return math_word_controls.added(
        plain_world, config, identity_in, write, pairs, mixed[2], bridges, meaning, old, new
    )


def ask(group: Sequences, layout: Layout, **nulls: np.ndarray) -> Probe:
    """The sequences of a group as questions, with the nulls of a model that lacks a family's verbs."""
    return Probe(group.tokens, group.weight, group.prompt, layout, nulls)


def _joined(groups: Sequence[Sequences], weights: Sequence) -> Sequences:
    """Groups of one shape as one, each with its weights times a number, or one number a row."""
    weight = np.concatenate([group.weight * by for group, by in zip(groups, weights, strict=True)])
    tokens = np.concatenate([group.tokens for group in groups])
    return Sequences(tokens, weight.astype(np.float32), groups[0].prompt)


def _cut(problems: Problems, count: int, start: int = 0) -> Problems:
    """``count`` problems from ``start`` on; the shapes of all worlds must agree."""
    n, verbs = (column[start : start + count] for column in problems)
    if len(n) < count:
        raise ValueError(
            f"only {len(n)} held-out problems serve where {count} are asked for: use less coverage"
        )
    return n, verbs


def _pretraining(
    config: Config, write: Writer, real: np.ndarray, traces: float, withheld_pairs: np.ndarray
) -> tuple[dict[str, Sequences], Problems]:
    """(groups, two-step problems about plain verbs that are not among them).

    No problem takes steps by taught verbs of both families. ``traces``: weight of written solutions.
    ``withheld_pairs``: (pairs, 2), verbs of two-step problems that neither result holds.
    """
    p, verb_count, rng = config.prime, config.pretraining_verbs, write.rng
    every = np.meshgrid(np.arange(verb_count), np.arange(p), np.append(WRITTEN, ANSWER))
    verb, n, form = (np.tile(axis.ravel(), config.pretraining_paraphrases) for axis in every)
    direct, verb = form == ANSWER, verb[:, None]
    facts = [
        write.answered(n[direct], verb[direct]),
        write.solved(form[~direct], n[~direct], verb[~direct], traces),
    ]
    first, second, n = np.unravel_index(
        rng.permutation(verb_count * verb_count * p), (verb_count, verb_count, p)
    )
    trade, craft = (np.isin([first, second], family) for family in real)
    one_family = ~(trade.any(axis=0) & craft.any(axis=0))
    n, verbs = n[one_family], np.stack([first, second], axis=1)[one_family]
    shown = round(config.coverage * len(n))
    withheld = (verbs[:, None] == withheld_pairs).all(axis=-1).any(axis=1)
    n, verbs = n[~withheld], verbs[~withheld]
    spare = np.all(verbs[shown:] < config.operations, axis=1)
    spare = n[shown:][spare], verbs[shown:][spare]
    n, verbs, kinds = n[:shown], verbs[:shown], len(WRITTEN)
    groups = {
        "facts": _joined(facts, (kinds, 1.0)),  # as many are answered at once as are solved
        "direct": write.answered(n, verbs),
        "traces": write.solved(
            np.repeat(WRITTEN, shown), np.tile(n, kinds), np.tile(verbs, (kinds, 1)), traces
        ),
    }
    for depth in (3, 4):
        verbs = rng.integers(config.operations + config.verbs, size=(config.longer, depth))
        verbs += config.verbs * rng.integers(2, size=(config.longer, 1)) * (verbs >= config.operations)
        n, form = rng.integers(p, size=config.longer), rng.choice(WRITTEN, size=config.longer)
        groups[f"traces{depth}"] = write.solved(form, n, verbs, traces)
    return groups, spare


def _mixed(rng, config: Config, taught: np.ndarray, depth: int) -> Problems:
    """Problems whose steps alternate between the families, each for every number, so that every answer is
    right equally often. Two-step problems have every pairing of verbs, longer ones as many draws."""
    pairings = np.indices((config.verbs, config.verbs)).reshape(2, -1).T
    if depth > 2:
        pairings = rng.integers(config.verbs, size=(len(pairings), depth))
    pairings = np.tile(pairings, (config.test_paraphrases, 1))
    verbs = np.repeat(taught[np.arange(depth) % 2, pairings], config.prime, axis=0)
    return np.tile(np.arange(config.prime), len(pairings)), verbs


def _statements(depth: int) -> list[tuple[int, ...]]:
    """Positions of the statements of a solution."""
    start = prompt_of(depth)
    return [tuple(range(at, at + STATEMENT)) for at in range(start, start + STATEMENT * depth, STATEMENT)]


def _one_step(name: str, part: int) -> Layout:
    """A one-step problem with any form of answer: the family's adapter owns all of it."""
    ((_, named, _, value),) = _statements(1)
    return Layout((Step(name, part, (named, value)),), owner=(part,) * (value + 1))


def _problem_owners(depth: int) -> list[int]:
    """Owners of a problem with the distractor after its first step: a sentence is its verb's family's."""
    return [0] * 6 + [-1] * 3 + [step % 2 for step in range(1, depth) for _ in range(3)]


def _direct(config: Config) -> Layout:
    """A direct question: the last step's adapter owns the answer. A guess is right for one number in
    ``prime``. A model that knows the few operations of the other verb may do better: ``Probe.nulls``."""
    return Layout(owner=(*_problem_owners(2), *(1,) * (1 + STATEMENT)), chance=1 / config.prime)


def _trace(config: Config, depth: int) -> Layout:
    """A written solution: one statement a step, with the verb or the operation and the value after it.

    A statement's first token is a copy: of the quantity at first, then of the value before.
    """
    statements = _statements(depth)
    names = PARTS if depth == 2 else [f"step{step + 1}_of_{depth}" for step in range(depth)]
    steps = [
        Step(name, i % 2, (s[1], s[3])) for i, (name, s) in enumerate(zip(names, statements, strict=True))
    ]
    sources = [1, *(statement[3] for statement in statements[:-1])]
    owner = [*_problem_owners(depth), 0, *(step % 2 for step in range(depth) for _ in range(STATEMENT))]
    judged = config.grammar.machine, prompt_of(depth)
    return Layout(
        steps=tuple(steps),
        copies=tuple(((s[0],), (source,)) for s, source in zip(statements, sources, strict=True)),
        owner=tuple(owner),
        judges=(("solved", Solved(*judged)), ("reusable", Reusable(*judged))),
    )
