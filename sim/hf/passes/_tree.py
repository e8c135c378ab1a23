"""The prompts of a batch as one sequence: a beginning that several share is read once.

The distinct beginnings of the questions are a forest: a node is a token behind the node of what stands before
it. The sequence holds the nodes, a node sees the ones above it and itself, and its position is its depth. A
decoder without state gives it what it gives the last token of that beginning by itself.
"""

from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int

from sim.hf.tokens import Batch

CLOSE = {torch.float32: 1e-4, torch.float64: 1e-4}
"""Of the norm of logits: what rounding may change, 0.03 in half precision. A model that does not heed masks
or positions changes more."""

WINDOWS = ("sliding_window", "attention_chunk_size")
"""Settings of models whose layers do not see all that stands before a token."""


class Tree(NamedTuple):
    """L nodes: token, the node that each one stands behind or -1, depth from 0; the node that decides each
    answer token."""

    tokens: Int[np.ndarray, " L"]
    above: Int[np.ndarray, " L"]
    depth: Int[np.ndarray, " L"]
    node: Int[np.ndarray, " N"]

    @property
    def sees(self) -> Bool[np.ndarray, "L L"]:
        """Which nodes each one sees: itself, and what the one it stands behind sees."""
        seen = np.eye(len(self.tokens), dtype=bool)
        for node, above in enumerate(self.above):
            if above >= 0:
                seen[node] |= seen[above]
        return seen


def plant(batch: Batch) -> Tree:
    """The forest of a batch, nodes in order of their first appearance."""
    nodes: dict[tuple[int, int], int] = {}
    places = np.zeros(batch.tokens.shape, np.int64)
    for row, (tokens, mask) in enumerate(zip(batch.tokens, batch.mask, strict=True)):
        above = -1
        for column, token in enumerate(tokens[: mask.sum()].tolist()):
            above = places[row, column] = nodes.setdefault((int(above), token), len(nodes))
    above, tokens = np.array(list(nodes)).T
    depth = np.zeros(len(nodes), np.int64)
    for node, parent in enumerate(above):
        depth[node] = depth[parent] + 1 if parent >= 0 else 0
    return Tree(tokens, above, depth, places[batch.row, batch.position])


def is_cheaper(tree: Tree, batch: Batch, width: int) -> bool:
    """Whether the forest costs fewer operations than the batch: 24 d^2 + 4 d T a token and layer."""
    rows, length = batch.tokens.shape
    nodes = len(tree.tokens)
    return nodes * (6 * width + nodes) < rows * length * (6 * width + length)


def inputs(tree: Tree, count: int, device: torch.device, kind: torch.dtype) -> dict[str, torch.Tensor]:
    """What a model is given for ``count`` copies of the forest, a row each."""
    hidden = torch.as_tensor(~tree.sees, device=device).to(kind) * torch.finfo(kind).min
    tokens, depth = (torch.as_tensor(part, device=device) for part in (tree.tokens, tree.depth))
    return {
        "input_ids": tokens.repeat(count, 1),
        "position_ids": depth.repeat(count, 1),
        "attention_mask": hidden.expand(count, 1, -1, -1),
    }


def reads_trees(model: torch.nn.Module, rows: int) -> bool:
    """Whether a model gives the nodes of a small forest the logits that it gives their beginnings.

    rows: token ids that it has.
    """
    config, close = model.config.get_text_config(), CLOSE.get(model.dtype, 0.03)
    if any(getattr(config, name, None) for name in WINDOWS):
        return False
    tokens = np.array([[1, 2, 3, 4], [1, 2, 5, 0], [6, 2, 3, 4]]) % rows
    mask = np.array([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]])
    row, position = np.nonzero(mask)
    small = Batch(tokens, mask, row, position, row, (0, 0, 0))
    tree, device = plant(small), model.device
    with torch.inference_mode():
        plain = model(
            input_ids=torch.as_tensor(tokens, device=device),
            attention_mask=torch.as_tensor(mask, device=device),
            use_cache=False,
        ).logits[row, position]
        try:
            logits = model(**inputs(tree, 1, device, model.dtype), use_cache=False).logits[0, tree.node]
        except Exception:  # an architecture that takes no positions or no mask of its own, each in its words
            return False
    return bool((logits - plain).float().norm() <= close * plain.float().norm())
