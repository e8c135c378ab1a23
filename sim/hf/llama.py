"""A decoder of ours as a Llama: the names of its matrices there.

The two compute the same where the Llama's hidden activation is ReLU and the second factor of its MLP is 1:
an up_proj of zeros with bias 1. Its gate_proj is then our "up". Both rotate pairs (k, k + K/2).
"""

from sim.hf.weights import module_name
from sim.model.lora import Adapter
from theory.lowrank import LowRank


def llama_name(module: str) -> str:
    """The Llama's name of "<layer>.<kind>"."""
    layer, kind = module.split(".")
    return module_name({"up": "gate"}.get(kind, kind), int(layer))


def llama_adapter(adapter: Adapter) -> dict[str, LowRank]:
    """An adapter with the Llama's names."""
    return {llama_name(module): update for module, update in adapter.items()}


def word(token: int) -> str:
    """What stands for a token in a text; words are separated by spaces."""
    return f"w{token}"
