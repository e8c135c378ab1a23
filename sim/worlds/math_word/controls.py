"""Controls of math word problems (``sim.worlds.controls``): two-step problems with direct answers.

    known pairs   one step by a taught verb, the other by a plain one, or both by plain ones; pretraining
                  holds none of these pairs of verbs as a problem of two steps, for any number
    direct_expert answers to problems of two other plain verbs
    unrelated     meanings of verbs that occur in distractors of pretraining only, and in no question
    identity      problems without a step: "Ann n apples . meanwhile Bob VERB . MARK she now has n"

The controls have their own random generator, so that they leave the rest of the world as it is.
"""

import dataclasses
from typing import TYPE_CHECKING

import numpy as np

from sim.worlds import World, controls
from sim.worlds.math_word.problems import Writer, every_number
from sim.worlds.math_word.verbs import alternatives, slopes

if TYPE_CHECKING:  # the world imports its controls
    from sim.worlds.math_word import Config, Problems, Sample, Setting


def generator(seed: int) -> np.random.Generator:
    """Random generator of the controls of a seed."""
    return np.random.default_rng([20250731, seed, 1])


def pairs(rng: np.random.Generator, config: "Config", meaning, old, new) -> dict[str, np.ndarray]:
    """{which step is known: (pairs, 2), verbs of both steps}: a taught verb and a plain one, or two plain.

    Plain verbs are drawn so that the slopes of right and wrong answers differ: an answer that leaves a step
    out, or uses the taught verb's old meaning, is then right for one number at most.

    Args:
        meaning: the operation of every verb in pretraining. old, new: of the taught verbs, trade's first.

    Raises:
        ValueError: no plain verb has such slopes.
    """
    slope, each = slopes(config), config.verbs
    first = config.operations + np.arange(2 * each)

    def draw_partner(steep, *wrong):
        fit = _fit(config, meaning, steep, *wrong)
        if not len(fit):
            raise ValueError(f"operations {config.operations} are too few for known pairs: use more")
        return rng.choice(fit)

    partner = [draw_partner(slope[n], 1, slope[o]) for o, n in zip(old, new, strict=True)]
    starts = rng.permutation(config.operations)[:each]
    follows = [draw_partner(slope[meaning[verb]], 1) for verb in starts]
    return {
        "second": np.stack([first[:each], partner[:each]], axis=1),
        "first": np.stack([partner[each:], first[each:]], axis=1),
        "both": np.stack([starts, follows], axis=1),
    }


def _fit(config: "Config", meaning: np.ndarray, steep: int, *wrong: int) -> np.ndarray:
    """The plain verbs whose slope times ``steep`` is none of the slopes ``wrong``."""
    plain = np.arange(config.operations)
    return plain[~np.isin(steep * slopes(config)[meaning[plain]] % config.prime, wrong)]


def likelihood(config: "Config", meaning: np.ndarray, old: np.ndarray, new: np.ndarray, partners) -> float:
    """Probability that ``pairs`` draws the plain verbs of ``partners`` if the taught verbs' meanings are
    ``new``."""
    slope, probability = slopes(config), 1.0
    partner_verbs = np.concatenate([partners["second"][:, 1], partners["first"][:, 0]])
    for verb, before, after in zip(partner_verbs, old, new, strict=True):
        fit = _fit(config, meaning, slope[after], 1, slope[before])
        probability *= (verb in fit) / max(len(fit), 1)
    return probability


def null(
    write: Writer, problems: "Problems", taught: np.ndarray, candidates: np.ndarray, likely: np.ndarray
) -> np.ndarray:
    """``Probe.nulls`` (S, S) of a model that does not know which of ``candidates`` the ``taught`` verbs mean.

    Each candidate is as likely as the true meaning, or ``likely`` times as likely, and all other data of the
    world are the same. So the loss of right answers, averaged over candidates, is the loss averaged over the
    answers that are right under the candidates: exactly, for any model and any number of operations. (A
    random stand-in has the norms of the adapter that it replaces; what these reveal is left out.)
    """
    n, verbs = problems
    right, weights = write.values(n, verbs)[:, -1], np.zeros((len(n), len(n)))
    for new, times in zip(candidates, likely, strict=True):
        other = Writer(write.grammar, write.rng, write.meaning.copy(), write.bystanders)
        other.meaning[taught] = new
        same = other.values(n, verbs)[:, -1:] == right
        weights += times * same / same.sum(axis=1, keepdims=True)
    return (weights / np.sum(likely)).astype(np.float32)


def add(
    world: World,
    config: "Config",
    setting: "Setting",
    sample: "Sample",
    write: Writer,
    problems: "Problems",
    expert: "Problems",
) -> World:
    """The world with its controls.

    Args:
        write: has the new meanings of the taught verbs and the controls' own generator.
        problems: the direct questions. expert: problems about plain verbs, the training data of
            "direct_expert".
    """
    heard = config.pretraining_verbs + np.arange(config.verbs)
    # Unrelated verbs mean none of the new meanings.
    other = write.rng.permutation(np.setdiff1d(np.arange(config.operations), sample.new))[: config.verbs]
    write.meaning[heard] = other
    n, nothing = every_number(config.prime, np.zeros((1, 0), int), config.pretraining_paraphrases)
    identity = write.answered(n, nothing)
    unrelated = write.answered(*every_number(config.prime, heard[:, None], config.wordings))
    expert, nulls = write.answered(*expert), {}
    taught = config.operations + np.arange(2 * config.verbs)
    for family, part in enumerate(world.parts):
        # No taught verb means what an unrelated verb means, and the pairs make some meanings less likely.
        candidates = alternatives(config, sample.old, sample.new, family)
        candidates = candidates[~np.isin(candidates, other).any(axis=1)]
        likely = [likelihood(config, sample.meaning, sample.old, one, sample.pairs) for one in candidates]
        nulls[controls.without(part)] = null(write, problems, taught, candidates, np.array(likely))
    pairs = {
        name: write.answered(*every_number(config.prime, verbs, config.test_paraphrases), place=1)
        for name, verbs in sample.pairs.items()
    }
    direct = dataclasses.replace(world.probes["direct"], nulls=nulls)
    world = dataclasses.replace(world, probes=world.probes | {"direct": direct})
    return controls.add(world, setting, {"unrelated": unrelated}, expert, identity, pairs, shown=identity)
