"""`jobeff job`: advice, coverage in words, usage over time, and every number walked back to its rows."""

import io
import json
import math
import sqlite3
import sys
from array import array
from dataclasses import replace

import naive
import pytest
import sites
from conftest import dump
from hypothesis import given
from hypothesis import strategies as st
from strategies import PLAIN, local_time

from jobeff.clock import Clock
from jobeff.config import load
from jobeff.simulate import DemoOptions, write_site
from jobeff.steps.site import Site
from jobeff.steps.update import update
from jobeff.store.tables import EFFICIENCY_COLUMNS, database
from jobeff.views import advice, coverage, evidence, job, job_text, sparklines, start, why
from jobeff.views.flags import flags, name_of

START = 1_622_498_400  # 2021-06-01 00:00 in Stockholm
CLOCK = Clock(sites.TIMEZONE)


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """Configuration of a synthetic site after an update; nobody changes it."""
    folder = tmp_path_factory.mktemp("demo") / "site"
    write_site(folder, DemoOptions(jobs=200, nodes=8, days=5))
    config = load(folder / "jobeff.toml")
    update(Site(config, 0))
    return config


def all_jobs(config):
    ids = sorted({(row[8], row[1]) for row in dump(database(config.root, "accounting"))})
    return [one for cluster, job_id in ids for one in job.find(config, job.Wanted(cluster, job_id))]


# Each number and the rows it came from


def test_every_number_of_every_job_is_found_again(demo):
    explained = 0
    for one in all_jobs(demo):
        if one.efficiency is None:
            continue
        case = why.Case(demo, one)
        for column in EFFICIENCY_COLUMNS:
            found = why.explain(case, column)
            stored = one.efficiency[column]
            assert found.value == (pytest.approx(stored, rel=1e-9, abs=0) if isinstance(stored, float) else stored)
            assert not found.differs
            for _, row in found.rows:
                line = found.lines[row.node, row.time]
                archived = (demo.root / line.file).read_bytes()[line.offset :].split(b"\n")[0]
                assert archived.split()[1] == str(row.time).encode()
            assert max(map(len, why.lines(case, found))) < 300
            explained += 1
    assert explained > 90 * len(EFFICIENCY_COLUMNS)


def test_a_number_that_is_not_that_of_its_rows_is_told(demo):
    one = next(one for one in all_jobs(demo) if one.efficiency and one.efficiency["mem_peak"] > 1)
    changed = replace(one, efficiency={**one.efficiency, "mem_peak": one.efficiency["mem_peak"] + 0.01})
    found = why.explain(why.Case(demo, changed), "mem_peak")
    assert found.differs
    assert "jobeff check" in "\n".join(why.lines(why.Case(demo, changed), found))
    assert why.as_dict(why.Case(demo, changed), found)["differs"]


def made(tmp_path, jobs, files):
    site = sites.make(tmp_path / "site")
    sites.Night(jobs, files).fall(site.root, "day")
    update(site)
    return site


def raw(job_id, node, rows, first=START, cores=(50.0,), used=1.25):
    lines = [
        f"{local_time(t)} {t} 8.0 {used} 0.0 {' '.join(map(str, cores))}" for t in range(first, first + 300 * rows, 300)
    ]
    return naive.RawFile("c1", node, job_id, "\n".join([PLAIN, *lines, ""]).encode())


def booked(job_id, nodes=("n1",), start=START, length=1800, cores=1, state="COMPLETED"):
    return naive.Job("c1", job_id, "p", "u", start, start + length, cores, state, nodes)


def test_why_on_the_command_line(run, tmp_path):
    site = made(tmp_path, [booked(1), booked(2, length=20)], [raw(1, "n1", 6)])
    file = site.config.file
    code, out, _ = run("-c", file, "job", 1, "--why", "mem_median")
    assert (code, out.splitlines()[0]) == (0, "c1/1: mem_median = 1.25")
    assert "mean of rows 3 and 4 of 6" in out
    assert out.splitlines()[-1].split() == ["stored", "the", "same"]
    code, out, _ = run("-c", file, "--json", "job", 1, "--why", "all")
    assert (code, [one["column"] for one in json.loads(out)]) == (0, list(EFFICIENCY_COLUMNS))
    assert run("-c", file, "job", 1, "--why", "mem")[0] == 2
    code, _, err = run("-c", file, "job", 2, "--why", "mem_peak")
    assert (code, "no numbers to explain" in err) == (1, True)
    with sqlite3.connect(database(site.root, "efficiency")) as connection:
        connection.execute("update jobs set counts = 7")
    connection.close()
    code, out, _ = run("-c", file, "job", 1, "--why", "counts")
    assert (code, "differs: 6 was computed again" in out) == (12, True)
    shard = next((site.root / "shards" / "c1" / "n1").glob("*.parquet"))
    shard.write_bytes(b"x" * 100)
    code, _, err = run("-c", file, "job", 1, "--why", "counts")
    assert (code, str(shard) in err) == (1, True)
    code, out, _ = run("-c", file, "job", 1)
    assert (code, "node n1 unknown, since the shard is damaged" in out) == (0, True)
    shard.unlink()
    assert "no row of job" in run("-c", file, "job", 1, "--why", "counts")[2]


