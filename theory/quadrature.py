"""Nodes and weights for the means the laws take, of normal, chi-squared and Beta variables.

Every function returns (nodes (count,), weights (count,)), the weights of a mean summing to 1.
"""

import functools

import numpy as np
from scipy import special

_TAIL = 1e-16
"""Mass left out at each end of a chi-squared or Beta variable."""


@functools.cache
def _gauss(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre on [-1, 1]: an eigenvalue problem, solved once."""
    return np.polynomial.legendre.leggauss(count)


def interval(low: float, high: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre on [low, high]: the weights sum to high - low."""
    nodes, weights = _gauss(count)
    return low + (high - low) * (nodes + 1) / 2, weights * (high - low) / 2


@functools.cache
def normal(count: int) -> tuple[np.ndarray, np.ndarray]:
    """E[f(g)], g ~ N(0, 1): Gauss-Hermite."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(count)
    return nodes, weights / weights.sum()


def chi_squared(freedom: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """E[f(x)], x ~ chi^2_freedom, in the variable sqrt(x), whose density is smooth at 0."""
    low, high = np.sqrt(2 * special.gammaincinv(freedom / 2, [_TAIL, 1 - 10 * _TAIL]))
    root, weights = interval(low, high, count)
    log_mass = (freedom - 1) * np.log(root) - root**2 / 2
    mass = weights * np.exp(log_mass - log_mass.max())
    return root**2, mass / mass.sum()


def beta(a: float, b: float, count: int) -> tuple[np.ndarray, np.ndarray]:
    """E[f(x)], x ~ Beta(a, b), in the angle of x = sin(angle)^2. For a = 0 x is 0, for b = 0 it is 1."""
    if a <= 0 or b <= 0:
        return np.full(1, float(b <= 0)), np.ones(1)
    if a < 0.5:  # nearly all mass at 0: in the variable x^a the density has no pole there
        power, weights = interval(0.0, 1.0, count)
        x = power ** (1 / a)
        mass = weights * (1 - x) ** (b - 1)
        return x, mass / mass.sum()
    ends = np.arcsin(np.sqrt(special.betaincinv(a, b, [_TAIL, 1 - 10 * _TAIL])))
    angle, weights = interval(*ends, count)
    log_mass = (2 * a - 1) * np.log(np.sin(angle)) + (2 * b - 1) * np.log(np.cos(angle))
    mass = weights * np.exp(log_mass - log_mass.max())
    return np.sin(angle) ** 2, mass / mass.sum()
