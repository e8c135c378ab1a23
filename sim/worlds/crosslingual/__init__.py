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
from dataclasses import dataclass, replace

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Int

from sim.model.sequences import Sequences
from sim.model.training import Schedule
from sim.worlds import FACTS, JOINT, Layout, Probe, Step, World, world
from sim.worlds.crosslingual import controls as crosslingual_controls
from sim.worlds.crosslingual import stack
from sim.worlds.crosslingual.languages import (
    BODY,
    FOREIGN,
    INPUTS,
    L3,
    PROGRAM,
    UNSEEN_N,
    UNSEEN_P,
    N,
    P,
    Tokens,
    Writer,
    joined,
)
from sim.worlds.settings import require_choices, seen_by_base

FAMILIARITY = {
    "familiar": (),
    "new_language": ("language",),
    "new_functions": ("functions",),
    "new": ("language", "functions"),
}
"""Words that pretraining never shows: those of N, or those of P for the new functions. Familiar words of N
occur in paraphrases from N into N; familiar function names have other bodies in pretraining."""

TEMPLATES = {
    "none": (False, False),
    "pretraining": (True, False),
    "data": (False, True),
    "both": (True, True),
}
"""Where traces occur: (in pretraining, in the adapters' data). Both adapters' data hold the same traces of
old functions in old languages; those of "functions" also hold traces of new functions, as in ``WORKED``."""

WORKED = {"pivot": (P,), "known": (P, *FOREIGN)}
"""Languages of the requests in those traces of new functions."""

PARTS = ("language", "functions")

DIRECTLY, TRACED, UNUSED = range(3)
"""Uses of a function in a foreign language by pretraining: code at once, code by trace, or none."""

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
        require_choices(
            self, {"familiarity": FAMILIARITY, "template": TEMPLATES, "worked": WORKED, "identity": TEMPLATES}
        )

    @property
    def pretraining(self) -> "Setting":
        """The part that the base depends on; cells of a seed with equal values share their base."""
        return Setting(**seen_by_base(self, TEMPLATES))


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


