"""Bits that turn over on disk: never a wrong number, and what is damaged is named."""

from __future__ import annotations

import contextlib
import random
import re
import sqlite3
from pathlib import Path

import crash
import damage

from jobeff.errors import JobeffError
from jobeff.store import tables

CASES = ("compute all", "rebuild", "summarise")
"""Of these cases the site has all that it shall have, before or after."""

HEAD = re.compile(rb"^==> .* <==\n", re.M)
"""Above each raw file in the archive; its checksum is that of the raw file only, not of its head."""


def flip(case: crash.Case, chance: random.Random) -> list[str]:
    """Turn a bit over, not of a head, and run what reads it."""
    if case.name == "compute all":
        return _told(case, chance, sorted(case.fresh().glob("shards/*/*/*.parquet")), heads=False)
    if case.name == "rebuild":
        return _told(case, chance, sorted(case.fresh().glob("archive/*/*.txt")), heads=False)
    return _mended(case, chance)


def flip_head(case: crash.Case, chance: random.Random) -> list[str]:
    """Turn a bit over in the head of a frame, and rebuild."""
    return _told(case, chance, sorted(case.fresh().glob("archive/*/*.txt")), heads=True)


def turn(path: Path, chance: random.Random, heads: bool = False) -> str:
    """Turn one bit of a file over; says which."""
    data = bytearray(path.read_bytes())
    in_heads = {at for head in HEAD.finditer(data) for at in range(*head.span())} if path.suffix == ".txt" else set()
    at = chance.choice(sorted(in_heads) if heads else sorted(set(range(len(data))) - in_heads))
    bit = chance.randrange(8)
    data[at] ^= 1 << bit
    path.write_bytes(data)
    return f"{path}: bit {bit} of byte {at}"


def _told(case: crash.Case, chance: random.Random, files: list[Path], heads: bool) -> list[str]:
    """Each row is the true one, or fewer of its nodes have been seen; a damaged file is named."""
    path = chance.choice(files)
    where = turn(path, chance, heads)
    ended = case.runner.run(case.root, case.arguments)
    found, true = efficiency(tables.database(case.root, "efficiency")), efficiency(case.true)
    wrong = []
    if ended.status not in (0, 3) or "Traceback" in ended.err:
        wrong.append(f"exit {ended.status}: {ended.err[-1000:]}")
    if found != true and not (ended.status == 3 and path.name in ended.err):
        wrong.append(f"nothing is said: exit {ended.status}: {ended.err[-1000:]}")
    for key, (seen, row) in found.items():
        if key not in true:
            wrong.append(f"a job that there never was: {key} {row}")
        elif row != true[key][1] and seen >= true[key][0]:
            wrong.append(f"a wrong number: {key} {row} instead of {true[key][1]}")
    return [where, *wrong] if wrong else []


def _mended(case: crash.Case, chance: random.Random) -> list[str]:
    """`check` finds a bit in any file, and `repair` makes all as it was."""
    root = case.fresh()
    case.runner.run(root, case.arguments)
    true = damage.dump(root)
    path, bit = damage.random_flip(root, chance)
    same = _dump(root) == true
    found = case.runner.run(root, ["check", "--read-data"])
    mended = case.runner.run(root, ["repair"])
    wrong = []
    if found.status != 12 and not same:
        wrong.append(f"check: exit {found.status}: {found.err[-1000:]}")
    if mended.status not in (0, 3) or "Traceback" in mended.err or _dump(root) != true:
        wrong.append(f"repair: exit {mended.status}: {mended.err[-1000:]}")
    again = case.runner.run(root, ["check", "--read-data"])
    if again.status != 0:
        wrong.append(f"check after repair: exit {again.status}: {again.err[-1000:]}")
    return [f"{path}: bit {bit}", *wrong] if wrong else []


def _dump(root: Path) -> object:
    try:
        return damage.dump(root)
    except (sqlite3.Error, OSError, ValueError, JobeffError) as error:
        return error


def efficiency(path: Path) -> dict[tuple[object, ...], tuple[int, tuple[object, ...]]]:
    """Nodes seen, and the numbers, by cluster, id and start of the job."""
    with contextlib.closing(tables.read_database(path, "efficiency")) as connection:
        rows = connection.execute("select cluster, job_id, start, nodes_seen, * from jobs").fetchall()
    return {row[:3]: (row[3], row[4:]) for row in rows}
