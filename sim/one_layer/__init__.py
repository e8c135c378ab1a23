"""The one-layer experiment (theory/README.md, sections 0 to 6): measurements only, never predictions."""

from sim.one_layer.config import OneLayerConfig, Setting, for_rank
from sim.one_layer.experiment import rows, run

__all__ = ["OneLayerConfig", "Setting", "for_rank", "rows", "run"]
