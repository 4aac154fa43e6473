"""export and import: what goes out is whole and comes back the same; old stores come in, their damage does not."""

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading

import naive
import pyarrow.parquet as pq
import pytest
import sites
from strategies import EXTENDED, PLAIN, local_time
from test_chain import MONTH_END, assert_same, efficiency
from test_sql import COLUMNS

from jobeff import simulate
from jobeff.config import load
from jobeff.errors import ConfigError, JobeffError, LockedError, SetAside
from jobeff.steps import export
from jobeff.steps.export_raw import export_raw
from jobeff.steps.import_store import import_stores
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import archive, framing, tables
from jobeff.store.files import claimed, temporary_path
from jobeff.store.locks import lock
from jobeff.store.sqlite import stoppable

START = MONTH_END
DAY = 86_400


def usage(rows=3, first=START, core=50.0):
    lines = [f"{local_time(t)} {t} 8.0 1.0 0.0 {core:5.1f}" for t in range(first + 60, first + 60 + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def a_job(job_id=1, start=START, rows=3, nodes=("n1",)):
    return naive.Job(sites.CLUSTER, job_id, "p", "u", start, start + 300 * rows, 1, "COMPLETED", nodes)


def known(root, jobs):
    """A site whose accounting names some jobs."""
    site = sites.make(root)
    sites.write_log(site.root, "day", jobs)
    load_slurm(site)
    return site


def frames(root):
    """All that the archive holds: cluster, node, job, bytes, checksum, form and month of each frame."""
    found = []
    for cluster in sorted(path.name for path in (root / "archive").iterdir()) if (root / "archive").exists() else []:
        for month, path in archive.month_files(root, cluster).items():
            with archive.mapped(path) as text:
                some = framing.scan(text, 0, cluster, str(path), SetAside())
                crc32 = framing.checksums(text, some.begin, some.bytes).tolist()
                assert some.torn == 0
                rows = (some.node.tolist(), some.job_id.tolist(), some.bytes.tolist(), crc32, some.extended.tolist())
                found += [(cluster, some.nodes[node], *rest, month) for node, *rest in zip(*rows, strict=True)]
    return sorted(found)


def rows(path, query="select job_id, jobstats, extended, month from jobs order by rowid"):
    with contextlib.closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def sqlite(path, script, *inserts):
    """A database of an older tool."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(script)
        for statement, some in inserts:
            connection.executemany(statement, some)
    return path


NODE = "create table jobs (job_id integer primary key, jobstats blob)"


def counts(result):
    return {what: number for what, number in result.counts.items() if number}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """A synthetic site with all of its raw files archived; nobody changes it."""
    root = tmp_path_factory.mktemp("demo") / "site"
    simulate.write_site(root, simulate.DemoOptions(jobs=100, nodes=6, days=8))
    site = Site(load(root / "jobeff.toml"))
    update(site)
    return site


def bare(demo, root):
    """The same site before anything was done, its raw files purged."""
    shutil.copytree(demo.root, root, ignore=shutil.ignore_patterns("archive", "shards", "db", "*jobstats"))
    for folder in load(root / "jobeff.toml").clusters["snowy"].jobstats:
        folder.mkdir()
    return Site(load(root / "jobeff.toml"))


# Out and in


@pytest.mark.parametrize("how", ["load", "import"])
def test_what_was_exported_comes_back_the_same(demo, tmp_path, how):
    """With accounting from its logs, or from an exported database too."""
    site = bare(demo, tmp_path / "new")
    export_raw(demo, tmp_path / "out")
    if how == "load":
        load_slurm(site)
    else:
        export.export_general(demo.config, tmp_path / "out" / "general.sqlite")
    *_, result = import_stores(site, [tmp_path / "out"])
    assert result.aside.total == 0
    assert frames(site.root) == frames(demo.root)
    assert counts(result)["raw files"] == len({frame[:-1] for frame in frames(demo.root)})
    text = [path.read_bytes() for path in sorted((site.root / "archive").rglob("*.txt"))]
    again = import_stores(site, [tmp_path / "out"])[-1]
    assert counts(again) == {"unchanged": result.counts["raw files"]}
    assert [path.read_bytes() for path in sorted((site.root / "archive").rglob("*.txt"))] == text
    update(site)
    assert_same(efficiency(site.root), efficiency(demo.root))


def test_an_import_after_collect_adds_nothing(demo, tmp_path):
    export_raw(demo, tmp_path / "out")
    root = shutil.copytree(demo.root, tmp_path / "site")
    [result] = import_stores(Site(load(root / "jobeff.toml")), [tmp_path / "out" / "snowy"])
    assert (counts(result)["unchanged"], result.counts["raw files"]) == (len({f[:-1] for f in frames(root)}), 0)
    assert frames(root) == frames(demo.root)


def test_an_odd_archive_comes_back_the_same(tmp_path):
    """Two attempts in two months, a file that grew, one without a header, one by hand, one without a row or a job."""
    first, second = a_job(1), a_job(1, START + 40 * DAY)
    site = known(tmp_path / "a", [first, second, a_job(2), a_job(3)])
    extended = b"2021-06-01T00:01:00 1622498460 8.0 1.0 2.0 0.0 1 1 50.0"
    files = [
        archive.RawFile("n1", 1, usage(), False),
        archive.RawFile("n1", 1, usage(5), False),
        archive.RawFile("n1", 2, extended, True),
        archive.RawFile("n2", 3, f"{EXTENDED}\n".encode() + extended, True),
        archive.RawFile("n2", 4, b"no row\n\n\n", False),
        archive.RawFile("n2", 5, b"", False),
        archive.RawFile("n2", 6, b"x\x9c\0\xff like zlib", False),
    ]
    archive.append(archive.month_file(site.root, "c1", "2021-06"), "c1", files)
    archive.append(archive.month_file(site.root, "c1", "2021-07"), "c1", files[:2])
    month = archive.month_file(site.root, "c1", "2021-06")
    month.write_bytes(month.read_bytes() + b"==> c1/n3/2 <==\n" + usage())
    result = export_raw(site, tmp_path / "out")
    assert counts(result) == {
        **{"nodes": 3, "raw files": 8, "repeated": 2},
        "text bytes": sum(len(file.text) for file in [*files, *files[:2]]) + len(usage()) - 1,
    }
    exported = rows(tmp_path / "out" / "c1" / "n1.sqlite")
    assert exported == [(file.job_id, file.text, file.extended, "2021-06") for file in files[:3]]
    new = known(tmp_path / "b", [first, second, a_job(2), a_job(3)])
    [result] = import_stores(new, [tmp_path / "out"])
    assert (result.aside.total, result.counts["orphans"]) == (0, 3)
    assert frames(new.root) == frames(site.root)


# Export


def test_a_general_database(demo, tmp_path):
    path = tmp_path / "new" / "general.sqlite"
    result = export.export_general(demo.config, path)
    for table, columns in COLUMNS.items():
        assert [row[1] for row in rows(path, f"pragma table_info({table})")] == columns.split()
    columns = ", ".join(COLUMNS["jobs"].split())
    query = f"select {columns} from jobs order by cluster, job_id, start"
    assert rows(path, query) == rows(tables.database(demo.root, "accounting"), query)
    assert result.counts["jobs"] == len(rows(path, query)) > 90
    types = {name for (name,) in rows(path, "select type from last_updated")}
    assert types >= {"efficiency", "jobs", "projects", "corehour_weekly"}
    assert rows(path, "pragma integrity_check") == [("ok",)]
    plan = str(rows(path, "explain query plan select * from jobs where proj_id = 'x' and end > 5"))
    assert "jobs_proj_id_end_start_cluster" in plan
    assert (path.stat().st_mode & 0o777, names(path.parent)) == (0o640, [path.name])


def test_an_export_is_of_one_time(demo, tmp_path, monkeypatch):
    """Who writes meanwhile waits until all is read, who reads the old file has the old one, and a third is refused."""
    root = shutil.copytree(demo.root, tmp_path / "site")
    site, path, seen = Site(load(root / "jobeff.toml")), tmp_path / "general.sqlite", []
    export.export_general(site.config, path)
    old = path.read_bytes()

    def meanwhile(connection, work, done=export.stoppable):
        if not seen:
            database = tables.database(root, "efficiency")  # not yet read
            with contextlib.closing(sqlite3.connect(database, timeout=0, isolation_level=None)) as other:
                other.execute("begin immediate")
                other.execute("delete from last_updated")
                with pytest.raises(sqlite3.OperationalError, match="locked"):
                    other.execute("commit")
                other.execute("rollback")
            with pytest.raises(LockedError, match="another run"):
                export.export_general(site.config, path, force=True)
            seen.append(path.read_bytes())
        return done(connection, work)

    monkeypatch.setattr(export, "stoppable", meanwhile)
    export.export_general(site.config, path, force=True)
    assert seen == [old]
    assert ("efficiency",) in rows(path, "select type from last_updated")


def test_efficiency_as_parquet(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(export, "ROWS_AT_ONCE", 7)
    result = export.export_efficiency(demo.config, tmp_path / "e.parquet")
    found = pq.read_table(tmp_path / "e.parquet").to_pylist()
    assert {(row["cluster"], row["job_id"], row["start"]): row for row in found} == efficiency(demo.root)
    assert (result.counts["jobs"], len(found) > 20) == (len(found), True)


@pytest.mark.parametrize("what", [export.export_general, export.export_efficiency])
def test_an_export_takes_the_place_of_nothing_unless_told_to(demo, tmp_path, what):
    path = tmp_path / "file"
    path.write_bytes(b"mine")
    with pytest.raises(ConfigError, match="--force"):
        what(demo.config, path)
    assert path.read_bytes() == b"mine"
    what(demo.config, path, force=True)
    assert path.read_bytes() != b"mine"
    (tmp_path / "link").symlink_to(path)
    ours = tables.database(demo.root, "accounting")
    before = ours.read_bytes()
    for bad in (ours, tmp_path, tmp_path / "link", demo.root / "shards" / "x.parquet"):
        with pytest.raises(ConfigError, match="cannot write the export"):
            what(demo.config, bad, force=True)
    assert ours.read_bytes() == before
    assert names(tmp_path) == ["file", "link"]


def test_an_export_that_fails_leaves_nothing(demo, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for what in (export.export_general, export.export_efficiency):
        with pytest.raises(OSError, match="No space"):
            what(demo.config, tmp_path / "x")
    assert names(tmp_path) == []


def test_what_a_killed_export_left_is_taken_over(demo, tmp_path):
    path = tmp_path / "x.sqlite"
    temporary_path(path).write_bytes(b"half" * 9999)
    export.export_general(demo.config, path)
    assert names(tmp_path) == ["x.sqlite"]
    assert rows(path, "pragma integrity_check") == [("ok",)]


def test_a_signal_stops_an_export(demo, tmp_path):
    """While SQLite is busy; nothing of the export is left."""
    code = f"""
import sys
from jobeff.cli import main
from jobeff.steps import export
def endless(connection, result, copy=export._copy):
    print(flush=True)
    query = "with recursive x(n) as (select 1 union all select n + 1 from x) select count(*) from x"
    export.stoppable(connection, lambda: connection.execute(query).fetchone())
export._copy = endless
main(["-c", {str(demo.config.file)!r}, "export", "general", {str(tmp_path / "x")!r}])
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        run.stdout.readline()
        run.send_signal(signal.SIGTERM)
        assert run.wait(5) == 143
        assert run.stderr.read() == b""
    assert names(tmp_path) == []


def test_what_is_stopped_before_its_thread_begins_never_begins(monkeypatch):
    """The signal may come while the thread is being started, too early for it to be known as one that runs."""
    started, done = [], []

    class NotYet(threading.Thread):
        def start(self):
            started.append(self)
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(threading, "Thread", NotYet)
        with pytest.raises(KeyboardInterrupt):
            stoppable(None, lambda: done.append(1))
    threading.Thread.start(started[0])
    started[0].join(20)
    assert done == []


def test_what_is_stopped_before_its_statement_begins_is_stopped_too(monkeypatch):
    """An interrupt is heard by statements that run, not by those to come; the signal may come while a thread starts."""
    begun, interrupts = threading.Event(), []

    class Signalled(threading.Thread):
        def start(self):
            super().start()
            raise KeyboardInterrupt

    class Late:
        def interrupt(self):
            interrupts.append(begun.is_set())
            connection.interrupt()
            begun.set()

    def work():
        begun.wait()
        query = "with recursive x(n) as (select 1 union all select n + 1 from x) select count(*) from x"
        return connection.execute(query).fetchone()

    monkeypatch.setattr(threading, "Thread", Signalled)
    with (
        contextlib.closing(sqlite3.connect(":memory:", check_same_thread=False)) as connection,
        pytest.raises(KeyboardInterrupt),
    ):
        stoppable(Late(), work)
    assert interrupts[:2] == [False, True]


def test_raw_exports_replace_only_exports(demo, tmp_path):
    export_raw(demo, tmp_path / "out")
    first = {path.name: rows(path) for path in (tmp_path / "out" / "snowy").iterdir()}
    export_raw(demo, tmp_path / "out", "snowy")
    assert {path.name: rows(path) for path in (tmp_path / "out" / "snowy").iterdir()} == first
    mine = sqlite(tmp_path / "mine" / "snowy" / "s3.sqlite", NODE)
    before = mine.read_bytes()
    with pytest.raises(ConfigError, match="is no export"):
        export_raw(demo, tmp_path / "mine")
    assert mine.read_bytes() == before
    assert names(mine.parent) == ["s3.sqlite"]
    with pytest.raises(ConfigError, match="no cluster"):
        export_raw(demo, tmp_path / "x", "../x")
    with pytest.raises(ConfigError, match="its own files"):
        export_raw(demo, demo.root / "shards")
    assert not (tmp_path / "x").exists()


def test_two_raw_exports_into_one_folder(demo, tmp_path):
    with claimed(tmp_path / "snowy" / ".export.lock"), pytest.raises(LockedError):
        export_raw(demo, tmp_path)
    assert names(tmp_path / "snowy") == []


def test_a_damaged_frame_is_not_exported(demo, tmp_path):
    root = shutil.copytree(demo.root, tmp_path / "site")
    month = min((root / "archive" / "snowy").glob("*.txt"))
    text = month.read_bytes()
    at = text.index(b"\n") + 50
    month.write_bytes(text[:at] + b"\1" + text[at + 1 :] + b"==> snowy/s1/5 bytes=99 crc32=00000000 <==\nx")
    shutil.copy(month, tmp_path / "gz")
    (month.parent / "2020-01.txt.gz").write_bytes(b"no gzip")
    result = export_raw(Site(load(root / "jobeff.toml")), tmp_path / "out")
    assert result.aside.counts == {"archive frame": 1, "archive tail": 1, "archive month": 1}
    assert counts(result)["raw files"] == len(frames(demo.root)) - 1 - result.counts["repeated"]


def test_a_database_that_cannot_be_read_is_named(demo, tmp_path):
    root = shutil.copytree(demo.root, tmp_path / "site")
    database = tables.database(root, "efficiency")
    with contextlib.closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("update jobs set counts = 'many' where job_id = (select max(job_id) from jobs)")
    with pytest.raises(JobeffError, match=r"cannot export at .*e\.parquet"):
        export.export_efficiency(load(root / "jobeff.toml"), tmp_path / "e.parquet")
    with database.open("rb+") as file:
        file.truncate(5000)
    for what, name in ((export.export_general, "g"), (export.export_efficiency, "e.parquet")):
        with pytest.raises(JobeffError, match="malformed"):
            what(load(root / "jobeff.toml"), tmp_path / name)
    assert names(tmp_path) == ["site"]


# The command line

# With what they exit where nothing has been loaded yet.
COMMANDS = {
    "sql x": 1,
    "export general x": 1,
    "export efficiency x": 1,
    "export raw --sqlite x": 0,
    "import jobeff.toml": 3,
}


@pytest.mark.parametrize(("command", "code"), COMMANDS.items())
def test_where_there_is_nothing_yet(run, tmp_path, monkeypatch, command, code):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("JOBEFF_CONFIG", raising=False)
    assert run(*command.split())[0] == 10
    sites.make(tmp_path)
    found, _, err = run(*command.split())
    assert (found, err.count("\n")) == (code, {0: 0, 1: 1, 3: 2}[code])
    assert not any((tmp_path / folder).exists() for folder in ("archive", "shards"))


def test_results_as_json(demo, run, tmp_path):
    before = ("-c", demo.config.file, "--workers", 0, "--json")
    for command in (["general", tmp_path / "g"], ["efficiency", tmp_path / "e"], ["raw", "--sqlite", tmp_path / "r"]):
        code, out, err = run(*before, "export", *command)
        assert (code, err, len(json.loads(out))) == (0, "", 1)
    assert len(json.loads(run(*before, "sql", "select * from jobs")[1])) > 90


@pytest.mark.parametrize("target", ["accounting", "archive"])
def test_what_another_run_writes_is_not_imported(demo, run, tmp_path, target):
    site = bare(demo, tmp_path / "new")
    load_slurm(site)
    export_raw(demo, tmp_path / "out")
    export.export_general(demo.config, tmp_path / "out" / "general.sqlite")
    with lock(site.root, target):
        code, _, err = run("-c", site.config.file, "--workers", 0, "import", tmp_path / "out")
    assert (code, err.count("\n")) == (11, 1)
    assert f"another run is writing {target}" in err
