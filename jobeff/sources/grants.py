"""Grant files: how many core hours per 30 days each project may use on a cluster."""

from __future__ import annotations

import math
import re
from pathlib import Path

from jobeff.errors import SetAside, SourceError, shown
from jobeff.names import is_name
from jobeff.sources.accounting import MAX_LINE_BYTES, LogLines

KIND = "grant"
# The delimiter behind the project tells which form a line is of: colons, or the older one with commas.
_COLONS = re.compile(r"([^:,]+):([^:]+)(?::.*)?")
_COMMAS = re.compile(r"([^:,]+),[^,]+,([^,]+),.*")
_NUMBER = re.compile(r"(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")


def read(path: Path, aside: SetAside) -> dict[str, float]:
    """Read a grant file; what cannot be used is set aside.

    Parameters
    ----------
    path
        The file: ``project:core hours:...`` a line, or the older ``project,...,core hours,...``.
    aside
        Added to. Of two grants of a project that differ, the first.

    Returns
    -------
    dict
        Core hours per 30 days by project.

    Raises
    ------
    SourceError
        It is missing or unreadable.
    """
    grants: dict[str, float] = {}
    lines_of: dict[str, int] = {}
    try:
        if path.exists() and not path.is_file():  # a pipe would have us wait for ever
            raise OSError("it is not a file")
        with path.open("rb") as stream:
            for number, line in LogLines(stream):
                try:
                    grant = _grant(line)
                except ValueError as error:
                    aside.add(KIND, f"{shown(str(path))}:{number}", str(error))
                    continue
                if grant is None:
                    continue
                project, hours = grant
                if grants.get(project, hours) != hours:
                    why = f"line {number} gives {project} another one, which counts"
                    aside.add(KIND, f"{shown(str(path))}:{lines_of[project]}", why)
                grants[project], lines_of[project] = hours, number
    except OSError as error:
        raise SourceError(
            "cannot read grants",
            where=shown(str(path)),
            why=error.strerror or str(error),
            safe="Grants recorded so far are kept",
            todo="Mend the path, or 'grants' in the configuration",
        ) from error
    return grants


def _grant(line: bytes) -> tuple[str, float] | None:
    """Project and core hours of a line; None of a blank one or a comment."""
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    text = line.decode("utf-8", "backslashreplace").strip()
    if not text or text.startswith("#"):
        return None
    match = _COLONS.fullmatch(text) or _COMMAS.fullmatch(text)
    if match is None:
        raise ValueError(f"neither project:core hours:... nor project,...,core hours,...: {shown(text)}")
    project, number = match[1].strip(), match[2].strip()
    if not is_name(project):
        raise ValueError(f"not a project: {shown(project)}")
    if _NUMBER.fullmatch(number) is None or not math.isfinite(float(number)):
        raise ValueError(f"not a number of core hours from 0: {shown(number)}")
    return project, float(number)
