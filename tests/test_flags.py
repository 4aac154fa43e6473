"""Usage flags: against a slow reading of METRICS in fractions, at each threshold, and as conditions of SQL."""

import sqlite3
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.store import tables
from jobeff.views.flags import FLAGS, condition, flags, known, name_of

TYPES = (128, 256, 1024)


def row(cores=16, used=16, peak=100.0, limit=100.0, swap=0.0, booked=1, seen=1):
    return {
        **{"cluster": "c1", "nodelist": "n1", "cores": cores, "cores_used_peak": used, "mem_peak": peak},
        **{"mem_limit": limit, "swap_peak": swap, "nodes_booked": booked, "nodes_seen": seen},
    }


def shortest(value):
    return str(value.numerator) if value.denominator == 1 else format(Decimal(value.numerator) / value.denominator, "f")


def oracle(job, node_types, every):
    """METRICS, word for word, of decimals as they stand in the row."""
    of_cores, used = job["cores"], job["cores_used_peak"]
    m = Fraction(str(job["mem_peak"]))
    a = Fraction(str(job["mem_limit"])) if job["mem_limit"] is not None else None
    fc = Fraction(used, of_cores)
    fm = m / a if a else None
    f = max(fc, fm) if fm is not None else None
    found = {}
    if 0 < job["nodes_seen"] < job["nodes_booked"]:
        found["nodes_overbooked"] = f"{job['nodes_booked']}:{job['nodes_seen']}"
    if f is not None and f < Fraction("0.8"):
        found["overbooked"] = f"{round(100 * f)}%"
    if f is not None and f < Fraction("0.5"):
        found["!!half_overbooked"] = ""
    if f is not None and f < Fraction("0.25"):
        found["!!severely_overbooked"] = ""
    if job["swap_peak"] > 0:
        found["!!swap_used"] = ""
    if fc < Fraction("0.8"):
        found["cores_overbooked"] = f"{of_cores}:{used}"
    if a is not None:
        if of_cores > 1 and fm < Fraction("0.25"):
            found["mem_overbooked"] = f"{shortest(a)}:{shortest(m)}"
        x = round(used * a / of_cores, 1)
        if of_cores > 1 and "cores_overbooked" in found and m < x / 2:
            found["core_mem_overbooked"] = f"{shortest(x)}:{shortest(m)}"
        had = [size for size in sorted(node_types) if size >= a][:1]
        needed = [size for size in sorted(node_types) if size >= m][:1]
        if had and needed and had != needed:
            found["node_type_overbooked"] = f"{had[0]}:{needed[0]}"
    beside = {"cores_overbooked", "!!half_overbooked", "!!severely_overbooked"} & set(found)
    if not every and not beside:
        found.pop("mem_overbooked", None)
        found.pop("core_mem_overbooked", None)
    return [f"{flag}:{said}" if said else flag for flag, said in found.items()]


gib = st.integers(0, 30_000).map(lambda n: n / 100) | st.sampled_from([0.0, 0.1, 23.6, 127.99, 128.0, 128.01, 252.2])


@st.composite
def rows(draw):
    """Rows of which many lie at a threshold or beside it."""
    cores, limit = draw(st.integers(1, 64)), draw(st.none() | gib.filter(bool))
    near = draw(st.sampled_from([Fraction(4, 5), Fraction(1, 2), Fraction(1, 4), None]))
    used, peak = draw(st.integers(0, 70)), draw(gib)
    if near is not None:
        used = max(0, round(near * cores) + draw(st.integers(-1, 1)))
        if limit is not None:
            peak = max(0, round(near * round(100 * limit)) + draw(st.integers(-1, 1))) / 100
    booked = draw(st.integers(1, 4))
    return row(cores, used, peak, limit, draw(st.sampled_from([0.0, 0.01])), booked, draw(st.integers(1, booked)))


@given(rows(), st.sampled_from([(), (128,), TYPES]), st.booleans())
def test_flags_are_those_of_metrics(job, node_types, every):
    assert flags(job, node_types, every) == oracle(job, node_types, every)


def of(flag, job, every=False):
    return [said for said in flags(job, TYPES, every) if name_of(said) == flag]


