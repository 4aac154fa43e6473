"""load storage, load corehours: every record once, exactly, in whatever form, order and number of files it comes."""

import contextlib
import csv
import io
import json
import os
import random
import sqlite3
from fractions import Fraction

import pytest
import sites
from conftest import dump
from hypothesis import given, settings
from hypothesis import strategies as st

from jobeff import simulate_site
from jobeff.errors import ConfigError, LockedError, SetAside, SourceError
from jobeff.sources import corehours, records, storage, values
from jobeff.sources.accounting import LogLines
from jobeff.steps import load_records
from jobeff.steps.load_projects import load_projects
from jobeff.steps.load_records import load_corehours, load_storage
from jobeff.store import tables, upsert
from jobeff.store.locks import lock

COLUMNS = [column.name for column in storage.COLUMNS]
HEADER = ";".join(COLUMNS) + "\n"


def read(content, columns=storage.COLUMNS):
    """Records of a file, and how many lines were set aside; or why the file was refused."""
    content = content if isinstance(content, bytes) else content.encode()
    aside = SetAside()
    try:
        reader = records.reader(records.first_line(io.BytesIO(content)) or b"", columns)
        rows = list(records.read(LogLines(io.BytesIO(content)), reader, where="file", kind="record", aside=aside))
    except records.FileRefusedError as error:
        return str(error)
    return rows, aside.total


def usage(cell):
    """What a file with one cell makes of it; None where the record is set aside."""
    rows, aside = read(f"proj_id,date,usage\np,2021-05-01,{cell}\n")
    assert len(rows) + aside == 1
    return rows[0][2] if rows else None


# Reading


@pytest.mark.parametrize(
    ("cell", "size"),
    [
        ("0", 0), ("1", 1), ("007", 7), (" 12 ", 12), ("12.0", 12), ("1e3", 1000), ("1.5E+12", 1_500_000_000_000),
        ("1K", 1024), ("1 k", 1024), ("1KB", 1024), ("1KiB", 1024), ("1kib", 1024), ("1Ki", 1024), ("5B", 5),
        ("5 bytes", 5), ("2M", 2**21), ("3 GiB", 3 * 2**30), ("1.5 TiB", 1_649_267_441_664), ("1P", 2**50),
        ("0.1K", 102), ("0.5", 0), ("1.5", 2), ("2.5", 2), (".5K", 512), ("1e-999", 0), ("0.0001K", 0),
        ("9223372036854775807", 2**63 - 1), ("9223372036854775807.4", 2**63 - 1),
        ("8191.9P", 2**63 - 112_589_990_684_262),
    ],
)  # fmt: skip
def test_sizes(cell, size):
    assert usage(cell) == size


@pytest.mark.parametrize(
    "cell",
    [
        "-1", "-0", "+1", "nan", "inf", "-inf", "Infinity", "1e308", "1e999", "1e99999999", "9223372036854775808",
        "8192P", "9223372036854775807.5", "9" * 64, "9" * 5000, "1_000", "1 000", "1,5", "0x10", "1X", "K", "1.2.3",
        ".", "1 2K", "１", "²", "1KK", "1Bi", "1E", "x" * 2000, "1\0",
    ],
)  # fmt: skip
def test_what_is_no_size_costs_the_record(cell):
    assert usage(f'"{cell}"') is None


@pytest.mark.parametrize("cell", ["", " ", "-", "NULL", "none", "N/A"])
def test_no_size(cell):
    assert read(f"proj_id,date,usage\np,2021-05-01,{cell}\n") == ([("p", "2021-05-01", *[None] * 7)], 0)


@given(st.decimals(0, 10**9, places=6), st.sampled_from("bKMGTP"), st.sampled_from(["", "B", "iB", " "]))
def test_sizes_are_exact(value, unit, rest):
    exact = round(Fraction(value) * 1024 ** "bKMGTP".index(unit))
    text = f"{value:f}{unit if unit == 'b' else unit + rest}".strip()
    if exact < 2**63:
        assert values.size(text) == exact
    else:
        with pytest.raises(ValueError, match="2\\^63"):
            values.size(text)


