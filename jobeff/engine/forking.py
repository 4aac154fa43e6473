"""Has workers forked, by a process that has their kernels; they wait for that one, so little is imported here.

It is quick, and what is forked is free of the threads of this process. The standard library's server of this kind
takes half as long again to be there: it imports much, as does a tracker of resources that it has started beside it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import struct
import sys
import threading

SERVE = """import sys
sys.path[:] = sys.argv[3:]
from jobeff.engine import worker
worker.serve(int(sys.argv[1]), int(sys.argv[2]))"""

NUMBER = struct.Struct("<q")
"""What goes between the two: a question one way, an answer the other."""

FORK = 0
"""Asks for a worker, whose end of a pipe goes with it; any other number asks how the worker of that id has ended."""

HOLD = -1
"""Gives it a file to hold open until its end; there is no answer, and the file is open from when it has been sent."""

ALIVE, UNKNOWN = 1 << 16, 1 << 17
"""Answers of a worker that has not ended, and of one that nobody knows; the others are what `os.waitpid` says."""

FOR_THE_COMMAND = (signal.SIGINT, signal.SIGHUP)
"""Ctrl-C and the end of the terminal, of which what the command has started is not to hear."""

OUT_OF_MEMORY = 86
"""Exit status of a worker whose task had too little memory; no result could be relied upon to get through."""

_lock = threading.RLock()
_servers: list[Server] = []
"""The one that is there."""


class Server:
    """The process that forks workers, and ends with this one."""

    def __init__(self) -> None:
        self._asking, answering = socket.socketpair()
        with answering:
            answering.set_inheritable(True)
            command = [sys.executable, "-c", SERVE, str(answering.fileno()), str(os.getpid()), *sys.path]
            nothing = [(os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)]  # what is typed is for the command too
            try:
                self.pid = os.posix_spawn(
                    sys.executable, command, os.environ, file_actions=nothing, setsigmask=FOR_THE_COMMAND
                )
            except BaseException:
                self._asking.close()
                raise

    def ask(self, number: int, given: tuple[int, ...] = (), patience_s: float | None = None) -> int:
        """Ask for something, and wait for the answer, which it can give once it has imported all.

        Parameters
        ----------
        number
            What for.
        given
            Descriptors of files for it.
        patience_s
            How long to wait; by default as long as it takes.

        Returns
        -------
        int
            The answer; what is negative has not been possible.

        Raises
        ------
        OSError, EOFError
            There is no answer.
        """
        self._asking.settimeout(patience_s)
        self.tell(number, given)
        answer = self._asking.recv(NUMBER.size)
        if not answer:
            raise EOFError("what forks the workers has ended")
        return int(NUMBER.unpack(answer)[0])

    def tell(self, number: int, given: tuple[int, ...]) -> None:
        """Tell it something, to which there is no answer.

        Parameters
        ----------
        number, given
            See `ask`.

        Raises
        ------
        OSError
            It is gone.
        """
        socket.send_fds(self._asking, [NUMBER.pack(number)], given)

    def end(self) -> None:
        """End it, and what it has forked."""
        self._asking.close()
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def prepare() -> None:
    """Start what forks the workers, so that it gets ready while this process does something else."""
    with _lock:
        if not _servers:
            _servers.append(Server())


def server_id() -> int | None:
    """Id of the process that forks the workers, where there is one; it may have died."""
    return next((one.pid for one in _servers), None)


def fork() -> tuple[int, socket.socket]:
    """Have a worker forked.

    Returns
    -------
    int
        Its id.
    socket
        Our end of the pipe to it.

    Raises
    ------
    OSError, EOFError
        There is none; the next try starts anew what forks it.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            pid = _ask(FORK, (theirs.fileno(),))
            if pid < 0:
                raise OSError(-pid, os.strerror(-pid))
        except BaseException:
            ours.close()
            raise
    return pid, ours


def status(pid: int, patience_s: float) -> int:
    """Ask how a worker has ended.

    Parameters
    ----------
    pid
        Its id; that is free from then on.
    patience_s
        How long to wait for the answer.

    Returns
    -------
    int
        What `os.waitpid` says, `ALIVE`, or `UNKNOWN`.
    """
    try:
        return _ask(pid, (), patience_s) if _servers else UNKNOWN
    except (OSError, EOFError):
        return UNKNOWN


def hold(handle: int) -> bool:
    """Have what forks workers hold a file open until it ends, which is when this process has ended.

    The room of a file without a name is given back once nobody has it open. Some file systems tell the disk so at once,
    which takes as long as to write a tenth of it; nobody has to wait for that.

    Parameters
    ----------
    handle
        Of the file.

    Returns
    -------
    bool
        Whether it does; where it has not been started it does not.
    """
    with _lock:
        try:
            for server in _servers:
                server.tell(HOLD, (handle,))
        except OSError:
            return False
        return bool(_servers)


def _ask(number: int, given: tuple[int, ...], patience_s: float | None = None) -> int:
    """Ask the one that is there, or a new one. One that gives no answer is given up: it could come when it is late."""
    with _lock:
        prepare()
        try:
            return _servers[0].ask(number, given, patience_s)
        except BaseException:
            _servers.pop().end()
            raise