@pytest.mark.parametrize(
    ("flag", "at", "below"),
    [
        ("overbooked", row(10, 8, 2.4, 3.0), row(10, 7, 2.39, 3.0)),  # 2.4 / 3.0 is below 0.8 in floats
        ("!!half_overbooked", row(16, 8, 50.0), row(16, 7, 49.99)),
        ("!!severely_overbooked", row(16, 4, 5.9, 23.6), row(16, 3, 5.89, 23.6)),
        ("cores_overbooked", row(20, 16), row(20, 15)),
        ("mem_overbooked", row(16, 8, 25.0), row(16, 8, 24.99)),
        ("core_mem_overbooked", row(16, 8, 25.0), row(16, 8, 24.99)),
        ("!!swap_used", row(), row(swap=0.01)),
        ("nodes_overbooked", row(booked=4, seen=4), row(booked=4, seen=3)),
        ("node_type_overbooked", row(peak=128.01, limit=252.2), row(peak=128.0, limit=252.2)),
        ("node_type_overbooked", row(peak=1.0, limit=128.0), row(peak=1.0, limit=128.01)),
    ],
)
def test_a_threshold_itself_raises_no_flag(flag, at, below):
    assert (len(of(flag, at)), len(of(flag, below))) == (0, 1)


@pytest.mark.parametrize("flag", ["mem_overbooked", "core_mem_overbooked"])
def test_a_single_core_is_told_nothing_of_its_memory(flag):
    assert of(flag, row(1, 0, 0.1)) == []
    assert of(flag, row(2, 0, 0.1) if flag == "mem_overbooked" else row(2, 1, 0.1)) != []


def test_memory_alone_is_told_on_request():
    alone = row(16, 16, 1.0)
    assert (flags(alone), flags(alone, all_flags=True)) == ([], ["mem_overbooked:100:1"])
    assert flags(row(16, 12, 1.0)) == [
        *("overbooked:75%", "cores_overbooked:16:12", "mem_overbooked:100:1", "core_mem_overbooked:75:1"),
    ]


def test_an_unknown_limit_raises_only_what_does_not_depend_on_it():
    assert flags(row(16, 1, 1.0, None, 0.1, 2, 1), TYPES, all_flags=True) == [
        *("nodes_overbooked:2:1", "!!swap_used", "cores_overbooked:16:1"),
    ]


def test_jobs_without_numbers():
    assert flags({"nodes": "", "cores": 4}) == ["not_run"]
    assert flags({"nodes": "n1", "cores": 4}) == []
    assert flags(row(cores=0, used=0)) == []


def test_the_flags_of_the_tool_for_a_real_job(shared_data):
    """A job whose limit and peak the tool printed; by its spelling of 2015, mem_underused and node_type_misbooked."""
    text = (shared_data / "jobstats-tool-output" / "milou_test1_expected_2015_flagnames.tsv").read_text()
    lines = [line.split("\t") for line in text.splitlines() if "mem_underused" in line]
    assert lines
    for line in lines:
        memory, kind = (said.split(":") for said in line[4].split(","))
        job = row(int(line[5]), int(line[5]), float(memory[2]), float(memory[1]))
        ours = [said.split(":")[1:] for said in flags(job, (128, 256, 512), all_flags=True)]
        assert ours == [memory[1:], [size.removeprefix("mem").removesuffix("GB") for size in kind[1:]]]


@given(st.lists(rows(), min_size=1, max_size=8))
def test_conditions_of_sql_are_the_same(jobs):
    connection = sqlite3.connect(":memory:")
    for script in tables.SCHEMAS["efficiency"]:
        connection.executescript(script)
    rest = dict.fromkeys(tables.EFFICIENCY_COLUMNS, 0)
    for number, job in enumerate(jobs):
        whole = {**rest, **job, "job_id": number, "cluster": ("c1", "c1.p", "c2")[number % 3]}
        columns, marks = ", ".join(f'"{name}"' for name in whole), ", ".join("?" * len(whole))
        connection.execute(f"insert into jobs ({columns}) values ({marks})", list(whole.values()))
    kinds = {"c1": TYPES, "c": (1,), "c2": ()}
    for flag in FLAGS[:-1]:
        query = f"select {condition(flag, kinds, 'seen.')} from jobs as seen order by job_id"
        found = [bool(raised) for (raised,) in connection.execute(query)]
        assert found == [
            flag in map(name_of, oracle(job, TYPES if number % 3 < 2 else (), False)) for number, job in enumerate(jobs)
        ], flag
    nothing = f"select {', '.join(condition(flag, kinds, 'seen.') for flag in FLAGS[:-1])}"
    assert set(connection.execute(f"{nothing} from (select 1) left join jobs as seen on 0").fetchone()) == {0}


def test_a_flag_is_known_without_its_exclamation_marks():
    assert (known("swap_used"), known("!!swap_used"), known("swap")) == ("!!swap_used", "!!swap_used", None)
    assert all(known(flag) == flag for flag in FLAGS)
