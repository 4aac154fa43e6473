"""Imported by the server that forks the workers, so that each of them begins with its kernels compiled and loaded."""

import contextlib
import ctypes
import gc
import os
import signal

from jobeff.engine.processes import end_with_parent, outlive_thread

end_with_parent()
gc.disable()  # what is imported is no garbage, and there is much of it to be looked through
for ignored in (signal.SIGINT, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)  # they are for the command, whose end is this server's end

from jobeff.engine import build, warm  # noqa: E402
from jobeff.store.files import UMASK  # noqa: E402

__all__ = ["build"]

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30

os.umask(UMASK)  # as the command has it, once it has read who it writes for
warm.run_if_cold()
# Workers take and leave the same large arrays month after month. Memory that is given back has to be emptied by the
# kernel each time, which was a tenth of all the time they took.
with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such thing
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        ctypes.CDLL(None).mallopt(option, KEPT_BYTES)
gc.freeze()  # nor need the workers look through it, again and again
gc.enable()
outlive_thread()  # from now on it is listening, and hears of that by itself
