"""Damage to raw usage files, as real ones have it, made where its effect on the samples is certain."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jobeff.simulate_usage import HEADERS, NO_READING, Samples

SPOILT_ROWS = frozenset(
    (
        *("columns run together", "page run together", "short row", "NUL run", "other number of cores"),
        *("nan", "6400 percent", "cut last row"),
    )
)
"""Kinds that make one row invalid."""

ADDED_ROWS = frozenset(("duplicated time", "second header"))
"""Kinds that add one invalid row."""

HARMLESS = frozenset(
    (
        "core above 100",
        "minus zero",
        "no maximum",
        "negative page",
        "no limit",
        "no header",
        "no final newline",
    )
)
"""Kinds that every row survives."""

KINDS = (*sorted(SPOILT_ROWS), *sorted(ADDED_ROWS), *sorted(HARMLESS), "header alone")
"""All kinds, in the order in which the files of a site get them."""

_EXTENDED_ALONE = frozenset(("page run together", "no maximum", "negative page"))
_TIME_ENDS = 31
_CELLS_BEFORE_CORES = {False: 5, True: 8}
_CELL = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Damage:
    """One kind of damage to one file.

    Attributes
    ----------
    kind
        One of `KINDS`, or empty: none.
    at
        The row it befalls, from 0.
    """

    kind: str
    at: int

    @staticmethod
    def fits(kind: str, extended: bool, rows: int) -> bool:
        """Tell whether a file can be damaged so.

        Parameters
        ----------
        kind
            One of `KINDS`.
        extended
            Whether the extended form is the one that counts.
        rows
            Number of rows of the file.

        Returns
        -------
        bool
            False where the file lacks the column or the rows for it.
        """
        return (extended or kind not in _EXTENDED_ALONE) and rows >= (2 if kind == "other number of cores" else 1)

    @staticmethod
    def place(kind: str, rng: np.random.Generator, rows: int) -> Damage:
        """Choose the row.

        Parameters
        ----------
        kind
            One that fits.
        rng
            Source of the choice.
        rows
            Number of rows of the file.

        Returns
        -------
        Damage
            At a row where its effect is certain.
        """
        if kind == "cut last row":
            return Damage(kind, rows - 1)
        # another number of cores in the first row would be the number that all others must have
        return Damage(kind, int(rng.integers(kind == "other number of cores", rows)))

    def change(self, samples: Samples) -> None:
        """Change those values that read differently after the damage.

        Parameters
        ----------
        samples
            Changed in place, before they are printed.
        """
        if self.kind == "core above 100":
            samples.cores[self.at, -1] = 1000
        elif self.kind == "minus zero":
            samples.cores[self.at, -1] = 0
        elif self.kind == "no maximum":
            samples.max_used[self.at] = NO_READING
        elif self.kind == "no limit":
            samples.limit[:] = 0

    def survivors(self, rows: int) -> npt.NDArray[np.bool_]:
        """Tell which rows stay valid.

        Parameters
        ----------
        rows
            Number of rows before the damage.

        Returns
        -------
        ndarray
            Shape (rows,).
        """
        valid = np.full(rows, self.kind != "header alone")
        if self.kind in SPOILT_ROWS:
            valid[self.at] = False
        return valid

    @property
    def rejected(self) -> int:
        """Number of invalid rows in the damaged file."""
        return int(self.kind in SPOILT_ROWS or self.kind in ADDED_ROWS)

    def text(self, rows: list[str], extended: bool) -> str:
        """Put a file together and damage it.

        Parameters
        ----------
        rows
            Of the undamaged file, at least one, without newlines.
        extended
            Whether they have the extended form.

        Returns
        -------
        str
            ASCII text of the whole file.
        """
        lines = list(rows)
        row = lines[self.at]
        if self.kind == "duplicated time":
            # other values, so that it matters which of the two rows is taken
            lines.insert(self.at + 1, row[:_TIME_ENDS] + lines[(self.at + 1) % len(lines)][_TIME_ENDS:])
        elif self.kind == "second header":
            lines.insert(self.at + 1, HEADERS[extended])
        elif self.kind == "header alone":
            lines = []
        elif self.kind == "cut last row":
            lines[self.at] = row[: _TIME_ENDS - 4 if len(rows) % 2 else 12]
        elif self.kind:
            lines[self.at] = self._edited(row, extended)
        if self.kind != "no header":
            lines.insert(0, HEADERS[extended])
        return "\n".join(lines) + ("" if self.kind in ("cut last row", "no final newline") else "\n")

    def _edited(self, row: str, extended: bool) -> str:
        cells = _CELL.findall(row)
        match self.kind:
            case "page run together" if extended:
                cells[5:7] = [cells[5] + "-7253639"]
            case "columns run together" | "page run together":
                cells[2:4] = [cells[2] + cells[3].strip()]
            case "short row":
                del cells[4:]
            case "NUL run":
                cells[2:] = ["\0" * len("".join(cells[2:]))]
            case "other number of cores" if self.at % 2 and len(cells) > _CELLS_BEFORE_CORES[extended] + 1:
                del cells[-1]
            case "other number of cores":
                cells.append(cells[-1])
            case "nan":
                cells[3] = "       nan"
            case "6400 percent":
                cells[-1] = " 6400.0"
            case "core above 100":
                cells[-1] = " 100.4"
            case "minus zero":
                cells[-1] = "  -0.0"
            case "no maximum" if extended:
                cells[4] = "           nan"
            case "negative page" if extended:
                cells[6] = "    -7253639"
        return "".join(cells)
