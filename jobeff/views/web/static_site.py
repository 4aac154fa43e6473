"""The pages as files of a folder, for a nightly web folder or to be opened from disk.

A list of the files written stands beside them, so that those of the night before go, and nothing else ever does.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from jobeff.config import Config
from jobeff.errors import ConfigError, shown
from jobeff.progress import QUIET, Progress
from jobeff.store.files import atomic_write
from jobeff.store.locks import lock
from jobeff.views import job, report_jobs
from jobeff.views.anonymous import Anonymous
from jobeff.views.report import Ask
from jobeff.views.report_select import Selection
from jobeff.views.web import job_page, pages, reading, render

LIST = ".jobeff-pages.json"
OURS = re.compile(r"index\.html|jobeff\.(?:css|js)|(?:project|job)/[A-Za-z0-9._-]{1,120}\.html")
POLICY = (
    "default-src 'none'; style-src 'self' file:; script-src 'self' file:; img-src data:; form-action 'none'; "
    "base-uri 'none'"
)
JOBS, PROJECTS = 100, 2000


@dataclass
class Files:
    """Links between files.

    Attributes
    ----------
    up
        From the page that is being written to the folder: empty, or ``../``.
    projects, jobs
        Files by what they are of, as it is shown.
    """

    up: str = ""
    projects: dict[str, str] = field(default_factory=dict)
    jobs: dict[tuple[str, int | None], str] = field(default_factory=dict)
    search: str | None = None

    def start(self) -> str | None:
        """The first page."""
        return f"{self.up}index.html"

    def asset(self, name: str) -> str:
        """A style or script."""
        return f"{self.up}{name}?{render.version(name)}"

    def project(self, name: str) -> str | None:
        """The page of a project."""
        return self._to(self.projects.get(name))

    def user(self, name: str) -> str | None:  # noqa: ARG002
        """There is none."""
        return None

    def job(self, name: str, attempt: int | None = None) -> str | None:
        """The page of one of the jobs that waste most."""
        return self._to(self.jobs.get((name, attempt)))

    def why(self, name: str, attempt: int, column: str) -> str | None:  # noqa: ARG002
        """Further down on the page of the job itself, so that there are no more files."""
        return f"#why-{column}"

    def table(self, database: str, table: str, **equal: str) -> str | None:  # noqa: ARG002
        """There is none."""
        return None

    def tables(self) -> str | None:
        """There is none."""
        return None

    def _to(self, path: str | None) -> str | None:
        return None if path is None else self.up + path


def file_of(folder: str, name: str) -> str:
    """The file of a page.

    Parameters
    ----------
    folder
        ``project`` or ``job``.
    name
        Anything; two names have two files.

    Returns
    -------
    str
        Below the folder of the site.
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60].strip("-")
    same = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{folder}/{plain}-{same}.html"


def write(
    config: Config,
    folder: Path,
    since: date | None = None,
    until: date | None = None,
    jobs: int = JOBS,
    anonymous: Anonymous | None = None,
    progress: Progress = QUIET,
) -> dict[str, int]:
    """Write all pages, each whole or not at all, the first one last.

    Parameters
    ----------
    config
        Of the site.
    folder
        Empty, missing, or written by this.
    since, until
        First and last day; by default the last 30 with jobs.
    jobs
        So many jobs that waste most have pages; none where names are turned, since who may ask Slurm could tell from
        times and nodes whose they are.
    anonymous
        Turns names; None to show them.
    progress
        Says how many pages have been written.

    Returns
    -------
    dict
        How many ``projects``, ``jobs`` and old ``removed`` pages.

    Raises
    ------
    ConfigError
        The folder holds what is not ours.
    """
    folder = folder.absolute()
    with lock(config.root, "html"):
        before = _before(folder)
        when = reading.period(config, since, until)
        read = reading.read(config, when, progress)
        by_project = dict(list(reading.divided(read, "project"))[:PROJECTS])
        links = Files()
        for name in by_project:
            shown_name = anonymous.name("project", name) if anonymous else name
            links.projects[shown_name] = file_of("project", shown_name)
        todo: dict[str, Callable[[], str]] = {}
        wasted = [] if anonymous or not jobs else _wasted(config, read, jobs)
        for one, _ in wasted:
            path = file_of("job", f"{one.name}-{one.number}")
            known_as = f"{one.accounting['cluster']}/{one.accounting['job_id']}"
            links.jobs |= {(one.name, one.number): path, (known_as, one.number): path, (known_as, None): path}
        below = Files("../", links.projects, links.jobs)
        for one, others in wasted:
            shown_job = partial(job_page.page, config, one, others, below, evidence=True)
            todo[links.jobs[one.name, one.number]] = _page("job", below, shown_job)
        for name, path in zip(by_project, links.projects.values(), strict=True):
            shown_project = partial(pages.group, config, "project", name, by_project[name], below, anonymous)
            todo[path] = _page("group", below, shown_project)
        todo["index.html"] = _page("start", links, lambda: pages.start(config, read, links, anonymous))
        assets = {name: render.asset(name) for name in render.ASSETS}
        _note(folder, before | set(todo) | set(assets))
        for name, content in assets.items():
            _put(folder / name, content)
        with progress.task("pages", len(todo), "pages") as advance:
            # In the order of real names, times of files would tell who is who.
            for path, make in sorted(todo.items(), key=lambda one: (one[0] == "index.html", one[0])):
                _put(folder / path, make().encode("utf-8", "replace"))
                advance(1)
        old = before - set(todo) - set(assets)
        for path in old:
            (folder / path).unlink(missing_ok=True)
        _note(folder, set(todo) | set(assets))
    return {"projects": len(by_project), "jobs": len(wasted), "removed": len(old)}


def _page(template: str, links: Files, about: Callable[[], dict[str, Any]]) -> Callable[[], str]:
    return lambda: render.page(template, links, who="", static=POLICY, **about())


def _wasted(config: Config, read: reading.Jobs, limit: int) -> list[tuple[job.JobView, list[job.JobView]]]:
    """The attempts of jobs that waste most; tasks of arrays are many, and have no pages."""
    ask = Ask(Selection(read.period.since, read.period.until), limit=limit)
    names = report_jobs.of_parts(config, read.tables, ask).data.column("job").to_pylist()
    found = []
    for name in dict.fromkeys(name for name in names if not name.endswith("_[*]")):
        attempts = job.find(config, job.parse_id(name))
        found += [(one, attempts) for one in attempts]
    return found


def _put(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def _before(folder: Path) -> set[str]:
    """Files that were written here before; of a folder that was written by others, nothing is touched."""
    for path in (folder / "project", folder / "job"):
        if path.is_symlink():
            raise _not_ours(path, "it is a link")
    try:
        found = json.loads((folder / LIST).read_text(encoding="utf-8"))["files"]
    except FileNotFoundError:
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise _not_ours(folder, "it holds files that 'jobeff report --html' has not written") from None
        return set()
    except (ValueError, KeyError, TypeError) as error:
        raise _not_ours(folder / LIST, "it cannot be read") from error
    return {
        name
        for name in found
        if isinstance(name, str) and OURS.fullmatch(name) and ".." not in PurePosixPath(name).parts
    }


def _not_ours(path: Path, why: str) -> ConfigError:
    return ConfigError(
        "cannot write pages", where=shown(str(path)), why=why, safe="Nothing was changed", todo="Give an empty folder"
    )


def _note(folder: Path, names: set[str]) -> None:
    _put(folder / LIST, json.dumps({"files": sorted(names)}, indent=1).encode())
