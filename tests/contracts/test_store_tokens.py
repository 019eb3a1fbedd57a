"""Tokens and sessions on both databases: hashed, ending, revocable."""

import datetime as dt

import pytest
import sqlalchemy as sa

from anomaly.exceptions import UsageError
from anomaly.roles import Role
from anomaly.store.tables import tokens
from tests.contracts.conftest import NOW

HOUR = dt.timedelta(hours=1)


def make(store, name="ann", role=Role.READER, until=NOW + HOUR):
    return store.tokens.create(name, role, "root", NOW, until)


def test_a_token_is_found_by_its_secret_alone(store):
    made, secret = make(store)
    found = store.tokens.find(secret, "token", NOW)
    assert (found.id, found.name, found.role, found.author) == (made.id, "ann", "reader", "root")
    for other in (secret[:-1], secret.upper(), "", "' OR 1=1 --", "a\0b"):
        assert store.tokens.find(other, "token", NOW) is None


def test_no_secret_is_kept(store):
    _, secret = make(store)
    session = store.tokens.open_session("ann", Role.READER, "token 1", NOW, NOW + HOUR, 1)
    with store._database.engine.connect() as connection:
        kept = str(connection.execute(sa.select(tokens)).all())
    assert secret not in kept
    assert session not in kept


def test_it_ends_when_it_says(store):
    _, secret = make(store)
    assert store.tokens.find(secret, "token", NOW + HOUR - dt.timedelta(seconds=1))
    assert store.tokens.find(secret, "token", NOW + HOUR) is None
    assert store.tokens.opens(NOW)
    assert not store.tokens.opens(NOW + HOUR)


def test_a_revoked_one_opens_nothing_and_ends_its_sessions(store):
    made, secret = make(store)
    session = store.tokens.open_session("ann", Role.READER, "t", NOW, NOW + HOUR, made.id)
    other = store.tokens.open_session("bob", Role.READER, "t", NOW, NOW + HOUR)
    assert store.tokens.revoke(made.id, NOW)
    assert not store.tokens.revoke(made.id, NOW), "a second time says so"
    assert store.tokens.find(secret, "token", NOW) is None
    assert store.tokens.find(session, "session", NOW) is None
    assert store.tokens.find(other, "session", NOW) is not None
    assert [token.state(NOW) for token in store.tokens.everyone()] == [
        "revoked",
        "revoked",
        "valid",
    ]


def test_use_is_noted_to_the_minute(store):
    _, secret = make(store)

    def used(seconds):
        store.tokens.find(secret, "token", NOW + dt.timedelta(seconds=seconds))
        return store.tokens.everyone()[0].last_used_at - NOW

    assert [used(seconds).total_seconds() for seconds in (0, 59, 61, 100)] == [0, 0, 61, 61]


def test_whoever_was_let_in_once_is_remembered(store):
    assert not store.tokens.ever_made()
    store.tokens.open_session("ann", Role.READER, "oidc", NOW, NOW + HOUR)
    assert not store.tokens.ever_made()
    made, _ = make(store)
    store.tokens.revoke(made.id, NOW)
    assert store.tokens.ever_made()


def test_old_sessions_are_removed_when_another_opens(store):
    store.tokens.open_session("ann", Role.READER, "oidc", NOW, NOW + HOUR)
    later = NOW + dt.timedelta(days=31)
    store.tokens.open_session("bob", Role.READER, "oidc", later, later + HOUR)
    assert [token.name for token in store.tokens.everyone()] == ["bob"]


@pytest.mark.parametrize("name", ["", "  ", "a" * 201, "line\nbreak", "null\0", "\x1b[31mred"])
def test_a_name_that_could_deceive_is_refused(store, name):
    with pytest.raises(UsageError, match="token name"):
        make(store, name)


def test_an_end_in_the_past_is_refused(store):
    with pytest.raises(UsageError, match="would open nothing"):
        make(store, until=NOW)
