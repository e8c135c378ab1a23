"""Adapters on a base: the factors that were read, tokens that it has, numbers that are finite."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

sys.path.insert(0, str(Path(__file__).parent))

import small  # noqa: E402
import torch  # noqa: E402
import transformers  # noqa: E402
from small import altered, answers, reconfigured, weights, without  # noqa: E402

from sim.hf import _base, _model, _run  # noqa: E402
from sim.hf._llama import write_tokenizer  # noqa: E402
from sim.hf.prompts import Prompt, read_prompts  # noqa: E402
from sim.hf.tokens import batch, question, questions  # noqa: E402
from sim.lab.store.database import Database  # noqa: E402
from sim.merge import read_adapter  # noqa: E402
from sim.predict import predict_merges  # noqa: E402

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("llama")]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """{name: folder with base, a, b, prompts.jsonl}."""
    return {name: small.write(tmp_path_factory.mktemp(name), name) for name in ("llama", "gpt2")}


class TestFactors:
    """PEFT runs the factors that sim.merge reads, whatever names and settings stand in the files."""

    def test_names_with_a_wrapper_give_the_same_logits(self, models, tmp_path):
        folder = shutil.copytree(models["llama"], tmp_path / "all")
        altered(
            folder / "a",
            folder / "wrapped",
            lambda t: {k.replace("model.layers", "_orig_mod.model.layers"): v for k, v in t.items()},
            "adapter_model.safetensors",
        )
        plain, _ = answers(folder, ("a", "b"))
        np.testing.assert_array_equal(answers(folder, ("wrapped", "b"))[0], plain)
        reverse, _ = answers(folder, ("b", "wrapped"), (0.5, 1.0))
        np.testing.assert_allclose(reverse, plain, rtol=1e-4, atol=1e-6)  # the sum is taken in another order
        assert np.abs(answers(folder, ("b", "wrapped"), (0.5, 0.0))[0] - plain).max() > 1e-3

    def test_modules_that_a_file_lacks_are_not_changed(self, models, tmp_path):
        """Its configuration names the modules of both layers; PEFT draws the second's factors at random."""
        folder = shutil.copytree(models["llama"], tmp_path / "all")
        half = altered(folder / "a", folder / "half", without("layers.1."), "adapter_model.safetensors")
        logits, loaded = answers(folder, ("half", "b"), (1.0, 0.0))
        base = transformers.AutoModelForCausalLM.from_pretrained(folder / "base").eval()
        for name, update in read_adapter(half).modules.items():
            change = update.scale * update.b @ update.a
            base.get_submodule(name).weight.data += torch.tensor(change)
        tokens = loaded.tokenizer("w1 w2 w3")["input_ids"]
        with torch.no_grad():
            expected = base(input_ids=torch.tensor([tokens])).logits[0, -1].numpy()
        np.testing.assert_allclose(logits[0], expected, rtol=1e-4, atol=1e-6)

    def test_a_configuration_of_other_modules_is_refused(self, models, tmp_path):
        folder = shutil.copytree(models["llama"], tmp_path / "all")
        reconfigured(folder / "a", folder / "other", target_modules=["q_proj"])
        with pytest.raises(ValueError, match=r"factors of .*down_proj that its adapter_config.json does not"):
            answers(folder, ("other", "b"))

    def test_a_copy_of_the_bases_weights_must_be_the_bases(self, models, tmp_path):
        folder, file = shutil.copytree(models["llama"], tmp_path / "all"), "adapter_model.safetensors"
        prefix, head = "base_model.model.lm_head", weights(folder / "base")["lm_head.weight"]
        factors = {f"{prefix}.lora_A.weight": torch.ones(3, 16)}
        factors |= {f"{prefix}.lora_B.weight": torch.ones(small.VOCAB, 3)}
        copies = {"same": head, "coarse": head.bfloat16(), "other": head + 0.1, "wide": torch.ones(40, 16)}
        targets = ["q_proj", "down_proj", "lm_head"]
        source = reconfigured(folder / "a", folder / "source", target_modules=targets)
        for name, copy in copies.items():
            more = factors | {f"{prefix}.base_layer.weight": copy}
            altered(source, folder / name, lambda t, more=more: t | more, file)
        plain, _ = answers(folder, ("same", "b"))
        assert np.isfinite(plain).all()
        np.testing.assert_allclose(answers(folder, ("coarse", "b"))[0], plain, atol=0.02)
        for name in ("other", "wide"):
            with pytest.raises(ValueError, match=r"brings lm_head\.weight along, and it is not that of"):
                answers(folder, (name, "b"))

    def test_a_flag_against_the_layers_is_said_and_changes_nothing(self, models, tmp_path):
        folder = shutil.copytree(models["gpt2"], tmp_path / "all")
        for name in ("a", "b"):
            reconfigured(folder / name, folder / f"{name}_flat", fan_in_fan_out=False)
        plain, loaded = answers(folder, ("a", "b"))
        assert not loaded.notes
        logits, loaded = answers(folder, ("a_flat", "b_flat"))
        np.testing.assert_array_equal(logits, plain)
        assert [note.split(": ")[0] for note in loaded.notes] == [f"{folder}/a_flat", f"{folder}/b_flat"]
        assert "says fan_in_fan_out: false, but transformer.h.0.attn.c_attn is a Conv1D" in loaded.notes[0]

    def test_an_adapter_of_a_wider_base_is_still_refused(self, models, tmp_path):
        folder = shutil.copytree(models["gpt2"], tmp_path / "all")
        altered(
            folder / "a",
            folder / "wide",
            lambda t: {k: torch.cat([v, v]) if "c_attn.lora_B" in k else v for k, v in t.items()},
            "adapter_model.safetensors",
        )
        with pytest.raises(ValueError, match=r"as \(96, 16\) \(out, in\), in .* it is \(48, 16\): it is for"):
            answers(folder, ("wide", "b"))


