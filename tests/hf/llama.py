"""Real Hugging Face models of the two-hop world, with real PEFT adapters on its two hops. Nothing is fetched.

    python tests/hf/llama.py FOLDER

``trained`` trains a Llama with torch and the adapters with PEFT. The script does so, and trains a decoder of
ours and writes it as a Llama that computes the same, both on one world, with equal sizes and schedules:
FOLDER/torch and FOLDER/own, and the questions FOLDER/prompts.jsonl.
"""

import os
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import peft
import torch
import transformers
from transformers import LlamaForCausalLM

from sim.hf._llama import llama, write_tokenizer
from sim.lab import files
from sim.lab.parallel import cache_folder
from sim.lab.store import digest
from sim.model.training import Schedule
from sim.predict.example import PROMPT_GROUPS, write_adapters, write_base, write_prompts
from sim.predict.example import trained as trained_by_jax
from sim.reuse.config import of_world
from sim.worlds import build, two_hop

transformers.logging.disable_progress_bar()


def converted(folder, decoder, params, adapters):
    """A decoder of ours and its adapters as a Llama that computes the same."""
    write_adapters(folder, adapters)
    write_base(folder / "base", decoder, params)


def fit(model, groups, schedule, seed):
    """All steps of ``sim.model.training.fit`` in torch: AdamW, warm-up, cooling; groups drawn by weight."""
    rng = np.random.default_rng(seed)
    trained = [value for value in model.parameters() if value.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=schedule.rate, betas=(0.9, 0.98), weight_decay=schedule.decay)

    def rate(step):
        return min(1.0, (step + 1) / schedule.warming, (schedule.steps - step) / schedule.cooling)

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
        predictions = model(input_ids=tokens[:, :-1]).logits[:, group.prompt - 1 :].argmax(-1)
    return float((predictions == tokens[:, group.prompt :]).all(1).float().mean())


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


CONFIG = of_world(two_hop.Config(entities=64, relations=4, edits=16, bridges=8))

SLOWLY = replace(CONFIG.pretraining, steps=400, rate=6e-3, warming=40, cooling=200)
"""Pretraining by AdamW alone, which takes more steps than ours by Muon."""

LONG = replace(CONFIG.finetuning, steps=200, margin=None)
"""Adapters on either side take all of as many steps."""


PLAIN = {"XLA_FLAGS": "", "HF_HUB_OFFLINE": "1"}
"""The environment of training: the tests' own flags make compiling fast and training slow."""


def cached():
    """The folder of both models, in the cache folder of the platform; made by a process of its own."""
    versions = [module.__version__ for module in (jax, torch, transformers, peft)]
    folder = cache_folder() / "tests" / f"llama-{digest([CONFIG, SLOWLY, LONG, PROMPT_GROUPS, versions])}"
    if not folder.exists():
        with files.replacing(folder) as part:
            subprocess.run([sys.executable, __file__, str(part)], check=True, env=dict(os.environ) | PLAIN)
    return folder


def write_all(folder):
    """Both models, and the questions."""
    torch.set_num_threads(1)  # matrices this small are not worth a second
    folder.mkdir(parents=True)
    world = jax.tree.map(jax.numpy.asarray, build(CONFIG.world, 0, two_hop.Setting()))
    write_prompts(folder / "prompts.jsonl", {name: world.probes[name] for name in PROMPT_GROUPS})
    converted(folder / "own", CONFIG.decoder, *trained_by_jax(replace(CONFIG, finetuning=LONG), world))
    trained(folder / "torch", CONFIG.decoder, world, SLOWLY, LONG, CONFIG.rank)


if __name__ == "__main__":
    write_all(Path(sys.argv[1]))
