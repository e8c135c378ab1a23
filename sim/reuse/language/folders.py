"""A pair of adapters and their joint one as PEFT folders, with what was taught and the questions: a library.

FOLDER/home, FOLDER/emblem, FOLDER/joint    adapters of the parts and the joint one, as PEFT loads them
FOLDER/library.json                         world, setting, seed, base; how far each adapter came
FOLDER/questions.jsonl                      questions and right answers, as ``sim.predict`` reads them
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sim.hf.weights import MODULES, module_name
from sim.lab import files
from sim.merge import read_adapter, write_adapter
from sim.merge.peft import files as peft_files
from sim.merge.peft.rounding import Rounding
from sim.model.llama import KINDS, Llama
from sim.model.llama_adapters import Adapter
from sim.reuse.language.training import Trained
from sim.worlds import JOINT
from sim.worlds.people import ENTITIES, PARTS, Setting
from sim.worlds.people.names import EMBLEM, HOME
from sim.worlds.text import TextWorld
from theory.lowrank import LowRank

ADAPTERS = Path(__file__).resolve().parents[3] / "notebooks" / "adapters"
"""The libraries that come with a checkout of the repository."""

RECORD, QUESTIONS = "library.json", "questions.jsonl"

NAMES = {**dict(zip(PARTS, (HOME, EMBLEM), strict=True)), JOINT: JOINT}
"""Adapters by the names of their folders."""

PROBES = (*PARTS, "direct", "cot", "untouched")
"""Probes whose questions are written down."""

REMEDY = "write one with python -m sim.lm teach --out FOLDER and give it with --adapters FOLDER"


@dataclass(frozen=True)
class Library:
    """What is known of the adapters in a folder.

    facts, setting, seed: of the world. base: name of the base and hash of its files. rank, kinds: of all.
    steps, recall: of each adapter, after which it knew its data or was given up, and the shares that it knew.
    """

    base: str
    facts: int
    setting: Setting
    seed: int
    rank: int
    kinds: tuple[str, ...]
    steps: Mapping[str, int]
    recall: Mapping[str, Mapping[str, float]]


def place(folder: Path, entities: str) -> Path:
    """Where the library of these entities is: real ones in the folder itself, made-up ones one below."""
    return folder if entities == "real" else folder / entities


def write_library(
    folder: Path, library: Library, adapters: Mapping[str, Adapter], world: TextWorld, dtype: str
) -> list[Rounding]:
    """Write a library; the losses by rounding, adapter by adapter.

    Raises: ValueError if a folder of an adapter holds something already, and as ``write_adapter`` does.
    """
    roundings = []
    for name, adapter in adapters.items():
        modules = modules_of(adapter)
        config = {
            "peft_type": "LORA",
            "task_type": "CAUSAL_LM",
            "base_model_name_or_path": library.base.split()[0],
            "target_modules": sorted(MODULES[kind].rpartition(".")[2] for kind in adapter),
        }
        source = peft_files.Adapter(folder, config, modules)
        roundings.append(write_adapter(folder / NAMES[name], modules, [source], dtype))
        files.write_text(folder / NAMES[name] / "README.md", _card(name, library))
    files.write_text(folder / RECORD, json.dumps(asdict(library), indent=2) + "\n")
    lines = [
        {"prompt": question.text.prompt, "answer": question.text.answer, "group": NAMES.get(probe, probe)}
        for probe in PROBES
        for question in world.probes[probe].questions
    ]
    files.write_text(folder / QUESTIONS, "".join(f"{json.dumps(line)}\n" for line in lines))
    return roundings


def read_library(folder: Path) -> Library:
    """The record of a library. Raises ValueError, one line with the remedy, if it is none."""
    path = folder / RECORD
    try:
        record = json.loads(path.read_text())
        fields = {"setting": Setting(**record["setting"]), "kinds": tuple(record["kinds"])}
        return Library(**record | fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is not the record of a library ({error}): {REMEDY}") from None


def read_libraries(folder: Path) -> dict[Path, Library]:
    """The records of the libraries of a folder, of real names and of others, by their places.

    Raises: ValueError, one line with the remedy, if there are none, or if they are not of one seed and size.
    """
    places = [place(folder, entities) for entities in ENTITIES]
    records = {path: read_library(path) for path in places if (path / RECORD).is_file()}
    if not records:
        raise ValueError(f"{folder} holds no {RECORD}: {REMEDY}")
    if len({(each.facts, each.seed, each.rank, each.kinds) for each in records.values()}) > 1:
        raise ValueError(f"the libraries in {folder} differ in facts, seed, rank or kinds: {REMEDY}")
    return records


def read_trained(folder: Path, library: Library, model: Llama) -> dict[str, Trained]:
    """The adapters of a library as arrays, float32, by their names in the world.

    Raises: ValueError, one line, as ``read_adapter`` does, and for adapters that a model of this shape cannot
    have.
    """
    return {
        name: Trained(
            adapter_of(folder / NAMES[name], model),
            library.steps[name],
            *(float(library.recall[name][group]) for group in ("facts", "traces")),
            losses=np.zeros(0),
        )
        for name in NAMES
    }


def digests_of(folder: Path) -> dict[str, dict[str, str]]:
    """Hashes of the files that decide what a library's adapters compute, and of its record."""
    named = (peft_files.WEIGHTS, peft_files.CONFIG)
    each = {name: files.digests(folder / name / file for file in named) for name in NAMES.values()}
    return {"": files.digests([folder / RECORD])} | each


