"""Signals that ask a long computation to stop: the first one lets it end what it is at and save."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any


class Interrupt:
    """Whether somebody has asked to stop."""

    pending = False


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[Interrupt]:
    """Turn the first Ctrl-C, SIGTERM or SIGHUP into a flag; the second one raises KeyboardInterrupt.

    A signal that the process was told to ignore, as SIGHUP under `nohup`, stays ignored.
    """
    state = Interrupt()

    def handler(number: int, frame: FrameType | None) -> None:
        if state.pending:
            raise KeyboardInterrupt
        state.pending = True

    with _handled(handler, ("SIGINT", "SIGTERM", "SIGHUP")):
        yield state


@contextlib.contextmanager
def signals_interrupt() -> Iterator[None]:
    """Let SIGTERM (schedulers, containers) and SIGHUP (a closed terminal) raise KeyboardInterrupt, as Ctrl-C does."""

    def handler(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled(handler, ("SIGTERM", "SIGHUP")):
        yield


@contextlib.contextmanager
def _handled(handler: Any, names: tuple[str, ...]) -> Iterator[None]:
    previous: dict[int, Any] = {}
    if threading.current_thread() is threading.main_thread():  # no signal arrives in another
        for name in names:  # Windows has no SIGHUP
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, handler)
    try:
        yield
    finally:
        for number, before in previous.items():
            signal.signal(number, before)
