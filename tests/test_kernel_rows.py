"""From raw text to rows by the kernels alone, as plain Python: the oracle's rows, whatever the attempts and files.

`scripts/test` runs it without the JIT; compiled, the same goes through the whole site in `test_chain`.
"""

import itertools
import zlib
from collections import defaultdict

import naive
import numba
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from strategies import local_time

from jobeff.engine import jobs as month_jobs
from jobeff.engine import samples, shared
from jobeff.engine.partials import OF_SLOTS, PER_PART, Left, PartsRoom, empty_rows, node_parts, node_rows, rows_alone
from jobeff.engine.plan import attempts_by_node
from jobeff.store import shards

pytestmark = [
    pytest.mark.skipif(not numba.config.DISABLE_JIT, reason="needs NUMBA_DISABLE_JIT=1; scripts/test runs it so"),
    pytest.mark.filterwarnings("ignore:overflow encountered"),
]

T = 1_600_000_000
FLOATS = ("cpu_mean", "cpu_cores_used_percentile", "mem_peak", "mem_median", "mem_limit", "coverage", "swap_peak")
NUMBERS = ("counts", "nodes_seen", "rejected", "cores_used_peak")


def samples_of(files):
    """A node's raw files as its shard has them."""
    texts = [file.text for file in files]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    begins = ends - np.array([len(text) for text in texts], dtype=np.int64)
    whole = np.frombuffer(b"".join(texts) or b"\0", dtype=np.uint8)
    arrays, _ = samples.parse_arrays(whole, begins, ends, np.array([file.extended for file in files], dtype=np.bool_))
    ids = np.array([file.job_id for file in files], dtype=np.int64)
    return shards.Columns(job_id=ids, offset=begins, bytes=ends - begins, **arrays).samples()


def in_order(files):
    """By job id, and those of one as their samples stand in time, see METRICS."""

    def key(file):
        valid, _ = naive.parse(file.text, file.extended)
        first = min((sample.time for sample in valid), default=0)
        return file.job_id, first, len(file.text), zlib.crc32(file.text)

    return sorted(files, key=key)


def rows_by_kernels(jobs, files, interval):
    """Rows by (job id, start), as the oracle has them but for what accounting says."""
    records = [(j.job_id, j.start, j.end, j.cores, ",".join(j.nodes), "p", "u", "S", "d") for j in jobs]
    month = month_jobs.from_rows(records, len(records))
    attempts = attempts_by_node(month)
    found, parts, room = [], [], PartsRoom()
    for number, node in enumerate(attempts.node):
        span = slice(attempts.begin[number], attempts.begin[number + 1])
        job, rank = attempts.job[span], attempts.rank[span]
        ids, starts, ends = (array[job] for array in (month.job_id, month.start, month.end))
        mine = samples_of(in_order([file for file in files if file.node == node]))
        left = Left(np.stack([job, rank, ids, starts, ends]), len(job), int(mine.row_begin[-1]), 0)
        alone = month.booked[job] == 1
        if not alone.any():
            room.add(mine, interval, left)
            continue
        some = node_parts(mine, interval, left)
        found.append(rows_alone(some, interval, month, alone))
        if not alone.all():
            parts.append(some.where(~alone))
    if parts or room.count:
        found.append(shared.rows_of(shared.of_nodes([room.parts(), *parts], interval, month), interval, month))
    rows = {}
    for some in found:
        for job, numbers, floats in zip(some.job.tolist(), some.numbers.tolist(), some.floats.tolist(), strict=True):
            rows[jobs[job].job_id, jobs[job].start] = dict(zip(NUMBERS + FLOATS, numbers + floats, strict=True))
    return rows


