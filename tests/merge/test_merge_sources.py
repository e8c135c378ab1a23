"""Adapters from elsewhere: LoHa and LoKr made low-rank by PEFT, and ids of the Hugging Face hub."""

import importlib
import json
import shutil

import numpy as np
import pytest
from folders import DATA, failure
from safetensors.numpy import load_file, save_file

from sim.merge import merge_folders, read_adapter
from sim.merge.peft import hub
from sim.merge.peft.config import CONFIG
from sim.merge.peft.files import WEIGHTS
from sim.merge.peft.keys import PREFIX
from theory.lowrank import dense

FIRST = DATA / "plain" / "first"
SHAPES = {name: dense(update).shape for name, update in read_adapter(FIRST).modules.items()}
RANK, ALPHA = 2, 3.0


def other_kind(folder, kind):
    """An adapter of the kind for the modules of FIRST, and its Delta W by the definition of the kind."""
    rng, tensors, exact = np.random.default_rng(1), {}, {}

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    for name, (out, size) in SHAPES.items():
        if kind == "LOHA":
            parts = {f"hada_w{i}_{s}": draw(*shape) for i in (1, 2) for s, shape in
                     (("a", (out, RANK)), ("b", (RANK, size)))}  # fmt: skip
            first, second = (parts[f"hada_w{i}_a"].astype(float) @ parts[f"hada_w{i}_b"] for i in (1, 2))
            exact[name] = ALPHA / RANK * first * second
        else:
            left, right = (max(n for n in range(1, 9) if n * n <= d and d % n == 0) for d in (out, size))
            parts = {"lokr_w1": draw(left, right), "lokr_w2_a": draw(out // left, RANK)}
            parts["lokr_w2_b"] = draw(RANK, size // right)
            second = parts["lokr_w2_a"].astype(float) @ parts["lokr_w2_b"]
            exact[name] = ALPHA / RANK * np.kron(parts["lokr_w1"].astype(float), second)
        tensors |= {f"{PREFIX}{name}.{part}": value for part, value in parts.items()}
    folder.mkdir()
    config = {"peft_type": kind, "r": RANK, "alpha": ALPHA, "target_modules": sorted(SHAPES)}
    config["base_model_name_or_path"] = json.loads((FIRST / CONFIG).read_text())["base_model_name_or_path"]
    (folder / CONFIG).write_text(json.dumps(config))
    save_file(tensors, folder / WEIGHTS)
    return exact


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["LOHA", "LOKR"])
def test_other_kinds_are_their_definition(kind, tmp_path, command):
    pytest.importorskip("peft")
    exact = other_kind(tmp_path / "x", kind)
    adapter = read_adapter(tmp_path / "x")
    assert adapter.modules.keys() == exact.keys() and f"made from {kind} by PEFT, rank" in adapter.note
    for name, update in adapter.modules.items():
        rank = np.linalg.matrix_rank(exact[name])
        assert np.linalg.norm(np.asarray(dense(update)) - exact[name]) < 1e-3 * np.linalg.norm(exact[name])
        assert update.a.shape[0] == rank
    out = tmp_path / "sum"
    code, printed, _ = command("sim.merge", tmp_path / "x", FIRST, "--method", "sum", "--out", out)
    assert code == 0 and f"made from {kind}" in printed
    first, merged = read_adapter(FIRST).modules, read_adapter(out).modules
    for name, update in merged.items():
        whole = np.asarray(dense(first[name])) + exact[name]
        assert np.linalg.norm(np.asarray(dense(update)) - whole) < 1e-3 * np.linalg.norm(whole)


@pytest.mark.slow
def test_a_model_runs_the_lora_that_is_written_of_it(tmp_path):
    torch = pytest.importorskip("torch")
    from sim.hf._model import require_fit

    other_kind(tmp_path / "x", "LOHA")
    message = "is a LOHA adapter: write it as LoRA first, by python -m sim.merge "
    modules = {name: torch.nn.Linear(size, out) for name, (out, size) in SHAPES.items()}
    with pytest.raises(ValueError, match=message):
        require_fit(modules, tmp_path, read_adapter(tmp_path / "x"))
    merge_folders(tmp_path / "x", method="sum").write(tmp_path / "lora")
    require_fit(modules, tmp_path, read_adapter(tmp_path / "lora"))


@pytest.mark.slow
def test_broken_files_of_other_kinds_are_one_line(tmp_path, command):
    pytest.importorskip("peft")
    other_kind(tmp_path / "x", "LOHA")
    whole = load_file(tmp_path / "x" / WEIGHTS)
    name = next(iter(SHAPES))
    arguments = [tmp_path / "x", "--method", "sum", "--out", tmp_path / "out"]
    for change, message in (
        ({f"{PREFIX}{name}.hada_t1": np.ones((2, 2, 3, 3), np.float32)}, "is of a convolution; only linear"),
        ({f"{PREFIX}{name}.other": np.ones((2, 2), np.float32)}, "PEFT does not know"),
    ):
        save_file(whole | change, tmp_path / "x" / WEIGHTS)
        assert message in failure(command, *arguments)
    wrong = {key: value[:, :1] if key.endswith("w1_a") else value for key, value in whole.items()}
    save_file(wrong, tmp_path / "x" / WEIGHTS)
    assert "its tensors are not those that adapter_config.json describes" in failure(command, *arguments)
    save_file({k: v for k, v in whole.items() if not k.endswith("w1_b")}, tmp_path / "x" / WEIGHTS)
    assert "has no 'hada_w1_b'; the file is incomplete" in failure(command, *arguments)


def test_without_peft_the_remedy_is_named(tmp_path, command, monkeypatch):
    other_kind(tmp_path / "x", "LOHA")
    load = importlib.import_module

    def missing(name, *rest):
        if name == "sim.merge.peft._convert":
            raise ImportError("No module named 'peft'", name="peft")
        return load(name, *rest)

    monkeypatch.setattr(importlib, "import_module", missing)
    line = failure(command, tmp_path / "x", "--method", "sum", "--out", tmp_path / "out")
    assert "is a LOHA adapter, and to make a LoRA of it peft is needed: pip install -e '.[hf]'" in line


def test_kinds_that_cannot_be_converted_are_refused(tmp_path, command):
    other_kind(tmp_path / "x", "IA3X")
    line = failure(command, tmp_path / "x", "--method", "sum", "--out", tmp_path / "out")
    assert "peft_type is 'IA3X'; only LORA, LOHA, LOKR adapters can be read" in line


def test_an_id_is_fetched_and_a_folder_wins(tmp_path, command, monkeypatch):
    monkeypatch.chdir(tmp_path)
    calls = []

    def download(name, wanted):
        calls.append(name)
        assert wanted == hub.ADAPTER
        return str(shutil.copytree(FIRST, tmp_path / "cache" / name, dirs_exist_ok=True))

    monkeypatch.setattr(hub, "download", download)
    code, _, err = command("sim.diagnose", "org/first", DATA / "plain" / "second", "--out", "report")
    assert code == 0 and calls == ["org/first"], err
    shutil.copytree(DATA / "plain" / "second", tmp_path / "org" / "first")
    here, there = (read_adapter(path).modules for path in ("org/first", DATA / "plain" / "second"))
    assert calls == ["org/first"]
    assert all(np.array_equal(here[name].b, there[name].b) for name in there)
    for name in ("none", "a/b/c", "/a/b", "./a"):  # no ids
        with pytest.raises(ValueError, match="is not a folder; give the folder that holds"):
            read_adapter(name)
    assert calls == ["org/first"]


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            ConnectionError("no network.\nsecond line"),
            r"nor can it be fetched .*\(ConnectionError: no network\)",
        ),
        (ImportError("huggingface_hub"), "pip install huggingface_hub to fetch it from the hub"),
    ],
)
def test_without_the_network_it_is_one_line(error, message, command, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def download(name, wanted):
        raise error

    monkeypatch.setattr(hub, "download", download)
    with pytest.raises(ValueError, match=f"^org/first is not a folder here; {message}; give the folder"):
        read_adapter("org/first")
    code, _, err = command("sim.diagnose", "org/first", "org/second", "--out", "report")
    assert code == 2 and err.count("\n") == 1
    with pytest.raises(
        ValueError, match=f"^org/base is not a folder here; {message}; give the folder of the base"
    ):
        hub.local_base("org/base")


def test_of_a_base_come_safetensors_and_vocabulary_alone(monkeypatch):
    """Against the rules by which the hub's client filters a repository's files."""
    filters = pytest.importorskip("huggingface_hub.utils").filter_repo_objects
    there = [
        "config.json",
        "model-1.safetensors",
        "model.safetensors.index.json",
        "tokenizer.json",
        "merges.txt",
    ]
    there += ["tokenizer.model"]
    files = [*there, "model.bin", "onnx/model.json", "onnx/x.safetensors", "README.md", "model.gguf"]
    seen = {}

    def snapshot_download(name, **rules):
        seen[name] = list(filters(files, **rules))
        return "cache"

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    assert hub.local_base("org/base").name == "cache" and seen == {"org/base": there}
