"""Many adapters in few places: each is trained as it would be by itself, until it knows its data."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sim.model import llama_adapters
from sim.reuse.bases import ROOT, key_data
from sim.reuse.language import training
from sim.reuse.language.base import Base, behind, room_of
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.training import CONTEXT, FACTS, TRACES, Task, train
from sim.worlds import build
from sim.worlds.people import Config, Setting
from theory.lowrank import LowRank

CONFIG = LanguageConfig(
    Config(facts=2),
    rank=2,
    rate=2e-2,
    warmup=3,
    batch=4,
    look=5,
    most=60,
    decay=10,
    kinds=("q", "v", "up", "down"),
)


@pytest.fixture(scope="module")
def base(tiny_llama):
    return Base(tiny_llama)


@pytest.fixture(scope="module")
def tasks(base):
    """Three adapters: two facts; the same and one trace, with context; and one of twice the rank."""
    world = build(Config(facts=2), 0, Setting("real", "shared", 4))
    data = {part: {group: list(texts) for group, texts in world.data[part].items()} for part in world.parts}
    facts = [base.questions(data[part]["facts"][::2]) for part in world.parts]
    trace, context = base.questions(data["hop2"]["traces"][:1]), base.questions(data["hop2"]["context"][:1])
    room = room_of([one for group in (*facts, trace, context) for one in group])
    rows = (
        ([*facts[0]], [FACTS] * 2),
        ([*facts[1], *trace, *context], [FACTS, FACTS, TRACES, CONTEXT]),
        ([*facts[0], *facts[1]], [FACTS] * 4),
    )
    return [
        Task(("adapter", place), 7, place, 4 if place == 2 else 2, behind(questions, room, 4),
             np.array([*groups, *[-1] * (4 - len(groups))]))
        for place, (questions, groups) in enumerate(rows)
    ]  # fmt: skip


ADAM = optax.scale_by_adam(b1=0.9, b2=0.99)


def lora_of(factors):
    return {kind: LowRank(b, a, jnp.ones(len(b))) for kind, (b, a) in factors.items()}


@functools.partial(jax.jit, static_argnums=0)
def step(model, params, factors, state, batch, rate):
    slope = jax.grad(lambda f: llama_adapters.loss(model, params, lora_of(f), batch))(factors)
    change, state = ADAM.update(slope, state)
    return jax.tree.map(lambda leaf, by: leaf - rate * by, factors, change), state


@functools.partial(jax.jit, static_argnums=0)
def right(model, params, factors, questions):
    return llama_adapters.right(model, params, lora_of(factors), questions)


def by_itself(config, base, task):
    """(first step at which it knows its data, factors at the end, share of facts known): a plain loop."""
    key = jax.random.fold_in(jax.random.wrap_key_data(key_data(2, task.seed)), task.place)
    adapter = llama_adapters.init(base.model, 4, key, config.kinds)
    adapter = {k: u._replace(a=u.a[:, : task.rank], b=u.b[:, :, : task.rank]) for k, u in adapter.items()}
    factors = {kind: (update.b, update.a) for kind, update in adapter.items()}
    state, count, first = ADAM.init(factors), int(np.sum(task.groups >= 0)), None

    def recall(groups):
        answers = right(base.model, base.params, factors, task.questions)
        return np.mean(np.asarray(answers)[np.isin(task.groups, groups)])

    at = 0
    while first is None or at < first + config.decay:
        rng = np.random.default_rng([ROOT, task.seed, task.place, at])
        for number in range(at, at + config.look):
            rows = rng.choice(count, config.batch, replace=count < config.batch)
            rate = config.rate * min(1, (number + 1) / config.warmup)
            rate *= 1 if first is None else 1 - (number - first) / config.decay
            batch = jax.tree.map(lambda leaf, rows=rows: leaf[rows], task.questions)
            factors, state = step(base.model, base.params, factors, state, batch, np.float32(rate))
        at += config.look
        if first is None and (
            at >= config.most or min(recall([g]) for g in set(task.groups) & {0, 1}) >= 0.98
        ):
            first = at
    return first, factors, recall([FACTS])


@pytest.mark.slow
def test_each_adapter_becomes_what_it_would_by_itself(base, tasks):
    results = {task.name: result for task, _, result in train(CONFIG, base, tasks, places=2)}
    assert set(results) == {task.name for task in tasks}
    steps = []
    for task in tasks:
        first, factors, share = by_itself(CONFIG, base, task)
        result = results[task.name]
        steps.append(first)
        assert (result.steps, result.facts) == (first, share)
        assert np.isnan(result.traces) == (task.place != 1) and len(result.losses) == first + CONFIG.decay
        for kind, (b, a) in factors.items():
            assert result.adapter[kind].b.shape[-1] == task.rank
            np.testing.assert_allclose(result.adapter[kind].b, b, atol=2e-3)
            np.testing.assert_allclose(result.adapter[kind].a, a, atol=2e-3)
    assert min(steps) < CONFIG.most and len(set(steps)) > 1  # the rule stopped some, at different steps


@pytest.mark.slow
def test_an_adapter_that_does_not_come_to_know_its_data_ends_and_says_so(base, tasks):
    config = dataclasses.replace(CONFIG, most=5, decay=5)
    for _, _, result in train(config, base, tasks[1:2]):
        assert result.steps == 5 and min(result.recall.values()) < 0.98


@pytest.mark.slow
def test_longer_training_branches_off_one_run(base, tasks):
    task = dataclasses.replace(tasks[0], durations=(1, 3))
    results = {}
    for done, duration, result in train(CONFIG, base, [task, tasks[1]], places=2):
        if done is task:
            results[duration] = result
    single = next(result for _, _, result in train(CONFIG, base, tasks[:1], places=1))
    assert results[3].steps == 3 * results[1].steps == 3 * single.steps
    for kind in CONFIG.kinds:
        np.testing.assert_allclose(results[1].adapter[kind].b, single.adapter[kind].b, atol=2e-3)
    assert not np.allclose(results[3].adapter["q"].b, results[1].adapter["q"].b, atol=1e-2)


@pytest.mark.slow
def test_a_loss_that_is_no_number_ends_that_adapter_alone(base, tasks, monkeypatch):
    def rates(config, each):
        usual = plain(config, each)
        return usual * np.inf if each is not None and each.task.place == 0 else usual

    plain = training._rates
    monkeypatch.setattr(training, "_rates", rates)
    results = {task.name: result for task, _, result in train(CONFIG, base, tasks[:2], places=2)}
    assert results["adapter", 0] is None and results["adapter", 1].steps > 0


@pytest.mark.parametrize(("field", "value"), [("most", 12), ("decay", 3)])
def test_steps_are_whole_looks(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value}: give a multiple of look, 5"):
        dataclasses.replace(CONFIG, **{field: value})
