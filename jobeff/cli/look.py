"""Commands that show what is there."""

from __future__ import annotations

from typing import Any

import click

from jobeff.cli.options import DAY, Options, cli, print_json


@cli.group()
def report() -> None:
    """Show many jobs in one table."""


@report.command()
@click.option("--since", type=DAY, help="First day on which a job ended, YYYY-MM-DD.")
@click.option("--until", type=DAY, help="Last day on which a job ended, YYYY-MM-DD.")
@click.pass_obj
def project(options: Options, since: Any, until: Any) -> None:
    """Show what each project booked and how much of it was used.

    \b
    Examples:
      jobeff report project
      jobeff report project --since 2024-03-01 --until 2024-03-31
      jobeff --json report project
    """
    from jobeff.views import report as view
    from jobeff.views import text

    first = since.date().isoformat() if since else "0000-00-00"
    last = until.date().isoformat() if until else "9999-99-99"
    rows = view.projects(options.load(), first, last)
    if options.json:
        print_json(rows)
    else:
        click.echo(text.projects(rows))
