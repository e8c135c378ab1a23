"""The gallery of all figures: importing it registers those of laws, fidelity and experiments."""

import sim.experiments
import sim.laws  # noqa: F401
from sim.figures import fidelity  # noqa: F401
from sim.lab.figure import FIGURES, Figure

__all__ = ["FIGURES", "Figure"]
