"""Kernels against the oracle. Run once more with the JIT off and once with bounds checks (scripts/test)."""

import itertools
import zlib

import naive
import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from strategies import ODD_CELLS, PLAIN, free_texts, local_time, printed_files, raw_texts, sampled_epochs

from jobeff.engine import block_kernels, file_kernels, node_kernels, part_kernels, quantile_kernels, samples
from jobeff.engine import jobs as month_jobs
from jobeff.engine.partials import empty_rows, node_rows
from jobeff.store import shards

T = 1_600_000_000


BEHIND = b"5" * 64
"""A row that ends where all text ends is read in another way than one that has some behind it."""


def parsed(texts):
    """What the kernel makes of raw files, in the oracle's words, whatever stands behind them."""
    found = parsed_before(texts, BEHIND)
    assert parsed_before(texts, b"") == found
    return found


def parsed_before(texts, behind):
    """The same of files before other text."""
    ends = np.cumsum([len(text) for text, _ in texts])
    whole = np.frombuffer(b"".join(text for text, _ in texts) + behind or b"\0", dtype=np.uint8)
    columns, _ = samples.parse(whole, ends - [len(t) for t, _ in texts], ends, np.array([e for _, e in texts]))
    results = []
    for i in range(len(texts)):
        row = {name: columns[name][i].as_py() for name in ("time", "limit", "used", "max_used", "swap", "core")}
        width = int(columns["cores"][i])
        most = row["max_used"] or [-1] * len(row["time"])
        found = [
            naive.Sample(t, lim, use, m if m >= 0 else None, s, tuple(row["core"][k * width : (k + 1) * width]))
            for k, (t, lim, use, m, s) in enumerate(
                zip(row["time"], row["limit"], row["used"], most, row["swap"], strict=True)
            )
        ]
        results.append((found, int(columns["rejected"][i])))
    return results


def expected(text, extended):
    valid, rejected = naive.parse(text, extended)
    return sorted(valid, key=lambda sample: sample.time), rejected


@given(st.lists(raw_texts(sampled_epochs(T, T + 3000)), min_size=1, max_size=3))
def test_parses_like_the_oracle(texts):
    assert parsed(texts) == [expected(*one) for one in texts]


@settings(max_examples=600)
@given(st.lists(printed_files(), min_size=1, max_size=3))
def test_guesses_like_the_oracle(printed):
    assert parsed(printed) == [expected(*one) for one in printed]


@given(free_texts, st.booleans())
@example(b"", False)
@example(b"\n\n", True)
@example(b"LOCALTIME", False)
def test_parses_anything_like_the_oracle(text, extended):
    assert parsed([(text, extended)]) == [expected(text, extended)]


@pytest.mark.parametrize("cell", ODD_CELLS)
@pytest.mark.parametrize("column", range(9))
def test_every_odd_cell_in_every_column(cell, column):
    cells = ["2020-09-13T12:26:40", str(T), "10", "1", "2", "0.5", "7", "8", "50"]
    cells[column] = cell
    text = " ".join(cells).encode()
    for extended in (False, True):
        assert parsed([(text, extended)]) == [expected(text, extended)]


@pytest.mark.parametrize("header", ["", "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED cores\n", f"{PLAIN}\n"])
def test_a_row_that_goes_on_behind_the_usual_columns(header):
    """Whatever stands before it, and however long that is, it is not taken for as much as is usual."""
    first, other, third = (f"{local_time(t)} {t} 8.0 1.2 0.0{50.0:6.1f}" for t in range(T, T + 900, 300))
    for more in (" x", "x", " 1.0", "5"):
        for length in range(len(first) + 3):
            text = "\n".join([header + first, "b" * length, other + more, third, ""]).encode()
            assert parsed([(text, False)]) == [expected(text, False)], (more, length)


def test_real_files(shared_data):
    files = sorted((shared_data / "jobstats").glob("*/*/*"))
    texts = [(file.read_bytes(), False) for file in files]
    assert len(files) == 6
    assert parsed(texts) == [expected(*one) for one in texts]


@given(st.lists(st.integers(0, 50) | st.integers(0, 2**31 - 1), min_size=1, max_size=40), st.integers(0, 4))
def test_quantile_is_numpys(values, quarters):
    for dtype in (np.int32, np.int64):
        amid = np.array([-(2**31), *values, 2**31 - 1], dtype=dtype)
        found = quantile_kernels.quantile(amid, 1, len(values) + 1, quarters)
        assert found == pytest.approx(np.percentile(values, 25 * quarters), rel=1e-12)


