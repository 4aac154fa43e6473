"""report, top: the same as adding up all rows of both databases in plain Python, whatever was there before."""

import contextlib
import csv
import io
import json
import math
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections import defaultdict
from datetime import date, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import MEMORY
from hypothesis import given, settings
from hypothesis import strategies as st

from jobeff.clock import Clock, iso_week
from jobeff.config import load
from jobeff.progress import Progress
from jobeff.steps.compute import WRITTEN
from jobeff.steps.site import Site
from jobeff.steps.summarise import summarise
from jobeff.store import shards
from jobeff.store import tables as databases
from jobeff.store.locks import lock
from jobeff.views import flags as flags_of_one
from jobeff.views import report_select
from jobeff.views.report import Ask, by_group
from jobeff.views.report_jobs import by_job
from jobeff.views.report_node import by_node
from jobeff.views.report_select import Selection
from jobeff.views.tables import WIDTH

CLOCK = Clock("Europe/Stockholm")
BEGIN = int(CLOCK.day_begin(date(2024, 1, 20)))
DAYS = 50
NODE_TYPES = (8, 32)
CONFIG = f"""
timezone = "Europe/Stockholm"
[clusters.c1]
accounting = "a"
node_types = {list(NODE_TYPES)}
[clusters.c2]
accounting = "b"
"""
NAMES = ("x", "=1+1", "\x1b[31m", "å")
GROUPS = ("project", "user", "cluster", "state", "jobname")
OF_ACCOUNTING = {
    "project": "proj_id", "user": "user", "cluster": "cluster", "state": "jobstate", "jobname": "jobname",
}  # fmt: skip


# A small site: rows in both databases, as load and compute leave them


def a_job(rng, number):
    """A row of accounting, and one of efficiency or None."""
    end = BEGIN + rng.randrange(DAYS * 86_400)
    cores, nodes = rng.choice([1, 4, 16]), rng.choice(["n1", "n2", "n1,n2", ""])
    array = rng.choice([0, 0, 900, 901])
    accounting = {
        "date": CLOCK.day(end), "job_id": number, "proj_id": rng.choice("pqr"), "user": rng.choice(["ann", "bo"]),
        "start": end - rng.choice([0, 60, 5000, 90_001]), "end": end, "partition": "core", "cores": cores,
        "cluster": rng.choice(["c1", "c1", "c2"]), "nodes": nodes, "jobname": rng.choice(NAMES),
        "jobstate": rng.choice(["COMPLETED", "FAILED"]), "job_id_text": f"{array}_{number}" if array else None,
    }  # fmt: skip
    if not nodes or accounting["start"] == end or rng.random() < 0.3:
        return accounting, None
    limit = rng.choice([None, 6.4, 16.0, 64.0])
    booked = nodes.count(",") + 1
    efficiency = {
        "job_id": number, "cluster": accounting["cluster"], "proj_id": accounting["proj_id"],
        "user": accounting["user"], "cpu_mean": rng.choice([0.0, 12.5, rng.random() * 100, 100.0]),
        "cpu_cores_used_percentile": 1.0, "cores": cores, "mem_peak": round(rng.random() * 2 * (limit or 9), 2) / 2,
        "mem_median": 0.5, "mem_limit": limit, "counts": 3, "state": accounting["jobstate"],
        "date_finished": accounting["date"], "nodelist": nodes, "start": accounting["start"], "end": end,
        "nodes_booked": booked, "nodes_seen": rng.randint(1, booked), "coverage": 1.0, "rejected": 0,
        "swap_peak": rng.choice([0.0, 0.0, 1.5]), "cores_used_peak": rng.randint(0, cores), "definition": 1,
    }  # fmt: skip
    return accounting, efficiency


def insert(connection, rows):
    for row in rows:
        names = ", ".join(f'"{name}"' for name in row)
        connection.execute(f"insert into jobs ({names}) values ({', '.join('?' * len(row))})", tuple(row.values()))


def make(root, jobs):
    root.mkdir(parents=True, exist_ok=True)
    (root / "jobeff.toml").write_text(CONFIG)
    for name, rows in zip(("accounting", "efficiency"), zip(*jobs, strict=True) if jobs else ((), ()), strict=True):
        connection = databases.open_database(databases.database(root, name), name)
        connection.execute("begin")
        insert(connection, [row for row in rows if row])
        connection.execute("commit")
        connection.close()
    return load(root / "jobeff.toml")


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    rng = random.Random(1)
    return make(tmp_path_factory.mktemp("site"), [a_job(rng, number) for number in range(1, 400)])


