"""A Llama-type model of Hugging Face's files as the arrays of ``sim.model.llama``."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from sim.merge.check.shards import read_tensor, shards
from sim.model.llama import KINDS, NORMS, Llama, Params
from theory.lowrank import LowRank

MODULES = {kind: f"self_attn.{kind}_proj" for kind in "qkvo"} | {
    kind: f"mlp.{kind}_proj" for kind in ("gate", "up", "down")
}
"""Our kinds of matrices, by Hugging Face's names within a layer."""

LAYER_TENSORS = MODULES | dict(zip(NORMS, ("input_layernorm", "post_attention_layernorm"), strict=True))
TOP_TENSORS = {
    "embed": "model.embed_tokens.weight",
    "final_norm": "model.norm.weight",
    "unembed": "lm_head.weight",
}
UNSUPPORTED = {
    "attention_bias": False, "mlp_bias": False, "hidden_act": "silu", "quantization_config": None,
    "pretraining_tp": 1,
}  # fmt: skip
"""Fields of config.json with the one value that ``sim.model.llama`` computes."""


def module_name(kind: str, layer: int) -> str:
    """Hugging Face's name of a kind of matrix in a layer."""
    return f"model.layers.{layer}.{MODULES[kind]}"


def llama_name(module: str) -> str:
    """The name in a Llama of "<layer>.<kind>" of a decoder of ours.

    The two compute the same where the Llama's hidden activation is ReLU and the second factor of its MLP 1:
    an up_proj of zeros with bias 1. Its gate_proj is then our "up". Both rotate pairs (k, k + K/2).
    """
    layer, kind = module.split(".")
    return module_name({"up": "gate"}.get(kind, kind), int(layer))


def llama_adapter(adapter: Mapping[str, LowRank]) -> dict[str, LowRank]:
    """An adapter with the Llama's names."""
    return {llama_name(module): update for module, update in adapter.items()}


def word(token: int) -> str:
    """What stands for a token in a text; words are separated by spaces."""
    return f"w{token}"


def read_shape(folder: Path) -> Llama:
    """The shape of the model that config.json of a folder describes.

    Raises: ValueError, one line with the remedy, for a folder without a model, a model that is no Llama, or a
    Llama with something that is not supported.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        kind = config.get("model_type")
    except FileNotFoundError:
        raise ValueError(f"{folder} is not the folder of a model: it has no config.json") from None
    except (ValueError, AttributeError, RecursionError, UnicodeDecodeError):
        raise ValueError(
            f"{folder / 'config.json'} is not the configuration of a model: fetch it again"
        ) from None
    if kind != "llama":
        raise ValueError(f"{folder} is a model of type {kind!r}: give a folder of a model of type 'llama'")
    for field, supported in UNSUPPORTED.items():
        if (value := config.get(field, supported)) != supported:
            raise ValueError(f"{folder}: a Llama with {field} = {json.dumps(value)} is not supported")
    try:
        return _shape(config)
    except (KeyError, TypeError, ZeroDivisionError) as error:
        raise ValueError(f"{folder / 'config.json'} lacks {error}: fetch it again") from None


def _shape(config: dict[str, Any]) -> Llama:
    heads, width = config["num_attention_heads"], config["hidden_size"]
    # Files written before version 5 of transformers have the base and the scaling of the angles apart.
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rule = rope.get("rope_type", rope.get("type", "default"))
    if rule not in ("default", "llama3"):
        raise ValueError(f"rotary positions of type {rule!r} are not supported: 'default' and 'llama3' are")
    fields = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")
    return Llama(
        vocab=config["vocab_size"],
        layers=config["num_hidden_layers"],
        width=width,
        heads=heads,
        groups=config.get("num_key_value_heads") or heads,
        head=config.get("head_dim") or width // heads,
        hidden=config["intermediate_size"],
        theta=float(rope.get("rope_theta", config.get("rope_theta", 10000.0))),
        epsilon=float(config["rms_norm_eps"]),
        tied=bool(config.get("tie_word_embeddings", False)),
        scaling=tuple(float(rope[field]) for field in fields) if rule == "llama3" else (),
    )


def read_params(folder: Path, model: Llama, dtype: Any = jnp.float32) -> Params:
    """The parameters of a folder's safetensors files, layers of a kind in one array.

    Raises: ValueError, one line that names tensors, for files that are missing or broken, tensors that are
    missing, unexpected, or of another shape.
    """
    places = shards(folder, "--base")
    expected = {name: _expected(model, name) for name in _names(model)}
    spare = {"lm_head.weight"} if model.tied else set()
    unexpected = [
        n for n in places if n not in expected and n not in spare and not n.endswith("rotary_emb.inv_freq")
    ]
    for names, what in (([n for n in expected if n not in places], "lacks"), (unexpected, "has unexpected")):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise ValueError(
                f"{folder} {what} {', '.join(names[:3])}{more}: it is another model, or a part of one"
            )
    tensors = {name: read_tensor(places, name) for name in expected}
    for name, shape in expected.items():
        if tensors[name].shape != shape:
            raise ValueError(f"{folder}: {name} is {tensors[name].shape}, config.json says {shape}")

    def cast(name: str) -> np.ndarray:
        return tensors.pop(name).astype(dtype)

    params = {name: jnp.asarray(cast(top)) for name, top in TOP_TENSORS.items() if top in expected}
    for kind in (*KINDS, *NORMS):
        names = [f"model.layers.{layer}.{LAYER_TENSORS[kind]}.weight" for layer in range(model.layers)]
        params[kind] = jnp.asarray(np.stack([cast(name) for name in names]))
    return params


def _names(model: Llama) -> list[str]:
    top = [name for key, name in TOP_TENSORS.items() if key != "unembed" or not model.tied]
    layers = range(model.layers)
    return top + [
        f"model.layers.{layer}.{name}.weight" for layer in layers for name in LAYER_TENSORS.values()
    ]


def _expected(model: Llama, name: str) -> tuple[int, ...]:
    """The shape of a tensor by its name."""
    if name in (TOP_TENSORS["embed"], TOP_TENSORS["unembed"]):
        return model.vocab, model.width
    kinds = (kind for kind, module in MODULES.items() if f".{module}." in name)
    kind = next(kinds, None)
    return model.shape(kind) if kind else (model.width,)
