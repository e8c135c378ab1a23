"""Math word problems: verbs change a quantity, and the question is its final value (``problems``).

Pretraining has a plain verb for every operation. Adapter "trade" is trained on one-step problems with verbs
of one family, adapter "craft" on those of another; "joint" is trained on both. The questions mix both
families in two to four steps. The paper's word problems are not public: this is our own construction.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, JOINT, Layout, Probe, Step, World, world
from sim.worlds.building import (
    TEMPLATES,
    ask,
    join,
    lessons,
    positions,
    require_choices,
    require_doses,
    seen_by_base,
    take,
)
from sim.worlds.controls import require_support, without
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

VERBS = ("real", "heard", "fake")
"""Taught verbs: in pretraining with another meaning, in its distractors only, or nowhere in it."""

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
        require_choices(self, verbs=VERBS, template=TEMPLATES, form=FORMS, identity=TEMPLATES)
        require_doses(self, "bridges")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on: whether it sees solutions, and identities."""
        return Setting(**seen_by_base(self))


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
    longer:     problems of each depth above two in pretraining; with none, no question is deeper than two.
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
        if self.controls and 3 * self.verbs > self.operations:
            raise ValueError(f"operations {self.operations} leave none for controls: use {3 * self.verbs}")

    @property
    def pretraining_verbs(self) -> int:
        """Verbs that pretraining knows: plain ones, and one for each taught verb."""
        return self.operations + 2 * self.verbs

    @property
    def depths(self) -> tuple[int, ...]:
        """Steps of the problems with written solutions."""
        return tuple(TRACES) if self.longer else (2,)

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


class Sample(NamedTuple):
    """What a seed draws before anything is written, and the generator of the wordings.

    roles:   verbs, as (``VERBS``, ``PARTS``, config.verbs).
    meaning: the operation of every verb in pretraining. old, new: of the taught verbs, trade's first.
    pairs:   of ``math_word_controls``; empty in a world without them.
    """

    rng: np.random.Generator
    roles: np.ndarray
    meaning: np.ndarray
    old: np.ndarray
    new: np.ndarray
    pairs: dict[str, np.ndarray]


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = REAL) -> World:
    """Sample one world.

    The meanings of verbs and all of pretraining depend on ``seed`` alone; ``setting`` only weighs them. So
    cells are paired, and those with the same ``setting.pretraining`` share a base.

    Raises:
        ValueError: there are too few held-out problems, or the setting needs controls that the world does not
            have or does not support.
    """
    require_support(config, setting, verbs="real")
    own = math_word_controls.generator(seed)
    sample = _draw(config, seed, own)
    pretraining, spare = _pretraining(config, sample, TEMPLATES[setting.template][0])
    taught, meaning = sample.roles[VERBS.index(setting.verbs)], sample.meaning.copy()
    meaning[taught.ravel()] = sample.new
    write = Writer(config.grammar, sample.rng, meaning, np.arange(config.operations))
    bridges = _cut(spare, config.bridges)
    data = _data(config, setting, write, taught, bridges)
    probes, mixed = _questions(config, setting, sample, write, taught, spare)
    plain = World(pretraining, data, probes, PARTS)
    if not config.controls:
        return plain
    write = Writer(config.grammar, own, meaning, write.bystanders)
    return math_word_controls.add(plain, config, setting, sample, write, mixed, bridges)


def _draw(config: Config, seed: int, own: np.random.Generator) -> Sample:
    """``own``: generator of the controls."""
    rng = np.random.default_rng([20250731, seed])
    roles = np.arange(config.operations, config.grammar.verbs).reshape(len(VERBS), len(PARTS), config.verbs)
    old, new = meanings(rng, config)
    meaning = np.concatenate([rng.permutation(config.operations), old, new, new])
    pairs = math_word_controls.pairs(own, config, meaning, old, new) if config.controls else {}
    return Sample(rng, roles, meaning, old, new, pairs)


def _one_step(config: Config, write: Writer, verbs: np.ndarray, form: int, wordings: int) -> list[Sequences]:
    """[answered, solved] problems of one step by each of the verbs, for every number."""
    n, verbs = every_number(config.prime, verbs[:, None], wordings)
    return [write.answered(n, verbs), write.solved(form, n, verbs)]