# Advice


def view(cores=16, used=16, peak=100.0, limit=128.0, swap=0.0, nodes=1, seen=None, state="COMPLETED", rows=12, **more):
    seen = nodes if seen is None else seen
    row = {
        **{"cluster": "c1", "nodelist": "n", "cores": cores, "cores_used_peak": used, "mem_peak": peak},
        **{"mem_limit": limit, "swap_peak": swap, "nodes_booked": nodes, "nodes_seen": seen, "counts": rows},
        **{"coverage": seen / nodes, **more},
    }
    names = ",".join(f"n{i}" for i in range(nodes))
    known = {"nodes": names, "cores": cores, "start": START, "end": START + 3600, "jobstate": state}
    return job.JobView(known, row, 300, ((names, START, START + 3600),), (128, 256))


def advised(one, every=False):
    return advice.of_job(one, flags(one.efficiency, one.node_types, every))


@pytest.mark.parametrize(
    ("one", "why_not"),
    [
        (view(used=1, state="FAILED"), "FAILED"),
        (view(used=1, state="CANCELLED by 1000"), "CANCELLED"),
        (view(used=1, state="NODE_FAIL"), "NODE_FAIL"),
        (view(used=1, state="OUT_OF_MEMORY"), "first ask for more memory than 128 GiB"),
        (view(used=1, rows=1), "1 row on the node with most"),
        (view(used=1, rows=2), "2 rows"),
        (view(used=1, coverage=0.79), "79 %"),
        (view(used=1, nodes=4, seen=2, coverage=0.35), "35 %"),
        (view(used=0, peak=1.0), "no core was busy"),
    ],
)
def test_no_advice_where_a_job_says_too_little(one, why_not):
    found = advised(one)
    assert (found.sentences, found.ask) == ([], None)
    assert why_not in found.withheld


def test_advice_on_cores_and_memory():
    """4 of 16 cores, 10 of 128 GiB: 13 GiB are asked for, which 2 cores of 8 GiB have; 12 of 16 core hours saved."""
    found = advised(view(16, 4, 10.0))
    assert found.ask == advice.Ask(nodes=1, cores=4, memory_gib=13, saved_core_hours=12)
    assert [name_of(flag) for flag, _ in found.sentences] == [
        *("overbooked", "!!half_overbooked", "cores_overbooked", "mem_overbooked", "core_mem_overbooked"),
    ]
    assert all("12.0 of 16.0 core hours saved" in said for _, said in found.sentences[:3])


def test_memory_keeps_cores():
    """1 busy core, 50 GiB: with head room 63 GiB, which are 8 cores of 8 GiB."""
    assert advised(view(16, 1, 50.0)).ask == advice.Ask(1, 8, 63, 8)
    full = advised(view(16, 1, 127.0))
    assert full.ask is None
    assert "keep its cores" in dict(full.sentences)["cores_overbooked:16:1"]


def test_nodes_that_are_not_needed():
    """40 of 80 cores on 4 nodes, 20 GiB each: 2 nodes, which have to hold what 4 held."""
    assert advised(view(80, 40, 20.0, nodes=4)).ask == advice.Ask(2, 40, 50, 40)
    assert (
        "ask for 2 nodes: 40.0 of 80.0"
        in dict(advised(view(80, 40, nodes=4, seen=2)).sentences)["nodes_overbooked:4:2"]
    )


