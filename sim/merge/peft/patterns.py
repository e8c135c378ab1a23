"""Regular expressions from strangers, matched in bounded time.

A short pattern can take longer than anyone waits: "(a+)+b" tries every way to cut a run of a's. Python's
``re`` has no limit, and no rule on the text of a pattern tells the slow ones from the rest. So every pattern
with a group or a repetition is tried in a process of its own, which is ended when its time is over.
"""

import itertools
import json
import re
import reprlib
import subprocess
import sys
from collections.abc import Mapping, Sequence

SECONDS = 5.0
"""The time that the patterns of a field have, on all names of modules; usual ones take milliseconds."""

PLAIN = re.compile(r"[\w.^$|-]*")
"""Patterns that cannot go astray: without group and repetition there is nothing to try again."""

MATCHER = """
import json, re, sys
how, patterns, names = json.load(sys.stdin)
for pattern in patterns:
    try:
        answer = [bool(getattr(re, how)(pattern, name)) for name in names]
    except Exception as error:
        answer = str(error)
    print(json.dumps(answer), flush=True)
"""


def match(patterns: Mapping[str, str], names: Sequence[str], how: str = "match") -> dict[str, set[str]]:
    """For each pattern the names that ``re.match``, or another of ``re``'s functions, accepts.

    patterns: as they are written -> as they are matched.

    Raises: ValueError, which names the pattern, for one that is no regular expression or takes too long.
    """
    plain = {text for text in patterns if PLAIN.fullmatch(text)}
    accept = getattr(re, how)
    accepted = {text: {name for name in names if accept(patterns[text], name)} for text in plain}
    rest = [text for text in patterns if text not in plain]
    answers = _answers(how, [patterns[text] for text in rest], names)
    for text, answer in zip(rest, answers, strict=False):
        if isinstance(answer, str):
            raise ValueError(f"{reprlib.repr(text)} is no regular expression ({answer})")
        accepted[text] = set(itertools.compress(names, answer))
    for text in rest:
        if text not in accepted:
            raise ValueError(
                f"{reprlib.repr(text)} is a regular expression that takes more than {SECONDS:g} s to match: "
                "write the names of the modules instead"
            )
    return accepted


def _answers(how: str, patterns: Sequence[str], names: Sequence[str]) -> list[list[bool] | str]:
    """For each pattern which names it accepts, or why it is none; shorter if the time was over before."""
    if not patterns:
        return []
    command = [sys.executable, "-I", "-S", "-W", "ignore", "-c", MATCHER]
    try:
        done = subprocess.run(
            command, input=json.dumps([how, patterns, names]).encode(), capture_output=True, timeout=SECONDS
        )
        output = done.stdout
    except subprocess.TimeoutExpired as error:
        output = error.stdout or b""
    return [json.loads(line) for line in output.splitlines()]
