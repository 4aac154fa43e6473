"""Worker processes one by one: what they answer, how they are started, and how they go."""

import contextlib
import ctypes
import os
import pickle
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path

import pytest
from hurt import double, refuse

from jobeff.engine import forking, lifetime, pipes, pool, processes, worker
from jobeff.errors import JobeffError


class Process:
    """Stands in for a process that ends so, once it has been killed so often."""

    def __init__(self, status=0, kills=0):
        self.status, self.kills = status, kills

    def ended(self, _pid, _patience_s):
        return forking.ALIVE if self.kills > 0 else self.status

    def kill(self):
        self.kills -= 1


@pytest.fixture
def faked(monkeypatch):
    """An executor whose only worker is the test; gives both ends of the pipe to it."""
    executors, ends = [], []
    monkeypatch.setattr(processes, "CLOSING_S", 0.05)

    def make(process):
        ours, theirs = socket.socketpair()
        monkeypatch.setattr(processes, "_start", lambda: processes._Worker(1 << 30, ours))
        monkeypatch.setattr(forking, "status", process.ended)
        monkeypatch.setattr(processes._Worker, "kill", process.kill)
        executors.append(processes.Processes(1))
        ends.extend((ours, theirs))
        return executors[-1], theirs

    yield make
    for executor in executors:
        executor.shutdown()
    for end in ends:
        end.close()


class Gone(BaseException):
    """The end of this process, which is not to end."""


def leave(status):
    raise Gone(status)


@pytest.fixture
def serving():
    """A worker in a thread of this process."""
    ours, theirs = socket.socketpair()
    thread = threading.Thread(target=worker.work, args=(theirs,))
    thread.start()
    yield ours
    ours.close()
    thread.join(20)
    assert not thread.is_alive()
    theirs.close()


def asked(pipe, function, *arguments, **named):
    pipes.send(pipe, pipes.packed((function, arguments, named)))
    return pipes.unpacked(pipes.receive(pipe))


def test_a_worker_answers_until_its_pipe_is_closed(serving):
    assert asked(serving, double, 4) == (True, 8)
    assert asked(serving, int, "11", base=3) == (True, 4)
    done, error = asked(serving, refuse, 5)
    assert (done, type(error), str(error)) == (False, ValueError, "no 5")
    assert "in refuse" in "".join(error.__notes__)


class Unsendable(Exception):
    def __init__(self, words):
        super().__init__(words)
        self.lock = threading.Lock()


def unsendable(words):
    raise Unsendable(words)


def test_an_error_that_cannot_be_sent_is_told_all_the_same(serving):
    done, error = asked(serving, unsendable, "what it was")
    assert (done, repr(error)) == (False, "RuntimeError('Unsendable: what it was')")


def test_a_worker_without_memory_ends_with_a_status_that_says_so(monkeypatch):
    def short():
        raise MemoryError

    monkeypatch.setattr(pipes, "unpacked", lambda _: (short, (), {}))
    monkeypatch.setattr(os, "_exit", leave)
    with pytest.raises(Gone) as gone:
        worker.answer(b"")
    assert gone.value.args == (forking.OUT_OF_MEMORY,)
    assert processes._explained(forking.OUT_OF_MEMORY << 8) == "ran out of memory"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (forking.UNKNOWN, "is gone"),
        (0, "ended with status 0"),
        (3 << 8, "ended with status 3"),
        (15, "was killed by signal 15 (SIGTERM)"),
        (9, "was killed by signal 9 (SIGKILL, as the kernel does when memory runs out)"),
        (99, "was killed by signal 99 (unknown)"),
    ],
)
def test_what_became_of_a_worker_is_said(faked, code, words):
    executor, theirs = faked(Process(code))
    theirs.close()
    with pytest.raises(processes.TaskLostError) as lost:
        executor.submit(double, 1).result(20)
    assert str(lost.value) == words


