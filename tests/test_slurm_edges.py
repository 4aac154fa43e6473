"""Runs on Slurm at their edges: a submit that fails, nothing to do, a part too many, names that are not UTF-8."""

import gzip
import json
import os
import re
import shlex
import shutil
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import sites
from crash_dump import differences, dump
from test_compute import START, a_job
from test_dask import STEPS, collected  # noqa: F401  (a fixture)
from test_slurm_killed import Killed
from test_slurm_runs import command, compared, fake, sides, submitted  # noqa: F401  (fixtures)

from jobeff.errors import JobeffError
from jobeff.sources import ask_slurm
from jobeff.steps import rebuild, slurm, slurm_run
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site
from jobeff.store.locks import reserved_by

SECOND_FAILS = """#!/bin/sh
echo "sbatch $*" >> "$FAKE_SLURM/said"
case "$*" in *--dependency*) echo "sbatch: error: no more jobs" >&2; exit 1 ;; esac
echo 101
"""
"""An sbatch that takes the array, and not what brings all together."""


def reserved(site):
    return [reserved_by(site.root, target) for target in slurm_run.TARGETS]


def test_a_submit_that_fails_in_the_middle_reserves_nothing(fake, sides, run):  # noqa: F811
    there = sides[1]
    (fake / "sbatch").write_text(SECOND_FAILS)
    status, _, said = command(there, run, "slurm", "submit", "rebuild")
    assert (status, "no more jobs" in said) == (1, True)
    assert "scancel 101\n" in (fake / "said").read_text()
    assert reserved(there) == ["", ""]
    assert slurm.status(there) == []
    assert command(there, run, "rebuild")[0] in (0, 3)


@pytest.mark.parametrize("fails", ["new", "reserve", "plan"])
def test_a_submit_that_fails_before_it_submits_reserves_nothing(fake, sides, run, fails, monkeypatch):  # noqa: F811
    there, real = sides[1], slurm.reserve

    def second(root, target, name):
        if target == "efficiency":
            raise OSError(28, "No space left on device", "reserved")
        real(root, target, name)

    def full(*_):
        raise OSError(28, "No space left on device", "notes")

    where = {"new": (slurm, "new", full), "reserve": (slurm, "reserve", second), "plan": (slurm, "_step", full)}
    with monkeypatch.context() as patch:
        patch.setattr(*where[fails])
        assert command(there, run, "slurm", "submit", "rebuild")[0] == 1
    assert reserved(there) == ["", ""]
    assert not (fake / "said").exists() or "sbatch" not in (fake / "said").read_text()
    assert command(there, run, "rebuild")[0] in (0, 3)


@pytest.mark.parametrize("where", ["atomic_write", "replace_database", "remove_tree"])
def test_a_rebuild_of_nothing_is_published_wherever_its_merge_was_killed(tmp_path, run, where, monkeypatch):
    """There is no archive, so there are no parts, and a database alone."""
    here, there = (sites.make(tmp_path / name) for name in ("here", "there"))
    for site in (here, there):
        sites.Night([a_job(1, START)]).fall(site.root, "day")
        os.utime(site.root / "slurm" / "accounting" / "day", (START, START))
        load_slurm(site)
    rebuild.rebuild(here)
    made = submitted(there, run, "rebuild")
    assert made["tasks"] == 0
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(rebuild, where, lambda *_: (_ for _ in ()).throw(Killed))
        slurm.merge(there, made["run"])
    assert command(there, run, "slurm", "resume")[0] == 0
    assert command(there, run, "slurm", "merge", made["run"])[0] == 0
    assert [run.name for run in slurm_run.runs(there.root) if not run.is_over()] == []
    assert compared(here, there) == []
    assert (there.root / "db" / "efficiency.sqlite").exists()


def test_a_part_beyond_the_last_has_nothing_to_do(sides, run):  # noqa: F811
    made = submitted(sides[1], run, "ingest")
    for number in (made["parts"], 99_999):
        status, out, _ = command(sides[1], run, "slurm", "part", made["run"], number)
        assert (status, out) == (0, f"part {number}: 0 tasks done\n")
    assert slurm.status(sides[1])[0]["done"] == 0


