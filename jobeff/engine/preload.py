"""Imported by the server that forks the workers, so that each of them begins with its kernels compiled and loaded."""

import signal

signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the command, whose end is this server's end

from jobeff.engine import warm, work  # noqa: E402

__all__ = ["work"]

warm.run_all()
