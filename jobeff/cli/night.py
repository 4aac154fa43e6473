"""Commands of the night and the rebuild: the steps that keep archive, shards and databases."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from jobeff.cli.options import Options, cli, finish, show

if TYPE_CHECKING:
    from jobeff.steps.site import StepResult


@cli.command()
@click.pass_obj
def collect(options: Options) -> None:
    """Take finished jobs' raw files from the node folders into the archive.

    \b
    Example:
      jobeff collect
    """
    from jobeff.steps.collect import collect as step

    finish(options, [step(options.site(pool=False))])


@cli.command()
@click.pass_obj
def ingest(options: Options) -> None:
    """Bring the shards up to date with the archive.

    \b
    Example:
      jobeff ingest
    """
    site = options.site()  # its workers get ready while this process imports
    from jobeff.steps.ingest import ingest as step

    finish(options, [step(site)])


@cli.command()
@click.option("--all", "everything", is_flag=True, help="Everything, into a new database that replaces the old one.")
@click.pass_obj
def compute(options: Options, everything: bool) -> None:
    """Compute the efficiency of jobs: what has changed, or everything.

    \b
    Examples:
      jobeff compute
      jobeff compute --all
    """
    site = options.site()  # its workers get ready while this process imports
    from jobeff.steps.compute import compute as step

    finish(options, [step(site, everything)])


@cli.command()
@click.option("--all", "everything", is_flag=True, help="Count all of accounting again.")
@click.pass_obj
def summarise(options: Options, everything: bool) -> None:
    """Sum up core hours by week and month, their history, and what is known of current projects.

    What is new in accounting is added, and what was replaced there is taken back. Grants are recorded on the day of
    the run. A database that is not there yet leaves its numbers empty.

    \b
    Examples:
      jobeff summarise
      jobeff summarise --all
    """
    from jobeff.steps.summarise import summarise as step

    finish(options, [step(options.site(pool=False), everything)])


@cli.command()
@click.pass_obj
def update(options: Options) -> None:
    """Do the night's work: load all sources, collect, ingest, compute, summarise.

    \b
    Example, in a crontab:
      0 3 * * *  jobeff -c /data/jobeff/jobeff.toml update
    """
    site = options.site()  # its workers get ready while this process imports
    from jobeff.steps.update import update as steps

    results: list[StepResult] = []
    try:
        steps(site, results)
    except BaseException:
        if results:
            show(options, results)
        raise
    finish(options, results)


@cli.command()
@click.pass_obj
def rebuild(options: Options) -> None:
    """Make shards and efficiency again from archive and accounting.

    The new ones are made beside the old ones, which stay in use until the new ones are whole. A rebuild that was
    stopped goes on where it was.

    \b
    Example:
      jobeff rebuild
    """
    site = options.site()  # its workers get ready while this process imports
    from jobeff.steps.rebuild import rebuild as steps

    finish(options, steps(site))
