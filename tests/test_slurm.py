"""A real Slurm, and what users do to it: three accounts of one history, and sacct asked day by day, say the same.

Runs where JOBEFF_SLURM names the folder of a Slurm that may be played with (cluster demo, account proj1, one node, jobs
cost nothing, job completion lines in jobcomp.txt, all local times UTC); it takes about two minutes.
"""

import contextlib
import os
import sqlite3
import subprocess
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sites import Site
from test_accounting_forms import JOB, as_jobcomp, as_sacct

from jobeff.config import load
from jobeff.sources.accounting import AccountingJob
from jobeff.sources.sacct import COLUMNS
from jobeff.steps.load import load_slurm
from jobeff.steps.load_sacct import Asking
from jobeff.store import tables

FOLDER = os.environ.get("JOBEFF_SLURM")
pytestmark = pytest.mark.skipif(not FOLDER, reason="JOBEFF_SLURM names no folder of a running Slurm")

EVE = JOB._replace(job_id=99_999, user="eve", proj_id="victim")
NAMES = {
    "blanks": "a b  c ",
    "keys": "x jobstate=FAKE username=eve account=other JobState=FAKE Partition=gpu TimeLimit=1 procs=9",
    "bars": "a|b||c",
    "html": "<script>alert(1)</script>&amp;",
    "escape": "\x1b[31mred\x07",
    "letters": "räksmörgås § 作业",
    "formula": '=cmd|"/c calc"!A1',
    "newline": "a\nb",
    "forged sacct": f"a\n{as_sacct(EVE).decode()[:200]}",
    "forged jobcomp": f"a\n{as_jobcomp(EVE, 'UTC').decode()}b",
    "percent": "%s%n%x {} $(id) `id` ; rm -rf x",
}
# The database cuts names at 255 bytes, and writes ` for " and nothing for what is not UTF-8.
CUT = 250
DONE_WITHIN_S = 240


def run(*command, **more):
    return subprocess.run(command, capture_output=True, timeout=60, check=True, **more).stdout


def submit(name, *options, script="true"):
    words = ["sbatch", "--parsable", "-o", "/dev/null", "-A", "proj1", "--mem=10", "-J", name, *options]
    return int(run(*words, "--wrap", script).decode().split(";")[0])


def wait(what, within=60):
    for _ in range(within):
        if what():
            return
        time.sleep(1)
    raise AssertionError(f"not within {within} s")


def state(job_id):
    return run("squeue", "-h", "-j", str(job_id), "-o", "%t").decode().split()


@pytest.fixture(scope="module")
def history():
    """Submit jobs of all kinds; ids by kind, once all have ended."""
    ids = {kind: submit(name) for kind, name in NAMES.items()}
    ids["timeout"] = submit("timeout", "-t", "1", script="sleep 300")
    ids["failed"] = submit("failed", script="exit 3")
    ids["array"] = submit("array", "--array=1,3,7")
    ids["cancelled array"] = submit("never", "--array=1-4%2", "--begin=now+1hour")
    ids["never started"] = submit("never", "--begin=now+1hour")
    ids["cancelled"] = submit("cancelled", script="sleep 300")
    ids["requeued"] = submit("requeued", "--requeue", script="sleep 6")
    wait(lambda: state(ids["cancelled"]) == ["R"] and state(ids["requeued"]) == ["R"], 120)
    run("scontrol", "requeue", str(ids["requeued"]))
    ids["het"] = submit_het()
    for kind in ("cancelled", "never started", "cancelled array", "het"):
        run("scancel", str(ids[kind]))
    # A requeued job has to wait for two minutes.
    wait(lambda: not run("squeue", "-h"), DONE_WITHIN_S)
    time.sleep(3)
    return ids


def submit_het():
    """One node cannot hold two parts of a job, so this one waits until it is cancelled."""
    words = ["sbatch", "--parsable", "-o", "/dev/null", "-A", "proj1", "--mem=10", "-J", "het", "-n1", ":", "-n1"]
    return int(run(*words, input=b"#!/bin/sh\ntrue\n").decode().split(";")[0])


