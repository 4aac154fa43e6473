"""Worker processes, each with one task at a time: when one dies, it is known of what, and which task went with it.

A pool of the standard library is broken as a whole when one of its processes dies, does not say which task that was
at, and waits for ever for a process that has been stopped.
"""

from __future__ import annotations

import collections
import contextlib
import ctypes
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from multiprocessing import connection, forkserver
from multiprocessing.context import ForkServerProcess
from multiprocessing.reduction import ForkingPickler
from pathlib import Path
from typing import Any, TypeVar, cast

from jobeff.engine.forking import STARTED_BY
from jobeff.errors import JobeffError

LOOK_EVERY_S = 1.0
LOOKS = 5
"""A process that was seen stopped so many times in a row does not come back. Ctrl-Z stops us too, so it is no look."""

START_TRIES = 5
START_AGAIN_S = 0.2
CLOSING_S = 2.0
OUT_OF_MEMORY = 86
"""Exit status of a worker whose task had too little memory; no result could be relied upon to get through."""

_KILL_WITH_PARENT = 1  # PR_SET_PDEATHSIG of Linux

Result = TypeVar("Result")


class TaskLostError(BrokenExecutor):
    """A task was lost with the process that did it; the message says what happened to that."""


def end_with_parent(parent: int | None = None) -> None:
    """Have the kernel end this process when the thread that has started it is gone, however that ended.

    The parent holds the locks: whoever outlived it would write without them.

    Parameters
    ----------
    parent
        Its id, so that one that was gone before this is known; by default it is looked for in the environment.
    """
    _set_death_signal(signal.SIGKILL)
    expected = parent or int(os.environ.get(STARTED_BY, "0"))
    if expected not in (0, os.getppid()):
        os._exit(1)


def outlive_thread() -> None:
    """Undo `end_with_parent`, for a process that hears of the end of its parent by itself."""
    _set_death_signal(0)


def _set_death_signal(number: int) -> None:
    with contextlib.suppress(AttributeError, OSError):  # elsewhere than on Linux it ends with its next task
        ctypes.CDLL(None).prctl(_KILL_WITH_PARENT, number)


class Processes(Executor):
    """Runs tasks in processes of this machine.

    A task whose process dies ends with `TaskLostError`, and the next one gets a new process.

    Parameters
    ----------
    count
        How many at most; they are started as there is work for them.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._waiting: collections.deque[tuple[Future[Any], bytes]] = collections.deque()
        self._workers: list[_Worker] = []
        self._closed = threading.Event()
        self._reader, self._writer = multiprocessing.Pipe(duplex=False)
        os.set_blocking(self._writer.fileno(), False)
        self._threads = [threading.Thread(target=run, daemon=True) for run in (self._manage, self._watch)]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Have a task run.

        Parameters
        ----------
        fn, args, kwargs
            As for any executor; all of it goes through a pipe.

        Returns
        -------
        Future
            Ends with `TaskLostError` where the process died.
        """
        work = _packed((fn, args, kwargs))
        future: Future[Result] = Future()
        self._waiting.append((future, work))
        if self._closed.is_set():
            raise RuntimeError("the executor is closed")
        self._wake()
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:  # noqa: ARG002
        """End all processes now, whatever they do; what has not been done is cancelled.

        Parameters
        ----------
        wait, cancel_futures
            As for any executor, but who wants results has waited for them.
        """
        self._closed.set()
        self._wake()
        # One that is just being started may take long; it ends by itself.
        self._threads[0].join(CLOSING_S)

    def _wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # then it has been woken often enough
            os.write(self._writer.fileno(), b"!")

    def _manage(self) -> None:
        """In a thread: all that is done with the workers, until the end."""
        try:
            while not self._closed.is_set():
                self._hand_out()
                ready = connection.wait([self._reader, *(worker.pipe for worker in self._workers)])
                if self._reader in ready:
                    os.read(self._reader.fileno(), 1 << 16)
                for worker in [one for one in self._workers if one.pipe in ready]:
                    self._hear(worker)
        finally:
            self._closed.set()
            for worker in self._workers:
                worker.process.kill()
            for worker in self._workers:
                why = worker.ended()
                if worker.future is not None:
                    worker.future.set_exception(TaskLostError(why))
            while self._waiting:
                self._waiting.popleft()[0].cancel()

    def _hand_out(self) -> None:
        """Give tasks to workers that have none."""
        while self._waiting and not self._closed.is_set():
            worker = next((one for one in self._workers if one.future is None), None)
            if worker is None and len(self._workers) == self._count:
                return
            future, work = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                if worker is None:
                    worker = _start()
                    self._workers.append(worker)
            except (OSError, EOFError) as error:
                future.set_exception(_not_started(error))
                continue
            worker.future = future
            try:
                worker.pipe.send_bytes(work)
            except OSError:
                self._bury(worker)

    def _hear(self, worker: _Worker) -> None:
        """Take the result of a worker, or note that it is gone."""
        try:
            answer = worker.pipe.recv_bytes()
        except (EOFError, OSError):
            self._bury(worker)
            return
        future, worker.future = worker.future, None
        if future is None:
            return
        try:
            done, result = ForkingPickler.loads(answer)
        except Exception as error:
            done, result = False, error
        if done:
            future.set_result(result)
        else:
            future.set_exception(result)

    def _bury(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        why = worker.ended()
        if worker.future is not None:
            worker.future.set_exception(TaskLostError(why))

    def _watch(self) -> None:
        """In a thread: find those that were stopped. The other thread may be waiting for just them."""
        while not self._closed.wait(LOOK_EVERY_S):
            for worker in list(self._workers):
                worker.look()
            server: int | None = getattr(forkserver._forkserver, "_forkserver_pid", None)
            if server is not None and _stopped(server):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGCONT)  # what it forks is waited for, and it is nobody's task


