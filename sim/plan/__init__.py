"""Which rank an adapter needs, before it is trained: ``plan``, from the closed forms of sections 6 and 7."""

from sim.plan.ranks import Need, plan

__all__ = ["Need", "plan"]
