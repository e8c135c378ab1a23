"""The points around which the experiments on the two-hop world vary one setting at a time."""

from dataclasses import replace

from sim.reuse.config import of_world
from sim.worlds import two_hop

LAMBDAS = (0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0, 1.25)
"""Common coefficients of the linear merges of the two hop adapters."""

DEFAULT = of_world(
    two_hop.Config(bridges=256),
    families=("lora",),
    extras=("bridge", "expert"),
    methods=("average", "sum", "ties", "svd"),
    lambdas=LAMBDAS,
    routers=("arrow",),
    oracle=True,
)
"""The paper profile's: 2 layers of width 64, rank 4 on every matrix."""

SMALL = replace(DEFAULT, extras=(), methods=("average", "sum", "ties"))
"""The two hop adapters and the ceiling alone: for programs that must compile quickly."""
