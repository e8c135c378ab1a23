"""A base must be whole, and is another one when its files change; what is wrong with it is one line."""

import json
import shutil
import sys
from pathlib import Path

import pytest

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from small import altered, weights, without  # noqa: E402

from sim.hf import _base  # noqa: E402
from sim.hf._llama import write_tokenizer  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]

MODELS = ("llama", "tied", "gpt2")


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: folder with base, a, b, prompts.jsonl}."""
    return {name: small.write(tmp_path_factory.mktemp(name), name) for name in MODELS}


def refusal(base):
    with pytest.raises(ValueError) as error, _base.quiet():
        _base.load_base(base, None)
    return str(error.value)


def with_prefix(prefix):
    return lambda tensors: {prefix + name: value for name, value in tensors.items()}


class TestWhole:
    """21 tensors: embedding, head, final norm, and nine in each of two layers."""

    @pytest.mark.parametrize(
        ("change", "lines"),
        [
            (
                with_prefix("_orig_mod."),
                [
                    "lacks 21 tensors (lm_head.weight, model.embed_tokens.weight, ",
                    " and 18 more), has unexpected 21 tensors (_orig_mod.lm_head.weight, ",
                    "without the wrapper that renames its tensors (torch.compile,",
                ],
            ),
            (with_prefix("module."), ["lacks 21 tensors", "unexpected 21 tensors (module.lm_head.weight, "]),
            (
                with_prefix("base_model.model."),
                ["lacks 21 tensors", "has unexpected 21 tensors (base_model."],
            ),
            (
                without("layers.1.mlp"),
                [
                    "lacks 3 tensors (model.layers.1.mlp.down_proj.weight, ",
                    "mlp.gate_proj.weight, model.layers.1.mlp.up_proj.weight): copy all its files again",
                ],
            ),
            (without("lm_head"), ["lacks 1 tensor (lm_head.weight): copy"]),
            (
                lambda tensors: tensors | {"v_head.weight": torch.ones(1, 16)},
                ["has unexpected 1 tensor (v_head.weight): give the config.json that"],
            ),
            (
                lambda tensors: tensors | {"model.layers.0.self_attn.q_proj.bias": torch.ones(16)},
                ["has unexpected 1 tensor (model.layers.0.self_attn.q_proj.bias)"],
            ),
            (
                lambda tensors: tensors | {"model.norm.weight": torch.ones(8)},
                ["has in another shape 1 tensor (model.norm.weight (8,) for (16,)): give the config.json"],
            ),
        ],
    )
    def test_tensors_that_differ_are_named_and_counted(self, models, tmp_path, change, lines):
        base = altered(models["llama"] / "base", tmp_path / "base", change)
        message = refusal(base)
        assert message.startswith(str(base)) and all(line in message for line in lines), message

    def test_a_tensor_that_is_no_mask_is_missed_in_gpt2(self, models, tmp_path):
        """transformers passes over unexpected names that match attn.bias, as c_attn.bias does."""
        base = altered(models["gpt2"] / "base", tmp_path / "base", without("h.1.attn.c_attn.bias"))
        assert "lacks 1 tensor (transformer.h.1.attn.c_attn.bias)" in refusal(base)

    def test_a_lost_shard_is_named_by_the_tensors_it_held(self, models, tmp_path):
        whole, (with_index, cut) = models["llama"] / "base", (tmp_path / "shards", tmp_path / "cut")
        model = transformers.AutoModelForCausalLM.from_pretrained(whole)
        model.save_pretrained(with_index, max_shard_size="4KB")
        write_tokenizer(with_index, small.VOCAB)
        for name, weight in weights(whole).items():
            assert torch.equal(weights(with_index)[name], weight)
        shutil.copytree(with_index, cut)
        index = json.loads((cut / "model.safetensors.index.json").read_text())
        lost = sorted(set(index["weight_map"].values()))[1]
        (cut / lost).unlink()
        assert lost in refusal(cut)
        names = sorted(name for name, shard in index["weight_map"].items() if shard == lost)
        index["weight_map"] = {k: v for k, v in index["weight_map"].items() if v != lost}
        (cut / "model.safetensors.index.json").write_text(json.dumps(index))
        assert f"lacks {len(names)} tensors ({', '.join(names)}): " in refusal(cut)
        (with_index / "model.safetensors.index.json").unlink()
        assert "no file named model.safetensors" in refusal(with_index)

    @pytest.mark.parametrize(
        ("name", "change"),
        [
            ("tied", without()),  # the files of a tied model hold no lm_head
            ("tied", lambda t: t | {"lm_head.weight": t["model.embed_tokens.weight"].clone()}),
            ("tied", lambda t: without("embed")(t) | {"lm_head.weight": t["model.embed_tokens.weight"]}),
            ("gpt2", lambda t: {name.removeprefix("transformer."): value for name, value in t.items()}),
            (
                "gpt2",
                lambda t: (
                    t
                    | {f"transformer.h.{i}.attn.bias": torch.ones(1, 1, 8, 8) for i in range(2)}
                    | {f"transformer.h.{i}.attn.masked_bias": torch.tensor(-1e4) for i in range(2)}
                ),
            ),
            (
                "llama",
                lambda t: (
                    t | {f"model.layers.{i}.self_attn.rotary_emb.inv_freq": torch.ones(4) for i in range(2)}
                ),
            ),
        ],
    )
    def test_what_files_rightly_lack_or_hold_besides_changes_nothing(self, models, tmp_path, name, change):
        base = models[name] / "base"
        expected, loaded = weights(base), weights(altered(base, tmp_path / "base", change))
        assert loaded.keys() == expected.keys()
        assert all(torch.equal(loaded[key], value) for key, value in expected.items())

    def test_pickled_weights_are_read_where_no_others_are(self, models, tmp_path):
        base, expected = tmp_path / "base", weights(models["llama"] / "base")
        shutil.copytree(models["llama"] / "base", base)
        torch.save({k: 2 * v for k, v in expected.items()}, base / "pytorch_model.bin")
        assert torch.equal(weights(base)["lm_head.weight"], expected["lm_head.weight"])
        (base / "model.safetensors").unlink()
        assert torch.equal(weights(base)["lm_head.weight"], 2 * expected["lm_head.weight"])
        (base / "pytorch_model.bin").write_bytes(b"junk" * 100)
        assert "cannot be loaded as a causal language model" in refusal(base)

    @pytest.mark.parametrize(
        ("file", "text", "line"),
        [
            ("config.json", '{"model_type": "llama", "hidden_size": "x"}', "'hidden_size' expected int"),
            pytest.param("config.json", "[" * 100_000, "cannot be loaded", id="nested"),
            ("tokenizer.json", "{junk", "the tokenizer of"),
            ("model.safetensors", "junk", "cannot be loaded as a causal language model"),
        ],
    )
    def test_damaged_files_are_one_line(self, models, tmp_path, file, text, line):
        shutil.copytree(models["llama"] / "base", tmp_path / "base")
        (tmp_path / "base" / file).write_text(text)
        message = refusal(tmp_path / "base")
        assert line in message and str(tmp_path / "base") in message

    def test_a_base_without_its_tokenizer(self, models, tmp_path):
        for name in MODELS:
            shutil.copytree(models[name] / "base", tmp_path / name)
            for path in (tmp_path / name).glob("tokenizer*"):
                path.unlink()
            assert "tokenizer" in refusal(tmp_path / name)

    def test_an_adapters_files_in_the_bases_folder(self, models, tmp_path):
        folder, base = models["llama"], tmp_path / "base"
        shutil.copytree(folder / "base", base)
        for path in (folder / "a").glob("adapter_*"):
            shutil.copy(path, base)
        assert "holds an adapter's adapter_config.json beside the base" in refusal(base)
        assert "is not the folder of a model: an adapter's folder" in refusal(folder / "a")
        assert "it holds no config.json" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize(
    ("text", "meaning"),
    [
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "is a Git LFS pointer, not the file"),
        ("<!DOCTYPE html><html></html>", "is a web page, not the file: download the raw file"),
    ],
)
def test_a_pointer_or_a_page_is_named(models, tmp_path, file, text, meaning):
    base = shutil.copytree(models["llama"] / "base", tmp_path / "base")
    (base / file).write_text(text)
    assert refusal(base).startswith(f"{base / file} {meaning}")


def test_both_commands_refuse_a_base_of_other_names_and_write_nothing(models, tmp_path, command):
    folder = models["llama"]
    base = altered(folder / "base", tmp_path / "base", with_prefix("_orig_mod."))
    arguments = [folder / "a", folder / "b", "--base", base, "--prompts", folder / "prompts.jsonl"]
    for module in ("sim.predict", "sim.record"):
        code, printed, err = command(module, *arguments, "--out", tmp_path / "out")
        assert code == 2 and "lacks 21 tensors (lm_head.weight, " in err and err.count("\n") == 1, err
        assert not printed and not (tmp_path / "out").exists()


def test_a_base_changed_in_place_is_another_one(models, tmp_path, command):
    folder = shutil.copytree(models["llama"], tmp_path / "all")
    arguments = [folder / "a", folder / "b", "--base", folder / "base", "--lams", "1"]
    arguments += ["--prompts", folder / "prompts.jsonl", "--out", tmp_path / "out"]
    assert command("sim.predict", *arguments)[0] == 0
    first = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    target = folder / "base" / "model.safetensors"
    altered(folder / "base", folder / "new", lambda t: {k: 1.5 * v for k, v in t.items()})
    assert (folder / "new" / target.name).stat().st_size == target.stat().st_size
    shutil.copy(folder / "new" / target.name, target)
    code, _, err = command("sim.predict", *arguments)
    assert code == 2 and "another configuration (base.model.safetensors: " in err and err.count("\n") == 1
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first
