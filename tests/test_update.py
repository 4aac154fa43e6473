"""update: a step that fails stops only those that cannot do without it, and is named at the end."""

import contextlib
import itertools
import json
import shutil
import sqlite3

import pytest
import sites
from test_chain import efficiency
from test_compute import START, a_job, files_of, two_clusters

from jobeff.errors import JobeffError, LockedError, SourceError
from jobeff.steps import archiving, load
from jobeff.steps import compute as step_compute
from jobeff.steps import update as night
from jobeff.steps.update import update
from jobeff.store import archive, shards, tables
from jobeff.store.locks import lock


@pytest.fixture
def site(tmp_path):
    site = sites.make(tmp_path / "site")
    sites.Night([a_job(1)], files_of(a_job(1))).fall(site.root, "day")
    return site


def failing(monkeypatch, name, error):
    """Have one step raise."""

    def fail(_site):
        raise error

    steps = [step._replace(run=fail) if step.name == name else step for step in night.STEPS]
    monkeypatch.setattr(night, "STEPS", steps)


@pytest.fixture
def command(run, site):
    """Runs ``update`` with options before it."""
    return lambda *options: run("-c", site.root / "jobeff.toml", "--workers", 0, *options, "update")


def test_a_missing_source_stops_nothing_else(site, monkeypatch, command):
    update(site)
    sites.Night([a_job(2)], files_of(a_job(2))).fall(site.root, "later")
    failing(monkeypatch, "collect", SourceError("cannot read raw files", where="/x", why="no such folder"))
    code, out, err = command()
    assert code == 3
    assert "cannot read raw files at /x: no such folder" in out
    assert err.splitlines()[-2:] == [
        "jobeff: set aside: 1 x source",
        "  collect: cannot read raw files at /x: no such folder",
    ]
    monkeypatch.undo()
    assert command()[0] == 0
    assert len(efficiency(site.root)) == 2


def test_a_month_that_two_steps_cannot_read_is_named_once(site, command):
    update(site)
    month = archive.month_file(site.root, sites.CLUSTER, "2021-06")
    month.with_name("2021-06.txt.gz").write_bytes(b"x" * 50)
    month.unlink()
    code, _, err = command()
    assert code == 3
    assert err.count("2021-06.txt.gz: cannot inflate") == 1
    assert "jobeff: set aside: 1 x archive month" in err.splitlines()


BATCHES = {
    "load slurm": (load, "_load", "new"),
    "collect": (archiving.Archiver, "add", "raw files"),
    "ingest": (shards, "set_ingested", "raw files"),
    "compute": (step_compute, "_write", "jobs"),
}
"""By step: what does, or notes, a batch of it, and what is counted."""


