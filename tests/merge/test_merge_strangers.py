"""Files from strangers: hostile or mistaken ones are one line, exit 2, and end in bounded time."""

import json
import shutil
import time

import numpy as np
import pytest
from folders import DATA, edit_config, edit_tensors, failure
from safetensors.numpy import save_file

from sim.merge import read_adapter
from sim.merge.peft import patterns
from sim.merge.peft.config import CONFIG
from sim.merge.peft.contents import DEEPEST, parse_json
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX, is_vocabulary, parsed

FIRST, SECOND = (DATA / "plain" / name for name in ("first", "second"))

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935\nsize 8405600\n"
LFS_REMEDY = (
    "is a Git LFS pointer, not the file: run git lfs pull in its repository, or download the raw file"
)
PAGE_REMEDY = "is a web page, not the file: download the raw file"
MISTAKEN = {
    "pointer": (LFS, LFS_REMEDY),
    "page": (b"<!DOCTYPE html>\n<html lang='en'>", PAGE_REMEDY),
    "page in small letters": (b"\n  <html><head>", PAGE_REMEDY),
    "page with a mark": (b"\xef\xbb\xbf<!doctype HTML>", PAGE_REMEDY),
    "nothing": (b"", "is empty: copy it again"),
    "gzip": (b"\x1f\x8b\x08" + bytes(20), "is a gzip archive: unpack it"),
}


@pytest.mark.parametrize("file", [WEIGHTS, CONFIG])
@pytest.mark.parametrize("kind", MISTAKEN)
def test_what_is_not_the_file_is_named(kind, file, tmp_path):
    folder = shutil.copytree(SECOND, tmp_path / "x")
    content, meaning = MISTAKEN[kind]
    (folder / file).write_bytes(content)
    with pytest.raises(ValueError) as refusal:
        read_adapter(folder)
    assert str(refusal.value).startswith(f"{folder / file} {meaning}")


def test_an_answer_saved_as_tensors_is_shown(tmp_path):
    folder = shutil.copytree(SECOND, tmp_path / "x")
    (folder / WEIGHTS).write_text("Invalid username or password.")
    with pytest.raises(ValueError, match=r"it holds the text 'Invalid username or password\.'\)"):
        read_adapter(folder)


def with_text(tmp_path, field, text):
    """An adapter whose configuration has a field with this JSON text."""
    folder = shutil.copytree(SECOND, tmp_path / "x")
    edit_config(folder, **{field: "@"})
    (folder / CONFIG).write_text((folder / CONFIG).read_text().replace('"@"', text))
    return folder


BOUNDS = {
    "whole file": ("loftq_config", "[" * 100_000, "nested without end"),
    "field": ("loftq_config", "[" * 900 + "]" * 900, "nested more than 32 deep"),
    "tables": ("auto_mapping", '{"a":' * 40 + "1" + "}" * 40, "nested more than 32 deep"),
    "digits": ("r", "1" * 5000, "a number of 5000 digits"),
    "fewer digits": ("lora_alpha", "-" + "1" * 400, "a number of 401 digits"),
    "half a character": ("revision", '"\\ud800"', "half a character"),
    "infinity": ("r", "1e999", "'r' must be a number, found inf"),
    "not a number": ("lora_alpha", "NaN", "'lora_alpha' must be a number, found nan"),
    "alpha too large": ("lora_alpha", "1e300", "'lora_alpha' must be a number, found 1e+300; the largest is"),
    "alpha too small": (
        "lora_alpha",
        "1e-300",
        "has an update of norm 8e-301 at scale 5e-301, which float32",
    ),
    "rsLoRA in words": ("use_rslora", '"false"', "use_rslora must be true or false, found 'false'"),
    "targets": ("target_modules", '["q", 1]', "target_modules must be a text or a list of texts, found"),
    "layers": ("layers_to_transform", '"all"', "layers_to_transform must be a whole number or a list"),
    "base": ("base_model_name_or_path", "{}", "base_model_name_or_path must be a text, found {}"),
    "long value": ("surprise", json.dumps(["x" * 9999] * 99), "sets 'surprise' to ['xxxxxxxxxxxx..."),
}


@pytest.mark.parametrize("case", BOUNDS)
def test_values_out_of_bounds_are_one_short_line(case, tmp_path, command):
    field, text, message = BOUNDS[case]
    folder = with_text(tmp_path, field, text)
    line = failure(command, FIRST, folder, "--method", "sum", "--out", tmp_path / "out")
    assert message in line and str(folder) in line and len(line) < 600


