"""CSV as Datasette writes it for staff: as in our own, no text in it runs as a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

from jobeff.views.sql import no_formula


class Rows:
    """A writer.

    Parameters
    ----------
    out
        Has a method ``write``.
    """

    def __init__(self, out: Any) -> None:
        self._writer = csv.writer(out)

    def writerow(self, row: Iterable[Any]) -> Any:
        """Write a row.

        Parameters
        ----------
        row
            Its values.

        Returns
        -------
        Any
            What ``write`` has returned, for which Datasette waits.
        """
        return self._writer.writerow([no_formula(value) if isinstance(value, str) else value for value in row])


class Sheets:
    """What Datasette's views take for the module `csv`."""

    writer = Rows
