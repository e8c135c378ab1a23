"""Functions of the notebooks that take more than a few lines: one file a notebook, and shared ones.

Each function returns a table or a picture (or plain numbers) made of ``theory`` and its twins; the notebooks
call them, and say what to look at.
"""

from sim.tour.curves import Curve, curves, tabulate
from sim.tour.sliders import slide, start

__all__ = ["Curve", "curves", "slide", "start", "tabulate"]
