"""Worker processes one by one: what they answer, how they are started, and how they go."""

import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from multiprocessing import Pipe, forkserver
from multiprocessing.reduction import ForkingPickler
from types import SimpleNamespace

import pytest
from hurt import double, refuse

from jobeff.engine import pool, processes
from jobeff.errors import JobeffError


class Process:
    """Stands in for a process that ends so, once it has been killed so often."""

    pid = None

    def __init__(self, exitcode=0, kills=0):
        self.code, self.kills = exitcode, kills

    @property
    def exitcode(self):
        return None if self.kills > 0 else self.code

    def join(self, timeout):
        pass

    def kill(self):
        self.kills -= 1


@pytest.fixture
def faked(monkeypatch):
    """An executor whose only worker is the test; gives both ends of the pipe to it."""
    executors = []

    def make(process):
        ours, theirs = Pipe()
        monkeypatch.setattr(processes, "_start", lambda: processes._Worker(process, ours))
        executors.append(processes.Processes(1))
        return executors[0], theirs

    yield make
    for executor in executors:
        executor.shutdown()


class Gone(BaseException):
    """The end of this process, which is not to end."""


def leave(status):
    raise Gone(status)


@pytest.fixture
def serving(monkeypatch):
    """A worker in a thread of this process, and what it did as it began."""
    begun = []
    reader, writer = os.pipe()
    monkeypatch.setattr(processes, "_set_death_signal", begun.append)
    monkeypatch.setattr(forkserver, "_forkserver", SimpleNamespace(_forkserver_alive_fd=writer))
    ours, theirs = Pipe()
    thread = threading.Thread(target=processes._work, args=(theirs,))
    thread.start()
    yield ours, begun
    ours.close()
    thread.join(20)
    assert not thread.is_alive()
    assert os.read(reader, 1) == b""  # nobody holds what the server lives by
    os.close(reader)


def asked(pipe, function, *arguments, **named):
    pipe.send_bytes(processes._packed((function, arguments, named)))
    return ForkingPickler.loads(pipe.recv_bytes())


def test_a_worker_answers_until_its_pipe_is_closed(serving):
    ours, begun = serving
    assert asked(ours, double, 4) == (True, 8)
    assert asked(ours, int, "11", base=3) == (True, 4)
    assert begun == [signal.SIGKILL]  # it ends with its parent
    done, error = asked(ours, refuse, 5)
    assert (done, type(error), str(error)) == (False, ValueError, "no 5")
    assert "in refuse" in "".join(error.__notes__)


class Unsendable(Exception):
    def __init__(self, words):
        super().__init__(words)
        self.lock = threading.Lock()


def unsendable(words):
    raise Unsendable(words)


def test_an_error_that_cannot_be_sent_is_told_all_the_same(serving):
    done, error = asked(serving[0], unsendable, "what it was")
    assert (done, repr(error)) == (False, "RuntimeError('Unsendable: what it was')")


def test_a_worker_without_memory_ends_with_a_status_that_says_so(monkeypatch):
    def short():
        raise MemoryError

    monkeypatch.setattr(processes.ForkingPickler, "loads", lambda _: (short, (), {}))
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Gone) as gone:
        processes._answer(b"")
    assert gone.value.args == (processes.OUT_OF_MEMORY,)
    assert processes._explained(processes.OUT_OF_MEMORY) == "ran out of memory"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (None, "is gone"),
        (0, "ended with status 0"),
        (3, "ended with status 3"),
        (-15, "was killed by signal 15 (SIGTERM)"),
        (-9, "was killed by signal 9 (SIGKILL, as the kernel does when memory runs out)"),
        (-99, "was killed by signal 99 (unknown)"),
    ],
)
def test_what_became_of_a_worker_is_said(faked, code, words):
    executor, theirs = faked(Process(code))
    theirs.close()
    with pytest.raises(processes.TaskLostError) as lost:
        executor.submit(double, 1).result(20)
    assert str(lost.value) == words


def test_a_worker_that_does_not_end_by_itself_is_killed(faked):
    process = Process(-9, kills=1)
    executor, theirs = faked(process)
    theirs.close()
    with pytest.raises(processes.TaskLostError, match="signal 9"):
        executor.submit(double, 1).result(20)
    assert process.kills == 0


def test_an_answer_that_cannot_be_read_is_an_error_of_its_task(faked):
    executor, theirs = faked(Process())
    future = executor.submit(double, 1)
    theirs.recv_bytes()
    theirs.send_bytes(b"no pickle")
    assert isinstance(future.exception(20), pickle.UnpicklingError)


def test_an_answer_to_nothing_is_not_taken_for_one(faked):
    """The second of two answers to one task must not be that of the next."""
    executor, theirs = faked(Process())
    future = executor.submit(double, 1)
    theirs.recv_bytes()
    theirs.send_bytes(processes._packed((True, 2)))
    assert future.result(20) == 2
    theirs.send_bytes(processes._packed((True, 3)))
    while executor._workers[0].pipe.poll():
        pass
    future = executor.submit(double, 2)
    theirs.recv_bytes()
    theirs.send_bytes(processes._packed((True, 4)))
    assert future.result(20) == 4


