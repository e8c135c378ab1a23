"""Real Hugging Face models of the two-hop world, with real PEFT adapters on its two hops. Nothing is fetched.

    python tests/hf/llama.py FOLDER

``trained`` trains a Llama with torch and the adapters with PEFT. ``converted`` writes a decoder of ours as a
Llama that computes the same: hidden activation ReLU, and a product in the MLP whose other factor is 1 (an
up_proj of zeros with bias 1), so that gate_proj is our "up". The script writes both for one world, of equal
sizes and schedules: FOLDER/torch and FOLDER/own, and the questions FOLDER/prompts.jsonl.
"""

import functools
import json
import math
import os
import subprocess
import sys
import warnings
from pathlib import Path

import jax
import numpy as np
import peft
import torch
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from sim.lab import files
from sim.lab.parallel import cache_folder
from sim.lab.store import digest
from sim.merge import Adapter, write_adapter
from sim.model.training import Schedule
from sim.reuse import library
from sim.reuse.bases import key_data
from sim.reuse.config import of_world
from sim.worlds import build, two_hop

transformers.logging.disable_progress_bar()

NAMES = {kind: f"self_attn.{kind}_proj" for kind in "qkvo"} | {"up": "mlp.gate_proj", "down": "mlp.down_proj"}


def word(token):
    return f"w{token}"


def write_tokenizer(folder, vocab):
    """One word a token: "w3 w7" is 3, 7."""
    tokenizer = Tokenizer(models.WordLevel({word(token): token for token in range(vocab)}, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)


def write_prompts(path, probes):
    """A prompt a row of the probes, groups by their names. Weights of 0 are left out."""
    lines = []
    for group, probe in probes.items():
        for row in np.asarray(probe.tokens):
            words = [word(token) for token in row]
            prompt, answer = " ".join(words[: probe.prompt]), " " + " ".join(words[probe.prompt :])
            lines.append(json.dumps({"prompt": prompt, "answer": answer, "group": group}))
    Path(path).write_text("\n".join(lines) + "\n")


def llama(decoder, **changes):
    """A Llama of the sizes of a decoder of ours."""
    shape = {
        "vocab_size": decoder.vocab,
        "hidden_size": decoder.width,
        "num_hidden_layers": decoder.layers,
        "num_attention_heads": decoder.heads,
        "intermediate_size": decoder.hidden,
        "max_position_embeddings": 64,
        "rms_norm_eps": 1e-6,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100.0},
        "tie_word_embeddings": False,
    }
    special = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"))
    return LlamaForCausalLM(LlamaConfig(**shape, **special, **changes))


def converted(folder, decoder, params, adapters):
    """Write a decoder of ours as the model ``folder``/base, and adapters {name: updates} beside it."""
    model = llama(decoder, hidden_act="relu", mlp_bias=True)
    held = {name: torch.tensor(np.asarray(value)) for name, value in params.items()}
    state = {
        "model.embed_tokens.weight": held["embed"],
        "lm_head.weight": held["unembed"],
        "model.norm.weight": held["final_norm"],
    }
    for layer in range(decoder.layers):
        at = f"model.layers.{layer}."
        state |= {f"{at}{name}.weight": held[f"{layer}.{kind}"] for kind, name in NAMES.items()}
        state[f"{at}input_layernorm.weight"] = held[f"{layer}.attention_norm"]
        state[f"{at}post_attention_layernorm.weight"] = held[f"{layer}.mlp_norm"]
        state[f"{at}mlp.up_proj.weight"] = torch.zeros(decoder.hidden, decoder.width)
        state[f"{at}mlp.up_proj.bias"] = torch.ones(decoder.hidden)
        state[f"{at}mlp.gate_proj.bias"] = torch.zeros(decoder.hidden)
        state[f"{at}mlp.down_proj.bias"] = torch.zeros(decoder.width)
    model.load_state_dict(state)
    folder = Path(folder)
    model.save_pretrained(folder / "base")
    write_tokenizer(folder / "base", decoder.vocab)
    for name, adapter in adapters.items():
        modules = {}
        for module, update in adapter.items():
            layer, kind = module.split(".")
            factors = (np.asarray(side, np.float32) for side in update[:2])
            modules[f"model.layers.{layer}.{NAMES[kind]}"] = type(update)(*factors, update.scale)
        targets = sorted(value.rpartition(".")[2] for value in NAMES.values())
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": targets}
        write_adapter(folder / name, modules, [Adapter(folder, config, modules)])


