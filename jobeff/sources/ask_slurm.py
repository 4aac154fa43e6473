"""Slurm's own commands, for runs of ours: submit, ask, cancel. Each gets a list of arguments, and no shell is used."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from jobeff.errors import JobeffError, shown

TIMEOUT_S = 60
ENDED = ("Invalid job id", "already completing or completed")
"""What Slurm says of jobs that are not there any more."""


def submit(options: Sequence[str], script: Path) -> str:
    """Submit a job.

    Parameters
    ----------
    options
        Of sbatch.
    script
        What it runs.

    Returns
    -------
    str
        Its id.
    """
    said = _run(["sbatch", "--parsable", *options, str(script)])
    job_id = said.strip().rpartition("\n")[2].partition(";")[0]
    if not (job_id.isascii() and job_id.isdigit()):  # as with --test-only
        why, todo = f"it has said {shown(said)!r}, and no job id", "See 'squeue --me', mend and run again"
        raise JobeffError("cannot tell what sbatch has submitted", why=why, safe="No result was changed", todo=todo)
    return job_id


def named(names: Sequence[str]) -> list[str]:
    """Find jobs by their names: of one that was submitted by who was killed at once, nobody else knows the id.

    Parameters
    ----------
    names
        Of jobs.

    Returns
    -------
    list of str
        Ids of those that have not ended, as `submit` gives them.
    """
    text = _run(["squeue", "-h", "-o", "%F", f"--name={','.join(names)}"])
    return sorted({word for word in text.split() if word.isdigit()})


def states(job_ids: Sequence[str]) -> dict[str, str]:
    """Ask for the states of jobs.

    Parameters
    ----------
    job_ids
        From `submit`.

    Returns
    -------
    dict
        State by id, ``<id>_<index>`` for those of an array; only of jobs that have not ended.
    """
    if not job_ids:
        return {}
    try:
        text = _run(["squeue", "-h", "-r", "-o", "%i|%T", "-j", ",".join(job_ids)])
    except JobeffError as error:
        if "Invalid job id" in str(error):  # what Slurm says of jobs that ended long ago, where there is none else
            return {}
        raise
    return dict(line.split("|", 1) for line in text.splitlines() if "|" in line)


def ended(job_ids: Sequence[str]) -> dict[str, str]:
    """Ask accounting how jobs have ended.

    Parameters
    ----------
    job_ids
        From `submit`.

    Returns
    -------
    dict
        State by id; empty where there is no accounting.
    """
    if not job_ids:
        return {}
    try:
        text = _run(["sacct", "-n", "-P", "-X", "-o", "JobID,State", "-j", ",".join(job_ids)])
    except JobeffError:
        return {}
    return dict(line.split("|", 1) for line in text.splitlines() if "|" in line)


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs.

    Parameters
    ----------
    job_ids
        From `submit`; they may have ended.
    """
    if not job_ids:
        return
    try:
        _run(["scancel", *job_ids])
    except JobeffError as error:
        if not any(ended in str(error) for ended in ENDED):
            raise


def _run(command: list[str]) -> str:
    """Run one of them; its output."""
    safe = "Nothing was changed by it"
    try:
        done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)  # noqa: S603
    except FileNotFoundError as error:
        todo = "Run this where Slurm's commands are"
        raise JobeffError(f"cannot run {command[0]}", why="there is no such program", safe=safe, todo=todo) from error
    except subprocess.TimeoutExpired as error:
        why = f"it has not answered within {TIMEOUT_S} s"
        raise JobeffError(f"cannot run {command[0]}", why=why, safe=safe, todo="Run again") from error
    if done.returncode:
        raise JobeffError(
            f"{command[0]} has failed", why=shown(done.stderr.strip()), safe=safe, todo="Mend and run again"
        )
    return done.stdout.decode("utf-8", "backslashreplace")
