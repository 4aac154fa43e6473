"""Names that say nothing of people: short, keyed, the same in every report of a site over the years.

A name is turned with HMAC-SHA256 under a key that only the site has. Without the key nobody can try all user names of
a site and see which one fits; with it, the same user gets the same name in every report.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import re
import secrets
import shlex
import stat
from pathlib import Path

from jobeff.errors import JobeffError
from jobeff.store.files import sync_folder
from jobeff.store.locks import lock

KEY_FILE = ".anonymous.key"
KEY_BYTES = 32
KEY_MODE = 0o600
DIGITS = {"user": 10, "project": 10, "node": 10, "job": 16}
"""Hexadecimal digits by kind of name. Of 10,000 names with 10 digits two are the same in one site of 20,000; job names
are many more, so they get 16."""

_KEY = re.compile(rf"(?:[0-9a-f]{{2}}){{{KEY_BYTES},256}}\s*", re.ASCII)


class Anonymous:
    """Turns names.

    Parameters
    ----------
    key
        Of at least `KEY_BYTES` bytes.

    Attributes
    ----------
    fingerprint
        Tells keys apart and gives none away: names of two reports can be compared where it is the same.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) < KEY_BYTES:
            raise ValueError(f"a key has at least {KEY_BYTES} bytes")
        self._key = key
        self.fingerprint = self._digits("key", "", 8)

    def name(self, kind: str, name: str) -> str:
        """What stands in a report in the place of a name.

        Parameters
        ----------
        kind
            One of `DIGITS`: the same text as a user and as a project gives two names that have nothing in common.
        name
            Anything, also with lone surrogates.

        Returns
        -------
        str
            Such as ``user-7f3a9c21d0``.
        """
        return f"{kind}-{self._digits(kind, name, DIGITS[kind])}"

    def _digits(self, kind: str, name: str, digits: int) -> str:
        text = kind.encode() + b"\0" + name.encode("utf-8", "surrogatepass")
        return hmac.digest(self._key, text, "sha256").hex()[:digits]


def load(root: Path, configured: Path | None = None) -> Anonymous:
    """Read the site's key; the first time, make it.

    Parameters
    ----------
    root
        Data root, where the key lies as ``db/.anonymous.key`` unless the configuration names another file.
    configured
        That other file. It is never made here: one that is missing is more likely not mounted.

    Returns
    -------
    Anonymous
        Of that key.

    Raises
    ------
    JobeffError
        It cannot be read or made, is no key, or can be read by everybody.
    """
    path = configured or root / "db" / KEY_FILE
    try:
        text = _read(path, configured is not None)
        if text is None and configured is None:
            with lock(root, "anonymous"):
                if not os.path.lexists(path):
                    _make(path)
            text = _read(path, False)
    except OSError as error:
        raise _failed(path, error.strerror or str(error), "Mend the file or its rights") from error
    if text is None:
        todo = "Put it there again, or name another file with 'anonymous_key' in the configuration"
        raise _failed(path, "there is no such file", todo)
    if _KEY.fullmatch(text) is None:
        todo = "Put it back from a backup. Where there is no file a new key is made, which gives everybody a new name"
        raise _failed(path, f"it does not hold {2 * KEY_BYTES} or more hexadecimal digits", todo)
    return Anonymous(bytes.fromhex(text))


def _read(path: Path, links: bool) -> str | None:
    """Text of the key's file; None where there is no such file."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | (0 if links else os.O_NOFOLLOW))
    except FileNotFoundError:
        return None
    with os.fdopen(handle, "rb") as file:
        about = os.fstat(handle)
        if not stat.S_ISREG(about.st_mode):
            raise _failed(path, "it is not a regular file", "Put a file with the key there")
        if about.st_mode & stat.S_IRWXO:
            raise _failed(
                path, "everybody on this machine can read or change it", f"Run: chmod o= {shlex.quote(str(path))}"
            )
        return file.read(1024).decode("ascii", "replace")


def _make(path: Path) -> None:
    """Write a new key, whole or not at all; the caller holds the lock."""
    temporary = path.with_name(f"{path.name}.tmp")
    temporary.unlink(missing_ok=True)
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, KEY_MODE)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            os.fchmod(handle, KEY_MODE)
            file.write(secrets.token_hex(KEY_BYTES) + "\n")
            file.flush()
            os.fsync(handle)
        temporary.replace(path)
        sync_folder(path.parent)  # a key that has been used must not be another one after the power was gone
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _failed(path: Path, why: str, todo: str) -> JobeffError:
    safe = "No report was written"
    return JobeffError("cannot use the key of anonymous names", where=str(path), why=why, safe=safe, todo=todo)
