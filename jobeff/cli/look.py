"""Commands that show what is there."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobeff.cli.options import DAY, Options, cli, print_json


@cli.command()
@click.argument("job_id", metavar="[CLUSTER/]ID")
@click.option("--samples", is_flag=True, help="Show the samples behind the numbers.")
@click.option("--raw", is_flag=True, help="Show the archived text, verbatim.")
@click.pass_obj
def job(options: Options, job_id: str, samples: bool, raw: bool) -> None:
    """Show one job: its numbers and where they come from.

    \b
    Examples:
      jobeff job 20224496
      jobeff job rackham/20224496 --samples
      jobeff --json job 20224496
    """
    from jobeff.views import job as view
    from jobeff.views import text

    config = options.load()
    found = view.find(config, *view.parse_id(job_id))
    if raw:
        shown_files = set()
        for one in found:
            for node, content in view.raw_text(config, one):
                title = f"==> {one.accounting['cluster']}/{node}/{one.accounting['job_id']} <=="
                if (title, content) not in shown_files:  # attempts of a job can share its files
                    shown_files.add((title, content))
                    click.echo(title)
                    sys.stdout.flush()
                    sys.stdout.buffer.write(content)
    elif options.json:
        print_json(
            [
                {
                    "accounting": one.accounting,
                    "efficiency": one.efficiency,
                    **({"samples": list(view.samples(config, one))} if samples else {}),
                }
                for one in found
            ]
        )
    else:
        for one in found:
            click.echo(text.job(one, config.clock))
            if samples:
                click.echo(text.samples(view.samples(config, one), config.clock))


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
