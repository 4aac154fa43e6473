"""Files set aside: what is damaged or torn stays beside what takes its place, and no later one takes its name."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from pathlib import Path

from jobeff.store.files import sync_folder

DAMAGED = "damaged"


def aside_name(path: Path, kind: str = DAMAGED, same: Callable[[Path], bool] = lambda _: False) -> Path:
    """What a file is called once it is set aside.

    Parameters
    ----------
    path
        Its name; the caller holds the lock of what it belongs to.
    kind
        What it is.
    same
        Whether it is what a file holds already, as one does where a run was killed that set it aside.

    Returns
    -------
    Path
        Beside it: ``NAME.KIND``, or, where that is taken, ``NAME.KIND-2`` and so on.
    """
    numbers = itertools.chain([""], (f"-{number}" for number in itertools.count(2)))
    names = (path.with_name(f"{path.name}.{kind}{number}") for number in numbers)
    return next(one for one in names if (same(one) if os.path.lexists(one) else not os.path.lexists(_journal(one))))


def damaged_name(path: Path, file: Path | None = None) -> Path:
    """What a damaged file will be called once it is set aside, or is called already.

    Parameters
    ----------
    path, file
        See `set_aside`.

    Returns
    -------
    Path
        See `aside_name`.
    """
    now = file or path
    return aside_name(path, same=lambda found: now.exists() and found.exists() and found.samefile(now))


def set_aside(path: Path, keep: bool = False, file: Path | None = None) -> Path:
    """Give a damaged file another name, and a journal beside it too, which must not be rolled into its successor.

    Parameters
    ----------
    path
        Its name; it may be gone. The caller holds the lock of what it belongs to.
    keep
        Leave it where it is as well, until another one takes its place.
    file
        Where it is now, if not there.

    Returns
    -------
    Path
        What it is called now.
    """
    now, found = file or path, damaged_name(path, file)
    if _journal(now).exists():
        _journal(now).replace(_journal(found))
    if found.exists():  # a run was killed that had just put it there
        if not keep:
            now.unlink()
    elif now.exists():
        os.link(now, found) if keep else now.replace(found)
    if path.parent.is_dir():
        sync_folder(path.parent)
    return found


def _journal(path: Path) -> Path:
    return path.with_name(f"{path.name}-journal")
