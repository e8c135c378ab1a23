"""All figures. Importing a module of this package registers its figures in ``FIGURES``."""

from sim.figure import grid, memories, one_layer
from sim.figure.registry import FIGURES, Figure, figure

__all__ = ["FIGURES", "Figure", "figure", "grid", "memories", "one_layer"]
