"""Runs on Slurm: plan and submit; what a part does; what brings all together; how far they are; their end."""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import time
from collections.abc import Sequence
from typing import Any

from jobeff.code import code
from jobeff.engine import pool
from jobeff.errors import JobeffError, LockedError
from jobeff.sources import ask_slurm
from jobeff.steps import compute, ingest, rebuild
from jobeff.steps.away import BY_NODE, First, PlannedError, Second, task_name
from jobeff.steps.site import Site, StepResult
from jobeff.steps.slurm_run import (
    ENDING_S,
    RESERVED,
    TARGETS,
    UNKNOWN,
    Run,
    find,
    is_among,
    locked,
    new,
    refuse_other_code,
    runs,
)
from jobeff.store.files import make_folder
from jobeff.store.locks import release, reserve

TRIES = 3
WIDEST = 64
"""Groups of nodes per month are as many as there were so many parts, however many there are: each has files."""


def _step(site: Site, step: str) -> list[StepResult]:
    if step == "rebuild":
        return rebuild.rebuild(site)
    return [ingest.ingest(site) if step == "ingest" else compute.compute(site, everything=True)]


def submit(site: Site, step: str, parts: int, options: Sequence[str] = (), dry_run: bool = False) -> dict[str, Any]:
    """Plan a command, and submit its parts and what brings them together.

    Parameters
    ----------
    site, step
        Where to work; ``compute``, ``rebuild`` or ``ingest``.
    parts
        Jobs of the array.
    options
        Of sbatch.
    dry_run
        Submit nothing, and show what would be.

    Returns
    -------
    dict
        The run's name, how many parts and tasks it has, its jobs or scripts.
    """
    with locked(site, step):
        run = new(site, keep=dry_run)
    with run.at_work(alone=True, wait_s=0):
        return _submitted(site, run, step, parts, options, dry_run)


def _submitted(site: Site, run: Run, step: str, parts: int, options: Sequence[str], dry_run: bool) -> dict[str, Any]:
    """Plan and submit a new run; its parts begin their work when this has ended."""
    try:
        with locked(site, step):
            for target in RESERVED[step]:
                reserve(site.root, target, run.name)
        half = First(run.folder, run.name, min(parts, WIDEST), dry_run)
        with contextlib.suppress(PlannedError):
            _step(dataclasses.replace(site, away=half), step)
        names = []
        for number, stage, place, function, task in half.tasks:
            names.append(task_name(number, stage, place))
            run.notes.put(f"task-{names[-1]}", [function, task])
        run.notes.put("tasks", names)
        parts = max(1, min(parts, len(names)))
        run.about = {
            "step": step, "parts": parts, "tasks": len(names), "code": code(), "tries": TRIES, "options": list(options),
        }  # fmt: skip
        run.write_scripts(site.config.file)
        said = {"run": run.name, "step": step, "parts": parts, "tasks": len(names)}
        if dry_run:
            scripts = {kind: (run.folder / f"{kind}.sh").read_text(encoding="utf-8") for kind in ("part", "merge")}
            _forget(run)
            return {**said, "options": list(options), **scripts}
        run.notes.put("about", run.about)
        run.submit(range(parts) if names else ())
    except BaseException:
        for find in (run.noted_ids, run.unnoted_ids):
            with contextlib.suppress(JobeffError):
                ask_slurm.cancel(find())
        _forget(run)
        raise
    return {**said, "jobs": run.jobs()}


def _forget(run: Run) -> None:
    for target in TARGETS:
        release(run.root, target, run.name)
    shutil.rmtree(run.folder, ignore_errors=True)


def part(site: Site, name: str, number: int) -> int:
    """Do the tasks of a part that have no result yet.

    Parameters
    ----------
    site, name, number
        Where; which run and part.

    Returns
    -------
    int
        How many were done.
    """
    run = find(site.root, name)
    refuse_other_code(run, code())
    with run.at_work(alone=False), run.alone(number) as alone, site.executor() as executor:
        if not alone:
            raise LockedError("another one does this part", where=f"{run.folder}/parts/{number}", safe="It goes on")
        if run.notes.has("outcome"):
            return 0
        todo = [task for task in run.of_part(number) if not run.notes.has(task)]
        chains = [_done(run, task) for task in todo]
        return sum(pool.run_chains(executor, chains, 2 * site.width))


def _done(run: Run, name: str) -> pool.Chain[int]:
    """Do a task, and note its result."""
    function, task = run.notes.get(f"task-{name}")
    results = yield [(BY_NODE[function], task)]
    run.notes.put(name, results)
    return 1


