"""The configuration, ``jobeff.toml``."""

from __future__ import annotations

import os
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from jobeff.clock import Clock, with_jobs
from jobeff.errors import RIGHTS, ConfigError, NotADataRootError, reason, shown
from jobeff.names import is_name

FILE_NAME = "jobeff.toml"
LARGEST = 1 << 18
ENGINES = "'local' nor 'dask://HOST:PORT'"
FORMATS = ("auto", "site", "sacct", "sacct-json", "jobcomp")
TOP = {
    "root",
    "timezone",
    "clusters",
    "sources",
    "orphan_days",
    "today",
    "project_keys",
    "anonymous_key",
    "group",
    "engine",
    "slurm",
    "staff",
}
CLUSTER = {
    "accounting",
    "accounting_format",
    "jobstats",
    "grants",
    "interval",
    "sacct",
    "sacct_overlap_days",
    "node_types",
}
SOURCES = {"projects", "storage", "corehours"}
PROJECT_KEYS = {
    "proj_id": "Name", "start": "Start", "end": "End", "pi": "Principal", "deputy": "Deputy",
    "technical": "Technical", "members": "Members", "type": "Type", "mail": "Mail",
}  # fmt: skip
"""Key in the project file of each column of the table `projects`; where a site spells one otherwise, it says so."""


@dataclass(frozen=True)
class Cluster:
    """Where one cluster's input lies.

    Attributes
    ----------
    name
        As Slurm spells it.
    accounting
        Folders or files.
    accounting_format
        One of `FORMATS`.
    jobstats
        Folders of node folders, the preferred one first; one whose name begins with ``extended`` holds the
        extended form.
    grants
        The grant file, or None.
    interval
        Seconds between two samples.
    sacct
        Whether accounting is asked of ``sacct`` itself, day by day.
    sacct_overlap_days
        So many of the days that have been asked are asked again, since Slurm's database may hear of a job late.
    node_types
        Memory of its kinds of nodes, GiB, ascending; empty where that is not said.
    """

    name: str
    accounting: tuple[Path, ...]
    accounting_format: str = "auto"
    jobstats: tuple[Path, ...] = ()
    grants: Path | None = None
    interval: int = 300
    sacct: bool = False
    sacct_overlap_days: int = 1
    node_types: tuple[int, ...] = ()


@dataclass(frozen=True)
class Config:
    """All that a site has set.

    Attributes
    ----------
    file
        Where it was read from.
    root
        Folder that holds ``archive``, ``shards`` and ``db``.
    clock
        Of the site's time zone.
    clusters
        By name.
    sources
        Other input by kind: ``projects``, ``storage``, ``corehours``.
    orphan_days
        A raw file that accounting does not name is archived once it has not changed for so many days.
    fixed_today
        For a site whose history has ended, the day that counts as today; None for the day that it is.
    project_keys
        See `PROJECT_KEYS`.
    anonymous_key
        File of the key of `jobeff.views.anonymous`; None for one of our own.
    group
        Group that may read what we keep; None for the one that the system gives.
    engine
        See `is_engine`.
    staff
        Users who see everybody's jobs where `serve` tells people apart.
    slurm_options
        Of sbatch, for runs on Slurm.
    """

    file: Path
    root: Path
    clock: Clock
    clusters: dict[str, Cluster]
    sources: dict[str, Path] = field(default_factory=dict)
    orphan_days: float = 20
    fixed_today: date | None = None
    project_keys: dict[str, str] = field(default_factory=lambda: dict(PROJECT_KEYS))
    anonymous_key: Path | None = None
    group: str | None = None
    engine: str = "local"
    staff: tuple[str, ...] = ()
    slurm_options: tuple[str, ...] = ()

    @property
    def today(self) -> date:
        """The local day that it is, or that counts as today."""
        return self.fixed_today or date.fromisoformat(self.clock.now()[0])

    @property
    def shards(self) -> Path:
        """Folder of the shards in use."""
        return self.root / "shards"

    def raw_cluster(self, cluster: str) -> str:
        """The cluster on whose nodes a cluster's jobs ran.

        Parameters
        ----------
        cluster
            As accounting spells it.

        Returns
        -------
        str
            Of a virtual cluster, ``<cluster>.<project>``, the configured one that it is part of; else itself.
        """
        known = [name for name in self.clusters if cluster == name or cluster.startswith(f"{name}.")]
        return max(known, key=len, default=cluster)

    def interval(self, cluster: str) -> int:
        """Seconds between two samples of a cluster's jobs.

        Parameters
        ----------
        cluster
            As accounting spells it.

        Returns
        -------
        int
            Of one that the configuration does not know, whose jobs have no samples, 300.
        """
        known = self.clusters.get(self.raw_cluster(cluster))
        return known.interval if known else 300

    def node_types(self, cluster: str) -> tuple[int, ...]:
        """Memory of a cluster's kinds of nodes.

        Parameters
        ----------
        cluster
            As accounting spells it.

        Returns
        -------
        tuple of int
            GiB, ascending; empty where the configuration does not say.
        """
        known = self.clusters.get(self.raw_cluster(cluster))
        return known.node_types if known else ()


