"""Merge methods for low-rank updates, behind one registry; a method is one function in ``methods``.

    merge("ties", [first, second], density=0.5, rank=8)
"""

from sim.merge import methods
from sim.merge.module import merge
from sim.merge.registry import METHODS, Method, method

__all__ = ["METHODS", "Method", "merge", "method", "methods"]
