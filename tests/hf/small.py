"""Small random models of Hugging Face with PEFT adapters "a" and "b", and their files changed by hand."""

import json
import shutil
import warnings

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from sim.hf import _base, _model, _run
from sim.hf._llama import write_tokenizer
from sim.hf.prompts import read_prompts
from sim.hf.tokens import batch, questions
from sim.merge import read_adapter

VOCAB = 30
SPECIAL = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
SMALL = {
    **{"vocab_size": VOCAB, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, **SPECIAL},
}
MODELS = {
    "llama": (
        lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=False),
        {"target_modules": ["q_proj", "down_proj"]},
    ),
    "tied": (
        lambda: transformers.LlamaConfig(**SMALL, tie_word_embeddings=True),
        {"target_modules": ["q_proj", "down_proj"]},
    ),
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


def write(folder, name):
    """``folder``/base, /a and /b, and two questions in /prompts.jsonl."""
    warnings.simplefilter("ignore", FutureWarning)  # of transformers, at what PEFT calls
    torch.manual_seed(0)
    config, lora = MODELS[name]
    transformers.AutoModelForCausalLM.from_config(config()).save_pretrained(folder / "base")
    write_tokenizer(folder / "base", VOCAB)
    for part in ("a", "b"):
        fresh = transformers.AutoModelForCausalLM.from_pretrained(folder / "base")
        settings = peft.LoraConfig(r=3, lora_alpha=5, init_lora_weights=False, task_type="CAUSAL_LM", **lora)
        peft.get_peft_model(fresh, settings).save_pretrained(folder / part)
    lines = [{"prompt": "w1 w2 w3", "answer": " w4"}, {"prompt": "w5", "answer": " w6 w7"}]
    (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    return folder


def altered(source, target, change, file="model.safetensors"):
    """A copy of a folder in which ``change`` was applied to {name: tensor}."""
    shutil.copytree(source, target)
    tensors = {name: value.contiguous() for name, value in change(load_file(target / file)).items()}
    save_file(tensors, target / file, metadata={"format": "pt"})
    return target


def reconfigured(source, target, file="adapter_config.json", **fields):
    """A copy of a folder with other fields in one of its JSON files."""
    shutil.copytree(source, target)
    path = target / file
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return target


def without(*parts):
    """The tensors whose names have none of these parts."""
    return lambda tensors: {k: v for k, v in tensors.items() if not any(part in k for part in parts)}


def weights(base):
    """{name: tensor} of a base as it is loaded."""
    with _base.quiet():
        return _base.load_base(base, None)[1].state_dict()


def answers(folder, adapters, strengths=(1.0, 0.5), base="base", dtype=None):
    """Logits at the questions with the adapters of these folders, and what was loaded."""
    loaded = _model.load(folder / base, [read_adapter(folder / name) for name in adapters], dtype, "cpu")
    items, _ = questions(loaded.tokenizer, read_prompts(folder / "prompts.jsonl"), None, loaded.rows)
    return _run.answer_logits(loaded, batch(items), strengths).numpy(), loaded
