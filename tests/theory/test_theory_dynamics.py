"""LoRA gradient flow: closed forms against optax descent and against the rank-r solution of section 1."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sim.twins import dynamics as twin
from theory import dynamics
from theory.edits import least_squares_adapter, least_squares_loss
from theory.lowrank import dense

pytestmark = pytest.mark.slow  # minutes of compilation in total

FACTS, WIDTH, OUT, RANK = 6, 9, 7, 3

# One compiled program for all tests and seeds.
FLOW = jax.jit(twin.flow, static_argnums=4)
DESCEND = jax.jit(twin.descend, static_argnums=4)
LAW, EARLY = jax.jit(dynamics.flow), jax.jit(dynamics.early)


def problem(seed):
    """Whitened keys and a residual with well separated modes 3, 2.2, 1.5, 1, .6, .3."""
    root = jax.random.key(seed)
    keys = twin.whitened_keys(FACTS, WIDTH, jax.random.fold_in(root, 0))
    left = twin.whitened_keys(FACTS, OUT, jax.random.fold_in(root, 1))
    right = twin.whitened_keys(FACTS, FACTS, jax.random.fold_in(root, 2))
    strengths = jnp.asarray([3.0, 2.2, 1.5, 1.0, 0.6, 0.3])
    return keys, right.T @ (strengths[:, None] * left), jax.random.fold_in(root, 3)


def gradient(keys, residual):
    return residual.T @ keys


def relative(value, wanted):
    return float(jnp.linalg.norm(value - wanted) / jnp.linalg.norm(wanted))


@pytest.mark.parametrize("seed", range(3))
def test_early_law_is_the_linearised_flow_and_its_error_is_the_product_of_the_factors(seed):
    keys, residual, key = problem(seed)
    errors = []
    for size in (1e-2, 1e-3):
        # any start will do here: rows outside the span of the keys included
        start = twin.orthogonal_start(RANK, WIDTH, size, key)
        exact = FLOW(keys, residual, start, 1.0, 4000)
        richer = FLOW(keys, residual, start, 1.0, 8000)
        law = EARLY(gradient(keys, residual), start, 1.0)
        # Richardson: 2 * (half step) - (step) leaves O(step^2).
        errors.append(relative(2 * richer.b - exact.b, law.b))
        assert relative(2 * richer.a - exact.a, law.a) < 2 * errors[-1]
    # |B A| at t = 1 is about size^2 e^6 / 4.
    assert errors[0] < 0.02 and errors[1] < 2e-4
    assert 50 < errors[0] / errors[1] < 200


@pytest.mark.parametrize("size", [0.05, 0.5, 2.0])
def test_descent_approaches_the_exact_flow_in_proportion_to_the_step(size):
    keys, residual, key = problem(1)
    start = twin.start_on(keys, RANK, size, key)
    law = LAW(gradient(keys, residual), start, 1.2)
    updates = [FLOW(keys, residual, start, 1.2, steps) for steps in (500, 1000, 2000)]
    errors = [relative(dense(each), dense(law)) for each in updates]
    slopes = np.log2(errors[:-1]) - np.log2(errors[1:])
    np.testing.assert_allclose(slopes, 1.0, atol=0.03)
    # Two Richardson steps on the descents leave O(step^3): the flow itself, to 1e-6.
    products = [dense(each) for each in updates]
    first = [2 * products[i + 1] - products[i] for i in range(2)]
    assert relative((4 * first[1] - first[0]) / 3, dense(law)) < 1e-6
    outer = [each.b @ each.b.T for each in updates]
    first = [2 * outer[i + 1] - outer[i] for i in range(2)]
    assert relative((4 * first[1] - first[0]) / 3, law.b @ law.b.T) < 1e-6


def test_flow_conserves_the_balance_and_solves_its_equation():
    keys, residual, key = problem(2)
    full, start = gradient(keys, residual), twin.start_on(keys, RANK, 0.7, key)

    @jax.jit
    def square(time):
        at = dynamics.flow(full, start, time)
        stacked = jnp.concatenate([at.b, at.a.T])
        return stacked @ stacked.T

    for time in (0.0, 0.4, 1.5):
        q, slope = jax.jvp(square, (jnp.asarray(time),), (jnp.asarray(1.0),))
        corner = 0.49 / 2
        block = jnp.block([[-corner * jnp.eye(OUT), full], [full.T, corner * jnp.eye(WIDTH)]])
        np.testing.assert_allclose(slope, block @ q + q @ block - q @ q, atol=1e-10)
        at = LAW(full, start, time)
        eigenvalues = jnp.linalg.eigvalsh(at.a @ at.a.T - at.b.T @ at.b)
        np.testing.assert_allclose(eigenvalues, 0.49, atol=1e-10)
    np.testing.assert_allclose(dense(dynamics.flow(full, start, 0.0)), 0.0, atol=1e-12)


@pytest.mark.parametrize("seed", range(3))
def test_the_limit_is_the_rank_r_solution_to_rounding_for_the_flow_and_for_descent(seed):
    keys, residual, key = problem(seed)
    start = twin.start_on(keys, RANK, 0.3, key)
    wanted = dense(least_squares_adapter(keys, residual, RANK))
    full = gradient(keys, residual)
    solution = DESCEND(keys, residual, LAW(full, start, 0.0)._replace(a=start), 0.1, 2000)
    # Rows of A0 outside the span of the keys never move and multiply no key: compare on the keys.
    np.testing.assert_allclose(dense(solution) @ keys.T, wanted @ keys.T, atol=1e-10)
    np.testing.assert_allclose(dense(LAW(full, start, 60.0)) @ keys.T, wanted @ keys.T, atol=1e-10)
    late = dense(LAW(full, start, 1e4))
    np.testing.assert_allclose(late @ keys.T, wanted @ keys.T, atol=1e-10)


def test_general_keys_reach_the_same_loss():
    """Keys need not be white for the limit, only for the path: the loss has no spurious minima."""
    for seed in range(2):
        root = jax.random.key(seed)
        keys = jax.random.normal(jax.random.fold_in(root, 0), (FACTS, WIDTH), jnp.float64) / 3
        _, residual, key = problem(seed)
        start = jax.random.normal(key, (RANK, WIDTH), jnp.float64) / 3
        solution = FLOW(keys, residual, start, 2000.0, 20000)
        best = least_squares_loss(keys, residual, RANK)
        assert abs(2 * twin.loss(solution, keys, residual) / best - 1) < 1e-8


def test_one_mode_laws():
    strength, lam = 1.7, 0.09
    times = np.linspace(0.1, 4, 9)
    keys, target = jnp.asarray([[1.0, 0.0]]), jnp.asarray([[strength, 0.0, 0.0]])
    start = jnp.asarray([[lam**0.5, 0.0]])
    for time in times:
        exact = dense(LAW(target.T @ keys, start, time))[0, 0]
        np.testing.assert_allclose(dynamics.aligned_mode(strength, lam, time), exact, rtol=1e-11)
    half = dynamics.learning_time(strength, lam)
    np.testing.assert_allclose(dynamics.aligned_mode(strength, lam, half), strength / 2, rtol=1e-11)
    tiny = 1e-8
    np.testing.assert_allclose(
        dynamics.aligned_mode(strength, tiny, times + 4),
        dynamics.logistic_mode(strength, tiny / 4, times + 4),
        rtol=1e-5,
    )


def test_logistic_law_against_descent_with_any_curvature():
    """Balanced aligned start a0 = .02 at mode strength 1.5, curvature kappa = 2.25: Richardson, 1e-5."""
    a0, key_norm, strength = 0.02, 1.5, 1.5
    keys, residual = jnp.asarray([[key_norm, 0.0]]), jnp.asarray([[strength / key_norm, 0.0]])
    root = a0**0.5
    start = twin.LowRank(jnp.asarray([[root], [0.0]]), jnp.asarray([[root, 0.0]]))
    run = functools.partial(twin.descend, keys, residual, start)
    coarse, fine = dense(run(2.5 / 4000, 4000))[0, 0], dense(run(2.5 / 8000, 8000))[0, 0]
    law = dynamics.logistic_mode(strength, a0, 2.5, key_norm**2)
    np.testing.assert_allclose(2 * fine - coarse, law, rtol=1e-5)
    assert abs(dynamics.logistic_mode(strength, a0, 50.0, key_norm**2) - strength / key_norm**2) < 1e-12


def test_modes_are_learned_in_order_and_the_times_sharpen_as_the_start_shrinks():
    """Mean relative error of the half-times of 3 modes over 4 starts, found on the exact flow."""
    keys, residual, key = problem(0)
    full = gradient(keys, residual)
    u, s, vt = jnp.linalg.svd(full, full_matrices=False)

    def strength(start, time, mode):
        return u[:, mode] @ dense(dynamics.flow(full, start, time)) @ vt[mode] / s[mode]

    def half_time(start, mode):
        def halve(_, ends):
            middle = (ends[0] + ends[1]) / 2
            low = strength(start, middle, mode) < 0.5
            return jnp.where(low, middle, ends[0]), jnp.where(low, ends[1], middle)

        return jax.lax.fori_loop(0, 22, halve, (jnp.asarray(0.0), jnp.asarray(30.0)))[0]

    @jax.jit
    def both(starts):
        measured = jax.vmap(lambda a: jnp.stack([half_time(a, mode) for mode in range(RANK)]))(starts)
        return measured, jax.vmap(lambda a: dynamics.learning_times(full, a))(starts)

    errors = []
    for size in (1e-2, 1e-4, 1e-6):
        starts = jax.vmap(lambda i, size=size: twin.start_on(keys, RANK, size, jax.random.fold_in(key, i)))(
            jnp.arange(4)
        )
        measured, law = both(starts)
        assert bool(jnp.all(jnp.diff(measured, axis=1) > 0))
        errors.append(float(jnp.mean(jnp.abs(law / measured - 1))))
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.01, errors


def test_more_rank_than_modes_is_refused():
    with pytest.raises(ValueError, match="rank 4 is above the 2 modes"):
        dynamics.learning_times(jnp.ones((2, 5)), jnp.ones((4, 5)))