ROOM = st.sampled_from([0, 1, 31, 32, 33])  # elements behind what is asked for: whole blocks can be read, or not
LENGTHS = st.sampled_from([1, 2, 3, 4, 5, 15, 16, 17, 31, 32, 33, 34, 63, 64, 65, 100])
MOST = st.sampled_from([0, 1, 2, 7, 500, 2**31 - 1])


@given(LENGTHS, ROOM, MOST, st.integers(0, 2**31 - 1), st.integers(0, 2**32))
def test_memory_of_a_file(length, behind, most, least, seed):
    values = np.random.default_rng(seed).integers(min(least, most), most, length, endpoint=True)
    amid = np.array([2**31 - 1, *values, *[2**31 - 1, 0] * 17], dtype=np.int32)[: 1 + length + behind]
    found = block_kernels.largest(amid, np.int64(1), np.int64(1 + length))
    assert found == values.max()
    for quarters in range(5):
        mine = quantile_kernels.quantile_up_to(
            amid, np.int64(1), np.int64(1 + length), np.int64(found), np.int64(quarters)
        )
        assert mine == quantile_kernels.quantile(amid, np.int64(1), np.int64(1 + length), np.int64(quarters))
        assert mine == pytest.approx(np.percentile(values, 25 * quarters), rel=1e-12)


@given(st.integers(1, 200), st.integers(0, 200), st.integers(0, 4))
def test_quantile_of_ones_is_numpys(count, how_many, quarters):
    how_many = min(count, how_many)
    found = quantile_kernels.quantile_of_ones(np.int64(count), np.int64(how_many), np.int64(quarters))
    assert found == np.percentile([0] * (count - how_many) + [1] * how_many, 25 * quarters)


