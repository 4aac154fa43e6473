"""Raw files as archive text, written by a kernel, so that gigabytes of history take seconds.

Kernels of its own, which none of the engine's call: those are compiled for what is in archives alone.
"""

from __future__ import annotations

import numpy as np

from jobeff.jit import allocating_kernel, kernel

HEADERS = (
    b"          LOCALTIME        TIME  GB_LIMIT   GB_USED  GB_SWAP_USED Individual_core_busy_percentages->->->\n",
    b"          LOCALTIME        TIME  GB_LIMIT   GB_USED  GB_MAX_USED  GB_SWAP_USED     PAGE_IN    PAGE_OUT "
    b"Individual_core_busy_percentages->->->\n",
)
BEFORE_CORES = (65, 103)  # bytes of a row without its cores and newline, plain and extended form
CELL = 6


@kernel
def put_bytes(out: np.ndarray, at: int, word: np.ndarray) -> int:
    """Write bytes; returns where they end."""
    for i in range(len(word)):
        out[at + i] = word[i]
    return at + len(word)


@kernel
def put_right(out: np.ndarray, end: int, width: int, value: int, fill: int) -> None:
    """Write a number so that it ends at `end`, with `fill` before it up to `width` bytes."""
    at = end
    while True:
        at -= 1
        out[at] = 48 + value % 10
        value //= 10
        if value == 0:
            break
    while at > end - width:
        at -= 1
        out[at] = fill


