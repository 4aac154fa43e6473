"""Days and months of local time, across all that is done to clocks."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobeff.clock import LAST_EPOCH_S, Clock, iso_week
from jobeff.errors import ConfigError

# Half an hour of summer time, offsets of quarters, a day that was left out, both sides of the date line.
ZONES = (
    "UTC", "Europe/Stockholm", "America/New_York", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe",
    "Pacific/Apia", "Pacific/Kiritimati", "America/St_Johns", "America/Sao_Paulo", "Africa/Casablanca",
)  # fmt: skip
CLOCKS = {zone: Clock(zone) for zone in ZONES}
# Zones keep to a quarter of an hour since 1973 (Africa/Monrovia was the last not to).
epochs = st.one_of(st.integers(100_000_000, 2**32), st.integers(100_000_000, LAST_EPOCH_S - 1))
months = st.builds(lambda year, month: f"{year}-{month:02}", st.integers(1974, 2400), st.integers(1, 12))


def epoch(zone, *when, fold=0):
    return int(datetime(*when, tzinfo=ZoneInfo(zone), fold=fold).timestamp())


@given(st.sampled_from(ZONES), st.lists(epochs, max_size=20))
def test_days_are_local_days(zone, some):
    clock = CLOCKS[zone]
    days = [clock.day(one) for one in some]
    assert days == [datetime.fromtimestamp(one, ZoneInfo(zone)).strftime("%Y-%m-%d") for one in some]
    assert [clock.month(one) for one in some] == [day[:7] for day in days]


@given(st.sampled_from(ZONES), epochs)
def test_offset(zone, one):
    local = datetime.fromtimestamp(one, ZoneInfo(zone)).replace(tzinfo=UTC)
    assert CLOCKS[zone].offset_s(one) == local.timestamp() - one


@given(st.sampled_from(ZONES), months)
def test_a_month_spans_its_seconds_and_no_others(zone, month):
    clock = CLOCKS[zone]
    begin, end = clock.month_span(month)
    assert (clock.month(begin), clock.month(end - 1)) == (month, month)
    assert clock.month(begin - 1) < month < clock.month(end)
    assert clock.month_span(clock.month(end))[0] == end


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Stockholm", (2024, 3, 31), 23),
        ("Europe/Stockholm", (2024, 10, 27), 25),
        ("Europe/Stockholm", (2024, 6, 1), 24),
        ("Australia/Lord_Howe", (2024, 4, 7), 24.5),
        ("America/Sao_Paulo", (2018, 11, 4), 23),
    ],
)
def test_days_of_summer_time_have_their_hours(zone, day, hours):
    name = "-".join(f"{part:02}" for part in day)
    around = range(epoch(zone, *day, 12) - 86_400, epoch(zone, *day, 12) + 86_400, 900)
    assert sum(CLOCKS[zone].day(one) == name for one in around) == 4 * hours


def test_the_hour_that_comes_twice_is_two_hours():
    first, second = (epoch("Europe/Stockholm", 2024, 10, 27, 2, 30, fold=fold) for fold in (0, 1))
    clock = CLOCKS["Europe/Stockholm"]
    assert second - first == 3600
    assert (clock.offset_s(first), clock.offset_s(second)) == (7200, 3600)


def test_a_month_of_summer_time():
    begin, end = CLOCKS["Europe/Stockholm"].month_span("2024-03")
    assert end - begin == 31 * 86_400 - 3600


def test_a_day_that_was_left_out():
    last = epoch("Pacific/Apia", 2011, 12, 29, 23, 59, 59)
    assert [CLOCKS["Pacific/Apia"].day(one) for one in (last, last + 1)] == ["2011-12-29", "2011-12-31"]


def test_the_ends_of_time():
    assert CLOCKS["Europe/Stockholm"].day(0) == "1970-01-01"
    assert [CLOCKS[zone].day(LAST_EPOCH_S - 1)[:4] for zone in ZONES] == ["9999"] * len(ZONES)


# These put their clocks back one minute after midnight for a while, so that a day came twice.
@given(st.sampled_from([zone for zone in ZONES if zone != "America/St_Johns"]), epochs)
def test_a_day_begins_when_the_one_before_ends(zone, one):
    clock = CLOCKS[zone]
    day = date.fromisoformat(clock.day(one))
    begin = clock.day_begin(day)
    assert begin <= one
    assert clock.day(begin) == day.isoformat() > clock.day(begin - 1)
    if day < date(9999, 12, 31):
        assert clock.day_begin(day + timedelta(1)) > one


def test_a_day_that_was_left_out_begins_with_the_next():
    clock = CLOCKS["Pacific/Apia"]
    assert clock.day_begin(date(2011, 12, 30)) == clock.day_begin(date(2011, 12, 31)) == 1_325_239_200


def test_a_day_whose_midnight_was_left_out_begins_after_it():
    clock = Clock("America/Toronto")  # in 1919 from half past eleven to half past twelve
    begin = clock.day_begin(date(1919, 3, 31))
    assert [clock.day(epoch) for epoch in (begin - 1, begin)] == ["1919-03-30", "1919-03-31"]
    assert datetime.fromtimestamp(begin, clock.zone).time().isoformat() == "00:30:00"


@pytest.mark.parametrize(
    ("day", "week"),
    [("2021-05-30", "2021-W21"), ("2021-01-01", "2020-W53"), ("2024-12-30", "2025-W01"), ("9999-12-31", "9999-W52")],
)
def test_iso_weeks(day, week):
    assert iso_week(day) == week


def test_now_is_local_time():
    date, time = Clock("Pacific/Kiritimati").now()
    utc = datetime.fromisoformat(f"{date}T{time}").replace(tzinfo=ZoneInfo("Pacific/Kiritimati")).astimezone(UTC)
    assert abs((datetime.now(UTC) - utc).total_seconds()) < 60


def test_an_unknown_zone():
    with pytest.raises(ConfigError, match="Mars/Base"):
        Clock("Mars/Base")
