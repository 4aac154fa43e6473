"""Runs a command, and turns every way in which it can end into an exit status."""

from __future__ import annotations

import atexit
import contextlib
import errno
import gc
import os
import select
import sqlite3
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import IO, NoReturn

import click

from jobeff import inherited
from jobeff.cli import signals
from jobeff.cli.options import PipeError, cli
from jobeff.errors import RIGHTS, SHOWN_CHARACTERS, JobeffError, printable, shown

INTERRUPTED = 130
MAYBE_DAMAGED = "'jobeff check --read-data' tells whether a file is damaged, 'jobeff repair' mends it"
LOOKED_THROUGH_AT = 100_000
"""So many new objects, rows of databases most of them, before Python looks for garbage among them; it is hardly any."""
RANGES = {"is not a valid integer range": "is not a whole number", "is not a valid float range": "is not a number"}


def command() -> NoReturn:
    """Run the command of this process, and end it at once.

    To take apart the modules that it has loaded would take Python longer than some commands do. What has to be done at
    the end is done: by `main`, and by those who have asked `atexit`.
    """
    try:
        main()
    except SystemExit as done:
        atexit._run_exitfuncs()
        os._exit(done.code if isinstance(done.code, int) else 1)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status.

    Parameters
    ----------
    arguments
        By default those of the process.
    """
    inherited.set_up()
    gc.set_threshold(LOOKED_THROUGH_AT)
    given = list(sys.argv[1:] if arguments is None else arguments)
    verbose = "-v" in given or "--verbose" in given
    with signals.heard():
        _leave(_status(given, verbose))


def _status(given: Sequence[str], verbose: bool) -> int:
    """Run a command; its exit status."""
    try:
        cli.main(list(given), prog_name="jobeff", standalone_mode=False)
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else int(done.code is not None)
    except click.ClickException as error:
        _show_usage(error, given)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return _fail("interrupted; what was written is whole, run again to go on", INTERRUPTED)
    except PipeError as error:
        if _reader_gone(sys.stdout) or _reader_gone(sys.stderr):
            return 0
        return _failed(error, "a process that this one works with has gone", verbose)
    except JobeffError as error:
        return _failed(error, str(error), verbose, error.exit_code)
    except (OSError, sqlite3.Error) as error:
        return _failed(error, _cause(error), verbose)
    except Exception as error:
        about = f"{type(error).__name__}: {shown(str(error))}"
        todo = f"{MAYBE_DAMAGED}; if not, run again with -v, and tell those who make jobeff what it says"
        return _failed(error, f"this should not have happened: {about}. What is written is whole. {todo}", verbose)
    return 0


def _cause(error: OSError | sqlite3.Error) -> str:
    """What the system says, and what can be done about it."""
    if isinstance(error, sqlite3.Error):
        return f"{error}. What is written is whole. Mend the cause and run again. {MAYBE_DAMAGED}"
    if error.filename is None:
        return f"{error}. What is written is whole. Mend the cause and run again"
    where = shown(str(Path(os.fsdecode(error.filename)).absolute()))  # in a log nothing says where the run was
    todo = "Mend the cause and run again"
    if error.errno in (errno.EACCES, errno.EPERM):
        todo = RIGHTS
    return f"cannot go on at {where}: {error.strerror}. What is written is whole. {todo}"


def _show_usage(error: click.ClickException, given: Sequence[str]) -> None:
    """Say what click has to say; it shows arguments whole."""
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        said = error.format_message()
    else:
        context = getattr(error, "ctx", None)
        where = context.command_path if context is not None else "jobeff"
        what = " ".join(error.format_message().split())
        for click_says, meant in RANGES.items():
            what = what.replace(click_says, meant)
        end = "" if what.endswith((".", "?", "?)")) else "."
        said = f"jobeff: error: {what}{end} '{where} --help' says more"
    for argument in given:
        if len(argument) > SHOWN_CHARACTERS:
            said = said.replace(argument, shown(argument)).replace(repr(argument)[1:-1], shown(argument))
    with contextlib.suppress(OSError):
        click.echo("\n".join(printable(line) for line in said.splitlines()), err=True)


def _failed(error: BaseException, why: str, verbose: bool, status: int = 1) -> int:
    if verbose:
        for line in "".join(traceback.format_exception(error)).splitlines():
            click.echo(shown(line.rstrip()), err=True)
    return _fail(why, status)


def _fail(why: str, status: int) -> int:
    with contextlib.suppress(OSError):  # who read our errors has gone, or their disk is full
        click.echo(f"jobeff: error: {printable(why)}", err=True)
    return status


def _reader_gone(stream: IO[str]) -> bool:
    """Whether nobody reads any more what is written to a pipe."""
    try:
        poll = select.poll()
        poll.register(stream.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in poll.poll(0))
    except (OSError, ValueError):
        return False


def _leave(status: int) -> NoReturn:
    """End with a status. What cannot be written any more is dropped, or the interpreter would complain of it."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError as error:
            if not isinstance(error, BrokenPipeError) and status == 0:
                status = _fail(f"{error}: standard output is not whole", 1)
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)