def rows_of(config, name):
    with contextlib.closing(sqlite3.connect(databases.database(config.root, name))) as connection:
        connection.row_factory = sqlite3.Row
        return [dict(row) for row in connection.execute("select * from jobs")]


# The oracle


def selected(config, selection):
    """(accounting row, efficiency row or None) of every job that is selected."""
    seen = {(row["cluster"], row["job_id"], row["start"]): row for row in rows_of(config, "efficiency")}
    for job in rows_of(config, "accounting"):
        row = seen.get((job["cluster"], job["job_id"], job["start"]))
        ended = date.fromisoformat(job["date"])
        raised = (
            [flags_of_one.name_of(flag) for flag in flags_of_one.flags(row, config.node_types(job["cluster"]))]
            if row
            else []
        )
        if (
            job["nodes"]
            and (selection.since is None or ended >= selection.since)
            and (selection.until is None or ended <= selection.until)
            and job["cluster"] in (selection.clusters or [job["cluster"]])
            and job["proj_id"] in (selection.projects or [job["proj_id"]])
            and job["user"] in (selection.users or [job["user"]])
            and job["jobstate"] in (selection.states or [job["jobstate"]])
            and set(selection.flags) <= set(raised)
        ):
            yield job, row


def share_of_memory(row):
    return row["mem_peak"] / row["mem_limit"] if row["mem_limit"] else None


def used(row):
    return min(1, max(row["cpu_mean"] / 100, share_of_memory(row) or 0))


def percentile(values, percent):
    ordered, rank = sorted(values), (len(values) - 1) * percent / 100
    low, high = ordered[math.floor(rank)], ordered[math.ceil(rank)]
    return low + (high - low) * (rank - math.floor(rank))


def weighted(pairs):
    """Mean of (value, weight), in percent."""
    whole = sum(weight for _, weight in pairs)
    return 100 * sum(value * weight for value, weight in pairs) / whole if whole > 0 else None


def added_up(jobs):
    """Numbers of a line."""
    hours = [job["cores"] * (job["end"] - job["start"]) / 3600 for job, _ in jobs]
    seen = [(row, hour) for (_, row), hour in zip(jobs, hours, strict=True) if row]
    # Percentiles are of hundredths of a percent.
    hundredths = [round(used(row) * 10_000) / 100 for row, _ in seen]
    return {
        "jobs": len(jobs),
        "measured": len(seen),
        "core_hours": sum(hours),
        "measured_core_hours": sum(hour for _, hour in seen),
        "cpu_pct": weighted([(row["cpu_mean"] / 100, hour) for row, hour in seen]),
        "memory_pct": weighted(
            [(share_of_memory(row), hour) for row, hour in seen if share_of_memory(row) is not None]
        ),
        "efficiency_pct": weighted([(used(row), hour) for row, hour in seen]),
        **{f"efficiency_p{p}": percentile(hundredths, p) if seen else None for p in (25, 50, 75)},
        "wasted_core_hours": sum(hour * (1 - used(row)) for row, hour in seen) if seen else None,
    }


def period_of(job, period):
    return {None: "", "month": job["date"][:7], "week": iso_week(job["date"])}[period]


def grouped(config, group, selection, period):
    found = defaultdict(list)
    for job, row in selected(config, selection):
        found[period_of(job, period), job[OF_ACCOUNTING[group]]].append((job, row))
    return {key: added_up(jobs) for key, jobs in found.items()}


def reported(config, group, ask):
    table = by_group(config, group, ask)
    names = [column.name for column in table.columns]
    lines = [dict(zip(names, row, strict=True)) for row in table.rows()]
    keyed = {(line.pop(ask.period, ""), line.pop(group)): line for line in lines}
    assert len(keyed) == len(lines)
    return keyed


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for key, line in found.items():
        assert line.keys() == expected[key].keys()
        for name, value in line.items():
            wanted = expected[key][name]
            assert value is None if wanted is None else value == pytest.approx(wanted, rel=1e-9, abs=1e-9), (key, name)


