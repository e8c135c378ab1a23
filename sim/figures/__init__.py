"""All figures. Importing a module of this package registers its figures in ``FIGURES``."""

from sim.figures import edits, fidelity, grid, learning, memory, one_layer
from sim.lab.figure import FIGURES, Figure, figure

__all__ = ["FIGURES", "Figure", "edits", "fidelity", "figure", "grid", "learning", "memory", "one_layer"]
