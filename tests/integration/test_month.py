"""The monthly run over a real database, with a small engine in place of the network."""

import datetime as dt
import re
import shutil
import sqlite3
from dataclasses import replace

import numpy as np
import pytest
from structlog.testing import capture_logs

from anomaly.exceptions import (
    BusyError,
    DataError,
    ModelError,
    ModelFormatError,
    SourceError,
    UsageError,
)
from anomaly.feedback import Label, Terms
from anomaly.months import Month
from anomaly.settings import Settings, with_values
from pipelines.exclusive import JOBS
from pipelines.jobs.backfill import backfill
from pipelines.jobs.month import run_month
from pipelines.jobs.rebuild import rebuild_states
from pipelines.jobs.scope import Options
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services

MARCH = Month(2026, 3)
PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-02-10T03:00"): 500.0}
LATER = "2026-05-20T00:00"
TERMS = Terms(1.5, dt.timedelta(days=90))


@pytest.fixture
def clock():
    return Clock(at(LATER))


@pytest.fixture
def services(sqlite_url, tmp_path, clock):
    made = make_services(sqlite_url, tmp_path, clock)
    made.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "test")
    return made


def engine_of(services):
    return services.engine()


def with_shards(services, users):
    return replace(
        services, settings=with_values(services.settings, "test", "run", shard_users=users)
    )


def rows_of(services):
    """Every row of every table that a run writes, without clocks."""
    path = services.settings.database.url.removeprefix("sqlite:///")
    with sqlite3.connect(path) as database:
        tables = [
            name
            for (name,) in database.execute("select name from sqlite_master where type = 'table'")
            if name != "leases"
        ]
        return {
            name: database.execute(f"select count(*) from {name}").fetchone() for name in tables
        }


def test_a_run_scores_publishes_and_closes(database_url, tmp_path, clock, request):
    services = make_services(database_url, tmp_path, clock)
    request.addfinalizer(services.store.close)
    services.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "test")
    outcome = run_month(services, MARCH)
    assert outcome.state == "complete"
    assert [(flag.user_id, flag.start) for flag in outcome.flags] == [
        ("u2", at("2026-03-12T03:00"))
    ]
    assert outcome.users_scored == 6
    run = services.store.ledger.current("2026-03")
    assert (run.state, run.flags, run.users_scored) == ("complete", 1, 6)
    assert run.configuration == services.configuration
    assert run.watermark == MARCH.end("UTC")
    assert run.rows_read == 2 * 6 * 31 * 4 + 1
    champion = services.store.models.champion()
    assert champion.version == run.model_version
    assert (champion.trained_from, champion.trained_to) == (at("2026-01-01"), at("2026-03-01"))
    assert services.store.states.complete(champion.version, "2026-03")
    stages = {stage.stage for stage in services.store.ledger.stages(run.id)}
    assert {"model", "remember", "reference", "score", "publish"} <= stages


def test_a_second_run_changes_nothing_and_says_so(services, clock):
    run_month(services, MARCH)
    before, flags = rows_of(services), exported(services, "2026-03")
    clock.sleep(3_600)
    outcome = run_month(services, MARCH)
    assert "nothing changed" in outcome.note
    assert rows_of(services) == before
    assert exported(services, "2026-03") == flags
    assert len(engine_of(services).scored) == 1


def test_a_second_run_tells_of_another_configuration(services):
    run_month(services, MARCH)
    changed = with_values(services.settings, "test", "threshold", fdr=0.2)
    outcome = run_month(replace(services, settings=changed), MARCH)
    assert "--force" in outcome.note


def test_force_scores_again_and_supersedes(services):
    run_month(services, MARCH)
    first = services.store.ledger.current("2026-03")
    late = behaviour("2026-03", "2026-03", users=0, peaks={("u1", "2026-03-20T03:00"): 300.0})
    services.store.observations.write(late, "test")
    outcome = run_month(services, MARCH, Options(force=True))
    assert {flag.user_id for flag in outcome.flags} == {"u1", "u2"}
    assert services.store.ledger.get(first.id).state == "superseded"
    assert len(exported(services, "2026-03")) == 2


