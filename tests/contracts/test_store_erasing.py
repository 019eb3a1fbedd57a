"""Sealed names and erasures, on both databases."""

import datetime as dt

from anomaly.audit import Entry
from anomaly.secrecy import Secret
from anomaly.store.tables import METADATA
from tests.contracts.conftest import NOW, observed

SECRET = Secret(b"0123456789abcdef0123456789abcdef")
ENTRY = Entry(0, NOW, "ab12", "user.erase", "user:cd34", "ticket 7")


def erase(store, user, until=NOW):
    return store.erasing.erase(user, {user}, SECRET.person(user), until, SECRET, ENTRY)


def test_a_name_is_kept_once(store):
    store.pseudonyms.write({})
    assert not store.pseudonyms.any()
    store.pseudonyms.write({"p-1": b"sealed", "p-2": b"too"})
    store.pseudonyms.write({"p-1": b"otherwise"})
    assert store.pseudonyms.read("p-1") == b"sealed"
    assert store.pseudonyms.read("p-3") is None
    assert store.pseudonyms.known() == {"p-1", "p-2"}
    assert store.pseudonyms.any()


def test_rows_go_with_their_trace_in_one_transaction(store):
    store.observations.write(observed(("ann", "x", NOW, 1.0), ("bob", "x", NOW, 1.0)), "test")
    store.pseudonyms.write({"ann": b"sealed"})
    assert store.erasing.known("ann")
    assert erase(store, "ann") == {"observations": 1, "pseudonyms": 1}
    assert not store.erasing.known("ann")
    assert store.observations.users() == ["bob"]
    assert [entry.action for entry in store.audit.read()] == ["user.erase"]
    assert store.erasing.erased() == {SECRET.person("ann"): NOW}
    assert store.erasing.sweep()


def test_a_second_erasure_keeps_out_what_came_since(store):
    erase(store, "ann")
    later = NOW + dt.timedelta(days=40)
    erase(store, "ann", later)
    assert store.erasing.erased() == {SECRET.person("ann"): later}


def test_a_name_with_signs_of_patterns_is_a_name(store):
    for name in ("a_b%c", "x' OR '1'='1", "tab\there", "(.*)"):
        store.rejects.write(
            "f.csv", "missing_value", [("row 1", f"{name},x,1"), ("row 2", "axb,x")], NOW
        )
        assert erase(store, name) == {"rejects": 1}
        assert [row.text for row in store.rejects.list()] == ["axb,x"]


def test_every_column_that_can_hold_a_user_is_known():
    """A table that is added with a user in it must call the column user_id, as all others do."""
    suspicious = {"user", "username", "person_id", "account", "login", "entity"}
    names = {(table.name, column.name) for table in METADATA.sorted_tables for column in table.c}
    assert {name for name in names if name[1] in suspicious} == set()
