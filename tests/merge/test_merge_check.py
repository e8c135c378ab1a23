"""The check of merges that somebody made: exact ones pass, each way of going wrong is named with its size."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from folders import DATA, delta, edit_config, edit_tensors, failure
from safetensors.numpy import load_file, save_file

from sim.merge import merge_folders, read_adapter
from sim.merge.check import check_merge
from sim.merge.check.compare import Row
from sim.merge.peft.config import CONFIG
from sim.merge.peft.keys import PREFIX

FIRST, SECOND = DATA / "plain" / "first", DATA / "plain" / "second"
MODULES = {name: delta(update) for name, update in read_adapter(FIRST).modules.items()}


@pytest.fixture
def copy(tmp_path):
    return shutil.copytree(FIRST, tmp_path / "copy")


def rows(check, part="update"):
    return [row for row in check.rows if row.part == part]


def test_our_own_merge_is_exact_and_another_weight_is_not(tmp_path, command):
    merge_folders(FIRST, SECOND, method="sum", weights=(1, -0.5)).write(tmp_path / "m")
    check = check_merge(FIRST, SECOND, candidate=tmp_path / "m", weights=(1, -0.5))
    assert check.verdict == [f"Exact: {tmp_path / 'm'} is the sum of {FIRST}, {SECOND} at 1, -0.5."]
    arguments = (FIRST, SECOND, "--weight", 1, 0.5, "--check", tmp_path / "m")
    code, out, _ = command("sim.merge", *arguments)
    assert code == 0 and out.startswith(f"Not exact: {len(MODULES)} of {len(MODULES)} tensors of ")
    for row in rows(check_merge(FIRST, SECOND, candidate=tmp_path / "m", weights=(1, 0.5))):
        one, other = (delta(read_adapter(path).modules[row.name]) for path in (FIRST, SECOND))
        exact, there = one + 0.5 * other, one - 0.5 * other
        assert row.error == pytest.approx(np.linalg.norm(there - exact) / np.linalg.norm(exact), rel=1e-4)
        assert row.factor == pytest.approx(np.sum(there * exact) / np.sum(exact**2), rel=1e-4)


def test_the_scale_of_rslora_is_recognised(copy):
    edit_config(copy, use_rslora=True)
    rank = json.loads((copy / CONFIG).read_text())["r"]
    plain = [row for row in check_merge(FIRST, candidate=copy).rows if row.rank == rank]
    assert plain and all(row.factor == pytest.approx(np.sqrt(rank)) for row in plain)
    assert f"the square root of the rank {rank}: use_rslora says" in "\n".join(
        check_merge(FIRST, candidate=copy).verdict
    )
    assert check_merge(copy, candidate=copy).verdict[0].startswith("Exact: ")


def test_what_a_merge_dropped_or_added_is_named(copy, tmp_path):
    """DoRA's magnitudes, biases and whole tensors of the source; a module and a bias that it has not."""
    module = next(iter(MODULES))
    out = MODULES[module].shape[0]
    whole = shutil.copytree(copy, tmp_path / "whole")
    extras = {
        f"{PREFIX}{module}.lora_magnitude_vector": np.ones(out, np.float32),
        f"{PREFIX}{module}.lora_B.bias": np.full(out, 0.5, np.float32),
        f"{PREFIX}lm_head.weight": np.ones((5, 3), np.float32),
        f"{PREFIX}{module}.bias": np.ones(out, np.float32),
    }
    edit_tensors(whole, lambda tensors: tensors.update(extras))
    edit_config(whole, use_dora=True, lora_bias=True, modules_to_save=["lm_head"], bias="lora_only")
    assert check_merge(whole, candidate=whole).verdict[0].startswith("Exact: ")
    lines = check_merge(whole, candidate=copy).verdict
    assert lines[0].startswith(f"Not exact: 4 of {len(MODULES) + 4} tensors")
    for line in (
        f"DoRA magnitude: dropped ({module}; off by up to 100% of the change)",
        f"bias: dropped ({module}; off by up to 100% of the change)",
        "whole tensor: dropped (layers.0.q_proj.bias and 1 more; off by up to 100% of the change)",
    ):
        assert line in lines
    assert "DoRA magnitude: changed, and it should not be" in "\n".join(
        check_merge(copy, candidate=whole).verdict
    )
    edit_tensors(
        copy, lambda tensors: [tensors.pop(key) for key in [*tensors] if f".{module}." in f".{key}."]
    )
    lines = check_merge(FIRST, candidate=copy).verdict
    assert f"update: dropped ({module}; off by up to 100% of the change)" in lines
    assert "update: changed, and it should not be" in check_merge(copy, candidate=FIRST).verdict[1]


def model(folder, tensors):
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    save_file(tensors, folder / "model.safetensors")
    return folder


@pytest.fixture
def base(tmp_path):
    rng = np.random.default_rng(0)
    tensors = {f"{name}.weight": rng.normal(size=d.shape) for name, d in MODULES.items()}
    tensors |= {"norm.weight": np.ones(4), "embed_tokens.weight": rng.normal(size=(5, 3))}
    return model(tmp_path / "base", {k: v.astype(np.float32) for k, v in tensors.items()})


