"""check: each kind of difference is found and called by its name, and what is usual is no damage."""

import contextlib
import itertools
import json
import shutil
import sqlite3

import damage
import naive
import pyarrow as pa
import pytest
import sites
from test_chain import MONTH_END

from jobeff.errors import JobeffError, SetAside
from jobeff.steps import check as checking
from jobeff.steps import check_report as kinds
from jobeff.steps import compute, computing
from jobeff.steps.check import Part, check
from jobeff.steps.check_raw import ingested
from jobeff.steps.check_report import Report
from jobeff.steps.collect import collect
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.store import archive, framing, header_sums, shards, tables
from jobeff.store.sqlite import NoDatabaseError
from jobeff.views import check as view

JUNE = "2021-06"


@pytest.fixture(scope="module")
def whole(tmp_path_factory, executors):
    """A site that nobody changes."""
    return damage.make(tmp_path_factory.mktemp("whole") / "site", executors[0])


@pytest.fixture
def site(whole, tmp_path):
    return damage.copy(whole, tmp_path / "site")


def month_file(site):
    return archive.month_file(site.root, "c1", JUNE)


def shard(site, node="n1"):
    return shards.shard_path(site.config.shards, "c1", node, JUNE)


def frames(site):
    with archive.mapped(month_file(site)) as text:
        return framing.scan(text, 0, "c1", "", SetAside())


def change(site, name, statement, *parameters):
    """Change a database as jobeff itself would, so that only what it says is wrong."""
    connection = tables.open_database(tables.database(site.root, name), name)
    connection.execute(statement, parameters)
    connection.close()


def kinds_of(report):
    return {one.kind for one in report.damage}


@pytest.mark.parametrize("read_data", [False, True])
def test_what_is_usual_is_counted_and_is_no_damage(whole, read_data):
    report = check(whole, read_data)
    assert (report.damage, report.unchecked) == ([], [])
    night = damage.history()
    raw = {(file.node, file.job_id) for file in night.files}
    with_file = [job for job in night.jobs if any((node, job.job_id) in raw for node in job.nodes)]
    june = report.months["c1", JUNE]
    may = report.months["c1", "2021-05"]
    assert june["jobs"] + may["jobs"] == len(night.jobs)
    assert june["raw files"] + may["raw files"] == len(night.files)
    assert june["rows"] + may["rows"] == len(with_file)
    assert (june[kinds.NO_RAW_FILE], june[kinds.TOO_SHORT], may[kinds.NO_RAW_FILE]) == (1, 1, 0)


def test_a_raw_file_that_no_job_claims_is_an_orphan(site):
    archive.append(month_file(site), "c1", [archive.RawFile("n1", 99, damage.usage(3, 1, damage.START), False)])
    ingest(site)
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.ORPHAN]) == ([], 1)


def test_what_is_not_ingested_or_computed_is_behind(site):
    job = naive.Job("c1", 50, "p1", "u", MONTH_END, MONTH_END + 900, 2, "COMPLETED", ("n1",))
    sites.Night([job], [naive.RawFile("c1", "n1", 50, damage.usage(3, 1, MONTH_END + 9))]).fall(site.root, "later")
    for step in (load_slurm, collect, ingest):
        step(site)
        for read_data in (False, True):
            report = check(site, read_data)
            assert report.damage == []
            assert report.counts[kinds.BEHIND] == (2 if step is collect else 1)


def test_an_older_definition_is_no_damage(site):
    change(site, "efficiency", "update computed set definition = 0 where month = ?", JUNE)
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.OLDER]) == ([], 1)


def test_another_interval_is_behind_until_it_is_computed(site):
    text = (site.root / "jobeff.toml").read_text().replace("[clusters.c1]", "[clusters.c1]\ninterval = 600")
    (site.root / "jobeff.toml").write_text(text)
    site.config = sites.config(site.root)
    report = check(site, read_data=True)
    assert (report.damage, report.counts[kinds.BEHIND]) == ([], 2)


@pytest.mark.parametrize("read_data", [False, True])
def test_rows_that_do_not_fit_accounting(site, read_data):
    change(site, "efficiency", "update jobs set proj_id = 'other' where job_id = 11")
    change(site, "efficiency", "update jobs set job_id = 12345 where job_id = 12")
    change(site, "efficiency", "delete from jobs where job_id = 13")
    report = check(site, read_data)
    assert report.counts[kinds.STALE] == 2
    assert report.counts[kinds.MISSING] == 2  # 13, and 12, whose row is called otherwise
    assert "job c1/13" in " ".join(one.where for one in report.damage)


