"""Experiments: the empirical twins of the closed forms in ``theory``."""

from sim.lab.interrupt import watch_command

watch_command()  # before the imports that take time

import theory as _theory  # noqa: E402, F401  (turns on float64 before any array is made)
