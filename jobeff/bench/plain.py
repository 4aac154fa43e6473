"""The straightforward Python method that sites run today: inflate a blob, split lines, float, list, percentile."""

from __future__ import annotations

import sqlite3
import zlib

import numpy as np


def efficiency(connection: sqlite3.Connection, job_id: int, cores_booked: int) -> tuple[float, ...] | None:
    """Numbers of one job out of ``jobs(job_id, jobstats)``, jobstats being zlib of the raw text.

    Parameters
    ----------
    connection
        Database with the blobs of one job per raw file.
    job_id, cores_booked
        Of the job.

    Returns
    -------
    tuple of float or None
        cpu_mean, 75th percentile of busy cores, memory peak, median and limit, counts; None without a row.
    """
    used: list[float] = []
    limits: list[float] = []
    busy: list[int] = []
    total, values, counts = 0.0, 0, 0
    for (blob,) in connection.execute("select jobstats from jobs where job_id = ?", (job_id,)):
        lines = zlib.decompress(blob).decode().split("\n")
        named = lines[0].split().index("Individual_core_busy_percentages->->->")
        swap = lines[0].split().index("GB_SWAP_USED")
        rows = 0
        for line in lines[1:]:
            cells = line.split()
            if len(cells) <= named:
                continue
            numbers = [float(cell) for cell in cells[2:]]
            cores = numbers[named - 2 :]
            limits.append(numbers[0])
            used.append(max(numbers[1 : swap - 2]))
            busy.append(sum(core > 10 for core in cores))
            total += sum(cores)
            values += len(cores)
            rows += 1
        counts = max(counts, rows)
    if counts == 0:
        return None
    mean = total / max(values, counts * cores_booked)
    return mean, float(np.percentile(busy, 75)), max(used), float(np.median(used)), max(limits), counts