def fit(model, groups, schedule, seed):
    """``sim.model.training.fit`` in torch: AdamW, warm-up, cosine; groups drawn by weight."""
    rng = np.random.default_rng(seed)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.decay)
    warm = max(1, schedule.steps // 10)

    def rate(step):
        after = (step - warm) / max(1, schedule.steps - warm)
        return step / warm if step < warm else 0.5 * (1 + math.cos(math.pi * after))

    steps = torch.optim.lr_scheduler.LambdaLR(optimiser, rate)
    model.train()
    for _ in range(schedule.steps):
        loss = 0.0
        for name, count in schedule.batch:
            group = groups[name]
            weight = np.asarray(group.weight, np.float64)
            if weight.max() > 0:
                rows = rng.choice(len(weight), count, p=weight / weight.sum())
                loss = loss + completion_loss(
                    model, torch.tensor(np.asarray(group.tokens)[rows]).long(), group
                )
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        steps.step()
    return model.eval()


def completion_loss(model, tokens, group):
    logits = model(input_ids=tokens[:, :-1]).logits[:, group.prompt - 1 :]
    losses = torch.nn.functional.cross_entropy(
        logits.flatten(0, 1), tokens[:, group.prompt :].flatten(), reduction="sum"
    )
    return losses / len(tokens)


def recall(model, group):
    """Share of a group's taught sequences that are answered."""
    tokens = torch.tensor(np.asarray(group.tokens)[np.asarray(group.weight) > 0]).long()
    with torch.no_grad():
        said = model(input_ids=tokens[:, :-1]).logits[:, group.prompt - 1 :].argmax(-1)
    return float((said == tokens[:, group.prompt :]).all(1).float().mean())


def trained(folder, decoder, world, pretraining: Schedule, finetuning: Schedule, rank, cycles=6, seed=0):
    """Train and write ``folder``/base and an adapter for each part of the world, by PEFT on every matrix."""
    torch.manual_seed(seed)
    warnings.simplefilter("ignore", FutureWarning)  # of transformers, at what PEFT calls
    folder = Path(folder)
    model = fit(llama(decoder), world.pretraining, pretraining, seed)
    model.save_pretrained(folder / "base")
    write_tokenizer(folder / "base", decoder.vocab)
    for number, part in enumerate(world.parts):
        base = LlamaForCausalLM.from_pretrained(folder / "base")
        config = peft.LoraConfig(
            r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
        )
        adapted = peft.get_peft_model(base, config)
        for cycle in range(cycles):
            fit(adapted, world.data[part], finetuning, [seed, number, cycle])
            if recall(adapted, world.data[part]["facts"]) >= 0.99:
                break
        adapted.save_pretrained(folder / part)


def own(folder, config, world):
    """Train a decoder of ours and its adapters on the same data, and write them as a Llama."""
    pretrain = functools.partial(library.pretrain, config.decoder, config.pretraining)
    params, _ = jax.jit(pretrain)(world.pretraining, key_data(0, 0))
    adapters = {}
    for place, part in enumerate(world.parts):
        make = jax.jit(functools.partial(library.make, config.recipe, "lora"))
        adapters[part] = library.adapter_of(make(params, world.data[part], key_data(1, 0), place).factors)
    converted(folder, config.decoder, params, adapters)


CONFIG = of_world(two_hop.Config(entities=64, relations=4, edits=16, bridges=8))
ASKED = ("hop1", "hop2", "cot", "untouched")


PLAIN = {"XLA_FLAGS": "", "HF_HUB_OFFLINE": "1"}
"""The environment of training: the tests' own flags make compiling fast and training slow."""


def cached():
    """The folder of both models, in the cache folder of the platform; made by a process of its own."""
    versions = [module.__version__ for module in (jax, torch, transformers, peft)]
    folder = cache_folder() / "tests" / f"llama-{digest([CONFIG, ASKED, versions])}"
    if not folder.exists():
        with files.replacing(folder) as part:
            subprocess.run([sys.executable, __file__, str(part)], check=True, env=dict(os.environ) | PLAIN)
    return folder


def write_all(folder):
    """Both models, and the questions."""
    torch.set_num_threads(1)  # matrices this small are not worth a second
    folder.mkdir(parents=True)
    world = jax.tree.map(jax.numpy.asarray, build(CONFIG.world, 0, two_hop.Setting()))
    write_prompts(folder / "prompts.jsonl", {name: world.probes[name] for name in ASKED})
    own(folder / "own", CONFIG, world)
    trained(folder / "torch", CONFIG.decoder, world, CONFIG.pretraining, CONFIG.finetuning, CONFIG.rank)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
