"""Other architectures, and adapters with scales of their own, against weights merged by hand."""

import warnings

import numpy as np
import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

import peft  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402

from sim.hf import _model, _run  # noqa: E402
from sim.hf._llama import write_tokenizer  # noqa: E402
from sim.hf.prompts import Prompt  # noqa: E402
from sim.hf.tokens import batch, question  # noqa: E402
from sim.merge import read_adapter  # noqa: E402
from theory.lowrank import dense  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]

VOCAB = 30
SPECIAL = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
SMALL = {
    **{"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, **SPECIAL},
}
MODELS = {
    # weights stored transposed
    "gpt2": (
        lambda: transformers.GPT2Config(vocab_size=VOCAB, n_embd=16, n_layer=2, n_head=2, **SPECIAL),
        {"target_modules": ["c_attn", "c_fc"], "fan_in_fan_out": True},
    ),
    # logits capped after the readout, windows of attention
    "gemma2": (lambda: transformers.Gemma2Config(**SMALL), {"target_modules": ["q_proj", "down_proj"]}),
    "mistral": (
        lambda: transformers.MistralConfig(**SMALL),
        {"target_modules": "all-linear", "use_rslora": True, "rank_pattern": {"v_proj": 2}},
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_strengths_are_those_of_merged_weights_whatever_the_batch(name, tmp_path):
    warnings.simplefilter("ignore", FutureWarning)  # of transformers, at what PEFT calls
    torch.manual_seed(0)
    config, lora = MODELS[name]
    base = transformers.AutoModelForCausalLM.from_config(config())
    base.save_pretrained(tmp_path / "base")
    write_tokenizer(tmp_path / "base", VOCAB)
    for part in ("a", "b"):
        fresh = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base")
        made = peft.LoraConfig(r=3, lora_alpha=5, init_lora_weights=False, task_type="CAUSAL_LM", **lora)
        peft.get_peft_model(fresh, made).save_pretrained(tmp_path / part)
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
                weight.data += change.T if lora.get("fan_in_fan_out") else change
        expected = []
        for one in questions:  # one by one, without padding
            with torch.no_grad():
                logits = merged(input_ids=torch.tensor([one.tokens])).logits[0]
            expected.append(logits[one.start - 1 : -1].numpy())
        found = _run.answer_logits(loaded, batch(questions), strengths).numpy()
        np.testing.assert_allclose(found, np.concatenate(expected), rtol=1e-3, atol=1e-5)
        assert np.abs(found).max() > 1e-3
