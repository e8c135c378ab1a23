"""Many adapters trained at once: a queue of them, and as many places as a device has room for.

An adapter's place is filled again as soon as it is done, so that no step is spent on one that knows its data.
"""

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sim.lab.parallel import RUNNER
from sim.model import llama_adapters
from sim.model.llama_adapters import Adapter, Questions, Training
from sim.reuse.bases import ROOT, key_data
from sim.reuse.config import MASTERY
from sim.reuse.language.base import Base
from sim.reuse.language.config import LanguageConfig

PLACES = {"cpu": 2, "gpu": 16}
"""Adapters that are trained at once."""

FACTS, TRACES, CONTEXT = range(3)
"""Groups of a data set, by number."""


@dataclass(frozen=True)
class Task:
    """An adapter to be trained.

    name: whatever tells it from the others. seed, place: decide its random numbers.
    questions, groups: its data, facts and traces first, and the group of each row; -1 for a row of padding.
    durations: multiples of the steps after which it first knows its data, ascending: it is wanted after each.
    """

    name: Hashable
    seed: int
    place: int
    rank: int
    questions: Questions
    groups: np.ndarray
    durations: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Trained:
    """An adapter, and how far it came.

    steps: until the rate began to fall. facts, traces: shares of its own that it knows; NaN if it has none.
    losses: of its last steps.
    """

    adapter: Adapter
    steps: int
    facts: float
    traces: float
    losses: np.ndarray

    @property
    def recall(self) -> dict[str, float]:
        """The shares by group."""
        return {"facts": self.facts, "traces": self.traces}


@dataclass
class _Place:
    """A task under way. first: the step at which it first knew its data. fall: the step from which its rate
    falls to 0 (a branch that leads to one result), or None while it is trained on."""

    task: Task
    start: Training | None = None
    step: int = 0
    first: int | None = None
    fall: int | None = None
    duration: int = 1
    losses: list[np.ndarray] = field(default_factory=list)


def train(
    config: LanguageConfig, base: Base, tasks: Sequence[Task], places: int | None = None
) -> Iterator[tuple[Task, int, Trained | None]]:
    """Yields (task, duration, its adapter) as they are ready, in whatever order; None once for a task whose
    loss became NaN or infinite, which ends there.

    An adapter is looked at every ``config.look`` steps. It learns at the full rate until it knows ``MASTERY``
    of its facts and of its traces, or ``config.most`` steps are over, and on to each of its durations; each
    result is a copy whose rate falls to 0 in ``config.decay`` steps. The rule looks at the adapter's own data
    alone, so it is fixed before any merge is seen. What an adapter becomes does not depend on the others.
    """
    if not tasks:
        return
    places = min(places or PLACES[jax.default_backend()], len(tasks))
    waiting = [_Place(task) for task in tasks]
    running: list[_Place | None] = [None] * places
    questions = jax.tree.map(lambda leaf: np.stack([leaf] * places), tasks[0].questions)
    looked = _rows_to_look_at(config, tasks)
    remat = jax.default_backend() != "cpu"  # layers are computed again on the way back: on a GPU, for room
    like = _start(config, base, tasks[0])
    training = llama_adapters.begin(jax.tree.map(lambda leaf: jnp.stack([leaf] * places), like))
    on_device = None
    while any(running) or waiting:
        for place in range(places):
            if running[place] is None and waiting:
                running[place] = new = waiting.pop(0)
                one = new.start or llama_adapters.begin(
                    jax.tree.map(lambda leaf: leaf[None], _start(config, base, new.task))
                )
                training = llama_adapters.replaced(training, place, one)
                for whole, own in zip(questions, new.task.questions, strict=True):
                    whole[place] = own
                new.start = None
                on_device = None
        if on_device is None:
            on_device = jax.tree.map(jnp.array, questions)
        index = np.stack([_draws(config, each) for each in running], axis=1)
        rate = np.stack([_rates(config, each) for each in running], axis=1)
        training, losses = _run(
            llama_adapters.train, base.model, base.params, training, on_device, index, rate, remat=remat
        )
        part = jax.tree.map(lambda leaf: leaf[:, :looked], on_device)
        right = _run(
            llama_adapters.all_right, base.model, base.params, training.adapters, part, batch=config.batch
        )
        for place, each in enumerate(running):
            if each is None:
                continue
            each.step += config.look
            each.losses.append(losses[:, place])
            if not np.isfinite(losses[:, place]).all():
                running[place] = None
                yield each.task, each.task.durations[0], None
                continue
            facts, traces = _shares(each.task, right[place])
            if each.fall is not None:
                if each.step == each.fall + config.decay:
                    adapter = llama_adapters.copied(training, place).adapters
                    adapter = _cut(adapter, each.task.rank)
                    result = Trained(adapter, each.fall, facts, traces, np.concatenate(each.losses))
                    running[place] = None
                    yield each.task, each.duration, result
                continue
            knows = all(np.isnan(share) or share >= MASTERY for share in (facts, traces))
            if each.first is None and (knows or each.step >= config.most):
                each.first = each.step
            if each.first is None or each.step % each.first:
                continue
            duration = each.step // each.first
            if duration == each.task.durations[-1]:
                each.fall, each.duration = each.step, duration
            elif duration in each.task.durations:
                start = llama_adapters.copied(training, place)
                branch = replace(each, start=start, losses=[], fall=each.step, duration=duration)
                waiting.insert(0, branch)


