"""What sites can meet, made up: raw files whole and damaged, jobs, attempts, nodes."""

from datetime import UTC, datetime

from hypothesis import strategies as st

INTERVAL = 300
PLAIN = "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core_busy_percentages->->->"
EXTENDED = (
    "LOCALTIME TIME GB_LIMIT GB_USED GB_MAX_USED GB_SWAP_USED PAGE_IN PAGE_OUT Individual_core_busy_percentages->->->"
)
ODD_HEADERS = (
    "LOCALTIME GB_USED HOST GB_SWAP_USED GB_LIMIT TIME Individual_core_0 Individual_core_1",
    "LOCALTIME TIME GB_LIMIT GB_USED Individual_core",
    "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core GB_MAX_USED",
    "LOCALTIME TIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core",
    "LOCALTIM TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core",
    "LOCALTIME",
)
ODD_CELLS = (
    "nan", "inf", "-inf", "-1", "-0.0", "-0.001", "1e308", "1e2", "+1.5", "6400.0", "100.4", "100.999", "101.0",
    "101.004", "101.005", "0.005", "0.004999", "99.995", ".5", "5.", ".", "", "-", "0.0-7253639", "21474836.47",
    "21474836.475", "99999999999999999999", "9223372036854775807", "9223372036854775808", "x", "0x1F", "1_0", "\0\0",
    "２",
)  # fmt: skip


def local_time(epoch: int) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%S")


odd_local_times = st.sampled_from(
    ["2021-02-29T00:00:00", "2020-02-29T00:00:00", "0000-01-01T00:00:00", "2021-13-01T00:00:00", "2021-01-01T24:00:00",
     "2021-01-01 00:00:00", "2021-01-01T00:00:60", "2021-01-01T00:00:0", "LOCALTIME", "1900-02-29T10:00:00"]
)  # fmt: skip
percent = st.one_of(st.sampled_from([0, 0, 300, 301, 1000, 1001, 10_000, 10_000]), st.integers(0, 10_000)).map(
    lambda n: f"{n / 100:.2f}" if n % 10 else f"{n / 100:.1f}"
)
gib = st.integers(0, 30_000).map(lambda n: f"{n / 100:.2f}" if n % 10 else f"{n / 100:.1f}")
blank = st.sampled_from([" ", "   ", "\t", " \r ", "\v", "\f"])


@st.composite
def rows(draw, epochs, width, extended):
    """One line: mostly valid, sometimes with a cell, a column or the whole line damaged."""
    epoch = draw(epochs)
    cells = [local_time(min(epoch, 2**33)), str(epoch), draw(gib), draw(gib)]
    if extended:
        cells += [draw(gib), draw(gib), str(draw(st.integers(-(10**6), 10**6))), "12"]
    else:
        cells.append(draw(st.sampled_from(["0.0", "0.0", "0.3"])))
    cells += draw(st.lists(percent, min_size=width, max_size=width))
    harm = draw(st.integers(0, 39))
    at = draw(st.integers(0, len(cells) - 1))
    if harm == 0:
        cells[at] = draw(st.sampled_from(ODD_CELLS))
    elif harm == 1:
        del cells[at]
    elif harm == 2 and at + 1 < len(cells):
        cells[at : at + 2] = [cells[at] + cells[at + 1]]
    elif harm == 3:
        cells.append(draw(percent))
    elif harm == 4:
        cells[0] = draw(odd_local_times)
    elif harm == 5:
        cells = cells[:at]
    line = draw(blank).join(cells) if harm == 6 else "  ".join(cells)
    return draw(st.sampled_from(["", " ", "\0\0\0\0", PLAIN, "\x80garbage"])) if harm == 7 else line


