"""What every linear merge of adapters would answer on a base and prompts of one's own, without merging them.

``sim.predict("A", "B", base="BASE", prompts="FILE.jsonl")`` does what ``python -m sim.predict`` does.
"""

from sim.lab.entry.called import calls
from sim.predict.entry import Prediction, predict

__all__ = ["Prediction", "predict"]

calls(predict)
