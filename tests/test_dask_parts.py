"""What is done with a Dask client, look by look: the client is the test, so that each turn of events can be had."""

import contextlib
import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from hurt import double

from jobeff.engine import dask
from jobeff.engine.processes import TaskLostError
from jobeff.errors import JobeffError
from jobeff.store import fences


class Remote:
    """A task that the scheduler has."""

    def __init__(self, worker_of=()):
        self.status, self.value, self.error, self.on = "pending", None, None, worker_of
        self.called = []

    def add_done_callback(self, callback):
        self.called.append(callback)

    def result(self, timeout=None):  # noqa: ARG002
        if self.error is not None:
            raise self.error
        return self.value

    def exception(self, timeout=None):  # noqa: ARG002
        if isinstance(self.error, TimeoutError | dask.distributed.CancelledError):
            raise self.error
        return self.error

    def finish(self, value):
        self.status, self.value = "finished", value

    def fail(self, error):
        self.status, self.error = "error", error


class Client:
    """A scheduler, as far as its client shows it."""

    def __init__(self, workers=1):
        self.status, self.workers, self.sent, self.closed = "running", workers, [], 0

    def submit(self, function, *args, **kwargs):  # noqa: ARG002
        if self.status == "closing":
            raise dask.distributed.client.ClosedClientError
        self.sent.append(Remote(kwargs.get("workers", ())))
        return self.sent[-1]

    def nthreads(self):
        if isinstance(self.workers, Exception):
            raise self.workers
        return {f"w{i}": 1 for i in range(self.workers)}

    def close(self, timeout):  # noqa: ARG002
        self.closed += 1
        raise OSError("whatever state it is in")


@pytest.fixture
def clock(monkeypatch):
    """Time, as the test has it."""
    now = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(dask, "time", SimpleNamespace(monotonic=lambda: now.now))
    return now


@pytest.fixture
def still(tmp_path, monkeypatch, clock):  # noqa: ARG001
    """A cluster that looks only when it is told to."""
    monkeypatch.setattr(dask.Cluster, "_manage", lambda _: None)
    return dask.Cluster(Client(), "tcp://x:1", tmp_path, tmp_path, 1)


def sent(cluster):
    """A task that is with the scheduler."""
    future = cluster.submit(double, 1)
    cluster._look()
    return future, cluster.client.sent[-1]


def test_a_result_is_taken_once_nobody_is_at_it(still):
    future, remote = sent(still)
    still._look()
    assert (len(still.client.sent), future.done()) == (1, False)
    remote.finish(7)
    with fences.held(still._jobs[0].ticket, 0):  # Dask has it done twice, elsewhere
        still._look()
        assert not future.done()
    still._look()
    assert (future.result(0), still._jobs) == (7, [])


def test_a_task_is_looked_after_as_soon_as_dask_says_something(still):
    _, remote = sent(still)
    assert still._wake.is_set(), "there is something new to do"
    still._wake.clear()
    [callback] = remote.called
    callback(remote)
    assert still._wake.is_set()


def test_a_result_whose_worker_is_gone_is_waited_for(still):
    future, remote = sent(still)
    remote.finish(7)
    for error in (TimeoutError(), dask.distributed.CancelledError("x")):
        remote.error = error
        still._look()
        assert not future.done()
    remote.error = None
    still._look()
    assert future.result(0) == 7


def killed(times):
    return dask.KilledWorker("task", SimpleNamespace(address="tcp://w"), times)


@pytest.mark.parametrize(
    ("error", "kind", "words"),
    [
        (killed(2), TaskLostError, "was lost with 3 Dask workers"),
        (TaskLostError("has refused it: why"), TaskLostError, "has refused it: why"),
        (ValueError("no 5"), ValueError, "no 5"),
    ],
)
def test_an_error_is_told_once_nobody_is_at_it(still, error, kind, words):
    future, remote = sent(still)
    remote.fail(error)
    with fences.held(still._jobs[0].ticket, 0):
        still._look()
        still._look()
        assert not future.done()
    still._look()
    assert (type(future.exception(0)), str(future.exception(0))) == (kind, words)
    assert len(still.client.sent) == 1


