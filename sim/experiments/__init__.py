"""The experiments of the paper in miniature, one file each: its cells, and the figures of its table."""

from sim.experiments.registry import EXPERIMENTS, Experiment, experiment

__all__ = ["EXPERIMENTS", "Experiment", "experiment"]

EXPERIMENTS.discover(__name__)