@pytest.mark.parametrize(
    "content",
    [
        "proj_id,date,quota,path\np,2021-05-01,5,/a\n",
        "proj_id;date;quota;path\r\np;2021-05-01;5;/a\r\n",
        "\ufeffPATH\tQuota\tDate\tProj_ID\n/a\t5\t20210501\tp",
        "\n\nother, path , date,proj_id,quota,\n\nx, /a , 2021-05-01 ,p,5,\n \n",
        '"proj_id","date","quota","path"\n"p", "2021-05-01","5","/a"\n',
        "proj_id,date,quota,path\np,2021-05-01,5,/a\nproj_id,date,quota,path\n",
        '{"proj_id": "p", "date": "2021-05-01", "quota": 5, "path": "/a"}',
        '\ufeff\n {"Path": "/a", "x": {"y": [1]}, "Quota": "5", "DATE": 20210501, "usage": null, "proj_id": "p"} \r\n',
    ],
)
def test_ways_to_write_the_same(content):
    assert read(content) == ([("p", "2021-05-01", None, 5, "/a", None, None, None, None)], 0)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("", "neither"),
        ("p;2021-05-01;5\n", "neither"),
        ("proj_id;usage\np;5\n", "lacks date"),
        ("date\n", "lacks proj_id"),
        ("proj_id;date;usage;USAGE\n", "usage twice"),
        ('[{"proj_id": "p"}]', "one JSON object per line"),
        ("x" * 2**21, "first line is longer"),
        ("\0" * 99, "neither"),
        (HEADER.encode("utf-16"), "neither"),
        ("proj_id;date;usage\np;2021-05-01;5\nproj_id;date;quota\np;2021-05-02;5\n", "line 3: another header"),
        ("proj_id;date;usage\np;2021-05-01;5\ndate;proj_id\n", "line 3: another header"),
    ],
)
def test_a_file_that_nobody_can_read_is_refused(content, why):
    assert why in read(content)


@pytest.mark.parametrize(
    "line",
    [
        b"p;2021-05-01", b"p;2021-05-01;5;/a;b", b";2021-05-01;5;", b"p;;5;", b"a b;2021-05-01;5;", b"p;2021-02-29;5;",
        b"p;2021-05-1;5;", b"p;2021-05-01T00:00;5;", b'p;2021-05-01;5;"/a', b'p;2021-05-01;5;"a"b', b"\0\0\0",
        b"p\0;2021-05-01;5;", b"p;2021-05-01;5;\0", b"x" * 2**21, b"p" * 256 + b";2021-05-01;5;",
        b'{"proj_id": "p", "date": "2021-05-01"}',
    ],
)  # fmt: skip
def test_a_line_that_cannot_be_used_costs_no_other(line):
    good = b"q;2021-05-01;5;/q\n"
    rows, aside = read(b"proj_id;date;usage;path\n" + good + line + b"\n" + good)
    assert (len(rows), aside) == (2, 1)


@pytest.mark.parametrize(
    "line",
    [
        "{", "[" * 10**5, '{"a":' * 10**5, "[]", "1", '"x"', "nan", '{"proj_id": "p"}', '{"date": "2021-05-01"}',
        *(f'{{"proj_id": "p", "date": "2021-05-01", "usage": {value}}}' for value in
          ("NaN", "Infinity", "-1", "true", "[1]", '{"a": 1}', "1e400", "9" * 5000, '5, "Usage": 6', "5} {")),
        '{"proj_id": true, "date": "2021-05-01"}', '{"proj_id": "\\ud800", "date": "2021-05-01"}',
        '{"proj_id": "p", "date": "2021-05-01", "path": "\\u0000"}',
    ],
)  # fmt: skip
def test_a_json_line_that_cannot_be_used_costs_no_other(line):
    good = '{"proj_id": "q", "date": "2021-05-01", "usage": 5}\n'
    rows, aside = read(good + line + "\n" + good)
    assert (len(rows), aside) == (2, 1)


