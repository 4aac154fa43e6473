"""summarise: whatever was loaded in whatever order, all tables are as if it had come at once."""

import contextlib
import json
import sqlite3
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from datetime import date, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from zoneinfo import ZoneInfo

import naive
import pytest
import sites
from conftest import MEMORY, dump
from hypothesis import given, settings
from hypothesis import strategies as st
from test_corehours import seconds_of_days

from jobeff import simulate
from jobeff.config import load
from jobeff.errors import JobeffError, LockedError
from jobeff.steps import corehour_history, current_projects
from jobeff.steps.load import load_slurm
from jobeff.steps.site import Site
from jobeff.steps.summarise import summarise
from jobeff.store import tables
from jobeff.store.locks import lock
from jobeff.store.sqlite import atomic

MONTH_END = 1_622_498_400  # 2021-06-01 00:00 in Stockholm
TABLES = {
    "corehour_daily": "corehour_usage",
    "corehour_monthly": "corehour_usage",
    "corehour_weekly": "corehour_usage",
    "corehour_history": "corehour_history",
    "current_projects": "current_projects",
}


class Life:
    """A site, day by day."""

    def __init__(self, root, zone=sites.TIMEZONE):
        self.root, self.zone, self.logs = root, zone, 0
        sites.make(root)
        (root / "slurm" / "accounting" / "v").mkdir()
        self.day("2021-06-01")

    def day(self, today, grants=None):
        """Let it be another day, perhaps with other grants."""
        text = sites.CONFIG.replace(sites.TIMEZONE, self.zone) + 'grants = "grantfile"\n[sources]\nprojects = "x"\n'
        (self.root / "jobeff.toml").write_text(f'today = "{today}"\n' + text)
        self.site = Site(sites.config(self.root))
        if grants is not None or not (self.root / "grantfile").exists():
            (self.root / "grantfile").write_text("".join(f"{p}:{hours}:x\n" for p, hours in (grants or {}).items()))

    def load(self, *jobs, replace=False, virtual=False):
        """Load a log with jobs: id, project, start, end, cores."""
        self.logs += 1
        lines = [
            sites.accounting_line(naive.Job("c1", job_id, proj_id, "u", start, end, cores, "DONE", ("n1",)))
            for job_id, proj_id, start, end, cores in jobs
        ]
        path = self.root / "slurm" / "accounting" / ("v" if virtual else ".") / f"log-{self.logs}"
        path.write_text("".join(lines))
        load_slurm(self.site, [path], "c1.v" if virtual else "c1", replace)

    def summarise(self, **options):
        result = summarise(self.site, **options)
        return {what: number for what, number in result.counts.items() if number}

    def write(self, name, query, rows):
        with (
            contextlib.closing(tables.open_database(tables.database(self.root, name), name)) as database,
            atomic(database),
        ):
            database.executemany(query, rows)

    def read(self, name, query):
        with contextlib.closing(sqlite3.connect(tables.database(self.root, name))) as database:
            return database.execute(query).fetchall()

    def history(self, columns='proj_id, date, grant, "30day_usage"'):
        return self.read("corehour_history", f"select {columns} from corehour_history order by 1, 2")

    def projects(self):
        return {
            proj_id: json.loads(data)
            for proj_id, data in self.read("current_projects", "select proj_id, data from current_projects")
        }

    def dump(self):
        return {table: dump(tables.database(self.root, name), table) for table, name in TABLES.items()}


@pytest.fixture
def life(tmp_path):
    return Life(tmp_path)


def at(text):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(sites.TIMEZONE)).timestamp())


