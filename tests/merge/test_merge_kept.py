"""What a merge keeps and says: the type of the numbers, absent modules, the loss beforehand, the card."""

import json
import shutil

import ml_dtypes
import numpy as np
import pytest
from folders import DATA, KEY, assert_written, delta, edit_config, edit_tensors, failure, pair
from safetensors.numpy import load_file, save_file

from sim.merge import METHODS, Adapter, aligned, merge_adapters, read_adapter, write_adapter
from sim.merge.adapters import truncation_loss
from sim.merge.peft.config import CONFIG
from sim.merge.peft.experts import experts, fused
from sim.merge.peft.files import WEIGHTS, widest
from sim.merge.peft.keys import PREFIX
from theory.lowrank import LowRank

FIRST, SECOND = (DATA / "plain" / name for name in ("first", "second"))


def copied(tmp_path, source=FIRST, name="copy"):
    return shutil.copytree(source, tmp_path / name)


def in_type(folder, kind):
    save_file({k: v.astype(kind) for k, v in load_file(folder / WEIGHTS).items()}, folder / WEIGHTS)
    return folder


@pytest.mark.parametrize(
    ("types", "options", "expected"),
    [
        (("bfloat16", "bfloat16"), (), "bfloat16"),
        (("float16", "float16"), (), "float16"),
        (("float16", "bfloat16"), (), "float32"),
        (("bfloat16", "float64"), (), "float64"),
        (("bfloat16", "bfloat16"), ("--dtype", "float32"), "float32"),
        (("float32", "float32"), ("--dtype", "bfloat16"), "bfloat16"),
    ],
)
def test_a_merge_is_in_the_type_of_its_sources_or_the_one_asked_for(
    types, options, expected, tmp_path, command
):
    sources = [
        in_type(copied(tmp_path, source, str(i)), np.dtype(kind))
        for i, (source, kind) in enumerate(zip((FIRST, SECOND), types, strict=True))
    ]
    assert [read_adapter(source).dtype for source in sources] == list(types)
    code, out, err = command("sim.merge", *sources, "--method", "sum", *options, "--out", tmp_path / "out")
    assert code == 0 and f", {expected}" in out, err
    tensors = load_file(tmp_path / "out" / WEIGHTS)
    assert {tensor.dtype.name for tensor in tensors.values()} == {expected}
    exact, _ = merge_adapters([read_adapter(source) for source in sources], "sum")
    for name, update in exact.items():
        b, a = (tensors[f"{PREFIX}{name}.lora_{side}.weight"] for side in "BA")
        assert_written(b, a, update, expected)


def test_the_wider_type_of_several_holds_them_all():
    kinds = ("float16", "bfloat16", "float32", "float64")
    for one in kinds:
        for other in kinds:
            widest_info = ml_dtypes.finfo(widest({one, other}))
            for info in map(ml_dtypes.finfo, (one, other)):
                assert widest_info.eps <= info.eps and float(widest_info.max) >= float(info.max), (one, other)
            assert widest([one]) == one


def test_a_number_too_large_for_the_type_is_refused(tmp_path, command):
    """Both factors: of one that is large and one that is small both halves fit."""
    source = copied(tmp_path)
    large = {KEY: np.full((2, 12), 6e4), KEY.replace("lora_A", "lora_B"): np.full((10, 2), 6e4)}
    edit_tensors(source, lambda t: t.update(large))
    arguments = [source, SECOND, "--method", "sum", "--dtype", "float16", "--out", tmp_path / "out"]
    assert "layers.0.q_proj has numbers too large for float16: choose --dtype" in failure(command, *arguments)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.parametrize("method", [name for name, record in METHODS.items() if record.data_free])
def test_an_absent_module_is_merged_as_a_zero_update(method, tmp_path):
    """Also where it is the first adapter that lacks it, and for every method."""
    full = pair("equal_rank")
    name = "layers.1.v_proj"
    less = Adapter(full[0].path, full[0].config, {k: v for k, v in full[0].modules.items() if k != name})
    update = full[0].modules[name]
    zero = LowRank(np.zeros_like(update.b), np.zeros_like(update.a), 1.0)
    filled = Adapter(full[0].path, full[0].config, {**less.modules, name: zero})
    updates, _ = merge_adapters([less, full[1]], method, progress=False)
    expected, _ = merge_adapters([filled, full[1]], method, progress=False)
    assert updates.keys() == expected.keys()
    for module, merged in expected.items():
        assert np.array_equal(delta(updates[module]), delta(merged))
    note = f"{full[0].path}: does not adapt {name}, which others do: taken as Delta W = 0"
    assert [adapter.note for adapter in aligned([less, full[1]])] == [note, ""]