def some_of(*values):
    return st.lists(st.sampled_from(values), max_size=len(values), unique=True).map(tuple)


def days():
    return st.none() | st.integers(-2, DAYS + 2).map(lambda n: date(2024, 1, 20) + timedelta(n))


@st.composite
def selections(draw):
    since, until = draw(days()), draw(days())
    if since and until and since > until:
        since, until = until, since
    some_flags = draw(st.lists(st.sampled_from(flags_of_one.FLAGS[:-1]), max_size=2, unique=True).map(tuple))
    return Selection(
        since, until, draw(st.sampled_from([(), ("c1",), ("c2", "c1")])), draw(some_of("p", "q")), draw(some_of("ann")),
        draw(some_of("FAILED", "COMPLETED")), some_flags,
    )  # fmt: skip


# The same numbers


@given(selection=selections(), group=st.sampled_from(GROUPS), period=st.sampled_from([None, "week", "month"]))
@settings(max_examples=40)
def test_every_line_is_what_its_rows_add_up_to(site, selection, group, period):
    expected = grouped(site, group, selection, period)
    try:
        found = reported(site, group, Ask(selection, period))
    except Exception as error:
        assert "there is nothing to report" in str(error)
        assert expected == {}
    else:
        assert_same(found, expected)


@given(selection=selections())
@settings(max_examples=5)
def test_core_hours_of_all_lines_are_the_same_however_grouped(site, selection):
    if not list(selected(site, selection)):
        return
    sums = []
    for group in GROUPS:
        for period in (None, "week"):
            lines = reported(site, group, Ask(selection, period)).values()
            names = ("jobs", "measured", "core_hours", "measured_core_hours", "wasted_core_hours")
            sums.append([sum(line[name] or 0 for line in lines) for name in names])
    assert all(one == pytest.approx(sums[0], rel=1e-9) for one in sums)


@given(st.lists(st.tuples(st.integers(0, 10**9), st.booleans()), max_size=8))
@settings(max_examples=8)
def test_any_small_site(seeds):
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        rng = random.Random(repr(seeds))
        config = make(Path(folder), [a_job(rng, number) for number, _ in enumerate(seeds, 1)])
        for group in GROUPS:
            assert_same(reported(config, group, Ask()), grouped(config, group, Selection(), None))


def lines_of_jobs(config, selection):
    """A line per job, and per array and owner."""
    found = defaultdict(list)
    for job, row in selected(config, selection):
        array = (job["job_id_text"] or "").partition("_")[0]
        key = (
            (job["cluster"], f"{array}_[*]", job["proj_id"], job["user"])
            if array
            else (job["cluster"], str(job["job_id"]))
        )
        found[key].append((job, row))
    return [(f"{key[0]}/{key[1]}", added_up(jobs)) for key, jobs in found.items()]


@given(
    selection=selections(),
    limit=st.integers(1, 30),
    sort=st.sampled_from(["wasted_core_hours", "core_hours", "cpu_pct"]),
)
@settings(max_examples=20)
def test_top_jobs_are_those_that_sorting_all_gives(site, selection, limit, sort):
    lines = lines_of_jobs(site, selection)
    if not lines:
        return
    table = by_job(site, Ask(selection, sort=sort, limit=limit))
    names = [column.name for column in table.columns]
    found = [dict(zip(names, row, strict=True)) for row in table.rows()]
    known = [line[sort] for _, line in lines if line[sort] is not None]
    ordered = sorted(known, reverse=sort != "cpu_pct")
    shown = [line[sort] for line in found if line[sort] is not None]
    assert shown == pytest.approx(ordered[:limit][: len(shown)], rel=1e-9, abs=1e-9)
    assert len(found) == min(limit, len(lines))
    by_name = defaultdict(list)
    for name, line in lines:
        by_name[name].append(line)
    for line in found:
        assert any(
            (line["tasks"], line["measured"]) == (one["jobs"], one["measured"])
            and line["core_hours"] == pytest.approx(one["core_hours"])
            for one in by_name[line["job"]]
        )
    assert table.total["core_hours"] == pytest.approx(sum(line["core_hours"] for _, line in lines))


# Columns are never stale


def change(config, name, *statements):
    with contextlib.closing(databases.open_database(databases.database(config.root, name), name)) as connection:
        connection.execute("begin")
        for statement in statements:
            connection.execute(*statement) if isinstance(statement, tuple) else connection.execute(statement)
        connection.execute("commit")


