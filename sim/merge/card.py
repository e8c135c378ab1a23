"""The model card that lies beside a merge: the command, the method, and what it was made of."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sim.lab import report
from sim.merge.peft.files import Adapter
from sim.merge.registry import Method


def card(
    command: str, record: Method, sources: Sequence[Adapter], facts: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """README.md as the Hugging Face hub reads it: the base model in its head, then what was done.

    ``facts``: rows of the table, name and value. ``notes``: what the command said besides.
    """
    config = sources[0].config
    base = config.get("base_model_name_or_path")
    return report.markdown(
        Path(__file__).parent / "card.md",
        base=base and json.dumps(base),
        library="diffusers" if config.get("format") else "peft",
        method=record,
        command=command,
        facts=facts,
        loading=loading(config),
        sources=tuple(sources),
        notes=tuple(notes),
    )


def loading(config: Mapping[str, Any]) -> str:
    """Three lines of Python that load the merge, run in its folder."""
    if config.get("format"):
        return (
            "from diffusers import DiffusionPipeline\n"
            'pipeline = DiffusionPipeline.from_pretrained("BASE")\n'
            'pipeline.load_lora_weights(".")'
        )
    base = config.get("base_model_name_or_path") or "BASE"
    kind = "AutoModelForCausalLM" if config.get("task_type") in (None, "CAUSAL_LM") else "AutoModel"
    return (
        f"from peft import PeftModel; from transformers import {kind}\n"
        f"base = {kind}.from_pretrained({json.dumps(base)})\n"
        'model = PeftModel.from_pretrained(base, ".")'
    )
