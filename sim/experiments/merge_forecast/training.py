"""Adapters taught until they know their facts, all of one size in one program."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from sim.hf.tokens import Question
from sim.model import llama_adapters
from sim.model.llama import Llama, Params
from sim.model.llama_adapters import Adapter, Questions
from sim.reuse.language.base import Room, behind

Cut = Callable[[str], Sequence[int]]

LOOK = 25
"""Steps between two looks at what is known."""


def encode(cut: Cut, rows: Sequence[tuple[str, str]], length: int = 0) -> Questions:
    """Prompts and answers as tokens, padded behind to one length (at least ``length``); NumPy arrays."""
    both = [(len(cut(prompt)), tuple(cut(prompt + answer))) for prompt, answer in rows]
    questions = [Question(whole, start, joined=False) for start, whole in both]
    sizes = [(len(one.tokens), one.start, len(one.answer)) for one in questions]
    whole, prompt, answer = np.max(sizes, axis=0)
    return behind(questions, Room(max(length, whole), prompt, answer), len(rows))


@functools.partial(jax.jit, static_argnames="model")
def _accuracies(model: Llama, params: Params, adapters: Adapter, facts: Questions) -> jax.Array:
    """Share of right answers of each adapter on its own facts."""

    def one(pair):
        return jnp.mean(llama_adapters.right(model, params, *pair))

    return jax.lax.map(one, (adapters, facts))


def teach(
    model: Llama,
    params: Params,
    data: Questions,
    facts: Questions,
    rank: int,
    rate: float,
    batch: int,
    most: int,
    seed: int,
) -> tuple[Adapter, np.ndarray, np.ndarray]:
    """(K adapters, the steps each was trained, its share of right facts).

    An adapter stops as soon as it knows all its facts (a look every ``LOOK`` steps), or after ``most``.
    data, facts: leaves (K, S, ...). The rate rises over 20 steps and stays.
    """  # fmt: skip
    count, rows = data.tokens.shape[:2]
    keys = jax.random.split(jax.random.key(seed), count)
    training = llama_adapters.begin(jax.vmap(functools.partial(llama_adapters.init, model, rank))(key=keys))
    data, facts = jax.tree.map(jnp.asarray, (data, facts))
    rng = np.random.default_rng(seed)
    steps, accuracy = np.zeros(count, int), np.zeros(count)
    remat = jax.default_backend() == "gpu"
    with tqdm(total=most, desc="teaching", unit="step") as bar:
        for start in range(0, most, LOOK):
            index = rng.integers(0, rows, (LOOK, count, batch)).astype(np.int32)
            ramp = np.minimum(1, (start + np.arange(LOOK) + 1) / 20)
            rates = (rate * ramp[:, None] * (accuracy < 1)).astype(np.float32)
            training, loss = llama_adapters.train(model, params, training, data, index, rates, remat)
            steps += LOOK * (accuracy < 1)
            accuracy = np.asarray(_accuracies(model, params, training.adapters, facts))
            bar.update(LOOK)
            bar.set_postfix(known=f"{accuracy.mean():.2f}", loss=f"{float(loss[-1].mean()):.2f}")
            if (accuracy == 1).all():
                break
    return training.adapters, steps, accuracy
