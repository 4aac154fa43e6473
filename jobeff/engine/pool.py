"""The executor, in this process or in others, and chains of tasks that survive the processes that do them."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, BrokenExecutor, Executor, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from jobeff.engine.forking import prepare
from jobeff.engine.processes import Processes, TaskLostError
from jobeff.errors import JobeffError

COMPILING_AFTER_S = 4
"""Loading the kernels takes less than this, but on a busy machine; what takes longer is compiling."""

COMPILING = "compiling the kernels, once after installation, or loading them slowly; this takes up to two minutes ..."

LOSSES_ALONE = 2
"""A task that has been lost so often runs while nothing else does, so that it has all the memory there is."""

LOSSES_ENOUGH = 3
"""A task that has been lost so often is given up, or divided."""

Result = TypeVar("Result")


class InProcess(Executor):
    """Runs each task at once in this process; what ``--workers 0`` means."""

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Run a task.

        Parameters
        ----------
        fn, args, kwargs
            As for any executor.

        Returns
        -------
        Future
            Done already; an exception is raised here and now, with its own traceback. Where memory ran out, the task
            is lost as it would be with a worker process.
        """
        done: Future[Result] = Future()
        try:
            done.set_result(fn(*args, **kwargs))
        except MemoryError:
            done.set_exception(TaskLostError("ran out of memory"))
        return done


@contextlib.contextmanager
def executor(workers: int) -> Iterator[Executor]:
    """Open an executor.

    Parameters
    ----------
    workers
        Number of processes; 0 runs in this one.

    Yields
    ------
    Executor
        Of ``concurrent.futures``. Its processes end with it, whatever they are at. Any other one will do too, as long
        as it ends the future of a task that was lost with its process with a ``BrokenExecutor``, and goes on.
    """
    if workers == 0:
        yield InProcess()
        return
    prepare()
    pool = Processes(workers)
    try:
        yield pool
    finally:
        pool.shutdown()


@contextlib.contextmanager
def told_if_slow(say: Callable[[str], None]) -> Iterator[None]:
    """Say that kernels are being compiled, where what is done takes as long as that.

    Parameters
    ----------
    say
        Told so; it happens once after installation.
    """
    timer = threading.Timer(COMPILING_AFTER_S, say, [COMPILING])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def ready(pool: Executor) -> None:
    """Wait until a worker is there to work.

    Parameters
    ----------
    pool
        From `executor`.
    """
    list(run_chains(pool, [_one(_nothing)], 1))


def _nothing(_: None) -> None:
    """What a worker does to show that it is there."""


def _one(function: Callable[[None], None]) -> Chain[None]:
    yield [(function, None)]


class Task:
    """What a worker is given, as far as it matters when workers die of it.

    Attributes
    ----------
    writes_shards
        Whether it writes shards, which outlast the run, or in the run's scratch folder alone.
    """

    writes_shards: ClassVar[bool] = False

    @property
    def text(self) -> Path | None:
        """What it reads that takes long to map, so that who has done so had best do others of it; None: nothing."""
        return None

    def named(self) -> str:
        """Say what it is about.

        Returns
        -------
        str
            For messages.
        """
        return ""

    def split(self) -> Sequence[Task]:
        """Divide it, so that what workers die of is told from the rest.

        Returns
        -------
        sequence of Task
            One where it cannot be divided.
        """
        return [self]

    def lost(self, why: str) -> Any:
        """Give it up.

        Parameters
        ----------
        why
            What happens to a worker that does it, as in "was killed by signal 11".

        Returns
        -------
        object
            A result that says what is missing.

        Raises
        ------
        JobeffError
            Nothing can be done without it.
        """
        raise JobeffError(
            "a task was given up",
            where=self.named(),
            why=f"the worker process that did it {why}, each of {LOSSES_ENOUGH} times",
            safe="Nothing was published of it, and what had been written before is whole",
            todo="Run again; --workers 0 runs without worker processes",
        )


Chain = Generator[list[tuple[Callable[[Any], Any], Any]], list[Any], Result]
"""Work in several stages: yields the tasks of a stage, each a function and its argument, and is sent their results.

A `Task` that had to be divided has several results, in its place.
"""


@dataclass(eq=False)
class _Stage(Generic[Result]):
    """The stage that a chain is in: results by place of their task, and how many tasks are still open."""

    chain: Chain[Result]
    results: list[list[Any]]
    open: int


@dataclass(eq=False)
class _Piece(Generic[Result]):
    """A task of a stage, or a part of one, and how often it was lost."""

    stage: _Stage[Result]
    place: int
    function: Callable[[Any], Any]
    task: Any
    losses: int = 0