def test_text_that_is_not_utf8_is_kept(site):
    write(site, b"proj_id;date;path\np;2021-05-01;/\xff\x1b[31m\xc3\xa5\n", "a")
    write(site, b'{"proj_id":"q","date":"2021-05-01","path":"/\\ud800\xff"}\n', "b")
    assert load(site)[1].total == 0
    assert [row[4] for row in rows(site)] == ["/\\xff\x1b[31må", "/\\xed\\xa0\\x80\\xed\\xb3\\xbf"]


ANY = st.binary(max_size=300) | st.lists(
    st.sampled_from([HEADER.strip(), *COLUMNS, "p", "2021-05-01", "5", "1.5T", ";", ",", "\t", "\n", '"', "{", "}", ":",
                     '{"proj_id": "p", "date": "2021-05-01", "usage": ', "[", "\0", "\r", "\ufeff", "\\ud800", "å"]),
    max_size=40,
).map(lambda parts: "".join(parts).encode())  # fmt: skip


@given(ANY, st.booleans())
def test_no_bytes_raise_or_cannot_be_kept(content, headed):
    found = read((HEADER.encode() if headed else b"") + content)
    if not isinstance(found, str):
        with contextlib.closing(sqlite3.connect(":memory:")) as connection:
            for row in found[0]:
                connection.execute(f"select {', '.join('?' * len(row))}", row).fetchone()


PROJECT = st.text("abå-1.", min_size=1, max_size=4)
DAY = st.dates().map(str)
SIZE = st.none() | st.integers(0, 2**63 - 1)
PATH = st.none() | st.text(st.characters(exclude_categories=["Cs", "Cc", "Z"]), min_size=1).filter(
    lambda text: text.lower() not in values.NOTHING
)
RECORD = st.tuples(PROJECT, DAY, SIZE, SIZE, PATH, SIZE, SIZE, PATH, SIZE)


def written(found, form, order):
    """A file of records: delimited by `form`, or JSON lines."""
    if form == "json":
        return "".join(json.dumps({COLUMNS[at]: row[at] for at in order}) + "\n" for row in found)
    file = io.StringIO()
    writer = csv.writer(file, delimiter=form, lineterminator="\n")
    writer.writerows([[COLUMNS[at] for at in order], *([row[at] for at in order] for row in found)])
    return file.getvalue()


@given(st.lists(RECORD, min_size=1, max_size=5), st.sampled_from([",", ";", "\t", "json"]), st.permutations(range(9)))
def test_what_is_written_is_read(found, form, order):
    assert read(written(found, form, order)) == (found, 0)


# Loading


@pytest.fixture
def site(tmp_path):
    made = sites.make(tmp_path)
    (tmp_path / "storage").mkdir()
    return with_sources(made, 'storage = "storage"\ncorehours = "core-hours"\n')


def with_sources(site, sources, more=""):
    (site.root / "jobeff.toml").write_text(f"{sites.CONFIG}{more}\n[sources]\n{sources}")
    return sites.Site(sites.config(site.root))


def record(project="p", day="2021-05-01", used=5):
    return f"{project};{day};{used};;;;;;\n"


def write(site, content, name="day"):
    path = site.root / "storage" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else (HEADER + content).encode())
    return path


def load(site, *files, step=load_storage):
    """What a load has counted that is not 0, and what it has set aside."""
    result = step(site, files)
    return {what: number for what, number in result.counts.items() if number}, result.aside


def rows(site, name="storage_history"):
    return dump(tables.database(site.root, name), name)


def used(site):
    return [(row[0], row[1][-2:], row[2]) for row in rows(site)]


