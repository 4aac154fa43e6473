"""The other engines that benchmarks compare with: what they compute is what jobeff computes."""

import importlib.util
import math

import naive
import numpy as np
import pytest
import sites
from strategies import EXTENDED, PLAIN, local_time
from test_chain import MONTH_END, efficiency

from jobeff.bench import history, peers
from jobeff.config import load
from jobeff.steps.compute import compute
from jobeff.steps.ingest import ingest
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store import archive, tables


@pytest.fixture(params=["polars", "duckdb"])
def peer(request):
    """A peer by name, with as many threads as it has in this process."""
    if importlib.util.find_spec(request.param) is None:
        pytest.skip(f"{request.param} is not installed; pip install 'jobeff[bench]' brings it")
    if request.param == "duckdb":
        return lambda *where: peers.duckdb_rows(*where, 2)
    import polars

    return lambda *where: peers.polars_rows(*where, polars.thread_pool_size())


def assert_equal(peer, site, cluster):
    """The peer has a row for every job that jobeff has one for, with the same numbers."""
    table = peer(site.config.shards, tables.database(site.root, "accounting"), cluster)
    assert table.schema == peers.SCHEMA
    found = {(cluster, row["job_id"], row["start"]): row for row in table.to_pylist()}
    expected = efficiency(site.root)
    assert len(found) == table.num_rows
    assert found.keys() == expected.keys()
    for key, row in found.items():
        for column, value in row.items():
            right = expected[key][column]
            if isinstance(right, float) and value is not None:
                assert math.isclose(value, right, rel_tol=1e-9, abs_tol=1e-12), (key, column)
            else:
                assert value == right, (key, column)
    return expected


def test_a_history(tmp_path, peer):
    history.write(tmp_path / "site", history.Shape(nodes=20, jobs_per_day=300), 3)
    site = Site(load(tmp_path / "site" / "jobeff.toml"))
    ingest(site)
    compute(site, everything=True)
    rows = assert_equal(peer, site, history.CLUSTER)
    assert len(rows) > 500
    assert any(row["nodes_seen"] > 1 for row in rows.values())


def usage(random, first, rows, cores, extended, jitter):
    """A raw file, its rows about an interval apart, with limits of 0 and cores on both sides of 10 and 3 percent."""
    limit = random.choice([0, 8, 16])
    lines = [EXTENDED if extended else PLAIN]
    times = first + 300 * np.arange(rows) + random.integers(-jitter, jitter + 1, rows)
    for time in times:
        used = random.integers(0, 9) / 4
        most = f"{random.integers(-1, 9) / 4} " if extended else ""
        pages = "0 0 " if extended else ""
        loads = " ".join(str(load) for load in random.choice([0, 2.99, 3, 3.01, 10, 10.01, 50, 100], cores))
        lines.append(f"{local_time(time)} {time} {limit} {used} {most}0.5 {pages}{loads}")
    if random.random() < 0.3:
        lines.append("damaged")
    if random.random() < 0.1:
        lines = [lines[0], "all of it damaged"]
    return "\n".join([*lines, ""]).encode()


def test_jobs_on_several_nodes_with_several_files(tmp_path, peer):
    """Ties, unknown limits, nodes and files without a row, files that overlap, rows outside the job, both forms."""
    random = np.random.default_rng(7)
    site = sites.make(tmp_path / "site")
    jobs, raw = [], []
    for job_id in range(1, 200):
        nodes = tuple(f"n{i}" for i in random.permutation(5)[: random.choice([1, 1, 2, 3])])
        start = MONTH_END + int(random.integers(0, 86_400))
        length = int(random.integers(1, 20)) * 300
        cores = int(random.choice([1, 2, 4]))
        jobs.append(naive.Job(sites.CLUSTER, job_id, "p", "u", start, start + length, cores, "COMPLETED", nodes))
        for node in nodes:
            if random.random() < 0.1:
                continue
            files = int(random.integers(1, 4))
            # A job with one node and one file has its rows an interval apart: that is what `peers` takes it to be.
            jitter = 0 if len(nodes) == files == 1 else 100
            for _ in range(files):
                first = start + int(random.integers(-700, 700))
                rows = int(random.integers(1, length // 300 + 3))
                width = int(random.choice([cores, 4]))
                text = usage(random, first, rows, width, bool(random.random() < 0.5), jitter)
                raw.append(naive.RawFile(sites.CLUSTER, node, job_id, text, text.startswith(EXTENDED.encode())))
    sites.write_log(site.root, "day", jobs)
    month = archive.month_file(site.root, sites.CLUSTER, "2021-06")
    archive.append(month, sites.CLUSTER, [archive.RawFile(f.node, f.job_id, f.text, f.extended) for f in raw])
    update(site)
    rows = assert_equal(peer, site, sites.CLUSTER)
    assert len(rows) > 150
    assert any(row["mem_limit"] is None for row in rows.values())
    assert any(row["rejected"] for row in rows.values())


def test_raw_files_without_a_row_give_no_row(tmp_path, peer):
    site = sites.make(tmp_path / "site")
    job = naive.Job(sites.CLUSTER, 1, "p", "u", MONTH_END, MONTH_END + 3600, 1, "COMPLETED", ("n1",))
    sites.write_log(site.root, "day", [job])
    month = archive.month_file(site.root, sites.CLUSTER, "2021-06")
    archive.append(month, sites.CLUSTER, [archive.RawFile("n1", 1, f"{PLAIN}\n".encode(), False)])
    update(site)
    assert assert_equal(peer, site, sites.CLUSTER) == {}


def test_polars_with_another_number_of_threads_is_refused(tmp_path):
    """They are set when it is imported; a figure of as many cores as were not used would be wrong."""
    polars = pytest.importorskip("polars")
    with pytest.raises(ValueError, match=f"Polars has {polars.thread_pool_size()} threads"):
        peers.polars_rows(tmp_path, tmp_path / "none", sites.CLUSTER, polars.thread_pool_size() + 1)