def test_factors_too_large_for_float32_are_refused(tmp_path, command):
    folder = shutil.copytree(SECOND, tmp_path / "x")
    edit_tensors(folder, lambda t: [each.fill(1e8) for each in t.values()])
    line = failure(command, FIRST, folder, "--method", "sum", "--out", tmp_path / "out")
    assert "layers.0.q_proj has an update of norm 7e+17 at scale 3, which float32 cannot hold" in line


def test_a_side_of_length_zero_is_refused(tmp_path):
    folder = shutil.copytree(SECOND, tmp_path / "x")
    edit_tensors(folder, lambda t: t.update({k: each[:, :0] for k, each in t.items() if "lora_A" in k}))
    with pytest.raises(ValueError, match=r"layers\.0\.q_proj has lora_A \(2, 0\) and lora_B \(10, 2\), but"):
        read_adapter(folder)


def test_json_within_the_bounds_is_json():
    deepest = "[" * DEEPEST + "]" * DEEPEST
    for text in ("1", "[1.5e3, -7, null]", '{"a": {"b": "\\u00e9"}}', deepest, "9" * 30):
        assert parse_json(text) == json.loads(text)
    for text, reason in ((f"[{deepest}]", "nested more than 32 deep"), ("9" * 31, "a number of 31 digits")):
        with pytest.raises(ValueError, match=reason):
            parse_json(text)


ENDLESS = "(([a-z0-9_.]+)+)+!"
FIELDS = {
    "rank_pattern": {ENDLESS: 2},
    "alpha_pattern": {"(.|.|.)" * 30 + "!": 2},  # without any repetition
    "target_modules": ENDLESS,
    "exclude_modules": ENDLESS,
    "layers_pattern": ["layers", ENDLESS],
}


@pytest.mark.slow
@pytest.mark.parametrize("field", FIELDS)
def test_a_pattern_that_never_ends_is_refused_in_time(field, tmp_path, monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 1.0)
    folder = shutil.copytree(SECOND, tmp_path / "x")
    long = f"{PREFIX}model.language_model.transformer.decoder."
    edit_tensors(folder, lambda t: [t.update({k.replace(PREFIX, long): t.pop(k)}) for k in list(t)])
    edit_config(folder, **{field: FIELDS[field]})
    start = time.monotonic()
    with pytest.raises(
        ValueError, match=f"{CONFIG}: {field}: .* takes more than 1 s to match: write the names"
    ):
        read_adapter(folder)
    assert time.monotonic() - start < 20  # with a process to start on a busy machine


def test_usual_patterns_are_matched_and_broken_ones_named():
    names = ["model.layers.0.self_attn.q_proj", "model.layers.11.mlp.up_proj", "lm_head"]
    unsloth = r"(?:.*?(?:self_attn|mlp).*?(?:q_proj|up_proj).*?)|(?:\bmodel\.layers\.[\d]{1,}\.(?:k_proj))"
    usual = {unsloth: unsloth, "plain": r"model.layers.0.self_attn.q_proj|lm_head", "none": ".*(?<=z)"}
    beginnings = {text: text for text in ("model", r"model\.layers\.\d+")}
    assert patterns.match({**usual, **beginnings}, names, "fullmatch") == {
        unsloth: set(names[:2]),
        "plain": {names[0], names[2]},
        "none": set(),
        **{key: set() for key in beginnings},
    }
    assert patterns.match(beginnings, names) == {key: set(names[:2]) for key in beginnings}
    assert patterns.match({"layers": "model.layers"}, names) == {"layers": set(names[:2])}
    assert patterns.match({}, names) == {}
    for broken, reason in (
        ("(", "missing"),
        ("a{99999999999}", "repetition number is too large"),
        ("[", "unterm"),
    ):
        with pytest.raises(ValueError, match=f"is no regular expression .*{reason}"):
            patterns.match({"lm_head": "lm_head", broken: broken}, names)
    deep = "(" * 5000 + ")" * 5000
    with pytest.raises(ValueError, match="is no regular expression"):
        patterns.match({deep: deep}, names)


