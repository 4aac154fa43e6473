"""The oracle against numbers known from elsewhere, and against each rule worked out by hand."""

from __future__ import annotations

import ast
import itertools
import statistics
import sys
from pathlib import Path

import naive
import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive import Job, RawFile, Sample, efficiency, parse

REAL = Path(__file__).resolve().parents[2] / "shared" / "data" / "jobstats"

T = 1_600_000_000
LOCAL = "2020-09-13T14:26:40"
PLAIN = "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core_busy_percentages->->->"
EXTENDED = "LOCALTIME TIME GB_LIMIT GB_USED GB_MAX_USED GB_SWAP_USED PAGE_IN PAGE_OUT Individual_core_busy"


def text(*lines: str) -> bytes:
    return "".join(line + "\n" for line in lines).encode()


def row(time: int, *cores: object, limit: object = 10.0, used: object = 1.0, swap: object = 0.0) -> str:
    return " ".join(str(cell) for cell in (LOCAL, time, limit, used, swap, *cores))


def wide(**cells: object) -> str:
    """Write an extended row, with some columns changed."""
    whole = {"LOCALTIME": LOCAL, "TIME": T, "GB_LIMIT": 10, "GB_USED": 1, "GB_MAX_USED": 2, "GB_SWAP_USED": 0}
    row_cells = {**whole, "PAGE_IN": 0, "PAGE_OUT": 0, "CORE": 50, **cells}
    return " ".join(str(cell) for cell in row_cells.values())


def file(node: str, *rows: str) -> RawFile:
    return RawFile("c", node, 1, text(PLAIN, *rows))


def job(*nodes: str, start: int = T, end: int = T + 600, cores: int = 2) -> Job:
    return Job("c", 1, "p1", "u1", start, end, cores, "COMPLETED", nodes)


def only(jobs: Job, *files: RawFile) -> dict[str, object]:
    rows = efficiency([jobs], files)
    assert list(rows) == [("c", 1, jobs.start)]
    return rows["c", 1, jobs.start]


def picked(numbers: dict[str, object], *names: str) -> tuple[object, ...]:
    return tuple(numbers[name] for name in names)


# Real files

GOLDEN = """
    kalkyl/q1/1   8 79.8625         8   0.7 0.7  23.5  1
    kalkyl/q1/10  8 48.8375         6   0.7 0.7  23.5  1
    kalkyl/q1/11  8 35.3125         4   0.7 0.7  23.5  1
    kalkyl/q1/2   8  0.730416666667 0   1.5 1.3  23.5 60
    kalkyl/q1/4   8 55.007432432432 8   2.8 1.9  23.5 37
    milou/m1/1   16  7.183333333333 1.5 0.7 0.7 252.2  3
"""
NUMBERS = ("cpu_mean", "cpu_cores_used_percentile", "mem_peak", "mem_median", "mem_limit", "counts")


@pytest.mark.skipif(not REAL.is_dir(), reason="the real usage files are not beside this checkout")
@pytest.mark.parametrize("line", GOLDEN.strip().splitlines())
def test_golden_values(line):
    path, cores, *expected = line.split()
    cluster, node, job_id = path.split("/")
    raw = (REAL / path).read_bytes()
    times = [int(columns.split()[1]) for columns in raw.splitlines()[1:]]
    spanning = Job(cluster, int(job_id), "p", "u", times[0], times[-1], int(cores), "COMPLETED", (node,))
    rows = efficiency([spanning], [RawFile(cluster, node, int(job_id), raw)])
    numbers = rows[cluster, int(job_id), times[0]]
    assert picked(numbers, *NUMBERS) == pytest.approx([float(number) for number in expected], rel=1e-9)
    assert picked(numbers, "rejected", "nodes_seen", "coverage") == (0, 1, 1.0)


# Reading

