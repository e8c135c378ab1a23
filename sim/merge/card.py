"""The model card that lies beside a merge: the command, the method, and what it was made of."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sim.merge.peft.files import Adapter
from sim.merge.registry import Method


def card(
    command: str, record: Method, sources: Sequence[Adapter], facts: Mapping[str, Any], notes: Sequence[str]
) -> str:
    """README.md as the Hugging Face hub reads it: the base model in its head, then what was done.

    ``facts``: rows of the table, name and value. ``notes``: what the command said besides.
    """
    base = sources[0].config.get("base_model_name_or_path")
    head = [f"base_model: {json.dumps(base)}"] if base else []
    library = "diffusers" if sources[0].config.get("format") else "peft"
    head += [f"library_name: {library}", "tags:", "- lora", "- merge"]
    rows = [f"| {name} | {_cell(value)} |" for name, value in facts.items()]
    parts = [
        "---\n" + "\n".join(head) + "\n---",
        f"# {record.name} of {len(sources)} LoRA adapters",
        f"{record.summary}",
        f"```sh\n{command}\n```",
        "| | |\n|---|---|\n" + "\n".join(rows),
        f"To load it:\n\n```python\n{loading(sources[0].config)}\n```",
        "`python -m sim.merge --recipe recipe.yaml --out DIR` makes it again.",
        "\n".join(f"{i + 1}. `{source.path}`" for i, source in enumerate(sources)),
        *(["\n".join(f"* {note}" for note in notes)] if notes else []),
        "Nobody has tested this merge. `python -m sim.diagnose` on the same folders says what theory "
        "expects of it.",
    ]
    return "\n\n".join(parts) + "\n"


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


def _cell(value: Any) -> str:
    return str(value).replace("|", "\\|")
