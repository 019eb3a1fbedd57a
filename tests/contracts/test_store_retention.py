"""What retention deletes, and what has to stay."""

from dataclasses import replace

import pytest
import sqlalchemy as sa

from anomaly.store.states import READ_USERS
from tests.contracts.conftest import FLAG, NOW, USER_MONTH, scored, started


def rows(store, table):
    query = sa.text(f"SELECT count(*) FROM {table}")
    with store._database.engine.connect() as connection:
        return connection.execute(query).scalar_one()


@pytest.mark.parametrize("state", ["failed", "superseded"])
def test_results_that_nobody_sees_go_with_their_shards(store, state):
    people = [replace(USER_MONTH, user_id=f"u{number}") for number in range(READ_USERS + 1)]
    old = started(store)
    store.publish(old, 0, "2026-03", [FLAG], people, {}, None, now=NOW, error="1 user not scored")
    store.ledger.finish(old, "failed" if state == "failed" else "provisional", NOW)
    standing = scored(store, [FLAG])
    assert store.ledger.get(old.id).state == state
    assert store.retention.unseen("2026-03") == 0
    assert store.retention.unseen("2026-04") == 1 + len(people)
    parts = list(store.retention.delete_unseen("2026-04"))
    assert sum(parts) == 1 + len(people)
    assert max(parts) == READ_USERS
    assert store.retention.unseen("2026-04") == 0
    assert store.shards.of(old.id) == []
    assert store.shards.of(standing.id) == [0]
    assert (rows(store, "flags"), rows(store, "user_months")) == (1, 1)


def test_states_of_months_that_are_no_longer_needed_go(store):
    users = [f"u{number}" for number in range(READ_USERS + 1)]
    for model, month in (("m1", "2026-01"), ("m1", "2026-02"), ("m2", "2026-01")):
        store.states.write(model, month, users, [b"known"] * len(users))
        store.states.seal(model, month, NOW)
    assert store.retention.states("2026-02") == 2 * len(users)
    deletion = store.retention.delete_states("2026-02")
    assert next(deletion) == READ_USERS
    assert not store.states.complete("m1", "2026-01"), "half of it is gone"
    assert not store.states.complete("m2", "2026-01")
    assert READ_USERS + sum(deletion) == 2 * len(users)
    assert rows(store, "states") == len(users) == len(store.states.read("m1", "2026-02"))
    assert store.states.complete("m1", "2026-02")
    assert rows(store, "state_months") == 1
