"""Adapters that name one model's modules in two layouts, and adapters that really share none."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pytest
from folders import DATA, delta, failure, pair
from safetensors.numpy import load_file, save_file

from sim.merge import Adapter, aligned, merge, merge_folders, read_adapter, write_adapter
from sim.merge.layouts import disjoint_pairs, parse_renames, read_adapters, rename_modules, two_layouts
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank


def adapter(names, path="x", shape=(6, 5), **config):
    rng = np.random.default_rng(len(names))
    modules = {
        name: LowRank(rng.normal(size=(shape[0], 2)), rng.normal(size=(2, shape[1])), 1.0) for name in names
    }
    return Adapter(Path(path), config, modules)


def moved(tmp_path, prefix, source="second"):
    """A golden adapter saved from a model that wraps its own under a prefix."""
    folder = tmp_path / prefix
    folder.mkdir()
    tensors = load_file(DATA / "plain" / source / WEIGHTS)
    save_file({key.replace(PREFIX, f"{PREFIX}{prefix}."): t for key, t in tensors.items()}, folder / WEIGHTS)
    (folder / CONFIG).write_bytes((DATA / "plain" / source / CONFIG).read_bytes())
    return folder


LAYOUTS = {
    "language model inside": ("model.layers.0.self_attn.q", "model.language_model.layers.0.self_attn.q"),
    "bare": ("layers.3.self_attn.q", "model.layers.3.self_attn.q"),
    "older wrapper": ("language_model.model.layers.0.q", "model.language_model.layers.0.q"),
    "GPT-2": ("h.0.attn.c_attn", "transformer.h.0.attn.c_attn"),
    "head": ("lm_head", "language_model.lm_head"),
}

OTHERS = {
    "other matrix": ("model.layers.0.self_attn.q", "model.layers.0.self_attn.v"),
    "other layer": ("model.layers.0.q", "model.language_model.layers.1.q"),
    "encoder and decoder": ("encoder.block.0.layer.0.q", "decoder.block.0.layer.0.q"),
    "tower beside tower": ("model.vision_tower.layers.0.q", "model.language_model.layers.0.q"),
    "expert": ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.experts.0.gate_proj"),
    "words inside": ("model.layers.0.experts.0.gate_proj", "model.layers.0.mlp.experts.0.gate_proj"),
    "part of a word": ("model.layers.0.q", "my_model.layers.0.q"),
}


@pytest.mark.parametrize("case", LAYOUTS)
def test_names_that_agree_but_for_a_wrapper_are_two_layouts(case):
    first, other = (adapter([name], path) for name, path in zip(LAYOUTS[case], "ab", strict=True))
    with pytest.raises(ValueError, match=r"^a and b name one model in two layouts: 1 of their modules agree"):
        aligned([first, other])
    assert two_layouts(other, first, [first, other])
    remedies = re.findall(r"--rename (\S*?)=(\S*?),? ", two_layouts(first, other, [first, other]))
    assert len(remedies) == 2 and remedies[0] == remedies[1][::-1]
    for old, new in remedies:  # either makes them one
        one, another = (set(rename_modules(each, {old: new}).modules) for each in (first, other))
        assert one == another, (old, new)


@pytest.mark.parametrize("case", OTHERS)
def test_names_of_other_modules_are_not(case):
    first, other = (adapter([name]) for name in OTHERS[case])
    assert two_layouts(first, other, [first, other]) == "" and len(aligned([first, other])) == 2


def test_modules_of_another_shape_or_of_one_adapter_are_not():
    names = LAYOUTS["language model inside"]
    first, other, narrow = adapter(names[:1]), adapter(names[1:]), adapter(names[1:], shape=(6, 4))
    assert two_layouts(first, other, [first, other]) and not two_layouts(first, narrow, [first, narrow])
    both = adapter(names)  # one model has both
    assert not two_layouts(first, other, [first, other, both]) and not two_layouts(first, both, [first, both])


def test_a_head_that_both_have_hides_nothing():
    first = adapter(["lm_head", "model.layers.0.q", "model.layers.1.q"], "a")
    other = adapter(["lm_head", "model.language_model.layers.0.q", "model.language_model.layers.1.q"], "b")
    with pytest.raises(
        ValueError, match=r"2 of their modules agree but for the prefixes 'model' and 'model\.language"
    ):
        aligned([first, other])


def test_both_halves_of_an_encoder_and_decoder_are_told():
    names = [f"{side}.layers.0.q" for side in ("encoder", "decoder")]
    first, other = adapter(names, "a"), adapter([f"model.{name}" for name in names], "b")
    remedy = two_layouts(first, other, [first, other])
    assert "--rename model.decoder=decoder model.encoder=encoder or " in remedy
    assert rename_modules(
        other, parse_renames(["model.decoder=decoder", "model.encoder=encoder"])
    ).modules.keys() == set(names)


def test_other_base_models_in_two_layouts_are_told_both():
    names = LAYOUTS["language model inside"]
    adapters = [adapter([name], name, base_model_name_or_path=f"org/{i}") for i, name in enumerate(names)]
    with pytest.raises(ValueError, match=r"share no module and name different base models .*--rename model"):
        aligned(adapters)


@pytest.mark.parametrize("rename", [("model.language_model", "model"), ("model", "model.language_model")])
@pytest.mark.parametrize("module", ["sim.merge", "sim.diagnose"])
def test_the_commands_refuse_two_layouts_and_take_the_flag(module, rename, tmp_path, command):
    folders = [moved(tmp_path, "model", "first"), moved(tmp_path, "model.language_model")]
    arguments = [*folders, *(("--method", "sum") if module == "sim.merge" else ())]
    code, _, err = command(module, *arguments, "--out", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists()
    (line,) = [line for line in err.split("\n") if line.startswith("error: ")]
    old, new = rename
    assert "4 of their modules agree but for the prefixes 'model' and 'model.language_model'" in line
    assert f"--rename {old}={new}" in line
    out = tmp_path / "out"
    code, printed, err = command(module, *arguments, "--rename", f"{old}={new}", "--out", out)
    assert code == 0, err
    assert f"prefixes of modules were renamed: {old!r} to {new!r}" in printed
    if module == "sim.diagnose":
        assert all(
            name.startswith(f"{new}.") for name in json.loads((out / "diagnosis.json").read_text())["modules"]
        )
        return
    modules = read_adapter(out).modules
    for name, update in pair("plain")[0].modules.items():
        expected = delta(merge("sum", [update, pair("plain")[1].modules[name]]))
        np.testing.assert_allclose(delta(modules.pop(f"{new}.{name}")), expected, atol=1e-5)
    assert not modules
    targets = json.loads((out / CONFIG).read_text())["target_modules"]
    assert re.fullmatch(targets, f"{new}.layers.0.q_proj") and not re.fullmatch(targets, "layers.0.q_proj")
    assert f"--rename {old}={new} --out" in (out / "README.md").read_text()


RENAMES = {
    ("a.b", "a", "a.b.c"): "a.c",
    ("a", "a.b", "a.c"): "a.b.c",
    ("a", "a.b", "a.b.c"): "a.b.c",  # the longer prefix is there already
    ("", "a", "c.0"): "a.c.0",
    ("", "a", "a.c.0"): "a.c.0",
    ("a", "", "a.c"): "c",
    ("a", "b", "aa.c"): "aa.c",  # whole words
    ("a", "b", "c.a"): "c.a",  # beginnings
    ("l.m", "m.l", "l.m.c"): "m.l.c",
}


@pytest.mark.parametrize(("old", "new", "name"), RENAMES)
def test_a_prefix_is_replaced_at_the_beginning_of_whole_words(old, new, name):
    result = rename_modules(adapter([name]), {old: new})
    assert list(result.modules) == [RENAMES[old, new, name]]
    assert bool(result.note) == (name != RENAMES[old, new, name])


def test_copies_of_base_weights_are_renamed_along(tmp_path):
    copies = {f"{PREFIX}a.lm_head.base_layer.weight": np.ones((3, 5), np.float32)}
    source = dataclasses.replace(adapter(["a.lm_head", "b.q"], peft_type="LORA"), copies=copies)
    result = rename_modules(source, {"a": "c"})
    write_adapter(tmp_path / "out", result.modules, [result])
    again = read_adapter(tmp_path / "out")
    assert list(again.modules) == ["b.q", "c.lm_head"]
    assert list(again.copies) == [f"{PREFIX}c.lm_head.base_layer.weight"]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["layers"], "--rename 'layers': give OLD=NEW"),
        (["a=b=c"], "--rename 'a=b=c': give OLD=NEW"),
        (["x=y"], "--rename x=y changes no module; they have names like layers.0.q_proj"),
        (["layers.0=layers.1"], "--rename gives two modules the name 'layers.1.q_proj'"),
        (["layers.0.q_proj="], "--rename gives a module no name"),
    ],
)
def test_a_rename_that_cannot_be_done_is_one_line(flags, message, tmp_path, command):
    sources = [DATA / "plain" / name for name in ("first", "second")]
    arguments = [*sources, "--method", "sum", "--rename", *flags, "--out", tmp_path / "out"]
    assert message in failure(command, *arguments)


def test_renames_are_read_in_order():
    assert parse_renames(["a=b", "=c", "d="]) == {"a": "b", "": "c", "d": ""}
    assert read_adapters([DATA / "plain" / "first"])[0].modules.keys() == pair("plain")[0].modules.keys()
    result = rename_modules(adapter(["a.x", "d.x"]), {"a": "b", "": "c", "d": ""})
    assert sorted(result.modules) == ["b.x", "c.d.x"]  # the first that fits


def test_fused_experts_are_not_renamed():
    with pytest.raises(ValueError, match="fused experts"):
        rename_modules(adapter(["a.experts[0]"], target_parameters=["experts"]), {"a": "b"})


def test_disjoint_adapters_are_pairs_that_change_no_module_both():
    first, second, both = adapter(["a.0.q"]), adapter(["a.0.v"]), adapter(["a.0.q", "a.0.v"])
    assert disjoint_pairs([first, both, second]) == [(0, 2)] == disjoint_pairs(aligned([first, both, second]))
    idle = dataclasses.replace(
        both, modules={**both.modules, "a.0.q": both.modules["a.0.q"]._replace(b=np.zeros((6, 2)))}
    )
    assert disjoint_pairs([first, idle]) == [(0, 1)]


def test_disjoint_adapters_are_merged_and_diagnosed_and_said_to_be(tmp_path, command):
    sources = []
    for i, name in enumerate(("l.0.q", "l.0.v")):
        one = adapter([name], peft_type="LORA", target_modules=[name[-1]])
        write_adapter(tmp_path / str(i), one.modules, [one])
        sources.append(tmp_path / str(i))
    out = tmp_path / "merge"
    code, printed, err = command("sim.merge", *sources, "--method", "sum", "--out", out)
    assert code == 0, err
    line = "adapters 1 and 2 change no module in common: nothing of theirs is added up"
    assert printed.startswith(f"note: {line}") and f"* {line}" in (out / "README.md").read_text()
    code, printed, err = command("sim.diagnose", *sources, "--out", tmp_path / "diagnosis")
    assert code == 0, err
    assert printed.startswith(f"Not sure: {line}")
    report = json.loads((tmp_path / "diagnosis" / "diagnosis.json").read_text())
    assert report["disjoint"] == [[0, 1]] and report["warnings"][0].startswith(line)
    lost = next(line for line in printed.split("\n") if line.startswith("Lost: "))
    assert lost.startswith("Lost: not known: no two adapters change one module") and "0%" not in lost


def test_one_folder_twice_is_a_question(tmp_path, command):
    folder = DATA / "plain" / "first"
    code, _, err = command("sim.diagnose", folder, folder.parent / "." / "first", "--out", tmp_path / "out")
    assert code == 2 and not (tmp_path / "out").exists()
    assert err.endswith(f"{folder} are the same folder: which other one did you mean?\n")
    for last in (("--method", "sum", "--out", tmp_path / "out"), ("--check", folder)):
        code, _, again = command("sim.merge", folder, folder.parent / "." / "first", *last)
        assert code == 2 and again == err and not (tmp_path / "out").exists()
    with pytest.raises(ValueError, match="are the same folder"):
        merge_folders(folder, folder, method="sum")
