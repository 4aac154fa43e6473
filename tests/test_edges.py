"""Turns of events in engine and store that a whole run seldom comes to, one by one."""

import contextlib
import errno
import grp
import itertools
import json
import os
import re
import shutil
import sqlite3
import stat
import threading
import zlib
from concurrent.futures import Future
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sites
from test_lost_workers import collected_site, said, state
from test_pages import table

from jobeff.engine import build, ids, jobs, leaves, pool, reduce, warm
from jobeff.errors import RIGHTS, JobeffError
from jobeff.steps.check import check
from jobeff.steps.check_report import KINDS
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.rebuild import rebuild
from jobeff.steps.repair import repair
from jobeff.steps.site import Site
from jobeff.store import (
    archive,
    archive_damage,
    digests,
    fences,
    files,
    framing,
    general,
    header_sums,
    page_sums,
    pages,
    rights,
    row_sums,
    shard_encoder,
    shards,
    sqlite,
    tables,
)
from jobeff.store.upsert import Incoming

# Tickets and locks


def test_a_ticket_that_is_taken_away_while_one_waits_for_it(tmp_path, monkeypatch):
    ticket = fences.issue(tmp_path)
    lock = fences._locked

    def too_late(*given):
        ticket.unlink()
        return lock(*given)

    monkeypatch.setattr(fences, "_locked", too_late)
    with pytest.raises(fences.WithdrawnError, match="taken away"), fences.held(ticket, 0):
        pass


def test_a_ticket_is_new_and_nobody_elses(tmp_path, monkeypatch):
    ticket = fences.issue(tmp_path)
    assert stat.S_IMODE(ticket.stat().st_mode) & 0o027 == 0
    monkeypatch.setattr(fences.secrets, "token_hex", lambda _: ticket.name)
    with pytest.raises(FileExistsError):
        fences.issue(tmp_path)
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    monkeypatch.setattr(fences.secrets, "token_hex", lambda _: "link")
    with pytest.raises(FileExistsError):
        fences.issue(tmp_path)
    assert fences.withdraw(ticket)
    assert fences.withdraw(ticket), "it is gone already"


def test_whether_one_is_alone_at_work(tmp_path):
    path = tmp_path / "lock"
    with fences.at_work(path, False, 0) as one, fences.at_work(path, False, 0) as other:
        assert (one, other) == (True, True)
        with fences.at_work(path, True, 0) as alone:
            assert not alone
    with fences.at_work(path, True, 0) as alone, fences.at_work(path, False, 0) as beside:
        assert (alone, beside) == (True, False)


def test_one_waits_for_a_lock_that_will_be_free(tmp_path, monkeypatch):
    path, waited = tmp_path / "lock", []
    with contextlib.ExitStack() as stack:
        assert stack.enter_context(fences.at_work(path, True, 0))

        def sleep(seconds):
            waited.append(seconds)
            if len(waited) == 3:
                stack.close()

        monkeypatch.setattr(fences, "time", SimpleNamespace(monotonic=lambda: float(len(waited)), sleep=sleep))
        with fences.at_work(path, True, 3.5) as alone:
            assert alone
        assert waited == [fences.LOOK_EVERY_S] * 3
        waited.clear()
        with fences.at_work(path, True, 0), fences.at_work(path, True, 2) as alone:
            assert not alone
        assert len(waited) == 2


def test_only_folders_of_our_own_are_removed(tmp_path):
    """What a link leads to is not; what is not there was removed before."""
    kept, gone = tmp_path / "kept", tmp_path / "gone"
    for folder in (kept, gone):
        folder.mkdir()
        (folder / "file").touch()
    (tmp_path / "link").symlink_to(kept)
    (tmp_path / "file").touch()
    files.remove_trees([gone, tmp_path / "link", tmp_path / "file", tmp_path / "nowhere"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "kept", "link"]
    assert (kept / "file").exists()
    files.remove_tree(tmp_path / "nowhere")


@pytest.mark.parametrize("remove", [files.remove_tree, lambda folder: files.remove_trees([folder])])
def test_what_cannot_be_removed_is_named_by_its_whole_path(tmp_path, monkeypatch, remove):
    (tmp_path / "folder" / "inner").mkdir(parents=True)
    rmdir = os.rmdir

    def busy(path, **where):
        if str(path).endswith("inner"):
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), "inner")
        rmdir(path, **where)

    monkeypatch.setattr(os, "rmdir", busy)
    with pytest.raises(OSError, match=os.strerror(errno.EBUSY)) as told:
        remove(tmp_path / "folder")
    assert told.value.filename == str(tmp_path / "folder" / "inner")


def test_an_error_says_of_which_file_it_is(tmp_path):
    for filename, expected in ((None, str(tmp_path)), ("other", "other")):
        with pytest.raises(OSError, match="full") as told, files.naming(tmp_path):
            raise OSError(errno.ENOSPC, "full", filename)
        assert told.value.filename == expected


