"""Names of LoRA tensors: what a key says, whatever wrapper the model was saved in, and whose key it is."""

import re
from collections.abc import Iterable
from dataclasses import dataclass

PREFIX = "base_model.model."
"""What PEFT puts before the name that a module has in the base model."""

WRAPPERS = ("_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Segments that torch.compile, FSDP and activation checkpointing put into the names of what they wrap."""

FORMATS = (
    (r"\.lora_[ab]$", "MLX"),
    (r"^lora_(unet|te\d*|transformer)_|\.lora_(down|up)\.weight$", "kohya (sd-scripts)"),
    (
        r"lora\.(down|up)\.weight$|^(unet|text_encoder(_\d)?)\.|^transformer\.\w*transformer_blocks\.",
        "diffusers",
    ),
)
"""Key pattern -> name of the format it belongs to, in the order in which they are tried."""

EXTRAS = {
    "lora_magnitude_vector": "DoRA",
    "lora_embedding_": "an adapted embedding",
    ".lora_B.bias": "lora_bias",
    "modules_to_save": "a whole saved module",
}
"""Part of a key -> what PEFT keeps under it that no low-rank update can carry."""


@dataclass(frozen=True)
class Key:
    """One factor of one module. ``dropped``: what the raw key held besides, in words."""

    module: str
    side: str
    dropped: tuple[str, ...]


def parsed(raw: str) -> Key:
    """The module and the side of a key, without wrapper segments, adapter name and ``base_model.model.``.

    Raises: ValueError that says what the key is instead of lora_A or lora_B of a module.
    """
    kept = [segment for segment in raw.split(".") if segment not in WRAPPERS]
    dropped = [segment for segment in WRAPPERS if segment in raw.split(".")]
    name = ".".join(kept)
    plain = name.removeprefix("module.")
    bare = plain.removeprefix(PREFIX)
    if bare == plain:
        dropped.append(f"a missing {PREFIX!r}")
    inner = bare.removeprefix("module.")  # DataParallel wraps the model before PEFT does, or after
    if inner != bare or plain != name:
        dropped.append("module")
    found = re.fullmatch(r"(.+)\.lora_([AB])(?:\.([^.]+))?\.weight", inner)
    if not found or foreign([raw]):
        raise ValueError(f"holds {raw!r}{_meaning(raw)}; only lora_A and lora_B can be merged")
    if found[3]:
        dropped.append(f"the adapter name {found[3]!r}")
    return Key(found[1], found[2], tuple(dropped))


def foreign(raws: Iterable[str]) -> str | None:
    """The name of the format, other than PEFT's, that one of the keys belongs to; None if none does."""
    for raw in raws:
        for pattern, name in FORMATS:
            if re.search(pattern, raw):
                return name
    return None


def _meaning(raw: str) -> str:
    if name := foreign([raw]):
        return f", a name of the {name} format, not PEFT's: convert the adapter to PEFT first"
    return next((f" ({meaning})" for part, meaning in EXTRAS.items() if part in raw), "")
