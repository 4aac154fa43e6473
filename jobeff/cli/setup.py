"""Commands that make something to work on: a synthetic site, a configuration, a measurement."""

from __future__ import annotations

from pathlib import Path

import click

from jobeff.cli.options import PATH, Options, cli, print_json


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
        print_json({"folder": str(folder), "jobs": result.jobs, "raw_files": result.raw_files})
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
        print_json({"file": str(path), "clusters": clusters})
    elif not options.quiet:
        found = f"clusters found: {', '.join(clusters)}" if clusters else "with an example cluster to be edited"
        click.echo(f"{path}: {found}\nLook it over, then: jobeff{f' -c {path}' if options.config else ''} update")


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
        found = run.run(folder or Path(temporary), run.Size(days=(days,), peers=days if peers else 0), progress.line)
    if options.json:
        print_json(found)
    else:
        click.echo("\n".join(run.lines(found)))
