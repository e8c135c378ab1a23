"""What every command does alike: parse a typed dataclass, run, and end errors in one clear line."""

import dataclasses
import inspect
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from sim.lab.entry import interrupt
from sim.lab.metavars import legible

Config = TypeVar("Config")

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
    130 interrupted (``sim.lab.entry.interrupt``). Programming errors keep their traceback.
    """
    line = f"interrupted: {interrupted}"
    if missing := missing_options(config, sys.argv[1:]):
        line = f"error: give {' and '.join(missing)}; python -m {program} --help has two examples"
        sys.exit(_say(line, 2))
    with legible():
        parsed = tyro.cli(config, prog=f"python -m {program}", description=inspect.getdoc(config))
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


def missing_options(config: type, words: Sequence[str]) -> list[str]:
    """The options without a default that no word gives; none where help is wanted."""
    if {"-h", "--help"} & set(words):
        return []
    given = {word.partition("=")[0].replace("_", "-") for word in words}
    positional = tyro.conf.Positional[int].__metadata__
    return [
        flag
        for field in dataclasses.fields(config)
        if field.default is field.default_factory is dataclasses.MISSING
        and not set(positional) & set(getattr(field.type, "__metadata__", ()))
        and (flag := f"--{field.name.replace('_', '-')}") not in given
    ]


def _say(line: str, code: int) -> int:
    print(" ".join(line.split()), file=sys.stderr)
    return code
