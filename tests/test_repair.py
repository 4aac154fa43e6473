"""repair: what is damaged is again what it was, where anything says what that was; else it is named, once."""

import contextlib
import itertools
import os
import random
import re
import shutil
import sqlite3
import subprocess
import sys
import zlib

import damage
import naive
import pytest
import sites
import zstandard
from strategies import EXTENDED

from jobeff.steps import check_report as kinds
from jobeff.steps import repair as step
from jobeff.steps import repair_databases
from jobeff.steps.check import check
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.repair import repair
from jobeff.steps.site import StepResult
from jobeff.steps.update import update
from jobeff.store import archive, header_sums, shards, tables
from jobeff.views import check as views

JUNE = "2021-06"
FLIPS = 200 if os.environ.get("CI") else 25


@pytest.fixture(scope="module")
def whole(tmp_path_factory, executors):
    """A site that nobody changes, and all it says."""
    site = damage.make(tmp_path_factory.mktemp("whole") / "site", executors[0])
    return site, damage.dump(site.root)


@pytest.fixture
def site(whole, tmp_path):
    return damage.copy(whole[0], tmp_path / "site")


@pytest.fixture
def wanted(whole):
    return whole[1]


def month_file(site):
    return archive.month_file(site.root, "c1", JUNE)


def shard(site, node="n1"):
    return shards.shard_path(site.config.shards, "c1", node, JUNE)


def aside(results):
    return [example for result in results for example in result.aside.examples]


def assert_mended(site, wanted):
    """All is as it was, nothing is said to be lost, and there is nothing more to do."""
    assert aside(repair(site)) == []
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []
    [again] = repair(site)
    assert again.counts == {"damaged": 0}
    assert aside(update(site)) == []
    assert damage.dump(site.root) == wanted


def assert_said_to_be_lost(site, where):
    """Also by a check that does not read every byte; it is no new damage, and not well either."""
    report = check(site)
    assert [one.where for one in report.findings if one.kind == kinds.LOST] == [where]
    assert (report.damage, report.counts[kinds.LOST]) == ([], 1)
    assert views.check(report).endswith("\n\nNo damage was found beside what is lost for good.")


def without_sources(site):
    """What the site keeps for 30 days is gone."""
    shutil.rmtree(site.root / "slurm" / "uppmax_jobstats")
    (site.root / "slurm" / "uppmax_jobstats").mkdir()


def text_of(site, frame=1):
    """Where the text of a raw file stands."""
    at = -1
    for _ in range(frame + 1):
        at = month_file(site).read_bytes().index(b"==> ", at + 1)
    return month_file(site).read_bytes().index(b"\n", at) + 1


def test_a_whole_site_is_left_alone(site, wanted):
    before = {path: path.stat().st_mtime_ns for path in damage.targets(site.root)}
    [result] = repair(site)
    assert result.counts == {"damaged": 0}
    assert {path: path.stat().st_mtime_ns for path in damage.targets(site.root)} == before
    assert damage.dump(site.root) == wanted


def test_a_damaged_shard_is_kept_beside_and_made_again(site, wanted):
    without_sources(site)
    damage.flip(shard(site), 3000)
    damaged = shard(site).read_bytes()
    assert_mended(site, wanted)
    assert shard(site).with_name(f"{shard(site).name}.damaged").read_bytes() == damaged


def test_a_shard_that_is_gone_is_made_again(site, wanted):
    without_sources(site)
    shard(site).unlink()
    assert_mended(site, wanted)


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ('"restarts"', '"restartz"'),
        ('"archive_bytes": ', '"archive_bytes": 7'),
        ('"archive_bytes": 3', '"archive_bytes": 2'),  # within a frame
        ('"tail_crc32": ', '"tail_crc32": 1'),
    ],
)
def test_a_note_of_how_far_the_archive_was_ingested(site, wanted, right, wrong):
    path = site.config.shards / "c1" / shards.STATE / f"{JUNE}.json"
    path.write_text(path.read_text().replace(right, wrong))
    assert_mended(site, wanted)


def test_raw_text_is_taken_from_the_site(site, wanted):
    damage.flip(month_file(site), 8 * (text_of(site) + 80))
    assert_mended(site, wanted)


def test_raw_text_that_nothing_has_is_named_once_and_what_was_made_of_it_is_kept(site, wanted):
    without_sources(site)
    damage.flip(month_file(site), 8 * (text_of(site) + 80))
    damaged = month_file(site).read_bytes()
    [(kind, where, why)] = aside(repair(site))
    assert kind == "archive frame"
    assert f"{month_file(site)} bytes {text_of(site)}-" in where
    assert "its samples are still in the shard" in why
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST]) == ([], 1)
    assert_said_to_be_lost(site, where)
    assert aside(repair(site)) == []
    assert aside(update(site)) == []
    assert month_file(site).read_bytes() == damaged
    rest = {name: rows for name, rows in wanted.items() if not name.startswith("archive/")}
    assert {name: rows for name, rows in damage.dump(site.root).items() if name in rest} == rest
    damage.flip(month_file(site), 8 * (text_of(site) + 81))
    assert check(site, read_data=True).counts[kinds.FRAME] == 1


