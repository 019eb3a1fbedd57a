"""Reading CSV files: every kind of bad input, and what becomes of it."""

import csv
import gzip

import pytest

from anomaly.exceptions import DataError, SourceError, UsageError
from anomaly.rows import SCHEMA
from anomaly.sources import Checks, Tally, delimited, parse_columns, read_file

HEADER = "user_id,metric,observed_at,value\n"
GOOD = "u,m,2026-01-01T00:00:00Z,1\n"


@pytest.fixture
def written(tmp_path):
    def write(content, name="oct.csv"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return write


def read(path, *args, **kwargs):
    """All observations as tuples, and all rejects as (location, reason)."""
    batches = list(read_file(path, *args, **kwargs))
    assert all(batch.table.schema == SCHEMA for batch in batches)
    rows = [tuple(row.values()) for batch in batches for row in batch.table.to_pylist()]
    seen = [(user, metric, when.isoformat(), value) for user, metric, when, value in rows]
    return seen, [(each.location, each.reason) for batch in batches for each in batch.rejects]


def row(time="2026-01-01T00:00:00Z", value="1", user="u", metric="m"):
    return f"{user},{metric},{time},{value}\n"


def times(path, **kwargs):
    return [when for _, _, when, _ in read(path, **kwargs)[0]]


def test_a_long_file_is_its_rows(written):
    rows, rejects = read(written(HEADER + GOOD + row(value="2.5", user="v")))
    assert rows == [
        ("u", "m", "2026-01-01T00:00:00+00:00", 1.0),
        ("v", "m", "2026-01-01T00:00:00+00:00", 2.5),
    ]
    assert rejects == []


@pytest.mark.parametrize(
    "time",
    [
        "2026-01-01T00:00:00Z",
        "2026-01-01 00:00:00+00:00",
        "2026-01-01T01:00:00+01:00",
        "2026-01-01 01:00+0100",
        "2025-12-31T19:00:00.000-05:00",
        "2026-01-01",
        "2026-01-01 00:00",
        "20260101T000000Z",
        " 2026-01-01T00:00:00 ",
        "1767225600",
        "1767225600000",
        "1767225600000000",
        "1767225600000000000",
    ],
)
def test_one_instant_in_many_writings(written, time):
    expected = ["2026-01-01T00:00:00+00:00"]
    assert times(written(HEADER + row(time))) == expected
    # Among others, so that not all are written alike.
    others = row("2026-01-01T05:00:00Z") + row("2026-01-01T06:00:00") + row("1767250800")
    assert times(written(HEADER + row(time) + others))[:1] == expected


@pytest.mark.parametrize(
    "time",
    ["yesterday", "01/02/2026", "2026-13-01", "2026-02-30", "2026-01-01T25:00", "12:00", "2026", "5",
     "2026-01-01T00:00:00 Europe/Berlin", "-1767225600", "1e9"],
)  # fmt: skip
def test_an_unreadable_time_is_set_aside_with_its_row(written, time):
    rows, rejects = read(written(HEADER + GOOD + row(time)))
    assert len(rows) == 1
    assert rejects == [("oct.csv row 3", "unreadable_time")]


@pytest.mark.parametrize("time", ["0001-01-01", "1969-12-31T23:59:59Z", "9999-12-31 00:00:00"])
def test_a_placeholder_is_no_time(written, time):
    assert read(written(HEADER + row(time)))[1] == [("oct.csv row 2", "time_out_of_range")]


def test_zones_may_be_mixed_and_naive_times_are_those_of_the_given_zone(written):
    file = written(HEADER + row("2026-07-01T12:00:00") + row("2026-07-01T12:00:00Z", value="2"))
    assert times(file, timezone="Europe/Berlin") == [
        "2026-07-01T10:00:00+00:00",
        "2026-07-01T12:00:00+00:00",
    ]


def test_a_wall_clock_time_that_was_skipped_is_set_aside(written):
    file = written(
        HEADER + row("2026-03-29 01:59") + row("2026-03-29 02:30") + row("2026-03-29 03:00")
    )
    rows, rejects = read(file, timezone="Europe/Berlin")
    assert [when for _, _, when, _ in rows] == [
        "2026-03-29T00:59:00+00:00",
        "2026-03-29T01:00:00+00:00",
    ]
    assert rejects == [("oct.csv row 3", "nonexistent_time")]


def test_a_wall_clock_hour_that_comes_twice_is_two_hours(written):
    hours = ["01:00", "02:00", "02:00", "03:00"]
    rows = "".join(
        row(f"2026-10-25 {hour}", value=str(place), user=user)
        for user in "uv"
        for place, hour in enumerate(hours)
    )
    assert times(written(HEADER + rows), timezone="Europe/Berlin") == 2 * [
        "2026-10-24T23:00:00+00:00",
        "2026-10-25T00:00:00+00:00",
        "2026-10-25T01:00:00+00:00",
        "2026-10-25T02:00:00+00:00",
    ]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("much", "unreadable_value"),
        ("1,5".replace(",", "."), None),
        ("1.2.3", "unreadable_value"),
        ("n/a", "unreadable_value"),
        ("", "missing_value"),
        ("  ", "missing_value"),
        ("NaN", "not_finite"),
        ("nan", "not_finite"),
        ("inf", "not_finite"),
        ("-inf", "not_finite"),
        ("1e300", "value_too_large"),
        ("-1e300", "value_too_large"),
        ("1e999", "not_finite"),
        ("1e30", None),
        (" 7 ", None),
        ("-3", None),
    ],
)
def test_values(written, value, reason):
    file = written(HEADER + GOOD + row("2026-01-01T01:00:00Z", value))
    rows, rejects = read(file)
    assert rejects == ([] if reason is None else [("oct.csv row 3", reason)])
    assert len(rows) == (2 if reason is None else 1)


