"""Faults at every point at which a command changes a file, and what must hold after them.

`cases` makes small sites on which each command has something to do, `points` finds where it changes files, `Case.hit`
makes a fault at one of them. Whatever happens, readers find each row and file as it was before or as it is to be; and
the same command run again leaves what a run that nothing disturbed leaves, and no more.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from jobeff.simulate import DemoOptions, write_site
from jobeff.store import archive

HERE = Path(__file__).resolve().parent
CLUSTER = "snowy"
WRITES = "write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,copy_file_range,sendfile"
NAMES = "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,symlink"
SYNCS = "fsync,fdatasync,syncfs,sync_file_range"
CHANGES = f"{WRITES},{NAMES},{SYNCS}"
KILL = "signal=KILL"
ERRORS = {"ENOSPC": "No space left on device", "EIO": "Input/output error", "EDQUOT": "Disk quota exceeded"}
PLACE = re.compile(r" at \S+/\S+: |: '.+'")
SQLITE_SAYS = ("database or disk is full", "disk I/O error", "unable to open database file")
FAILABLE = {
    "ENOSPC": f"{WRITES},fsync,fdatasync,syncfs,mkdir,rename",
    "EDQUOT": f"{WRITES},fsync,fdatasync,syncfs,mkdir,rename",
    "EIO": f"{WRITES},{SYNCS},rename,unlink,mkdir",
}
OURS = ("db/", "shards/", "archive/", "out/")
TIMES = {"last_updated": ("date", "time"), "current_projects": ("updated",)}
IDENTITIES = {"computed": "accounting", "placed": "accounting", "counted": "accounting", "reached": "usage"}
"""Columns that hold which database the rest was made of, and that one's name but for ``reached``."""
WITHIN = ("sqlite_sequence", "touched", "frames", "replaced", "indexed", "placed", "computed", "counted", "reached")
"""Tables by which commands know how far they have come: on the way they hold what is there neither before nor after."""