def test_twice_is_once(site):
    write(site, record("p") + record("q"))
    assert load(site)[0] == {"records": 2, "new": 2}
    before = rows(site)
    assert load(site)[0] == {"files unchanged": 1}
    (site.root / "storage" / "day").rename(site.root / "storage" / "renamed")
    assert load(site)[0] == {"records": 2, "unchanged": 2}
    assert rows(site) == before
    assert [row[0] for row in dump(tables.database(site.root, "storage_history"), "last_updated")] == [
        "storage_history"
    ]


@pytest.mark.parametrize("first", [HEADER.encode(), b'{"proj_id": "p", "date": "2021-05-01", "usage": 5}\n'])
def test_of_a_grown_file_the_tail_is_read(site, first):
    more = record("q") if first.startswith(b"proj") else '{"proj_id": "q", "date": "2021-05-01", "usage": 5}\n'
    write(site, first + b"bad\n")
    assert load(site)[1].total == 1
    path = write(site, first + b"bad\n" + more.encode() + b"bad\n")
    counts, aside = load(site)
    assert (counts, [where for _, where, _ in aside.examples]) == ({"records": 1, "new": 1}, [f"{path}:4"])


@pytest.mark.parametrize("cut", range(0, 40, 3))
def test_a_file_still_being_written_is_right_in_the_end(site, cut):
    whole = HEADER + record("p") + record("q", used=123456789)
    write(site, whole[: len(HEADER) + cut].encode())
    load(site)
    write(site, whole.encode())
    assert load(site)[1].total == 0
    assert used(site) == [("p", "01", 5), ("q", "01", 123456789)]


@pytest.mark.parametrize("now", [record("p", used=7), record("p", used=7) + record("q") + record("r"), ""])
def test_a_rewritten_file_is_taken_as_it_is_now(site, now):
    write(site, record("p") + record("q"))
    load(site)
    write(site, now)
    counts, aside = load(site)
    assert (counts.get("changed", 0), aside.total) == (now.count(";7;"), 0)
    assert {project for project, _, _ in used(site)} >= {"p", "q"}


def test_within_a_file_the_later_line_counts(site):
    write(site, record(used=5) + record("q") + record(used=3))
    assert load(site)[0] == {"records": 3, "new": 2, "repeated": 1}
    assert used(site) == [("p", "01", 3), ("q", "01", 5)]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a"), ("x/a", "b"), ("x/b", "a")])
def test_of_files_loaded_together_the_last_name_counts(site, names):
    paths = [write(site, record(used=ord(name[-1])), name) for name in names]
    load(site, *paths)
    assert used(site) == [("p", "01", ord("b"))]


@settings(max_examples=25)
@given(
    st.dictionaries(st.tuples(st.sampled_from("pqr"), DAY), SIZE, min_size=1, max_size=12),
    st.integers(1, 4),
    st.randoms(),
)
def test_order_and_number_of_files_and_nights_do_not_matter(tmp_path_factory, wanted, files, chance):
    made = sites.make(tmp_path_factory.mktemp("site") / "site")
    site = with_sources(made, 'storage = "storage"\n')
    parts = [[] for _ in range(files)]
    for (project, day), size in wanted.items():
        for part in chance.sample(parts, chance.randint(1, files)):
            part.append(record(project, day, "" if size is None else size))
    paths = [write(site, "".join(part), str(number)) for number, part in enumerate(parts)]
    chance.shuffle(paths)
    while paths:
        load(site, *[paths.pop() for _ in range(chance.randint(1, len(paths)))])
    load(site)
    assert [row[:3] for row in rows(site)] == sorted(((*key, size) for key, size in wanted.items()), key=repr)


