"""repair: shards of single nodes, made again from the archive; the damaged ones stay beside, under another name."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from jobeff.engine import build, plan, pool, scan
from jobeff.errors import JobeffError
from jobeff.progress import Advance
from jobeff.steps.site import Site, StepResult
from jobeff.store import archive, shards
from jobeff.store.aside import set_aside
from jobeff.store.scratch import scratch

GROUPS_PER_WORKER = 4
"""So many at least, for a bar that moves."""


def mend_shards(
    site: Site, cluster: str, month: str, nodes: set[str], result: StepResult, advance: Advance = lambda _: None
) -> None:
    """Make the shards of some nodes again.

    Parameters
    ----------
    site, cluster, month, nodes
        Which ones; the caller holds the lock of the shards.
    result
        Counts them. What of the archive is of no use has been told of by who has looked at that.
    advance
        Told how many nodes have been done.
    """
    path = archive.month_files(site.root, cluster).get(month)
    known = shards.ingested(site.config.shards, cluster).get(month)
    if path is None or known is None:
        return
    for node in sorted(nodes):
        set_aside(shards.shard_path(site.config.shards, cluster, node, month))
    with (
        scratch(site.root) as folder,
        site.executor() as executor,
        archive.plain(path, site.root / "db" / "scratch") as text,
    ):
        end = known["archive_bytes"]
        # Of no part of the archive, so that a node whose shard is gone is made again from all of it.
        nothing = scan.ScanTask(text, cluster, path, end, end, folder)
        scan.scan_month(nothing)
        groups = plan.balanced(sorted(nodes), [1] * len(nodes), GROUPS_PER_WORKER * site.width)
        tasks = [
            build.BuildTask(
                text, path, site.config.shards, cluster, month, folder, [(node, 0, 0) for node in group], end, nodes
            )
            for group in groups
        ]
        built = list(pool.run_chains(executor, [_built(task, advance) for task in tasks], len(tasks)))
    there = sorted(shards.nodes_with(site.config.shards, cluster, month))
    shards.set_ingested(site.config.shards, cluster, month, {**known, "nodes": there})
    result.count("shards made again", len(nodes))
    result.count("raw files read again", sum(one.files for one in built))


def _built(task: build.BuildTask, advance: Advance) -> Generator[Any, Any, build.BuildResult]:
    found: build.BuildResult
    [found] = yield [(build.build_shards, task)]
    advance(len(task.nodes))
    return found


def mend_notes(site: Site, cluster: str, result: StepResult) -> None:
    """Remove notes of how far a cluster was ingested that cannot be used; ingest makes them again from the shards.

    Parameters
    ----------
    site, cluster
        Whose; the caller holds the lock of the shards.
    result
        Counts them.
    """
    for path in shards.notes(site.config.shards, cluster):
        try:
            shards.read_note(path)
        except JobeffError:
            set_aside(path)
            result.count("notes made again")
