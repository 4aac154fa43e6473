"""Jobs on several nodes: merged in any order and grouping, in memory or by way of files, a row is the same."""

import collections
import fractions

import naive
import numpy as np
import pytest
import sites
from conftest import dump
from hypothesis import given
from hypothesis import strategies as st
from test_chain import assert_same, efficiency
from test_compute import START, a_job, usage

from jobeff.engine import jobs as month_jobs
from jobeff.engine import shared
from jobeff.engine.partials import Parts
from jobeff.engine.plan import balanced
from jobeff.steps import computing as step
from jobeff.steps.compute import compute
from jobeff.steps.rebuild import rebuild
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store.tables import database

INTERVAL = 300
JOBS, NODES = 3, 6
RECORDS = [(7 + i, 0, 300 * (2 + i), 4, ",".join(f"n{n}" for n in range(NODES)), "p", "u", "S", "d") for i in range(3)]

values = st.one_of(st.sampled_from([0, 0, 70, 70]), st.integers(0, 300), st.integers(0, 2**31 - 1))
times = st.one_of(st.integers(0, 8), st.integers(0, 2**40))
nodes = st.builds(
    lambda slots, used, *sums: (sorted(slots.items()), used, *sums),
    st.dictionaries(times, st.tuples(st.integers(0, 40), st.integers(0, 40)), min_size=1, max_size=5),
    st.lists(values, min_size=1, max_size=6),
    st.integers(0, 2**40),  # core_sum
    st.integers(1, 50),  # core_values
    st.sampled_from([0, 50, 100, 150, 2**31 - 1]),  # peak
    st.sampled_from([0, 50, 100, 2**31 - 1]),  # limit
    st.integers(0, 5),  # swap
    st.integers(0, 3),  # rejected
)
EMPTY = ([], [], 0, 0, 0, 0, 0, 2)
knows = st.dictionaries(
    st.tuples(st.integers(0, JOBS - 1), st.integers(0, NODES - 1)), st.one_of(nodes, nodes, st.just(EMPTY)), max_size=14
)


def parts_of(some):
    """What one node knows of several jobs: {(job, rank): what}."""
    keys = sorted(some)
    found = [some[key] for key in keys]
    slots = [one for what in found for one in what[0]]
    ends = [np.cumsum([len(what[i]) for what in found], dtype=np.int64) for i in range(2)]
    begins = [end - [len(what[i]) for what in found] for i, end in enumerate(ends)]
    sums = np.array([what[2:] for what in found], dtype=np.int64).reshape(len(found), 6).T
    return Parts(
        np.array([job for job, _ in keys], dtype=np.int64),
        np.array([rank for _, rank in keys], dtype=np.int64),
        np.array([len(what[1]) for what in found], dtype=np.int64),
        *sums,
        begins[0], ends[0], begins[1], ends[1],
        np.array([time for time, _ in slots], dtype=np.int64),
        np.array([busy for _, (busy, _) in slots], dtype=np.int32),
        np.array([light for _, (_, light) in slots], dtype=np.int32),
        np.array([value for what in found for value in what[1]], dtype=np.int32),
    )  # fmt: skip


def quantile(numbers, quarters):
    numbers = sorted(numbers)
    at = fractions.Fraction(quarters * (len(numbers) - 1), 4)
    low, high = numbers[int(at)], numbers[min(int(at) + 1, len(numbers) - 1)]
    return float(low + (high - low) * (at - int(at)))


