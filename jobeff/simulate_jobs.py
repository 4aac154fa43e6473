"""Jobs of a synthetic site, made up to resemble real days."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import TypeVar

import numpy as np

from jobeff.clock import Clock
from jobeff.simulate_usage import SHAPES

Value = TypeVar("Value")

CORES_PER_NODE = 20
FIRST_JOB_ID = 20_000_001

# Shares in three whole days (46,877 started jobs) of the public log of a 486-node cluster, 2021-2022

SHORT = 0.43
"""Jobs shorter than one interval; in the 72,915 lines known of that cluster. The three days alone: 0.31."""

SHORT_S = ((1, 10, 0.144), (10, 30, 0.160), (30, 60, 0.342), (60, 120, 0.167), (120, 300, 0.187))
LONG_S = (
    *((300, 600, 0.036), (600, 1800, 0.091), (1800, 3600, 0.039), (3600, 7200, 0.092), (7200, 10_800, 0.493)),
    *((10_800, 14_400, 0.053), (14_400, 28_800, 0.082), (28_800, 57_600, 0.087), (57_600, 86_400, 0.015)),
    *((86_400, 172_800, 0.005), (172_800, 432_000, 0.006), (432_000, 864_000, 0.001)),
)
"""Run times: from, to (seconds), share."""

SHORT_STATES = {"COMPLETED": 0.605, "FAILED": 0.390, "OUT_OF_MEMORY": 0.002, "CANCELLED": 0.003}
LONG_STATES = {
    **{"COMPLETED": 0.8105, "FAILED": 0.09, "OUT_OF_MEMORY": 0.078},
    **{"CANCELLED": 0.01, "TIMEOUT": 0.0093, "NODE_FAIL": 0.0022},
}
CORES = {
    **{1: 0.47, 2: 0.10, 3: 0.08, 4: 0.10, 5: 0.08, 6: 0.006, 8: 0.01, 10: 0.01},
    **{12: 0.002, 16: 0.009, 19: 0.013, 20: 0.12},
}
"""Of jobs on one node; those on several have whole nodes."""

NODES = {2: 0.54, 3: 0.09, 4: 0.09, 5: 0.14, 8: 0.06, 10: 0.04, 16: 0.04}
"""Of the 1.2 % on several nodes."""

WAIT_S = (40, 220, 4_200, 36_000, 78_000)
"""Five equally frequent waiting times."""

LIMITS_H = (1, 2, 4, 6, 10, 24, 48, 72, 120, 168, 240)

SPECIAL = {
    **{3: "never started", 17: "requeued here", 42: "requeued elsewhere"},
    **{58: "several nodes", 91: "several nodes", 74: "timeout"},
}
"""What the jobs with these remainders by 100 are, so that every site has some of each."""

ARRAY_SIZES = (1, 1, 1, 2, 4, 12)

NAMES = (
    "bwa_mem",
    "GATK_HC_chr7",
    "_interactive",
    "run_beast2.sh",
    "namd-md",
    "nf-STAR_ALIGN_(S12)",
    "vasp.relax",
)
HOSTILE_NAMES = (
    b"two words  and three",
    b"jobstate=COMPLETED username=victim account=other",
    b"x partition=other limit=00:01:00",
    "r\u00e4ksm\u00f6rg\u00e5s \u6a21\u62df \u202e".encode(),
    b"\xff\xfe not UTF-8 \xc3",
    b"<script>alert(1)</script>&amp;",
    b"=cmd|' /C calc'!A0",
    b"\x1b[31mred\x1b[0m \x1b]0;title\x07",
    b"'; DROP TABLE jobs; --",
    b"../../../etc/passwd",
    b'a|b,c;d\te"f',
    b"lines \x0b\x1c\xc2\x85\xe2\x80\xa8 that are none",
    b"",
)
"""One in twenty jobs has the next of these; a newline cannot stand in a log line."""

USERS = (
    *("anna", "axel", "britt", "carl", "disa", "emil", "frida", "gustav"),
    *("hilma", "ivar", "jonna", "knut", "linnea", "malte", "nora", "olle"),
)
PROJECTS = tuple(f"snic2024-5-{number}" for number in range(101, 181, 8))


@dataclass(frozen=True)
class Attempt:
    """One line of an accounting log: a job, or one attempt of a requeued one.

    Attributes
    ----------
    job_id, user, project, state, cores
        As in the log.
    submit, start, end
        Epoch seconds.
    nodes
        Names, each once; empty if it never started.
    name
        Job name as bytes, because it need not be UTF-8.
    limit_s
        Time limit.
    """

    job_id: int
    user: str
    project: str
    state: str
    start: int
    end: int
    cores: int
    nodes: tuple[str, ...]
    name: bytes = b""
    submit: int = 0
    limit_s: int = 0

    def line(self, clock: Clock) -> bytes:
        """Write the line of the site log.

        Parameters
        ----------
        clock
            Of the site.

        Returns
        -------
        bytes
            With newline.
        """
        stamp = datetime.fromtimestamp(self.end, clock.zone).strftime("%Y-%m-%d %H:%M:%S")
        days, seconds = divmod(self.limit_s, 86_400)
        limit = (f"{days}-" if days else "") + f"{seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
        before = (
            f"{stamp} jobstate={self.state} jobid={self.job_id} username={self.user} account={self.project} "
            f"start={self.start} end={self.end} submit={self.submit} nodes={_folded(self.nodes)} "
            f"procs={self.cores} batch={'no' if self.name == b'_interactive' else 'yes'} jobname="
        )
        partition = "node" if self.cores >= CORES_PER_NODE else "core"
        return before.encode() + self.name + f" partition={partition} limit={limit}\n".encode()


@dataclass(frozen=True)
class Job:
    """All attempts of one job id, in order of start, and one of `SHAPES`."""

    attempts: tuple[Attempt, ...]
    shape: str


@dataclass(frozen=True)
class Day:
    """A local day and the jobs that end in it.

    Attributes
    ----------
    name
        ISO date.
    begin, end
        Epoch seconds of this midnight and the next.
    jobs
        Numbers of its jobs, from 0 on the first day.
    last
        Whether no day follows.
    """

    name: str
    begin: int
    end: int
    jobs: range
    last: bool


def is_day(text: str) -> bool:
    """Whether `text` is a calendar day, ``YYYY-MM-DD``.

    Parameters
    ----------
    text
        A candidate.

    Returns
    -------
    bool
        False for ``2024-02-30`` and ``20240201``.
    """
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def days(first_day: date, count: int, jobs: int, clock: Clock) -> list[Day]:
    """Spread jobs over days.

    Parameters
    ----------
    first_day, count
        The days.
    jobs
        Number of jobs of all days together.
    clock
        Of the site.

    Returns
    -------
    list of Day
        In order.
    """
    dates = [first_day + timedelta(days=number) for number in range(count + 1)]
    midnights = [int(datetime(d.year, d.month, d.day, tzinfo=clock.zone).timestamp()) for d in dates]
    return [
        Day(
            dates[number].isoformat(),
            midnights[number],
            midnights[number + 1],
            range(number * jobs // count, (number + 1) * jobs // count),
            number == count - 1,
        )
        for number in range(count)
    ]


def made_up(day: Day, nodes: Sequence[str], seed: int, arrays: Iterator[int]) -> Iterator[Job]:
    """Make up the jobs of a day: arrays of alike jobs, each with its own run time and end.

    Parameters
    ----------
    day
        When they end; the second attempt of a requeued job may end on the next day, unless this is the last.
    nodes
        Names of all nodes.
    seed
        Of the site. A job depends on it, its day and its number alone.
    arrays
        Counts the arrays of all days.

    Yields
    ------
    Job
        In order of job id.
    """
    number = day.jobs.start
    while number < day.jobs.stop:
        rng = np.random.default_rng([seed, 0, number])
        shape = SHAPES[next(arrays) % len(SHAPES)]
        user = int(rng.integers(len(USERS)))
        project = PROJECTS[(user * 3 + int(rng.integers(2))) % len(PROJECTS)]
        pattern = Attempt(
            *(0, USERS[user], project, "COMPLETED", 0, 0),
            cores=_drawn(rng, CORES),
            nodes=(),
            name=NAMES[rng.integers(len(NAMES))].encode(),
        )
        after = min(day.jobs.stop, number + int(rng.choice(ARRAY_SIZES)))
        for of_array in range(number, after):
            yield Job(_attempts(np.random.default_rng([seed, 1, of_array]), of_array, pattern, day, nodes), shape)
        number = after


def _attempts(
    rng: np.random.Generator, number: int, pattern: Attempt, day: Day, nodes: Sequence[str]
) -> tuple[Attempt, ...]:
    special = SPECIAL.get(number % 100, "")
    long = special in ("several nodes", "timeout") or rng.random() >= SHORT
    state = "TIMEOUT" if special == "timeout" else _drawn(rng, LONG_STATES if long else SHORT_STATES)
    run_time = _run_time(rng, LONG_S if long else SHORT_S)
    limits = [hours * 3600 for hours in LIMITS_H if hours * 3600 >= run_time]
    if state == "TIMEOUT":
        run_time = limits[0] + int(rng.integers(1, 30))
    end = int(rng.integers(day.begin, day.end))
    start = end - run_time
    place = int(rng.integers(len(nodes)))
    job = replace(
        pattern,
        job_id=FIRST_JOB_ID + number,
        state=state,
        submit=start - int(rng.integers(1, 2 * WAIT_S[rng.integers(len(WAIT_S))])),
        start=start,
        end=end,
        nodes=(nodes[place],),
        name=HOSTILE_NAMES[number // 20 % len(HOSTILE_NAMES)] if number % 20 == 9 else pattern.name,
        limit_s=limits[0] if state == "TIMEOUT" else int(rng.choice(limits[:4])),
    )
    if special == "never started":
        return (replace(job, state="CANCELLED", start=end, cores=number // 100 % 2 * job.cores, nodes=()),)
    if special == "several nodes":
        return (_on_several_nodes(rng, job, nodes),)
    if special.startswith("requeued"):
        other = (place + 1) % len(nodes)
        return _requeued(rng, job, day, nodes[other] if special == "requeued elsewhere" else nodes[place])
    return (job,)


def _on_several_nodes(rng: np.random.Generator, job: Attempt, nodes: Sequence[str]) -> Attempt:
    count = min(_drawn(rng, NODES), len(nodes))
    chosen = sorted(rng.choice(len(nodes), count, replace=False).tolist())
    if rng.random() < 0.5:
        begin = int(rng.integers(len(nodes) - count + 1))
        chosen = list(range(begin, begin + count))
    return replace(job, cores=count * CORES_PER_NODE, nodes=tuple(nodes[place] for place in chosen))


def _requeued(rng: np.random.Generator, job: Attempt, day: Day, second_node: str) -> tuple[Attempt, Attempt]:
    """Let the node fail in the evening: the second attempt ends on another day, perhaps in another month."""
    hours_left = float(rng.uniform(18, 20)) if day.last else float(rng.uniform(1, 4))
    end = day.end - int(hours_left * 3600)
    run_time = int(rng.integers(1, 8) * 3600 + rng.integers(3600))
    first = replace(job, state="NODE_FAIL", start=end - run_time, end=end, limit_s=24 * 3600)
    first = replace(first, submit=first.start - 100)
    again = end + int(rng.integers(60, 900))
    run_time = int(rng.integers(5 * 3600, 12 * 3600))
    second = replace(first, state="COMPLETED", submit=end, start=again, end=again + run_time, nodes=(second_node,))
    return first, second


def _drawn(rng: np.random.Generator, shares: dict[Value, float]) -> Value:
    edges = np.cumsum(list(shares.values()))
    return list(shares)[int(np.searchsorted(edges, rng.random() * edges[-1], side="right"))]


def _run_time(rng: np.random.Generator, bins: Sequence[tuple[int, int, float]]) -> int:
    low, high = _drawn(rng, {(low, high): share for low, high, share in bins})
    return min(int(np.exp(rng.uniform(np.log(low), np.log(high)))), high - 1)


def _folded(nodes: Sequence[str]) -> str:
    """Node list as Slurm prints it: one letter, and the numbers in order."""
    if len(nodes) < 2:
        return "".join(nodes)
    runs: list[list[int]] = []
    for number in (int(node[1:]) for node in nodes):
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    return nodes[0][0] + "[" + ",".join(str(a) if a == b else f"{a}-{b}" for a, b in runs) + "]"