@pytest.mark.parametrize("records", [True, False])
@pytest.mark.parametrize("kept", [True, False])
def test_every_byte_of_a_header_is_restored(site, wanted, records, kept):
    """By its record, one bit of it; by the shard, any number of them."""
    if not records and not kept:
        pytest.skip("nothing says what it was")
    without_sources(site)
    begin, end = month_file(site).read_bytes().index(b"\n==> ") + 1, text_of(site)
    rng = random.Random(begin)
    if not records:
        header_sums.beside(month_file(site)).unlink()
    for at in rng.sample(range(begin, end), 4):
        damage.flip(month_file(site), 8 * at + rng.randrange(8))
        if not kept:
            shutil.rmtree(site.root / "shards")
            ingest(site)
        repair(site)
        assert damage.dump(site.root) == wanted, at - begin
        assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("records", ["damaged", "gone"])
def test_a_header_that_names_another_job_where_no_record_tells(site, wanted, records):
    """The shard does; and what it does not agree with is not noted as right."""
    without_sources(site)
    at = month_file(site).read_bytes().index(b" bytes=", text_of(site, 0)) - 1
    sums = header_sums.beside(month_file(site))
    if records == "gone":
        sums.unlink()
    else:
        found = header_sums.load(month_file(site)).copy()
        found["check"] ^= 1
        header_sums.write(month_file(site), found)
    damage.flip(month_file(site), 8 * at)
    assert check(site, read_data=True).counts[kinds.FRAME] >= 1
    assert aside(repair(site)) == []
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []
    assert sums.exists() == (records == "damaged")


def test_a_torn_tail_is_moved_aside(site, wanted):
    with month_file(site).open("ab") as file:
        file.write(b"==> c1/n2/11 bytes=900 crc32=00000000 <==\nLOCAL")
    assert_mended(site, wanted)
    assert list(month_file(site).parent.glob("*.torn-*"))


def test_an_archive_that_was_cut_is_collected_again(site, wanted):
    with month_file(site).open("rb+") as file:
        file.truncate(text_of(site, 3) + 100)
    assert aside(repair(site)) == []
    found = damage.dump(site.root)
    databases = [name for name in wanted if "." in name and "/" not in name]
    assert {name: found[name] for name in databases} == {name: wanted[name] for name in databases}
    assert check(site, read_data=True).damage == []


def test_a_month_that_the_archive_has_lost_is_named_once(site):
    without_sources(site)
    month_file(site).unlink()
    assert [one[0] for one in aside(repair(site))] == ["archive month"]
    assert shard(site).exists()
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST]) == ([], 1)
    assert aside(repair(site)) == []


@pytest.mark.parametrize("name", list(tables.SCHEMAS))
def test_a_cell_of_a_database(site, wanted, name):
    table = next(iter(tables.BLOCKS[name]))
    connection = sqlite3.connect(tables.database(site.root, name))
    column = {"efficiency": "cpu_mean", "accounting": "user", "collected": "crc32", "current_projects": "data"}.get(
        name
    )
    names = [row[1] for row in connection.execute(f"pragma table_info({table})")]
    connection.execute(f'update {table} set "{column or names[-1]}" = 1')
    connection.commit()
    connection.close()
    assert_mended(site, wanted)


@pytest.mark.parametrize("name", ["accounting", "storage_history", "projects"])
def test_the_name_beside_a_sum_of_rows_that_no_source_has(site, wanted, name):
    """The sum is still that of the rows, so they are as they were."""
    path = tables.database(site.root, name)
    connection = sqlite3.connect(path)
    table = damage.TABLES[name][0]
    (block,) = connection.execute("select block from digests where table_name = ? and rows > 0", (table,)).fetchone()
    connection.execute("update digests set block = ? where block = ? and table_name = ?", (f"{block}0", block, table))
    connection.commit()
    connection.close()
    shutil.rmtree(site.root / "slurm" / "accounting")
    (site.root / "slurm" / "accounting").mkdir()
    assert check(site, read_data=True).damage != []
    results = repair(site)
    assert [one for one in aside(results) if "row" in one[0]] == []
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("name", ["accounting", "storage_history"])
def test_the_statement_of_another_table_beside_rows_that_no_source_has(site, wanted, name):
    """SQLite refuses the whole database then; all other tables can be read nevertheless."""
    path = tables.database(site.root, name)
    whole = path.read_bytes()
    assert whole.count(b"create table loaded (") + whole.count(b"CREATE TABLE loaded (") == 1
    at = whole.upper().index(b"CREATE TABLE LOADED (") + len(b"create table loaded (")
    path.write_bytes(whole[:at] + b'"' + whole[at + 1 :])
    with contextlib.closing(sqlite3.connect(path)) as connection, pytest.raises(sqlite3.DatabaseError):
        connection.execute(f"select count(*) from {damage.TABLES[name][0]}")
    for folder in ("slurm/accounting", "storage"):
        shutil.rmtree(site.root / folder, ignore_errors=True)
        (site.root / folder).mkdir(parents=True)
    results = repair(site)
    assert [one for one in aside(results) if "row" in one[0]] == []
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("name", list(tables.SCHEMAS))
@pytest.mark.parametrize("content", [b"no database" * 1000, None])
def test_a_file_that_is_no_database_or_was_cut(site, wanted, name, content):
    path = tables.database(site.root, name)
    path.write_bytes(path.read_bytes()[:5000] if content is None else content)
    told = aside(repair(site))
    assert [(kind, where) for kind, where, _ in told] == [(f"{name} rows", str(path))] * (
        name in repair_databases.SOURCES
    )
    assert path.with_name(f"{path.name}.damaged").exists()
    assert_mended(site, wanted)


