"""Commands for runs on Slurm."""

from __future__ import annotations

import sys
from typing import Any

import click

from jobeff.cli.options import Options, cli, finish, print_json


@cli.group()
def slurm() -> None:
    """Work that is divided among jobs of Slurm.

    \b
    Examples:
      jobeff slurm submit rebuild --parts 100
      jobeff slurm status
    """


@slurm.command()
@click.argument("step", type=click.Choice(["compute", "rebuild", "ingest"]))
@click.option("--parts", type=click.IntRange(1, 100_000), default=8, show_default=True, help="Jobs of the array.")
@click.option("--partition", help="Of Slurm.")
@click.option("--time", "limit", help="Time limit of each job, as sbatch takes it.")
@click.option("--sbatch-option", "more", multiple=True, help="Any option of sbatch, as --mem=8G. Repeatable.")
@click.option("--dry-run", is_flag=True, help="Plan, show what would be submitted, and forget it.")
@click.pass_obj
def submit(
    options: Options,
    step: str,
    parts: int,
    partition: str | None,
    limit: str | None,
    more: tuple[str, ...],
    dry_run: bool,
) -> None:
    """Plan a command, submit its parts as a job array, and a job that brings them together.

    `compute` computes all jobs into a new database, as `compute --all` does. What is planned is reserved: others that
    would write it are refused, exit 11, until the run has ended or is cancelled.

    \b
    Examples:
      jobeff slurm submit rebuild --parts 100 --partition core --time 2:00:00
      jobeff slurm submit compute --parts 8 --sbatch-option=--account=proj1
      jobeff slurm submit ingest --parts 8 --dry-run
    """
    from jobeff.steps import slurm as steps

    site = options.site()
    words = [*site.config.slurm_options, *more]
    words += [f"--partition={partition}"] if partition else []
    words += [f"--time={limit}"] if limit else []
    said = steps.submit(site, step, parts, words, dry_run)
    if options.json:
        print_json(said)
    elif dry_run:
        click.echo(f"{said['parts']} parts, {said['tasks']} tasks, sbatch {' '.join(words)}")
        click.echo(f"{said['part']}\n{said['merge']}", nl=False)
    elif not options.quiet:
        [job] = said["jobs"]
        click.echo(
            f"run {said['run']}: {said['parts']} parts, {said['tasks']} tasks; "
            f"array {job['array'] or 'none'}, merge {job['merge']}"
        )
        click.echo("Next: jobeff slurm status")


@slurm.command()
@click.pass_obj
def status(options: Options) -> None:
    """Show how far runs are.

    \b
    Examples:
      jobeff slurm status
      jobeff --json slurm status
    """
    from jobeff.steps import slurm as steps

    found = steps.status(options.site(pool=False))
    if options.json:
        print_json(found)
        return
    for run in found:
        click.echo(f"run {run['run']}: {run['step']}, {run['state']}, {run['done']} of {run['tasks']} tasks done")
        for one in run["parts"]:
            slurm = f", {one['slurm'].lower()}" if one["slurm"] and one["slurm"].lower() != one["state"] else ""
            click.echo(f"  part {one['part']:4}  {one['state']:10} {one['done']} of {one['tasks']} tasks{slurm}")
        if run["state"] == "stopped":
            click.echo("  its jobs have ended: 'jobeff slurm resume' submits what was lost again, 'cancel' ends it")
        if run["state"] == "not submitted":
            click.echo("  it is being planned, or was killed there: then 'jobeff slurm cancel' ends it")
    if not found:
        click.echo("no runs")


@slurm.command()
@click.argument("run", required=False)
@click.pass_obj
def resume(options: Options, run: str | None) -> None:
    """Submit again what of a run was lost, once its jobs have ended.

    \b
    Example:
      jobeff slurm resume
    """
    from jobeff.steps import slurm as steps

    _said(options, steps.resume(options.site(pool=False), run), "submitted again")


@slurm.command()
@click.argument("run", required=False)
@click.pass_obj
def cancel(options: Options, run: str | None) -> None:
    """End a run: cancel its jobs, remove what they have found, let others write again.

    \b
    Example:
      jobeff slurm cancel
    """
    from jobeff.steps import slurm as steps

    _said(options, steps.cancel(options.site(pool=False), run), "cancelled")


def _said(options: Options, said: dict[str, Any], what: str) -> None:
    if options.json:
        print_json(said)
    elif not options.quiet:
        click.echo(f"run {said['run']}: {what}")


@slurm.command(hidden=True)
@click.argument("run")
@click.argument("number", type=click.IntRange(0))
@click.pass_obj
def part(options: Options, run: str, number: int) -> None:
    """Do a part; what the jobs of the array run.

    \b
    Example:
      jobeff slurm part 1f0c9a72 3
    """
    from jobeff.steps import slurm as steps

    done = steps.part(options.site(), run, number)
    if not options.quiet:
        click.echo(f"part {number}: {done} tasks done")


@slurm.command(hidden=True)
@click.argument("run")
@click.pass_obj
def merge(options: Options, run: str) -> None:
    """Bring the parts of a run together; what the last job runs.

    \b
    Example:
      jobeff slurm merge 1f0c9a72
    """
    from jobeff.steps import slurm as steps

    results, again = steps.merge(options.site(), run)
    if again:
        click.echo(f"parts submitted again: {', '.join(map(str, again))}")
        sys.exit(0)
    finish(options, results)