def rows_at_once(jobs, files, interval, wanted):
    """Rows of jobs on one node that have left one raw file at most; what is left is as it should be."""
    records = [(j.job_id, j.start, j.end, j.cores, ",".join(j.nodes), "p", "u", "S", "d") for j in jobs]
    month = month_jobs.from_rows(records, wanted)
    attempts = attempts_by_node(month)
    rows, before = {}, 2
    for number, node in enumerate(attempts.node):
        span = slice(attempts.begin[number], attempts.begin[number + 1])
        mine, ranks = attempts.job[span], attempts.rank[span]
        there = samples_of(in_order([file for file in files if file.node == node]))
        kept = empty_rows(len(mine) + before)
        count, found = node_rows(there, interval, month, mine, ranks, kept, before)
        left = np.isin(mine, found.job)
        several = {i for i in mine.tolist() if (month.job_id[mine] == month.job_id[i]).sum() > 1}
        several |= {i for i in mine.tolist() if (there.job_id == month.job_id[i]).sum() > 1}
        parted = [i in several or i >= wanted or month.booked[i] != 1 for i in mine.tolist()]
        # Of several attempts of one job all are left, or none.
        parted = [
            any(p for i, p in zip(mine, parted, strict=True) if month.job_id[i] == month.job_id[one]) for one in mine
        ]
        assert left.tolist() == parted
        assert found.job.tolist() == mine[left].tolist()
        assert found.attempts[1, : found.length].tolist() == ranks[left].tolist()
        for name, column in (("job_id", 2), ("start", 3), ("end", 4)):
            assert found.attempts[column, : found.length].tolist() == getattr(month, name)[found.job].tolist()
        assert found.shared == sum(one < wanted and month.booked[one] > 1 for one in found.job.tolist())
        ids = {int(month.job_id[one]) for one, is_left in zip(mine, left, strict=True) if is_left}
        sizes = np.diff(there.row_begin)
        assert found.samples == sum(
            size for job_id, size in zip(there.job_id.tolist(), sizes.tolist(), strict=True) if job_id in ids
        )
        some = (array[before:count].tolist() for array in (kept.job, kept.numbers, kept.floats))
        for job, numbers, floats in zip(*some, strict=True):
            assert not left[mine.tolist().index(job)]
            rows[jobs[job].job_id, jobs[job].start] = dict(zip(NUMBERS + FLOATS, numbers + floats, strict=True))
        quick = {(jobs[one].job_id, jobs[one].start) for one, is_left in zip(mine, left, strict=True) if not is_left}
        yield rows, quick
        rows = {}


def assert_as_the_oracle(jobs, files, interval=300):
    expected = naive.efficiency(jobs, files, interval)
    found = rows_by_kernels(jobs, files, interval)
    assert found.keys() == {key[1:] for key in expected}
    assert_same_rows(found, expected)
    for wanted in {len(jobs), len(jobs) - 1}:
        for rows, quick in rows_at_once(jobs, files, interval, wanted):
            mine = {key: row for key, row in expected.items() if key[1:] in quick}
            assert rows.keys() == {key[1:] for key in mine}
            assert_same_rows(rows, mine)


def assert_same_rows(found, expected):
    for (_, *key), row in expected.items():
        mine = found[tuple(key)]
        assert [mine[name] for name in NUMBERS] == [row[name] for name in NUMBERS]
        numbers = [row[name] if row[name] is not None else np.nan for name in FLOATS]
        assert [mine[name] for name in FLOATS] == pytest.approx(numbers, rel=1e-9, nan_ok=True)


def text_of(rows, extended):
    """Raw text of (time, limit, used, most, swap, cores) in tenths."""
    lines = []
    for time, limit, used, most, swap, cores in rows:
        line = f"{local_time(time)}{time:12d}{limit / 10:10.1f}{used / 10:10.1f}"
        line += f"{most / 10:14.1f}{swap / 10:14.1f}{1:12d}{2:12d}" if extended else f"{swap / 10:14.1f}"
        lines.append(line + "".join(f"{core / 10:6.1f}" for core in cores) + "\n")
    return "".join(lines).encode()


LEVELS = st.sampled_from([0, 29, 30, 31, 50, 99, 100, 101, 1000])
MEMORY = st.sampled_from([0, 0, 5, 10, 20, 235])


