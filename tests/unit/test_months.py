import datetime as dt

import numpy as np
import pytest

from anomaly.exceptions import UsageError
from anomaly.months import (
    Month,
    local_days,
    month_of,
    months_between,
    parse_duration,
    zone,
)


def test_a_month_is_read_and_written_as_year_and_month():
    assert str(Month.parse(" 2026-02 ")) == "2026-02"


@pytest.mark.parametrize(
    "text", ["2026-13", "2026-00", "2026-1", "26-01", "0000-01", "2026-01-01", ""]
)
def test_other_writings_are_refused_with_the_right_one(text):
    with pytest.raises(UsageError, match="2026-10"):
        Month.parse(text)


def test_months_follow_each_other_across_years():
    december = Month(2025, 12)
    assert december.next() == Month(2026, 1)
    assert december.next().previous() == december
    assert december < december.next()


@pytest.mark.parametrize(
    ("month", "hours"),
    [
        ("2026-02", 28 * 24),
        ("2028-02", 29 * 24),
        ("2026-03", 31 * 24 - 1),
        ("2026-10", 31 * 24 + 1),
    ],
)
def test_a_month_is_as_long_as_its_zone_says(month, hours):
    parsed = Month.parse(month)
    length = parsed.end("Europe/Berlin") - parsed.start("Europe/Berlin")
    assert length == dt.timedelta(hours=hours)


def test_a_month_starts_at_local_midnight():
    start = Month(2026, 7).start("America/New_York")
    assert start == dt.datetime(2026, 7, 1, 4, tzinfo=dt.UTC)
    assert start.utcoffset() == dt.timedelta(0)


def test_where_midnight_is_skipped_the_day_starts_when_clocks_jump():
    # In Beirut clocks went from 00:00 to 01:00 on 27 March 2022.
    (day,) = local_days(1_648_335_600, 1_648_335_601, "Asia/Beirut")
    assert dt.datetime.fromtimestamp(day, dt.UTC) == dt.datetime(2022, 3, 26, 22, tzinfo=dt.UTC)


def test_months_between_holds_both_ends_and_nothing_backwards():
    first, last = Month(2025, 11), Month(2026, 2)
    assert [str(month) for month in months_between(first, last)] == [
        "2025-11",
        "2025-12",
        "2026-01",
        "2026-02",
    ]
    assert months_between(last, first) == []


def test_an_instant_lies_in_its_local_month():
    instant = dt.datetime(2026, 1, 31, 23, 30, tzinfo=dt.UTC)
    assert month_of(instant, "UTC") == Month(2026, 1)
    assert month_of(instant, "Europe/Berlin") == Month(2026, 2)
    assert month_of(int(instant.timestamp()), "Europe/Berlin") == Month(2026, 2)


def test_an_instant_without_a_zone_is_refused():
    with pytest.raises(UsageError, match="no time zone"):
        month_of(dt.datetime.fromisoformat("2026-01-01"), "UTC")


def test_days_last_23_to_25_hours_where_clocks_change():
    spring, autumn = Month(2026, 3), Month(2026, 10)
    for month, odd in ((spring, 23), (autumn, 25)):
        start = int(month.start("Europe/Berlin").timestamp())
        end = int(month.end("Europe/Berlin").timestamp())
        days = local_days(start, end, "Europe/Berlin")
        assert len(days) == 31
        assert sorted(set(np.diff(days) // 3600)) == sorted({24, odd})


def test_a_day_that_a_zone_left_out_is_none():
    start = int(Month(2011, 12).start("Pacific/Apia").timestamp())
    end = int(Month(2011, 12).end("Pacific/Apia").timestamp())
    days = local_days(start, end, "Pacific/Apia")
    assert len(days) == 30
    assert set(np.diff(days)) == {86_400}


def test_the_first_local_day_holds_the_start():
    days = local_days(1_767_250_800, 1_767_250_801, "UTC")  # 2026-01-01 07:00
    assert days.tolist() == [1_767_225_600]
    assert len(local_days(5, 5, "UTC")) == 0


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30s", 30), ("5min", 300), ("1h", 3600), ("1D", 86400), ("3d", 259200), ("2 weeks", 1209600)],
)
def test_durations(text, seconds):
    assert parse_duration(text) == dt.timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "5", "h", "0h", "-1h", "1.5h", "1month", "99999999999d"])
def test_no_duration_is_refused_with_examples(text):
    with pytest.raises(UsageError, match="5min"):
        parse_duration(text)


@pytest.mark.parametrize("name", ["Mars/Base", "", "../etc/passwd", "Europe", "a\0b"])
def test_an_unknown_zone_is_refused(name):
    with pytest.raises(UsageError, match="Europe/Berlin"):
        zone(name)
