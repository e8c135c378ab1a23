"""Predicted against measured merges of adapters on a real language model: every subset, every strength.

``python -m sim.experiments.merge_forecast prepare train measure pairs score --out FOLDER`` teaches K
adapters a relation each, measures all subsets of them at four common strengths, and holds the predictors of
``sim.predict`` to that.
"""

from sim.experiments.merge_forecast import claims, figures  # noqa: F401
