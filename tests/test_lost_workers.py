"""Workers that die in the middle of real steps: all is as if none had, but for what they always die of."""

import shutil

import hurt
import pytest
import sites
from conftest import dump
from test_compute import MONTH, START, a_job, files_of

from jobeff.engine import pool, processes
from jobeff.errors import JobeffError
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import tables

NODES = tuple(f"n{i}" for i in range(1, 7))
JOBS = [
    a_job(i, START - 86_400 * (i % 3) + MONTH * (i % 2), nodes=NODES[i % 6 : i % 6 + 1 + i % 2]) for i in range(1, 31)
]
GUILTY = "n2"


def compute_changes(site):
    """Compute into a database that is there, where each month is planned when its turn comes."""
    tables.open_database(tables.database(site.root, "efficiency"), "efficiency").close()
    return [compute(site)]


STEPS = {
    "ingest": lambda site: [ingest(site)],
    "compute": compute_changes,
    "compute --all": lambda site: [compute(site, everything=True)],
    "rebuild": rebuild,
}
FUNCTIONS = {
    "ingest": ["scan_month", "build_shards"],
    "compute": ["plan_month", "reduce_nodes", "finish_month"],
    "compute --all": ["plan_month", "reduce_nodes", "finish_month", "make_leaves"],
    "rebuild": ["plan_month", "scan_month", "build_shards", "finish_month", "make_leaves"],
}
BY_NODE = {"build_shards", "reduce_nodes"}


@pytest.fixture(scope="module")
def quick():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(processes, "LOOK_EVERY_S", 0.02)
        with pool.executor(2) as executor:
            yield executor


def collected_site(folder):
    """A site whose archive has a raw file that is damaged, before any shard is made of it."""
    site = sites.make(folder)
    sites.Night(JOBS, files_of(*JOBS)).fall(site.root, "day")
    load_slurm(site)
    collect(site)
    path = sorted((site.root / "archive" / "c1").glob("*.txt"))[0]
    text = bytearray(path.read_bytes())
    text[text.index(b"1.25")] = ord("7")
    path.write_bytes(text)
    return site.root


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    return collected_site(tmp_path_factory.mktemp("sites") / "collected")


@pytest.fixture(scope="module")
def expected(collected, tmp_path_factory):
    """What each step gives when nothing happens: before it, and after it."""
    before, after = {}, {}
    for step, run in STEPS.items():
        before[step] = tmp_path_factory.mktemp("before") / "site"
        shutil.copytree(collected, before[step])
        if step != "ingest":
            ingest(Site(sites.config(before[step])))
        root = tmp_path_factory.mktemp("after") / "site"
        shutil.copytree(before[step], root)
        told = said(root, run(Site(sites.config(root))))
        after[step] = state(root), told
    return before, after


def state(root):
    """Shards by name, and all rows."""
    path = tables.database(root, "efficiency")
    shards = {str(one.relative_to(root)): one.read_bytes() for one in (root / "shards").rglob("*") if one.is_file()}
    return shards, (dump(path), [row[:3] for row in dump(path, "computed")]) if path.exists() else ()


def said(root, results):
    return [
        (one.step, one.counts, [(kind, where.replace(str(root), ""), why) for kind, where, why in one.aside.examples])
        for one in results
    ]


def hurting(patch, executor, root, what):
    """The site, some of whose tasks are as `what` says."""
    hurt.patch(what, patch.setattr)
    return Site(sites.config(root), 2, _pool=executor)


CASES = [(step, name) for step, names in FUNCTIONS.items() for name in names]


@pytest.mark.parametrize("moment", ["before", "within", "after"])
@pytest.mark.parametrize(("step", "name"), CASES)
def test_a_worker_that_dies_once_changes_nothing(quick, expected, monkeypatch, tmp_path, step, name, moment):
    before, after = expected
    root = shutil.copytree(before[step], tmp_path / "site")
    how = ["killed", "segfault", "stopped", "memory"][(CASES.index((step, name)) + len(moment)) % 4]
    what = hurt.Hurt(how, tmp_path, 1, moment=moment, names=(name,))
    site = hurting(monkeypatch, quick, root, what)
    told = said(root, STEPS[step](site))
    assert (state(root), told) == after[step]
    assert (tmp_path / "hurt-0").exists() or (moment == "within" and name != "build_shards")
    assert not list(root.rglob("*.tmp"))


@pytest.mark.parametrize("how", ["killed", "segfault"])
@pytest.mark.parametrize("step", STEPS)
def test_only_the_guilty_node_is_left_out_and_comes_back(quick, expected, tmp_path, step, how):
    before, after = expected
    root = shutil.copytree(before[step], tmp_path / "site")
    what = hurt.Hurt(how, tmp_path, 999, GUILTY, names=tuple(BY_NODE))
    with pytest.MonkeyPatch.context() as patch:
        results = STEPS[step](hurting(patch, quick, root, what))
        if step == "ingest":
            results.append(compute(Site(sites.config(root))))
    lost = [example for result in results for example in result.aside.examples if example[0] == "node"]
    assert {where.split()[0] for _, where, _ in lost} == {f"c1/{GUILTY}"}
    number = {"killed": "signal 9 (SIGKILL", "segfault": "signal 11 (SIGSEGV)"}[how]
    assert all(number in why for _, _, why in lost)
    rows, whole = by_id(state(root)), by_id(after["rebuild"][0])
    guilty = {job.job_id for job in JOBS if GUILTY in job.nodes}
    assert rows == {job_id: row for job_id, row in whole.items() if job_id not in guilty}
    assert results[-1].counts["waiting for a shard"] == len(guilty)
    again = Site(sites.config(root))
    ingest(again)
    compute(again)
    assert (samples(state(root)), by_id(state(root))) == (samples(after["rebuild"][0]), whole)
    assert sites.result_of(update(again), "compute").counts["jobs"] == 0


def by_id(found):
    return {row[0]: row for row in found[1][0]}


def samples(found):
    return {name: data for name, data in found[0].items() if name.endswith(".parquet")}


@pytest.mark.parametrize(("step", "name"), [case for case in CASES if case[1] not in BY_NODE])
def test_what_cannot_be_done_without_is_an_error_that_names_month_and_signal(
    quick, expected, monkeypatch, tmp_path, step, name
):
    before, after = expected
    root = shutil.copytree(before[step], tmp_path / "site")
    published = state(root)[1]
    what = "pages of jobs|pages of projects" if name == "make_leaves" else r"20\d\d-\d\d"
    with monkeypatch.context() as patch, pytest.raises(JobeffError, match=rf"({what}).*SIGSEGV.*each of 3 times"):
        STEPS[step](hurting(patch, quick, root, hurt.Hurt("segfault", tmp_path, 999, names=(name,))))
    if step != "compute":
        assert state(root)[1] == published
    assert said(root, STEPS[step](Site(sites.config(root))))[-1] == after[step][1][-1]
    assert state(root) == after[step][0]
