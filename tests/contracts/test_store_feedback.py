"""What is said of flags, what follows from it, and that nothing of it is lost."""

import datetime as dt
from dataclasses import replace

import pytest
import sqlalchemy as sa

from anomaly.exceptions import ConflictError, UsageError
from anomaly.feedback import Label, Remark, Suppression, Terms
from anomaly.store import FlagFilter, Store, open_engine, schema
from tests.contracts.conftest import FLAG, MARCH, NOW, USER_MONTH, scored, started

TERMS = Terms(1.5, dt.timedelta(days=90))
LATER = FLAG.start + dt.timedelta(days=3)
SIMILAR = replace(FLAG, flag_id="f2", start=LATER, end=LATER + dt.timedelta(hours=1), score=3.0)
OTHER_KIND = replace(SIMILAR, flag_id="f3", kind="drift", score=2.0)
STRONG = replace(SIMILAR, flag_id="f4", score=9.0)
OF_BOB = replace(SIMILAR, flag_id="f5", user_id="bob", score=1.1)
FLAGS = [FLAG, SIMILAR, OTHER_KIND, STRONG, OF_BOB]


def published(store, flags=tuple(FLAGS), cohort="engineers"):
    run = started(store)
    people = [replace(USER_MONTH, user_id=user, cohort=cohort) for user in ("ann", "bob")]
    store.publish(run, 0, "2026-03", flags, people, {}, None, now=NOW)
    return store.ledger.finish(run, "complete", NOW)


def say(store, flag_id, verdict, author="ann", **more):
    (consequence,) = store.feedback.label([Label(flag_id, verdict, author, **more)], TERMS, NOW)
    return consequence


def quieted(store):
    return {row.flag.flag_id for row in store.flags.select(FlagFilter(suppressed=True))}


def seen(store):
    return {row.flag.flag_id: (row.status, row.label) for row in store.flags.select()}


def test_verdicts_close_flags_and_stay_when_the_month_is_run_again(store):
    scored(store, FLAGS)
    assert store.feedback.precision() is None
    for flag_id, verdict in zip(
        ("f1", "f2", "f3", "f5"), ("true", "false_alarm", "expected", "new_normal"), strict=True
    ):
        say(store, flag_id, verdict)
    scored(store, FLAGS)
    assert seen(store) == {
        "f1": ("closed", "true"),
        "f2": ("closed", "false_alarm"),
        "f3": ("closed", "expected"),
        "f4": ("open", None),
        "f5": ("closed", "new_normal"),
    }
    assert store.feedback.precision() == 0.5, "a new normal was a true change, an expected one not"
    assert store.feedback.verdicts("2026-03") == store.feedback.verdicts()
    assert store.feedback.verdicts("2026-02") == {}
    assert len(store.flags.select(FlagFilter(label="true"))) == 1


def test_a_verdict_is_overruled_only_by_who_has_seen_it(store):
    scored(store, FLAGS)
    say(store, "f1", "true")
    say(store, "f1", "true", author="bob")
    with pytest.raises(ConflictError, match=r"flag f1: bob said true on 2026-04-05 03:00 UTC"):
        say(store, "f1", "false_alarm", author="eve")
    say(store, "f1", "false_alarm", author="eve", replacing="true")
    assert seen(store)["f1"] == ("closed", "false_alarm")
    assert [(said.author, said.verdict) for said in store.feedback.said("f1")] == [
        ("ann", "true"), ("bob", "true"), ("eve", "false_alarm"),
    ]  # fmt: skip


def test_labels_come_all_or_none(store):
    scored(store, FLAGS)
    labels = [Label("f1", "true", "ann"), Label("f9", "true", "ann")]
    with pytest.raises(UsageError, match=r"flag 'f9' is not there"):
        store.feedback.label(labels, TERMS, NOW)
    with pytest.raises(UsageError, match=r"labels 1 and 2 contradict each other: flag f1"):
        store.feedback.label(
            [Label("f1", "true", "ann"), Label("f1", "expected", "bob")], TERMS, NOW
        )
    assert store.feedback.said("f1") == []


def test_a_superseded_flag_says_what_became_of_it(store):
    scored(store, FLAGS)
    run = scored(store, [FLAG])
    with pytest.raises(UsageError, match=rf"flag f2 is superseded: run {run.id} scored 2026-03"):
        say(store, "f2", "true")


def test_a_false_alarm_quiets_similar_flags_of_the_user(store):
    published(store)
    done = say(store, "f1", "false_alarm")
    assert (done.suppression, done.quieted) == (1, 2), "itself, and the one that is like it"
    assert quieted(store) == {"f2"}, "the judged flag shows its verdict"
    (one,) = store.suppressions.list()
    assert (one.suppression.user_id, one.suppression.metric) == ("ann", "files_read")
    assert one.suppression.least_score == 3.75
    assert one.suppression.end == NOW + TERMS.keep
    assert len(store.flags.select()) == 5, "nothing is lost"
    assert {row.flag.score for row in store.flags.select()} == {flag.score for flag in FLAGS}


def test_a_false_alarm_of_the_cohort_quiets_others_too(store):
    published(store)
    say(store, "f1", "expected", scope="cohort")
    assert quieted(store) == {"f2", "f5"}
    published(store, cohort="everyone")
    assert quieted(store) == set(), "published again, in no cohort"
    with pytest.raises(UsageError, match=r"ann is in no cohort"):
        say(store, "f2", "expected", scope="cohort")