def test_rows_that_no_source_has_of_a_database_of_which_nothing_can_be_read(site):
    """Nothing tells that they were there; so it is said that they may have been, and where to look."""
    log = site.root / "slurm" / "accounting" / "2021-06-02"
    log.write_text("".join(line for line in log.read_text().splitlines(keepends=True) if "jobid=12 " not in line))
    path = tables.database(site.root, "accounting")
    backup = path.read_bytes()
    path.write_bytes(bytes(4096) + backup[4096:])
    wanted = damage_free_rows(site)
    told = {kind: (where, why) for kind, where, why in aside(repair(site))}
    assert told.keys() == {"accounting rows", "efficiency rows"}
    assert told["accounting rows"] == (
        str(path),
        "nothing tells which rows it had: 0 could be read, all others come from the accounting logs, and rows that "
        "these no longer have are lost, if there were any. What is there now is whole. The old file is "
        "accounting.sqlite.damaged; where rows are missing, put a backup in the place of accounting.sqlite and run "
        "'jobeff update'",
    )
    where, why = told["efficiency rows"]
    assert where == "c1/2021-06"
    assert why.startswith("1 of 8 rows are gone, c1/12/1622499300 first: ")
    assert why.endswith("; efficiency.sqlite.damaged has them")
    kept = path.with_name("efficiency.sqlite.damaged")
    with contextlib.closing(sqlite3.connect(kept)) as connection:
        assert connection.execute("select count(*) from jobs where job_id = 12").fetchone() == (1,)
    assert check(site, read_data=True).damage == []
    path.write_bytes(backup)
    assert aside(update(site)) == []
    assert damage_free_rows(site) == wanted


def test_a_page_that_cannot_be_read_among_rows_that_no_source_has(site):
    """SQLite gives no row from there on; those behind it are read from the end."""
    path = tables.database(site.root, "storage_history")
    dates = [
        f"{year}-{month:02}-{day:02}" for year in range(2001, 2011) for month in range(1, 13) for day in range(1, 29)
    ]
    with contextlib.closing(tables.open_database(path, "storage_history")) as connection:
        connection.execute("begin")
        connection.executemany("insert into storage_history (proj_id, date, usage) values ('x', ?, 7)", zip(dates))
        connection.execute("commit")
    whole = path.read_bytes()
    page = whole.index(b"x2005-06-15\x07") // 4096 * 4096
    path.write_bytes(whole[:page] + bytes(8) + whole[page + 8 :])
    told = aside(repair(site))
    assert {kind for kind, _, _ in told} == {"storage_history row"}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        months = connection.execute("select distinct substr(date, 1, 7) from storage_history where proj_id = 'x'")
        lost = {date[:7] for date in dates} - {month for (month,) in months}
        rows = connection.execute("select count(*) from storage_history where proj_id = 'x'").fetchone()[0]
    assert "2005-06" in lost
    assert len(lost) < 10
    assert rows == len(dates) - 28 * len(lost)
    assert check(site, read_data=True).damage == []


def test_a_database_without_rows_is_not_said_to_have_had_some(site):
    path = tables.database(site.root, "storage_history")
    with contextlib.closing(tables.open_database(path, "storage_history")) as connection:
        connection.execute("delete from storage_history")
        connection.execute("delete from loaded")
        connection.execute("delete from last_updated")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("insert into digests values ('nothing', 'x', 1, 1)")
        connection.commit()
    assert kinds_found(site) == {kinds.DATABASE}
    assert aside(repair(site)) == []


