"""Commands that find damage and mend it."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import click

from jobeff.cli.options import SET_ASIDE, Options, cli, finish, print_json

if TYPE_CHECKING:
    from jobeff.steps.check import Part

DAMAGED = 12


class _PartType(click.ParamType):  # type: ignore[type-arg]
    """``n/m``."""

    name = "n/m"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Part:
        from jobeff.steps.check import Part

        found = re.fullmatch(r"([0-9]{1,4})/([0-9]{1,4})", str(value))
        if found is None or not 1 <= int(found[1]) <= int(found[2]):
            self.fail("write it as 3/30: the third of thirty parts", param, ctx)
        return Part(int(found[1]), int(found[2]))


@cli.command()
@click.option("--read-data", is_flag=True, help="Read every byte, and compute every month again to compare.")
@click.option("--subset", type=_PartType(), help="One part of all there is, such as 3/30: one a night.")
@click.pass_obj
def check(options: Options, read_data: bool, subset: Part | None) -> None:
    """Compare archive, shards, accounting and efficiency with each other.

    Nothing is changed, and nobody has to wait. Jobs without a raw file, too short to have one, raw files that no job
    claims, and what the next update will take are usual; they are counted and are no damage.

    Exit status: 0 without damage; 12 where something is damaged, which 'jobeff repair' mends; 3 where something
    could not be looked at.

    \b
    Examples:
      jobeff check
      jobeff check --read-data
      jobeff check --read-data --subset 3/30
    """
    from jobeff.steps.check import check as step

    report = step(options.site(), read_data, subset)
    if options.json:
        print_json(report.as_json())
    elif not options.quiet or report.damage:
        from jobeff.views import check as view

        click.echo(view.check(report))
    sys.exit(DAMAGED if report.damage else SET_ASIDE if report.unchecked else 0)


@cli.command()
@click.pass_obj
def repair(options: Options) -> None:
    """Mend what is damaged, from what is not; say what cannot be mended.

    It reads every byte, as 'jobeff check --read-data' does. A damaged shard is made again from the archive; in the
    archive, what the site still has or a shard says is written back; a damaged database is made again from its
    sources. What is damaged is kept beside, as NAME.damaged, the next as NAME.damaged-2. A run that was stopped is
    finished by the next.

    Exit status: 0 when all is mended; 3 where something is lost, and is named.

    \b
    Example:
      jobeff repair
    """
    from jobeff.steps.repair import repair as steps

    finish(options, steps(options.site()))
