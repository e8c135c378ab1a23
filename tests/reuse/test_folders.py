"""Libraries as PEFT folders: written, read back, loaded by PEFT, and those of the repository."""

import json

import jax.numpy as jnp
import libraries
import numpy as np
import pytest

from sim.diagnose import diagnose_folders
from sim.hf import fetch
from sim.hf.prompts import read_prompts
from sim.hf.weights import read_shape
from sim.lm.teach import teach
from sim.model import llama, llama_adapters
from sim.model.llama_adapters import combine
from sim.reuse.config import MASTERY
from sim.reuse.language import folders, training
from sim.reuse.language.base import Base
from sim.reuse.language.config import LanguageConfig
from sim.reuse.language.folders import ADAPTERS, NAMES, QUESTIONS, RECORD
from sim.worlds import build
from sim.worlds.people import Config, Setting
from theory import lowrank

SMOL = fetch.cache_folder()


@pytest.fixture
def library(tiny_llama, tmp_path):
    libraries.write(tmp_path / "library", tiny_llama)
    return tmp_path / "library"


def test_adapters_come_back_from_their_files(tiny_llama, tmp_path):
    last = libraries.write(tmp_path, tiny_llama, entities=("real", "fake"))
    records = folders.read_libraries(tmp_path)
    assert list(records) == [tmp_path, tmp_path / "fake"]
    record = records[tmp_path / "fake"]
    assert record.setting == Setting("fake", "shared", 8) and record.steps["joint"] == 100
    trained = folders.read_trained(tmp_path / "fake", record, read_shape(tiny_llama))
    assert set(trained) == set(NAMES) and trained["hop2"].recall == {"facts": 1.0, "traces": 0.99}
    for name, adapter in last.items():
        assert tuple(trained[name].adapter) == libraries.KINDS
        for kind, update in adapter.items():
            expected, actual = lowrank.dense(update), lowrank.dense(trained[name].adapter[kind])
            np.testing.assert_allclose(actual, expected, atol=1e-3 * np.abs(expected).max())


def test_questions_are_those_of_the_world_as_the_search_reads_them(library):
    prompts = read_prompts(library / QUESTIONS)
    world = build(Config(2), 5, Setting("real", "shared", 8))
    expected = {
        (NAMES.get(name, name), *question.text)
        for name in ("hop1", "hop2", "direct", "cot", "untouched")
        for question in world.probes[name].questions
    }
    assert {(one.group, one.prompt, one.answer) for one in prompts} == expected
    assert len(prompts) == len(expected)
    for relation in ("home", "emblem"):
        own = [one.prompt for one in prompts if one.group == relation]
        assert len(own) == 2 and all(prompt.startswith(f"The {relation} of") for prompt in own)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda record: record | {"rank": "x", "more": 1}, "is not the record of a library"),
        (lambda record: [], "is not the record of a library"),
        (lambda record: record | {"setting": {"entities": "no"}}, "unknown entities 'no'"),
    ],
)
def test_a_record_that_is_none_is_named(library, change, message):
    record = json.loads((library / RECORD).read_text())
    (library / RECORD).write_text(json.dumps(change(record)))
    with pytest.raises(ValueError, match=message):
        folders.read_libraries(library)


def test_libraries_of_two_sizes_and_none_are_refused(library, tiny_llama, tmp_path):
    libraries.write(library, tiny_llama, entities=("fake",), seed=6)
    with pytest.raises(ValueError, match="differ in facts, seed, rank or kinds"):
        folders.read_libraries(library)
    with pytest.raises(ValueError, match=r"holds no library\.json: write one with python -m sim\.lm teach"):
        folders.read_libraries(tmp_path)


@pytest.mark.slow
def test_what_is_taught_is_what_is_written(tiny_llama, tmp_path, monkeypatch):
    """Six steps of training, noted as they come."""
    seen = {}

    def train(*arguments):
        for task, duration, adapter in plain(*arguments):
            seen[task.name[-1]] = adapter
            yield task, duration, adapter

    plain = training.train
    monkeypatch.setattr(training, "train", train)
    config = LanguageConfig(Config(2), rank=2, kinds=("q", "up"), batch=4, look=3, most=3, decay=3, warmup=1)
    lines = teach(tmp_path / "out", tiny_llama, ("real",), 3, config, "float32")
    assert [line.split(":")[0] for line in lines] == [str(tmp_path / "out" / name) for name in NAMES.values()]
    assert all("after 3 steps, too few" in line for line in lines)
    record = folders.read_library(tmp_path / "out")
    assert (record.seed, record.rank, record.kinds) == (3, 2, ("q", "up"))
    trained = folders.read_trained(tmp_path / "out", record, read_shape(tiny_llama))
    assert set(seen) == set(trained)
    for name, each in seen.items():
        for kind, update in each.adapter.items():
            expected = lowrank.dense(update)
            actual = lowrank.dense(trained[name].adapter[kind])
            np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-8)
            assert np.abs(expected).max() > 1e-4
    monkeypatch.setattr(training, "train", lambda config, base, tasks: iter([(tasks[1], 1, None)]))
    with pytest.raises(FloatingPointError, match="the loss of adapter hop2 became NaN"):
        teach(tmp_path / "other", tiny_llama, ("real",), 3, config, "float32")
    assert not (tmp_path / "other").exists()