def test_accounting_that_is_gone_where_efficiency_is_damaged_too(site, wanted):
    """Efficiency is computed from accounting, so that is loaded first, and one run is enough."""
    tables.database(site.root, "accounting").unlink()
    shutil.copyfile(tables.database(site.root, "projects"), tables.database(site.root, "efficiency"))
    assert_mended(site, wanted)


@pytest.mark.parametrize("job_id", [11, 12])
def test_accounting_that_no_log_holds_any_more(site, wanted, job_id):
    """A row of its own is kept while the sums say that it is as it was; in a block that is damaged it is named."""
    log = site.root / "slurm" / "accounting" / "2021-06-02"
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join(line for line in lines if "jobid=12 " not in line))
    connection = sqlite3.connect(tables.database(site.root, "accounting"))
    connection.execute("update jobs set user = 'x' where job_id = ?", (job_id,))
    connection.commit()
    connection.close()
    found = aside(repair(site))
    if job_id == 11:  # the damaged row comes from the log, and with the other one the sum is right
        assert found == []
        assert damage.dump(site.root) == wanted
    else:
        assert [one[0] for one in found if one[0] == "accounting row"] == ["accounting row"]
        assert "c1/12/" in str(found)
        ids = {row[1] for row in damage.dump(site.root)["accounting.jobs"]}
        assert 12 not in ids
        assert 11 in ids
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize(
    "change",
    ["start = x'ff00'", "start = start + 1", "job_id = 'x'", "job_id = job_id + 4096", "cluster = 'c9'",
     "date = '2021-09-02'", "date = '2021-0q-02'"],
)  # fmt: skip
@pytest.mark.parametrize("which", ["job_id = 11", "job_id in (11, 12)"])
def test_a_job_of_which_the_name_or_the_day_is_damaged_comes_from_the_logs_alone(site, wanted, change, which):
    """What stands under the damaged name is no job that is lost: the job has its old number, so the sum is right."""
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection:
        connection.execute(f"update jobs set {change} where {which}")
        connection.commit()
    assert_mended(site, wanted)


def test_rows_that_are_not_what_the_shards_give(site, wanted):
    connection = tables.open_database(tables.database(site.root, "efficiency"), "efficiency")
    connection.execute("update jobs set cpu_mean = 1 where job_id = 11")
    connection.execute("update jobs set job_id = 99 where job_id = 12")
    connection.execute("delete from jobs where job_id = 13")
    connection.close()
    assert_mended(site, wanted)


