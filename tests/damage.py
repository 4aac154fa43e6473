"""A small site that has something in every database, and ways to damage it."""

import random
import shutil
import sqlite3
from pathlib import Path

import naive
import sites
from strategies import PLAIN, local_time
from test_chain import MONTH_END

from jobeff.steps.update import update
from jobeff.store import shards, tables

START = MONTH_END
SOURCES = """
[sources]
projects = "projects"
storage = "storage.csv"
"""
LEFT_OUT = {"seq", "updated", "accounting", "accounting_seq", "restarts", "known_end", "id", "usage", "touched"}
"""Columns that say when, or by which numbers, something was written; not what."""

TABLES = {
    "accounting": ("jobs",),
    "efficiency": ("jobs",),
    "storage_history": ("storage_history",),
    "corehour_history": ("corehour_history",),
    "corehour_usage": ("corehour_daily", "corehour_monthly", "corehour_weekly"),
    "projects": ("projects",),
    "current_projects": ("current_projects",),
}


def usage(rows, value, first):
    lines = [f"{local_time(t)} {t} 8.0 1.25 0.0 {value:.1f} 5.0" for t in range(first, first + 300 * rows, 300)]
    return "\n".join([PLAIN, *lines, ""]).encode()


def history() -> sites.Night:
    """Jobs of two months: on one node and on two, without a raw file, too short, and a raw file of no job."""
    jobs = [
        naive.Job("c1", i, f"p{i % 2}", "u", start, start + 900, 2, "COMPLETED", nodes)
        for i, (start, nodes) in enumerate(
            [(START + 900 * k, ("n1", "n2")[: 1 + k % 2] if k % 3 else ("n2",)) for k in range(8)]
            + [(START - 86_400 + 900 * k, ("n1",)) for k in range(4)],
            start=11,
        )
    ]
    files = [
        naive.RawFile("c1", node, job.job_id, usage(3, job.job_id, job.start + 9)) for job in jobs for node in job.nodes
    ]
    jobs += [
        naive.Job("c1", 31, "p1", "u", START, START + 900, 2, "COMPLETED", ("n1",)),
        naive.Job("c1", 32, "p1", "u", START, START + 20, 2, "COMPLETED", ("n1",)),
    ]
    return sites.Night(jobs, files)


def make(root: Path, executor=None):
    """The site after a night."""
    site = sites.make(root, 0, executor)
    (root / "jobeff.toml").write_text(sites.CONFIG + SOURCES)
    (root / "projects").write_text("Name: p0\nPrincipal: a\nStart: 20200101\nEnd: 20990101\n\nName: p1\nPrincipal: b\n")
    (root / "storage.csv").write_text(
        "proj_id,date,usage,quota\np0,2021-05-30,5,10\np0,2021-06-02,7,10\np1,2021-06-02,1,2\n"
    )
    history().fall(root, "2021-06-02")
    site = type(site)(sites.config(root), 0, _pool=executor)
    site._warm = executor is not None
    update(site)
    return site


def copy(site, root: Path):
    """The same site elsewhere, with the same sources."""
    shutil.copytree(site.root, root)
    made = type(site)(sites.config(root), 0, _pool=site._pool)
    made._warm = True
    return made


def dump(root: Path) -> dict[str, list[tuple]]:
    """All that the site says, in a form that does not tell how often it was made."""
    found: dict[str, list[tuple]] = {}
    for name, some in TABLES.items():
        connection = sqlite3.connect(tables.database(root, name))
        for table in some:
            columns = [row[1] for row in connection.execute(f"pragma table_info({table})") if row[1] not in LEFT_OUT]
            listed = ", ".join(f'"{column}"' for column in columns)
            found[f"{name}.{table}"] = sorted(connection.execute(f"select {listed} from {table}"), key=repr)
        connection.close()
    for path in sorted((root / "shards").glob("*/*/*.parquet")):
        table, _ = shards.read(path)
        found[str(path.relative_to(root))] = [tuple(row.values()) for row in table.to_pylist()]
    for path in sorted((root / "archive").glob("*/*.txt")):
        found[str(path.relative_to(root))] = [(path.read_bytes(),)]
    return found


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def targets(root: Path) -> list[Path]:
    """Files that a disk can damage."""
    return sorted(
        [*root.glob("archive/*/*.txt"), *root.glob("archive/*/.*.headers"), *root.glob("shards/*/*/*.parquet"),
         *root.glob("shards/*/.ingested/*.json"), *root.glob("db/*.sqlite")]
    )  # fmt: skip


def random_flip(root: Path, rng: random.Random) -> tuple[Path, int]:
    path = rng.choice(targets(root))
    bit = rng.randrange(8 * path.stat().st_size)
    flip(path, bit)
    return path, bit
