"""The workers of a Dask cluster: as if all had been done here, whatever happens to them."""

import contextlib
import functools
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import hurt
import pytest
import sites
from test_lost_workers import collected_site, said, state

from jobeff.engine import dask, pool
from jobeff.engine.processes import TaskLostError
from jobeff.errors import JobeffError, LockedError
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.store import fences

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:distributed", "ignore::DeprecationWarning:distributed")

TESTS = Path(__file__).parent
STEPS = {"ingest": lambda site: [ingest(site)], "compute": lambda site: [compute(site)], "rebuild": rebuild}


class Cluster:
    """A scheduler and two workers in processes of their own, which can be killed."""

    def __init__(self, folder):
        self.folder = folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.engine = f"dask://127.0.0.1:{self.port}"
        self.scheduler = None
        self.workers = []

    def start(self):
        # After each worker that a task kills it is done again by us, and not by Dask.
        quiet = {"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "0", "PYTHONPATH": str(TESTS)}
        self.scheduler = self.run(
            "scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-dashboard", **quiet
        )
        self.workers = [self.worker() for _ in range(2)]

    def worker(self):
        return self.run(
            "worker", f"127.0.0.1:{self.port}", "--nthreads", "1", "--no-dashboard", "--local-directory",
            str(self.folder), PYTHONPATH=str(TESTS),
        )  # fmt: skip

    def run(self, kind, *options, **env):
        with (self.folder / f"{kind}.log").open("ab") as log:
            words = [sys.executable, "-m", "dask", kind, *options]
            return subprocess.Popen(words, stdout=log, stderr=log, env=os.environ | env, start_new_session=True)

    def kill(self, *processes):
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    def stop(self):
        self.kill(*filter(None, [self.scheduler, *self.workers]))


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    made = Cluster(tmp_path_factory.mktemp("dask"))
    made.start()
    yield made
    made.stop()


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    return collected_site(tmp_path_factory.mktemp("sites") / "collected")


def copied(collected, tmp_path, name, engine="local"):
    root = shutil.copytree(collected, tmp_path / name)
    return Site(sites.config(root), engine=engine)


def all_of(site):
    told = [said(site.root, run(site)) for run in STEPS.values()]
    return state(site.root), told


def test_all_is_as_if_it_had_been_done_here(cluster, collected, tmp_path):
    here = all_of(copied(collected, tmp_path, "here"))
    there = all_of(copied(collected, tmp_path, "there", cluster.engine))
    assert there == here
    assert not list((tmp_path / "there" / "db" / "scratch").iterdir())


def wait_until(what, within=20):
    until = time.monotonic() + within
    while not what():
        assert time.monotonic() < until
        time.sleep(0.02)


def test_a_worker_that_is_killed_and_one_that_takes_its_place(cluster, tmp_path):
    """Dask knows how often it tries again, here never; the rest is our own retry."""
    with dask.cluster(cluster.engine, tmp_path, lambda _: None) as connected:

        def chain():
            return (
                yield [
                    (hurt.double, 1),
                    (functools.partial(hurt.number, hurt.Hurt("killed", tmp_path)), 2),
                    (hurt.slow, 3),
                ]
            )

        assert list(pool.run_chains(connected, [chain()], 1)) == [[2, 4, 3]]
    assert (tmp_path / "hurt-0").exists()


def test_a_scheduler_that_is_restarted(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "CONNECT_S", 2.0)
    with dask.cluster(cluster.engine, tmp_path, lambda _: None) as connected:
        begun = [tmp_path / f"begun-{i}" for i in range(2)]
        waiting = [connected.submit(hurt.until_there, path, tmp_path / "go") for path in begun]
        wait_until(lambda: all(path.exists() for path in begun))
        cluster.stop()
        (tmp_path / "go").touch()
        cluster.start()
        assert [one.result(timeout=60) for one in waiting] == [True, True]


def test_what_is_not_wanted_is_not_begun_and_not_done_twice(tmp_path):
    ticket = fences.issue(tmp_path)
    with fences.held(ticket, 0):
        assert not fences.withdraw(ticket)
        with pytest.raises(fences.WithdrawnError, match="has not ended"), fences.held(ticket, 0.2):
            pass
    assert fences.withdraw(ticket)
    with pytest.raises(fences.WithdrawnError, match="taken away"), fences.held(ticket, 0):
        pass


def test_workers_that_cannot_be_used_are_refused(cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(dask, "code", lambda: "0.0.0-other")
    refused = pytest.raises(JobeffError, match=r"cannot use a Dask worker.*runs jobeff .*, and this is 0\.0\.0-other")
    with refused, dask.cluster(cluster.engine, tmp_path, lambda _: None):
        pass


def test_a_scheduler_that_does_not_answer_is_told_with_a_reason(monkeypatch, tmp_path):
    def times_out(*_, **__):
        raise OSError("Timed out after 1 s") from TimeoutError()

    monkeypatch.setattr(dask.distributed, "Client", times_out)
    told = pytest.raises(JobeffError, match=r"cannot connect to a Dask scheduler at dask://x:1: Timed out after 1 s\. ")
    with told, dask.cluster("dask://x:1", tmp_path, lambda _: None):
        pass


def test_no_scheduler_is_one_clear_line(collected, tmp_path, run, monkeypatch):
    monkeypatch.setattr(dask, "CONNECT_S", 1.0)
    site = copied(collected, tmp_path, "site")
    status, _, said = run("-c", site.config.file, "--engine", "dask://127.0.0.1:9", "rebuild")
    assert status == 1
    assert said.startswith("jobeff: error: cannot connect to a Dask scheduler at dask://127.0.0.1:9: ")
    assert len(said.splitlines()) == 1
    status, _, said = run("--engine", "spark://x", "rebuild")
    assert (status, "neither 'local' nor 'dask://HOST:PORT'" in said) == (2, True)


def test_what_is_lost_too_often_is_told(cluster, tmp_path):
    with dask.cluster(cluster.engine, tmp_path, lambda _: None) as connected:
        lost = connected.submit(hurt.number, hurt.Hurt("killed", tmp_path, 99), 1)
        with pytest.raises(TaskLostError, match="lost with 1 Dask workers"):
            lost.result(timeout=60)


def test_workers_that_write_shards_still_keep_others_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fences, "BUILDING_WAIT_S", 0.1)
    (tmp_path / "db").mkdir()
    refused = pytest.raises(LockedError, match="workers of an earlier run still write")
    with fences.building(tmp_path, 0), refused, fences.lock_shards(tmp_path):
        pass
    with fences.lock_shards(tmp_path):
        pass
