"""Models, states, leases, users, events, rejects and requests."""

import datetime as dt

import pytest

from anomaly.exceptions import DataError, ModelError, UsageError
from anomaly.store import EventRow, Lease, Token, UserRow
from tests.contracts.conftest import MARCH, NOW, started

DAY = dt.timedelta(days=1)
TTL = dt.timedelta(seconds=30)


def register(store, version, trained_to=MARCH, **changes):
    values = {
        "version": version,
        "address": version,
        "sha256": f"sum of {version}",
        "trained_from": MARCH - 90 * DAY,
        "trained_to": trained_to,
        "validation_loss": 0.5,
        "twin_loss": 0.7,
        "calibration_error": 0.01,
        "users": 100,
        "metrics": ("logins", "bytes;out", "ünï"),
        "configuration": "c1",
        "now": NOW,
    }
    return store.models.register(**{**values, **changes})


def test_a_model_comes_back_as_it_was_registered(store):
    row = register(store, "m1")
    assert row == store.models.get("m1")
    assert (row.state, row.metrics, row.trained_to) == (
        "candidate",
        ("logins", "bytes;out", "ünï"),
        MARCH,
    )
    assert register(store, "m1", now=NOW + DAY) == row, "again changes nothing"
    assert store.models.champion() is None, "a candidate does not score"


def test_a_version_is_one_set_of_files(store):
    register(store, "m1")
    with pytest.raises(ModelError, match="model m1: registered with sha256 sum of m1"):
        register(store, "m1", sha256="other")


def test_unknown_models_are_named(store):
    for ask in (
        store.models.get,
        lambda v: store.models.promote(v, NOW),
        lambda v: store.models.refuse(v, ""),
    ):
        with pytest.raises(ModelError, match="model 'm9' is not registered"):
            ask("m9")


def test_figures_that_are_none_are_unknown(store):
    row = register(store, "m1", validation_loss=float("nan"), twin_loss=float("inf"))
    assert (row.validation_loss, row.twin_loss) == (None, None)


def test_one_champion_and_back(store):
    register(store, "m1")
    register(store, "m2", MARCH + 31 * DAY)
    store.models.promote("m1", NOW)
    promoted = store.models.promote("m2", NOW + DAY)
    assert (promoted.state, promoted.promoted_at) == ("champion", NOW + DAY)
    assert store.models.promote("m2", NOW + 2 * DAY) == promoted, "again changes nothing"
    assert store.models.get("m1").state == "retired"
    assert store.models.rollback(NOW + 3 * DAY).version == "m1"
    assert store.models.get("m2").state == "withdrawn"
    assert store.models.champion().version == "m1"
    with pytest.raises(ModelError, match="no champion came before this one"):
        store.models.rollback(NOW + 4 * DAY)
    assert [row.version for row in store.models.list()] == ["m2", "m1"]


def test_an_old_month_finds_the_model_of_its_time(store):
    for version, trained_to in (("m1", MARCH), ("m2", MARCH + 31 * DAY)):
        register(store, version, trained_to)
        store.models.promote(version, NOW)
    assert store.models.champion(before=MARCH + 31 * DAY).version == "m2"
    assert store.models.champion(before=MARCH).version == "m1"
    assert store.models.champion(before=MARCH - DAY) is None
    assert store.models.champion(before=MARCH, configuration="c2") is None


def test_a_refused_model_never_scores(store):
    register(store, "m1")
    assert store.models.refuse("m1", "loss is nan").note == "loss is nan"
    with pytest.raises(ModelError, match=r"m1 was refused \(loss is nan\)"):
        store.models.promote("m1", NOW)
    assert store.models.champion(before=NOW) is None


def test_states_are_kept_by_model_month_and_user(store):
    users = [f"u{n}" for n in range(1_100)]
    store.states.write("m1", "2026-02", users, [user.encode() for user in users])
    store.states.write("m1", "2026-02", ["u0"], [b"\x00\xff"])
    found = store.states.read("m1", "2026-02", [*users, "nobody"])
    assert found == {user: user.encode() for user in users} | {"u0": b"\x00\xff"}
    assert store.states.read("m1", "2026-02") == found
    assert store.states.read("m2", "2026-02") == {}
    store.states.write("m1", "2026-01", [], [])


def test_states_are_complete_when_sealed_or_when_the_month_is(store):
    assert not store.states.complete("m1", "2026-02")
    store.states.seal("m1", "2026-02", NOW)
    store.states.seal("m1", "2026-02", NOW + DAY)
    assert store.states.complete("m1", "2026-02")
    for state, complete in (("provisional", False), ("complete", True)):
        store.ledger.finish(started(store), state, NOW, model_version="m1")
        assert store.states.complete("m1", "2026-03") is complete
    assert not store.states.complete("m2", "2026-03")


def test_a_lease_has_one_holder_until_it_runs_out(store):
    first = store.lease.acquire("jobs", "one", TTL, NOW)
    assert first == Token("jobs", 1)
    assert store.lease.acquire("jobs", "two", TTL, NOW + TTL / 2) is None
    assert store.lease.acquire("jobs", "one", TTL, NOW) is None, "two threads share a holder's name"
    assert store.lease.renew("jobs", "one", first, TTL, NOW + TTL / 2)
    assert store.lease.holder("jobs") == Lease("jobs", "one", first, NOW + 1.5 * TTL)
    assert store.lease.acquire("jobs", "two", TTL, NOW + TTL) is None
    second = store.lease.acquire("jobs", "two", TTL, NOW + 1.5 * TTL)
    assert second == Token("jobs", 2)
    assert not store.lease.renew("jobs", "one", first, TTL, NOW)
    store.lease.release("jobs", "one", first)
    assert store.lease.holder("jobs").holder == "two", "an old holder frees nothing"