def test_what_swapped_needs_more_memory_and_saves_nothing():
    small = advised(view(1, 1, 6.0, 6.4, swap=2.0))
    assert small.ask == advice.Ask(1, 2, 10, 0)
    whole = advised(view(20, 20, 127.0, 128.0, swap=20.0))
    assert whole.ask == advice.Ask(1, 20, 184, 0)
    assert "nodes with more memory" in whole.sentences[0][1]
    assert advised(view(20, 20, 60.0, 128.0, swap=2.0)).ask is None


def test_a_smaller_node_is_advised_only_where_it_has_head_room():
    roomy, tight = advised(view(16, 16, 90.0, 256.0)), advised(view(16, 16, 120.0, 256.0))
    assert "is enough" in dict(roomy.sentences)["node_type_overbooked:256:128"]
    assert "keep 256 GiB" in dict(tight.sentences)["node_type_overbooked:256:128"]


def test_on_a_smaller_node_less_memory_comes_with_each_core():
    """18 of 256 GiB: 23 GiB are 2 of 20 cores there, but on the node of 128 GiB that is advised they are 4."""
    found = advised(view(20, 2, 18.0, 256.0))
    assert "a node of 128 GiB is enough" in dict(found.sentences)["node_type_overbooked:256:128"]
    assert found.ask == advice.Ask(1, 4, 23, 16)


def test_each_node_gets_as_many_cores():
    """33 busy cores of 100 on 5 nodes fill 2 nodes; 17 on each."""
    assert advised(view(100, 33, 1.0, nodes=5)).ask.cores == 34


def test_an_unknown_limit_is_said():
    found = advised(view(16, 4, 10.0, None))
    assert found.ask == advice.Ask(1, 4, None, 12)
    assert "memory limit is not known" in found.sentences[0][1]


@given(
    cores=st.integers(1, 40),
    used=st.integers(1, 40),
    nodes=st.integers(1, 4),
    limit=st.integers(1, 25_600),
    share=st.floats(0, 1),
)
def test_who_follows_the_advice_fits_and_is_told_to_book_no_less(cores, used, nodes, limit, share):
    cores, limit = cores * nodes, limit / 100
    peak = round(limit * share, 2)
    one = replace(view(cores, min(used, cores), peak, limit, nodes=nodes), node_types=())
    ask = advised(one, every=True).ask
    if ask is None:
        return
    assert 1 <= ask.nodes <= nodes
    assert one.efficiency["cores_used_peak"] <= ask.cores < cores
    assert ask.saved_core_hours == cores - ask.cores
    each = limit * nodes / cores * ask.cores / ask.nodes  # memory that comes with the cores on each node
    assert peak * nodes <= each * ask.nodes * (1 + 1e-9)
    # Booked so, only whole cores and whole GiB are left to save.
    booked_so = view(ask.cores, one.efficiency["cores_used_peak"], peak * nodes / ask.nodes, each, nodes=ask.nodes)
    again = advised(replace(booked_so, node_types=()))
    if again.ask is not None and nodes == 1:
        assert ask.cores - again.ask.cores <= 1


# Coverage


def samples(node, times):
    return evidence.NodeSamples(
        node, [evidence.Sample(node, t, 800, 125, None, 0, array("H", [5000]), 0, 0) for t in times]
    )


def a_view(nodes, length=3600):
    names = ",".join(nodes)
    known = {"nodes": names, "cores": len(nodes), "start": START, "end": START + length, "jobstate": "COMPLETED"}
    return job.JobView(known, None, 300, ((names, START, START + length),))


EVERY = range(START, START + 3600, 300)


@pytest.mark.parametrize(
    ("nodes", "words"),
    [
        ({"n1": EVERY}, ["complete: 12 rows"]),
        ({"n1": EVERY, "n2": EVERY}, ["complete: 24 rows of 2 nodes"]),
        ({"n1": EVERY, "r31": ()}, ["12 of 24 rows expected (50 %)", "node r31 booked but never used (no sample)"]),
        ({"r32": EVERY[:6]}, ["6 of 12 rows expected (50 %)", "node r32 lost after 00:25"]),
        ({"r32": EVERY[4:]}, ["8 of 12 rows expected (66 %)", "node r32 not seen before 00:20"]),
        ({"n1": [*EVERY[:4], *EVERY[7:]]}, ["9 of 12 rows expected (75 %)", "node n1 with a gap"]),
        ({"n1": [*EVERY[:4], *EVERY[5:]]}, ["11 of 12 rows expected (91 %)"]),
        (
            {f"n{i}": EVERY[:i] for i in range(1, 7)},
            ["21 of 72 rows expected (29 %)", "6 nodes (n1, n2, n3, n4 and 2 more) lost after 00:00 to 00:25"],
        ),
        ({"n1": ()}, ["none: no raw file with a valid row is known of it ('jobeff update' takes new ones)"]),
        ({}, ["none: the job never started"]),
    ],
)
def test_coverage_in_words(nodes, words):
    found = coverage.of_job(a_view(list(nodes)), [samples(node, times) for node, times in nodes.items()], CLOCK)
    assert found.words == words