def recount(jobs, zone, today):
    """All tables but the current projects, from accounting, slowly; no grants."""
    daily, monthly, weekly = Counter(), Counter(), Counter()
    for proj_id, cluster, start, end, cores in jobs:
        for day, seconds in seconds_of_days(start, end, zone).items():
            daily[proj_id, day, cluster] += cores * seconds
    history = defaultdict(int)
    for (proj_id, day, cluster), core_s in daily.items():
        when = date.fromisoformat(day)
        year, week, _ = when.isocalendar()
        monthly[proj_id, day[:7], cluster] += core_s
        weekly[proj_id, f"{year}-W{week:02}", cluster] += core_s
        for later in range(30):
            if when + timedelta(later) <= today:
                history[proj_id, (when + timedelta(later)).isoformat(), cluster] += core_s
    assert daily.total() == monthly.total() == weekly.total() == sum(c * (e - s) for _, _, s, e, c in jobs)
    hours = {
        "corehour_monthly": monthly,
        "corehour_weekly": weekly,
        "corehour_history": history,
    }
    expected = {
        table: sorted([(*key, float(Fraction(core_s, 3600))) for key, core_s in sums.items()], key=repr)
        for table, sums in hours.items()
    }
    return {"corehour_daily": sorted([(*key, core_s) for key, core_s in daily.items()], key=repr), **expected}


@st.composite
def lives(draw):
    """Nights with few job ids, so that records are replaced; sometimes nothing is summarised, or days pass."""
    nights = []
    for _ in range(draw(st.integers(1, 4))):
        jobs = [
            (
                draw(st.integers(1, 4)),
                draw(st.sampled_from("pq")),
                # summer time begins, a month ends, a year ends within a week
                draw(st.sampled_from([1_711_846_800, MONTH_END, 1_609_455_600])) + 600 * draw(st.integers(-60, 3)),
                draw(st.sampled_from([0, 1, 3599, 7200, 86_400, 200_000, 3_000_000])),
                draw(st.sampled_from([1, 3, 1_000_000])),
            )
            for _ in range(draw(st.integers(0, 4)))
        ]
        nights.append(
            {
                "jobs": [
                    (job_id, proj_id, start, start + length, cores) for job_id, proj_id, start, length, cores in jobs
                ],
                "replace": draw(st.booleans()),
                "virtual": draw(st.integers(0, 3)) == 0,
                "days": draw(st.sampled_from([0, 0, 1, 2, 40, 400, 1000, -3])),
                "summarise": draw(st.integers(0, 3)) > 0,
            }
        )
    return draw(st.sampled_from(["Europe/Stockholm", "Australia/Lord_Howe", "Asia/Kathmandu"])), nights


@settings(max_examples=25)
@given(lives())
def test_nights_are_as_one_recount(drawn):
    zone, nights = drawn
    with tempfile.TemporaryDirectory(dir=MEMORY) as folder:
        life = Life(Path(folder), zone)
        today = date(2021, 5, 30)
        for night in nights:
            today += timedelta(night["days"])
            life.day(today.isoformat())
            life.load(*night["jobs"], replace=night["replace"], virtual=night["virtual"])
            if night["summarise"]:
                life.summarise()
        life.summarise()
        jobs = life.read("accounting", "select proj_id, cluster, start, end, cores from jobs")
        found = life.dump()
        for table, rows in recount(jobs, zone, today).items():
            if table == "corehour_history":
                found[table] = [
                    (*key, used) for *key, grant, used, loaded in found[table] if (grant, loaded) == (None, 0)
                ]
            assert found[table] == rows
        once = life.dump()
        life.summarise()
        assert life.dump() == once
        life.summarise(everything=True)
        assert life.dump() == once


HOUR = 3600


def test_the_history_goes_on_while_there_is_usage(life):
    life.load((1, "p", at("2021-05-30T10:00"), at("2021-05-30T12:00"), 2))
    life.summarise()
    assert life.history('date, "30day_usage"') == [("2021-05-30", 4.0), ("2021-05-31", 4.0), ("2021-06-01", 4.0)]
    life.day("2021-06-28")
    assert life.summarise()["history rows"] == 27
    life.day("2021-07-20")
    assert life.summarise() == {"projects": 1, "changed": 1}
    assert life.history("max(date), count(*)") == [("2021-06-28", 30)]


