"""Where a command begins. What forks its workers is started first: to import the kernels takes longer than all else."""

from __future__ import annotations

import contextlib
import itertools
import sys
from collections.abc import Sequence
from typing import NoReturn

from jobeff import inherited

WITH_WORKERS = frozenset(("check", "compute", "ingest", "rebuild", "repair", "update"))
"""Commands that have workers, unless an option says otherwise."""


def command() -> NoReturn:
    """Run the command of this process, and end it at once."""
    inherited.set_up()
    if has_workers(sys.argv[1:]):
        from jobeff.engine.forking import prepare  # noqa: PLC0415  (other commands have no need of it)

        with contextlib.suppress(OSError):  # it is tried again where it is needed, and told there
            prepare()
    from jobeff.cli.run import command as run  # noqa: PLC0415  (the workers shall not wait for this)

    run()


def has_workers(arguments: Sequence[str]) -> bool:
    """Guess whether a command has workers; where this is wrong they are started later, or for nothing.

    Parameters
    ----------
    arguments
        Of the command line.

    Returns
    -------
    bool
        False where it is about help, or has no worker processes of this machine.
    """
    none = "--help" in arguments or "--workers=0" in arguments or ("--workers", "0") in itertools.pairwise(arguments)
    elsewhere = any(argument.startswith("--engine") for argument in arguments)
    return not (none or elsewhere) and not WITH_WORKERS.isdisjoint(arguments)
