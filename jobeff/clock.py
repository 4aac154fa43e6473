"""Local days, weeks and months of epoch seconds, in the site's time zone."""

from __future__ import annotations

from bisect import bisect_left
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from jobeff.errors import ConfigError

QUARTER_S = 900
"""Offsets of time zones change only at multiples of a quarter of an hour."""

LAST_EPOCH_S = 253_402_214_400
"""Epochs from here on (9999-12-31) have no calendar day and are refused at the loaders."""

FIRST_DAY, LAST_DAY = date(1969, 12, 29), date(9999, 12, 26)
"""Monday of the first week that jobs can have, and Sunday of the last whole one."""


class Clock:
    """Days and months of one time zone.

    Parameters
    ----------
    timezone
        IANA name, such as ``Europe/Stockholm``.

    Raises
    ------
    ConfigError
        There is no such zone.
    """

    def __init__(self, timezone: str) -> None:
        try:
            self.zone = ZoneInfo(timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"unknown time zone {timezone!r}", why=str(error), todo="Use an IANA name such as Europe/Stockholm"
            ) from error
        self._offsets: dict[int, int] = {}

    def offset_s(self, epoch: int) -> int:
        """Seconds that local time is ahead of UTC.

        Parameters
        ----------
        epoch
            Epoch seconds, 0 to `LAST_EPOCH_S`.

        Returns
        -------
        int
            Offset in seconds, negative west of Greenwich.
        """
        quarter = epoch // QUARTER_S
        offset = self._offsets.get(quarter)
        if offset is None:
            delta = datetime.fromtimestamp(quarter * QUARTER_S, self.zone).utcoffset()
            offset = self._offsets[quarter] = int((delta or timedelta()).total_seconds())
        return offset

    def day(self, epoch: int) -> str:
        """Local calendar day, ``YYYY-MM-DD``.

        Parameters
        ----------
        epoch
            Epoch seconds, 0 to `LAST_EPOCH_S`.

        Returns
        -------
        str
            ISO date.
        """
        return datetime.fromtimestamp(epoch, self.zone).date().isoformat()

    def epoch(self, local: datetime, not_before: int = 0) -> int:
        """Epoch seconds of a local time without an offset.

        Parameters
        ----------
        local
            A time without a zone.
        not_before
            What happened earlier, epoch seconds.

        Returns
        -------
        int
            In the hour that comes twice when summer time ends, the earlier of the two, unless that is earlier than
            `not_before`.
        """
        first = int(local.replace(tzinfo=self.zone, fold=0).timestamp())
        return first if first >= not_before else int(local.replace(tzinfo=self.zone, fold=1).timestamp())

    def month(self, epoch: int) -> str:
        """Local calendar month, ``YYYY-MM``.

        Parameters
        ----------
        epoch
            Epoch seconds, 0 to `LAST_EPOCH_S`.

        Returns
        -------
        str
            Year and month.
        """
        return self.day(epoch)[:7]

    def month_span(self, month: str) -> tuple[int, int]:
        """First epoch second of a month and of the next one.

        Parameters
        ----------
        month
            ``YYYY-MM``.

        Returns
        -------
        tuple of int
            Begin (within) and end (outside).
        """
        year, number = int(month[:4]), int(month[5:])
        begin = datetime(year, number, 1, tzinfo=self.zone)
        after = datetime(year + number // 12, number % 12 + 1, 1, tzinfo=self.zone)
        return int(begin.timestamp()), int(after.timestamp())

    def day_begin(self, day: date) -> int:
        """First epoch second of a local day.

        Parameters
        ----------
        day
            Any; of one that was left out, the first second of the next.

        Returns
        -------
        int
            When it became that day or a later one for the first time, so that days never overlap.
        """
        midnight, name = int(datetime(day.year, day.month, day.day, tzinfo=self.zone).timestamp()), day.isoformat()
        if self.day(midnight - 1) < name:
            return midnight
        before = midnight - 86_400  # clocks were put forward across midnight
        return before + bisect_left(range(before, midnight), name, key=self.day)

    def now(self) -> tuple[str, str]:
        """Local date and time, as the table ``last_updated`` wants them.

        Returns
        -------
        tuple of str
            ``YYYY-MM-DD`` and ``HH:MM:SS``.
        """
        now = datetime.now(UTC).astimezone(self.zone)
        return now.date().isoformat(), now.time().isoformat("seconds")


def iso_week(day: str) -> str:
    """The ISO week of a day, ``2021-W21``.

    Parameters
    ----------
    day
        ISO date.

    Returns
    -------
    str
        The year is that of the week's Thursday, so it can be another than the day's.
    """
    year, week, _ = date.fromisoformat(day).isocalendar()
    return f"{year:04}-W{week:02}"


def with_jobs(day: date) -> date:
    """The nearest day that jobs can have.

    Parameters
    ----------
    day
        Any that somebody asks for.

    Returns
    -------
    date
        From `FIRST_DAY` to `LAST_DAY`, so that half a year before it and a week behind it are days too.
    """
    return max(FIRST_DAY, min(day, LAST_DAY))