def test_the_history_goes_on_night_by_night(life):
    life.load((1, "p", at("2021-05-30T10:00"), at("2021-05-30T12:00"), 2))
    for later in range(28, 32):
        life.day((date(2021, 5, 30) + timedelta(later)).isoformat())
        life.summarise()
        assert len(life.history()) == min(later + 1, 30)


def test_grants_are_recorded_on_the_day_of_the_run(life):
    life.load((1, "p", at("2021-05-30T10:00"), at("2021-05-30T12:00"), 2))
    life.day("2021-06-01", {"p": 100, "idle": 7})
    life.summarise()
    assert life.history() == [
        ("idle", "2021-06-01", 7, 0),
        ("p", "2021-05-30", None, 4),
        ("p", "2021-05-31", None, 4),
        ("p", "2021-06-01", 100, 4),
    ]
    life.day("2021-06-03", {"p": 200})
    life.summarise()
    expected = [
        ("idle", "2021-06-01", 7, 0),
        ("p", "2021-05-30", None, 4),
        ("p", "2021-05-31", None, 4),
        ("p", "2021-06-01", 100, 4),
        ("p", "2021-06-02", None, 4),
        ("p", "2021-06-03", 200, 4),
    ]
    assert life.history() == expected
    life.summarise(everything=True)
    assert life.history() == expected


def test_a_grant_changed_on_the_same_day_is_recorded_as_it_is_now(life):
    life.day("2021-06-01", {"p": 100, "q": 5})
    life.load()
    life.summarise()
    life.day("2021-06-01", {"p": 50})
    assert life.summarise()["history rows"] == 2
    assert life.history() == [("p", "2021-06-01", 50, 0)]


def test_a_grant_file_that_cannot_be_read_is_set_aside_and_takes_nothing_back(life):
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    life.day("2021-06-01", {"p": 100})
    life.summarise()
    (life.root / "grantfile").unlink()
    result = summarise(life.site)
    ((kind, where, why),) = result.aside.examples
    assert (kind, where) == ("source", str(life.root / "grantfile"))
    assert "cannot read grants" in why
    assert life.history() == [("p", "2021-06-01", 100, 1)]
    assert life.projects()["p"]["corehour"]["c1"]["allocation"] == 100


def test_rows_of_a_sites_own_file_are_left_alone(life):
    own = [
        ("p", "2021-05-30", "c1", 9.0, 99.0, 1),
        ("p", "2021-06-01", "c1", None, 77.0, 1),
        ("x", "2021-06-01", "c1", 1.0, 2.0, 1),
    ]
    life.write("corehour_history", "insert into corehour_history values (?, ?, ?, ?, ?, ?)", own)
    life.load((1, "p", at("2021-05-30T10:00"), at("2021-05-30T12:00"), 2))
    life.day("2021-06-01", {"p": 100, "x": 5})
    for everything in (False, True):
        life.summarise(everything=everything)
        rows = life.dump()["corehour_history"]
        assert [row for row in rows if row[-1]] == own
        assert [row for row in rows if not row[-1]] == [("p", "2021-05-31", "c1", None, 4.0, 0)]
    assert life.projects()["p"]["corehour"]["c1"]["30day_usage"] == 77


def test_a_replaced_record_leaves_no_trace(life):
    life.load((1, "q", at("2020-02-01"), at("2020-02-03"), 1), (2, "p", MONTH_END, MONTH_END + HOUR, 1))
    life.summarise()
    assert len(life.history()) == 31 + 1
    life.load((1, "p", at("2020-02-01"), at("2020-02-01T01:00"), 1), replace=True)
    life.summarise()
    assert {row[0] for row in life.history()} == {"p"}
    assert len(life.history()) == 30 + 1


