"""A guard of speed that no busy machine can trip: how often Python calls anything, per job and per raw file.

What grows with jobs or samples belongs into kernels and arrays. So twice the jobs must hardly mean more calls.
"""

import cProfile
import pstats

import pytest

from jobeff import config
from jobeff.bench import history
from jobeff.steps.compute import compute
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site

SHAPE = history.Shape(nodes=12, jobs_per_day=1500)


def calls(function, *arguments):
    profile = cProfile.Profile()
    profile.runcall(function, *arguments)
    return pstats.Stats(profile).total_calls


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """Calls of rebuild and of compute, for 2 and for 8 days of one month on the same nodes."""
    found = {}
    for days in (2, 8):
        root = tmp_path_factory.mktemp("speed") / "site"
        history.write(root, SHAPE, days)
        site = Site(config.load(root / "jobeff.toml"))
        site.warm()
        found[days] = calls(rebuild, site), calls(compute, site, True)
    return found


def per_job(counted, step):
    return (counted[8][step] - counted[2][step]) / (6 * SHAPE.jobs_per_day)


def test_compute_calls_nothing_per_job(counted):
    # Each project and day has an entry in the order of the index: 400 projects, 1,500 jobs a day.
    assert per_job(counted, 1) < 3


def test_rebuild_calls_little_per_raw_file(counted):
    assert per_job(counted, 0) < 5  # the same, and the checksum of each raw file