NUMBER_CELLS = {"-0.0": 0, "-.00": 0, ".5": 50, "5.": 500, "007": 700, "0.005": 1, "0.004" + "9" * 40: 0}
MEMORY_CELLS = {**NUMBER_CELLS, "21474836.47": 2**31 - 1, "21474836.474999": 2**31 - 1}
READ: dict[tuple[str, str], dict[str, object]] = {
    ("TIME", "time"): {"0": 0, "0" * 5000 + "7": 7, str(2**63 - 1): 2**63 - 1},
    ("LOCALTIME", "time"): {"2020-02-29T00:00:00": T, "0001-01-01T23:59:59": T},
    ("GB_LIMIT", "limit"): MEMORY_CELLS,
    ("GB_USED", "used"): MEMORY_CELLS,
    ("GB_SWAP_USED", "swap"): MEMORY_CELLS,
    # absent readings keep the row
    ("GB_MAX_USED", "max_used"): MEMORY_CELLS | dict.fromkeys(["-3.5", "NaN", "-inf", "21474836.475"]),
    ("PAGE_IN", "max_used"): dict.fromkeys(["-7253639", "+1.5", "nan", "-INF", "9" * 50], 200),
    ("PAGE_OUT", "max_used"): {"-.5": 200},
    ("CORE", "cores"): {
        **{cell: (value,) for cell, value in NUMBER_CELLS.items()},
        **dict.fromkeys(["100", "100.4", "101", "101.004"], (10000,)),
        "99.99": (9999,),
    },
}
NO_NUMBERS = "-0.01 +1 1e1 nan inf . - 1.2.3 1,5 0.0-7253639"
NO_MEMORY = NO_NUMBERS + " 21474836.475 " + "9" * 5000
INVALID = {
    "LOCALTIME": "2021-02-29T00:00:00 0000-01-01T00:00:00 2020-13-01T00:00:00 2020-01-01T24:00:00 "
    "2020-01-01T23:60:00 2020-01-01T23:59:60 2020-01-01T1:00:00 2020-01-01T00:00:00Z 20200101T000000",
    "TIME": f"{2**63} {'9' * 5000} -1 1.0 +1 1_0 \u0661",
    **dict.fromkeys(["GB_LIMIT", "GB_USED", "GB_SWAP_USED"], NO_MEMORY),
    "GB_MAX_USED": "0.0-7253639 1e5 +2.0 +inf - x",
    **dict.fromkeys(["PAGE_IN", "PAGE_OUT"], "0.0-7253639 1e5 +inf - x"),
    "CORE": NO_NUMBERS + " 101.005 101.5 6400 1e308",
}


@pytest.mark.parametrize(("column", "field"), READ)
def test_cells_that_can_be_read(column, field):
    for cell, value in READ[column, field].items():
        valid, rejected = parse(text(EXTENDED, wide(**{column: cell})), False)
        assert ([getattr(sample, field) for sample in valid], rejected) == ([value], 0), cell


@pytest.mark.parametrize("column", INVALID)
def test_cells_that_make_the_row_invalid(column):
    for cell in INVALID[column].split():
        assert parse(text(EXTENDED, wide(**{column: cell})), False) == ([], 1), cell


def test_swap_and_page_in_run_together():
    damaged = f"{LOCAL} {T + 300} 10.0 1.0 2.0 0.0-7253639 0 50.0 60.0"
    valid, rejected = parse(text(EXTENDED, wide(), damaged), False)
    assert (valid, rejected) == ([Sample(T, 1000, 100, 200, 0, (5000,))], 1)


def test_folder_decides_without_a_header_and_the_header_otherwise():
    line = f"{LOCAL} {T} 10 1 2 3 4 5 60 70"
    as_plain = Sample(T, 1000, 100, None, 200, (300, 400, 500, 6000, 7000))
    as_extended = Sample(T, 1000, 100, 200, 300, (6000, 7000))
    assert parse(text(line), False) == ([as_plain], 0)
    assert parse(text(line), True) == ([as_extended], 0)
    assert parse(text(PLAIN, line), True) == ([as_plain], 0)
    assert parse(text("", " \t\r", EXTENDED, line), False) == ([as_extended], 0)


def test_header_in_another_order_with_unknown_columns():
    header = "LOCALTIME GB_USED HOST GB_SWAP_USED GB_LIMIT TIME Individual_core"
    line = f"{LOCAL} 1.25 any-th1ng 0.5 10 {T} 1 2"
    assert parse(text(header, line), True) == ([Sample(T, 1000, 125, None, 50, (100, 200))], 0)


@pytest.mark.parametrize(
    "header",
    [
        "LOCALTIME TIME GB_LIMIT GB_USED Individual_core",
        "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED",
        "LOCALTIME TIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core",
        "LOCALTIME TIME GB_LIMIT GB_USED Individual_core GB_SWAP_USED",
    ],
)
def test_header_that_leaves_the_columns_unknown(header):
    assert parse(text(header, row(T, 1, 2), "", row(T + 300, 1, 2)), False) == ([], 2)


