"""Cross-lingual code: a new language taught in one place, new functions in another.

A request applies a function to two inputs, "to a and b, f". Every language has a word of its own for each
function, input and particle, and its own word order (``languages``). P is the pivot, L1 to L3 are
other languages that pretraining knows, N is the new one. A program is a body of three instructions and the
names of two inputs; it runs on a stack machine (``stack``) and is judged by what it computes.
Sequences:

    paraphrase   request INTO language | request
    code         request CODE | program
    trace        request INTO P | request CODE program            (translate, and go on to code)

Pretraining holds requests in P and L1 to L3, paraphrased into each other and as code, and traces of them.
Adapter "language" is trained on paraphrases from N into P, adapter "functions" on code of the new functions
for requests in P: the first sees no program of theirs, the second no word of N. The target is code of the new
functions for requests in N. "joint" is trained on all of it. The paper's data sets are not public; this is
our own construction.
"""

import itertools
from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, JOINT, Layout, Probe, Step, World, world
from sim.worlds.building import TEMPLATES, ask, join, lessons, require_choices, reweigh, seen_by_base, take
from sim.worlds.controls import require_support
from sim.worlds.crosslingual import controls as crosslingual_controls
from sim.worlds.crosslingual import stack
from sim.worlds.crosslingual.languages import (
    BODY,
    DIRECTLY,
    FOREIGN,
    INPUTS,
    L3,
    PROGRAM,
    TRACED,
    UNSEEN_N,
    UNSEEN_P,
    UNUSED,
    N,
    P,
    Tokens,
    Writer,
)

FAMILIARITY = {
    "familiar": (),
    "new_language": ("language",),
    "new_functions": ("functions",),
    "new": ("language", "functions"),
}
"""Words that pretraining never shows: those of N, or those of P for the new functions. Familiar words of N
occur in paraphrases from N into N; familiar function names have other bodies in pretraining."""

WORKED = {"pivot": (P,), "known": (P, *FOREIGN)}
"""Languages of the requests in traces of new functions. The data of "functions" have these if the template
puts traces into the data; both adapters' data then have the same traces of old functions in old languages."""

PARTS = ("language", "functions")

TRIALS = 16
"""Fresh inputs on which a program is tried."""


@dataclass(frozen=True)
class Setting:
    """What varies between the cells of a seed.

    familiarity, template, worked: keys of ``FAMILIARITY``, ``TEMPLATES`` and ``WORKED``.
    identity: where P is paraphrased into P, a key of ``TEMPLATES``. In the data for worlds with controls.

    Raises:
        ValueError: an unknown key.
    """

    familiarity: str = "familiar"
    template: str = "both"
    worked: str = "pivot"
    identity: str = "pretraining"

    def __post_init__(self):
        require_choices(self, familiarity=FAMILIARITY, template=TEMPLATES, worked=WORKED, identity=TEMPLATES)

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        return Setting(**seen_by_base(self))


@dataclass(frozen=True)
class Config:
    """Sizes of the world.

    stable_functions: functions that pretraining teaches and no adapter changes.
    edits:    new functions.
    bridges:  traces in each foreign language for the adapters' data.
    controls: whether the world has the controls of ``crosslingual_controls``; then pretraining never codes a
              new function that is asked for in L3.
    """

    stable_functions: int = 20
    edits: int = 8
    bridges: int = 24
    controls: bool = False

    def __post_init__(self):
        most = len(np.unique(stack.meanings(BODY, TRIALS)[1])) - 1
        if not (0 < self.edits <= self.stable_functions and self.stable_functions + 2 * self.edits <= most):
            raise ValueError(
                f"stable_functions {self.stable_functions} and edits {self.edits}: use at least one edit, no "
                f"more than stable functions, and stable_functions + 2 * edits at most {most}, the different "
                "bodies"
            )
        least = crosslingual_controls.TO_CODE
        if self.controls and self.stable_functions < least:
            raise ValueError(f"stable_functions is {self.stable_functions}: controls need {least} or more")

    @property
    def tokens(self) -> Tokens:
        """The vocabulary."""
        return Tokens(self.stable_functions, self.edits)

    @property
    def vocab(self) -> int:
        """Size of the vocabulary."""
        return self.tokens.size


