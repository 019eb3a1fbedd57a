"""SIGKILL and SIGSTOP at random moments: nothing is lost, nothing doubled, nothing done twice.

The short form runs with all tests. The long form is `make test-long`; ANOMALY_TEST_KILLS says how
many kills it makes on each kind of database (default: 100), and it prints what it found.
"""

import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from anomaly.months import Month
from anomaly.progress import SILENT
from anomaly.store import open_engine, schema
from pipelines.exclusive import JOBS
from pipelines.jobs.train import train_and_register
from pipelines.services import open_services
from tests.fixtures.killing import (
    LEASE_SECONDS,
    MONTH,
    RUN,
    SCORE,
    UPGRADE,
    USERS,
    Place,
    Places,
    kill_at,
    make_source,
    moments,
)

KILLS = int(os.environ.get("ANOMALY_TEST_KILLS", "100"))
CHAIN = 3  # kills of one month; after more of them little is left to be killed in
FEW = 2
BUSY, AWAY = 5, 3  # exit codes


@dataclass(frozen=True)
class Undisturbed:
    """What months that nobody disturbs come to.

    bare: a source and no database. prepared: a model and no month. seconds: how long scoring,
    migrating and a run that trains take.
    """

    places: Places
    bare: Place
    prepared: Place
    export: bytes
    results: dict[str, list[str]]
    scoring: float
    migrating: float
    training: float


