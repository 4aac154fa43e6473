"""Worker processes, each with one task at a time: when one dies, it is known of what, and which task went with it.

A pool of the standard library is broken as a whole when one of its processes dies, does not say which task that was
at, and waits for ever for a process that has been stopped.
"""

from __future__ import annotations

import collections
import contextlib
import os
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from jobeff.engine import forking, pipes
from jobeff.engine.forking import OUT_OF_MEMORY
from jobeff.errors import JobeffError

LOOK_EVERY_S = 1.0
LOOKS = 5
"""A process that was seen stopped so many times in a row does not come back. Ctrl-Z stops us too, so it is no look."""

LOOKED_AT = 1 << 8
"""Of more tasks that wait no more are looked at for one that suits a worker."""

PATIENCE_S = 0.01
"""So long a worker that has nothing to do waits for a task, before it takes one of a text that another one has mapped:
what comes of its last task is just being made use of. To map a month takes ten times as long."""

START_TRIES = 5
START_AGAIN_S = 0.2
CLOSING_S = 2.0
ANSWERED_S = 5.0
"""What forks the workers says how one has ended as soon as it is asked, or when it goes on after it was stopped."""

DEAD_SOON_S = 0.001

Result = TypeVar("Result")


class TaskLostError(BrokenExecutor):
    """A task was lost with the process that did it; the message says what happened to that."""


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
        self._first: collections.deque[_Waiting] = collections.deque()
        self._waiting: collections.deque[_Waiting] = collections.deque()
        self._workers: list[_Worker] = []
        self._closed = threading.Event()
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)
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
        return self._submit(self._waiting, fn, args, kwargs)

    def submit_first(self, fn: Callable[..., Result], /, *args: Any, **kwargs: Any) -> Future[Result]:
        """Have a task run before all that wait but those that were given in this way.

        Parameters
        ----------
        fn, args, kwargs
            See `submit`.

        Returns
        -------
        Future
            See `submit`.
        """
        return self._submit(self._first, fn, args, kwargs)

    def _submit(
        self,
        queue: collections.deque[_Waiting],
        fn: Callable[..., Result],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[Result]:
        work = pipes.packed((fn, args, kwargs))
        future: Future[Result] = Future()
        queue.append(_Waiting(future, work, getattr(args[0], "text", None) if args else None))
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
        with contextlib.suppress(OSError):  # it has been woken often enough, or is at its end
            self._writer.send(b"!")

    def _manage(self) -> None:
        """In a thread: all that is done with the workers, until the end."""
        try:
            while not self._closed.is_set():
                again_s = self._hand_out()
                ready = _readable([self._reader, *(worker.pipe for worker in self._workers)], again_s)
                if self._reader in ready:
                    self._reader.recv(1 << 16)
                for worker in [one for one in self._workers if one.pipe in ready]:
                    self._hear(worker)
        finally:
            self._closed.set()
            for worker in self._workers:
                worker.kill()
            for worker in self._workers:
                if worker.future is not None:
                    worker.future.set_exception(TaskLostError(worker.ended()))
                else:  # how it ends is no matter, and to give back much memory takes a while
                    worker.pipe.close()
            while queue := self._first or self._waiting:
                queue.popleft().future.cancel()
            self._reader.close()
            self._writer.close()

    def _hand_out(self) -> float | None:
        """Give tasks to workers that have none; in how many seconds to look again, where one waits for a better one."""
        waiting: list[_Worker] = []
        now = time.monotonic()
        while (self._first or self._waiting) and not self._closed.is_set():
            worker = next((one for one in self._workers if one.future is None and one not in waiting), None)
            if worker is None and (waiting or len(self._workers) == self._count):
                break
            task = self._taken(worker, now)
            if task is None and worker is not None:
                waiting.append(worker)
            elif task is not None:
                self._give(worker, task)
        return max(0.0, min(one.idle_since for one in waiting) + PATIENCE_S - now) if waiting else None

    def _taken(self, worker: _Worker | None, now: float) -> _Waiting | None:
        """Take a task that others wait for; else the first of a text that no other worker has, or any after a while."""
        if self._first:
            return self._first.popleft()
        others = {
            one.text for one in self._workers if one is not worker and (worker is None or one.text != worker.text)
        }
        texts = [one.text for one in list(self._waiting)[:LOOKED_AT]]  # a copy, for others put more into it meanwhile
        place = next((place for place, text in enumerate(texts) if text is None or text not in others), None)
        if place is None:
            if worker is not None and now - worker.idle_since < PATIENCE_S:
                return None
            place = 0
        found = self._waiting[place]
        del self._waiting[place]
        return found

    def _give(self, worker: _Worker | None, task: _Waiting) -> None:
        """Give a task to a worker, or to a new one."""
        if not task.future.set_running_or_notify_cancel():
            return
        try:
            if worker is None:
                worker = _start()
                self._workers.append(worker)
        except (OSError, EOFError) as error:
            task.future.set_exception(_not_started(error))
            return
        worker.future, worker.text = task.future, task.text or worker.text
        try:
            pipes.send(worker.pipe, task.work)
        except OSError:
            self._bury(worker)

    def _hear(self, worker: _Worker) -> None:
        """Take the result of a worker, or note that it is gone."""
        try:
            answer = pipes.receive(worker.pipe)
        except (EOFError, OSError):
            self._bury(worker)
            return
        future, worker.future, worker.idle_since = worker.future, None, time.monotonic()
        if future is None:
            return
        try:
            done, result = pipes.unpacked(answer)
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
            server = forking.server_id()
            if server is not None and _stopped(server):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(server, signal.SIGCONT)  # what it forks is waited for, and it is nobody's task


class _Waiting(NamedTuple):
    """A task that waits: its future, what goes through the pipe, and what it reads, see `jobeff.engine.pool.Task`."""

    future: Future[Any]
    work: bytes
    text: Path | None


@dataclass(eq=False)
class _Worker:
    """A process, what it is at or since when at nothing, and the text that it has read last."""

    pid: int
    pipe: socket.socket
    future: Future[Any] | None = None
    text: Path | None = None
    idle_since: float = 0.0
    looks: int = 0
    stopped: bool = False

    def look(self) -> None:
        """See whether it is stopped, and kill it where it has been for too long."""
        self.looks = self.looks + 1 if _stopped(self.pid) else 0
        if self.looks >= LOOKS:
            self.stopped = True
            self.kill()

    def kill(self) -> None:
        """End it, whatever it does."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> str:
        """See that it is dead; says of what."""
        code = self._code(CLOSING_S)
        if code == forking.ALIVE:
            self.kill()
            code = self._code(CLOSING_S)
        self.pipe.close()
        if self.stopped:
            return f"was stopped (SIGSTOP), and was still so {LOOKS * LOOK_EVERY_S:g} s later"
        return _explained(code)

    def _code(self, within_s: float) -> int:
        """What it has ended with, if it does in time."""
        until = time.monotonic() + within_s
        while True:
            code = forking.status(self.pid, ANSWERED_S)
            if code != forking.ALIVE or time.monotonic() > until:
                return code
            time.sleep(DEAD_SOON_S)  # its pipe is closed before it is dead


def _start() -> _Worker:
    """Start a worker; what forks it may have to be started again first."""
    left = START_TRIES
    while True:
        try:
            return _Worker(*forking.fork())
        except (OSError, EOFError):
            left -= 1
            if not left:
                raise
            time.sleep(START_AGAIN_S)


def _readable(sockets: Sequence[socket.socket], within_s: float | None) -> set[socket.socket]:
    """Wait, for so long at most, until some of them have something, or their other end is gone; which ones."""
    poll = select.poll()
    by_number = {one.fileno(): one for one in sockets}
    for number in by_number:
        poll.register(number, select.POLLIN)
    return {by_number[number] for number, _ in poll.poll(within_s and 1000 * within_s)}


def _not_started(error: Exception) -> JobeffError:
    return JobeffError(
        "cannot start a worker process",
        why=str(error) or type(error).__name__,
        safe="What had been written is whole",
        todo="Run again; --workers 0 runs without worker processes",
    )


def _explained(status: int) -> str:
    """What a status of `forking.status` means."""
    if status in (forking.ALIVE, forking.UNKNOWN):
        return "is gone"
    code = os.waitstatus_to_exitcode(status)
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
