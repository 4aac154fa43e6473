"""Imported by the server that forks the workers, so that each of them begins with its kernels compiled and loaded."""

import gc
import signal

from jobeff.engine.processes import end_with_parent, outlive_thread

end_with_parent()
for ignored in (signal.SIGINT, signal.SIGHUP):
    signal.signal(ignored, signal.SIG_IGN)  # they are for the command, whose end is this server's end

from jobeff.engine import warm, work  # noqa: E402

__all__ = ["work"]

warm.run_all()
gc.freeze()  # the workers need not look through all that has been imported, again and again
outlive_thread()  # from now on it is listening, and hears of that by itself