@dataclass(frozen=True)
class Runs:
    """Judge: the program written computes what the right one does, on fresh inputs.

    code: token of the first instruction. any: what the right program of any question computes will do.
    """

    code: int
    any: bool = False

    def __call__(self, written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
        """Sequences that end in programs -> whether each will do."""
        programs = jnp.stack([written, right])[..., : -PROGRAM - 1 : -1] - self.code
        (ours, theirs), (runs, _) = stack.run(programs, stack.fresh(TRIALS, INPUTS))
        if self.any:
            return runs & (ours[:, None] == theirs[None]).all(axis=-1).any(axis=1)
        return runs & (ours == theirs).all(axis=-1)


def takes_inputs(written: Int[Array, "S T"], right: Int[Array, "S T"]) -> Bool[Array, " S"]:
    """Judge: the program ends in the right inputs: vocabulary alone."""
    return (written[:, BODY - PROGRAM :] == right[:, BODY - PROGRAM :]).all(axis=1)


PRETRAINING = Schedule(
    400,
    6e-3,
    (("facts", 32), ("direct", 16), ("paraphrases", 64), ("traces", 96)),
    decay=0.3,
    warming=40,
    cooling=160,
)
"""Enough to know every function, and to code by trace what was never coded in that language."""

FINETUNING = Schedule(1600, 4e-3, ((FACTS, 32), ("traces", 32)), cooling=50, margin=1.0, tile=16)
"""Until an adapter knows its requests and traces. Twice the rate of the two-hop world: on one seed the joint
adapter, taught to the same recall, then answers more by trace."""

SETTINGS = {
    "quick": [Setting(f, t) for t in ("pretraining", "none", "both") for f in ("familiar", "new")],
    "paper": [Setting(f, t) for t in TEMPLATES for f in FAMILIARITY],
}

FAMILIAR = Setting()


REQUEST_AT, BODY_AT, INPUTS_AT = (7, 9, 10), (6, 7, 8), (9, 10)
"""After a prompt of six tokens: words of a request in P but its particles; body of a program; its inputs."""

WORDING = Layout((Step("language", 0, REQUEST_AT),), owner=(0,) * 11)
"""A paraphrase, "request INTO P | request": the language's adapter owns all of it."""

CODING = Layout((Step("functions", 1, BODY_AT),), copies=((INPUTS_AT, (1, 3)),), owner=(1,) * 11)
"""Code, "request CODE | program", for a request in P; a program ends in the names of its inputs, as given."""

DIRECT = Layout(owner=(0,) * 5 + (1,) * 6)
"""Code for a request in N: the language's adapter owns the request, the functions' adapter the program."""

TRACE = Layout(
    steps=(Step("language", 0, (7, 9, 10)), Step("functions", 1, (12, 13, 14))),
    copies=(((15, 16), (7, 9)),),
    owner=(0,) * 10 + (1,) * 7,
)
"""A trace, "request INTO P | request CODE program". The language's adapter owns all positions before the
function's name in P is read, the functions' adapter the rest."""


class Sample(NamedTuple):
    """Everything that is random, and the words that the setting picks.

    novel, pivot: N and P, in the words that the setting asks for.
    requests:  (3, S), every request: a function and its two inputs. new: (S,), whether the function is new.
    shared:    (S,), whether the inputs are those of the questions: so they do not give the function away.
    use:       for each foreign language, how pretraining uses the request's function.
    held_out, bridges: old requests in each foreign language, for questions and for the adapters' traces.
    untouched: old requests in P.
    """

    write: Writer
    novel: int
    pivot: int
    requests: np.ndarray
    new: np.ndarray
    shared: np.ndarray
    use: list[np.ndarray]
    held_out: list[np.ndarray]
    bridges: list[np.ndarray]
    untouched: np.ndarray

    def foreign(self, write_one, batches, *pivots) -> Sequences:
        """A batch of requests for every foreign language, one group."""
        return join(*(write_one(o, *pivots, *batch) for o, batch in zip(FOREIGN, batches, strict=True)))

    def shown(self, write_one, where: int, *pivots) -> Sequences:
        """All requests in every foreign language, weighed by whether pretraining uses the function so."""
        each = zip(FOREIGN, self.use, strict=True)
        return join(*(write_one(o, *pivots, *self.requests, use == where) for o, use in each))


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = FAMILIAR) -> World:
    """Sample one world.

    Bodies, pretraining and questions depend on ``seed`` alone; ``setting`` weighs the sequences and picks the
    words of N and of the new functions. So cells are paired and share bases.

    Raises:
        ValueError: there are fewer requests than ``config.bridges``, or the setting needs controls that the
            world does not have.
    """
    require_support(config, setting, ("none", "pretraining"), familiarity="familiar", worked="pivot")
    sample = _draw(config, seed, setting)
    plain = World(_pretraining(setting, sample), _data(setting, sample), _questions(config, sample), PARTS)
    return crosslingual_controls.add(plain, setting, sample) if config.controls else plain


