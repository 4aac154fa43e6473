"""update: the night's run, all steps in order."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from jobeff.errors import JobeffError, SourceError
from jobeff.steps.collect import collect
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.load import load_slurm
from jobeff.steps.load_projects import load_projects
from jobeff.steps.load_records import load_corehours, load_storage
from jobeff.steps.site import Site, StepResult
from jobeff.steps.summarise import summarise
from jobeff.store import tables
from jobeff.store.locks import lock


class Step(NamedTuple):
    """A step of the night.

    Attributes
    ----------
    name
        Of its command.
    run
        Does it.
    source
        Key in the configuration's ``sources`` without which there is nothing to do.
    needs
        Database without which it cannot begin. One that is there is good enough, even where the step that keeps it has
        failed tonight: what is late is found to be new by the next run.
    """

    name: str
    run: Callable[[Site], StepResult]
    source: str | None = None
    needs: str | None = None


STEPS = (
    Step("load slurm", load_slurm),
    Step("load projects", load_projects, source="projects"),
    Step("load storage", load_storage, source="storage"),
    Step("load corehours", load_corehours, source="corehours"),
    Step("collect", collect, needs="accounting"),
    Step("ingest", ingest),
    Step("compute", compute, needs="accounting"),
    Step("summarise", summarise, needs="accounting"),
)


def update(site: Site, results: list[StepResult] | None = None) -> list[StepResult]:
    """Bring everything up to date; a step that fails stops only those that cannot do without it.

    Parameters
    ----------
    site
        Where to work.
    results
        Filled as the steps end, so that what was done is known when one fails.

    Returns
    -------
    list of StepResult
        One per step, in order. A step whose source is missing says so, and has set it aside.

    Raises
    ------
    LockedError
        Another update runs; nothing was done.
    JobeffError, OSError, sqlite3.Error
        What the first step that failed otherwise has raised, once all steps have run.
    """
    results = [] if results is None else results
    failures: list[Exception] = []
    with lock(site.root, "update", "updating"), site.executor():
        for step in STEPS:
            if step.source is None or step.source in site.config.sources:
                result = _run(step, site, failures)
                site.progress.line(f"{result.step}: {'failed' if result.failed else f'done in {result.seconds:.1f} s'}")
                results.append(result)
    if failures:
        raise failures[0]
    return results


def _run(step: Step, site: Site, failures: list[Exception]) -> StepResult:
    if step.needs and not tables.database(site.root, step.needs).exists():
        return StepResult(step.name, failed=f"left out: there is no {step.needs} database yet")
    try:
        return step.run(site)
    except SourceError as error:
        result = StepResult(step.name, failed=str(error))
        result.aside.add("source", step.name, str(error))
        return result
    except (JobeffError, OSError, sqlite3.Error) as error:
        failures.append(error)
        return StepResult(step.name, failed=str(error))