class TestTokens:
    def test_a_token_without_a_row_is_named_by_its_line(self, models, tmp_path):
        base = shutil.copytree(models["llama"] / "base", tmp_path / "base")
        write_tokenizer(base, 40)
        with _base.quiet():
            tokenizer, _ = _base.load_base(base, None)
        prompts = [Prompt("w1 w29", " w3", "edits", 1), Prompt("w1 w30", " w3", "edits", 2)]
        assert len(questions(tokenizer, prompts[:1], None, 30)[0]) == 1
        with pytest.raises(ValueError, match=r"line 2 has the token 'w30' of id 30, and .* embeddings of 30"):
            questions(tokenizer, prompts, None, 30)

    def test_the_rows_are_those_of_the_smaller_end(self, models):
        _, loaded = answers(models["llama"], ("a", "b"))
        assert loaded.rows == small.VOCAB
        assert _model._rows(torch.nn.Linear(4, 7)) == 7 and _model._rows(torch.nn.Embedding(9, 4)) == 9

    def test_what_a_tokenizer_cannot_cut(self):
        def tokenizer(text):
            raise Exception("WordLevel error: Missing [UNK] token")

        with pytest.raises(ValueError, match="line 3 cannot be cut into tokens: WordLevel error"):
            question(tokenizer, Prompt("a", "b", "edits", 3))


BROKEN = "model.layers.1.mlp.up_proj"


@pytest.fixture(scope="module")
def faulty(models, tmp_path_factory):
    """The Llama with bases that have NaN in one matrix, and in one token, and an adapter that overflows."""
    folder = shutil.copytree(models["llama"], tmp_path_factory.mktemp("finite") / "all")
    broken = {f"{BROKEN}.weight": torch.full((24, 16), torch.nan)}
    altered(folder / "base", folder / "nan", lambda t: t | broken)
    token, embedding = torch.ones(small.VOCAB, 1), "model.embed_tokens.weight"
    token[5] = torch.inf
    altered(folder / "base", folder / "one", lambda t: t | {embedding: t[embedding] * token})
    source = reconfigured(folder / "a", folder / "source", target_modules=["q_proj", "k_proj", "down_proj"])
    file = "adapter_model.safetensors"
    altered(source, folder / "huge", lambda t: {k: 1e7 * v for k, v in with_keys(t).items()}, file)
    altered(source, folder / "large", lambda t: {k: 1e3 * v for k, v in with_keys(t).items()}, file)
    return folder


def with_keys(tensors):
    """Factors of q_proj for k_proj as well, which has half its rows."""
    queries = {name: value for name, value in tensors.items() if "q_proj" in name}
    keys = {name: value[:8] if "lora_B" in name else value for name, value in queries.items()}
    return tensors | {name.replace("q_proj", "k_proj"): value for name, value in keys.items()}


