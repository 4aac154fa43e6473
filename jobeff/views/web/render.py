"""Pages as HTML: the same templates for those that are served and those that are files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from jobeff.errors import JobeffError
from jobeff.views.tables import TOTAL, Table, cell

HERE = Path(__file__).parent
ASSETS = {"jobeff.css": "text/css; charset=utf-8", "jobeff.js": "text/javascript; charset=utf-8"}
LONGEST = 200
UNBROKEN = ("ended", "state")
SCRIPT_ENDS = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}
"""What could end or begin markup, as JSON may write it too."""


class Links(Protocol):
    """Where pages lie; None for one that is not there, or may not be seen."""

    search: str | None
    """Where a job is looked for."""

    def start(self) -> str | None:
        """The first page."""

    def asset(self, name: str) -> str:
        """One of `ASSETS`."""

    def project(self, name: str) -> str | None:
        """The page of a project."""

    def user(self, name: str) -> str | None:
        """The page of a user."""

    def job(self, name: str, attempt: int | None = None) -> str | None:
        """The page of a job, ``cluster/id``."""

    def why(self, name: str, attempt: int, column: str) -> str | None:
        """Where a number of a job comes from."""

    def table(self, database: str, table: str, **equal: str) -> str | None:
        """Rows of a database that have these values."""

    def tables(self) -> str | None:
        """The page with all tables."""


def plain(text: str, most: int = LONGEST) -> str:
    """Input as text of a page; templates escape what is markup.

    Parameters
    ----------
    text
        Anything.
    most
        Characters; what is longer is cut.

    Returns
    -------
    str
        What cannot be printed, or would turn the direction of the line, as an escape.
    """
    cut = text if len(text) <= most else f"{text[: most - 3]}..."
    return cut if cut.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


def for_script(value: object) -> str:
    """Data for a script, to stand in a page.

    Parameters
    ----------
    value
        Dictionaries, lists, texts and numbers.

    Returns
    -------
    str
        JSON without a character that means something in HTML.
    """
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return "".join(SCRIPT_ENDS.get(c, c) for c in text)


def table(found: Table, links: Links, skip: Sequence[str] = (), total: bool = True) -> dict[str, Any]:
    """A table of a report for the template.

    Parameters
    ----------
    found
        From a report.
    links
        To pages of projects, users and jobs.
    skip
        Columns that say the same in all lines.
    total
        Whether there is a last line with the sums.

    Returns
    -------
    dict
        ``columns``, ``rows`` of cells, ``total``, ``notes``, ``empty``.
    """
    columns = [(i, column) for i, column in enumerate(found.columns) if column.title and column.name not in skip]
    place = {column.name: i for i, column in enumerate(found.columns)}
    to: Mapping[str, Any] = {"project": links.project, "user": links.user}

    def shown(i: int, row: tuple[Any, ...]) -> dict[str, Any]:
        column, value = found.columns[i], row[i]
        if isinstance(value, str):
            kind = "text fixed" if column.name in UNBROKEN else "text"
            if column.name == "job":
                href = links.job(value, row[place["attempt"]])
            else:
                href = to[column.name](value) if column.name in to else None
            return {"text": plain(value), "href": href, "kind": kind}
        return {"text": cell(column.kind, value), "href": None, "kind": "number"}

    last = [cell(column.kind, found.total.get(column.name, "")) for _, column in columns] if found.total else []
    if last:
        last[0] = TOTAL
    return {
        "columns": [
            {"title": column.title, "kind": "text" if column.kind == "text" else "number"} for _, column in columns
        ],
        "rows": [[shown(i, row) for i, _ in columns] for row in found.rows()],
        "total": last if total else [],
        "notes": list(found.notes),
        "empty": found.empty,
    }


@functools.cache
def environment() -> Any:
    """The templates.

    Returns
    -------
    jinja2.Environment
        It escapes all that is put into a template.

    Raises
    ------
    JobeffError
        There is no Jinja.
    """
    try:
        import jinja2  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise missing(error) from error
    found = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"), autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    found.filters["plain"] = plain
    found.filters["for_script"] = lambda value: jinja2.filters.do_mark_safe(for_script(value))
    return found


def missing(error: ImportError) -> JobeffError:
    """That pages need an extra.

    Parameters
    ----------
    error
        What the import said.

    Returns
    -------
    JobeffError
        With what to do.
    """
    todo = "Install it: pip install 'jobeff[web]', or in a clone scripts/environment web"
    return JobeffError("pages need Datasette", why=str(error), todo=todo)


def page(template: str, links: Links, /, **about: Any) -> str:
    """A page.

    Parameters
    ----------
    template
        Its name, without ``.html``.
    links
        Where the others are.
    about
        What the template shows.

    Returns
    -------
    str
        HTML.
    """
    return str(environment().get_template(f"{template}.html").render(links=links, **about))


@functools.cache
def asset(name: str) -> bytes:
    """A style or script that pages use.

    Parameters
    ----------
    name
        One of `ASSETS`.

    Returns
    -------
    bytes
        Of the file.
    """
    return (HERE / "assets" / name).read_bytes()


def version(name: str) -> str:
    """Tells one version of an asset from another.

    Parameters
    ----------
    name
        One of `ASSETS`.

    Returns
    -------
    str
        Hexadecimal digits.
    """
    return hashlib.sha256(asset(name)).hexdigest()[:12]