def loaded_again(config, row, **other):
    """A record of accounting takes the place of another, as `upsert` does it."""
    columns = "seq, cluster, proj_id, start, end, cores"
    kept = f"insert into replaced ({columns}) select {columns}"
    new = {name: value for name, value in (row | other).items() if name != "seq"}
    names = ", ".join(f'"{name}"' for name in new)
    change(
        config, "accounting", (f"{kept} from jobs where seq = ?", (row["seq"],)),
        ("delete from jobs where seq = ?", (row["seq"],)),
        (f"insert into jobs ({names}) values ({', '.join('?' * len(new))})", tuple(new.values())),
    )  # fmt: skip


def computed_again(config, row, **other):
    """A row of a month is written, as compute does it."""
    sets = ", ".join(f"{name} = ?" for name in other)
    key = (row["cluster"], row["job_id"], row["start"])
    change(
        config, "efficiency",
        (f"update jobs set {sets} where cluster = ? and job_id = ? and start = ?", (*other.values(), *key)),
        (WRITTEN, (row["cluster"], row["date_finished"][:7])),
    )  # fmt: skip


def check(config):
    for group in ("project", "state"):
        assert_same(reported(config, group, Ask()), grouped(config, group, Selection(), None))
    check_days(config)


def check_days(config):
    """What each day adds up to, by project and user."""
    expected = defaultdict(lambda: [0.0, 0.0, 0.0])
    for job, row in selected(config, Selection()):
        booked = job["cores"] * (job["end"] - job["start"])
        sums = expected[job["cluster"], job["date"], job["proj_id"], job["user"]]
        for i, more in enumerate((booked, booked if row else 0, booked * used(row) if row else 0)):
            sums[i] += more
    found = {}
    for part in report_select.days(config, Selection(), Progress()):
        names = [[part.texts(name).to_pylist()[i] for i in part.numbers(name)] for name in ("project", "user")]
        sums = [part.numbers(name).tolist() for name in ("core_s", "measured_core_s", "used_core_s")]
        for day, project, user, *line in zip(part.numbers("day").tolist(), *names, *sums, strict=True):
            found[part.cluster, f"{part.month}-{day:02}", project, user] = line
    assert found.keys() == expected.keys()
    assert all(line == pytest.approx(expected[key]) for key, line in found.items())


def files(config):
    return {path: path.stat().st_mtime_ns for path in (config.root / "db" / "report").rglob("*.parquet")}


@pytest.fixture
def copy(site, tmp_path):
    check(site)
    shutil.copytree(site.root, tmp_path / "copy")
    return load(tmp_path / "copy" / "jobeff.toml")


def test_only_what_has_changed_is_made_again(copy):
    before = files(copy)
    months = {(row["cluster"], row["date"][:7]) for row in rows_of(copy, "accounting") if row["nodes"]}
    assert len(before) == 2 * len(months)
    check(copy)
    assert files(copy) == before
    row = rows_of(copy, "efficiency")[7]
    computed_again(copy, row, cpu_mean=1.25, mem_peak=0.25)
    check(copy)
    changed = [path for path, when in files(copy).items() if when != before[path]]
    month = row["date_finished"][:7]
    assert {path.relative_to(copy.root / "db" / "report" / row["cluster"]).name for path in changed} == {
        f"{month}.parquet", f"{month}.days.parquet",
    }  # fmt: skip


def test_a_record_that_moves_to_another_month_leaves_the_first(copy):
    row = next(row for row in rows_of(copy, "accounting") if row["date"].startswith("2024-01") and row["nodes"])
    later = row["end"] + 60 * 86_400
    loaded_again(copy, row, end=later, date=CLOCK.day(later), proj_id="moved")
    check(copy)
    assert reported(copy, "project", Ask())["", "moved"]["jobs"] == 1


def test_the_last_record_of_a_month_takes_its_file_away(copy):
    later = BEGIN + 100 * 86_400
    insert_one = next(row for row in rows_of(copy, "accounting") if row["nodes"])
    loaded_again(copy, insert_one, end=later, date=CLOCK.day(later))
    check(copy)
    path = copy.root / "db" / "report" / insert_one["cluster"] / f"{CLOCK.month(later)}.parquet"
    assert path.is_file()
    [moved] = [row for row in rows_of(copy, "accounting") if row["end"] == later]
    loaded_again(copy, moved, end=insert_one["end"], date=insert_one["date"])
    check(copy)
    assert not path.exists() and not path.with_suffix(".days.parquet").exists()