@pytest.mark.parametrize("last", ["mend_shards", "mend_loaded", "collect", "compute", "summarise"])
def test_a_run_that_was_killed_is_finished_by_the_next(site, wanted, monkeypatch, last):
    damage.flip(month_file(site), 8 * (text_of(site) + 80))
    damage.flip(shard(site, "n2"), 3000)
    tables.database(site.root, "accounting").write_bytes(b"no database")
    tables.database(site.root, "efficiency").write_bytes(b"no database")

    def killed(*_args, **_kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(step, last, killed)
    with pytest.raises(KeyboardInterrupt):
        repair(site)
    monkeypatch.undo()
    repair(site)
    update(site)
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("seed", range(FLIPS))
def test_any_bit_that_flips_is_found_and_mended(site, wanted, seed):
    path, bit = damage.random_flip(site.root, random.Random(seed))
    where = f"{path.relative_to(site.root)} bit {bit}"
    found = check(site, read_data=True).damage
    try:
        same = damage.dump(site.root) == wanted
    except Exception:
        same = False
    assert found or same, where
    # Of the page that tells what a database has, nothing may be left; then that is said of it.
    assert [one for one in aside(repair(site)) if one[0] != f"{path.stem} rows"] == [], where
    assert damage.dump(site.root) == wanted, where
    assert check(site, read_data=True).damage == [], where


def test_computing_everything_keeps_the_rows_of_jobs_that_wait_for_a_shard(site, wanted):
    damage.flip(shard(site), 3000)
    result = compute(site, everything=True)
    assert result.counts["waiting for a shard"] > 0
    assert damage_free(site)["efficiency.jobs"] == wanted["efficiency.jobs"]


def damage_free(site):
    """What a site says but for its shards, which cannot be read."""
    shutil.rmtree(site.root / "shards")
    return damage.dump(site.root)


def test_the_command(site, run):
    command = ("-c", site.root / "jobeff.toml", "--workers", 0)
    damage.flip(shard(site), 3000)
    assert run(*command, "check", "--read-data")[0] == 12
    code, out, err = run(*command, "repair")
    assert code == 0
    assert "shards made again 1" in out
    assert "set aside" not in err
    assert run(*command, "check", "--read-data")[0] == 0
    without_sources(site)
    damage.flip(month_file(site), 8 * (text_of(site) + 80))
    code, _, err = run(*command, "repair")
    assert code == 3
    assert "1 x archive frame" in err
    assert run(*command, "check", "--read-data")[0] == 0


# What is lost or put in another's place as a whole


def test_rows_are_kept_where_all_shards_are_gone(site, wanted):
    """They are made again by the next ingest; until then nothing says that a job has no samples."""
    shutil.rmtree(site.root / "shards")
    for read_data in (False, True):
        report = check(site, read_data)
        assert (report.damage, report.counts[kinds.BEHIND]) == ([], 2)
    [result] = repair(site)
    assert result.counts == {"damaged": 0}
    assert damage_free_rows(site) == wanted["efficiency.jobs"]
    update(site)
    assert damage.dump(site.root) == wanted


def damage_free_rows(site):
    connection = sqlite3.connect(tables.database(site.root, "efficiency"))
    columns = [row[1] for row in connection.execute("pragma table_info(jobs)") if row[1] not in damage.LEFT_OUT]
    listed = ", ".join(f'"{column}"' for column in columns)
    found = sorted(connection.execute(f"select {listed} from jobs"), key=repr)
    connection.close()
    return found


@pytest.mark.parametrize(("name", "other"), [("storage_history", "projects"), ("accounting", "collected")])
def test_a_database_that_another_one_stands_in_the_place_of(site, wanted, name, other):
    """As a restore of a backup does it by mistake."""
    shutil.copyfile(tables.database(site.root, other), tables.database(site.root, name))
    assert kinds_found(site) == {kinds.DATABASE}
    repair(site)
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("gone", [True, False])
def test_the_index_of_the_archive_where_the_other_form_of_raw_files_has_come_since(site, wanted, gone):
    """It knew that their jobs had ended; it is made again without that, and nothing is collected twice."""
    plain = site.root / "slurm" / "uppmax_jobstats"
    for path in plain.glob("*/*"):
        file = naive.RawFile("c1", path.parent.name, int(path.name), extended(path.read_text()), True)
        sites.write_raw(site.root, file)
    index = tables.database(site.root, "collected")
    assert sites.result_of(update(site), "collect").counts["raw files"] == 0
    assert damage.dump(site.root) == wanted
    if gone:
        index.unlink()
    else:
        index.write_bytes(b"no database")
        assert kinds_found(site) == {kinds.DATABASE}
    assert aside(repair(site)) == []
    assert sum(result.aside.total for result in update(site)) == 0
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


def extended(text):
    """A raw file in the other form, with memory that would change the numbers."""
    rows = [line.split() for line in text.splitlines()[1:]]
    lines = [" ".join([*row[:4], "7.75", row[4], "1", "1", *row[5:]]) for row in rows]
    return "\n".join([EXTENDED, *lines, ""]).encode()


def kinds_found(site):
    return {one.kind for one in check(site, read_data=True).damage}


def test_the_journal_of_another_database(site, wanted):
    """SQLite rolls back what lies beside a database under that name."""
    path, other = (tables.database(site.root, name) for name in ("accounting", "efficiency"))
    code = (
        "import os, sqlite3, sys; c = sqlite3.connect(sys.argv[1], isolation_level=None);"
        "c.execute('pragma cache_size = 1'); c.execute('begin'); c.execute('create table z (x)');"
        "c.executemany('insert into z values (?)', [('y' * 500,)] * 3000);"
        "c.execute('update jobs set mem_peak = 99'); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code, other], check=True)
    journal = other.with_name(f"{other.name}-journal")
    shutil.copyfile(journal, path.with_name(f"{path.name}-journal"))
    assert kinds_found(site) == {kinds.DATABASE}
    repair(site)
    assert damage.dump(site.root) == wanted
    assert check(site, read_data=True).damage == []


def frames_of(path):
    whole = path.read_bytes()
    begins = [found.start() for found in re.finditer(rb"^==> c1/", whole, re.MULTILINE)]
    return [whole[begin:end] for begin, end in itertools.pairwise([*begins, len(whole)])]


def rearranged(site, order):
    """Frames in another order, or without some, as an editor would write them; their checksums stay as they are."""
    frames = frames_of(month_file(site))
    month_file(site).write_bytes(b"".join(frames[i] for i in order(len(frames))))


@pytest.mark.parametrize(
    "order", [lambda n: [1, 0, *range(2, n)], lambda n: [n - 1, *range(n - 1)], lambda n: range(n)[::-1]]
)
@pytest.mark.parametrize("kept", [True, False])
def test_frames_that_were_moved_by_hand_are_read_where_they_are(site, wanted, order, kept):
    if not kept:
        without_sources(site)
    rearranged(site, order)
    frames = frames_of(month_file(site))
    assert aside(repair(site)) == []
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST], report.counts[kinds.BEHIND]) == ([], 0, 0)
    assert frames_of(month_file(site)) == frames
    assert aside(update(site)) == []
    found = damage.dump(site.root)
    assert found["efficiency.jobs"] == wanted["efficiency.jobs"]
    assert repair(site)[0].counts == {"damaged": 0}