def test_a_flag_published_later_is_quieted_too_until_the_suppression_ends(store):
    published(store, [FLAG])
    say(store, "f1", "false_alarm", until=LATER)
    published(store, [FLAG, SIMILAR])
    assert quieted(store) == set(), "it begins when the suppression has ended"
    say(store, "f1", "false_alarm")
    published(store, [FLAG, SIMILAR])
    assert quieted(store) == {"f2"}


def test_what_follows_is_taken_back_with_the_verdict(store):
    published(store)
    say(store, "f1", "false_alarm")
    assert say(store, "f1", "true", replacing="false_alarm").quieted == -2
    assert quieted(store) == set()
    assert store.suppressions.list() == []
    (gone,) = store.suppressions.list(revoked=True)
    assert (gone.revoked_at, gone.revoked_by) == (NOW, "ann")


def test_revoking_shows_the_flags_again_and_is_not_done_twice(store):
    published(store)
    say(store, "f1", "false_alarm")
    number, more = store.suppressions.add(
        Suppression(start=MARCH, reason="backups", author="bob", metric="files_read"), NOW
    )
    assert more == 3, "ignored whatever the evidence: the rest of the leading metric"
    assert quieted(store) == {"f2", "f3", "f4", "f5"}
    assert {one.id: one.quiets for one in store.suppressions.list()} == {1: 2, number: 3}
    assert store.suppressions.revoke(number, "ann", NOW) == 3
    assert quieted(store) == {"f2"}
    with pytest.raises(UsageError, match=r"suppression 2 was revoked on 2026-04-05 already"):
        store.suppressions.revoke(number, "ann", NOW)
    with pytest.raises(UsageError, match=r"suppression 77 is not there"):
        store.suppressions.revoke(77, "ann", NOW)


def test_a_new_normal_begins_a_baseline_and_drops_what_was_known_since(store):
    published(store)
    for month in ("2026-01", "2026-02", "2026-03"):
        store.states.write("m1", month, ["ann", "bob"], [b"a", b"b"])
    done = say(store, "f1", "new_normal")
    assert done.baseline == FLAG.start
    assert store.feedback.baselines() == {"ann": FLAG.start}
    assert set(store.states.read("m1", "2026-03")) == {"bob"}
    assert set(store.states.read("m1", "2026-02")) == {"ann", "bob"}
    store.states.write("m1", "2026-03", ["ann"], [b"anew"])
    say(store, "f1", "true", replacing="new_normal")
    assert store.feedback.baselines() == {}
    assert set(store.states.read("m1", "2026-03")) == {"bob"}, "rebuilt with the whole past again"


def test_remarks_set_status_and_assignee_and_keep_who_said_it_when(store):
    published(store)
    store.feedback.remark(Remark("f1", "ann", "asked HR", "acknowledged", "bob"), NOW)
    (row,) = store.flags.select(FlagFilter(assignee="bob"))
    assert (row.flag.flag_id, row.status) == ("f1", "acknowledged")
    say(store, "f1", "true")
    store.feedback.remark(Remark("f1", "bob", "again", "open", ""), NOW)
    row = store.flags.get("f1")
    assert (row.status, row.label, row.assignee) == ("open", "true", None)
    assert [said.note for said in store.feedback.said("f1")] == ["asked HR", "", "again"]
    with pytest.raises(UsageError, match=r"flag 'f9' is not there"):
        store.feedback.remark(Remark("f9", "ann", "hello"), NOW)


def test_the_refit_replaces_its_own_suppressions_alone(store):
    published(store)
    say(store, "f1", "false_alarm")
    floor = Suppression(start=MARCH, reason="2 of 3", author="anomaly", kind="burst", least_score=2)
    other = replace(floor, kind="drift")
    come, gone = store.suppressions.replace("anomaly", [floor, other], NOW)
    assert (len(come), gone) == (2, 0)
    again = replace(floor, reason="3 of 4", start=LATER)
    assert store.suppressions.replace("anomaly", [again], NOW) == ([], 1)
    assert {one.suppression.kind for one in store.suppressions.list()} == {"burst"}
    assert quieted(store) == {"f2", "f5"}


def test_former_verdicts_are_carried_over_and_back(database_url):
    engine = open_engine(database_url)
    schema.upgrade(engine, "0016")
    said = [("f1", "real"), ("f2", "false"), ("f3", "real"), ("f3", "unsure")]
    with engine.begin() as connection:
        for flag_id, verdict in said:
            connection.execute(
                sa.text(
                    "INSERT INTO feedback (flag_id, verdict, note, author, given_at) "
                    "VALUES (:flag, :verdict, 'why', 'ann', '2026-04-05T03:00:00+00:00')"
                ),
                {"flag": flag_id, "verdict": verdict},
            )
    schema.upgrade(engine)
    store = Store(engine, retries=0)
    scored(store, FLAGS)
    assert seen(store) == {
        "f1": ("closed", "true"), "f2": ("closed", "false_alarm"), "f3": ("acknowledged", "true"),
        "f4": ("open", None), "f5": ("open", None),
    }  # fmt: skip
    assert [row.note for row in store.feedback.said("f3")] == ["why", "why"]
    schema.downgrade(engine, "0016")
    with engine.connect() as connection:
        kept = connection.execute(sa.text("SELECT flag_id, verdict FROM feedback ORDER BY id"))
        assert [tuple(row) for row in kept] == said
    engine.dispose()
