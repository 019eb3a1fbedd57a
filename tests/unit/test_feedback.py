"""Verdicts as people write them, and which flags a suppression quiets."""

import datetime as dt
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomaly.exceptions import UsageError
from anomaly.feedback import Label, Remark, Suppression, quieted_by, verdict_of
from anomaly.records import DIRECTIONS, KINDS
from tests.contracts.conftest import FLAG, MARCH

EVERYTHING = Suppression(start=MARCH, reason="", author="ann")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("true", "true"), ("False alarm", "false_alarm"), ("false-alarm", "false_alarm"),
        (" new  NORMAL ", "new_normal"), ("real", "true"), ("false", "false_alarm"),
    ],
)  # fmt: skip
def test_verdicts_as_people_write_them(written, meant):
    assert verdict_of(written) == meant


def test_what_is_no_verdict_says_what_to_do():
    with pytest.raises(UsageError, match=r"'unsure' is no longer one: .* acknowledge"):
        verdict_of("unsure")
    with pytest.raises(UsageError, match=r"'flase alarm' .* Did you mean false_alarm"):
        verdict_of("flase alarm")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Label("f", "maybe", "ann"), "verdict 'maybe' is none of true"),
        (lambda: Label("f", "true", " "), "author: give a name"),
        (lambda: Label("f", "true", "ann", "x" * 5_000), "note: 5000 characters, at most 4000"),
        (lambda: Label("f", "true", "ann", "a\0b"), "NUL"),
        (lambda: Label("f", "true", "ann", scope="world"), "scope 'world' is none of user"),
        (lambda: Remark("f", "ann"), "it says nothing"),
        (lambda: Remark("f", "ann", status="done"), "status 'done' is none of open"),
        (lambda: replace(EVERYTHING, end=MARCH), "would end .* before it begins"),
        (lambda: replace(EVERYTHING, kind="odd"), "kind 'odd' is none of burst"),
        (lambda: replace(EVERYTHING, least_score=-1.0), "a least score of -1.0 is none"),
        (lambda: replace(EVERYTHING, least_effect=float("nan")), "a least effect of nan is none"),
    ],
)
def test_what_cannot_be_meant_is_refused(make, message):
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize(
    ("change", "quiets"),
    [
        ({}, True),
        ({"user_id": "ann"}, True),
        ({"user_id": "bob"}, False),
        ({"cohort": "engineers"}, True),
        ({"cohort": "sales"}, False),
        ({"metric": "files_read"}, True),
        ({"metric": "logins"}, False),  # named, but not the leading one
        ({"kind": "drift"}, False),
        ({"direction": "down"}, False),
        ({"start": FLAG.start + dt.timedelta(seconds=1)}, False),
        ({"end": FLAG.start}, False),
        ({"least_score": 2.5}, False),
        ({"least_score": 2.6}, True),
        ({"least_effect": 1_607.9}, False),
        ({"least_effect": 1_608.0}, True),
    ],
)
def test_who_and_what_a_suppression_covers(change, quiets):
    one = replace(EVERYTHING, **change)
    assert one.quiets(FLAG, "engineers") == quiets
    assert quieted_by(FLAG, "engineers", [(7, one)]) == (7 if quiets else None)


scopes = st.builds(
    Suppression,
    start=st.just(MARCH),
    reason=st.just(""),
    author=st.just("ann"),
    user_id=st.sampled_from([None, "ann", "bob"]),
    metric=st.sampled_from([None, "files_read", "logins"]),
    kind=st.sampled_from([None, *KINDS]),
    direction=st.sampled_from([None, *DIRECTIONS]),
    least_score=st.none() | st.floats(0.1, 20),
)


@given(one=scopes, kind=st.sampled_from(KINDS), score=st.floats(1, 20), more=st.floats(0, 20))
def test_more_evidence_is_never_quieted_where_less_is_shown(one, kind, score, more):
    weak = replace(FLAG, kind=kind, score=score)
    if not one.quiets(weak, "engineers"):
        assert not one.quiets(replace(weak, score=score + more), "engineers")


@given(one=scopes, kind=st.sampled_from(KINDS))
def test_other_kinds_are_never_quieted(one, kind):
    if one.kind is not None and one.kind != kind:
        assert not one.quiets(replace(FLAG, kind=kind), "engineers")
