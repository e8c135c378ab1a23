"""Damaged configurations and headers, drawn at random: a merge succeeds, or is one line and exit 2."""

import json
import shutil
import tempfile
from pathlib import Path

import pytest
from folders import DATA
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from sim.merge.peft import patterns
from sim.merge.peft.config import CONFIG, NEUTRAL, UNSUPPORTED
from sim.merge.peft.files import WEIGHTS

FIRST, SECOND = (DATA / "plain" / name for name in ("first", "second"))
EXAMPLES = settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-4, 12),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.text("()[]{}*+?|^$.\\0qv_", max_size=10),
    st.sampled_from(["all", "q_proj", "all-linear", "LORA", "pissa", 10**400, "\ud800", "a\nb"]),
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
)
fields = st.one_of(st.sampled_from(sorted(NEUTRAL | UNSUPPORTED.keys())), st.text(max_size=6))


@pytest.fixture
def outcome(command, monkeypatch):
    """Merge the first golden adapter with a damaged copy of the second, and judge how it ends."""
    monkeypatch.setattr(patterns, "SECONDS", 1.0)

    def judge(damage):
        with tempfile.TemporaryDirectory() as scratch:
            folder = shutil.copytree(SECOND, Path(scratch) / "second")
            damage(folder)
            code, printed, err = command(
                "sim.merge", FIRST, folder, "--method", "sum", "--out", Path(scratch) / "out"
            )
            lines = [line for line in err.split("\n") if line.strip() and not line.startswith("merging by")]
            if code == 0:
                assert "sum of 2 adapters" in printed and (Path(scratch) / "out" / WEIGHTS).exists()
            else:
                assert code == 2 and len(lines) == 1 and lines[0].startswith("error: "), err
                assert len(lines[0]) < 1500
                assert [path.name for path in Path(scratch).iterdir()] == ["second"]
        return code

    return judge


@EXAMPLES
@given(st.dictionaries(fields, values, min_size=1, max_size=3))
@example({"r": 10**400})
@example({"rank_pattern": {"(a|a)*" * 3: 2}})
def test_a_configuration_with_any_values(outcome, changes):
    config = json.loads((SECOND / CONFIG).read_text())
    outcome(lambda folder: (folder / CONFIG).write_text(json.dumps({**config, **changes})))


@EXAMPLES
@given(
    st.integers(0, 10**6), st.integers(0, 20), st.binary(max_size=20) | st.text("[{\"'1,:]}\\", max_size=9)
)
def test_a_configuration_with_any_bytes(outcome, place, length, insert):
    text = (SECOND / CONFIG).read_bytes()
    at, insert = place % len(text), insert if isinstance(insert, bytes) else insert.encode()
    outcome(lambda folder: (folder / CONFIG).write_bytes(text[:at] + insert + text[at + length :]))


@EXAMPLES
@given(st.data())
def test_a_header_with_any_entries(outcome, data):
    """Keys, types, shapes and places of the tensors, in a header that is as long as it says."""
    raw = (SECOND / WEIGHTS).read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    for name in data.draw(st.lists(st.sampled_from(sorted(header)), min_size=1, max_size=2)):
        entry = header.pop(name, {})
        if data.draw(st.booleans()) and entry:
            part = data.draw(st.sampled_from(sorted(entry)))
            numbers = st.lists(st.integers(-1, 20) | st.integers(), max_size=3)
            kinds = st.sampled_from(["F16", "BF16", "F64", "I8", "BOOL", "F8_E5M2", "U64", "C64", "x"])
            entry = {**entry, part: data.draw(kinds | numbers | values)}
        words = st.sampled_from(
            [".weight", ".bias", ".lora_A", ".lora_B", ".default", "q_proj", "[0]", "..", "\x00"]
        )
        ends = data.draw(st.lists(words | st.text(max_size=4), max_size=3))
        header[data.draw(st.sampled_from([name, "", name[: len(name) // 2]])) + "".join(ends)] = entry
    text = json.dumps(header).encode(errors="replace")
    outcome(
        lambda folder: (folder / WEIGHTS).write_bytes(
            len(text).to_bytes(8, "little") + text + raw[8 + size :]
        )
    )


@EXAMPLES
@given(st.integers(0, 10**6), st.integers(0, 40), st.binary(max_size=20))
def test_tensors_with_any_bytes(outcome, place, length, insert):
    raw = (SECOND / WEIGHTS).read_bytes()
    at = place % len(raw)
    outcome(lambda folder: (folder / WEIGHTS).write_bytes(raw[:at] + insert + raw[at + length :]))
