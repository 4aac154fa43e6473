"""rebuild: shards and efficiency from the archive and accounting alone, beside the old ones, swapped in when whole."""

from __future__ import annotations

from pathlib import Path

from jobeff.steps.compute import compute_into
from jobeff.steps.ingest import ingest_into
from jobeff.steps.site import Site, StepResult
from jobeff.store import tables
from jobeff.store.files import atomic_write, lock, make_folder, remove_tree, sync_folder
from jobeff.store.sqlite import replace_database

COMPLETE = "complete"
"""Stands in the new generation once it is whole; from then on it takes the place of the old one, whatever happens."""


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
    with lock(site.root, "shards"), lock(site.root, "efficiency"), site.executor():
        finish(site)
        results = [ingest_into(site, _generation(site)), compute_into(site, _generation(site), _database(site))]
        make_folder(_generation(site))
        with atomic_write(_generation(site) / COMPLETE):
            pass
        finish(site)
    return results


def finish(site: Site) -> None:
    """Put a whole generation in the place of the old one; the caller holds both locks.

    Every step of it can be done again, so a run that died within it is finished by the next.

    Parameters
    ----------
    site
        Where to work.
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
        replace_database(_database(site), tables.database(site.root, "efficiency"))
    remove_tree(new)
    remove_tree(old)


def _generation(site: Site) -> Path:
    return site.config.shards / ".rebuild"


def _database(site: Site) -> Path:
    return tables.database(site.root, "efficiency").with_name("efficiency.sqlite.rebuild")
