"""Which flags came, went and changed."""

import datetime as dt
from dataclasses import replace

import pytest

from anomaly.difference import Change, changes, summary
from tests.factories import band
from tests.factories import flag as a_flag

START = dt.datetime(2026, 3, 12, 3, tzinfo=dt.UTC)
HOUR = dt.timedelta(hours=1)


def flag(name="a", user="ann", start=START, hours=1, **others):
    usual = a_flag(user, band(1), start=0, hours=1)
    return replace(usual, flag_id=name, start=start, end=start + hours * HOUR, **others)


def kinds(before, after):
    return [(change.kind, change.flag.flag_id) for change in changes(before, after)]


def test_equal_flags_are_no_difference():
    assert changes([flag()], [flag()]) == []
    assert changes([flag(score=2.0)], [flag(score=2.0 + 1e-9)]) == []


def test_flags_come_and_go():
    assert kinds([flag("a")], [flag("b", user="bob")]) == [("went", "a"), ("came", "b")]
    assert kinds([flag("a")], [flag("b", start=START + HOUR)]) == [("went", "a"), ("came", "b")]


@pytest.mark.parametrize("other", [{"score": 3.5}, {"severity": "low"}, {"kind": "shift"}])
def test_a_flag_of_the_same_id_that_differs_has_changed(other):
    assert kinds([flag()], [flag(**other)]) == [("changed", "a")]


def test_a_flag_whose_edge_moved_has_changed():
    old, new = flag("a", hours=2), flag("b", start=START + HOUR, hours=3)
    assert changes([old], [new]) == [Change("changed", old, new)]


def test_each_flag_has_one_counterpart():
    old = flag("a", hours=8)
    parts = [flag("b", hours=2), flag("c", start=START + 4 * HOUR)]
    assert sorted(kinds([old], parts)) == [("came", "c"), ("changed", "b")]


def test_the_same_flag_under_another_id_is_the_same():
    assert changes([flag("a")], [flag("b")]) == []


def test_a_summary_counts():
    assert summary(["came", "went", "came"]) == "flags: 2 came, 1 went"
    assert summary([]) == "no flag is different"
