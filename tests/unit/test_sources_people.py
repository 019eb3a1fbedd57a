"""Files of users and calendars."""

import datetime as dt

import pandas as pd
import pytest

from anomaly.exceptions import DataError, SourceError
from anomaly.sources.calendars import CalendarEntry, read_calendar
from anomaly.sources.people import Person, passed_over, read_users


@pytest.fixture
def written(tmp_path):
    def write(text, name="people.csv"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def utc(*when):
    return dt.datetime(*when, tzinfo=dt.UTC)


def test_users_with_all_that_can_be_said_and_with_nothing(written):
    file = written(
        "user_id,department,role,timezone,country,active_from,active_to,phone\n"
        "ada,R&D,engineer,Europe/London,GB,2025-01-01,2026-07-01,123\n"
        "bob,,,,,,,\n"
    )
    assert read_users(file) == [
        Person(
            "ada",
            "R&D",
            "engineer",
            "Europe/London",
            "GB",
            dt.date(2025, 1, 1),
            dt.date(2026, 7, 1),
        ),
        Person("bob"),
    ]


def test_users_from_parquet(tmp_path):
    frame = pd.DataFrame({"user_id": ["ada"], "role": [None], "active_from": [dt.date(2026, 1, 2)]})
    frame.to_parquet(tmp_path / "people.parquet")
    assert read_users(tmp_path / "people.parquet") == [
        Person("ada", active_from=dt.date(2026, 1, 2))
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("ada,Mars/Base,,", "row 2, column timezone: 'Mars/Base'"),
        ("ada,,Germany,", "row 2, column country: 'Germany'"),
        ("ada,,,soon", "row 2, column active_to: 'soon'"),
        (",,,", "row 2, column user_id: ''"),
        ("x" * 600 + ",,,", "row 2, column user_id: 'x+' is no user id"),
        ("ada", "row 2: 1 fields, expected 4"),
    ],
)
def test_a_cell_that_cannot_be_read_is_named(written, line, message):
    if line == ",,,":
        line = ",UTC,,"
    with pytest.raises(DataError, match=f"people.csv {message}"):
        read_users(written(f"user_id,timezone,country,active_to\n{line}\n"))


def test_nobody_leaves_before_coming(written):
    content = (
        "user_id,active_from,active_to\nada,2026-02-01,2026-02-01\nbob,2026-03-01,2026-02-01\n"
    )
    with pytest.raises(
        DataError, match="people.csv row 3, column active_from: '2026-03-01' is after"
    ):
        read_users(written(content))


def test_columns_that_say_nothing_of_users_are_named(written):
    assert passed_over(written("user_id,tz,role\nada,UTC,a\n")) == ["tz"]


def test_equal_users_are_one_and_contradicting_ones_refused(written):
    assert len(read_users(written("user_id,role\nada,a\nada,a\n"))) == 1
    with pytest.raises(DataError, match="row 3, column user_id: 'ada' has an earlier row"):
        read_users(written("user_id,role\nada,a\nada,b\n"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("name\nada\n", "no column 'user_id', only name"),
        ("", "people.csv: the file is empty"),
        (b"user_id\nada\nRen\xe9\n", "line 3: no UTF-8 text"),
        (b"PAR1 and nothing more", "no readable Parquet"),
    ],
)
def test_a_file_that_cannot_be_understood_is_refused(written, content, message):
    with pytest.raises(DataError, match=message):
        read_users(written(content))


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SourceError, match=r"nobody\.csv: cannot be read"):
        read_users(tmp_path / "nobody.csv")


def test_calendar_days_are_local_and_last_a_day(written):
    file = written(
        "kind,start,end,name,user_id,cohort\n"
        "holiday,2026-05-01,,May Day,,\n"
        "leave,2026-07-01,2026-07-15,,ada,\n"
        "announced,2026-03-01T08:00Z,2026-03-01T10:00Z,release,,developers\n",
        "days.csv",
    )
    assert read_calendar(file, "Europe/Berlin") == [
        CalendarEntry("holiday", utc(2026, 4, 30, 22), utc(2026, 5, 1, 22), "May Day"),
        CalendarEntry("leave", utc(2026, 6, 30, 22), utc(2026, 7, 14, 22), "", "ada"),
        CalendarEntry(
            "announced", utc(2026, 3, 1, 8), utc(2026, 3, 1, 10), "release", None, "developers"
        ),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("party,2026-01-01,", "column kind: 'party' is no kind"),
        ("leave,soon,", "column start: 'soon' is no day"),
        ("leave,2026-01-02,2026-01-01", "column end: '2026-01-01' is not after start"),
        ("leave,2026-01-02T08:00,", "has no end"),
    ],
)
def test_a_calendar_row_that_cannot_be_read_is_named(written, line, message):
    with pytest.raises(DataError, match=f"days.csv row 2, {message}|{message}"):
        read_calendar(written(f"kind,start,end\n{line}\n", "days.csv"))


