"""Will merging these adapters work? Measured from their factors, judged by the theory, written and drawn.

``sim.diagnose("A", "B")`` does what ``python -m sim.diagnose A B`` does, and returns it.
"""

from sim.diagnose.entry import Diagnosis, diagnose_folders
from sim.diagnose.report import diagnose
from sim.lab.entry.called import calls

__all__ = ["Diagnosis", "diagnose"]

calls(diagnose_folders)