@pytest.mark.parametrize("name", ["accounting", "efficiency"])
def test_another_database_in_the_place_of_one(copy, tmp_path, name):
    rng = random.Random(2)
    other = make(tmp_path / "other", [a_job(rng, number) for number in range(1, 400)])
    check(copy)
    shutil.copy(databases.database(other.root, name), databases.database(copy.root, name))
    check(copy)


@pytest.mark.parametrize("of_days", [True, False])
def test_columns_that_are_deleted_damaged_or_exchanged(copy, of_days):
    one, two, *_ = sorted(path for path in files(copy) if (".days." in path.name) == of_days)
    one.write_bytes(two.read_bytes())
    check(copy)
    check(copy)
    data = bytearray(one.read_bytes())
    for at in range(8, len(data), 97):
        data[at] ^= 1
    one.write_bytes(data)
    check(copy)
    check(copy)
    one.unlink()
    check(copy)
    assert one.is_file()
    (copy.root / "db" / "report" / "state.json").write_text("{}")
    check(copy)
    shutil.rmtree(copy.root / "db" / "report")
    check(copy)


@pytest.mark.parametrize("of_days", [True, False])
def test_a_flipped_bit_is_never_a_wrong_number(copy, of_days):
    path = next(path for path in sorted(files(copy)) if (".days." in path.name) == of_days)
    whole, rng = path.read_bytes(), random.Random(3)
    expected = grouped(copy, "project", Selection(), None)
    for _ in range(40):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        if of_days:
            check_days(copy)
        else:
            assert_same(reported(copy, "project", Ask()), expected)
        path.write_bytes(whole)


def test_the_same_file_of_the_same_rows(copy):
    before = {path: path.read_bytes() for path in files(copy)}
    shutil.rmtree(copy.root / "db" / "report")
    check(copy)
    assert {path: path.read_bytes() for path in files(copy)} == before
    assert {path.stat().st_mode & 0o777 for path in before} == {0o640}


def test_somebody_else_is_making_them(copy):
    shutil.rmtree(copy.root / "db" / "report")
    with lock(copy.root, "report"):
        check(copy)
    assert files(copy) == {}


def test_summarise_has_them_ready(copy):
    shutil.rmtree(copy.root / "db" / "report")
    result = summarise(Site(copy))
    assert result.aside.total == 0
    before = files(copy)
    assert before
    check(copy)
    assert files(copy) == before


def test_a_database_of_an_older_jobeff_is_told_of(copy, run):
    change(copy, "efficiency", "drop table written")
    code, out, err = run("-c", copy.file, "report", "project")
    assert (code, out) == (1, "")
    assert "'jobeff compute' brings it up to date" in err
    assert summarise(Site(copy)).aside.counts == {"columns for reports": 1}


KILLED = """
import os, signal, sys
from pathlib import Path
from jobeff import config, progress
from jobeff.steps import columns
from jobeff.store import columns as files
left, whole = [int(sys.argv[2])], files.write
def write(*arguments):
    left[0] -= 1
    if left[0] < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    whole(*arguments)
files.write = write
columns.refresh(config.load(Path(sys.argv[1])), progress.Progress())
"""


@pytest.mark.parametrize("after", [0, 2, 3])
def test_killed_half_way(copy, after):
    shutil.rmtree(copy.root / "db" / "report")
    done = subprocess.run([sys.executable, "-c", KILLED, str(copy.file), str(after)], check=False)
    assert done.returncode == -signal.SIGKILL
    row = rows_of(copy, "efficiency")[0]
    computed_again(copy, row, cpu_mean=77.0)
    assert len(files(copy)) == after
    check(copy)


# What is shown


def shown(run, config, *arguments):
    code, out, err = run("-c", config.file, *arguments)
    assert (code, err) == (0, "")
    return out


def hostile(config):
    """Names that are long, or want to be something else."""
    for number, name in enumerate(["=cmd|' /C calc'!A0", "\x1b[2J", "x" * 300, 'a,"b"\n', "<script>", "snic-secret"]):
        row = rows_of(config, "accounting")[number]
        loaded_again(config, row, jobname=name, user=name, proj_id=name, nodes="n1", cluster="c1.secret-project")
    return config