def test_the_command_notes_an_absent_module_and_names_all_targets(tmp_path, command):
    source = copied(tmp_path)
    edit_tensors(source, lambda t: [t.pop(k) for k in list(t) if "layers.1.v" in k])
    out = tmp_path / "out"
    code, printed, err = command("sim.merge", source, SECOND, "--method", "sum", "--out", out)
    assert code == 0, err
    assert printed.startswith(f"note: {source}: does not adapt layers.1.v_proj, which others do")
    second = read_adapter(SECOND).modules["layers.1.v_proj"]
    merged = read_adapter(out).modules["layers.1.v_proj"]
    np.testing.assert_allclose(delta(merged), delta(second), rtol=1e-5)
    targets = json.loads((out / CONFIG).read_text())["target_modules"]
    assert targets == r"layers\.0\.q_proj|layers\.0\.v_proj|layers\.1\.q_proj|layers\.1\.v_proj"


@pytest.mark.parametrize(
    ("method", "weights", "rank"),
    [("sum", (0.7, -0.4), 3), ("average", (1.0, 3.0), 2), ("svd", (), None), ("task_arithmetic", (), 1)],
)
def test_the_loss_said_beforehand_is_that_of_the_dense_sum(method, weights, rank):
    adapters = pair("plain")
    total = lost = 0.0
    for name in adapters[0].modules:
        parts = [adapter.modules[name] for adapter in adapters]
        dense = sum(w * delta(p) for w, p in zip(weights or (1.0, 1.0), parts, strict=True))
        s2 = np.linalg.svd(dense, compute_uv=False) ** 2
        total += s2.sum()
        lost += s2[rank or max(part.a.shape[0] for part in parts) :].sum()
    assert truncation_loss(adapters, method, weights, rank) == pytest.approx(lost / total, rel=1e-5)
    assert lost > 0
    if method != "svd":  # which cuts by itself, and does not say
        merged = merge_adapters(adapters, method, weights, rank=rank, progress=False)[1]
        assert merged == pytest.approx(lost / total, rel=1e-3)


def test_no_cut_loses_nothing_and_what_is_unknown_is_not_said():
    assert truncation_loss(pair("plain"), "sum") == 0
    assert truncation_loss(pair("plain"), "ties", (), 2) is None


def test_the_loss_is_printed_before_the_merge(tmp_path, command):
    code, out, _ = command("sim.merge", FIRST, SECOND, "--method", "svd", "--out", tmp_path / "out")
    first, second = out.strip().split("\n")
    assert code == 0 and first.startswith("the rank will cut off ")
    assert second.endswith(first.replace("the rank will cut off", "the rank cut off"))


def test_the_card_has_the_base_the_command_and_the_method(tmp_path, command):
    source = copied(tmp_path, name="with space")
    edit_config(source, base_model_name_or_path='org/"base"')
    out = tmp_path / "out"
    arguments = ["--method", "dare", "--option", "density=0.5", "--weight", "1", "-0.5", "--seed", "3"]
    code, printed, err = command("sim.merge", source, SECOND, *arguments, "--out", out)
    assert code == 0, err
    text = (out / "README.md").read_text()
    head, _, body = text.removeprefix("---\n").partition("\n---\n")
    assert head.split("\n")[:2] == ['base_model: "org/\\"base\\""', "library_name: peft"]
    assert METHODS["dare"].summary in body and "| rank | 8 |" in body and "| dtype | float32 |" in body
    line = next(line for line in body.split("\n") if line.startswith("python -m sim.merge"))
    assert line == (
        f"python -m sim.merge '{source}' {SECOND} --method dare --weight 1.0 -0.5 --option density=0.5 "
        f"--seed 3 --out {out}"
    )
    assert "* the adapters name different base models: " in body
    assert printed.startswith("note: the adapters name different base models: ")


def test_a_byte_order_mark_and_a_checkpoint_one_folder_down_are_read(tmp_path):
    folder = copied(tmp_path, name="run/checkpoint-50")
    (folder / CONFIG).write_bytes(b"\xef\xbb\xbf" + (folder / CONFIG).read_bytes())
    adapter = read_adapter(tmp_path / "run")
    assert adapter.path == folder and adapter.note == f"{tmp_path / 'run'}: read from checkpoint-50"
    assert adapter.modules.keys() == read_adapter(FIRST).modules.keys()


def test_half_precision_is_read_without_loss(tmp_path):
    folder = shutil.copytree(DATA / "plain" / "first", tmp_path / "half")
    for half in (np.float16, ml_dtypes.bfloat16):
        exact = {k: v.astype(half) for k, v in load_file(DATA / "plain" / "first" / WEIGHTS).items()}
        save_file(exact, folder / WEIGHTS)
        read = read_adapter(folder).modules["layers.0.q_proj"].a
        assert read.dtype == np.float32 and np.array_equal(read, exact[KEY].astype(np.float32))


