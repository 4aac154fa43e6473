"""Rows into a new database page by page, against rows written by SQLite."""

import contextlib
import errno
import os
import random
import shutil
import sqlite3
import tempfile
from pathlib import Path

import naive
import numpy as np
import pytest
import sites
from conftest import MEMORY
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_chain import MONTH_END
from test_compute import a_job, files_of, two_clusters

from jobeff.engine import ids as known_ids
from jobeff.engine import jobs as month_jobs
from jobeff.engine import pool, reduce
from jobeff.engine.leaves import LeavesTask
from jobeff.engine.partials import Rows
from jobeff.engine.pool import InProcess
from jobeff.engine.runs import JOBS, Run
from jobeff.errors import JobeffError
from jobeff.steps import bulk, compute, computing, ranges, trees
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import digests, pages, tables, upsert
from jobeff.store.placing import PageFile, open_page_file

COLUMNS = ", ".join(tables.EFFICIENCY_COLUMNS)
TYPES = ", ".join(f"typeof({name})" for name in tables.EFFICIENCY_COLUMNS)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing has to outlast a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def contents(path):
    """All that SQL can tell of a database's rows, and that it is whole; `-0.0` is not `0.0`."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        rows = connection.execute(f"select {COLUMNS}, {TYPES} from jobs not indexed").fetchall()
        assert [(r[1].encode(), r[0], r[14]) for r in rows] == sorted((r[1].encode(), r[0], r[14]) for r in rows)
        by_project = "select proj_id, date_finished, cluster, job_id, start from jobs"
        order = "order by proj_id, date_finished, cluster, job_id, start"
        index = connection.execute(f"{by_project} indexed by jobs_proj_id_date_finished {order}").fetchall()
        assert index == connection.execute(f"{by_project} not indexed {order}").fetchall()
        assert len(index) == len(rows)
        return repr(rows)


def sums(path):
    """The sums of the rows of jobs."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("select * from digests where table_name = 'jobs'").fetchall()


CLUSTERS = ("a", "a.b", "ab", "a b", "ä", "b", "\U0001f600", "\uffff")
ODD_TEXTS = ["", "p", "p ", "pp", "\0", "p\0q", "é", "\uffff", "\U00010000", "Z", "a" * 130]
REALS = [0.0, -0.0, 1.0, 100.0, 1e14, 2.0**50, -(2.0**60), float("inf"), 0.1, 5e-324]
ids = st.one_of(st.integers(1, 6), st.sampled_from([0, -1, 127, 128, 2**31, 2**47, 2**63 - 1, -(2**63)]))
texts = st.one_of(st.sampled_from(ODD_TEXTS), st.text(max_size=5))
reals = st.one_of(st.sampled_from(REALS), st.floats(allow_nan=False))
node_lists = st.one_of(
    st.sampled_from(["n1", "n1,n2", "n2"]),
    st.sampled_from([3, 150, 600]).map(lambda n: ",".join(f"n{i}" for i in range(n))),
)
made_rows = st.tuples(
    st.integers(0, 2), st.integers(1, 28), ids, ids, ids, st.integers(0, 10**6), node_lists, texts, texts, texts,
    st.booleans(), st.tuples(*[st.integers(0, 2**40)] * 4),
    st.tuples(*[reals] * 4, st.one_of(reals, st.just(float("nan"))), reals, reals),
)  # fmt: skip
histories = st.dictionaries(
    st.sampled_from(CLUSTERS),
    st.lists(made_rows, max_size=12, unique_by=lambda row: row[2:4]),
    max_size=4,
)


