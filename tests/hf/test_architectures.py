"""Other architectures, and adapters with scales of their own, against weights merged by hand."""

import sys
from pathlib import Path

import numpy as np
import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from sim.hf import _model, _run  # noqa: E402
from sim.hf.prompts import Prompt  # noqa: E402
from sim.hf.tokens import batch, question  # noqa: E402
from sim.merge import read_adapter  # noqa: E402
from theory.lowrank import dense  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]


@pytest.mark.parametrize("name", ("gpt2", "gemma2", "mistral"))
def test_strengths_are_those_of_merged_weights_whatever_the_batch(name, tmp_path):
    small.write(tmp_path, name)
    adapters = [read_adapter(tmp_path / part) for part in ("a", "b")]
    loaded = _model.load(tmp_path / "base", adapters, None, "cpu")
    texts = [("w1 w2 w3", " w4"), ("w5", " w6 w7 w8"), ("w9 w9 w9 w9 w1", " w2 w3")]
    questions = [question(loaded.tokenizer, Prompt(*text, "edits", 1)) for text in texts]
    for strengths in ((0.0, 0.0), (0.7, 0.0), (0.6, -0.4), (0.0, 1.0)):
        merged = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
        for adapter, strength in zip(adapters, strengths, strict=True):
            for module, update in adapter.modules.items():
                weight = merged.get_submodule(module).weight
                change = torch.tensor(np.array(dense(update)) * strength, dtype=torch.float32)
                weight.data += change.T if name == "gpt2" else change
        expected = []
        for one in questions:  # one by one, without padding
            with torch.no_grad():
                logits = merged(input_ids=torch.tensor([one.tokens])).logits[0]
            expected.append(logits[one.start - 1 : -1].numpy())
        outputs = _run.answer_logits(loaded, batch(questions), strengths).numpy()
        np.testing.assert_allclose(outputs, np.concatenate(expected), rtol=1e-3, atol=1e-5)
        assert np.abs(outputs).max() > 1e-3
