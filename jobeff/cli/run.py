"""Runs a command, and turns every way in which it can end into an exit status."""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from types import FrameType
from typing import NoReturn

import click

from jobeff.cli.options import cli
from jobeff.errors import JobeffError

INTERRUPTED = 130
TERMINATED = 143


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status.

    Parameters
    ----------
    arguments
        By default those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminated)
    verbose = "-v" in given or "--verbose" in given
    try:
        cli.main(given, prog_name="jobeff", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_fail("interrupted; what was written is whole, run again to go on", INTERRUPTED))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who reads us has stopped
        sys.exit(0)
    except JobeffError as error:
        if verbose:
            raise
        sys.exit(_fail(str(error), error.exit_code))
    except (OSError, sqlite3.Error) as error:
        if verbose:
            raise
        why = f"{error}. What is written is whole. Mend the cause and run again"
        sys.exit(_fail(why, 1))
    sys.exit(0)


def _fail(why: str, status: int) -> int:
    click.echo(f"jobeff: error: {why}", err=True)
    return status


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(TERMINATED)