@given(
    LENGTHS,
    ROOM,
    st.sampled_from([1, 2, 3, 8, 31, 32, 33, 64, 70]),
    st.sampled_from([0, -1, 1]),
    st.integers(0, 2**32),
)
def test_cores_of_a_file(length, behind, width, odd, seed):
    random = np.random.default_rng(seed)
    cores = random.choice(np.array([0, 300, 301, 1000, 1001, 65535], dtype=np.uint16), (length, width))
    flat = np.array([65535, *cores.ravel(), *[65535, 0] * 17], dtype=np.uint16)[: 1 + cores.size + behind]
    assert block_kernels.sum_of_cores(flat, np.int64(1), np.int64(1 + cores.size)) == cores.sum(dtype=np.int64)
    assert block_kernels.ones_above(flat, np.int64(1), np.int64(1 + cores.size), np.int64(300)) == (cores > 300).sum()
    time = np.array([7, *(300 * np.arange(length) + 5), *[9] * 34])[: 1 + length + behind]
    time[1 + random.integers(length)] += odd  # still the same sampling times
    is_regular = block_kernels.is_regular(time, np.int64(1), np.int64(1 + length), np.int64(300))
    assert is_regular == (np.diff(time[1 : 1 + length]) == 300).all()
    marks = [np.full(cores.size // 32 + 2, 2**32 - 1, dtype=np.uint32) for _ in range(2)]
    high = np.full(length + 1, 77, dtype=np.int32)
    found, most = node_kernels.busy_rows(
        np.int64(300), np.int64(1000), np.int64(300), time, np.int64(1), np.int64(1 + length),
        flat, np.int64(1), np.int64(width), *marks, high,
    )  # fmt: skip
    assert (found, most) == (length, (cores > 300).sum(axis=1).max())
    assert high.tolist() == [*(cores > 1000).sum(axis=1).tolist(), 77]


INTERVAL = 300
steps = st.sampled_from([INTERVAL] * 8 + [1, 149, 150, 151, 299, 301, 449, 450, 451, 599, 600, 601, 1500])


@st.composite
def files_of_a_node(draw):
    """Jobs on one node with one raw file each or none: start, end, cores booked, and the file's text and form."""
    found = []
    for _ in range(draw(st.integers(1, 4))):
        start = T + draw(st.integers(0, 3000))
        end = start + draw(st.integers(0, 9000))
        time, rows = start + draw(st.integers(-700, 700)), []
        width, most = draw(st.sampled_from([1, 1, 2, 3, 9])), draw(st.booleans())
        for _ in range(draw(st.integers(0, 10))):
            loads = [
                draw(st.sampled_from(["0.0", "3.0", "3.1", "10.0", "10.1", "99.9", "100.0"])) for _ in range(width)
            ]
            limit, used, top, swap = (f"{draw(st.integers(0, 99)) / 10}" for _ in range(4))
            cells = [local_time(time), str(time), limit, used, *([top] if most else []), swap]
            rows.append(" ".join([*cells, *(["0", "0"] if most else []), *loads]))
            time += draw(steps)
        text = "\n".join(rows).encode() if rows or draw(st.booleans()) else None
        found.append((start, end, draw(st.integers(1, 24)), text, most))
    return found


@given(files_of_a_node())
def test_rows_of_a_node_are_the_oracles(made):
    jobs = month_jobs.from_rows(
        [
            (n, start, end, cores, "r1", "p", "u", "COMPLETED", "2020-09-13")
            for n, (start, end, cores, *_) in enumerate(made)
        ],
        len(made),
    )
    there = [n for n, (*_, text, _) in enumerate(made) if text is not None]
    texts = [made[n][3] for n in there]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    whole = np.frombuffer(b"".join(texts) or b"\0", dtype=np.uint8)
    forms = np.array([made[n][4] for n in there], dtype=np.bool_)
    columns, _ = samples.parse(whole, ends - np.array([len(text) for text in texts], dtype=np.int64), ends, forms)
    zeros = np.zeros(len(there), dtype=np.int64)
    table = shards.table_of({**columns, "job_id": there, "offset": zeros, "bytes": zeros, "crc32": zeros})
    rows = empty_rows(len(made))
    attempts = np.arange(len(made))
    count, left = node_rows(shards.samples_of(table), INTERVAL, jobs, attempts, np.zeros_like(attempts), rows, 0)
    assert not len(left.job)
    accounting = [
        naive.Job("c", n, "p", "u", start, end, cores, "COMPLETED", ("r1",))
        for n, (start, end, cores, *_) in enumerate(made)
    ]
    files = [naive.RawFile("c", "r1", n, made[n][3], made[n][4]) for n in there]
    expected = naive.efficiency(accounting, files, INTERVAL, "UTC")
    assert rows.job[:count].tolist() == [job_id for _, job_id, _ in expected]
    for row, numbers, floats in zip(expected.values(), rows.numbers, rows.floats, strict=False):
        assert numbers.tolist() == [row[name] for name in ("counts", "nodes_seen", "rejected", "cores_used_peak")]
        names = (
            "cpu_mean",
            "cpu_cores_used_percentile",
            "mem_peak",
            "mem_median",
            "mem_limit",
            "coverage",
            "swap_peak",
        )
        assert floats.tolist() == pytest.approx(
            [np.nan if row[name] is None else row[name] for name in names], rel=1e-12, nan_ok=True
        )


@given(st.integers(0, 10**6), st.integers(0, 10**6), st.integers(0, 10**6), st.sampled_from([1, 60, 300, 301]))
def test_slot_is_pythons_round(since, first, start, interval):
    found = part_kernels.slot_of(first + since, first, start, interval)
    assert found == round(since / interval) + max(0, first - start) // interval


ROW = b"2013-11-01T09:33:22  1383294802      23.5       0.7           0.0  75.2  72.2\n"


@pytest.mark.parametrize("harm", [b"\0", b" ", b"x", b"9", b"-", b".", b"\n", b"\x80", b"\xb0"])
@pytest.mark.parametrize("first", [True, False])
def test_a_damaged_byte_anywhere_in_a_row(harm, first):
    """Also where as many bytes as a date's are equal to what the kernel remembers before it has seen one."""
    later = ROW[:29] + b"99" + ROW[31:]
    files = []
    for at in range(len(ROW)):
        for length in (1, 2, 11):
            damaged = ROW[:at] + harm * len(ROW[at : at + length]) + ROW[at + length :]
            files.append((damaged + later if first else later + damaged, False))
    assert parsed(files) == [expected(*file) for file in files]
    assert [parsed([file]) for file in files[:9]] == [[expected(*file)] for file in files[:9]]


def usual_row(extended, epoch, width):
    pages = f"{12:12d}{345:12d}" if extended else ""
    memory = f"{23.5:10.1f}{0.7:10.1f}" + (f"{11.2:14.1f}" if extended else "") + f"{0.0:14.1f}"
    cores = "".join(f"{core:6.1f}" for core in [75.2, 100.0, 0.0, 101.0, 9.9, 12.3, 45.6][:width])
    return f"{local_time(epoch)}{epoch:12d}{memory}{pages}{cores}\n".encode()


@pytest.mark.parametrize("extended", [False, True])
@pytest.mark.parametrize("width", [1, 2, 5, 7])
def test_each_byte_of_a_usual_row(extended, width):
    """Each of them replaced by each other one; and each two next to each other, by some."""
    row, later = usual_row(extended, T, width), usual_row(extended, T + 300, width)
    slow = numba.config.DISABLE_JIT or numba.config.BOUNDSCHECK
    bytes_of_one, bytes_of_two = (b" 0:\xb9", b" 9") if slow else (range(256), b" 0129.:-\n")
    damaged = [row[:at] + bytes([byte]) + row[at + 1 :] for at in range(len(row)) for byte in bytes_of_one]
    damaged += [
        row[:at] + bytes(two) + row[at + 2 :]
        for at in range(len(row) - 1)
        for two in itertools.product(bytes_of_two, repeat=2)
    ]
    files = [(one + later, extended) for one in damaged]
    assert parsed_before(files, BEHIND) == [expected(*file) for file in files]


@pytest.mark.parametrize("extended", [False, True])
def test_usual_rows_of_any_width_and_number(extended):
    """Cores are read some at once."""
    files = []
    for width, rows in itertools.product(range(1, 24), (1, 2, 3)):
        epochs = range(T, T + 300 * rows, 300)
        cores = [[(7.3 * i + 13 * width + epoch / 30) % 101.1 for i in range(width)] for epoch in epochs]
        whole = [
            usual_row(extended, epoch, 0)[:-1] + "".join(f"{one:6.1f}" for one in of_row).encode() + b"\n"
            for epoch, of_row in zip(epochs, cores, strict=True)
        ]
        files.append((b"".join(whole), extended))
    assert parsed(files) == [expected(*file) for file in files]
    assert [parsed([file]) for file in files] == [[expected(*file)] for file in files]
    assert all(len(found) > 0 for found, _ in parsed(files))


def test_a_file_without_any_line_end():
    text = (PLAIN + " " * 10).encode()
    assert parsed([(text, False)]) == [([], 0)]


@given(st.lists(st.binary(max_size=5000), max_size=5))
def test_raw_files_have_the_checksum_of_zlib(texts):
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    begins = ends - np.array([len(text) for text in texts], dtype=np.int64)
    whole = np.frombuffer(b"".join(texts) or b"\0", dtype=np.uint8)
    found, _ = samples.parse_arrays(whole, begins, ends, np.zeros(len(texts), dtype=np.bool_))
    assert found["crc32"].tolist() == list(map(zlib.crc32, texts))


@pytest.mark.parametrize(("begin", "end"), [(-1, 5), (5, 4), (5, 11), (11, 11)])
def test_a_raw_file_outside_the_text_is_refused(begin, end):
    text = np.zeros(10, dtype=np.uint8)
    text.setflags(write=False)
    with pytest.raises(ValueError, match="within"):
        samples.parse_arrays(text, np.array([0, begin]), np.array([10, end]), np.zeros(2, dtype=np.bool_))


@given(
    st.lists(
        st.tuples(
            st.sampled_from([-1, 0, 5, 2**32 - 1]), st.sampled_from([0, 5, 2**32 - 1]), st.booleans(), st.integers(0, 9)
        )
    )
)
def test_what_came_of_raw_files(files):
    said, crc32, known, rejected = ([one[column] for one in files] for column in range(4))
    arrays = (
        np.array(said, np.int64),
        np.array(crc32, np.uint32),
        np.array(known, np.bool_),
        np.array(rejected, np.int32),
    )
    for array in (arrays[1], arrays[3]):
        array.setflags(write=False)
    wrong = sum(to_be >= 0 and to_be != found for to_be, found in zip(said, crc32, strict=True))
    assert file_kernels.outcome(*arrays) == (wrong, known.count(False), sum(rejected))