def is_engine(text: str) -> bool:
    """Whether a text names what work can be done by.

    Parameters
    ----------
    text
        From the command line or the configuration.

    Returns
    -------
    bool
        True for ``local``, processes of this machine, and for ``dask://HOST:PORT``.
    """
    return text == "local" or re.fullmatch(r"dask://(\[[0-9a-fA-F:.]+\]|[\w.-]+):\d{1,5}", text) is not None


def find(given: Path | None) -> Path:
    """Find the configuration: the given one, ``$JOBEFF_CONFIG``, ``./jobeff.toml``.

    Parameters
    ----------
    given
        From the command line.

    Returns
    -------
    Path
        An existing file.

    Raises
    ------
    NotADataRootError
        There is none.
    """
    named = given or (Path(os.environ["JOBEFF_CONFIG"]) if os.environ.get("JOBEFF_CONFIG") else None)
    path = named or Path(FILE_NAME)
    if not path.is_file():
        raise NotADataRootError(
            "there is no configuration",
            where=str(path),
            why="it is no file" if path.exists() else "no such file",
            safe="Nothing was done",
            todo="Name one with -c FILE or $JOBEFF_CONFIG, or make one with 'jobeff init' or 'jobeff demo'",
        )
    return path


def load(path: Path) -> Config:
    """Read the configuration.

    Parameters
    ----------
    path
        From `find`.

    Returns
    -------
    Config
        With absolute paths; relative ones begin at the file's folder.

    Raises
    ------
    ConfigError
        It is no TOML, or holds something it should not.
    """
    try:
        with path.open("rb") as file:
            content = file.read(LARGEST + 1)
        if len(content) > LARGEST:
            raise ValueError(f"it is longer than {LARGEST} bytes")
        raw = tomllib.loads(content.decode("utf-8-sig"))  # Windows puts a mark before it
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(
            "cannot read the configuration",
            where=shown(str(path)),
            why=shown(reason(error)),
            safe="Nothing was changed",
            todo=RIGHTS if isinstance(error, PermissionError) else "Mend it and run again",
        ) from error
    reader = _Reader(path)
    reader.known(raw, TOP, "")
    clusters = {name: reader.cluster(name, table) for name, table in reader.table(raw, "clusters", "").items()}
    if not clusters:
        raise reader.wrong("clusters", "there is none", "Add a table [clusters.NAME]")
    sources = reader.table(raw, "sources", "")
    reader.known(sources, SOURCES, "sources.")
    orphan_days = raw.get("orphan_days", 20)
    if isinstance(orphan_days, bool) or not isinstance(orphan_days, int | float) or not orphan_days >= 0:
        raise reader.wrong("orphan_days", "it is not a number of days", "Files live 30 days, so use about 20")
    return Config(
        file=path.absolute(),
        root=reader.path(raw.get("root", "."), "root"),
        clock=reader.clock(raw.get("timezone", "Europe/Stockholm")),
        clusters=clusters,
        sources={kind: reader.path(value, f"sources.{kind}") for kind, value in sources.items()},
        orphan_days=float(orphan_days),
        fixed_today=reader.day(raw["today"], "today") if "today" in raw else None,
        project_keys=reader.project_keys(reader.table(raw, "project_keys", "")),
        anonymous_key=reader.path(raw["anonymous_key"], "anonymous_key") if "anonymous_key" in raw else None,
        group=reader.text(raw["group"], "group") if "group" in raw else None,
        engine=reader.engine(raw.get("engine", "local")),
        staff=reader.texts(raw.get("staff", []), "staff"),
        slurm_options=reader.slurm_options(reader.table(raw, "slurm", "")),
    )