def test_the_system_is_asked_to_begin_to_write_where_it_can(monkeypatch):
    asked = []
    monkeypatch.setattr(
        files, "_sync_file_range", lambda *given: asked.append([getattr(one, "value", one) for one in given])
    )
    files.begin_to_write(7, 5, 9)
    files.begin_to_write(8)
    assert asked == [[7, 5, 9, files._WRITE], [8, 0, 0, files._WRITE]]
    monkeypatch.setattr(files, "_sync_file_range", None)
    files.begin_to_write(9)


# Rights


def test_whose_rights_are_not_ours_to_tell_of(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.touch()
    path.chmod(0o666)
    assert "0666, not 0640" in rights._wrong(path, None, None)[1]
    assert rights._wrong(tmp_path / "nowhere", None, None) is None
    monkeypatch.setattr(rights.os, "geteuid", lambda: path.stat().st_uid + 1)
    assert rights._wrong(path, None, None) is None
    (tmp_path / "link").symlink_to(path)
    monkeypatch.undo()
    assert rights._wrong(tmp_path / "link", None, None) is None


def test_whose_group_is_another(tmp_path):
    path, folder = tmp_path / "file", tmp_path / "folder"
    path.touch()
    path.chmod(0o640)
    folder.mkdir()
    folder.chmod(0o750)
    mine = path.stat().st_gid
    assert rights._wrong(path, None, None) is rights._wrong(path, "us", mine) is None
    assert rights._wrong(path, "them", mine + 1) == (path, "its group is not them", True)
    assert rights._wrong(folder, None, None) is None
    assert rights._wrong(folder, "us", mine) == (folder, "what is made in it will not get the group us", True)
    folder.chmod(0o2750)
    assert rights._wrong(folder, "us", mine) is None


def test_new_folders_get_the_group_and_hand_it_on(tmp_path):
    """Those that have something in them are somebody's choice."""
    group = grp.getgrgid(os.getegid()).gr_name
    kept, *others = (tmp_path / name for name in rights.TOP)
    kept.mkdir(mode=0o700)
    (kept / "file").touch()
    rights.prepare(tmp_path, None)
    assert [path.name for path in tmp_path.iterdir()] == [kept.name]
    rights.prepare(tmp_path, group)
    assert {stat.S_IMODE(one.stat().st_mode) for one in others} == {rights.FOLDER_MODE | stat.S_ISGID}
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700


# Months that are lost


def test_notes_of_what_is_lost(tmp_path):
    month = tmp_path / "2021-06.txt"
    month.write_bytes(b"some text")
    assert archive_damage.lost(month) == []
    assert not archive_damage.is_told(month)
    note = {"begin": 0, "end": 4, "crc32": zlib.crc32(b"some"), "what": "w", "since": "s"}
    archive_damage.set_lost(month, [note])
    assert archive_damage.lost(month) == [note]
    assert archive_damage.still_lost(b"some text", month) == [note]
    assert archive_damage.still_lost(b"same text", month) == []
    assert not archive_damage.is_told(month)
    whole = {**note, "begin": 0, "end": 0, "crc32": zlib.crc32(b"some text")}
    archive_damage.set_lost(month, [note, whole])
    assert archive_damage.is_told(month)
    assert archive_damage.still_lost(b"some text", month) == [note]
    month.write_bytes(b"some other text")
    assert not archive_damage.is_told(month)
    month.unlink()
    assert archive_damage.state_of(month) == 0
    archive_damage._lost_path(month).write_bytes(b"no json")
    assert archive_damage.lost(month) == []
    assert not archive_damage.is_told(month)


def test_what_is_lost_of_a_month_is_of_no_other(tmp_path):
    notes = {}
    for name in ("2021-06.txt", "2021-07.txt", "2021-07.txt.zst"):
        notes[name] = {"begin": 0, "end": len(name), "crc32": 1, "what": name, "since": "s"}
        archive_damage.set_lost(tmp_path / name, [notes[name]])
    assert archive_damage.lost(tmp_path / "2021-06.txt") == [notes["2021-06.txt"]]
    # A month that is compressed is the same one.
    assert archive_damage.lost(tmp_path / "2021-07.txt") == [notes["2021-07.txt.zst"]]


def test_records_of_headers_are_durable_and_whole(tmp_path, monkeypatch):
    """A record of which a dead run has written a part only is taken away before others come behind it."""
    month, synced, fsync = tmp_path / "2021-06.txt", [], os.fsync

    def noted(handle):
        synced.append((os.fstat(handle).st_ino, os.fstat(handle).st_size))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", noted)
    path, size = header_sums.beside(month), header_sums.RECORD.itemsize
    one, two, three = (header_sums.record(10 * i, b"==> header <==\n") for i in range(3))
    header_sums.append(month, one + two, True)
    assert synced == [(path.stat().st_ino, 2 * size)]
    path.write_bytes(one + two[:-1])
    header_sums.append(month, three, False)
    assert path.read_bytes() == one + three
    assert synced[1:] == [(path.stat().st_ino, 2 * size)]
    assert stat.S_IMODE(path.stat().st_mode) & 0o027 == 0
    header_sums.append(month, two, True)
    assert path.read_bytes() == two
    path.unlink()
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=os.strerror(errno.ELOOP)):
        header_sums.append(month, one, True)


