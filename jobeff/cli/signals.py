"""Ctrl-C, SIGTERM and the end of the terminal: a command ends within seconds, wherever it is.

The first signal raises an exception in the main thread, which leaves what it is at in order. That is not heard while
the thread is within a library, and can be lost in one. So a clock runs from then on, at whose end the process ends as
it is: what has been written is whole at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
GRACE_S = 3.5
SAID = "jobeff: error: interrupted; what was written is whole, run again to go on\n"

_went_on = threading.Event()
_ours: list[signal.Signals] = []


@contextlib.contextmanager
def heard() -> Iterator[None]:
    """Have signals end what is done within."""
    before, complaints = {number: signal.getsignal(number) for number in SIGNALS}, sys.unraisablehook
    # Whoever has started us in the background, or by nohup, has had them ignored.
    _ours[:] = [number for number, handler in before.items() if handler is not signal.SIG_IGN]
    _handle(_stop)
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    descriptor = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
    threading.Thread(target=_clock, args=(reader,), daemon=True).start()
    try:
        yield
    finally:
        sys.unraisablehook = complaints
        signal.set_wakeup_fd(descriptor)
        os.close(writer)
        for number in _ours:
            if signal.getsignal(number) is _stop:  # once one was heard, they stay ignored to the end
                signal.signal(number, before[number])


def go_on() -> None:
    """Stop the clock: whoever asks for statements goes on after Ctrl-C."""
    _went_on.set()
    _handle(_stop)
    sys.unraisablehook = sys.__unraisablehook__


def _handle(handler: Callable[[int, FrameType | None], None] | signal.Handlers) -> None:
    for number in _ours:
        signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    """The first signal; a second one shall not disturb what the first has begun."""
    _handle(signal.SIG_IGN)
    sys.unraisablehook = lambda _: None  # what a library was just making may be half made, and say so as it goes
    for output in (1, 2):
        try:
            os.write(output, b"")
        except OSError:  # the terminal is gone, and what is still to be said would be an error of its own
            os.dup2(os.open(os.devnull, os.O_WRONLY), output)
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


def _clock(reader: int) -> None:
    """In a thread, which hears of a signal at once."""
    while number := os.read(reader, 1):
        if number[0] in SIGNALS and not _went_on.wait(GRACE_S):
            with contextlib.suppress(OSError):
                os.write(2, SAID.encode())
            os._exit(128 + number[0])
        _went_on.clear()
    os.close(reader)
