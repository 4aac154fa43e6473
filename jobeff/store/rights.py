"""Who may read what we keep: the owner and one group, nobody else.

Folders of a site that names a group have the setgid bit: whatever is made in them, by us or by SQLite, gets that group.
"""

from __future__ import annotations

import grp
import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from jobeff.errors import ConfigError, shown
from jobeff.store.files import FILE_MODE, FOLDER_MODE, make_folder

TOP = ("archive", "shards", "db")
"""Folders of the data root that hold people's activity."""


class TooOpen(NamedTuple):
    """Something that others can read, or that the group cannot, and the command that mends it."""

    path: Path
    why: str
    command: str


def prepare(root: Path, group: str | None) -> None:
    """Have all that is made below the data root get the site's group.

    Parameters
    ----------
    root
        Data root.
    group
        Name of the group; None leaves it to the system.

    Raises
    ------
    ConfigError
        There is no such group, or who runs this is not a member.
    """
    if group is None:
        return
    gid = _gid(group)
    for folder in (root / name for name in TOP):
        make_folder(folder)
        about = folder.stat()
        new = not any(folder.iterdir())
        if new and about.st_uid == os.geteuid() and (about.st_gid != gid or not about.st_mode & stat.S_ISGID):
            os.chown(folder, -1, gid)
            folder.chmod(FOLDER_MODE | stat.S_ISGID)


def check(root: Path, group: str | None) -> list[TooOpen]:
    """Look at the top of the tree; of what lies deeper its folder tells.

    Parameters
    ----------
    root, group
        As for `prepare`.

    Returns
    -------
    list of TooOpen
        Only what the one who asks can mend.
    """
    try:
        gid = None if group is None else grp.getgrnam(group).gr_gid
    except KeyError:
        gid = None
    found = []
    for name in TOP:
        bad = next(filter(None, (_wrong(path, group, gid) for path in _top_of(root / name))), None)
        if bad is not None:
            mend = [f"chmod -R g-w,o= {shlex.quote(str(root / name))}"]
            if bad[2]:
                quoted = shlex.quote(str(root / name))
                mend = [f"chgrp -R {shlex.quote(str(group))} {quoted}", *mend]
                mend += [f"find {quoted} -type d -exec chmod g+s {{}} +"]
            found.append(TooOpen(bad[0], bad[1], " && ".join(mend)))
    return found


def _top_of(folder: Path) -> Iterator[Path]:
    """A folder, and what is in it and in its folders of clusters; links are not followed."""
    yield folder
    try:
        with os.scandir(folder) as entries:
            inside = sorted(entries, key=lambda entry: entry.name)
        for entry in inside:
            yield Path(entry.path)
            if folder.name == "archive" and entry.is_dir(follow_symlinks=False):
                with os.scandir(entry.path) as files:
                    yield from (Path(file.path) for file in files)
    except OSError:
        return


def _wrong(path: Path, group: str | None, gid: int | None) -> tuple[Path, str, bool] | None:
    """What is wrong with one file or folder, and whether it is the group."""
    try:
        about = path.lstat()
    except OSError:
        return None
    if stat.S_ISLNK(about.st_mode) or os.geteuid() not in (0, about.st_uid):
        return None
    folder = stat.S_ISDIR(about.st_mode)
    allowed = FOLDER_MODE if folder else FILE_MODE
    mode = stat.S_IMODE(about.st_mode)
    if mode & (stat.S_IRWXO | stat.S_IWGRP):
        return path, f"others can read or change it: its mode is {mode:04o}, not {allowed:04o}", False
    if gid is not None and about.st_gid != gid:
        return path, f"its group is not {group}", True
    if gid is not None and folder and not mode & stat.S_ISGID:
        return path, f"what is made in it will not get the group {group}", True
    return None


def _gid(group: str) -> int:
    """Number of a group that this user may give to files."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError as error:
        raise _refused(group, "there is no such group on this machine") from error
    if os.geteuid() != 0 and gid not in (os.getegid(), *os.getgroups()):
        raise _refused(group, "the user who runs this is not a member of it")
    return gid


def _refused(group: str, why: str) -> ConfigError:
    todo = "Run as a member, or name another group in the configuration"
    return ConfigError(f"cannot use 'group', {shown(group)}", why=why, safe="Nothing was written", todo=todo)
