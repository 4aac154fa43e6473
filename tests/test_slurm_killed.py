"""Runs on Slurm that are killed where nobody expects it, or whose site grows meanwhile: nothing is locked for ever."""

import json
import signal
import subprocess
import sys

import pytest
import sites
from crash_dump import differences, dump, numbers
from test_compute import files_of
from test_dask import STEPS, collected  # noqa: F401  (a fixture)
from test_lost_workers import MONTH, START, a_job
from test_slurm_runs import command, compared, fake, sides, submitted  # noqa: F401  (fixtures)

from jobeff.errors import LockedError
from jobeff.steps import compute, rebuild, slurm, slurm_run
from jobeff.steps.collect import collect
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.store.locks import reserve

KILLS = """#!/bin/sh
echo "sbatch $*" >> "$FAKE_SLURM/said"
echo 101 > "$FAKE_SLURM/id"
echo 101 > "$FAKE_SLURM/queue"
kill -9 $PPID
"""
"""An sbatch that takes the job, and whose caller is killed before it can hear of it."""

KILLED_AT = {
    "compute": [(compute, "replace_database"), (slurm_run.Run, "tidy")],
    "rebuild": [
        (compute.NewDatabase, "finish"), (rebuild, "atomic_write"), (rebuild, "sync_folder"),
        (rebuild, "replace_database"), (rebuild, "remove_tree"), (slurm_run.Run, "tidy"),
    ],
}  # fmt: skip


class Killed(BaseException):
    """Nothing goes on after it."""


def parts_done(site, run, made):
    for part in range(made["parts"]):
        assert command(site, run, "slurm", "part", made["run"], part)[0] == 0


@pytest.mark.parametrize("step", KILLED_AT)
def test_a_merge_that_is_killed_anywhere_is_resumed(sides, run, step, monkeypatch):  # noqa: F811
    here, there = sides
    for site in sides:
        if step == "compute":
            ingest(site)
    STEPS[step](here)
    made = submitted(there, run, step)
    parts_done(there, run, made)
    for where, name in KILLED_AT[step]:
        with monkeypatch.context() as patch:
            patch.setattr(where, name, lambda *_: (_ for _ in ()).throw(Killed))
            with pytest.raises(Killed):
                slurm.merge(there, made["run"])
        assert command(there, run, "compute")[0] == 11
        assert "stopped" in command(there, run, "slurm", "status")[1]
        assert command(there, run, "slurm", "resume")[0] == 0
    assert command(there, run, "slurm", "merge", made["run"])[0] in (0, 3)
    assert compared(here, there) == []


def test_a_submit_that_is_killed_can_be_cancelled(sides, run):  # noqa: F811
    there = sides[1]
    reserve(there.root, "shards", "1f0c9a72")
    assert command(there, run, "ingest")[0] == 11
    assert "1f0c9a72: unknown, not submitted" in command(there, run, "slurm", "status")[1]
    status, _, said = command(there, run, "slurm", "resume")
    assert (status, "'submit' has not come to its end" in said) == (1, True)
    assert command(there, run, "slurm", "cancel")[0] == 0
    assert command(there, run, "ingest")[0] in (0, 3)


@pytest.fixture
def submitted_and_killed(fake, sides):  # noqa: F811
    """A run whose array Slurm has, and nobody else knows of."""
    taken, there = (fake / "sbatch").read_text(), sides[1]
    (fake / "sbatch").write_text(KILLS)
    words = [sys.executable, "-m", "jobeff", "-c", there.config.file, "--workers", "0", "slurm", "submit", "ingest"]
    assert subprocess.run([*words, "--parts", "3"], check=False, capture_output=True).returncode == -signal.SIGKILL
    (fake / "sbatch").write_text(taken)
    said = (fake / "said").read_text()
    [found] = slurm.status(there)
    assert f"--job-name=jobeff-ingest-{found['run']} " in said
    return there, found["run"]


def test_an_array_that_nobody_has_noted_is_found_by_its_name(fake, submitted_and_killed, run):  # noqa: F811
    there, name = submitted_and_killed
    (fake / "queue").write_text("101_0|RUNNING\n101_1|PENDING\n")
    [found] = slurm.status(there)
    assert (found["state"], found["merge"]) == ("running", "ended")
    assert [part["state"] for part in found["parts"]] == ["running", "pending", "lost"]
    status, _, said = command(there, run, "slurm", "resume")
    assert (status, f"the run {name} has jobs" in said) == (11, True)
    assert command(there, run, "slurm", "cancel")[0] == 0
    assert "scancel 101\n" in (fake / "said").read_text()
    assert command(there, run, "ingest")[0] in (0, 3)