COMMANDS = [
    *(["report", group] for group in GROUPS[:-1]), *(["report", group, "--by", "week"] for group in GROUPS[:-1]),
    ["report", "node"], *(["top", what] for what in ("jobs", "project", "user", "jobname")),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_a_terminal_of_80_columns(copy, run, command):
    out = shown(run, hostile(copy), *command)
    assert max(map(len, out.splitlines())) <= WIDTH, out
    assert out.isascii()
    assert all(line.isprintable() for line in out.splitlines())
    assert "total" in out


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_form_has_the_same_lines(copy, run, tmp_path, command):
    rows = json.loads(shown(run, copy, "--json", *command))
    lines = list(csv.DictReader(io.StringIO(shown(run, copy, *command, "--csv"))))
    shown(run, copy, "-q", *command, "--parquet", tmp_path / "x.parquet")
    table = pq.read_table(tmp_path / "x.parquet").to_pylist()
    assert table == rows
    assert rows
    assert (tmp_path / "x.parquet").stat().st_mode & 0o777 == 0o640

    def cell(value):
        return "" if value is None else f"'{value}" if isinstance(value, str) and value.startswith("=") else str(value)

    assert lines == [{name: cell(value) for name, value in row.items()} for row in rows]


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_name_is_left_in_anonymous_output(copy, run, tmp_path, command):
    config = hostile(copy)
    names = {row[name] for row in rows_of(config, "accounting") for name in ("jobname", "user", "proj_id")}
    names = {name for name in names if len(name) > 1} | {"secret", "n1", "n2"}
    outputs = [
        shown(run, config, *command, "--anonymous"),
        shown(run, config, *command, "--anonymous", "--csv"),
        shown(run, config, "--json", *command, "--anonymous"),
    ]
    shown(run, config, *command, "--anonymous", "--parquet", tmp_path / "x.parquet")
    outputs.append(repr(pq.read_table(tmp_path / "x.parquet").to_pydict()))
    cells = {cell for out in outputs for cell in re.split(r"[^\w.-]+", out)}
    for name in names:
        assert not any(name in out for out in outputs if len(name) > 3), name
        assert name not in cells
    assert outputs[2] == shown(run, config, "--json", *command, "--anonymous")


# Wrong input


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("report project --project P", "no job of project P. Did you mean p?"),
        ("report user --user an --since 2024-01-20", "no job of user an ended since 2024-01-20. Did you mean ann?"),
        ("top --cluster c", "no job of cluster c. Did you mean c"),
        ("report state --state failed", "no job of state failed. Did you mean FAILED?"),
        ("report project --since 2024-03-01 --until 2024-02-01", "Swap --since and --until"),
        ("report project --sort colour", "there is no such column. Columns are project, jobs, "),
        ("top --flag colour", "there is no such flag. Flags are nodes_overbooked"),
        ("top --flag not_run", "jobs that never ran stand in no report"),
    ],
)
def test_wrong_input_is_answered(site, run, arguments, says):
    code, out, err = run("-c", site.file, *arguments.split())
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_an_id_that_was_requeued_says_which_attempt_a_line_is(tmp_path, run):
    rng = random.Random(5)
    [one] = [job for job in (a_job(rng, n) for n in range(1, 50)) if job[1] and not job[0]["job_id_text"]][:1]
    later = [{**row, "start": row["start"] + 40 * 86_400, "end": row["end"] + 40 * 86_400} for row in one]
    later[0]["date"] = later[1]["date_finished"] = CLOCK.day(later[0]["end"])
    alone = [{**row, "job_id": 7777} for row in one]
    config = make(tmp_path, [one, later, alone])
    lines = json.loads(shown(run, config, "--json", "top"))
    assert sorted((line["job"].split("/")[1], line["attempt"]) for line in lines) == [
        (str(one[0]["job_id"]), 1), (str(one[0]["job_id"]), 2), ("7777", None),
    ]  # fmt: skip
    since = later[0]["date"]
    assert [line["attempt"] for line in json.loads(shown(run, config, "--json", "top", "--since", since))] == [2]
    assert [line["attempt"] for line in json.loads(shown(run, config, "--json", "top", "--anonymous"))].count(2) == 1
    assert "attempt" in shown(run, config, "top") and "--attempt N" in shown(run, config, "top")
    assert "attempt" not in shown(run, config, "top", "--since", "2030-01-01")