@pytest.mark.parametrize("killed_at", range(3))
def test_a_load_that_is_killed_is_made_good_by_the_next(site, killed_at, monkeypatch):
    for name in "abc":
        write(site, record("p", used=ord(name)) + record(name), name)
    calls = []

    def merge(self):
        calls.append(1)
        done = original(self)
        if len(calls) == killed_at + 1:
            raise KeyboardInterrupt
        return done

    original = upsert.Incoming.merge
    monkeypatch.setattr(upsert.Incoming, "merge", merge)
    monkeypatch.setattr(load_records, "GROUP_BYTES", 1)  # each file in a transaction of its own
    with pytest.raises(KeyboardInterrupt):
        load(site)
    assert len(used(site)) == (killed_at + 1 if killed_at else 0)
    monkeypatch.setattr(upsert.Incoming, "merge", original)
    assert load(site)[1].total == 0
    assert used(site) == [*((name, "01", 5) for name in "abc"), ("p", "01", ord("c"))]


@pytest.mark.parametrize("group", [1, 2**27])
def test_what_is_counted_does_not_depend_on_how_files_are_grouped(site, group, monkeypatch):
    monkeypatch.setattr(load_records, "GROUP_BYTES", group)
    for name in "abc":
        write(site, record(name) + record(name, "2021-05-02"), name)
    assert load(site)[0] == {"records": 6, "new": 6}


def test_a_bad_file_costs_no_other(site):
    write(site, record("p"), "a")
    write(site, b"", "empty")
    write(site, record("z").encode(), "no header")
    write(site, (HEADER + record("z") + "date;proj_id\n").encode(), "two headers")
    write(site, record("q"), "z")
    write(site, record("h"), ".hidden")
    write(site, record("r"), "below/z")
    os.mkfifo(site.root / "storage" / "fifo")
    counts, aside = load(site)
    assert (counts, aside.counts) == ({"records": 3, "new": 3}, {"storage file": 4})
    assert [project for project, _, _ in used(site)] == ["p", "q", "r"]


def test_a_name_that_is_not_utf8_is_no_matter(site):
    os.rename(write(site, record()), os.fsencode(site.root / "storage") + b"/\xff\x1b")  # noqa: PTH104
    assert load(site)[0] == {"records": 1, "new": 1}
    assert load(site) == ({"files unchanged": 1}, SetAside())


def test_a_source_that_is_not_there_changes_nothing(site, tmp_path):
    write(site, record())
    for path in (tmp_path / "missing", tmp_path / "fifo"):
        if path.name == "fifo":
            os.mkfifo(path)
        with pytest.raises(SourceError, match=r"cannot read storage at .*(No such file|neither).*Nothing was loaded"):
            load_storage(site, [site.root / "storage", path])
    assert not tables.database(site.root, "storage_history").exists()
    with pytest.raises(ConfigError, match=r"no source of storage.*\[sources\]: storage = "):
        load_storage(with_sources(site, ""))


@pytest.mark.parametrize("many", [1, 100])
def test_many_rows_are_the_same_as_few(site, many, monkeypatch):
    """Where most rows are new, indexes are made at the end; they are there all the same."""
    monkeypatch.setattr(upsert, "MANY", many)
    wanted = [(f"p{number % 7}", f"2021-05-{number // 7 + 1:02}", number) for number in range(60)]
    shuffled = [record(*row) for row in random.Random(1).sample(wanted, len(wanted))]
    write(site, "".join(shuffled[:20]), "a")
    load(site)
    write(site, "".join(shuffled), "b")
    assert load(site)[0] == {"records": 60, "new": 40, "unchanged": 20, "files unchanged": 1}
    assert [row[:3] for row in rows(site)] == sorted(wanted)
    with contextlib.closing(sqlite3.connect(tables.database(site.root, "storage_history"))) as connection:
        assert connection.execute("pragma integrity_check").fetchone() == ("ok",)
        assert len(connection.execute("pragma index_list(storage_history)").fetchall()) == 4


