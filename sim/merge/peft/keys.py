"""Names of LoRA tensors: what a key says, whatever wrapper the model was saved in, and whose key it is."""

import re
from collections.abc import Iterable, Sequence
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

VOCABULARY = r"(^|\.)(embed\w*|\w*embeddings?|wte|wpe|shared|lm_head|embed_out)(?=\.|$)"
"""Names of embeddings and output heads, which have a row for each token."""

EXTRAS = (
    (r"lora_magnitude_vector", "DoRA"),
    (r"lora_embedding_", "an adapted embedding"),
    (r"\.lora_B\.bias$", "lora_bias"),
    (r"trainable_tokens", "trained embeddings of single tokens"),
    (r"\.bias$", "a trained bias"),
    (r"(?i)(norm|(^|\.)ln_?)[^.]*(\.modules_to_save.*)?\.weight$", "the trained weights of a norm"),
    (rf"{VOCABULARY}.*\.weight$", "a whole embedding or output head, trained or with a resized vocabulary"),
    (r"(^|\.)(score|classifier|qa_outputs|v_head|classification_head)\..*weight$", "a whole head of a task"),
    (r"modules_to_save|\.weight$", "a whole saved module"),
)
"""Pattern of a key -> what PEFT keeps there that no low-rank update can carry; the first that fits counts."""

FOLD = "train without it, or fold each adapter into its base (PEFT's merge_and_unload) and merge the models"
"""What to do with an adapter that is more than a low-rank update."""


@dataclass(frozen=True)
class Key:
    """One factor of one module. ``dropped``: what the raw key held besides, in words."""

    module: str
    side: str
    dropped: tuple[str, ...]


def parsed(raw: str, shape: Sequence[int] = ()) -> Key:
    """The module and the side of a key, without wrapper segments, adapter name and ``base_model.model.``.

    Raises: ValueError that says what the key, of a tensor of this shape, is instead of lora_A or lora_B of a
    module, and what to do.
    """
    dropped = [segment for segment in WRAPPERS if segment in raw.split(".")]
    name = unwrapped(raw)
    plain = name.removeprefix("module.")
    bare = plain.removeprefix(PREFIX)
    if bare == plain:
        dropped.append(f"a missing {PREFIX!r}")
    inner = bare.removeprefix("module.")  # DataParallel wraps the model before PEFT does, or after
    if inner != bare or plain != name:
        dropped.append("module")
    factor = re.fullmatch(r"(.+)\.lora_([AB])(?:\.([^.]+))?\.weight", inner)
    if not factor or foreign([raw]):
        raise ValueError(f"holds {raw!r:.300}{_meaning(raw, shape)}")
    if factor[3]:
        dropped.append(f"the adapter name {factor[3]!r}")
    return Key(factor[1], factor[2], tuple(dropped))


def unwrapped(raw: str) -> str:
    """A name without the segments of ``WRAPPERS``."""
    return ".".join(segment for segment in raw.split(".") if segment not in WRAPPERS)


def is_vocabulary(module: str) -> bool:
    """Whether a module's name is that of an embedding or an output head."""
    return re.search(VOCABULARY, module) is not None


def foreign(raws: Iterable[str]) -> str | None:
    """The name of the format, other than PEFT's, that one of the keys belongs to; None if none does."""
    for raw in raws:
        for pattern, name in FORMATS:
            if re.search(pattern, raw):
                return name
    return None


def _meaning(raw: str, shape: Sequence[int]) -> str:
    if name := foreign([raw]):
        return f", a name of the {name} format, not PEFT's: convert the adapter to PEFT first"
    kind = next((meaning for pattern, meaning in EXTRAS if re.search(pattern, raw)), "")
    if not kind:
        return "; only lora_A and lora_B can be merged"
    size = f", {' x '.join(map(str, shape))}" if shape else ""
    whole = raw.endswith((".weight", ".bias")) and "lora_" not in raw
    remedy = f"delete it if it is only a copy of the base's; else {FOLD}" if whole else FOLD
    return f" ({kind}{size}); only lora_A and lora_B can be merged: {remedy}"