def test_what_was_asked_for_is_said():
    asked = Selection(None, None, ("c2",), ("p", "q"), ("ann",), ("FAILED",), ("a", "b"))
    assert asked.of() == " of project p or q of user ann of cluster c2 in state FAILED with flag a and b"
    assert Selection().of() == ""


def test_nothing_to_show_says_when_there_is_something(site, run):
    out = shown(run, site, "report", "project", "--since", "2031-01-01")
    assert out == "No job ended since 2031-01-01. Jobs are known from 2024-01 to 2024-03.\n"
    assert json.loads(shown(run, site, "--json", "report", "project", "--since", "2031-01-01")) == []
    assert "--min-core-hours" in shown(run, site, "report", "user", "--min-core-hours", "1e9")


def test_a_file_that_is_there_is_not_replaced(site, run, tmp_path):
    path = tmp_path / "x.parquet"
    path.write_text("mine")
    code, _, err = run("-c", site.file, "report", "user", "--parquet", path)
    assert (code, path.read_text()) == (2, "mine")
    assert "--force" in err
    assert run("-c", site.file, "-q", "report", "user", "--parquet", path, "--force")[0] == 0
    assert pq.read_table(path).num_rows == 2


def test_lines_are_in_the_order_that_is_asked_for(site):
    names = list(reported(site, "user", Ask(sort="user")))
    assert names == sorted(names)
    for sort, backwards in (("efficiency_pct", False), ("core_hours", True), ("jobs", True)):
        values = [line[sort] for line in reported(site, "jobname", Ask(sort=sort)).values()]
        assert values == sorted(values, reverse=backwards)
    weeks = list(reported(site, "project", Ask(period="week", limit=1)))
    assert [week for week, _ in weeks] == sorted({week for week, _ in reported(site, "project", Ask(period="week"))})


# Nodes


INTERVAL = 300


def write_shard(config, node, month, raw):
    """A shard of (job id, times, cores, extended, rejected)."""
    columns = defaultdict(list)
    for job_id, times, cores, extended, rejected in sorted(raw):
        row = {
            "job_id": job_id, "first": times[0] if times else None, "last": times[-1] if times else None,
            "cores": cores, "rejected": rejected, "offset": 0, "bytes": 1, "crc32": 0, "time": times,
            **{name: [100] * len(times) for name in ("limit", "used", "swap")},
            "max_used": [100] * len(times) if extended else [], "core": [50] * (len(times) * cores),
        }  # fmt: skip
        for name, value in row.items():
            columns[name].append(value)
    shards.write(shards.shard_path(config.shards, "c1", node, month), shards.table_of(columns), {"archive_bytes": 1})


def booking(number, length, nodes="n1", start=BEGIN):
    return {
        "date": CLOCK.day(start + length), "job_id": number, "proj_id": "p", "user": "u", "start": start,
        "end": start + length, "partition": "core", "cores": 2, "cluster": "c1", "nodes": nodes, "jobname": "x",
        "jobstate": "COMPLETED",
    }  # fmt: skip


def sampled(start, count, late=10):
    return [start + late + INTERVAL * i for i in range(count)]


def nodes_of(config, **asked):
    table = by_node(config, Ask(Selection(**asked)))
    names = [column.name for column in table.columns]
    return {row[1]: dict(zip(names, row, strict=True)) for row in table.rows()}


