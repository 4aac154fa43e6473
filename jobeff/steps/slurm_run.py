"""A run on Slurm: its folder, what is known of it, and the jobs that it has submitted."""

from __future__ import annotations

import contextlib
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobeff.errors import ConfigError, JobeffError, LockedError
from jobeff.names import is_name
from jobeff.sources import ask_slurm
from jobeff.steps.away import Notes
from jobeff.steps.site import Site
from jobeff.store import fences
from jobeff.store.files import atomic_path, make_folder
from jobeff.store.locks import lock, release, reserved_by

RESERVED = {"compute": ("efficiency",), "ingest": ("shards",), "rebuild": ("shards", "efficiency")}
"""What each command writes, and nobody else may write until its run has ended."""

TARGETS = RESERVED["rebuild"]
UNKNOWN: dict[str, Any] = {"step": "unknown", "parts": 0, "tasks": 0, "code": "unknown", "tries": 0, "options": []}
"""Of a run that was killed while it was planned, or whose note is damaged: it can be cancelled."""

ENDING_S = 60.0


@dataclass
class Run:
    """A run on Slurm.

    Attributes
    ----------
    root, name
        Data root, and what the run is called.
    about
        Note of how it was submitted: ``step``, ``parts``, ``tasks`` (how many), ``code``, ``tries``, ``options``.
    """

    root: Path
    name: str
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def folder(self) -> Path:
        """Where all of it lies."""
        return self.root / "db" / "slurm" / self.name

    @property
    def notes(self) -> Notes:
        """What its jobs tell each other."""
        return Notes(self.folder)

    def jobs(self) -> list[dict[str, str]]:
        """What has been submitted, in order: ``array`` and ``merge`` are ids of jobs, ``parts`` those of the array."""
        found: list[dict[str, str]] = self.notes.get("jobs") or []
        return found

    def job_names(self) -> dict[str, str]:
        """What its jobs are called in Slurm, by step: no others are called so."""
        return {step: f"jobeff-{step}-{self.name}" for step in RESERVED}

    def noted_ids(self) -> list[str]:
        """Ids of its jobs, as far as they were noted."""
        return [one for job in self.jobs() for one in (job["array"], job["merge"]) if one]

    def unnoted_ids(self) -> list[str]:
        """Ids of jobs that have not ended, and whose `submit` was killed before it could note them."""
        noted = set(self.noted_ids())
        return [one for one in ask_slurm.named(list(self.job_names().values())) if one not in noted]

    def ids(self) -> list[str]:
        """Ids of all its jobs."""
        return [*self.noted_ids(), *self.unnoted_ids()]

    def missing(self) -> dict[int, list[str]]:
        """Tasks that have no result yet, by part."""
        names, parts = self.notes.get("tasks") or [], self.about["parts"]
        found: dict[int, list[str]] = {}
        for i, name in enumerate(names):
            if not self.notes.has(name):
                found.setdefault(i % parts, []).append(name)
        return found

    def of_part(self, part: int) -> list[str]:
        """Tasks of a part."""
        names: list[str] = self.notes.get("tasks") or []
        return names[part :: self.about["parts"]] if part < self.about["parts"] else []

    def reserves(self) -> list[str]:
        """What nobody else may write."""
        return [target for target in TARGETS if reserved_by(self.root, target) == self.name]

    def is_over(self) -> bool:
        """Whether it has ended, and let others write again."""
        return self.notes.has("outcome") and not self.reserves()

    @contextlib.contextmanager
    def at_work(self, alone: bool, wait_s: float = ENDING_S) -> Iterator[None]:
        """Work on the run: parts beside each other, all else alone; parts that Slurm has lost may go on all the same.

        Raises
        ------
        LockedError
            Somebody else is at work still.
        """
        path = self.folder / ".at-work"
        with fences.at_work(path, alone, wait_s) as free:
            if not free:
                what, todo = f"the run {self.name} is still at work", "'jobeff slurm resume' when that has ended"
                raise LockedError(what, where=str(path), safe="Nothing was changed", todo=todo)
            yield

    @contextlib.contextmanager
    def alone(self, part: int) -> Iterator[bool]:
        """Be the only one who does a part; False where somebody is, as one that Slurm has lost."""
        make_folder(self.folder / "parts")
        with fences.at_work(self.folder / "parts" / str(part), alone=True, wait_s=0) as free:
            yield free

    def submit(self, parts: Sequence[int]) -> None:
        """Submit parts, and what brings all together once these have ended, however they do."""
        ids = ranges(parts)
        words = [*self.about["options"], f"--job-name={self.job_names()[self.about['step']]}", "--requeue"]
        make_folder(self.folder / "log")
        log = str(self.folder / "log").replace("%", "%%")  # else Slurm puts something in its place
        jobs = self.jobs()
        array = ""
        if parts:
            output = f"--output={log}/part-%a-%A.log"
            array = ask_slurm.submit([*words, f"--array={ids}", output], self.folder / "part.sh")
            self.notes.put("jobs", [*jobs, {"array": array, "parts": ids, "merge": ""}])
        after = [f"--dependency=afterany:{array}"] if array else []
        merge = ask_slurm.submit([*words, *after, f"--output={log}/merge-%j.log"], self.folder / "merge.sh")
        self.notes.put("jobs", [*jobs, {"array": array, "parts": ids, "merge": merge}])

    def write_scripts(self, config: Path) -> None:
        """Write what the jobs run."""
        program = shlex.join([sys.executable, "-m", "jobeff", "-c", str(config), "--engine", "local"])
        workers = '--workers "${SLURM_CPUS_PER_TASK:-1}"'
        for kind, more in (("part", f'{self.name} "$SLURM_ARRAY_TASK_ID"'), ("merge", self.name)):
            with atomic_path(self.folder / f"{kind}.sh") as path:
                path.write_bytes(os.fsencode(f"#!/bin/bash\nexec {program} {workers} slurm {kind} {more}\n"))

    def conclude(self, outcome: dict[str, Any]) -> None:
        """Note how it has ended, let others write again, and remove what is large."""
        self.notes.put("outcome", outcome)
        self.tidy()

    def tidy(self) -> None:
        """Do what comes behind the outcome; who was killed there does it again."""
        for target in TARGETS:
            release(self.root, target, self.name)
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        for path in (self.folder / "notes").iterdir():
            if path.stem not in ("outcome", "about", "jobs"):
                path.unlink(missing_ok=True)


