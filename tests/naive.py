"""The efficiency numbers again, slow and obvious: from raw text to rows, in plain Python.

This is what every fast path must equal, so it shares no code with the package. Numbers are exact (integers of
hundredths, fractions) until the last step, the float of a column.
"""

from __future__ import annotations

import re
import statistics
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import ROUND_HALF_UP, Decimal
from fractions import Fraction
from functools import lru_cache
from zoneinfo import ZoneInfo

LARGEST = 2**31 - 1  # hundredths of GiB
FULL_CORE, WORST_CORE = 100_00, 101_00
USED_CORE, BUSY_CORE = 10_00, 3_00

LOCAL_TIME = re.compile(rb"([0-9]{4}-[0-9]{2}-[0-9]{2})T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]")
DIGITS = rb"([0-9]+(\.[0-9]*)?|\.[0-9]+)"
NUMBER = re.compile(rb"-?" + DIGITS)
PAGE_COUNT = re.compile(rb"[+-]?" + DIGITS + rb"|-?(nan|inf)", re.IGNORECASE)
NO_READING = re.compile(rb"-" + DIGITS + rb"|-?(nan|inf)", re.IGNORECASE)

MEMORY = (b"GB_LIMIT", b"GB_USED", b"GB_SWAP_USED")
REQUIRED = (b"LOCALTIME", b"TIME", *MEMORY)
OPTIONAL = (b"GB_MAX_USED", b"PAGE_IN", b"PAGE_OUT")
CORES = b"Individual_core"

PLAIN = (*REQUIRED, CORES)
EXTENDED = (*PLAIN[:4], b"GB_MAX_USED", b"GB_SWAP_USED", b"PAGE_IN", b"PAGE_OUT", CORES)


@dataclass(frozen=True)
class RawFile:
    """Raw usage of one job on one node; `extended` says which folder it came from."""

    cluster: str
    node: str
    job_id: int
    text: bytes
    extended: bool = False


@dataclass(frozen=True)
class Job:
    """One attempt of a job, as accounting has it; `start` and `end` are epoch seconds."""

    cluster: str
    job_id: int
    proj_id: str
    user: str
    start: int
    end: int
    cores: int
    state: str
    nodes: tuple[str, ...]


@dataclass
class Sample:
    """One valid row; memory in hundredths of GiB, cores in hundredths of a percent."""

    time: int
    limit: int
    used: int
    max_used: int | None
    swap: int
    cores: tuple[int, ...]


# Of one attempt: the nodes seen, in order of its node list; samples in order of TIME
Nodes = dict[str, list[Sample]]


# From text to samples


@lru_cache(maxsize=100_000)
def _hundredths(cell: bytes) -> int | None:
    """Value of a number, LARGEST + 1 for anything beyond that; None where `cell` is not a number >= 0."""
    if NUMBER.fullmatch(cell) is None:
        return None
    value = Decimal(cell.decode("ascii"))
    if cell.startswith(b"-") and value != 0:
        return None
    if value > LARGEST:
        return LARGEST + 1
    return min(int(value.quantize(Decimal("0.01"), ROUND_HALF_UP) * 100), LARGEST + 1)


def _at_most(largest: int, cell: bytes) -> int | None:
    value = _hundredths(cell)
    return value if value is not None and value <= largest else None


def _epoch(cell: bytes) -> int | None:
    digits = cell.lstrip(b"0") or b"0"
    if not cell.isdigit() or len(digits) > 19:  # int() refuses thousands of digits
        return None
    return int(digits) if int(digits) < 2**63 else None


def _is_local_time(cell: bytes) -> bool:
    match = LOCAL_TIME.fullmatch(cell)
    try:
        return match is not None and date.fromisoformat(match[1].decode("ascii")).year >= 1
    except ValueError:
        return False


def _columns(header: Sequence[bytes]) -> dict[bytes, int] | None:
    """Column of each role and the first core column; None where they cannot be known."""
    cores = [column for column, name in enumerate(header) if name.startswith(CORES)]
    if not cores:
        return None
    columns = {CORES: cores[0]}
    for role in REQUIRED + OPTIONAL:
        if header.count(role) > 1 or (role in REQUIRED and role not in header):
            return None
        if role in header:
            columns[role] = header.index(role)
    # cores run to the end of the row, so nothing else fits behind them
    return columns if max(columns.values()) == cores[0] else None


