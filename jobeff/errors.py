"""What can go wrong, how it is said, and what was set aside on the way.

Exceptions::

    JobeffError             exit 1    the command failed
    ├── SourceError         exit 1    a source of the site is missing or unreadable; within `update`, exit 3
    ├── ConfigError         exit 2    the configuration or an argument cannot be used
    ├── NotADataRootError   exit 10   the folder has no archive, shards or databases of ours
    └── LockedError         exit 11   another run works on the same root
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

SHOWN_CHARACTERS = 200
"""Messages show at most this many characters of anybody's input."""

MESSAGE_CHARACTERS = 2000
"""A message with all its causes is cut behind so many."""

EXAMPLES_KEPT = 20
"""Of each kind of thing set aside, this many are named; the rest are only counted."""


def shown(text: str | bytes) -> str:
    """Input as it may stand in a message: escaped, and cut at `SHOWN_CHARACTERS`.

    Parameters
    ----------
    text
        Anything read from outside; bytes need not be UTF-8.

    Returns
    -------
    str
        Printable ASCII, so that no terminal escape gets through.
    """
    if isinstance(text, bytes):
        text = text[: 4 * SHOWN_CHARACTERS].decode("utf-8", "backslashreplace")
    cut = text[:SHOWN_CHARACTERS].encode("unicode_escape").decode("ascii")
    return cut[:SHOWN_CHARACTERS] + ("..." if len(text) > SHOWN_CHARACTERS else "")


def printable(text: str) -> str:
    """A message of ours as a terminal or a log may get it, whatever path or word of others has come into it.

    Parameters
    ----------
    text
        One line.

    Returns
    -------
    str
        The same without control characters, line ends and lone surrogates, of at most `MESSAGE_CHARACTERS`.
    """
    cut = text if len(text) <= MESSAGE_CHARACTERS else f"{text[:MESSAGE_CHARACTERS]}..."
    return cut if cut.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cut)


RIGHTS = "Mend its rights, or those of its folder, or run as a user who has them"
"""What to do where the system permits something not."""


def reason(error: BaseException) -> str:
    """What went wrong, where a message names the path itself.

    Parameters
    ----------
    error
        Of the system, or any other.

    Returns
    -------
    str
        Without a number and a path.
    """
    return error.strerror if isinstance(error, OSError) and error.strerror else str(error)


class JobeffError(Exception):
    """A command failed.

    Parameters
    ----------
    what
        What failed, in a few words.
    where
        File and line, byte or key it failed at.
    why
        The cause.
    safe
        What has not been touched.
    todo
        What the reader can do now.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str = "", why: str = "", safe: str = "", todo: str = "") -> None:
        sentence = what + (f" at {where}" if where else "") + (f": {why}" if why else "")
        super().__init__(". ".join(part for part in (sentence, safe, todo) if part))


class SourceError(JobeffError):
    """A source of the site is missing or unreadable; what does not depend on it goes on."""


class ConfigError(JobeffError):
    """The configuration or an argument cannot be used."""

    exit_code = 2


class NotADataRootError(JobeffError):
    """The root holds no archive, shards or databases."""

    exit_code = 10


class LockedError(JobeffError):
    """Another run works on the same root."""

    exit_code = 11


@dataclass
class SetAside:
    """What a run could not use: counted by kind, the first few of each kind named.

    Attributes
    ----------
    counts
        Number of things set aside, by kind (``accounting line``, ``archive frame``, ...).
    examples
        (kind, where, why) of the first `EXAMPLES_KEPT` of each kind.
    """

    counts: Counter[str] = field(default_factory=Counter)
    examples: list[tuple[str, str, str]] = field(default_factory=list)

    def add(self, kind: str, where: str, why: str) -> None:
        """Set one thing aside.

        Parameters
        ----------
        kind
            What sort of thing, singular.
        where
            File and line or byte.
        why
            The cause; input in it must have gone through `shown`.
        """
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES_KEPT:
            self.examples.append((kind, where, why))

    def merge(self, other: SetAside) -> None:
        """Take over what a worker or another step has set aside.

        Parameters
        ----------
        other
            The other collection; it is left as it is.
        """
        kept = Counter(kind for kind, _, _ in self.examples)
        for kind, where, why in other.examples:
            if kept[kind] < EXAMPLES_KEPT:
                kept[kind] += 1
                self.examples.append((kind, where, why))
        self.counts.update(other.counts)

    def forget(self, kind: str) -> None:
        """Leave a kind to somebody who tells of it otherwise.

        Parameters
        ----------
        kind
            See `add`.
        """
        self.counts.pop(kind, None)
        self.examples = [example for example in self.examples if example[0] != kind]

    @property
    def total(self) -> int:
        """How many things were set aside."""
        return self.counts.total()
