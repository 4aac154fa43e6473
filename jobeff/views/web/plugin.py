"""What Datasette asks of us: our pages beside its tables, who somebody is, and what of its own it may show them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from datasette import hookimpl

from jobeff.config import Config
from jobeff.views.web import databases, render, routes
from jobeff.views.web.access import Viewer
from jobeff.views.web.guard import Door, Guard, someone
from jobeff.views.web.live import Live


@dataclass(frozen=True)
class Ours:
    """What our Datasette knows.

    Attributes
    ----------
    config, door
        Of the site; how people come in.
    """

    config: Config
    door: Door


def _of(datasette: Any) -> Any:
    """Our own Datasette; None for others in this process."""
    return getattr(datasette, "jobeff", None)


@hookimpl
def register_routes(datasette: Any) -> list[tuple[str, Any]]:
    """Our pages, which come before Datasette's."""
    if _of(datasette) is None:
        return []
    return routes.ROUTES


@hookimpl
def asgi_wrapper(datasette: Any) -> Callable[[Any], Any]:
    """Put the guard before everything."""
    ours = _of(datasette)

    def wrap(app: Any) -> Any:
        if ours is None:
            return app
        return Guard(
            _Following(app, datasette), ours.config, ours.door, _refuser(datasette), datasette.setting("base_url")
        )

    return wrap


class _Following:
    """Has databases that have come or gone known to Datasette before it looks."""

    def __init__(self, app: Any, datasette: Any) -> None:
        self._app, self._datasette = app, datasette

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        databases.follow(self._datasette, self._datasette.jobeff.config)
        await self._app(scope, receive, send)


@hookimpl
def actor_from_request(datasette: Any, request: Any) -> dict[str, Any] | None:
    """Who asks, for Datasette."""
    if _of(datasette) is None:
        return None
    name = someone(request.scope).name
    return {"id": name} if name else None


@hookimpl(trylast=True)  # the last answer counts
def permission_allowed(datasette: Any, actor: Any) -> bool | None:
    """Refuse all of Datasette's own to who is not staff; the guard has done so before."""
    ours = _of(datasette)
    if ours is None or not ours.door.header:
        return None
    return None if actor and actor.get("id") in ours.config.staff else False


@hookimpl
def render_cell(row: Any, value: Any, column: str, table: str, database: str, datasette: Any) -> Any:
    """In Datasette's tables, ids and names lead to our pages."""
    if _of(datasette) is None or value is None or value == "" or database not in databases.ABOUT:
        return None
    from markupsafe import Markup  # noqa: PLC0415  (an extra)

    links = Live(Viewer(everything=True), datasette.setting("base_url"))
    if column == "job_id" and table == "jobs" and "cluster" in row.keys():  # noqa: SIM118  (a row of SQLite has values)
        href = links.job(f"{row['cluster']}/{value}")
    elif column == "proj_id":
        href = links.project(str(value))
    elif column == "user" and table == "jobs":
        href = links.user(str(value))
    else:
        return None
    return Markup('<a href="{}">{}</a>').format(href, render.plain(str(value)))


def _refuser(datasette: Any) -> Callable[[Any, int, str, str], bytes]:
    def refuse(scope: Any, status: int, title: str, text: str) -> bytes:
        viewer = someone(scope)
        links = Live(viewer, datasette.setting("base_url"), inside=bool(viewer.name))
        return routes.message(links, viewer, status, title, text)[1].encode("utf-8", "replace")

    return refuse