@dataclass
class Found:
    """What kills met and what they broke."""

    met: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    lost: int = 0

    def __str__(self) -> str:
        met = ", ".join(f"{count} {name}" for name, count in sorted(self.met.items()))
        return f"{self.met.total()} kills ({met}); {self.kept} finished shards kept, {self.lost} lost"


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def undisturbed(request, tmp_path_factory) -> Iterator[Undisturbed]:
    """A month run from nothing, and the same month with the model that this trained."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    places = Places(tmp_path_factory.mktemp("faults"), server, [])
    try:
        bare = places.new()
        make_source(bare)
        empty = places.new(bare)
        migrating = _seconds(empty, UPGRADE)
        prepared = places.new(empty)
        _prepare(prepared)
        scored = places.new(prepared)
        scoring = _seconds(scored, SCORE)
        export = scored.export()
        assert export.count(b"\n") > 1, "a month without flags shows nothing"
        assert len(scored.finished_shards()) >= 5
        training = 15.0 if request.param == "sqlite" else 0.0
        yield Undisturbed(
            places, bare, prepared, export, scored.results(), scoring, migrating, training
        )
    finally:
        places.clear()


def _prepare(place: Place) -> None:
    """Import the months before the scored one and train a model, in this process."""
    from pipelines.jobs.ingest import ingest_file

    services = open_services(
        place.settings.model_copy(
            update={
                "run": place.settings.run.model_copy(
                    update={"artefacts": place.folder / "artefacts"}
                )
            }
        ),
        SILENT,
    )
    ingest_file(services, place.folder / "source.parquet")
    train_and_register(services, Month.parse(MONTH))
    services.store.close()


def _seconds(place: Place, *commands) -> float:
    began = time.monotonic()
    assert place.end(*commands) == 0, place.log()
    return time.monotonic() - began


def killed_months(undisturbed: Undisturbed, kills: int, seed: int) -> Found:
    """Kill scoring months `kills` times, a few times each, and let each month end."""
    found = Found()
    waiting = moments(kills, undisturbed.scoring, seed)
    while waiting:
        place = undisturbed.places.new(undisturbed.prepared)
        for seconds in [waiting.pop() for _ in range(min(CHAIN, len(waiting)))]:
            finished = place.finished_shards()
            if not kill_at(place.start(SCORE), seconds):
                found.met["after the end"] += 1
                break
            found.met[_stage(place)] += 1
            found.lost += sum(place.finished_shards().get(k) != at for k, at in finished.items())
            place.wait_out_lease()
        check_whole(place, undisturbed, found)
    return found


def check_whole(place: Place, undisturbed: Undisturbed, found: Found) -> None:
    """The month completes; it is that of an undisturbed run, and nothing is done twice."""
    finished = place.finished_shards()
    assert place.end(SCORE) == 0, place.log()
    after = place.finished_shards()
    found.kept += len(finished)
    found.lost += sum(after.get(shard) != at for shard, at in finished.items())
    assert found.lost == 0, "a finished shard was scored again"
    assert place.export() == undisturbed.export
    assert place.results() == undisturbed.results
    assert place.strays() == []
    runs = [run for run in place.rows()["runs"] if run["job"] == "month"]
    assert Counter(run["state"] for run in runs)["complete"] == 1
    assert not [run for run in place.rows()["runs"] if run["state"] == "running"]
    undisturbed.places.drop(place)


def _stage(place: Place) -> str:
    """What a killed run was doing, as far as the ledger tells."""
    rows = place.rows()
    running = [run for run in rows["runs"] if run["state"] == "running"]
    if not running:
        done = [run for run in rows["runs"] if run["job"] == "month" and run["state"] == "complete"]
        return "after publishing" if done else "before its run"
    newest = max(running, key=lambda run: run["id"])
    if newest["job"] != "month":
        return f"in {newest['job']}"
    count = sum(row["run_id"] == newest["id"] for row in rows["shards"])
    stages = {row["stage"] for row in rows["run_stages"] if row["run_id"] == newest["id"]}
    if count == 0:
        return "before its states" if "remember" not in stages else "before its first shard"
    return "between shards" if count * 4 < USERS else "before it was visible"


def killed_migrations(undisturbed: Undisturbed, kills: int, seed: int) -> Counter[str]:
    """Kill migrations; each leaves the old schema or the new one, and the next one ends."""
    met: Counter[str] = Counter()
    for seconds in moments(kills, undisturbed.migrating, seed):
        place = undisturbed.places.new()
        killed = kill_at(place.start(UPGRADE), seconds)
        engine = open_engine(place.url)
        revision = schema.current(engine)
        assert revision in (None, schema.head()), "a migration is whole or not at all"
        assert place.end(UPGRADE) == 0, place.log()
        schema.check(engine)
        engine.dispose()
        met[f"{'killed at' if killed else 'ended at'} {revision or 'nothing'}"] += 1
        undisturbed.places.drop(place)
    return met


def killed_trainings(undisturbed: Undisturbed, kills: int, seed: int) -> Found:
    """Kill months that begin with nothing, so that most kills meet their training."""
    found = Found()
    place = undisturbed.places.new(undisturbed.bare)
    assert place.end(UPGRADE) == 0
    for seconds in moments(kills, 12.0, seed):
        if not kill_at(place.start(RUN), 1.0 + seconds):
            found.met["after the end"] += 1
            break
        found.met[_stage(place)] += 1
        place.wait_out_lease()
    assert place.end(RUN) == 0, place.log()
    assert place.export() == undisturbed.export, "the model is another"
    check_whole(place, undisturbed, found)
    return found


def frozen_leaders(undisturbed: Undisturbed, times: int, seed: int) -> Counter[str]:
    """Freeze a leader, let another take over, thaw the first: one result, and not its own."""
    met: Counter[str] = Counter()
    for seconds in moments(times, undisturbed.scoring, seed):
        place = undisturbed.places.new(undisturbed.prepared)
        leader = place.start(SCORE)
        leader.join(seconds)
        if leader.exitcode is None:
            os.kill(leader.pid, signal.SIGSTOP)
        with place.store() as store:
            held = store.lease.holder(JOBS)
        began = time.monotonic()
        second = place.end(SCORE)
        waited = time.monotonic() - began
        if leader.exitcode is None:
            os.kill(leader.pid, signal.SIGCONT)
            leader.join(60)
        met[f"second ended with {second}, first with {leader.exitcode}"] += 1
        if held is not None and second == 0:
            assert waited < LEASE_SECONDS + 4 * undisturbed.scoring + 5, "the takeover was late"
        if second != 0:
            # Frozen within a transaction: SQLite's file stays locked as long as its holder lives.
            assert (second, place.url[:6]) == (AWAY, "sqlite"), place.log()
        check_published_once(place, undisturbed)
        undisturbed.places.drop(place)
    return met


def check_published_once(place: Place, undisturbed: Undisturbed) -> None:
    """One complete run, whose flags are those of an undisturbed one."""
    if not [r for r in place.rows()["runs"] if r["job"] == "month" and r["state"] == "complete"]:
        place.wait_out_lease()
        assert place.end(SCORE) == 0, place.log()
    assert place.export() == undisturbed.export
    assert place.results() == undisturbed.results
    states = Counter(run["state"] for run in place.rows()["runs"] if run["job"] == "month")
    assert states["complete"] == 1


@pytest.mark.timeout(120)
def test_a_month_killed_while_it_scores(undisturbed):
    found = killed_months(undisturbed, FEW, seed=time.time_ns())
    assert found.lost == 0


@pytest.mark.timeout(120)
def test_a_killed_migration_leaves_the_old_schema_or_the_new(undisturbed):
    assert killed_migrations(undisturbed, 1, seed=time.time_ns()).total() == 1


@pytest.mark.timeout(120)
def test_a_frozen_leader_is_replaced_and_publishes_nothing(undisturbed):
    assert frozen_leaders(undisturbed, 1, seed=time.time_ns()).total() == 1


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_many_kills(undisturbed, request, capsys):
    training, migrating = max(1, KILLS // 10), max(1, KILLS // 5)
    scoring = max(1, KILLS - training - migrating)
    scored = killed_months(undisturbed, scoring, seed=1)
    migrated = killed_migrations(undisturbed, migrating, seed=2)
    trained = killed_trainings(undisturbed, training, seed=3)
    frozen = frozen_leaders(undisturbed, max(1, KILLS // 5), seed=4)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{request.node.callspec.id}\n  scoring: {scored}\n  training: {trained}\n"
            f"  migrating: {dict(migrated)}\n  frozen: {dict(frozen)}\n"
        )