def ranges(numbers: Sequence[int]) -> str:
    """Write numbers as sbatch takes them; a list of many would be too long for a command.

    Parameters
    ----------
    numbers
        In order.

    Returns
    -------
    str
        As in ``0-3,7``.
    """
    found: list[list[int]] = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in found)


def is_among(number: int, written: str) -> bool:
    """Whether a number is one of those.

    Parameters
    ----------
    number, written
        From `ranges`.

    Returns
    -------
    bool
        As asked.
    """
    pairs = [one.partition("-") for one in written.split(",") if one]
    return any(int(first) <= number <= int(last or first) for first, _, last in pairs)


def new(site: Site, keep: bool = False) -> Run:
    """Begin a run; those that have ended before are removed.

    Parameters
    ----------
    site, keep
        Where to work; whether to keep those.

    Returns
    -------
    Run
        With a folder of its own.
    """
    for run in runs(site.root):
        if run.is_over() and not keep:
            shutil.rmtree(run.folder)
    run = Run(site.root, secrets.token_hex(4))
    make_folder(run.folder / "notes")
    return run


def runs(root: Path) -> list[Run]:
    """All runs that are known of, those that have ended too.

    Parameters
    ----------
    root
        Data root.

    Returns
    -------
    list of Run
        In order of their names. One that holds a reservation is there whatever else is not.
    """
    folder = root / "db" / "slurm"
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
    names.update(reserved_by(root, target) for target in TARGETS)
    found = [Run(root, name) for name in sorted(names) if is_name(name)]
    for run in found:
        try:
            run.about = run.notes.get("about") or {}
        except JobeffError:
            run.about = UNKNOWN
        if not run.about and run.reserves():
            run.about = UNKNOWN
    return [run for run in found if run.about]


def find(root: Path, name: str | None) -> Run:
    """Find a run.

    Parameters
    ----------
    root, name
        Data root, and its name; None for the only one that has not ended.

    Returns
    -------
    Run
        One that is there.
    """
    found = runs(root)
    chosen = [run for run in found if (run.name == name if name else not run.is_over())]
    if len(chosen) == 1:
        return chosen[0]
    why = f"there is no run {name}" if name else f"{len(chosen)} have not ended" if chosen else "all have ended"
    raise ConfigError(
        "cannot tell which run is meant",
        where=str(root / "db" / "slurm"),
        why=why,
        safe="Nothing was done",
        todo="See 'jobeff slurm status'",
    )


@contextlib.contextmanager
def locked(site: Site, step: str, run: str = "") -> Iterator[None]:
    """Hold all locks that a command needs.

    Parameters
    ----------
    site, step, run
        Where; which command; the run that the caller is a part of.
    """
    with contextlib.ExitStack() as stack:
        for target in RESERVED[step]:
            stack.enter_context(lock(site.root, target, run=run))
        yield


def refuse_other_code(run: Run, mine: str) -> None:
    """Refuse to go on with a run of another program.

    Parameters
    ----------
    run, mine
        The run, and this program.

    Raises
    ------
    JobeffError
        It is another one.
    """
    if run.about is UNKNOWN:
        why, todo = "its 'submit' has not come to its end", "'jobeff slurm cancel', and submit again"
        raise JobeffError(f"cannot go on with the run {run.name}", why=why, safe="Nothing was changed", todo=todo)
    if run.about["code"] != mine:
        raise JobeffError(
            f"cannot go on with the run {run.name}",
            why=f"jobeff {run.about['code']} has planned it, and this is {mine}",
            safe="Nothing was changed",
            todo="'jobeff slurm cancel', and submit again",
        )