def test_a_row_of_a_job_without_samples(site):
    columns = ", ".join(tables.EFFICIENCY_COLUMNS)
    values = columns.replace("job_id", "31").replace("proj_id", "'p1'")
    change(site, "efficiency", f"insert into jobs ({columns}) select {values} from jobs where job_id = 13")
    assert kinds_of(check(site, read_data=True)) == {kinds.STALE}


def test_a_number_that_the_shards_do_not_give(site):
    change(site, "efficiency", "update jobs set cpu_mean = cpu_mean + 1 where job_id = 11")
    assert check(site).damage == []
    report = check(site, read_data=True)
    assert [(one.kind, one.what[1]) for one in report.damage] == [(kinds.DIFFERS, "11")]


def test_a_shard_that_is_gone_or_damaged(site):
    shard(site, "n1").unlink()
    damage.flip(shard(site, "n2"), 3000)
    report = check(site, read_data=True)
    assert sorted((one.kind, one.what) for one in report.damage) == [(kinds.SHARD, ("n1",)), (kinds.SHARD, ("n2",))]
    assert kinds.SHARD in kinds_of(check(site))


def test_a_shard_that_is_another_ones(site):
    shard(site, "n2").write_bytes(shard(site, "n1").read_bytes())
    for read_data in (False, True):
        [found] = [one for one in check(site, read_data).damage if one.kind == kinds.SHARD]
        assert found.what == ("n2",)
        assert "another one's" in found.why


@pytest.mark.parametrize("drop", [True, False])
def test_raw_files_that_only_the_shard_or_the_archive_has(site, drop):
    table, about = shards.read(shard(site))
    shards.write(shard(site), table.slice(1) if drop else table.take([0, *range(len(table))]), about)
    report = check(site, read_data=True)
    assert (kinds.SHARD, ("n1",)) in [(one.kind, one.what) for one in report.damage]


def test_samples_that_are_not_those_of_the_archive(site):
    table, about = shards.read(shard(site))
    other = table.set_column(4, table.schema.field(4), pa.array([7] * len(table), pa.int32()))
    shards.write(shard(site), other, about)
    assert kinds_of(check(site, read_data=True)) == {kinds.SHARD}


def test_shards_of_a_month_that_the_archive_has_lost(site):
    month_file(site).unlink()
    assert kinds_of(check(site)) == {kinds.GONE}


def test_a_torn_tail(site):
    with month_file(site).open("ab") as file:
        file.write(b"==> c1/n1/77 bytes=900 crc32=00000000 <==\nLOCAL")
    [found] = check(site).damage
    assert (found.kind, found.what) == (kinds.TAIL, (str(frames(site).end),))


def test_an_archive_that_was_cut(site):
    with month_file(site).open("rb+") as file:
        file.truncate(500)
    assert kinds_of(check(site)) == {kinds.MONTH}


def test_a_raw_text_that_has_changed(site):
    begin = int(frames(site).begin[1])
    damage.flip(month_file(site), 8 * (begin + 70))
    [found] = check(site, read_data=True).damage
    assert (found.kind, found.what[0]) == (kinds.FRAME, str(begin))
    assert "/n" in found.where


@pytest.mark.parametrize("with_records", [True, False])
@pytest.mark.parametrize("what", ["node", "job"])
def test_a_header_that_names_another_job_or_node(site, with_records, what):
    """The frame's own checksum is of its raw text only; else the samples would be somebody else's."""
    at = month_file(site).read_bytes().index(b"/n" if what == "node" else b" bytes=") + (2 if what == "node" else -1)
    damage.flip(month_file(site), 8 * at + 1)  # 1 becomes 3, and 3 1
    if not with_records:
        header_sums.beside(month_file(site)).unlink()
    report = check(site, read_data=True)
    assert kinds_of(report) == {kinds.FRAME}


def test_ingest_takes_nothing_from_a_frame_whose_header_has_changed(site):
    at = month_file(site).read_bytes().index(b"/n") + 2
    damage.flip(month_file(site), 8 * at + 1)
    shutil.rmtree(site.root / "shards")
    result = ingest(site)
    assert result.aside.counts["archive frame"] == 1
    assert "its header is not what was written" in str(result.aside.examples)
    assert not shard(site, "n3").exists()


