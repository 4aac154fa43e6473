"""Raw text to typed samples: the parsing kernel and the arrays it fills."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jobeff.engine import file_kernels
from jobeff.store import shards
from jobeff.store.crc_table import crc32_table

if TYPE_CHECKING:
    import pyarrow as pa

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


class Room(threading.local):
    """Memory that parsing fills again and again, so that its pages need not be asked for each time."""

    def __init__(self) -> None:
        self._arrays: dict[str, npt.NDArray[Any]] = {}

    def array(self, name: str, dtype: type, count: int) -> npt.NDArray[Any]:
        """Room for so many values.

        Parameters
        ----------
        name, dtype
            What for.
        count
            At least so many.

        Returns
        -------
        ndarray
            What was there before is still in it.
        """
        found = self._arrays.get(name)
        if found is None or len(found) < count:
            self._arrays[name] = found = np.empty(count + count // 4, dtype=dtype)
        return found


def parse_arrays(
    text: npt.NDArray[np.uint8],
    begins: npt.NDArray[np.int64],
    ends: npt.NDArray[np.int64],
    extended: npt.NDArray[np.bool_],
    room: Room | None = None,
) -> tuple[dict[str, npt.NDArray[Any]], npt.NDArray[np.bool_]]:
    """Read raw files into arrays.

    Parameters
    ----------
    text, begins, ends, extended
        See `parse`.
    room
        Memory to use again: the samples are good until it is used the next time.

    Returns
    -------
    dict
        Those fields of `jobeff.store.shards.Columns` that come of the text.
    ndarray of bool
        See `parse`.

    Raises
    ------
    ValueError
        A raw file is not within the text.
    """
    files = len(begins)
    size = int((ends - begins).sum())
    capacity = size // SHORTEST_ROW + files + 1
    room = room or Room()
    time = room.array("time", np.int64, capacity)
    limit, used, max_used, swap = (
        room.array(name, np.int32, capacity) for name in ("limit", "used", "max_used", "swap")
    )
    core = room.array("core", np.uint16, size // 2 + files + 1)
    row_begin, max_begin, core_begin = (np.empty(files + 1, dtype=np.int32) for _ in range(3))
    first, last = (np.empty(files, dtype=np.int64) for _ in range(2))
    widths, rejected = (np.empty(files, dtype=np.int32) for _ in range(2))
    known, crc32 = np.empty(files, dtype=np.bool_), np.empty(files, dtype=np.uint32)
    if not file_kernels.parse_files(
        text, begins, ends, extended, WORDS, WORD_BEGIN, crc32_table(), time, limit, used, max_used, swap, core,
        row_begin, max_begin, core_begin, first, last, widths, rejected, known, crc32,
    ):  # fmt: skip
        raise ValueError("a raw file is not within the text")
    rows, most, cells = int(row_begin[-1]), int(max_begin[-1]), int(core_begin[-1])
    columns: dict[str, npt.NDArray[Any]] = {
        "first": first,
        "last": last,
        "cores": widths,
        "rejected": rejected,
        "crc32": crc32,
        "row_begin": row_begin,
        "max_begin": max_begin,
        "core_begin": core_begin,
        "time": time[:rows],
        "limit": limit[:rows],
        "used": used[:rows],
        "max_used": max_used[:most],
        "swap": swap[:rows],
        "core": core[:cells],
    }
    for array in columns.values():
        array.setflags(write=False)  # as those that come from a table are: kernels are compiled for one kind only
    return columns, known


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
    import pyarrow as pa  # noqa: PLC0415  (see `shards.schema`)

    found, known = parse_arrays(text, begins, ends, extended)
    row_begin = found["row_begin"]
    none = row_begin[1:] == row_begin[:-1]
    of_rows, of_max, of_cores = (pa.array(found[name]) for name in ("row_begin", "max_begin", "core_begin"))
    columns = {
        "first": pa.array(found["first"], mask=none),
        "last": pa.array(found["last"], mask=none),
        "cores": found["cores"],
        "rejected": found["rejected"],
        "time": _lists("time", of_rows, found["time"]),
        "limit": _lists("limit", of_rows, found["limit"]),
        "used": _lists("used", of_rows, found["used"]),
        "max_used": _lists("max_used", of_max, found["max_used"]),
        "swap": _lists("swap", of_rows, found["swap"]),
        "core": _lists("core", of_cores, found["core"]),
    }
    return columns, known


def _lists(name: str, begin: pa.Array, values: npt.NDArray[Any]) -> pa.ListArray:
    """One list per file over a flat array, as the shard's column of that name has them."""
    import pyarrow as pa  # noqa: PLC0415

    return pa.ListArray.from_arrays(begin, pa.array(values), type=shards.schema().field(name).type)
