"""What every command does alike: parse a typed dataclass, run, and end errors in one clear line."""

import contextlib
import dataclasses
import inspect
import io
import itertools
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from sim.lab import interrupt
from sim.lab.registry import unknown

Config = TypeVar("Config")

POSITIONAL = frozenset(tyro.conf.Positional[int].__metadata__)
"""What marks a value that is given without an option."""

RULE = re.compile("[─-]{5,}")
"""A line between the parts of a box."""

SEVERAL = re.compile(r"\[?(\{[^{}]*\}|\w+) \[(?:\1 )?\.\.\.\]\]?")
"""One or more of a kind, as tyro writes it; a long one only once."""

RESUME = "what was finished is kept; run the same command again to go on"
"""What a resumable command says when it is interrupted."""


def run_command(
    config: type[Config],
    main: Callable[[Config], None],
    program: str,
    interrupted: str = "nothing half-written was left behind",
) -> None:
    """Parse ``sys.argv`` into ``config``, call ``main`` on it, and exit.

    Exit codes: 0 done; 2 bad usage (ValueError) or files that cannot be read or written (OSError); 1 training
    that diverged (FloatingPointError), each with one line on stderr that names the thing and the remedy;
    130 interrupted (``sim.lab.interrupt``). Programming errors keep their traceback.
    """
    line = f"interrupted: {interrupted}"
    try:
        parsed = parse(config, sys.argv[1:], program)
    except ValueError as error:
        sys.exit(_say(f"error: {error}", 2))
    if watched := interrupt.is_watched():
        interrupt.raise_once(line)
    try:
        main(parsed)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of our output (head, less) has left
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        where = f"{error.filename}: " if error.filename and error.strerror else ""
        sys.exit(_say(f"error: {where}{error.strerror or error}", 2))
    except ValueError as error:
        sys.exit(_say(f"error: {error}", 2))
    except FloatingPointError as error:
        sys.exit(_say(f"error: {error}", 1))
    except KeyboardInterrupt:
        if watched:
            interrupt.leave(line)
        sys.exit(_say(line, interrupt.EXIT))


def parse(config: type[Config], words: Sequence[str], program: str) -> Config:
    """The configuration that the words of a command line give. A help text exits with code 0.

    Raises: ValueError, one line, for options that do not exist or are missing, and for unreadable values.
    """
    remedy, flags = f"python -m {program} --help has two examples", options(config)
    for word in words:
        flag = word.partition("=")[0].replace("_", "-")
        if re.match("--[a-z]", flag) and flag not in flags:
            raise unknown("option", flag, flags)
    if missing := missing_options(config, words):
        raise ValueError(f"give {' and '.join(missing)}; {remedy}")
    box = io.StringIO()
    with legible(), contextlib.redirect_stderr(box):
        try:
            return tyro.cli(
                config, args=words, prog=f"python -m {program}", description=inspect.getdoc(config)
            )
        except SystemExit as stop:
            if stop.code != 2:
                raise
    raise _fault(boxed(box.getvalue()), remedy)


def boxed(text: str) -> str:
    """What tyro's box of several lines says, from its title to the first rule below it, as one line."""
    lines = [line.strip("│ ") for line in text.splitlines()[1:]]
    if lines and RULE.fullmatch(lines[0]):  # a title without a box
        lines = lines[1:]
    message = itertools.takewhile(lambda line: not RULE.fullmatch(line), lines)
    return " ".join(message).strip().removeprefix("Error parsing ").rstrip(".")


def _fault(message: str, remedy: str) -> ValueError:
    """What tyro says in one line, with the choices that are like a wrong one."""
    if choice := re.search(r"invalid choice '(.*)' for argument '(.*)'\. Expected one of \((.*)\)", message):
        names = set(re.findall("'(.*?)'", choice[3])) - {"None"}
        return unknown(choice[2], choice[1], sorted(names))
    if missing := re.match(r"Missing from .*?: (\S+)", message):
        message = f"give {missing[1]}"
    return ValueError(f"{message}; {remedy}")


def options(config: type) -> list[str]:
    """Every option of a configuration as one types it, and the opposite of a switch."""
    flags = ["--help"]
    for field in dataclasses.fields(config):
        marks = getattr(field.type, "__metadata__", ())
        if not POSITIONAL & set(marks):
            name = next((mark.name for mark in marks if getattr(mark, "name", None)), field.name)
            switch = isinstance(field.default, bool)
            flags += [f"--{sign}{name.replace('_', '-')}" for sign in ("", "no-")[: 1 + switch]]
    return flags


def missing_options(config: type, words: Sequence[str]) -> list[str]:
    """The options without a default that no word gives; none where help is wanted."""
    if {"-h", "--help"} & set(words):
        return []
    given = {word.partition("=")[0].replace("_", "-") for word in words}
    return [
        flag
        for field in dataclasses.fields(config)
        if field.default is field.default_factory is dataclasses.MISSING
        and not POSITIONAL & set(getattr(field.type, "__metadata__", ()))
        and (flag := f"--{field.name.replace('_', '-')}") not in given
    ]


def shortened(metavar: str) -> str:
    """tyro's text for a value in help texts made short: ``PATH ...`` for ``[PATH [PATH ...]]``, ``INT`` for
    ``{None}|INT``, since the default says that an option may be left out."""
    metavar = re.sub(r"^\{None\}\|", "", metavar)
    metavar = re.sub(r"^\{None,", "{", metavar)
    metavar = re.sub(r"^\{(\[.*\])\}$", r"\1", metavar)
    return SEVERAL.sub(r"\1 ...", metavar)


def legible() -> ConstructorRegistry:
    """The context in which tyro's own rules apply to every type, and what stands for it is ``shortened``."""
    registry, busy = ConstructorRegistry(), []

    @registry.primitive_rule
    def rule(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
        if busy:  # tyro's own rules are at work, for this type or its parts
            return None
        busy.append(info)
        try:
            spec = ConstructorRegistry.get_primitive_spec(info)
        finally:
            busy.pop()
        if not isinstance(spec, PrimitiveConstructorSpec):
            return None
        return dataclasses.replace(spec, metavar=shortened(spec.metavar))

    return registry


def _say(line: str, code: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return code
