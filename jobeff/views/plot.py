"""What all plots share: matplotlib without a display, text that is only text, and the same bytes for the same job."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jobeff.errors import ConfigError, JobeffError, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito: told apart by the colour-blind; lines differ in style too, for print without colour.
BLUE, SKY, ORANGE, VERMILLION, PURPLE, GREEN = "#0072B2", "#56B4E9", "#E69F00", "#D55E00", "#CC79A7", "#009E73"
BLACK, GREY = "#000000", "#999999"

FORMATS = ("png", "svg")
DPI = 110

_STYLE: dict[str, Any] = {
    "text.usetex": False,
    "text.parse_math": False,  # a dollar sign in a name is one
    "font.size": 9.0,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.6,
    "axes.spines.top": False,
    "svg.hashsalt": "jobeff",
    "svg.fonttype": "path",
    "path.simplify": False,
}


def format_of(path: Path) -> str:
    """The format that a file's name asks for.

    Parameters
    ----------
    path
        Of the plot.

    Returns
    -------
    str
        One of `FORMATS`.

    Raises
    ------
    ConfigError
        It asks for none of them.
    """
    found = path.suffix.lower().removeprefix(".")
    if found not in FORMATS:
        raise ConfigError(f"cannot plot to {shown(str(path))}", why="its name ends in neither .png nor .svg")
    return found


@contextmanager
def styled() -> Iterator[None]:
    """Draw in our own style, whatever the user has configured.

    Yields
    ------
    None
        Figures made meanwhile have it.

    Raises
    ------
    JobeffError
        There is no matplotlib.
    """
    try:
        import matplotlib as mpl  # noqa: PLC0415  (an extra)
    except ImportError as error:
        raise JobeffError(
            "plots need matplotlib",
            why=str(error),
            todo="Install it: pip install 'jobeff[plot]', or in a clone scripts/environment plot",
        ) from error
    # The backend is not ours to set: figures are drawn by Agg or the SVG writer, without a display.
    ours: Any = {key: value for key, value in mpl.rcParamsDefault.items() if not key.startswith("backend")} | _STYLE
    with mpl.rc_context(ours):
        yield


def rendered(figure: Figure, form: str) -> bytes:
    """A figure as the bytes of a file, the same ones each time.

    Parameters
    ----------
    figure
        Made within `styled`, and drawn within it.
    form
        One of `FORMATS`.

    Returns
    -------
    bytes
        Without the date or the version of anything.
    """
    out = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None} if form == "png" else {"Date": None, "Creator": "jobeff"}
    figure.savefig(out, format=form, dpi=DPI, metadata=metadata)
    return out.getvalue()


def cut(text: str, most: int) -> str:
    """Input as it may stand in a title.

    Parameters
    ----------
    text
        Anything.
    most
        How many characters have room.

    Returns
    -------
    str
        Printable ASCII.
    """
    plain = shown(text)
    return plain if len(plain) <= most else plain[: most - 3] + "..."
