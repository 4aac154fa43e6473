"""What has no source any more: rows and shards stay, and rows that cannot stay are named and kept beside."""

import contextlib
import shutil
import sqlite3

import damage
import pytest

from jobeff.steps import check_report as kinds
from jobeff.steps.check import check
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.repair import repair
from jobeff.steps.update import update
from jobeff.store import archive, header_sums, shards, tables

JUNE = "2021-06"
KEPT = "kept without samples"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, executors):
    return damage.make(tmp_path_factory.mktemp("whole") / "site", executors[0])


@pytest.fixture
def site(whole, tmp_path):
    """Its only month has been removed, from the site too."""
    return damage.copy(whole, tmp_path / "site")


def remove_month(site, note=True):
    month = archive.month_file(site.root, "c1", JUNE)
    for path in [month, header_sums.beside(month), *site.root.glob(f"shards/c1/*/{JUNE}.parquet")]:
        path.unlink()
    if note:
        shards.note(site.config.shards, "c1", JUNE).unlink()
    shutil.rmtree(site.root / "slurm" / "uppmax_jobstats")
    (site.root / "slurm" / "uppmax_jobstats").mkdir()


def database(site, name="efficiency"):
    return tables.database(site.root, name)


def change(path, *statements):
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def rows(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute("select * from jobs order by cluster, job_id, start").fetchall()


def of_june(found):
    return [row for row in found if (row[1], row[12][:7]) == ("c1", JUNE)]


def results(done):
    return done if isinstance(done, list) else [done]


def aside(done):
    return [example for result in results(done) for example in result.aside.examples]


def whole_compute(site):
    return compute(site, everything=True)


def compute_month_again(site):
    """As where accounting has been made anew, or there is a new definition."""
    with contextlib.closing(tables.open_database(database(site), "efficiency")) as efficiency:
        efficiency.execute("delete from computed")
    return compute(site)


@pytest.mark.parametrize("note", [True, False], ids=["", "noted"])
@pytest.mark.parametrize("step", [whole_compute, rebuild, compute_month_again])
def test_rows_of_months_that_neither_archive_nor_shards_have_stay(site, step, note):
    wanted = rows(database(site))
    june = len(of_june(wanted))
    assert 1 < june < len(wanted)
    remove_month(site, note)
    for _ in range(2):
        done = step(site)
        assert aside(done) == []
        assert rows(database(site)) == wanted
        counts = results(done)[-1].counts
        assert counts.get(KEPT) == (None if step is compute_month_again else june)
        assert counts["waiting for a shard"] == 0
    assert results(compute(site))[0].counts["jobs"] == 0
    assert rows(database(site)) == wanted
    for read_data in (False, True):
        report = check(site, read_data)
        assert (report.damage, report.counts[kinds.BEHIND]) == ([], 0)
        [alone] = [one for one in report.findings if one.kind == kinds.ALONE]
        assert (alone.where, alone.why.partition(";")[0]) == (f"c1 {JUNE}", f"{june} rows")
        assert report.months["c1", JUNE]["rows"] == june
    assert [result.counts for result in repair(site)] == [{"damaged": 0}]
    assert not list(site.root.glob("db/*.damaged"))


def test_a_month_that_comes_back_is_computed_again(site, tmp_path):
    wanted = rows(database(site))
    shutil.copytree(site.root, tmp_path / "backup")
    remove_month(site)
    change(database(site), "update jobs set cpu_mean = 1")  # as by another definition
    compute(site, everything=True)
    name = f"archive/c1/{JUNE}.txt"
    shutil.copyfile(tmp_path / "backup" / name, site.root / name)
    ingest(site)
    compute(site)
    assert rows(database(site)) == wanted
    assert check(site, read_data=True).counts[kinds.ALONE] == 0


@pytest.mark.parametrize("step", [whole_compute, rebuild])
def test_a_month_that_is_not_ingested_any_more_keeps_its_rows_until_it_is(site, step):
    """Shards and their notes have been removed; or of a rebuild, the archive cannot be read."""
    wanted = rows(database(site))
    shutil.rmtree(site.config.shards)
    if step is rebuild:
        month = archive.month_file(site.root, "c1", JUNE)
        month.rename(month.with_suffix(".txt.gz"))
    done = step(site)
    assert results(done)[-1].counts[KEPT] == len(of_june(wanted) if step is rebuild else wanted)
    assert rows(database(site)) == wanted
    assert [kind for kind, _, _ in aside(done)] == ["archive month"] * (step is rebuild)


@pytest.mark.parametrize("rest", [None, b"half of a month"], ids=["gone", "unreadable"])
@pytest.mark.parametrize("efficiency", ["", "lost"])
@pytest.mark.parametrize("started", ["", "claimed by nobody"])
def test_rebuild_keeps_the_shards_of_a_month_that_the_archive_has_not(site, rest, efficiency, started):
    """They are all there is; their rows are computed from them."""
    month, wanted = archive.month_file(site.root, "c1", JUNE), rows(database(site))
    month.unlink()
    if rest is not None:
        month.with_suffix(".txt.gz").write_bytes(rest)
    if efficiency == "lost":
        database(site).unlink()
    if started:
        with contextlib.closing(tables.open_database(database(site, "accounting"), "accounting")) as accounting:
            accounting.execute(f"delete from jobs where date like '{JUNE}%'")
        database(site).unlink(missing_ok=True)
        left = shards.shard_path(site.config.shards / ".rebuild", "c1", "n1", JUNE)  # by a run that was killed
        left.parent.mkdir(parents=True)
        left.write_bytes(b"of what the archive was then")
    before = {path: path.read_bytes() for path in site.config.shards.glob(f"c1/*/{JUNE}.*")}
    assert len(before) == 3
    ingested, computed = rebuild(site)
    assert {path: path.read_bytes() for path in site.config.shards.glob(f"c1/*/{JUNE}.*")} == before
    assert ingested.counts["months kept as they were"] == 1
    assert [kind for kind, _, _ in aside([ingested, computed])] == ["archive month"] * (rest is not None)
    assert rows(database(site)) == ([row for row in wanted if row not in of_june(wanted)] if started else wanted)
    assert not (site.config.shards / ".rebuild").exists()
    assert {one.kind for one in check(site, read_data=True).damage} == {kinds.MONTH if rest is not None else kinds.GONE}


@pytest.mark.parametrize("step", [whole_compute, rebuild])
@pytest.mark.parametrize(
    "statement",
    [
        "update jobs set user = 'other' where job_id = 11",
        "delete from jobs where job_id = 11",
        f"delete from jobs where date like '{JUNE}%'",
    ],
)
def test_rows_that_accounting_has_otherwise_or_not_at_all_are_named_and_kept_beside(site, step, statement):
    before = rows(database(site))
    remove_month(site)
    change(database(site, "accounting"), statement)
    june = of_june(before)
    lost = [row for row in june if row[0] == 11 or "like" in statement]
    [(kind, where, why)] = aside(step(site))
    assert (kind, where) == ("efficiency rows", f"c1/{JUNE}")
    assert why.startswith(f"{len(lost)} rows are gone, c1/11/")
    assert why.endswith("; efficiency.sqlite.damaged has them")
    assert rows(database(site)) == [row for row in before if row not in lost]
    assert rows(site.root / "db" / "efficiency.sqlite.damaged") == before
    assert aside(step(site)) == []


def test_a_night_names_the_rows_of_jobs_that_accounting_has_otherwise_now(site):
    """They have been removed one by one since nobody can compute them again; others of their month stay."""
    before = rows(database(site))
    remove_month(site)
    with contextlib.closing(tables.open_database(database(site, "accounting"), "accounting")) as accounting:
        ((newest,),) = accounting.execute("select max(seq) from jobs")
        accounting.execute("update jobs set user = 'other', seq = ? where job_id = 11", (newest + 1,))
    lost = [row for row in before if row[0] == 11]
    [(kind, where, why)] = aside(compute(site))
    assert (kind, where) == ("efficiency rows", f"c1/{JUNE}")
    assert why.startswith(f"{len(lost)} rows are gone: ")
    assert rows(database(site)) == [row for row in before if row not in lost]
    assert aside(compute(site)) == []


def test_repair_mends_accounting_and_no_row_is_lost(site):
    wanted = rows(database(site))
    remove_month(site)
    change(database(site, "accounting"), "update jobs set user = 'other' where job_id = 11")
    assert aside(repair(site)) == []
    assert rows(database(site)) == wanted


def test_repair_names_once_what_accounting_does_not_have(site):
    before = rows(database(site))
    remove_month(site)
    with contextlib.closing(tables.open_database(database(site, "accounting"), "accounting")) as accounting:
        accounting.execute("delete from jobs where job_id = 12")
    [(kind, where, why)] = aside(repair(site))
    assert (kind, where) == ("efficiency rows", f"c1/{JUNE}")
    assert why.startswith(f"1 of {len(of_june(before))} rows are gone, c1/12/")
    assert rows(site.root / "db" / "efficiency.sqlite.damaged") == before
    assert [path.name for path in site.root.glob("db/*.damaged*")] == ["efficiency.sqlite.damaged"]
    assert rows(database(site)) == [row for row in before if row[0] != 12]


@pytest.mark.parametrize("step", [whole_compute, rebuild])
def test_rows_that_a_shorter_archive_does_not_give_are_named(site, step):
    """It was cut where a frame ends, and its shards have been removed."""
    before, month = rows(database(site)), archive.month_file(site.root, "c1", JUNE)
    text = month.read_bytes()
    month.write_bytes(text[: text.index(b"==> ", text.index(b"==> c1/n1/12 ") + 1)])
    header_sums.beside(month).unlink()
    shutil.rmtree(site.config.shards)
    ingest(site)
    [(kind, where, why)] = aside(step(site))
    lost = len(before) - len(rows(database(site)))
    assert lost > 1
    assert (kind, where) == ("efficiency rows", f"c1/{JUNE}")
    assert why.startswith(f"{lost} rows are gone, c1/1")
    assert rows(site.root / "db" / "efficiency.sqlite.damaged") == before


def test_a_job_that_has_moved_to_another_month_is_not_lost(site):
    before = len(rows(database(site)))
    change(database(site), "update jobs set date_finished = '2020-01-31' where job_id = 11")
    with contextlib.closing(tables.open_database(database(site), "efficiency")) as efficiency:
        efficiency.execute("update jobs set date_finished = '2020-01-30' where job_id = 12")
    assert aside(compute(site, everything=True)) == []
    assert len(rows(database(site))) == before


def test_rows_that_an_older_jobeff_has_written_stay(site):
    wanted = rows(database(site))
    remove_month(site)
    change(database(site), "drop table digests", "pragma user_version = 3")
    assert aside(compute(site, everything=True)) == []
    assert rows(database(site)) == wanted


@pytest.mark.parametrize("names", [["jobs"], ["digests"], ["jobs", "jobs_proj_id_date_finished"]], ids=", ".join)
@pytest.mark.parametrize("step", [whole_compute, rebuild])
def test_pages_that_cannot_be_read_are_told_and_the_database_is_kept_beside(site, step, names):
    others = [row for row in rows(database(site)) if row not in of_june(rows(database(site)))]
    remove_month(site)
    path = database(site)
    damaged = bytearray(path.read_bytes())
    size = int.from_bytes(damaged[16:18], "big")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        for name, root in connection.execute("select name, rootpage from sqlite_master").fetchall():
            if name in names:
                damaged[(root - 1) * size : root * size] = bytes(size)
    path.write_bytes(damaged)
    told = {where: why for _, where, why in aside(step(site))}
    named = {f"c1/{JUNE}"} if names == ["jobs"] else set()  # an index tells the others
    assert told.keys() == {str(path)} | named
    assert told[str(path)].startswith("the old one cannot be read, so nothing tells which rows it had; it is effic")
    assert (site.root / "db" / "efficiency.sqlite.damaged").read_bytes() == damaged
    assert rows(path) == others


def test_nothing_of_it_is_looked_for_where_there_are_sources(site, monkeypatch):
    """A whole site computes as it did; its shards are not listed once more."""
    monkeypatch.setattr(shards, "months_with", lambda *_: pytest.fail("looked for"))
    assert KEPT not in compute(site, everything=True).counts
    assert all(KEPT not in result.counts for result in update(site))