def _sample(row: list[bytes], columns: dict[bytes, int]) -> Sample | None:
    """Read a row by itself, or None where it is invalid."""
    if len(row) <= columns[CORES] or not _is_local_time(row[columns[b"LOCALTIME"]]):
        return None
    time = _epoch(row[columns[b"TIME"]])
    limit, used, swap = (_at_most(LARGEST, row[columns[role]]) for role in MEMORY)
    if time is None or limit is None or used is None or swap is None:
        return None
    max_used = None
    if b"GB_MAX_USED" in columns:
        cell = row[columns[b"GB_MAX_USED"]]
        max_used = _at_most(LARGEST, cell)
        too_large = max_used is None and _hundredths(cell) is not None
        if max_used is None and not too_large and NO_READING.fullmatch(cell) is None:
            return None
    for role in (b"PAGE_IN", b"PAGE_OUT"):
        if role in columns and PAGE_COUNT.fullmatch(row[columns[role]]) is None:
            return None
    cores = [_at_most(WORST_CORE, cell) for cell in row[columns[CORES] :]]
    if None in cores:
        return None
    busy = tuple(min(core, FULL_CORE) for core in cores if core is not None)
    return Sample(time, limit, used, max_used, swap, busy)


def parse(text: bytes, extended: bool) -> tuple[list[Sample], int]:
    """Read a raw file: its valid rows in the order of the file, and the number of invalid ones.

    `extended` says whether it came from the extended folder; that matters only where it has no header.
    """
    # bytes.split() splits at runs of space, \t, \r, \v and \f: the separators of columns
    rows = [row for row in (line.split() for line in text.split(b"\n")) if row]
    has_header = bool(rows) and rows[0][0] == b"LOCALTIME"
    columns = _columns(rows.pop(0) if has_header else EXTENDED if extended else PLAIN)
    if columns is None:
        return [], len(rows)
    valid: list[Sample] = []
    times: set[int] = set()
    for row in rows:
        sample = _sample(row, columns)
        if sample is None or sample.time in times:
            continue
        if not valid or len(sample.cores) == len(valid[0].cores):
            valid.append(sample)
            times.add(sample.time)
    return valid, len(rows) - len(valid)


# From samples to jobs


def _without_prefixes(files: list[RawFile]) -> list[RawFile]:
    """Files that are not the beginning of another one; of equal texts one, an extended one if there is."""
    kept: list[RawFile] = []
    for file in sorted(files, key=lambda file: (-len(file.text), not file.extended)):
        if not any(longer.text.startswith(file.text) for longer in kept):
            kept.append(file)
    return kept


def _samples(files: list[RawFile]) -> tuple[list[Sample], int]:
    """Samples of a job id on a node, in order of TIME, and the number of invalid rows."""
    ordered = []
    rejected = 0
    for file in _without_prefixes(files):
        valid, invalid = parse(file.text, file.extended)
        rejected += invalid
        if valid:
            first = min(sample.time for sample in valid)
            ordered.append((first, len(file.text), zlib.crc32(file.text), valid))
    ordered.sort(key=lambda entry: entry[:3])
    by_time: dict[int, Sample] = {}
    for sample in (sample for *_, valid in ordered for sample in valid):
        by_time.setdefault(sample.time, sample)
    return [by_time[time] for time in sorted(by_time)], rejected


def _owner(time: int, attempts: list[Job], interval: int) -> Job | None:
    """Attempt on a node that a sample belongs to: one that holds it (distance 0), else the nearest."""
    distance, _, job = min((max(job.start - time, time - job.end, 0), job.start, job) for job in attempts)
    return job if distance <= interval else None


# From samples of a job to its row


def _cores_above(job: Job, nodes: Nodes, threshold: int, interval: int) -> list[int]:
    """Number of the job's cores above `threshold` at each sampling time, sorted."""
    total: dict[int, int] = defaultdict(int)
    for samples in nodes.values():
        first = samples[0].time
        late = max(0, first - job.start) // interval
        # in order of TIME, so the later one in a slot replaces the earlier
        of_slot = {round(Fraction(sample.time - first, interval)) + late: sample for sample in samples}
        for slot, sample in of_slot.items():
            total[slot] += sum(core > threshold for core in sample.cores)
    return sorted(total.values())


def _percentile75(ordered: list[int]) -> Fraction:
    place = Fraction(3, 4) * (len(ordered) - 1)
    below = place.numerator // place.denominator
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (place - below) * (ordered[above] - ordered[below])


def _peak_and_limit(nodes: Nodes) -> tuple[int, int]:
    """Hundredths of GiB, both of the node that came closest to its limit; limit 0 is unknown."""
    of_nodes = []
    for samples in nodes.values():
        peak = max(max(sample.used, sample.max_used or 0) for sample in samples)
        of_nodes.append((peak, max(sample.limit for sample in samples)))
    # max() takes the first of equals
    return max(of_nodes, key=lambda node: (node[1] > 0, Fraction(node[0], node[1] or 1)))


