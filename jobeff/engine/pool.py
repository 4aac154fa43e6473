"""The executor: in this process, or a pool in which each worker owns a set of nodes."""

from __future__ import annotations

import contextlib
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import forkserver
from multiprocessing.connection import Connection
from typing import Any, Generic, TypeVar

from jobeff.errors import JobeffError

COMPILING_AFTER_S = 4
"""Loading the kernels takes less than this; what takes longer is compiling."""

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
            Done already; an exception is raised here and now, with its own traceback.
        """
        done: Future[Result] = Future()
        done.set_result(fn(*args, **kwargs))
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
        Of ``concurrent.futures``. Its processes end with it, without waiting for tasks that have not begun.
    """
    if workers == 0:
        yield InProcess()
        return
    prepare()
    context = multiprocessing.get_context("forkserver")
    reader, writer = context.Pipe(duplex=False)
    pool = ProcessPoolExecutor(workers, mp_context=context, initializer=_stay_with_parent, initargs=(reader,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        writer.close()
        reader.close()


def prepare() -> None:
    """Start what forks the workers, so that it gets ready while this process does something else."""
    # A server that has imported the kernels forks the workers: quick, and free of this process's threads.
    multiprocessing.get_context("forkserver").set_forkserver_preload(["jobeff.engine.preload"])
    forkserver.ensure_running()


@contextlib.contextmanager
def told_if_slow(say: Callable[[str], None]) -> Iterator[None]:
    """Say that kernels are being compiled, where what is done takes as long as that.

    Parameters
    ----------
    say
        Told so; it happens once after installation.
    """
    timer = threading.Timer(COMPILING_AFTER_S, say, ["compiling the kernels, once after installation ..."])
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
    with _told():
        pool.submit(_nothing).result()


def _nothing() -> None:
    """What a worker does to show that it is there."""


def _stay_with_parent(reader: Connection) -> None:
    """In a worker: end when the parent is gone, however it died, and leave Ctrl-C to it.

    The parent holds the other end of the pipe and the locks: a worker that outlived it would write without them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        with contextlib.suppress(EOFError, OSError):
            reader.recv_bytes()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


Chain = Generator[list[tuple[Callable[[Any], Any], Any]], list[Any], Result]
"""Work in several stages: yields the tasks of a stage, each a function and its argument, and is sent their results."""


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
        A worker process died.
    """
    waiting = iter(chains)
    running: dict[Future[Any], _Stage[Result]] = {}
    begun: set[Chain[Result]] = set()

    def go_on(chain: Chain[Result], results: list[Any] | None) -> Iterator[Result]:
        """Send a chain the results of a stage, and submit the next one, or the first one of a new chain."""
        while True:  # however many chains in a row are done at once
            begun.add(chain)
            try:
                tasks = next(chain) if results is None else chain.send(results)
                while not tasks:
                    tasks = chain.send([])
            except StopIteration as stop:
                begun.discard(chain)
                yield stop.value
                new = next(waiting, None)
                if new is None:
                    return
                chain, results = new, None
                continue
            stage = _Stage(chain, [pool.submit(function, task) for function, task in tasks])
            running.update(dict.fromkeys(stage.futures, stage))
            return

    with _told():
        try:
            for chain in itertools.islice(waiting, at_once):
                yield from go_on(chain, None)
            while running:
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    future.result()  # an error ends all of it now
                    stage = running.pop(future)
                    if not any(other in running for other in stage.futures):
                        yield from go_on(stage.chain, [other.result() for other in stage.futures])
        finally:  # what the others hold open is not left to the garbage collector
            for left in begun:
                left.close()


@dataclass
class _Stage(Generic[Result]):
    """The stage that a chain is in."""

    chain: Chain[Result]
    futures: list[Future[Any]]


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Say in our own words that a worker died."""
    try:
        yield
    except BrokenProcessPool as error:
        raise JobeffError(
            "a worker process died",
            why="it was killed, ran out of memory or crashed",
            safe="What had been written is whole",
            todo="Run again; --workers 0 runs without worker processes",
        ) from error


def default_workers() -> int:
    """Number of cores this process may run on.

    Returns
    -------
    int
        At least 1.
    """
    return max(1, len(os.sched_getaffinity(0)))
