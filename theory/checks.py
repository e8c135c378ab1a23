"""What a law refuses: each kind of bad input in one place, with one line that names the argument.

Values that are being traced (inside jit, vmap or grad) have no number yet and pass unseen: there a NaN comes
out as NaN. Every function takes its arguments by name, ``numbers(margin=margin, swing=swing)``, and raises
ValueError.
"""

from typing import Any

import jax
import numpy as np


def traced(value: Any) -> bool:
    """Whether a value has no number yet."""
    return any(isinstance(leaf, jax.core.Tracer) for leaf in jax.tree.leaves(value))


def _concrete(values: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    """The arguments that have a value, as arrays; an empty one is refused."""
    arrays = [(name, np.asarray(value)) for name, value in values.items() if not traced(value)]
    for name, value in arrays:
        if value.size == 0:
            raise ValueError(f"{name} is empty; give at least one number")
    return arrays


def _shown(value: np.ndarray) -> str:
    return str(value.item()) if value.size == 1 else f"{value.ravel()[:4].tolist()}..."


def numbers(**values: Any) -> None:
    """No argument is empty or holds NaN."""
    for name, value in _concrete(values):
        if np.isnan(value).any():
            raise ValueError(f"{name} holds NaN; give numbers")


def finite(**values: Any) -> None:
    """No argument is empty or holds NaN or infinity."""
    for name, value in _concrete(values):
        if not np.isfinite(value).all():
            raise ValueError(f"{name} holds NaN or infinity; give finite numbers")


def whole(least: int = 1, **values: Any) -> None:
    """Whole numbers of at least ``least``; 3.0 counts as whole, 3.5 does not."""
    for name, value in _concrete(values):
        if not (np.isfinite(value) & (value == np.floor(value)) & (value >= least)).all():
            raise ValueError(f"{name} is {_shown(value)}; give a whole number of at least {least}")


def above(bound: float, **values: Any) -> None:
    """Finite numbers above ``bound``."""
    for name, value in _concrete(values):
        if not (np.isfinite(value) & (value > bound)).all():
            raise ValueError(f"{name} is {_shown(value)}; give a finite number above {bound:g}")


def at_least(bound: float, **values: Any) -> None:
    """Finite numbers of ``bound`` or more."""
    for name, value in _concrete(values):
        if not (np.isfinite(value) & (value >= bound)).all():
            raise ValueError(f"{name} is {_shown(value)}; give a finite number of at least {bound:g}")


def within(low: float, high: float, **values: Any) -> None:
    """Numbers from ``low`` to ``high``, both allowed."""
    for name, value in _concrete(values):
        if not ((value >= low) & (value <= high)).all():
            raise ValueError(f"{name} is {_shown(value)}; it lies between {low:g} and {high:g}")
