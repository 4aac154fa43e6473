#!/usr/bin/env python3
"""Rates of the stages on one core, in MB of raw text per second, on a synthetic site of fixed seed.

Usage: benchmarks/stages.py [--jobs N] [--repeat N]

Beside each stage stands the straightforward Python method (split lines, float, list) in the same run, so that what
counts is the ratio, not this machine's speed today.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jobeff import config, simulate
from jobeff.engine import samples, warm
from jobeff.engine.partials import merge, node_parts
from jobeff.errors import SetAside
from jobeff.steps.collect import collect
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site
from jobeff.store import archive, framing, shards


def best(function: Callable[[], object], repeat: int) -> float:
    """Seconds of the quickest run."""
    seconds = []
    for _ in range(repeat):
        began = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def plain_python(text: bytes) -> int:
    """What sites do today: every cell a float, every row a list."""
    rows = 0
    for line in text.split(b"\n"):
        cells = line.split()
        if len(cells) > 5 and cells[0] != b"LOCALTIME":
            try:
                [float(cell) for cell in cells[1:]]
            except ValueError:
                continue
            rows += 1
    return rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jobs", type=int, default=3000)
    parser.add_argument("--repeat", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "site"
        simulate.write_site(root, simulate.DemoOptions(jobs=given.jobs))
        site = Site(config.load(root / "jobeff.toml"))
        load_slurm(site)
        collect(site)
        warm.run_all()
        cluster, path = "snowy", max((root / "archive" / "snowy").glob("*.txt"), key=lambda p: p.stat().st_size)
        with archive.mapped(path) as text:
            size = len(text)
            whole = np.frombuffer(text, dtype=np.uint8)
            found = framing.scan(text, 0, cluster, str(path), SetAside())
            order = np.argsort(found.job_id, kind="stable")
            begin, end = found.begin[order], (found.begin + found.bytes)[order]

            def parse() -> object:
                return samples.parse(whole, begin, end, found.extended[order])[0]

            columns = {
                "job_id": found.job_id[order],
                "offset": begin,
                "bytes": end - begin,
                "crc32": np.zeros(len(begin)),
            }
            table = shards.table_of({**parse(), **columns})
            shard = root / "shard.parquet"
            typed = shards.samples_of(table)
            ids = np.unique(typed.job_id)
            first, last = int(typed.time.min()), int(typed.time.max())
            same = [np.full(len(ids), value) for value in (first, last, 1, 1)]
            index = np.arange(len(ids))

            def reduce() -> object:
                return node_parts(typed, 300, index, index * 0, ids, same[0], same[1])

            parts = reduce()
            stages = {
                "plain Python": lambda: plain_python(bytes(text)),
                "scan frames": lambda: framing.scan(text, 0, cluster, str(path), SetAside()),
                "parse": parse,
                "encode and write": lambda: shards.write(shard, table, {}),
                "read and decode": lambda: shards.samples_of(shards.read(shard)[0]),
                "reduce": reduce,
                "merge": lambda: merge(parts, 300, index, *same),
            }
            rates = {name: size / best(stage, given.repeat) / 1e6 for name, stage in stages.items()}
        stored = shard.stat().st_size / 1e6
        print(f"{size / 1e6:.1f} MB of raw text, {len(found.begin)} raw files; {stored:.2f} MB as a shard")
        print(f"{'stage':<18}{'MB/s':>9}{'ratio':>8}")
        for name, rate in rates.items():
            print(f"{name:<18}{rate:>9,.0f}{rate / rates['plain Python']:>8,.0f}")


if __name__ == "__main__":
    main()
