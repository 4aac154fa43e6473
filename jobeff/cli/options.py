"""What all commands share: the options before the command, how results are shown, exit status.

Only what every command needs is imported at the top of these modules; the rest within each command, so that
``--help`` is quick.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

from jobeff import __version__
from jobeff.errors import SetAside, printable

if TYPE_CHECKING:
    from jobeff.config import Config
    from jobeff.steps.site import Site, StepResult

SET_ASIDE = 3
PATH = click.Path(path_type=Path)
FOLDER = click.Path(path_type=Path, file_okay=False)


class _Day(click.DateTime):
    """A date, and how to write one where it is none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            self.fail(f"{str(value)!r} is no date. Write it as YYYY-MM-DD, such as 2024-03-31.", param, ctx)

    def get_metavar(self, *_: Any, **__: Any) -> str:
        """How help names one."""
        return "YYYY-MM-DD"


DAY = _Day(["%Y-%m-%d"])


class Number(click.FloatRange):
    """A finite number in a range; of one that is none, no range is left."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read one."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


@dataclass
class Options:
    """Options of all commands."""

    config: Path | None
    workers: int | None
    engine: str | None
    json: bool
    quiet: bool
    verbose: bool
    loaded: Config | None = None

    def load(self) -> Config:
        """Read the configuration; from now on what is written is for the site's group only."""
        from jobeff import config
        from jobeff.store.files import UMASK

        os.umask(UMASK)
        self.loaded = config.load(config.find(self.config))
        return self.loaded

    def site(self, pool: bool = True) -> Site:
        """Prepare to work on the site, with worker processes or without."""
        from jobeff.engine.forking import prepare
        from jobeff.engine.pool import default_workers
        from jobeff.store import rights

        loaded = self.load()
        rights.prepare(loaded.root, loaded.group)
        workers = default_workers() if self.workers is None else self.workers
        engine = loaded.engine if self.engine is None else self.engine
        if workers and pool and engine == "local":
            prepare()
        from jobeff.progress import Progress
        from jobeff.steps.site import Site

        return Site(loaded, workers, Progress(self.quiet), engine)

    def warn_of_rights(self) -> None:
        """Say what others could read of what we keep."""
        from jobeff.store import rights

        if self.loaded is not None:
            for path, why, command in rights.check(self.loaded.root, self.loaded.group):
                with contextlib.suppress(OSError):
                    click.echo(f"jobeff: warning: {printable(f'{path}: {why}; run: {command}')}", err=True)


class PipeError(Exception):
    """A pipe is closed; click would take each for our output, and end without a word."""


def _json_too(context: click.Context, _parameter: click.Parameter, value: bool) -> None:
    if value:
        context.ensure_object(Options).json = True


class Command(click.Command):
    """A command; ``--json`` may stand after its name too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        json_too: Any = {"is_flag": True, "expose_value": False, "callback": _json_too}
        self.params.append(click.Option(["--json"], **json_too, help="Print the result as JSON."))

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read the arguments; of what is wrong with them this command's help says more."""
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise


PURPOSES = {
    "To begin": ("demo", "init"),
    "Every night": ("update", "load", "collect", "ingest", "compute", "summarise"),
    "To look": ("job", "report", "top", "plot", "sql", "serve"),
    "When something is wrong": ("check", "repair", "rebuild"),
}
"""What commands are for, in the order in which they are met; others come last."""


