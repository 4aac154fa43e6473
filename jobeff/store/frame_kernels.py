"""Numba kernel that jumps over whole frames, each exactly as `jobeff.store.archive.append` writes it.

It decides nothing: at the first place that is anything else it stops, and `jobeff.store.framing` reads on from there.
Compiled code that belongs together stands in one file, because numba's cache does not see changes in other files.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel

LONGEST_NAME = 63
# Longer numbers are not read here: 18 digits fit in an int64 whatever they are.
JOB_ID_DIGITS, BYTES_DIGITS, CRC_DIGITS = 18, 15, 8
NEXT = np.frombuffer(b"==> ", dtype=np.uint8)
BYTES = np.frombuffer(b" bytes=", dtype=np.uint8)
CRC = np.frombuffer(b" crc32=", dtype=np.uint8)
FORM = np.frombuffer(b" form=extended", dtype=np.uint8)
LAST = np.frombuffer(b" <==\n", dtype=np.uint8)
NODE, JOB_ID, BEGIN, LENGTH, CRC32, EXTENDED = range(6)
COLUMNS = 6


@kernel
def is_there(text: np.ndarray, at: int, size: int, word: np.ndarray) -> bool:
    """Whether `word` stands at `at`, before `size`."""
    if at + len(word) > size:
        return False
    for i in range(len(word)):  # noqa: SIM110  (a generator does not compile)
        if text[at + i] != word[i]:
            return False
    return True


@kernel
def digits_end(text: np.ndarray, at: int, size: int, most: int) -> int:
    """Where the digits that begin at `at` end, looking at so many at most."""
    stop = min(size, at + most)
    while at < stop and 48 <= text[at] <= 57:
        at += 1
    return at


@kernel
def number(text: np.ndarray, begin: int, end: int) -> int:
    """Value of digits."""
    value = np.int64(0)
    for at in range(begin, end):
        value = value * 10 + (np.int64(text[at]) - 48)
    return value


@kernel
def hexadecimal(text: np.ndarray, begin: int, end: int) -> int:
    """Value of digits 0-9 and a-f, or -1."""
    value = np.int64(0)
    for at in range(begin, end):
        byte = np.int64(text[at])
        if 48 <= byte <= 57:
            value = value * 16 + byte - 48
        elif 97 <= byte <= 102:
            value = value * 16 + byte - 87
        else:
            return -1
    return value


@kernel
def name_end(text: np.ndarray, begin: int, size: int) -> int:
    """Where a name that begins at `begin` ends, `begin` if there is none; see `jobeff.names.is_name`."""
    at, stop = begin, min(size, begin + LONGEST_NAME)
    while at < stop:
        byte = text[at]
        letter = 97 <= byte | 32 <= 122
        if not (letter or 48 <= byte <= 57 or (at > begin and (byte == 45 or byte == 46 or byte == 95))):
            break
        at += 1
    return at


@kernel
def frame_end(text: np.ndarray, after: int, size: int) -> int:
    """Where the next frame begins if this one's bytes end at `after`; -1 where none does, nor the month ends."""
    if after == size or is_there(text, after, size, NEXT):
        return after
    if after < size and text[after] == 10 and (after + 1 == size or is_there(text, after + 1, size, NEXT)):
        return after + 1
    return -1


@kernel
def whole_frame(text: np.ndarray, at: int, size: int, prefix: np.ndarray, name: np.ndarray, frame: np.ndarray) -> int:
    """Read a frame.

    Parameters
    ----------
    text, at, size
        The frame begins at `at`; nothing from `size` on is looked at.
    prefix
        ``==> cluster/``.
    name
        Filled with where the node's name begins and ends.
    frame
        Filled, but for the node.

    Returns
    -------
    int
        Where the next frame begins, or -1 where this one is not exactly as expected.
    """
    if not is_there(text, at, size, prefix):
        return -1
    name[0] = at + len(prefix)
    name[1] = name_end(text, name[0], size)
    job = name[1] + 1
    if name[1] == name[0] or job >= size or text[job - 1] != 47 or text[job] == 48:
        return -1
    at = digits_end(text, job, size, JOB_ID_DIGITS)
    if at == job or not is_there(text, at, size, BYTES):
        return -1
    frame[JOB_ID] = number(text, job, at)
    length = at + len(BYTES)
    at = digits_end(text, length, size, BYTES_DIGITS)
    if at == length or not is_there(text, at, size, CRC):
        return -1
    frame[LENGTH] = number(text, length, at)
    at += len(CRC) + CRC_DIGITS
    frame[CRC32] = hexadecimal(text, at - CRC_DIGITS, at) if at <= size else -1
    frame[EXTENDED] = is_there(text, at, size, FORM)
    if frame[EXTENDED]:
        at += len(FORM)
    if frame[CRC32] < 0 or not is_there(text, at, size, LAST):
        return -1
    frame[BEGIN] = at + len(LAST)
    return frame_end(text, frame[BEGIN] + frame[LENGTH], size)


@kernel
def node_index(text: np.ndarray, begin: int, end: int, nodes: np.ndarray, count: int, table: np.ndarray) -> int:
    """Index of a node among the `count` ones met; a new one is `count` and is entered."""
    mixed = 0
    for at in range(begin, end):
        mixed = (mixed * 31 + np.int64(text[at])) & 0xFFFFFF
    place = mixed % len(table)
    while table[place] >= 0:
        known = table[place]
        if is_there(text, begin, end, text[nodes[known, 0] : nodes[known, 1]]) and (
            nodes[known, 1] - nodes[known, 0] == end - begin
        ):
            return known
        place = (place + 1) % len(table)
    table[place] = count
    nodes[count, 0], nodes[count, 1] = begin, end
    return count


@allocating_kernel
def jump(
    text: np.ndarray,
    at: int,
    size: int,
    prefix: np.ndarray,
    nodes: np.ndarray,
    count: int,
    table: np.ndarray,
    frames: np.ndarray,
) -> tuple[int, int, int]:
    """Jump from frame to frame as long as each is whole and there is room.

    Parameters
    ----------
    text, at, size
        A frame may begin at `at`; nothing from `size` on is looked at.
    prefix
        ``==> cluster/``.
    nodes
        Shape (room, 2): where the name of each node met stands in the text; `count` are known, new ones are added.
    count
        Nodes known.
    table
        Hash table of `nodes`: indexes, -1 where free; larger than `nodes`.
    frames
        Shape (room, `COLUMNS`): filled.

    Returns
    -------
    tuple of int
        Where it stopped, nodes known then, frames filled.
    """
    found = 0
    name = np.empty(2, dtype=np.int64)
    while at < size and found < len(frames) and count < len(nodes):
        after = whole_frame(text, at, size, prefix, name, frames[found])
        if after < 0:
            break
        node = node_index(text, name[0], name[1], nodes, count, table)
        count = max(count, node + 1)
        frames[found, NODE] = node
        found += 1
        at = after
    return at, count, found