def month_of(folder, cluster, name, made):
    """A month of rows as it stands before it is finished; some of its jobs have no row."""
    records, rows = [], ([], [], [])
    for index, (_, day, job_id, start, end, cores, nodes, proj, user, state, has, numbers, floats) in enumerate(made):
        records.append((job_id, start, end, cores, nodes, proj, user, state, f"{name}-{day:02d}"))
        if has:
            for column, value in zip(rows, (index, numbers, floats), strict=True):
                column.append(value)
    month = reduce.Month(folder / cluster / name, folder, "raw", name, 300)
    jobs = month_jobs.from_rows(records, len(records))
    reduce.write_plan(month, jobs)
    found = Rows(
        np.array(rows[0], dtype=np.int64)[::-1],  # in any order
        np.array(rows[1], dtype=np.int64).reshape(-1, 4)[::-1],
        np.array(rows[2], dtype=np.float64).reshape(-1, 7)[::-1],
    )
    reduced = reduce.Reduced(month.folder / "reduced", reduce.PlannedMonth(month), len(found.job))
    reduced.add_rows(found)
    reduced.save()
    return month, jobs


def write_in_bulk(path, months, early=False):
    """Write months, each with its least id and its run or None, as they come; how many ranges each has settled."""
    settled = []
    with bulk.NewDatabase(path, InProcess(), path.with_name(".leaves")) as new:
        if early:
            new.expect(bulk.Expected(*month, first) for month, (first, _) in months.items())
        for month, (_, run) in months.items():
            before = new._given[JOBS]
            new.add(*month, run)
            settled.append(new._given[JOBS] - before)
            assert {*pool.run_chains(InProcess(), new.among([]), 1)} <= {None}
        new.finish()
    return settled


def assert_bulk_is_sql(folder, history, early):
    """The same rows through both ways; months in any order, each expected, or not."""
    months = {}
    one, other = folder / "bulk", folder / "sql"
    with contextlib.closing(tables.open_database(other, "efficiency")) as database:
        database.execute("begin")
        for cluster, rows in history.items():
            for number in range(3):
                made = [row for row in rows if row[0] == number]
                if not made:
                    continue
                month, jobs = month_of(folder, cluster, f"2021-0{number + 1}", made)
                task = reduce.FinishTask(month, cluster, compute.DEFINITION, [], [month.folder / "reduced"], [], True)
                finished = reduce.finish_month(task)
                assert finished.rows is None
                run = Run(cluster, month.name, month.folder, finished.computed, finished.total)
                come = min(row[2] for row in made), run if finished.computed else None
                months = {(cluster, month.name): come, **months}
                task = reduce.FinishTask(month, cluster, compute.DEFINITION, [], [month.folder / "reduced"], [], False)
                finished = reduce.finish_month(task)
                records = compute.records(cluster, jobs, reduce.load_rows(finished.rows))
                upsert.replace(database, "jobs", tables.EFFICIENCY_COLUMNS, records)
        database.execute("commit")
    write_in_bulk(one, months, early)
    assert contents(one) == contents(other)
    assert sums(one) == sums(other)
    assert digests.verify(one, "efficiency") == []
    with contextlib.closing(tables.open_database(one, "efficiency")) as database:
        database.execute("update jobs set nodelist = 'n', proj_id = proj_id || 'x' where job_id % 2")
        database.execute("delete from jobs where job_id % 3 = 0")
    contents(one)
    assert digests.verify(one, "efficiency") == []


@settings(max_examples=30)
@given(histories, st.integers(1, 5), st.integers(1, 5), st.booleans())
def test_any_rows(history, rows_at_once, rows_per_task, early):
    """A few rows at once, so that ranges of keys and projects begin and end within months and jobs."""
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        patch.setattr("os.fsync", lambda _: None)
        patch.setattr(ranges, "ROWS_AT_ONCE", rows_at_once)
        patch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, rows_per_task))
        assert_bulk_is_sql(Path(folder), history, early)


@pytest.mark.parametrize("early", [False, True])
def test_many_rows(tmp_path, monkeypatch, early):
    """Ids in several months and clusters, long node lists, several levels of pages."""
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 300)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 900))
    dice = random.Random(1)
    history = {}
    for cluster in ("a", "a.b", "ab"):
        rows = {}
        for i in range(3000):
            job_id = dice.choice([dice.randint(1, 3000), 10**6 + i])
            nodes = ",".join(f"node{k}" for k in range(2000 if i % 500 == 0 else 1))
            key = (job_id, dice.randint(1, 10**9))
            rows[key] = (
                dice.randint(0, 2), dice.randint(1, 28), *key, 7, 16, nodes, f"p{dice.randint(1, 50)}", "u", "DONE",
                i % 10 > 0, (3, 4, 5, 6), (1.5, 2.0, 0.25, float(i), float("nan"), 1.0, 0.0),
            )  # fmt: skip
        history[cluster] = list(rows.values())
    assert_bulk_is_sql(tmp_path, history, early)


