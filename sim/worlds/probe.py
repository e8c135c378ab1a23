"""Probes: questions that carry their own layout, and the scoring, which reads nothing else.

Decoding, the oracle router, forecasts and scores know no world. The probe itself says which tokens of a
completion are steps of the solution, which are copies, and which adapter owns each position.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, Int8

from sim.model.sequences import Sequences

UNIFORM_BASELINE = ""
"""Name of the baseline for which every answer of the probe's questions is equally likely to be right."""

NOT_APPLICABLE = -1
"""Outcome of a question without a condition to ask it, such as a second step after a wrong first step."""


Judge = Callable[[Int[Array, "S T"], Int[Array, "S T"]], Bool[Array, " S"]]
"""(sequences as written, right sequences) -> whether each is accepted, such as a program that runs right."""


@dataclass(frozen=True)
class Step:
    """One step of a completion: positions that need knowledge (theory/README.md, section 9).

    part:      index in ``World.parts`` of the adapter that was taught it.
    positions: of the sequence, prompt included.
    """

    name: str
    part: int
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Roles of the positions of a question and its answer; hashable, so static under jit.

    steps:    in the order of writing. Two or more make the completion a trace, scored step by step; the last
              one is its answer.
    copies:   (positions, source positions) of what must be repeated as it was given or written.
    owner:    for each position, the index of the part whose adapter an oracle router sends it to; -1: none.
    chance:   accuracy of a guess among the answers of the probe's questions; None for no such baseline. The
              guess knows which answers occur and nothing else. Models also answer outside them, so the
              baseline for all questions is chance times the share of completions that are such answers.
              ``Probe.bound`` is the baseline of a model that knows more, but not every step.
    forecast: whether the outcome is predicted token by token.
    judges:   (name, judge) of further scores, by the meaning of a completion instead of its tokens. Use
              module-level functions or frozen dataclasses: a layout is a static argument, and an unequal one
              compiles again.
    """

    steps: tuple[Step, ...] = ()
    copies: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...] = ()
    owner: tuple[int, ...] = ()
    chance: float | None = None
    forecast: bool = True
    judges: tuple[tuple[str, Judge], ...] = ()


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Probe(Sequences):
    """Test sequences: a prompt, and the right answer as its completion.

    nulls: name -> (S, S), rows of sum 1. Entry (i, j) is the probability that the answer of question j is
           right for question i, given everything but the facts that the name says are missing.
           ``UNIFORM_BASELINE``, where all entries are equal, is not among them.
    """

    layout: Layout = field(default=Layout(), metadata={"static": True})
    nulls: dict[str, Float[Array, "S S"]] = field(default_factory=dict)

    def bound(self, picked: Bool[np.ndarray, " S"]) -> float:
        """Highest expected accuracy on the ``picked`` questions of a model that lacks a step.

        The model gives each question's likeliest answer; of all nulls, the one that allows most counts
        (theory/README.md, 2g). Chance for a probe without nulls; NaN if no question is picked.
        """
        target = np.asarray(self.target)
        return highest(self, (target[:, None] == target[None]).all(axis=-1), picked)

    @property
    def count(self) -> int:
        """Number of questions S."""
        return len(self.tokens)

    @property
    def chance(self) -> float | None:
        """The layout's."""
        return self.layout.chance

    @property
    def steps(self) -> tuple[str, ...]:
        """Names of the steps of a completion, in the order of writing."""
        return tuple(step.name for step in self.layout.steps)

    @property
    def is_trace(self) -> bool:
        """Whether the completion is scored step by step."""
        return len(self.layout.steps) > 1

    def at(self, positions: tuple[int, ...]) -> np.ndarray:
        """Positions of the sequence counted from the start of the completion."""
        return np.asarray(positions, int) - self.prompt

    @property
    def scaffold(self) -> tuple[int, ...]:
        """Template and copies: positions of the completion that no step fills."""
        taken = {at for step in self.layout.steps for at in step.positions}
        return tuple(at for at in range(self.prompt, self.tokens.shape[1]) if at not in taken)

    @property
    def template(self) -> tuple[int, ...]:
        """Positions of the completion that no step and no copy fills: the wording of the trace."""
        copied = {at for positions, _ in self.layout.copies for at in positions}
        return tuple(at for at in self.scaffold if at not in copied)

    def gates(self, parts: int) -> Float[Array, "T parts"]:
        """The oracle router's weights: 1 for the owner of each position, 0 elsewhere."""
        owner = self.layout.owner or (-1,) * self.tokens.shape[1]
        if len(owner) != self.tokens.shape[1]:
            raise ValueError(
                f"layout names the owner of {len(owner)} positions, not of {self.tokens.shape[1]}"
            )
        return jax.nn.one_hot(jnp.asarray(owner), parts, dtype=jnp.float32)


class Questions(Protocol):
    """What scores and rows need to know of a probe, be it of tokens (``Probe``) or of text."""

    steps: tuple[str, ...]
    chance: float | None
    nulls: Mapping[str, Array]
    is_trace: bool
    count: int