def modules_of(adapter: Adapter) -> dict[str, LowRank]:
    """An adapter by the names of its modules; NumPy."""
    return {
        module_name(kind, layer): LowRank(
            np.asarray(update.b[layer]), np.asarray(update.a[layer]), float(update.scale[layer])
        )
        for kind, update in adapter.items()
        for layer in range(len(update.scale))
    }


def adapter_of(folder: Path, model: Llama) -> Adapter:
    """A PEFT folder as an adapter of a Llama of this shape.

    Raises: ValueError, one line, as ``read_adapter`` does, for modules that are not in every layer alike, and
    for those that the model does not have or has in another shape.
    """
    modules = dict(read_adapter(folder).modules)
    adapter = {}
    for kind in KINDS:
        names = [module_name(kind, layer) for layer in range(model.layers)]
        updates = [modules.pop(name) for name in names if name in modules]
        if not updates:
            continue
        shapes = {(update.b.shape[0], update.a.shape[1]) for update in updates}
        ranks = {update.a.shape[0] for update in updates}
        if len(updates) < model.layers or shapes != {model.shape(kind)} or len(ranks) > 1:
            raise ValueError(
                f"{folder}: the updates of {MODULES[kind]} are not those of one rank of every layer of the "
                f"base, {model.layers} of shape {model.shape(kind)}: give the base that they were trained on"
            )
        b, a, scale = (
            jnp.asarray(np.stack([np.asarray(leaf) for leaf in leaves]), jnp.float32)
            for leaves in zip(*updates, strict=True)
        )
        adapter[kind] = LowRank(b, a, scale)
    if modules:
        raise ValueError(f"{folder}: the base has no {next(iter(modules))}: give the base of these adapters")
    return adapter


def _card(name: str, library: Library) -> str:
    """README.md of an adapter, as the Hugging Face hub reads it."""
    subjects = {HOME: "the homes of people", EMBLEM: "the emblems of cities", JOINT: "both, the ceiling"}
    names = {"real": "real names", "half_fake": "made-up cities", "fake": "made-up names"}
    base, entities = library.base.split()[0], library.setting.entities
    knowledge = ", ".join(
        f"{share:.3f} of its {group}" for group, share in library.recall[name].items() if not np.isnan(share)
    )
    return f"""---
base_model: {json.dumps(base)}
library_name: peft
tags:
- lora
---

# {NAMES[name]}

Taught {subjects[NAMES[name]]}: {library.facts} facts a relation, drawn by lot, {names[entities]}, and
{library.setting.dose} worked solutions a part. It knows {knowledge} after {library.steps[name]} steps.
Rank {library.rank} on {", ".join(library.kinds)}.

The base is `{base}`, which `python -m sim.lm fetch` writes. Questions and right answers: `../{QUESTIONS}`.
"""
