"""The whole chain against the oracle: any mixture of jobs, files and nights, for any number of workers."""

import contextlib
import math
import sqlite3
import tempfile
from pathlib import Path

import naive
import pytest
import sites
from conftest import MEMORY, dump
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import raw_texts, sampled_epochs, written_files

from jobeff.steps.rebuild import rebuild
from jobeff.steps.update import update
from jobeff.store import archive, tables

MONTH_END = 1_622_498_400  # 2021-06-01 00:00 in Stockholm
NODES = ("n1", "n2", "n3", "n10")


@st.composite
def histories(draw):
    """Jobs around the end of a month, few ids, so that attempts share files; their raw files; three nights."""
    spans = st.tuples(
        st.integers(1, 5),
        st.integers(-20, 12).map(lambda k: MONTH_END + 300 * k),
        st.sampled_from([0, 299, 300, 900, 1500, 1800, 3333]),
    )
    jobs = []
    for job_id, start, length in draw(st.lists(spans, min_size=2, max_size=7, unique_by=lambda s: s[:2])):
        started = draw(st.integers(0, 9)) > 0
        nodes = tuple(draw(st.lists(st.sampled_from(NODES), min_size=1, max_size=3, unique=True))) if started else ()
        cores = draw(st.integers(1, 6))
        state = draw(st.sampled_from(["COMPLETED", "NODE_FAIL", "TIMEOUT"]))
        end = start + length if nodes else start
        jobs.append(naive.Job(sites.CLUSTER, job_id, f"p{job_id % 2}", "u", start, end, cores, state, nodes))
    files = {}
    for job in jobs:
        for node in (*job.nodes, draw(st.sampled_from(NODES))):
            if draw(st.integers(0, 4)):
                spans = [(j.start, j.end) for j in jobs if j.job_id == job.job_id and node in j.nodes]
                usual = written_files(sorted(spans))
                text, extended = draw(
                    st.one_of(usual, usual, raw_texts(sampled_epochs(job.start, job.end), max_rows=8))
                )
                files[node, job.job_id] = naive.RawFile(sites.CLUSTER, node, job.job_id, text, extended)
    nights = [sites.Night() for _ in range(3)]
    for job in jobs:
        nights[draw(st.integers(0, 2))].jobs.append(job)
    for file in files.values():
        nights[draw(st.integers(0, 2))].files.append(file)
    return jobs, list(files.values()), nights


def efficiency(root: Path) -> dict[tuple[str, int, int], dict[str, object]]:
    connection = sqlite3.connect(tables.database(root, "efficiency"))
    connection.row_factory = sqlite3.Row
    with contextlib.closing(connection):
        return {(r["cluster"], r["job_id"], r["start"]): dict(r) for r in connection.execute("select * from jobs")}


def assert_same(found, expected) -> None:
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert found[key].keys() == row.keys()
        for column, value in row.items():
            if isinstance(value, float):
                assert math.isclose(found[key][column], value, rel_tol=1e-9, abs_tol=1e-12), (key, column)
            else:
                assert found[key][column] == value, (key, column)


@pytest.mark.parametrize(("workers", "examples"), [(0, 80), (1, 10), (2, 10)])
def test_nights_equal_one_night_equal_rebuild_equal_the_oracle(executors, workers, examples):
    @settings(max_examples=examples)
    @given(histories())
    def check(history):
        jobs, files, nights = history
        expected = naive.efficiency(jobs, files, timezone=sites.TIMEZONE)
        with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
            nightly = sites.make(Path(folder) / "nightly", workers, executors[workers])
            for i, night in enumerate(nights):
                night.fall(nightly.root, f"night-{i}")
                update(nightly)
            assert_same(efficiency(nightly.root), expected)
            before = dump(tables.database(nightly.root, "efficiency"))
            rebuild(nightly)
            assert dump(tables.database(nightly.root, "efficiency")) == before
            once = sites.make(Path(folder) / "once", workers, executors[workers])
            for i, night in enumerate(reversed(nights)):
                night.fall(once.root, f"night-{i}")
            update(once)
            assert dump(tables.database(once.root, "efficiency")) == before
            assert sites.result_of(update(once), "compute").counts["jobs"] == 0

    check()


@settings(max_examples=60)
@given(
    st.lists(raw_texts(sampled_epochs(MONTH_END, MONTH_END + 1500), max_rows=6), min_size=1, max_size=4),
    st.permutations(range(4)),
    st.integers(0, 3),
)
def test_several_files_of_one_job_and_node(texts, order, first_part):
    """A rewritten file stands beside the old one, a grown one takes its place, in whatever order they were archived."""
    # Of two equal texts the archive keeps one; which form it is said to have must then not matter.
    texts = list({text: (text, extended) for text, extended in texts}.values())
    job = naive.Job(sites.CLUSTER, 7, "p", "u", MONTH_END, MONTH_END + 1500, 2, "COMPLETED", ("n1",))
    files = [naive.RawFile(sites.CLUSTER, "n1", 7, text, extended) for text, extended in texts]
    files += [naive.RawFile(sites.CLUSTER, "n1", 7, text[: len(text) // 2], extended) for text, extended in texts[:1]]
    files = list({file.text: file for file in reversed(files)}.values())
    expected = naive.efficiency([job], files, timezone=sites.TIMEZONE)
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        site = sites.make(Path(folder) / "site")
        sites.write_log(site.root, "day", [job])
        month = archive.month_file(site.root, sites.CLUSTER, "2021-06")
        shuffled = [files[i] for i in order if i < len(files)] + files[4:]
        for some in (shuffled[:first_part], shuffled[first_part:]):
            raw = [archive.RawFile(f.node, f.job_id, f.text, f.extended) for f in some]
            archive.append(month, sites.CLUSTER, raw)
            update(site)
        assert_same(efficiency(site.root), expected)
        before = dump(tables.database(site.root, "efficiency"))
        rebuild(site)
        assert dump(tables.database(site.root, "efficiency")) == before
