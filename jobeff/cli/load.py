"""The group ``load``: one light loader each."""

from __future__ import annotations

from pathlib import Path

import click

from jobeff.cli.options import PATH, Options, cli, finish


@cli.group()
def load() -> None:
    """Load one source into its own database."""


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.option("--cluster", help="Cluster of the files, where the configuration has several.")
@click.option("--replace", is_flag=True, help="Take logs that were rewritten since; their records win.")
@click.pass_obj
def slurm(options: Options, files: tuple[Path, ...], cluster: str | None, replace: bool) -> None:
    """Load Slurm accounting: all that the configuration names, or the files given.

    Site logs and 'sacct -P' are told apart by their content. A line is loaded once, however often it comes.

    \b
    Examples:
      jobeff load slurm
      jobeff load slurm /slurm/rackham/accounting/2021-05-30
      TZ=UTC sacct -P -n -X -D -a --format ... > day.psv; jobeff load slurm day.psv
    """
    from jobeff.steps.load import load_slurm

    finish(options, [load_slurm(options.site(pool=False), files, cluster, replace)])
