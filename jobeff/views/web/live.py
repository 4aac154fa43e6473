"""Links between the pages that are served."""

from __future__ import annotations

from urllib.parse import quote

from jobeff.views.web import render
from jobeff.views.web.access import Viewer


class Live:
    """Links to pages that are served.

    Parameters
    ----------
    viewer
        Who looks; there is no link to what they may not see.
    base
        What all paths begin with.
    inside
        Whether they may see any page; else a link would only lead to the same refusal.
    """

    def __init__(self, viewer: Viewer, base: str, inside: bool = True) -> None:
        self._viewer, self._base, self._inside = viewer, base, inside
        self.search: str | None = f"{base}search" if inside else None

    def start(self) -> str | None:
        """The first page; none for somebody who was not let in."""
        return self._base if self._inside else None

    def asset(self, name: str) -> str:
        """A style or script; another address when it has changed."""
        return f"{self._base}-/jobeff/{name}?{render.version(name)}"

    def project(self, name: str) -> str | None:
        """The page of a project."""
        return f"{self._base}project/{_quoted(name)}" if self._viewer.sees_project(name) else None

    def user(self, name: str) -> str | None:
        """The page of a user."""
        return f"{self._base}user/{_quoted(name)}" if self._viewer.sees_user(name) else None

    def job(self, name: str, attempt: int | None = None) -> str | None:
        """The page of a job."""
        cluster, _, number = name.rpartition("/")
        return f"{self._base}job/{_quoted(cluster)}/{_quoted(number)}" + (f"?attempt={attempt}" if attempt else "")

    def why(self, name: str, attempt: int, column: str) -> str | None:
        """Where a number of a job comes from."""
        return f"{self.job(name)}/why/{column}?attempt={attempt}"

    def table(self, database: str, table: str, **equal: str) -> str | None:
        """Rows of Datasette's."""
        if not self._viewer.everything:
            return None
        asked = "&".join(
            f"{name}__exact={quote(value, safe='', errors='surrogatepass')}" for name, value in equal.items()
        )
        return f"{self._base}{database}/{table}" + (f"?{asked}" if asked else "")

    def tables(self) -> str | None:
        """Our list of Datasette's tables."""
        return f"{self._base}tables" if self._viewer.everything and self._inside else None


def _quoted(name: str) -> str:
    return quote(name, safe="", errors="surrogatepass")
