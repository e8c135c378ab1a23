"""What every linear merge of adapters would answer on a base and prompts of one's own, without merging them.

``predict_merges("A", "B", base="BASE", prompts="FILE.jsonl")`` does what ``python -m sim.predict`` does.
"""

from sim.predict.entry import Prediction, predict_merges

__all__ = ["Prediction", "predict_merges"]