def test_a_frame_that_was_removed_by_hand_comes_from_the_site_again(site, wanted):
    rearranged(site, lambda n: [0, *range(2, n)])
    assert aside(repair(site)) == []
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST], report.counts[kinds.BEHIND]) == ([], 0, 0)
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


@pytest.mark.parametrize("order", [lambda n: [0, *range(2, n)], lambda n: [n - 1, *range(1, n - 2), 0]])
def test_a_frame_that_was_removed_by_hand_and_that_nothing_has_is_named_once(site, wanted, order):
    """Its samples and row stay, until somebody says that the archive is meant so."""
    without_sources(site)
    rearranged(site, order)
    [(kind, _, why)] = aside(repair(site))
    assert (kind, "no longer has 1 raw files that its shards hold, c1/n" in why) == ("archive month", True)
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST]) == ([], 1)
    assert aside(repair(site)) == []
    [(_, _, told), *_] = aside(update(site))
    assert "'jobeff repair' could not mend it" in told
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    rearranged(site, lambda n: [1, 0, *range(2, n)])
    assert check(site, read_data=True).damage != [], "it is another one now"
    header_sums.beside(month_file(site)).unlink()
    update(site)
    assert check(site, read_data=True).damage == []
    assert len(damage.dump(site.root)["efficiency.jobs"]) < len(wanted["efficiency.jobs"])


@pytest.mark.parametrize("checksum", [True, False])
def test_a_compressed_month_with_a_flipped_bit(site, wanted, checksum):
    """Nothing can be written back into it: it is named once, counts as lost, and is well when a whole copy is there."""
    without_sources(site)
    packed = zstandard.ZstdCompressor(write_checksum=checksum).compress(month_file(site).read_bytes())
    path = month_file(site).with_name(f"{month_file(site).name}.zst")
    for at in (3, 5, 8):
        place = at * len(packed) // 10
        path.write_bytes(packed[:place] + bytes([packed[place] ^ 4]) + packed[place + 1 :])
        month_file(site).unlink(missing_ok=True)
        assert check(site, read_data=True).damage != []
        assert {one[0] for one in aside(repair(site))} == {"archive month"}
        report = check(site, read_data=True)
        assert report.damage == []
        assert report.counts[kinds.LOST] > 0
        assert_said_to_be_lost(site, str(path))
        assert aside(repair(site)) == []
        assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    path.write_bytes(packed)
    update(site)
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.LOST]) == ([], 0)
    assert check(site).counts[kinds.LOST] == 0
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


def test_grants_that_cannot_be_told_to_be_as_they_were_are_dropped_and_named(site):
    """They are recorded once, on their day; the rest of the history is derived again."""
    name, month = "corehour_history", "2021-06"
    connection = tables.open_database(tables.database(site.root, name), name)
    with contextlib.closing(connection):
        assert connection.execute("update corehour_history set grant = 7 where date like '2021-06%'").rowcount > 0
        rows = connection.execute("select count(*) from corehour_history where date like '2021-06%'").fetchone()[0]
        grants = connection.execute("select count(*) from corehour_history where grant is not null and loaded = 0")
        grants = grants.fetchone()[0]
        [sums] = [found for key, found in repair_databases.sums_of(connection).items() if key == (name, month)]
    result = StepResult("repair")
    assert not repair_databases.forget_unproven(site, {(name, month): sums, ("other", month): (1, 1)}, result)
    assert result.aside.total == 0, "they are as they were written"
    assert repair_databases.forget_unproven(site, {(name, month): (rows + 2, 1)}, result)
    assert [why for _, _, why in result.aside.examples] == [
        "2 rows are lost: no source has them",
        f"{grants} grants that were recorded then cannot be told to be as they were written",
    ]
    with contextlib.closing(tables.read_database(tables.database(site.root, name), name)) as found:
        assert found.execute("select count(*) from corehour_history where grant is not null").fetchone() == (0,)


def test_a_source_that_cannot_be_read_is_named_with_the_rows_that_it_would_have_given(site):
    path = tables.database(site.root, "projects")
    with contextlib.closing(sqlite3.connect(path)) as connection:
        last = connection.execute("pragma table_info(projects)").fetchall()[-1][1]
        connection.execute(f"update projects set {last} = 'other' where proj_id = 'p0'")
        connection.commit()
    (site.root / "projects").unlink()
    found = aside(repair(site))
    assert [(kind, where) for kind, where, _ in found] == [
        ("source", "projects"),
        ("projects row", "p0"),
        ("projects row", "p1"),
    ]
    assert {why for kind, _, why in found if kind == "projects row"} == {
        "no source has it, and nothing tells which of the 2 rows that are summed together has changed; "
        "projects.sqlite.damaged has it"
    }
    assert path.with_name(f"{path.name}.damaged").exists()