def test_coverage_of_odd_jobs():
    short = a_view(["n1"], 20)
    assert "too short" in coverage.of_job(short, [samples("n1", ())], CLOCK).words[0]
    damaged = replace(samples("n1", ()), rejected=3)
    assert coverage.of_job(a_view(["n1"]), [damaged], CLOCK).words == [
        *("none: its raw files hold no valid row (3 damaged)",),
    ]
    days = a_view(["n1"], 86_400)
    assert "lost after 2021-06-01 00:55" in coverage.of_job(days, [samples("n1", EVERY)], CLOCK).words[1]


def test_coverage_in_words_is_the_coverage_of_the_row(demo):
    for one in all_jobs(demo):
        found = coverage.of_job(one, list(evidence.of_job(demo, one)), demo.clock)
        if one.efficiency:
            assert math.isclose(found.rows / found.expected, one.efficiency["coverage"], rel_tol=1e-9)
            assert sum(node["rejected"] for node in found.nodes) == one.efficiency["rejected"]
        assert found.words


# Usage over time


@pytest.mark.parametrize(
    ("idle", "busy", "missing", "seconds"),
    [
        (6, 6, 0, 1800),  # half as busy as later at the seventh row, 1800 s after the start
        (6, 6, 3, None),  # the rows of the start are missing
        (2, 10, 0, None),  # too short to speak of
        (12, 0, 0, None),  # never busy
    ],
)
def test_a_slow_start(idle, busy, missing, seconds):
    one = view()
    cores = [array("H", [0, 0, 0, 0])] * idle + [array("H", [9000, 9000, 0, 0])] * busy
    rows = [evidence.Sample("n1", START + 300 * k, 800, 100, None, 0, cores[k], 0, 0) for k in range(missing, 12)]
    found = start.of_job(one, [evidence.NodeSamples("n1", rows)])
    if seconds is None:
        assert found is None
    else:
        assert (found.seconds, found.level_pct, found.share) == (seconds, 180.0, 0.5)
        assert found.core_hours == one.accounting["cores"] * 0.5
        assert found.words(4) == (
            f"slow: 00:30 h passed (50 % of its time, {found.core_hours:.1f} core hours) until it was half as busy as "
            "later (45 % of the booked cores)"
        )


def test_sparklines():
    assert sparklines.line([0, 50, None, 100, 200], 100) == "▁▅ ██"
    assert sparklines.line([0, 50, None, 100], 100, sparklines.ASCII) == "_= #"
    assert sparklines.line([0, 5], 0) == "▁▁"
    assert (sparklines.fits("utf-8"), sparklines.fits("latin-1"), sparklines.fits(None)) == (True, False, False)


def test_a_gap_is_shown_as_one():
    one = replace(a_view(["n1"]), accounting={**a_view(["n1"]).accounting, "cores": 1})
    [_, line] = sparklines.table(one, [samples("n1", [*EVERY[:4], *EVERY[8:]])])
    assert line.split("  ")[1].strip() != ""
    assert "▅▅▅▅    ▅▅▅▅" in line


def test_many_nodes_are_drawn_together():
    nodes = [f"n{i}" for i in range(300)]
    lines = sparklines.table(a_view(nodes), [samples(node, EVERY) for node in nodes])
    assert [line.split()[0] for line in lines[1:4]] == ["highest", "median", "lowest"]
    assert lines[4].startswith("  least busy: n0 50 %")
    assert len(lines) == 6


# The command


def test_every_job_of_a_site_fits_a_terminal(demo):
    seen = set()
    for one in all_jobs(demo):
        nodes = list(evidence.of_job(demo, one))
        raised = flags(one.efficiency or one.accounting, one.node_types, True)
        judged = job_text.Judged(
            one, nodes, raised, advice.of_job(one, raised), coverage.of_job(one, nodes, demo.clock)
        )
        lines = job_text.job(judged, demo.clock).split("\n")
        assert max(map(len, lines[1:])) <= 80, lines
        assert all(line.isprintable() for line in lines)
        seen |= set(map(name_of, raised))
    assert len(seen) >= 8, seen  # or this tries too little