def test_a_root_whose_name_is_not_utf8(collected, sides, run, tmp_path):  # noqa: F811
    here = sides[0]
    root = shutil.copytree(collected, tmp_path / os.fsdecode(b"r\xe5ksm\xf6rg\xe5s '"))
    there = Site(sites.config(root))
    STEPS["rebuild"](here)
    made = submitted(there, run, "rebuild")
    folder = root / "db" / "slurm" / made["run"]
    words = shlex.split(os.fsdecode((folder / "part.sh").read_bytes()), comments=True)
    assert str(root / "jobeff.toml") in words
    for part in range(made["parts"]):
        assert command(there, run, "slurm", "part", made["run"], part)[0] == 0
    assert command(there, run, "slurm", "merge", made["run"])[0] in (0, 3)
    assert command(there, run, "--json", "slurm", "status")[0] == 0
    shutil.rmtree(root / "db" / "slurm")
    plain = root.rename(tmp_path / "plain")  # pyarrow's own reader, which looks into shards here, takes no other
    assert differences(dump(plain, plain), dump(here.root, here.root)) == []


def compressed(site):
    """Months as somebody has compressed them, and one file that is none."""
    folder = site.root / "archive" / "c1"
    for path in folder.glob("????-??.txt"):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    (folder / "2009-01.txt.gz").write_bytes(b"x" * 50)
    return folder


@pytest.mark.parametrize("step", ["ingest", "rebuild"])
def test_months_that_are_compressed_are_inflated_once_for_all_parts(sides, run, step):  # noqa: F811
    """A part that runs days later on another machine reads what the first half has read."""
    here, there = sides
    folder = [compressed(site) for site in sides][1]
    told = [(one.counts, one.aside.examples) for one in STEPS[step](here)]
    month = str(here.root / "archive" / "c1" / "2021-05.txt.gz")
    assert ("archive frame", f"{month} c1/n3/2 byte 41", "its checksum is wrong") in told[0][1]
    made = submitted(there, run, step)
    folder.rename(folder.with_name("c2"))
    for part in range(made["parts"]):
        assert command(there, run, "slurm", "part", made["run"], part)[0] == 0
    assert slurm.status(there)[0]["done"] == made["tasks"] > 0
    folder.with_name("c2").rename(folder)
    merged, _ = slurm.merge(there, made["run"])
    there_told = json.dumps([(one.counts, one.aside.examples) for one in merged])
    assert there_told.replace(str(there.root), str(here.root)) == json.dumps(told)
    assert compared(here, there) == []


@pytest.fixture
def saying(fake):  # noqa: F811
    """Has one of Slurm's commands say something and fail, or be slow."""

    def program(name, words, status=1, before=""):
        (fake / name).write_text(f"#!/bin/sh\n{before}\necho '{words}' >&2\nexit {status}\n")

    return program


def test_jobs_that_slurm_knows_no_more_have_ended(saying):
    saying("squeue", "slurm_load_jobs error: Invalid job id specified")
    assert ask_slurm.states(["7", "8"]) == {}
    for words in ("scancel: error: Invalid job id 7", "Job/step already completing or completed"):
        saying("scancel", words)
        ask_slurm.cancel(["7"])
    saying("sacct", "Slurm accounting storage is disabled")
    assert ask_slurm.ended(["7"]) == {}


def test_nobody_is_asked_about_no_jobs(fake):  # noqa: F811
    assert (ask_slurm.states([]), ask_slurm.ended([]), ask_slurm.cancel([])) == ({}, {}, None)
    assert not (fake / "said").exists()


def test_what_slurm_cannot_do_is_told_with_its_words(saying, monkeypatch):
    for name, ask in (("squeue", ask_slurm.states), ("scancel", ask_slurm.cancel), ("squeue", ask_slurm.named)):
        saying(name, "error: Unable to contact slurm controller")
        with pytest.raises(JobeffError, match=f"{name} has failed: error: Unable to contact slurm controller"):
            ask(["7"])
    saying("squeue", "", 0, "sleep 60")
    monkeypatch.setattr(ask_slurm, "TIMEOUT_S", 0.2)
    with pytest.raises(JobeffError, match=r"cannot run squeue: it has not answered within 0.2 s"):
        ask_slurm.states(["7"])
    saying("sbatch", "", 0, "echo sbatch: Job 7 to start at once")
    with pytest.raises(JobeffError, match="cannot tell what sbatch has submitted"):
        ask_slurm.submit([], Path("x"))


