"""Input that bites, through every parser and reader: nothing raises or hangs, the rest is read, it is told in short."""

import base64
import contextlib
import csv
import io
import json
import os
import socket
import sqlite3
import zlib

import bites
import pytest
import sites
from hypothesis import given
from hypothesis import strategies as st

from jobeff.errors import SHOWN_CHARACTERS, SetAside
from jobeff.sources import legacy
from jobeff.store import archive, shards

LONG = 2 << 20
LINES = {
    "NULs": bytes(4096),
    "long": b"x" * LONG,
    "long NULs": bytes(LONG),
    "not UTF-8": bytes(range(128, 256)),
    "escapes": b"\x1b[31m\x1b]0;title\x07\x9b2J\r\x08\x7f",
    "lists within lists": b"[" * 200_000,
    "objects within objects": b'{"a":' * 100_000,
    "a number without end": b'{"jobs":[{"job_id":' + b"9" * 100_000 + b"}]}",
    "quotes": b'"' * 9999,
    "a quote": b'"unclosed',
    "SQL": b"'; drop table jobs; --",
    "not numbers": b"nan|inf|-1|1e308|9223372036854775808|,;\t:",
    "many nodes": bites._site(7).replace(b"n1", b"n[1-999999999]"),
    "many times many nodes": bites._site(7).replace(b"n1", b"n" + b"[1-99]" * 40),
    "a bracket": bites._site(7).replace(b"n1", b"n[1-"),
    "brackets in brackets": bites._sacct(7).replace(b"|n1|", b"|n[1-[2]]|"),
    "a node that climbs": bites._site(7).replace(b"n1", b"../../etc/x"),
    "an absolute node": bites._sacct(7).replace(b"|n1|", b"|/abs|"),
    "a long node": bites._site(7).replace(b"n1", b"n" * 300),
    "a cluster that climbs": bites._sacct(7).replace(b"|c1|", b"|../../etc|"),
    "a large job id": bites._site(7).replace(b"jobid=7", b"jobid=9223372036854775808"),
    "a job id as 007": bites._sacct(7).replace(b"7|7|", b"007|007|"),
    "backward times": bites._site(7).replace(b"end=1622503600", b"end=1"),
    "surrogates": b'{"jobs": [{"name": "\\ud800", "account": "\\udfff", "user": {"a": [null]}, "time": 1e999}]}',
    "colons": b": " * 50_000,
    "commas": b"," * 50_000,
}
WHOLE = {"empty": b"", "a newline": b"\n", "a mark": b"\xef\xbb\xbf", "SQLite": b"SQLite format 3\0" + b"\xff" * 5000,
         "gzip": b"\x1f\x8b\x08" + b"\xff" * 99, "zstd": b"\x28\xb5\x2f\xfd" + b"\xff" * 99}  # fmt: skip
NAME_GOES_ON = {"ask"}
"""A line without the delimiter, which nobody can know, is more of the job name before it."""

ONE_THING = {"sacct-json", "projects-json", "config"}
"""What is one document: from damage on, none of it need be read."""


def read(parser, path, content):
    path.write_bytes(content)
    aside = SetAside()
    rows = bites.PARSERS[parser].read(path, aside)
    for kind, where, why in aside.examples:
        told = f"{kind} {where} {why}"
        assert told.isascii()
        assert told.isprintable()
        assert len(told) < 3 * SHOWN_CHARACTERS
    return rows, aside


@pytest.mark.parametrize("parser", bites.PARSERS)
def test_what_is_good_is_read(tmp_path, parser):
    form = bites.PARSERS[parser]
    rows, aside = read(parser, tmp_path / "f", form.head + form.good(1) + form.good(2))
    assert len(rows) == 1 + (parser not in {"projects-json", "config"})
    assert aside.total == 0


@pytest.mark.parametrize("bite", LINES)
@pytest.mark.parametrize("parser", bites.PARSERS)
def test_a_line_that_bites_costs_no_other(tmp_path, parser, bite):
    form = bites.PARSERS[parser]
    good, _ = read(parser, tmp_path / "good", form.head + form.good(1) + form.good(2))
    line = LINES[bite].rstrip(b"\n") + form.end
    rows, aside = read(parser, tmp_path / "f", form.head + form.good(1) + line + form.good(2))
    if parser in NAME_GOES_ON:
        rows = [row._replace(jobname="x") for row in rows]
        assert len(rows) + aside.total == len(good)
    elif parser not in ONE_THING:
        assert rows == good
        assert aside.total
    assert set(map(repr, rows)) <= set(map(repr, good))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("bytes")