def highest(probe: Questions, same: Bool[np.ndarray, "S S"], picked: Bool[np.ndarray, " S"]) -> float:
    """``Probe.bound``; ``same``: whether questions i and j have one answer."""
    if not np.any(picked):
        return math.nan
    most = ((np.asarray(null) @ same).max(axis=1)[picked].mean() for null in probe.nulls.values())
    return float(max(most, default=probe.chance))


def whole(name: str, probe: Questions) -> str:
    """Name of the metric: every token of the completion is right."""
    return f"{name}_exact" if probe.is_trace else name


def among_answers(name: str) -> str:
    """Name of the metric: the completion is the answer of some question of the probe."""
    return f"{name}_among_answers"


def given_among_answers(name: str, null: str = UNIFORM_BASELINE) -> str:
    """Name of the metric: the right answer, where the completion is one of the answers. With a null of the
    probe's own: whether the likeliest of the answers is right."""
    return _with_null(null, f"{name}_given_among_answers")


def loss_gain(name: str, null: str = UNIFORM_BASELINE) -> str:
    """Name of the metric: how far the loss of right answers is below that of a null."""
    return _with_null(null, f"{name}_loss_gain")


def excess_loss_gain(name: str, null: str = UNIFORM_BASELINE) -> str:
    """Name of the metric: ``loss_gain`` less the base's."""
    return _with_null(null, f"{name}_loss_gain_over_base")


def _with_null(null: str, metric: str) -> str:
    return f"{metric}_{null}" if null else metric


def score(name: str, probe: Probe, completions: Int[Array, "S L"]) -> dict[str, Int8[Array, " S"]]:
    """Outcome of each question: metric -> 1 right, 0 wrong, ``NOT_APPLICABLE``.

    NAME (for a trace NAME_exact): every token is right. Of a trace besides:
        NAME_answer:         its last step is right, whatever came before;
        NAME_template:       every token of the template stands where it belongs;
        NAME_copied:         every copy repeats what was given or written;
        NAME_STEP:           the first step is right;
        NAME_STEP_given_PREVIOUS: the step is right, where all steps before it are.
    Of a question with a chance level:
        NAME_among_answers:       the completion is the right answer of some question of the probe;
        NAME_given_among_answers: it is the right one, where it is one of them.
    NAME_JUDGE: the verdict of each judge of the layout.
    """
    right = completions == probe.target
    written = jnp.concatenate([probe.tokens[:, : probe.prompt], completions], axis=1)
    same = [
        jnp.all(written[:, np.asarray(to)] == written[:, np.asarray(source)], axis=1)
        for to, source in probe.layout.copies
    ]
    verdicts = Verdicts(
        whole=jnp.all(right, axis=1),
        steps=[jnp.all(right[:, probe.at(step.positions)], axis=1) for step in probe.layout.steps],
        template=jnp.all(right[:, probe.at(probe.template)], axis=1) if probe.is_trace else None,
        copied=jnp.all(jnp.stack(same), axis=0) if same else None,
        among=jnp.any(jnp.all(completions[:, None] == probe.target[None], axis=-1), axis=1),
        judges={judge_name: judge(written, probe.tokens) for judge_name, judge in probe.layout.judges},
    )
    return outcomes(name, probe, verdicts)


class Verdicts(NamedTuple):
    """What is right in the completions of S questions, (S,) of bool each.

    whole: all of it. steps: each step. template: the wording (of traces). copied: every copy, None if there
    is none. among: the completion is the answer of some question. judges: further ones, by name.
    """

    whole: Array
    steps: Sequence[Array]
    template: Array | None
    copied: Array | None
    among: Array
    judges: Mapping[str, Array] = {}


def outcomes(name: str, probe: Questions, verdicts: Verdicts) -> dict[str, Int8[Array, " S"]]:
    """The metrics of ``score`` from what is right in the completions."""
    steps, right = verdicts.steps, verdicts.whole
    judgements = {whole(name, probe): right}
    if probe.is_trace:
        judgements[f"{name}_answer"] = steps[-1]
        judgements[f"{name}_template"] = verdicts.template
        if verdicts.copied is not None:
            judgements[f"{name}_copied"] = verdicts.copied
        judgements[f"{name}_{probe.steps[0]}"] = steps[0]
    judgements |= {f"{name}_{judge_name}": value for judge_name, value in verdicts.judges.items()}
    metrics = {metric: jnp.asarray(value).astype(jnp.int8) for metric, value in judgements.items()}
    if probe.chance is not None:
        metrics[among_answers(name)] = jnp.asarray(verdicts.among).astype(jnp.int8)
        metrics[given_among_answers(name)] = _where(verdicts.among, right)
    if probe.is_trace:
        before = steps[0]
        for previous, step, value in zip(probe.steps, probe.steps[1:], steps[1:], strict=False):
            metrics[f"{name}_{step}_given_{previous}"] = _where(before, value)
            before = before & value
    return metrics


def _where(condition: Array, value: Array) -> Int8[Array, " S"]:
    """The value where the condition holds, ``NOT_APPLICABLE`` elsewhere."""
    return jnp.where(condition, jnp.asarray(value).astype(jnp.int8), jnp.int8(NOT_APPLICABLE))