@kernel
def put_tenths(out: np.ndarray, end: int, width: int, tenths: int) -> None:
    """Write a number with one decimal."""
    out[end - 1] = 48 + tenths % 10
    out[end - 2] = 46
    put_right(out, end - 2, width - 2, tenths // 10, 32)


@kernel
def put_localtime(out: np.ndarray, at: int, epoch: int) -> None:
    """Write ``YYYY-MM-DDTHH:MM:SS`` of an epoch, one hour east of Greenwich all year."""
    local = epoch + 3600
    days, second = local // 86400, local % 86400
    z = days + 719468  # days since 0000-03-01: years then end with February, leap day last
    era = z // 146097
    of_era = z - era * 146097
    year_of_era = (of_era - of_era // 1460 + of_era // 36524 - of_era // 146096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    m = (5 * of_year + 2) // 153
    day = of_year - (153 * m + 2) // 5 + 1
    month = m + 3 if m < 10 else m - 9
    year = year_of_era + era * 400 + (1 if month <= 2 else 0)
    put_right(out, at + 4, 4, year, 48)
    put_right(out, at + 7, 2, month, 48)
    put_right(out, at + 10, 2, day, 48)
    put_right(out, at + 13, 2, second // 3600, 48)
    put_right(out, at + 16, 2, second // 60 % 60, 48)
    put_right(out, at + 19, 2, second % 60, 48)
    out[at + 4] = out[at + 7] = 45
    out[at + 10] = 84
    out[at + 13] = out[at + 16] = 58


@kernel
def mixed(a: int, b: int) -> int:
    """A random-looking number below 2**31 that depends on nothing but its arguments."""
    x = np.uint64(a) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(b) * np.uint64(0xC2B2AE3D27D4EB4F)
    x ^= x >> np.uint64(29)
    x *= np.uint64(0xBF58476D1CE4E5B9)
    x ^= x >> np.uint64(32)
    return np.int64(x & np.uint64(0x7FFFFFFF))


@kernel
def core_tenths(style: int, job: int, row: int, core: int) -> int:
    """Percent of one core, in steps of 0.2 as sites' files have it, by the job's style."""
    noise = mixed(job * 1024 + core, row)
    if style < 4:  # busy all the time
        return 1000 if noise % 8 else 1000 - 2 * (noise // 8 % 5)
    if style < 7:  # some cores busy, the rest idle
        return 1000 - 2 * (noise % 3) if core % 3 == 0 else 2 * (noise % 8) * (noise // 8 % 2)
    if style < 9:  # up and down
        return 2 * (noise % 501)
    return 2 * (noise % 6) * (noise // 8 % 2)  # idle


@kernel
def write_row(out: np.ndarray, at: int, job: int, row: int, epoch: int, cores: int, extended: bool) -> int:
    """Write one row; returns where it ends."""
    style = mixed(job, 1) % 10
    limit = 64 * cores
    used = 2 + mixed(job, 2) % (limit - 2)
    now = used - used * (mixed(job, row // 4) % 16) // 64
    put_localtime(out, at, epoch)
    put_right(out, at + 31, 12, epoch, 32)
    put_tenths(out, at + 41, 10, limit)
    put_tenths(out, at + 51, 10, now)
    at += 51
    if extended:
        put_tenths(out, at + 14, 14, used)
        at += 14
    put_tenths(out, at + 14, 14, 0)
    at += 14
    if extended:
        put_right(out, at + 12, 12, mixed(job, row + 7) % 1000, 32)
        put_right(out, at + 24, 12, mixed(job, row + 9) % 1000, 32)
        at += 24
    for core in range(cores):
        at += CELL
        put_tenths(out, at, CELL, core_tenths(style, job, row, core))
    out[at] = 10
    return at + 1


@kernel
def crc32(data: np.ndarray, begin: int, end: int, table: np.ndarray) -> int:
    """CRC-32 as in zlib; `table` has 8 rows of 256."""
    crc = np.uint32(0xFFFFFFFF)
    at = begin
    byte = np.uint32(255)
    while at + 8 <= end:
        low = (
            np.uint32(data[at])
            | np.uint32(data[at + 1]) << np.uint32(8)
            | np.uint32(data[at + 2]) << np.uint32(16)
            | np.uint32(data[at + 3]) << np.uint32(24)
        ) ^ crc
        crc = np.uint32(
            table[7, low & byte]
            ^ table[6, (low >> np.uint32(8)) & byte]
            ^ table[5, (low >> np.uint32(16)) & byte]
            ^ table[4, low >> np.uint32(24)]
            ^ table[3, data[at + 4]]
            ^ table[2, data[at + 5]]
            ^ table[1, data[at + 6]]
            ^ table[0, data[at + 7]]
        )
        at += 8
    while at < end:
        crc = np.uint32(table[0, (crc ^ data[at]) & byte] ^ (crc >> np.uint32(8)))
        at += 1
    return np.int64(crc ^ np.uint32(0xFFFFFFFF))


@allocating_kernel
def write_frames(
    out: np.ndarray,
    begin_word: np.ndarray,
    node: np.ndarray,
    job_id: np.ndarray,
    first: np.ndarray,
    rows: np.ndarray,
    cores: np.ndarray,
    extended: np.ndarray,
    interval: int,
    plain_header: np.ndarray,
    extended_header: np.ndarray,
    table: np.ndarray,
    framed: bool,
    ends: np.ndarray,
) -> int:
    """Write raw files one after the other, each as a frame of the archive if `framed`; returns where they end.

    Parameters
    ----------
    out
        Bytes, large enough.
    begin_word
        ``==> cluster/r`` , behind which stands the node's number.
    node, job_id, first, rows, cores, extended
        Shape (files,): number of the node, job id, epoch of the first row, rows, cores, form.
    interval
        Seconds between rows.
    plain_header, extended_header
        First lines.
    table
        For `crc32`.
    framed
        Whether to write the line that begins a frame.
    ends
        Output, shape (files,): where each ends.
    """
    at = 0
    hexadecimal = np.array([48, 49, 50, 51, 52, 53, 54, 55, 56, 57, 97, 98, 99, 100, 101, 102], dtype=np.uint8)
    bytes_word = np.array([32, 98, 121, 116, 101, 115, 61], dtype=np.uint8)
    crc_word = np.array([32, 99, 114, 99, 51, 50, 61], dtype=np.uint8)
    last_word = np.array([32, 60, 61, 61, 10], dtype=np.uint8)
    for i in range(len(node)):
        header = extended_header if extended[i] else plain_header
        size = len(header) + rows[i] * ((103 if extended[i] else 65) + CELL * cores[i] + 1)
        crc_at = 0
        if framed:
            at = put_bytes(out, at, begin_word)
            for value, stop in ((node[i], 47), (job_id[i], 0), (size, 0)):
                digits, left = 1, value // 10
                while left > 0:
                    digits, left = digits + 1, left // 10
                put_right(out, at + digits, digits, value, 48)
                at += digits
                if stop:
                    out[at] = stop
                    at += 1
                elif value == job_id[i] and crc_at == 0:
                    at = put_bytes(out, at, bytes_word)
                    crc_at = 1
            at = put_bytes(out, at, crc_word)
            crc_at = at
            at = put_bytes(out, at + 8, last_word)
        begin = at
        at = put_bytes(out, at, header)
        for row in range(rows[i]):
            at = write_row(out, at, job_id[i], row, first[i] + row * interval, cores[i], extended[i])
        if framed:
            crc = crc32(out, begin, at, table)
            for digit in range(8):
                out[crc_at + digit] = hexadecimal[(crc >> (28 - 4 * digit)) & 15]
        ends[i] = at
    return at