@dataclass
class _Running(Generic[Result]):
    """Chains that are being worked off.

    A task that is lost is done again: beside others, then alone, then divided, and each part alone. So what is given
    up at last is what workers die of, and only that.
    """

    pool: Executor
    waiting: Iterator[Chain[Result]]
    begun: set[Chain[Result]] = field(default_factory=set)
    ready: collections.deque[_Piece[Result]] = field(default_factory=collections.deque)
    alone: collections.deque[_Piece[Result]] = field(default_factory=collections.deque)
    running: dict[Future[Any], _Piece[Result]] = field(default_factory=dict)
    failed: list[JobeffError] = field(default_factory=list)

    def go_on(self, chain: Chain[Result], results: list[Any] | None) -> Iterator[Result]:
        """Send a chain the results of a stage, and take its next one, or the first one of a new chain."""
        while True:  # however many chains in a row are done at once
            self.begun.add(chain)
            try:
                tasks = next(chain) if results is None else chain.send(results)
                while not tasks:
                    tasks = chain.send([])
            except StopIteration as stop:
                self.begun.discard(chain)
                yield stop.value
                new = next(self.waiting, None)
                if new is None:
                    return
                chain, results = new, None
                continue
            stage = _Stage(chain, [[] for _ in tasks], len(tasks))
            self.ready.extend(_Piece(stage, place, *task) for place, task in enumerate(tasks))
            self.submit()
            return

    def submit(self) -> None:
        """Have tasks run: those that must be alone as soon as nothing else does, and nothing else until then."""
        if self.alone and not self.running:
            self._submit(self.alone.popleft())
        while self.ready and not self.alone:
            self._submit(self.ready.popleft())

    def _submit(self, piece: _Piece[Result]) -> None:
        submit = self.pool.submit
        if len(piece.stage.results) == 1 and isinstance(self.pool, Processes):
            submit = self.pool.submit_first  # its chain goes on as soon as it is done, and has others to do then
        self.running[submit(piece.function, piece.task)] = piece

    def settle(self, future: Future[Any]) -> Iterator[Result]:
        """Take what came of a task."""
        piece = self.running.pop(future)
        stage = piece.stage
        if stage.chain not in self.begun:  # another task of it was given up
            return
        try:
            results = [future.result()]
        except (BrokenExecutor, MemoryError) as error:
            try:
                if self.again(piece):
                    return
                why = "ran out of memory" if isinstance(error, MemoryError) else str(error)
                results = [_given_up(piece.task, why)]
            except JobeffError as failed:
                self.failed.append(failed)
                stage.chain.close()
                self.begun.discard(stage.chain)
                new = next(self.waiting, None)
                if new is not None:
                    yield from self.go_on(new, None)
                return
        stage.results[piece.place] += results
        stage.open -= 1
        if stage.open == 0:
            yield from self.go_on(stage.chain, list(itertools.chain.from_iterable(stage.results)))

    def again(self, piece: _Piece[Result]) -> bool:
        """Have a task that was lost done again, or its parts; False where it has been lost too often."""
        piece.losses += 1
        if piece.losses < LOSSES_ENOUGH:
            if piece.losses < LOSSES_ALONE:
                self.ready.append(piece)
            else:
                self.alone.appendleft(piece)  # before other parts of the same, so that results stay in order
            return True
        parts = piece.task.split() if isinstance(piece.task, Task) else []
        if len(parts) < 2:
            return False
        piece.stage.open += len(parts) - 1
        once = LOSSES_ALONE - 1
        self.alone.extend(_Piece(piece.stage, piece.place, piece.function, part, once) for part in parts)
        return True


def _given_up(task: Any, why: str) -> Any:
    return (task if isinstance(task, Task) else Task()).lost(why)


def run_chains(pool: Executor, chains: Iterable[Chain[Result]], at_once: int) -> Iterator[Result]:
    """Run chains of work, several at once, so that one fills the gaps of another.

    Parameters
    ----------
    pool
        From `executor`.
    chains
        Begun only as fast as they are worked off, so memory stays bounded.
    at_once
        How many.

    Yields
    ------
    Result
        What each chain returns, in order of completion.

    Raises
    ------
    JobeffError
        Workers died of a task again and again, and its chain cannot do without it; the others have been done.
    """
    work: _Running[Result] = _Running(pool, iter(chains))
    try:
        for chain in itertools.islice(work.waiting, at_once):
            yield from work.go_on(chain, None)
        while work.running:
            done, _ = wait(work.running, return_when=FIRST_COMPLETED)
            for future in done:
                yield from work.settle(future)  # an error ends all of it now
            work.submit()
    finally:  # what the others hold open is not left to the garbage collector
        for left in work.begun:
            left.close()
    if work.failed:
        raise work.failed[0]


def default_workers() -> int:
    """Number of cores this process may run on.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, len(os.sched_getaffinity(0)))
