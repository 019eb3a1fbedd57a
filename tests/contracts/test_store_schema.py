import datetime as dt
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from anomaly.exceptions import SchemaError, SourceError, UsageError
from anomaly.records import FLAG_COLUMNS
from anomaly.store import Store, open_engine, schema
from anomaly.store.tables import METADATA, VIEWS
from tests.contracts.conftest import FLAG, NOW, observed, scored

T0 = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


@pytest.fixture
def engine(database_url):
    engine = open_engine(database_url)
    yield engine
    engine.dispose()


def tables(engine):
    return set(sa.inspect(engine).get_table_names()) - {"alembic_version"}


def test_upgrade_makes_what_the_code_knows(engine):
    schema.upgrade(engine)
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, METADATA) == []
    inspector = sa.inspect(engine)
    for name, view in VIEWS.tables.items():
        assert [c["name"] for c in inspector.get_columns(name)] == list(view.c.keys())


def test_the_view_of_flags_begins_with_the_contract(engine):
    schema.upgrade(engine)
    names = [c["name"] for c in sa.inspect(engine).get_columns("flags_current")]
    assert tuple(names[: len(FLAG_COLUMNS)]) == FLAG_COLUMNS


def test_a_second_upgrade_changes_nothing(engine):
    schema.upgrade(engine)
    before = tables(engine)
    schema.upgrade(engine)
    assert tables(engine) == before
    assert schema.current(engine) == schema.head()


def test_down_and_up_again_with_data(engine):
    schema.upgrade(engine)
    store = Store(engine, retries=0)
    store.observations.write(observed(("ann", "files_read", T0, 3.0)), "test")
    scored(store, [FLAG])
    schema.downgrade(engine, "0003")
    assert sa.inspect(engine).get_view_names() == []
    schema.upgrade(engine)
    assert [row.flag for row in store.flags.select()] == [FLAG], "views hold nothing themselves"
    schema.downgrade(engine, "0001")
    assert tables(engine) == {"observations", "metrics", "users", "events", "cohorts", "rejects"}
    schema.upgrade(engine)
    assert store.observations.count() == 1
    assert store.flags.select() == []
    assert scored(store, [FLAG]).flags == 1


def test_migrations_are_read_as_alembic_reads_them():
    scripts = list(ScriptDirectory.from_config(schema._config()).walk_revisions())
    assert tuple(script.revision for script in reversed(scripts)) == schema.revisions()
    assert all(Path(script.path).name[:4] == script.revision for script in scripts)
    assert len(scripts) == len(list((schema.FOLDER / "versions").glob("[0-9]*.py")))


def test_base_removes_everything(engine):
    schema.upgrade(engine)
    schema.downgrade(engine, "base")
    assert tables(engine) == set()
    assert schema.current(engine) is None


def test_each_step_can_be_taken_alone(engine):
    for revision in schema.revisions():
        schema.upgrade(engine, revision)
        assert schema.current(engine) == revision
    for revision in reversed(schema.revisions()[:-1]):
        schema.downgrade(engine, revision)
        assert schema.current(engine) == revision


def test_check_says_what_to_do(engine):
    with pytest.raises(SchemaError, match=r"has no tables yet. Run: anomaly db upgrade"):
        schema.check(engine)
    schema.upgrade(engine, "0002")
    with pytest.raises(
        SchemaError,
        match=rf"is at 0002, this version needs {schema.head()}. Run: anomaly db up",
    ):
        Store(engine).check()
    schema.upgrade(engine)
    Store(engine).check()


def test_a_newer_database_is_left_alone(engine):
    schema.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    for step in (schema.check, schema.upgrade, lambda it: schema.downgrade(it, "base")):
        with pytest.raises(
            SchemaError, match=r"at 9999, which is newer .* Install a newer anomaly"
        ):
            step(engine)


def test_an_unknown_revision_is_a_wrong_option(engine):
    schema.upgrade(engine)
    with pytest.raises(UsageError, match=r"'77' is none of base, 0001"):
        schema.downgrade(engine, "77")


def test_a_migration_that_fails_leaves_the_schema_as_it_was(engine):
    schema.upgrade(engine, "0001")
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE states (a integer)"))
    before = tables(engine)
    with pytest.raises(SourceError):
        schema.upgrade(engine)
    assert tables(engine) == before
    assert schema.current(engine) == "0001"


def test_work_before_the_upgrade_says_what_to_do(engine):
    with pytest.raises(
        SchemaError, match=r"lacks a table of this version. Run: anomaly db upgrade"
    ):
        Store(engine, retries=0).ledger.start(
            "month", "2026-03", configuration="", code_version="", now=NOW
        )