@pytest.mark.parametrize("size", [0x0480, 0x4B50])
def test_a_sound_file_that_begins_like_a_pickle_or_a_zip_is_read(size, tmp_path):
    """The first bytes of a safetensors file are its header's length, which may spell 0x80 or PK."""
    folder = shutil.copytree(DATA / "plain" / "first", tmp_path / "copy")
    raw = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = raw[8 : 8 + length].ljust(size)
    (folder / WEIGHTS).write_bytes(size.to_bytes(8, "little") + header + raw[8 + length :])
    assert (folder / WEIGHTS).read_bytes()[:1] in (b"\x80", b"P")
    assert read_adapter(folder).modules.keys() == pair("plain")[0].modules.keys()


def test_experts_are_taken_apart_and_put_together_as_peft_multiplies_them():
    """By PEFT's own formula, einsum("o r e, e r i -> e o i") of the reshaped factors."""
    rng = np.random.default_rng(0)
    b, a = rng.normal(size=(5, 6)), rng.normal(size=(6, 4))
    parts = experts("x", "m.experts", LowRank(b, a, 2.0), 2)
    assert list(parts) == ["m.experts[0]", "m.experts[1]", "m.experts[2]"]
    exact = 2.0 * np.einsum("ore,eri->eoi", b.reshape(5, 2, 3), a.reshape(3, 2, 4))
    for expected, part in zip(exact, parts.values(), strict=True):
        np.testing.assert_allclose(delta(part), expected)
    again = fused({name: (part.b, part.a) for name, part in reversed(parts.items())})
    assert np.array_equal(again["m.experts"][0], b) and np.array_equal(again["m.experts"][1], a)
    with pytest.raises(ValueError, match=r"x has lora_A \(6, 4\), which is no number of experts of rank 4"):
        experts("x", "m.experts", LowRank(b, a, 2.0), 4)


COPY = f"{PREFIX}lm_head.base_layer.weight"


def with_copy(tmp_path, name, value):
    folder = copied(tmp_path, FIRST if name == "first" else SECOND, name)
    edit_tensors(folder, lambda t: t.update({COPY: np.full((3, 12), value, ml_dtypes.bfloat16)}))
    return folder


def test_an_identical_copy_of_a_base_layer_goes_along_and_another_is_refused(tmp_path, command):
    first, second = with_copy(tmp_path, "first", 0.5), with_copy(tmp_path, "second", 0.5)
    code, _, err = command("sim.merge", first, second, "--method", "sum", "--out", tmp_path / "out")
    assert code == 0, err
    merged = load_file(tmp_path / "out" / WEIGHTS)
    assert merged[COPY].dtype == ml_dtypes.bfloat16 and (merged[COPY] == 0.5).all()
    assert merged[KEY].dtype == np.float32  # the copy's type is not the factors'
    with_copy(tmp_path / "other", "second", 0.25)
    arguments = [first, tmp_path / "other" / "second", "--method", "sum", "--out", tmp_path / "b"]
    assert f"hold different copies of the base's {COPY}" in failure(command, *arguments)


def test_fused_experts_with_other_targets_or_patterns_are_refused(tmp_path):
    folder = copied(tmp_path)
    edit_config(folder, target_parameters=["experts.w"], rank_pattern={}, alpha_pattern={"q_proj": 2})
    with pytest.raises(ValueError, match="has target_parameters beside rank_pattern or alpha_pattern"):
        read_adapter(folder)
    modules = pair("plain")[0].modules
    sources = [Adapter(tmp_path, {"target_parameters": names}, modules) for names in (["a", "b"], ["b", "a"])]
    with pytest.raises(ValueError, match="differ in their targets: PEFT tells fused experts"):
        aligned(sources)


def test_written_experts_read_back(tmp_path):
    rng = np.random.default_rng(1)
    config = {"peft_type": "LORA", "target_modules": ["q"], "target_parameters": ["experts.w"]}
    modules = {
        f"m.experts[{e}]": LowRank(rng.normal(size=(5, 2)), rng.normal(size=(2, 4)), 3.0) for e in range(12)
    }
    modules["m.q"] = LowRank(rng.normal(size=(4, 3)), rng.normal(size=(3, 4)), -1.0)
    write_adapter(tmp_path / "out", modules, [Adapter(tmp_path, config, modules)])
    assert load_file(tmp_path / "out" / WEIGHTS)[f"{PREFIX}m.experts.lora_A.weight"].shape == (12 * 3, 4)
    again = read_adapter(tmp_path / "out")
    assert again.modules.keys() == modules.keys()
    for name, update in modules.items():
        np.testing.assert_allclose(delta(again.modules[name]), delta(update), rtol=1e-12, atol=1e-12)
