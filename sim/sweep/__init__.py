"""The runner: the main job and every named experiment, one schema, resumable.

From the command to ``results.csv`` it is eight files: ``__main__``, ``main_job`` (the parts), ``run`` (stage
by stage), ``reuse.jobs`` (bases, then cells), ``reuse.bases``, ``reuse.cell`` (train, merge, ask, predict),
``reuse.rows`` and ``lab.store.folder``. Each step's mathematics is in the files that these call.
"""
