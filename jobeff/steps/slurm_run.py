"""A run on Slurm: its folder, what is known of it, and the jobs that it has submitted."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jobeff.errors import JobeffError, NotADataRootError
from jobeff.names import is_name
from jobeff.sources import ask_slurm
from jobeff.steps.away import Notes
from jobeff.steps.site import Site
from jobeff.store.files import atomic_path, lock, make_folder, open_lock, release

RESERVED = {"compute": ("efficiency",), "ingest": ("shards",), "rebuild": ("shards", "efficiency")}
"""What each command writes, and nobody else may write until its run has ended."""


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
        return names[part :: self.about["parts"]]

    @contextlib.contextmanager
    def alone(self, part: int) -> Iterator[bool]:
        """Be the only one who does a part; False where somebody is, as one that Slurm has lost."""
        make_folder(self.folder / "parts")
        handle = open_lock(self.folder / "parts" / str(part))
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
            else:
                yield True
        finally:
            os.close(handle)

    def submit(self, parts: Sequence[int]) -> None:
        """Submit parts, and what brings all together once these have ended, however they do."""
        ids = ",".join(map(str, parts))
        words = [*self.about["options"], f"--job-name=jobeff-{self.about['step']}", "--requeue"]
        log = self.folder / "log"
        make_folder(log)
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
                path.write_text(f"#!/bin/bash\nexec {program} {workers} slurm {kind} {more}\n", encoding="utf-8")

    def conclude(self, outcome: dict[str, Any]) -> None:
        """Note how it has ended, let others write again, and remove what is large."""
        self.notes.put("outcome", outcome)
        for target in RESERVED[self.about["step"]]:
            release(self.root, target, self.name)
        shutil.rmtree(self.folder / "scratch", ignore_errors=True)
        for path in (self.folder / "notes").iterdir():
            if path.stem not in ("outcome", "about", "jobs"):
                path.unlink(missing_ok=True)


def new(site: Site) -> Run:
    """Begin a run; those that have ended before are removed.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    Run
        With a folder of its own.
    """
    for run in runs(site.root):
        if run.notes.has("outcome"):
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
        In no order.
    """
    folder = root / "db" / "slurm"
    names = [path.name for path in folder.iterdir() if is_name(path.name)] if folder.is_dir() else []
    found = [Run(root, name) for name in names]
    for run in found:
        run.about = run.notes.get("about") or {}
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
    chosen = [run for run in found if (run.name == name if name else not run.notes.has("outcome"))]
    if len(chosen) == 1:
        return chosen[0]
    why = f"there is no run {name}" if name else f"there are {len(chosen)} that have not ended"
    raise NotADataRootError(
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
    if run.about["code"] != mine:
        raise JobeffError(
            f"cannot go on with the run {run.name}",
            why=f"jobeff {run.about['code']} has planned it, and this is {mine}",
            safe="Nothing was changed",
            todo="'jobeff slurm cancel', and submit again",
        )
