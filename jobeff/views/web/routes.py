"""Our pages by their addresses: each is made of the databases for whoever asks, or told in words why it cannot be."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable, Mapping
from datetime import date
from typing import Any
from urllib.parse import unquote

from datasette.utils.asgi import Response

from jobeff.errors import ConfigError, JobeffError
from jobeff.progress import QUIET
from jobeff.store.tables import database
from jobeff.views import job
from jobeff.views.job import JobView
from jobeff.views.web import databases, job_page, pages, reading, render, why_page
from jobeff.views.web.access import Viewer
from jobeff.views.web.cache import Cache, stamp
from jobeff.views.web.guard import someone
from jobeff.views.web.live import Live

HTML = "text/html; charset=utf-8"
PAGES = Cache()
Made = tuple[int, str, dict[str, str]]
"""Status, body, headers."""


def _given(text: str) -> str:
    return unquote(text, errors="surrogateescape")


def _view(make: Callable[[Any, Viewer, Live, Any], Made]) -> Any:
    """A page of ours: made in a thread, told in words where it cannot be."""

    async def view(datasette: Any, request: Any) -> Any:
        viewer = someone(request.scope)
        links = Live(viewer, datasette.setting("base_url"))

        def made() -> Made:
            try:
                return make(datasette.jobeff.config, viewer, links, request)
            except ConfigError as error:
                return message(links, viewer, 400, "That cannot be shown", str(error))
            except JobeffError as error:
                text = str(error) if viewer.everything else "The site's staff can find out why."
                return message(links, viewer, 500, "That cannot be shown now", text)
            except (OSError, sqlite3.Error) as error:
                text = f"{type(error).__name__}: {error}." if viewer.everything else ""
                again = f"{text} The databases may be changing just now; try again in a minute."
                return message(links, viewer, 503, "That cannot be shown now", again)

        status, body, headers = await asyncio.to_thread(made)
        return Response(body, status=status, headers=headers, content_type=HTML)

    return view


async def _asset(request: Any) -> Any:
    name = request.url_vars["name"]
    kept = {"cache-control": "private, max-age=31536000, immutable"}
    return Response(render.asset(name).decode(), headers=kept, content_type=render.ASSETS[name])


def _page(template: str, links: Live, viewer: Viewer, status: int = 200, /, **about: Any) -> Made:
    return status, render.page(template, links, who=viewer.name, **about), {}


def message(links: Live, viewer: Viewer, status: int, title: str, text: str) -> Made:
    """A page that says something.

    Parameters
    ----------
    links, viewer
        To other pages; who looks.
    status
        Of HTTP.
    title, text
        What it says.

    Returns
    -------
    tuple
        See `Made`.
    """
    said = text[:1].upper() + text[1:]  # an error's text goes on behind 'jobeff: error:' elsewhere
    said += "" if said.endswith((".", "?")) or not said else "."
    return _page("message", links, viewer, status, title=title, text=said, items=[])


def _kept(config: Any, viewer: Viewer, links: Live, key: tuple[Any, ...], make: Callable[[], Made]) -> Made:
    """A page from the cache, where it was made for the same person of the same data."""
    made: Made = PAGES.get((str(config.file), viewer, links.start(), stamp(config), *key), make)
    return made


def _days(args: Mapping[str, Any]) -> tuple[date | None, date | None]:
    found = []
    for name in ("since", "until"):
        text = args.get(name) or ""
        try:
            found.append(date.fromisoformat(text) if text else None)
        except ValueError as error:
            raise ConfigError(f"'{render.plain(text, 30)}' is not a day", todo="Write it as 2024-03-31") from error
    return found[0], found[1]


def _start(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    since, until = _days(request.args)

    def make() -> Made:
        when = reading.period(config, since, until)
        if viewer.everything:
            shown = pages.start(config, reading.read(config, when), links)
        else:
            mine = reading.read(config, when, users=(viewer.name,))
            shown = pages.own(config, viewer, mine, links)
        return _page("start", links, viewer, **shown)

    return _kept(config, viewer, links, ("start", since, until), make)


def _project(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    name = _given(request.url_vars["name"])
    if not viewer.sees_project(name):
        return _not_yours(links, viewer, "project", name)
    return _group(config, viewer, links, request, "project", name)


def _user(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    name = _given(request.url_vars["name"])
    if not viewer.sees_user(name):
        return _not_yours(links, viewer, "user", name)
    return _group(config, viewer, links, request, "user", name)


def _group(config: Any, viewer: Viewer, links: Live, request: Any, what: Any, name: str) -> Made:
    since, until = _days(request.args)

    def make() -> Made:
        when = reading.period(config, since, until)
        jobs = reading.read(config, when, QUIET, **{f"{what}s": (name,)})
        return _page("group", links, viewer, **pages.group(config, what, name, jobs, links))

    return _kept(config, viewer, links, (what, name, since, until), make)


def _not_yours(links: Live, viewer: Viewer, what: str, name: str) -> Made:
    """The same whether it is there or not."""
    text = f"There is no {what} {render.plain(name, 60)}, or it is not one that you may see."
    return message(links, viewer, 403, "Not for you", text)


def _search(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    text = (request.args.get("q") or "").strip()
    if not text:
        return message(links, viewer, 400, "Which job?", "Type a job id, such as 42248156, or CLUSTER/ID.")
    wanted = job.parse_id(text)
    found = list(dict.fromkeys(one.name for one in _visible(config, viewer, wanted)))
    if len(found) == 1:
        return 303, "", {"location": str(links.job(found[0]))}
    if found:
        items = [(name, links.job(name)) for name in found]
        title = f"{len(found)} jobs have that id"
        return _page("message", links, viewer, 200, title=title, text="Choose the cluster:", items=items)
    return _unknown(config, viewer, links, wanted)


def _visible(config: Any, viewer: Viewer, wanted: job.Wanted) -> list[JobView]:
    """Jobs of an id that may be seen."""
    if not job.known(config, wanted):
        return []
    return [one for one in job.find(config, wanted) if viewer.sees_job(one.accounting)]


def _unknown(config: Any, viewer: Viewer, links: Live, wanted: job.Wanted) -> Made:
    """Say that a job is not known; to who may not see all, no more than that."""
    why = "It may still be running: a job is known once it has ended and the night has loaded it."
    if viewer.everything:
        try:
            job.find(config, wanted)
        except JobeffError as error:
            why = str(error)
    else:
        why += " Or it is not yours, nor of a project of yours."
    return message(links, viewer, 404, f"No job {render.plain(str(wanted))}", why)


def _job(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    def show(one: JobView, found: list[JobView]) -> Made:
        return _page("job", links, viewer, **job_page.page(config, one, found, links))

    return _attempt(config, viewer, links, request, "", show)


def _why(config: Any, viewer: Viewer, links: Live, request: Any) -> Made:
    column = request.url_vars["column"]

    def show(one: JobView, _found: list[JobView]) -> Made:
        about = why_page.page(config, one, column, links)
        if about is None:
            return message(links, viewer, 404, "No such number", f"Job {one.name} has no number {column}.")
        return _page("why", links, viewer, **about)

    return _attempt(config, viewer, links, request, column, show)


def _attempt(
    config: Any, viewer: Viewer, links: Live, request: Any, column: str,
    show: Callable[[JobView, list[JobView]], Made],
) -> Made:  # fmt: skip
    """A page of the attempt that is asked for, where it may be seen."""
    text = f"{_given(request.url_vars['cluster'])}/{_given(request.url_vars['number'])}"
    attempt = request.args.get("attempt") or ""

    def make() -> Made:
        if text.endswith("_[*]"):
            return _array(config, viewer, links, text)
        wanted = job.parse_id(text)
        found = _visible(config, viewer, wanted)
        chosen = [one for one in found if str(one.number) == attempt] if attempt else found[-1:]
        return show(chosen[0], found) if chosen else _unknown(config, viewer, links, wanted)

    return _kept(config, viewer, links, ("job", text, attempt, column), make)


def _array(config: Any, viewer: Viewer, links: Live, text: str) -> Made:
    wanted = job.parse_id(text.removesuffix("_[*]"))
    tasks = [
        one for one in job_page.tasks(config, str(wanted.cluster), wanted.job_id) if viewer.sees_job(one.accounting)
    ]
    if not tasks:
        return _unknown(config, viewer, links, wanted)
    items = [
        (
            f"{one.name}  {render.plain(one.accounting['jobstate'])}",
            links.job(f"{wanted.cluster}/{one.accounting['job_id']}"),
        )
        for one in tasks
    ]
    more = f" The first {len(items)} are listed." if len(tasks) == job_page.TASKS else ""
    title, said = f"Tasks of job array {wanted.cluster}/{wanted.job_id}", f"Choose one.{more}"
    return _page("message", links, viewer, 200, title=title, text=said, items=items)


def _tables(config: Any, viewer: Viewer, links: Live, _request: Any) -> Made:
    lines = [
        (name, text, f"{links.start()}{name}")
        for name, text in databases.ABOUT.items()
        if database(config.root, name).is_file()
    ]
    return _page("tables", links, viewer, lines=lines)


ROUTES: list[tuple[str, Any]] = [
    (r"^/$", _view(_start)),
    (r"^/search$", _view(_search)),
    (r"^/tables$", _view(_tables)),
    (r"^/project/(?P<name>[^/]+)$", _view(_project)),
    (r"^/user/(?P<name>[^/]+)$", _view(_user)),
    (r"^/job/(?P<cluster>[^/]+)/(?P<number>[^/]+)$", _view(_job)),
    (r"^/job/(?P<cluster>[^/]+)/(?P<number>[^/]+)/why/(?P<column>[a-z_]+)$", _view(_why)),
    (r"^/-/jobeff/(?P<name>jobeff\.(?:css|js))$", _asset),
]