def test_a_worker_that_does_not_end_by_itself_is_killed(faked):
    process = Process(9, kills=1)
    executor, theirs = faked(process)
    theirs.close()
    with pytest.raises(processes.TaskLostError, match="signal 9"):
        executor.submit(double, 1).result(20)
    assert process.kills == 0


def test_an_answer_that_cannot_be_read_is_an_error_of_its_task(faked):
    executor, theirs = faked(Process())
    future = executor.submit(double, 1)
    pipes.receive(theirs)
    pipes.send(theirs, b"no pickle")
    assert isinstance(future.exception(20), pickle.UnpicklingError)


def _has_something(pipe):
    with contextlib.suppress(BlockingIOError):
        return pipe.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)


def test_an_answer_to_nothing_is_not_taken_for_one(faked):
    """The second of two answers to one task must not be that of the next."""
    executor, theirs = faked(Process())
    future = executor.submit(double, 1)
    pipes.receive(theirs)
    pipes.send(theirs, pipes.packed((True, 2)))
    assert future.result(20) == 2
    pipes.send(theirs, pipes.packed((True, 3)))
    while _has_something(executor._workers[0].pipe):
        pass
    future = executor.submit(double, 2)
    pipes.receive(theirs)
    pipes.send(theirs, pipes.packed((True, 4)))
    assert future.result(20) == 4


def test_a_task_that_was_cancelled_is_not_begun(faked):
    executor, theirs = faked(Process())
    first, second, third = (executor.submit(double, number) for number in range(3))
    assert second.cancel()
    for future in (first, third):
        function, arguments, _ = pipes.unpacked(pipes.receive(theirs))
        pipes.send(theirs, pipes.packed((True, function(*arguments))))
        future.result(20)
    assert (first.result(), third.result()) == (0, 4)


def test_some_tasks_go_before_those_that_wait(faked):
    executor, theirs = faked(Process())
    given = [executor.submit(double, 0), executor.submit(double, 1)]
    given += [executor.submit_first(double, 2), executor.submit_first(double, 3), executor.submit(double, 4)]
    seen = []
    for _ in given:
        function, arguments, _ = pipes.unpacked(pipes.receive(theirs))
        seen.append(*arguments)
        pipes.send(theirs, pipes.packed((True, function(*arguments))))
    assert [future.result(20) for future in given] == [0, 2, 4, 6, 8]
    assert seen in ([0, 2, 3, 1, 4], [2, 3, 0, 1, 4])  # the first may have been handed out before


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
    executor, theirs = faked(Process())
    theirs.close()
    executor.shutdown()
    executor._wake()  # its thread has gone
    executor._writer, reader = socket.socketpair()
    executor._writer.setblocking(False)
    for _ in range((1 << 20) + 1):  # more than a pipe holds, and nobody reads it any more
        executor._wake()
    with pytest.raises(BlockingIOError):
        executor._writer.send(b"!")
    executor._writer.close()
    reader.close()


class Failing:
    """Stands in for what forks workers: at first it cannot."""

    def __init__(self, failures, error):
        self.left, self.error, self.tries = failures, error, 0

    def fork(self):
        self.tries += 1
        if self.tries <= self.left:
            raise self.error
        return 1 << 30, None


@pytest.mark.parametrize("error", [BrokenPipeError("x"), EOFError()])
def test_a_worker_is_started_again_where_it_fails_at_first(monkeypatch, error):
    failing = Failing(processes.START_TRIES - 1, error)
    monkeypatch.setattr(forking, "fork", failing.fork)
    monkeypatch.setattr(processes, "START_AGAIN_S", 0.001)
    assert processes._start().pid == 1 << 30
    assert failing.tries == processes.START_TRIES