def test_a_dry_run_says_what_a_run_would_find_and_writes_nothing(services):
    before = rows_of(services)
    dry = run_month(services, MARCH, Options(dry_run=True))
    assert rows_of(services) == before
    assert (dry.state, dry.note) == ("dry", "would be complete")
    assert list(dry.flags) == list(run_month(services, MARCH).flags)


@pytest.mark.parametrize(("shard_users", "workers"), [(1, 1), (1, 3), (4, 2), (500, 0)])
def test_the_size_of_shards_and_the_workers_change_nothing(services, shard_users, workers):
    whole = run_month(services, MARCH, Options(dry_run=True))
    several = with_shards(services, shard_users)
    settings = with_values(several.settings, "test", "run", workers=workers)
    outcome = run_month(replace(several, settings=settings), MARCH)
    assert list(outcome.flags) == list(whole.flags)
    assert [flag.user_id for flag in outcome.flags] == ["u2"]


def test_what_comes_after_the_month_changes_nothing_of_it(services, sqlite_url, tmp_path, clock):
    known = make_services(sqlite_url.replace("anomaly.db", "all.db"), tmp_path / "b", clock)
    known.store.observations.write(
        behaviour("2026-01", "2026-05", users=9, peaks=PEAKS | {("u9", "2026-04-02T00:00"): 9e9}),
        "t",
    )
    services.store.observations.write(behaviour("2026-01", "2026-03", users=9), "t")
    services.store.observations.write(behaviour("2026-01", "2026-03", users=9, peaks=PEAKS), "t")
    run_month(services, MARCH)
    run_month(known, MARCH)
    assert exported(known, "2026-03") == exported(services, "2026-03")
    version = services.store.models.champion().version
    assert known.store.models.champion().version == version
    assert known.store.states.read(version, "2026-03") == services.store.states.read(
        version, "2026-03"
    )


def test_the_month_changes_neither_model_nor_states_before_it(
    services, sqlite_url, tmp_path, clock
):
    other = make_services(sqlite_url.replace("anomaly.db", "other.db"), tmp_path / "b", clock)
    other.store.observations.write(behaviour("2026-01", "2026-02", peaks=PEAKS), "t")
    other.store.observations.write(behaviour("2026-03", "2026-03", seed=8, users=11), "t")
    run_month(services, MARCH)
    run_month(other, MARCH)
    version = services.store.models.champion().version
    assert other.store.models.champion().version == version
    before = services.store.states.read(version, "2026-02")
    assert len(before) == 6
    assert other.store.states.read(version, "2026-02") == before


def test_backfill_equals_having_run_each_month_at_its_time(sqlite_url, tmp_path):
    months = [Month(2026, 2), MARCH, Month(2026, 4), Month(2026, 5), Month(2026, 6)]
    peaks = PEAKS | {("u1", "2026-05-05T03:00"): 90.0, ("u6", "2026-04-05T03:00"): 70.0}
    at_once = make_services(sqlite_url, tmp_path / "a", Clock(at("2027-01-01")))
    at_once.store.observations.write(behaviour("2026-01", "2026-06", users=7, peaks=peaks), "t")
    in_time = make_services(
        sqlite_url.replace("anomaly.db", "b.db"), tmp_path / "b", Clock(at(LATER))
    )
    rows = behaviour("2026-01", "2026-06", users=7, peaks=peaks)
    for month in months:
        seen = [when < month.end("UTC") for when in rows["observed_at"].to_pylist()]
        in_time.store.observations.write(rows.filter(seen), "t")
        in_time.clock.now = month.end("UTC") + dt.timedelta(days=4)
        run_month(in_time, month)
    list(backfill(at_once, months[0], months[-1], Options()))
    for month in map(str, months):
        assert exported(at_once, month) == exported(in_time, month)
    # trained for February, and for June, when February's had grown too old
    assert len(engine_of(at_once).fitted) == 2
    assert [run.state for run in at_once.store.ledger.month_states()] == ["complete"] * 5


