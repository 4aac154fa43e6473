"""How much more two cores do than one, and how much more two commands do that share nothing: this machine's limit.

Two cores of one processor share its memory and a part of its cache, and a site has one disk. So what two workers can
gain is what two commands gain that each have one core and a site of their own.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from jobeff.bench import commands


def gain(one: Sequence[float], two: Sequence[float]) -> float:
    """How many times as much two cores do as one, of measurements by turns.

    Parameters
    ----------
    one, two
        Seconds of the same work with one core and with two, in the order of one, two, one, two and so on.

    Returns
    -------
    float
        Median of all neighbours, for which the machine was most alike. The quickest of either may be of moments that
        were not: one in which both cores are left alone is seldom.
    """
    neighbours = [*zip(one, two, strict=True), *zip(one[1:], two[:-1], strict=True)]
    return statistics.median(alone / together for alone, together in neighbours)


@contextlib.contextmanager
def twin(root: Path) -> Iterator[Path]:
    """Have a second site beside one, for the commands that write no file anew in its place.

    Parameters
    ----------
    root
        Of the site.

    Yields
    ------
    Path
        Of the other, whose files are the same ones, so that the system has them in its cache once; but for its locks.
    """
    other = root.with_name(f"{root.name}-twin")
    shutil.copytree(root, other, ignore=shutil.ignore_patterns(".*.lock"), copy_function=os.link)
    try:
        yield other
    finally:
        shutil.rmtree(other)


def apart(roots: Sequence[Path], *arguments: str) -> float:
    """Run a command on some sites at once, each with one worker and a core of its own.

    Parameters
    ----------
    roots
        Of the sites.
    arguments
        Of the command.

    Returns
    -------
    float
        Seconds in which all of them together do what one has to do.

    Raises
    ------
    RuntimeError
        One failed.
    """
    cores = sorted(os.sched_getaffinity(0))[: len(roots)]
    with ThreadPoolExecutor(len(roots)) as threads:
        run = [
            threads.submit(commands.jobeff, root, "--workers", "1", *arguments, cores=[core])
            for root, core in zip(roots, cores, strict=True)
        ]
        return 1 / sum(1 / one.result().seconds for one in run)
