"""Runs on Slurm: in parts, some of them lost, the same as at once. The sbatch here writes down what it is asked."""

import json
import os
import shutil

import pytest
import sites
from crash_dump import differences, dump
from test_dask import STEPS, collected  # noqa: F401  (a fixture)

from jobeff.steps import slurm
from jobeff.steps.away import CODER
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.site import Site, StepResult

FAKE = """#!/bin/sh
echo "$(basename "$0") $*" >> "$FAKE_SLURM/said"
case $0 in
*sbatch) n=$(cat "$FAKE_SLURM/id" 2>/dev/null || echo 100); n=$((n + 1)); echo $n > "$FAKE_SLURM/id"; echo "$n;demo" ;;
*squeue)
  case "$*" in
  *--name=*) cut -d_ -f1 "$FAKE_SLURM/queue" 2>/dev/null | cut -d'|' -f1 ;;
  *) cat "$FAKE_SLURM/queue" 2>/dev/null ;;
  esac ;;
*scancel) rm -f "$FAKE_SLURM/queue" ;;
esac
true
"""


@pytest.fixture(autouse=True)
def fake(tmp_path, monkeypatch):
    """Folder of a Slurm that does nothing by itself: `said` has its commands, `queue` is what squeue shows."""
    folder = tmp_path / "slurm"
    folder.mkdir()
    for name in ("sbatch", "squeue", "sacct", "scancel"):
        (folder / name).write_text(FAKE)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("FAKE_SLURM", str(folder))
    return folder


@pytest.fixture
def sides(collected, tmp_path):  # noqa: F811
    """Two sites that are the same."""
    return [Site(sites.config(shutil.copytree(collected, tmp_path / name))) for name in ("here", "there")]


def submitted(site, run, step, parts=3):
    status, out, said = run("-c", site.config.file, "--workers", 0, "--json", "slurm", "submit", step, "--parts", parts)
    assert status == 0, said
    return json.loads(out)


def command(site, run, *words):
    return run("-c", site.config.file, "--workers", 0, *words)


def compared(here, there):
    shutil.rmtree(there.root / "db" / "slurm")
    return differences(dump(there.root, there.root), dump(here.root, here.root))


@pytest.mark.parametrize("step", STEPS)
def test_parts_that_are_lost_are_submitted_again_and_all_is_the_same(fake, sides, run, step):
    here, there = sides
    if step == "compute":
        for site in sides:
            ingest(site)
    STEPS[step](here)
    made = submitted(there, run, step)
    assert made["parts"] == 3
    for part in (0, 2):
        assert command(there, run, "slurm", "part", made["run"], part)[0] == 0
    status, out, _ = command(there, run, "slurm", "merge", made["run"])
    assert (status, out) == (0, "parts submitted again: 1\n")
    assert "--array=1 " in (fake / "said").read_text()
    assert "--dependency=afterany:103" in (fake / "said").read_text()
    assert command(there, run, "slurm", "part", made["run"], 1)[0] == 0
    assert command(there, run, "slurm", "part", made["run"], 0)[1] == "part 0: 0 tasks done\n"
    assert command(there, run, "slurm", "merge", made["run"])[0] in (0, 3)
    [found] = slurm.status(there)
    assert (found["state"], found["done"]) == ("done", made["tasks"])
    assert compared(here, there) == []


def test_a_part_that_is_always_lost_costs_its_nodes_alone_and_they_come_back(sides, run):
    here, there = sides
    for site in sides:
        ingest(site)
        compute(site)
    made = submitted(there, run, "compute")
    for part in (0, 1):
        command(there, run, "slurm", "part", made["run"], part)
    for _ in range(2):
        assert command(there, run, "slurm", "merge", made["run"])[1] == "parts submitted again: 2\n"
    status, _, said = command(there, run, "slurm", "merge", made["run"])
    assert status == 3
    assert "was lost with part 2 of the Slurm run, 3 times. Its jobs wait; the next run tries again" in said
    compute(there)
    assert [line for line in compared(here, there) if "efficiency" not in line] == []


def test_a_run_keeps_others_from_writing_until_it_is_cancelled(fake, sides, run):
    there = sides[1]
    made = submitted(there, run, "rebuild")
    for words in (["ingest"], ["compute"], ["rebuild"], ["slurm", "submit", "ingest"]):
        status, _, said = command(there, run, *words)
        assert (status, f"reserved for the run {made['run']} on Slurm" in said) == (11, True), said
    (fake / "queue").write_text("101_0|RUNNING\n101_1|PENDING\n102|PENDING\n")
    [found] = slurm.status(there)
    assert [part["state"] for part in found["parts"]] == ["running", "pending", "lost"]
    assert "running, 0 of" in command(there, run, "slurm", "status")[1]
    assert command(there, run, "slurm", "cancel")[0] == 0
    assert "scancel 101 102" in (fake / "said").read_text()
    assert not list((there.root / "db" / "slurm").iterdir())
    assert command(there, run, "ingest")[0] in (0, 3)


def test_what_is_resumed_and_what_a_dry_run_shows(fake, sides, run):
    there = sides[1]
    _, out, _ = command(there, run, "slurm", "submit", "ingest", "--dry-run", "--partition", "core")
    assert "--partition=core" in out and "slurm part" in out and "slurm merge" in out
    assert not (fake / "said").exists()
    made = submitted(there, run, "ingest")
    assert command(there, run, "slurm", "resume")[0] == 0
    assert (fake / "said").read_text().count("--array=0-2 ") == 2
    (fake / "queue").write_text("101_0|RUNNING\n")
    assert command(there, run, "slurm", "resume", made["run"])[0] == 11


def test_without_slurm_nothing_is_left_behind(sides, run, monkeypatch, tmp_path):
    there = sides[1]
    before = dump(there.root, there.root)
    monkeypatch.setenv("PATH", str(tmp_path))
    status, _, said = command(there, run, "slurm", "submit", "ingest")
    assert status == 1
    assert "cannot run sbatch: there is no such program" in said
    after = dump(there.root, there.root)
    assert [line for line in differences(after, before) if "shards/" not in line] == []


def test_another_program_does_not_go_on_with_a_run(sides, run, monkeypatch):
    made = submitted(sides[1], run, "ingest")
    monkeypatch.setattr(slurm, "code", lambda: "0.0.0-other")
    for words in (["part", made["run"], 0], ["merge", made["run"]]):
        status, _, said = command(sides[1], run, "slurm", *words)
        assert (status, "has planned it, and this is 0.0.0-other" in said) == (1, True)


def test_what_is_read_is_data_and_nothing_else():
    for wrong in (b'{"~": "Popen", "value": {}}', b'{"~": "__import__", "value": {}}'):
        with pytest.raises(KeyError):
            CODER.loads(wrong)
    with pytest.raises(KeyError):
        CODER.dumps(StepResult("x"))