def test_no_rows(tmp_path):
    write_in_bulk(tmp_path / "none", {})
    assert contents(tmp_path / "none") == "[]"
    assert_bulk_is_sql(tmp_path, {}, early=True)


@pytest.fixture
def rising(tmp_path, monkeypatch):
    """Five months of one cluster and two of another; ids rise, and those of two months overlap a little."""
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 30))
    reals = (1.5, 2.0, 0.25, 0.5, float("nan"), 1.0, 0.0)
    months = {}
    for cluster, names in (("a", range(1, 6)), ("b", range(1, 3))):
        for number in names:
            first = 1000 * number - 50 + number % 2
            has, rest = number != 3, ("n1", "p", "u", "DONE")
            made = [(number, 1, first + 2 * i, 7, 9, 16, *rest, has, (3, 4, 5, 6), reals) for i in range(550)]
            month, _ = month_of(tmp_path, cluster, f"2021-0{number}", made)
            task = reduce.FinishTask(month, cluster, 1, [], [month.folder / "reduced"], [], True)
            finished = reduce.finish_month(task)
            run = Run(cluster, month.name, month.folder, finished.computed, finished.total)
            months[cluster, month.name] = min(row[2] for row in made), run if finished.computed else None
    return months


def test_rows_go_to_disk_before_the_last_month_has_come(tmp_path, rising):
    """All but those that a later month may have some among, and a range that is not whole."""
    settled = write_in_bulk(tmp_path / "early", rising, early=True)
    assert 0 not in settled[:-1]
    assert settled[-1] == 0
    assert sum(settled) > 6 * 550 // 30 // 2
    with contextlib.closing(sqlite3.connect(tmp_path / "early")) as connection:
        assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        assert connection.execute("select count(*), count(distinct job_id) from jobs").fetchone() == (6 * 550, 4 * 550)