def test_a_lease_that_is_given_back_is_free_and_its_token_grows(store):
    assert store.lease.holder("jobs") is None
    first = store.lease.acquire("jobs", "one", TTL, NOW)
    store.lease.release("jobs", "one", first)
    assert store.lease.holder("jobs") is None
    assert store.lease.acquire("jobs", "two", TTL, NOW) == Token("jobs", 2)
    assert store.lease.acquire("other", "one", TTL, NOW) == Token("other", 1)


def test_users_are_replaced_by_name(store):
    ann = UserRow(
        "ann", "IT", "admin", "Europe/Berlin", "DE", dt.date(2026, 1, 1), dt.date(2026, 6, 1)
    )
    assert store.users.write([ann, UserRow("Zed"), UserRow("o'b\n🦉")]) == 3
    assert store.users.read() == [UserRow("Zed"), ann, UserRow("o'b\n🦉")]
    store.users.write([UserRow("ann", "HR")])
    assert store.users.read()[1] == UserRow("ann", "HR")
    assert store.users.write([]) == 0
    with pytest.raises(DataError, match="a user_id of 600 bytes cannot be stored"):
        store.users.write([UserRow("x" * 600)])


def test_the_same_event_is_one_row(store):
    leave = EventRow("leave", MARCH, MARCH + DAY, "skiing", "ann")
    party = EventRow("announced", MARCH + 5 * DAY, MARCH + 6 * DAY, cohort="IT")
    assert store.events.unknown([party, leave, party]) == [party, leave]
    for author in ("dana", "somebody later"):
        store.events.write([party, leave], NOW, author)
    assert store.events.unknown([party, leave]) == []
    assert {entry.author for entry in store.events.list()} == {"dana"}
    assert store.events.read() == [leave, party]
    assert store.events.read(start=MARCH + DAY) == [party]
    assert store.events.read(end=MARCH + DAY) == [leave]
    store.events.write([], NOW)


def test_an_event_is_withdrawn_and_may_come_again(store):
    leave = EventRow("leave", MARCH, MARCH + DAY, "skiing", "ann")
    store.events.write([leave], NOW, "dana")
    (entry,) = store.events.list()
    store.events.withdraw(entry.event_id, NOW + DAY, "eli")
    assert (store.events.read(), store.events.list()) == ([], [])
    (gone,) = store.events.list(withdrawn=True)
    assert (gone.event, gone.withdrawn_at, gone.withdrawn_by) == (leave, NOW + DAY, "eli")
    assert store.events.changed_since(NOW)
    assert not store.events.changed_since(NOW + DAY)
    assert store.events.unknown([leave]) == [leave]
    store.events.write([leave], NOW + 2 * DAY, "fay")
    (again,) = store.events.list(withdrawn=True)
    assert (again.withdrawn_at, again.withdrawn_by, again.author) == (None, "", "fay")
    assert store.events.get(entry.event_id[:8]) == again
    for unknown in ("nobody", ""):
        with pytest.raises(UsageError, match="of the calendar begin so"):
            store.events.get(unknown)


def test_rejects_are_kept_once_and_counted_by_reason(store):
    rows = [("row 7", "ann,logins,yesterday,1"), ("row 9", "nul \0 half \udc80" + "x" * 5_000)]
    assert store.rejects.write("oct.csv", "unreadable_time", rows, NOW) == 2
    assert store.rejects.write("oct.csv", "unreadable_time", rows, NOW + DAY) == 0
    assert store.rejects.write("oct.csv", "not_finite", [("row 7", "nan")], NOW + DAY) == 1
    assert store.rejects.write("oct.csv", "not_finite", [], NOW) == 0
    assert store.rejects.counts() == {"not_finite": 1, "unreadable_time": 2}
    latest, *_, last = store.rejects.list("oct.csv")
    assert (latest.reason, latest.location, latest.text, latest.rejected_at) == (
        "not_finite",
        "row 7",
        "nan",
        NOW + DAY,
    )
    assert last.text.startswith("nul \N{REPLACEMENT CHARACTER} half ?xxx")
    assert len(last.text) == 1_000
    assert store.rejects.list("other.csv") == []
    assert len(store.rejects.list(limit=2)) == 2


def test_rejects_from_very_long_places_fit_the_key(store):
    rows = [("é" * 10_000, "text")]
    assert store.rejects.write("é" * 10_000, "unreadable_value", rows, NOW) == 1


def test_requests_are_served_in_order_and_once(store):
    first = store.requests.ask("month", "2026-03", "ann", NOW)
    assert store.requests.ask("month", "2026-03", "bob", NOW) == first, "it is waiting already"
    second = store.requests.ask("rescore", "2026-03", "bob", NOW)
    assert store.requests.waiting() == [first, second]
    taken = store.requests.take(NOW + DAY, "scheduler")
    assert (taken.id, taken.taken_at, taken.holder) == (first.id, NOW + DAY, "scheduler")
    assert store.requests.take(NOW, "other").id == second.id
    assert store.requests.take(NOW, "other") is None
    store.requests.done(taken, NOW + DAY, started(store).id, "served")
    assert store.requests.ask("month", "2026-03", "ann", NOW).id not in (first.id, second.id)