def test_records_of_headers_that_are_damaged_are_not_what_is_believed(site):
    damage.flip(header_sums.beside(month_file(site)), 8 * 13)
    report = check(site, read_data=True)
    assert [(one.kind, one.what) for one in report.damage] == [(kinds.FRAME, ("records",))]


@pytest.mark.parametrize("name", ["accounting", "efficiency"])
def test_a_database_in_which_sqlite_sees_nothing(site, name):
    """A file of one byte is no more to it than an empty one; an empty one is what a run leaves that was killed."""
    path = tables.database(site.root, name)
    path.write_bytes(b"S")
    assert [(one.kind, one.what) for one in check(site).damage] == [(kinds.DATABASE, (name,))]
    with pytest.raises(JobeffError, match=r"cannot open the database at .*: its schema version is 0\. "):
        tables.read_database(path, name)
    path.write_bytes(b"")
    report = check(site)
    assert (report.damage, len(report.unchecked)) == ([], 1)
    with pytest.raises(NoDatabaseError, match=rf"there is no {name} database yet at .*'jobeff update' makes it"):
        tables.read_database(path, name)


def test_a_schema_version_that_has_changed_is_damage(site):
    path = tables.database(site.root, "accounting")
    assert len(tables.SCHEMAS["accounting"]) == 4
    damage.flip(path, 8 * 63 + 2)
    assert [one.what for one in check(site).damage] == [("accounting",)]


@pytest.mark.parametrize("name", list(tables.SCHEMAS))
def test_a_cell_of_a_database(site, name):
    """Written past jobeff, as a disk would do it: SQLite sees nothing wrong with it."""
    table = next(iter(tables.BLOCKS[name]))
    connection = sqlite3.connect(tables.database(site.root, name))
    column = {"accounting": "user", "collected": "crc32", "efficiency": "cpu_mean", "current_projects": "data"}.get(
        name
    )
    names = [row[1] for row in connection.execute(f"pragma table_info({table})")]
    connection.execute(f'update {table} set "{column or names[-1]}" = 1')
    assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
    connection.commit()
    connection.close()
    found = [one for one in check(site, read_data=True).damage if one.kind == kinds.DATABASE]
    assert {one.what[:2] for one in found} == {(name, table)}


@pytest.mark.parametrize("name", list(tables.SCHEMAS))
def test_a_file_that_is_no_database(site, name):
    tables.database(site.root, name).write_bytes(b"no database" * 1000)
    for read_data in (False, True):
        [found] = check(site, read_data).damage
        assert (found.kind, found.what[0]) == (kinds.DATABASE, name)


def test_a_month_costs_its_own_notes_and_no_more(whole, monkeypatch):
    """What many months say of many nodes is read once, and not kept; ids are looked up, or read once for all months."""
    read, walked, read_note, walk = [], [], shards.read_note, computing.repeated_ids
    monkeypatch.setattr(shards, "read_note", lambda path, *more: read.append(path) or read_note(path, *more))
    monkeypatch.setattr(computing, "repeated_ids", lambda *where: walked.append(where) or walk(*where))
    months = len(shards.notes(whole.config.shards, "c1"))
    assert months > 1
    kept = ingested(whole, "c1", Report())
    assert not any({"nodes", "waiting"} & about.keys() for about in kept.values())
    read.clear()
    check(whole)
    assert (len(read), len(walked)) == (2 * months, len(clusters_of(whole)))
    read.clear()
    walked.clear()
    parts = [check(whole, part=Part(number, 5)) for number in range(1, 6)]
    assert (len(read), walked) == (5 * months + months, [])
    assert sum(len(one.damage) for one in parts) == 0


def clusters_of(site):
    with contextlib.closing(tables.read_database(tables.database(site.root, "accounting"), "accounting")) as found:
        return compute.clusters(found)


def test_an_accounting_database_that_is_just_being_made_is_no_damage(site):
    path = tables.database(site.root, "accounting")
    path.unlink()
    sqlite3.connect(path).close()
    report = check(site, read_data=True)
    assert (report.damage, "jobs" in report.counts) == ([], False)


