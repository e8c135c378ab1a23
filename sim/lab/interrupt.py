"""Ctrl-C ends a command within five seconds, with one line, whatever it is doing.

Python raises KeyboardInterrupt, which closes files and folders on its way out. It does harm in the middle of
an import, so a command that is still importing ends at once. This module imports little: a command is watched
before anything that takes time.
"""

import os
import signal
import sys
import threading

EXIT = 130
"""Exit code of an interrupted command, as shells have it."""

GRACE = 3.0
"""Seconds that closing files and folders may take. Writing tables of 130,000 rows takes 2.3."""


def watch_command() -> None:
    """Watch this process if it is ``python -m sim.NAME``; called while ``sim`` is imported.

    A library does not touch its user's signals: nothing happens in any other process, nor where the signal is
    ignored (a command in the background, ``nohup``).
    """
    importing = sys.argv[:1] == ["-m"]  # what it is while Python looks for the module of "-m"
    named = any(word.removeprefix("-m").startswith("sim.") for word in sys.orig_argv)
    if importing and named and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_import)


def end_import(*_) -> None:
    """The signal handler of a command that is importing."""
    leave("interrupted: nothing was done yet")


def is_watched() -> bool:
    """Whether this process is a command that has imported what it needs."""
    return signal.getsignal(signal.SIGINT) is end_import


def raise_once(line: str) -> None:
    """From now on Ctrl-C raises KeyboardInterrupt, and ends the process with ``line`` after ``GRACE``."""

    def stop(*_) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # an impatient user presses it again
        threading.Timer(GRACE, leave, [line]).start()
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, stop)


def leave(line: str) -> None:
    """Print the line and end the process, not waiting for its threads: an adapter compiles for 11 seconds."""
    os.write(2, f"{line}\n".encode())
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # nobody is to see what other threads stumble over
    sys.stdout.flush()
    os._exit(EXIT)