class Commands(click.Group):
    """All commands."""

    command_class = Command
    group_class = type

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with whole sentences, and what they are for."""
        known = [name for name in self.list_commands(ctx) if not self.commands[name].hidden]
        purposes = {what: [name for name in names if name in known] for what, names in PURPOSES.items()}
        if self.name != "cli":
            purposes = {"Commands": known}
        purposes["Others"] = [name for name in known if not any(name in names for names in purposes.values())]
        for what, names in purposes.items():
            if names:
                with formatter.section(what):
                    formatter.write_dl([(name, _first_sentence(self.commands[name].help or "")) for name in names])

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find a command; a job's id alone is no command, but nearly one."""
        if args and self.name == "cli" and args[0].rpartition("/")[2].isdecimal() and args[0] not in self.commands:
            ctx.fail(f"No such command {args[0]!r}. Did you mean 'jobeff job {args[0]}'?")
        return super().resolve_command(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Read the arguments."""
        with _told_of_pipes():
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; where it fails in a way that it does not know, a damaged database may be why."""
        try:
            with _told_of_pipes():
                return super().invoke(ctx)
        except (click.ClickException, click.Abort, click.exceptions.Exit, PipeError):
            raise
        except Exception as error:
            from jobeff.cli.cause import damage_behind

            if self.name == "cli" and ctx.obj and (found := damage_behind(error, ctx.obj)):
                raise found from error
            raise


def _first_sentence(text: str) -> str:
    """Of a help text, without its full stop."""
    return " ".join(text.split("\n\n", 1)[0].split()).split(". ", 1)[0].rstrip(".")


@contextlib.contextmanager
def _told_of_pipes() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        raise PipeError(str(error)) from error


def _checked_engine(_context: click.Context, _parameter: click.Parameter, value: str | None) -> str | None:
    from jobeff.config import ENGINES, is_engine

    if value is not None and not is_engine(value):
        raise click.BadParameter(f"it is neither {ENGINES}.")
    return value


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("-c", "--config", type=PATH, help="Configuration; else $JOBEFF_CONFIG, else ./jobeff.toml.")
@click.option(
    "--workers", type=click.IntRange(0, 1024), help="Worker processes; 0: none, work in this one. Default: all cores."
)
@click.option(
    "--engine",
    metavar="local|dask://HOST:PORT",
    callback=_checked_engine,
    help="Who works: processes of this machine, or the workers of a Dask scheduler.",
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(
    context: click.Context,
    config: Path | None,
    workers: int | None,
    engine: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Raw usage samples of an HPC cluster in, one exact efficiency row per job out.

    \b
    To try it:      jobeff demo site; cd site; jobeff update; jobeff top project
    At your site:   jobeff init --slurm-root /path/to/slurm; jobeff update
    """
    context.obj = Options(config, workers, engine, as_json, quiet, verbose)
    context.call_on_close(context.obj.warn_of_rights)


def finish(options: Options, results: Sequence[StepResult]) -> NoReturn:
    """Print what steps have done, and exit.

    Parameters
    ----------
    options
        Of the command line.
    results
        One per step, in order.
    """
    sys.exit(SET_ASIDE if show(options, results) else 0)


def show(options: Options, results: Sequence[StepResult]) -> int:
    """Print what steps have done.

    Parameters
    ----------
    options
        Of the command line.
    results
        One per step, in order.

    Returns
    -------
    int
        How many things were set aside.
    """
    aside = _of_all(results)
    if options.json:
        print_json(
            [
                {
                    "step": result.step,
                    "seconds": round(result.seconds, 3),
                    "counts": result.counts,
                    "failed": result.failed or None,
                    "set_aside": result.aside.counts,
                    "examples": [dict(zip(("kind", "where", "why"), e, strict=True)) for e in result.aside.examples],
                }
                for result in results
            ]
        )
    elif not options.quiet:
        from jobeff.views import text

        click.echo(text.results(results))
    for kind, count in aside.counts.items():
        click.echo(f"jobeff: set aside: {count:,} x {kind}", err=True)
        for _, where, why in (example for example in aside.examples if example[0] == kind):
            click.echo(f"  {printable(f'{where}: {why}')}", err=True)
    return aside.total


def _of_all(results: Sequence[StepResult]) -> SetAside:
    """What the steps have set aside together; what a later one meets again is the same thing."""
    aside = SetAside()
    for result in results:
        counts, known = result.aside.counts.copy(), set(aside.examples)
        counts.subtract(example[0] for example in result.aside.examples if example in known)
        aside.merge(SetAside(+counts, [example for example in result.aside.examples if example not in known]))
    return aside


def print_json(value: object) -> None:
    """Print a result for machines.

    Parameters
    ----------
    value
        Dictionaries, lists, texts and numbers.
    """
    click.echo(json.dumps(value, indent=1, ensure_ascii=True))