@pytest.mark.parametrize("behind", [b"", b"==> c1/n2/2 bytes=0 crc32=00000000 <==\n"])
@pytest.mark.parametrize("newline", [b"", b"\n"])
def test_where_a_damaged_raw_file_ends_is_told_by_what_stands_behind_it(behind, newline):
    """Its checksum says nothing of its length then: it is one frame, and set aside by who reads it."""
    header = b"==> c1/n1/1 bytes=9 crc32=%08x <==\n" % zlib.crc32(b"some text")
    for raw, junk, end in (
        (b"some text", b"", 1),
        (b"same text", b"", 1),
        (b"some text", b"junk", 1),
        (b"same text", b"junk", 0),
    ):
        text = header + raw + newline + junk + (b"\n" if junk and behind else b"") + behind
        match = framing.HEADER.match(text)
        expected = len(header) + 9 if end else -1
        assert framing._content_end(text, match, len(text)) == expected, (raw, junk)


def test_damage_within_a_frame_whose_header_was_rewritten_checksum_and_all(tmp_path):
    """It has taken in the frame behind it, whose text is damaged, and nothing but the headers' records tells."""
    month = tmp_path / "c1" / "2021-06.txt"
    archive.append(
        month, "c1", [archive.RawFile(node, 1, b"text of %s\n" % node.encode(), False) for node in ("n1", "n2")]
    )
    whole = month.read_bytes()
    assert archive_damage.bad_places(whole, len(whole), "c1", month) == []
    first, second = whole.index(b"text of n1"), whole.index(b"==> c1/n2")
    taken = whole[first:].replace(b"text of n2", b"test of n2")
    header = b"==> c1/n1/1 bytes=%d crc32=%08x <==\n" % (len(taken), zlib.crc32(taken))
    found = archive_damage.bad_places(header + taken, len(header + taken), "c1", month)
    at = len(header) + second - first
    assert [(place.begin, place.end, place.node, place.why) for place in found] == [
        (0, at, "", "its header is not what was written"),
        (len(header + taken) - 11, len(header + taken), "n2", "its checksum is wrong"),
    ]


# Databases


def test_nobody_writes_into_accounting_while_its_pages_are_read(tmp_path):
    path = tmp_path / "accounting.sqlite"
    tables.open_database(path, "accounting").close()
    with contextlib.closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as writer:
        with jobs.snapshot(path), pytest.raises(sqlite3.OperationalError, match="locked"):
            writer.execute("create table more (x)")
        writer.execute("create table more (x)")


def test_a_database_that_may_not_be_read_is_told_with_what_to_do(tmp_path, monkeypatch):
    """SQLite itself only says that it cannot open it."""
    path = tmp_path / "accounting.sqlite"
    path.write_bytes(b"")

    def cannot(*_, **__):
        raise sqlite3.OperationalError("unable to open database file")

    monkeypatch.setattr(sqlite.sqlite3, "connect", cannot)
    for may, says in (
        (False, f"Permission denied. It was not changed. {RIGHTS}"),
        (True, "unable to open database file"),
    ):
        monkeypatch.setattr(sqlite.os, "access", lambda *_, may=may: may)
        with pytest.raises(JobeffError, match=re.escape(says)):
            sqlite.connect_readonly(path, 1)


def test_an_old_database_with_an_unfinished_change_is_not_replaced(tmp_path, monkeypatch):
    old, new = tmp_path / "old", tmp_path / "new"
    for path in (old, new):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"create table {path.name} (x)")
    before = old.read_bytes()
    monkeypatch.setattr(sqlite, "settle", lambda _: None)
    (tmp_path / "old-journal").write_bytes(b"hot")
    with pytest.raises(JobeffError, match="old-journal belongs to an unfinished change of it"):
        sqlite.replace_database(new, old)
    assert (old.read_bytes(), new.exists()) == (before, True)
    (tmp_path / "old-journal").unlink()
    content = new.read_bytes()
    sqlite.replace_database(new, old)
    assert (old.read_bytes(), new.exists()) == (content, False)


