"""Ways to train, at equal recall: adapters (``steps``) and bases (``bases``)."""

from sim.bench.recipes import bases, steps

__all__ = ["bases", "steps"]