def test_a_rebuilt_state_equals_the_one_that_runs_have_left(services):
    list(backfill(services, Month(2026, 2), MARCH, Options()))
    version = services.store.models.champion().version
    left = services.store.states.read(version, "2026-02")
    services.store.states.write(version, "2026-02", list(left), [b"\0" * 16] * len(left))
    assert rebuild_states(services, MARCH) == (6, version)
    assert services.store.states.read(version, "2026-02") == left


def test_a_user_who_comes_late_into_history_is_remembered(services):
    list(backfill(services, Month(2026, 2), Month(2026, 2), Options()))
    services.store.observations.write(behaviour("2026-02", "2026-03", users=8), "t")
    outcome = run_month(services, MARCH)
    assert outcome.users_scored == 8
    version = services.store.models.champion().version
    assert set(services.store.states.read(version, "2026-03")) == {f"u{user}" for user in range(8)}


def test_a_new_normal_starts_the_baseline_afresh_and_leaves_scored_months_alone(services):
    run_month(services, MARCH)
    (flag,) = services.store.flags.select()
    version = services.store.models.champion().version
    before, scores = services.store.states.read(version, "2026-03"), exported(services, "2026-03")
    services.store.feedback.label([Label(flag.flag.flag_id, "new_normal", "ann")], TERMS, at(LATER))
    services.store.observations.write(behaviour("2026-04", "2026-04"), "test")
    run_month(services, MARCH.next())
    after = services.store.states.read(version, "2026-03")
    assert {user for user in before if before[user] != after[user]} == {"u2"}
    hours = (MARCH.end("UTC") - flag.flag.start) / dt.timedelta(hours=1)
    _, lived = np.frombuffer(after["u2"])  # of the small engine: values lived through
    assert lived == 2 * hours
    assert [row["score"] for row in exported(services, "2026-03")] == [
        row["score"] for row in scores
    ]
    services.store.feedback.label(
        [Label(flag.flag.flag_id, "true", "ann", replacing="new_normal")], TERMS, at(LATER)
    )
    run_month(services, MARCH.next(), Options(force=True))
    _, lived = np.frombuffer(services.store.states.read(version, "2026-04")["u2"])
    assert lived == 2 * 24 * (31 + 28 + 31 + 30), "with the whole past again"


def test_shards_published_before_a_crash_are_not_scored_again(services):
    services = with_shards(services, 2)
    engine_of(services).fail_at = 2
    died = services.store.ledger.start(
        "month",
        "2026-03",
        configuration=services.configuration,
        code_version=services.code_version,
        now=services.clock(),
        holder="dead",
    )
    with pytest.raises(SourceError, match="the database went away"):
        run_month(services, MARCH)
    assert services.store.ledger.current("2026-03").state == "failed"
    assert services.store.ledger.get(died.id).state == "failed"
    assert exported(services, "2026-03") == []


def test_a_killed_run_goes_on_where_it_stopped(services, monkeypatch):
    services = with_shards(services, 2)
    engine_of(services).fail_at = 2
    # a process that is killed has no time to write that it failed
    monkeypatch.setattr("pipelines.jobs.books.failing", _unnoticed)
    with pytest.raises(SourceError, match="the database went away"):
        run_month(services, MARCH)
    monkeypatch.undo()
    running = services.store.ledger.current("2026-03")
    assert (running.state, services.store.shards.finished(running.id)) == ("running", {0, 1})
    outcome = run_month(services, MARCH)
    assert engine_of(services).scored == [("u0", "u1"), ("u2", "u3"), ("u4", "u5")]
    finished = services.store.ledger.current("2026-03")
    assert (finished.id, finished.state, outcome.users_scored) == (running.id, "complete", 6)
    assert [row["user_id"] for row in exported(services, "2026-03")] == ["u2"]


