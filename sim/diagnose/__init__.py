"""Will merging these adapters work? Measured from their factors, judged by the theory, written and drawn."""

from sim.diagnose.report import diagnose

__all__ = ["diagnose"]
