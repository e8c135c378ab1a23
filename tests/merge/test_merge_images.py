"""Files of image models: kohya and diffusers, every spelling of their keys, exact values, written back."""

import json

import numpy as np
import pytest
from folders import delta, failure
from safetensors.numpy import load_file, save_file

from sim.merge import read_adapter
from sim.merge.peft.images import FILE, parsed_factor

R, IN, OUT = 3, 7, 5


def factors(seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(R, IN)).astype(np.float32), rng.normal(size=(OUT, R)).astype(np.float32)


def kohya(path, seed, alpha=6.0, name="lora_unet_mid_block_to_q", convolution=False):
    a, b = factors(seed)
    end = (slice(None), slice(None), None, None) if convolution else ...
    tensors = {f"{name}.lora_down.weight": a[end], f"{name}.lora_up.weight": b[end]}
    if alpha is not None:
        tensors[f"{name}.alpha"] = np.array(alpha, np.float32)
    save_file({key: np.ascontiguousarray(t) for key, t in tensors.items()}, path)
    return (1 if alpha is None else alpha / R) * b.astype(float) @ a.astype(float)


@pytest.mark.parametrize("convolution", [False, True])
@pytest.mark.parametrize("alpha", [6.0, 1.0, None])
def test_kohya_values(alpha, convolution, tmp_path):
    expected = kohya(tmp_path / "x.safetensors", 0, alpha, convolution=convolution)
    for path in (tmp_path / "x.safetensors", tmp_path):
        adapter = read_adapter(path)
        np.testing.assert_allclose(delta(adapter.modules["lora_unet_mid_block_to_q"]), expected, rtol=1e-6)
    assert adapter.config["format"] == "kohya" and adapter.dtype == "float32"


@pytest.mark.parametrize(
    ("down", "up"),
    [
        ("unet.mid.attn1.to_out.0.lora_A", "unet.mid.attn1.to_out.0.lora_B"),
        ("unet.mid.attn1.to_out.0.lora.down", "unet.mid.attn1.to_out.0.lora.up"),
        ("unet.mid.attn1.processor.to_out_lora.down", "unet.mid.attn1.processor.to_out_lora.up"),
        ("unet.mid.attn1.to_out.0.lora_linear_layer.down", "unet.mid.attn1.to_out.0.lora_linear_layer.up"),
    ],
)
def test_diffusers_values_in_every_spelling(down, up, tmp_path):
    a, b = factors(1)
    save_file({f"{down}.weight": a, f"{up}.weight": b}, tmp_path / "x.safetensors")
    (name, update), *rest = read_adapter(tmp_path / "x.safetensors").modules.items()
    assert name == "unet.mid.attn1.to_out.0" and not rest
    np.testing.assert_allclose(delta(update), b.astype(float) @ a.astype(float), rtol=1e-5, atol=1e-6)