@pytest.mark.parametrize("where", ["before", "in", "after"])
def test_a_run_that_dies_between_the_databases_is_made_up_for(life, tmp_path_factory, monkeypatch, where):
    first = [(1, "p", MONTH_END - 90 * 86_400, MONTH_END, 4), (2, "q", MONTH_END - HOUR, MONTH_END, 1)]
    second = [(1, "q", MONTH_END - 90 * 86_400, MONTH_END - 80 * 86_400, 4)]
    other = Life(tmp_path_factory.mktemp("undisturbed"))
    for one in (life, other):
        one.load(*first)
        one.summarise()
        one.load(*second, replace=True)
    other.summarise()

    def die(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as dying:
        if where == "before":
            dying.setattr(corehour_history, "_pending", die)
        elif where == "in":
            dying.setattr(corehour_history, "mark_updated", die)
        else:
            dying.setattr(current_projects, "write", die)
        with pytest.raises(KeyboardInterrupt):
            life.summarise()
    if where != "after":
        assert life.read("corehour_usage", "select count(*) from touched") == [(2,)]
        assert life.dump()["corehour_history"] != other.dump()["corehour_history"]
        # Another night in between: what was touched before is still known.
        for one in (life, other):
            one.load((3, "p", MONTH_END - 5 * HOUR, MONTH_END, 1))
    other.summarise()
    life.summarise()
    same, right = life.dump(), other.dump()
    assert [row[:2] for row in same.pop("current_projects")] == [row[:2] for row in right.pop("current_projects")]
    assert same == right
    assert life.read("corehour_usage", "select count(*) from touched") == [(0,)]


@pytest.mark.parametrize("lost", ["corehour_history", "corehour_usage", "current_projects"])
def test_a_database_that_was_lost_is_made_again(life, lost):
    life.load((1, "p", MONTH_END - 90 * 86_400, MONTH_END, 4))
    life.summarise()
    before = life.dump()
    tables.database(life.root, lost).unlink()
    life.load((2, "q", MONTH_END - HOUR, MONTH_END, 4))
    life.summarise()
    after = life.dump()
    for table, rows in before.items():
        if table != "current_projects":
            assert [row for row in after[table] if row[0] == "p"] == rows
    assert set(life.projects()) == {"p", "q"}


def test_an_older_history_put_back_catches_up(life):
    path = tables.database(life.root, "corehour_history")
    life.load((1, "p", MONTH_END - HOUR, MONTH_END, 4))
    life.summarise()
    older = path.read_bytes()
    life.load((2, "q", MONTH_END - HOUR, MONTH_END, 4))
    life.summarise()
    right = life.dump()
    path.write_bytes(older)
    life.summarise()
    assert life.dump() == right


def test_days_that_have_not_come_are_unsaid(life):
    life.day("2036-01-01", {"p": 5})
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    life.summarise()
    life.day("2021-06-02", {"p": 5})
    life.summarise()
    assert life.history() == [("p", "2021-06-01", None, 1), ("p", "2021-06-02", 5, 1)]


def test_a_history_that_was_derived_up_to_a_day_long_ago_goes_on(life):
    """As an older jobeff did where the configuration said that it was such a day."""
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    life.summarise()
    expected = life.history()
    with contextlib.closing(sqlite3.connect(tables.database(life.root, "corehour_history"))) as database, database:
        database.execute("update reached set date = '0001-01-01'")
        database.execute("delete from corehour_history")
    life.summarise()
    assert life.history() == expected != []


def test_there_is_nothing_to_count_without_accounting(life):
    with pytest.raises(JobeffError, match="there is no accounting database yet"):
        life.summarise()
    assert not list((life.root / "db").glob("*.sqlite"))


def test_another_run_holds_the_history(life):
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    with lock(life.root, "corehour_history"), pytest.raises(LockedError, match="writing corehour_history"):
        life.summarise()
    life.summarise()
    assert life.history() == [("p", "2021-06-01", None, 1)]


def efficiency(life, *jobs):
    """Rows of jobs: id, project, local day, hours, cores, cpu_mean, mem_peak, mem_limit."""
    columns = (
        "job_id, proj_id, date_finished, start, end, cores, cpu_mean, mem_peak, mem_limit, cluster, user, state, "
        "nodelist, cpu_cores_used_percentile, mem_median, counts, nodes_booked, nodes_seen, coverage, rejected, "
        "swap_peak, cores_used_peak, definition"
    )
    rows = [
        (i, p, day, 0, int(hours * 3600), cores, cpu, peak, limit) for i, p, day, hours, cores, cpu, peak, limit in jobs
    ]
    constant = "'c1', 'u', 'DONE', 'n1', 1, 1, 1, 1, 1, 1, 0, 0, 1, 1"
    life.write("efficiency", f"insert into jobs ({columns}) values ({'?, ' * 9} {constant})", rows)


def test_all_that_is_known_of_a_project(life):
    life.day("2021-06-30", {"p": 1000})
    life.load(
        (1, "p", at("2021-06-24T00:00"), at("2021-06-24T10:00"), 1),  # first of 7 days
        (2, "p", at("2021-06-23T00:00"), at("2021-06-23T10:00"), 2),
        (3, "p", at("2021-06-01T00:00"), at("2021-06-01T10:00"), 4),  # first of 30 days
        (4, "p", at("2021-05-31T00:00"), at("2021-05-31T10:00"), 8),
        (5, "p", at("2020-12-31T00:00"), at("2020-12-31T10:00"), 16),  # first of 26 weeks
        (6, "p", at("2020-12-30T00:00"), at("2020-12-30T10:00"), 32),
        (7, "p", at("2021-07-01T00:00"), at("2021-07-01T10:00"), 64),  # has not come yet
    )
    efficiency(
        life,
        (1, "p", "2021-06-24", 10, 1, 50.0, 1.0, 10.0),  # 10 core hours at 0.5
        (2, "p", "2021-06-23", 10, 2, 10.0, 8.0, 10.0),  # 20 at 0.8
        (5, "p", "2020-12-31", 10, 16, 25.0, 99.0, None),  # 160 at 0.25
        (6, "p", "2020-12-30", 10, 32, 100.0, 1.0, 1.0),
        (8, "p", "2021-06-30", 0, 4, 100.0, 1.0, 1.0),
        (9, "q", "2021-06-30", 9, 4, 100.0, 1.0, 1.0),
    )
    life.write(
        "projects",
        "insert into projects values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            ("p", "2021-01-01", None, "åsa", "b", None, "a,b", "Y", "t", "m"),
            ("old", None, None, "x", "", "", "", "N", "", ""),
        ],
    )
    life.write(
        "storage_history",
        "insert into storage_history values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            ("p", "2021-07-05", 999, 0, "", 999, 0, "", 0),  # has not come yet
            ("p", "2021-06-29", 500, 1000, "/p", 50, None, "/n", 3),
            ("p", "2021-05-31", 499, 1000, "/p", 1, 100, "/n", 3),  # 29 days older
            ("p", "2021-05-30", 100, 1000, "/p", None, 100, "/n", 3),
        ],
    )
    assert life.summarise()["projects"] == 1
    ((data, _),) = life.read("current_projects", "select data, updated from current_projects")
    assert "åsa" in data
    assert json.loads(data) == {
        "general": {
            "start_date": "2021-01-01", "end_date": None, "pi": "åsa", "deputy": "b", "technical": None, "type": "t",
            "members": "a,b", "active": "Y",
        },
        "storage": {
            "date": "2021-06-29", "usage": 500, "quota": 1000, "noback_usage": 50, "noback_quota": None, "inbox": 3,
            "growth": 400, "noback_growth": None,
        },
        "corehour": {
            "c1": {
                "allocation": 1000.0, "30day_usage": 70.0, "1wusage": 10.0, "1musage": 70.0, "6musage": 310.0,
                "1wefficiency": 0.5, "1mefficiency": pytest.approx((5 + 16) / 30),
                "6mefficiency": pytest.approx((5 + 16 + 40) / 190), "6mactivity": 4, "last_job_date": "2021-06-24",
            }
        },
    }  # fmt: skip


