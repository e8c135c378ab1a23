"""Something to try the commands on: a small two-hop world as folders of Hugging Face and PEFT."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from sim.hf.extra import installed, with_extra
from sim.hf.weights import llama_adapter, word
from sim.lab import files, parallel
from sim.merge import Adapter, write_adapter
from sim.model.lora import Adapter as Updates
from sim.model.training import Schedule
from sim.model.transformer import Decoder, Params
from sim.reuse import library
from sim.reuse.bases import key_data
from sim.reuse.config import ReuseConfig, of_world
from sim.worlds import Probe, World, build, two_hop

SIZES = {
    "width": 48,
    "hidden": 96,
    "pretraining": Schedule(250, 1e-2, (("facts", 64), ("direct", 32), ("traces", 32)), 0.3, cooling=50),
    "finetuning": Schedule(400, 4e-3, (("facts", 16), ("traces", 4)), margin=1.0, tile=16),
}

PROMPT_GROUPS = ("hop1", "hop2", "cot", "untouched")
"""The groups of prompts: each adapter's edits, both in a chain of thought, and facts that nobody edited."""


def write_example(folder: Path) -> bool:
    """Train and write ``folder``/hop1 and /hop2, PEFT adapters of the two hops, and ``folder``/prompts.jsonl.

    Their base, a Llama, is written to ``folder``/base if the extra hf is there: True if so. Takes half a
    minute on two cores.
    """
    config = of_world(two_hop.Config(entities=32, relations=4, edits=8, bridges=8), **SIZES)
    world = jax.tree.map(jnp.asarray, build(config.world, 0, two_hop.Setting()))
    params, adapters = trained(config, world)
    write_adapters(folder, adapters)
    write_prompts(folder / "prompts.jsonl", {name: world.probes[name] for name in PROMPT_GROUPS})
    if installed():
        write_base(folder / "base", config.decoder, params)
    return installed()


def trained(config: ReuseConfig, world: World) -> tuple[Params, dict[str, Updates]]:
    """A base and the adapter of each part of a world."""
    jit = functools.partial(jax.jit, compiler_options=parallel.compiler_options(effort=1))
    pretrain = jit(functools.partial(library.pretrain, config.decoder, config.pretraining))
    make = jit(functools.partial(library.make, config.recipe, "lora"))
    params, _ = pretrain(world.pretraining, key_data(0, 0))
    outputs = {
        part: make(params, world.data[part], key_data(1, 0), place) for place, part in enumerate(world.parts)
    }
    return params, {part: library.adapter_of(one.factors) for part, one in outputs.items()}


def write_adapters(folder: Path, adapters: Mapping[str, Updates]) -> None:
    """Adapters of a decoder of ours as PEFT folders of the Llama that computes the same."""
    for name, adapter in adapters.items():
        updates = {
            module: jax.tree.map(np.asarray, update) for module, update in llama_adapter(adapter).items()
        }
        targets = sorted({module.rpartition(".")[2] for module in updates})
        config = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "target_modules": targets}
        write_adapter(folder / name, updates, [Adapter(folder, config, updates)])


def write_base(folder: Path, decoder: Decoder, params: Params) -> None:
    """The base as the Llama that computes the same. Raises ValueError without the extra."""
    with_extra("sim.hf._llama").write_base(folder, decoder, params)


def write_prompts(path: Path, probes: Mapping[str, Probe]) -> None:
    """A line for each row of the probes, groups by their names."""
    lines = []
    for group, probe in probes.items():
        for row in np.asarray(probe.tokens):
            words = [word(token) for token in row]
            prompt, answer = " ".join(words[: probe.prompt]), " " + " ".join(words[probe.prompt :])
            lines.append(json.dumps({"prompt": prompt, "answer": answer, "group": group}))
    files.write_text(path, "\n".join(lines) + "\n")
