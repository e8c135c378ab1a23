"""One adapter folded into its base in bfloat16, as a merged model is usually kept."""

import torch

from sim.hf._model import Loaded
from sim.merge.peft.keys import PREFIX


def fold(loaded: Loaded) -> dict[str, float] | None:
    """Put bf16(W + Delta W) in the place of W, for good.

    Delta W is that of adapter 0 at its own scale. Returns: {module: |bf16(W + Delta W) - W - Delta W| /
    |Delta W|}; None, and nothing is changed, where a weight is packed.
    """
    layers = [(name, layer) for name, layer in loaded.model.named_modules() if hasattr(layer, "lora_A")]
    own = {layer: scale for layer, name, scale in loaded.scaling if name == "0"}
    weights = [layer.get_base_layer().weight for _, layer in layers]
    if not all(weight.is_floating_point() for weight in weights):
        return None
    losses = {}
    with torch.inference_mode():
        for (name, layer), weight in zip(layers, weights, strict=True):
            layer.scaling["0"] = own[layer]
            delta = layer.get_delta_weight("0").float()
            total = weight.float() + delta
            narrow = total.to(torch.bfloat16)
            weight.data = narrow.to(weight)
            if size := float(delta.norm()):
                losses[name.removeprefix(PREFIX)] = float((narrow.float() - total).norm()) / size
    return losses
