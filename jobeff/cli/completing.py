"""What a shell may complete: jobs, projects, clusters, states and flags. Where nothing is known, nothing is offered."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable

import click
from click.shell_completion import get_completion_class

from jobeff.cli.options import cli
from jobeff.errors import ConfigError, JobeffError

MOST = 40
"""So many are offered."""

SHELLS = ("bash", "zsh", "fish")
STATES = (
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT",
)  # fmt: skip


@cli.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what lets a shell complete commands, options, job ids, projects and clusters.

    \b
    Examples:
      jobeff completion bash >> ~/.bashrc
      jobeff completion zsh >> ~/.zshrc
      jobeff completion fish > ~/.config/fish/completions/jobeff.fish
    """
    found = get_completion_class(shell)
    if found is None:
        raise ConfigError(f"cannot complete in {shell}", todo=f"Give one of {', '.join(SHELLS)}")
    click.echo(found(cli, {}, "jobeff", "_JOBEFF_COMPLETE").source_template % _names())


def _names() -> dict[str, str]:
    """What click's scripts are filled in with."""
    return {"complete_func": "_jobeff_completion", "complete_var": "_JOBEFF_COMPLETE", "prog_name": "jobeff"}


def jobs(context: click.Context, _parameter: click.Parameter, begin: str) -> list[str]:
    """Job ids that begin so, the newest first.

    Parameters
    ----------
    context, begin
        Of click.

    Returns
    -------
    list of str
        At most `MOST`.
    """
    if not (begin.isascii() and begin.isdigit() and len(begin) < 19):
        return []

    def ask(connection: sqlite3.Connection) -> list[str]:
        found: list[str] = []
        for digits in range(19 - len(begin), -1, -1):
            first = int(begin) * 10**digits
            query = "select distinct job_id from jobs where job_id between ? and ? order by job_id desc limit ?"
            try:
                rows = connection.execute(query, (first, first + 10**digits - 1, MOST - len(found)))
                found += [str(row[0]) for row in rows]
            except OverflowError:  # no id is as large
                continue
        return found

    return _asked(context, ask)


def projects(context: click.Context, _parameter: click.Parameter, begin: str) -> list[str]:
    """Projects that begin so.

    Parameters
    ----------
    context, begin
        Of click.

    Returns
    -------
    list of str
        At most `MOST`.
    """

    def ask(connection: sqlite3.Connection) -> list[str]:
        found: list[str] = []
        query = "select min(proj_id) from jobs where proj_id >= ?"  # by its index: one step for each
        while len(found) < MOST:
            ((name,),) = connection.execute(query, (found[-1] + "\0" if found else begin,))
            if name is None or not name.startswith(begin):
                break
            found.append(name)
        return [name for name in found if name.isprintable()]

    return _asked(context, ask)


def clusters(context: click.Context, _parameter: click.Parameter, begin: str) -> list[str]:
    """Clusters of the configuration that begin so.

    Parameters
    ----------
    context, begin
        Of click.

    Returns
    -------
    list of str
        Sorted.
    """
    from jobeff import config

    with contextlib.suppress(JobeffError, OSError):
        known = config.load(config.find(context.find_root().params.get("config"))).clusters
        return sorted(name for name in known if name.startswith(begin))
    return []


def flags(_context: click.Context, _parameter: click.Parameter, begin: str) -> list[str]:
    """Usage flags that begin so.

    Parameters
    ----------
    begin
        Of click.

    Returns
    -------
    list of str
        Without exclamation marks, which shells take for their own.
    """
    from jobeff.views.flags import FLAGS, NOT_RUN

    return [name for flag in FLAGS if flag != NOT_RUN and (name := flag.removeprefix("!!")).startswith(begin)]


def states(_context: click.Context, _parameter: click.Parameter, begin: str) -> list[str]:
    """End states of Slurm that begin so.

    Parameters
    ----------
    begin
        Of click.

    Returns
    -------
    list of str
        In capitals.
    """
    return [state for state in STATES if state.startswith(begin.upper())]


def _asked(context: click.Context, ask: Callable[[sqlite3.Connection], list[str]]) -> list[str]:
    """What the accounting database answers; whatever is wrong with it, a shell that completes says nothing of it."""
    from jobeff import config
    from jobeff.store import tables

    with contextlib.suppress(JobeffError, OSError, sqlite3.Error):
        loaded = config.load(config.find(context.find_root().params.get("config")))
        connection = tables.read_database(tables.database(loaded.root, "accounting"), "accounting")
        with contextlib.closing(connection):
            return ask(connection)
    return []
