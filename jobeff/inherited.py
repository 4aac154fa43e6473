"""What processes have from the one that starts them, so it is seen to before any is."""

from __future__ import annotations

import os
import sys


def set_up() -> None:
    """See to it; done again, it changes nothing."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy's threads, which nothing here uses, spin for a while
    # Where input and output are closed they go nowhere: the next file opened, a database say, would be them.
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            handle = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, which is that of the stream
            os.set_inheritable(handle, True)
            setattr(sys, name, os.fdopen(handle, mode, encoding="utf-8", errors="backslashreplace"))