def merge(site: Site, name: str) -> tuple[list[StepResult], list[int]]:
    """Bring together what the parts of a run have found; those that were lost are submitted again.

    Parameters
    ----------
    site, name
        Where; which run.

    Returns
    -------
    list of StepResult
        What the command has done; empty where there is more to wait for.
    list of int
        Parts that were submitted again.
    """
    run = find(site.root, name)
    refuse_other_code(run, code())
    with run.at_work(alone=True):
        return _merged(site, run)


def _merged(site: Site, run: Run) -> tuple[list[StepResult], list[int]]:
    """What `merge` does, alone."""
    if run.notes.has("outcome"):
        run.tidy()
        return [], []
    step = run.about["step"]
    missing = run.missing()
    if missing and len(run.jobs()) < run.about["tries"]:
        run.submit(sorted(missing))
        return [], sorted(missing)
    if step == "rebuild" and run.notes.has("publishing") and rebuild.is_published(site):
        run.conclude({"results": []})
        return [], []
    tries = len(run.jobs())
    why = "was lost with part {} of the Slurm run, {} times"
    lost = {task: why.format(number, tries) for number, tasks in missing.items() for task in tasks}
    half = Second(run.folder, run.name, min(run.about["parts"], WIDEST), lambda task: lost[task])
    results = _step(dataclasses.replace(site, away=half), step)
    run.conclude(
        {"results": [{"step": one.step, "counts": one.counts, "set_aside": one.aside.total} for one in results]}
    )
    return results, []


def resume(site: Site, name: str | None) -> dict[str, Any]:
    """Submit again what of a run was lost, where its jobs have ended without having brought it to an end.

    Parameters
    ----------
    site, name
        Where; which run, None for the only one.

    Returns
    -------
    dict
        The run, and the parts.
    """
    run = find(site.root, name)
    refuse_other_code(run, code())
    if ask_slurm.states(run.ids()):
        raise LockedError(f"the run {run.name} has jobs", safe="Nothing was changed", todo="See 'jobeff slurm status'")
    with run.at_work(alone=True):
        parts = sorted(run.missing())
        run.submit(parts)
    return {"run": run.name, "parts": parts, "jobs": run.jobs()}


def cancel(site: Site, name: str | None) -> dict[str, Any]:
    """End a run, and let others write again.

    Parameters
    ----------
    site, name
        As for `resume`.

    Returns
    -------
    dict
        The run.
    """
    run = find(site.root, name)
    make_folder(run.folder)
    ids = run.ids()
    live = {one.partition("_")[0] for one in ask_slurm.states(ids)}
    ask_slurm.cancel([one for one in ids if one in live])
    until = time.monotonic() + ENDING_S
    while ask_slurm.states(ids):
        if time.monotonic() > until:
            raise LockedError(
                f"jobs of the run {run.name} have not ended", safe="It is still reserved", todo="Run again"
            )
        time.sleep(1)
    with run.at_work(alone=True):
        _forget(run)
    return {"run": run.name}


def status(site: Site) -> list[dict[str, Any]]:
    """Say how far all runs are.

    Parameters
    ----------
    site
        Where to look.

    Returns
    -------
    list of dict
        One per run: ``run``, ``step``, ``state`` and, per part, what is done of it and where it is.
    """
    return [_status(run) for run in runs(site.root)]


def _status(run: Run) -> dict[str, Any]:
    said: dict[str, Any] = {"run": run.name, "step": run.about["step"], "tasks": run.about["tasks"]}
    outcome = run.notes.get("outcome")
    if run.is_over():
        return {**said, "state": "done", "done": run.about["tasks"], "parts": [], **outcome}
    if run.about is UNKNOWN:
        return {**said, "state": "not submitted", "done": 0, "parts": []}
    unnoted = run.unnoted_ids()
    known = [*run.noted_ids(), *unnoted]
    now, missing = ask_slurm.states(known), run.missing()
    past = ask_slurm.ended(known)
    parts = []
    for number in range(run.about["parts"]):
        ids = [f"{job['array']}_{number}" for job in run.jobs() if is_among(number, job["parts"])]
        ids += [f"{one}_{number}" for one in unnoted if f"{one}_{number}" in now]
        left, whole = len(missing.get(number, ())), len(run.of_part(number))
        where = next((now[one] for one in reversed(ids) if one in now), "")
        state = "done" if not left else where.lower() or "lost"
        ended = past.get(ids[-1], "") if ids else ""
        said_of = {"part": number, "state": state, "tasks": whole, "done": whole - left}
        parts.append({**said_of, "tries": len(ids), "slurm": where or ended})
    merges = [*(job["merge"] for job in run.jobs()[-1:]), *unnoted]
    merging = next((now[one] for one in reversed(merges) if one in now), "")
    state = "running" if now else "stopped"
    done = run.about["tasks"] - sum(map(len, missing.values()))
    return {**said, "state": state, "done": done, "merge": merging.lower() or "ended", "parts": parts}