def test_a_killed_run_begins_anew_when_rows_have_come_since(services, monkeypatch):
    services = with_shards(services, 2)
    engine_of(services).fail_at = 2
    monkeypatch.setattr("pipelines.jobs.books.failing", _unnoticed)
    with pytest.raises(SourceError, match="the database went away"):
        run_month(services, MARCH)
    monkeypatch.undo()
    running = services.store.ledger.current("2026-03")
    late = behaviour("2026-03", "2026-03", users=0, peaks={("u0", "2026-03-20T03:00"): 300.0})
    services.store.observations.write(late, "test")
    outcome = run_month(services, MARCH)
    assert {flag.user_id for flag in outcome.flags} == {"u0", "u2"}
    assert services.store.ledger.get(running.id).state == "failed"


class _unnoticed:
    def __init__(self, *arguments):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return False


def test_a_month_that_is_not_over_is_provisional_and_closed_later(services, clock):
    clock.now = at("2026-03-10T02:59")
    outcome = run_month(services, MARCH)
    assert (outcome.state, outcome.flags) == ("provisional", [])
    assert "scored until 2026-03-10 02:00 UTC" in outcome.note
    version = outcome.model_version
    assert not services.store.states.complete(version, "2026-03")
    clock.now = at("2026-04-03T00:00")  # over, but late rows may still come
    outcome = run_month(services, MARCH)
    assert (outcome.state, len(outcome.flags)) == ("provisional", 1)
    clock.now = at("2026-04-04T00:00")
    outcome = run_month(services, MARCH)
    assert (outcome.state, outcome.model_version) == ("complete", version)
    assert len(engine_of(services).fitted) == 1
    assert len(exported(services, "2026-03")) == 1


def test_a_month_that_has_not_begun_is_refused(services, clock):
    clock.now = at("2026-03-01T00:30")
    with pytest.raises(UsageError, match="2026-03: no step of it is over yet"):
        run_month(services, MARCH)


def test_an_empty_month_is_refused_with_the_months_there_are(services):
    with pytest.raises(
        DataError, match="2026-04 holds no rows; observations run from 2026-01 to 2026-03"
    ):
        run_month(services, Month(2026, 4))
    assert services.store.ledger.current("2026-04") is None


def test_an_empty_table_is_refused(sqlite_url, tmp_path, clock):
    services = make_services(sqlite_url, tmp_path, clock)
    with pytest.raises(DataError, match="holds no observations. Import some: anomaly import"):
        run_month(services, MARCH)


def test_the_first_month_has_nothing_to_learn_from(services):
    with pytest.raises(DataError, match="2026-01: there are no rows before it"):
        run_month(services, Month(2026, 1))
    failed = services.store.ledger.current("2026-01")
    assert failed.state == "failed"
    assert "no rows before it" in failed.note


def test_no_train_needs_a_model(services):
    with pytest.raises(UsageError, match="no model was trained before it"):
        run_month(services, MARCH, Options(train=False))
    run_month(services, Month(2026, 2))
    assert run_month(services, MARCH, Options(train=False)).state == "complete"


def test_a_model_for_an_old_month_does_not_displace_a_later_one(services):
    run_month(services, MARCH)
    later = services.store.models.champion().version
    run_month(services, Month(2026, 2))
    assert services.store.models.champion().version == later
    assert services.store.ledger.current("2026-02").model_version != later


def test_a_network_whose_validation_failed_is_refused_and_its_twin_serves(services):
    engine_of(services).loss = float("nan")
    outcome = run_month(services, MARCH)
    refused, serves = sorted(services.store.models.list(), key=lambda row: row.state == "champion")
    assert (refused.state, refused.note) == ("refused", "validation loss is nan")
    assert (serves.version, serves.cell) == (outcome.model_version, "none")
    assert "has a validation loss of nan" in services.store.ledger.runs(job="train")[0].note


