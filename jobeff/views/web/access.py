"""Who may see what: people their own jobs and the projects they are members of, staff all."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jobeff.config import Config
from jobeff.store import tables

_APART = re.compile(r"[\s,;]+")


@dataclass(frozen=True)
class Viewer:
    """Somebody who looks.

    Attributes
    ----------
    name
        The login; empty where there is none to be told.
    everything
        Whether all may be seen.
    projects
        Else, of which projects.
    """

    name: str = ""
    everything: bool = False
    projects: frozenset[str] = frozenset()

    def sees_project(self, name: str) -> bool:
        """Whether a project's page may be seen, and all jobs of the project."""
        return self.everything or name in self.projects

    def sees_user(self, name: str) -> bool:
        """Whether the page of a user may be seen."""
        return self.everything or (bool(name) and name == self.name)

    def sees_job(self, row: Mapping[str, Any]) -> bool:
        """Whether a job may be seen, by its row in accounting."""
        return self.sees_user(row["user"]) or self.sees_project(row["proj_id"])


EVERYBODY = Viewer(everything=True)
"""Who has the databases anyway."""


def viewer(config: Config, name: str) -> Viewer:
    """What somebody may see.

    Parameters
    ----------
    config
        Of the site; it names the staff.
    name
        The login, as the site's own login says it.

    Returns
    -------
    Viewer
        Members, principal, deputy and technical contact of a project see it, also when it has ended.
    """
    if name in config.staff:
        return Viewer(name, everything=True)
    connection = tables.read_if_there(tables.database(config.root, "projects"), "projects")
    if connection is None:
        return Viewer(name)
    with contextlib.closing(connection):
        rows = connection.execute("select proj_id, pi, deputy, technical, members from projects")
        return Viewer(name, projects=frozenset(proj_id for proj_id, *people in rows if _is_one(name, *people)))


def _is_one(name: str, pi: str | None, deputy: str | None, technical: str | None, members: str | None) -> bool:
    """Whether a login is one of a project's; roles may hold names of people, of which no part is a login."""
    return name in {one.strip() for one in (pi, deputy, technical) if one} or name in _APART.split(members or "")