def test_a_project_without_databases_has_nulls(life):
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 3), virtual=True)
    tables.database(life.root, "projects").touch()  # whoever was making it was killed
    life.summarise()
    known = life.projects()["p"]
    assert set(known["general"].values()) == set(known["storage"].values()) == {None}
    assert {cluster: about["1wusage"] for cluster, about in known["corehour"].items()} == {"c1": 1, "c1.v": 3}
    assert known["corehour"]["c1"]["6mefficiency"] is known["corehour"]["c1"]["allocation"] is None


def test_projects_come_and_go(life):
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1))
    active = [("idle", None, None, None, None, None, None, "Y", None, None)]
    life.write("projects", "insert into projects values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", active)
    assert life.summarise()["new"] == 2
    assert life.projects()["idle"]["corehour"] == {}
    life.day((date(2021, 6, 1) + timedelta(7 * 26 - 1)).isoformat())
    life.summarise()
    about = life.projects()["p"]["corehour"]["c1"]
    assert (about["6musage"], about["30day_usage"], about["6mactivity"]) == (1, 0, 1)
    life.day((date(2021, 6, 1) + timedelta(7 * 26)).isoformat())
    assert life.summarise()["removed"] == 1
    assert set(life.projects()) == {"idle"}


def test_updated_says_when_a_row_changed(life):
    life.load((1, "p", MONTH_END, MONTH_END + HOUR, 1), (2, "q", MONTH_END, MONTH_END + HOUR, 1))
    life.summarise()
    life.write("current_projects", "update current_projects set updated = ?", [("earlier",)])
    life.load((3, "q", MONTH_END, MONTH_END + HOUR, 1))
    counts = life.summarise()
    assert (counts["changed"], counts["unchanged"]) == (1, 1)
    updated = dict(life.read("current_projects", "select proj_id, updated from current_projects"))
    assert updated["p"] == "earlier"
    assert datetime.fromisoformat(updated["q"])


