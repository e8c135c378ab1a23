"""Prompts and their tokens: what is read, what is refused by its line, where an answer begins."""

import json

import numpy as np
import pytest

from sim.hf.prompts import EDITS, Prompt, groups, read_prompts
from sim.hf.tokens import batch, batches, question, questions


class Words:
    """A tokenizer of some pieces, longest first, else letters; BOS 1 in front, EOS 2 behind if asked."""

    bos_token, bos_token_id = "<s>", 1
    eos_token, eos_token_id = "</s>", 2

    def __init__(self, *pieces, bos=True, eos=False):
        self.pieces, self.bos, self.eos = [self.eos_token, *pieces], bos, eos

    def __call__(self, text):
        tokens = [1] if self.bos else []
        while text:
            if text.startswith(self.bos_token):
                tokens, text = [*tokens, 1], text.removeprefix(self.bos_token)
                continue
            matches = [piece for piece in self.pieces if text.startswith(piece)]
            piece = max(matches, key=len, default=text[0])
            tokens.append(2 + self.pieces.index(piece) if matches else 100 + ord(piece))
            text = text[len(piece) :]
        return {"input_ids": tokens + [2] * self.eos}


def ask(prompt, answer, **how):
    return question(Words("in ", " Paris", "er", " "), Prompt(prompt, answer, EDITS, 7), **how)


def letters(text):
    return tuple(100 + ord(letter) for letter in text)


def test_lines_are_read_in_order(tmp_path):
    path = tmp_path / "p.jsonl"
    lines = [
        {"prompt": "a", "answer": "b"},
        {"prompt": "", "answer": "c\u2028d", "group": "untouched"},
        {"prompt": "e", "answer": " f", "group": "new"},
    ]
    text = "\n\n".join(json.dumps(line, ensure_ascii=False) for line in lines)
    path.write_text(text, encoding="utf-8-sig")
    prompts = read_prompts(path)
    assert prompts == [
        Prompt("a", "b", EDITS, 1),
        Prompt("", "c\u2028d", "untouched", 3),
        Prompt("e", " f", "new", 5),
    ]
    assert groups(prompts) == [EDITS, "new", "untouched"]  # the untouched last


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ('{"prompt": "a"', "line 2 is not JSON"),
        ('["a", "b"]', "line 2 is not an object"),
        ('{"answer": "a"}', "line 2 has no 'prompt'"),
        ('{"prompt": "a"}', "line 2 has no 'answer'"),
        ('{"prompt": "a", "answer": ""}', "line 2 has an empty answer"),
        ('{"prompt": "a", "answer": 4}', "line 2: 'answer' must be a text, found 4"),
        pytest.param("[" * 100_000, "line 2 is not JSON of texts (maximum recursion", id="nested"),
        pytest.param('{"prompt": ' + "9" * 5000 + "}", "line 2 is not JSON of texts (Exceeds", id="digits"),
        (
            '{"prompt": "a", "answer": "b", "groop": "c"}',
            "line 2 has a field 'groop'; known are prompt, answer",
        ),
    ],
)
def test_a_bad_line_is_named_by_its_number(tmp_path, line, message):
    path = tmp_path / "p.jsonl"
    path.write_text('{"prompt": "a", "answer": "b"}\n' + line + "\n")
    with pytest.raises(ValueError) as error:
        read_prompts(path)
    assert message in str(error.value) and str(path) in str(error.value) and "\n" not in str(error.value)


def test_a_file_without_prompts_is_refused(tmp_path):
    (tmp_path / "p.jsonl").write_text("\n \n")
    with pytest.raises(ValueError, match="holds no prompts"):
        read_prompts(tmp_path / "p.jsonl")
    (tmp_path / "p.jsonl").write_bytes(b'{"prompt": "\xff"}')
    with pytest.raises(ValueError, match="not UTF-8"):
        read_prompts(tmp_path / "p.jsonl")


def test_the_answer_is_what_follows_the_prompts_own_tokens():
    item = ask("in ", "Rom")
    assert (item.tokens, item.start, item.joined) == ((1, 3, *letters("Rom")), 2, False)
    assert item.answer == letters("Rom")