def change(base, out, how=lambda name, weight: weight, kind=np.float32):
    tensors = load_file(base / "model.safetensors")
    wide = {
        name: weight + MODULES.get(name.removesuffix(".weight"), np.float32(0)).astype(np.float64)
        for name, weight in tensors.items()
    }
    return model(out, {name: np.asarray(how(name, w), kind) for name, w in wide.items()})


def test_a_model_that_the_adapter_was_folded_into(base, tmp_path):
    good = check_merge(FIRST, candidate=change(base, tmp_path / "good"), base=base)
    assert good.verdict == [f"Exact: {tmp_path / 'good'} is {FIRST} folded into {base}."]
    assert len(good.rows) == len(MODULES) + 2
    name = next(iter(MODULES))

    def half(key, weight):
        start = load_file(base / "model.safetensors")[key]
        if key == "norm.weight":
            return 2 * weight
        return start + 0.5 * (weight - start) if key == f"{name}.weight" else weight

    lines = check_merge(FIRST, candidate=change(base, tmp_path / "bad", half), base=base).verdict
    assert lines[0].startswith("Not exact: 2 of ")
    assert f"update: 0.5 times what it should be ({name}.weight; off by up to 50% of the change)" in lines
    assert lines[2].startswith("base: changed, though the adapter leaves it alone (norm.weight; off by")
    assert not any("is --base the base" in line for line in lines)
    other = {name: -weight for name, weight in load_file(base / "model.safetensors").items()}
    strange = check_merge(FIRST, candidate=tmp_path / "good", base=model(tmp_path / "other", other))
    assert "is --base the base of this merge?" in strange.verdict[-1]
    dropped = check_merge(FIRST, candidate=base, base=base)
    assert (
        f"Not exact: {len(MODULES)} of " in dropped.verdict[0] and "update: dropped (" in dropped.verdict[1]
    )


def test_bfloat16_is_measured_by_itself(base, tmp_path):
    check = check_merge(FIRST, candidate=change(base, tmp_path / "m", kind=ml_dtypes.bfloat16), base=base)
    assert check.verdict[0].endswith("to the rounding of bfloat16.")
    row = rows(check)[0]
    weight, step = load_file(base / "model.safetensors")[f"{row.name}"], MODULES[row.name[: -len(".weight")]]
    total = weight + step.astype(np.float64)
    lost = np.linalg.norm(total.astype(ml_dtypes.bfloat16).astype(float) - total) / np.linalg.norm(step)
    assert row.rounding == pytest.approx(lost, rel=1e-6) and row.error == pytest.approx(lost, rel=1e-6)
    assert "Rounding to bfloat16 by itself loses " in check.verdict[1]


def test_dora_folds_as_its_definition_says(base, tmp_path):
    module, step = next(iter(MODULES.items()))
    size = np.linspace(1, 2, step.shape[0])
    dora = shutil.copytree(FIRST, tmp_path / "dora")
    edit_tensors(
        dora, lambda tensors: tensors.update({f"{PREFIX}{module}.lora_magnitude_vector": size.astype("f4")})
    )
    edit_config(dora, use_dora=True)

    def rescale(key, weight):
        return weight * (size / np.sqrt((weight**2).sum(1)))[:, None] if key == f"{module}.weight" else weight

    folder = change(base, tmp_path / "m", rescale)
    assert check_merge(dora, candidate=folder, base=base).verdict[0].startswith("Exact: ")
    assert "DoRA update: " in check_merge(dora, candidate=change(base, tmp_path / "n"), base=base).verdict[1]


def test_a_saved_head_of_a_tied_model(base, tmp_path):
    """A head that was trained apart: dropped where the merged model still ties it to the embedding."""
    whole, head = shutil.copytree(FIRST, tmp_path / "whole"), np.ones((5, 3), np.float32)
    edit_tensors(whole, lambda tensors: tensors.update({f"{PREFIX}lm_head.weight": head}))
    edit_config(whole, modules_to_save=["lm_head"])
    tied = change(base, tmp_path / "tied")
    line = "whole tensor: dropped (lm_head.weight; off by up to 100% of the change)"
    assert line in check_merge(whole, candidate=tied, base=base).verdict
    tensors = load_file(tied / "model.safetensors") | {"lm_head.weight": head}
    good = model(tmp_path / "untied", tensors)
    assert check_merge(whole, candidate=good, base=base).verdict[0].startswith("Exact: ")


def test_bad_input_is_one_line(base, tmp_path, command):
    folder = change(base, tmp_path / "m")
    (tmp_path / "empty").mkdir()
    for arguments, message in (
        ((FIRST, "--check", folder), "is a whole model: give its base as well, with --base"),
        ((FIRST, "--check", folder, "--base", tmp_path / "empty"), "holds no safetensors file"),
        (("--check", folder), "give at least one adapter folder to check a merge of"),
        ((FIRST, "--check", FIRST, "--out", tmp_path / "x"), "--check writes nothing: leave --out away"),
        ((FIRST, "--method", "sum"), "give --out DIR, the folder to write, or --check MERGED"),
    ):
        assert message in failure(command, *arguments)
    tensors = load_file(base / "model.safetensors")
    other = model(tmp_path / "o", {name: np.zeros((2, 7), np.float32) for name in tensors})
    assert "another model" in failure(command, FIRST, "--check", folder, "--base", other)


def test_rounding_explains_only_so_much():
    assert Row("a", "update", 0.02, 1.0, 0.01).exact and not Row("a", "update", 0.03, 1.0, 0.01).exact