def _run(function: Any, *args: Any, **options: Any) -> tuple:
    """Call in another thread, so that Ctrl-C is heard; what is small comes back as NumPy."""

    def call():
        result = function(*args, **options)
        return jax.device_get(result) if isinstance(result, jax.Array) else (result[0], np.asarray(result[1]))

    return RUNNER.submit(call).result()


def _start(config: LanguageConfig, base: Base, task: Task) -> Adapter:
    """A fresh adapter; rows of A beyond its rank are zero and stay zero, since B is zero."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key_data(2, task.seed)), task.place)
    adapter = llama_adapters.init(base.model, config.width, key, config.kinds)
    alive = jnp.arange(config.width)[:, None] < task.rank
    return {kind: update._replace(a=jnp.where(alive, update.a, 0.0)) for kind, update in adapter.items()}


def _cut(adapters: Adapter, rank: int) -> Adapter:
    """The first of K adapters on one device, without what pads it behind its rank."""
    cut = {
        kind: update._replace(b=update.b[0, ..., :rank], a=update.a[0, :, :rank], scale=update.scale[0])
        for kind, update in adapters.items()
    }
    return jax.device_put(cut, jax.devices()[0])


def _draws(config: LanguageConfig, each: _Place | None) -> np.ndarray:
    """The rows of each of the next steps, (look, batch): without repetition where there are enough."""
    if each is None:
        return np.zeros((config.look, config.batch), np.int32)
    rows = int(np.sum(each.task.groups >= 0))
    rng = np.random.default_rng([ROOT, each.task.seed, each.task.place, each.step])
    drawn = [rng.choice(rows, config.batch, replace=rows < config.batch) for _ in range(config.look)]
    return np.stack(drawn).astype(np.int32)


def _rates(config: LanguageConfig, each: _Place | None) -> np.ndarray:
    """The rates of the next steps, (look,)."""
    if each is None:
        return np.zeros(config.look, np.float32)
    step = each.step + np.arange(config.look)
    rate = config.rate * np.minimum(1.0, (step + 1) / config.warmup)
    if each.fall is not None:
        rate = rate * (1 - (step - each.fall) / config.decay)
    return rate.astype(np.float32)


def _rows_to_look_at(config: LanguageConfig, tasks: Sequence[Task]) -> int:
    """Rows that hold the facts and traces of every task, a multiple of the batch."""
    most = max(int(np.sum(np.isin(task.groups, (FACTS, TRACES)))) for task in tasks)
    return -(-most // config.batch) * config.batch


def _shares(task: Task, right: np.ndarray) -> tuple[float, float]:
    """Shares of the facts and of the traces that are right; NaN for a group without rows."""
    groups = task.groups[: len(right)]
    rows = (groups == FACTS, groups == TRACES)
    return tuple(float(np.mean(right[own])) if np.any(own) else np.nan for own in rows)