@pytest.mark.parametrize(("error", "words"), [(OSError("no more processes"), "no more processes"), (EOFError(), "EOF")])
def test_a_worker_that_cannot_be_started_is_one_clear_error(monkeypatch, error, words):
    failing = Failing(99, error)
    monkeypatch.setattr(forking, "fork", failing.fork)
    monkeypatch.setattr(processes, "START_AGAIN_S", 0.001)
    executor = processes.Processes(1)
    with pytest.raises(JobeffError, match=f"cannot start a worker process: {words}.*--workers 0"):
        executor.submit(double, 1).result(20)
    executor.shutdown()
    assert failing.tries == processes.START_TRIES


def test_whose_parent_is_another_has_nothing_to_do(monkeypatch):
    monkeypatch.setattr(lifetime, "_set_death_signal", lambda _: None)
    monkeypatch.setattr(os, "_exit", leave)
    lifetime.end_with(os.getppid())
    with pytest.raises(Gone) as gone:
        lifetime.end_with(os.getpid())
    assert gone.value.args == (1,)


def death_signal():
    """What the kernel sends this process when its parent is gone."""
    number = ctypes.c_int(-1)
    assert ctypes.CDLL(None).prctl(2, ctypes.byref(number)) == 0  # PR_GET_PDEATHSIG
    return number.value


DEATH = """
import os
from jobeff.engine import lifetime
from test_processes import death_signal
lifetime.end_with(os.getppid())
before = death_signal()
lifetime.outlive_thread()
print(before, death_signal())
"""
only_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")


@only_linux
def test_the_kernel_is_asked_to_end_a_process_with_its_parent():
    command = [sys.executable, "-c", DEATH]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parent)
    assert done.stdout.split() == ["9", "0"]


def test_nobody_is_no_stopped_process():
    assert not processes._stopped(os.getpid())
    assert not processes._stopped(1 << 30)


def test_ready_waits_for_a_worker():
    with pool.executor(1) as executor:
        pool.ready(executor)
        [worker] = executor._workers
        assert Path("/proc", str(worker.pid)).exists()
        assert worker.future is None


@dataclass(frozen=True)
class Reading(pool.Task):
    """A task that reads a text, and takes so long."""

    name: str | None
    takes_s: float = 0.02

    @property
    def text(self):
        return None if self.name is None else Path(self.name)


def who(task):
    time.sleep(task.takes_s)
    return os.getpid()


def done_by(executor, tasks):
    """Which processes did the tasks."""
    futures = [executor.submit(who, task) for task in tasks]
    return [future.result() for future in futures]


def test_a_worker_goes_on_with_the_text_that_it_has(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 60)
    with pool.executor(2) as executor:
        by = done_by(executor, [Reading(name) for name in "aabbbabaabab"])
        of_each = {name: {pid for pid, text in zip(by, "aabbbabaabab", strict=True) if text == name} for name in "ab"}
        assert [len(pids) for pids in of_each.values()] == [1, 1]
        assert of_each["a"] != of_each["b"]
        # Of none, or of one that nobody has, whoever has nothing else to do; not one that another one has.
        by = done_by(executor, [Reading("a", 1.0), Reading("a"), Reading(None), Reading("c"), Reading("c")])
        assert {by[0]} == {by[1]} == of_each["a"]
        assert set(by[2:]) == of_each["b"]


def test_a_worker_that_has_been_patient_takes_any_text():
    with pool.executor(2) as executor:
        assert len({*done_by(executor, [Reading("b"), Reading("a", 0.3)])}) == 2
        by = done_by(executor, [Reading("a", 1.0), Reading("a"), Reading("a")])
        assert by[0] not in by[1:]


def test_what_others_wait_for_goes_first_whoever_has_its_text(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 60)
    with pool.executor(2) as executor:
        done_by(executor, [Reading("b"), Reading("a", 0.3)])
        busy = executor.submit(who, Reading("a", 2))
        while not busy.running():
            pass
        others = [executor.submit(who, Reading("b", 0.1)) for _ in range(3)]
        first = executor.submit_first(who, Reading("a"))
        assert first.result() == others[0].result()
        assert not others[2].done()
        none = executor.submit(who, Reading(None))
        assert none.result() == others[2].result(), "what has no text waits its turn"
        busy.result()