@st.composite
def raw_texts(draw, epochs, max_rows=12):
    """A raw file: header or not, rows, final newline or not; and whether it came from the extended folder."""
    extended = draw(st.booleans())
    header = draw(st.sampled_from(["own", "own", "own", "none", "other", "odd"]))
    columns_extended = extended if header in ("own", "none") else draw(st.booleans())
    width = draw(st.integers(1, 4))
    lines = draw(st.lists(rows(epochs, width, columns_extended), min_size=1, max_size=max_rows))
    if header == "own":
        lines.insert(0, EXTENDED if extended else PLAIN)
    elif header == "other":
        lines.insert(0, EXTENDED if columns_extended else PLAIN)
    elif header == "odd":
        lines.insert(0, draw(st.sampled_from(ODD_HEADERS)))
    text = "\n".join(lines).encode("utf-8", "surrogateescape")
    if draw(st.integers(0, 3)):
        text += b"\n"
    if draw(st.integers(0, 9)) == 0:
        text = text[: draw(st.integers(0, len(text)))]
    return text, extended


@st.composite
def written_files(draw, spans):
    """A raw file as a sampler writes it during some jobs, one row per interval, seldom damaged; and its form."""
    extended, width = draw(st.booleans()), draw(st.integers(1, 4))
    lines = [EXTENDED if extended else PLAIN]
    for start, end in spans:
        phase = draw(st.integers(0, INTERVAL - 1))
        for epoch in range(start + phase, min(end, start + 8 * INTERVAL) + 1, INTERVAL):
            moved = epoch + draw(st.sampled_from([0, 0, 0, 0, 1, 150, -301]))
            lines.append(draw(rows(st.just(moved), width, extended)))
    return "\n".join(lines).encode("utf-8", "surrogateescape"), extended


@st.composite
def printed_files(draw):
    """A file in the exact widths of a sampler, then some of its bytes changed; and its form."""
    extended, width = draw(st.booleans()), draw(st.integers(1, 3))
    lines = [EXTENDED if extended else PLAIN] if draw(st.booleans()) else []
    epoch = draw(st.sampled_from([1_600_000_000, 999_999_000, 1_601_510_000]))
    for _ in range(draw(st.integers(1, 6))):
        epoch += draw(st.sampled_from([300, 300, 300, 0, -300, 86_400]))
        used, most = draw(st.integers(0, 9999)) / 10, draw(st.integers(0, 9999)) / 10
        limit, swap = draw(st.sampled_from([23.5, 23.5, 0, 999999.9])), draw(st.sampled_from([0, 0, 0.3, 12345678.9]))
        pages = draw(st.one_of(st.integers(-99, 99), st.integers(0, 10**9)))
        line = f"{local_time(epoch)}{epoch:12d}{limit:10.1f}{used:10.1f}"
        line += f"{most:14.1f}{swap:14.1f}{pages:12d}{7:12d}" if extended else f"{swap:14.1f}"
        lines.append(
            line
            + "".join(
                f"{core / 10:6.1f}" for core in draw(st.lists(st.integers(0, 1012), min_size=width, max_size=width))
            )
        )
    text = bytearray("\n".join(lines).encode() + b"\n" * draw(st.integers(0, 1)))
    for _ in range(draw(st.integers(0, 3))):
        text[draw(st.integers(0, len(text) - 1))] = draw(st.sampled_from(b" 0159.-+n\n\t\0T:/"))
    return bytes(text), extended


def sampled_epochs(start: int, end: int):
    """Mostly at the sampling interval, sometimes anywhere near, seldom nonsense."""
    steps = (end - start) // INTERVAL + 4
    regular = st.integers(-2, steps).map(lambda k: max(0, start + k * INTERVAL + 7))
    near = st.integers(max(0, start - 3 * INTERVAL), end + 3 * INTERVAL)
    return st.one_of(regular, regular, regular, near, st.sampled_from([0, 2**40, 2**63 - 1]))


free_texts = st.one_of(
    st.binary(max_size=300),
    st.lists(st.sampled_from(list("0123456789.-+ \t\r\n:TnaifE\0")), max_size=200).map(lambda c: "".join(c).encode()),
)