def ics(*lines):
    body = "\r\n".join(lines)
    return f"BEGIN:VCALENDAR\r\nVERSION:2.0\r\nPRODID:test\r\n{body}\r\nEND:VCALENDAR\r\n"


def event(*lines):
    return ("BEGIN:VEVENT", "UID:1", *lines, "END:VEVENT")


def test_icalendar_days_times_and_kinds(written):
    file = written(
        ics(
            *event("DTSTART;VALUE=DATE:20260501", "SUMMARY:May Day", "CATEGORIES:Public,Holiday"),
            *event("DTSTART:20260301T080000Z", "DURATION:PT2H", "SUMMARY:release"),
            *event("DTSTART;TZID=America/New_York:20260701T090000", "DTEND:20260701T150000Z"),
        ),
        "days.ics",
    )
    assert read_calendar(file, "Europe/Berlin") == [
        CalendarEntry("holiday", utc(2026, 4, 30, 22), utc(2026, 5, 1, 22), "May Day"),
        CalendarEntry("announced", utc(2026, 3, 1, 8), utc(2026, 3, 1, 10), "release"),
        CalendarEntry("announced", utc(2026, 7, 1, 13), utc(2026, 7, 1, 15)),
    ]


def test_repeating_events_are_written_out_without_their_exceptions(written):
    days = event(
        "DTSTART;VALUE=DATE:20251225",
        "RRULE:FREQ=YEARLY;COUNT=3",
        "EXDATE;VALUE=DATE:20261225",
        "CATEGORIES:HOLIDAY",
    )
    found = read_calendar(written(ics(*days), "days.ics"))
    assert [entry.start for entry in found] == [utc(2025, 12, 25), utc(2027, 12, 25)]


def test_a_repeating_hour_follows_the_clock(written):
    hours = event(
        "DTSTART;TZID=Europe/Berlin:20260328T080000",
        "DTEND;TZID=Europe/Berlin:20260328T090000",
        "RRULE:FREQ=DAILY;COUNT=2",
    )
    found = read_calendar(written(ics(*hours), "days.ics"))
    assert [entry.start for entry in found] == [utc(2026, 3, 28, 7), utc(2026, 3, 29, 6)]


def test_an_endless_event_is_refused_and_a_yearly_one_ends_with_the_century(written):
    endless = event("DTSTART;VALUE=DATE:20260101", "SUMMARY:stand-up", "RRULE:FREQ=DAILY")
    with pytest.raises(
        DataError, match=r"event 1 \(stand-up\).*more than 1,000 times; give it UNTIL"
    ):
        read_calendar(written(ics(*endless), "days.ics"))
    yearly = event("DTSTART;VALUE=DATE:20260101", "RRULE:FREQ=YEARLY", "CATEGORIES:HOLIDAY")
    assert len(read_calendar(written(ics(*yearly), "days.ics"))) == 2100 - 2026
    with pytest.raises(DataError, match="leave of ada .* lasts longer than a year"):
        read_calendar(
            written("kind,start,end,user_id\nleave,2026-01-01,9999-01-01,ada\n", "days.csv")
        )


@pytest.mark.parametrize(
    ("second", "refused"),
    [
        ("leave,2026-07-10,2026-07-20,ada,", True),
        ("leave,2026-07-01,2026-07-15,ada,", False),  # the same once more
        ("leave,2026-07-15,2026-07-20,ada,", False),  # the end is exclusive
        ("leave,2026-07-10,2026-07-20,bob,", False),
        ("leave,2026-07-10,2026-07-20,,developers", False),
        ("announced,2026-07-10,2026-07-20,ada,", False),
    ],
)
def test_overlapping_events_of_one_kind_and_scope_are_refused(written, second, refused):
    lines = f"kind,start,end,user_id,cohort\nleave,2026-07-01,2026-07-15,ada,\n{second}\n"
    file = written(lines, "days.csv")
    if refused:
        with pytest.raises(
            DataError, match="2026-07-01.* and leave of ada from 2026-07-10.* overlap"
        ):
            read_calendar(file)
    else:
        assert len(read_calendar(file)) == 2


def test_an_event_of_a_user_and_a_group_is_refused(written):
    file = written("kind,start,user_id,cohort\npayday,2026-07-31,ada,developers\n", "days.csv")
    with pytest.raises(
        DataError, match="row 2, column cohort: 'developers' stands beside a user_id"
    ):
        read_calendar(file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no calendar at all\n", "days.ics: no readable calendar"),
        (ics(*event("SUMMARY:never")), r"days.ics event 1 \(never\)"),
        (
            ics(*event("DTSTART:20260102T000000Z", "DTEND:20260101T000000Z")),
            "ends before it starts",
        ),
    ],
)
def test_a_calendar_that_cannot_be_understood_is_refused(written, content, message):
    with pytest.raises(DataError, match=message):
        read_calendar(written(content, "days.ics"))