def test_every_table_says_when_it_was_updated(life):
    life.load()
    life.summarise()
    for table, name in TABLES.items():
        assert life.read(name, f"select count(*) from last_updated where type = '{table}'") == [(1,)]
        assert tables.database(life.root, name).stat().st_mode & 0o777 == 0o640


def test_a_synthetic_site_from_the_command_line(tmp_path):
    folder = tmp_path / "site"
    simulate.write_site(folder, simulate.DemoOptions(jobs=150, nodes=4, days=5))
    site = Site(load(folder / "jobeff.toml"))
    load_slurm(site)
    with (folder / "slurm" / "snowy" / "grantfile").open("a") as grants:
        grants.write("../evil:5:x\n")
    command = [sys.executable, "-m", "jobeff", "--json", "-c", str(folder / "jobeff.toml"), "summarise"]
    done = subprocess.run([*command, "--all"], capture_output=True, text=True, check=False)
    (step,) = json.loads(done.stdout)
    assert (done.returncode, step["step"], step["set_aside"]) == (3, "summarise", {"grant": 1})
    life = Life.__new__(Life)
    life.root = folder
    jobs = life.read("accounting", "select proj_id, cluster, start, end, cores from jobs where nodes <> ''")
    expected = recount(jobs, "Europe/Stockholm", site.config.today)
    found = life.dump()
    for table in ("corehour_daily", "corehour_monthly", "corehour_weekly"):
        assert found[table] == expected[table]
    usage = {tuple(row[:3]): row[4] for row in found["corehour_history"] if row[4]}
    assert usage == {tuple(key): used for *key, used in expected["corehour_history"]}
    grants = [row for row in found["corehour_history"] if row[1] == site.config.today.isoformat()]
    assert len(grants) == step["counts"]["projects"]
    assert all(row[3] for row in grants)