@pytest.mark.parametrize("status", ["cancelled", "lost"])
def test_a_task_of_a_scheduler_that_was_restarted_is_sent_again_so_many_times(still, status):
    future, remote = sent(still)
    tickets = set()
    for times in range(dask.RESTARTS):
        tickets.add(still._jobs[0].ticket)
        remote.status = status
        still._look()
        assert (len(still.client.sent), future.done()) == (times + 2, False)
        remote = still.client.sent[-1]
    assert len(tickets | {still._jobs[0].ticket}) == dask.RESTARTS + 1  # whoever has an old one begins nothing
    remote.status = status
    still._look()
    assert str(future.exception(0)) == "was lost with its Dask scheduler"
    assert len(still.client.sent) == dask.RESTARTS + 1


def test_a_lost_task_that_goes_on_for_ever_ends_all(still, clock):
    future, remote = sent(still)
    remote.status = "lost"
    with fences.held(still._jobs[0].ticket, 0):
        for later in (0.0, dask.SETTLE_S):
            clock.now = 1000.0 + later
            still._look()
        clock.now += 0.1
        with pytest.raises(JobeffError, match="goes on there: its worker had not ended 60 s later"):
            still._look()
    assert not future.done()


def test_nothing_is_sent_while_there_is_no_scheduler(still, clock):
    future = still.submit(double, 1)
    still.client.status = "connecting"
    still._look()
    clock.now += 10 * dask.RECONNECT_S  # it tries by itself, and says when it gives up
    still._look()
    assert still.client.sent == []
    still.client.status = "running"
    still._look()
    [remote] = still.client.sent
    remote.finish(2)
    still._look()
    assert future.result(0) == 2


def test_a_client_that_closes_meanwhile_sends_nothing(still):
    still.submit(double, 1)
    job = still._jobs[0]
    still.client.status = "closing"
    still._send(job)
    assert job.remote is None


def test_a_scheduler_is_connected_to_again_for_so_long(still, clock, monkeypatch):
    asked = []

    def refused(address, wait_s):
        asked.append((address, wait_s))
        raise JobeffError("cannot connect")

    monkeypatch.setattr(dask, "_connected", refused)
    still.submit(double, 1)
    still.client.status = "closed"
    for later in (0.0, dask.RECONNECT_S):
        clock.now = 1000.0 + later
        still._look()
    assert asked == [("tcp://x:1", dask.CONNECT_S)] * 2
    new = Client()
    monkeypatch.setattr(dask, "_connected", lambda *_: new)
    still._look()
    assert still.client is new
    still._look()
    assert len(new.sent) == 1
    new.status = "closed"  # from now on it counts anew
    monkeypatch.setattr(dask, "_connected", refused)
    clock.now += 0.5
    still._look()
    clock.now += dask.RECONNECT_S
    still._look()
    clock.now += 0.1
    with pytest.raises(JobeffError, match="cannot connect"):
        still._look()


def test_a_cluster_that_loses_its_last_worker_is_given_up(still, clock):
    still.submit(double, 1)
    still.client.workers = 0
    step = dask.WORKERS_EVERY_S
    for later in (0.0, dask.RECONNECT_S):
        clock.now = 1000.0 + later
        still._look()
    still.client.workers = 1
    clock.now += step
    still._look()
    still.client.workers = OSError("closed meanwhile")
    clock.now += step
    still._look()
    still.client.workers = 0
    for later in (step, dask.RECONNECT_S):  # it counts anew
        clock.now += later
        still._look()
    clock.now += step - 0.1  # not looked for again so soon
    still._look()
    clock.now += 0.1
    with pytest.raises(JobeffError, match=r"has no worker at dask://x:1: none has come up.*dask worker x:1 "):
        still._look()


def test_workers_are_not_looked_for_where_nothing_is_to_be_done(still, clock):
    still.client.workers = 0
    for _ in range(3):
        clock.now += dask.RECONNECT_S
        still._look()
    assert still._idle_since == 0.0


@pytest.fixture
def running(tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "LOOK_EVERY_S", 0.01)
    return dask.Cluster(Client(), "tcp://x:1", tmp_path, tmp_path, 1)


def until(what):
    for _ in range(2000):
        if what():
            return
        time.sleep(0.01)
    raise AssertionError


