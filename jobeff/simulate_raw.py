"""Raw files of a synthetic site, the lists of late and stray ones, and the true efficiency rows."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jobeff.clock import Clock
from jobeff.simulate_damage import KINDS, Damage
from jobeff.simulate_jobs import CORES_PER_NODE, Attempt, Job
from jobeff.simulate_truth import efficiency_row
from jobeff.simulate_usage import INTERVAL_S, NO_READING, Samples, rows_text, sample_times, usage

FOLDERS = {True: "extended_uppmax_jobstats", False: "uppmax_jobstats"}
"""By whether the files have the extended form."""

DAMAGED_EVERY = 7
LATE_EVERY = 25
ORPHAN_EVERY = 100
MOST_VALUES = 50_000_000
"""Lines of a log that would need more core values than this get no raw file: no real job does."""

Parts = dict[str, list[tuple[int, Samples]]]
"""Samples by node, and the number of the attempt that they are of."""


@dataclass(frozen=True)
class DemoResult:
    """What has been written.

    Attributes
    ----------
    jobs
        Accounting lines of jobs, started or not.
    raw_files, raw_bytes
        All raw files and their size, orphans and second forms included.
    efficiency_rows
        Jobs that have an efficiency row.
    late, orphans
        Raw files listed in ``late.txt`` and ``orphans.txt``.
    damaged
        Usages of a job on a node that have been damaged.
    """

    jobs: int
    raw_files: int
    raw_bytes: int
    efficiency_rows: int
    late: int
    orphans: int
    damaged: int


class RawWriter:
    """Writes job by job; a context manager, because it holds files open.

    Parameters
    ----------
    folder
        Of the site.
    cluster
        Its cluster.
    seed
        Of the usage; that of a job depends on it and the job id.
    clock
        Of the site.
    nodes
        Names of all nodes.
    free_id
        From here on no job has the id.

    Attributes
    ----------
    members
        Users by project, of the jobs written so far.
    """

    def __init__(
        self, folder: Path, cluster: str, seed: int, *, clock: Clock, nodes: Sequence[str], free_id: int
    ) -> None:
        self.members: dict[str, set[str]] = defaultdict(set)
        self._folder, self._cluster, self._seed = folder, cluster, seed
        self._clock, self._nodes = clock, nodes
        self._made: set[Path] = set()
        self._free_ids = itertools.count(free_id)
        self._jobs = self._files = self._bytes = self._rows = 0
        self._usages = self._damaged = self._shared = self._late = self._strays = self._orphans = 0

    def __enter__(self) -> RawWriter:
        self._truth = (self._folder / "truth.jsonl").open("w", encoding="ascii")
        self._late_list = (self._folder / "late.txt").open("w", encoding="ascii")
        self._orphan_list = (self._folder / "orphans.txt").open("w", encoding="ascii")
        return self

    def __exit__(self, *_: object) -> None:
        for file in (self._truth, self._late_list, self._orphan_list):
            file.close()

    def result(self) -> DemoResult:
        """Say what has been written so far.

        Returns
        -------
        DemoResult
            The counts.
        """
        return DemoResult(
            self._jobs,
            self._files,
            self._bytes,
            self._rows,
            self._late,
            self._orphans,
            self._damaged,
        )

    def add(self, job: Job) -> None:
        """Write all raw files of a job id, and its true rows.

        Parameters
        ----------
        job
            The next job.
        """
        job_id = job.attempts[0].job_id
        rng = np.random.default_rng([self._seed, 2, job_id])
        seen: list[dict[str, Samples]] = [{} for _ in job.attempts]
        rejected: dict[str, int] = {}
        parts = self._parts(rng, job)
        for node, of_node in parts.items():
            samples = Samples.join([part for _, part in of_node])
            owner = np.repeat([number for number, _ in of_node], [len(part.time) for _, part in of_node])
            damage = self._next_damage(rng, True in _forms(node), len(owner))
            damage.change(samples)
            self._write_usage(node, job_id, samples, damage)
            rejected[node] = damage.rejected
            if True not in _forms(node):
                samples.max_used[:] = NO_READING
            survivors = damage.survivors(len(owner))
            for number in set(owner[survivors].tolist()):
                seen[number][node] = samples.where(survivors & (owner == number))
        for attempt, of_attempt in zip(job.attempts, seen, strict=True):
            self._add_truth(attempt, of_attempt, rejected)
        if parts and self._jobs // ORPHAN_EVERY > self._strays:
            self._write_orphan(job, next(iter(parts.items())))

    def _parts(self, rng: np.random.Generator, job: Job) -> Parts:
        parts: Parts = {}
        taken_until = -1
        for number, attempt in enumerate(job.attempts):
            self._jobs += 1
            self.members[attempt.project].add(attempt.user)
            for node, samples in self._recorded(rng, job.shape, attempt):
                # where attempts overlap, in a log with errors, the earlier one has the samples
                free = samples.where(samples.time > taken_until)
                before = parts.get(node)
                if len(free.time) and (not before or before[0][1].cores.shape[1] == free.cores.shape[1]):
                    parts.setdefault(node, []).append((number, free))
            taken_until = max(taken_until, attempt.end)
        return parts

    def _recorded(self, rng: np.random.Generator, shape: str, attempt: Attempt) -> Iterator[tuple[str, Samples]]:
        """Yield what nodes have recorded: of those that share a job, some start late and some do nothing."""
        length = attempt.end - attempt.start
        if length < INTERVAL_S or length // INTERVAL_S * attempt.cores > MOST_VALUES:
            return
        nodes = attempt.nodes
        self._shared += len(nodes) > 1
        used = nodes[:-1] if len(nodes) > 1 and self._shared % 2 else nodes
        for place, node in enumerate(used):
            cores = max(1, attempt.cores // len(nodes) + (place < attempt.cores % len(nodes)))
            times = sample_times(rng, attempt.start, attempt.end)
            if place and rng.random() < 0.25:
                times = times[int(rng.integers(len(times))) :]
            limit = round(_memory_tenths(node) * min(1.0, cores / CORES_PER_NODE))
            rising = attempt.state == "OUT_OF_MEMORY"
            yield node, usage(rng, shape, times, cores=cores, limit=limit, out_of_memory=rising)

    def _next_damage(self, rng: np.random.Generator, extended: bool, rows: int) -> Damage:
        self._usages += 1
        kind = KINDS[self._damaged % len(KINDS)]
        if self._damaged >= self._usages // DAMAGED_EVERY or not Damage.fits(kind, extended, rows):
            return Damage("", 0)
        self._damaged += 1
        return Damage.place(kind, rng, rows)

    def _write_usage(self, node: str, job_id: int, samples: Samples, damage: Damage) -> None:
        paths = self._write_forms(node, job_id, samples, damage)
        if self._usages % LATE_EVERY == 0:
            self._late += len(paths)
            self._late_list.writelines(f"{path}\n" for path in paths)

    def _write_orphan(self, job: Job, part: tuple[str, list[tuple[int, Samples]]]) -> None:
        """Write a file of a job that no log names, or of a node that the job has not booked."""
        booked = {node for attempt in job.attempts for node in attempt.nodes}
        node, samples = part[0], part[1][0][1]
        job_id = next(self._free_ids)
        elsewhere = next((other for other in self._nodes if other not in booked), None)
        self._strays += 1
        if self._strays % 2 == 0 and elsewhere:
            node, job_id = elsewhere, job.attempts[0].job_id
        paths = self._write_forms(node, job_id, samples, Damage("", 0))
        self._orphans += len(paths)
        self._orphan_list.writelines(f"{path}\n" for path in paths)

    def _write_forms(self, node: str, job_id: int, samples: Samples, damage: Damage) -> list[str]:
        paths = []
        for extended in _forms(node):
            text = damage.text(rows_text(samples, extended, self._clock), extended).encode("ascii")
            path = self._folder / "slurm" / self._cluster / FOLDERS[extended] / node / str(job_id)
            if path.parent not in self._made:
                path.parent.mkdir(parents=True, exist_ok=True)
                self._made.add(path.parent)
            path.write_bytes(text)
            written = int(samples.time[-1])
            os.utime(path, (written, written))
            self._files += 1
            self._bytes += len(text)
            paths.append(path.relative_to(self._folder).as_posix())
        return paths

    def _add_truth(self, attempt: Attempt, seen: dict[str, Samples], rejected: dict[str, int]) -> None:
        if not seen:
            return
        row = efficiency_row(
            self._cluster,
            attempt,
            {node: seen[node] for node in attempt.nodes if node in seen},
            sum(rejected.get(node, 0) for node in attempt.nodes),
            self._clock.day(attempt.end),
        )
        self._rows += 1
        self._truth.write(json.dumps(row) + "\n")


def _number(node: str) -> int:
    digits = re.search(r"[0-9]{1,9}$", node)
    return int(digits[0]) if digits else 0


def _forms(node: str) -> tuple[bool, ...]:
    """Forms of the node's raw files, True for extended: each node always has the same."""
    return ((True, False), (True,), (False,), (True,))[_number(node) % 4]


def _memory_tenths(node: str) -> int:
    return 2560 if _number(node) % 8 == 5 else 1280