def test_a_month_that_has_jobs_among_those_written_is_an_error(tmp_path, rising):
    """Accounting changed between two looks at it; the database would be out of order."""
    (one, first), (two, second) = list(rising.items())[:2]
    with pytest.raises(JobeffError, match="a 2021-02: accounting was changed"):  # noqa: SIM117
        with bulk.NewDatabase(tmp_path / "new", InProcess(), tmp_path / ".leaves") as new:
            new.expect([bulk.Expected(*one, first[0]), bulk.Expected(*two, 10**6)])
            new.add(*one, first[1])
            new.add(*two, second[1])
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full_early_leaves_nothing(tmp_path, rising, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(PageFile, "put", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_in_bulk(tmp_path / "early", rising, early=True)
    assert told.value.filename == str(tmp_path / "early")
    assert not (tmp_path / "early").exists()


@pytest.mark.parametrize("order", [(6, 5, 4, 3, 2, 1, 0), (1, 0, 2, 4, 3, 6, 5), (5, 6, 0, 1, 3, 2, 4)])
def test_the_pages_are_the_same_in_whatever_order_months_come(tmp_path, rising, order):
    for folder in ("one", "other"):  # what is written is removed
        shutil.copytree(tmp_path / "a", tmp_path / folder / "a")
        shutil.copytree(tmp_path / "b", tmp_path / folder / "b")
    found = []
    for folder, places in (("one", range(7)), ("other", order)):
        months = {
            key: (first, run and run._replace(folder=tmp_path / folder / key[0] / key[1]))
            for key, (first, run) in rising.items()
        }
        keys, path = list(months), tmp_path / folder / "database"
        write_in_bulk(path, {keys[place]: months[keys[place]] for place in places}, early=True)
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("delete from digests")
            found.append((contents(path), list(connection.iterdump()), path.read_bytes()[4096:]))
    assert found[0] == found[1]


@pytest.mark.parametrize("before", [0, 1, 2, 3, 9])
@pytest.mark.parametrize("long", [False, True])
def test_the_page_for_locks_is_left_alone(tmp_path, monkeypatch, before, long):
    """Whichever page of whichever range of keys would come to lie there."""
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 100)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 300))
    nodes = ",".join(f"node{k}" for k in range(2000 if long else 100))
    reals = (1.5, 2.0, 0.25, 0.5, float("nan"), 1.0, 0.0)
    made = [(0, 1, i, 7, 9, 16, nodes, "p", "u", "DONE", True, (3, 4, 5, 6), reals) for i in range(700)]
    month, _ = month_of(tmp_path, "c", "2021-01", made)
    finished = reduce.finish_month(reduce.FinishTask(month, "c", 1, [], [month.folder / "reduced"], [], True))
    run = Run("c", month.name, month.folder, finished.computed, finished.total)
    path = tmp_path / "database"
    with contextlib.closing(tables.open_database(path, "efficiency")) as database:
        root, size = pages.place(database, "jobs").root, database.execute("pragma page_size").fetchone()[0]
    lock = 2**30 // size + 1
    table = ranges.TableRanges()
    table.add(run)
    *parts, last = table.rest()
    tasks = [
        LeavesTask([run], "jobs", part, size, part is last, tmp_path / f"leaves-{number}", tmp_path / f"about-{number}")
        for number, part in enumerate([*parts, last])
    ]
    assert len(tasks) > 2
    with open_page_file(path) as page_file:  # those between are holes of the file
        here = InProcess()
        tree = trees.Trees(page_file, here, here, here, 6, lock - before, size, {"jobs": root}, [])
        assert list(pool.run_chains(here, (tree.made([task]) for task in tasks), 6)) == [None] * len(tasks)
        tree.finish()
        page_file.file.seek((lock - 1) * size)
        assert not any(page_file.file.read(size))
    with contextlib.closing(sqlite3.connect(path)) as connection:
        said = connection.execute("pragma quick_check(20000)").fetchall()
        assert [row for row in said if "never used" not in row[0] and "missing from index" not in row[0]][:3] == []
        found = connection.execute("select job_id, nodelist from jobs order by cluster, job_id, start").fetchall()
        assert found == [(i, nodes) for i in range(len(made))]