def test_a_count_below_zero_is_set_aside_where_it_is_known_to_be_a_count(written):
    file = written(HEADER + row(value="-3") + row(value="-3", metric="balance"))
    assert read(file)[1] == []
    checks = Checks(counts=frozenset({"m"}))
    assert read(file, checks=checks)[1] == [("oct.csv row 2", "negative_count")]


def test_rows_after_now_are_set_aside(written):
    file = written(HEADER + row("2026-01-01T00:00:00Z") + row("2026-01-01T00:00:01Z"))
    assert read(file, checks=Checks(now=1_767_225_600))[1] == [("oct.csv row 3", "future_time")]


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        ("it's", None),
        ('"say ""hi"""', None),
        ('"two\nlines"', None),
        ('"a,b"', None),
        ("🦊", None),
        ("é" * 256, None),
        ("é" * 257, "user_id_too_long"),
        ("x" * 10_000, "user_id_too_long"),
        ("a\0b", "nul_character"),
        ("", "missing_user_id"),
    ],
)
def test_user_ids(written, user, reason):
    rows, rejects = read(written(HEADER + row(user=user) + GOOD))
    assert rejects == ([] if reason is None else [("oct.csv row 2", reason)])
    if reason is None:
        (fields,) = csv.reader([user], strict=True) if "\n" not in user else [[user.strip('"')]]
        assert [rows[0][0]] == fields


def test_a_metric_needs_a_name_of_moderate_length(written):
    rows, rejects = read(written(HEADER + row(metric="") + row(metric="x" * 600) + GOOD))
    assert len(rows) == 1
    assert [reason for _, reason in rejects] == ["missing_metric", "metric_too_long"]


def test_equal_rows_are_joined_and_counted_and_contradicting_ones_set_aside(written):
    file = written(HEADER + GOOD + GOOD + row(value="2") + row("2026-01-01T02:00:00+02:00", "3"))
    (batch,) = read_file(file)
    assert batch.table["value"].to_pylist() == [1.0]
    assert batch.joined == 1
    assert batch.read == 4
    assert [(each.location, each.reason) for each in batch.rejects] == [
        ("oct.csv row 4", "contradicting_duplicate"),
        ("oct.csv row 5", "contradicting_duplicate"),
    ]


