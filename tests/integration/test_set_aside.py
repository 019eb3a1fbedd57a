"""A month in which the work of some users fails: they are named, the others are scored."""

import re
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry

from anomaly.exceptions import SourceError
from anomaly.months import Month
from anomaly.settings import with_values
from anomaly.telemetry.collector import LedgerCollector
from pipelines.jobs.month import run_month
from pipelines.jobs.scope import Options
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services

MARCH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u6", "2026-03-12T03:00"): 500.0}
USERS = tuple(f"u{number}" for number in range(9))


@pytest.fixture
def services(sqlite_url, tmp_path):
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    made.store.observations.write(behaviour("2026-01", "2026-03", users=9, peaks=PEAKS), "test")
    settings = with_values(made.settings, "test", "run", shard_users=4, attempts=1)
    return replace(made, settings=settings)


def poison(services, *users):
    services.engine().poison = frozenset(users)


def skipped(services):
    months = services.store.flags.user_months("2026-03")
    return {
        row.user_month.user_id: row.user_month.skipped for row in months if row.user_month.skipped
    }


def test_a_user_at_fault_stands_alone_and_the_others_are_scored(services, capsys):
    poison(services, "u6")
    outcome = run_month(services, MARCH)
    assert (outcome.state, outcome.users_scored) == ("provisional", 8)
    assert outcome.users_skipped == {"scoring_failed": 1}
    assert outcome.note == "1 of 9 users not scored; run again to try them"
    assert [row["user_id"] for row in exported(services, "2026-03")] == ["u2"]
    assert skipped(services) == {"u6": "scoring_failed"}
    run = services.store.ledger.current("2026-03")
    why = "1 of 4 users not scored in 1 attempts: ValueError: a month that cannot be scored"
    assert services.store.shards.set_aside(run.id) == {1: why}
    assert services.store.shards.finished(run.id) == {0, 2}
    assert re.search(r"users_set_aside .*error='1 of 4 users not scored", capsys.readouterr().out)


def test_what_was_not_scored_is_counted_and_the_month_is_not_called_complete(services):
    poison(services, "u6")
    run_month(services, MARCH)
    registry = CollectorRegistry()
    registry.register(LedgerCollector(services.store, lambda: True))
    value = registry.get_sample_value
    assert value("anomaly_users_skipped_total", {"reason": "scoring_failed"}) == 1
    assert value("anomaly_month_state", {"month": "2026-03", "state": "complete"}) in (0, None)
    assert value("anomaly_month_state", {"month": "2026-03", "state": "provisional"}) == 1


def test_a_later_run_takes_up_the_shard_alone_and_ends_as_if_nothing_had_been(
    services, sqlite_url, tmp_path
):
    poison(services, "u6")
    run_month(services, MARCH)
    first = services.store.ledger.current("2026-03")
    poison(services)
    services.engine().scored.clear()
    outcome = run_month(services, MARCH)
    assert services.engine().scored == [("u4", "u5", "u6", "u7")]
    assert (outcome.state, outcome.users_scored, outcome.note) == ("complete", 9, None)
    assert services.store.ledger.get(first.id).state == "superseded"
    totals = services.store.ledger.totals()
    assert totals.users_skipped == {"scoring_failed": 1}

    whole = make_services(sqlite_url.replace("anomaly.db", "b.db"), tmp_path / "b", services.clock)
    whole.store.observations.write(behaviour("2026-01", "2026-03", users=9, peaks=PEAKS), "test")
    run_month(whole, MARCH)
    assert exported(services, "2026-03") == exported(whole, "2026-03")
    version = outcome.model_version
    assert services.store.states.complete(version, "2026-03")
    read = [each.store.states.read(version, "2026-03") for each in (services, whole)]
    assert read[0] == read[1]


def test_nothing_is_taken_over_by_force_or_when_rows_have_come(services):
    poison(services, "u6")
    run_month(services, MARCH)
    services.engine().scored.clear()
    run_month(services, MARCH, Options(force=True))
    assert services.engine().scored[0] == USERS[:4]
    late = behaviour("2026-03", "2026-03", users=0, peaks={("u0", "2026-03-20T03:00"): 300.0})
    services.store.observations.write(late, "test")
    services.engine().scored.clear()
    run_month(services, MARCH)
    assert services.engine().scored[0] == USERS[:4]
    assert {row["user_id"] for row in exported(services, "2026-03")} == {"u0", "u2"}


def test_a_run_killed_after_taking_over_goes_on_and_doubles_nothing(services, monkeypatch):
    poison(services, "u6")
    run_month(services, MARCH)
    poison(services)
    services.engine().fail_at = len(services.engine().scored)
    monkeypatch.setattr("pipelines.jobs.books.failing", lambda *_: _Unnoticed())
    with pytest.raises(SourceError, match="went away"):
        run_month(services, MARCH)
    monkeypatch.undo()
    taken = services.store.ledger.runs(states=["running"])[0]
    assert services.store.shards.finished(taken.id) == {0, 2}
    assert [row["user_id"] for row in exported(services, "2026-03")] == ["u2"]
    outcome = run_month(services, MARCH)
    assert (outcome.state, outcome.users_scored) == ("complete", 9)
    assert sorted(row["user_id"] for row in exported(services, "2026-03")) == ["u2", "u6"]


class _Unnoticed:
    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def test_where_nothing_can_be_scored_the_run_fails_with_the_reason(services):
    poison(services, *USERS)
    with pytest.raises(ValueError, match="a month that cannot be scored"):
        run_month(services, MARCH)
    assert services.store.ledger.current("2026-03").state == "failed"


def test_work_that_fails_once_is_tried_again(services):
    settings = with_values(services.settings, "test", "run", attempts=2)
    engine = services.engine()
    score = engine.score

    def once(*arguments, **named):
        engine.score = score
        raise MemoryError

    engine.score = once
    outcome = run_month(replace(services, settings=settings), MARCH)
    assert (outcome.state, outcome.users_scored) == ("complete", 9)
