"""Asks ``sacct`` itself for the jobs of one day. It runs with a list of arguments, no shell, in UTC and plain C."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from datetime import date, timedelta
from typing import BinaryIO, cast

from jobeff.clock import Clock
from jobeff.errors import SetAside, SourceError, shown
from jobeff.sources.accounting import KIND, MAX_LINE_BYTES, AccountingJob, LogLines, ReadCounts, Records, text_of
from jobeff.sources.sacct import COLUMNS, Sacct

PROGRAM = "sacct"
TIMEOUT_S = 900.0
"""A day's answer that takes longer is given up."""

_ERRORS_SHOWN = 4096


def ask(cluster: str, day: date, delimiter: str) -> BinaryIO:
    """Ask for all jobs that Slurm knew within a day, so all that ended on it.

    Parameters
    ----------
    cluster
        As Slurm spells it.
    day
        From midnight to midnight UTC.
    delimiter
        Stands between two columns.

    Returns
    -------
    BinaryIO
        The whole answer, in a temporary file that goes when it is closed.

    Raises
    ------
    SourceError
        There is no ``sacct``, it failed, took too long, or its answer is cut.
    """
    answer = tempfile.TemporaryFile()  # noqa: SIM115  (the caller closes it)
    try:
        with tempfile.TemporaryFile() as told:
            status = _run(_command(cluster, day, delimiter), answer, told)
            told.seek(0)
            _check(status, told.read(_ERRORS_SHOWN), answer)
    except BaseException:
        answer.close()
        raise
    answer.seek(0)
    return answer


def read(
    answer: BinaryIO, delimiter: str, *, cluster: str, clock: Clock, where: str, aside: SetAside, counts: ReadCounts
) -> Iterator[AccountingJob]:
    """Read an answer's finished jobs; what cannot be used is set aside.

    Parameters
    ----------
    answer, delimiter
        From `ask` and `new_delimiter`.
    cluster
        Cluster of the jobs that do not name one.
    clock
        Gives the day a job ended.
    where
        Name of the answer in messages.
    aside, counts
        Added to while reading.

    Yields
    ------
    AccountingJob
        Jobs that have ended, also those that never started.
    """
    parser = Sacct(COLUMNS, Records(cluster, clock, counts), delimiter)
    for number, line in _whole_records(answer, delimiter.encode()):
        try:
            if len(line) > MAX_LINE_BYTES:
                raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
            job = parser.parse(text_of(line))
        except ValueError as error:
            counts.set_aside += 1
            aside.add(KIND, f"{where}:{number}", str(error))
            continue
        if job is not None:
            counts.add(job)
            yield job


def new_delimiter() -> str:
    """What stands between two columns, never the same twice.

    A job name may hold a newline and then what looks like another job's record; it cannot know this.

    Returns
    -------
    str
        ASCII.
    """
    return f"|{secrets.token_hex(8)}|"


def _command(cluster: str, day: date, delimiter: str) -> list[str]:
    return [
        PROGRAM, "-P", "-n", "-X", "-D", "-a", f"--delimiter={delimiter}", f"--clusters={cluster}",
        "-S", f"{day}T00:00:00", "-E", f"{day + timedelta(days=1)}T00:00:00",
        "--format", COLUMNS.lower().replace("|", ","),
    ]  # fmt: skip


def _environment() -> dict[str, str]:
    """Ours, without what changes how ``sacct`` prints."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "SACCT_", "LC_"))}
    if "SLURM_CONF" in os.environ:
        kept["SLURM_CONF"] = os.environ["SLURM_CONF"]
    return kept | {"TZ": "UTC", "LC_ALL": "C"}


def _run(command: list[str], answer: BinaryIO, told: BinaryIO) -> int:
    """Run to the end. The answer comes through a pipe: a disk that is full is then our error, and not overlooked."""
    try:
        # A site's sacct may be a script that starts the real one: as a session of their own both can be ended.
        process = subprocess.Popen(  # noqa: S603  (a checked cluster name and dates)
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=told, env=_environment(),
            start_new_session=True,
        )  # fmt: skip
    except FileNotFoundError as error:
        todo = "Run where Slurm's commands are, or load files that sacct has written elsewhere"
        raise _failed("there is no such program on $PATH", todo) from error
    except OSError as error:
        raise _failed(error.strerror or str(error)) from error
    late = threading.Event()

    def give_up() -> None:
        late.set()
        _kill(process)

    timer = threading.Timer(TIMEOUT_S, give_up)
    timer.start()
    with process:
        try:
            shutil.copyfileobj(cast(BinaryIO, process.stdout), answer)
            status = process.wait()
        except BaseException:
            _kill(process)
            raise
        finally:
            timer.cancel()
    if late.is_set():
        raise _failed(f"it did not answer within {TIMEOUT_S:g} s")
    return status


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _check(status: int, told: bytes, answer: BinaryIO) -> None:
    # Some versions print that they could not reach their database, and exit 0.
    complaint = [line for line in told.splitlines() if line.startswith((b"sacct: error", b"sacct: fatal"))]
    if status or complaint:
        why = shown(b" ".join((complaint or [told])[0].split()))
        raise _failed(f"exit status {status}" + (f", it said {why}" if why else ""))
    size = answer.seek(0, os.SEEK_END)
    if size:
        answer.seek(-1, os.SEEK_END)
        if answer.read(1) != b"\n":
            raise _failed("its answer ends within a line")


def _failed(why: str, todo: str = "Run again when it works; it is asked from there on") -> SourceError:
    safe = "Days that were asked before are loaded, this one is not"
    return SourceError("cannot ask sacct", why=why, safe=safe, todo=todo)


def _whole_records(answer: BinaryIO, delimiter: bytes) -> Iterator[tuple[int, bytes]]:
    """Records; a line without a delimiter goes on with the job name, which is the last column."""
    first, record = 0, b""
    for number, line in LogLines(answer):
        if delimiter in line or not first:
            if first:
                yield first, record
            first, record = number, line
        elif len(record) <= MAX_LINE_BYTES:
            record += b"\n" + line
    if first:
        yield first, record
