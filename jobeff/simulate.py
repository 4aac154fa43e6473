"""A synthetic site that looks like a real one, and the true efficiency of each job in it.

Jobs are made up (`simulate_jobs`) or read from real logs (`simulate_logs`). They get raw files
(`simulate_raw`): typed usage (`simulate_usage`), printed and damaged (`simulate_damage`). The truth
(`simulate_truth`) comes from the typed samples that survive.
"""

from __future__ import annotations

import itertools
import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from jobeff import simulate_logs, simulate_site
from jobeff.clock import Clock
from jobeff.errors import ConfigError, JobeffError, shown
from jobeff.names import is_name
from jobeff.simulate_jobs import FIRST_JOB_ID, Attempt, Day, Job, days, is_day, made_up
from jobeff.simulate_raw import DemoResult, RawWriter

__all__ = ["DemoOptions", "DemoResult", "write_site"]


@dataclass(frozen=True)
class DemoOptions:
    """What the site shall be like.

    Attributes
    ----------
    jobs, nodes, days
        How many; the jobs end within the days.
    seed
        The same options and seed give the same bytes.
    cluster
        Name of the only cluster.
    timezone
        IANA name.
    first_day
        ISO date; the default days span the end of a month and of winter time.
    """

    jobs: int = 2000
    nodes: int = 40
    days: int = 14
    seed: int = 1
    cluster: str = "snowy"
    timezone: str = "Europe/Stockholm"
    first_day: str = "2024-03-25"


def write_site(
    folder: Path,
    options: DemoOptions,
    accounting: Sequence[Path] = (),
    progress: Callable[[int, int], None] | None = None,
) -> DemoResult:
    """Write a synthetic site.

    Parameters
    ----------
    folder
        New, or an empty folder.
    options
        What it shall be like. With `accounting`, jobs, nodes, days and first_day are those of the logs.
    accounting
        Site logs whose jobs get raw files, instead of made-up jobs.
    progress
        Called with the numbers of jobs done and of all.

    Returns
    -------
    DemoResult
        What has been written.

    Raises
    ------
    JobeffError
        The folder is not empty, or a log cannot be used.
    ConfigError
        An option makes no sense.
    """
    _check(folder, options)
    clock = Clock(options.timezone)
    logs = folder / "slurm" / options.cluster / "accounting"
    # logs are read before anything is written, so that one that cannot be used leaves no half a site
    jobs = simulate_logs.read_jobs(accounting)
    logs.mkdir(parents=True, exist_ok=True)
    if accounting:
        names = simulate_logs.copy_by_day(accounting, logs)
        nodes = sorted({node for job in jobs for attempt in job.attempts for node in attempt.nodes})
        free_id = max((job.attempts[0].job_id for job in jobs), default=0) + 1
        source: Iterator[Job] = iter(jobs)
        total = len(jobs)
    else:
        span = days(date.fromisoformat(options.first_day), options.days, options.jobs, clock)
        names = [day.name for day in span]
        nodes = [f"{options.cluster[0].lower()}{number}" for number in range(1, options.nodes + 1)]
        free_id = FIRST_JOB_ID + options.jobs
        source = _made_up_with_logs(span, nodes, options.seed, clock, logs)
        total = options.jobs
    with RawWriter(folder, options.cluster, options.seed, clock=clock, nodes=nodes, free_id=free_id) as raw:
        for done, job in enumerate(source, 1):
            raw.add(job)
            if progress:
                progress(done, total)
    members = {project: sorted(users) for project, users in sorted(raw.members.items())}
    _write_surroundings(folder, options, members, names)
    _set_times(folder, logs, clock, names)
    return raw.result()


def _check(folder: Path, options: DemoOptions) -> None:
    wrong = ""
    if options.jobs < 0 or options.nodes < 1 or options.days < 1 or options.seed < 0:
        wrong = "there must be a node and a day, and no number below 0"
    elif not is_name(options.cluster):
        wrong = f"{shown(options.cluster)} cannot name a cluster"
    elif not is_day(options.first_day):
        wrong = f"{shown(options.first_day)} is not a date"
    if wrong:
        raise ConfigError("cannot make up such a site", why=wrong)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise JobeffError(
            "cannot write a synthetic site",
            where=shown(str(folder)),
            why="it exists and is not an empty folder",
            safe="Nothing has been changed",
            todo="Name a new folder",
        )


def _made_up_with_logs(span: Sequence[Day], nodes: Sequence[str], seed: int, clock: Clock, logs: Path) -> Iterator[Job]:
    """Pass on made-up jobs, and write the log of each day when all that end in it are known."""
    arrays = itertools.count()
    ended: dict[str, list[Attempt]] = defaultdict(list)
    for day in span:
        for job in made_up(day, nodes, seed, arrays):
            for attempt in job.attempts:
                ended[clock.day(attempt.end)].append(attempt)
            yield job
        in_order = sorted(ended.pop(day.name, []), key=lambda attempt: (attempt.end, attempt.job_id))
        (logs / day.name).write_bytes(b"".join(attempt.line(clock) for attempt in in_order))


def _write_surroundings(
    folder: Path, options: DemoOptions, members: dict[str, list[str]], names: Sequence[str]
) -> None:
    year = int(names[0][:4]) if names else int(options.first_day[:4])
    texts = {
        "jobeff.toml": simulate_site.configuration(
            options.cluster, options.timezone, names[-1] if names else options.first_day
        ),
        "projects": simulate_site.projects(members, year),
        "storage": "".join(simulate_site.storage(members, names)),
        f"slurm/{options.cluster}/grantfile": simulate_site.grants(members),
    }
    for name, text in texts.items():
        (folder / name).write_text(text, encoding="utf-8", errors="surrogateescape")


def _set_times(folder: Path, logs: Path, clock: Clock, names: Sequence[str]) -> None:
    """Date all but the raw files to the end of their day, the general ones to the end of the last."""
    midnight = 0
    for name in names:
        day = date.fromisoformat(name)
        midnight = days(day, 1, 0, clock)[0].end
        os.utime(logs / name, (midnight, midnight))
    for path in (*folder.iterdir(), logs.parent / "grantfile"):
        if path.is_file():
            os.utime(path, (midnight, midnight))
