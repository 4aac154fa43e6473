"""Peak memory of computing one job on ever more nodes for ten days; see benchmarks/wide."""

from __future__ import annotations

import sqlite3
import sys
import tempfile
from pathlib import Path

import numpy as np

from jobeff.bench import commands, history, text
from jobeff.store import tables
from jobeff.store.crc_table import crc32_table

DAYS, INTERVAL = 10, 300
NODES_AT_ONCE = 100


def site(root: Path, nodes: int) -> None:
    """A site with one job on all its nodes, two cores each; memory used differs from node to node, and over time."""
    for folder in (root / "archive" / history.CLUSTER, root / "accounting", root / "jobstats"):
        folder.mkdir(parents=True)
    (root / "jobeff.toml").write_text(history.CONFIG)
    rows, begin = DAYS * 86400 // INTERVAL, history.FIRST_DAY
    words = [np.frombuffer(word, dtype=np.uint8) for word in (f"==> {history.CLUSTER}/r".encode(), *text.HEADERS)]
    with (root / "archive" / history.CLUSTER / "2021-01.txt").open("wb") as file:
        for first in range(1, nodes + 1, NODES_AT_ONCE):
            node = np.arange(first, min(first + NODES_AT_ONCE, nodes + 1))
            same = np.ones(len(node), dtype=np.int64)
            out, ends = np.empty(len(node) * (rows * 130 + 400), dtype=np.uint8), np.empty(len(node), dtype=np.int64)
            total = text.write_frames(
                out, words[0], node, 16 * same, begin + node % INTERVAL, rows * same, 2 * same, same > 1, INTERVAL,
                words[1], words[2], crc32_table(), True, ends,
            )  # fmt: skip
            file.write(out[:total].data)
    end = begin + DAYS * 86400
    columns = "date, job_id, proj_id, user, start, end, partition, cores, cluster, nodes, jobname, jobstate"
    row = (
        "2021-01-11", 16, "p", "u", begin, end, "node", 2 * nodes, history.CLUSTER, history.nodelist(1, nodes), "x",
        "COMPLETED",
    )  # fmt: skip
    connection = tables.open_database(tables.database(root, "accounting"), "accounting")
    connection.execute(f"insert into jobs ({columns}) values ({', '.join('?' * 12)})", row)
    connection.close()


def main() -> None:
    """Make the sites, compute them, and print a table."""
    parent, *nodes = sys.argv[1:]
    print(f"one job on so many nodes for {DAYS} days, {DAYS * 86400 // INTERVAL} rows on each")
    print(f"{'nodes':>6} {'command':<14} {'seconds':>8} {'MB, largest process':>20}", flush=True)
    for count in map(int, nodes or ("10", "100", "1000", "10000")):
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            root = Path(folder)
            site(root, count)
            for command in (("rebuild",), ("compute", "--all")):
                run = commands.jobeff(root, "--workers", "2", *command)
                print(f"{count:>6} {' '.join(command):<14} {run.seconds:>8.1f} {run.peak_mb:>20.0f}", flush=True)
            connection = sqlite3.connect(root / "db" / "efficiency.sqlite")
            print(*connection.execute("select * from jobs limit 1").fetchone()[2:13], file=sys.stderr)
            connection.close()


if __name__ == "__main__":
    main()
