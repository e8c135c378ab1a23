"""Experiments: the empirical twins of the closed forms in ``theory``."""

import theory as _theory  # noqa: F401  (turns on float64 before any array is made)
