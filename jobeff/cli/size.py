"""The command that says what a site of some size takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

import click

from jobeff.cli.options import Number, Options, cli, print_json

if TYPE_CHECKING:
    from jobeff.bench.size import Load

WORKERS = (1, 2, 8, 32)
Command = TypeVar("Command", bound=Callable[..., Any])


def _option(name: str, **given: Any) -> Callable[[Command], Command]:
    """An option whose default is shown."""
    return click.option(name, show_default="default" in given, **given)


@cli.command()
@_option("--nodes", type=click.IntRange(1, 1_000_000), help="Nodes of the cluster.")
@_option("--interval", type=click.IntRange(1, 86_400), default=300, help="Seconds between samples.")
@_option("--jobs", type=click.IntRange(1, 100_000_000), help="Jobs that end on a day.")
@_option("--years", type=Number(0.01, 100), default=1.0, help="Length of the history.")
@_option("--cores-per-node", type=Number(1, 4096), default=20, help="Mean.")
@_option("--nodes-per-job", type=Number(1, 100_000), default=1.04, help="Mean.")
@_option("--cores-per-job", type=Number(1, 4096), default=3, help="Mean, on one node.")
@_option("--booked", type=Number(0.01, 1), default=0.8, help="Share of cores booked.")
@_option("--from-site", is_flag=True, help="Take the load from the accounting of this site instead.")
@_option("--calibrate", is_flag=True, help="Measure this machine again.")
@click.pass_obj
def size(
    options: Options, nodes: int | None, interval: int, jobs: int | None, years: float, cores_per_node: float,
    nodes_per_job: float, cores_per_job: float, booked: float, from_site: bool, calibrate: bool,
) -> None:  # fmt: skip
    """Say how much disk, memory and time a site takes.

    What this machine takes is measured on small synthetic sites the first time, which takes some minutes, and kept in
    ~/.cache/jobeff. For another number of workers than this machine has cores, time is what they would take if each had
    a core and the disk kept up.

    \b
    Examples:
      jobeff size --nodes 500 --jobs 15000
      jobeff size --nodes 10000 --jobs 28000 --years 10 --cores-per-node 128
      jobeff size --from-site --years 5
      jobeff --json size --nodes 500 --jobs 15000 --interval 60
    """
    from jobeff.bench import calibrate as calibration
    from jobeff.bench.size import YEAR_DAYS, predict
    from jobeff.progress import Progress

    if from_site:
        load = _of_site(options)
    elif nodes is None or jobs is None:
        raise click.UsageError("say --nodes and --jobs, or --from-site")
    else:
        from jobeff.bench.size import made_up

        load = made_up(nodes, interval, jobs, cores_per_node, nodes_per_job, cores_per_job, booked)
    costs = calibration.costs(Progress(options.quiet).line, calibrate)
    counts = WORKERS if options.workers is None else (options.workers,)
    found = {workers: predict(load, years * YEAR_DAYS, workers, costs) for workers in counts}
    if options.json:
        sizes = [{"workers": workers, **asdict(one)} for workers, one in found.items()]
        print_json({"load_of_a_day": {**asdict(load), "text": load.text}, "years": years, "sizes": sizes})
    else:
        from jobeff.views import size as view

        click.echo("\n".join(view.lines(load, years, found)))


def _of_site(options: Options) -> Load:
    from jobeff.bench.size import Load, of_site
    from jobeff.errors import ConfigError

    config = options.load()
    loads = [of_site(config.root, name, config.interval(name)) for name in config.clusters]
    found = [load for load in loads if load is not None]
    if not found:
        todo = "Run 'jobeff load slurm' first, or say --nodes and --jobs"
        raise ConfigError("cannot tell the load of this site", why="its accounting has no jobs", todo=todo)
    return Load(*(sum(values) for values in zip(*(asdict(one).values() for one in found), strict=True)))
