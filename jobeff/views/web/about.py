"""What the databases say beside jobs: of a project, and when they were last brought up to date."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from typing import Any

from jobeff.config import Config
from jobeff.store import tables
from jobeff.views.web import render


def updates(config: Config) -> list[tuple[str, str]]:
    """When each table was last brought up to date.

    Parameters
    ----------
    config
        Of the site.

    Returns
    -------
    list of tuple
        Table, and local date and time; tables that are missing too.
    """
    found: dict[str, str] = {}
    for name in tables.SCHEMAS:
        connection = None if name == "collected" else tables.read_if_there(tables.database(config.root, name), name)
        if connection is None:
            continue
        with (
            contextlib.closing(connection),
            contextlib.suppress(sqlite3.OperationalError),
        ):  # an import has no such table
            for kind, day, time in connection.execute("select type, date, time from last_updated"):
                found[f"{name}/{kind}" if kind != name else name] = f"{day} {time}"
    return sorted(found.items())


def project(config: Config, name: str) -> list[tuple[str, str]]:
    """What the site says of a project.

    Parameters
    ----------
    config
        Of the site.
    name
        The project.

    Returns
    -------
    list of tuple
        What it is about, and what is known; empty where the project is in no database.
    """
    rows = {which: _row(config, which, name) for which in ("projects", "current_projects")}
    found = []
    known = rows["projects"]
    if known:
        ended = "" if known["active"] == "Y" else ", not active"
        found += [
            ("principal investigator", known["pi"]),
            ("deputy", known["deputy"]),
            ("technical contact", known["technical"]),
            ("members", known["members"]),
            ("runs", f"{known['start'] or '?'} to {known['end'] or '?'}{ended}"),
        ]
    current = json.loads(rows["current_projects"]["data"]) if rows["current_projects"] else {}
    for cluster, about in sorted(current.get("corehour", {}).items()):
        grant = about.get("allocation")
        of = f" of {grant:,.0f} granted" if grant is not None else ", no grant is known"
        found.append((f"30 days on {cluster}", f"{about.get('30day_usage') or 0:,.0f} core hours{of}"))
    return [(name, render.plain(str(value), 1000)) for name, value in found if value]


def _row(config: Config, name: str, project: str) -> dict[str, Any] | None:
    connection = tables.read_if_there(tables.database(config.root, name), name)
    if connection is None:
        return None
    with contextlib.closing(connection):
        connection.row_factory = sqlite3.Row
        row = connection.execute(f"select * from {name} where proj_id = ?", (project,)).fetchone()
        return dict(row) if row else None