class TestFinite:
    def message(self, faulty, *how, **also):
        with pytest.raises(ValueError) as error:
            answers(faulty, *how, **also)
        return str(error.value)

    def test_base_prompt_and_layer_are_named(self, faulty):
        text = self.message(faulty, ("a", "b"), (0.0, 0.0), base="nan")
        assert text.startswith(f"{faulty}/nan: the logits for the prompt of line 1 are not finite, ")
        assert f"first behind {BROKEN}, whose weights hold NaN or infinity: copy the files of" in text

    def test_the_prompt_is_the_one_with_the_token(self, faulty):
        text = self.message(faulty, ("a", "b"), (0.0, 0.0), base="one")
        assert "prompt of line 2 are not finite, first behind model.embed_tokens, whose weights" in text

    def test_the_adapter_is_named_with_its_strength(self, faulty):
        """Queries and keys of 1e44 give scores that float32 does not hold."""
        text = self.message(faulty, ("huge", "b"), (1e30, 0.0))
        start = f"{faulty}/base with {faulty}/huge at 1e+30: the logits for the prompt of line "
        assert text.startswith(start)
        assert "first behind model.layers.0.self_attn.o_proj: the change is too large" in text
        assert answers(faulty, ("huge", "b"), (0.0, 1.0))[0].shape == (3, small.VOCAB)

    def test_half_precision_is_named_where_it_is_the_reason(self, faulty):
        """Queries of 1e6 are beyond the largest number of float16, 65,504."""
        text = self.message(faulty, ("b", "large"), (0.0, 1.0), dtype="float16")
        assert f"{faulty}/large at 1: " in text and text.endswith(": use --dtype bfloat16 or float32")
        assert np.isfinite(answers(faulty, ("b", "large"), (0.0, 1.0))[0]).all()

    def test_activations_are_refused_where_the_logits_are_finite(self, faulty):
        """A hook that puts 0 for NaN behind the next matrix hides them from the logits."""
        loaded = _model.load(faulty / "nan", [read_adapter(faulty / "a")], None, "cpu")
        items, _ = questions(loaded.tokenizer, read_prompts(faulty / "prompts.jsonl"), None, loaded.rows)
        down = BROKEN.replace("up_proj", "down_proj")
        layer = loaded.model.get_base_model().get_submodule(down)
        layer.register_forward_hook(lambda _, inputs, output: output.nan_to_num())
        assert _run.module_inputs(loaded, batch(items), [BROKEN])[BROKEN].isfinite().all()
        with pytest.raises(ValueError, match=rf"activations that enter {down} for the prompt of line 1 are"):
            _run.module_inputs(loaded, batch(items), [down])

    def test_both_commands_refuse_and_keep_what_was_written(self, faulty, tmp_path, command):
        arguments = [faulty / "a", faulty / "b", "--prompts", faulty / "prompts.jsonl", "--base"]
        features, out = tmp_path / "f.safetensors", tmp_path / "out"
        assert command("sim.record", *arguments, faulty / "base", "--out", features)[0] == 0
        before = load_file(features)
        assert all(np.isfinite(tensor).all() for tensor in before.values())
        code, _, err = command("sim.record", *arguments, faulty / "nan", "--out", features)
        assert code == 2 and "not finite, first behind" in err and err.count("\n") == 1, err
        assert load_file(features).keys() == before.keys() and len(list(tmp_path.iterdir())) == 1
        arguments += [faulty / "one", "--out", out, "--batch-size", 1, "--lams", 0.25, 0.5, 0.75, 1]
        code, _, err = command("sim.predict", *arguments)
        last = err.strip().split("\n")[-1]  # behind the bar of the prompt that was answered
        assert code == 2 and last.startswith("error: ") and "line 2 are not finite" in last, err
        database = Database(out / "answers.sqlite")
        assert "1 1/000000" in database.done() and "1 1/000001" not in database.done()
        database.close()


def test_a_bos_in_the_prompt_is_read_once_and_said_once(models, tmp_path, command):
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordLevel

    folder = shutil.copytree(models["llama"], tmp_path / "all")
    words = {f"w{i}": i for i in range(small.VOCAB - 1)} | {"<s>": small.VOCAB - 1}
    tokenizer = Tokenizer(WordLevel(words, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.add_special_tokens(["<s>"])
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", small.VOCAB - 1)]
    )
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>").save_pretrained(
        folder / "base"
    )
    rows = {}
    for name, start in (("with", "<s> "), ("without", "")):
        lines = [{"prompt": f"{start}{prompt}", "answer": " w4"} for prompt in ("w1 w2", "w3")]
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
        out = tmp_path / f"{name}.safetensors"
        arguments = [folder / "a", "--base", folder / "base", "--prompts", tmp_path / name, "--out", out]
        code, printed, err = command("sim.record", *arguments)
        assert code == 0, err
        notes = [line for line in printed.split("\n") if line.startswith("note: ")]
        rows[name] = load_file(out)
        assert notes == (
            [
                "note: 2 of 2 prompts begin with '<s>' (line 1), which the tokenizer puts in front as well: "
                "the model reads it once"
            ]
            if start
            else []
        )
    for name, values in rows["with"].items():
        np.testing.assert_array_equal(values, rows["without"][name])
    arguments = {"base": folder / "base", "prompts": tmp_path / "with", "out": tmp_path / "out", "lams": (1,)}
    assert sum("'<s>'" in note for note in predict_merges(folder / "a", folder / "b", **arguments).notes) == 1
