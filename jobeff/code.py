"""Which program this is: on several machines it has to be the same one.

Who imports this is at work for long, or plans for others. What it runs is what lay there as it began, though the
package may be another one by the time it is asked.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from jobeff import __version__


def _code() -> str:
    digest = hashlib.sha256()
    here = Path(__file__).parent
    for path in sorted(here.rglob("*.py")):
        digest.update(f"{path.relative_to(here)}\n".encode())
        digest.update(path.read_bytes())
    return f"{__version__}-{digest.hexdigest()[:12]}"


_CODE = _code()


def code() -> str:
    """The version, and a digest of all modules: two programs of one version may differ while they are worked on.

    Returns
    -------
    str
        As in ``0.1.0-1f0c9a72b3d4``: of the program as this process began with it.
    """
    return _CODE
