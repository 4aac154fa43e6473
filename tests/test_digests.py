"""Sums over rows: whoever writes keeps them right, and whatever flips is found."""

import contextlib
import random
import sqlite3
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
import sites
from conftest import MEMORY
from hypothesis import given, settings
from hypothesis import strategies as st
from test_compute import a_job, files_of

from jobeff.errors import JobeffError
from jobeff.steps.compute import compute
from jobeff.steps.update import update
from jobeff.store import digests, tables
from jobeff.store.digests import Damage, verify
from jobeff.store.sqlite import LAST_UPDATED, atomic
from jobeff.store.upsert import Incoming

ALL_TABLES = [(name, table) for name, blocks in tables.BLOCKS.items() for table in blocks]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Nothing has to outlast a power cut."""
    monkeypatch.setattr("os.fsync", lambda _: None)


# The oracle


def naive_checksum(row):
    tags, numbers, texts = b"", b"", b""
    for cell in row:
        if cell is None:
            tags += b"\0"
        elif isinstance(cell, int):
            tags, numbers = tags + b"\1", numbers + struct.pack("<q", cell)
        elif isinstance(cell, float):
            tags, numbers = tags + b"\2", numbers + struct.pack("<d", cell)
        else:
            tags, texts = tags + b"\3", texts + b"\xff" + cell.encode()
    return zlib.crc32(tags + numbers + texts)


def naive_sums(path, name):
    """Sums of all rows of a database, by table and block."""
    sums = {}
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        for table, block in tables.BLOCKS[name].items():
            for row in connection.execute(f'select * from "{table}"'):
                of = "/".join(row[column][:length] for column, length in block) or "all"
                rows, total = sums.get((table, of), (0, 0))
                sums[table, of] = (rows + 1, total + naive_checksum(tuple(row)))
    return sums


def kept_sums(path):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        found = connection.execute("select table_name, block, rows, sum from digests where rows <> 0 or sum <> 0")
        return {(table, block): (rows, total) for table, block, rows, total in found}


def assert_right(path, name):
    assert kept_sums(path) == naive_sums(path, name)
    assert verify(path, name) == []


# Whatever is written


def columns_of(name, table):
    with contextlib.closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript("".join((LAST_UPDATED, *tables.SCHEMAS[name])))
        return connection.execute(f'pragma table_info("{table}")').fetchall()


TEXTS = st.one_of(st.sampled_from(["", "a", "ÿ", "a" * 300, "\0", "\U0001f600" * 2000]), st.text(max_size=4))
WHOLE = st.one_of(st.integers(0, 3), st.sampled_from([127, -129, 2**31, 2**47, 2**63 - 1, -(2**63)]))
REALS = st.one_of(st.sampled_from([0.0, -0.0, 1.0, 0.5, 2.0**53, 1e300, float("inf")]), st.floats(allow_nan=False))
BLOCK_CELLS = st.sampled_from(["2021-06-01", "2021-06-02", "2021-07-01", "2022-W01"])
KEYS = {"text": st.sampled_from(["a", "b", "é"]), "integer": st.integers(0, 3)}


def cells(name, table, column):
    """Cells of a column; keys are few, so that rows meet."""
    _, title, kind, needed, _, key = column
    lengths = dict(tables.BLOCKS[name][table])
    if title in lengths:
        return BLOCK_CELLS if lengths[title] or title == "month" else st.sampled_from(["c1", "c1.p", "ä"])
    kind = kind.lower()
    some = KEYS[kind] if key else {"text": TEXTS, "integer": WHOLE, "real": REALS}[kind]
    return some if needed or key else st.one_of(st.none(), some)


@st.composite
def writings(draw):
    """A table, and what is done to it."""
    name, table = draw(st.sampled_from(ALL_TABLES))
    columns = columns_of(name, table)
    row = st.tuples(*(cells(name, table, column) for column in columns))
    kinds = st.sampled_from(
        ["insert", "insert or ignore", "insert or replace", "insert or fail", "update", "update or replace", "delete",
         "upsert", "delete all", "commit", "rollback", "savepoint", "rollback to", "release"]
    )  # fmt: skip
    return name, table, [column[1] for column in columns], draw(st.lists(st.tuples(kinds, row, row), max_size=12))


def do(connection, table, columns, kind, row, other):
    names, places = ", ".join(f'"{name}"' for name in columns), ", ".join("?" * len(columns))
    first = f'"{columns[0]}" is ?'
    if kind == "upsert":
        excluded = ", ".join(f'"{name}" = excluded."{name}"' for name in columns)
        rows = f"select {places} union all select {places}"
        connection.execute(f"insert into {table} {rows} on conflict do update set {excluded}", (*row, *other))
    elif kind.startswith("insert"):
        connection.executemany(f"{kind} into {table} ({names}) values ({places})", [row, other])
    elif kind.startswith("update"):
        cells = ", ".join(f'"{name}" = ?' for name in columns)
        connection.execute(f"{kind} {table} set {cells} where {first}", (*row, other[0]))
    elif kind == "delete":
        connection.execute(f"delete from {table} where {first}", row[:1])
    elif kind == "delete all":
        connection.execute(f"delete from {table}")
    elif kind in ("commit", "rollback"):
        connection.execute(kind)
        connection.execute("begin")
    elif kind == "savepoint" or connection.execute("select count(*) from temp.opened").fetchone()[0]:
        connection.execute(f"{kind} one")
        if kind == "savepoint":
            connection.execute("insert into temp.opened values (1)")


@settings(max_examples=60)
@given(writings())
def test_whatever_is_done_the_sums_are_those_of_the_rows(writing):
    """Statements that fail too; who goes on after one of these commits what the others have done."""
    name, table, columns, doings = writing
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "database"
        with contextlib.closing(tables.open_database(path, name)) as connection:
            connection.execute("create temp table opened (x)")
            connection.execute("begin")
            for kind, row, other in doings:
                with contextlib.suppress(sqlite3.IntegrityError, sqlite3.OperationalError):
                    do(connection, table, columns, kind, row, other)
            connection.execute("commit")
        assert_right(path, name)


def test_what_fails_leaves_no_trace(tmp_path):
    path = tmp_path / "projects"
    with contextlib.closing(tables.open_database(path, "projects")) as connection:
        incoming = Incoming(connection, "projects", ["proj_id", "active"], ["proj_id"])
        with atomic(connection):
            incoming.add([("a", "Y"), ("b", "N")])
            incoming.merge()
        with pytest.raises(ZeroDivisionError), atomic(connection):
            connection.execute("delete from projects")
            raise ZeroDivisionError
        with pytest.raises(ZeroDivisionError), atomic(connection), incoming.whole():
            connection.execute("update projects set active = 'X'")
            raise ZeroDivisionError
    assert_right(path, "projects")
    assert kept_sums(path)["projects", "all"][0] == 2


def test_a_whole_site(tmp_path):
    """All steps, night after night, and everything computed anew in bulk."""
    site = sites.make(tmp_path / "site")
    for night in range(2):
        jobs = [a_job(10 * night + i, nodes=("n1", "n2")) for i in range(1, 4)]
        sites.Night(jobs, files_of(*jobs)).fall(site.root, f"day{night}")
        update(site)
    compute(site, everything=True)
    jobs = [a_job(1, length=1800)]
    sites.Night(jobs, files_of(*jobs)).fall(site.root, "later")
    update(site)
    found = [name for name in tables.SCHEMAS if tables.database(site.root, name).exists()]
    assert len(found) > 4
    for name in found:
        assert_right(tables.database(site.root, name), name)
    assert [key for key in kept_sums(tables.database(site.root, "efficiency")) if key[0] == "jobs"]


# Databases with rows in all tables


def filled(path, name, rows=150, seed=1):
    """A database that has such rows as sites have; enough that there are several pages of each."""
    dice = random.Random(seed)
    with contextlib.closing(tables.open_database(path, name)) as connection, atomic(connection):
        for table, block in tables.BLOCKS[name].items():
            columns = columns_of(name, table)
            made = [[a_cell(dice, i, dict(block), *column[1:]) for column in columns] for i in range(rows)]
            connection.executemany(f"insert into {table} values ({', '.join('?' * len(columns))})", made)
    return path


def a_cell(dice, number, block, title, kind, needed, _, key):
    if title in block:
        return f"2021-{dice.randint(1, 3):02d}-{dice.randint(1, 28):02d}" if block[title] else dice.choice(["c1", "c2"])
    if not (needed or key) and dice.random() < 0.1:
        return None
    if kind.lower() == "integer":
        return number if key or title == "job_id" else dice.choice([1, 100, 40_000, 10**9])
    if kind.lower() == "real":
        return dice.choice([0.5, 3.0, dice.random()])
    return f"{title}{number}" + "n" * (6000 if number == 7 and not key else dice.randint(0, 9))


@pytest.fixture(scope="module")
def databases(tmp_path_factory):
    """One of each kind: what is in it."""
    folder = tmp_path_factory.mktemp("databases", numbered=True)
    return {name: filled(folder / name, name).read_bytes() for name in tables.SCHEMAS}


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_filled(name, tmp_path):
    assert_right(filled(tmp_path / name, name), name)


def dump(path, name):
    """All rows with the types of their cells; None where they cannot be read."""
    try:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.text_factory = bytes
            found = []
            for table in tables.BLOCKS[name]:
                columns = [f'"{column[1]}"' for column in columns_of(name, table)]
                columns += [f"typeof({column})" for column in columns]
                found.append(
                    sorted(map(repr, connection.execute(f"select {', '.join(columns)} from {table} not indexed")))
                )
            return found
    except sqlite3.Error:
        return None


def flip(data, bit):
    changed = bytearray(data)
    changed[bit >> 3] ^= 1 << (bit & 7)
    return bytes(changed)


@pytest.mark.parametrize("name", ["accounting", "efficiency", "storage_history", "corehour_usage"])
def test_a_flipped_bit_is_found_or_changes_no_row(name, databases, tmp_path):
    dice = random.Random(name)
    path, data = tmp_path / "database", databases[name]
    path.write_bytes(data)
    right, found = dump(path, name), 0
    flips = [dice.randrange(8 * len(data)) for _ in range(50)] + [dice.randrange(8 * 100) for _ in range(10)]
    for bit in flips:
        path.write_bytes(flip(data, bit))
        if verify(path, name):
            found += 1
        else:
            assert dump(path, name) == right, f"bit {bit}"
    assert found > 20


def cells_of(data, text):
    return [8 * (data.index(text) + at) + bit for at in range(len(text)) for bit in range(8)]


def test_the_block_of_a_flipped_cell_is_named(databases, tmp_path):
    """In a cell that is in no index SQLite itself finds nothing."""
    path = tmp_path / "accounting"
    text = b"jobname123"
    for bit in cells_of(databases["accounting"], text):
        path.write_bytes(flip(databases["accounting"], bit))
        [damage] = verify(path, "accounting")
        assert damage.table == "jobs"
        assert damage.block in {f"c{c}/2021-0{m}" for c in (1, 2) for m in (1, 2, 3)}
        assert damage.expected == damage.found
        assert damage.why == "a row is not what was written"


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_all_parts_together_find_it(parts, databases, tmp_path):
    path = tmp_path / "accounting"
    path.write_bytes(flip(databases["accounting"], cells_of(databases["accounting"], b"jobname123")[4]))
    found = [damage for part in range(1, parts + 1) for damage in verify(path, "accounting", (part, parts))]
    assert found == verify(path, "accounting")
    assert len(found) == 1


def test_progress_counts_all_rows(databases, tmp_path):
    path, seen = tmp_path / "accounting", []
    path.write_bytes(databases["accounting"])
    verify(path, "accounting", progress=seen.append)
    assert sum(seen) == sum(rows for rows, _ in naive_sums(path, "accounting").values())


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_sql_finds_what_pages_tell(name, databases, tmp_path, monkeypatch):
    """Where pages cannot be read in bulk, SQLite reads the rows."""
    path = tmp_path / name
    dice = random.Random(name)
    for bit in [dice.randrange(8 * len(databases[name])) for _ in range(8)]:
        path.write_bytes(flip(databases[name], bit))
        by_page = verify(path, name)
        with monkeypatch.context() as patch:
            patch.setattr(digests, "sums", lambda *_: None)
            assert bool(verify(path, name)) == bool(by_page)


@settings(max_examples=25)
@given(st.sampled_from(["accounting", "efficiency"]), st.integers(0), st.sampled_from(["update", "replace", "delete"]))
def test_writing_over_damage_does_not_make_it_right(databases, name, seed, kind):
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        path = Path(folder) / "database"
        path.write_bytes(flip(databases[name], dice.choice(cells_of(databases[name], b"user123"))))
        [damage] = verify(path, name)
        with contextlib.closing(tables.open_database(path, name)) as connection, atomic(connection):
            job_id = connection.execute("select job_id from jobs where proj_id like 'proj_id123%'").fetchone()
            if kind == "update":
                connection.execute("update jobs set user = 'x' where job_id = ?", job_id)
            elif kind == "delete":
                connection.execute("delete from jobs where job_id = ?", job_id)
            else:
                connection.execute("insert or replace into jobs select * from jobs where job_id = ?", job_id)
        [later] = verify(path, name)
        assert (later.table, later.block) == (damage.table, damage.block)


def test_what_others_write_is_found(databases, tmp_path):
    path = tmp_path / "efficiency"
    path.write_bytes(databases["efficiency"])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("delete from jobs where cluster = 'c1' and date_finished like '2021-02%'")
        (gone,) = connection.execute("select changes()").fetchone()
    assert verify(path, "efficiency") == [
        Damage("jobs", "c1/2021-02", f"there are 0 rows where {gone} were written", gone, 0)
    ]


@pytest.mark.parametrize("change", [
    "drop index jobs_job_id", "drop table asked", "pragma user_version = 1", "alter table loaded rename lines to line",
])  # fmt: skip
def test_a_changed_schema_is_found(change, databases, tmp_path):
    path = tmp_path / "accounting"
    path.write_bytes(databases["accounting"])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(change)
    assert verify(path, "accounting")


def test_words_of_a_damaged_schema(databases, tmp_path):
    """SQLite quotes it; what it says need not be UTF-8."""
    path = tmp_path / "accounting"
    for bit in cells_of(databases["accounting"], b"without rowid")[7::8]:
        path.write_bytes(flip(databases["accounting"], bit))
        assert "malformed" in verify(path, "accounting")[0].why
        with pytest.raises(JobeffError, match="cannot open the database"):
            tables.open_database(path, "accounting")


def test_what_is_no_database(databases, tmp_path):
    path, whole = tmp_path / "accounting", databases["accounting"]
    for content in (b"", b"no database", bytes(8192), whole[:5000], whole[: len(whole) // 2], whole[:-1]):
        path.write_bytes(content)
        assert verify(path, "accounting")
    path.unlink()
    assert len(verify(path, "accounting")) == 1
    path.mkdir()
    assert len(verify(path, "accounting")) == 1


def test_verify_changes_nothing(databases, tmp_path):
    path = tmp_path / "accounting"
    path.write_bytes(databases["accounting"])
    verify(path, "accounting")
    assert path.read_bytes() == databases["accounting"]
    assert [one.name for one in tmp_path.iterdir()] == ["accounting"]


# Databases of an older jobeff


@pytest.mark.parametrize("name", tables.SCHEMAS)
def test_an_older_database_gets_its_sums(name, databases, tmp_path):
    path = tmp_path / name
    path.write_bytes(databases[name])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop table digests")
        connection.execute(f"pragma user_version = {len(tables.SCHEMAS[name]) - 1}")
    assert verify(path, name) == []
    tables.open_database(path, name).close()
    assert_right(path, name)
    assert kept_sums(path)


def test_a_migration_that_fails_changes_nothing(databases, tmp_path, monkeypatch):
    path = tmp_path / "accounting"
    path.write_bytes(databases["accounting"])
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("drop table digests")
        connection.execute("pragma user_version = 3")
    before = dump(path, "accounting")
    with monkeypatch.context() as patch:
        patch.setattr("jobeff.store.row_sums.checksum", lambda *_: 1 // 0)
        with pytest.raises(ZeroDivisionError):
            tables.open_database(path, "accounting")
    assert dump(path, "accounting") == before
    tables.open_database(path, "accounting").close()
    assert_right(path, "accounting")


def test_a_database_whose_tables_cannot_be_read_says_so(databases, tmp_path):
    path = tmp_path / "accounting"
    path.write_bytes(databases["accounting"][:4096] + bytes(len(databases["accounting"]) - 4096))
    with contextlib.suppress(JobeffError):
        tables.open_database(path, "accounting").close()
    assert verify(path, "accounting")
