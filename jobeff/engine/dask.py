"""The workers of a Dask cluster as an executor; it is connected to, and not deployed.

What can be lost there is a worker, which Dask has replaced, or the scheduler, with all that it knew. Both cost a retry.
A worker that is thought to be dead may be alive all the same: see `jobeff.store.fences`.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dask
import distributed
from distributed.scheduler import KilledWorker

from jobeff.code import code
from jobeff.engine import remote
from jobeff.engine.processes import TaskLostError
from jobeff.errors import JobeffError, shown
from jobeff.store import fences
from jobeff.store.scratch import scratch

CONNECT_S = 10.0
RECONNECT_S = 120.0
"""For so long a scheduler may be away, and a cluster be without any worker."""

SETTLE_S = 60.0
"""For so long what was lost may go on in a worker that nobody hears of any more."""

PROBE_S = 60.0
LOOK_EVERY_S = 0.5
WORKERS_EVERY_S = 5.0
CLOSING_S = 2.0
RESTART = "restart"
RESTARTS = 10
"""Of one task, because the scheduler was restarted under it."""

Result = TypeVar("Result")


@dataclass(eq=False)
class _Job:
    """A task, and what has become of it: `remote` is with the scheduler, or None where it has to be sent."""

    future: Future[Any]
    function: Callable[[Any], Any]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    remote: Any = None
    ticket: Path = Path()
    lost: str = ""
    settling_since: float = 0.0
    restarts: int = 0


@contextlib.contextmanager
def cluster(engine: str, root: Path, say: Callable[[str], None]) -> Iterator[Cluster]:
    """Connect to a Dask cluster.

    Parameters
    ----------
    engine
        ``dask://HOST:PORT`` of its scheduler.
    root
        Data root, which all workers see by the same path.
    say
        Told what is waited for.

    Yields
    ------
    Cluster
        What has not ended when it is closed is not begun any more.

    Raises
    ------
    JobeffError
        There is no scheduler, no worker, or one that cannot be used.
    """
    dask.config.set({"logging.distributed": "critical"})
    address = f"tcp://{engine.removeprefix('dask://')}"
    with scratch(root) as folder:
        client = _connected(address, CONNECT_S)
        opened = None
        try:
            workers = _workers(client)
            if not workers:
                say(f"{engine} has no worker yet, waiting ...")
                _wait_for_worker(client, engine)
                workers = _workers(client)
            _probe(client, folder, workers)
            opened = Cluster(client, address, root, folder, len(workers))
            say(f"{engine} has {len(workers)} workers")
            yield opened
        finally:
            if opened is not None:
                opened.shutdown()
                client = opened.client
            with contextlib.suppress(Exception):  # whatever state it is in
                client.close(timeout=CLOSING_S)


def _connected(address: str, wait_s: float) -> distributed.Client:
    try:
        return distributed.Client(address, timeout=wait_s, set_as_default=False)
    except (OSError, ValueError) as error:
        raise JobeffError(
            "cannot connect to a Dask scheduler",
            where=address.replace("tcp://", "dask://"),
            why=shown(str(error.__cause__ or "") or str(error)),  # the cause of a time-out may say nothing
            safe="What had been written before is whole",
            todo="See that it runs and can be reached ('dask scheduler'), or use --engine local",
        ) from error


def _workers(client: distributed.Client) -> list[str]:
    return sorted(client.nthreads())


def _wait_for_worker(client: distributed.Client, engine: str) -> None:
    try:
        client.wait_for_workers(1, timeout=CONNECT_S)
    except TimeoutError as error:
        raise _no_worker(engine) from error


def _no_worker(engine: str) -> JobeffError:
    return JobeffError(
        "a Dask cluster has no worker",
        where=engine,
        why="none has come up",
        safe="What had been written before is whole",
        todo=f"Start some ('dask worker {engine.partition('://')[2]} --nthreads 1'), and run again",
    )


def _probe(client: distributed.Client, folder: Path, workers: list[str]) -> None:
    """Ask each worker whether it can be used, and have its kernels ready."""
    file, text = folder / "probe", secrets.token_hex(8)
    with file.open("w", encoding="utf-8") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write(text)
        held.flush()
        probe = remote.Probe(file, text, code())
        asked = [client.submit(remote.refusal, probe, workers=[worker], pure=False) for worker in workers]
        remote.refuse([_answer(one) for one in asked])
    for one in [client.submit(remote.warmed, workers=[worker], pure=False) for worker in workers]:
        # One that takes longer, or is gone, does it with its first task.
        with contextlib.suppress(TimeoutError, KilledWorker, distributed.CancelledError):
            one.result(timeout=PROBE_S)


def _answer(asked: Any) -> str:
    """Why a worker cannot be used; one that does not answer is asked again with each task."""
    try:
        error = asked.exception(timeout=PROBE_S)
    except (TimeoutError, distributed.CancelledError):
        return ""
    if isinstance(error, KilledWorker):
        return ""
    return str(asked.result()) if error is None else f"{type(error).__name__} {shown(str(error))}"


class Cluster(Executor):
    """Runs tasks on the workers of a Dask cluster.

    Parameters
    ----------
    client, address
        Connected to its scheduler.
    root, folder
        Data root, and a folder below it for tickets.
    count
        How many workers there are.
    """

    def __init__(self, client: distributed.Client, address: str, root: Path, folder: Path, count: int) -> None:
        self.client = client
        self.count = count
        self._address, self._root, self._folder = address, root, folder
        self._jobs: list[_Job] = []
        self._new = threading.Lock()
        self._wake, self._closed = threading.Event(), threading.Event()
        self._away_since = self._idle_since = self._looked = 0.0
        self._thread = threading.Thread(target=self._manage, daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Have a task run.

        Parameters
        ----------
        fn, args, kwargs
            A function that can be imported, and small arguments.

        Returns
        -------
        Future
            Ends with `TaskLostError` where Dask gives the task up, as it does when several workers have died of it.
        """
        future: Future[Result] = Future()
        with self._new:
            if self._closed.is_set():
                raise RuntimeError("the executor is closed")
            self._jobs.append(_Job(future, fn, args, kwargs))
        self._wake.set()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """Forget all that has not been done.

        Parameters
        ----------
        wait, cancel_futures
            As for any executor, but who wants results has waited for them.
        """
        self._closed.set()
        self._wake.set()
        self._thread.join(CLOSING_S)

    def _manage(self) -> None:
        """In a thread: all that is done with the client, until the end."""
        failed: BaseException | None = None
        try:
            while not self._closed.is_set():
                self._wake.wait(LOOK_EVERY_S)
                self._wake.clear()
                self._look()
        except BaseException as error:
            failed = error
        with self._new:
            self._closed.set()
            left, self._jobs = self._jobs, []
        for job in left:
            if failed is not None:
                job.future.set_exception(failed)
            else:
                job.future.cancel()

    def _look(self) -> None:
        """See what has become of all tasks, and send those that are to be sent."""
        with self._new:
            jobs = list(self._jobs)
        connected = self._is_connected()
        for job in jobs:
            if job.lost:
                self._settle(job)
            elif job.remote is not None:
                self._hear(job)
            if connected and job.remote is None and not job.lost and not job.future.done():
                self._send(job)
        with self._new:
            self._jobs = [job for job in self._jobs if not job.future.done()]
        if connected and self._jobs:
            self._see_workers()

    def _send(self, job: _Job) -> None:
        job.ticket = fences.issue(self._folder)
        order = remote.Order(job.ticket, self._root, code())
        key = f"{getattr(job.function, '__name__', 'task')}-{job.ticket.name}"
        with contextlib.suppress(distributed.client.ClosedClientError):  # the next look connects again
            what = (order, job.function, *job.args)
            job.remote = self.client.submit(remote.done, *what, **job.kwargs, key=key, pure=False)
            job.remote.add_done_callback(lambda _: self._wake.set())

    def _hear(self, job: _Job) -> None:
        """Take a result, or note that the task is lost."""
        status = job.remote.status
        if status == "finished":
            with contextlib.suppress(TimeoutError, distributed.CancelledError):  # its worker is gone: it is done again
                result = job.remote.result(timeout=CONNECT_S)
                if self._is_settled(job):
                    job.future.set_result(result)
        elif status == "error":
            error = job.remote.exception(timeout=CONNECT_S)
            if isinstance(error, KilledWorker):
                self._lose(job, f"was lost with {error.allowed_failures + 1} Dask workers")
            elif isinstance(error, TaskLostError):
                self._lose(job, str(error))
            elif self._is_settled(job):
                job.future.set_exception(error)
        elif status in ("cancelled", "lost"):
            job.restarts += 1
            self._lose(job, "was lost with its Dask scheduler" if job.restarts > RESTARTS else RESTART)

    def _lose(self, job: _Job, why: str) -> None:
        job.lost, job.remote = why, None
        self._settle(job)

    def _settle(self, job: _Job) -> None:
        """Have a lost task done again, once it is certain that nobody is at it."""
        if not self._is_settled(job):
            return
        if job.lost == RESTART:  # it is nobody's fault, so it does not count
            job.lost, job.settling_since = "", 0.0
        else:
            job.future.set_exception(TaskLostError(job.lost))

    def _is_settled(self, job: _Job) -> bool:
        """Whether nobody is at a task any more, nor will be."""
        if fences.withdraw(job.ticket):
            return True
        now = time.monotonic()
        job.settling_since = job.settling_since or now
        if now - job.settling_since > SETTLE_S:
            raise JobeffError(
                "a task that was lost with its worker goes on there",
                why=f"its worker had not ended {SETTLE_S:g} s later",
                safe="What had been written before is whole",
                todo="End the workers that the scheduler does not know of, and run again",
            )
        return False

    def _is_connected(self) -> bool:
        """Whether there is a scheduler; where it is away for too long, all ends."""
        if self.client.status == "running":
            self._away_since = 0.0
            return True
        now = time.monotonic()
        self._away_since = self._away_since or now
        if self.client.status == "closed":  # it has given up, and we have not
            try:
                self.client = _connected(self._address, CONNECT_S)
            except JobeffError:
                if now - self._away_since > RECONNECT_S:
                    raise
        return False

    def _see_workers(self) -> None:
        """End all where nobody does anything any more."""
        now = time.monotonic()
        if now - self._looked < WORKERS_EVERY_S:
            return
        self._looked = now
        with contextlib.suppress(OSError, TimeoutError, distributed.CancelledError):  # the next look connects again
            if _workers(self.client):
                self._idle_since = 0.0
                return
            self._idle_since = self._idle_since or now
            if now - self._idle_since > RECONNECT_S:
                raise _no_worker(self._address.replace("tcp://", "dask://"))
