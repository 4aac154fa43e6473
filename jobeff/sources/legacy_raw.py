"""Raw files out of the stores that older tools have left."""

from __future__ import annotations

import base64
import binascii
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jobeff.errors import SetAside, shown
from jobeff.names import INT64_MAX, is_month, is_name, job_id_or_none
from jobeff.sources import legacy
from jobeff.sources.jobstats import LARGEST

LONGEST_LINE = 64 << 20

_ZLIB = (b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")


class RawRow(NamedTuple):
    """A raw file; `month` is where it belongs if nothing else tells."""

    node: str
    job_id: int
    text: bytes
    extended: bool
    month: str | None


def read_raw(part: legacy.Part, aside: SetAside) -> Iterator[RawRow]:
    """Read the raw files of a store.

    Parameters
    ----------
    part
        Of kind ``rawdata``, ``lines`` or ``node``.
    aside
        Takes what is damaged or can be no raw file.

    Yields
    ------
    RawRow
        In order of the store; one may come several times.
    """
    for where, job_id, node, value, more in _fields(part, aside):
        try:
            number = _job_id(job_id)
            name = part.node if part.kind == "node" else _node(node)
            extended, month = more
            yield RawRow(name, number, _text(part, value), bool(extended), _month(month))
        except ValueError as error:
            aside.add("raw row", where, str(error))


def _fields(part: legacy.Part, aside: SetAside) -> Iterator[tuple[str, Any, Any, Any, tuple[Any, Any]]]:
    if part.kind == "lines":
        for where, line in _lines(part.path, aside):
            job_id, _, rest = line.partition(b"\t")
            node, _, value = rest.partition(b"\t")
            yield where, job_id, node, value, (0, None)
        return
    columns = ["node" if part.kind == "rawdata" else "null"]
    columns += [name if name in part.columns else "null" for name in ("extended", "month")]
    # A value that is too long is not even read.
    text = f"case when length(jobstats) <= {LARGEST} then jobstats else length(jobstats) end"
    for where, row in legacy.select(part, f"job_id, {text}, {', '.join(columns)}", aside):
        job_id, value, node, extended, month = row
        yield where, job_id, node, value, (extended, month)


def _job_id(value: Any) -> int:
    if isinstance(value, bytes):
        value = job_id_or_none(value.decode("latin-1"))
    if type(value) is not int or not 1 <= value <= INT64_MAX:
        raise ValueError("its job id is not a number from 1 to 2^63-1")
    return value


def _node(value: Any) -> str:
    name = value.decode("latin-1") if isinstance(value, bytes) else ""
    if not is_name(name):
        raise ValueError(f"not a node name: {shown(value if isinstance(value, bytes) else repr(value))}")
    return name


def _month(value: Any) -> str | None:
    month = value.decode("latin-1") if isinstance(value, bytes) else ""
    return month if is_month(month) else None


def _text(part: legacy.Part, value: Any) -> bytes:
    """The text of a raw file, as it was collected."""
    if isinstance(value, int) and value > LARGEST:
        raise ValueError(f"longer than {LARGEST} bytes: {value}")
    if not isinstance(value, bytes):
        raise ValueError(f"there is no text: {shown(repr(value))}")
    if part.kind == "node":
        return inflated(value) if value[:2] in _ZLIB and not part.exported else value
    try:
        return inflated(base64.b64decode(b"".join(value.split()), validate=True))
    except binascii.Error as error:
        raise ValueError(f"not base64: {error}") from error


def inflated(data: bytes) -> bytes:
    """Inflate the text of a raw file.

    Parameters
    ----------
    data
        What zlib made of it.

    Returns
    -------
    bytes
        The whole text.

    Raises
    ------
    ValueError
        It is damaged, cut off, or a bomb; the message is fit to be shown.
    """
    cap = min(LARGEST, max(legacy.SMALL, legacy.LARGEST_RATIO * len(data)))
    stream = zlib.decompressobj()
    try:
        text = stream.decompress(data, cap)
        more = stream.decompress(stream.unconsumed_tail, 1)
    except zlib.error as error:
        raise ValueError(f"does not inflate: {error}") from error
    if more:
        raise ValueError(f"{len(data)} bytes inflate to more than {cap}")
    if not stream.eof:
        raise ValueError("does not inflate: it is cut off")
    if stream.unused_data:
        raise ValueError(f"{len(stream.unused_data)} bytes stand behind what inflates")
    return text


def _lines(path: Path, aside: SetAside) -> Iterator[tuple[str, bytes]]:
    """Lines without their end and where they stand; blank ones are left out, and what cannot be read is set aside."""
    number, name = 0, shown(str(path))
    try:
        with legacy.stream(path) as stream:
            while line := stream.readline(LONGEST_LINE):
                number += 1
                if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                    aside.add("raw row", f"{name}:{number}", f"longer than {LONGEST_LINE} bytes")
                    while (rest := stream.readline(legacy.SMALL)) and not rest.endswith(b"\n"):
                        pass
                elif line.rstrip(b"\r\n"):
                    yield f"{name}:{number}", line.rstrip(b"\r\n")
    except (OSError, EOFError, zlib.error, ValueError) as error:
        aside.add("store", f"{name}:{number + 1}", f"cannot be read from here on: {shown(str(error))}")