def test_repeats_are_known_across_blocks(written, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 4_096)
    hours = [f"2026-01-{day:02d}T{hour:02d}:00:00Z" for day in range(1, 29) for hour in range(24)]
    once = "".join(row(hour) for hour in hours)
    batches = list(read_file(written(HEADER + once + once + row(hours[3], "9"))))
    assert len(batches) > 5
    tally = Tally()
    for batch in batches:
        tally.add(batch)
    assert (tally.read, tally.joined, tally.rejected) == (2 * len(hours) + 1, len(hours), 1)
    assert tally.first.location == f"oct.csv row {2 * len(hours) + 2}"


def test_events_at_different_moments_are_all_kept(written):
    file = written(HEADER + row("2026-01-01T00:00:00.1Z") + row("2026-01-01T00:00:00.2Z"))
    assert len(read(file)[0]) == 2


def test_rows_out_of_order_are_the_same_rows(written):
    lines = [row(f"2026-01-{day:02d}T00:00:00Z", str(day)) for day in range(1, 29)]
    forwards, _ = read(written(HEADER + "".join(lines)))
    backwards, _ = read(written(HEADER + "".join(lines[::-1])))
    assert sorted(forwards) == sorted(backwards)


def test_rows_with_too_many_or_too_few_fields_are_set_aside_and_numbers_stay_true(written):
    content = (
        HEADER + GOOD + "u,m\n" + "\n" + "u,m,2026-01-02,1,2\n" + row("never") + row("2026-01-03")
    )
    rows, rejects = read(written(content))
    assert len(rows) == 2
    assert sorted(rejects) == [
        ("oct.csv row 3", "wrong_field_count"),
        ("oct.csv row 5", "wrong_field_count"),
        ("oct.csv row 6", "unreadable_time"),
    ]


@pytest.mark.parametrize(
    "end", ['u,m,"' + "x" * 200_000, "u,m,2026-0", 'u,m,"2026-01-02T00:00:00Z,1\n', '"u']
)
def test_a_file_cut_within_a_row_loses_no_row_in_silence(written, end):
    rows, rejects = read(written(HEADER + GOOD + end))
    assert len(rows) == 1
    assert rejects == [("oct.csv row 3", "wrong_field_count")]


def test_a_quote_within_a_name_is_no_cut(written):
    rows, rejects = read(written(HEADER + row(user='5" disk')))
    assert rows[0][0] == '5" disk'
    assert rejects == []


def test_latin_1_rows_are_set_aside(written):
    content = (HEADER + GOOD).encode() + row(user="Ren\xe9").encode("latin-1")
    rows, rejects = read(written(content))
    assert len(rows) == 1
    assert rejects == [("oct.csv row 3", "not_utf8")]


def test_a_latin_1_row_of_wrong_length_is_set_aside_too(written):
    content = (HEADER + GOOD).encode() + "Ren\xe9\n".encode("latin-1")
    (batch,) = read_file(written(content))
    assert len(batch.table) == 1
    assert [(each.reason, each.text) for each in batch.rejects] == [
        ("wrong_field_count", "Ren\N{REPLACEMENT CHARACTER}")
    ]


def test_characters_at_the_border_of_two_blocks_stay_whole(written, monkeypatch):
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 101)
    users = [f"🦊é{place}" for place in range(200)]
    rows, rejects = read(written(HEADER + "".join(row(user=user) for user in users)))
    assert [user for user, *_ in rows] == users
    assert rejects == []


def test_latin_1_columns_are_refused_with_the_remedy(written):
    with pytest.raises(DataError, match=r"oct\.csv row 1: .*UTF-8.*iconv"):
        read(written("ben\xfctzer,metric,observed_at,value\n".encode("latin-1")))


def test_utf_16_is_refused(written):
    with pytest.raises(DataError, match="UTF-8"):
        read(written((HEADER + GOOD).encode("utf-16")))


@pytest.mark.parametrize("content", ["", "\n", "   "])
def test_an_empty_file_is_refused_by_name(written, content):
    with pytest.raises(DataError, match=r"oct\.csv: the file is empty"):
        read(written(content))