class _Reader:
    """Reads values of one file, and says which one is wrong."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.folder = file.absolute().parent

    def wrong(self, key: str, why: str, todo: str = "") -> ConfigError:
        return ConfigError(f"cannot use '{shown(key)}'", where=str(self.file), why=why, todo=todo)

    def known(self, table: dict[str, Any], keys: set[str], prefix: str) -> None:
        for key in table:
            if key not in keys:
                raise self.wrong(prefix + key, "there is no such key", f"Known are {', '.join(sorted(keys))}")

    def table(self, table: dict[str, Any], key: str, prefix: str) -> dict[str, Any]:
        value = table.get(key, {})
        if not isinstance(value, dict):
            raise self.wrong(prefix + key, "it is not a table")
        return value

    def text(self, value: Any, key: str) -> str:
        if not isinstance(value, str) or not value or "\0" in value:
            raise self.wrong(key, "it is not a text")
        return value

    def texts(self, value: Any, key: str) -> tuple[str, ...]:
        if not isinstance(value, list):
            raise self.wrong(key, "it is not a list", 'Write it as ["anna", "carl"]')
        return tuple(self.text(one, key) for one in value)

    def clock(self, value: Any) -> Clock:
        try:
            return Clock(self.text(value, "timezone"))
        except ConfigError as error:
            raise self.wrong("timezone", str(error)) from error

    def path(self, value: Any, key: str) -> Path:
        return self.folder / self.text(value, key)

    def paths(self, value: Any, key: str) -> tuple[Path, ...]:
        values = value if isinstance(value, list) else [value]
        return tuple(self.path(one, key) for one in values)

    def slurm_options(self, table: dict[str, Any]) -> tuple[str, ...]:
        self.known(table, {"options"}, "slurm.")
        options = table.get("options", [])
        if not isinstance(options, list) or not all(isinstance(one, str) and one[:1] == "-" for one in options):
            raise self.wrong("slurm.options", "it is not a list of options", 'Write it as ["--account=proj1"]')
        return tuple(options)

    def engine(self, value: Any) -> str:
        if not isinstance(value, str) or not is_engine(value):
            raise self.wrong("engine", f"it is neither {ENGINES}", "Write it as dask://HOST:PORT of Dask's scheduler")
        return value

    def day(self, value: Any, key: str) -> date:
        try:  # a date without quotes is one already; one with a time is no day
            day = value if type(value) is date else date.fromisoformat(self.text(value, key))
        except ValueError as error:
            raise self.wrong(key, "it is not a date", "Write it as YYYY-MM-DD") from error
        if with_jobs(day) != day:
            raise self.wrong(key, f"no job can have run on {day}", "Write the last day of the history")
        return day

    def project_keys(self, table: dict[str, Any]) -> dict[str, str]:
        self.known(table, set(PROJECT_KEYS), "project_keys.")
        return PROJECT_KEYS | {column: self.text(key, f"project_keys.{column}") for column, key in table.items()}

    def cluster(self, name: str, table: Any) -> Cluster:
        prefix = f"clusters.{name}"
        if not is_name(name) or not isinstance(table, dict):
            raise self.wrong(prefix, "a cluster is a table named with 1 to 63 letters, digits, '.', '_' and '-'")
        self.known(table, CLUSTER, prefix + ".")
        interval = table.get("interval", 300)
        if isinstance(interval, bool) or not isinstance(interval, int) or not 1 <= interval <= 86_400:
            raise self.wrong(f"{prefix}.interval", "it is not a whole number of seconds from 1 to 86400")
        kind = table.get("accounting_format", "auto")
        if kind not in FORMATS:
            raise self.wrong(f"{prefix}.accounting_format", f"it is not one of {', '.join(FORMATS)}")
        sacct = table.get("sacct", False)
        if not isinstance(sacct, bool):
            raise self.wrong(f"{prefix}.sacct", "it is neither true nor false")
        overlap = table.get("sacct_overlap_days", 1)
        if isinstance(overlap, bool) or not isinstance(overlap, int) or not 0 <= overlap <= 366:
            raise self.wrong(f"{prefix}.sacct_overlap_days", "it is not a whole number of days from 0 to 366")
        return Cluster(
            name=name,
            accounting=self.paths(table.get("accounting", []), f"{prefix}.accounting"),
            accounting_format=kind,
            jobstats=self.paths(table.get("jobstats", []), f"{prefix}.jobstats"),
            grants=self.path(table["grants"], f"{prefix}.grants") if "grants" in table else None,
            interval=interval,
            sacct=sacct,
            sacct_overlap_days=overlap,
            node_types=self.sizes(table.get("node_types", []), f"{prefix}.node_types"),
        )

    def sizes(self, value: Any, key: str) -> tuple[int, ...]:
        whole = isinstance(value, list) and all(type(one) is int and 1 <= one <= 1 << 20 for one in value)
        if not whole or len(set(value)) < len(value):
            raise self.wrong(key, "it is not a list of different sizes in GiB", "Write it as [128, 256, 1024]")
        return tuple(sorted(value))
