"""A month of the archive that somebody has written anew, without some nodes and with others: shards follow it."""

import re
import shutil
import zlib

import pytest
import sites
from crash_dump import differences, dump
from test_dask import collected  # noqa: F401  (a fixture)
from test_slurm_runs import command, fake, submitted  # noqa: F401  (a fixture)

from jobeff.steps import ingest as steps
from jobeff.steps import rebuild as steps_of_rebuild
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.store import header_sums, shards

FRAME = re.compile(rb"==> c1/(\w+)/\d+ .*? <==\n(?:(?!==> ).*\n)*")
GONE = b"n3"


class Killed(BaseException):
    """Nothing goes on after it."""


def write_anew(root):
    """The last month without one node, in another order, and the raw file of one node longer than it was."""
    path = sorted((root / "archive" / "c1").glob("*.txt"))[-1]
    frames = [found[0] for found in FRAME.finditer(path.read_bytes()) if found[1] != GONE]
    assert len(frames) > 5
    head, _, text = frames[0].partition(b"\n")
    text += text.splitlines(keepends=True)[-1]
    head = re.sub(rb"bytes=\d+ crc32=\w+", b"bytes=%d crc32=%08x" % (len(text), zlib.crc32(text)), head)
    path.write_bytes(b"".join([*reversed(frames[1:]), head, b"\n", text]))
    header_sums.beside(path).unlink()
    return path.stem


@pytest.fixture(scope="module")
def prepared(collected, tmp_path_factory):  # noqa: F811
    """A site that had been ingested and computed before, the same after a rebuild, and the month."""
    there = shutil.copytree(collected, tmp_path_factory.mktemp("there") / "site")
    ingest(Site(sites.config(there)))
    compute(Site(sites.config(there)))
    month = write_anew(there)
    here = shutil.copytree(there, tmp_path_factory.mktemp("here") / "site")
    rebuild(Site(sites.config(here)))
    return here, there, month


@pytest.fixture
def anew(prepared, tmp_path, monkeypatch):
    """Both, to be worked on; nothing has to outlast a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)
    here, there, month = prepared
    return Site(sites.config(here)), Site(sites.config(shutil.copytree(there, tmp_path / "there"))), month


def compared(here, there):
    """Differences of shards and rows, but for notes of how often a month was begun anew."""
    found, expected = (dump(site.root, site.root) for site in (there, here))
    told = [line for line in differences(found, expected) if "parquet" in line or "efficiency.sqlite" in line]
    return [line for line in told if "differs: computed:" not in line]


def rows(site):
    return dump(site.root, site.root)["db/efficiency.sqlite"]["jobs"]


def test_shards_follow_the_archive(anew):
    here, there, month = anew
    assert "its shards are made again from what is there" in str(ingest(there).aside)
    compute(there)
    assert compared(here, there) == []
    assert GONE.decode() not in shards.nodes_with(there.config.shards, "c1", month)


@pytest.mark.parametrize("where", [(steps, "_remove_others"), (steps.shards, "set_ingested")])
def test_an_ingest_that_is_killed_within_it_is_done_again(anew, where, monkeypatch):
    here, there, _ = anew
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(*where, lambda *_: (_ for _ in ()).throw(Killed))
        ingest(there)
    ingest(there)
    compute(there)
    assert compared(here, there) == []


def everything(root):
    """All files but locks."""
    found = {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and path.suffix != ".lock"}
    folders = {path for path in root.rglob("*") if path.is_dir() and path.name != "slurm"}
    return found, folders


def half_published(site, monkeypatch):
    """A rebuild that was killed as it had begun to publish what it had made."""
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(steps_of_rebuild, "replace_database", lambda *_: (_ for _ in ()).throw(Killed))
        rebuild(site)


@pytest.mark.parametrize(
    ("step", "killed"), [("ingest", False), ("compute", False), ("rebuild", False), ("rebuild", True)]
)
def test_a_dry_run_changes_nothing(anew, run, step, killed, monkeypatch):
    """Nor where a month has a torn tail and no more, a run has ended, or a rebuild was killed."""
    site = anew[1]
    first = sorted((site.root / "archive" / "c1").glob("*.txt"))[0]
    first.write_bytes(first.read_bytes() + b"==> torn/n1/1 bytes=99 crc32=00000000 <==\nhalf")
    if killed:
        write_again = {path: path.read_bytes() for path in (site.root / "archive" / "c1").iterdir()}
        half_published(site, monkeypatch)
        for path, text in write_again.items():
            path.write_bytes(text)
    made = submitted(site, run, "compute")
    for part in range(made["parts"]):
        command(site, run, "slurm", "part", made["run"], part)
    assert command(site, run, "slurm", "merge", made["run"])[0] in (0, 3)
    (site.root / "db" / "efficiency.sqlite.new").write_bytes(b"left")
    before = everything(site.root)
    status, out, said = command(site, run, "--json", "slurm", "submit", step, "--dry-run")
    assert (status, '"tasks": 0' in out) == (0, False), (out, said)
    assert everything(site.root) == before


def test_a_run_that_is_cancelled_leaves_the_shards(anew, run):
    site = anew[1]
    before = everything(site.config.shards)
    submitted(site, run, "ingest")
    assert command(site, run, "slurm", "cancel")[0] == 0
    assert everything(site.config.shards) == before


def test_nodes_whose_part_is_always_lost_come_back(anew, run):
    here, there, _ = anew
    made = submitted(there, run, "ingest")
    lost = made["parts"] - 1
    assert lost > 0
    for part in range(lost):
        command(there, run, "slurm", "part", made["run"], part)
    for _ in range(2):
        assert command(there, run, "slurm", "merge", made["run"])[1] == f"parts submitted again: {lost}\n"
    status, _, said = command(there, run, "slurm", "merge", made["run"])
    assert (status, f"was lost with part {lost}" in said) == (3, True)
    ingest(there)
    compute(there)
    assert compared(here, there) == []
    assert rows(there)