def by_peft(base, library, texts, count):
    """{name: (logits at every token of a prompt, tokens that greedy decoding writes)}, text by text, of each
    adapter of a library and of the sum of the parts, which PEFT makes by concatenation."""
    peft, torch = pytest.importorskip("peft"), pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model = transformers.AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    first, *rest = NAMES.values()
    model = peft.PeftModel.from_pretrained(model, library / first, adapter_name=first)
    for name in rest:
        model.load_adapter(library / name, adapter_name=name)
    pair = [NAMES["hop1"], NAMES["hop2"]]
    model.add_weighted_adapter(pair, [1.0, 1.0], "sum", combination_type="cat")
    outputs = {}
    for name in (*NAMES.values(), "sum"):
        model.set_adapter(name)
        outputs[name] = []
        for tokens in texts:
            row = torch.tensor([tokens])
            with torch.inference_mode():
                logits = model(input_ids=row).logits[0].numpy()
                for _ in range(count):
                    row = torch.cat([row, model(input_ids=row).logits[:, -1].argmax(-1, keepdim=True)], 1)
            outputs[name].append((logits, row[0, len(tokens) :].tolist()))
    return outputs


def by_us(ground, library, texts, count):
    """The same by the model in JAX."""
    record = folders.read_library(library)
    trained = folders.read_trained(library, record, ground.model)
    adapters = {NAMES[name]: each.adapter for name, each in trained.items()}
    adapters["sum"] = combine([trained["hop1"].adapter, trained["hop2"].adapter], (1.0, 1.0))
    longest = max(map(len, texts))
    prompts = np.array([[0] * (longest - len(tokens)) + list(tokens) for tokens in texts], np.int32)
    padding = np.array([longest - len(tokens) for tokens in texts], np.int32)
    outputs = {}
    for name, adapter in adapters.items():
        written = llama_adapters.write(ground.model, ground.params, adapter, prompts, padding, count)
        logits = llama.forward(
            ground.model, ground.params, jnp.asarray(prompts), adapter, llama.adapted, padding_B=padding
        )
        outputs[name] = [
            (np.asarray(logits[row, pad:]), written[row].tolist()) for row, pad in enumerate(padding)
        ]
    return outputs


def require_equal(base, library, tolerance, count):
    """Greedy answers are the same and logits within the tolerance; adapters differ by far more."""
    ground, prompts = Base(base), read_prompts(library / QUESTIONS)
    chosen = [prompt.prompt for prompt in prompts[:: max(1, len(prompts) // 5)]]
    texts = [ground.tokenizer(text)["input_ids"] for text in chosen]
    theirs, ours = by_peft(base, library, texts, count), by_us(ground, library, texts, count)
    assert set(theirs) == set(ours)
    for name, rows in theirs.items():
        for (logits, written), (own_logits, own) in zip(rows, ours[name], strict=True):
            np.testing.assert_allclose(own_logits, logits, atol=tolerance)
            assert own == written, name
    for (one, _), (other, _) in zip(ours["home"], ours["sum"], strict=True):
        assert np.abs(one - other).max() > 30 * tolerance


OF_PEFT = pytest.mark.filterwarnings("ignore::FutureWarning")  # of transformers, at what PEFT calls


@pytest.mark.slow
@OF_PEFT
def test_peft_loads_them_and_answers_the_same(tiny_llama, library):
    require_equal(tiny_llama, library, 1e-4, 8)


@OF_PEFT
@pytest.mark.slow
@pytest.mark.skipif(not (SMOL / "config.json").is_file(), reason="no base: python -m sim.lm fetch")
def test_peft_loads_those_of_the_repository_and_answers_the_same():
    require_equal(SMOL, ADAPTERS, 5e-4, 6)


class TestOfTheRepository:
    def test_they_fit_into_six_megabytes_and_know_their_data(self):
        assert sum(path.stat().st_size for path in ADAPTERS.rglob("*") if path.is_file()) <= 6e6
        records = folders.read_libraries(ADAPTERS)
        assert [record.setting.entities for record in records.values()] == ["real", "fake"]
        for place, record in records.items():
            assert record.setting.template == "shared"
            for name in NAMES:
                assert min(record.recall[name].values()) >= MASTERY, (place, name)
            world = build(Config(record.facts), record.seed, record.setting)
            texts = {question.text for name in folders.PROBES for question in world.probes[name].questions}
            assert {(one.prompt, one.answer) for one in read_prompts(place / QUESTIONS)} == texts

    def test_the_diagnosis_of_the_pair_has_a_verdict(self):
        result = diagnose_folders(ADAPTERS / "home", ADAPTERS / "emblem")
        record = folders.read_library(ADAPTERS)
        assert result.verdict and len(result.table()) >= 1 and record.kinds