@pytest.mark.parametrize("step", BATCHES)
def test_of_a_run_that_was_killed_one_batch_is_done_again_at_most(tmp_path, monkeypatch, step):
    """A batch is a log, so many raw files, or a month."""
    site = sites.make(tmp_path / "site")
    jobs = [a_job(number, START + 31 * 86_400 * number) for number in range(1, 6)]  # each in a month of its own
    for job in jobs:
        sites.Night([job], files_of(job)).fall(site.root, f"day-{job.job_id}")
    update(site)
    if step == "compute":  # so that it computes what is new, not all into a new database
        with sqlite3.connect(tables.database(site.root, "efficiency")) as connection:
            connection.execute("delete from computed")
        connection.close()
    else:
        shutil.rmtree(site.root / {"collect": "archive", "ingest": "shards"}.get(step, "db"))
        tables.database(site.root, "collected").unlink(missing_ok=True)
    monkeypatch.setattr(archiving, "BATCH_BYTES", 1)
    run = {one.name: one.run for one in night.STEPS}[step]
    where, name, counted = BATCHES[step]
    does, calls = getattr(where, name), itertools.count(1)

    def killed(*arguments):
        if next(calls) == 4:
            raise KeyboardInterrupt
        return does(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(where, name, killed)
        run(site)
    assert run(site).counts[counted] in (1, 2)  # of five, when three have been done, and the fourth perhaps
    assert step == "load slurm" or efficiency(site.root).keys() == {("c1", job.job_id, job.start) for job in jobs}


def test_an_error_stops_nothing_else_and_is_told_at_the_end(site, monkeypatch, command):
    update(site)
    sites.Night([a_job(2)], files_of(a_job(2))).fall(site.root, "later")
    failing(monkeypatch, "load slurm", OSError(28, "No space left on device", "/data/db"))
    code, out, err = command("--json")
    assert code == 1
    assert "cannot go on at /data/db: No space left on device. " in err.splitlines()[-1]
    monkeypatch.chdir(site.root)
    failing(monkeypatch, "load slurm", OSError(5, "Input/output error", "out"))
    assert f"cannot go on at {site.root / 'out'}: Input/output error. " in command()[2]
    steps = {step["step"]: step for step in json.loads(out)}
    assert steps["load slurm"]["failed"] == "[Errno 28] No space left on device: '/data/db'"
    assert [name for name, step in steps.items() if step["failed"]] == ["load slurm"]


def test_without_accounting_what_needs_it_is_left_out(monkeypatch, command):
    failing(monkeypatch, "load slurm", SourceError("cannot read accounting", where="/x"))
    code, out, _ = command("--json")
    assert code == 3
    left_out = {step["step"]: step["failed"] for step in json.loads(out) if step["failed"]}
    assert left_out["collect"] == left_out["compute"] == "left out: there is no accounting database yet"
    assert "ingest" not in left_out


def test_of_several_errors_the_first_is_told(site, monkeypatch):
    failing(monkeypatch, "collect", JobeffError("first"))
    failing(monkeypatch, "compute", JobeffError("second"))
    results = []
    with pytest.raises(JobeffError, match="first"):
        update(site, results)
    assert [step.failed for step in results if step.failed] == ["first", "second"]


def test_a_step_that_somebody_else_runs_is_left_to_them(site):
    results = []
    with lock(site.root, "efficiency"), pytest.raises(LockedError):
        update(site, results)
    assert [step.step for step in results if step.failed] == ["compute"]
    update(site)
    assert len(efficiency(site.root)) == 1


def test_of_two_updates_one_does_nothing(site):
    """Else they could share the steps between them, and both would fail."""
    results = []
    with lock(site.root, "update"), pytest.raises(LockedError, match=r"another run is updating at .*: held by process"):
        update(site, results)
    assert results == []


def test_an_interruption_ends_all_at_once(site, monkeypatch):
    failing(monkeypatch, "load slurm", KeyboardInterrupt())
    results = []
    with pytest.raises(KeyboardInterrupt):
        update(site, results)
    assert results == []


def test_a_cluster_without_its_folders_does_not_stop_the_other(tmp_path, run):
    site = two_clusters(tmp_path)
    jobs = [a_job(1), a_job(2, cluster="c2")]
    for job in jobs:
        (tmp_path / "slurm" / job.cluster / "accounting" / "day").write_text(sites.accounting_line(job))
        raw = tmp_path / "slurm" / job.cluster / "uppmax_jobstats" / "n1" / str(job.job_id)
        raw.write_bytes(files_of(job)[0].text)
    (tmp_path / "slurm" / "c1").rename(tmp_path / "gone")
    code, out, err = run("-c", site.root / "jobeff.toml", "--workers", "0", "--json", "update")
    assert code == 3
    assert {step["step"]: step["set_aside"] for step in json.loads(out) if step["set_aside"]} == {
        "load slurm": {"source": 1},
        "collect": {"source": 1},
    }
    assert f"cannot read the raw files of c1 at {tmp_path}/slurm/c1/" in err
    assert list(efficiency(site.root)) == [("c2", 2, jobs[1].start)]
    (tmp_path / "gone").rename(tmp_path / "slurm" / "c1")
    assert run("-c", site.root / "jobeff.toml", "--workers", "0", "update")[0] == 0
    assert len(efficiency(site.root)) == 2


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("accounting", "update jobs set date = cast(x'ff75' as text)"),
        ("accounting", "update jobs set job_id = 'x'"),
        ("accounting", "update jobs set start = x'ff00'"),
        ("accounting", "update jobs set nodes = cast(x'ff75' as text)"),
        ("efficiency", "update computed set archive_bytes = x'ff00'"),
        ("efficiency", "update computed set definition = 'x'"),
    ],
)
def test_a_cell_that_is_of_another_kind_now_is_told_with_its_database(site, command, run, name, damage):
    assert command()[0] == 0
    with contextlib.closing(sqlite3.connect(tables.database(site.root, name))) as connection:
        connection.execute(damage)
        connection.commit()
    sites.Night([a_job(2)], files_of(a_job(2))).fall(site.root, "later")
    code, _, told = command()
    line = next(line for line in told.splitlines() if "error" in line)
    assert code == 1
    assert line.startswith(f"jobeff: error: a database is damaged at {site.root}/db/{name}.sqlite ")
    assert line.endswith(". What is written is whole. 'jobeff repair' mends it")
    assert run("-c", site.config.file, "--workers", 0, "-q", "repair") == (0, "", "")
    assert command()[0] == 0


def test_an_error_that_no_damage_explains_is_told_as_it_is(monkeypatch, command):
    assert command()[0] == 0
    failing(monkeypatch, "compute", TypeError("not of damage"))
    code, _, told = command()
    assert (code, "this should not have happened: TypeError: not of damage" in told) == (1, True)
