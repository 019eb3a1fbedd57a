import datetime as dt

import pytest

from anomaly.exceptions import DataError, UsageError
from anomaly.labels import read_labels


def read(text):
    return read_labels(text, "l.csv", "ann")


def test_columns_come_in_any_order_and_may_be_left_out():
    text = '\ufeffverdict,flag_id,note,author,until\nFalse alarm,f1,"a, b",bob,2026-12-31\ntrue,f2,,,\n'
    first, second = read(text)
    assert (first.flag_id, first.verdict, first.note, first.author) == (
        "f1", "false_alarm", "a, b", "bob",
    )  # fmt: skip
    assert first.until == dt.datetime(2026, 12, 31, tzinfo=dt.UTC)
    assert (second.author, second.until, second.scope) == ("ann", None, "user")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", DataError, "has no column flag_id, verdict"),
        ("flag_id,verdict\n", DataError, "holds no labels"),
        ("flag_id\nf1\n", DataError, "has no column verdict"),
        ("flag_id,verdict,nota\n", DataError, "column 'nota' is not known. Did you mean note"),
        ("flag_id,verdict\nf1\n", DataError, "l.csv line 2: has more or fewer cells"),
        ("flag_id,verdict\nf1,true,x\n", DataError, "l.csv line 2: has more or fewer cells"),
        ("flag_id,verdict\nf1,true\nf2,maybe\n", UsageError, "l.csv line 3: verdict 'maybe'"),
        ('flag_id,verdict\n"f1,true\n', DataError, "is no CSV"),
        ("flag_id,verdict,until\nf1,true,soon\n", UsageError, "line 2: until 'soon' is no day"),
        ("flag_id,verdict,scope\nf1,true,all\n", UsageError, "line 2: scope 'all' is none of"),
    ],
)
def test_a_bad_line_is_named(text, error, message):
    with pytest.raises(error, match=message):
        read(text)
