"""A twin that scores because its network's files cannot be read: metrics and readiness say so."""

import pytest

from anomaly.months import Month
from anomaly.telemetry.collector import build_registry
from pipelines.condition import conditions
from pipelines.jobs.month import run_month
from pipelines.jobs.scope import Options
from tests.fixtures.jobs import Clock, at, behaviour, make_services

FEBRUARY, MARCH = Month(2026, 2), Month(2026, 3)


@pytest.fixture
def services(sqlite_url, tmp_path):
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    made.store.observations.write(behaviour("2026-01", "2026-03"), "test")
    return made


def told(services):
    """The gauge, and what /readyz says of the model."""
    registry = build_registry(services.store, lambda: True, services.clock)
    (model,) = [one for one in conditions(services, None, None) if one.name == "model"]
    return registry.get_sample_value("anomaly_model_fallback"), model.state, model.reason


def run_later(services, month, options=Options()):  # noqa: B008 - frozen
    services.clock.sleep(60)
    return run_month(services, month, options)


def test_metrics_and_readiness_tell_that_a_twin_stood_in(services):
    run_later(services, FEBRUARY)
    row = services.store.models.champion()
    assert told(services)[:2] == (0, "ok")
    file = services.artefacts.folder / row.version / "model.json"
    whole = file.read_bytes()
    file.write_bytes(whole[:100])
    fallback, state, reason = told(services)
    assert (fallback, state) == (0, "warning"), "it has scored nothing yet"
    assert reason.endswith(f"Until then its twin {row.twin} scores in its place.")
    run_later(services, MARCH)
    assert told(services)[:2] == (1, "warning")
    file.write_bytes(whole)
    fallback, state, reason = told(services)
    assert (fallback, state) == (1, "warning"), "the month stands as the twin scored it"
    assert f"the twin {row.twin} scored 2026-03 in the place of {row.version}" in reason
    run_later(services, MARCH, Options(force=True))
    assert told(services)[:2] == (0, "ok")


def test_a_twin_that_won_stands_in_for_nobody(services):
    services.engine().found = 0  # the network finds less than its twin
    run_later(services, MARCH)
    assert services.store.models.champion().cell == "none"
    assert told(services)[:2] == (0, "ok")


def test_a_champion_taken_back_is_no_longer_stood_in_for(services):
    run_later(services, FEBRUARY)
    row = services.store.models.champion()
    (services.artefacts.folder / row.version / "model.json").write_bytes(b"")
    run_later(services, MARCH)
    services.store.models.promote(row.twin, services.clock())
    assert told(services)[:2] == (0, "ok")