def test_rows_that_an_older_version_has_written_are_not_compared(site):
    change(site, "efficiency", f"pragma user_version = {len(tables.SCHEMAS['efficiency']) - 1}")
    report = check(site)
    assert report.damage == []
    assert ("efficiency rows", "an older jobeff wrote them; the next 'jobeff update' brings them up to date") in (
        report.unchecked
    )


@pytest.mark.parametrize("changes", [1, 99])
def test_a_month_that_changes_meanwhile_is_looked_at_again(site, monkeypatch, changes):
    """What was seen half written is no damage; what never keeps still is said."""
    shard(site).unlink()
    states = {month: itertools.count() for month in (JUNE, "2021-05")}
    monkeypatch.setattr(checking._Checker, "_state", lambda _, __, month: min(next(states[month]), 2 * changes - 1))
    report = check(site)
    found = [one.where for one in report.damage if one.kind == kinds.SHARD]
    again = [where for where, why in report.unchecked if why == "another run keeps changing it"]
    assert (found, again) == (([str(shard(site))], []) if changes == 1 else ([], [f"c1 {JUNE}"]))


@pytest.mark.parametrize("what", ["clusters", "months_of"])
def test_a_database_that_turns_out_to_be_unreadable_is_named(site, monkeypatch, what):
    """Its beginning is sound, and it is only met when rows are asked for."""

    def malformed(*_):
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(*{"clusters": (compute, "clusters"), "months_of": (checking, "months_of")}[what], malformed)
    report = check(site)
    assert kinds_of(report) == {kinds.DATABASE}
    assert {one.what for one in report.damage} == {("accounting",)}
    assert all("cannot be read to its end: database disk image is malformed" in one.why for one in report.damage)


def test_the_parts_are_all_of_it(site):
    damage.flip(shard(site), 3000)
    damage.flip(archive.month_file(site.root, "c1", "2021-05"), 8 * 200)
    everything = check(site, read_data=True).damage
    parts = [check(site, True, Part(n, 5)).damage for n in range(1, 6)]
    assert sorted(one for part in parts for one in part) == sorted(everything)
    assert len(everything) == 2


def test_nothing_is_there_yet(tmp_path, executors):
    report = check(sites.make(tmp_path / "site", 0, executors[0]))
    assert report.damage == []


def test_the_command(site, run):
    command = ("-c", site.root / "jobeff.toml", "--workers", 0)
    code, out, err = run(*command, "check")
    assert (code, err) == (0, "")
    assert "No damage was found." in out
    assert max(map(len, out.splitlines())) <= 80
    damage.flip(shard(site), 3000)
    code, out, _ = run(*command, "check", "--read-data")
    assert code == 12
    assert str(shard(site)) in out
    assert "'jobeff repair'" in out
    code, out, _ = run(*command, "--json", "check", "--read-data", "--subset", "1/1")
    assert code == 12
    found = json.loads(out)
    assert found["counts"][kinds.SHARD] == 1
    assert found["findings"][0]["mend"] == "jobeff repair"
    assert {"cluster", "month", "jobs"} <= found["months"][0].keys()


@pytest.mark.parametrize("part", ["0/3", "4/3", "x", "1/0", "1"])
def test_a_part_that_is_none_is_2(site, run, part):
    assert run("-c", site.root / "jobeff.toml", "check", "--subset", part)[0] == 2


def test_a_site_of_which_nothing_was_compared_is_not_called_whole():
    text = view.check(Report())
    assert "No damage" not in text
    assert "Nothing was compared. 'jobeff update'" in text


def test_what_could_not_be_looked_at_and_what_is_behind_are_said():
    report = Report()
    report.count("jobs", "c1", "2021-06", 7)
    report.count(kinds.BEHIND, "c1", "2021-06", 2)
    report.unchecked.append(("/x/y", "Permission denied"))
    text = view.check(report)
    assert "not checked: /x/y: Permission denied" in text
    assert text.endswith("No damage was found. What is behind is taken by the next 'jobeff update'.")
    assert "What is behind" not in view.check(Report())


def test_a_quiet_check_says_only_what_is_damaged(site, run):
    command = ("-c", site.root / "jobeff.toml", "--workers", 0, "-q", "check", "--read-data")
    assert run(*command) == (0, "", "")
    damage.flip(shard(site), 3000)
    code, out, _ = run(*command)
    assert (code, str(shard(site)) in out) == (12, True)