@st.composite
def texts(draw, starts, interval):
    """A file of a few rows, mostly one interval after the other, near one of the starts."""
    time = draw(st.sampled_from(starts)) + draw(st.sampled_from([0, 7, interval, -interval, -interval - 1]))
    width = draw(st.integers(1, 3))
    extended = draw(st.booleans())
    rows = []
    for _ in range(draw(st.integers(0, 6))):
        cores = draw(st.lists(LEVELS, min_size=width, max_size=width))
        rows.append((time, *(draw(MEMORY) for _ in range(4)), cores))
        time += draw(
            st.sampled_from([interval] * 4 + [0, 1, -interval, interval // 2, interval + interval // 2, 5 * interval])
        )
    return text_of(rows, extended), extended


@st.composite
def sites(draw):
    """Jobs on one or two of two nodes, some run more than once, and raw files."""
    interval = draw(st.sampled_from([300, 60, 301]))
    jobs, files = [], []
    for job_id in range(1, draw(st.integers(1, 3)) + 1):
        starts = sorted(
            draw(st.sets(st.sampled_from([T, T + 100, T + 2 * interval, T + 9 * interval]), min_size=1, max_size=2))
        )
        for start in starts:
            nodes = draw(st.sampled_from([("n1",), ("n2",), ("n1", "n2"), ("n2", "n1", "n3")]))
            length = draw(st.sampled_from([1, interval - 1, interval, 3 * interval, 6 * interval + 1]))
            jobs.append(naive.Job("c", job_id, "p", "u", start, start + length, draw(st.integers(1, 4)), "S", nodes))
        for node in ("n1", "n2"):
            for text, extended in draw(st.lists(texts(starts, interval), max_size=2)):
                files.append(naive.RawFile("c", node, job_id, text, extended))
    # Of files of which one begins another the shard has one only; that is not the kernels' work.
    by_node = defaultdict(list)
    for file in files:
        by_node[file.node, file.job_id].append(file)
    return jobs, [file for some in by_node.values() for file in naive._without_prefixes(some)], interval


@given(sites())
def test_rows_are_those_of_the_oracle(site):
    assert_as_the_oracle(*site)


def a_job(job_id=1, start=T, length=1500, cores=2, nodes=("n1",)):
    return naive.Job("c", job_id, "p", "u", start, start + length, cores, "S", nodes)


def row(time, limit=235, used=10, most=10, swap=0, cores=(50, 500)):
    return time, limit, used, most, swap, cores


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("extended", [False, True])
def test_what_stands_where(others, extended):
    """Each number has its largest, first or last value at one place, with one attempt of the job and with two."""
    jobs = [a_job(), *[a_job(start=T + 10**6)] * others]
    for field, values in itertools.product(range(1, 5), itertools.permutations((0, 10, 20))):
        rows = [list(row(T + 300 * i)) for i in range(3)]
        for one, value in zip(rows, values, strict=True):
            one[field] = value
        assert_as_the_oracle(jobs, [naive.RawFile("c", "n1", 1, text_of(rows, extended), extended)])
    for cores in itertools.product((29, 30, 31, 100, 101), repeat=2):
        rows = [row(T, cores=(0, 40)), row(T + 300, cores=cores), row(T + 600, cores=(0, 100))]
        assert_as_the_oracle(jobs, [naive.RawFile("c", "n1", 1, text_of(rows, extended), extended)])


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("interval", [2, 3, 300, 301])
def test_rows_at_the_edges_of_a_job_and_between_sampling_times(interval, others):
    length = 5 * interval
    jobs = [a_job(length=length), *[a_job(start=T + 10**6)] * others]
    edges = (-interval - 1, -interval, -1, 0, length, length + interval, length + interval + 1)
    half = interval // 2
    for first, *steps in itertools.product(edges, (half, interval, interval + half), (interval, half + 1)):
        times = [T + first + step for step in itertools.accumulate([0, *steps, interval, half])]
        rows = [row(time, used=10 + i, cores=(500 * (i % 2), 500)) for i, time in enumerate(times)]
        assert_as_the_oracle(jobs, [naive.RawFile("c", "n1", 1, text_of(rows, False), False)], interval)


@pytest.mark.parametrize("nodes", [("n1", "n2"), ("n2", "n1"), ("n3", "n1", "n2")])
def test_nodes_of_a_job(nodes):
    """Of the same rank the first of the node list; a limit that is not known ranks last."""
    jobs = [a_job(nodes=nodes), a_job(2, nodes=("n1",)), a_job(3, nodes=("n2", "n1"))]
    memory = [(0, 5), (0, 10), (20, 5), (40, 10), (20, 10), (235, 0)]
    for (limit, used), (other, more) in itertools.product(memory, repeat=2):
        files = [
            naive.RawFile("c", node, job, text_of([row(T, big, peak), row(T + 300 * late, big, peak)], False), False)
            for job in (1, 2, 3)
            for node, big, peak, late in (("n1", limit, used, 1), ("n2", other, more, job))
        ]
        assert_as_the_oracle(jobs, files)


@example([0, 0, 0, 0, 1], 3)
@given(st.lists(st.integers(0, 3), min_size=1, max_size=9), st.integers(1, 3))
def test_medians_and_percentiles(values, booked):
    """Of one node and of two, that have some values in common."""
    rows = [row(T + 300 * i, used=value, cores=[500] * value + [0] * (3 - value)) for i, value in enumerate(values)]
    texts_of_nodes = {"n1": text_of(rows, False), "n2": text_of(rows[1:], False)}
    jobs = [a_job(1, length=3000, cores=booked), a_job(2, length=3000, cores=booked, nodes=("n1", "n2"))]
    files = [naive.RawFile("c", node, job, text, False) for job in (1, 2) for node, text in texts_of_nodes.items()]
    assert_as_the_oracle(jobs, files)


def test_many_jobs_and_nodes():
    """Jobs without files, files of no job, between others; of more nodes than have any."""
    jobs = [
        a_job(i, T + 40 * i, 300 * (i % 7), 1 + i % 3, tuple(f"n{n}" for n in range(1 + i % 4))) for i in range(2, 30)
    ]
    files = [
        naive.RawFile(
            "c",
            f"n{n}",
            i,
            text_of([row(T + 40 * i + 300 * k, used=i + k, swap=n) for k in range(i % 5)], i % 2 == 0),
            i % 2 == 0,
        )
        for i in range(0, 33, 2)
        for n in range(3)
    ]
    assert_as_the_oracle(jobs, files)


def test_memory_for_parts_grows_and_is_taken_again():
    """Of many nodes there is the same as of each alone, whatever was there before."""
    texts = [text_of([row(T + 300 * i, used=node + i) for i in range(node % 5)], False) for node in range(40)]
    mine = [samples_of([naive.RawFile("c", f"n{node}", 7, text, False)]) for node, text in enumerate(texts)]
    left = [
        Left(np.array([[9], [node], [7], [T], [T + 900]]), 1, int(one.row_begin[-1]), 1)
        for node, one in enumerate(mine)
    ]
    room = PartsRoom()
    for some in (range(40), range(3), range(39, -1, -1)):
        room.clear()
        assert (room.count, room.size) == (0, 0)
        for node in some:
            room.add(mine[node], 300, left[node])
        alone = [node_parts(mine[node], 300, left[node]) for node in some]
        whole = room.parts()
        assert room.count == len(some)
        assert room.size == sum(len(one.slots) + len(one.used) for one in alone)
        for name in (*PER_PART, *OF_SLOTS, "used"):
            assert getattr(whole, name).tolist() == np.concatenate([getattr(one, name) for one in alone]).tolist(), name
        for name in ("slot", "used"):
            sizes = getattr(whole, f"{name}_end") - getattr(whole, f"{name}_begin")
            assert sizes.tolist() == [int(getattr(one, f"{name}_end")[0]) for one in alone]
