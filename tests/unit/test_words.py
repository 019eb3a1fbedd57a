import datetime as dt

import pytest

from anomaly.web import words


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (0.0213, "0.0213"),
        (7.4, "7.4"),
        (1_240.4, "1,240"),
        (3_100_000.0, "3.1 million"),
        (-12.0, "-12"),
        (float("nan"), "unknown"),
        (None, "unknown"),
    ],
)
def test_numbers_have_few_digits(value, text):
    assert words.number(value) == text


def test_chances():
    assert words.chance(4e-5) == "1 in 25,000"
    assert words.chance(0.0) == "less than 1 in a trillion"


def test_a_stretch_names_its_day_once():
    start = dt.datetime(2026, 3, 12, 1, tzinfo=dt.UTC)
    four = dt.timedelta(hours=4)
    assert words.stretch(start, start + four, "UTC") == "Thu 12 Mar 2026, 01:00 to 05:00"
    assert words.stretch(start, start + 24 * four / 4, "UTC").endswith("Fri 13 Mar 2026, 01:00")
