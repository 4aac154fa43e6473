"""Accounting that is written to while all jobs are computed: no row is lost, whatever comes in."""

import contextlib

import naive
import pytest
import sites
from test_bulk import contents, through_sql
from test_chain import MONTH_END
from test_compute import files_of, two_clusters

from jobeff.engine import ids as known_ids
from jobeff.steps import compute, computing, ranges
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import tables

COLUMNS = "proj_id, user, start, end, partition, cores, cluster, nodes, jobname, jobstate"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Forty jobs of five months with rising ids, those of the fourth never ran; rows are on disk as soon as can be."""
    found = two_clusters(tmp_path)
    raw = tmp_path / "slurm" / "c1" / "uppmax_jobstats" / "n1"
    raw.mkdir(parents=True, exist_ok=True)
    for number in range(1, 41):
        start = MONTH_END + 31 * 86_400 * (number // 10) + 40_000 * (number % 10)
        ran = number // 10 != 3
        nodes = ("n1",) if ran else ()
        job = naive.Job("c1", 10 * number, "p", "u", start, start + 900 * ran, 2, "COMPLETED", nodes)
        with (tmp_path / "slurm" / "c1" / "accounting" / "day").open("a") as log:
            log.write(sites.accounting_line(job))
        for file in files_of(job, rows=4):
            (raw / str(file.job_id)).write_bytes(file.text)
    update(Site(sites.config(found.root)))
    monkeypatch.setattr(ranges, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(ranges, "ROWS_PER_TASK", dict.fromkeys(ranges.ROWS_PER_TASK, 5))
    return Site(sites.config(found.root))


@pytest.fixture(params=["compute", "rebuild"])
def step(request):
    """What computes all jobs; gives its counts."""

    def run(site):
        site = Site(sites.config(site.root))
        result = compute.compute(site, everything=True) if request.param == "compute" else rebuild(site)[1]
        assert result.aside.total == 0
        return result.counts["jobs"], result.counts["no samples"], result.counts["too short"]

    return run


@contextlib.contextmanager
def accounting(site):
    with contextlib.closing(tables.open_database(tables.database(site.root, "accounting"), "accounting")) as database:
        yield database
        database.commit()


def spread(site):
    """Numbers of records as far from each other as if there were many."""
    with accounting(site) as database:
        database.execute("update jobs set seq = seq << 12")


def copied(database, job_id, other):
    """A record as that of another job."""
    query = f"insert into jobs (job_id, date, {COLUMNS}) select ?, date, {COLUMNS} from jobs where job_id = ?"
    database.execute(query, (job_id, other))


def then(monkeypatch, site, write):
    """Have something written once the ids of all months are known."""
    look = computing.expected

    def looked(*given):
        found = look(*given)
        with accounting(site) as database:
            write(database)
        return found

    monkeypatch.setattr(computing, "expected", looked)


def assert_all_is_found_by_the_next(site):
    result = compute.compute(Site(sites.config(site.root)))
    assert contents(tables.database(site.root, "efficiency")) == through_sql(Site(sites.config(site.root)))[0]
    return result.counts["jobs"], result.counts["no samples"], result.counts["too short"]


def test_a_low_id_is_left_to_the_next_run(site, step, monkeypatch):
    """It would belong before rows that are on disk already. One that is not as low is taken."""
    spread(site)
    with monkeypatch.context() as patch:
        then(patch, site, lambda database: [copied(database, job_id, 400) for job_id in (1, 10**6)])
        assert step(site) == (30, 1, 0)
    assert assert_all_is_found_by_the_next(site) == (0, 2, 0)


CHANGES = {
    # It is left to the next run.
    "of a month of which no job had run": "nodes = 'n1', end = start + 900, {newest} where job_id = 350",
    # It keeps its row; all of its month that had a number as low is gone.
    "written anew": "jobstate = 'FAILED', {newest} where job_id = 100",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_record_that_changes_costs_no_row(site, step, monkeypatch, change):
    """The next run finds it by its number, which is a new one."""
    spread(site)
    query = f"update jobs set {CHANGES[change].format(newest='seq = (select max(seq) + 1 from jobs)')}"
    with monkeypatch.context() as patch:
        then(patch, site, lambda database: database.execute(query))
        assert step(site) == (30, 0, 0)
    assert sum(assert_all_is_found_by_the_next(site)) == 1


@pytest.mark.parametrize("often", [1, 99])
def test_a_load_between_two_parts_of_the_index_loses_nothing(site, step, monkeypatch, often):
    """The parts begin and end elsewhere then: they are read again, or nothing is known."""

    def put(first):
        with accounting(site) as database:
            database.execute("begin")
            for job_id in range(first, first + 6000):
                month = f"{2022 + (job_id - 10_000) // 12_000}-{1 + (job_id - 10_000) // 1000 % 12:02d}"
                row = (job_id, f"{month}-05", "p", "u", job_id, job_id + 900, "core", 2, "c1", "n1", "x", "COMPLETED")
                query = f"insert into jobs (job_id, date, {COLUMNS}) values ({', '.join('?' * 12)})"
                database.execute(query, row)

    put(10_000)
    read, put_before = known_ids.read_ids, []

    def read_in_parts(of):
        path, cluster, months, part, parts = of
        if cluster == "c1" and part == 1 and len(put_before) < often:
            put_before.append(part)
            put(10_000 + 6000 * len(put_before))
        return read((path, cluster, months, part, parts))

    with monkeypatch.context() as patch:
        patch.setattr(known_ids, "read_ids", read_in_parts)
        patch.setattr(Site, "width", 2)
        one = sum(step(site))
    assert len(put_before) == min(often, computing.LOOKS)
    with accounting(site) as database:
        there = database.execute("select count(*) from jobs where nodes <> ''").fetchone()[0]
    assert there == 30 + 6000 * (1 + len(put_before))
    assert one >= 6030  # what was there before it began is all there
    compute.compute(Site(sites.config(site.root)))
    assert contents(tables.database(site.root, "efficiency")) == through_sql(Site(sites.config(site.root)))[0]


@pytest.mark.parametrize("which", ["1", "job_id in (100, 200)"])
def test_numbers_of_records_below_zero(site, step, which):
    """SQLite allows them; jobeff gives none."""
    with accounting(site) as database:
        database.execute(f"update jobs set seq = -seq where {which}")
    assert step(site) == (30, 0, 0)
