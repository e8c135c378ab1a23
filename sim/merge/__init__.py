"""Merge methods for low-rank updates, one family a file, behind one registry.

    merge("ties", [first, second], density=0.5, rank=8)

Importing a family registers its methods in ``METHODS``.
"""

from . import data, linear, sign, sparse, spectral, spherical
from .registry import METHODS, Method, get, merge, method, refuse_zero_sum

__all__ = [
    "METHODS",
    "Method",
    "data",
    "get",
    "linear",
    "merge",
    "method",
    "refuse_zero_sum",
    "sign",
    "sparse",
    "spectral",
    "spherical",
]