def test_a_text_that_is_none_any_more_comes_from_the_logs(site, wanted):
    """A flipped bit has made a name no UTF-8."""
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection:
        connection.execute("update jobs set user = cast(x'ff75' as text) where job_id in (11, 12)")
        connection.commit()
    assert_mended(site, wanted)


def test_what_is_damaged_again_is_kept_beside_what_was_damaged_before(site, wanted):
    name, path = shard(site), tables.database(site.root, "accounting")
    for number in (1, 2):
        name.write_bytes(b"shard %d" % number)
        path.write_bytes(b"no database %d" % number * 999)
        told = {kind: why for kind, _, why in aside(repair(site))}
        assert f"The old file is accounting.sqlite.damaged{'-2' * (number == 2)}; where" in told["accounting rows"]
        assert_mended(site, wanted)
    assert name.with_name(f"{name.name}.damaged").read_bytes() == b"shard 1"
    assert name.with_name(f"{name.name}.damaged-2").read_bytes() == b"shard 2"
    assert path.with_name(f"{path.name}.damaged").read_bytes() == b"no database 1" * 999
    assert path.with_name(f"{path.name}.damaged-2").read_bytes() == b"no database 2" * 999


def test_a_step_that_fails_is_named_and_the_others_go_on(site, monkeypatch):
    shard(site).unlink()

    def full(*_, **__):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(step, "compute", full)
    monkeypatch.setattr(step, "collect", full)
    results = repair(site)
    failed = {one.step: one.failed for one in results if one.failed}
    assert set(failed) == {"compute", "collect"}
    assert all("No space left on device" in why for why in failed.values())
    assert {where for kind, where, _ in aside(results) if kind == "step"} == {"compute", "collect"}
    assert shard(site).exists()
    monkeypatch.undo()
    assert aside(repair(site)) == []


def test_a_torn_raw_file_that_the_site_has_no_more_is_named(site, wanted):
    """What is left of it is kept beside the month."""
    without_sources(site)
    path = month_file(site)
    end = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"==> c1/n2/9999 bytes=900 crc32=00000000 <==\nLOCAL")
    [(kind, where, why)] = aside(repair(site))
    assert (kind, where) == (kinds.TAIL, str(path))
    assert f"they are in {path.name}.torn-{end}" in why
    assert path.with_name(f"{path.name}.torn-{end}").read_bytes().endswith(b"LOCAL")
    assert path.stat().st_size == end
    assert check(site, read_data=True).damage == []
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


def test_what_is_damaged_in_the_end_or_cannot_be_looked_at_is_named(site, monkeypatch):
    """Whatever the reason: nobody is told that all is well."""
    shard(site).unlink()
    looked = []

    def check_with_more(*arguments, **more):
        report = check(*arguments, **more)
        looked.append(report)
        if len(looked) > 1:
            report.add(kinds.Finding(kinds.SHARD, "/x/n9", "it is damaged again"))
            report.unchecked.append(("/x/n8", "Permission denied"))
        return report

    monkeypatch.setattr(step, "check", check_with_more)
    assert aside(repair(site)) == [
        (kinds.SHARD, "/x/n9", "it is damaged again; it could not be mended"),
        ("unchecked", "/x/n8", "Permission denied"),
    ]
    assert shard(site).exists()


def test_rows_that_are_not_right_after_all_are_computed_once_more(site, wanted, monkeypatch):
    """A step before has failed for a moment: the last look finds it."""
    with contextlib.closing(tables.open_database(tables.database(site.root, "efficiency"), "efficiency")) as connection:
        connection.execute("update jobs set cpu_mean = cpu_mean + 1 where job_id = 11")
    calls = []

    def fails_first(*arguments, **more):
        calls.append(arguments)
        if len(calls) == 1:
            raise OSError(28, "No space left on device")
        return compute(*arguments, **more)

    monkeypatch.setattr(step, "compute", fails_first)
    assert [(kind, where) for kind, where, _ in aside(repair(site))] == [("step", "compute")]
    assert len(calls) == 2
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    assert check(site, read_data=True).damage == []


@pytest.mark.parametrize("first", [repair, update])
def test_bytes_that_have_come_into_a_month_cut_no_frame_behind_them(site, wanted, first):
    """All frames behind stand elsewhere then, the last one across where the month ended: it is no torn tail."""
    path = month_file(site)
    text = path.read_bytes()
    at = text.index(b"<==\n") + 200
    path.write_bytes(text[: at + 100] + text[at:])
    first(site)
    assert not list(path.parent.glob("*.torn-*"))
    repair(site)
    assert check(site, read_data=True).damage == []
    assert aside(update(site)) == []
    for name in ("accounting.jobs", "efficiency.jobs"):
        assert damage.dump(site.root)[name] == wanted[name]


