"""Each law beside its twin: its ``@check`` rows and its ``@figure``, in the file of the law's name.

Importing the package registers all of them in ``sim.lab.check.CHECKS`` and ``sim.lab.figure.FIGURES``.
"""

from sim.lab.check import CHECKS

CHECKS.discover(__name__)