def test_a_task_that_was_cancelled_is_not_begun(faked):
    executor, theirs = faked(Process())
    first, second, third = (executor.submit(double, number) for number in range(3))
    assert second.cancel()
    for future in (first, third):
        function, arguments, _ = ForkingPickler.loads(theirs.recv_bytes())
        theirs.send_bytes(processes._packed((True, function(*arguments))))
        future.result(20)
    assert (first.result(), third.result()) == (0, 4)


def test_a_closed_executor_takes_nothing(faked):
    executor, _ = faked(Process())
    busy, waiting = executor.submit(double, 1), executor.submit(double, 2)
    while not busy.running():
        pass
    executor.shutdown()
    with pytest.raises(RuntimeError, match="closed"):
        executor.submit(double, 3)
    assert isinstance(busy.exception(20), processes.TaskLostError)
    with pytest.raises(CancelledError):
        waiting.result(20)


def test_waking_often_does_not_block(faked):
    executor, _ = faked(Process())
    executor.shutdown()
    for _ in range((1 << 20) + 1):  # more than a pipe holds, and nobody reads it any more
        executor._wake()
    with pytest.raises(BlockingIOError):
        os.write(executor._writer.fileno(), b"!")


class Failing:
    """Stands in for the context of multiprocessing: the first processes cannot be started."""

    def __init__(self, failures, error):
        self.left, self.error = failures, error
        self.pipes = []

    def Pipe(self):
        self.pipes.append(Pipe())
        return self.pipes[-1]

    def Process(self, **_):
        return SimpleNamespace(start=self.start, kill=lambda: None, join=lambda _: None, pid=None, exitcode=-9)

    def start(self):
        self.left -= 1
        if self.left >= 0:
            raise self.error


@pytest.mark.parametrize("error", [BrokenPipeError("x"), EOFError()])
def test_a_worker_is_started_again_where_it_fails_at_first(monkeypatch, error):
    failing = Failing(processes.START_TRIES - 1, error)
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: failing)
    monkeypatch.setattr(processes, "START_AGAIN_S", 0.001)
    worker = processes._start()
    assert [ours.closed for ours, _ in failing.pipes] == [True] * (processes.START_TRIES - 1) + [False]
    assert all(theirs.closed for _, theirs in failing.pipes)
    worker.pipe.close()


@pytest.mark.parametrize(("error", "words"), [(OSError("no more processes"), "no more processes"), (EOFError(), "EOF")])
def test_a_worker_that_cannot_be_started_is_one_clear_error(monkeypatch, error, words):
    failing = Failing(99, error)
    monkeypatch.setattr(processes.multiprocessing, "get_context", lambda _: failing)
    monkeypatch.setattr(processes, "START_AGAIN_S", 0.001)
    executor = processes.Processes(1)
    with pytest.raises(JobeffError, match=f"cannot start a worker process: {words}.*--workers 0"):
        executor.submit(double, 1).result(20)
    executor.shutdown()
    assert len(failing.pipes) == processes.START_TRIES
    assert all(end.closed for pipe in failing.pipes for end in pipe)


def test_whose_parent_is_another_has_nothing_to_do(monkeypatch):
    monkeypatch.setattr(processes, "_set_death_signal", lambda _: None)
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.delenv(processes.STARTED_BY, raising=False)
    processes.end_with_parent()  # nobody has said who it is for
    processes.end_with_parent(os.getppid())
    monkeypatch.setenv(processes.STARTED_BY, str(os.getppid()))
    processes.end_with_parent()
    for parent, named in ((None, os.getpid()), (os.getpid(), os.getppid())):
        monkeypatch.setenv(processes.STARTED_BY, str(named))
        with pytest.raises(Gone) as gone:
            processes.end_with_parent(parent)
        assert gone.value.args == (1,)


DEATH = """
import ctypes, signal
from jobeff.engine import processes
def asked():
    number = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(2, ctypes.byref(number)) == 0  # PR_GET_PDEATHSIG
    return number.value
processes.end_with_parent()
before = asked()
processes.outlive_thread()
print(before, asked())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_the_kernel_is_asked_to_end_a_process_with_its_parent():
    environment = {name: value for name, value in os.environ.items() if name != processes.STARTED_BY}
    done = subprocess.run([sys.executable, "-c", DEATH], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["9", "0"]


def test_nobody_is_no_stopped_process():
    assert not processes._stopped(os.getpid())
    assert not processes._stopped(1 << 30)


def test_ready_waits_for_a_worker():
    with pool.executor(1) as executor:
        pool.ready(executor)
        [worker] = executor._workers
        assert worker.process.is_alive()
        assert worker.future is None
