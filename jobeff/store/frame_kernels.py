"""Numba kernel that jumps over whole frames, each exactly as `jobeff.store.archive.append` writes it.

It decides nothing: at the first place that is anything else it stops, and `jobeff.store.framing` reads on from there.
Where the next header is, a header says itself; so who goes from one to the next waits for memory at each. Hence several
chains of frames are followed at once, and each header is asked for while those of the other chains are read.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import kernel
from jobeff.prefetch import prefetch
from jobeff.store.crc_kernels import by_table

LONGEST_NAME = 63
# Longer numbers are not read here: 18 digits fit in an int64 whatever they are.
JOB_ID_DIGITS, BYTES_DIGITS, CRC_DIGITS = 18, 15, 8
NEXT = np.frombuffer(b"==> ", dtype=np.uint8)
BYTES = np.frombuffer(b" bytes=", dtype=np.uint8)
CRC = np.frombuffer(b" crc32=", dtype=np.uint8)
FORM = np.frombuffer(b" form=extended", dtype=np.uint8)
LAST = np.frombuffer(b" <==\n", dtype=np.uint8)
ZEROS, LOW_BITS, HIGHEST_BITS = (np.uint64(byte * 0x0101010101010101) for byte in (48, 0x7F, 0x80))
# Added to a byte below 128, they set its highest bit where it is that or more.
ABOVE_NINE, FROM_0, ABOVE_9, FROM_A, ABOVE_F = (
    np.uint64((128 - byte) * 0x0101010101010101) for byte in (10, 48, 58, 97, 103)
)
BYTES_IN_ORDER = np.uint64(0x0001020304050607)
NODE, JOB_ID, BEGIN, LENGTH, CRC32, EXTENDED, SUM = range(7)
COLUMNS = 7
HEADER, PLACE, FILLED, ENDED = range(4)
STATES = 4
LINE = 64


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
def eight(text: np.ndarray, at: int) -> int:
    """Eight bytes as an unsigned number, the first lowest; the compiler makes one load of it."""
    value, i = np.uint64(0), np.uint64(at)
    for step in range(8):
        value |= np.uint64(text[i + np.uint64(step)]) << np.uint64(8 * step)
    return value


@kernel
def digits_in(word: int) -> int:
    """How many of eight bytes, from the first on, are digits."""
    other = word ^ ZEROS
    found = ((other & LOW_BITS) + ABOVE_NINE | other) & HIGHEST_BITS
    if found == np.uint64(0):
        return np.int64(8)
    lowest = (found & (~found + np.uint64(1))) >> np.uint64(7)
    return np.int64((lowest * BYTES_IN_ORDER) >> np.uint64(56))


@kernel
def value_of(word: int, digits: int) -> int:
    """Value of the first of eight bytes, at least one, that are digits: of two at once, then of four, then of all."""
    value = ((word ^ ZEROS) << np.uint64(64 - 8 * digits)) * np.uint64(10 * 2**8 + 1) >> np.uint64(8)
    value = (value & np.uint64(0x00FF00FF00FF00FF)) * np.uint64(100 * 2**16 + 1) >> np.uint64(16)
    return np.int64((value & np.uint64(0x0000FFFF0000FFFF)) * np.uint64(10000 * 2**32 + 1) >> np.uint64(32))


@kernel
def number(text: np.ndarray, at: int, size: int, most: int) -> tuple[int, int]:
    """Value of the digits that begin at `at`, and where they end, looking at so many at most, at least eight."""
    value, stop = np.int64(0), min(size, at + most)
    if at + 8 <= size:
        word = eight(text, at)
        digits = digits_in(word)
        value = value_of(word, digits) if digits > 0 else np.int64(0)
        at += digits
        if digits < 8:
            return value, at
    while at < stop and 48 <= text[at] <= 57:
        value = value * 10 + (np.int64(text[at]) - 48)
        at += 1
    return value, at


@kernel
def hexadecimal(word: int) -> int:
    """Value of eight bytes that are digits 0-9 and a-f, or -1."""
    if word & HIGHEST_BITS != np.uint64(0):
        return np.int64(-1)
    digit = (word + FROM_0) & ~(word + ABOVE_9)
    letter = (word + FROM_A) & ~(word + ABOVE_F) & HIGHEST_BITS
    if (digit | letter) & HIGHEST_BITS != HIGHEST_BITS:
        return np.int64(-1)
    value = (word & np.uint64(0x0F0F0F0F0F0F0F0F)) + (letter >> np.uint64(7)) * np.uint64(9)
    value = (value << np.uint64(4) | value >> np.uint64(8)) & np.uint64(0x00FF00FF00FF00FF)
    value = (value << np.uint64(8) | value >> np.uint64(16)) & np.uint64(0x0000FFFF0000FFFF)
    return np.int64((value << np.uint64(16) | value >> np.uint64(32)) & np.uint64(0xFFFFFFFF))


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
def read_header(text: np.ndarray, at: int, size: int, prefix: np.ndarray, name: np.ndarray, frame: np.ndarray) -> int:
    """Read the header of a frame.

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
        Where the frame's bytes end as it says, or -1 where the header is not exactly as expected.
    """
    if not is_there(text, at, size, prefix):
        return -1
    name[0] = at + len(prefix)
    name[1] = name_end(text, name[0], size)
    job = name[1] + 1
    if name[1] == name[0] or job >= size or text[job - 1] != 47 or text[job] == 48:
        return -1
    frame[JOB_ID], at = number(text, job, size, JOB_ID_DIGITS)
    if at == job or not is_there(text, at, size, BYTES):
        return -1
    length = at + len(BYTES)
    frame[LENGTH], at = number(text, length, size, BYTES_DIGITS)
    if at == length or not is_there(text, at, size, CRC):
        return -1
    at += len(CRC) + CRC_DIGITS
    frame[CRC32] = hexadecimal(eight(text, at - CRC_DIGITS)) if at <= size else -1
    frame[EXTENDED] = is_there(text, at, size, FORM)
    if frame[EXTENDED]:
        at += len(FORM)
    if frame[CRC32] < 0 or not is_there(text, at, size, LAST):
        return -1
    frame[BEGIN] = at + len(LAST)
    return frame[BEGIN] + frame[LENGTH]


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


@kernel
def step(
    text: np.ndarray,
    limit: int,
    size: int,
    prefix: np.ndarray,
    nodes: np.ndarray,
    count: int,
    table: np.ndarray,
    frames: np.ndarray,
    name: np.ndarray,
    state: np.ndarray,
) -> int:
    """Go on from the last frame of a chain, whose end has been asked for, to the next one.

    Parameters
    ----------
    text, size, prefix, nodes, count, table
        See `jump`.
    limit
        The chain goes on up to there.
    frames
        Shape (room, `COLUMNS`): those of the chain.
    name
        Shape (2,): changed.
    state
        Shape (`STATES`,): where the chain's last header begins, where the frame's bytes end, frames filled, and whether
        the chain goes no further; then it says `PLACE` where it stopped. Changed.

    Returns
    -------
    int
        Nodes known then.
    """
    filled, at = state[FILLED], state[PLACE]
    if filled > 0:
        at = frame_end(text, at, size)
        if at < 0:  # so that was no whole frame
            state[FILLED], state[PLACE], state[ENDED] = filled - 1, state[HEADER], 1
            return count
    after = np.int64(-1)
    if at < limit and filled < len(frames) and count < len(nodes):
        after = read_header(text, at, size, prefix, name, frames[filled])
    if after < 0:
        state[PLACE], state[ENDED] = at, 1
        return count
    prefetch(text, after)
    prefetch(text, after + LINE)
    node = node_index(text, name[0], name[1], nodes, count, table)
    frames[filled, NODE] = node
    frames[filled, SUM] = frames[filled, BEGIN] - at
    state[HEADER], state[PLACE], state[FILLED] = at, after, filled + 1
    return max(count, node + 1)


@kernel
def jump(
    text: np.ndarray,
    begins: np.ndarray,
    stop: int,
    size: int,
    prefix: np.ndarray,
    nodes: np.ndarray,
    count: int,
    table: np.ndarray,
    frames: np.ndarray,
    state: np.ndarray,
) -> tuple[int, int, int]:
    """Jump from frame to frame as long as each is whole and there is room.

    Parameters
    ----------
    text, size
        Nothing from `size` on is looked at.
    begins
        Shape (chains,), ascending: a frame may begin at the first. At the others too, but they may as well stand within
        the raw text of one: they only count where the frames before lead there.
    stop
        The last chain goes on up to there.
    prefix
        ``==> cluster/``.
    nodes
        Shape (room, 2): where the name of each node met stands in the text; `count` are known, new ones are added.
    count
        Nodes known.
    table
        Hash table of `nodes`: indexes, -1 where free; larger than `nodes`.
    frames
        Shape (room, `COLUMNS`): filled. Each chain has an equal part of the room.
    state
        Shape (chains + 1, `STATES`): for the kernel.

    Returns
    -------
    tuple of int
        Where it stopped, nodes known then, frames filled.
    """
    chains = len(begins)
    room = len(frames) // chains
    name = state[chains]
    for chain in range(chains):
        state[chain, PLACE], state[chain, FILLED], state[chain, ENDED] = begins[chain], 0, 0
    going = chains
    while going > 0:
        going = 0
        for chain in range(chains):
            if state[chain, ENDED] == 0:
                going += 1
                limit = begins[chain + 1] if chain + 1 < chains else stop
                mine = frames[chain * room : (chain + 1) * room]
                count = step(text, limit, size, prefix, nodes, count, table, mine, name, state[chain])
    at, found = state[0, PLACE], state[0, FILLED]
    for chain in range(1, chains):
        if at != begins[chain]:
            break
        for row in range(state[chain, FILLED]):
            for column in range(COLUMNS):
                frames[found + row, column] = frames[chain * room + row, column]
        at, found = state[chain, PLACE], found + state[chain, FILLED]
    return at, count, found


@kernel
def sum_headers(text: np.ndarray, frames: np.ndarray, sums: np.ndarray) -> None:
    """Sum the headers of frames; not too many at a time, so that they are in the processor's cache still.

    By the way that is quicker by itself, what stands before each would have to be fetched from memory.

    Parameters
    ----------
    text
        The same as for `jump`.
    frames
        Those that it has filled. In `SUM` stands how long the header is; then it has the checksum too, see
        `jobeff.store.framing.Frames`.
    sums
        From `jobeff.store.crc_table.crc32_table`.
    """
    for row in range(len(frames)):
        begin, length = frames[row, BEGIN], frames[row, SUM]
        frames[row, SUM] = length << 32 | by_table(text, begin - length, begin, np.int64(0), sums)