def _draw(config: Config, seed: int, setting: Setting) -> Sample:
    novel = UNSEEN_N if "language" in FAMILIARITY[setting.familiarity] else N
    pivot = UNSEEN_P if "functions" in FAMILIARITY[setting.familiarity] else P
    rng = np.random.default_rng([20251125, seed])
    write = Writer(config.tokens, _bodies(rng, config.stable_functions + 2 * config.edits))
    pairs = rng.permutation([(a, b) for a in range(INPUTS) for b in range(INPUTS) if a != b])
    f, pair = (axis.ravel() for axis in np.indices((config.stable_functions + config.edits, len(pairs))))
    requests, new = np.stack([f, *pairs[pair].T]), f >= config.stable_functions
    # In each foreign language a third of the functions is coded at once, a third by trace and a third never.
    # A right trace of the last third is no code learned by heart.
    kinds = (config.stable_functions, config.edits)
    use = [np.concatenate([rng.permutation(np.arange(size) % 3) for size in kinds])[f] for _ in FOREIGN]
    if config.controls:
        use[FOREIGN.index(L3)] = np.where(new, UNUSED, use[FOREIGN.index(L3)])
    each = -(-config.edits // 2)
    held_out, bridges = (
        [_some(rng, requests[:, ~new & (of == where)], count, what) for of in use]
        for where, count, what in ((UNUSED, each, "held out"), (TRACED, config.bridges, "bridges"))
    )
    untouched = _some(rng, requests[:, ~new], 2 * config.edits, "untouched")
    return Sample(write, novel, pivot, requests, new, pair == 0, use, held_out, bridges, untouched)


def _pretraining(setting: Setting, sample: Sample) -> dict[str, Sequences]:
    write, requests, in_pretraining = sample.write, sample.requests, TEMPLATES[setting.template][0]
    traces = join(write.trace(P, P, *requests), sample.shown(write.trace, TRACED, P))
    spoken = [*itertools.product((P, *FOREIGN), repeat=2), (N, N)]
    identity = {(P, P): TEMPLATES[setting.identity][0]}
    return {
        FACTS: write.coded(P, *requests),
        "direct": sample.shown(write.coded, DIRECTLY),
        "paraphrases": join(*(write.paraphrase(*xy, *requests, identity.get(xy, True)) for xy in spoken)),
        "traces": reweigh(traces, in_pretraining * traces.weight),
    }


def _data(setting: Setting, sample: Sample) -> dict[str, dict[str, Sequences]]:
    write, pivot, in_data = sample.write, sample.pivot, TEMPLATES[setting.template][1]
    new = sample.requests[:, sample.new]
    words, codes = write.paraphrase(sample.novel, pivot, *sample.requests), write.coded(pivot, *new, now=True)
    facts = join(words, codes)
    on_words = np.arange(len(facts.tokens)) < len(words.tokens)
    shared = sample.foreign(write.trace, sample.bridges, P)
    traces = join(shared, *(write.trace(o, pivot, *new, now=True) for o in (pivot, *FOREIGN)))
    place, count = np.arange(len(traces.tokens)), len(shared.tokens)
    worked = place < count + new.shape[1] * len(WORKED[setting.worked])
    taught = {
        "language": (on_words, in_data * (place < count)),
        "functions": (~on_words, in_data * worked),
        JOINT: (1.0, in_data * worked),
        "bridge": (0.0, place < count),
    }
    return lessons(facts, traces, taught)


def _questions(config: Config, sample: Sample) -> dict[str, Probe]:
    write, novel, pivot = sample.write, sample.novel, sample.pivot
    target, old_target = (sample.requests[:, sample.shared & (sample.new == new)] for new in (True, False))
    runs = (("runs", Runs(config.tokens.code)),)
    of_code = (*runs, ("runs_as_an_answer", Runs(config.tokens.code, any=True)), ("inputs", takes_inputs))
    return {
        "language": ask(write.paraphrase(novel, pivot, *target), WORDING),
        "functions": ask(write.coded(pivot, *target, now=True), CODING, judges=runs),
        "direct": ask(write.coded(novel, *target, now=True), DIRECT, chance=1 / config.edits, judges=of_code),
        "cot": ask(write.trace(novel, pivot, *target, now=True), TRACE, judges=runs),
        "known": ask(write.coded(novel, *old_target), DIRECT, judges=of_code),
        "known_cot": ask(write.trace(novel, P, *old_target), owner=TRACE.owner, judges=runs),
        "untouched": ask(write.coded(P, *sample.untouched)),
        "untouched_direct": ask(sample.foreign(write.coded, sample.held_out), forecast=False),
        "untouched_cot": ask(sample.foreign(write.trace, sample.held_out, P)),
    }


def _some(
    rng: np.random.Generator, requests: np.ndarray, count: int, what: str
) -> Int[np.ndarray, "3 count"]:
    """``count`` of the requests, drawn."""
    places = rng.permutation(requests.shape[1])
    return requests[:, take(places, count, f"requests serve as {what}, not {count}: use more functions")]


def _bodies(rng: np.random.Generator, count: int) -> Int[np.ndarray, "count body"]:
    """Bodies that compute different things, drawn without preference for what many bodies compute."""
    bodies, number = stack.meanings(BODY, TRIALS)
    order = rng.permutation(np.flatnonzero(number >= 0))
    first = order[np.unique(number[order], return_index=True)[1]]
    return bodies[rng.permutation(first)[:count]]