@pytest.mark.parametrize("held", [False, True])
def test_the_old_database_is_given_back_once_it_has_been_replaced(tmp_path, held):
    """By somebody else where there is one, and never before the new one has its name."""
    old, new, asked = tmp_path / "old", tmp_path / "new", []
    for path in (old, new):
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute(f"create table {path.name} (x)")
    content = [path.read_bytes() for path in (old, new)]

    def hold(handle):
        asked.append(os.pread(handle, 1 << 20, 0))
        assert old.read_bytes() == content[1]
        return held

    sqlite.replace_database(new, old, hold)
    assert asked == content[:1]
    for thread in threading.enumerate():  # one may be closing it
        if thread is not threading.current_thread() and not thread.daemon:
            thread.join(20)
    assert f"{old} (deleted)" not in open_files(), "its room was not given back"


def open_files():
    found = []
    for handle in os.listdir("/proc/self/fd"):  # noqa: PTH208
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(f"/proc/self/fd/{handle}"))  # noqa: PTH115
    return found


def test_which_database_may_not_be_replaced(tmp_path):
    path = tmp_path / "file"
    sqlite.refuse_newer_file(path, 3)
    for content in (b"", b"no database" * 20, sqlite.MAGIC + bytes(83)):
        path.write_bytes(content)
        sqlite.refuse_newer_file(path, 3)
    for version in (3, 4):
        with contextlib.closing(sqlite3.connect(tmp_path / str(version))) as connection:
            connection.execute("create table t (x)")
            connection.execute(f"pragma user_version = {version}")
    sqlite.refuse_newer_file(tmp_path / "3", 3)
    with pytest.raises(JobeffError, match="4"):
        sqlite.refuse_newer_file(tmp_path / "4", 3)


def test_what_fails_within_is_taken_back_and_nothing_else():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("create table t (k integer primary key, x text)")
        incoming = Incoming(connection, "t", ["k", "x"], ["k"])
        connection.execute("begin")
        connection.execute("insert into t values (1, 'before')")
        with pytest.raises(ValueError, match="within"), incoming.whole():
            connection.execute("insert into t values (2, 'within')")
            raise ValueError("within")
        assert connection.execute("select k from t").fetchall() == [(1,)]
        with incoming.whole():
            connection.execute("insert into t values (3, 'after')")
        connection.execute("commit")
        assert connection.execute("select k from t").fetchall() == [(1,), (3,)]
        connection.execute("begin")
        with pytest.raises(ValueError, match="rolled back"), incoming.whole():  # as SQLite does on a full disk
            connection.execute("rollback")
            raise ValueError("rolled back")
        assert not connection.in_transaction


def test_a_table_of_sums_that_is_another_is_told_and_not_read(tmp_path):
    path = tmp_path / "storage_history.sqlite"
    tables.open_database(path, "storage_history").close()
    assert list(digests.verify(path, "storage_history")) == []
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("alter table digests add column more")
    found = list(digests.verify(path, "storage_history"))
    assert [(one.table, one.why) for one in found] == [("digests", "it is not as it was made")]


def test_a_view_of_databases_that_are_just_being_made_is_empty():
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.execute("attach ':memory:' as accounting")
        for name, one in general.TABLES.items():
            found = connection.execute(general._select(connection, name, ["accounting"]))
            assert [column[0] for column in found.description] == list(one.names)
            assert found.fetchall() == []


def test_ways_to_pack_rows_are_not_kept_for_ever(monkeypatch):
    monkeypatch.setattr(row_sums, "PLANS", 2)
    kept = row_sums._plans
    rows = [(1,), (1.5,), ("x",), (b"x",), (None,), (1, "x"), ("x", 1.5)]
    found = [row_sums.checksum(*row) for row in rows]
    assert len(kept) <= 2
    assert found == [row_sums.checksum(*row) for row in rows]
    assert found[2] == found[3], "a text is its bytes"


def test_sums_are_taken_of_the_tables_that_are_there():
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.executescript(row_sums.DIGESTS)
        connection.execute("create table there (day text, n integer)")
        connection.executemany("insert into there values (?, ?)", [("2021-06-01", 1), ("2021-06-02", 2)])
        row_sums.fill(connection, {"gone": (), "there": (("day", 7),)})
        found = connection.execute("select * from digests").fetchall()
    assert [("there" in row, "2021-06" in row, 2 in row) for row in found] == [(True, True, True)]
    assert row_sums.checksum("2021-06-01", 1) + row_sums.checksum("2021-06-02", 2) in found[0]


def test_a_row_with_a_number_that_is_no_text_now_can_go(tmp_path):
    """A flipped bit has made a text of a number, and no UTF-8 either: who replaces the row has to read it."""
    with contextlib.closing(sqlite3.connect(tmp_path / "file", isolation_level=None)) as connection:
        connection.executescript(row_sums.DIGESTS)
        connection.execute("create table t (k integer primary key, n integer, name text)")
        connection.execute("insert into t values (1, cast(x'ff61' as text), 'damaged')")
        row_sums.install(connection, {"t": ()})
        connection.execute("insert into t values (2, 5, 'whole')")
        connection.execute("insert or replace into t values (1, 7, 'again')")
        connection.execute("update t set n = 8 where k = 2")
        found = connection.execute("select rows, sum from digests").fetchall()
    came = row_sums.checksum(1, 7, "again") + row_sums.checksum(2, 8, "whole")
    assert found == [(1, came - row_sums.checksum(1, b"\xff\x61", "damaged"))]