def test_the_demo_site_is_loaded_whole(site):
    members = {"p1": ["a", "b"], "p2": ["c"], "snic2021-5-7": ["a"]}
    (site.root / "projects").write_text(simulate_site.projects(members, 2021))
    days = [f"2021-06-{day:02}" for day in range(1, 11)]
    write(site, "".join(simulate_site.storage(members, days)).encode())
    assert load(site) == ({"records": 30, "new": 30}, SetAside())
    counts, aside = load(site, site.root / "projects", step=load_projects)
    assert (counts["new"], aside.total) == (3, 0)


@pytest.mark.parametrize(
    ("target", "step"),
    [("projects", load_projects), ("storage_history", load_storage), ("corehour_history", load_corehours)],
)
def test_each_database_has_a_lock_of_its_own(site, target, step):
    path = write(site, record())
    with lock(site.root, target), pytest.raises(LockedError, match=f"another run is writing {target}"):
        step(site, [path])
    for other in {"projects", "storage_history", "corehour_history"} - {target}:
        with lock(site.root, other):
            step(site, [path])


# Core hours


def core_hours(site, text):
    path = site.root / "core-hours"
    path.write_text(text)
    return load(site, step=load_corehours)


def test_core_hours(site):
    text = (
        "proj_id,date,30day_usage,grant\np,2021-05-01,12.5,2000\nq,20210501,,0.1\nr,20210501,-1,5\ns,20210501,inf,5\n"
    )
    counts, aside = core_hours(site, text)
    assert (counts, aside.counts) == ({"records": 2, "new": 2}, {"core-hour record": 2})
    assert rows(site, "corehour_history") == [
        ("p", "2021-05-01", "c1", 2000.0, 12.5, 1),
        ("q", "2021-05-01", "c1", 0.1, None, 1),
    ]
    assert core_hours(site, text.replace("0.1", "0.2"))[0] == {"records": 2, "changed": 1, "unchanged": 1}


@pytest.mark.parametrize("hours", ["nan", "1e308", "1e999", "-0", "9223372036854775808", "1h", "1K", "9" * 5000])
def test_what_is_no_number_of_core_hours_costs_the_record(hours):
    found, aside = read(f"proj_id,date,grant\np,2021-05-01,{hours}\n", corehours.columns("c1"))
    assert (found, aside) == ([], 1)


@given(st.floats(0, 2**62))
def test_core_hours_are_exact(hours):
    assert values.number(repr(hours)) == hours


def test_with_several_clusters_each_record_names_its_own(site):
    two = with_sources(site, 'corehours = "core-hours"\n', "[clusters.c2]\n")
    assert core_hours(two, "proj_id,date,grant\np,2021-05-01,5\n")[1].counts == {"core-hour file": 1}
    text = "proj_id,date,grant,cluster\np,2021-05-01,5,c1\np,2021-05-01,6,c2\np,2021-05-01,6,\np,2021-05-01,6,../x\n"
    assert core_hours(two, text)[1].counts == {"core-hour record": 2}
    assert [(row[2], row[3]) for row in rows(site, "corehour_history")] == [("c1", 5.0), ("c2", 6.0)]


def test_what_is_loaded_takes_the_place_of_what_was_derived(site):
    path = tables.database(site.root, "corehour_history")
    with contextlib.closing(tables.open_database(path, "corehour_history")) as connection:
        for project in "pq":
            connection.execute("insert into corehour_history values (?, '2021-05-01', 'c1', 5, 1, 0)", (project,))
    assert core_hours(site, "proj_id,date,grant,30day_usage\np,2021-05-01,5,1\n")[0] == {"records": 1, "changed": 1}
    assert [(row[0], row[5]) for row in rows(site, "corehour_history")] == [("p", 1), ("q", 0)]


def test_a_site_that_keeps_no_core_hours_has_nothing_to_do(site):
    assert load(with_sources(site, ""), step=load_corehours) == ({}, SetAside())
    assert not tables.database(site.root, "corehour_history").exists()