@pytest.mark.parametrize(
    ("loss", "found", "why"),
    [
        (2.0, 5, "forecasts no better than the twin .*-none .-2.0000 and -2.0000 nats"),
        (1.0, 3, "finds 3 of 10 planted incidents, the twin .* 4 of 10"),
    ],
)
def test_a_network_that_does_not_beat_its_twin_does_not_serve(services, loss, found, why):
    engine = engine_of(services)
    engine.loss, engine.found = loss, found
    outcome = run_month(services, MARCH)
    rows = {row.cell: row for row in services.store.models.list()}
    assert outcome.model_version == rows["none"].version == rows["lstm"].twin
    assert (rows["none"].state, rows["lstm"].state) == ("champion", "candidate")
    assert re.search(why, rows["lstm"].note)
    assert services.store.ledger.runs(job="train")[0].note == rows["lstm"].note
    assert rows["lstm"].trial["found"] == found


def test_a_candidate_that_does_not_beat_the_champion_leaves_it_and_is_not_tried_each_month(
    sqlite_url, tmp_path
):
    services = make_services(sqlite_url, tmp_path, Clock(at("2027-01-01")))
    services.store.observations.write(behaviour("2026-01", "2026-07"), "t")
    first = run_month(services, Month(2026, 2)).model_version
    engine_of(services).found = 4  # the twin's, but less than the champion's
    assert run_month(services, Month(2026, 6)).model_version == first
    assert run_month(services, Month(2026, 7)).model_version == first
    engine = engine_of(services)
    assert len(engine.fitted) == 2
    assert engine.examined[-1] == first
    assert services.store.models.champion().version == first
    assert f"network {first} serves" in services.store.ledger.runs(job="train")[0].note


def test_the_twin_serves_where_the_champion_s_files_have_changed(services):
    run_month(services, Month(2026, 2))
    row = services.store.models.champion()
    file = services.artefacts.folder / row.version / "model.json"
    file.write_bytes(file.read_bytes()[:100])
    outcome = run_month(services, MARCH)
    assert outcome.model_version == row.twin
    assert f"in place of model {row.version}: " in outcome.note
    assert "model.json: the model's file differs from its sha256" in outcome.note
    assert services.store.ledger.current("2026-03").note == outcome.note
    shutil.rmtree(services.artefacts.folder / row.twin)
    with pytest.raises(ModelError, match="the model's file cannot be read"):
        run_month(services, MARCH, Options(force=True))
    assert services.store.ledger.runs(job="month")[0].state == "failed"


def test_a_model_of_another_version_s_format_is_trained_anew_and_named(services, monkeypatch):
    run_month(services, Month(2026, 2))
    old = {row.version for row in services.store.models.list()}
    read = engine_of(services).Model.from_files

    def from_files(files):
        model = read(files)
        if model.version in old:
            raise ModelFormatError("the model is of format 1, this version reads 2. Train again.")
        return model

    monkeypatch.setattr(engine_of(services).Model, "from_files", from_files)
    with pytest.raises(ModelFormatError):
        run_month(services, MARCH, Options(train=False))
    with capture_logs() as lines:
        outcome = run_month(services, MARCH)
    (why,) = [line["reason"] for line in lines if line["event"] == "training_due"]
    assert re.fullmatch(r"model .*-lstm: the model is of format 1, this version reads 2.*", why)
    assert (outcome.state, outcome.model_version in old) == ("complete", False)
    assert services.store.models.champion().version == outcome.model_version
    trained = len(engine_of(services).fitted)
    services.clock.sleep(60)
    run_month(services, MARCH, Options(force=True))
    assert len(engine_of(services).fitted) == trained


def test_only_some_users_is_provisional_and_names_the_others(services):
    outcome = run_month(services, MARCH, Options(users=("u2", "u3")))
    assert (outcome.state, outcome.users_scored) == ("provisional", 2)
    assert outcome.users_skipped == {"not_selected": 4}
    assert outcome.note == "only 2 of 6 users"
    assert [flag.user_id for flag in outcome.flags] == ["u2"]
    whole = run_month(services, MARCH)
    assert (whole.state, whole.users_scored) == ("complete", 6)
    with pytest.raises(UsageError, match="2026-03 is complete; --users would leave only some"):
        run_month(services, MARCH, Options(users=("u2",), force=True))


def test_an_unknown_user_is_refused(services):
    with pytest.raises(UsageError, match="'u77' has no row up to the end of 2026-03"):
        run_month(services, MARCH, Options(users=("u77",)))