def test_what_is_said_of_runs(fake, sides, run):  # noqa: F811
    there = sides[1]
    assert command(there, run, "slurm", "status")[1] == "no runs\n"
    assert json.loads(command(there, run, "--json", "slurm", "status")[1]) == []
    status, out, _ = command(there, run, "slurm", "submit", "ingest", "--parts", 2, "--time", "1:00:00")
    assert (status, out.count("\n"), out.endswith("\nNext: jobeff slurm status\n")) == (0, 2, True)
    assert re.match(r"run \w+: 2 parts, \d+ tasks; array 101, merge 102\n", out)
    assert "--time=1:00:00" in (fake / "said").read_text()
    out = command(there, run, "slurm", "status")[1]
    assert "  its jobs have ended: 'jobeff slurm resume' submits what was lost again, 'cancel' ends it\n" in out
    (fake / "sacct").write_text("#!/bin/sh\necho '101_0|NODE_FAIL'\n")
    assert re.search(
        r"\n  part    0  lost       0 of \d+ tasks, node_fail\n", command(there, run, "slurm", "status")[1]
    )
    [about] = json.loads(command(there, run, "--json", "slurm", "status")[1])
    assert about["state"] == "stopped"
    assert command(there, run, "-q", "slurm", "resume")[:2] == (0, "")
    name = about["run"]
    assert json.loads(command(there, run, "--json", "slurm", "cancel", name)[1])["run"] == name


def test_a_run_that_was_killed_while_it_was_planned(sides, run, monkeypatch):  # noqa: F811
    there = sides[1]
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(slurm, "_forget", lambda _: None)  # who is killed cleans nothing up
        patch.setattr(slurm, "_step", lambda *_: (_ for _ in ()).throw(Killed))
        slurm.submit(there, "ingest", 2, [], False)
    out = command(there, run, "slurm", "status")[1]
    assert "  it is being planned, or was killed there: then 'jobeff slurm cancel' ends it\n" in out
    ended = command(there, run, "slurm", "cancel")
    assert ended[0] == 0, ended
    assert command(there, run, "ingest")[0] in (0, 3)


def test_a_run_whose_jobs_do_not_end_stays_reserved(fake, sides, run, monkeypatch):  # noqa: F811
    """Slurm may take a while to end what is cancelled."""
    there = sides[1]
    made = submitted(there, run, "ingest")
    (fake / "queue").write_text("101_0|COMPLETING\n")
    (fake / "scancel").write_text('#!/bin/sh\necho "scancel $*" >> "$FAKE_SLURM/said"\n')
    monkeypatch.setattr(slurm, "ENDING_S", 0.0)
    status, _, told = command(there, run, "slurm", "cancel")
    assert (status, f"jobs of the run {made['run']} have not ended" in told) == (11, True), told
    assert made["run"] in reserved(there)
    slept = []
    monkeypatch.setattr(slurm, "ENDING_S", 60.0)
    clock = SimpleNamespace(monotonic=time.monotonic, sleep=lambda s: slept.append(s) or (fake / "queue").unlink())
    monkeypatch.setattr(slurm, "time", clock)  # other threads sleep too
    ended = command(there, run, "slurm", "cancel")
    assert ended[0] == 0, ended
    assert len(slept) == 1
    assert (fake / "said").read_text().count("scancel 101\n") == 2
    assert reserved(there) == ["", ""]


def test_a_part_that_another_one_does_is_left_to_it(sides, run):  # noqa: F811
    """As one that Slurm has taken for lost and started again."""
    there = sides[1]
    made = submitted(there, run, "ingest", 2)
    with slurm_run.find(there.root, made["run"]).alone(1) as alone:
        assert alone
        status, _, told = command(there, run, "slurm", "part", made["run"], 1)
        assert (status, "another one does this part" in told) == (11, True), told
        assert slurm.status(there)[0]["done"] == 0
    assert command(there, run, "slurm", "part", made["run"], 1)[0] == 0
    assert slurm.status(there)[0]["done"] > 0


def test_which_run_is_meant_has_to_be_clear(sides, run):  # noqa: F811
    there = sides[1]
    assert "all have ended" in command(there, run, "slurm", "resume")[2]
    submitted(there, run, "ingest")
    status, _, told = command(there, run, "slurm", "cancel", "nothing")
    assert (status, "there is no run nothing" in told) == (2, True), told
    assert len(slurm.status(there)) == 1