def plain_row(job, some):
    """The row of a job as METRICS says, in plain Python; None without a valid row."""
    _, start, end, cores, *_ = RECORDS[job]
    valid = {rank: what for rank, what in some.items() if what[1]}
    if not valid:
        return None
    busy, light = collections.Counter(), collections.Counter()
    for slots, *_ in valid.values():
        for time, (one, other) in slots:
            busy[time] += one
            light[time] += other
    counts = max(len(what[1]) for what in valid.values())
    expected = max(1, (end - start) // INTERVAL)

    def rank_of(rank):
        peak, limit = valid[rank][4:6]
        return (0, -fractions.Fraction(peak, limit), rank) if limit else (1, -peak, rank)

    best = valid[min(valid, key=rank_of)]
    numbers = (counts, len(valid), sum(what[7] for what in some.values()), max(light.values()))
    cpu = sum(what[2] for what in valid.values())
    return numbers, (
        cpu / (100 * max(sum(what[3] for what in valid.values()), counts * cores)),
        quantile([busy[time] for time in busy], 3),
        best[4] / 100,
        quantile([value for what in valid.values() for value in what[1]], 2) / 100,
        best[5] / 100 if best[5] else np.nan,
        sum(min(len(what[1]), expected) for what in valid.values()) / (expected * NODES),
        max(what[6] for what in valid.values()) / 100,
    )


def rows(found):
    jobs = month_jobs.from_rows(RECORDS, len(RECORDS))
    result = shared.rows_of(found, INTERVAL, jobs)
    return {
        job: (tuple(numbers), tuple(floats))
        for job, numbers, floats in zip(
            result.job.tolist(), result.numbers.tolist(), result.floats.tolist(), strict=True
        )
    }


def same(one, other):
    return all(np.array_equal(getattr(one, name), getattr(other, name)) for name in ("parts", "slots", "used"))


@given(st.data(), knows)
def test_merging_is_exact_in_any_order_and_grouping(data, some):
    jobs = month_jobs.from_rows(RECORDS, len(RECORDS))
    by_node = [{key: what for key, what in some.items() if key[1] == node} for node in range(NODES)]
    pieces = [shared.of_nodes([parts_of(one)], INTERVAL, jobs) for one in data.draw(st.permutations(by_node)) if one]
    if not pieces:
        return
    whole = shared.of_nodes([parts_of(one) for one in by_node if one], INTERVAL, jobs)
    while len(pieces) > 1:  # any tree
        first = data.draw(st.integers(0, len(pieces) - 2))
        last = data.draw(st.integers(first + 2, len(pieces)))
        pieces[first:last] = [shared.merged(pieces[first:last])]
    assert same(pieces[0], whole)
    expected = {
        job: row
        for job in range(JOBS)
        if (row := plain_row(job, {rank: what for (of, rank), what in some.items() if of == job})) is not None
    }
    found = rows(whole)
    assert found.keys() == expected.keys()
    for job, (numbers, floats) in expected.items():
        assert found[job][0] == numbers
        assert found[job][1] == pytest.approx(floats, rel=1e-12, nan_ok=True)


@given(knows, st.integers(1, 4), st.sampled_from([1, 3, 10, 1 << 20]))
def test_what_is_written_down_is_merged_the_same(tmp_path_factory, some, files, at_once):
    jobs = month_jobs.from_rows(RECORDS, len(RECORDS))
    by_node = [{key: what for key, what in some.items() if key[1] == node} for node in range(NODES)]
    by_node = [one for one in by_node if one]
    if not by_node:
        return
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shared, "AT_ONCE", at_once)
        paths = []
        for number, group in enumerate(balanced(by_node, [1] * len(by_node), files)):
            paths.append(folder / f"{number}")
            shared.write(paths[-1], [shared.of_nodes([parts_of(one) for one in group], INTERVAL, jobs)])
        ranges = list(shared.by_range(paths))
        shared.write(folder / "all", ranges)
        (again,) = shared.by_range([folder / "all"]) if at_once > 10 else (shared.merged(ranges),)
    assert [job for one in ranges for job in one.job.tolist()] == sorted({job for job, _ in some})
    whole = shared.of_nodes([parts_of(one) for one in by_node], INTERVAL, jobs)
    assert same(again, whole)


@pytest.mark.parametrize(("rows_at_once", "files_at_once"), [(1, 2), (8, 2), (8, 3)])
def test_a_site_whose_parts_are_written_down_has_the_same_rows(tmp_path, monkeypatch, rows_at_once, files_at_once):
    jobs = [a_job(1, length=6000, nodes=tuple(f"n{i}" for i in range(1, 10)))]
    jobs += [a_job(i, START + 600 * i, nodes=(f"n{i % 9 + 1}", f"n{(i + 3) % 9 + 1}")) for i in range(2, 12)]
    jobs += [a_job(i, nodes=(f"n{i % 9 + 1}",)) for i in range(12, 20)]
    files = [
        naive.RawFile(
            job.cluster, node, job.job_id, usage(2 + k, (17 * job.job_id + k) % 100, 5.0, first=job.start + k)
        )
        for job in jobs
        for k, node in enumerate(job.nodes)
    ]
    site = sites.make(tmp_path / "site")
    sites.Night(jobs, files).fall(site.root, "day")
    monkeypatch.setattr(shared, "AT_ONCE", rows_at_once)
    monkeypatch.setattr(step, "MERGED_AT_ONCE", files_at_once)
    merges = []
    merge = step.reduce.merge_shared
    monkeypatch.setattr(step.reduce, "merge_shared", lambda task: (merges.append(task), merge(task))[1])
    update(site)
    assert merges, "a tree"
    assert_same(efficiency(site.root), naive.efficiency(jobs, files))
    before = dump(database(site.root, "efficiency"))
    compute(site, everything=True)
    rebuild(Site(sites.config(site.root)))
    assert dump(database(site.root, "efficiency")) == before