def test_header_that_names_every_core():
    header = "LOCALTIME TIME GB_LIMIT GB_USED GB_SWAP_USED Individual_core_0 Individual_core_1"
    assert parse(text(header, row(T, 1, 2)), False) == parse(text(PLAIN, row(T, 1, 2)), False)


def test_lines():
    raw = b"\n \r\n" + text(PLAIN, row(T, 1, 2) + "\r", "\0\0" + row(T + 1, 1, 2), row(T + 2, 1), PLAIN)
    raw += text(LOCAL + f"\t{T + 3}\v10\f1   0 3 4", f"{LOCAL} {T + 4} 10 1", f"{LOCAL} {T + 4} 10 1 0")
    raw += row(T - 5, 5, 6).encode()
    valid, rejected = parse(raw, False)
    assert [sample.time for sample in valid] == [T, T + 3, T - 5]
    # NUL run, one core instead of two, second header, no swap, no core
    assert rejected == 5


def test_first_valid_row_decides_the_number_of_cores():
    valid, rejected = parse(text(PLAIN, row(T, 1, "x", 3), row(T), row(T + 1, 1, 2), row(T + 2, 1, 2, 3)), False)
    assert ([sample.time for sample in valid], rejected) == ([T + 1], 3)


def test_a_time_is_taken_by_the_first_valid_row_that_has_it():
    rows = [row(T, 1, "x"), row(T, 1, 2), row(T, 3, 4), row(T + 1, 1), row(T + 1, 5, 6)]
    valid, rejected = parse(text(PLAIN, *rows), False)
    assert [(sample.time, sample.cores) for sample in valid] == [(T, (100, 200)), (T + 1, (500, 600))]
    assert rejected == 3


PIECES = [
    b"\n",
    b" ",
    b"\0",
    b"\xff",
    b"LOCALTIME",
    PLAIN.encode(),
    row(T, 1).encode(),
    row(T, 101.5).encode(),
]


@given(st.lists(st.sampled_from(PIECES)))
def test_every_line_is_valid_or_rejected(pieces):
    raw = b"".join(pieces)
    lines = [line for line in raw.split(b"\n") if line.strip()]
    valid, rejected = parse(raw, False)
    assert len(valid) + rejected == len(lines) - (bool(lines) and lines[0].split()[0] == b"LOCALTIME")


# Jobs


def test_rows_of_two_nodes_are_one_sampling_time_when_their_slots_agree():
    # both nodes: first - start < 300, so slots 0 and 1
    a = file("a", row(T + 10, 50, 50), row(T + 310, 50, 0))
    b = file("b", row(T + 200, 10.01, 0), row(T + 500, 10, 3))
    numbers = only(job("a", "b", cores=4), a, b)
    # sum 50 + 50 + 50 + 0 + 10.01 + 0 + 10 + 3, over 8 values = 2 rows x 4 cores
    assert numbers["cpu_mean"] == pytest.approx(173.01 / 8, rel=1e-12)
    # cores above 10 %: slot 0 has 2 + 1, slot 1 has 1 + 0; 75th percentile of 1, 3 is 1 + 0.75 x 2
    assert numbers["cpu_cores_used_percentile"] == 2.5
    # cores above 3 %: 2 + 1 and 1 + 1
    assert picked(numbers, "cores_used_peak", "counts", "coverage") == (3, 2, 1.0)


def test_a_core_is_busy_above_three_percent():
    assert only(job("a"), file("a", row(T, 3, 3.01)))["cores_used_peak"] == 1


def test_a_node_that_starts_late_begins_at_a_later_slot():
    a = file("a", row(T, 50, 0), row(T + 300, 50, 0), row(T + 600, 0, 0))
    b = file("b", row(T + 650, 50, 50))  # floor(650 / 300) = slot 2
    numbers = only(job("a", "b", end=T + 900, cores=4), a, b)
    # 1, 1, 0 + 2: the 75th percentile lies at place 1.5, between 1 and 2
    assert picked(numbers, "cpu_cores_used_percentile", "cores_used_peak", "counts") == (1.5, 2, 3)
    # expected 900 / 300 = 3 rows on each of 2 nodes; met 3 + 1
    assert numbers["coverage"] == pytest.approx(4 / 6, rel=1e-15)


