"""Whether a merge that somebody made is the exact one: an adapter beside an adapter, or a folded model."""

from sim.merge.check.compare import Check, check_merge

__all__ = ["Check", "check_merge"]
