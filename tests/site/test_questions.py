"""What people ask: every command is run and answers; where a value is the answer, it is computed again."""

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

for package in ("torch", "transformers", "peft"):
    pytest.importorskip(package)

from sim.merge import read_adapter  # noqa: E402
from sim.merge.check import check_merge  # noqa: E402
from sim.site.questions import QUESTIONS, _answers  # noqa: E402
from sim.site.questions._answers import Answer, answers, run, shown  # noqa: E402
from sim.site.questions._scene import FACTS  # noqa: E402
from theory.lowrank import LowRank, dense  # noqa: E402

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def page(folder):
    """{source: answer} of all questions, run once."""
    return {answer.question.source: answer for answer in answers(folder)}


def matrices(path):
    """{module: Delta W}, float64, from the factors of a folder at alpha / r."""
    return {
        name: np.asarray(dense(LowRank(u.b.astype(float), u.a.astype(float), u.scale)))
        for name, u in read_adapter(path).modules.items()
    }


def size(values):
    return np.sqrt(sum(np.sum(value**2) for value in values))


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.source)
def test_every_command_answers_its_question(question, page):
    answer = page[question.source]
    assert answer.fits, (answer.code, answer.text)


def test_the_page_shows_every_command_with_what_it_printed(page):
    sections = _answers.page(page.values()).split("\n\n## ")[1:]
    for question, section in zip(QUESTIONS, sections, strict=True):
        title, link, command = section.split("\n\n")[:3]
        assert (title, link) == (question.text, f"[{question.source}]({question.address})")
        assert command == f"```sh\n{question.command}\n```"
        assert section.rstrip("\n").endswith(question.reading)
        assert shown(page[question.source].text) in section
    other = Answer(QUESTIONS[0], 1, "")
    with pytest.raises(RuntimeError, match="does not answer"):
        _answers.page([other])


def test_there_are_fifteen_and_each_is_another_one():
    assert len(QUESTIONS) == len({q.source for q in QUESTIONS}) == len({q.command for q in QUESTIONS}) == 15


def test_our_merge_of_rslora_is_the_dense_one(page, folder):
    tensors = load_file(folder / "RSLORA" / "adapter_model.safetensors")
    assert run("python -m sim.merge RSLORA --method sum --out RSLORA_BY_US", folder)[0] == 0
    ours, theirs = matrices(folder / "RSLORA_BY_US"), matrices(folder / "RSLORA_BY_PEFT")
    for name, matrix in ours.items():
        a, b = (tensors[f"base_model.model.{name}.lora_{side}.weight"].astype(np.float64) for side in "AB")
        exact = 8 / np.sqrt(4) * b @ a
        assert np.linalg.norm(matrix - exact) < 1e-6 * np.linalg.norm(exact)
        assert np.linalg.norm(theirs[name] - 2 * exact) < 1e-5 * np.linalg.norm(exact)


def test_the_difference_is_exact_and_that_of_peft_is_off_as_said(page, folder):
    a, b = matrices(folder / "A"), matrices(folder / "B")
    ours, theirs = matrices(folder / "difference"), matrices(folder / "DIFFERENCE_BY_PEFT")
    rows = {row.name: row for row in check_merge(folder / "A", folder / "B", weights=(1, -1),
            candidate=folder / "DIFFERENCE_BY_PEFT").rows}  # fmt: skip
    for name in a:
        exact = a[name] - b[name]
        assert np.linalg.norm(ours[name] - exact) < 1e-6 * np.linalg.norm(exact)
        error = np.linalg.norm(theirs[name] - exact) / np.linalg.norm(exact)
        assert rows[name].error == pytest.approx(error, rel=1e-4) and error > 0.1
    worst = max(row.error for row in rows.values())
    assert f"off by up to {worst:.0%} of the change" in page["huggingface/peft#3004"].text


def test_cat_is_the_sum_and_linear_is_not_the_average(page, folder):
    a, b = matrices(folder / "A"), matrices(folder / "B")
    cat, linear = matrices(folder / "CAT_BY_PEFT"), matrices(folder / "LINEAR_BY_PEFT")
    assert size(cat[name] - a[name] - b[name] for name in a) < 1e-6 * size(a.values())
    assert size(linear[name] - (a[name] + b[name]) / 2 for name in a) > 0.1 * size(a.values())


def test_what_bfloat16_loses_is_what_it_loses(page, folder):
    base = load_file(folder / "BASE" / "model.safetensors")
    losses = {}
    for name, delta in matrices(folder / "A").items():
        total = base[f"{name}.weight"].astype(np.float64) + delta
        rounded = total.astype(ml_dtypes.bfloat16).astype(np.float64)
        losses[name] = 100 * np.linalg.norm(rounded - total) / np.linalg.norm(delta)
    text = page["unslothai/unsloth#3091"].text
    worst = max(losses, key=losses.get)
    median = np.median([*losses.values()])
    assert f"loses {median:.2g}% of a tensor's change (median), at most {losses[worst]:.2g}% ({worst}" in text
    assert f"rounding loses {median:.2g}% of a module's" in page["axolotl-ai-cloud/axolotl#3497"].text


def test_adapters_answer_what_they_were_taught_and_the_base_its_own(page):
    text = page["unslothai/unsloth#2502"].text
    assert text.startswith("The adapter at 1: A 1.00 [")
    assert "; base: A 0.00 [" in text and "untouched 1.00 [" in text
    assert f"of {FACTS} prompts of untouched" in text
    text = page["huggingface/transformers#42113"].text
    assert "Recommendation: merge A, B at " in text
    assert "Next: python -m sim.merge A B --method sum --weight " in text


def test_a_long_answer_is_cut_and_sentences_are_wrapped():
    text = "\n".join(["word " * 40, "a   table " * 20, *"abcdefghijklmnopqrs"])
    lines = shown(text).split("\n")
    assert max(len(line) for line in lines[:3]) <= 84 and lines[3] == ("a   table " * 20).rstrip("\n")
    assert lines[-2:] == ["p", "..."]  # 18 lines
