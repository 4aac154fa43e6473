"""Raw usage files: where they lie and how to take one safely."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jobeff.config import Cluster
from jobeff.errors import SetAside, SourceError, shown
from jobeff.names import is_name, job_id_or_none

LARGEST = 256 << 20
"""A raw file beyond this size is no usage file."""


class Found(NamedTuple):
    """A raw file that a site has."""

    node: str
    job_id: int
    path: str
    extended: bool


def require_folders(cluster: Cluster) -> None:
    """See that the folders of a cluster's raw files can be read.

    Parameters
    ----------
    cluster
        From the configuration.

    Raises
    ------
    SourceError
        One of them is missing or unreadable.
    """
    for folder in cluster.jobstats:
        try:
            with os.scandir(folder):
                pass
        except OSError as error:
            raise SourceError(
                f"cannot read the raw files of {cluster.name}",
                where=str(folder),
                why=error.strerror or str(error),
                safe="None of them was taken",
                todo=f"Mend the folder, or clusters.{cluster.name}.jobstats in the configuration",
            ) from error


def nodes(cluster: Cluster) -> set[str]:
    """Names of the nodes that have a folder; what cannot be read is named by `find`.

    Parameters
    ----------
    cluster
        From the configuration.

    Returns
    -------
    set of str
        Some may have no raw file.
    """
    unseen = SetAside()
    return {entry.name for folder in cluster.jobstats for entry in _entries(folder, unseen) if is_name(entry.name)}


def find(cluster: Cluster, aside: SetAside) -> Iterator[Found]:
    """Find the raw files that are there now, of two forms of one file the one whose folder is named first.

    Parameters
    ----------
    cluster
        From the configuration.
    aside
        Takes what cannot be a raw file.

    Yields
    ------
    Found
        One per node and job id, node by node.
    """
    folders: dict[str, list[Path]] = {}
    for folder in cluster.jobstats:
        for node in sorted(_entries(folder, aside), key=lambda entry: entry.name):
            if is_name(node.name) and node.is_dir(follow_symlinks=False):
                folders.setdefault(node.name, []).append(Path(node.path))
            else:
                aside.add("folder entry", shown(node.path), "not a folder named like a node")
    for node_name, places in folders.items():
        seen: set[int] = set()
        for place in places:
            extended = place.parent.name.startswith("extended")
            for entry in _entries(place, aside):
                job_id = job_id_or_none(entry.name)
                if job_id is None or not entry.is_file(follow_symlinks=False):
                    aside.add("folder entry", shown(entry.path), "not a regular file named like a job id")
                elif job_id not in seen:
                    seen.add(job_id)
                    yield Found(node_name, job_id, entry.path, extended)


def read(path: str, aside: SetAside) -> bytes | None:
    """Read a raw file.

    Parameters
    ----------
    path
        Of `Found`.
    aside
        Takes a file that cannot be read, is not a regular one, or is larger than `LARGEST`.

    Returns
    -------
    bytes or None
        Its text; None where it was set aside or has just gone.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        aside.add("raw file", shown(path), error.strerror or str(error))
        return None
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode) or about.st_size > LARGEST:
            aside.add("raw file", shown(path), f"not a regular file of at most {LARGEST} bytes")
            return None
        try:
            return file.read(LARGEST)
        except OSError as error:
            aside.add("raw file", shown(path), error.strerror or str(error))
            return None


def _entries(folder: Path, aside: SetAside) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; one that cannot be read is set aside."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        aside.add("folder", shown(str(folder)), error.strerror or str(error))
