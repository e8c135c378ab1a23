"""Experiments: the empirical twins of the closed forms in ``theory``.

Importing turns on float64 in JAX and changes what else ``theory`` lists, nothing more. The commands on PEFT
folders are functions of their packages: ``sim.merge.merge_folders``, ``sim.diagnose.diagnose_folders``,
``sim.predict.predict_merges``.
"""

from sim.lab.interrupt import watch_command

watch_command()  # before the imports that take time; does nothing unless this is ``python -m sim.NAME``

import theory as _theory  # noqa: E402, F401  (turns on float64 before any array is made)