def test_a_run_whose_submit_was_killed_goes_on(fake, sides, submitted_and_killed, run):  # noqa: F811
    """Two parts of the array have ended by then, and one was lost."""
    here, (there, name) = sides[0], submitted_and_killed
    for part in (0, 2):
        assert command(there, run, "slurm", "part", name, part)[0] == 0
    (fake / "queue").unlink()
    assert slurm.status(there)[0]["state"] == "stopped"
    assert command(there, run, "slurm", "resume")[0] == 0
    assert "--array=1 " in (fake / "said").read_text()
    assert command(there, run, "slurm", "part", name, 1)[0] == 0
    assert command(there, run, "slurm", "merge", name)[0] in (0, 3)
    STEPS["ingest"](here)
    assert compared(here, there) == []


def test_parts_and_merge_are_not_at_work_at_once(sides, run, monkeypatch):  # noqa: F811
    there = sides[1]
    made = submitted(there, run, "ingest")
    found = slurm_run.find(there.root, made["run"])
    monkeypatch.setattr(slurm_run.fences, "LOOK_EVERY_S", 0.01)
    with found.at_work(alone=False, wait_s=0):
        with found.at_work(alone=False, wait_s=0):
            pass
        with pytest.raises(LockedError, match="is still at work"), found.at_work(alone=True, wait_s=0):
            pass
    with found.at_work(alone=True, wait_s=0):
        for alone in (True, False):
            with pytest.raises(LockedError, match="is still at work"), found.at_work(alone=alone, wait_s=0):
                pass


@pytest.mark.parametrize("step", ["compute", "rebuild"])
def test_what_comes_in_after_the_planning_is_new_to_the_next_run(sides, run, step):  # noqa: F811
    here, there = sides
    if step == "compute":
        ingest(there)
    made = submitted(there, run, step)
    for site in sides:
        more = [
            a_job(40, START + 3600, nodes=("n1", "n9")),
            a_job(5, START + 7200, nodes=("n2",)),
            a_job(41, START + 3 * MONTH, nodes=("n3",)),
        ]
        sites.Night(more, files_of(*more)).fall(site.root, "more")
        load_slurm(site)
        collect(site)
    if step == "compute":  # it reserves no shards
        command(there, run, "ingest")
    parts_done(there, run, made)
    assert command(there, run, "slurm", "merge", made["run"])[0] in (0, 3)
    for name in ("ingest", "compute"):
        command(there, run, name)
    rebuild.rebuild(here)
    found, expected = (numbers(dump(site.root, site.root)) for site in (there, here))
    assert [line for line in differences(found, expected) if "db/efficiency" in line] == []
    assert found["db/efficiency.sqlite"]["jobs"]


def test_a_damaged_file_of_a_run_is_named_and_can_be_done_again(sides, run):  # noqa: F811
    here, there = sides
    STEPS["ingest"](here)
    made = submitted(there, run, "ingest")
    parts_done(there, run, made)
    notes = there.root / "db" / "slurm" / made["run"] / "notes"
    damaged = sorted(notes.glob("part-*.json"))[0]
    damaged.write_bytes(damaged.read_bytes()[:-3])
    status, _, said = command(there, run, "slurm", "merge", made["run"])
    assert (status, f"a file of a run on Slurm is damaged at {damaged}" in said) == (1, True)
    damaged.unlink()
    assert command(there, run, "slurm", "resume")[0] == 0
    parts_done(there, run, made)
    assert command(there, run, "slurm", "merge", made["run"])[0] in (0, 3)
    shards = [line for line in compared(here, there) if "shards" in line]
    assert shards == []
    made = submitted(there, run, "compute")
    (there.root / "db" / "slurm" / made["run"] / "notes" / "about.json").write_bytes(b"{")
    assert json.loads(command(there, run, "--json", "slurm", "status")[1])[0]["state"] == "not submitted"
    assert command(there, run, "slurm", "cancel")[0] == 0


def test_what_sbatch_says_has_to_be_a_job_id(fake, sides, run):  # noqa: F811
    (fake / "sbatch").write_text("#!/bin/sh\necho 'to start at noon'\n")
    status, _, said = command(sides[1], run, "slurm", "submit", "ingest")
    assert (status, "cannot tell what sbatch has submitted" in said) == (1, True)
    assert command(sides[1], run, "ingest")[0] in (0, 3)


def test_many_parts_are_few_words():
    assert slurm_run.ranges([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    assert [n for n in range(10) if slurm_run.is_among(n, "0-2,5,7-8")] == [0, 1, 2, 5, 7, 8]
    assert not slurm_run.is_among(0, "")
