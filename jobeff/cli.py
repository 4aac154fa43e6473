"""The command line: options, output, exit status. What a command does stands in ``jobeff.steps`` and ``jobeff.views``.

Only what every command needs is imported here; the rest within each command, so that ``--help`` is quick.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn

import click

from jobeff import __version__
from jobeff.errors import JobeffError, SetAside

if TYPE_CHECKING:
    from jobeff.config import Config
    from jobeff.steps.site import Site, StepResult

SET_ASIDE = 3
INTERRUPTED = 130
TERMINATED = 143
DAY = click.DateTime(["%Y-%m-%d"])
PATH = click.Path(path_type=Path)


@dataclass
class Options:
    """Options of all commands."""

    config: Path | None
    workers: int | None
    json: bool
    quiet: bool
    verbose: bool

    def load(self) -> Config:
        """Read the configuration."""
        from jobeff import config

        return config.load(config.find(self.config))

    def site(self, pool: bool = True) -> Site:
        """Prepare to work on the site, with worker processes or without."""
        from jobeff.engine.pool import default_workers, prepare

        os.umask(0o027)  # what is written shows people's activity: not for others
        loaded = self.load()
        workers = default_workers() if self.workers is None else self.workers
        if workers and pool:
            prepare()
        from jobeff.progress import Progress
        from jobeff.steps.site import Site

        return Site(loaded, workers, Progress(self.quiet))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__)
@click.option("-c", "--config", type=PATH, help="Configuration; else $JOBEFF_CONFIG, else ./jobeff.toml.")
@click.option(
    "--workers", type=click.IntRange(0, 1024), help="Worker processes; 0: none, work in this one. Default: all cores."
)
@click.option("--json", "as_json", is_flag=True, help="Print results as JSON.")
@click.option("-q", "--quiet", is_flag=True, help="No progress, no summary; errors only.")
@click.option("-v", "--verbose", is_flag=True, help="Show tracebacks.")
@click.pass_context
def cli(
    context: click.Context, config: Path | None, workers: int | None, as_json: bool, quiet: bool, verbose: bool
) -> None:
    """Raw usage samples of an HPC cluster in, one exact efficiency row per job out.

    \b
    To try it:      jobeff demo site; cd site; jobeff update; jobeff report project
    At your site:   jobeff init --slurm-root /path/to/slurm; jobeff update
    """
    context.obj = Options(config, workers, as_json, quiet, verbose)


@cli.command()
@click.option("--days", type=click.IntRange(1, 3660), default=8, show_default=True, help="Length of the history.")
@click.option("--peers", is_flag=True, help="Polars and DuckDB too, from the same shards (extra 'bench').")
@click.option("--folder", type=PATH, help="Where to make the synthetic site, and leave it. Default: a temporary one.")
@click.pass_obj
def bench(options: Options, days: int, peers: bool, folder: Path | None) -> None:
    """Measure this machine on a synthetic site of 500 nodes and 15,000 jobs a day.

    A day of it is 35 MB of raw text; by default all takes a minute or two.

    \b
    Examples:
      jobeff bench
      jobeff --json bench --days 30 --peers --folder /local/disk/bench
    """
    import tempfile

    from jobeff.bench import run
    from jobeff.progress import Progress

    progress = Progress(options.quiet)
    with tempfile.TemporaryDirectory() as temporary:
        if folder is not None:
            folder.mkdir(parents=True)
        found = run.run(folder or Path(temporary), run.Size(days=(days,), peers=peers), progress.line)
    if options.json:
        _print_json(found)
    else:
        click.echo("\n".join(run.lines(found)))


@cli.command()
@click.argument("folder", metavar="DIR", type=PATH)
@click.option("--jobs", type=click.IntRange(1, 10_000_000), default=2000, show_default=True, help="How many jobs.")
@click.option("--nodes", type=click.IntRange(4, 100_000), default=40, show_default=True, help="How many nodes.")
@click.option("--days", type=click.IntRange(1, 3660), default=14, show_default=True, help="How many days.")
@click.option("--seed", type=click.IntRange(0), default=1, show_default=True, help="The same seed, the same bytes.")
@click.option("--accounting", type=PATH, multiple=True, help="Site log; makes raw files for its jobs. Repeatable.")
@click.pass_obj
def demo(
    options: Options, folder: Path, jobs: int, nodes: int, days: int, seed: int, accounting: tuple[Path, ...]
) -> None:
    """Write a small synthetic site with its jobeff.toml.

    \b
    Examples:
      jobeff demo site
      jobeff demo big --jobs 50000 --nodes 200 --days 60
      jobeff demo real --accounting /slurm/rackham/accounting/2021-05-30
    """
    from jobeff import simulate
    from jobeff.progress import Progress

    progress = Progress(options.quiet)
    made = simulate.DemoOptions(jobs=jobs, nodes=nodes, days=days, seed=seed)
    with progress.task("demo site", jobs, "jobs") as advance:
        done = 0

        def report(now: int, _total: int) -> None:
            nonlocal done
            advance(now - done)
            done = now

        result = simulate.write_site(folder, made, accounting, report)
    if options.json:
        _print_json({"folder": str(folder), "jobs": result.jobs, "raw_files": result.raw_files})
    elif not options.quiet:
        click.echo(
            f"{folder}: {result.jobs:,} jobs, {result.raw_files:,} raw files, {result.raw_bytes / 1e6:,.1f} MB\n"
            f"Next: jobeff -c {folder / 'jobeff.toml'} update"
        )


@cli.command()
@click.option("--slurm-root", type=PATH, help="Folder whose subfolders are clusters; they are found and written down.")
@click.option("--force", is_flag=True, help="Write over an existing jobeff.toml.")
@click.pass_obj
def init(options: Options, slurm_root: Path | None, force: bool) -> None:
    """Write a commented jobeff.toml into this folder, or to where -c says.

    \b
    Examples:
      jobeff init --slurm-root /sw/share/slurm
      jobeff -c /etc/jobeff.toml init --slurm-root /sw/share/slurm
    """
    from jobeff.steps.init import init as write

    path = options.config or Path("jobeff.toml")
    clusters = write(path, slurm_root, force)
    if options.json:
        _print_json({"file": str(path), "clusters": clusters})
    elif not options.quiet:
        found = f"clusters found: {', '.join(clusters)}" if clusters else "with an example cluster to be edited"
        click.echo(f"{path}: {found}\nLook it over, then: jobeff{f' -c {path}' if options.config else ''} update")


@cli.group()
def load() -> None:
    """Load one source into its own database."""


@load.command()
@click.argument("files", nargs=-1, metavar="[FILE]...", type=PATH)
@click.option("--cluster", help="Cluster of the files, where the configuration has several.")
@click.option("--replace", is_flag=True, help="Take logs that were rewritten since; their records win.")
@click.pass_obj
def slurm(options: Options, files: tuple[Path, ...], cluster: str | None, replace: bool) -> None:
    """Load Slurm accounting: all that the configuration names, or the files given.

    Site logs and 'sacct -P' are told apart by their content. A line is loaded once, however often it comes.

    \b
    Examples:
      jobeff load slurm
      jobeff load slurm /slurm/rackham/accounting/2021-05-30
      TZ=UTC sacct -P -n -X -D -a --format ... > day.psv; jobeff load slurm day.psv
    """
    from jobeff.steps.load import load_slurm

    _finish(options, [load_slurm(options.site(pool=False), files, cluster, replace)])


@cli.command()
@click.pass_obj
def collect(options: Options) -> None:
    """Take finished jobs' raw files from the node folders into the archive.

    \b
    Example:
      jobeff collect
    """
    from jobeff.steps.collect import collect as step

    _finish(options, [step(options.site())])


@cli.command()
@click.pass_obj
def ingest(options: Options) -> None:
    """Bring the shards up to date with the archive.

    \b
    Example:
      jobeff ingest
    """
    from jobeff.steps.ingest import ingest as step

    _finish(options, [step(options.site())])


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
    from jobeff.steps.compute import compute as step

    _finish(options, [step(options.site(), everything)])


@cli.command()
@click.pass_obj
def update(options: Options) -> None:
    """Do the night's work: load slurm, collect, ingest, compute.

    \b
    Example, in a crontab:
      0 3 * * *  jobeff -c /data/jobeff/jobeff.toml update
    """
    from jobeff.steps.update import update as steps

    results: list[StepResult] = []
    try:
        steps(options.site(), results)
    except BaseException:
        if results:
            _show(options, results)
        raise
    _finish(options, results)


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
    from jobeff.steps.rebuild import rebuild as steps

    _finish(options, steps(options.site()))


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
        _print_json(
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
        _print_json(rows)
    else:
        click.echo(text.projects(rows))


def _finish(options: Options, results: Sequence[StepResult]) -> NoReturn:
    """Print what steps have done, and exit."""
    sys.exit(SET_ASIDE if _show(options, results) else 0)


def _show(options: Options, results: Sequence[StepResult]) -> int:
    """Print what steps have done; returns how many things were set aside."""
    aside = SetAside()
    for result in results:
        aside.merge(result.aside)
    if options.json:
        _print_json(
            [
                {
                    "step": result.step,
                    "seconds": round(result.seconds, 3),
                    "counts": result.counts,
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
            click.echo(f"  {where}: {why}", err=True)
    return aside.total


def _print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=1, ensure_ascii=True))


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command and exit with its status.

    Parameters
    ----------
    arguments
        By default those of the process.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    signal.signal(signal.SIGTERM, _terminated)
    verbose = "-v" in given or "--verbose" in given
    try:
        cli.main(given, prog_name="jobeff", standalone_mode=False)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(_fail("interrupted; what was written is whole, run again to go on", INTERRUPTED))
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # who reads us has stopped
        sys.exit(0)
    except JobeffError as error:
        if verbose:
            raise
        sys.exit(_fail(str(error), error.exit_code))
    except (OSError, sqlite3.Error) as error:
        if verbose:
            raise
        why = f"{error}. What is written is whole. Mend the cause and run again"
        sys.exit(_fail(why, 1))
    sys.exit(0)


def _fail(why: str, status: int) -> int:
    click.echo(f"jobeff: error: {why}", err=True)
    return status


def _terminated(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(TERMINATED)
