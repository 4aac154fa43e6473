"""The command line: options, output, exit status; what a command does stands in `jobeff.steps` and `jobeff.views`."""

from jobeff.cli import (  # noqa: F401  (their commands add themselves)
    completing,
    exchange,
    job,
    load,
    mend,
    night,
    plot,
    report,
    serve,
    setup,
    size,
    slurm,
)
from jobeff.cli.options import cli
from jobeff.cli.run import command, main

__all__ = ["cli", "command", "main"]
