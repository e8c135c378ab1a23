"""Math word problems: a quantity, verbs that change it, and what it is in the end; numbers modulo a prime.

A problem opens with a name, a quantity and an object, tells steps and one distractor about somebody else, and
ends with a mark that asks for one kind of answer (n, m numbers, VERB a verb, OP an operation):

    problem   Ann n apples | first Ann VERB | meanwhile Bob VERB | then VERB Ann | MARK
    ANSWER    she now has m
    PROSE     n VERB makes m   m VERB makes m
    EQUATION  n OP = m         m OP = m
    PROGRAM   n OP -> x        x OP -> x          (``sim.worlds.program`` runs it)

What a verb does to a quantity is an operation, an affine map. Pretraining knows plain verbs, one an operation.
Adapter "trade" is taught what verbs of one family do and adapter "craft" those of another, on one-step
problems; the question mixes both families. "joint" is taught both. The paper's word problems are not public:
this is a construction of our own.
"""

from dataclasses import dataclass, replace

import numpy as np

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, JOINT, Layout, Probe, Step, World, world
from sim.worlds.program import STATEMENT, Machine, Reusable, Solved

VERBS = ("real", "heard", "fake")
"""Taught verbs that pretraining knows with another meaning, that occur in its distractors alone, or nowhere."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where solutions are written out: (in pretraining, in the adapters' own data)."""

PROSE, EQUATION, PROGRAM, ANSWER = range(4)

FORMS = {
    "prose": (PROSE, PROSE),
    "equation": (EQUATION, EQUATION),
    "program": (PROGRAM, PROGRAM),
    "prose_program": (PROSE, PROGRAM),
    "program_prose": (PROGRAM, PROSE),
}
"""In which form each adapter is taught solutions; the first is what is asked for."""

PARTS = ("trade", "craft")

ORDINALS = 4
"""A sentence says which step it is; so many steps a problem may have."""

WORDS = 2
"""Ordinals, and words for "meanwhile", have so many synonyms; with the two orders of name and verb, 4 frames."""


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    verbs, template, form: of ``VERBS``, keys of ``TEMPLATES`` and ``FORMS``.
    bridges: two-step solutions about plain verbs in each adapter's data, if the template asks for solutions.

    Raises:
        ValueError: an unknown key, or a negative dose.
    """

    verbs: str = "real"
    template: str = "both"
    form: str = "prose"
    bridges: int = 64

    def __post_init__(self):
        for name, known in (("verbs", VERBS), ("template", TEMPLATES), ("form", FORMS)):
            if getattr(self, name) not in known:
                raise ValueError(f"unknown {name} {getattr(self, name)!r}: use one of {', '.join(known)}")
        if self.bridges < 0:
            raise ValueError(f"bridges is {self.bridges}: a dose is 0 or more")

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on: whether it sees solutions, in all three forms."""
        return Setting(template="pretraining" if TEMPLATES[self.template][0] else "none")