def _float(hundredths: int | Fraction) -> float:
    return float(Fraction(hundredths) / 100)


def _row(job: Job, nodes: Nodes, rejected: int, interval: int, zone: ZoneInfo) -> dict[str, object]:
    """Columns of one job."""
    samples = [sample for of_node in nodes.values() for sample in of_node]
    booked = tuple(dict.fromkeys(job.nodes))
    counts = max(len(of_node) for of_node in nodes.values())
    expected = max(1, (job.end - job.start) // interval)
    expected_seen = sum(min(len(of_node), expected) for of_node in nodes.values())
    core_sum = sum(sum(sample.cores) for sample in samples)
    core_values = sum(len(sample.cores) for sample in samples)
    peak, limit = _peak_and_limit(nodes)
    median = Fraction(statistics.median(sample.used for sample in samples))
    return {
        "job_id": job.job_id,
        "cluster": job.cluster,
        "proj_id": job.proj_id,
        "user": job.user,
        "cpu_mean": _float(Fraction(core_sum, max(core_values, counts * job.cores))),
        "cpu_cores_used_percentile": float(_percentile75(_cores_above(job, nodes, USED_CORE, interval))),
        "cores": job.cores,
        "mem_peak": _float(peak),
        "mem_median": _float(median),
        "mem_limit": _float(limit) if limit else None,
        "counts": counts,
        "state": job.state,
        "date_finished": datetime.fromtimestamp(job.end, zone).date().isoformat(),
        "nodelist": ",".join(booked),
        "start": job.start,
        "end": job.end,
        "nodes_booked": len(booked),
        "nodes_seen": len(nodes),
        "coverage": float(Fraction(expected_seen, expected * len(booked))),
        "rejected": rejected,
        "swap_peak": _float(max(sample.swap for sample in samples)),
        "cores_used_peak": _cores_above(job, nodes, BUSY_CORE, interval)[-1],
        "definition": 1,
    }


def _rows_of_job_id(
    attempts: list[Job], files_of: dict[str, list[RawFile]], interval: int, zone: ZoneInfo
) -> Iterator[tuple[int, dict[str, object]]]:
    """Start and row of all attempts of one job id; `files_of` holds its files by node."""
    nodes = {node for job in attempts for node in job.nodes}
    read = {node: _samples(files_of.get(node, [])) for node in nodes}
    for job in attempts:
        seen: Nodes = {}
        for node in dict.fromkeys(job.nodes):
            rivals = [attempt for attempt in attempts if node in attempt.nodes]
            mine = [sample for sample in read[node][0] if _owner(sample.time, rivals, interval) is job]
            if mine:
                seen[node] = mine
        if seen:
            rejected = sum(read[node][1] for node in set(job.nodes))
            yield job.start, _row(job, seen, rejected, interval, zone)


def efficiency(
    jobs: Iterable[Job], files: Iterable[RawFile], interval: int = 300, timezone: str = "Europe/Stockholm"
) -> dict[tuple[str, int, int], dict[str, object]]:
    """Compute the rows of `efficiency/jobs`.

    Parameters
    ----------
    jobs
        All attempts that accounting knows, in any order.
    files
        Raw files that have been collected, in any order; those of no booked node are never read.
    interval
        Seconds between two samples.
    timezone
        IANA name of the zone of `date_finished`.

    Returns
    -------
    dict
        Columns by name, of each (cluster, job_id, start) with at least one sample. Memory in GiB, cpu in
        percent; ``mem_limit`` is None where it is unknown.

    Raises
    ------
    ValueError
        Two jobs have the same cluster, job id and start.
    """
    zone = ZoneInfo(timezone)
    files_of: dict[tuple[str, int], dict[str, list[RawFile]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        files_of[file.cluster, file.job_id][file.node].append(file)
    attempts_of: dict[tuple[str, int], list[Job]] = defaultdict(list)
    for job in jobs:
        attempts_of[job.cluster, job.job_id].append(job)
    rows: dict[tuple[str, int, int], dict[str, object]] = {}
    for (cluster, job_id), attempts in attempts_of.items():
        if len({job.start for job in attempts}) < len(attempts):
            raise ValueError(f"{cluster}/{job_id}: two jobs with the same start")
        for start, row in _rows_of_job_id(attempts, files_of.get((cluster, job_id), {}), interval, zone):
            rows[cluster, job_id, start] = row
    return rows
