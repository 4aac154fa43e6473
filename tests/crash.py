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
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from crash_dump import differences, dump, numbers, torn, view

from jobeff.errors import JobeffError
from jobeff.simulate import DemoOptions, write_site
from jobeff.store import tables
from jobeff.store.scratch import scratch_root

HERE = Path(__file__).resolve().parent
CLUSTER = "snowy"
WRITES = "write,pwrite64,writev,pwritev,ftruncate,truncate,fallocate,copy_file_range,sendfile"
NAMES = "rename,renameat,renameat2,unlink,unlinkat,mkdir,mkdirat,rmdir,link,symlink"
SYNCS = "fsync,fdatasync,syncfs,sync_file_range"
CHANGES = f"{WRITES},{NAMES},{SYNCS}"
KILL = "signal=KILL"
SAYS = (
    "No space left on device",
    "Input/output error",
    "Disk quota exceeded",
    "File too large",
    "database or disk is full",
    "disk I/O error",
    "unable to open database file",
)
HOLDER = re.compile(
    r"another run is (writing|updating) .*(process \d+ on \S+ since \S+|who it is yet|at \S+\.(tmp|lock))"
)
PLACE = re.compile(r" at \S+/\S+: |: '.+'")
FAILABLE = {
    "ENOSPC": f"{WRITES},fsync,fdatasync,syncfs,mkdir,rename",
    "EDQUOT": f"{WRITES},fsync,fdatasync,syncfs,mkdir,rename",
    "EIO": f"{WRITES},{SYNCS},rename,unlink,mkdir",
}


def traceable() -> bool:
    """Whether strace is here and may trace."""
    strace = shutil.which("strace")
    return strace is not None and subprocess.run([strace, "-o", os.devnull, "true"], check=False).returncode == 0


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
        return self.race(root, [(0.0, arguments)], **how)[0]

    def race(self, root: Path, commands: list[tuple[float, list[str]]], **how: Any) -> list[Ended]:
        """Run commands on a site at the same time, each after some seconds."""
        files = [self.folder / f"err-{number}" for number in range(len(commands))]
        asked = []
        for file, (delay, arguments) in zip(files, commands, strict=True):
            file.write_text("")
            given = ["-q", "--workers", "0", *arguments]
            asked.append({"arguments": given, "err": str(file), "delay": delay})
        request = {"commands": asked, "cwd": str(root), **how}
        assert self.process.stdin
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer = self._answer()
        return [
            Ended(status, file.read_text(), answer["seconds"])
            for status, file in zip(answer["statuses"], files, strict=True)
        ]

    def _answer(self) -> Any:
        assert self.process.stdout
        return json.loads(self.process.stdout.readline())


# Cases


