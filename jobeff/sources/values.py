"""Single values as sites write them: days, sizes, numbers, names. What cannot be used raises ValueError.

The messages are fit to be shown. A cell that says in one of the usual ways that it holds nothing gives None.
"""

from __future__ import annotations

import re
from datetime import date
from decimal import ROUND_HALF_EVEN, Context, Decimal
from functools import lru_cache

from jobeff.errors import shown
from jobeff.names import INT64_MAX, is_name, is_project

NOTHING = frozenset(("", "-", "null", "none", "n/a"))
"""What stands where there is no value, in any case."""

MAX_DIGITS = 64
UNITS = ("", "k", "m", "g", "t", "p")
"""Each is 1024 times the one before, also without an ``i``: so do the tools count that report quotas."""

_DAY = re.compile(r"([0-9]{4})-?([0-9]{2})-?([0-9]{2})")
_NUMBER = r"((?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?)"
_PLAIN = re.compile(_NUMBER, re.ASCII | re.IGNORECASE)
_SIZE = re.compile(_NUMBER + r" ?(?:([kmgtp])i?b?|b|bytes?)?", re.ASCII | re.IGNORECASE)
_EXACT = Context(prec=2 * MAX_DIGITS, rounding=ROUND_HALF_EVEN)


@lru_cache(maxsize=16_384)
def day(text: str) -> str:
    """Read a calendar day.

    Parameters
    ----------
    text
        ``YYYY-MM-DD`` or ``YYYYMMDD``.

    Returns
    -------
    str
        ISO date.

    Raises
    ------
    ValueError
        There is no such day.
    """
    match = _DAY.fullmatch(text)
    if match and len(text) != 9:
        try:
            return date(*map(int, match.groups())).isoformat()
        except ValueError:
            pass
    raise ValueError(f"not a day (YYYY-MM-DD or YYYYMMDD): {shown(text) or 'nothing'}")


@lru_cache(maxsize=16_384)
def project(text: str) -> str:
    """Read a project.

    Parameters
    ----------
    text
        Its name.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
        See `jobeff.names.is_project`.
    """
    if not is_project(text):
        raise ValueError(f"not a project: {shown(text) or 'nothing'}")
    return text


@lru_cache(maxsize=1024)
def cluster(text: str) -> str:
    """Read a cluster.

    Parameters
    ----------
    text
        Its name.

    Returns
    -------
    str
        The same.

    Raises
    ------
    ValueError
        See `jobeff.names.is_name`.
    """
    if not is_name(text):
        raise ValueError(f"not a cluster: {shown(text) or 'nothing'}")
    return text


def words(text: str) -> str | None:
    """Read free text.

    Parameters
    ----------
    text
        Anything; what is not UTF-8 may stand in it as surrogates.

    Returns
    -------
    str or None
        Text that any database takes, without the blanks around it.

    Raises
    ------
    ValueError
        It holds a NUL, with which file systems fill what was lost.
    """
    if "\0" in text:
        raise ValueError(f"it holds a NUL: {shown(text)}")
    text = text.strip()
    if text.lower() in NOTHING:
        return None
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("utf-8", "backslashreplace")


def size(text: str) -> int | None:
    """Read a number of bytes.

    Parameters
    ----------
    text
        Digits, or a number with a unit, such as ``1.5 TiB``, ``20G`` or ``512MB``; see `UNITS`.

    Returns
    -------
    int or None
        Rounded to the byte, half to even.

    Raises
    ------
    ValueError
        It is no such number, or 2**63 or more.
    """
    if len(text) <= 18 and text.isdigit() and text.isascii():
        return int(text)
    if text.lower() in NOTHING:
        return None
    match = _SIZE.fullmatch(text) if len(text) <= MAX_DIGITS else None
    if match is None:
        raise ValueError(f"not a size: {shown(text)}")
    unit = 1024 ** UNITS.index((match[2] or "").lower())
    value = _EXACT.multiply(Decimal(match[1]), Decimal(unit)).to_integral_value(context=_EXACT)
    if value > INT64_MAX:
        raise ValueError(f"a size of 2^63 bytes or more: {shown(text)}")
    return int(value)


def number(text: str) -> float | None:
    """Read a number that is not negative.

    Parameters
    ----------
    text
        Digits, with a decimal point or an exponent or without.

    Returns
    -------
    float or None
        Below 2**63.

    Raises
    ------
    ValueError
        It is no such number.
    """
    if text.lower() in NOTHING:
        return None
    if len(text) > MAX_DIGITS or _PLAIN.fullmatch(text) is None or (value := float(text)) > INT64_MAX:
        raise ValueError(f"not a number from 0 to 2^63: {shown(text)}")
    return value