@pytest.mark.parametrize("parser", bites.PARSERS)
@given(data=st.data())
def test_damage_of_one_record_costs_no_other(folder, parser, data):
    """As disks and people do it: bytes changed, lost, or turned to NUL; line ends stay."""
    form = bites.PARSERS[parser]
    numbers = range(1, 1 + data.draw(st.integers(1, 4)))
    good, _ = read(parser, folder / "good", form.head + b"".join(map(form.good, numbers)))
    which = data.draw(st.sampled_from(numbers))
    record = form.good(which).removesuffix(form.end)
    begin, end = sorted(data.draw(st.integers(0, len(record))) for _ in range(2))
    length = end - begin
    harm = data.draw(st.one_of(st.just(b""), st.just(bytes(length)), st.binary(max_size=length + 3)))
    damaged = (record[:begin] + harm + record[end:]).replace(b"\n", b" ").replace(b"\r", b" ") + form.end
    content = b"".join(damaged if number == which else form.good(number) for number in numbers)
    rows, aside = read(parser, folder / "f", form.head + content)
    if parser in ONE_THING | NAME_GOES_ON:
        return
    others = [row for number, row in zip(numbers, good, strict=True) if number != which]
    found = [row for row in rows if row in others]
    assert [row for row in found if row in others] == [row for row in others if row in found]
    assert len(rows) <= len(good)
    lost = [row for row in others if row not in rows]
    assert not lost or aside.total, "lost without a word"
    # Without a header the first line of JSON lines tells the form; where that cannot be told the file is refused.
    refused = parser == "storage-json" and which == 1 and not rows
    assert not lost or refused or parser in {"projects", "grants"}


@pytest.mark.parametrize("parser", bites.PARSERS)
@given(content=st.binary(max_size=400))
def test_any_bytes_are_read_or_told(folder, parser, content):
    rows, aside = read(parser, folder / "any", bites.PARSERS[parser].head + content)
    assert parser != "config" or bool(rows) != bool(aside.total)


def test_a_name_is_escaped_where_a_value_of_it_is_told(tmp_path):
    _, aside = read("projects", tmp_path / "f", "Name: \u058f2\nStart: x\n".encode())
    assert aside.total


@given(st.dictionaries(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), st.floats(0, 1e15)), st.booleans())
def test_grants_that_are_written_are_read(folder, grants, colons):
    form = "{}:{!r}:x:y\n" if colons else "{},x,{!r},y\n"
    wanted = {name: hours for name, hours in grants.items() if not name.startswith("-")}
    rows, aside = read("grants", folder / "grants", "".join(form.format(*one) for one in grants.items()).encode())
    assert dict(rows) == wanted
    assert aside.total == len(grants) - len(wanted)


@given(st.lists(st.tuples(st.integers(1, 2**63 - 1), st.binary(max_size=300)), max_size=5), st.booleans())
def test_stores_that_are_written_are_read(folder, files, as_lines):
    path = folder / "n1.sqlite"
    path.unlink(missing_ok=True)
    if as_lines:
        lines = (b"%d\tn1\t%s\n" % (job_id, base64.b64encode(zlib.compress(text))) for job_id, text in files)
        path.write_bytes(b"".join(lines))
    else:
        with contextlib.closing(sqlite3.connect(path)) as connection:
            connection.execute("create table jobs (job_id, jobstats)")
            packed = ((job_id, zlib.compress(text)) for job_id, text in files)
            connection.executemany("insert into jobs values (?, ?)", packed)
            connection.commit()
    rows, aside = read("lines", path, path.read_bytes())
    assert [(row.job_id, row.text) for row in rows] == files
    assert aside.total == (as_lines and not files)


@pytest.mark.parametrize("bite", [*WHOLE, *LINES])
@pytest.mark.parametrize("parser", bites.PARSERS)
def test_a_file_that_bites_gives_nothing(tmp_path, parser, bite):
    content = WHOLE.get(bite) or LINES.get(bite, b"")
    assert read(parser, tmp_path / "f", content)[0] == []


# What is no file, in folders of every source and in the store