def test_a_row_before_the_start_is_in_the_first_slot():
    # slot 0 on both nodes, 1 + 1 cores
    numbers = only(job("a", "b"), file("a", row(T - 200, 50, 0)), file("b", row(T, 50, 0)))
    assert picked(numbers, "cpu_cores_used_percentile", "cores_used_peak") == (2.0, 2)


def test_slots_round_half_to_even_and_the_later_row_of_a_slot_counts():
    # 150 / 300 = 0.5 -> 0, so the second row replaces the first; 450 / 300 = 1.5 -> 2 and 600 / 300 = 2
    rows = [row(T, 50, 50), row(T + 150, 50, 0), row(T + 450, 50, 50), row(T + 600, 0, 0)]
    numbers = only(job("a"), file("a", *reversed(rows)))
    # slot 0: 1 core, slot 2: 0 cores; the mean still uses every row: 250 / 8
    assert picked(numbers, "cpu_cores_used_percentile", "cpu_mean", "cores_used_peak") == (0.75, 31.25, 1)


def test_a_booked_node_without_rows_counts_as_idle():
    a = file("a", row(T, 100, 100, used=2), row(T + 300, 100, 100, used=4))
    numbers = only(job("a", "b", cores=4), a)
    # 400 / max(4 values, 2 rows x 4 cores); median of 2 and 4, no zeros for b; 2 of 2 x 2 expected rows
    assert picked(numbers, "cpu_mean", "mem_median", "coverage") == (50.0, 3.0, 0.5)
    assert picked(numbers, "nodes_booked", "nodes_seen", "nodelist") == (2, 1, "a,b")


def test_more_core_values_than_booked_are_all_in_the_mean():
    # one core booked, three measured: 90 / max(3, 1 x 1)
    assert only(job("a", cores=1), file("a", row(T, 30, 30, 30)))["cpu_mean"] == 30.0


@pytest.mark.parametrize(
    ("a", "b", "peak", "limit"),
    [
        ((5, 10), (6, 20), 5.0, 10.0),  # 0.5 > 0.3
        ((5, 10), (10, 20), 5.0, 10.0),  # 0.5 = 0.5: the first in the node list
        ((50, 0), (1, 10), 1.0, 10.0),  # an unknown limit comes after any known one
        ((5, 0), (6, 0), 6.0, None),  # among unknown ones the peak decides
        ((5, 0), (5, 0), 5.0, None),
    ],
)
def test_memory_is_that_of_the_node_nearest_to_its_limit(a, b, peak, limit):
    files = [file(node, row(T, 0, used=used, limit=of)) for node, (used, of) in (("n9", a), ("n1", b))]
    numbers = only(job("n9", "n1"), *files)
    assert picked(numbers, "mem_peak", "mem_limit") == (peak, limit)


def test_peak_limit_and_swap_are_the_largest_and_max_used_counts_where_larger():
    low, high = (f"{LOCAL} {T + i} {10 + i} 3 {top} {i}.5 0 0 1" for i, top in ((0, 2), (1, 4.25)))
    extended = RawFile("c", "a", 1, text(low, high), extended=True)
    assert picked(only(job("a"), extended), "mem_peak", "mem_limit", "swap_peak") == (4.25, 11.0, 1.5)


def test_window_is_one_interval_wider_than_the_job():
    rows = [row(time, 1) for time in (T - 301, T - 300, T + 900, T + 901)]
    assert only(job("a"), file("a", *rows))["counts"] == 2
    assert efficiency([job("a")], [file("a", rows[0], rows[3])]) == {}


def test_each_row_goes_to_one_attempt():
    first, second = job("a"), job("a", start=T + 1000, end=T + 1600)
    elsewhere = job("b", start=T + 700, end=T + 900)
    times = {
        T + 600: first,  # held
        T + 700: first,  # 100 s after the first, 300 s before the second; the third was not on this node
        T + 800: first,  # 200 s from both: the smaller start
        T + 850: second,  # 250 s and 150 s
        T + 1900: second,  # 300 s after: still within
        T + 1901: None,  # nobody's
    }
    raw = file("a", *(row(time, index) for index, time in enumerate(times)), "damaged")
    rows = efficiency([second, elsewhere, first], [raw])
    # each row's core value is its index: (0 + 1 + 2) / (3 rows x 2 cores), (3 + 4) / (2 rows x 2 cores)
    for attempt, mean in ((first, 0.5), (second, 1.75)):
        numbers = rows.pop(("c", 1, attempt.start))
        counts = list(times.values()).count(attempt)
        assert picked(numbers, "counts", "cpu_mean", "rejected") == (counts, mean, 1)
    assert rows == {}