def test_what_was_waited_for_with_patience_is_cancelled_at_the_end(monkeypatch):
    monkeypatch.setattr(processes, "PATIENCE_S", 60)
    with pool.executor(2) as executor:
        done_by(executor, [Reading("b"), Reading("a", 0.3)])
        begun, waiting = (executor.submit(who, Reading("a", 60)) for _ in range(2))
        while not begun.running():
            pass
    assert waiting.cancelled()
    with pytest.raises(processes.TaskLostError):
        begun.result()


@pytest.fixture
def own_server(monkeypatch):
    """Nothing that forks workers is there yet, and what is then goes with the test."""
    monkeypatch.setattr(forking, "_servers", [])
    yield
    for server in forking._servers:
        server.end()


def ended(pid):
    """How a worker has ended, which it is about to."""
    while (status := forking.status(pid, 20)) == forking.ALIVE:
        time.sleep(0.001)
    return status


@pytest.mark.usefixtures("own_server")
def test_how_a_worker_ended_is_known_once():
    assert forking.status(1, 20) == forking.UNKNOWN  # there is nobody who could know
    assert forking.server_id() is None
    pid, pipe = forking.fork()
    assert asked(pipe, os.getpid) == (True, pid)
    assert asked(pipe, os.getppid) == (True, forking.server_id())
    assert forking.status(pid, 20) == forking.ALIVE
    os.kill(pid, signal.SIGTERM)
    assert ended(pid) == signal.SIGTERM
    assert forking.status(pid, 20) == forking.UNKNOWN
    other, other_pipe = forking.fork()  # what forks them goes on after such a question
    pipe.close()
    other_pipe.close()
    assert ended(other) == 0  # nobody can want anything of it


@only_linux
@pytest.mark.usefixtures("own_server")
def test_a_file_is_held_open_until_what_forks_workers_has_ended(tmp_path):
    path = tmp_path / "old"
    path.write_bytes(b"old")
    with path.open("rb") as file:
        assert not forking.hold(file.fileno()), "nobody is there to hold it"
        assert forking.server_id() is None, "nor is somebody started for it"
        forking.prepare()
        assert forking.hold(file.fileno())
    path.unlink()
    pid, pipe = forking.fork()  # it goes on
    assert asked(pipe, os.getpid) == (True, pid)
    pipe.close()
    held = {str(one.readlink()) for one in Path("/proc", str(forking.server_id()), "fd").iterdir()}
    assert f"{path} (deleted)" in held
    server = forking.server_id()
    os.kill(server, signal.SIGKILL)
    os.waitpid(server, 0)
    with Path(__file__).open("rb") as file:
        assert not forking.hold(file.fileno())


@only_linux
@pytest.mark.usefixtures("own_server")
def test_a_file_is_held_by_what_is_not_ready_yet(tmp_path):
    """Nobody waits for it, nor is it ended."""
    path = tmp_path / "old"
    path.write_bytes(b"old")
    forking.prepare()
    server = forking.server_id()
    os.kill(server, signal.SIGSTOP)
    with path.open("rb") as file:
        assert forking.hold(file.fileno())
    path.unlink()
    os.kill(server, signal.SIGCONT)
    _, pipe = forking.fork()
    assert asked(pipe, os.getppid) == (True, server)
    assert f"{path} (deleted)" in {str(one.readlink()) for one in Path("/proc", str(server), "fd").iterdir()}
    pipe.close()


@only_linux
@pytest.mark.usefixtures("own_server")
def test_a_worker_ends_with_what_has_forked_it():
    pid, pipe = forking.fork()
    assert asked(pipe, death_signal) == (True, signal.SIGKILL)
    os.kill(forking.server_id(), signal.SIGKILL)
    assert pipe.recv(1) == b""
    assert not Path("/proc", str(pid), "exe").exists()
    pipe.close()


