"""Merging low-rank updates: methods behind one registry, and PEFT adapters read, merged and written.

``merge("ties", [first, second], density=0.5, rank=8)`` merges one module; ``merge_adapters`` whole adapters,
as ``python -m sim.merge`` does. A method is one function in ``methods``.
"""

from sim.merge import methods
from sim.merge.adapters import merge_adapters
from sim.merge.aligned import aligned
from sim.merge.module import merge
from sim.merge.peft.files import Adapter, read_adapter
from sim.merge.peft.write import write_adapter
from sim.merge.registry import METHODS, Method, method

__all__ = [
    "METHODS",
    "Adapter",
    "Method",
    "aligned",
    "merge",
    "merge_adapters",
    "method",
    "methods",
    "read_adapter",
    "write_adapter",
]
