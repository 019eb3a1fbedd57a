"""The audit on both databases: it only grows, and what is done to it by force is found."""

import datetime as dt
import threading

import pytest
import sqlalchemy as sa

from anomaly.audit import Entry, findings
from anomaly.exceptions import DataError
from anomaly.secrecy import Secret
from anomaly.store import schema
from anomaly.store.tables import audit, audit_head
from tests.contracts.conftest import NOW, opened

SECRET = Secret(b"0123456789abcdef0123456789abcdef")


@pytest.fixture
def kept(store):
    """A store whose audit has six rows."""
    for number in range(6):
        append(store, number)
    return store


def append(store, number, secret=SECRET):
    when = NOW + dt.timedelta(seconds=number)
    return store.audit.append(
        secret, Entry(0, when, "ab12", "model.promote", f"model:{number}", "why")
    )


def found(store, secret=SECRET):
    return findings(secret, store.audit.read(), store.audit.head())


def by_force(store, *statements):
    """What whoever may drop triggers can do."""
    engine = store._database.engine
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            connection.execute(sa.text("DROP TRIGGER audit_keeps_UPDATE"))
            connection.execute(sa.text("DROP TRIGGER audit_keeps_DELETE"))
        else:
            connection.execute(sa.text("DROP TRIGGER audit_keeps ON audit"))
        for statement in statements:
            connection.execute(statement)


def row(number):
    return audit.c.id == number


def test_an_untouched_chain_fits(kept, store):
    assert [entry.id for entry in kept.audit.read()] == [1, 2, 3, 4, 5, 6]
    assert kept.audit.read()[2].subject == "model:2"
    assert found(kept) == []


def test_an_empty_audit_is_in_order(store):
    assert found(store) == []


@pytest.mark.parametrize(
    "statement",
    [sa.update(audit).values(reason="other"), sa.delete(audit), sa.delete(audit).where(row(6))],
    ids=["update", "delete", "delete the last"],
)
def test_rows_can_neither_be_changed_nor_removed(kept, statement):
    with pytest.raises(DataError, match=r"audit rows can only be added"):
        kept._database.write(lambda c: c.execute(statement))
    assert found(kept) == []
    assert append(kept, 7).id == 7


def test_a_table_of_them_cannot_be_emptied_at_once(kept):
    words = "TRUNCATE audit" if kept._database.postgres else "DELETE FROM audit"
    with pytest.raises(DataError, match=r"audit rows can only be added"):
        kept._database.write(lambda c: c.execute(sa.text(words)))


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("reason", "another"),
        ("actor", "cd34"),
        ("action", "user.reveal"),
        ("subject", "model:9"),
        ("happened_at", NOW),
        ("digest", "f" * 64),
    ],
)
def test_an_altered_row_is_named(kept, column, value):
    by_force(kept, sa.update(audit).where(row(4)).values({column: value}))
    assert found(kept)[0].startswith("row 4 was altered")


@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_removed_row_is_named(kept, number):
    by_force(kept, sa.delete(audit).where(row(number)))
    assert found(kept) == [f"row {number} was removed"]
    append(kept, 9)
    assert f"row {number} was removed" in found(kept), "later rows do not hide it"


def test_several_removed_rows_are_named(kept):
    by_force(kept, sa.delete(audit).where(audit.c.id.between(3, 5)))
    assert found(kept) == ["rows 3 to 5 were removed"]


def test_rows_that_were_exchanged_are_named(kept):
    by_force(
        kept,
        sa.update(audit).where(row(3)).values(id=99),
        sa.update(audit).where(row(4)).values(id=3),
        sa.update(audit).where(row(99)).values(id=4),
    )
    assert found(kept)[:2] == [
        "row 3 was moved: it belongs after row 4",
        "row 4 was moved: it belongs after row 2",
    ]


def test_renumbering_does_not_hide_a_removal(kept):
    by_force(kept, sa.delete(audit).where(row(3)), *(
        sa.update(audit).where(row(number)).values(id=number - 1) for number in (4, 5, 6)
    ))  # fmt: skip
    assert found(kept)[0].startswith("row 3 was altered, or rows before it were removed")


def test_a_forged_row_does_not_fit(kept):
    append(kept, 6, secret=Secret(b"f" * 32))
    assert found(kept)[0].startswith("row 7 was altered")


def test_the_head_cannot_be_put_back(kept):
    by_force(kept, sa.delete(audit).where(row(6)), sa.update(audit_head).values(rows=5))
    assert found(kept) == ["the head of the chain was altered"]
    by_force_head = sa.delete(audit_head)
    kept._database.write(lambda c: c.execute(by_force_head))
    assert found(kept) == ["the head of the chain was removed; it had at least 5 rows"]
    assert append(kept, 8).id == 6, "work goes on"


def test_many_at_once_make_one_chain(store, database_url):
    stores = [opened(database_url) for _ in range(4)]
    for one in stores:
        one._database._retrying.stop.max_attempt_number = 50
    threads = [
        threading.Thread(target=lambda one=one: [append(one, n) for n in range(5)])
        for one in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [entry.id for entry in store.audit.read()] == list(range(1, 21))
    assert found(store) == []
    for one in stores:
        one.close()


def test_down_takes_the_rows_along_and_up_begins_anew(kept):
    engine = kept._database.engine
    schema.downgrade(engine, schema.revisions()[schema.revisions().index("0010") - 1])
    schema.upgrade(engine)
    assert kept.audit.read() == []
    assert append(kept, 1).id == 1