@pytest.mark.usefixtures("own_server")
def test_a_worker_hears_and_reads_nothing_that_is_for_the_command():
    pid, pipe = forking.fork()
    assert asked(pipe, os.read, 0, 1) == (True, b"")
    for number in (signal.SIGINT, signal.SIGHUP):
        os.kill(pid, number)
        assert asked(pipe, double, 2) == (True, 4)
    pipe.close()


@pytest.mark.usefixtures("own_server")
def test_what_forks_workers_is_replaced_once_it_is_gone():
    forking.prepare()
    first = forking.server_id()
    forking.prepare()
    assert forking.server_id() == first
    os.kill(first, signal.SIGKILL)
    with pytest.raises((OSError, EOFError)):
        forking.fork()
    pid, pipe = forking.fork()
    assert forking.server_id() != first
    assert asked(pipe, os.getpid) == (True, pid)
    pipe.close()


@pytest.mark.usefixtures("own_server")
def test_what_does_not_answer_is_given_up():
    pid, pipe = forking.fork()
    server = forking.server_id()
    os.kill(server, signal.SIGSTOP)
    assert forking.status(pid, 0.05) == forking.UNKNOWN
    assert not Path("/proc", str(server)).exists()
    assert pipe.recv(1) == b""  # what it had forked went with it
    pipe.close()


def test_a_system_that_has_no_room_for_a_worker_says_so(monkeypatch):
    monkeypatch.setattr(forking, "_servers", [Answering(-11)])
    with pytest.raises(BlockingIOError, match="temporarily unavailable"):
        forking.fork()


def test_what_cannot_be_started_leaves_nothing_open(monkeypatch):
    def full(*_, **__):
        raise BlockingIOError(11, "full")

    monkeypatch.setattr(os, "posix_spawn", full)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    with pytest.raises(BlockingIOError):
        forking.Server()
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


class Answering:
    """Stands in for what forks workers."""

    pid = 1 << 30

    def __init__(self, answer):
        self.answer = answer

    def ask(self, *_):
        return self.answer

    def end(self):
        pass


def test_what_cannot_be_forked_is_a_number(monkeypatch):
    def full():
        raise BlockingIOError(11, "full")

    monkeypatch.setattr(os, "fork", full)
    ours, theirs = socket.socketpair()
    assert worker._forked(ours, theirs.detach()) == -11
    assert ours.recv(1) == b""  # it keeps nothing open
    ours.close()


@pytest.mark.usefixtures("own_server")
def test_a_worker_whose_pipe_fails_says_why(capfd):
    """As where memory is too short for a message."""
    pid, pipe = forking.fork()
    pipe.sendall((1 << 62).to_bytes(pipes.SIZE_BYTES, "little"))
    assert os.waitstatus_to_exitcode(ended(pid)) == 1
    assert "Error" in capfd.readouterr().err
    pipe.close()


@pytest.mark.usefixtures("own_server")
def test_a_module_that_lies_where_a_command_runs_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "numpy.py").write_text("raise SystemExit('not this one')")
    monkeypatch.chdir(tmp_path)
    _, pipe = forking.fork()
    assert asked(pipe, double, 3) == (True, 6)
    pipe.close()


@pytest.mark.parametrize("size", [0, 1, 1 << 22])
def test_messages_come_as_they_were_sent(size):
    ours, theirs = socket.socketpair()
    data = bytes(range(256)) * (size // 256 + 1)
    sender = threading.Thread(target=lambda: [pipes.send(ours, data[:size]), pipes.send(ours, b"next")])
    sender.start()
    assert (pipes.receive(theirs), pipes.receive(theirs)) == (data[:size], b"next")
    sender.join(20)
    ours.sendall((9).to_bytes(pipes.SIZE_BYTES, "little") + b"part")
    ours.close()
    with pytest.raises(EOFError):
        pipes.receive(theirs)
    theirs.close()