@dataclass(eq=False)
class _Worker:
    """A process, and what it is at."""

    process: ForkServerProcess
    pipe: connection.Connection
    future: Future[Any] | None = None
    looks: int = 0
    stopped: bool = False

    def look(self) -> None:
        """See whether it is stopped, and kill it where it has been for too long."""
        pid = self.process.pid
        self.looks = self.looks + 1 if pid is not None and _stopped(pid) else 0
        if self.looks >= LOOKS:
            self.stopped = True
            self.process.kill()

    def ended(self) -> str:
        """See that it is dead; says of what."""
        with _STARTING:
            self.process.join(CLOSING_S)
            if self.process.exitcode is None:
                self.process.kill()
                self.process.join(CLOSING_S)
            code = self.process.exitcode
        self.pipe.close()
        if self.stopped:
            return f"was stopped (SIGSTOP), and was still so {LOOKS * LOOK_EVERY_S:g} s later"
        return _explained(code)


_STARTING = threading.Lock()
"""The standard library looks after all children whenever it starts one, and two must not ask for one's status."""


def _start() -> _Worker:
    """Start a worker; what forks it may have to be started again first."""
    context = multiprocessing.get_context("forkserver")
    tries = 0
    while True:
        ours, theirs = context.Pipe()
        process = context.Process(target=_work, args=(theirs,), daemon=True)
        try:
            with _STARTING:
                process.start()
        except (OSError, EOFError):
            ours.close()
            tries += 1
            if tries == START_TRIES:
                raise
            time.sleep(START_AGAIN_S)  # until it is known to be dead
        else:
            return _Worker(process, ours)
        finally:
            theirs.close()


def _not_started(error: Exception) -> JobeffError:
    return JobeffError(
        "cannot start a worker process",
        why=str(error) or type(error).__name__,
        safe="What had been written is whole",
        todo="Run again; --workers 0 runs without worker processes",
    )


def _explained(code: int | None) -> str:
    """What a status of `multiprocessing` means."""
    if code is None:
        return "is gone"
    if code == OUT_OF_MEMORY:
        return "ran out of memory"
    if code >= 0:
        return f"ended with status {code}"
    name = next((one.name for one in signal.Signals if one == -code), "unknown")
    oom = ", as the kernel does when memory runs out" if -code == signal.SIGKILL else ""
    return f"was killed by signal {-code} ({name}{oom})"


def _stopped(pid: int) -> bool:
    """Whether a process has been stopped, by somebody or by its terminal; a debugger's hold is another state."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] == b"T"
    except (OSError, IndexError):
        return False


def _work(pipe: connection.Connection) -> None:
    """In a worker: do one task after the other until the parent closes the pipe."""
    _set_death_signal(signal.SIGKILL)
    with contextlib.suppress(OSError, TypeError):  # what has forked us ends when nobody but the command holds this
        os.close(cast(int, getattr(forkserver._forkserver, "_forkserver_alive_fd", None)))
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipe.send_bytes(_answer(pipe.recv_bytes()))


def _answer(work: bytes) -> bytes:
    """Do a task; whether it went well, and its result or error, as bytes."""
    try:
        function, args, kwargs = ForkingPickler.loads(work)
        return _packed((True, function(*args, **kwargs)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:
        error.add_note(f"in worker process {os.getpid()}:\n{traceback.format_exc()}")
        try:
            return _packed((False, error))
        except Exception:
            return _packed((False, RuntimeError(f"{type(error).__name__}: {error}")))


def _packed(what: object) -> bytes:
    """As it goes through a pipe between processes of one run; nothing that is kept is written so."""
    return bytes(ForkingPickler.dumps(what))