def test_what_the_samples_of_nodes_lack(tmp_path):
    """Each node has one fault, and jobs of 10 intervals; every number follows from what is written here."""
    nodes = ["good", "silent", "holes", "late", "ahead", "behind", "forms", "bad", "cores"]
    jobs = [booking(100 * i + j, 10 * INTERVAL, node) for i, node in enumerate(nodes) for j in range(4)]
    short = booking(9001, INTERVAL - 1, "silent,good")
    config = make(tmp_path, [(job, None) for job in (*jobs, short)])
    for i, node in enumerate(nodes):
        if node == "silent":
            continue
        late = {"late": INTERVAL + 1, "ahead": INTERVAL, "behind": -20}.get(node, 10)
        rows = 6 if node == "holes" else 10
        raw = [
            (
                100 * i + j, sampled(BEGIN, rows, late), 3 if node == "cores" else 2, node == "forms" and j % 2 == 0,
                5 if node == "bad" else 0,
            )
            for j in range(4)
        ]  # fmt: skip
        write_shard(config, node, CLOCK.month(BEGIN), raw)
    found = nodes_of(config)
    due, had = 40 * len(nodes), 40 * (len(nodes) - 2) + 4 * 6
    assert by_node(config, Ask()).total["missing_pct"] == pytest.approx(100 * (1 - had / due))
    assert {node: line["problems"] for node, line in found.items()} == {
        "good": "", "silent": "never seen", "holes": "gaps", "late": "late, clock", "ahead": "", "behind": "clock",
        "forms": "two forms", "bad": "rejected", "cores": "cores",
    }  # fmt: skip
    hours = 4 * 2 * 10 * INTERVAL / 3600
    assert found["good"]["core_hours"] == pytest.approx(hours + (INTERVAL - 1) / 3600)  # half of two cores
    assert (found["good"]["jobs"], found["good"]["expected"], found["good"]["seen"]) == (5, 4, 4)
    assert [found[node]["missing_pct"] for node in ("good", "silent", "holes")] == pytest.approx([0, 100, 40])
    assert (found["late"]["first_s"], found["late"]["outside"], found["late"]["clock_s"]) == (INTERVAL + 1, 4, 1)
    assert (found["behind"]["first_s"], found["behind"]["clock_s"]) == (-20, -20)
    assert (found["bad"]["rejected"], found["cores"]["other_cores"]) == (20, 4)
    assert (found["forms"]["plain"], found["forms"]["extended"]) == (2, 2)


def test_an_id_that_booked_a_node_again_tells_no_times(tmp_path):
    jobs = [booking(1, 10 * INTERVAL), booking(1, 10 * INTERVAL, start=BEGIN + 20 * INTERVAL)]
    config = make(tmp_path, [(job, None) for job in jobs])
    write_shard(config, "n1", CLOCK.month(BEGIN), [(1, sampled(BEGIN, 30), 2, False, 0)])
    line = nodes_of(config)["n1"]
    assert (line["seen"], line["missing_pct"], line["first_s"], line["outside"]) == (2, 0, None, 0)


def test_a_damaged_shard_is_named_and_the_other_nodes_are_shown(tmp_path):
    config = make(tmp_path, [(booking(1, 3000, "n1,n2"), None)])
    for node in ("n1", "n2"):
        write_shard(config, node, CLOCK.month(BEGIN), [(1, sampled(BEGIN, 10), 1, False, 0)])
    path = shards.shard_path(config.shards, "c1", "n1", CLOCK.month(BEGIN))
    path.write_bytes(path.read_bytes()[:-9])
    found = nodes_of(config)
    assert (found["n1"]["problems"], found["n2"]["seen"]) == ("shard damaged", 1)


def test_nodes_are_those_of_the_newest_month_unless_it_is_said(site):
    months = {row["date"][:7] for row in rows_of(site, "accounting") if row["nodes"]}
    jobs = [row for row in rows_of(site, "accounting") if row["nodes"]]
    booked = sum(row["cluster"] == "c1" and row["date"][:7] == max(months) and "n1" in row["nodes"] for row in jobs)
    assert nodes_of(site, clusters=("c1",))["n1"]["jobs"] == booked
    every = sum(row["cluster"] == "c1" and "n1" in row["nodes"] for row in jobs)
    assert nodes_of(site, clusters=("c1",), since=date(2024, 1, 1))["n1"]["jobs"] == every


def test_a_name_that_is_no_utf8_is_shown_escaped_and_costs_no_other(copy):
    """A database that was imported may hold such."""
    expected = {user: line for (_, user), line in grouped(copy, "user", Selection(), None).items()}
    shutil.rmtree(copy.root / "db" / "report")
    change(copy, "accounting", "update jobs set user = cast(x'6aff' as text) where user = 'ann'")
    found = {user: line for (_, user), line in reported(copy, "user", Ask()).items()}
    assert found.keys() == {"j\\xff", "bo"}
    for user, before in (("j\\xff", "ann"), ("bo", "bo")):
        assert_same({user: found[user]}, {user: expected[before]})
