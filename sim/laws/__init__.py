"""Every result of the theory against its twin, at several settings. Importing registers all checks."""

from sim.fidelity import deeper, one_layer
from sim.lab.check import CHECKS, Check, Row

__all__ = ["CHECKS", "Check", "Row", "deeper", "one_layer"]
