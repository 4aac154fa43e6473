"""Which program this is: on several machines it has to be the same one."""

from __future__ import annotations

import functools
import hashlib
from pathlib import Path

from jobeff import __version__


@functools.cache
def code() -> str:
    """The version, and a digest of all modules: two programs of one version may differ while they are worked on.

    Returns
    -------
    str
        As in ``0.1.0-1f0c9a72b3d4``.
    """
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here)}\n".encode())
        digest.update(path.read_bytes())
    return f"{__version__}-{digest.hexdigest()[:12]}"