def test_a_closed_cluster_takes_nothing_and_cancels_the_rest(running):
    future = running.submit(double, 1)
    until(lambda: running.client.sent)
    running.shutdown()
    assert future.cancelled()
    with pytest.raises(RuntimeError, match="closed"):
        running.submit(double, 1)


def test_an_error_of_the_cluster_is_one_of_all_its_tasks(running):
    futures = [running.submit(double, number) for number in range(2)]
    until(lambda: len(running.client.sent) == 2)
    running.client.workers = ValueError("not as it was")
    running._looked = -1e9
    assert [str(future.exception(20)) for future in futures] == ["not as it was"] * 2
    with pytest.raises(RuntimeError, match="closed"):
        running.submit(double, 1)


# Opening it


class Probed(Client):
    """A cluster whose workers come late, and answer so."""

    def __init__(self, answers=(), coming=()):
        super().__init__(0)
        self.answers, self.coming = answers, iter(coming)
        self.workers = next(self.coming, len(answers))

    def wait_for_workers(self, count, timeout):
        assert (count, timeout) == (1, dask.CONNECT_S)
        self.workers = next(self.coming)
        if not self.workers:
            raise TimeoutError

    def submit(self, function, *args, **kwargs):
        remote = super().submit(function, *args, **kwargs)
        answer = self.answers[int(remote.on[0][1:])] if function is dask.remote.refusal else None
        if isinstance(answer, Exception):
            remote.error = answer
        else:
            remote.value = answer
        return remote


@contextlib.contextmanager
def opened(client, root, monkeypatch, said):
    (root / "db").mkdir(exist_ok=True)
    monkeypatch.setattr(dask, "_connected", lambda *_: client)
    with dask.cluster("dask://x:1", root, said.append) as cluster:
        yield cluster


def test_workers_that_do_not_answer_are_asked_again_with_their_tasks(tmp_path, monkeypatch):
    said = []
    client = Probed(["", TimeoutError(), dask.distributed.CancelledError("x"), killed(0)])
    with opened(client, tmp_path, monkeypatch, said) as cluster:
        assert cluster.count == 4
    assert said == ["dask://x:1 has 4 workers"]
    assert client.closed == 1
    assert [one.on for one in client.sent] == [[f"w{i}"] for i in range(4)] * 2


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ("h1 is old", "at h1: is old"),
        (ImportError("No module named 'jobeff'"), "at ImportError: No mod"),
    ],
)
def test_a_worker_that_answers_otherwise_is_refused(tmp_path, monkeypatch, answer, words):
    client = Probed(["", answer])
    told = pytest.raises(JobeffError, match=f"cannot use a Dask worker {words}")
    with told, opened(client, tmp_path, monkeypatch, []):
        pass
    assert client.closed == 1
    assert not list((tmp_path / "db" / "scratch").iterdir())


def test_the_first_worker_is_waited_for(tmp_path, monkeypatch):
    said = []
    with dask.dask.config.set({"logging.distributed": "info"}):
        with opened(Probed([""], [0, 1]), tmp_path, monkeypatch, said) as cluster:
            assert cluster.count == 1
        assert dask.dask.config.get("logging.distributed") == "critical", "what Dask says is for its own log"
    assert said == ["dask://x:1 has no worker yet, waiting ...", "dask://x:1 has 1 workers"]


def test_a_cluster_to_which_no_worker_comes_is_refused(tmp_path, monkeypatch):
    client = Probed([], itertools.repeat(0))
    told = pytest.raises(JobeffError, match="a Dask cluster has no worker at dask://x:1: none has come up")
    with told, opened(client, tmp_path, monkeypatch, []):
        pass
    assert client.closed == 1
    assert not list((tmp_path / "db" / "scratch").iterdir())


def test_a_process_that_does_not_close_its_cluster_ends(tmp_path):
    """As one that is stopped by an error does; the thread that looks after tasks holds nothing up."""
    code = (
        "from pathlib import Path; from types import SimpleNamespace; from jobeff.engine import dask\n"
        "client = SimpleNamespace(scheduler_info=lambda **_: {'workers': {}})\n"
        "dask.Cluster(client, 'tcp://x:1', Path('r'), Path('f'), 1); print('made')"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (0, "made\n"), done.stderr
