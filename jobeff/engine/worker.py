"""The process that forks the workers, and a worker: it begins with its kernels compiled and imported."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import os
import signal
import socket
import traceback
from typing import NoReturn

from jobeff.engine import lifetime, pipes
from jobeff.engine.forking import ALIVE, FOR_THE_COMMAND, FORK, HOLD, NUMBER, OUT_OF_MEMORY, UNKNOWN

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
KEPT_BYTES = 1 << 30


def serve(descriptor: int, parent: int) -> NoReturn:
    """Fork workers for the process that has started this one, until that closes its end of the pipe, or is gone.

    Parameters
    ----------
    descriptor
        Of our end.
    parent
        Id of that process.
    """
    lifetime.end_with(parent)
    gc.disable()  # what is imported is no garbage, and there is much of it to be looked through
    for ignored in FOR_THE_COMMAND:
        signal.signal(ignored, signal.SIG_IGN)
    _prepare()
    gc.freeze()  # nor need the workers look through it, again and again
    gc.enable()
    lifetime.outlive_thread()  # from now on it is listening, and hears of that by itself
    _listen(socket.socket(fileno=descriptor))
    os._exit(0)


def _prepare() -> None:
    """Import what the workers need."""
    from jobeff.engine import build, warm  # noqa: F401, PLC0415  (not before the parent's end would be heard of)
    from jobeff.store.files import UMASK  # noqa: PLC0415

    os.umask(UMASK)  # as the command has it, once it has read who it writes for
    warm.run_if_cold()
    # Workers take and leave the same large arrays month after month. Memory that is given back has to be emptied by
    # the kernel each time, which was a tenth of all the time they took.
    with contextlib.suppress(AttributeError, OSError):  # other C libraries have no such thing
        for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
            ctypes.CDLL(None).mallopt(option, KEPT_BYTES)


def _listen(asked: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            data, given, _, _ = socket.recv_fds(asked, NUMBER.size, 1)
            if not data:
                return
            (number,) = NUMBER.unpack(data)
            if number != HOLD:  # else the file that has come stays open
                asked.sendall(NUMBER.pack(_forked(asked, given[0]) if number == FORK else _status(number)))


def _forked(asked: socket.socket, given: int) -> int:
    """Fork a worker; its id, or the negative number of the error."""
    server = os.getpid()
    try:
        return os.fork() or _be_worker(asked, server, given)
    except OSError as error:
        return -(error.errno or 1)
    finally:
        os.close(given)


def _be_worker(asked: socket.socket, server: int, given: int) -> NoReturn:
    """In a new process: work, and end it."""
    try:
        asked.close()  # else nobody would hear of the end of the server
        lifetime.end_with(server)
        work(socket.socket(fileno=given))
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    os._exit(1)


def _status(pid: int) -> int:
    """How a worker has ended; its id is free from then on."""
    try:
        ended, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:  # that of a server which is no more
        return UNKNOWN
    return status if ended else ALIVE


def work(pipe: socket.socket) -> None:
    """In a worker: do one task after the other until the command closes the pipe.

    Parameters
    ----------
    pipe
        The worker's end.
    """
    with contextlib.suppress(EOFError, OSError):
        while True:
            pipes.send(pipe, answer(pipes.receive(pipe)))


def answer(work: bytes) -> bytes:
    """Do a task.

    Parameters
    ----------
    work
        Function, arguments and named arguments, as `jobeff.engine.pipes.packed`.

    Returns
    -------
    bytes
        Whether it went well, and its result or error, in the same way.
    """
    try:
        function, args, kwargs = pipes.unpacked(work)
        return pipes.packed((True, function(*args, **kwargs)))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except BaseException as error:
        error.add_note(f"in worker process {os.getpid()}:\n{traceback.format_exc()}")
        try:
            return pipes.packed((False, error))
        except Exception:
            return pipes.packed((False, RuntimeError(f"{type(error).__name__}: {error}")))
