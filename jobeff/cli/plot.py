"""The command that draws: a job over time, a project's weeks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from jobeff.cli import completing
from jobeff.cli.options import DAY, PATH, Options, cli, print_json


@cli.command()
@click.argument("what", metavar="[CLUSTER/]ID | project NAME", nargs=-1, required=True, shell_complete=completing.jobs)
@click.option("-o", "--out", type=PATH, help="PNG or SVG file to write. Default: a PNG here, named for what it shows.")
@click.option("--attempt", type=click.IntRange(1), help="Of a job that ran several times. Default: the last.")
@click.option("--all-flags", is_flag=True, help="Memory flags also where no other flag is raised.")
@click.option("--since", type=DAY, help="Of a project, a day in the first week.")
@click.option("--until", type=DAY, help="Of a project, a day in the last week.")
@click.pass_obj
def plot(
    options: Options,
    what: tuple[str, ...],
    out: Path | None,
    attempt: int | None,
    all_flags: bool,
    since: Any,
    until: Any,
) -> None:
    """Draw a job's cores and memory on each node over time, or a project's weeks.

    \b
    Examples:
      jobeff plot 20000059
      jobeff plot snowy/20000059 -o job.svg
      jobeff plot project snic2024-5-157 --since 2024-03-01
    """
    from jobeff.errors import ConfigError

    if what[0] == "project" and len(what) == 2:
        path, content, rows = _project(options, what[1], out, since, until)
    elif len(what) == 1 and what[0] != "project":
        path, content = _job(options, what[0], out, attempt, all_flags)
        rows = None
    else:
        raise ConfigError("one thing is drawn at a time", todo="Give a job, or 'project' and its name")
    from jobeff.store.files import atomic_write

    with atomic_write(path.absolute()) as file:
        file.write(content)
    if options.json:
        print_json({"file": str(path), **({} if rows is None else {"weeks": rows})})
    elif not options.quiet:
        click.echo(str(path))


def _job(options: Options, text: str, out: Path | None, attempt: int | None, all_flags: bool) -> tuple[Path, bytes]:
    from jobeff.cli.job import attempt_of
    from jobeff.errors import ConfigError
    from jobeff.progress import Progress
    from jobeff.views import job as view
    from jobeff.views.judge import judge
    from jobeff.views.plot import format_of
    from jobeff.views.plot_job import plot as draw

    config = options.load()
    if out is not None:
        format_of(out)
    found = view.find(config, view.parse_id(text))
    names = sorted({one.name for one in found})
    if len(names) > 1:
        raise ConfigError(f"{len(names)} jobs have that id", todo=f"Give one of {', '.join(names)}")
    chosen = found[-1] if attempt is None else attempt_of(found, attempt, text)[0]
    several = len(chosen.attempts) > 1
    if several and attempt is None and not options.quiet:
        click.echo(f"jobeff: attempt {chosen.number} of {len(chosen.attempts)}; --attempt draws another", err=True)
    known = chosen.accounting
    name = f"{known['cluster']}-{known['job_id']}{f'-{chosen.number}' if several else ''}.png"
    path = out or Path(name)
    judged = judge(config, chosen, all_flags, Progress(options.quiet))
    return path, draw(judged, config.clock, format_of(path))


def _project(
    options: Options, project: str, out: Path | None, since: Any, until: Any
) -> tuple[Path, bytes, list[dict[str, Any]]]:
    from jobeff.errors import ConfigError
    from jobeff.names import is_name
    from jobeff.views.plot import format_of
    from jobeff.views.plot_project import plot as draw
    from jobeff.views.plot_project import weeks

    if since and until and since > until:
        raise ConfigError("--since is after --until")
    path = out or Path(f"{project}-weeks.png" if is_name(project) else "project-weeks.png")
    form = format_of(path)
    first, last = (day.date().isoformat() if day else "" for day in (since, until))
    rows = weeks(options.load(), project, first, last)
    if not rows:
        raise ConfigError("the project has no job in those weeks", todo="Leave out --since and --until to see all")
    return path, draw(project, rows, form), rows
