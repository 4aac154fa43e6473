"""The command that shows jobs: their numbers, what they come from, and what to ask for next time."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from jobeff.cli import completing
from jobeff.cli.options import Options, cli, print_json

if TYPE_CHECKING:
    from jobeff.config import Config
    from jobeff.progress import Progress
    from jobeff.views.job import JobView

DAMAGE = 12


@cli.command()
@click.argument("ids", metavar="[CLUSTER/]ID...", nargs=-1, required=True, shell_complete=completing.jobs)
@click.option("--samples", is_flag=True, help="Show the samples behind the numbers.")
@click.option("--raw", is_flag=True, help="Show the archived text, verbatim.")
@click.option(
    "--why", multiple=True, metavar="COLUMN", help="Walk a number back to the rows it came from; 'all': each."
)
@click.option("--attempt", type=click.IntRange(1), help="Of a job that ran several times, this attempt alone.")
@click.option("--all-flags", is_flag=True, help="Memory flags also where no other flag is raised.")
@click.option("--ascii", "only_ascii", is_flag=True, help="Draw usage over time in ASCII.")
@click.pass_obj
def job(
    options: Options,
    ids: tuple[str, ...],
    samples: bool,
    raw: bool,
    why: tuple[str, ...],
    attempt: int | None,
    all_flags: bool,
    only_ascii: bool,
) -> None:
    """Show jobs: their numbers, flags and advice, and where they come from.

    An id may be that of an array's task (123_4) or of a part of a heterogeneous job (123+0); '-' reads ids from a pipe.

    \b
    Examples:
      jobeff job 20000059
      jobeff job snowy/20000059 --samples
      jobeff job 20000059 --why mem_peak
      jobeff --json job 20000059 20000061
    """
    from jobeff.errors import ConfigError, JobeffError
    from jobeff.progress import Progress
    from jobeff.views import job as view

    config = options.load()
    columns, progress = _columns(why), Progress(options.quiet)
    printed: list[dict[str, Any]] = []
    failed: JobeffError | None = None
    differ = False
    texts = list(_ids(ids))
    if not texts:
        raise ConfigError("no job id came through the pipe", todo="Write ids to it, parted by blanks or newlines")
    for number, text in enumerate(texts):
        if number and not (raw or options.json):
            click.echo()
        try:
            found = view.find(config, view.parse_id(text))
            if attempt is not None:
                found = attempt_of(found, attempt, text)
            if raw:
                _print_raw(config, found)
            elif columns:
                differ |= _print_why(options, config, found, columns, printed, progress)
            elif options.json:
                printed += [_as_dict(config, one, samples, all_flags, progress) for one in found]
            else:
                _print(config, found, samples, all_flags, only_ascii, progress)
        except JobeffError as error:
            if len(texts) == 1:
                raise
            click.echo(f"jobeff: error: {error}", err=True)
            failed = failed or error
    if options.json and not raw:
        print_json(printed)
    if failed is not None or differ:
        sys.exit(failed.exit_code if failed is not None else DAMAGE)


def _ids(given: Sequence[str]) -> Iterator[str]:
    """Ids of the command line; of a pipe where one is '-'."""
    for text in given:
        if text == "-":
            for line in sys.stdin.buffer:
                yield from line.decode("utf-8", "replace").split()
        else:
            yield text


def _columns(why: Sequence[str]) -> list[str]:
    from jobeff.errors import ConfigError, shown
    from jobeff.store.tables import EFFICIENCY_COLUMNS

    for column in why:
        if column not in (*EFFICIENCY_COLUMNS, "all"):
            close = [name for name in EFFICIENCY_COLUMNS if name.startswith(column)] if column else []
            meant = f"Did you mean {' or '.join(close)}? " if close else ""
            todo = f"{meant}Give one of {', '.join(EFFICIENCY_COLUMNS)}, or all"
            raise ConfigError(f"there is no column {shown(column)}", todo=todo)
    return list(EFFICIENCY_COLUMNS) if "all" in why else list(dict.fromkeys(why))


def attempt_of(found: Sequence[JobView], attempt: int, text: str) -> list[JobView]:
    """One attempt of a job.

    Parameters
    ----------
    found
        All of them.
    attempt
        Which, from 1.
    text
        What was asked for.

    Returns
    -------
    list of JobView
        One per cluster that has it.

    Raises
    ------
    ConfigError
        There are not as many.
    """
    from jobeff.errors import ConfigError, shown

    chosen = [one for one in found if one.number == attempt]
    if not chosen:
        most = max(one.number for one in found)
        todo = f"Give one from 1 to {most}" if most > 1 else "It ran once; leave out --attempt"
        raise ConfigError(f"job {shown(text)} has no attempt {attempt}", todo=todo)
    return chosen


def _print(
    config: Config, found: Sequence[JobView], samples: bool, all_flags: bool, only_ascii: bool, progress: Progress
) -> None:
    from jobeff.views import job as view
    from jobeff.views import job_text, sparklines
    from jobeff.views.judge import judge

    blocks = not only_ascii and sparklines.fits(getattr(sys.stdout, "encoding", None))
    for line in job_text.attempts(found, config.clock):
        click.echo(line)
    for number, one in enumerate(found):
        judged = judge(config, one, all_flags, progress)
        if number:
            click.echo()
        click.echo(job_text.job(judged, config.clock, sparklines.BLOCKS if blocks else sparklines.ASCII))
        if samples:
            click.echo(job_text.samples(view.samples(config, one), config.clock))


def _as_dict(config: Config, one: JobView, samples: bool, all_flags: bool, progress: Progress) -> dict[str, Any]:
    from jobeff.views import job as view
    from jobeff.views import start
    from jobeff.views.judge import judge

    judged = judge(config, one, all_flags, progress)
    slow = start.of_job(one, judged.nodes)
    return {
        "accounting": one.accounting,
        "efficiency": one.efficiency,
        "attempt": one.number,
        "attempts": len(one.attempts),
        "flags": judged.flags,
        "advice": judged.advice.as_dict(),
        "coverage": judged.coverage.as_dict(),
        "slow_start": slow and asdict(slow),
        **({"samples": list(view.samples(config, one))} if samples else {}),
    }


def _print_raw(config: Config, found: Sequence[JobView]) -> None:
    from jobeff.views import job as view

    shown_files = set()
    for one in found:
        for node, content in view.raw_text(config, one):
            title = f"==> {one.accounting['cluster']}/{node}/{one.accounting['job_id']} <=="
            if (title, content) not in shown_files:  # attempts of a job can share its files
                shown_files.add((title, content))
                click.echo(title)
                sys.stdout.flush()
                sys.stdout.buffer.write(content)


def _print_why(
    options: Options,
    config: Config,
    found: Sequence[JobView],
    columns: Sequence[str],
    printed: list[dict[str, Any]],
    progress: Progress,
) -> bool:
    """Show where numbers come from; whether one differs from what is stored."""
    from jobeff.views import why

    differ = False
    measured = [one for one in found if one.efficiency is not None]
    for one in measured or found:
        case = why.Case(config, one, progress)
        for column in columns:
            explained = why.explain(case, column)
            differ |= explained.differs
            if options.json:
                printed.append(why.as_dict(case, explained))
            else:
                click.echo("\n".join(why.lines(case, explained)))
    return differ
