"""Host lists as Slurm writes them: ``rack[0-3]n[01-16]-ib,login1``."""

from __future__ import annotations

import re
from itertools import product

from jobeff.errors import shown
from jobeff.names import is_name

# Possessive, so that a long text which is no list fails in linear time.
_ITEM = re.compile(r"(?:[^\[\], \t]++|\[[^\[\]]*+\])++")
_SEPARATOR = re.compile(r"[ \t]*+(?:,[ \t]*+)?")
_PART = re.compile(r"\[([^\[\]]*)\]|[^\[\]]+")
_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")

_Part = list[tuple[range, int]]
"""What may stand at one place of a name: numbers and the width to pad them to."""


class HostListError(ValueError):
    """A host list that cannot be used; the message is fit to be shown."""


def expand(text: str, limit: int = 100_000) -> list[str]:
    """Names of the nodes in a host list.

    Parameters
    ----------
    text
        Items separated by a comma or blanks. Brackets hold numbers and ranges; the width of a range's low
        bound is the width its numbers are padded to.
    limit
        Most names to make, repeated ones included.

    Returns
    -------
    list of str
        Node names in the order written, each once.

    Raises
    ------
    HostListError
        Unclosed or nested brackets, an empty item or bracket, a range that runs backwards, more names than
        `limit` (refused before any is made), or a name that may not name a node.
    """
    if is_name(text):
        return [text]
    items = [_parts(item) for item in _items(text)]
    if sum(_size(item, limit) for item in items) > limit:
        raise HostListError(f"more than {limit} nodes in host list {shown(text)}")
    names = list(dict.fromkeys(name for item in items for name in _names(item)))
    for name in names:
        if not is_name(name):
            raise HostListError(f"not a node name: {shown(name)}")
    return names


def _items(text: str) -> list[str]:
    items, position = [], 0
    while True:
        item = _ITEM.match(text, position)
        if item is None:
            what = "bracket out of place" if text[position : position + 1] in ("[", "]") else "empty item"
            raise HostListError(f"{what} in host list {shown(text)}")
        items.append(item[0])
        if item.end() == len(text):
            return items
        separator = _SEPARATOR.match(text, item.end())
        position = separator.end() if separator else item.end()


def _parts(item: str) -> list[str | _Part]:
    return [part[0] if part[1] is None else _ranges(part[1]) for part in _PART.finditer(item)]


def _ranges(text: str) -> _Part:
    ranges = []
    for written in text.split(","):
        match = _RANGE.fullmatch(written)
        if match is None:
            raise HostListError(f"not a number or range in brackets: {shown(written)}")
        low, high = int(match[1]), int(match[2] or match[1])
        if low > high:
            raise HostListError(f"range runs backwards: {shown(written)}")
        ranges.append((range(low, high + 1), len(match[1])))
    return ranges


def _size(item: list[str | _Part], limit: int) -> int:
    size = 1
    for part in item:
        if not isinstance(part, str) and size <= limit:
            size *= sum(len(numbers) for numbers, _ in part)
    return size


def _names(item: list[str | _Part]) -> list[str]:
    choices = [
        [part] if isinstance(part, str) else [f"{number:0{width}}" for numbers, width in part for number in numbers]
        for part in item
    ]
    return ["".join(chosen) for chosen in product(*choices)]
