"""Commands that show many jobs in one table."""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobeff.cli import completing
from jobeff.cli.options import DAY, FOLDER, PATH, Number, Options, cli

if TYPE_CHECKING:
    from jobeff.config import Config
    from jobeff.views.report import Ask
    from jobeff.views.tables import Table

F = TypeVar("F", bound=Callable[..., Any])
TOP = 20


def _options(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Several options in one decorator."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


def _named(option: str, name: str, completed: Any, said: str) -> Callable[[F], F]:
    """An option that may be given again, and is completed in a shell."""
    return click.option(option, name, multiple=True, shell_complete=completed, help=said)


selecting = _options(
    click.option("--since", type=DAY, help="First day on which a job ended."),
    click.option("--until", type=DAY, help="Last day on which a job ended."),
    click.option(
        "--cluster",
        "clusters",
        multiple=True,
        shell_complete=completing.clusters,
        help="Jobs of this cluster; may be given again.",
    ),
)
choosing = _options(
    click.option(
        "--project",
        "projects",
        multiple=True,
        shell_complete=completing.projects,
        help="Jobs of this project; may be given again.",
    ),
    click.option("--user", "users", multiple=True, help="Jobs of this user; may be given again."),
    click.option(
        "--state",
        "states",
        multiple=True,
        shell_complete=completing.states,
        help="Jobs that ended so, such as FAILED; may be given again.",
    ),
    click.option(
        "--flag",
        "flags",
        multiple=True,
        shell_complete=completing.flags,
        help="Jobs with this usage flag; given again: with all of them.",
    ),
    click.option("--min-core-hours", type=Number(0), default=0.0, help="Leave out lines with fewer."),
)
showing = _options(
    click.option("--sort", metavar="COLUMN", help="Names A to Z, percentages from the lowest, else the largest first."),
    click.option("--csv", is_flag=True, help="Print CSV, for spreadsheets: no text in it runs as a formula."),
    click.option("--parquet", type=PATH, metavar="FILE", help="Write a Parquet file."),
    click.option("--force", is_flag=True, help="Replace FILE."),
    click.option("--anonymous", is_flag=True, help="Turn names into ones that say nothing, the same over the years."),
)
limited = click.option("--limit", type=click.IntRange(1), help="So many lines at most, of each week or month.")
by_period = click.option("--by", "period", type=click.Choice(["week", "month"]), help="A line per week or month.")


@cli.group(invoke_without_command=True, no_args_is_help=True)
@click.option(
    "--html", type=FOLDER, metavar="DIR", help="Write pages with these reports, to open from disk or the web."
)
@click.option("--since", type=DAY, help="With --html: the first day. Default: 30 days.")
@click.option("--until", type=DAY, help="With --html: the last day. Default: the last one with jobs.")
@click.option(
    "--jobs",
    type=click.IntRange(0, 2000),
    default=100,
    show_default=True,
    help="With --html: so many jobs that waste most have pages.",
)
@click.option("--anonymous", is_flag=True, help="With --html: turn names; no job has a page then.")
@click.pass_context
def report(
    context: click.Context,
    /,
    html: Path | None,
    since: datetime | None,
    until: datetime | None,
    jobs: int,
    anonymous: bool,
) -> None:
    """Show where core hours go: a line per project, user, cluster, state or node.

    All of them show jobs that started and have ended, whether measured or not; jobs without samples count as booked
    core hours, never as used or wasted ones. With jobeff --json, each prints an array with an object per line; its
    help says what is in it. --csv and --parquet have the same columns.

    \b
    Examples:
      jobeff report project --since 2024-03-01 --until 2024-03-31
      jobeff report user --project snic2024-5-157 --by month
      jobeff --json report node
      jobeff report --html pages --since 2024-03-01
    """
    if context.invoked_subcommand is None and html is not None:
        _write_pages(context.obj, html, since, until, jobs, anonymous)
    elif context.invoked_subcommand is None:
        raise click.UsageError("give what to report, or --html DIR", context)
    elif html is not None or since or until or anonymous:
        raise click.UsageError(
            f"give options behind '{context.invoked_subcommand}'; --html takes none of them", context
        )


def _write_pages(
    options: Options, html: Path, since: datetime | None, until: datetime | None, jobs: int, anonymous: bool
) -> None:
    from jobeff.views.web import static_site

    config = options.load()
    names = _anonymous(config) if anonymous else None
    done = static_site.write(config, html, _day(since), _day(until), jobs, names, _progress(options))
    if options.json:
        from jobeff.cli.options import print_json

        print_json({"folder": str(html), **done})
    elif not options.quiet:
        counts = f"{done['projects']:,} projects, {done['jobs']:,} jobs, {done['removed']:,} old pages removed"
        click.echo(f"{html / 'index.html'}: {counts}")


NUMBERS = """

    Columns: {key}; jobs; measured (jobs with samples); core_hours (booked by all); and of measured jobs
    measured_core_hours; cpu_pct, memory_pct, efficiency_pct (shares of what was booked, weighted by core hours;
    efficiency is the larger of the two for each job, at most 100); efficiency_p25, _p50, _p75 (percentiles over jobs);
    wasted_core_hours (booked x (1 - efficiency)). null where nothing was measured. With --by, week (ISO, 2024-W09) or
    month stands first.

    \b
    Examples:
"""


def _grouped(group: str, what: str, *examples: str) -> None:
    """Add a command of `report`."""

    def command(options: Options, /, period: str | None, **asked: Any) -> None:
        _show_groups(options, group, False, period, asked)

    said = f"Show what each {what} booked, and how much of it was used." + NUMBERS.format(key=group)
    command.__doc__ = said + "\n".join(f"      {example}" for example in examples)
    decorated = by_period(selecting(choosing(limited(showing(click.pass_obj(command))))))
    report.command(group)(decorated)


_grouped(
    "project", "project",
    "jobeff report project",
    "jobeff report project --since 2024-03-01 --min-core-hours 1000",
    "jobeff report project --by month --project snic2024-5-157 --csv",
    "jobeff --json report project --flag half_overbooked",
)  # fmt: skip
_grouped(
    "user", "user",
    "jobeff report user --project snic2024-5-157",
    "jobeff report user --anonymous --parquet users.parquet",
)  # fmt: skip
_grouped("cluster", "cluster", "jobeff report cluster --by week", "jobeff --json report cluster")
_grouped("state", "end state", "jobeff report state --since 2024-03-01", "jobeff report state --user britt")


@report.command()
@selecting
@limited
@showing
@click.pass_obj
def node(options: Options, /, **asked: Any) -> None:
    """Show which nodes misbehave: what their samples lack, compared with the jobs that booked them.

    Of the newest month in which a job ended, unless --since or --until says otherwise; the nodes that lack most come
    first. A line per node that was booked, with its problems:

    \b
      never seen     no job has a valid sample, though some were long enough
      gaps           more than 10 % of the samples are missing
      late           first sample, median, later than an interval after the start
      clock          more than 10 % of jobs have samples before their start
                     (clock_s < 0: the node's clock is behind) or after their end
                     (clock_s > 0: it is ahead)
      rejected       more than 1 % of rows are damaged
      two forms      both plain and extended files
      cores          more than 10 % of files of jobs on one node have another
                     number of cores than booked
      shard damaged  'jobeff check' says more, 'jobeff rebuild' makes it again

    Columns: cluster; node; jobs (that booked it); core_hours (of a job on several nodes its share); expected (jobs of
    at least one interval); seen (those with a valid sample); missing_pct (of the samples there should be, one per whole
    interval); first_s (start to first sample, median); outside (jobs with samples before their start or after their
    end); clock_s (by how much, median); rejected (rows); other_cores (files of jobs on one node, with another number of
    cores than booked); plain, extended (files); problems.

    \b
    Examples:
      jobeff report node
      jobeff report node --since 2024-03-01 --until 2024-03-31 --sort clock_s
      jobeff --json report node --cluster snowy
    """
    from jobeff.views.report_node import by_node

    config, ask = _asked(options, None, asked)
    _show(options, config, by_node(config, ask, _progress(options)), asked)


@cli.command()
@click.argument("what", type=click.Choice(["jobs", "project", "user", "jobname"]), default="jobs")
@selecting
@choosing
@click.option(
    "--limit", type=click.IntRange(1, 1_000_000), default=TOP, show_default=True, help="So many lines at most."
)
@showing
@click.pass_obj
def top(options: Options, /, what: str, **asked: Any) -> None:
    """Show who or what wastes most core hours: single jobs, or by project, user or job name.

    Wasted are booked core hours x (1 - efficiency), efficiency being the larger of the shares of cores and memory that
    a job used. The tasks of a job array are one line, 123_[*].

    Columns of jobs: job (cluster/id); attempt (of an id that ran several times); tasks; measured (tasks with samples);
    project; user; jobname; core_hours; measured_core_hours; cpu_pct; memory_pct; efficiency_pct; wasted_core_hours. Of
    the others: as of 'jobeff report'.

    \b
    Examples:
      jobeff top
      jobeff top jobname --since 2024-03-01 --limit 50
      jobeff top user --flag '!!severely_overbooked' --min-core-hours 100
      jobeff --json top jobs --project snic2024-5-157
    """
    if what == "jobs":
        from jobeff.views.report_jobs import by_job

        config, ask = _asked(options, None, asked)
        _show(options, config, by_job(config, ask, _progress(options)), asked)
    else:
        _show_groups(options, what, True, None, asked)


def _show_groups(options: Options, group: Any, by_waste: bool, period: str | None, asked: dict[str, Any]) -> None:
    from jobeff.views.report import by_group

    config, ask = _asked(options, period, asked)
    _show(options, config, by_group(config, group, ask, by_waste, _progress(options)), asked)


def _progress(options: Options) -> Any:
    from jobeff.progress import Progress

    return Progress(options.quiet)


def _asked(options: Options, period: Any, asked: dict[str, Any]) -> tuple[Config, Ask]:
    """What the options say."""
    if asked["csv"] and asked["parquet"]:
        raise click.UsageError("give --csv or --parquet FILE, not both")
    config = options.load()
    if asked["parquet"]:
        from jobeff.steps.export import check_target

        check_target(config, asked["parquet"], asked["force"])
    from jobeff.views.report import Ask

    limit = asked["limit"]
    anonymous = _anonymous(config) if asked["anonymous"] else None
    return config, Ask(_selection(asked), period, asked.get("min_core_hours", 0), asked["sort"], limit, anonymous)


def _anonymous(config: Config) -> Any:
    from jobeff.views.anonymous import load

    return load(config.root, config.anonymous_key)


def _selection(asked: dict[str, Any]) -> Any:
    from jobeff.views.report_flags import wanted
    from jobeff.views.report_select import Selection

    since, until = (_day(asked[name]) for name in ("since", "until"))
    clusters, projects, users, states, flags = (
        asked.get(name, ()) for name in ("clusters", "projects", "users", "states", "flags")
    )
    return Selection(since, until, clusters, projects, users, states, wanted(flags))


def _day(time: datetime | None) -> Any:
    return time.date() if time else None


def _show(options: Options, _config: Config, table: Table, asked: dict[str, Any]) -> None:
    """Show a table in the form asked for."""
    from jobeff.views import tables

    path: Path | None = asked["parquet"]
    terminal = sys.stdout.isatty()
    if path:
        from jobeff.steps.export import told

        with told(path):
            tables.write_parquet(table, path)
        if not (options.quiet or options.json):
            click.echo(f"{path}: {table.data.num_rows:,} lines")
    elif asked["csv"] or options.json:
        tables.write(table, "csv" if asked["csv"] else "json", sys.stdout.buffer, terminal)
    else:
        import shutil

        width = shutil.get_terminal_size().columns if terminal else tables.WIDTH
        click.echo(tables.terminal(table, width))
