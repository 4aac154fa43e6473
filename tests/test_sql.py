"""sql: the tables that older tools know, read and never written, whatever stands in them."""

import contextlib
import csv
import io
import itertools
import json
import os
import pty
import select
import signal
import sqlite3
import subprocess
import sys
import time

import naive
import pytest
import sites
from hypothesis import given, settings
from hypothesis import strategies as st

from jobeff.cli import main
from jobeff.steps.load import load_slurm
from jobeff.store import general, tables
from jobeff.views import sql

START = 1_622_498_400
HOSTILE = ["=1+1", "+1", "-1", "@x", "\tx", "a\x1b[31m", "a\nb", 'a,"b"', "å", "'", "\x1f", "\u202e", "x" * 500]
ENDLESS = "with recursive x(n) as (select 1 union all select n + 1 from x) select count(*) from x"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site with a job per hostile name; of its databases some are there."""
    site = sites.make(tmp_path_factory.mktemp("sql"))
    jobs = [
        naive.Job("c1", i, "p", "u", START, START + 60 * i, 2, "COMPLETED", ("n1", "n2"))
        for i in range(1, len(HOSTILE) + 1)
    ]
    sites.write_log(site.root, "day", jobs)
    load_slurm(site)
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"))) as connection, connection:
        connection.executemany("update jobs set jobname = ? where job_id = ?", zip(HOSTILE, range(1, 99), strict=False))
    tables.open_database(tables.database(site.root, "efficiency"), "efficiency").close()
    tables.database(site.root, "projects").touch(0o640)  # somebody is just about to make it
    with contextlib.closing(
        tables.open_database(tables.database(site.root, "storage_history"), "storage_history")
    ) as connection:
        connection.execute("insert into storage_history values ('p', '2021-06-01', 1, 2, '/x', 3, 4, '/y', 5)")
        connection.execute("insert into last_updated values ('storage_history', '2021-06-01', '01:02:03')")
    return site


@pytest.fixture
def run(site, capsysbinary, monkeypatch):
    """Runs `jobeff sql`; gives its exit status, output and errors."""

    def command(*arguments, before=(), stdin=b""):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        with pytest.raises(SystemExit) as done:
            main(["-c", str(site.config.file), *before, "sql", *arguments])
        out, err = capsysbinary.readouterr()
        return done.value.code, out.decode(), err.decode()

    yield command
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def rows(run, query):
    code, out, err = run(query, before=["--json"])
    assert (code, err) == (0, "")
    return json.loads(out)


COLUMNS = {
    "jobs": "date job_id proj_id user start end partition cores cluster nodes jobname jobstate",
    "current_projects": "proj_id data updated",
    "storage_history": "proj_id date usage quota path noback_usage noback_quota noback_path inbox",
    "corehour_history": "proj_id date cluster grant 30day_usage",
    "corehour_monthly": "proj_id month cluster used",
    "corehour_weekly": "proj_id week cluster used",
    "projects": "proj_id start end pi deputy technical members active type mail",
    "last_updated": "type date time",
}


@pytest.mark.parametrize("table", COLUMNS)
def test_the_old_tables_are_there_with_their_columns(run, table):
    assert run("--csv", f"select * from {table}")[1].splitlines()[0] == ",".join(COLUMNS[table].split())


@pytest.mark.parametrize("table", [name for name in COLUMNS if general.TABLES[name].database])
def test_the_old_tables_are_those_of_our_databases(tmp_path, table):
    """All databases are there; a row of each table comes out as it went in."""
    for name in general.DATABASES:
        tables.open_database(tables.database(tmp_path, name), name).close()
    database = tables.database(tmp_path, general.TABLES[table].database)
    with contextlib.closing(sqlite3.connect(database, isolation_level=None)) as connection:
        about = connection.execute(f"pragma table_info({table})").fetchall()
        values = [
            7 if kind.lower() == "integer" else 1.5 if kind.lower() == "real" else name for _, name, kind, *_ in about
        ]
        connection.execute(f"insert into {table} values ({', '.join('?' * len(values))})", values)
    expected = dict(zip((name for _, name, *_ in about), values, strict=True))
    with contextlib.closing(general.connect(tmp_path)) as connection:
        [row] = connection.execute(f"select * from {table}").fetchall()
    assert row == tuple(expected[name] for name in COLUMNS[table].split())


def test_what_is_not_there_yet_is_empty(run):
    assert rows(run, "select * from projects") == []
    assert rows(run, "select count(*) as n from corehour_monthly") == [{"n": 0}]
    assert [row["type"] for row in rows(run, "select type from last_updated order by 1")] == ["jobs", "storage_history"]


def test_all_databases_can_be_joined(run):
    query = """select a.job_id from accounting.jobs as a left join efficiency.jobs as e using (cluster, job_id, start)
               join storage_history as s on s.proj_id = a.proj_id where e.job_id is null and a.job_id = 3"""
    assert rows(run, query) == [{"job_id": 3}]


def test_where_there_is_no_database_it_is_1(tmp_path, capsys):
    root = sites.make(tmp_path).root
    with pytest.raises(SystemExit) as done:
        main(["-c", str(root / "jobeff.toml"), "sql", "select 1"])
    assert done.value.code == 1
    assert "there is no database yet" in capsys.readouterr().err
    assert not (root / "db").exists()


@pytest.mark.parametrize(
    "statement",
    ["delete from jobs", "delete from accounting.jobs", "update accounting.jobs set cores = 1", "drop view jobs",
     "create table x(a)", "create temp table x(a)", "attach 'x.sqlite' as x", "vacuum into 'x.sqlite'", "begin",
     "pragma journal_mode = wal", "pragma query_only = off", "pragma accounting.user_version = 9",
     "select load_extension('x')", "update sqlite_master set type = 'x'",
     "insert into storage_history select * from storage_history"],
)  # fmt: skip
def test_nothing_can_be_changed(run, site, tmp_path, monkeypatch, statement):
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in (site.root / "db").iterdir()}
    code, out, err = run(statement)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "Nothing was changed" in err
    assert {path: path.read_bytes() for path in (site.root / "db").iterdir()} == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("statement", "why"),
    [("selec 1", "syntax error"), ("select * from nowhere", "no such table: nowhere"), ("select '", "unrecognized"),
     ("select ?", "bindings"), ("select 1 where \x1b[31m", r"\x1b"), ("select 1\0", "null character"),
     ("select " + "x" * 5000, "no such column"), ("select abs(-9223372036854775808)", "overflow")],
)  # fmt: skip
def test_what_is_wrong_is_one_line(run, statement, why):
    code, out, err = run(statement)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert why in err
    assert err.replace("\n", "").isprintable()
    assert len(err) < 800


def test_several_statements(run):
    assert run("select 1 as a; -- b;\nselect ';' as c;")[1] == "a\n-\n1\nc\n-\n;\n"
    assert run(stdin=b"select 2 as a;\n\nselect 3 as b -- ;\n")[1] == "a\n-\n2\nb\n-\n3\n"
    assert run("select 1 as a; nonsense; select 2")[:2] == (1, "a\n-\n1\n")
    assert run("")[:2] == run(" ; ")[:2] == run("/* nothing */")[:2] == (0, "")


pieces = st.sampled_from(["select 1", ";", "'", '"', "--", "\n", "/*", "*/", "a", "create trigger x", "end", " "])


@given(st.lists(pieces, max_size=12).map("".join))
def test_splitting_loses_nothing(text):
    found = list(sql.statements(text))
    assert "".join(found).rstrip("; \n") == text.rstrip("; \n")
    assert all(sqlite3.complete_statement(statement) for statement in found[:-1])


def test_a_table_is_aligned_and_escaped(run):
    out = run("select job_id, jobname, null as none, x'00ff' as raw, 0.1 + 0.2 as x from jobs order by job_id")[1]
    assert out.replace("\n", "").isascii()
    assert out.replace("\n", "").isprintable()
    lines = out.splitlines()
    assert len(lines) == 2 + len(HOSTILE)
    assert lines[0].split() == ["job_id", "jobname", "none", "raw", "x"]
    assert {len(line) for line in lines} == {len(lines[0])}
    assert lines[2].split() == ["1", "=1+1", "-", "x'00ff'", "0.3"]
    assert lines[7].split()[1] == r"a\x1b[31m"


def test_a_table_fits_the_terminal():
    with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        out = io.BytesIO()
        query = f"select 123456789012 as number, '{'x' * 300}' as wide, '2021-05-30' as day, '{'y' * 40}' as less"
        sql.run(connection, query, "table", out, 80)
    header, _, line = out.getvalue().decode().splitlines()
    assert max(len(header), len(line)) <= 80
    number, wide, day, less = line.split()
    assert (number, day) == ("123456789012", "2021-05-30")
    assert wide.endswith("xxx...")
    assert less.startswith("yyyy")


def test_csv_does_not_run(run):
    code, out, err = run("--csv", "select jobname, job_id, -1.5 as x, null as y from jobs order by job_id")
    assert (code, err) == (0, "")
    found = list(csv.reader(io.StringIO(out, newline="")))
    assert found[0] == ["jobname", "job_id", "x", "y"]
    escaped = [f"'{name}" if name[0] in "=+-@\t" else name for name in HOSTILE]
    assert found[1:] == [[name, str(i), "-1.5", ""] for i, name in enumerate(escaped, 1)]


@pytest.mark.parametrize("divided", [",", ";", "\t"])
@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
@pytest.mark.parametrize("before", ["", "x;", "x\t", "x\n", 'x";', "x\r\n"])
def test_csv_does_not_run_wherever_a_spreadsheet_divides_it(divided, sign, before):
    out = io.BytesIO()
    with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        query = f"select 'a' as a, '{before}{sign}1+1' as b, -5 as c"
        sql.run(connection, query, "csv", out, None)
    cells = itertools.chain(*csv.reader(io.StringIO(out.getvalue().decode(), newline=""), delimiter=divided))
    assert not [cell for cell in cells if cell.startswith(tuple("=+-@\uff1d\uff0b\uff0d\uff20")) and cell != "-5"]


values = st.one_of(
    st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False, allow_infinity=False),
    st.binary(max_size=5), st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8),
)  # fmt: skip


@settings(max_examples=60)
@given(st.lists(st.tuples(values, values), max_size=5))
def test_json_and_csv_say_what_is_there(found):
    """However odd: JSON gives the values, CSV as many rows and cells, none of them a formula."""
    with contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection:
        connection.execute("create table t (a, b)")
        connection.executemany("insert into t values (?, ?)", found)
        text, table, plain = io.BytesIO(), io.BytesIO(), io.BytesIO()
        for form, out in (("json", text), ("csv", table), ("table", plain)):
            sql.run(connection, "select a, b from t order by rowid", form, out, None)
    expected = [[value.hex() if isinstance(value, bytes) else value for value in row] for row in found]
    assert [[row["a"], row["b"]] for row in json.loads(text.getvalue())] == expected
    cells = list(csv.reader(io.StringIO(table.getvalue().decode(), newline="")))
    assert [len(row) for row in cells] == [2] * (1 + len(found))
    for row, want in zip(cells[1:], expected, strict=True):
        for cell, value in zip(row, want, strict=True):
            assert not (isinstance(value, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r")))
            assert isinstance(value, str) or value is None or cell == str(value) or float(cell) == value
    assert plain.getvalue().count(b"\n") == 2 + len(found)


def test_json_keeps_columns_of_one_name_apart(run):
    assert rows(run, "select 1 as a, 2 as a, 1e999 as b") == [{"a": 1, "a_2": 2, "b": "inf"}]


def test_nobody_waits_for_one_who_looks_at_rows(site):
    """While rows are shown, the database can be written."""
    written = []

    class Slow(io.BytesIO):
        def write(self, data):
            if not written:
                with (
                    contextlib.closing(
                        sqlite3.connect(tables.database(site.root, "accounting"), timeout=0)
                    ) as connection,
                    connection,
                ):
                    written.append(connection.execute("update jobs set cores = cores").rowcount)
            return super().write(data)

    with contextlib.closing(sql.connect(site.config)) as connection:
        sql.run(connection, "select * from jobs, jobs as b, jobs as c", "csv", Slow(), None)
    assert written == [len(HOSTILE)]


def test_reading_does_not_wait_for_one_who_writes(run, site):
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "accounting"), isolation_level=None)) as writer:
        writer.execute("begin immediate")
        writer.execute("update jobs set cores = 99")
        assert rows(run, "select distinct cores from jobs") == [{"cores": 2}]
        writer.execute("rollback")


def command(site, *arguments):
    return [sys.executable, "-m", "jobeff", "-c", site.config.file, "sql", *arguments]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_stops_a_query(site, number, code):
    with subprocess.Popen(command(site, ENDLESS), stderr=subprocess.PIPE) as run:
        time.sleep(1.5)
        run.send_signal(number)
        assert run.wait(5) == code
        assert b"Traceback" not in run.stderr.read()


def test_one_who_stops_reading_is_no_error(site):
    query = "select * from jobs, jobs as b, jobs as c"
    with subprocess.Popen(command(site, "--csv", query), stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.stdout.close()
        assert run.wait(10) == 0
        assert run.stderr.read() == b""


def test_the_prompt(site):
    """What a user types, what comes back; Ctrl-C stops a query and not the prompt."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [str(part) for part in command(site)])  # noqa: S606

    heard = b""

    def wait_for(*words):
        nonlocal heard
        began = time.monotonic()
        for word in words:
            while word not in heard:
                assert time.monotonic() - began < 15, heard
                if select.select([terminal], [], [], 0.1)[0]:
                    heard += os.read(terminal, 65536)
            heard = heard.partition(word)[2]

    try:
        wait_for(b"jobeff> ")
        for typed, *answers in [
            (b"select 41 + 1\n", b"...> "),
            (b"as answer;\n", b"\r\n    42\r\n", b"jobeff> "),
            (b"nonsense;\n", b"syntax error", b"jobeff> "),
            (b".tables\n", b"efficiency.jobs (job_id, cluster", b"jobeff> "),
            (f"{ENDLESS};\n".encode(), b"from x;\r\n"),
        ]:
            os.write(terminal, typed)
            wait_for(*answers)
        time.sleep(0.5)
        os.write(terminal, b"\x03")
        wait_for(b"interrupted", b"jobeff> ")
        os.write(terminal, b".quit\n")
        deadline = time.monotonic() + 10
        while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        os.close(terminal)
        os.kill(pid, signal.SIGKILL)  # left behind, it would be what another test waits for
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0
