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
from crash_dump import differences, dump
from test_compute import files_of
from test_lost_workers import START, a_job, collected_site, said, state

from jobeff.engine import dask, leaves, pool
from jobeff.engine.processes import TaskLostError
from jobeff.errors import JobeffError, LockedError
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.store import fences

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning:distributed", "ignore::DeprecationWarning:distributed")

TESTS = Path(__file__).parent
AGAIN = {"compute --all": lambda site: compute(site, everything=True), "rebuild": rebuild}
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


LOADED = """
import sys
from pathlib import Path
from jobeff.engine import pool, remote
remote.warmed()
loaded = set(sys.modules)
from jobeff import config
from jobeff.steps import check, compute, ingest, rebuild, site

class Spy(pool.InProcess):
    def submit(self, function, task):
        before = set(sys.modules)
        done = super().submit(function, task)
        new = (set(sys.modules) - before) | ({function.__module__} - loaded)
        print(function.__name__, *(name for name in new if name.startswith("jobeff")))
        return done

here = site.Site(config.load(Path("jobeff.toml")), _pool=Spy())
ingest.ingest(here)
compute.compute(here)
rebuild.rebuild(here)
check.check(here, read_data=True)
"""


def test_a_worker_has_loaded_all_that_its_tasks_need(collected, tmp_path):
    """What it loads later may be of another program than it says it is."""
    root = copied(collected, tmp_path, "site").root
    done = subprocess.run([sys.executable, "-c", LOADED], cwd=root, capture_output=True, text=True, check=True)
    assert {"build_shards", "reduce_nodes", "finish_month", "make_levels", "verify_shards"} <= set(done.stdout.split())
    assert [line for line in done.stdout.splitlines() if " " in line] == []


def test_the_program_is_the_one_that_a_process_began_with(tmp_path):
    package = shutil.copytree(Path(dask.__file__).parents[1], tmp_path / "jobeff")
    ask = "from jobeff.code import code; from pathlib import Path; {}print(code())"
    upgrade = f"Path({str(package / 'clock.py')!r}).open('a').write('# newer' + chr(10)); "
    said = [
        subprocess.run(
            [sys.executable, "-c", ask.format(more)], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        for more in ("", upgrade, "")
    ]
    before, meanwhile, after = (one.stdout for one in said)
    assert before == meanwhile != after


def test_workers_that_write_shards_still_keep_others_from_it(tmp_path, monkeypatch):
    monkeypatch.setattr(fences, "BUILDING_WAIT_S", 0.1)
    (tmp_path / "db").mkdir()
    refused = pytest.raises(LockedError, match="workers of an earlier run still write")
    with fences.building(tmp_path, 0), refused, fences.lock_shards(tmp_path):
        pass
    with fences.lock_shards(tmp_path):
        pass


class Killed(BaseException):
    """A run ends, and says nothing to its workers."""


class Late(pool.InProcess):
    """A worker that is stopped just before it makes the levels of a database, with all that it has read."""

    def __init__(self, kept):
        super().__init__()
        self.kept, self.task = kept, None

    def submit(self, function, task):
        if function is leaves.make_levels:
            self.task = task
            shutil.copytree(task.leaves[0][0].parent, self.kept)
            raise Killed
        return super().submit(function, task)

    def go_on(self):
        """What the worker does in the end, its file being there or not."""
        folder = self.task.leaves[0][0].parent
        folder.mkdir(parents=True)
        shutil.copytree(self.kept, folder, dirs_exist_ok=True)
        leaves.make_levels(self.task)
        shutil.rmtree(folder.parent)


class Next(pool.InProcess):
    """The workers of the next run: the late one goes on beside them."""

    def __init__(self, late):
        super().__init__()
        self.late = late

    def submit(self, function, task):
        done = super().submit(function, task)
        if function is leaves.make_levels and self.late.task is not None:
            self.late.go_on()
            self.late.task = None
        return done


@pytest.mark.parametrize("step", ["compute --all", "rebuild"])
def test_a_late_worker_of_a_run_that_has_ended_leaves_the_next_one_alone(collected, tmp_path, step):
    """There are more rows than before, so pages are not where the late one thinks."""
    here, there = (copied(collected, tmp_path, name) for name in ("here", "there"))
    late = Late(tmp_path / "kept")
    for site in (here, there):
        ingest(site)
    there._pool = late
    with pytest.raises(Killed):
        AGAIN[step](there)
    for site in (here, there):
        more = [a_job(100 + i, START + 3600, nodes=("n1",)) for i in range(500)]
        sites.Night(more, files_of(*more)).fall(site.root, "more")
        load_slurm(site)
        collect(site)
    there._pool = Next(late)
    for site in (here, there):
        ingest(site)
        AGAIN[step](site)
    assert late.task is None
    found, expected = (dump(site.root, site.root) for site in (there, here))
    assert [line for line in differences(found, expected) if "db/efficiency" in line] == []
    assert len(found["db/efficiency.sqlite"]["jobs"]) > 500