def traceable() -> bool:
    """Whether strace is here and may trace."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode == 0


# What must be the same


def dump(root: Path, called: Path | None = None) -> dict[str, Any]:
    """All that a data root holds, by path: rows of databases and shards, text of the archive; sources are left out.

    What differs from run to run is left out too: times, random numbers, locks. What is beside databases, shards and
    archive is there by its name, so that what has been left over makes a difference. A copy is `called` otherwise.
    """
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(OURS) and not re.fullmatch(r"db/\.\w+\.lock", name):
            try:
                about = path.lstat()
            except FileNotFoundError:  # a journal that goes as its database is read
                found[name] = "journal"
                continue
            mode = stat.S_IMODE(about.st_mode)
            if path.is_dir():
                if mode & 0o027:
                    found[f"{name} mode"] = oct(mode)
                if "scratch/" in name:
                    found[name] = "folder"
            else:
                if mode & 0o137:
                    found[f"{name} mode"] = oct(mode)
                found[name] = _content(root, path, about.st_size, called or root)
    return found


def _content(root: Path, path: Path, size: int, called: Path) -> Any:
    if path.suffix == ".sqlite":
        return database(root, path, called)
    if path.suffix == ".parquet" and "shards" in path.parts:
        table = pq.read_table(path)
        said = table.schema.metadata[b"jobeff"].decode()
        return [said, *map(repr, table.to_pylist())]
    if path.suffix == ".json":
        return json.loads(path.read_text())
    if path.suffix == ".txt":
        return path.read_bytes()
    return size, zlib.crc32(path.read_bytes())


def database(root: Path, path: Path, called: Path) -> dict[str, Any]:
    """Schema and rows of a database, and whether SQLite finds it sound."""
    with contextlib.closing(sqlite3.connect(path)) as connection:
        tables = [row[0] for row in connection.execute("select name from sqlite_master where type = 'table'")]
        found: dict[str, Any] = {
            "schema": sorted(map(repr, connection.execute("select type, name, tbl_name, sql from sqlite_master"))),
            "version": connection.execute("pragma user_version").fetchone()[0],
            "sound": connection.execute("pragma integrity_check").fetchall(),
        }
        for table in tables:
            cursor = connection.execute(f'select * from "{table}"')
            columns = [column[0] for column in cursor.description]
            rows = [dict(zip(columns, row, strict=True)) for row in cursor]
            if table == "frames":
                _end_at_once(rows)
            found[table] = Counter(repr(_comparable(root, table, row, called)) for row in rows)
    return found


def _end_at_once(rows: list[dict[str, Any]]) -> None:
    """Of frames of a job on a node in several months the largest `known_end` counts; so all have it here."""
    largest: dict[tuple[Any, ...], int] = {}
    for row in rows:
        key = row["cluster"], row["job_id"], row["node"]
        largest[key] = max(largest.get(key, 0), row["known_end"])
    for row in rows:
        row["known_end"] = largest[row["cluster"], row["job_id"], row["node"]]


def _comparable(root: Path, table: str, row: dict[str, Any], called: Path) -> dict[str, Any]:
    """A row without what differs from run to run."""
    row = {key: value.replace(str(called), "ROOT") if isinstance(value, str) else value for key, value in row.items()}
    for column in TIMES.get(table, ()):
        row.pop(column)
    if (column := IDENTITIES.get(table, "")) in row:
        of = root / "db" / ("corehour_usage.sqlite" if table == "reached" else "accounting.sqlite")
        row[column] = row[column] == int.from_bytes(of.read_bytes()[68:72], "big")
    return row


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """Of a dump, what does not depend on the order of things: where a step of a night fails, the others go on.

    So raw files may come to the archive before accounting names their jobs, in another order, or in two months.
    """
    kept = {name: what for name, what in found.items() if name.startswith(("db/", "out/")) and "collected" not in name}
    for name, what in kept.items():
        if isinstance(what, dict):
            kept[name] = {table: rows for table, rows in what.items() if table not in (*WITHIN, "last_updated")}
    others = {name: "" for name in found if name not in kept}
    return {**others, **kept}


def differences(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    """In words, what one dump has that another has not."""
    told = []
    for name in sorted(found.keys() | expected.keys()):
        if name not in expected:
            told.append(f"{name} is left over")
        elif name not in found:
            told.append(f"{name} is missing")
        elif found[name] != expected[name]:
            told.append(f"{name} differs: {_detail(found[name], expected[name])}")
    return told


def _detail(found: Any, expected: Any) -> str:
    if isinstance(found, dict) and isinstance(expected, dict):
        return "; ".join(
            f"{key}: {_detail(found.get(key), expected.get(key))}"
            for key in sorted(found.keys() | expected.keys())
            if found.get(key) != expected.get(key)
        )
    if isinstance(found, list) and isinstance(expected, list):
        found, expected = Counter(found), Counter(expected)
    if isinstance(found, Counter) and isinstance(expected, Counter):
        return f"more {list(found - expected)[:2]}, less {list(expected - found)[:2]}"
    return f"{str(found)[:200]} instead of {str(expected)[:200]}"


def torn(now: dict[str, Any], before: dict[str, Any], after: dict[str, Any], several: bool = False) -> list[str]:
    """What a reader would find that is neither as it was nor as it is to be; one of `several` steps may be late."""
    told = []
    for name in sorted(before.keys() & after.keys()):
        if name.split("/")[0] == "out" and name not in now:
            told.append(f"{name} is gone")
        if name not in now or now[name] in (before[name], after[name]) or name.endswith(" mode"):
            continue  # a shard may be away while a whole generation takes its place
        if several and not name.endswith(".sqlite"):
            continue
        if not isinstance(now[name], dict) or not name.endswith(".sqlite"):
            told.append(f"{name} is neither old nor new: {_detail(now[name], after[name])}")
            continue
        for table, rows in now[name].items():
            old, new = before[name].get(table), after[name].get(table)
            if several and name == "db/current_projects.sqlite":
                continue
            if rows in (old, new) or not isinstance(rows, Counter) or table in WITHIN:
                continue
            if not (old & new) <= rows <= (old | new):
                told.append(f"{name}, {table} has rows that are neither old nor new: {_detail(rows, old | new)}")
    return told


def view(root: Path) -> dict[str, Any]:
    """What readers find: as `dump`, of a copy, the archive without what is not there to stay."""
    copy = root.with_name(f"{root.name}-view")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(root, copy, symlinks=True, ignore=shutil.ignore_patterns("slurm", "scratch", ".rebuild", ".old"))
    for path in (copy / "db").glob("*.sqlite*"):
        if path.suffix == ".rebuild" or path.suffix == ".new":
            path.unlink()
    for path in (copy / "archive").glob("*/*.txt"):
        size = archive.committed_size(path)
        os.truncate(path, size)
    for path in copy.rglob("*.sqlite"):
        with contextlib.closing(sqlite3.connect(path)) as connection:  # what a journal keeps is taken back first
            connection.execute("select count(*) from sqlite_master").fetchone()
    found = dump(copy, root)
    shutil.rmtree(copy)
    return found


# Commands in a warm process


class Ended(NamedTuple):
    """How a command has ended, and what it has said."""

    status: int | None
    err: str
    seconds: float


class Runner:
    """Runs commands in children of a process that has all kernels; see `crash_child`.

    Parameters
    ----------
    folder
        For what commands say.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "PYTHONPATH": f"{HERE.parent}:{HERE}", "TMPDIR": str(folder), "HOME": str(folder)}
        environment.setdefault("NUMBA_CACHE_DIR", str(HERE.parent / ".numba"))
        self.process = subprocess.Popen(
            [sys.executable, HERE / "crash_child.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self._answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()

    def run(self, root: Path, arguments: list[str], **how: Any) -> Ended:
        """Run a command on a site."""
        err = self.folder / "err"
        err.write_text("")
        given = ["-q", "--workers", "0", *arguments]
        request = {"arguments": given, "cwd": str(root), "err": str(err), **how}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return Ended(answer["status"], err.read_text(), answer["seconds"])

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


# Cases


class Point(NamedTuple):
    """The n-th time that a thread of a command makes a system call."""

    call: str
    number: int
    where: str = ""

    def inject(self, fault: str) -> list[str]:
        """Options of strace."""
        return ["-o", "/dev/null", "-e", f"trace={self.call}", "-e", f"inject={self.call}:{fault}:when={self.number}"]


LINE = re.compile(r"\s*(\d+) +(\w+)\((.*)")


@dataclass
class Case:
    """A command, and a site on which it has something to do."""

    name: str
    arguments: list[str]
    before: Path
    runner: Runner
    old: dict[str, Any] = field(default_factory=dict)
    new: dict[str, Any] = field(default_factory=dict)
    found: list[Point] = field(default_factory=list)
    status: int | None = 0
    seconds: float = 0.0

    @property
    def root(self) -> Path:
        """Where it is tried."""
        return self.before.with_name("site")

    def fresh(self) -> Path:
        """The site as it was before."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.before, self.root, symlinks=True)
        return self.root

    def learn(self) -> None:
        """Run it undisturbed: what it leaves, and where it changes files."""
        self.fresh()
        self.old = view(self.root)
        ended = self.runner.run(self.root, self.arguments)
        if ended.status not in (0, 3):
            raise AssertionError(f"{self.name}: exit {ended.status}: {ended.err}")
        self.status, self.seconds, self.new = ended.status, ended.seconds, dump(self.root)

    def points(self) -> list[Point]:
        """Where it changes files."""
        if not self.found:
            log = self.before.with_name("trace")
            self.fresh()
            self.runner.run(self.root, self.arguments, strace=["-y", "-o", str(log), "-e", f"trace={CHANGES}"])
            self.found = list(dict.fromkeys(_parse(log, self.root)))
        return self.found

    def again(self, loosely: bool = False) -> list[str]:
        """What is wrong after the same command has run again."""
        ended = self.runner.run(self.root, self.arguments)
        wrong = [] if ended.status == self.status else [f"run again: exit {ended.status}: {ended.err[-1500:]}"]
        now, new = dump(self.root), self.new
        return wrong + (differences(numbers(now), numbers(new)) if loosely else differences(now, new))

    def hit(self, point: Point, fault: str) -> list[str]:
        """Make a fault at a point; gives what went wrong, in words."""
        self.fresh()
        ended = self.runner.run(self.root, self.arguments, strace=point.inject(fault))
        wrong = []
        if fault == KILL:
            if ended.status not in (-signal.SIGKILL, self.status):
                wrong.append(f"exit {ended.status}: {ended.err[-300:]}")
        else:
            wrong += told_badly(ended, fault, self.status)
        several = self.arguments == ["update"] and fault != KILL
        return wrong + torn(view(self.root), self.old, self.new, several) + self.again(several)

    def kill_after(self, seconds: float) -> list[str]:
        """Kill it at a time."""
        self.fresh()
        self.runner.run(self.root, self.arguments, kill_after=seconds)
        return torn(view(self.root), self.old, self.new) + self.again()


def told_badly(ended: Ended, fault: str, status: int | None) -> list[str]:
    """What is wrong with how a command says that a file could not be written."""
    says = (ERRORS[fault.removeprefix("error=")], *SQLITE_SAYS)
    if ended.status == status and not any(say in ended.err for say in says):
        return []  # it could do without
    wrong = []
    if ended.status != 1:
        wrong.append(f"exit {ended.status}")
    lines = [line for line in ended.err.splitlines() if "error: " in line]
    if (
        "Traceback" in ended.err
        or len(lines) != 1
        or not any(say in lines[0] for say in says)
        or not PLACE.search(lines[0])
    ):
        wrong.append(f"says {ended.err[-700:]!r}")
    return wrong


def _parse(log: Path, root: Path) -> Iterator[Point]:
    counts: Counter[tuple[str, str]] = Counter()
    for line in log.read_text(errors="replace").splitlines():
        if (match := LINE.match(line)) and "resumed>" not in line:
            thread, call, rest = match.groups()
            counts[thread, call] += 1
            where = re.search(rf"{re.escape(str(root))}/([^\">]*)", rest)
            if where or call in NAMES.split(","):
                yield Point(call, counts[thread, call], where.group(1) if where else "")


UPDATE = (
    ("load slurm", ["load", "slurm"]),
    ("load projects", ["load", "projects"]),
    ("load storage", ["load", "storage"]),
    ("load corehours", ["load", "corehours"]),
    ("collect", ["collect"]),
    ("ingest", ["ingest"]),
    ("compute", ["compute"]),
    ("summarise", ["summarise"]),
)


def cases(folder: Path, runner: Runner, wanted: Callable[[str], bool] = lambda _: True) -> list[Case]:
    """Sites on which each command has something to do.

    Parameters
    ----------
    folder
        A new one.
    runner
        Runs the commands.
    wanted
        Which names of cases are.
    """
    site = folder / "site"
    options = DemoOptions(jobs=40, nodes=4, days=4, first_day="2024-03-30", cluster=CLUSTER)
    write_site(site, options)
    (site / "slurm" / CLUSTER / "grantfile").chmod(0o640)
    corehours = site / "corehours"
    corehours.write_text("proj_id;date;cluster;grant;30day_usage\nold1;2024-03-01;snowy;1000;10.5\n")
    config = site / "jobeff.toml"
    config.write_text(config.read_text() + 'corehours = "corehours"\n')
    nodes = site / "slurm" / CLUSTER / "uppmax_jobstats"
    hidden = folder / "hidden"
    hidden.mkdir()
    late = [*(site / "slurm" / CLUSTER / "accounting").iterdir()][-1:] + sorted(nodes.glob("*/*"))[::2]
    late += sorted((site / "slurm" / CLUSTER / "extended_uppmax_jobstats").glob("*/*"))[::3]
    places = {}
    for number, path in enumerate(late):
        places[path] = path.rename(hidden / str(number))
    found: list[Case] = []

    def snapshot(name: str, arguments: list[str]) -> None:
        if wanted(name):
            before = folder / name.replace(" ", "-")
            shutil.copytree(site, before, symlinks=True)
            found.append(Case(name, arguments, before, runner))

    def done(arguments: list[str]) -> None:
        ended = runner.run(site, arguments)
        assert ended.status in (0, 3), f"{arguments}: {ended}"

    snapshot("first update", ["update"])
    done(["update"])
    done(["export", "raw", "--sqlite", "out/raw"])
    done(["export", "databases", "out/databases"])
    done(["export", "general", "out/general.sqlite"])
    done(["export", "efficiency", "out/efficiency.parquet"])
    for path, hiding in places.items():
        hiding.rename(path)
    with corehours.open("a") as more:
        more.write("old1;2024-03-02;snowy;1000;11.5\n")
    storage = site / "storage"
    storage.write_text(storage.read_text().replace(";2024-03-31;", ";2024-03-29;"))
    projects = site / "projects"
    projects.write_text(
        projects.read_text() + "\nName: newest\nStart: 20240101\nEnd: 20241231\nPrincipal: a\nType: x\n"
    )
    snapshot("update", ["update"])
    for name, arguments in UPDATE:
        snapshot(name, arguments)
        if name == "collect":
            _import_case(folder, site, snapshot)
        if name == "compute":
            snapshot("rebuild", ["rebuild"])
            snapshot("compute all", ["compute", "--all"])
        if name == "summarise":
            snapshot("summarise all", ["summarise", "--all"])
        done(arguments)
    snapshot("export raw", ["export", "raw", "--sqlite", "out/raw"])
    snapshot("export databases", ["export", "databases", "out/databases"])
    snapshot("export general", ["export", "general", "--force", "out/general.sqlite"])
    snapshot("export efficiency", ["export", "efficiency", "--force", "out/efficiency.parquet"])
    for case in found:
        case.learn()
    return found


def _import_case(folder: Path, site: Path, snapshot: Callable[[str, list[str]], None]) -> None:
    """The raw files that collect would take, in a store that an older tool has left."""
    store = folder / "store" / CLUSTER
    store.mkdir(parents=True)
    for node in sorted((site / "slurm" / CLUSTER / "uppmax_jobstats").iterdir()):
        with contextlib.closing(sqlite3.connect(store / f"{node.name}.sqlite")) as connection, connection:
            connection.execute("create table jobs (job_id integer, jobstats blob)")
            rows = [(int(path.name), zlib.compress(path.read_bytes())) for path in sorted(node.glob("[0-9]*"))]
            connection.executemany("insert into jobs values (?, ?)", rows)
    snapshot("import", ["import", str(store)])
