"""The group ``load``: one light loader each."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import click

from jobeff.cli.options import DAY, PATH, Number, Options, cli, finish


@cli.group()
def load() -> None:
    """Load one source into its own database."""


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.option(
    "--cluster", help="Cluster of the files, where the configuration has several; or the one to ask sacct of."
)
@click.option("--replace", is_flag=True, help="Take logs that were rewritten since; their records win.")
@click.option("--sacct", is_flag=True, help="Ask sacct itself, day by day from where it stopped; load no logs.")
@click.option("--since", type=DAY, help="First day to ask sacct for, UTC; needed once.")
@click.option(
    "--pause", type=Number(0, 3600), default=1.0, show_default=True,
    help="Seconds between two days of sacct.",
)  # fmt: skip
@click.pass_obj
def slurm(
    options: Options,
    files: tuple[Path, ...],
    cluster: str | None,
    replace: bool,
    sacct: bool,
    since: datetime | None,
    pause: float,
) -> None:
    """Load Slurm accounting: all that the configuration names, or the files given.

    Site logs, 'sacct -P', 'sacct --json' and jobcomp/filetxt are told apart by their content. A record is loaded
    once, however often it comes.

    \b
    Examples:
      jobeff load slurm
      jobeff load slurm /slurm/rackham/accounting/2021-05-30
      TZ=UTC sacct --json -D -a -S 2021-05-30 > x.json; jobeff load slurm x.json
      jobeff load slurm --sacct --since 2021-05-01
    """
    if sacct and (files or replace):
        raise click.UsageError("--sacct goes with neither files nor --replace")
    if since and not sacct:
        raise click.UsageError("--since goes with --sacct")
    from jobeff.steps.load import load_slurm
    from jobeff.steps.load_sacct import Asking

    asking = Asking(since.date() if since else None, pause) if sacct else None
    finish(options, [load_slurm(options.site(pool=False), files, cluster, replace, asking)])


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.option("--whole", is_flag=True, help="All projects there are stand in the files; others end, however many.")
@click.pass_obj
def projects(options: Options, files: tuple[Path, ...], whole: bool) -> None:
    """Load projects: the file that the configuration names, or the files given.

    A project that the configured file no longer names stays, but is not active any more; unless the file looks cut,
    which is told. Files given here add and change projects and leave the others alone.

    \b
    Examples:
      jobeff load projects
      jobeff load projects /site/new-projects
      jobeff load projects --whole
    """
    from jobeff.steps.load_projects import load_projects

    finish(options, [load_projects(options.site(pool=False), files, whole)])


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.pass_obj
def storage(options: Options, files: tuple[Path, ...]) -> None:
    """Load storage statistics: the file or folder that the configuration names, or the files given.

    Text with a header (',' ';' or tab between columns) or JSON lines; a record per project and day, with proj_id, date
    and any of usage, quota, path, noback_usage, noback_quota, noback_path, inbox. Sizes are bytes, or have a unit:
    K, KB and KiB are all 1024 bytes, and so on up to P.

    \b
    Examples:
      jobeff load storage
      jobeff load storage /site/storage/2021-05.csv
    """
    from jobeff.steps.load_records import load_storage

    finish(options, [load_storage(options.site(pool=False), files)])


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.pass_obj
def corehours(options: Options, files: tuple[Path, ...]) -> None:
    """Load core-hour statistics that the site keeps: what the configuration names, or the files given.

    The same formats as of storage, with proj_id, date, cluster (if there are several), grant and 30day_usage. What is
    loaded takes the place of what 'jobeff summarise' derives from accounting.

    \b
    Examples:
      jobeff load corehours
      jobeff load corehours /site/core-hours.jsonl
    """
    from jobeff.steps.load_records import load_corehours

    finish(options, [load_corehours(options.site(pool=False), files)])
