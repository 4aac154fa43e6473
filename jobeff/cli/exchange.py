"""Commands by which others come to the data, and data of other tools comes in."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from jobeff.cli import signals
from jobeff.cli.options import FOLDER, PATH, SET_ASIDE, Options, cli, finish, show

if TYPE_CHECKING:
    import sqlite3

    from jobeff.views.sql import Form


@cli.command()
@click.argument("query", required=False)
@click.option("--csv", is_flag=True, help="Print CSV, for spreadsheets: no text in it runs as a formula.")
@click.pass_obj
def sql(options: Options, query: str | None, csv: bool) -> None:
    """Query all databases, for reading only. Without QUERY, it is read from standard input.

    Known are the tables jobs (accounting), projects, current_projects, storage_history, corehour_history,
    corehour_monthly, corehour_weekly and last_updated; and all tables of a database by its name, such as
    efficiency.jobs. On a terminal, .tables lists them. Tables are cut to the terminal and long cells to 200
    characters; CSV and JSON (jobeff --json sql, an array of objects per query) hold all.

    \b
    Examples:
      jobeff sql "select proj_id, count(*) from jobs group by 1 order by 2"
      jobeff sql --csv "select * from efficiency.jobs where cluster = 'snowy'"
      jobeff sql
    """
    from jobeff.views import sql as view

    form: Form = "csv" if csv else "json" if options.json else "table"
    config = options.load()
    terminal = sys.stdin.isatty() and query is None
    text = "" if terminal else _standard_input() if query is None else query
    connection = view.connect(config)
    try:
        if terminal:
            _prompt(connection, form)
        for statement in view.statements(text):
            view.run(connection, statement, form, sys.stdout.buffer, _width())
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who reads us has stopped; click would exit 1
    finally:
        connection.close()


def _standard_input() -> str:
    return sys.stdin.buffer.read().decode("utf-8", "backslashreplace")


def _width() -> int | None:
    """Characters per line where output goes to a terminal."""
    import shutil

    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _prompt(connection: sqlite3.Connection, form: Form) -> None:
    """Ask for statements until the end of input; Ctrl-C stops one, and what is wrong with one is said."""
    import contextlib
    import sqlite3

    from jobeff.errors import JobeffError
    from jobeff.views import sql as view

    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  (gives input() its history)
    click.echo("A statement ends with ';'. .tables lists the tables, .quit or Ctrl-D ends.", err=True)
    begun = ""
    while True:
        try:
            line = input("   ...> " if begun else "jobeff> ")
            if not begun and line.strip() in (".quit", ".exit"):
                return
            if not begun and line.strip() == ".tables":
                click.echo(view.described(connection))
                continue
            begun = f"{begun}{line}\n" if begun or line.strip() else ""
            if begun and sqlite3.complete_statement(begun):
                text, begun = begun, ""
                for statement in view.statements(text):
                    view.run(connection, statement, form, sys.stdout.buffer, _width())
        except EOFError:
            click.echo()
            return
        except KeyboardInterrupt:
            signals.go_on()
            click.echo("\ninterrupted", err=True)
            begun = ""
        except JobeffError as error:
            click.echo(f"jobeff: error: {error}", err=True)


@cli.group()
def export() -> None:
    """Write files that other tools read."""


@export.command("databases")
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.pass_obj
def export_databases(options: Options, folder: Path) -> None:
    """Copy the databases into another folder, each under another name and renamed once it is whole.

    For readers on other machines: databases are best written on local disk, and a network file system gets the copies.

    \b
    Example:
      jobeff export databases /network/jobeff/db
    """
    from jobeff.steps.publish import publish

    finish(options, [publish(options.site(pool=False), folder)])


@export.command("general")
@click.argument("file", type=PATH)
@click.option("--force", is_flag=True, help="Replace FILE.")
@click.pass_obj
def export_general(options: Options, file: Path, force: bool) -> None:
    """Write one SQLite file with the tables of all databases, as older tools know it.

    It holds jobs (accounting), projects, current_projects, storage_history, corehour_history, corehour_monthly,
    corehour_weekly and last_updated, all as they are at one time. FILE appears when it is whole.

    \b
    Examples:
      jobeff export general general.sqlite
      jobeff export general --force /data/general.sqlite
    """
    from jobeff.steps import export as step

    site = options.site(pool=False)
    finish(options, [step.export_general(site.config, file, force, site.progress)])


@export.command("efficiency")
@click.argument("file", type=PATH)
@click.option("--force", is_flag=True, help="Replace FILE.")
@click.pass_obj
def export_efficiency(options: Options, file: Path, force: bool) -> None:
    """Write the efficiency of all jobs as a Parquet file.

    \b
    Example:
      jobeff export efficiency jobs.parquet
    """
    from jobeff.steps import export as step

    site = options.site(pool=False)
    finish(options, [step.export_efficiency(site.config, file, force, site.progress)])


@export.command("raw")
@click.option("--sqlite", "folder", metavar="DIR", type=FOLDER, required=True, help="Where to write the files.")
@click.option("--cluster", help="This cluster only.")
@click.pass_obj
def export_raw(options: Options, folder: Path, cluster: str | None) -> None:
    """Write all raw files of the archive as one SQLite file per node: DIR/CLUSTER/NODE.sqlite.

    Its table jobs(job_id, jobstats) has the text of each raw file, verbatim, as a blob. Two columns more let
    'jobeff import' put it back where it was: extended (1: the text has no header and is of the extended form)
    and month. Files of an earlier export are replaced, others never.

    \b
    Examples:
      jobeff export raw --sqlite raw
      jobeff export raw --sqlite raw --cluster snowy
    """
    from jobeff.steps.export_raw import export_raw as step

    finish(options, [step(options.site(pool=False), folder, cluster)])


@cli.command("import")
@click.argument("files", nargs=-1, required=True, metavar="FILE...", type=PATH)
@click.option("--cluster", help="Cluster of what does not name one, where the configuration has several.")
@click.option(
    "--format", "kind", type=click.Choice(["auto", "rawdata", "lines", "node", "accounting"]), default="auto",
    show_default=True, help="Take only what is of this form.",
)  # fmt: skip
@click.pass_obj
def import_(options: Options, files: tuple[Path, ...], cluster: str | None, kind: str) -> None:
    """Import what other tools have kept: raw files into the archive, accounting into its database.

    Files, and those in folders, are told apart by their content:

    \b
      rawdata     SQLite, efficiency_rawdata(job_id, node, jobstats): base64, zlib
      lines       its backup: job id, node, base64, with tabs between; also .gz
      node        SQLite, NODE.sqlite: jobs(job_id, jobstats), plain or zlib
      accounting  SQLite, slurm_accounting, or jobs as in 'jobeff export general'

    The folder of a NODE.sqlite may name the cluster, as CLUSTER/NODE.sqlite.
    Accounting is taken first: it tells in which month a raw file belongs. What is there already is not taken again.

    \b
    Examples:
      jobeff import general.sqlite
      jobeff import --cluster rackham raw/ backup.tsv.gz
      jobeff import --format accounting old.sqlite
    """
    from jobeff.steps.import_store import import_stores

    results = import_stores(options.site(pool=False), files, cluster, None if kind == "auto" else kind)
    aside = show(options, results)
    if not (options.json or options.quiet):
        click.echo("Next: 'jobeff update', which computes from what is new")
    sys.exit(SET_ASIDE if aside else 0)
