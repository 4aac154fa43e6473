"""The files of a source: which there are, and what of each has not been loaded yet."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

from jobeff.config import Config
from jobeff.errors import ConfigError, SetAside, SourceError, shown

BLOCK = 1 << 20
NEITHER = "neither a regular file nor a folder"


class Read(NamedTuple):
    """How far a file has been read: bytes of whole lines, their checksum; when it was modified; number of lines."""

    bytes: int = 0
    crc32: int = 0
    mtime_ns: int = 0
    lines: int = 0


def configured(config: Config, source: str) -> Path:
    """Where a source lies.

    Parameters
    ----------
    config
        Of the site.
    source
        One of `jobeff.config.SOURCES`.

    Returns
    -------
    Path
        A file or folder; it need not be there.

    Raises
    ------
    ConfigError
        The site has not said so.
    """
    if source not in config.sources:
        raise ConfigError(
            f"no source of {source} is configured",
            where=str(config.file),
            safe="Nothing was changed",
            todo=f'Name the files after the command, or add under [sources]: {source} = "PATH"',
        )
    return config.sources[source]


def kind_of(entry: os.DirEntry[str]) -> Literal["file", "folder", "neither"]:
    """What stands in a folder of a source.

    Parameters
    ----------
    entry
        Of the folder.

    Returns
    -------
    str
        A link is the file that it leads to, but no folder; of a pipe, a device, and a link that leads nowhere or to
        itself nothing can be read.
    """
    try:
        return "folder" if entry.is_dir(follow_symlinks=False) else "file" if entry.is_file() else "neither"
    except OSError:
        return "neither"


def files(paths: Sequence[Path], source: str, aside: SetAside) -> list[Path]:
    """All files that some paths stand for.

    Parameters
    ----------
    paths
        Files, and folders of them; in a folder, names that begin with a dot are not looked at.
    source
        What they are of, for messages.
    aside
        Takes what is neither a file nor a folder.

    Returns
    -------
    list of Path
        Each once, in order of names, however the paths are ordered.

    Raises
    ------
    SourceError
        A path is missing or cannot be read; where it is a folder, so is all that lies in it.
    """
    found = {path.absolute() for given in paths for path in _below(given, source, aside)}
    return sorted(found, key=lambda path: (path.name, path))


def _below(path: Path, source: str, aside: SetAside) -> Iterator[Path]:
    try:
        if path.is_dir():
            with os.scandir(path) as entries:
                inner = [entry for entry in entries if not entry.name.startswith(".")]
            for entry in inner:
                kind = kind_of(entry)
                if kind == "folder":
                    yield from _below(Path(entry.path), source, aside)
                elif kind == "file":
                    yield Path(entry.path)
                else:
                    aside.add(f"{source} file", shown(name_of(Path(entry.path))), NEITHER)
        elif path.exists() and not path.is_file():
            raise OSError("neither a file nor a folder")
        else:
            path.open("rb").close()
            yield path
    except OSError as error:
        raise SourceError(
            f"cannot read {source}",
            where=shown(name_of(path)),
            why=error.strerror or str(error),
            safe="Nothing was loaded, what was loaded before is as it was",
            todo="Mend the path, or the configuration",
        ) from error


def name_of(path: Path) -> str:
    """A path as it is remembered and shown.

    Parameters
    ----------
    path
        Its bytes need not be UTF-8.

    Returns
    -------
    str
        Text that any database takes.
    """
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def read_before(connection: sqlite3.Connection, path: Path, stream: BinaryIO) -> Read | None:
    """How far a file has been read, if it has only grown since.

    Parameters
    ----------
    connection
        Of a database with the table ``loaded``.
    path
        The file.
    stream
        The same, open; where it stands does not matter, and it is moved.

    Returns
    -------
    Read or None
        Nothing at all where it is new or was rewritten; None where it has not changed.
    """
    row = connection.execute(
        "select bytes, crc32, mtime_ns, lines from loaded where path = ?", (name_of(path),)
    ).fetchone()
    if row is None:
        return Read()
    before, about = Read(*row), os.fstat(stream.fileno())
    if (about.st_size, about.st_mtime_ns) == (before.bytes, before.mtime_ns):
        return None
    return before if _checksum(stream, before.bytes) == before.crc32 else Read()


def remember(connection: sqlite3.Connection, path: Path, stream: BinaryIO, mtime_ns: int, end: int, lines: int) -> None:
    """Remember how far a file has been read, in the transaction that writes what was read.

    Parameters
    ----------
    connection
        Of a database with the table ``loaded``.
    path
        The file.
    stream
        The same, open; where it stands does not matter, and it is moved.
    mtime_ns
        When it had been modified before it was read.
    end, lines
        Bytes and number of whole lines.
    """
    row = (name_of(path), end, _checksum(stream, end), mtime_ns, lines)
    connection.execute("insert or replace into loaded values (?, ?, ?, ?, ?)", row)


def _checksum(stream: BinaryIO, size: int) -> int:
    """CRC-32 of the first `size` bytes, or of all there are."""
    stream.seek(0)
    checksum = 0
    while size > 0 and (block := stream.read(min(BLOCK, size))):
        checksum = zlib.crc32(block, checksum)
        size -= len(block)
    return checksum
