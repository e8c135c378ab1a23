"""Merging low-rank updates: methods behind one registry, and PEFT adapters read, merged and written.

``merge("ties", [first, second], density=0.5, rank=8)`` merges one module, ``merge_adapters`` whole adapters.
``merge_folders("A", "B", method="ties").write("DIR")`` does what
``python -m sim.merge A B --method ties --out DIR`` does. A method is one function in ``methods``.
``check.check_merge`` says whether a merge that somebody made is the exact one.
"""

from sim.merge import methods
from sim.merge.adapters import merge_adapters
from sim.merge.aligned import aligned
from sim.merge.entry import Merged, merge_folders
from sim.merge.module import merge
from sim.merge.peft.files import Adapter, read_adapter
from sim.merge.peft.write import write_adapter
from sim.merge.registry import METHODS, Method, method

__all__ = [
    "METHODS",
    "Adapter",
    "Merged",
    "Method",
    "aligned",
    "merge",
    "merge_adapters",
    "merge_folders",
    "method",
    "methods",
    "read_adapter",
    "write_adapter",
]
