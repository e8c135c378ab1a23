"""Small files for the questions: a base, trained adapters, and merges that PEFT made of them.

The bases are random Llamas of two layers in bfloat16. The adapters are trained by PEFT on a dozen facts each
until they answer all of them, and no further.
"""

import contextlib
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

from sim.hf._base import quiet
from sim.hf._llama import write_tokenizer
from sim.hf.prompts import UNTOUCHED
from sim.hf.weights import word

VOCAB, FACTS = 48, 12
SHAPE = {
    **{"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2},
    **{"num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16, "initializer_range": 0.3},
    **dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id")),
}
STEPS, RATE = 200, 5e-3
REAL = Path(__file__).resolve().parents[3] / "notebooks" / "adapters"
"""Two adapters of a real language model."""


def write_scene(folder: Path) -> None:
    """All folders that the commands name, in ``folder``."""
    with quiet(), contextlib.chdir(folder), _one_thread():
        for seed, name in enumerate(("BASE", "OTHER_BASE")):
            torch.manual_seed(seed)
            model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE, tie_word_embeddings=True))
            model.to(torch.bfloat16).save_pretrained(name)
            write_tokenizer(Path(name), VOCAB)
        asks = {name: _prompts(seed) for seed, name in enumerate(("A", "B", UNTOUCHED), 2)}
        answers = {name: torch.randint(VOCAB, (FACTS,)) for name in "AB"}
        for base, file, suffix in (("BASE", "prompts", ""), ("OTHER_BASE", "other", "_OTHER")):
            answers[UNTOUCHED] = _greedy(_base(base), asks[UNTOUCHED])
            _write_prompts(Path(f"{file}.jsonl"), asks, answers)
            for name in "AB":
                _train(f"{name}{suffix}", asks[name], answers[name], base)
        _train("RSLORA", asks["A"], answers["A"], use_rslora=True)
        _train("HEAD", asks["A"], answers["A"], modules_to_save=["lm_head"])
        _combine("RSLORA_BY_PEFT", ["RSLORA"], [1.0], "linear")
        _combine("LINEAR_BY_PEFT", "AB", [0.5, 0.5], "linear")
        _combine("DIFFERENCE_BY_PEFT", "AB", [1.0, -1.0], "linear")
        _combine("CAT_BY_PEFT", "AB", [1.0, 1.0], "cat")
        _fold("A", "A_FOLDED")
        _fold("A", "A_TWICE", times=2)
        _fold("HEAD", "HEAD_FOLDED", without="lm_head.weight")
        for name in ("emblem", "home"):
            shutil.copytree(REAL / name, name.upper())
        for name in "AB":
            _kohya(name)


@contextlib.contextmanager
def _one_thread() -> Iterator[None]:
    """Matrices this small are dealt with sooner by one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _prompts(seed: int) -> torch.Tensor:
    """Prompts of two words, all different (FACTS, 2)."""
    drawn = torch.randperm(VOCAB * VOCAB, generator=torch.Generator().manual_seed(seed))[:FACTS]
    return torch.stack([drawn // VOCAB, drawn % VOCAB], 1)


def _write_prompts(file: Path, asks: dict[str, torch.Tensor], answers: dict[str, torch.Tensor]) -> None:
    lines = [
        {"prompt": " ".join(map(word, ask)), "answer": f" {word(answer)}", "group": group}
        for group in asks
        for ask, answer in zip(asks[group].tolist(), answers[group].tolist(), strict=True)
    ]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))


def _base(folder: str = "BASE") -> transformers.PreTrainedModel:
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def _greedy(model: transformers.PreTrainedModel, asks: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return model(asks).logits[:, -1].argmax(-1)


def _train(name: str, asks: torch.Tensor, answers: torch.Tensor, base: str = "BASE", **more: object) -> None:
    """Train an adapter of rank 4 on every linear layer, cross entropy, AdamW, all facts a step."""
    torch.manual_seed(sum(map(ord, name)))
    config = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM", **more)
    model = peft.get_peft_model(_base(base), config)
    optimizer = torch.optim.AdamW([weight for weight in model.parameters() if weight.requires_grad], RATE)
    for _ in range(STEPS):
        logits = model(asks).logits[:, -1]
        if (logits.argmax(-1) == answers).all():
            break
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(logits, answers).backward()
        optimizer.step()
    model.save_pretrained(name)


def _combine(out: str, names: Sequence[str], weights: Sequence[float], kind: str) -> None:
    """PEFT's add_weighted_adapter of trained adapters, saved as the folder ``out``."""
    model = peft.PeftModel.from_pretrained(_base(), names[0], adapter_name=names[0])
    for name in names[1:]:
        model.load_adapter(name, adapter_name=name)
    model.add_weighted_adapter(list(names), list(weights), out, combination_type=kind)
    model.save_pretrained(".", selected_adapters=[out])


def _fold(name: str, out: str, times: int = 1, without: str = "") -> None:
    """PEFT's merge_and_unload in bfloat16, so many times, less a tensor that a tool forgets."""
    model = transformers.AutoModelForCausalLM.from_pretrained("BASE", dtype=torch.bfloat16)
    for _ in range(times):
        model = peft.PeftModel.from_pretrained(model, name).merge_and_unload()
    model.save_pretrained(out)
    file = Path(out) / "model.safetensors"
    save_file(
        {key: value for key, value in load_file(file).items() if key != without}, file, {"format": "pt"}
    )


def _kohya(name: str) -> None:
    """The adapter as the file that kohya's tools write: alpha beside the factors."""
    tensors = {}
    for key, value in load_file(Path(name) / "adapter_model.safetensors").items():
        module, side = key.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".", 1)
        stem = f"lora_unet_{module.replace('.', '_')}"
        tensors[f"{stem}.{'lora_down' if side == 'lora_A' else 'lora_up'}.weight"] = value
        tensors[f"{stem}.alpha"] = torch.tensor(8.0)
    save_file(tensors, {"A": "smoke.safetensors", "B": "glass.safetensors"}[name])