@world(Config, Setting, PRETRAINING, FINETUNING, SETTINGS)
def build(config: Config, seed: int, setting: Setting = FAMILIAR) -> World:
    """Sample one world.

    Bodies, pretraining and questions depend on ``seed`` alone; ``setting`` weighs the sequences and picks the
    words of N and of the new functions. So cells are paired and share bases.

    Raises:
        ValueError: there are fewer requests than ``config.bridges``, or the setting needs controls that the
            world does not have.
    """
    controls, identity_in = crosslingual_controls.check(config, setting), TEMPLATES[setting.identity]
    in_pretraining, in_data = TEMPLATES[setting.template]
    pivot = UNSEEN_P if "functions" in FAMILIARITY[setting.familiarity] else P
    novel = UNSEEN_N if "language" in FAMILIARITY[setting.familiarity] else N
    rng = np.random.default_rng([20251125, seed])
    write = Writer(config.tokens, _bodies(rng, config.stable_functions + 2 * config.edits))
    pairs = rng.permutation([(a, b) for a in range(INPUTS) for b in range(INPUTS) if a != b])
    f, pair = (axis.ravel() for axis in np.indices((config.stable_functions + config.edits, len(pairs))))
    requests, new = np.stack([f, *pairs[pair].T]), f >= config.stable_functions
    old_requests = requests[:, ~new]
    # In each foreign language a third of the functions is coded at once, a third by trace and a third never.
    # A right trace of the last third is no code learned by heart.
    kinds = (config.stable_functions, config.edits)
    use = [np.concatenate([rng.permutation(np.arange(size) % 3) for size in kinds])[f] for _ in FOREIGN]
    if controls:
        use[FOREIGN.index(L3)] = np.where(new, UNUSED, use[FOREIGN.index(L3)])

    # The questions of a seed share their inputs, so the inputs do not give the function away.
    target, old_target = requests[:, new & (pair == 0)], requests[:, ~new & (pair == 0)]
    each = -(-config.edits // 2)
    untouched_requests, bridges = (
        [_some(rng, requests[:, ~new & (of == where)], count, what) for of in use]
        for where, count, what in ((UNUSED, each, "held out"), (TRACED, config.bridges, "bridges"))
    )

    def foreign(write_one, batches, *pivots):
        """Requests in every foreign language, one group."""
        return joined(*(write_one(o, *pivots, *r) for o, r in zip(FOREIGN, batches, strict=True)))

    def shown(write_one, where, *pivots):
        """All of them, weighed by whether pretraining shows a function in a language that way."""
        groups = (write_one(o, *pivots, *requests, of == where) for o, of in zip(FOREIGN, use, strict=True))
        return joined(*groups)

    def paraphrase_weight(language, other):
        """Weight of the paraphrases of one language into another."""
        return float(identity_in[0] or (language, other) != (P, P))

    spoken = [*itertools.product((P, *FOREIGN), repeat=2), (N, N)]
    words, codes = write.paraphrase(novel, pivot, *requests), write.coded(pivot, *requests[:, new], now=True)
    facts, on_words = joined(words, codes), np.arange(len(f) + len(codes.tokens)) < len(f)
    pretraining_traces = joined(write.trace(P, P, *requests), shown(write.trace, TRACED, P))
    shared = foreign(write.trace, bridges, P)
    own = [write.trace(o, pivot, *requests[:, new], now=True) for o in (pivot, *FOREIGN)]
    traces, count = joined(shared, *own), len(shared.tokens)
    on_shared = np.arange(len(traces.tokens)) < count
    worked = np.arange(len(traces.tokens)) < count + len(own[0].tokens) * len(WORKED[setting.worked])
    taught = {
        "language": (on_words, in_data * on_shared),
        "functions": (~on_words, in_data * worked),
        JOINT: (on_words | ~on_words, in_data * worked),
        "bridge": (0 * on_words, on_shared),
    }
    runs = (("runs", Runs(config.tokens.code)),)
    of_code = (*runs, ("runs_as_an_answer", Runs(config.tokens.code, any=True)), ("inputs", takes_inputs))
    plain_world = World(
        pretraining={
            "facts": write.coded(P, *requests),
            "direct": shown(write.coded, DIRECTLY),
            "paraphrases": joined(
                *(write.paraphrase(x, y, *requests, paraphrase_weight(x, y)) for x, y in spoken)
            ),
            "traces": replace(pretraining_traces, weight=in_pretraining * pretraining_traces.weight),
        },
        data={
            name: {
                FACTS: replace(facts, weight=np.float32(on_facts)),
                "traces": replace(traces, weight=np.float32(on_traces)),
            }
            for name, (on_facts, on_traces) in taught.items()
        },
        probes={
            "language": ask(write.paraphrase(novel, pivot, *target), WORDING),
            "functions": ask(write.coded(pivot, *target, now=True), CODING, judges=runs),
            "direct": ask(
                write.coded(novel, *target, now=True), DIRECT, chance=1 / config.edits, judges=of_code
            ),
            "cot": ask(write.trace(novel, pivot, *target, now=True), TRACE, judges=runs),
            "known": ask(write.coded(novel, *old_target), DIRECT, judges=of_code),
            "known_cot": ask(write.trace(novel, P, *old_target), owner=TRACE.owner, judges=runs),
            "untouched": ask(write.coded(P, *_some(rng, old_requests, 2 * config.edits, "untouched"))),
            "untouched_direct": ask(foreign(write.coded, untouched_requests), forecast=False),
            "untouched_cot": ask(foreign(write.trace, untouched_requests, P)),
        },
        parts=PARTS,
    )
    if not controls:
        return plain_world
    never = use[FOREIGN.index(L3)] == UNUSED
    return crosslingual_controls.added(plain_world, config, identity_in[1], write, requests, pair == 0, never)


UNMARKED = Layout()


def ask(group: Sequences, layout: Layout = UNMARKED, **changes) -> Probe:
    """The sequences of a group as questions."""
    return Probe(group.tokens, group.weight, group.prompt, replace(layout, **changes))


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


def _some(
    rng: np.random.Generator, requests: np.ndarray, count: int, what: str
) -> Int[np.ndarray, "3 count"]:
    """``count`` of the requests, drawn."""
    if requests.shape[1] < count:
        raise ValueError(
            f"only {requests.shape[1]} requests serve as {what}, not {count}: use more functions"
        )
    return requests[:, rng.permutation(requests.shape[1])[:count]]


def _bodies(rng: np.random.Generator, count: int) -> Int[np.ndarray, "count body"]:
    """Bodies that compute different things, drawn without preference for what many bodies compute."""
    bodies, number = stack.meanings(BODY, TRIALS)
    order = rng.permutation(np.flatnonzero(number >= 0))
    first = order[np.unique(number[order], return_index=True)[1]]
    return bodies[rng.permutation(first)[:count]]
