"""What a site holds, to be compared: with what an undisturbed run leaves, and with what readers may find."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sqlite3
import stat
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from jobeff.store import archive, digests, header_sums

OURS = ("db/", "shards/", "archive/", "out/")
TIMES = {"last_updated": ("date", "time"), "current_projects": ("updated",), "written": ("times",)}
IDENTITIES = {"computed": "accounting", "placed": "accounting", "counted": "accounting", "reached": "usage"}
"""Columns that hold which database the rest was made of, and that one's name but for ``reached``."""
WITHIN = ("sqlite_sequence", "touched", "frames", "replaced", "indexed", "placed", "computed", "counted", "reached")
"""Tables by which commands know how far they have come: on the way they hold what is there neither before nor after."""
HOW_OFTEN = (*WITHIN, "last_updated", "written")
"""And those that say how often something was written, which is more where it came in pieces."""

READ: dict[tuple[Any, ...], Any] = {}


def dump(root: Path, called: Path | None = None) -> dict[str, Any]:
    """All that a data root holds, by path: rows of databases and shards, text of the archive; sources are left out.

    What differs from run to run is left out too: times, random numbers, locks, and the columns of reports, which hold
    such numbers. What is beside databases, shards and archive is there by its name, so that what has been left over
    makes a difference. A copy is `called` otherwise.
    """
    found: dict[str, Any] = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.startswith(OURS) and not re.fullmatch(r"db/(\.\w+\.lock|report(/.*)?)", name):
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
    """What is in a file; what has been read before is not read again."""
    if path.suffix not in (".sqlite", ".parquet") or path.with_name(f"{path.name}-journal").exists():
        return _read(root, path, size, called)
    others = [_identity(root, name) for name in ("accounting", "corehour_usage")]
    key = (str(path.relative_to(root)), hashlib.blake2b(path.read_bytes()).digest(), called, *others)
    if key not in READ:
        READ[key] = _read(root, path, size, called)
    return READ[key]


def _identity(root: Path, name: str) -> int:
    """What tells a database from its successor; see `jobeff.store.sqlite.identity`."""
    path = root / "db" / f"{name}.sqlite"
    return int.from_bytes(path.read_bytes()[68:72], "big") if path.exists() else 0


def _read(root: Path, path: Path, size: int, called: Path) -> Any:
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
    if path.suffix == ".headers":
        return [about.tolist() for about in np.sort(header_sums.load(path.with_name(f"{path.stem[1:]}.txt")))]
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
            if table == "digests":  # of times too
                found[table] = list(map(repr, digests.verify(path, path.stem)))
                continue
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
        row[column] = row[column] == _identity(root, "corehour_usage" if table == "reached" else "accounting")
    return row


def numbers(found: dict[str, Any]) -> dict[str, Any]:
    """Of a dump, what does not depend on the order of things: where a step of a night fails, the others go on.

    So raw files may come to the archive before accounting names their jobs, in another order, or in two months.
    """
    kept = {name: what for name, what in found.items() if name.startswith(("db/", "out/")) and "collected" not in name}
    for name, what in kept.items():
        if isinstance(what, dict):
            kept[name] = {table: rows for table, rows in what.items() if table not in HOW_OFTEN}
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
    if isinstance(found, list) and isinstance(expected, list):
        found, expected = Counter(found), Counter(expected)
    if isinstance(found, Counter) and isinstance(expected, Counter):
        return f"more {list(found - expected)[:2]}, less {list(expected - found)[:2]}"
    if isinstance(found, dict) and isinstance(expected, dict):
        return "; ".join(
            f"{key}: {_detail(found.get(key), expected.get(key))}"
            for key in sorted(found.keys() | expected.keys())
            if found.get(key) != expected.get(key)
        )
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
