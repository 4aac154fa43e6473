"""load projects: the project file into its database; who is no longer in it stays, but is not active."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path

from jobeff.errors import SetAside, shown
from jobeff.sources import projects
from jobeff.steps import source_files
from jobeff.steps.site import Site, StepResult, timed
from jobeff.store import tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic, mark_updated
from jobeff.store.upsert import Incoming

COLUMNS = ("proj_id", "start", "end", "pi", "deputy", "technical", "members", "active", "type", "mail")
FEW, SHARE = 5, 10
"""Where more active projects than `FEW`, and more than one in `SHARE`, are gone at once, the file counts as cut."""
STAY = "; so the {} active projects that it does not name stay active, until it is mended or loaded with --whole"
UNLISTED = "active = 'Y' and proj_id not in (select proj_id from temp.incoming)"


def load_projects(site: Site, files: Sequence[Path] = (), whole: bool = False) -> StepResult:
    """Load projects, and find out anew which are active today.

    Parameters
    ----------
    site
        Where to work.
    files
        Files, or folders of them; by default what the configuration names. Only that is taken to name all projects.
    whole
        `files` name all projects too, and nothing that looks cut is cut.

    Returns
    -------
    StepResult
        Projects read; rows of them new, changed and unchanged; other projects that are no longer active.

    Raises
    ------
    ConfigError
        Neither files nor a configured source.
    SourceError
        A file is missing or unreadable; nothing was loaded.
    """
    given = files or [source_files.configured(site.config, "projects")]
    aside = SetAside()
    paths = source_files.files(given, "projects", aside)
    counts = ("projects", "new", "changed", "unchanged", "no longer active")
    with timed("load projects", *counts) as result, lock(site.root, "projects"):
        result.aside.merge(aside)
        found = _read(site, paths, result)
        connection = tables.open_database(tables.database(site.root, "projects"), "projects")
        try:
            incoming = Incoming(connection, "projects", COLUMNS, ["proj_id"])
            today = site.config.today.isoformat()
            with atomic(connection):
                incoming.add(_row(project, today) for project in found.projects.values())
                done = incoming.merge()
                ended = _end(connection, 'start > ? or "end" < ?', today, today)
                if found.projects and (whole or not files):
                    ended += _end_unlisted(connection, found, whole, given[0], result)
                if found.projects:
                    mark_updated(connection, "projects", site.config.clock)
        finally:
            connection.close()
        for what, number in (("projects", len(found.projects)), *done._asdict().items(), ("no longer active", ended)):
            result.count(what, number)
    return result


def _read(site: Site, paths: Sequence[Path], result: StepResult) -> projects.Found:
    found = projects.Found()
    for path in paths:
        where = shown(source_files.name_of(path))
        try:
            with path.open("rb") as stream:
                projects.read(stream, site.config.project_keys, where=where, aside=result.aside, found=found)
        except OSError as error:
            result.aside.add(projects.FILE, where, error.strerror or str(error))
            found.doubt = found.doubt or f"{where} cannot be read"
    return found


def _row(project: projects.Project, today: str) -> tuple[str | None, ...]:
    about = project._asdict() | {"active": "Y" if project.active(today) else "N"}
    return tuple(about[column] for column in COLUMNS)


def _end_unlisted(
    connection: sqlite3.Connection, found: projects.Found, whole: bool, source: Path, result: StepResult
) -> int:
    """End projects that the file does not name, if it is sure that it names all there are."""
    gone = connection.execute(f"select count(*) from projects where {UNLISTED}").fetchone()[0]
    active = connection.execute("select count(*) from projects where active = 'Y'").fetchone()[0]
    why = "" if whole else found.doubt
    if not why and not whole and gone > FEW and gone * SHARE > active:
        why = f"{gone} of {active} active projects are no longer in it, as if it were cut"
    if not why:
        return _end(connection, "true")
    if gone:
        result.aside.add(projects.FILE, shown(source_files.name_of(source)), why + STAY.format(gone))
    return 0


def _end(connection: sqlite3.Connection, where: str, *parameters: str) -> int:
    """End projects that are not in the files."""
    return connection.execute(f"update projects set active = 'N' where {UNLISTED} and ({where})", parameters).rowcount