# Pages


def test_more_and_longer_texts_than_was_thought(tmp_path):
    path = tmp_path / "file"
    words = ["y" * 300 + str(i) for i in range(4096)]
    with contextlib.closing(table(path, 4096)) as connection:
        connection.execute("begin")
        connection.executemany(
            "insert into t values ('c1', 1, '2021-06-01', 'n1', ?, ?, ?)",
            ((one, i, i) for i, one in enumerate(words)),
        )
        connection.execute("commit")
        wanted = pages.Wanted("cluster", "c1", "date", "2021-06", "nodes")
        place = pages.place(connection, "t")
        (numbers,), texts = pages.read(path, place, np.array([0]), wanted, ["b"], ["name"])
    assert len(words) > pages.FIRST_WORDS, "else it is read at once"
    assert numbers.tolist() == list(range(4096))
    assert bytes(texts.data[: texts.offsets[-1]]).decode() == "".join(words)
    assert texts.codes.tolist() == [list(range(len(words)))]


@pytest.mark.parametrize("count", [1 << 16, (1 << 16) + 3])
def test_more_repeated_numbers_than_was_thought(tmp_path, count):
    path = tmp_path / "file"
    with contextlib.closing(table(path, 4096)) as connection:
        connection.execute("begin")
        connection.executemany(
            "insert into t values ('c1', ?, '', '', '', 1, null)", ((i // 2,) for i in range(2 * count))
        )
        connection.execute("commit")
        found = pages.repeated(path, pages.place(connection, "by_a"), "c1")
    assert np.array_equal(found, np.arange(count))


def test_sums_by_pages_that_cannot_be_had(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"no database")
    shape = page_sums.Shape(2, *[np.array([0])] * 4)
    assert page_sums.sums(path, shape, {"a": True}, lambda _: None) is None
    tables.open_database(tmp_path / "db", "storage_history").close()
    monkeypatch.setattr(page_sums, "_key", lambda _: 7)  # two names with one number
    assert page_sums.sums(tmp_path / "db", shape, {"a": True, "b": True}, lambda _: None) is None


def test_a_database_that_is_not_read_by_pages_has_no_quick_answer(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / "file")) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (x)")
    assert ids.read_ids((tmp_path / "file", "c1", (), 0, 1)) is None


def test_a_text_that_is_none_is_not_told_of_the_database_that_is_written(tmp_path):
    """Of what was read from another one Python tells, without SQLite's code; all else is of this one."""
    with contextlib.closing(sqlite.connect(tmp_path / "database", ["create table t (x);"])) as connection:
        with pytest.raises(sqlite3.OperationalError, match="decode"), sqlite.atomic(connection):
            connection.execute("insert into t values (1)")
            connection.execute("select cast(x'ff' as text)").fetchall()
        assert connection.execute("select count(*) from t").fetchone() == (0,)
        with pytest.raises(JobeffError, match="cannot write a database"), sqlite.atomic(connection):
            connection.execute("insert into nothing values (1)")


# Shards


@pytest.mark.parametrize("value", [0, 1, 127, 128, 300, 2**31, 2**63 - 1])
def test_numbers_of_the_footer(value):
    code = shard_encoder.varint(value)
    assert sum((byte & 127) << (7 * i) for i, byte in enumerate(code)) == value
    assert [byte > 127 for byte in code] == [True] * (len(code) - 1) + [False]
    assert len(code) == max(1, -(-value.bit_length() // 7))


def test_a_column_that_does_not_fit_in_one_array_is_refused():
    """Offsets of lists have 32 bits."""
    field = shards.schema().field("job_id")
    several = pa.chunked_array([pa.array([1]), pa.array([2])])
    column = SimpleNamespace(num_chunks=2, combine_chunks=lambda: several)
    with pytest.raises(ValueError, match="job_id is too large for a shard"):
        shard_encoder._of_table(SimpleNamespace(num_rows=2, columns=[column]), [(field.name, False, False, int, 8)])


def test_only_regular_files_of_nodes_are_shards(tmp_path):
    folder = tmp_path / "c1"
    for node in ("n1", "n2", "n3", ".hidden"):
        (folder / node).mkdir(parents=True)
    (folder / "n1" / "2021-06.parquet").write_bytes(b"12345")
    (folder / "n2" / "2021-06.parquet").mkdir()
    (folder / ".hidden" / "2021-06.parquet").write_bytes(b"1")
    (folder / "n4").touch()
    assert shards.nodes_with(tmp_path, "c1", "2021-06") == {"n1": 5}
    assert shards.nodes_with(tmp_path, "c1", "../c1") == {}
    assert shards.nodes_with(tmp_path, "c2", "2021-06") == {}


def sealed(path, table, about):
    """A Parquet file with the checksum of a shard, whatever is in it."""
    pq.write_table(table.replace_schema_metadata(about), path, compression="none")
    whole = path.read_bytes()
    footer = len(whole) - 8 - int.from_bytes(whole[-8:-4], "little")
    crc = zlib.crc32(whole[footer:], zlib.crc32(whole[:footer]))
    path.write_bytes(whole[:footer] + crc.to_bytes(shards.CHECKSUM_BYTES, "little") + whole[footer:])


@pytest.mark.parametrize(
    ("columns", "about", "why"),
    [
        ({"x": [1]}, {"jobeff": '{"version": 1}'}, "its columns are not those of a shard"),
        (None, {}, "its metadata is not ours"),
        (None, {"jobeff": "{"}, "its metadata is not ours"),
    ],
)
def test_a_whole_file_that_is_no_shard(tmp_path, columns, about, why):
    path = tmp_path / "2021-06.parquet"
    sealed(path, pa.table(columns) if columns else shards.schema().empty_table(), about)
    with pytest.raises(shards.DamagedShardError, match=why):
        shards.read(path)


@pytest.mark.parametrize("wrong", [["n1", "../x"], ["n1", ""], ["n1", 5], [["n1"]], [None]])
@pytest.mark.parametrize("key", ["nodes", "waiting"])
def test_a_note_that_names_what_is_no_node(tmp_path, wrong, key):
    path = tmp_path / "2021-06.json"
    note = {"archive_bytes": 1, "tail_crc32": 2, "restarts": 0, "nodes": ["n1"], "waiting": ["n1"]}
    assert set(note) >= set(shards._NOTE)
    path.write_text(json.dumps({name: kind() for name, kind in shards._NOTE.items()} | note))
    known = {}
    assert shards.read_note(path, known)["nodes"] == ["n1"]
    assert known == {"n1": "n1"}
    path.write_text(json.dumps({name: kind() for name, kind in shards._NOTE.items()} | note | {key: wrong}))
    with pytest.raises(JobeffError):
        shards.read_note(path)


# Tasks


def test_tasks_say_what_they_are_about(tmp_path):
    month = reduce.Month(tmp_path, tmp_path, "c1", "2021-06", 300)
    assert reduce.MergeTask(month, [], tmp_path).named() == "c1 2021-06"
    assert leaves.LeavesTask([], "jobs", [], 4096, True, tmp_path, tmp_path).named() == "a part of the pages of jobs"
    assert leaves.LevelsTask(4096, [], 3, tmp_path / "jobs").named() == "the pages above those of jobs"
    with pytest.raises(JobeffError, match=r"a task was given up at c1 2021-06: the worker process that did it died"):
        reduce.MergeTask(month, [], tmp_path).lost("died")


class Slow(pool.InProcess):
    """Does nothing before it is told to."""

    def __init__(self):
        super().__init__()
        self.futures = []

    def submit(self, function, /, *_):  # noqa: ARG002
        self.futures.append(Future())
        return self.futures[-1]


def test_what_comes_of_a_chain_that_was_given_up_is_not_looked_at():
    """Its other task was running when the one that workers die of was lost for the last time."""
    slow, failed = Slow(), JobeffError("given up")

    def chain():
        yield [(abs, 1), (abs, 2)]

    running = pool._Running(slow, iter([]))
    assert list(running.go_on(chain(), None)) == []
    first, second = slow.futures
    running.running[first].losses = pool.LOSSES_ENOUGH - 1
    first.set_exception(pool.TaskLostError("died"))
    assert list(running.settle(first)) == []
    [told] = running.failed
    assert "a task was given up" in str(told)
    second.set_exception(failed)
    assert list(running.settle(second)) == []
    assert (running.failed, running.running, running.begun) == ([told], {}, set())


def ingested(collected, folder):
    """Shards of a site, and what ingesting in this process said."""
    root = shutil.copytree(collected, folder)
    result = ingest(Site(sites.config(root), _pool=pool.InProcess()))
    return said(root, [result]), state(root)[0]


def test_raw_files_in_several_batches_make_the_same_shards(tmp_path, monkeypatch):
    collected = collected_site(tmp_path / "site")
    whole = ingested(collected, tmp_path / "whole")
    assert len(whole[1]) > 2
    for size in (1, 500, 2000):
        monkeypatch.setattr(build, "BATCH_BYTES", size)
        assert ingested(collected, tmp_path / str(size)) == whole


def frames_of(path):
    """Where frames begin in a plain month, and its text."""
    text = path.read_bytes()
    begins = [match.start() for match in re.finditer(rb"^==> ", text, re.MULTILINE)]
    return text, [*begins, len(text)]


@pytest.mark.parametrize("known", [True, False])
def test_raw_files_behind_a_damaged_length_that_leads_to_a_later_frame(tmp_path, known):
    """They are found within the damaged one, and added to shards that have come so far already.

    Of headers of an older jobeff nothing but the text's checksum tells that they are damaged.
    """
    collected = collected_site(tmp_path / "site")
    month = collected / "archive" / "c1" / "2021-06.txt"
    text, begins = frames_of(month)
    frames = [text[a:b] for a, b in itertools.pairwise(begins)]
    ids = [re.match(rb"==> c1/n1/(\d+) ", one) for one in frames]
    size = int(re.search(rb" bytes=(\d+) ", frames[0])[1])
    longer = size + sum(map(len, frames[1:3]))
    assert len(str(longer)) == len(str(size)), "else the frames behind it are not where their headers were noted"
    # Within the first one stands another that is damaged so, and within that a whole one.
    frames[0] = frames[0].replace(b"=%d " % size, b"=%d " % longer)
    second = int(re.search(rb" bytes=(\d+) ", frames[1])[1])
    frames[1] = frames[1].replace(b"=%d " % second, b"=%d " % (second + len(frames[2])))
    month.write_bytes(b"".join(frames))
    if not known:
        header_sums.beside(month).unlink()
    told, _ = ingested(collected, tmp_path / "done")
    said = "/archive/c1/2021-06.txt" if known else f"n1/{int(ids[0][1])}"
    assert any(
        where.endswith(f"{said} byte {frames[0].index(b'LOCALTIME')}")
        for *_, examples in told
        for _, where, _ in examples
    )
    table, about = shards.read(tmp_path / "done" / "shards" / "c1" / "n1" / "2021-06.parquet")
    assert table.column("job_id").to_pylist() == sorted(int(one[1]) for one in ids[2:] if one)
    assert about["archive_bytes"] == month.stat().st_size


@pytest.mark.parametrize("headers", ["known", "unknown", "damaged"])
@pytest.mark.parametrize("by", ["ingest", "repair"])
def test_a_shard_made_again_has_what_stands_within_damaged_frames(tmp_path, headers, by):
    """Also within those of another node, in a part of the month that was read before."""
    root = collected_site(tmp_path / "site")
    month = root / "archive" / "c1" / "2021-06.txt"
    text, begins = frames_of(month)
    frames = [text[a:b] for a, b in itertools.pairwise(begins)]
    (outer, within), *_ = [
        (i, i + 1)
        for i, pair in enumerate(itertools.pairwise(frames))
        if [one[:10] for one in pair] == [b"==> c1/n1/", b"==> c1/n2/"]
    ]
    size = int(re.search(rb" bytes=(\d+) ", frames[outer])[1])
    frames[outer] = frames[outer].replace(b"=%d " % size, b"=%d " % (size + len(frames[within])))
    assert len(b"".join(frames)) == len(text), "the frames behind it are where their headers were noted"
    shutil.rmtree(root / "slurm")  # nobody has it any more
    month.write_bytes(b"".join(frames))
    if headers == "unknown":
        header_sums.beside(month).unlink()
    elif headers == "damaged":
        records = header_sums.load(month).copy()
        records["check"] ^= 1
        header_sums.write(month, records)
    site = Site(sites.config(root), _pool=pool.InProcess())
    ingest(site)
    shard = shards.shard_path(root / "shards", "c1", "n2", "2021-06")
    have = shards.read(shard)[0].column("job_id").to_pylist()
    hidden = int(re.match(rb"==> c1/n2/(\d+) ", frames[within])[1])
    assert hidden in have
    shard.unlink()
    if by == "ingest":
        month.write_bytes(b"".join([*frames, frames[within].replace(b"/%d " % hidden, b"/4711 ")]))
        ingest(site)
        have.append(4711)
    else:
        compute(site)
        repair(site)
        assert [one for one in check(site, read_data=True).findings if KINDS[one.kind].damage] == []
    assert shards.read(shard)[0].column("job_id").to_pylist() == have


def test_bad_places_are_found_within_damaged_frames(tmp_path):
    """A header whose job is another one, within the text of a frame whose length leads behind it."""
    root = collected_site(tmp_path / "site")
    month = root / "archive" / "c1" / "2021-06.txt"
    text, begins = frames_of(month)
    frames = [text[a:b] for a, b in itertools.pairwise(begins)]
    size = int(re.search(rb" bytes=(\d+) ", frames[0])[1])
    frames[0] = frames[0].replace(b"=%d " % size, b"=%d " % (size + len(frames[1])))
    frames[1] = re.sub(rb"c1/n1/1", b"c1/n1/3", frames[1])
    changed = b"".join(frames)
    assert sum(a != b for a, b in zip(changed, text, strict=True)) <= 4
    places = archive_damage.bad_places(changed, len(changed), "c1", month)
    wrong = [(one.begin, one.end) for one in places if one.why == "its header is not what was written"]
    assert wrong == [(0, begins[1]), (begins[1], begins[2])]


def test_what_stands_within_a_damaged_frame_is_not_lost_with_it(tmp_path):
    """`repair` gives up the damaged one alone, and `check` finds all others in the shards."""
    root = collected_site(tmp_path / "site")
    month = root / "archive" / "c1" / "2021-06.txt"
    text, begins = frames_of(month)
    first, second, *others = (text[a:b] for a, b in itertools.pairwise(begins))
    size = int(re.search(rb" bytes=(\d+) ", first)[1])
    first = first.replace(b"=%d " % size, b"=%d " % (size + len(second)))
    shutil.rmtree(root / "slurm")  # nobody has it any more
    month.write_bytes(b"".join((first, second, *others)))
    site = Site(sites.config(root), _pool=pool.InProcess())
    ingest(site)
    compute(site)
    repair(site)
    assert (0, len(first)) in [(one["begin"], one["end"]) for one in archive_damage.lost(month)]
    have = shards.read(root / "shards" / "c1" / "n1" / "2021-06.parquet")[0].column("job_id").to_pylist()
    assert int(re.match(rb"==> c1/n1/(\d+) ", second)[1]) in have
    assert [one for one in check(site, read_data=True).findings if KINDS[one.kind].damage] == []


def test_a_node_all_of_whose_raw_files_are_damaged_has_no_shard_and_no_part(tmp_path):
    root = collected_site(tmp_path / "site")
    for month in (root / "archive" / "c1").glob("*.txt"):
        text, begins = frames_of(month)
        frames = [text[a:b] for a, b in itertools.pairwise(begins)]
        month.write_bytes(
            b"".join(one.replace(b"1.25", b"7.25") if one.startswith(b"==> c1/n3/") else one for one in frames)
        )
    site = Site(sites.config(root), _pool=pool.InProcess())
    rebuild(site)
    assert not list((root / "shards").rglob("n3/*.parquet"))
    seen = dict(sqlite3.connect(tables.database(root, "efficiency")).execute("select job_id, nodes_seen from jobs"))
    booked = sqlite3.connect(tables.database(root, "accounting")).execute("select job_id, nodes from jobs").fetchall()
    alone = [job_id for job_id, nodes in booked if nodes == "n3"]
    shared = [job_id for job_id, nodes in booked if "n3" in nodes.split(",") and nodes != "n3"]
    assert alone
    assert shared
    assert not set(alone) & set(seen)
    assert {seen[job_id] for job_id in shared if job_id in seen} == {1}


class Compiling:
    """A process that compiles beside this one."""

    def __init__(self, done):
        self.done = done

    def kill(self):
        self.done.append("killed")

    def wait(self):
        self.done.append("waited for")


@pytest.fixture
def compiling(monkeypatch):
    done = []
    monkeypatch.setattr(warm.subprocess, "Popen", lambda words: done.append(words[-1]) or Compiling(done))
    monkeypatch.setattr(warm.jit, "is_kept", lambda _: True)
    monkeypatch.setattr(warm, "is_cold", lambda: True)
    return done


def test_another_process_helps_to_compile(compiling):
    with warm._helped():
        assert compiling == [str(os.getpid())]
    assert compiling[1:] == ["waited for"]


def test_who_is_interrupted_does_not_wait_for_the_one_that_helps(compiling):
    with pytest.raises(KeyboardInterrupt), warm._helped():
        raise KeyboardInterrupt
    assert compiling[1:] == ["killed", "waited for"]


@pytest.mark.parametrize("what", ["warm", "not kept", "cannot start"])
def test_nobody_helps_where_nothing_is_to_be_compiled_or_kept(compiling, monkeypatch, what):
    def cannot(_):
        raise OSError("no more processes")

    monkeypatch.setattr(warm, "is_cold", lambda: what != "warm")
    monkeypatch.setattr(warm.jit, "is_kept", lambda _: what != "not kept")
    if what == "cannot start":
        monkeypatch.setattr(warm.subprocess, "Popen", cannot)
    with warm._helped():
        assert compiling == []
    with pytest.raises(KeyboardInterrupt), warm._helped():
        raise KeyboardInterrupt
    assert compiling == []


def test_what_is_no_database_is_not_read_by_pages(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"no database")
    wanted = pages.Wanted("cluster", "c1", "date", "2021-06", "nodes")
    place = pages.Place(2, ["cluster", "date", "nodes", "n"])
    assert pages.read(path, place, np.array([0]), wanted, ["n"], ["nodes"]) is None
    assert pages.repeated(path, place, "c1") is None
