"""What a command and its workers say to each other: tasks and what came of them, as bytes through a pipe."""

from __future__ import annotations

import pickle
import socket
from typing import Any

SIZE_BYTES = 8


def packed(what: object) -> bytes:
    """As it goes through a pipe between processes of one run; nothing that is kept is written so.

    Parameters
    ----------
    what
        A task or an answer.

    Returns
    -------
    bytes
        For `unpacked`.
    """
    return pickle.dumps(what, pickle.HIGHEST_PROTOCOL)


def unpacked(data: bytes) -> Any:
    """Undo `packed`.

    Parameters
    ----------
    data
        From a process of this run, and from nobody else.

    Returns
    -------
    object
        The task or answer; taking it out may raise anything.
    """
    return pickle.loads(data)  # noqa: S301


def send(pipe: socket.socket, data: bytes) -> None:
    """Send bytes as one message.

    Parameters
    ----------
    pipe, data
        Where, and what; the other one takes it by `receive`.
    """
    pipe.sendall(len(data).to_bytes(SIZE_BYTES, "little"))
    pipe.sendall(data)


def receive(pipe: socket.socket) -> bytes:
    """Wait for a message.

    Parameters
    ----------
    pipe
        Where from.

    Returns
    -------
    bytes
        The whole of it.

    Raises
    ------
    EOFError
        The other one has gone, if need be in the middle of it.
    """
    return _exactly(pipe, int.from_bytes(_exactly(pipe, SIZE_BYTES), "little"))


def _exactly(pipe: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = pipe.recv(size - len(data))
        if not part:
            raise EOFError("the pipe was closed")
        data += part
    return bytes(data)
