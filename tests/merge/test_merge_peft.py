"""The same folders in PEFT itself (extra ``bench``): what we write it loads, and patterns match alike."""

import sys

import numpy as np
import pytest
from test_merge_files import DATA, ORDERS, PATTERNS, assert_all_close, delta, overlapping, pair

from sim.merge import Adapter, merge_adapters, write_adapter

peft = pytest.importorskip("peft", reason="needs the extra bench (torch, peft): pip install -e '.[bench]'")
torch = pytest.importorskip("torch")
sys.path.insert(0, str(DATA))


@pytest.mark.parametrize(("patterns", "name", "expected"), PATTERNS)
def test_peft_matches_patterns_alike(patterns, name, expected):
    from peft.utils.other import get_pattern_key

    assert patterns.get(get_pattern_key(patterns.keys(), name), 2) == expected


@pytest.mark.parametrize(
    ("kind", "method"), [("plain", "average"), ("plain", "ties"), ("rslora", "sum"), ("rslora", "svd")]
)
def test_a_folder_we_write_loads_with_the_same_delta(kind, method, tmp_path):
    import make_peft_golden as maker

    adapters = pair(kind)
    updates, _ = merge_adapters(adapters, method, [0.7, 0.4])
    write_adapter(tmp_path / "out", updates, adapters)
    model = peft.PeftModel.from_pretrained(maker.Model(kind == "rslora"), tmp_path / "out")
    found = {name: value.numpy() for name, value in maker.delta(model, "default").items()}
    assert_all_close(found, {name: delta(update) for name, update in updates.items()})


def nested(modules):
    """A base model whose linear layers have the names and shapes of the updates; children before parents."""
    root = torch.nn.Module()
    for name, update in modules.items():
        *parents, last = name.split(".")
        place = root
        for parent in parents:
            if not hasattr(place, parent):
                place.add_module(parent, torch.nn.Module())
            place = getattr(place, parent)
        place.add_module(last, torch.nn.Linear(update.a.shape[1], update.b.shape[0], bias=False))
    return root


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("targets", [["proj", "v", "w"], None])
def test_names_that_end_one_another_keep_their_scales(order, targets, tmp_path):
    """Also through the one regular expression of full names, written where the sources name no targets."""
    import make_peft_golden as maker

    modules = overlapping(ORDERS[order])
    source = Adapter(tmp_path, {"peft_type": "LORA", "target_modules": targets}, modules)
    write_adapter(tmp_path / "out", modules, [source])
    model = peft.PeftModel.from_pretrained(nested(modules), tmp_path / "out")
    found = {name: value.numpy() for name, value in maker.delta(model, "default").items()}
    assert_all_close(found, {name: np.asarray(delta(update)) for name, update in modules.items()})