def test_several_jobs_and_a_pipe(run, tmp_path, monkeypatch):
    site = made(tmp_path, [booked(1), booked(2), booked(3)], [raw(1, "n1", 6)])
    file = site.config.file
    code, out, err = run("-c", file, "job", 1, 99, "c1/3")
    assert (code, [line for line in out.splitlines() if line.startswith("c1/")]) == (1, ["c1/1  x", "c1/3  x"])
    assert "does not know job 99" in err
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"1 c1/2\n3\n")))
    code, out, _ = run("-c", file, "--json", "job", "-")
    found = json.loads(out)
    assert (code, [one["accounting"]["job_id"] for one in found]) == (0, [1, 2, 3])
    assert found[0]["flags"] == []
    assert found[0]["coverage"]["words"] == ["complete: 6 rows"]
    assert set(found[0]) == {"accounting", "efficiency", "attempt", "attempts", "flags", "advice", "coverage"} | {
        "slow_start"
    }
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xff\xfe\n")))
    assert run("-c", file, "job", "-")[0] == 2
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\n")))
    code, _, err = run("-c", file, "job", "-")
    assert (code, "no job id came through the pipe" in err) == (2, True)


def test_parts_of_a_job(run, tmp_path):
    site = made(tmp_path, [booked(123), booked(124), booked(125)], [])
    with sqlite3.connect(database(site.root, "accounting")) as connection:
        connection.execute("update jobs set job_id_text = '123_4' where job_id = 124")
        connection.execute("update jobs set job_id_text = '77+0' where job_id = 125")
    connection.close()
    file = site.config.file
    assert run("-c", file, "job", "123_4")[1].startswith("c1/123_4  x")
    assert run("-c", file, "job", "c1/77+0")[1].startswith("c1/77+0  x")
    assert run("-c", file, "job", "124")[1].startswith("c1/123_4  x")
    code, _, err = run("-c", file, "job", "77")
    assert (code, "It came apart; ask for a part, such as 77+0" in err) == (1, True)
    assert run("-c", file, "job", "123_5")[0] == 1
    for wrong in ("123_", "_4", "123+", "123_[1-4];x", "/1", "123_4_5"):
        assert run("-c", file, "job", wrong)[0] == 2, wrong


def test_what_to_do_next(run, tmp_path):
    site = made(tmp_path, [booked(1)], [])
    file = site.config.file
    assert "It knows c1/1" in run("-c", file, "job", "c2/1")[2]
    assert "No cluster c2 is configured; there is c1" in run("-c", file, "job", "c2/9")[2]
    sites.write_raw(site.root, raw(8, "n1", 3))
    err = run("-c", file, "job", 8)[2]
    assert "uppmax_jobstats/n1/8" in err
    assert "still running" in err
    (site.root / "db" / "accounting.sqlite").unlink()
    code, _, err = run("-c", file, "job", 1)
    assert (code, "'jobeff update' makes it" in err) == (1, True)


def test_attempts_are_told_apart(run, tmp_path):
    again = START + 7200
    site = made(
        tmp_path,
        [booked(1, state="NODE_FAIL"), booked(1, start=again)],
        [raw(1, "n1", 6), raw(1, "n1", 6, again, (100.0,))],
    )
    file = site.config.file
    lines = run("-c", file, "job", 1)[1].splitlines()
    assert lines[0] == "c1/1: 2 attempts"
    assert lines[1] == "  1. 2021-06-01 00:00:00 to 2021-06-01 00:30:00 (00:30:00)  NODE_FAIL"
    assert [line for line in lines if line.startswith("c1/1  ")] == [f"c1/1  x  attempt {i} of 2" for i in (1, 2)]
    [second] = json.loads(run("-c", file, "--json", "job", 1, "--attempt", 2)[1])
    assert (second["attempt"], second["accounting"]["start"]) == (2, again)
    assert run("-c", file, "job", 1, "--attempt", 3)[0] == 2


def test_blocks_are_left_to_terminals_that_know_them(run, tmp_path):
    site = made(tmp_path, [booked(1)], [raw(1, "n1", 6)])
    assert "▅" in run("-c", site.config.file, "job", 1)[1]
    assert run("-c", site.config.file, "job", 1, "--ascii")[1].isascii()