def _data(
    config: Config, setting: Setting, write: Writer, taught: np.ndarray, bridges: Problems
) -> dict[str, dict[str, Sequences]]:
    in_data, forms = TEMPLATES[setting.template][1], FORMS[setting.form]
    facts = [
        each
        for verbs, form in zip(taught, forms, strict=True)
        for each in _one_step(config, write, verbs, form, config.wordings)
    ]
    traces = [write.solved(form, *bridges) for form in forms]
    dose, sizes = np.arange(config.bridges) < setting.bridges, [len(each.tokens) for each in facts]
    taught = {
        name: (np.repeat(np.outer(on, (1.0, in_data)), sizes), in_data * np.outer(on, dose).ravel())
        for name, on in TAUGHT.items()
    }
    taught["bridge"] = (0.0, np.outer((1.0, 0.0), dose).ravel())
    return lessons(join(*facts), join(*traces), taught)


def _questions(
    config: Config, setting: Setting, sample: Sample, write: Writer, taught: np.ndarray, spare: Problems
) -> tuple[dict[str, Probe], Problems]:
    """(probes, the two-step problems of "direct" and "cot")."""
    in_data, forms = TEMPLATES[setting.template][1], FORMS[setting.form]
    mixed = {depth: _mixed(sample.rng, config, taught, depth) for depth in config.depths}
    nulls = {}
    for family, part in enumerate(PARTS):
        others = alternatives(config, sample.old, sample.new, family)
        equal = np.ones(len(others))
        nulls[without(part)] = math_word_controls.null(write, mixed[2], taught.ravel(), others, equal)
    probes, wordings = {}, config.test_paraphrases
    for i, part in enumerate(PARTS):
        questions = _one_step(config, write, taught[i], forms[i], wordings)[in_data]
        probes[part] = ask(questions, _layout(part, i))
    probes["direct"] = ask(write.answered(*mixed[2], place=1), _direct(config), nulls)
    for depth in config.depths:
        probes[TRACES[depth]] = ask(write.solved(forms[0], *mixed[depth], place=1), _trace(config, depth))
    n, verbs = _cut(spare, 2 * config.prime * config.verbs * config.test_paraphrases, config.bridges)
    probes["untouched"] = ask(write.answered(n, verbs[:, :1]))
    probes["untouched_direct"] = ask(write.answered(n, verbs), forecast=False)
    probes["untouched_cot"] = ask(write.solved(forms[0], n, verbs))
    return probes, mixed[2]


def _cut(problems: Problems, count: int, start: int = 0) -> Problems:
    """``count`` problems from ``start`` on."""
    message = f"held-out problems serve where {count} are asked for: use less coverage"
    return tuple(take(column[start:], count, message) for column in problems)


def _pretraining(config: Config, sample: Sample, traces: float) -> tuple[dict[str, Sequences], Problems]:
    """(groups, two-step problems about plain verbs that are not among them).

    No problem takes steps by taught verbs of both families, and no problem of two steps is one of the pairs
    of the controls. ``traces``: weight of written solutions.
    """
    p, verb_count, rng = config.prime, config.pretraining_verbs, sample.rng
    heard = sample.roles[VERBS.index("heard")].ravel()
    write = Writer(config.grammar, rng, sample.meaning, np.append(np.arange(config.operations), heard))
    withheld_pairs = np.concatenate([np.zeros((0, 2), int), *sample.pairs.values()])
    every = np.meshgrid(np.arange(verb_count), np.arange(p), np.append(WRITTEN, ANSWER))
    verb, n, form = (np.tile(axis.ravel(), config.pretraining_paraphrases) for axis in every)
    direct, verb = form == ANSWER, verb[:, None]
    facts = join(
        write.answered(n[direct], verb[direct], len(WRITTEN)),  # as many are answered at once as are solved
        write.solved(form[~direct], n[~direct], verb[~direct], traces),
    )
    first, second, n = np.unravel_index(
        rng.permutation(verb_count * verb_count * p), (verb_count, verb_count, p)
    )
    trade, craft = (np.isin([first, second], family) for family in sample.roles[0])
    one_family = ~(trade.any(axis=0) & craft.any(axis=0))
    n, verbs = n[one_family], np.stack([first, second], axis=1)[one_family]
    shown = round(config.coverage * len(n))
    withheld = (verbs[:, None] == withheld_pairs).all(axis=-1).any(axis=1)
    n, verbs = n[~withheld], verbs[~withheld]
    spare = np.all(verbs[shown:] < config.operations, axis=1)
    spare = n[shown:][spare], verbs[shown:][spare]
    n, verbs, kinds = n[:shown], verbs[:shown], len(WRITTEN)
    groups = {
        FACTS: facts,
        "direct": write.answered(n, verbs),
        "traces": write.solved(
            np.repeat(WRITTEN, shown), np.tile(n, kinds), np.tile(verbs, (kinds, 1)), traces
        ),
    }
    for depth in config.depths[1:]:
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
    return [positions(start + STATEMENT * step, STATEMENT) for step in range(depth)]


def _layout(name: str, part: int) -> Layout:
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