def test_a_header_alone_is_no_rows(written):
    assert read(written(HEADER)) == ([], [])


def test_a_byte_order_mark_and_other_delimiters(written):
    content = "\ufeff" + (HEADER + GOOD).replace(",", ";")
    assert len(read(written(content))[0]) == 1
    assert len(read(written((HEADER + GOOD).replace(",", "\t"), "oct.tsv"))[0]) == 1


def test_compressed_files(written):
    assert len(read(written(gzip.compress((HEADER + GOOD).encode()), "oct.csv.gz"))[0]) == 1


def test_a_compressed_file_cut_in_half_is_refused(written):
    rows = "".join(row(f"2026-01-01T00:00:00.{place:06d}Z", str(place)) for place in range(50_000))
    whole = gzip.compress((HEADER + rows).encode())
    with pytest.raises(DataError, match=r"oct\.csv\.gz: .*cut short"):
        read(written(whole[: len(whole) // 2], "oct.csv.gz"))


def test_a_plain_series_is_one_user_with_one_metric(written):
    rows, _ = read(written("timestamp,value\n2026-01-01 00:00:00,3\n", "pump.csv"))
    assert rows == [("pump", "value", "2026-01-01T00:00:00+00:00", 3.0)]


def test_other_columns_of_a_plain_series_are_passed_over(written):
    rows, rejects = read(written("timestamp,value,label\n2026-01-01,3,fine\n", "pump.csv"))
    assert (len(rows), rejects) == (1, [])


def test_a_wide_file_has_a_metric_in_each_column_of_numbers(written):
    content = "user_id,observed_at,mails,place,logins\nu,2026-01-01,3,Bonn,\nv,2026-01-01,,Ulm,x\n"
    file = written(content + "w,2026-01-01,5,Kiel,4\n")
    rows, rejects = read(file)
    assert sorted((user, metric, value) for user, metric, _, value in rows) == [
        ("u", "mails", 3.0),
        ("w", "logins", 4.0),
        ("w", "mails", 5.0),
    ]
    assert rejects == [("oct.csv row 3", "unreadable_value")]


def test_columns_of_which_nothing_is_read_are_named(written):
    def passed(content):
        (batch,) = read_file(written(content))
        return batch.passed

    wide = "user_id,observed_at,mails,place\nu,2026-01-01,3,Bonn\n"
    assert passed(wide) == ("place",)
    assert passed(HEADER.replace("value", "value,mails") + GOOD.replace(",1", ",1,7")) == ("mails",)
    assert passed(HEADER + GOOD) == ()


@pytest.mark.parametrize("word", ["2,5", " -0,25", "1,234", "1,234,567.5", "1.234,5"])
def test_a_column_of_numbers_with_commas_is_refused(written, word):
    rows = f'u,2026-01-02,2,""\nu,2026-01-03,2,"{word}"\nu,2026-01-04,2,"1,5"\nu,2026-01-05,2,3\n'
    told = rf"oct.csv row 3, column mails: '{word}' looks like a number with a comma.*point"
    with pytest.raises(DataError, match=told):
        read(written("user_id,observed_at,logons,mails\n" + rows))


@pytest.mark.parametrize("word", ["a,b", "2026-01-01", "52.1, 13.4", "10.0.0.1"])
def test_other_columns_of_text_are_passed_over(written, word):
    (batch,) = read_file(written(f'observed_at,mails,text\n2026-01-01,2,"{word}"\n'))
    assert batch.passed == ("text",)


def test_ten_thousand_metrics(written):
    names = [f"m{place}" for place in range(10_000)]
    content = f"observed_at,{','.join(names)}\n2026-01-01,{','.join(['1'] * 10_000)}\n"
    rows, _ = read(written(content))
    assert sorted(metric for _, metric, _, _ in rows) == sorted(names)


def test_a_wide_file_without_numbers_is_refused(written):
    with pytest.raises(DataError, match="no column of numbers among place, name"):
        read(written("observed_at,place,name\n2026-01-01,Bonn,Ada\n"))


@pytest.mark.parametrize(
    ("header", "missing"),
    [
        ("a,b", "observed_at"),
        ("user_id,metric,value", "observed_at"),
        ("user_id,metric,observed_at", "value"),
        ("observed_at", "value"),
    ],
)
def test_a_missing_column_is_named_with_what_is_there_and_the_remedy(written, header, missing):
    with pytest.raises(
        DataError, match=rf"oct\.csv: .*'{missing}', only {header.split(',')[0]}.*--columns"
    ):
        read(written(header + "\n1\n"))


def test_a_column_that_is_there_twice_is_refused(written):
    with pytest.raises(DataError, match="'value' is there twice"):
        read(written("observed_at,value,value\n2026-01-01,1,2\n"))


def test_columns_are_mapped(written):
    file = written("who,when,amount,value\nu,2026-01-01,5,ignored\n")
    mapping = parse_columns("user_id=who, observed_at=when,value=amount")
    rows, _ = read(file, mapping, metric="bytes")
    assert rows == [("u", "bytes", "2026-01-01T00:00:00+00:00", 5.0)]


def test_a_mapped_column_that_is_not_there_is_named(written):
    with pytest.raises(DataError, match="'who', only user_id"):
        read(written(HEADER + GOOD), {"user_id": "who"})


@pytest.mark.parametrize("text", ["who", "user_id=", "nobody=x", "user_id=a,user_id=b"])
def test_a_mapping_that_cannot_be_read_is_refused(text):
    with pytest.raises(UsageError, match="user_id"):
        parse_columns(text)


def test_no_mapping_is_an_empty_one():
    assert parse_columns("") == {}


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(SourceError, match=r"nowhere\.csv: there is no such file"):
        read(tmp_path / "nowhere.csv")


def test_a_file_that_may_not_be_opened_is_named(written, monkeypatch):
    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    file = written(HEADER)
    monkeypatch.setattr(delimited, "_open", refuse)
    with pytest.raises(SourceError, match=r"oct\.csv: cannot be read \(Permission denied\)"):
        read(file)


def test_a_folder_is_all_its_files_and_one_source(written, tmp_path):
    written(HEADER + GOOD, "months/a.csv")
    written(HEADER + row(value="2") + row("2026-01-02"), "months/deep/b.csv")
    written("junk", "months/_logs/c.csv")
    written("junk", "months/notes.md")
    rows, rejects = read(tmp_path / "months")
    assert [value for *_, value in rows] == [1.0, 1.0]
    assert rejects == [("b.csv row 2", "contradicting_duplicate")]


def test_a_folder_without_files_of_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"no \.parquet or \.csv file"):
        read(tmp_path)


def test_wanted_times_and_users(written):
    file = written(
        HEADER + GOOD + row("2026-01-02T00:00:00Z") + row("2026-01-02T00:00:00Z", user="v")
    )
    checks = Checks(start=1_767_312_000, end=1_767_312_001, users=frozenset({"v"}))
    rows, _ = read(file, checks=checks)
    assert [user for user, *_ in rows] == ["v"]


def tally_of(path):
    tally = Tally()
    for batch in read_file(path):
        tally.add(batch)
    return tally


def test_too_many_bad_rows_refuse_the_data_with_counts_and_the_first(written):
    bad = tally_of(written(HEADER + GOOD * 10 + row("never") + row(value="much") + row("never")))
    bad.refuse_beyond(3 / 13, "oct.csv")
    with pytest.raises(
        DataError, match=r"3 of 13 .*unreadable_time: 2, unreadable_value: 1.*row 12"
    ):
        bad.refuse_beyond(0.05, "oct.csv")


def test_good_data_are_not_refused(written):
    tally_of(written(HEADER)).refuse_beyond(0.0, "oct.csv")
    tally_of(written(HEADER + GOOD)).refuse_beyond(0.0, "oct.csv")


def test_the_text_of_a_bad_row_is_kept_but_not_all_of_it(written):
    (batch,) = read_file(written(HEADER + row("never", user="x" * 400) + row("never", "7")))
    assert [len(each.text) for each in batch.rejects] == [200, len("u,m,never,7")]
    assert batch.rejects[1].text == "u,m,never,7"
