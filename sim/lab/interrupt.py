"""Ctrl-C ends a command at once, with one line, whatever it is doing.

Python runs signal handlers and raises KeyboardInterrupt in the main thread only, between two instructions of
its own: not while a program compiles; and in the middle of an import, or of a callback from C++, the
exception does harm. So a thread waits for the signal and ends the process itself. Files are whole or absent
all the same (``sim.lab.files``). This module imports little: a command is watched before anything that takes
time.
"""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator

EXIT = 130
"""Exit code of an interrupted command, as shells have it."""

GRACE = 1.0
"""Seconds that printing and ending may take together."""

_message = ["interrupted: nothing was done yet"]
_scratch: set[str] = set()
_endings: list[Callable[[], None]] = []


def watch_command() -> None:
    """Watch this process if it is ``python -m sim.NAME``; called while ``sim`` is imported.

    A library does not touch its user's signals: nothing happens in any other process, nor where the signal is
    ignored (a command in the background, ``nohup``).
    """
    looked_for = sys.argv[:1] == ["-m"]  # what it is while Python looks for the module of "-m"
    named = any(word.removeprefix("-m").startswith("sim.") for word in sys.orig_argv)
    if looked_for and named and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _end)  # until the thread is there
        _watch()


def say(message: str) -> None:
    """What an interruption prints from now on, if this process is watched."""
    _message[0] = message


@contextlib.contextmanager
def removing(folder: str) -> Iterator[None]:
    """An interruption within the block removes ``folder`` before the process ends."""
    _scratch.add(folder)
    try:
        yield
    finally:
        _scratch.discard(folder)


@contextlib.contextmanager
def ending(action: Callable[[], None]) -> Iterator[None]:
    """An interruption within the block calls ``action``, in a thread of its own, before the process ends.

    It has ``GRACE`` seconds and may be cut off at any point, like everything that runs then.
    """
    _endings.append(action)
    try:
        yield
    finally:
        _endings.remove(action)


def _watch() -> None:
    """Have the C part of signal handling, which runs at any moment, wake a thread."""
    import socket
    import threading

    receiving, sending = socket.socketpair()
    sending.setblocking(False)

    def wait() -> None:
        while signal.SIGINT not in receiving.recv(64):  # other signals write their numbers too
            pass
        threading.Timer(
            GRACE, _leave
        ).start()  # an ending takes long, or whoever reads our output has stopped
        _end()

    threading.Thread(target=wait, daemon=True, name="interrupt").start()
    signal.set_wakeup_fd(sending.detach(), warn_on_full_buffer=False)
    signal.signal(signal.SIGINT, lambda number, frame: None)


def _end(*_) -> None:
    """Print the message, flush what was printed before, do what is to be done in the end, and leave."""
    try:
        os.write(2, f"{_below_bars()}{_message[0]}\n".encode())
        # Other threads run on, and may stumble over what is removed: nobody is to see that.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        sys.stdout.flush()
        for action in tuple(_endings):
            action()
    finally:
        _leave()


def _leave() -> None:
    """Remove scratch folders and end the process."""
    try:
        for folder in tuple(_scratch):
            import shutil

            shutil.rmtree(folder, ignore_errors=True)
    finally:
        os._exit(EXIT)


def _below_bars() -> str:
    """A new line if a progress bar stands on the present one."""
    tqdm = sys.modules.get("tqdm")
    return "\n" if getattr(getattr(tqdm, "tqdm", None), "_instances", ()) else ""
