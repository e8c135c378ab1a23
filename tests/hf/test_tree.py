"""Beginnings that prompts share are read once: the forest, its cost, and the logits of PEFT all the same."""

import sys
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
import torch  # noqa: E402

from sim.hf import _model, _run  # noqa: E402
from sim.hf.passes import _stack, _tree  # noqa: E402
from sim.hf.tokens import Question, batch  # noqa: E402
from sim.merge import read_adapter  # noqa: E402

ITEMS = [Question(tokens, start, False) for tokens, start in [
    ((1, 2, 3, 4, 5), 3), ((1, 2, 3, 6), 3), ((1, 2, 3, 6, 7), 4), ((8, 2, 3, 4), 1), ((1, 2), 1),
]]  # fmt: skip
MERGES = [(0.0, 0.0), (1.0, 0.0), (0.5, 0.7)]


def test_nodes_are_the_distinct_beginnings_and_see_what_stands_before_them():
    tree = _tree.plant(batch(ITEMS))
    assert tree.tokens.tolist() == [1, 2, 3, 4, 6, 8, 2, 3]
    assert tree.depth.tolist() == [0, 1, 2, 3, 3, 0, 1, 2]
    assert [np.flatnonzero(row).tolist() for row in tree.sees] == [
        [0], [0, 1], [0, 1, 2], [0, 1, 2, 3], [0, 1, 2, 4], [5], [5, 6], [5, 6, 7]
    ]  # fmt: skip
    assert tree.node.tolist() == [2, 3, 2, 4, 5, 6, 7, 0]  # the token before each answer token


def test_a_forest_is_taken_where_it_is_less_work():
    def cheaper(width, *rows):
        together = batch([Question(tokens, 1, False) for tokens in rows])
        return _tree.is_cheaper(_tree.plant(together), together, width)

    shared = [(*range(50), 60 + i) for i in range(4)]
    assert cheaper(8, *shared)
    assert not cheaper(8, *[tuple(range(100 * i, 100 * i + 50)) for i in range(4)])  # nothing is shared
    half = [(*range(25), *range(100 * i, 100 * i + 25)) for i in range(1, 5)]
    assert cheaper(64, *half) and not cheaper(1, *half)  # attention alone: 124^2 nodes against 4 x 49^2


@pytest.mark.slow
@pytest.mark.xdist_group("llama")
@pytest.mark.parametrize("architecture", small.MODELS)
def test_shared_beginnings_change_no_logit(architecture, tmp_path, monkeypatch):
    folder = small.write(tmp_path, architecture)
    loaded = _model.load(folder / "base", [read_adapter(folder / part) for part in "ab"], None, "cpu")
    together = batch(ITEMS)
    expected = np.array([_run.answer_logits(loaded, together, one).numpy() for one in MERGES])
    forests = []
    monkeypatch.setattr(_stack, "is_cheaper", lambda tree, *_: forests.append(len(tree.tokens)) or True)
    _, parts = zip(*_stack.merge_logits(loaded, together, MERGES), strict=True)
    np.testing.assert_allclose(torch.cat(parts).numpy(), expected, rtol=1e-4, atol=1e-5)
    assert forests == [8]
    assert loaded.reads_trees or architecture not in ("llama", "gpt2")


@pytest.mark.slow
@pytest.mark.xdist_group("llama")
def test_a_model_that_ignores_the_mask_or_has_a_window_reads_none(tmp_path, monkeypatch):
    folder = small.write(tmp_path, "llama")
    loaded = _model.load(folder / "base", [read_adapter(folder / "a")], None, "cpu")
    plain, given = _tree.inputs, loaded.model.config.get_text_config()
    assert _tree.reads_trees(loaded.model, loaded.rows)
    monkeypatch.setattr(
        _tree, "inputs", lambda *all: {k: v for k, v in plain(*all).items() if k != "attention_mask"}
    )
    assert not _tree.reads_trees(loaded.model, loaded.rows)
    monkeypatch.setattr(
        _tree, "inputs", lambda *all: {k: v for k, v in plain(*all).items() if k != "position_ids"}
    )
    assert not _tree.reads_trees(loaded.model, loaded.rows)
    monkeypatch.setattr(_tree, "inputs", plain)
    monkeypatch.setattr(given, "sliding_window", 4, raising=False)
    assert not _tree.reads_trees(loaded.model, loaded.rows)
