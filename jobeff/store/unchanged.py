"""A file that is there already just as it would be written: it gets the new name too, and is not written once more.

So what makes sound files again writes nothing and frees nothing, which takes disks long, and leaves what copies by time
and size nothing to copy. It is safe because no file of ours is ever written in place.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jobeff.store.files import FILE_MODE, open_regular

RIGHTS = "system.posix_acl_access"


def take_over(old: Path, new: Path, whole: memoryview, group: int) -> bool:
    """Give a file a second name, if it is what a new one would be.

    Parameters
    ----------
    old
        The file; it need not be there, or be readable.
    new
        The second name, in a folder that is there.
    whole
        All that a new file would hold.
    group
        Of the new name's folder, and so of a new file.

    Returns
    -------
    bool
        False where the new one has to be written: something differs, byte for byte or in who may read it, or another
        file has the name.
    """
    try:
        handle = open_regular(old)
        try:
            about = os.fstat(handle)
            found = np.empty(len(whole), dtype=np.uint8)
            same = (
                _as_new(about, group, len(whole))
                and not _has_list_of_rights(handle)
                and os.readv(handle, [found]) == len(whole)  # type: ignore[list-item]
                and _equal(found, np.frombuffer(whole, np.uint8))
            )
        finally:
            os.close(handle)
        return same and _named(old, new, about)
    except OSError:  # it is not there or cannot be read, or there are no second names here: writing tells what is wrong
        return False


def _equal(one: npt.NDArray[np.uint8], other: npt.NDArray[np.uint8]) -> bool:
    """Whether bytes of the same number are the same, eight at a time."""
    cut = len(one) & ~7
    same = one[:cut].view(np.int64) == other[:cut].view(np.int64)
    return bool(same.all()) and one[cut:].tobytes() == other[cut:].tobytes()


def _as_new(about: os.stat_result, group: int, size: int) -> bool:
    """Whether a new file would have this size, owner, group and mode."""
    mine = about.st_uid == os.geteuid() and about.st_gid == group
    return mine and about.st_size == size and about.st_mode == stat.S_IFREG | FILE_MODE


def _has_list_of_rights(handle: int) -> bool:
    """Whether somebody has given more people rights to it than its mode says."""
    try:
        return RIGHTS in os.listxattr(handle)
    except (AttributeError, OSError):  # no such system, or no such file system
        return False


def _named(old: Path, new: Path, about: os.stat_result) -> bool:
    """Give it the name, unless it has it already: a task that is done again may have come as far."""
    try:
        os.link(old, new)
    except FileExistsError:
        return os.path.samestat(os.lstat(new), about)
    return True
