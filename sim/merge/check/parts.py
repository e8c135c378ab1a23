"""All that an adapter's folder changes of its base: low-rank updates, and what no low-rank merge carries."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sim.merge.peft.config import CONFIG, read_config
from sim.merge.peft.files import COPY, WEIGHTS, adapter_of, located, read_adapter, read_weights
from sim.merge.peft.keys import PREFIX, unwrapped
from theory.lowrank import LowRank

MORE = ("use_dora", "lora_bias", "modules_to_save", "bias")
"""Fields of a configuration that say what else the files hold, and that folding into a base understands."""

FACTOR = re.compile(
    r"(?P<module>.+)\.(?P<kind>lora_[AB]|lora_magnitude_vector)(\.(?!weight$|bias$)[^.]+)?(\.(?P<side>weight|bias))?"
)
"""A key that belongs to an adapted module."""


@dataclass(frozen=True)
class Parts:
    """What an adapter changes, by the base's names.

    updates: Delta W of each module. magnitudes: DoRA's, (out,). shifts: scale times the bias on lora_B,
    (out,). wholes: tensors that take the place of the base's (``modules_to_save``, trained biases).
    dtype: of the files. transposed: whether the base keeps W as (in, out).
    """

    updates: Mapping[str, LowRank]
    magnitudes: Mapping[str, Float[np.ndarray, " out"]] = field(default_factory=dict)
    shifts: Mapping[str, Float[np.ndarray, " out"]] = field(default_factory=dict)
    wholes: Mapping[str, np.ndarray] = field(default_factory=dict)
    dtype: str = "float32"
    transposed: bool = False


def read_parts(path: Path) -> Parts:
    """The parts of a PEFT folder, or of a file of an image model.

    Raises: ValueError, one line, as ``read_adapter`` does, but for the fields ``MORE``, which are read.
    """
    path = located(path)
    if not (path / CONFIG).is_file():
        adapter = read_adapter(path)
        return Parts(adapter.modules, dtype=adapter.dtype)
    config = read_config(path)
    factors, magnitudes, biases, wholes = {}, {}, {}, {}
    for raw, tensor in read_weights(path).items():
        name = unwrapped(raw).removeprefix("module.").removeprefix(PREFIX).removeprefix("module.")
        key = FACTOR.fullmatch(name)
        if raw.endswith(COPY) or (key and key["kind"] in ("lora_A", "lora_B") and key["side"] == "weight"):
            factors[raw] = tensor
        elif key and key["side"] == "bias":
            biases[key["module"]] = tensor
        elif key:
            magnitudes[key["module"]] = tensor
        elif "lora_" in name:
            raise ValueError(f"{path / WEIGHTS}: holds {raw!r:.300}, which cannot be checked")
        else:
            wholes[re.sub(r"\.(original_module|modules_to_save\.[^.]+)\.", ".", name)] = tensor
    plain = {key: value for key, value in config.items() if key not in MORE}
    adapter = adapter_of(path, plain, factors)
    shifts = {name: bias.astype(np.float64) * adapter.modules[name].scale for name, bias in biases.items()}
    return Parts(
        adapter.modules,
        {name: vector.astype(np.float64).ravel() for name, vector in magnitudes.items()},
        shifts,
        wholes,
        adapter.dtype,
        bool(config.get("fan_in_fan_out")),
    )