def test_too_many_metrics_are_refused(services):
    table = behaviour("2026-02", "2026-02", users=1)
    names = [f"m{number}" for number in range(len(table))]
    services.store.observations.write(table.set_column(1, "metric", [names * 1]), "t")
    more = behaviour("2026-01", "2026-01", users=1)
    names = [f"n{number}" for number in range(len(more))]
    services.store.observations.write(more.set_column(1, "metric", [names * 1]), "t")
    with pytest.raises(DataError, match="observations hold 474 metrics, at most 256"):
        run_month(services, MARCH)


def test_a_live_holder_is_left_alone(services, clock, monkeypatch):
    lease = services.store.lease
    ttl = dt.timedelta(seconds=30)
    token = lease.acquire(JOBS, "other", ttl, clock())

    def renewed(seconds):
        clock.sleep(seconds)
        lease.renew(JOBS, "other", token, ttl, clock())

    with pytest.raises(BusyError, match="other is working on this database"):
        run_month(replace(services, sleep=renewed), MARCH)
    assert services.store.ledger.current("2026-03") is None


def test_a_dead_holder_is_waited_out(services, clock):
    began = clock()
    services.store.lease.acquire(JOBS, "dead", dt.timedelta(seconds=30), began)
    assert run_month(services, MARCH).state == "complete"
    assert dt.timedelta(seconds=29) < clock() - began < dt.timedelta(seconds=40)
    assert services.store.lease.holder(JOBS) is None


def test_months_begin_in_the_zone_of_the_grid(sqlite_url, tmp_path, clock):
    settings = Settings.model_validate(
        {"database": {"url": sqlite_url}, "grid": {"timezone": "America/New_York"}}
    )
    services = make_services(sqlite_url, tmp_path, clock, settings)
    peaks = {("u1", "2026-03-01T04:00"): 400.0, ("u2", "2026-03-01T05:00"): 400.0}
    services.store.observations.write(behaviour("2026-01", "2026-04", peaks=peaks), "t")
    outcome = run_month(services, MARCH)
    assert [flag.user_id for flag in outcome.flags] == ["u2"]  # u1's peak is February's, there


def test_negative_counts_are_left_out_and_counted(services):
    bad = behaviour("2026-03", "2026-03", users=0, peaks={("u1", "2026-03-20T03:00"): -4.0})
    services.store.observations.write(bad, "t")
    run_month(services, MARCH)
    assert services.store.ledger.current("2026-03").rows_rejected == {"negative_count": 1}


def test_a_month_that_has_ended_does_not_fail_after_it(services, monkeypatch):
    run_month(services, MARCH)

    def away(*_):
        raise SourceError("the database cannot be reached")

    services.clock.sleep(3_600)
    monkeypatch.setattr("pipelines.jobs.books.published", away)
    with pytest.raises(SourceError):
        run_month(services, MARCH, Options(force=True))
    run = services.store.ledger.current("2026-03")
    assert (run.state, run.outcome, run.started_at) == ("complete", "complete", services.clock())
    assert [row["user_id"] for row in exported(services, "2026-03")] == ["u2"]
    assert ("month", "failed") not in services.store.ledger.totals().runs


def test_the_last_success_is_the_one_that_ended_last_whichever_was_planned_first(services):
    """A closing month carries out a plan that was entered when the month began."""
    ledger, told = services.store.ledger, {"configuration": "c", "code_version": "1"}
    plan = ledger.plan("month", at("2026-04-03T00:00"), "2026-03")
    nightly = ledger.start("month", "2026-03", **told, now=at("2026-03-20T02:30"))
    ledger.finish(nightly, "provisional", at("2026-03-20T02:40"))
    closing = ledger.start(
        "month", "2026-03", **told, now=at("2026-04-03T02:30"), planned_for=plan.planned_for
    )
    ledger.finish(closing, "complete", at("2026-04-03T02:40"))
    assert closing.id < nightly.id
    assert [run.id for run in ledger.last_successes()] == [closing.id]
