"""What every step is given, and what every step gives back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from jobeff.config import Config
from jobeff.engine import pool
from jobeff.engine.pool import Chain
from jobeff.errors import ConfigError, SetAside
from jobeff.progress import Progress
from jobeff.store import ahead
from jobeff.store.scratch import scratch

if TYPE_CHECKING:
    from jobeff.steps.away import First, Second

Done = TypeVar("Done")


@dataclass
class Site:
    """One site, and how to work on it.

    Attributes
    ----------
    config
        What the site has set.
    workers
        Number of processes; 0 runs in this one.
    engine
        ``local``, or ``dask://HOST:PORT``, whose workers do what processes of this machine do otherwise.
    away
        Half of a run on Slurm that this is; None for a run that is whole.
    progress
        Where steps say how far they are.
    """

    config: Config
    workers: int = 0
    progress: Progress = field(default_factory=Progress)
    engine: str = "local"
    away: First | Second | None = None
    _pool: Executor | None = None
    _warm: bool = False
    _width: int = 0

    @property
    def root(self) -> Path:
        """The data root."""
        return self.config.root

    @property
    def width(self) -> int:
        """How many tasks run at once."""
        return self.away.width if self.away else self._width or max(1, self.workers)

    @property
    def is_local(self) -> bool:
        """Whether all is done on this machine, whose caches can be told to write what others cannot."""
        return self.engine == "local" and self.away is None

    @property
    def run(self) -> str:
        """Name of the run on Slurm; empty for another one."""
        return self.away.run if self.away else ""

    @property
    def is_dry(self) -> bool:
        """Whether nothing is done but to say what would be."""
        return self.away is not None and self.away.dry

    def months_at_once(self, text_bytes: int = 0) -> int:
        """How many months are worked on at once: half of what one takes is done by one worker, however many there are.

        Parameters
        ----------
        text_bytes
            Of the largest, where they are read from the archive: each is read twice, from memory the second time.

        Returns
        -------
        int
            At least 2, so that one fills the gaps of another.
        """
        return max(2, min(self.width, ahead.fitting(text_bytes)))

    def recalled(self, name: str, find: Callable[[], Any]) -> Any:
        """Find something; of a run in two halves the second is given what the first has found.

        Parameters
        ----------
        name, find
            What it is, and what finds it: plain data.

        Returns
        -------
        object
            What was found.
        """
        return self.away.recalled(name, find) if self.away else find()

    def wrapped(self, chains: Sequence[Chain[Done]]) -> Sequence[Chain[Done]]:
        """Chains as this run walks them.

        Parameters
        ----------
        chains
            Of tasks.

        Returns
        -------
        sequence
            As many.
        """
        return self.away.wrapped(chains) if self.away else chains

    def planned(self) -> None:
        """Leave the step here, where this is its first half."""
        if self.away:
            self.away.ended()

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """A scratch folder, of the run.

        Yields
        ------
        Path
            See `jobeff.store.scratch.scratch`.
        """
        if self.away:
            yield self.away.scratch
            return
        with scratch(self.root) as folder:
            yield folder

    def warm(self) -> None:
        """Have the kernels compiled, and say so where that takes a while; a pool that is open has seen to it."""
        from jobeff.engine import warm  # noqa: PLC0415  (steps without kernels shall not wait for numba)

        if not self._warm and self._pool is None:
            with pool.told_if_slow(self.progress.line):
                warm.run_if_cold()
            self._warm = True

    @contextlib.contextmanager
    def executor(self) -> Iterator[Executor]:
        """One executor for all steps within: a nested use gets the same one.

        Yields
        ------
        Executor
            From `jobeff.engine.pool.executor`, or workers of a Dask cluster.
        """
        if self._pool is not None:
            yield self._pool
            return
        with self._opened() as opened:
            self._pool = opened
            try:
                yield opened
            finally:
                self._pool = None

    @contextlib.contextmanager
    def _opened(self) -> Iterator[Executor]:
        if self.engine != "local":
            with _dask().cluster(self.engine, self.root, self.progress.line) as connected:
                self._width = connected.count
                yield connected
            return
        if self.workers == 0:
            self.warm()
        with pool.executor(self.workers) as opened:
            with pool.told_if_slow(self.progress.line):
                pool.ready(opened)
            yield opened


def _dask() -> ModuleType:
    try:
        from jobeff.engine import dask  # noqa: PLC0415  (it is an extra)
    except ModuleNotFoundError as error:
        raise ConfigError(
            "cannot use Dask",
            why=f"{error.name} is not installed",
            safe="Nothing was done",
            todo="Install jobeff with its extra: pip install 'jobeff[dask]'",
        ) from error
    return dask


@dataclass
class StepResult:
    """What a step has done.

    Attributes
    ----------
    step
        Name of the command.
    counts
        How many of what, in the order they shall be shown in.
    aside
        What could not be used.
    seconds
        How long it took.
    failed
        Why it did not do what it should, within `update`, where the others go on.
    """

    step: str
    counts: dict[str, int] = field(default_factory=dict)
    aside: SetAside = field(default_factory=SetAside)
    seconds: float = 0.0
    failed: str = ""

    def count(self, what: str, more: int = 1) -> None:
        """Add to one of the counts.

        Parameters
        ----------
        what, more
            Which one, and how many.
        """
        self.counts[what] = self.counts.get(what, 0) + more


@contextlib.contextmanager
def timed(step: str, *counts: str) -> Iterator[StepResult]:
    """Make a step's result and fill in how long it took.

    Parameters
    ----------
    step
        Name of the command.
    counts
        Counts that are shown even when they are 0.

    Yields
    ------
    StepResult
        To be filled.
    """
    result = StepResult(step, dict.fromkeys(counts, 0))
    began = time.monotonic()
    yield result
    result.seconds = time.monotonic() - began