@pytest.fixture(scope="module")
def views(history, tmp_path_factory):
    """Rows by form, and what was set aside, each from a root of its own."""
    today = datetime.now(UTC).date()
    since, until = today - timedelta(days=1), today + timedelta(days=2)
    env = os.environ | {"TZ": "UTC"}
    # Without an end in the future it leaves out jobs that were cancelled before they might begin.
    ask = ["sacct", "-D", "-a", "-S", since.isoformat(), "-E", until.isoformat()]
    files = {
        "sacct": run(*ask, "-P", "-n", "-X", "--format", COLUMNS.lower().replace("|", ","), env=env),
        "json": run(*ask, "--json", env=env),
        "jobcomp": (Path(FOLDER) / "jobcomp.txt").read_bytes(),
    }
    found = {}
    for form, text in files.items():
        site = root(tmp_path_factory.mktemp(form))
        (site.root / "log").write_bytes(text)
        found[form] = rows(site, load_slurm(site, [site.root / "log"]), min(history.values()))
    site = root(tmp_path_factory.mktemp("asked"))
    first = load_slurm(site, asking=Asking(since, 0))
    again = load_slurm(site)
    assert (again.counts["new"], again.counts["changed"]) == (0, 0)
    found["asked"] = rows(site, first, min(history.values()))
    for form, (jobs, result) in found.items():
        states = dict(Counter(job.jobstate for job in jobs.values()))
        print(f"{form}: {len(jobs)} rows {states}; {dict(result.counts)}; set aside {result.aside.total}")
    return found


def root(folder):
    (folder / "jobeff.toml").write_text('timezone = "UTC"\n[clusters.demo]\nsacct = true\n')
    return Site(load(folder / "jobeff.toml"))


def rows(site, result, since):
    """Jobs from an id on: others may have played with this Slurm before."""
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection:
        read = connection.execute(f"select {', '.join(AccountingJob._fields)} from jobs").fetchall()
    jobs = [AccountingJob(*row) for row in read]
    return {(job.job_id, job.start): job for job in jobs if job.job_id >= since}, result


def test_json_and_sacct_asked_day_by_day_say_the_same(views):
    told, asked = views["json"], views["asked"]
    assert told[0] == asked[0]
    assert told[1].aside.total == asked[1].aside.total == 0


def test_a_file_of_sacct_says_the_same_but_for_newlines_and_forged_records(views):
    """A name with a newline is cut there; a forged record cannot be told from a true one where `|` parts columns."""
    forged = {key for key, job in views["sacct"][0].items() if job.user == "eve"}
    assert (EVE.job_id, EVE.start) in forged
    for key, job in views["sacct"][0].items():
        if key not in forged:
            expected = views["json"][0][key]
            assert job == expected._replace(jobname=expected.jobname.partition("\n")[0])
    assert views["sacct"][0].keys() - forged == views["json"][0].keys()


def test_jobcomp_says_the_same_but_for_what_the_database_does_to_names(views, history):
    """jobcomp counts no cores of a job that never started, and a name that holds a whole record is set aside."""
    jobcomp, _ = views["jobcomp"]
    assert {job_id for job_id, _ in views["json"][0].keys() - jobcomp.keys()} == {history["forged jobcomp"]}
    for key, job in jobcomp.items():
        expected = views["json"][0][key]
        name = job.jobname.replace('"', "`").encode()[:CUT].decode("utf-8", "ignore")
        assert expected.jobname.startswith(name)
        known = {"jobname": expected.jobname, "cores": job.cores if job.nodes else expected.cores}
        if job.job_id == history["cancelled array"]:
            known["job_id_text"] = expected.job_id_text  # it names only tasks that have come apart
        assert job._replace(**known) == expected


@pytest.mark.parametrize("form", ["json", "asked", "jobcomp"])
def test_each_kind_of_job_is_what_it_was(views, history, form):
    jobs, _ = views[form]
    by_id = {job.job_id: job for job in jobs.values()}
    states = {kind: by_id[job_id].jobstate for kind, job_id in history.items() if job_id in by_id}
    assert states["timeout"] == "TIMEOUT"
    assert states["failed"] == "FAILED"
    assert {states[kind] for kind in ("cancelled", "never started", "het")} == {"CANCELLED"}
    assert by_id[history["timeout"]].limit_s == 60
    assert not by_id[history["never started"]].nodes
    assert by_id[history["het"]].job_id_text == f"{history['het']}+0"
    tasks = {job.job_id_text for job in jobs.values() if (job.job_id_text or "").startswith(f"{history['array']}_")}
    assert tasks == {f"{history['array']}_{task}" for task in (1, 3, 7)}
    assert by_id[history["cancelled array"]].job_id_text in (None, f"{history['cancelled array']}_[1-4%2]")
    attempts = sorted((job.start, job.jobstate) for job in jobs.values() if job.job_id == history["requeued"])
    assert [told for _, told in attempts] == ["REQUEUED", "COMPLETED"]
    assert {job.user for job in jobs.values()} == {"root"}
    assert {job.proj_id for job in jobs.values()} == {"proj1"}
    for kind, name in NAMES.items():
        if not kind.startswith("forged"):
            assert by_id[history[kind]].jobname.replace('"', "`") == name.replace('"', "`"), kind