class Point(NamedTuple):
    """The n-th time that a thread of a command makes a system call."""

    call: str
    number: int
    where: str = ""
    wrapped: bool = False

    def faulty(self, fault: str) -> dict[str, Any]:
        """How `Runner.run` makes a fault there."""
        if self.wrapped:
            return {"wrap": {"call": self.call, "number": self.number, "fault": fault.partition("=")[2]}}
        inject = f"inject={self.call}:{fault}:when={self.number}"
        return {"strace": ["-o", "/dev/null", "-e", f"trace={self.call}", "-e", inject]}


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
    _rows: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def root(self) -> Path:
        """Where it is tried."""
        return self.before.with_name("site")

    @property
    def true(self) -> Path:
        """The efficiency database as it is to be."""
        return self.before.with_name(f"{self.before.name}-true.sqlite")

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
        self.rows()
        shutil.copyfile(tables.database(self.root, "efficiency"), self.true)

    def rows(self) -> set[str]:
        """Efficiency rows as they were or are to be."""
        if not self._rows:
            for path in (self.before, self.root):
                database = tables.database(path, "efficiency")
                if database.exists():
                    with contextlib.closing(tables.read_database(database, "efficiency")) as connection:
                        self._rows.update(repr(row) for row in connection.execute("select * from jobs"))
        return self._rows

    def points(self) -> list[Point]:
        """Where it changes files."""
        if not self.found:
            log = self.before.with_name("trace")
            log.unlink(missing_ok=True)
            self.fresh()
            self.runner.run(self.root, self.arguments, strace=["-y", "-o", str(log), "-e", f"trace={CHANGES}"])
            self.found = list(dict.fromkeys(_parse(log, self.root)))
        return self.found

    def not_durable(self) -> list[str]:
        """What a power cut could take although it has been given its name: by the order of system calls."""
        log = self.before.with_name("order")
        self.fresh()
        self.runner.run(self.root, self.arguments, strace=["-y", "-o", str(log), "-e", f"trace={CHANGES}"])
        wrong, unsynced, renamed = [], set[str](), set[str]()
        for line in log.read_text(errors="replace").splitlines():
            match = LINE.match(line)
            if match is None:
                continue
            call, paths = match[2], re.findall(r'[<"]([^<>"]*/[^<>"]*)[>"]', match[3].split("\\", maxsplit=1)[0])
            paths = [path for path in (str(self.root / path) for path in paths) if path.startswith(f"{self.root}/")]
            if call == "syncfs":
                unsynced, renamed = set(), set()
            elif call in SYNCS.split(",") and paths:
                unsynced.discard(paths[0])
                renamed.discard(paths[0])
            elif call in WRITES.split(",") and paths:
                unsynced.add(paths[0])
            elif call.startswith("rename") and len(paths) == 2:
                if paths[1].startswith(f"{scratch_root(self.root)}/"):
                    continue  # it goes with the run
                if paths[0] in unsynced:
                    wrong.append(f"{paths[1]} gets its name before it is on disk")
                renamed.add(str(Path(paths[1]).parent))
        return wrong + [
            f"the names in {folder} are not on disk at the end" for folder in sorted(renamed) if Path(folder).is_dir()
        ]

    def python_points(self) -> list[Point]:
        """Where Python changes files, or has SQLite commit; for machines without strace."""
        log = self.before.with_name("calls")
        log.unlink(missing_ok=True)
        self.fresh()
        self.runner.run(self.root, self.arguments, wrap={"log": str(log)})
        counts: Counter[str] = Counter()
        found = []
        for call in log.read_text().split():
            counts[call] += 1
            found.append(Point(call, counts[call], wrapped=True))
        return found

    def again(self, loosely: bool = False) -> list[str]:
        """What is wrong after the same command has run again."""
        ended = self.runner.run(self.root, self.arguments)
        wrong = [] if ended.status == self.status else [f"run again: exit {ended.status}: {ended.err[-1500:]}"]
        now, new = dump(self.root), self.new
        return wrong + (differences(numbers(now), numbers(new)) if loosely else differences(now, new))

    def hit(self, point: Point, fault: str) -> list[str]:
        """Make a fault at a point; gives what went wrong, in words."""
        self.fresh()
        ended = self.runner.run(self.root, self.arguments, **point.faulty(fault))
        if fault == KILL:
            wrong = [] if ended.status in (-signal.SIGKILL, self.status) else [f"exit {ended.status}: {ended.err}"]
            return wrong + self.after()
        return told_badly(ended, self.status) + self.after(late=True)

    def kill_after(self, seconds: float) -> list[str]:
        """Kill it at a time."""
        self.fresh()
        self.runner.run(self.root, self.arguments, kill_after=seconds)
        return self.after()

    def cut_short(self, size: int) -> list[str]:
        """Let no file become larger than this; what is written of the last block is less than was asked for."""
        self.fresh()
        ended = self.runner.run(self.root, self.arguments, file_size=size)
        return told_badly(ended, self.status) + self.after(late=True)

    def fill(self, free: int) -> list[str]:
        """Run it on a small file system that has so many bytes left."""
        shutil.rmtree(self.root, ignore_errors=True)
        with mounted(self.root, free + on_disk(self.before)):
            shutil.copytree(self.before, self.root, symlinks=True, dirs_exist_ok=True)
            ended = self.runner.run(self.root, self.arguments)
            wrong = told_badly(ended, self.status)
            subprocess.run(["mount", "-o", "remount,size=1g", str(self.root)], check=True)
            return wrong + self.after(late=True)

    def race(self, delay: float) -> list[str]:
        """Run it twice at the same time, the second some time after the first, while somebody reads."""
        self.fresh()
        with Readers(self) as readers:
            ended = self.runner.race(self.root, [(0.0, self.arguments), (delay, self.arguments)])
        # Where the machine does much else, those that are waited for take longer too.
        wrong = readers.told(max(1.0, ended[0].seconds / self.seconds))
        statuses = [one.status for one in ended]
        if self.status not in statuses or not set(statuses) <= {0, self.status, 11}:
            wrong.append(f"exits {statuses}: {[one.err[-300:] for one in ended]}")
        wrong += [f"says {one.err[-300:]}" for one in ended if one.status == 11 and not HOLDER.search(one.err)]
        return wrong + self.again()

    def after(self, late: bool = False) -> list[str]:
        """What is wrong after a fault, as readers find it, and when the same command has run again.

        Of `update`, a step may be `late`, whose error did not stop the others.
        """
        several = late and "update" in self.arguments
        return torn(view(self.root), self.old, self.new, several) + self.again(several)