@dataclass(frozen=True)
class Config:
    """Sizes of the world.

    prime:      numbers there are.
    operations: affine maps there are, and as many plain verbs. The first half are the new meanings of one
                family's verbs, the second half of the other's.
    verbs:      verbs taught to each adapter, each for every number.
    wordings:   problems in which a fact is taught, and asked in others.
    names, objects: of the problems.
    coverage:   share of all two-step problems that pretraining shows, asked at once and with solutions.
    longer:     problems of each depth above two in pretraining.
    bridges:    two-step problems about plain verbs that are at hand for the adapters' data.
    """

    prime: int = 11
    operations: int = 12
    verbs: int = 2
    wordings: int = 2
    names: int = 6
    objects: int = 4
    coverage: float = 0.5
    longer: int = 1024
    bridges: int = 256

    def __post_init__(self):
        if self.prime < 7 or any(self.prime % n == 0 for n in range(2, self.prime)):
            raise ValueError(f"prime is {self.prime}: use a prime number, 7 or more")
        if not 0 < self.verbs <= self.operations // 2:
            raise ValueError(f"verbs {self.verbs} must be 1 to {self.operations // 2}, half of the operations")
        if self.operations > self.prime * (self.prime - 2):
            raise ValueError(f"operations {self.operations}: modulo {self.prime} there are fewer")
        if self.names < 2:
            raise ValueError(f"names is {self.names}: somebody and somebody else make 2")
        if not 0 < self.coverage < 1:
            raise ValueError(f"coverage {self.coverage} must lie strictly between 0 and 1")

    @property
    def known(self) -> int:
        """Verbs that pretraining knows: plain ones, and one for each taught verb."""
        return self.operations + 2 * self.verbs

    @property
    def words(self) -> dict[str, int]:
        """The first token of each kind, in the order of the vocabulary; numbers are the tokens from 0."""
        sizes = {
            "number": self.prime,
            "name": self.names,
            "object": self.objects,
            "ordinal": ORDINALS * WORDS,
            "meanwhile": WORDS,
            "verb": self.known + 4 * self.verbs,
            "operation": self.operations,
            "mark": 4,
            **dict.fromkeys(("she", "now", "has", "makes", "equals", "arrow", "variable"), 1),
        }
        starts = np.cumsum([0, *sizes.values()])
        return dict(zip([*sizes, "end"], map(int, starts), strict=True))

    @property
    def vocab(self) -> int:
        """Size of the vocabulary."""
        return self.words["end"]

    @property
    def machine(self) -> Machine:
        """What runs the programs. Every operation moves numbers and stretches differences: its slope is 2 or
        more, so that any two answers that differ by it agree at one number at most."""
        maps = np.random.default_rng(self.prime).permutation(self.prime * (self.prime - 2))[: self.operations]
        maps = tuple((2 + int(m) // self.prime, int(m) % self.prime) for m in np.sort(maps))
        words = self.words
        return Machine(self.prime, maps, words["operation"], words["arrow"], words["variable"])

    def prompt(self, depth: int) -> int:
        """Tokens of a problem of so many steps."""
        return 3 + 3 * (depth + 1) + 1


class _Writer:
    """Turns problems into token sequences; how they are worded is drawn from ``rng``."""

    def __init__(self, config: Config, rng: np.random.Generator, meaning: np.ndarray, bystanders: np.ndarray):
        """``meaning``: the operation of every verb. ``bystanders``: verbs of distractors."""
        self.config, self.words, self.rng = config, config.words, rng
        self.slope, self.offset = np.array(config.machine.operations).T
        self.meaning, self.bystanders = meaning, bystanders

    def values(self, n, verbs) -> np.ndarray:
        """The quantity before the first step and after each, (S, depth + 1)."""
        found = [n]
        for verb in verbs.T:
            operation = self.meaning[verb]
            found.append((self.slope[operation] * found[-1] + self.offset[operation]) % self.config.prime)
        return np.stack(found, axis=1)

    def _sentence(self, first_word, name, verb) -> list[np.ndarray]:
        word = first_word + self.rng.integers(WORDS, size=len(verb))
        turned = self.rng.random(len(verb)) < 0.5
        return [word, np.where(turned, verb, name), np.where(turned, name, verb)]

    def problem(self, n, verbs, place=None) -> list[np.ndarray]:
        """Columns of the problem without its mark; the distractor follows ``place`` steps, or any number."""
        count, depth = verbs.shape
        words, rng = self.words, self.rng
        name, shift = rng.integers(self.config.names, size=count), 1 + rng.integers(
            self.config.names - 1, size=count
        )
        other = words["name"] + (name + shift) % self.config.names
        opening = [
            words["name"] + name,
            n,
            words["object"] + rng.integers(self.config.objects, size=count),
        ]
        steps = [
            self._sentence(words["ordinal"] + WORDS * step, opening[0], words["verb"] + verbs[:, step])
            for step in range(depth)
        ]
        distractor = self._sentence(
            words["meanwhile"], other, words["verb"] + rng.choice(self.bystanders, size=count)
        )
        place = rng.integers(depth + 1, size=count) if place is None else np.full(count, place)
        sentences = []
        for position in range(depth + 1):
            before = steps[min(position, depth - 1)]
            after = steps[position - 1]
            sentences += [
                np.where(place == position, d, np.where(place > position, b, a))
                for d, b, a in zip(distractor, before, after, strict=True)
            ]
        return opening + sentences

    def solution(self, form, n, verbs) -> list[np.ndarray]:
        """Columns of the solution, four a step; ``form`` one number or one a row."""
        words, values = self.words, self.values(n, verbs)
        form, columns = np.broadcast_to(form, len(n)), []
        for step, verb in enumerate(verbs.T):
            operation = words["operation"] + self.meaning[verb]
            argument = np.full(len(n), words["variable"]) if step else n
            statement = {
                PROSE: (values[:, step], words["verb"] + verb, words["makes"], values[:, step + 1]),
                EQUATION: (values[:, step], operation, words["equals"], values[:, step + 1]),
                PROGRAM: (argument, operation, words["arrow"], words["variable"]),
            }
            columns += [
                np.select([form == kind for kind in statement], [np.broadcast_to(s[i], len(n)) for s in statement.values()])
                for i in range(STATEMENT)
            ]
        return columns

    def solved(self, form, n, verbs, weight=1.0, place=None) -> Sequences:
        """Problems with written solutions."""
        n, verbs = np.asarray(n), np.asarray(verbs)
        columns = [*self.problem(n, verbs, place), self.words["mark"] + form, *self.solution(form, n, verbs)]
        return _group(columns, weight, self.config.prompt(verbs.shape[1]))

    def answered(self, n, verbs, weight=1.0, place=None) -> Sequences:
        """Problems answered at once."""
        n, verbs = np.asarray(n), np.asarray(verbs)
        said = [self.words[word] for word in ("she", "now", "has")]
        columns = [*self.problem(n, verbs, place), self.words["mark"] + ANSWER, *said, self.values(n, verbs)[:, -1]]
        return _group(columns, weight, self.config.prompt(verbs.shape[1]))


def _group(columns, weight, prompt: int) -> Sequences:
    tokens = np.stack(np.broadcast_arrays(*columns), axis=1).astype(np.int32)
    weight = np.broadcast_to(np.asarray(weight, np.float32), len(tokens)).copy()
    return Sequences(tokens, weight, prompt)


PRETRAINING = Schedule(
    600, 1e-2, (("facts", 192), ("direct", 32), ("traces", 64), ("traces3", 24), ("traces4", 24)), decay=0.1
)
"""Enough to know what every verb does and to write held-out solutions of two to four steps."""

FINETUNING = Schedule(200, 2e-3, ((FACTS, 32), ("traces", 8)))
"""One cycle of an adapter's training; ``sim.reuse.library.finetune`` says how many are run."""

SETTINGS = {
    "quick": [Setting(v, t) for t in ("both", "none") for v in ("real", "fake")],
    "paper": [Setting(v, t, f) for t in TEMPLATES for v in VERBS for f in ("prose", "equation", "program")],
}


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = Setting()) -> World:
    """Sample one world.

    What verbs mean, and all of pretraining, depends on ``seed`` alone (``setting`` only weighs it), so that
    cells are paired and those with the same ``setting.pretraining`` share a base.

    Raises:
        ValueError: there are fewer held-out problems than are asked for.
    """
    in_pretraining, in_data = TEMPLATES[setting.template]
    rng = np.random.default_rng([20250731, seed])
    plain, each = np.arange(config.operations), config.verbs
    old, new = _meanings(rng, config)
    roles = np.arange(config.operations, config.words["operation"] - config.words["verb"]).reshape(3, 2, each)
    heard = roles[VERBS.index("heard")].ravel()
    meaning = np.concatenate([rng.permutation(config.operations), old, new, new])
    write = _Writer(config, rng, meaning, np.append(plain, heard))
    pretraining, held_out = _pretraining(config, rng, write, roles[0], float(in_pretraining))

    taught = roles[VERBS.index(setting.verbs)]
    write = _Writer(config, rng, meaning.copy(), plain)
    write.meaning[taught.ravel()] = new
    form = FORMS[setting.form]

    def one_step(part):
        verb, n = (found.ravel() for found in np.meshgrid(taught[part], np.arange(config.prime)))
        n, verbs = np.tile(n, config.wordings), np.tile(verb, config.wordings)[:, None]
        return write.answered(n, verbs), write.solved(form[part], n, verbs)

    lessons = [group for part in (0, 1) for group in one_step(part)]
    exams = [one_step(part)[int(in_data)] for part in (0, 1)]
    n, verbs = held_out
    untouched = n[: config.bridges], verbs[: config.bridges]
    bridges = [write.solved(kind, *untouched) for kind in form]
    size = config.prime * each * config.wordings
    n, verbs = n[config.bridges :][: 2 * size], verbs[config.bridges :][: 2 * size]
    if len(n) < 2 * size:
        raise ValueError(f"only {len(n)} held-out problems for {2 * size} questions: use less coverage")
    on_facts, on_traces = np.eye(2), np.eye(2) * (np.arange(config.bridges) < setting.bridges)[:, None, None]
    weights = {PARTS[0]: (1, 0), PARTS[1]: (0, 1), JOINT: (1, 1)}
    data = {
        name: {
            FACTS: _joined(lessons, [w * kind for w in on for kind in (1, in_data)]),
            "traces": _joined(bridges, [w * in_data * (np.arange(config.bridges) < setting.bridges) for w in on]),
        }
        for name, on in weights.items()
    }
    data["bridge"] = {FACTS: _joined(lessons, [0] * 4), "traces": _joined(bridges, [1, 0])}
    asked = {depth: _mixed(rng, config, taught, depth) for depth in (2, 3, 4)}
    return World(
        pretraining=pretraining,
        data=data,
        probes={
            **{part: ask(exams[i], _one_step(config, i)) for i, part in enumerate(PARTS)},
            "direct": ask(write.answered(*asked[2], place=1), _direct(config)),
            "cot": ask(write.solved(form[0], *asked[2], place=1), _trace(config, 2)),
            "cot3": ask(write.solved(form[0], *asked[3], place=1), _trace(config, 3)),
            "cot4": ask(write.solved(form[0], *asked[4], place=1), _trace(config, 4)),
            "untouched": ask(write.answered(n, verbs[:, :1]), Layout()),
            "untouched_direct": ask(write.answered(n, verbs), Layout(forecast=False)),
            "untouched_cot": ask(write.solved(form[0], n, verbs), Layout()),
        },
        parts=PARTS,
    )


def ask(group: Sequences, layout: Layout) -> Probe:
    """The sequences of a group as questions."""
    return Probe(group.tokens, group.weight, group.prompt, layout)


def _joined(groups, weights) -> Sequences:
    tokens = np.concatenate([group.tokens for group in groups])
    weight = np.concatenate([group.weight * w for group, w in zip(groups, weights, strict=True)])
    return Sequences(tokens, weight.astype(np.float32), groups[0].prompt)


def _meanings(rng, config: Config) -> tuple[np.ndarray, np.ndarray]:
    """(old, new) operations of the taught verbs, trade's first.

    No answer to a question that leaves out a step, or takes an old meaning for a new one, is right for more
    than one number: guesses that know a part of the solution are as good as any other.
    """
    slope, half, each = np.array(config.machine.operations)[:, 0], config.operations // 2, config.verbs
    while True:
        old = rng.permutation(config.operations)[: 2 * each]
        new = np.append(rng.permutation(half)[:each], half + rng.permutation(config.operations - half)[:each])
        before, after = (np.outer(slope[m[:each]], slope[m[each:]]) % config.prime for m in (old, new))
        if not np.any((after == 1) | (after == before)) and np.all(slope[old] != slope[new]):
            return old, new


def _pretraining(config: Config, rng, write: _Writer, real: np.ndarray, traces: float):
    """(groups, (quantities, verbs) of two-step problems about plain verbs that are not among them).

    No problem holds taught verbs of both families.
    """
    forms, p, known = np.arange(3), config.prime, config.known
    verb, n, kind = (f.ravel() for f in np.meshgrid(np.arange(known), np.arange(p), np.append(forms, ANSWER)))
    verb, n, kind = (np.tile(found, 4) for found in (verb, n, kind))
    told = kind == ANSWER
    facts = [
        write.answered(n[told], verb[told, None], 3),
        write.solved(kind[~told], n[~told], verb[~told, None], traces),
    ]
    first, second, n = np.unravel_index(rng.permutation(known * known * p), (known, known, p))
    mixed = (np.isin(first, real[0]) & np.isin(second, real[1])) | (
        np.isin(first, real[1]) & np.isin(second, real[0])
    )
    verbs, n = np.stack([first, second], axis=1)[~mixed], n[~mixed]
    shown = round(config.coverage * len(n))
    plain = np.all(verbs[shown:] < config.operations, axis=1)
    held_out = n[shown:][plain], verbs[shown:][plain]
    n, verbs = n[:shown], verbs[:shown]
    groups = {
        "facts": _joined(facts, (1, 1)),
        "direct": write.answered(n, verbs),
        "traces": write.solved(np.repeat(forms, shown), np.tile(n, 3), np.tile(verbs, (3, 1)), traces),
    }
    for depth in (3, 4):
        verbs = rng.integers(config.operations + config.verbs, size=(config.longer, depth))
        side = rng.integers(2, size=(config.longer, 1))
        verbs += config.verbs * side * (verbs >= config.operations)
        n, kind = rng.integers(p, size=config.longer), rng.integers(3, size=config.longer)
        groups[f"traces{depth}"] = write.solved(kind, n, verbs, traces)
    return groups, held_out


def _mixed(rng, config: Config, taught: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """(quantities, verbs) of problems whose steps take turns between the families, each for every number, so
    that every answer is the right one equally often."""
    of = np.arange(depth) % 2
    if depth == 2:
        picks = np.tile(np.indices((config.verbs,) * 2).reshape(2, -1).T, (config.wordings, 1))
    else:
        picks = rng.integers(config.verbs, size=(config.verbs**2, depth))
    verbs = np.repeat(taught[of, picks], config.prime, axis=0)
    return np.tile(np.arange(config.prime), len(picks)), verbs


def _statement(config: Config, depth: int, step: int) -> tuple[int, int, int, int]:
    start = config.prompt(depth) + STATEMENT * step
    return tuple(range(start, start + STATEMENT))


def _one_step(config: Config, part: int) -> Layout:
    """A one-step problem with either kind of answer: all of it belongs to the family's own adapter."""
    _, named, _, value = _statement(config, 1, 0)
    return Layout((Step(PARTS[part], part, (named, value)),), owner=(part,) * (value + 1))


def _told(depth: int) -> list[int]:
    """Owners of a problem with the distractor after its first step: each sentence goes to its verb's family."""
    return [0] * 6 + [-1] * 3 + [step % 2 for step in range(1, depth) for _ in range(3)]


def _direct(config: Config) -> Layout:
    """Asked at once: the last step's adapter answers. A guess is right for one number in ``prime``."""
    return Layout(owner=(*_told(2), *(1,) * (1 + STATEMENT)), chance=1 / config.prime)


def _trace(config: Config, depth: int) -> Layout:
    """A written solution: a statement a step, which names verb or operation and says the value.

    Its first token is a copy: of the quantity, and later of what the statement before it said.
    """
    statements = [_statement(config, depth, step) for step in range(depth)]
    names = PARTS if depth == 2 else [f"step{step + 1}_of_{depth}" for step in range(depth)]
    steps = [Step(name, i % 2, (s[1], s[3])) for i, (name, s) in enumerate(zip(names, statements, strict=True))]
    sources = [1, *(s[3] for s in statements)]
    owner = [*_told(depth), 0, *(i % 2 for i in range(depth) for _ in range(STATEMENT))]
    judged = config.machine, config.prompt(depth)
    return Layout(
        steps=tuple(steps),
        copies=tuple(((s[0],), (source,)) for s, source in zip(statements, sources, strict=False)),
        owner=tuple(owner),
        judges=(("solved", Solved(*judged)), ("reusable", Reusable(*judged))),
    )
