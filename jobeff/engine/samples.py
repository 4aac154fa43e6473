"""Raw text to typed samples: the parsing kernel and the arrays it fills."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.engine import kernels
from jobeff.store import shards

COLUMNS = (
    b"LOCALTIME",
    b"TIME",
    b"GB_LIMIT",
    b"GB_USED",
    b"GB_MAX_USED",
    b"GB_SWAP_USED",
    b"PAGE_IN",
    b"PAGE_OUT",
    b"Individual_core",  # a prefix
)
WORDS = np.frombuffer(b"".join(COLUMNS), dtype=np.uint8)
WORD_BEGIN = np.cumsum([0, *map(len, COLUMNS)])
SHORTEST_ROW = 29  # bytes: LOCALTIME, five more columns of one digit, blanks between; the last newline may be missing

TYPES = {name: shards.SCHEMA.field(name).type for name in shards.SAMPLES}


def parse(
    text: npt.NDArray[np.uint8],
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    extended: npt.NDArray[np.bool_],
) -> tuple[dict[str, Any], npt.NDArray[np.bool_]]:
    """Read raw files into the sample columns of a shard.

    Parameters
    ----------
    text
        Bytes, uint8.
    begins, ends
        Shape (files,): where each raw file stands in `text`.
    extended
        Shape (files,): the form of a file that has no header.

    Returns
    -------
    dict
        ``first``, ``last`` (null without a valid row), ``cores``, ``rejected``, and the list columns ``time``,
        ``limit``, ``used``, ``max_used`` (empty in the plain form), ``swap``, ``core``: one element per raw file.
    ndarray of bool
        Shape (files,): False where a header does not name the columns needed, so that no row could be used.
    """
    files = len(begins)
    size = int((ends - begins).sum())
    capacity = size // SHORTEST_ROW + files + 1
    time = np.empty(capacity, dtype=np.int64)
    limit, used, max_used, swap = (np.empty(capacity, dtype=np.int32) for _ in range(4))
    core = np.empty(size // 2 + files + 1, dtype=np.uint16)
    row_begin, max_begin, core_begin = (np.empty(files + 1, dtype=np.int32) for _ in range(3))
    first, last = (np.empty(files, dtype=np.int64) for _ in range(2))
    widths, rejected = (np.empty(files, dtype=np.int32) for _ in range(2))
    known = np.empty(files, dtype=np.bool_)
    kernels.parse_files(
        text, begins, ends, extended, WORDS, WORD_BEGIN, time, limit, used, max_used, swap, core,
        row_begin, max_begin, core_begin, first, last, widths, rejected, known,
    )  # fmt: skip
    none = row_begin[1:] == row_begin[:-1]
    of_rows, of_max, of_cores = pa.array(row_begin), pa.array(max_begin), pa.array(core_begin)
    columns = {
        "first": pa.array(first, mask=none),
        "last": pa.array(last, mask=none),
        "cores": widths,
        "rejected": rejected,
        "time": _lists("time", of_rows, time[: row_begin[-1]]),
        "limit": _lists("limit", of_rows, limit[: row_begin[-1]]),
        "used": _lists("used", of_rows, used[: row_begin[-1]]),
        "max_used": _lists("max_used", of_max, max_used[: max_begin[-1]]),
        "swap": _lists("swap", of_rows, swap[: row_begin[-1]]),
        "core": _lists("core", of_cores, core[: core_begin[-1]]),
    }
    return columns, known


def _lists(name: str, begin: pa.Array, values: npt.NDArray[Any]) -> pa.ListArray:
    """One list per file over a flat array, as the shard's column of that name has them."""
    return pa.ListArray.from_arrays(begin, pa.array(values), type=TYPES[name])