EXTRAS = {
    "model.embed_tokens.weight": (
        (32010, 8),
        "(a whole embedding or output head, trained or with a resized voc",
    ),
    "lm_head.weight": (
        (32010, 8),
        "(a whole embedding or output head, trained or with a resized vocabulary, 32010 x",
    ),
    "transformer.wte.modules_to_save.default.weight": ((9, 8), "(a whole embedding or output head"),
    "model.embed_tokens.lora_embedding_A": ((2, 32010), "(an adapted embedding, 2 x 32010)"),
    "model.embed_tokens.token_adapter.trainable_tokens_delta": (
        (3, 8),
        "(trained embeddings of single tokens",
    ),
    "score.weight": ((3, 8), "(a whole head of a task, 3 x 8)"),
    "classifier.modules_to_save.weight": ((3, 8), "(a whole head of a task"),
    "model.layers.0.input_layernorm.weight": ((8,), "(the trained weights of a norm, 8)"),
    "model.norm.modules_to_save.default.weight": ((8,), "(the trained weights of a norm"),
    "transformer.h.0.ln_1.weight": ((8,), "(the trained weights of a norm"),
    "bert.embeddings.LayerNorm.weight": ((8,), "(the trained weights of a norm"),
    "model.layers.0.self_attn.q_proj.bias": ((8,), "(a trained bias, 8)"),
    "model.layers.0.q.lora_B.bias": ((8,), "(lora_bias, 8)"),
    "model.layers.0.q.lora_magnitude_vector": ((8,), "(DoRA, 8)"),
    "model.layers.0.mlp.up_proj.weight": ((8, 8), "(a whole saved module, 8 x 8)"),
}


@pytest.mark.parametrize("name", EXTRAS)
def test_what_no_merge_can_carry_is_named_with_what_to_do(name):
    shape, meaning = EXTRAS[name]
    with pytest.raises(ValueError) as refusal:
        parsed(PREFIX + name, shape)
    text = str(refusal.value)
    assert (
        text.startswith(f"holds '{PREFIX}{name}' {meaning}")
        and "only lora_A and lora_B can be merged" in text
    )
    assert text.endswith("fold each adapter into its base (PEFT's merge_and_unload) and merge the models")
    copied = name.endswith((".weight", ".bias")) and "lora_" not in name
    assert ("delete it if it is only a copy of the base's" in text) == copied


def test_a_saved_module_in_the_configuration_alone_is_named_too(tmp_path):
    folder = shutil.copytree(SECOND, tmp_path / "x")
    edit_config(folder, modules_to_save=["lm_head", "embed_tokens"])
    with pytest.raises(
        ValueError, match=r"whole trained modules \(modules_to_save=\['lm_head', 'embed_tokens'\]\)"
    ):
        read_adapter(folder)


def test_vocabularies_of_two_sizes_are_told(tmp_path, command):
    """A LoRA of the head, and the copies of the base's head that PEFT saves beside it."""
    folders = []
    for rows in (50, 52):
        folder = shutil.copytree(FIRST, tmp_path / str(rows))
        head = {
            f"{PREFIX}lm_head.lora_A.weight": np.ones((2, 12)),
            f"{PREFIX}lm_head.lora_B.weight": np.ones((rows, 2)),
        }
        edit_tensors(folder, lambda t, head=head: t.update(head))
        folders.append(folder)
    arguments = ["--method", "sum", "--out", tmp_path / "out"]
    line = failure(command, *folders, *arguments)
    assert "lm_head is (50, 12) (out, in)" in line and "the vocabulary was resized differently" in line
    for folder, rows in zip(folders, (50, 52), strict=True):
        copy = {f"{PREFIX}lm_head.base_layer.weight": np.ones((rows, 12), np.float32)}
        edit_tensors(
            folder, lambda t, copy=copy: [t.pop(k) for k in list(t) if "lm_head" in k] and t.update(copy)
        )
    line = failure(command, *folders, *arguments)
    assert "of different shapes, (50, 12) and (52, 12): the vocabulary was resized differently" in line
    assert is_vocabulary("model.embed_tokens") and not is_vocabulary(
        "model.layers.0.mlp.shared_expert.up_proj"
    )


def test_features_from_strangers_are_named_too(tmp_path, command):
    for content, message in (
        (LFS, LFS_REMEDY),
        (b"<html>", PAGE_REMEDY),
        (b"junk", "is not a whole safetensors file (it holds the text 'junk')"),
    ):
        (tmp_path / "x").write_bytes(content)
        arguments = [FIRST, SECOND, "--features", tmp_path / "x", "--out", tmp_path / "out"]
        code, _, err = command("sim.diagnose", *arguments)
        assert code == 2 and f"error: {tmp_path / 'x'} {message}" in err
    save_file({"layers.0.q_proj": np.ones((2, 5), np.float32)}, tmp_path / "x")
    assert "must be finite, (tokens, 12)" in command("sim.diagnose", *arguments)[2]