def test_of_attempts_that_overlap_the_earlier_one_has_the_row():
    rows = efficiency([job("a", start=T + 100), job("a")], [file("a", row(T + 200, 1))])
    assert list(rows) == [("c", 1, T)]


def test_a_file_that_is_the_beginning_of_another_is_not_there():
    rows = [row(T, 10, 10), "damaged", row(T + 300, 20, 20)]
    numbers = only(job("a"), file("a", *rows[:2]), file("a", *rows), file("a"), file("a", *rows))
    assert picked(numbers, "counts", "rejected", "cpu_mean") == (2, 1, 15.0)


def test_a_rewritten_file_adds_what_the_earlier_one_lacks():
    early = file("a", row(T, 10), row(T + 300, 20), "damaged")
    late = file("a", row(T + 300, 90), row(T + 600, 30), "damaged", "damaged too")
    for files in itertools.permutations([early, late, file("a", "nothing valid here")]):
        numbers = only(job("a", cores=1), *files)
        # 10, 20 and 30; the 90 came second. 1 + 2 + 1 invalid rows, the repeated TIME is none
        assert picked(numbers, "counts", "rejected", "cpu_mean") == (3, 4, 20.0)


def test_invalid_rows_of_all_booked_nodes_are_counted():
    files = [file("a", row(T, 1), "x"), file("b", "x", "x"), file("elsewhere", "x")]
    assert picked(only(job("a", "b"), *files), "rejected", "nodes_seen") == (3, 1)


def test_jobs_without_nodes_or_samples_have_no_row_and_nodes_count_once():
    other = RawFile("other", "a", 1, text(row(T, 1)))
    assert efficiency([job(), job("a", start=T + 1)], [file("b", row(T, 1)), other]) == {}
    numbers = only(job("a", "b", "a"), file("a", row(T, 1), "x"), file("b", row(T, 1)))
    assert picked(numbers, "nodes_booked", "nodes_seen", "nodelist", "rejected") == (2, 2, "a,b", 1)


def test_columns_from_accounting_and_the_local_day():
    # 2020-12-31T23:30:00 UTC is already 2021 in Stockholm
    end = 1_609_457_400
    ended = Job("c", 1, "p1", "u1", end - 60, end, 2, "TIMEOUT", ("a",))
    raw = [file("a", row(end, 50, 100))]
    assert efficiency([ended], raw)["c", 1, end - 60] == {
        **{"job_id": 1, "cluster": "c", "proj_id": "p1", "user": "u1", "cpu_mean": 75.0, "cores": 2},
        **{"cpu_cores_used_percentile": 2.0, "mem_peak": 1.0, "mem_median": 1.0, "mem_limit": 10.0},
        **{"counts": 1, "state": "TIMEOUT", "date_finished": "2021-01-01", "nodelist": "a"},
        **{
            "start": end - 60,
            "end": end,
            "nodes_booked": 1,
            "nodes_seen": 1,
            "coverage": 1.0,
            "rejected": 0,
            "swap_peak": 0.0,
        },
        **{"cores_used_peak": 2, "definition": 1},
    }
    assert efficiency([ended], raw, timezone="UTC")["c", 1, end - 60]["date_finished"] == "2020-12-31"


def test_interval_is_that_of_the_cluster():
    # 30 s: the window ends 30 s after the job, 60 s apart are slots 0 and 2, 600 / 30 = 20 rows are expected
    numbers = efficiency([job("a")], [file("a", row(T, 50), row(T + 60, 0), row(T + 631, 0))], interval=30)
    assert picked(numbers["c", 1, T], "counts", "cpu_cores_used_percentile", "coverage") == (2, 0.75, 0.1)


def test_two_jobs_with_one_key_are_refused():
    with pytest.raises(ValueError, match="c/1: two jobs with the same start"):
        efficiency([job("a"), job("b")], [])


@given(st.lists(st.integers(0, 500), min_size=2).map(sorted))
def test_percentile_equals_the_library_s(numbers):
    assert naive._percentile75(numbers) == statistics.quantiles(numbers, n=4, method="inclusive")[2]


def test_the_oracle_shares_no_code_with_the_package():
    tree = ast.parse(Path(naive.__file__).read_text("utf-8"))
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert imported
    assert not [name for name in imported if name is None or name.split(".")[0] not in sys.stdlib_module_names]
