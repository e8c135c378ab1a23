"""Will merging these adapters work? Measured from their factors, judged by the theory, written and drawn.

``diagnose_folders("A", "B")`` does what ``python -m sim.diagnose A B`` does, and returns it.
"""

from sim.diagnose.entry import Diagnosis, diagnose_folders
from sim.diagnose.report import diagnose

__all__ = ["Diagnosis", "diagnose", "diagnose_folders"]
