"""Many merges in one pass give the logits of PEFT, merge by merge."""

import sys
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
import torch  # noqa: E402

from sim.forecast.outcomes import of_logits  # noqa: E402
from sim.hf import _model, _run  # noqa: E402
from sim.hf.passes import _stack  # noqa: E402
from sim.hf.prompts import read_prompts  # noqa: E402
from sim.hf.tokens import batch, questions  # noqa: E402
from sim.merge import read_adapter  # noqa: E402
from sim.predict._ask import ask  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]

MERGES = [(0.0, 0.0), (1.0, 0.0), (0.5, 0.7), (0.0, -1.5)]


@pytest.fixture(scope="module", params=small.MODELS)
def loaded(request, tmp_path_factory):
    """(model, its two questions) of each architecture."""
    folder = small.write(tmp_path_factory.mktemp(request.param), request.param)
    model = _model.load(folder / "base", [read_adapter(folder / part) for part in "ab"], None, "cpu")
    return model, questions(model.tokenizer, read_prompts(folder / "prompts.jsonl"), None, model.rows)[0]


def test_a_pass_of_many_merges_is_peft_merge_by_merge(loaded, monkeypatch):
    model, items = loaded
    together = batch(items)
    expected = [_run.answer_logits(model, together, one).numpy() for one in MERGES]
    assert np.abs(expected[2] - expected[0]).max() > 1e-3
    for tokens in (1, 1024):  # one merge in a pass, and all in one
        monkeypatch.setattr(_stack, "TOKENS", tokens)
        counts, parts = zip(*_stack.merge_logits(model, together, MERGES), strict=True)
        assert sum(counts) == len(MERGES) and len(counts) == (len(MERGES) if tokens == 1 else 1)
        np.testing.assert_allclose(torch.cat(parts).numpy(), expected, rtol=1e-4, atol=1e-5)


def test_answers_are_read_from_the_logits_of_peft(loaded):
    model, items = loaded
    together, weights = batch(items), np.array(MERGES)
    logits = np.array([_run.answer_logits(model, together, one).double().numpy() for one in MERGES])
    answers, rivals = ask(model, items, weights, None)
    table = np.concatenate([np.array(each) for each in rivals])
    expected = of_logits(logits, together.target, together.row, table)
    places = np.arange(len(together.target))
    each = logits[:, places, together.target] - np.log(np.exp(logits).sum(-1))
    for merge in range(len(MERGES)):
        for prompt in range(len(items)):
            answer = answers[prompt][merge]
            assert answer.lead == pytest.approx(expected.lead[merge, prompt], abs=1e-4)
            assert answer.loglik == pytest.approx(each[merge, together.row == prompt].sum(), abs=1e-4)
            np.testing.assert_allclose(
                answer.gap, expected.gap[merge, together.row == prompt], rtol=1e-4, atol=1e-4
            )
    again, same = ask(model, items, weights[1:2], rivals)
    assert same == rivals
    np.testing.assert_allclose(again[0][0].gap, answers[0][1].gap, rtol=1e-4, atol=1e-4)
