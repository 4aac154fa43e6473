"""Core hours: every second of every job on its local day, once."""

import contextlib
from collections import Counter
from datetime import date, datetime
from zoneinfo import ZoneInfo

import numpy as np
import pytest
import sites
from conftest import dump
from hypothesis import given, settings
from hypothesis import strategies as st
from test_clock import ZONES

from jobeff.clock import LAST_EPOCH_S, Clock
from jobeff.engine import core_seconds
from jobeff.errors import JobeffError
from jobeff.steps import corehours
from jobeff.steps.site import StepResult
from jobeff.store import tables
from jobeff.store.sqlite import atomic

STEP_S = 300
MAX_CORES = 2**31 - 1
REGULAR_S = core_seconds.REGULAR_FROM * 86_400
DAYS = {zone: core_seconds.Days(Clock(zone)) for zone in ZONES}
USAGE = ("corehour_daily", "corehour_monthly", "corehour_weekly")


def seconds_of_days(start, end, zone):
    """Seconds of a job on each local day, five minutes after the other: no midnight is between."""
    found = Counter()
    while start < end:
        following = min(end, (start // STEP_S + 1) * STEP_S)
        found[datetime.fromtimestamp(start, ZoneInfo(zone)).date().isoformat()] += following - start
        start = following
    return found


def split(jobs, days):
    """Core seconds by pair and ISO date."""
    found = Counter()
    columns = zip(*jobs, strict=True) if jobs else ((), (), (), ())
    for piece in core_seconds.split(core_seconds.Jobs(*(np.array(column, dtype=np.int64) for column in columns)), days):
        assert 0 not in piece.core_s
        for pair, day, core_s in zip(*(column.tolist() for column in piece), strict=True):
            found[pair, date.fromordinal(date(1970, 1, 1).toordinal() + day).isoformat()] += core_s
    return found


@st.composite
def spans(draw):
    """Where clocks change and where they do not: seconds, hours, days, weeks."""
    start = draw(
        st.one_of(
            st.integers(120_000_000, 2**31),
            # A day left out in Apia, summer time in Stockholm from and to, a midnight left out in São Paulo.
            st.sampled_from([1_325_239_200, 1_711_846_800, 1_729_990_800, 1_541_300_400]).flatmap(
                lambda at: st.integers(at - 90_000, at + 90_000)
            ),
        )
    )
    length = draw(st.one_of(st.sampled_from([0, 1, 86_400]), st.integers(0, 90_000), st.integers(0, 20 * 86_400)))
    return start, start + length


# There, until 2011, one minute after midnight it became yesterday again: such an hour is of the new day.
@settings(max_examples=60)
@given(
    st.sampled_from([zone for zone in ZONES if zone != "America/St_Johns"]),
    st.lists(st.tuples(st.integers(0, 2), spans(), st.sampled_from([1, 20, MAX_CORES, -7])), max_size=6),
)
def test_every_second_is_on_its_day(zone, some):
    expected = Counter()
    for pair, (start, end), cores in some:
        for day, seconds in seconds_of_days(start, end, zone).items():
            expected[pair, day] += cores * seconds
    found = split([(pair, *span, cores) for pair, span, cores in some], DAYS[zone])
    assert {key: core_s for key, core_s in found.items() if core_s} == {k: s for k, s in expected.items() if s}


@settings(max_examples=50)
@given(st.sampled_from(ZONES), st.lists(spans(), min_size=1, max_size=6), st.integers(1, 50))
def test_days_do_not_overlap_and_pieces_change_nothing(zone, some, chunk):
    jobs = [(0, start, end, 3) for start, end in some]
    found = split(jobs, DAYS[zone])
    assert sum(found.values()) == sum(3 * (end - start) for start, end in some)
    whole, core_seconds.CHUNK = core_seconds.CHUNK, chunk
    try:
        assert split(jobs, DAYS[zone]) == found
    finally:
        core_seconds.CHUNK = whole


@pytest.mark.parametrize(("day", "hours"), [("2024-03-31", 23), ("2024-10-27", 25), ("2024-06-01", 24)])
def test_a_day_has_the_hours_it_has(day, hours):
    noon = int(datetime.fromisoformat(f"{day}T12:00").replace(tzinfo=ZoneInfo("Europe/Stockholm")).timestamp())
    found = split([(0, noon - 3 * 86_400, noon + 3 * 86_400, 2)], DAYS["Europe/Stockholm"])
    assert found[0, day] == 2 * hours * 3600


def test_a_day_that_was_left_out_has_none():
    found = split([(0, 1_325_100_000, 1_325_400_000, 1)], DAYS["Pacific/Apia"])
    assert "2011-12-30" not in {day for _, day in found}
    assert sum(found.values()) == 300_000


@settings(max_examples=50)
@given(st.sampled_from(ZONES), st.integers(REGULAR_S, LAST_EPOCH_S - 10 * 86_400))
def test_days_of_a_far_future_begin_as_those_of_400_years_before(zone, one):
    first, begins = DAYS[zone].begins(one, one + 86_400)
    days = [date.fromordinal(core_seconds.EPOCH.toordinal() + first + number) for number in range(len(begins))]
    assert begins.tolist() == [Clock(zone).day_begin(day) for day in days]


@pytest.mark.parametrize("zone", ZONES)
def test_the_ends_of_time(zone):
    for start, end in ((0, 86_400 * 3), (LAST_EPOCH_S - 86_400 * 3, LAST_EPOCH_S - 1)):
        assert split([(0, start, end, 1)], DAYS[zone]) == Counter(
            {(0, day): seconds for day, seconds in seconds_of_days(start, end, zone).items()}
        )


def test_a_job_of_all_days_since_1970():
    found = split([(0, 0, 1_711_800_000, MAX_CORES), (1, 5, 1_711_800_000, 1)], DAYS["Europe/Stockholm"])
    assert sum(found.values()) == MAX_CORES * 1_711_800_000 + 1_711_800_000 - 5
    assert len(found) == 2 * ((date(2024, 3, 30) - date(1970, 1, 1)).days + 1)


def test_no_batch_overflows():
    """The longest day, full of jobs that are as wide as they can be."""
    begin = int(datetime(2024, 10, 26, tzinfo=ZoneInfo("Europe/Stockholm")).timestamp())
    for start in (begin, begin + 86_400):
        found = split([(0, start, begin + 3 * 86_400 + 3600, MAX_CORES)] * core_seconds.BATCH, DAYS["Europe/Stockholm"])
        assert found[0, "2024-10-27"] == core_seconds.BATCH * MAX_CORES * 25 * 3600


class Books:
    """An accounting database that is written by hand, and what is counted of it."""

    def __init__(self, root, zone="Europe/Stockholm"):
        self.site = sites.make(root)
        self.root = root
        self.job_id = 0
        self.zone(zone)
        self.path = tables.database(root, "corehour_usage")
        self.open().close()

    def zone(self, name):
        text = sites.CONFIG.replace(sites.TIMEZONE, name)
        (self.root / "jobeff.toml").write_text(text)
        self.site.config = sites.config(self.root)

    def open(self):
        return tables.open_database(tables.database(self.root, "accounting"), "accounting")

    def add(self, *jobs):
        """Jobs: project, cluster, start, end, cores."""
        with contextlib.closing(self.open()) as books, atomic(books):
            for proj_id, cluster, start, end, cores in jobs:
                self.job_id += 1
                row = ("2021-06-01", self.job_id, proj_id, "u", start, end, "core", cores, cluster, "n1", "x", "DONE")
                books.execute(f"insert into jobs values ({'?, ' * 12} null, null, null, null)", row)

    def replace(self, job_id, end):
        with contextlib.closing(self.open()) as books, atomic(books):
            columns = "seq, cluster, proj_id, start, end, cores"
            books.execute(f"insert into replaced ({columns}) select {columns} from jobs where job_id = ?", (job_id,))
            books.execute(
                "update jobs set seq = (select max(seq) + 1 from jobs), end = ? where job_id = ?", (end, job_id)
            )

    def count(self, everything=False):
        result = StepResult("summarise")
        usage = tables.open_database(self.path, "corehour_usage")
        with contextlib.closing(corehours.open_accounting(self.site)) as books, contextlib.closing(usage):
            corehours.count(self.site, books, usage, result, everything)
        return {what: number for what, number in result.counts.items() if number}

    def dump(self):
        return [dump(self.path, table) for table in USAGE]


@pytest.fixture
def books(tmp_path):
    return Books(tmp_path)


def at(text, zone="Europe/Stockholm"):
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp())


def test_days_months_and_weeks(books):
    books.add(
        ("p", "c1", at("2020-12-31T22:00"), at("2021-01-01T01:00"), 4),
        ("p", "c2", at("2024-12-30"), at("2024-12-30T00:30"), 1),
    )
    assert books.count() == {"jobs": 2, "days": 3, "months": 3, "weeks": 2}
    daily, monthly, weekly = books.dump()
    assert daily == [
        ("p", "2020-12-31", "c1", 28_800),
        ("p", "2021-01-01", "c1", 14_400),
        ("p", "2024-12-30", "c2", 1800),
    ]
    assert monthly == [("p", "2020-12", "c1", 8.0), ("p", "2021-01", "c1", 4.0), ("p", "2024-12", "c2", 0.5)]
    assert weekly == [("p", "2020-W53", "c1", 12.0), ("p", "2025-W01", "c2", 0.5)]


def test_what_is_new_is_added_and_what_was_replaced_taken_back(books):
    start = at("2021-05-31T12:00")
    books.add(("p", "c1", start, at("2021-06-02"), 2), ("q", "c1", start, start + 60, 1))
    assert books.count() == {"jobs": 2, "days": 3, "months": 3, "weeks": 2}
    assert books.count() == {}
    books.replace(1, start + 3600)
    books.add(("q", "c1", start, start + 60, 1))
    assert books.count() == {"jobs": 2, "taken back": 1, "days": 3, "months": 3, "weeks": 2}
    assert books.dump() == [
        [("p", "2021-05-31", "c1", 7200), ("q", "2021-05-31", "c1", 120)],
        [("p", "2021-05", "c1", 2.0), ("q", "2021-05", "c1", 120 / 3600)],
        [("p", "2021-W22", "c1", 2.0), ("q", "2021-W22", "c1", 120 / 3600)],
    ]


def test_what_was_never_counted_is_not_taken_back(books):
    start = at("2021-05-31T12:00")
    books.add(("p", "c1", start, start + 10, 1))
    books.count()
    books.add(("p", "c1", start, start + 500, 1))
    books.replace(2, start + 100)
    books.replace(2, start + 20)
    assert books.count() == {"jobs": 1, "days": 1, "months": 1, "weeks": 1}
    assert books.dump()[0] == [("p", "2021-05-31", "c1", 30)]


def test_jobs_that_never_ran_count_nothing(books):
    books.add(("p", "c1", 1_622_498_400, 1_622_498_400, 5))
    assert books.count() == {"jobs": 1}
    assert books.dump() == [[], [], []]


def test_another_time_zone_moves_the_days(books):
    books.add(("p", "c1", at("2021-05-31T23:00"), at("2021-06-01T01:00"), 1))
    books.count()
    books.zone("Asia/Kathmandu")  # 3 h 45 min ahead, so all of it is on the second day
    assert books.count() == {"jobs": 1, "days": 2, "months": 1, "weeks": 1}
    assert books.dump()[0] == [("p", "2021-06-01", "c1", 7200)]
    assert books.dump()[1] == [("p", "2021-06", "c1", 2.0)]


@pytest.mark.parametrize("lost", ["made again", "put back"])
def test_another_accounting_database_is_counted_from_scratch(books, lost):
    path = tables.database(books.root, "accounting")
    old = path.read_bytes()
    books.add(*[("p", "c1", 1_622_498_400, 1_622_498_400 + 60, 1)] * 3)
    books.count()
    path.unlink()
    if lost == "put back":
        path.write_bytes(old)
    books.add(("q", "c1", 1_622_498_400, 1_622_498_400 + 60, 1))
    assert books.count()["jobs"] == 1
    assert books.dump()[0] == [("q", "2021-06-01", "c1", 60)]


def test_everything_can_be_counted_again(books):
    books.add(*[("p", "c1", 1_622_498_400 - 60, 1_622_498_400 + 60, 1)] * 3)
    books.count()
    right = books.dump()
    with contextlib.closing(tables.open_database(books.path, "corehour_usage")) as usage:
        usage.execute("update corehour_daily set core_s = core_s + 5 where date = '2021-06-01'")
        usage.execute("delete from corehour_daily where date = '2021-05-31'")
        usage.execute("insert into corehour_monthly values ('x', '1999-01', 'c1', 7.0)")
        usage.execute("update corehour_weekly set used = 9")
    assert books.count() == {}
    assert books.count(everything=True)["jobs"] == 3
    assert books.dump() == right


def test_an_accounting_database_that_does_not_say_what_it_replaced(books):
    with contextlib.closing(books.open()) as old:
        old.execute("drop table replaced")
        old.execute("pragma user_version = 1")
    with pytest.raises(JobeffError, match=r"'jobeff load slurm' brings it up to date"):
        books.count()


def test_more_core_seconds_than_a_day_can_hold_are_refused(books):
    start = at("2021-05-31")
    books.add(("q", "c1", start, start + 60, 1))
    books.count()
    before = books.dump()
    books.add(*[("p", "c1", start, start + 86_400, MAX_CORES)] * 50_000)
    with pytest.raises(JobeffError, match="do not fit accounting"):
        books.count()
    assert books.dump() == before


def test_sums_larger_than_an_integer_are_still_sums(books):
    start = at("2021-05-01")
    books.add(*[("p", "c1", start, start + 31 * 86_400, MAX_CORES)] * 40_000)
    books.count()
    seconds = 40_000 * MAX_CORES * 31 * 86_400
    assert seconds > 2**63
    assert books.dump()[1] == [("p", "2021-05", "c1", pytest.approx(seconds / 3600, rel=1e-15))]


def test_a_day_with_less_than_nothing_is_refused(books):
    books.add(("p", "c1", 1_622_498_400, 1_622_498_460, 1))
    books.count()
    with contextlib.closing(tables.open_database(books.path, "corehour_usage")) as usage:
        usage.execute("update corehour_daily set core_s = 5")
    books.replace(1, 1_622_498_401)
    with pytest.raises(JobeffError, match="summarise --all"):
        books.count()
    books.count(everything=True)
    assert books.dump()[0] == [("p", "2021-06-01", "c1", 1)]