def socket_at(path):
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(f"/proc/self/fd/{folder}/{path.name}")
    finally:
        os.close(folder)


NO_FILES = {
    "pipe": os.mkfifo,
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("/nonexistent"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to a folder": lambda path: path.symlink_to("/etc"),
    "socket": socket_at,
}
FOLDERS = {
    "accounting": ("slurm/accounting/2021-06-01", "load slurm"),
    "a virtual cluster": ("slurm/accounting/virtual/2021-06-01", "load slurm"),
    "projects": ("projects/a", "load projects"),
    "storage": ("storage/a", "load storage"),
    "core hours": ("corehours/a", "load corehours"),
    "import": ("old/a.sqlite", "import old"),
}


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("folder", FOLDERS)
def test_what_is_no_file_is_named_and_not_opened(tmp_path, run, monkeypatch, folder, kind):
    sites.make(tmp_path)
    config = tmp_path / "jobeff.toml"
    config.write_text(
        config.read_text() + '[sources]\nprojects = "projects"\nstorage = "storage"\ncorehours = "corehours"\n'
    )
    monkeypatch.chdir(tmp_path)
    path, command = FOLDERS[folder]
    (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
    NO_FILES[kind](tmp_path / path)
    (tmp_path / path).with_name(os.fsdecode(b"empty\xff")).touch()  # a name need not be UTF-8
    code, _, told = run("-c", config, "--workers", 0, *command.split())
    assert code == 3
    assert path in told


@pytest.mark.parametrize("kind", NO_FILES)
def test_what_is_no_file_in_the_store_is_not_opened(tmp_path, kind):
    for name in ("2021-06.txt", "2021-07.txt.gz"):
        path = tmp_path / "archive" / "c1" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        NO_FILES[kind](path)
    assert archive.month_files(tmp_path, "c1") == {}
    assert [path.name for path in archive.no_files(tmp_path, "c1")] == ["2021-06.txt", "2021-07.txt.gz"]
    with pytest.raises(Exception, match="not a regular file"):
        archive.append(tmp_path / "archive" / "c1" / "2021-06.txt", "c1", [])
    shard = tmp_path / "2021-06.parquet"
    NO_FILES[kind](shard)
    with pytest.raises(shards.DamagedShardError):
        shards.read(shard)
    with pytest.raises(shards.DamagedShardError):
        shards.SampleReader().read(shard)


@pytest.mark.parametrize("kind", NO_FILES)
@pytest.mark.parametrize("command", ["load slurm", "sql select+1", "report project", "job 1"])
def test_a_database_that_is_no_file_is_named(tmp_path, run, kind, command):
    sites.make(tmp_path)
    path = tmp_path / "db" / "accounting.sqlite"
    path.parent.mkdir()
    NO_FILES[kind](path)
    code, _, told = run("-c", tmp_path / "jobeff.toml", *(word.replace("+", " ") for word in command.split()))
    assert code == 1
    assert "accounting.sqlite" in told or "there is no efficiency database" in told


# Stores of others

STORES = {
    "a view": "create table t (a); create view jobs as select 1 as job_id, 'x' as jobstats;",
    "a value that is made up": "create table jobs (job_id, jobstats as (zeroblob(1000000000)));"
    "insert into jobs values (1);",
    "a text that is made up": "create table jobs (job_id, jobstats as (printf('%.*c', 9000000, 'x')));"
    "insert into jobs values (1);",
    "a bomb": "create table jobs (job_id, jobstats);",
    "ids": "create table jobs (job_id, jobstats); insert into jobs values (-1, 'x'), (1e30, 'x'), ('../1', 'x'),"
    "(null, 'x'), (x'00', 'x'), (9223372036854775807, null), (2, 1.5);",
    "columns": 'create table jobs (job_id, jobstats, "a""; drop table jobs", extended, month);'
    "insert into jobs values (1, null, 'x', 'y', '../../etc');",
    "a trigger": "create table jobs (job_id, jobstats); create trigger t after insert on jobs begin delete from jobs;"
    "end; insert into jobs values (1, 'x');",
    "a schema that lies": "create table jobs (job_id, jobstats); pragma writable_schema = on;"
    "update sqlite_master set sql = 'create table jobs (', rootpage = 99999;",
    "accounting": "create table slurm_accounting (job_id, account, user, start, end, state, cores, nodes, jobname);"
    "insert into slurm_accounting values (1, 'a|b', 'u', 1, 2, 'COMPLETED', 1, 'n1', 'x'),"
    "('7.batch', 'a', 'u', 1, 2, 'COMPLETED', 1, 'n1', 'x'),"
    "(1e300, 'a', 'u', 'nan', 2, 'x', -1, 'n[1-999999999]', 0);",
}


@pytest.mark.parametrize("store", STORES)
def test_a_store_that_bites_gives_nothing(tmp_path, monkeypatch, store):
    monkeypatch.setattr(legacy, "LONGEST_VALUE", 8 << 20)
    path = tmp_path / "n1.sqlite"
    connection = sqlite3.connect(path)
    try:
        connection.executescript(STORES[store])
        if store == "a bomb":
            bomb = zlib.compress(bytes(16 << 20), 9)
            connection.execute("insert into jobs values (1, ?)", (bomb,))
    except sqlite3.OperationalError as error:
        pytest.skip(f"this SQLite cannot make it: {error}")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    rows, aside = read("lines", path, before)
    assert rows == []
    assert aside.total or store == "a trigger"
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


# Names of jobs, where they are shown

NAMES = ["\x1b[31mred", "a\nb", "<script>alert(1)</script>", "=cmd|' /C calc'!A0", "+1", "@x", "\tx", "\u202egnp.exe",
         "jobstate=FAILED username=root account=other", "'; drop table jobs; --"]  # fmt: skip


@pytest.fixture(scope="module")
def named(tmp_path_factory):
    """A site with a job of each name, by the one form that takes all."""
    root = tmp_path_factory.mktemp("named")
    sites.make(root)
    jobs = [json.loads(bites._json_job(i + 1))["jobs"][0] | {"name": name} for i, name in enumerate(NAMES)]
    (root / "slurm" / "accounting" / "log").write_text(json.dumps({"jobs": jobs}))
    return root / "jobeff.toml"


def test_names_are_kept_and_escaped_where_shown(named, run):
    assert run("-c", named, "load", "slurm")[0] == 0
    query = "select job_id, jobname, proj_id, user from jobs order by 1"
    _, out, _ = run("-c", named, "--json", "sql", query)
    assert [(row["jobname"], row["proj_id"], row["user"]) for row in json.loads(out)] == [(n, "p", "u") for n in NAMES]
    _, out, _ = run("-c", named, "sql", "--csv", query)
    cells = [row[1] for row in csv.reader(io.StringIO(out, newline=""))]
    assert len(cells) == 1 + len(NAMES)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
    _, out, _ = run("-c", named, "sql", query)
    assert out.isascii()
    assert out.replace("\n", "").isprintable()
    for number in range(1, len(NAMES) + 1):
        _, out, _ = run("-c", named, "job", f"c1/{number}")
        assert out.isascii()
        assert out.replace("\n", "").isprintable()


BAD_ARGUMENTS = ["\x1b[31m", "../../etc/passwd", "/abs", "", ".", "a/b/c", "x" * 5000, "9" * 30, "007", "-1", "nan",
                 "\udcff", "a\nb", "'; drop table jobs; --", "１"]  # fmt: skip


@pytest.mark.parametrize("command", ["job {}", "job c1/{}", "load slurm {}", "load slurm --cluster {} jobeff.toml",
    "report project --since {}", "export raw --cluster {} out", "import --cluster {} jobeff.toml", "load projects {}",
    "-c {} report project", "import {}", "{}"])  # fmt: skip
def test_arguments_that_bite_are_refused(tmp_path, run, monkeypatch, command):
    sites.make(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(tmp_path.rglob("*"))
    for bite in BAD_ARGUMENTS:
        arguments = [word.replace("{}", bite) for word in command.split()]
        code, _, told = run(*([] if command.startswith("-c") else ["-c", "jobeff.toml"]), "--workers", 0, *arguments)
        assert code in (1, 2, 3, 10), (bite, told)
        assert "Traceback" not in told
        assert "should not have happened" not in told
        assert told.replace("\n", "").isprintable()
        assert len(told.replace(str(tmp_path), "")) < 2000
        made = {path.relative_to(tmp_path).parts[0] for path in set(tmp_path.rglob("*")) - before}
        assert made <= {"db", "archive"}
