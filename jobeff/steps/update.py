"""update: the night's run, all steps in order."""

from __future__ import annotations

from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site, StepResult


def update(site: Site, results: list[StepResult] | None = None) -> list[StepResult]:
    """Bring everything up to date.

    Parameters
    ----------
    site
        Where to work.
    results
        Filled as the steps end, so that what was done is known when a later one fails.

    Returns
    -------
    list of StepResult
        One per step, in order.
    """
    results = [] if results is None else results
    with site.executor():
        for step in (load_slurm, collect, ingest, compute):
            result = step(site)
            site.progress.line(f"{result.step}: done in {result.seconds:.1f} s")
            results.append(result)
    return results
