"""Pages of SQLite files read and written without SQLite, against SQLite itself."""

import contextlib
import itertools
import random
import sqlite3

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jobeff.store import pages, record_kernels, table_kernels
from jobeff.store.records import Encoder, Records
from jobeff.store.tree_kernels import GO_ON, LAST

# What comes round in machine integers is warned of where the kernels are not compiled.
pytestmark = pytest.mark.filterwarnings("ignore:overflow encountered")
PLAIN_COLUMNS = [
    (record_kernels.WORD, 0),
    (record_kernels.INTEGER, 0),
    (record_kernels.REAL, 0),
    (record_kernels.TEXT, 0),
]
INDEX_COLUMNS = [(record_kernels.TEXT, 0), (record_kernels.WORD, 0), (record_kernels.INTEGER, 0)]
INTEGERS = [
    0,
    1,
    -1,
    2,
    *(sign * 2**bits + step for bits in (7, 15, 23, 31, 47) for sign in (1, -1) for step in (-1, 0)),
]
INTEGERS += [2**62, 2**63 - 1, -(2**63)]
REALS = [0.0, -0.0, 1.0, -1.0, 0.1, 1e13, 1e14, 1e15, 2.0**47, -(2.0**48), 2.0**63, 1e300, float("inf"), -float("inf"),
         float("nan"), 5e-324, 127.0, 128.5]  # fmt: skip


@contextlib.contextmanager
def connect(path):
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("pragma synchronous = off")
        yield connection


