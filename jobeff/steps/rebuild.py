"""rebuild: shards and efficiency from the archive and accounting alone, beside the old ones, swapped in when whole.

A month's jobs are computed from its raw files as they are parsed, in the worker that has them, without reading the
shards back.
Shards that are there already as they would be made stay the files they are; see `jobeff.store.unchanged`.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

from jobeff.engine import pool
from jobeff.engine.forking import hold
from jobeff.names import is_name
from jobeff.steps import compute, computing, ingest
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import archive, shards, tables
from jobeff.store.batch import syncing, syncing_soon
from jobeff.store.fences import lock_shards
from jobeff.store.files import atomic_write, make_folder, make_missing, remove_tree, remove_trees, sync_folder
from jobeff.store.locks import lock
from jobeff.store.sqlite import replace_database

COMPLETE = "complete"
"""Stands in the new generation once it is whole; from then on it takes the place of the old one, whatever happens."""

MANY = 64
"""Folders of fewer nodes are removed at once."""


def rebuild(site: Site) -> list[StepResult]:
    """Make shards and the efficiency database again; a rebuild that was killed goes on where it was.

    Parameters
    ----------
    site
        Where to work.

    Returns
    -------
    list of StepResult
        Of ingest and compute.
    """
    tables.read_database(tables.database(site.root, "accounting"), "accounting").close()  # else it compiles for nothing
    with (
        lock_shards(site.root, site.run),
        lock(site.root, "efficiency", run=site.run),
        # Workers of this machine are not for what comes at the end: who has mapped much text takes a while to end too.
        contextlib.nullcontext() if site.is_local else site.executor(),
    ):
        for name in site.config.clusters:
            shards.refuse_newer(site.config.shards, name)
            shards.refuse_newer(_generation(site), name)
        tables.refuse_newer(tables.database(site.root, "efficiency"), "efficiency")
        if not site.is_dry:
            finish(site)
        generation = _planned(site)
        with (
            site.executor(),
            timed("ingest", *ingest.COUNTS) as ingested,
            timed("compute", *computing.COUNTS) as computed,
        ):
            make_folder(generation)
            with syncing(generation) as sync:
                # As the database will have them, so that its pages can be made while later months are computed.
                behind = sorted(
                    ingest.all_behind(site, generation, unsure=True), key=lambda one: (one.cluster, one.name)
                )
                with computing.open_inputs(site, generation, computed) as inputs:
                    ingest.set_aside_no_files(site, ingested)
                    total = sum(month.size for month in behind)
                    if not site.is_dry:
                        _take_over_months(site, ingested)
                    with (
                        site.progress.task("ingest", total, "bytes") as advance,
                        ingest.reading_ahead(site, behind) as reached,
                        syncing_soon() as sync_soon,
                    ):
                        later = sync_soon if site.is_local else None
                        before = site.config.shards
                        stages = ingest.Stages(site, inputs.scratch, ingested, advance, reached, later, before)
                        compute.compute_all(inputs, _database(site), _from_archive(inputs, stages, behind))
                # Scratch has gone by now, or it would be put on disk too. One by one this would take longer than all
                # the rest. What a power cut takes is found by its checksum, or by its absence, and made again.
                sync(generation.rglob("*"))
        if site.away:
            site.away.notes.put("publishing", True)
        with atomic_write(generation / COMPLETE):
            pass
        finish(site, hold)
    return [ingested, computed]


def _from_archive(inputs: computing.Inputs, stages: ingest.Stages, behind: list[ingest.Behind]) -> computing.Parsing:
    """Work that ingests months and computes their jobs on the way."""
    months: dict[str, list[str]] = inputs.site.recalled("months", lambda: compute.all_months(inputs))
    have = {(cluster, name) for cluster, names in months.items() for name in names}
    repeated: dict[str, Any] = {cluster: computing.repeated_ids(inputs, cluster) for cluster in months}

    def ingested(one: ingest.Behind, *planned: Any) -> ingest.Ingesting:
        files = yield from stages.ingested(one, *planned)
        if not (inputs.site.is_dry or shards.note(one.shards, one.cluster, one.name).exists()):  # it cannot be read
            _take_over(inputs.site, one.cluster, one.name, stages.result)
        return files

    def chain(one: ingest.Behind) -> computing.Chain:
        if (one.cluster, one.name) not in have:
            yield from ingested(one)
            return None
        month = inputs.month(one.cluster, one.name)
        planned = yield from computing.plan_month(inputs, month, one.cluster, repeated[one.cluster])
        if not planned.jobs:  # none of them ever ran
            yield from ingested(one)
            return None
        files = yield from ingested(one, month, tuple(planned.spans))
        reduced: computing.Reduced = (files or [], set())
        if files is None:
            known = shards.ingested(inputs.shards, one.cluster).get(one.name, computing.NOT_INGESTED)
            reduced = yield from computing.from_shards(inputs, month, planned, known)
        return (yield from computing.finish(month, one.cluster, planned, reduced, True, inputs.site.is_local))

    computed = {(one.cluster, one.name) for one in behind} & have
    at_once = inputs.site.months_at_once(ingest.largest_text(behind))
    return computing.Parsing([chain(one) for one in behind], computed, at_once)


def _take_over_months(site: Site, result: StepResult) -> None:
    """Keep the shards of months that the archive does not have: they are all there is."""
    for cluster in site.config.clusters:
        there = archive.month_files(site.root, cluster).keys()
        for month in sorted(shards.months_with(site.config.shards, cluster) - there):
            _take_over(site, cluster, month, result)


def _take_over(site: Site, cluster: str, month: str, result: StepResult) -> None:
    """Have a month in the new generation as it is in the old one."""
    old, new = site.config.shards, _generation(site)
    nodes = shards.nodes_with(old, cluster, month)
    paths = [(shards.shard_path(old, cluster, n, month), shards.shard_path(new, cluster, n, month)) for n in nodes]
    for path, link in [*paths, (shards.note(old, cluster, month), shards.note(new, cluster, month))]:
        make_missing(link.parent)
        link.unlink(missing_ok=True)
        if path.exists():
            os.link(path, link)
    result.count("months kept as they were", bool(nodes))


def finish(site: Site, hold: Callable[[int], bool] = lambda _: False) -> None:
    """Put a whole generation in the place of the old one; the caller holds both locks.

    Every step of it can be done again, so a run that died within it is finished by the next.

    Parameters
    ----------
    site
        Where to work.
    hold
        See `jobeff.store.sqlite.replace_database`; not where the command goes on, and may need the room.
    """
    new, old = _generation(site), site.config.shards / ".old"
    if not (new / COMPLETE).exists():
        return
    for cluster in sorted(path for path in new.iterdir() if path.is_dir()):
        current = site.config.shards / cluster.name
        if current.exists():
            remove_tree(old / cluster.name)
            make_folder(old)
            current.rename(old / cluster.name)
        cluster.rename(current)
        sync_folder(site.config.shards)
    if _database(site).exists():
        replace_database(_database(site), tables.database(site.root, "efficiency"), hold)
    _remove(site, old)
    remove_tree(new)  # at last: where the room of the old database is being given back, it would wait for that


def _remove(site: Site, old: Path) -> None:
    """Remove a generation; its files can be a million, so the workers do that, where a disk has to be told of them."""
    nodes = [node for cluster in old.iterdir() for node in cluster.iterdir()] if old.is_dir() else []
    if len(nodes) >= MANY and not _are_kept(nodes):
        groups = [nodes[first :: 2 * site.width] for first in range(2 * site.width)]
        with site.executor() as executor:
            for _ in pool.run_chains(executor, (_removed(group) for group in groups), len(groups)):
                pass
    remove_tree(old)


def _are_kept(nodes: list[Path]) -> bool:
    """Whether shards stay under other names, by one of them: then nothing is freed, and one process is quickest."""
    shards_of_nodes = (path for node in nodes if is_name(node.name) for path in node.glob("*.parquet"))
    return any(path.lstat().st_nlink > 1 for path in itertools.islice(shards_of_nodes, 1))


def _removed(nodes: list[Path]) -> Generator[Any, Any, None]:
    yield [(remove_trees, nodes)]


def is_published(site: Site) -> bool:
    """Whether a generation that was about to be published has been.

    Parameters
    ----------
    site
        The second half of a run on Slurm.

    Returns
    -------
    bool
        False where it has to be made again.
    """
    finish(site)
    new = _generation(site)
    left = new.is_dir() and any(path.is_dir() for path in new.iterdir())
    return not left and not _database(site).exists()  # where the archive is empty there is a database alone


def _planned(site: Site) -> Path:
    """The new generation; where nothing is to be changed, one that is not there yet is thought of elsewhere."""
    found = _generation(site)
    if site.is_dry and site.away and (not found.is_dir() or (found / COMPLETE).exists()):
        return site.away.scratch / found.name
    return found


def _generation(site: Site) -> Path:
    return site.config.shards / ".rebuild"


def _database(site: Site) -> Path:
    return tables.database(site.root, "efficiency").with_name("efficiency.sqlite.rebuild")