def test_a_token_across_the_boundary_is_the_answers_first():
    """ "lie" + "r": the whole is l i er, so the e that the prompt ends with is read as part of the answer."""
    item = ask("lie", "r")
    assert item.tokens == (1, *letters("li"), 5)
    assert (item.start, item.joined, item.answer) == (3, True, (5,))
    item = ask("to ", "Paris")  # the space goes with the answer: " Paris" is one token
    assert (item.tokens, item.answer, item.joined) == ((1, *letters("to"), 4), (4,), True)


def test_an_end_of_text_that_the_tokenizer_adds_is_no_answer():
    plain = Words("er")
    ending = Words("er", eos=True)
    prompt = Prompt("li", "ver", EDITS, 1)
    assert question(ending, prompt) == question(plain, prompt)
    item = question(ending, Prompt("li", "ver</s>", EDITS, 1))
    assert item.answer[-1] == 2 and item.answer[:-1] == question(plain, prompt).answer


@pytest.mark.parametrize(
    ("prompt", "answer", "start", "doubled"),
    [
        ("<s>Rom", "a", 1, True),
        ("Rom", "a", 1, False),
        ("<s><s>Rom", "a", 2, True),  # as many as are written
        ("<s>", "a", 1, True),
        ("<s>", "<s>a", 1, True),
        ("R<s>om", "<s>a", 1, False),
    ],
)
def test_a_bos_that_prompt_and_tokenizer_both_put_in_front_is_read_once(prompt, answer, start, doubled):
    item = question(Words(), Prompt(prompt, answer, EDITS, 7))
    text = prompt.removeprefix("<s>") if start == 1 else prompt.removeprefix("<s><s>")
    plain = Words(bos=False)
    assert item.tokens == (1,) * start + tuple(plain(text + answer)["input_ids"])
    assert item.answer == tuple(plain(answer)["input_ids"]) and item.doubled == doubled
    written = question(plain, Prompt("<s>" * start + text, answer, EDITS, 7))
    assert (written.tokens, written.doubled) == (item.tokens, False)


def test_notes_count_what_was_read_otherwise_than_it_stands():
    texts = (("lie", "r"), ("<s>in ", "Rom"), ("<s>a", "b"), ("a", "b"))
    prompts = [Prompt(*text, EDITS, line) for line, text in enumerate(texts, 3)]
    items, notes = questions(Words("in ", "er"), prompts, None, 1000)
    assert [item.line for item in items] == [3, 4, 5, 6] == list(batch(items).lines)
    assert len(notes) == 2
    assert notes[0].startswith("2 of 4 prompts begin with '<s>' (line 4), which the tokenizer puts in front")
    assert notes[1].startswith("1 of 4 answers begin inside a token")
    assert questions(Words(), prompts[3:], None, 1000)[1] == []


def test_what_cannot_be_asked_is_refused_by_its_line():
    with pytest.raises(ValueError, match="line 7 takes 5 tokens, the model reads at most 4"):
        ask("in ", "Rom", longest=4)
    with pytest.raises(ValueError, match="line 7 leaves nothing to read before the answer"):
        question(Words(bos=False), Prompt("", "a", EDITS, 7))
    assert ask("", "a").start == 1  # after BOS

    class Deaf(Words):
        def __call__(self, text):
            return super().__call__(text.replace("~", ""))

    with pytest.raises(ValueError, match="line 7: its answer '~' has no token of its own"):
        question(Deaf(), Prompt("a", "~", EDITS, 7))


def test_a_batch_says_which_logits_decide_which_token():
    questions = [ask("in ", "Rom"), ask("", "ab")]
    inputs = batch(questions)
    np.testing.assert_array_equal(inputs.tokens, [[1, 3, *letters("Ro")], [1, *letters("a"), 0, 0]])
    np.testing.assert_array_equal(inputs.mask, [[1] * 4, [1, 1, 0, 0]])
    np.testing.assert_array_equal(inputs.row, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(inputs.position, [1, 2, 3, 0, 1])
    np.testing.assert_array_equal(inputs.target, letters("Romab"))
    for row, position, target in zip(inputs.row, inputs.position, inputs.target, strict=True):
        assert questions[row].tokens[position + 1] == target


def test_batches_hold_every_question_once_the_longest_first():
    questions = [ask("", "a" * length) for length in (3, 9, 1, 5, 9)]
    assert list(batches(questions, [0, 1, 3, 4], 3)) == [[1, 4, 3], [0]]
