"""Raw text to typed samples: the parsing kernel and the arrays it fills."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from jobeff.engine import kernels

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
    rows, widths, rejected = (np.zeros(files, dtype=np.int64) for _ in range(3))
    known = np.zeros(files, dtype=np.bool_)
    total, cores = kernels.parse_files(
        text, begins, ends, extended, WORDS, WORD_BEGIN,
        time, limit, used, max_used, swap, core, rows, widths, rejected, known,
    )  # fmt: skip
    row_begin = np.concatenate([[0], np.cumsum(rows)])
    core_begin = np.concatenate([[0], np.cumsum(rows * widths)])
    with_max = _any_by_file(max_used[:total] >= 0, row_begin)
    max_begin = np.concatenate([[0], np.cumsum(np.where(with_max, rows, 0))])
    none = rows == 0
    padded = np.append(time[:total], 0)
    columns = {
        "first": pa.array(padded[np.where(none, 0, row_begin[:-1])], mask=none),
        "last": pa.array(padded[np.where(none, 0, row_begin[1:] - 1)], mask=none),
        "cores": widths.astype(np.int32),
        "rejected": rejected.astype(np.int32),
        "time": _lists(row_begin, time[:total]),
        "limit": _lists(row_begin, limit[:total]),
        "used": _lists(row_begin, used[:total]),
        "max_used": _lists(max_begin, max_used[:total][np.repeat(with_max, rows)]),
        "swap": _lists(row_begin, swap[:total]),
        "core": _lists(core_begin, core[:cores]),
    }
    return columns, known


def _any_by_file(flags: npt.NDArray[np.bool_], begin: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Whether any row of each file is flagged."""
    counted = np.concatenate([[0], np.cumsum(flags)])
    return np.asarray(counted[begin[1:]] > counted[begin[:-1]])


def _lists(begin: npt.NDArray[np.int64], values: npt.NDArray[Any]) -> pa.ListArray:
    """One list per file over a flat array."""
    element = pa.field("element", pa.from_numpy_dtype(values.dtype), nullable=False)
    return pa.ListArray.from_arrays(begin.astype(np.int32), pa.array(values), type=pa.list_(element))
