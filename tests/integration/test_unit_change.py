"""A metric whose unit changes overnight is named, once; nobody is flagged for it."""

import datetime as dt

import httpx
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from prometheus_client import CollectorRegistry

from anomaly.months import Month
from anomaly.progress import SILENT
from anomaly.settings import Settings
from anomaly.simulation import make_world
from anomaly.store import open_engine, schema
from anomaly.web.app import create_app
from pipelines.jobs.month import run_month
from pipelines.services import open_services
from tests.fixtures.jobs import exported
from tests.fixtures.serving import door_of, serving

MONTH = Month(2026, 3)
USERS = 24
CHANGED = dt.datetime(2026, 3, 10, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def world() -> pa.Table:
    return make_world(users=USERS, months=3, start="2026-01", seed=11).observations


@pytest.fixture
def services(sqlite_url, tmp_path):
    settings = Settings.model_validate(
        {
            "database": {"url": sqlite_url},
            "model": {"cell": "none"},
            "run": {"workers": 1, "artefacts": str(tmp_path / "artefacts")},
        }
    )
    schema.upgrade(open_engine(sqlite_url))
    opened = open_services(settings, SILENT)
    yield opened
    opened.store.close()


def in_another_unit(world: pa.Table, users: list[str] | None = None) -> pa.Table:
    """bytes_out a thousandfold from the tenth on, of everyone or of these."""
    hit = pc.and_(
        pc.equal(world["metric"], "bytes_out"),
        pc.greater_equal(world["observed_at"], pa.scalar(CHANGED, world["observed_at"].type)),
    )
    if users is not None:
        hit = pc.and_(hit, pc.is_in(world["user_id"], pa.array(users)))
    value = pc.if_else(hit, pc.multiply(world["value"], 1_000.0), world["value"])
    return world.set_column(world.schema.get_field_index("value"), "value", value)


def test_a_thousandfold_is_named_and_not_flagged_until_its_rows_are_mended(services, world):
    services.store.observations.write(in_another_unit(world), "t")
    outcome = run_month(services, MONTH)
    assert outcome.state == "provisional"
    assert outcome.note.startswith("metric bytes_out of ")
    assert "unit changed about 1000-fold since 2026-03-10" in outcome.note
    assert outcome.note.count("unit changed") == 1
    late = [flag for flag in outcome.flags if flag.end > CHANGED]
    assert not any("bytes_out" in flag.metrics.split(";") for flag in late)
    app = create_app(
        services.store,
        services.settings,
        CollectorRegistry(),
        lambda: True,
        door_of(services.store),
    )
    with serving(app) as address:
        told = httpx.get(f"{address}/api/v1/runs?job=month&month={MONTH}").json()
        page = httpx.get(f"{address}/?month={MONTH}").text
    assert "unit changed about 1000-fold" in told[0]["note"]
    assert "unit changed about 1000-fold" in page

    services.store.observations.write(world, "t")
    mended = run_month(services, MONTH)
    assert (mended.state, mended.note) == ("complete", None)
    assert len(exported(services, str(MONTH))) == len(mended.flags)


@pytest.mark.parametrize("user", ["u00001", "u00012", "u00016", "u00020"])  # unflagged otherwise
def test_one_users_thousandfold_is_judged(services, world, user):
    services.store.observations.write(in_another_unit(world, [user]), "t")
    outcome = run_month(services, MONTH)
    assert (outcome.state, outcome.note) == ("complete", None)
    (row,) = services.store.flags.user_months(str(MONTH), user)
    assert row.user_month.self_percentile > 99
    own = [flag for flag in outcome.flags if flag.user_id == user]
    assert own
    assert all("bytes_out" in flag.metrics.split(";") and flag.end > CHANGED for flag in own)