def test_diffusers_metadata_gives_the_scale(tmp_path):
    a, b = factors(2)
    keys = {"unet.x.to_q.lora_A.weight": a, "unet.x.to_q.lora_B.weight": b}
    fields = {"unet.r": R, "unet.lora_alpha": 12, "unet.alpha_pattern": {}, "unet.rank_pattern": {}}
    metadata = {"lora_adapter_metadata": json.dumps(fields)}
    save_file(keys, tmp_path / "x.safetensors", metadata)
    assert read_adapter(tmp_path / "x.safetensors").modules["unet.x.to_q"].scale == 4
    fields["unet.use_rslora"] = True
    save_file(keys, tmp_path / "x.safetensors", {"lora_adapter_metadata": json.dumps(fields)})
    scale = read_adapter(tmp_path / "x.safetensors").modules["unet.x.to_q"].scale
    assert scale == pytest.approx(12 / np.sqrt(R), rel=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("convolution", [False, True])
def test_a_merge_is_the_sum_and_is_written_in_the_same_format(convolution, tmp_path, command):
    first = kohya(tmp_path / "a.safetensors", 0, 6.0, convolution=convolution)
    second = kohya(tmp_path / "b.safetensors", 1, 1.5, convolution=convolution)
    sources = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    out = tmp_path / "out"
    code, _, err = command("sim.merge", *sources, "--method", "sum", "--weight", 1, -0.5, "--out", out)
    assert code == 0, err
    merged = read_adapter(out).modules["lora_unet_mid_block_to_q"]
    np.testing.assert_allclose(delta(merged), first - 0.5 * second, rtol=1e-5, atol=1e-6)
    tensors = load_file(out / FILE)
    assert tensors["lora_unet_mid_block_to_q.lora_down.weight"].ndim == (4 if convolution else 2)
    assert tensors["lora_unet_mid_block_to_q.alpha"] == 2 * R
    assert not (out / "adapter_config.json").exists()
    card = (out / "README.md").read_text()
    assert "\nlibrary_name: diffusers\n" in card and 'pipeline.load_lora_weights(".")' in card
    assert command("sim.diagnose", *sources, "--out", tmp_path / "report")[0] == 0


def test_what_no_merge_can_carry_is_one_line(tmp_path, command):
    kohya(tmp_path / "a.safetensors", 0)
    a, b = factors(1)
    for extra, what in (
        ("lora_unet_x.dora_scale", "DoRA magnitudes"),
        ("lora_unet_x.hada_t1", "a LoHa convolution"),
        ("lora_unet_x.lokr_w1", "LoKr factors"),
    ):
        save_file({"lora_unet_x.lora_down.weight": a, extra: b}, tmp_path / "b.safetensors")
        line = failure(
            command, tmp_path / "a.safetensors", tmp_path / "b.safetensors", *("--method", "sum"),
            *("--out", tmp_path / "out"),
        )  # fmt: skip
        assert what in line and str(tmp_path / "b.safetensors") in line
    save_file({"lora_unet_x.lora_down.weight": a}, tmp_path / "b.safetensors")
    with pytest.raises(ValueError, match="lora_unet_x has no lora_B"):
        read_adapter(tmp_path / "b.safetensors")
    save_file({"unet.x.lora_A.weight": a, "unet.x.lora_B.weight": b}, tmp_path / "b.safetensors")
    sources = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert "kohya format and" in failure(command, *sources, "--method", "sum", "--out", tmp_path / "out")


def loha(path, seed, name="lora_unet_mid_block_to_q", dtype=np.float32, **change):
    """A LoHa file of kohya's tools, and its Delta W by definition: alpha/r (B1 A1) * (B2 A2)."""
    shapes = {"w1_a": (OUT, R), "w1_b": (R, IN), "w2_a": (OUT, R), "w2_b": (R, IN)}
    rng = np.random.default_rng(seed)
    parts = {part: rng.normal(size=shape).astype(dtype) for part, shape in shapes.items()}
    tensors = {f"{name}.hada_{part}": value for part, value in parts.items()}
    tensors[f"{name}.alpha"] = np.array(6.0, dtype)
    save_file({key: value for key, value in (tensors | change).items() if value is not None}, path)
    b1, a1, b2, a2 = (parts[part].astype(float) for part in shapes)
    return 6 / R * (b1 @ a1) * (b2 @ a2)


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_loha_of_kohya_is_its_definition_and_merges_with_lora(dtype, tmp_path, command):
    exact, other = loha(tmp_path / "a.safetensors", 3, dtype=dtype), kohya(tmp_path / "b.safetensors", 1, 1.5)
    adapter = read_adapter(tmp_path / "a.safetensors")
    update = adapter.modules["lora_unet_mid_block_to_q"]
    assert update.a.shape == (R * R, IN) and "LoHa read as exact factors" in adapter.note
    np.testing.assert_allclose(delta(update), exact, rtol=1e-5, atol=1e-6)
    sources, out = (tmp_path / "a.safetensors", tmp_path / "b.safetensors"), tmp_path / "out"
    code, _, err = command("sim.merge", *sources, "--method", "sum", "--weight", 1, -0.5, "--out", out)
    assert code == 0, err
    merged = read_adapter(out).modules["lora_unet_mid_block_to_q"]
    np.testing.assert_allclose(delta(merged), exact - 0.5 * other, rtol=1e-5, atol=1e-5)


def test_loha_without_alpha_has_scale_one(tmp_path):
    exact = loha(tmp_path / "a.safetensors", 3, **{"lora_unet_mid_block_to_q.alpha": None})
    update = read_adapter(tmp_path / "a.safetensors").modules["lora_unet_mid_block_to_q"]
    np.testing.assert_allclose(delta(update), exact * R / 6, rtol=1e-5, atol=1e-6)


def test_loha_that_cannot_be_read_is_one_line(tmp_path):
    name = "lora_unet_mid_block_to_q"
    for change, line in (
        ({f"{name}.hada_w2_b": None}, f"{name} has no factor 'w2_b'; the file is incomplete"),
        ({f"{name}.hada_w2_b": np.ones((R, IN + 1), np.float32)}, "which do not fit together"),
        ({f"{name}.lora_down.weight": np.ones((R, IN), np.float32)}, f"{name} has no lora_B"),
    ):
        loha(tmp_path / "a.safetensors", 0, **change)
        with pytest.raises(ValueError, match=line):
            read_adapter(tmp_path / "a.safetensors")
    loha(tmp_path / "a.safetensors", 0, "lora_unet_down_blocks_0_conv1")
    with pytest.raises(ValueError, match="is a convolution; only linear layers of LoHa"):
        read_adapter(tmp_path / "a.safetensors")


def test_names_of_factors():
    assert parsed_factor("lora_te1_x.alpha") == ("lora_te1_x", "alpha")
    with pytest.raises(ValueError, match="only pairs of factors"):
        parsed_factor("lora_unet_x.weight")