@pytest.mark.parametrize("torn", [b"", b"==> c1/n1/99 bytes=99 crc32=00000000 <==\ntorn"])
def test_a_byte_in_the_text_of_a_raw_file_that_nothing_else_has_loses_no_samples(site, wanted, torn):
    """All frames behind stand elsewhere; reading the month anew would drop what the shard has of the damaged one."""
    without_sources(site)
    path = month_file(site)
    text = path.read_bytes()
    at = text.index(b"<==\n") + 200
    path.write_bytes(text[:at] + b"x" + text[at:] + torn)
    told = aside(repair(site))
    assert told[0][:2] == ("archive month", str(path))
    assert torn or len(told) == 1
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    for run_step in (update, repair, update):
        run_step(site)
        assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    assert check(site, read_data=True).damage == []


def assert_appended_is_read(site, raw):
    """A raw file that comes behind all others of June gets into its shard, and nothing is damaged then."""
    path = month_file(site)
    size = path.stat().st_size
    with path.open("ab") as file:
        file.write(b"==> c1/n1/99 bytes=%d crc32=%08x <==\n" % (len(raw), zlib.crc32(raw)) + raw + b"\n")
    update(site)
    assert check(site, read_data=True).damage == []
    found = shards.read(shards.shard_path(site.config.shards, "c1", "n1", "2021-06"))[0].column("offset").to_pylist()
    assert max(found) > size


@pytest.mark.parametrize("first", [repair, update])
def test_bytes_in_the_last_raw_file_that_nothing_else_has_lose_no_samples(site, wanted, first):
    """It looks like a torn tail, whose raw file would be gone from the shard too once it is moved away."""
    without_sources(site)
    path = month_file(site)
    text = path.read_bytes()
    path.write_bytes(text[:-60] + b"12345" + text[-60:])
    for run_step in (first, repair, update, repair, update):
        run_step(site)
        assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    assert check(site, read_data=True).damage == []
    # What is appended then is read.
    assert_appended_is_read(site, text[text.index(b"<==\n") + 4 : text.index(b"==> ", 9) - 1])
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


def test_a_byte_before_a_header_of_which_only_the_last_line_end_is_behind_the_old_end(site, wanted):
    """What looks like nothing but a line end that was appended: the raw file of that header is collected again."""
    path = month_file(site)
    text = path.read_bytes()
    at = text.index(b"==> ", 10) + 5
    path.write_bytes(text[:at] + b"x" + text[at:])
    assert sites.result_of(update(site), "collect").counts["raw files"] == 1
    repair(site)
    update(site)
    assert check(site, read_data=True).damage == []
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


def test_headers_that_have_come_into_the_last_raw_file(site, wanted):
    """Frames are appended where its torn end was moved away, before the place up to which the shards were made."""
    path = archive.month_file(site.root, "c1", "2021-05")
    text = path.read_bytes()
    headers = b"".join(line + b"\n" for line in text.splitlines() if line.startswith(b"==> "))
    at = len(text) - 114
    path.write_bytes(text[:at] + headers + text[at:])
    for _ in range(3):
        repair(site)
        update(site)
    assert check(site, read_data=True).damage == []
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]


@pytest.mark.parametrize("moved", [b"", b"x"])
@pytest.mark.parametrize("bad", [False, True])
def test_headers_at_the_end_that_were_frames_for_the_sake_of_the_next_one(site, wanted, moved, bad):
    """Each is a torn tail once the one behind it is gone; shards had been made up to behind the last but one."""
    path = month_file(site)
    text = path.read_bytes()
    headers = b"".join(line + b"\n" for line in text.splitlines() if line.startswith(b"==> "))
    at = text.index(b"<==\n") + 4
    path.write_bytes(text[:at] + moved + text[at:] + headers)
    rebuild(site)
    if bad:
        shard = next(site.root.glob("shards/c1/*/2021-06.parquet"))
        shard.write_bytes(shard.read_bytes()[:-1])
    repair(site)
    update(site)
    assert check(site, read_data=True).damage == []
    assert damage.dump(site.root)["efficiency.jobs"] == wanted["efficiency.jobs"]
    # What is appended where they stood is read.
    assert sites.result_of(update(site), "collect").counts["raw files"] == 0
    assert_appended_is_read(site, text[at : text.index(b"==> ", at) - 1])


def test_what_is_seen_only_once_other_damage_is_mended_is_mended_too(site, wanted):
    path = month_file(site)
    text = path.read_bytes()
    at = text.index(b"<==\n") + 200
    path.write_bytes(text[:at] + text[at + 30 :])
    note = shards.note(site.config.shards, "c1", path.stem)
    note.write_bytes(b"no note")
    repair(site)
    assert check(site, read_data=True).damage == []
    update(site)
    for name in ("accounting.jobs", "efficiency.jobs"):
        assert damage.dump(site.root)[name] == wanted[name]
