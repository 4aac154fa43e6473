"""Progress of long work: a bar on a terminal, a line per step elsewhere, nothing when quiet."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator

from jobeff.errors import printable

Advance = Callable[[int], None]
SHOWN_AFTER_S = 1.0
"""Work shorter than this shows no bar."""


class Progress:
    """Where steps say how far they are.

    Parameters
    ----------
    quiet
        Say nothing.
    """

    def __init__(self, quiet: bool = True) -> None:
        self.quiet = quiet
        self.terminal = sys.stderr.isatty()

    def line(self, text: str) -> None:
        """Write one line to standard error, unless quiet.

        Parameters
        ----------
        text
            Without newline.
        """
        if not self.quiet:
            with contextlib.suppress(OSError):  # whoever has read this is gone, or its disk full: the night goes on
                sys.stderr.write(f"jobeff: {printable(text)}\n")
                sys.stderr.flush()

    @contextlib.contextmanager
    def task(self, what: str, total: int, unit: str = "") -> Iterator[Advance]:
        """Show the progress of one piece of work.

        Parameters
        ----------
        what
            In a few words.
        total
            How much there is to do.
        unit
            ``bytes``, or what is counted.

        Yields
        ------
        callable
            To be called with how much more is done.
        """
        if self.quiet or not self.terminal:
            yield lambda _: None
            return
        bar = _Bar(what, total, unit)
        try:
            yield bar.advance
        finally:
            bar.close()


QUIET = Progress()
"""For who has nobody to tell."""


class _Bar:
    """A bar that appears once the work has taken `SHOWN_AFTER_S`, so that short work need not import rich."""

    def __init__(self, what: str, total: int, unit: str) -> None:
        self.what, self.total, self.unit = what, total, unit
        self.done = 0
        self.began = time.monotonic()
        self.shown: Callable[[int], None] | None = None
        self.stop: Callable[[], None] = lambda: None

    def advance(self, more: int) -> None:
        self.done += more
        if self.shown is None and time.monotonic() - self.began > SHOWN_AFTER_S:
            self._show()
        if self.shown is not None:
            self.shown(self.done)

    def close(self) -> None:
        self.stop()

    def _show(self) -> None:
        from rich.console import Console  # noqa: PLC0415
        from rich.progress import (  # noqa: PLC0415
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            ProgressColumn,
            TextColumn,
            TimeRemainingColumn,
            TransferSpeedColumn,
        )
        from rich.progress import Progress as Rich  # noqa: PLC0415

        amount: tuple[ProgressColumn, ...] = (DownloadColumn(), TransferSpeedColumn())
        if self.unit != "bytes":
            amount = (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
        rich = Rich(
            TextColumn("{task.description}"),
            BarColumn(),
            *amount,
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        task = rich.add_task(self.what, total=self.total, rate="")
        rich.start()
        self.stop = rich.stop

        def shown(done: int) -> None:
            rate = done / (time.monotonic() - self.began)
            rich.update(task, completed=done, rate=f"{rate:,.{0 if rate >= 10 else 1}f} {self.unit}/s")

        self.shown = shown
