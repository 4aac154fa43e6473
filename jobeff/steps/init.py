"""init: a commented configuration, with the clusters found below a Slurm root."""

from __future__ import annotations

import json
from pathlib import Path

from jobeff.errors import ConfigError, JobeffError
from jobeff.names import is_name
from jobeff.store.files import atomic_write

JOBSTATS = ("extended_uppmax_jobstats", "uppmax_jobstats")

HEAD = """\
# Configuration of jobeff. Relative paths begin at the folder of this file.
root = "."                      # will hold archive/ shards/ db/
timezone = "Europe/Stockholm"   # of days, weeks, months and of the stamps in site logs
# group = "staff"               # who may read them, beside their owner
# orphan_days = 20              # archive raw files that no accounting names once they are so old
"""

CLUSTER = """
[clusters.{name}]
accounting = {accounting}       # folder or files; folders below it are virtual clusters
accounting_format = "auto"      # or: site, sacct, sacct-json, jobcomp
# sacct = true                  # ask sacct itself; begin once with: jobeff load slurm --sacct --since YYYY-MM-DD
# sacct_overlap_days = 1        # ask so many days again each time, since Slurm's database may hear of a job late
jobstats = {jobstats}           # folders of node folders, the preferred one first
{grants}interval = 300                  # seconds between samples
# node_types = [128, 256, 1024] # GiB of memory of each kind of node; for the flag node_type_overbooked
"""


def init(path: Path, slurm_root: Path | None, force: bool) -> list[str]:
    """Write a configuration.

    Parameters
    ----------
    path
        The file to write.
    slurm_root
        Folder whose subfolders are clusters, or None.
    force
        Write over an existing file.

    Returns
    -------
    list of str
        Clusters found.

    Raises
    ------
    JobeffError
        The file is there already, the root is unreadable, or there is no cluster below it.
    """
    if path.exists() and not force:
        raise ConfigError("there is a configuration already", where=str(path), todo="--force writes over it")
    clusters = _clusters(slurm_root) if slurm_root else []
    text = HEAD
    for folder in clusters:
        text += _table(folder.name, folder)
    if not clusters:
        text += "\n# An example; put your own paths in." + _table("rackham", Path("slurm/rackham"))
    with atomic_write(path.absolute()) as file:
        file.write(text.encode())
    return [folder.name for folder in clusters]


def _clusters(root: Path) -> list[Path]:
    try:
        folders = sorted(folder for folder in root.absolute().iterdir() if folder.is_dir() and is_name(folder.name))
    except OSError as error:
        raise JobeffError(
            "cannot read the Slurm root", where=str(root), why=error.strerror or str(error), safe="Nothing was written"
        ) from error
    found = [folder for folder in folders if any((folder / name).is_dir() for name in ("accounting", *JOBSTATS))]
    if not found:
        raise JobeffError(
            "there is no cluster below the Slurm root",
            where=str(root),
            why=f"no folder there holds accounting or {' or '.join(JOBSTATS)}",
            safe="Nothing was written",
            todo="Without --slurm-root an example is written for you to edit",
        )
    return found


def _table(name: str, folder: Path) -> str:
    real = folder.is_dir()
    accounting = [str(folder / "accounting")] if not real or (folder / "accounting").is_dir() else []
    jobstats = [str(folder / form) for form in JOBSTATS if not real or (folder / form).is_dir()]
    grants = folder / "grantfile"
    return CLUSTER.format(
        name=json.dumps(name),
        accounting=json.dumps(accounting),
        jobstats=json.dumps(jobstats),
        grants=f"grants = {json.dumps(str(grants))}\n" if not real or grants.is_file() else "",
    )
