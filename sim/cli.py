"""What every command does alike: parse a typed dataclass, run, and end errors in one clear line."""

import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

Config = TypeVar("Config")


def run_command(config: type[Config], main: Callable[[Config], None], program: str) -> None:
    """Parse ``sys.argv`` into ``config``, call ``main`` on it, and exit.

    Exit codes: 0 done; 2 bad usage or bad files, with one line on stderr that names the thing and the
    remedy; 130 interrupted. Programming errors keep their traceback.
    """
    parsed = tyro.cli(config, prog=f"python -m {program}", description=config.__doc__)
    try:
        main(parsed)
    except (ValueError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted: nothing half-written was left behind", file=sys.stderr)
        sys.exit(130)
