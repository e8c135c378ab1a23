"""Checks of sections 7 to 11: capacity, depth, chain of thought, Arrow, training dynamics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sim.lab import intervals
from sim.lab.check import Row, average, check, exact, key_of, rate
from sim.model import routing
from sim.twins import capacity as capacity_twin
from sim.twins import chain as chain_twin
from sim.twins import depth as depth_twin
from sim.twins import dynamics as dynamics_twin
from sim.twins import selection as selection_twin
from theory import capacity, chain, depth, dynamics, edits, selection
from theory import model as one_layer
from theory.lowrank import LowRank, dense


@check("capacity: recall of a truncated memory", "7", "asymptotic")
def _capacity(scale: int):
    sizes = [(*map(int, size), None) for size in capacity.sizes_at_load([16, 32, 64, 128], 0.125, 2.0)]
    sizes += [(100, 64, 8, None), (256, 64, 16, None), (320, 64, 64, None), (600, 64, 8, 8)]
    for size, draws in zip(sizes, (320, 160, 40, 10, 40, 20, 20, 40), strict=True):
        facts, dim, rank, candidates = size
        runs = capacity_twin.recall(*size, key=key_of(20, facts, dim, rank), draws=draws * scale)
        among = facts if candidates is None else candidates
        text = f"F={facts}, d={dim}, r={rank}, among {among}"
        yield average(text, capacity.recall(*size), runs)


@check("depth: direct two-hop accuracy", "8", "asymptotic")
def _depth(scale: int):
    for alignment in (0.8, 0.5):
        for dim, draws in ((16, 600), (32, 300), (64, 100), (128, 40)):
            key = key_of(21, dim, round(10 * alignment))
            runs = depth_twin.accuracy(dim, dim, alignment, key=key, draws=draws * scale)
            text = f"N=d={dim}, rho_b={alignment}"
            yield rate(text, depth.accuracy(dim, dim, alignment), runs, dim)


@check("depth: wrong layer order", "8b", "exact")
def _wrong_order(scale: int):
    for entities in (2, 3, 4):
        for residual in (True, False):
            right, asked = depth_twin.wrong_order_count(entities, key_of(22, entities), residual)
            text = f"N={entities}, residual {residual}, all bijections"
            yield exact(text, depth.wrong_order_accuracy(entities), right / asked, 1e-12)


@check("familiarity: cosine after c exposures", "8", "model")
def _familiarity(scale: int):
    for exposures in (1, 2, 4, 8, 16):
        key = key_of(23, exposures)
        runs = depth_twin.familiarity(exposures, 4.0, dim=400, key=key, draws=100 * scale)
        yield average(f"c={exposures}, c0=4, d=400", depth.familiarity(exposures, 4.0), runs)


FACTS = 8
CHAINS = ((1, 5, 1.0), (2, 6, 1.0), (2, 7, 0.75), (2, 5, 1.0), (3, 7, 0.8), (3, 6, 1.0), (2, 3, 1.0))
"""(hops, rank, lambda)."""


@functools.cache
def _chains(hops: int, rank: int, lam: float, draws: int) -> tuple[np.ndarray, np.ndarray]:
    """(forced (draws, hops, F), decoded (draws, F)) where attention sees one earlier token: kappa = 1."""
    setting = chain_twin.Setting(FACTS, hops, rank, lam, window=1, template=False, features=256)
    runs = chain_twin.run(setting, key_of(24, hops, rank), draws)
    return np.asarray(runs.forced), np.asarray(runs.decoded)


@check("chain of thought: all steps right", "9", "exact")
def _product(scale: int):
    for hops, rank, lam in CHAINS:
        forced, decoded = _chains(hops, rank, lam, 32 * scale)
        text = f"F=8, {hops} hops, r={rank}, lambda={lam}, {32 * scale} worlds"
        yield exact(text, forced.all(1).mean(), decoded.mean(), 1e-12, 32 * scale)


@check("chain of thought: step accuracy", "9", "law")
def _steps(scale: int):
    for hops, rank, lam in CHAINS:
        forced, _ = _chains(hops, rank, lam, 32 * scale)
        for hop in range(hops):
            text = f"F=8, hop {hop + 1} of {hops}, r={rank}, lambda={lam}"
            yield rate(text, chain.step_accuracy(FACTS, rank, lam), forced[:, hop].mean(1), FACTS)


@check("chain of thought: matching of facts", "9a", "law")
def _matched(scale: int):
    for hops, rank, lam in CHAINS:
        if hops == 1:
            continue
        forced, decoded = _chains(hops, rank, lam, 32 * scale)
        # The law's mean given each world's own step rates; the interval is of the paired difference.
        laws = np.array([chain.matched(steps, FACTS)[0] for steps in forced.mean(2)])
        gap, low, high = intervals.mean(decoded.mean(1) - laws)
        text = f"F=8, {hops} hops, r={rank}, lambda={lam}, given the step rates"
        law = laws.mean()
        yield Row(text, float(law), law + gap, law + low, law + high, len(laws))


def _over_keys(function, count: int, *path: int) -> np.ndarray:
    keys = jnp.stack([key_of(*path, index) for index in range(count)])
    return np.asarray(jax.jit(lambda keys: jax.lax.map(function, keys))(keys))


@check("Arrow: alignment of the prototype", "10a", "asymptotic")
def _alignment(scale: int):
    for place, (theta, aspect, sight) in enumerate(((3.0, 1.0, 1.0), (2.0, 2.0, 1.0), (2.0, 1.0, 0.8))):
        law = selection.alignment(theta, aspect, sight)
        for features in (16, 32, 64, 128):
            run = functools.partial(selection_twin.alignment, theta, aspect, sight, features)
            runs = _over_keys(run, 32 * scale, 25, place, features)
            yield average(f"theta={theta}, c={aspect}, tau={sight}, m={features}", law, runs)


@check("Arrow: alignment with orthogonal keys", "10a", "exact")
def _orthogonal(scale: int):
    for facts in (3, 7, 12):
        frame = jnp.linalg.qr(one_layer.gaussian(key_of(26, facts), (20, facts + 1)))[0].T
        prototype = routing.arrow(LowRank(jnp.eye(facts), frame[:1] + frame[1:]))[0]
        found = jnp.square(prototype @ frame[0])
        yield exact(f"F={facts}, m=20", selection.alignment_orthogonal(facts), found, 1e-9)


@check("Arrow: gate of the right adapter", "10b", "asymptotic")
def _gates(scale: int):
    cases = ((2.0, 1.0, 2, 1.0, 1), (2.0, 1.0, 4, 1.0, 1), (2.0, 1.0, 4, 0.5, 2))
    for place, (theta, aspect, adapters, temperature, top_k) in enumerate(cases):
        for features in (16, 48):

            def run(key, features=features, case=cases[place]):
                theta, aspect, adapters, temperature, top_k = case
                gates = selection_twin.gates(
                    theta, aspect, adapters, features, key, temperature=temperature, top_k=top_k
                )
                return gates[:, 0].mean()

            runs = _over_keys(run, 32 * scale, 27, place, features)
            right = selection.score_law(theta, aspect)
            wrong = selection.score_law(theta, aspect, 0.0, other=1.0, features=features)
            mean, spread = zip(right, *[wrong] * (adapters - 1), strict=True)
            law = selection.expected_gate(mean, spread, temperature, top_k)[0]
            text = f"theta={theta}, c={aspect}, K={adapters}, T={temperature}, top {top_k}, m={features}"
            yield average(text, law, runs)


def _prompts(size: int) -> dict:
    """Prompt after subject a, bridge b; (load, seen) of adapter 1 and of adapter 2; noise."""
    first, second = 2 * size, 2 * size + 1
    return {
        "p1, own fact": (lambda a, b: [a, first], (1.0, 1.0), (0.0, 0.0), 1.0),
        "p1, entity of the other": (lambda a, b: [b, first], (1.0, 0.0), (0.0, 1.0), 1.0),
        "p2, own fact": (lambda a, b: [b, second], (0.0, 0.0), (1.0, 1.0), 1.0),
        "p12": (lambda a, b: [a, first, second], (0.0, 1.0), (1.0, 0.0), 2.0),
    }


@check("Arrow: choice at each prompt", "10", "asymptotic")
def _selection(scale: int):
    for size in (12, 24):
        for place, (name, (build, first, second, noise)) in enumerate(_prompts(size).items()):
            config = one_layer.ModelConfig(size, 4 * size + 8, size, activation="identity", fillers=2)
            subjects = jnp.arange(size)
            columns = [jnp.broadcast_to(jnp.asarray(c), (size,)) for c in build(subjects, subjects + size)]
            prompt, relations = jnp.stack(columns, axis=-1), jnp.asarray([2 * size, 2 * size + 1])

            def run(key, config=config, size=size, prompt=prompt, relations=relations):
                return selection_twin.prompt_gates(config, size, prompt, "sighted", 1, relations, key)[
                    :, 0
                ].mean()

            runs = _over_keys(run, 24 * scale, 28, size, place)
            laws = [
                selection.score_law(
                    size**0.5, 1.0, load, seen=seen, noise=noise, other=1.0 - load, features=size
                )
                for load, seen in (first, second)
            ]
            law = selection.selection(*zip(*laws, strict=True))[0]
            yield rate(f"{name}, F=N=m={size}, adapter 1 chosen", law, runs, size)


WIDTH, OUT, RANK = 9, 7, 3
_descended = jax.jit(dynamics_twin.flow, static_argnums=4)


def _problem(seed: int):
    """Whitened keys, a residual with modes 3, 2.2, 1.5, 1, .6, .3, and a key for starts."""
    keys = dynamics_twin.whitened_keys(6, WIDTH, key_of(29, seed, 0))
    left = dynamics_twin.whitened_keys(6, OUT, key_of(29, seed, 1))
    right = dynamics_twin.whitened_keys(6, 6, key_of(29, seed, 2))
    strengths = jnp.asarray([3.0, 2.2, 1.5, 1.0, 0.6, 0.3])
    return keys, right.T @ (strengths[:, None] * left), key_of(29, seed, 3)


@check("LoRA flow: size of the update", "11b", "exact")
def _flow(scale: int):
    keys, residual, key = _problem(0)
    for size in (0.05, 0.5, 2.0):
        start = dynamics_twin.start_on(keys, RANK, size, key)
        for time in (0.3, 1.2):
            steps = [dense(_descended(keys, residual, start, time, count)) for count in (500, 1000, 2000)]
            once = [2 * steps[i + 1] - steps[i] for i in range(2)]
            found = jnp.linalg.norm((4 * once[1] - once[0]) / 3)
            law = jnp.linalg.norm(dense(dynamics.flow(residual.T @ keys, start, time)))
            text = f"|A0|={size}, t={time}, SGD of 500, 1000, 2000 steps, Richardson twice"
            yield exact(text, law, found, 1e-5)


@check("LoRA flow: limit", "11c", "exact")
def _limit(scale: int):
    for seed in range(4):
        keys, residual, key = _problem(seed)
        start = dynamics_twin.start_on(keys, RANK, 0.3, key)
        law = dense(edits.least_squares_adapter(keys, residual, RANK)) @ keys.T
        found = dense(_descended(keys, residual, start, 200.0, 2000)) @ keys.T
        yield exact(f"draw {seed}, 2000 steps of 0.1, entry 0", law[0, 0], found[0, 0], 1e-9)
        yield exact(
            f"draw {seed}, 2000 steps of 0.1, norm", jnp.linalg.norm(law), jnp.linalg.norm(found), 1e-9
        )


@check("LoRA flow: early law", "11a", "asymptotic")
def _early(scale: int):
    keys, residual, key = _problem(1)
    for size in (1e-1, 3e-2, 1e-2, 1e-3):
        start = dynamics_twin.start_on(keys, RANK, size, key)
        for time in (0.25, 0.5, 1.0):
            coarse, fine = (_descended(keys, residual, start, time, count).b for count in (1000, 2000))
            found = float(jnp.linalg.norm(2 * fine - coarse) / size)
            law = float(jnp.linalg.norm(dynamics.early(residual.T @ keys, start, time).b) / size)
            yield Row(f"|A0|={size}, t={time}, |B|/|A0|", law, found, found, found, 1)


@check("LoRA flow: half-times of the modes", "11e", "asymptotic")
def _half_times(scale: int):
    keys, residual, key = _problem(0)
    full = residual.T @ keys
    u, s, vt = jnp.linalg.svd(full, full_matrices=False)

    def half_time(start, mode):
        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            reached = u[:, mode] @ dense(dynamics.flow(full, start, middle)) @ vt[mode] / s[mode]
            low = reached < 0.5
            return jnp.where(low, middle, ends[0]), jnp.where(low, ends[1], middle)

        return jax.lax.fori_loop(0, 24, halve, (jnp.asarray(0.0), jnp.asarray(30.0)))[0]

    found_at = jax.jit(lambda start: jnp.stack([half_time(start, mode) for mode in range(RANK)]))
    for size in (1e-1, 1e-2, 1e-4, 1e-6):
        start = dynamics_twin.start_on(keys, RANK, size, key)
        found, law = found_at(start), dynamics.learning_times(full, start)
        for mode in range(RANK):
            value = float(found[mode])
            yield Row(f"|A0|={size}, mode {mode + 1}", float(law[mode]), value, value, value, 1)