@pytest.fixture(autouse=True, scope="module")
def quick():
    """Nothing has to outlast a power cut."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pages.os, "fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """One for all examples of a test."""
    return tmp_path_factory.mktemp("pages")


def checked(connection):
    assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]


def records_of(columns, integers, reals, texts, word, rows, text_rows):
    """Rows as records; numbers have a row of the array per column here."""
    none = np.empty((0, 0), dtype=np.int64)
    encoder = Encoder(columns, np.ascontiguousarray(integers.T), np.ascontiguousarray(reals.T), texts, none, word)
    records = Records()
    encoder.write(rows, text_rows, records)
    return records.data, records.begins, records.ends


def texts_of(*columns):
    """Lists of bytes as text columns."""
    texts = [text for column in columns for text in column]
    codes = np.arange(len(texts), dtype=np.int32).reshape(len(columns), -1)
    offsets = np.cumsum([0, *map(len, texts)], dtype=np.int64)
    return pages.Texts(codes, offsets, np.frombuffer(b"".join(texts), dtype=np.uint8))


def empty(path, page_size):
    path.unlink(missing_ok=True)
    with connect(path) as connection:
        connection.execute(f"pragma page_size = {page_size}")
        connection.execute("create table t (k text, n integer, r real, x text, primary key (k, n)) without rowid")
        connection.execute("create index x on t (x)")
        roots = [pages.place(connection, name).root for name in ("t", "x")]
        return roots, connection.execute("pragma page_count").fetchone()[0] + 1


def write(path, page_size, word, numbers, reals, words, at_once):
    """A table and its index, written page by page; numbers in order."""
    roots, next_page = empty(path, page_size)
    integers, floats = np.array([numbers], dtype=np.int64), np.array([reals], dtype=np.float64)
    texts = texts_of(words)
    by_text = sorted(range(len(words)), key=lambda i: (words[i], numbers[i]))
    with path.open("rb+") as file:
        for root, columns, order in ((roots[0], PLAIN_COLUMNS, range(len(words))), (roots[1], INDEX_COLUMNS, by_text)):
            rows = np.array(order, dtype=np.int64)
            data, begins, ends = records_of(columns, integers, floats, texts, word, rows, rows)
            tree = pages.IndexTree(file, page_size, next_page)
            for at in range(0, len(rows), at_once):
                some = slice(at, at + at_once)
                tree.add(data, begins[some], ends[some], LAST if at + at_once >= len(rows) else GO_ON)
            tree.finish(root)
            next_page = tree.next_page
        pages.set_page_count(file, next_page - 1)


def assert_written(path, word, numbers, reals, words, churn=True):
    """SQLite finds the rows, whole and in order, and goes on with the file."""
    with connect(path) as connection:
        connection.text_factory = bytes
        checked_rows = connection.execute("pragma integrity_check").fetchall()
        assert checked_rows == [(b"ok",)]
        key = word.encode()
        expected = [
            (key, n, None if r != r else r, "null" if r != r else "real", x)  # noqa: PLR0124
            for n, r, x in zip(numbers, reals, words, strict=True)
        ]
        found = connection.execute("select k, n, r, typeof(r), x from t").fetchall()
        assert [(*row[:3], row[3].decode(), row[4]) for row in found] == expected
        found = connection.execute("select x, k, n from t indexed by x order by x, k, n").fetchall()
        assert found == sorted((x, key, n) for n, x in zip(numbers, words, strict=True))
        for n in numbers[:: max(1, len(numbers) // 50)]:
            assert connection.execute("select count(*) from t where k = ? and n = ?", (word, n)).fetchone() == (1,)
        if not churn:
            return
        connection.text_factory = str
        connection.execute("begin")
        connection.execute("delete from t where n % 3 = 0")
        connection.execute("update t set x = x || 'more' where n % 3 = 1")
        connection.executemany("insert or replace into t values ('new', ?, 1.5, ?)", ((i, "y" * i) for i in range(50)))
        connection.execute("commit")
        checked(connection)
        kept = sum(n % 3 != 0 for n in numbers) + 50
        assert connection.execute("select count(*) from t").fetchone() == (kept,)
        connection.execute("vacuum")
        checked(connection)
        connection.execute("delete from t")
        checked(connection)


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_trees_of_every_size(tmp_path, at_once):
    """The last page of each level is begun for one cell only, at some size."""
    path = tmp_path / "file"
    for count in range(40, 70, 3) if at_once == 1 else [*range(70), *range(70, 1000, 61), 2500]:
        numbers = list(range(count))
        words = [b"%d" % (i * 7919 % 1000) * (1 + i % 5) for i in numbers]
        write(path, 512, "c", numbers, [i / 4 for i in numbers], words, at_once)
        assert_written(path, "c", numbers, [i / 4 for i in numbers], words, churn=count % 10 == 0)


def test_levels_of_every_size(tmp_path):
    """Four rows or so fill a page, so three levels have few rows: each is filled to the last cell at some size."""
    path = tmp_path / "file"
    for count in range(10, 110, 3):
        numbers = list(range(count))
        words = [b"%03d" % i + b"z" * 85 for i in numbers]
        write(path, 512, "c", numbers, [0.5] * count, words, 10_000)
        assert_written(path, "c", numbers, [0.5] * count, words, churn=False)


@pytest.mark.parametrize("page_size", [512, 1024, 4096, 65536])
@pytest.mark.parametrize("longest", [0, 30, 120, 1200, 9000])
def test_records_of_every_size(tmp_path, page_size, longest):
    dice = random.Random(longest)
    count = 3000 if longest < 1000 else 300
    numbers = sorted(dice.sample(range(-(10**6), 10**6), count))
    words = [bytes(dice.choices(b"ab", k=dice.randint(0, longest))) for _ in numbers]
    reals = [dice.choice(REALS) for _ in numbers]
    write(tmp_path / "file", page_size, "cluster", numbers, reals, words, 100)
    assert_written(tmp_path / "file", "cluster", numbers, reals, words)


def test_records_of_one_size_fill_pages_to_the_last_byte(tmp_path):
    for size in [*range(20, 40), *range(60, 125)]:
        numbers = list(range(200, 400))
        words = [b"%03d" % i + b"z" * (size - 3) for i in numbers]
        write(tmp_path / "file", 512, "", numbers, [1.0] * 200, words, 64)
        assert_written(tmp_path / "file", "", numbers, [1.0] * 200, words, churn=False)


def test_a_page_is_begun_only_where_the_last_one_is_full(tmp_path):
    """Twelve rows of the table fill a page, or sixteen of the index, and then one goes up."""
    for count in range(25, 140, 9):
        numbers = list(range(1000, 1000 + count))
        words = [b"%03d" % i + b"z" * 17 for i in range(count)]
        write(tmp_path / "file", 512, "c", numbers, [0.5] * count, words, 10_000)
        pages_there = 3 + sum(-(-(count + 1) // (full + 1)) for full in (12, 16))
        assert (tmp_path / "file").stat().st_size == 512 * pages_there, count


def test_a_large_table(tmp_path):
    numbers = list(range(0, 150_000, 3))
    words = [b"text %d" % (i % 977) for i in numbers]
    write(tmp_path / "file", 4096, "c", numbers, [i / 8 for i in numbers], words, 1 << 14)
    assert_written(tmp_path / "file", "c", numbers, [i / 8 for i in numbers], words)


written_rows = st.lists(
    st.tuples(
        st.one_of(st.integers(-(2**63), 2**63 - 1), st.sampled_from(INTEGERS)),
        st.one_of(st.floats(), st.sampled_from(REALS), st.integers(-(10**16), 10**16).map(float)),
        st.one_of(
            st.binary(max_size=40),
            st.text(max_size=40).map(str.encode),
            st.tuples(st.integers(0, 3000), st.binary(max_size=3)).map(lambda t: b"x" * t[0] + t[1]),
        ),
    ),
    max_size=60,
    unique_by=lambda row: row[0],
)


@settings(max_examples=70)
@given(written_rows, st.sampled_from([512, 2048, 65536]), st.sampled_from(["", "c", "c" * 100]), st.integers(1, 60))
def test_anything_is_written_as_sqlite_would(folder, rows, page_size, word, at_once):
    numbers, reals, words = ([row[i] for row in sorted(rows, key=lambda row: row[0])] for i in range(3))
    write(folder / "any", page_size, word, numbers, reals, words, at_once)
    assert_written(folder / "any", word, numbers, reals, words, churn=False)


def test_what_sqlite_makes_of_real_numbers(tmp_path):
    """Whole numbers are stored as integers, and come back as they would from a row that SQLite has written."""
    path = tmp_path / "file"
    reals = [value for value in REALS if value == value]  # noqa: PLR0124
    write(path, 4096, "c", list(range(len(reals))), reals, [b""] * len(reals), 100)
    with connect(path) as connection:
        ours = connection.execute("select r from t").fetchall()
        connection.execute("create table other (r real)")
        connection.executemany("insert into other values (?)", ((value,) for value in reals))
        assert repr(ours) == repr(connection.execute("select r from other").fetchall())


@pytest.mark.parametrize("count", [1, 8, 30])
def test_records_of_many_columns(tmp_path, count):
    """As many as a record may have, a constant among them, and not one more."""
    path = tmp_path / "database"
    with connect(path) as connection:
        names = ", ".join(f"c{i}" for i in range(count))
        connection.execute(f"create table t (n integer, {names}, primary key (n)) without rowid")
        root, next_page = pages.place(connection, "t").root, 3
    integers = np.array([[1, 2, 3], [7, 70, 700]])
    columns = [
        (record_kernels.INTEGER, 0),
        *[(record_kernels.INTEGER, 1)] * (count - 1),
        (record_kernels.CONSTANT, 5000),
    ]
    rows, nothing = np.arange(3), texts_of([b""])
    data, begins, ends = records_of(columns, integers, np.empty((0, 3)), nothing, "", rows, rows * 0)
    with path.open("rb+") as file:
        tree = pages.IndexTree(file, 4096, next_page)
        tree.add(data, begins, ends, LAST)
        tree.finish(root)
        pages.set_page_count(file, tree.next_page - 1)
    with connect(path) as connection:
        checked(connection)
        expected = [(n, *[value] * (count - 1), 5000) for n, value in integers.T.tolist()]
        assert connection.execute("select * from t").fetchall() == expected
    with pytest.raises(ValueError, match="32 columns"):
        records_of([(record_kernels.INTEGER, 0)] * 32, integers, np.empty((0, 3)), nothing, "", rows, rows)


@pytest.mark.parametrize("before", range(5))
@pytest.mark.parametrize("longest", [20_000, 300_000])
def test_the_page_for_locks_is_left_alone(tmp_path, before, longest):
    """SQLite holds a file for corrupt in which the page at 1 GiB is used; whatever page comes to lie there."""
    path, size, lock = tmp_path / "file", 65536, 2**30 // 65536 + 1
    (root, _), _ = empty(path, size)
    numbers = list(range(40))
    words = [b"%02d" % i + b"z" * longest for i in numbers]
    rows = np.arange(len(numbers))
    data, begins, ends = records_of(
        PLAIN_COLUMNS, np.array([numbers]), np.zeros((1, len(rows))), texts_of(words), "c", rows, rows
    )
    with path.open("rb+") as file:
        tree = pages.IndexTree(file, size, lock - before)  # those between are holes of the file
        for i in range(0, len(rows), 5):
            tree.add(data, begins[i : i + 5], ends[i : i + 5], LAST if i + 5 == len(rows) else GO_ON)
        tree.finish(root)
        pages.set_page_count(file, tree.next_page - 1)
        assert file.seek(0, 2) == (tree.next_page - 1) * size
        file.seek((lock - 1) * size)
        assert not any(file.read(size))
    with connect(path) as connection:
        said = connection.execute("pragma quick_check(20000)").fetchall()
        assert [row for row in said if "never used" not in row[0]] == []
        assert [row[1].encode() for row in connection.execute("select r, x from t")] == words


def test_the_page_for_locks_is_not_the_last(tmp_path):
    """A file whose last page it would be ends before it."""
    path, size, lock = tmp_path / "file", 65536, 2**30 // 65536 + 1
    (root, _), _ = empty(path, size)
    with path.open("rb+") as file:
        data, _, ends = records_of(
            PLAIN_COLUMNS, np.array([[1]]), np.zeros((1, 1)), texts_of([b"z" * 60_000]), "c", *[np.arange(1)] * 2
        )
        tree = pages.IndexTree(file, size, lock - 1)
        tree.add(data, np.array([0]), ends, LAST)
        tree.finish(root)
        assert tree.next_page == lock
        pages.set_page_count(file, tree.next_page - 1)
    with connect(path) as connection:
        assert connection.execute("select length(x) from t where r > -1").fetchall() == [(60_000,)]
        connection.execute("insert into t values ('d', 1, 1, ?)", ("y" * 200_000,))
        assert connection.execute("select length(x) from t where r > -1").fetchall() == [(60_000,), (200_000,)]
        said = connection.execute("pragma quick_check(20000)").fetchall()
        assert all("never used" in row[0] for row in said)


# Reading

WANTED = pages.Wanted("cluster", "c1", "date", "2021-06-", "nodes")
WHERE = "cluster = ? and date between ? and ?"
VALUES = ("c1", "2021-06-01", "2021-06-31")
READ_INTEGERS, READ_TEXTS = ["a", "b"], ["nodes", "name", "date"]


def table(path, page_size, before="", after="", vacuum="none"):
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute(f"pragma page_size = {page_size}")
    connection.execute(f"pragma auto_vacuum = {vacuum}")
    connection.execute("pragma synchronous = off")
    connection.execute(
        f"create table t ({before} cluster text, a integer, date text, nodes text, name text, b integer,"
        f" seq integer primary key {after})"
    )
    connection.execute("create index by_a on t (a, cluster)")
    connection.execute("create index by_date on t (cluster, date)")
    return connection


def by_pages(path, connection, blocks=None):
    place = pages.place(connection, "t")
    if blocks is None:
        blocks = pages.blocks(connection, "t", "seq", WANTED)
    return pages.read(path, place, blocks, WANTED, READ_INTEGERS, READ_TEXTS)


def as_rows(found):
    integers, texts = found
    words = [texts.data[a:b].tobytes() for a, b in itertools.pairwise(texts.offsets.tolist())]
    assert len({*words}) == len(words)
    columns = [[words[code] for code in column] for column in texts.codes.tolist()]
    return list(zip(*integers.tolist(), *columns, strict=True))


def by_sql(connection):
    names = ", ".join(READ_INTEGERS + READ_TEXTS)
    connection.text_factory = bytes
    rows = connection.execute(f"select {names} from t where {WHERE} and nodes <> '' order by seq", VALUES).fetchall()
    connection.text_factory = str
    return rows


def assert_read(path, connection):
    assert as_rows(by_pages(path, connection)) == by_sql(connection)
    query = "select a from t where cluster = ? group by a having count(*) > 1 order by a"
    for cluster in ("c1", "c", "c11", "none", ""):
        found = pages.repeated(path, pages.place(connection, "by_a"), cluster)
        assert [(n,) for n in found.tolist()] == connection.execute(query, (cluster,)).fetchall()
        parts = [pages.repeated(path, pages.place(connection, "by_a"), cluster, part, 3) for part in range(3)]
        assert np.array_equal(np.unique(np.concatenate(parts)), found)
        least = np.full(8, 2**63 - 1)
        for part in range(3):
            pages.repeated(path, pages.place(connection, "by_a"), cluster, part, 3, least)
        by_block = f"select seq >> {table_kernels.BLOCK_BITS}, min(a) from t where cluster = ? group by 1"
        expected = dict(connection.execute(by_block, (cluster,)))
        assert least.tolist() == [expected.get(block, 2**63 - 1) for block in range(8)]


clusters = st.sampled_from(["c1", "c1", "c1", "c", "c11", "c2", "", "C1", "c1\0"])
dates = st.sampled_from(["2021-06-01", "2021-06-15", "2021-06-31", "2021-05-31", "2021-07-01", "2021-060", ""])
long_texts = st.one_of(
    st.text(max_size=20),
    st.sampled_from(["", "\0", "n1", "n1,n2", "é" * 70]),
    st.integers(0, 2100).map(lambda n: "node,"[: n % 5] + "x" * n),
    st.sampled_from([476, 477, 478, 4000, 4061, 4062, 9000, 70_000]).map(lambda n: "y" * n),
)
integers = st.one_of(st.sampled_from(INTEGERS), st.integers(-(2**63), 2**63 - 1), st.integers(0, 5))
row_numbers = st.one_of(st.integers(1, 50_000), st.integers(-5000, 5000), st.sampled_from([2**63 - 1, -(2**63), 2**62]))
table_rows = st.lists(
    st.tuples(clusters, integers, dates, long_texts, long_texts, integers, row_numbers), max_size=60,
    unique_by=lambda row: row[-1],
)  # fmt: skip


@settings(max_examples=60)
@given(
    table_rows, table_rows, st.sampled_from([512, 1024, 4096, 65536]), st.sampled_from(["none", "full", "incremental"]),
    st.integers(2, 4), st.booleans(),
)  # fmt: skip
def test_pages_are_read_as_sql_reads_them(folder, rows, later, page_size, vacuum, every, whole):
    path = folder / "read"
    connection = table(path, page_size, vacuum=vacuum)
    with contextlib.closing(connection):
        insert = "insert or replace into t values (?, ?, ?, ?, ?, ?, ?)"
        connection.execute("begin")
        connection.executemany(insert, rows)
        connection.execute("commit")
        assert_read(path, connection)
        connection.execute("delete from t where seq % ? = 0", (every,))
        connection.execute("update t set nodes = nodes || 'more', name = '' where seq % 5 = 1")
        assert_read(path, connection)
        connection.execute("begin")
        connection.executemany(insert, later)
        connection.execute("commit")
        assert_read(path, connection)
        if whole:
            connection.execute("vacuum")
            assert_read(path, connection)


@pytest.mark.parametrize("page_size", [512, 4096, 65536])
def test_many_rows_are_read(tmp_path, page_size):
    """Some blocks only, in a tree of several levels."""
    path, dice = tmp_path / "file", random.Random(page_size)
    with contextlib.closing(table(path, page_size)) as connection:
        rows = (
            ("c1" if i // 6000 % 2 else "c2", i // 2 if i % 50 == 0 else i, "2021-06-09", f"n{i}", "p" * (i % 40), i, i)
            for i in range(-1000, 60_000)
        )
        connection.execute("begin")
        connection.executemany("insert into t values (?, ?, ?, ?, ?, ?, ?)", rows)
        connection.execute("commit")
        assert_read(path, connection)
        gone = [(dice.randrange(60_000),) for _ in range(30_000)]
        connection.execute("begin")
        connection.executemany("delete from t where seq = ?", gone)
        connection.executemany("update t set nodes = nodes || ',' || nodes where seq = ?", gone[:3000])
        connection.execute("commit")
        assert_read(path, connection)
        with pages.held(path):
            assert_read(path, connection)


def test_wide_tables_and_added_columns(tmp_path):
    path = tmp_path / "file"
    with contextlib.closing(table(path, 1024, before="".join(f"w{i} text," for i in range(140)))) as connection:
        names = ", ".join(f"w{i}" for i in range(140))
        values = ("word",) * 140
        insert = f"insert into t (cluster, a, date, nodes, name, b, {names}) values ('c1', ?, '2021-06-01', ?, 'x', 5"
        for i in range(30):
            connection.execute(f"{insert}{', ?' * 140})", (i, "n" * (i * 60 + 1), *values))
        assert_read(path, connection)
        connection.execute("alter table t add column more integer default 5")
        assert_read(path, connection)
        place = pages.place(connection, "t")
        blocks = pages.blocks(connection, "t", "seq", WANTED)
        assert pages.read(path, place, blocks, WANTED, ["more"], READ_TEXTS) is None
        behind = pages.Wanted("cluster", "c1", "date", "2021-06-", "more")
        assert pages.read(path, place, blocks, behind, ["a"], ["name"]) is None


@pytest.mark.parametrize(
    ("column", "value"),
    [("a", None), ("a", 1.5), ("a", b"1"), ("a", "x"), ("name", None), ("name", b"x"), ("nodes", b"n"), ("nodes", b""),
     ("cluster", b"c1")],
)  # fmt: skip
def test_values_of_another_type_are_left_to_sqlite(tmp_path, column, value):
    with contextlib.closing(table(tmp_path / "file", 1024)) as connection:
        connection.execute("insert into t values ('c1', 3, '2021-06-02', 'n1', 'x', 5, 1)")
        connection.execute("insert into t values ('c1', 3, '2021-06-02', 'n1', 'x', 5, 2)")
        assert_read(tmp_path / "file", connection)
        connection.execute(f"update t set {column} = ? where seq = 2", (value,))
        assert by_pages(tmp_path / "file", connection) is None
        if column == "a":
            found = pages.repeated(tmp_path / "file", pages.place(connection, "by_a"), "c1")
            assert found is None


def test_names_longer_than_an_index_page_holds(tmp_path):
    name = "c" * 5000
    with contextlib.closing(table(tmp_path / "file", 4096)) as connection:
        connection.executemany(
            "insert into t values (?, 7, '2021-06-02', 'n1', 'x', 5, null)", [(name[:4999] + "d",), (name,), (name,)]
        )
        assert pages.repeated(tmp_path / "file", pages.place(connection, "by_a"), name) is None


def test_which_files_are_readable(tmp_path):
    path = tmp_path / "file"
    table(path, 4096).close()
    assert pages.readable(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + b"\x20" + whole[21:])
    assert not pages.readable(path), "reserved bytes"
    path.write_bytes(b"")
    assert not pages.readable(path), "empty"
    path.unlink()
    with connect(path) as connection:
        connection.execute("pragma encoding = 'UTF-16le'")
        connection.execute("create table t (a)")
    assert not pages.readable(path)
    path.unlink()
    with connect(path) as connection:
        connection.execute("pragma journal_mode = wal")
        connection.execute("create table t (a)")
        assert not pages.readable(path)


def test_a_file_that_has_grown_since_it_was_mapped_is_left_to_sqlite(tmp_path):
    path = tmp_path / "file"
    with contextlib.closing(table(path, 512)) as connection:
        connection.executemany(
            "insert into t values ('c1', ?, '2021-06-02', 'n1', 'x', 5, null)", ((i,) for i in range(99))
        )
        with pages.held(path):
            connection.executemany(
                "insert into t values ('c1', ?, '2021-06-02', 'n1', 'x', 5, null)", ((i,) for i in range(2999))
            )
            assert by_pages(path, connection) is None
            assert pages.repeated(path, pages.place(connection, "by_a"), "c1") is None
        assert_read(path, connection)


@pytest.fixture(scope="module")
def small(folder):
    """A file of a few levels, with overflow pages, and where its table and index lie."""
    path, dice = folder / "small", random.Random(3)
    with contextlib.closing(table(path, 512)) as connection:
        for i in range(150):
            row = (dice.choice(["c1", "c1", "c2"]), i // 2, "2021-06-05", "n" * dice.randint(1, 9), "x" * (i % 9), i, i)
            connection.execute("insert into t values (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("update t set name = ? where seq % 30 = 7", ("long" * 400,))
        return path.read_bytes(), pages.place(connection, "t"), pages.place(connection, "by_a")


BLOCKS = np.array([0, 5, 2**50], dtype=np.int64)
changes = st.lists(
    st.tuples(
        st.integers(0, 2**20),
        st.one_of(st.integers(0, 600), st.sampled_from([0, 3, 5, 8, 9, 10, 11])),
        st.one_of(st.integers(0, 255), st.sampled_from([0, 127, 128, 255])),
        st.sampled_from([1, 1, 1, 2, 9]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=250)
@given(changes, st.integers(0, 600))
@example([(0, 16, 0, 2)], 0)
@example([(0, 16, 255, 2)], 0)
def test_damage_does_no_harm(folder, small, flips, cut):
    """Anything may come of it, but no crash, no endless loop and nothing from beyond the file."""
    whole, place, index = small
    data = bytearray(whole)
    for page, at, value, times in flips:
        begin = at + page % (len(data) // 512) * 512
        data[begin : begin + times] = bytes([value] * times)[: max(0, len(data) - begin)]
    path = folder / "damaged"
    path.write_bytes(data[: len(data) - cut if cut > 500 else len(data)])
    found = pages.read(path, place, BLOCKS, WANTED, READ_INTEGERS, READ_TEXTS)
    assert found is None or all(len(row) == 5 for row in as_rows(found))
    repeated = pages.repeated(path, index, "c1", least=np.zeros(8, dtype=np.int64))
    assert repeated is None or len(repeated) <= len(data)


def test_damage_everywhere(folder, small):
    """Bytes of every place in a page, as 13 and the size of a page have no divisor in common."""
    whole, place, index = small
    path = folder / "everywhere"
    path.write_bytes(whole)
    with path.open("rb+", buffering=0) as file:
        for at in range(0, len(whole), 13 if hasattr(table_kernels.read_table, "py_func") else 997):
            for value in (0xFF, whole[at] ^ (1 << at % 8)):
                file.seek(at)
                file.write(bytes([value]))
                pages.read(path, place, BLOCKS, WANTED, READ_INTEGERS, READ_TEXTS)
                pages.repeated(path, index, "c1", least=np.zeros(8, dtype=np.int64))
            file.seek(at)
            file.write(whole[at : at + 1])


@pytest.mark.parametrize("fields", [(0, 1, 2), (0, 1, 2, 2), (1, 2, 3, 4)])
def test_fields_that_are_not_the_columns_are_refused(fields):
    integers, reals = np.zeros((1, 1), dtype=np.int64), np.zeros((1, 1))
    with pytest.raises(ValueError, match="another order"):
        Encoder(PLAIN_COLUMNS, integers, reals, texts_of([b"x"]), integers[:0], "w", fields)


@settings(max_examples=40)
@given(
    st.sets(
        st.builds(lambda block, at: (block << table_kernels.BLOCK_BITS) + at, st.integers(0, 6),
                  st.sampled_from([0, 1, 2, 3, 100, 4094, 4095])),
        max_size=12,
    )
)  # fmt: skip
@example({4096})
@example({1, 4097, 8191, 8192})
def test_blocks_are_those_of_the_rows_that_are_wanted(numbers):
    """A block of which the first row is the only one that is wanted too, and none twice."""
    with connect(":memory:") as connection:
        connection.execute("create table jobs (number integer primary key, cluster text, date text)")
        rows = [(number, "c1", f"2021-06-{1 + number % 3:02}") for number in numbers]
        rows += [(100_000, "c2", "2021-06-01"), (200_000, "c1", "2021-05-31"), (300_000, "c1", "2021-07-01")]
        connection.executemany("insert into jobs values (?, ?, ?)", rows)
        found = pages.blocks(connection, "jobs", "number", WANTED)
    assert found.tolist() == sorted({number >> table_kernels.BLOCK_BITS for number in numbers})