@pytest.mark.parametrize("well", [0, 1, 9])
def test_a_disk_that_is_full_ends_it_wherever_the_pages_have_come_to(tmp_path, monkeypatch, well):
    """They are put in their places by a thread, whose error must not be lost."""
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 10)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 30))
    reals = (1.5, 2.0, 0.25, 0.5, float("nan"), 1.0, 0.0)
    made = [(0, 1, i, 7, 9, 16, "n1", "p", "u", "DONE", True, (3, 4, 5, 6), reals) for i in range(300)]
    month, _ = month_of(tmp_path, "c", "2021-01", made)
    finished = reduce.finish_month(reduce.FinishTask(month, "c", 1, [], [month.folder / "reduced"], [], True))
    run = Run("c", month.name, month.folder, finished.computed, finished.total)
    put, left = PageFile.put, [well]

    def full(self, *arguments):
        if not left[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        left[0] -= 1
        put(self, *arguments)

    monkeypatch.setattr(PageFile, "put", full)
    with pytest.raises(OSError, match="No space left") as told:
        write_in_bulk(tmp_path / "database", {("c", month.name): (0, run)})
    assert told.value.filename == str(tmp_path / "database")
    assert left == [0]


# Whole sites


def through_sql(site):
    """All rows computed into an empty database, as when it is there already."""
    path = tables.database(site.root, "efficiency")
    path.unlink(missing_ok=True)
    tables.open_database(path, "efficiency").close()
    result = compute.compute(site)
    return contents(path), computed(path), result.counts


def in_bulk(site):
    path = tables.database(site.root, "efficiency")
    result = compute.compute(site, everything=True)
    return contents(path), computed(path), result.counts


def computed(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("select * from computed order by 1, 2").fetchall()


@st.composite
def site_histories(draw):
    """Jobs of three clusters over the ends of months: few ids, requeued, on a few nodes or many."""
    jobs = []
    for cluster in ("c1", "c2", "c1.proj"):
        spans = st.tuples(
            st.integers(1, 4),
            st.integers(-14, 8).map(lambda k: MONTH_END + 300 * k),
            st.sampled_from([0, 299, 900, 1500, 86_400 * 30]),
        )
        for number, start, length in draw(st.lists(spans, max_size=5, unique_by=lambda span: span[:2])):
            job_id = 10 * number + (cluster == "c2")
            nodes = draw(st.sampled_from([("n1",), ("n1", "n2"), ("n3",), tuple(f"n{i}" for i in range(1, 120))]))
            never = draw(st.integers(0, 7)) == 0
            proj = draw(st.sampled_from(["p", "p-1", "P", "snic2021-1-1"]))
            state = draw(st.sampled_from(["COMPLETED", "FAILED"]))
            end = start if never else start + length
            jobs.append(naive.Job(cluster, job_id, proj, "u", start, end, 2, state, () if never else nodes))
    return jobs, draw(st.integers(0, len(jobs)))


ONE = ("u", MONTH_END - 3600, MONTH_END - 1800, 2, "COMPLETED", ("n1",))
NEVER = ("u", MONTH_END - 3600, MONTH_END - 3600, 2, "FAILED", ())
AN_ID_OF_A_PART = [
    naive.Job(c, i, "p", *job) for c, i, job in (("c1", 10, ONE), ("c1", 20, NEVER), ("c1.proj", 20, ONE))
]


@settings(max_examples=4)
@given(site_histories())
@example((AN_ID_OF_A_PART, 2))
def test_all_at_once_or_what_has_changed(history):
    jobs, split = history
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        patch.setattr("os.fsync", lambda _: None)
        site = two_clusters(Path(folder))
        (site.root / "slurm" / "c1" / "accounting" / "proj").mkdir()
        for night, some in enumerate((jobs[:split], jobs[split:])):
            for job in some:
                name = "proj/" if job.cluster == "c1.proj" else ""
                log = site.root / "slurm" / job.cluster.partition(".")[0] / "accounting" / f"{name}day-{night}"
                with log.open("a") as lines:
                    lines.write(sites.accounting_line(job))
                for file in files_of(job, rows=6)[:3]:
                    raw = site.root / "slurm" / job.cluster.partition(".")[0] / "uppmax_jobstats" / file.node
                    raw.mkdir(exist_ok=True)
                    with (raw / str(file.job_id)).open("ab") as out:
                        out.write(file.text)
            update(site)
        path = tables.database(site.root, "efficiency")
        nightly = contents(path), computed(path)
        everything = in_bulk(site)
        assert everything == through_sql(site)
        assert everything[:2] == nightly


@pytest.mark.parametrize("everything", [True, False])
def test_months_may_end_in_any_order(tmp_path, monkeypatch, everything):
    site = two_clusters(tmp_path)
    jobs = [
        a_job(i, MONTH_END + 40 * 86_400 * (i % 4) - 3000 * (i % 3), 900, ("n1", "n2")[: 1 + i % 2])
        for i in range(1, 25)
    ]
    for job in jobs:
        with (tmp_path / "slurm" / "c1" / "accounting" / "day").open("a") as log:
            log.write(sites.accounting_line(job))
        for file in files_of(job, rows=4):
            raw = tmp_path / "slurm" / "c1" / "uppmax_jobstats" / file.node
            raw.mkdir(exist_ok=True)
            (raw / str(file.job_id)).write_bytes(file.text)
    update(site)
    path, run, seen, found = tables.database(site.root, "efficiency"), computing.run, [], []
    for order in (1, -1):

        def ended(*words, order=order, **more):
            done = sorted(run(*words, **more), key=lambda one: one.month.name)[::order]
            seen.append([one.month.name for one in done])
            return done

        monkeypatch.setattr(computing, "run", ended)
        path.unlink()
        if not everything:
            tables.open_database(path, "efficiency").close()
        compute.compute(site, everything=everything)
        bytes_of = path.read_bytes()
        # But for what tells a database from its successor, and when it was written.
        found.append((contents(path), computed(path), bytes_of[:24], len(bytes_of)))
    assert any(len(set(months)) > 3 for months in seen)
    assert [months[::-1] for months in seen[: len(seen) // 2]] == seen[len(seen) // 2 :]
    assert found[0] == found[1]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", ["compute", "rebuild"])
def test_pages_are_made_while_months_are_computed(tmp_path, monkeypatch, step, workers):
    """Of a site whose first month has jobs that never ran alone, and whose last has none in the archive."""
    site = two_clusters(tmp_path)
    head, one, two = (site.root / "jobeff.toml").read_text().split("[clusters")
    (site.root / "jobeff.toml").write_text("[clusters".join([head, two, one]))  # not in the order of their names
    (site.root / "slurm" / "c1" / "accounting" / "proj").mkdir()
    jobs = []
    for cluster, months in (("c1", range(7)), ("c2", range(1, 4)), ("c1.proj", range(2, 5))):
        for month in months:
            for number in range(12):
                start = MONTH_END + 31 * 86_400 * month + 40_000 * number
                nodes = () if month == 0 else ("n1", "n2")[: 1 + number % 2]
                jobs.append(
                    naive.Job(
                        cluster, 100 * month + 9 * number + len(cluster), "p", "u", start, start + 900 * (month > 0), 2,
                        "COMPLETED", nodes,
                    )
                )  # fmt: skip
    for job in jobs:
        raw, _, part = job.cluster.partition(".")
        with (tmp_path / "slurm" / raw / "accounting" / part / "day").open("a") as log:
            log.write(sites.accounting_line(job))
        for file in files_of(job, rows=4) if job.job_id < 600 else []:
            folder = tmp_path / "slurm" / raw / "uppmax_jobstats" / file.node
            folder.mkdir(exist_ok=True)
            (folder / str(file.job_id)).write_bytes(file.text)
    update(Site(sites.config(site.root)))
    with contextlib.closing(tables.open_database(tables.database(site.root, "accounting"), "accounting")) as database:
        database.execute("update jobs set seq = seq << 12")  # as far from each other as if there were many
    expected = through_sql(Site(sites.config(site.root)))
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 5))
    seen, made, add = [], trees.Trees.made, bulk.NewDatabase.add
    monkeypatch.setattr(trees.Trees, "made", lambda *words: seen.append("pages") or made(*words))
    monkeypatch.setattr(bulk.NewDatabase, "add", lambda *words: seen.append("month") or add(*words))
    site = Site(sites.config(site.root), workers)
    if step == "compute":
        compute.compute(site, everything=True)
    else:
        rebuild(site)
    path = tables.database(site.root, "efficiency")
    assert contents(path) == expected[0]
    assert all(f"'{cluster}'" in expected[0] for cluster in ("c1", "c2", "c1.proj"))
    months = [place for place, what in enumerate(seen) if what == "month"]
    assert seen[: months[-1]].count("pages") >= 5
    assert seen[months[-1] :].count("pages") > 1


def test_long_node_lists_overflow_their_pages(tmp_path):
    """2,000 nodes are more than a page of accounting or efficiency holds."""
    site = two_clusters(tmp_path)
    nodes = tuple(f"node{i}" for i in range(2000))
    jobs = [a_job(i, MONTH_END - 3000 * (i % 2), 900 + i, nodes if i % 3 else nodes[:1]) for i in range(1, 8)]
    for job in jobs:
        with (tmp_path / "slurm" / "c1" / "accounting" / "day").open("a") as log:
            log.write(sites.accounting_line(job))
        for file in files_of(job, rows=4)[:2]:
            raw = tmp_path / "slurm" / "c1" / "uppmax_jobstats" / file.node
            raw.mkdir(exist_ok=True)
            (raw / str(file.job_id)).write_bytes(file.text)
    assert sites.result_of(update(site), "compute").counts["jobs"] == 7
    everything = in_bulk(site)
    assert everything == through_sql(site)
    assert nodes[-1] in everything[0]


def test_months_are_read_alike_by_pages_and_by_sql(tmp_path, monkeypatch):
    """Ids again within a month, in other months and clusters; clusters that begin alike; months without jobs."""
    path, dice = tmp_path / "accounting", random.Random(5)
    with contextlib.closing(tables.open_database(path, "accounting")) as database:
        database.execute("begin")
        for start in range(9000):
            nodes = dice.choice(["", "n1", "n1,n2", ",".join(f"n{i}" for i in range(start % 700 + 1))])
            row = (
                f"2021-0{dice.randint(1, 4)}-{dice.randint(1, 31):02d}", dice.randint(1, 6000), "pé", "u", start,
                start + 300, "core", dice.randint(1, 20), dice.choice(["a", "a.b", "ab"]), nodes, "x", "COMPLETED",
            )  # fmt: skip
            database.execute(f"insert into jobs values ({', '.join('?' * 12)}, null, null, null, null)", row)
        database.execute("delete from jobs where seq % 7 = 0")
        database.execute(
            "update jobs set nodes = nodes || ',more', seq = seq + 10000 where seq % 5 = 0 and nodes <> ''"
        )
        database.execute("commit")
    for cluster in ("a", "a.b", "ab", "none"):
        months = ("2021-01", "2021-02", "2021-03", "2021-04", "2021-05")
        ids = known_ids.read_ids((path, cluster, months, 0, 1))
        assert ids is not None
        parts = [known_ids.read_ids((path, cluster, months, part, 2)) for part in range(2)]
        joined = known_ids.joined_ids(parts)
        assert np.array_equal(joined.repeated, ids.repeated)
        assert joined[1:] == ids[1:]
        for month in months:
            found, by_ids = (month_jobs.read_month(path, cluster, month, again) for again in (ids.repeated, None))
            with monkeypatch.context() as patch:
                patch.setattr(pages, "readable", lambda _: False)
                expected = month_jobs.read_month(path, cluster, month, None)
            assert (found is None) == (expected is None) == (cluster == "none" or month == "2021-05")
            if found is None:
                assert ids.first[month] == month_jobs.NO_ID
                continue
            assert found.wanted == expected.wanted < len(found.job_id)
            for first in (3000, 10**6):
                late = month_jobs.read_month(path, cluster, month, ids.repeated, first)
                with monkeypatch.context() as patch:
                    patch.setattr(pages, "readable", lambda _: False)
                    late_by_sql = month_jobs.read_month(path, cluster, month, None, first)
                assert (late is None) == (late_by_sql is None) == (first == 10**6)
                if late is not None:
                    mine = {row for row in everything_of(expected) if row[0] and row[1] >= first}
                    assert {row for row in everything_of(late) if row[0]} == mine
                    assert {row for row in everything_of(late_by_sql) if row[0]} == mine
            assert everything_of(found) == everything_of(expected) == everything_of(by_ids)
            with contextlib.closing(tables.read_database(path, "accounting")) as accounting:
                changed = np.unique(found.job_id[: found.wanted])[::9]
                some = month_jobs.read_changed(accounting, cluster, month, changed)
            assert month_jobs.ANY_ID < ids.first[month] <= found.job_id[: found.wanted].min()
            those = set(changed.tolist())
            assert everything_of(some) == [row for row in everything_of(expected) if row[1] in those]
            folder = tmp_path / f"{cluster}-{month}"
            folder.mkdir()
            found.save(folder)
            assert everything_of(month_jobs.load(folder)) == everything_of(found)


def everything_of(jobs):
    every = np.arange(len(jobs.job_id))
    columns = [jobs.text(column, every) for column in range(len(month_jobs.TEXTS))]
    assert jobs.booked.tolist() == [nodes.count(",") + 1 for nodes in columns[0]]
    wanted = (every < jobs.wanted).tolist()
    return sorted(zip(wanted, *jobs.integers.tolist(), *columns, strict=True))