class Readers:
    """Reads all databases of a case's site again and again, as long as this is open: each is whole, and none waits."""

    LONGEST_S = 2.0
    """A reader may have to wait until a transaction that is being committed is on disk, on a machine that is idle."""

    def __init__(self, case: Case) -> None:
        self.case, self.wrong, self.stop = case, [], threading.Event()
        self.longest = 0.0, ""
        self.thread = threading.Thread(target=self._read)

    def __enter__(self) -> Readers:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop.set()
        self.thread.join()

    def told(self, slower: float) -> list[str]:
        """What is wrong, on a machine that is so many times slower now."""
        waited, path = self.longest
        late = waited > self.LONGEST_S * slower
        return [*self.wrong, *[f"a reader of {path} waited {waited:.1f} s, {slower:.1f} times slower"] * late]

    def _read(self) -> None:
        while not self.stop.is_set() and not self.wrong:
            for name in tables.SCHEMAS:
                path = tables.database(self.case.root, name)
                if path.exists():
                    self._read_one(path, name)

    def _read_one(self, path: Path, name: str) -> None:
        began = time.monotonic()
        try:
            connection = tables.read_if_there(path, name)
            if connection is None:  # it is being made
                return
            with contextlib.closing(connection):
                connection.execute("begin")
                found = connection.execute("pragma integrity_check").fetchall()
                if found != [("ok",)]:
                    self.wrong.append(f"a reader finds {path}: {found}")
                if name != "efficiency":
                    return
                rows = {repr(row) for row in connection.execute("select * from jobs")}
            if strange := rows - self.case.rows():
                self.wrong.append(f"a reader finds rows that were never there: {sorted(strange)[:2]}")
        except (JobeffError, sqlite3.Error) as error:
            self.wrong.append(f"a reader of {path}: {error}")
        finally:
            self.longest = max(self.longest, (time.monotonic() - began, str(path)))


@contextlib.contextmanager
def mounted(folder: Path, size: int) -> Iterator[None]:
    """A file system of so many bytes, in memory."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "jobeff-test", str(folder)], check=True)
    try:
        yield
    finally:
        _unmount(folder)


def _unmount(folder: Path) -> None:
    """A process that is ended with its parent may be there for a moment; one that stays is nobody's any more."""
    for _ in range(100):
        if subprocess.run(["umount", str(folder)], check=False, stderr=subprocess.DEVNULL).returncode == 0:
            return
        time.sleep(0.1)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)  # so that what is tried next is not in its way
    raise AssertionError(f"a process of the command still uses {folder}")


def mountable(folder: Path) -> bool:
    """Whether file systems may be mounted here."""
    try:
        with mounted(folder, 1 << 16):
            return True
    except (OSError, subprocess.CalledProcessError):
        folder.rmdir()
        return False


def on_disk(folder: Path) -> int:
    """Bytes that a folder takes, whole pages."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 + 512 for path in folder.rglob("*") if path.is_file())


def told_badly(ended: Ended, status: int | None) -> list[str]:
    """What is wrong with how a command says that a file could not be written."""
    if ended.status == status and not any(say in ended.err for say in SAYS):
        return []  # it could do without
    wrong = []
    if ended.status != 1:
        wrong.append(f"exit {ended.status}")
    lines = [line for line in ended.err.splitlines() if "error: " in line]
    if (
        "Traceback" in ended.err
        or len(lines) != 1
        or not any(say in lines[0] for say in SAYS)
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
            snapshot("rebuild anew", ["rebuild"])
            for shard in (folder / "rebuild-anew").rglob("*.parquet"):
                shard.chmod(0o600)  # so that none is what would be written, and taken over
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
