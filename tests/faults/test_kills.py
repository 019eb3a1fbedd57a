"""SIGKILL and SIGSTOP at random moments: nothing is lost, nothing doubled, nothing done twice.

The short form runs with all tests. The long form is `make test-long`; ANOMALY_TEST_KILLS says how
many kills it makes on each kind of database (default: 100), and it prints what they met.
"""

import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from anomaly.months import Month
from anomaly.progress import SILENT
from anomaly.store import open_engine, schema
from pipelines.jobs.ingest import ingest_file
from pipelines.jobs.train import Contest, hold_contest, register
from pipelines.services import Services, open_services
from tests.fixtures.killing import (
    LONGEST_SECONDS,
    MONTH,
    RUN,
    SCORE,
    SHARD_USERS,
    UPGRADE,
    USERS,
    Moment,
    Place,
    Places,
    make_source,
    moments,
)

KILLS = int(os.environ.get("ANOMALY_TEST_KILLS", "100"))
CHAIN = 3  # kills of one month; after more of them little is left to be killed in
FEW = 2
TRAINING_SECONDS = 12.0  # from a run's start until its model is registered, or less
AWAY, BUSY = 3, 5  # exit codes


@dataclass(frozen=True)
class Cost:
    """What a command line takes when nobody disturbs it."""

    seconds: float
    statements: int


@dataclass(frozen=True)
class Undisturbed:
    """What months that nobody disturbs come to.

    bare: a source and no database. prepared: history and a model, but no month.
    """

    places: Places
    bare: Place
    prepared: Place
    export: bytes
    results: dict[str, list[str]]
    scoring: Cost
    migrating: Cost


@dataclass
class Found:
    """What signals met, and what they broke: shards that were finished, and published again."""

    met: Counter[str] = field(default_factory=Counter)
    kept: int = 0
    lost: int = 0

    def __str__(self) -> str:
        met = ", ".join(f"{count} {name}" for name, count in sorted(self.met.items()))
        return f"{self.met.total()} ({met}); finished shards: {self.kept} kept, {self.lost} lost"


@pytest.fixture(scope="session")
def learnt(tmp_path_factory) -> tuple[Path, Contest]:
    """A source, and the models that its history teaches: trained once, undisturbed."""
    places = Places(tmp_path_factory.mktemp("learnt"), None, [])
    place = places.new()
    make_source(place)
    assert place.end(UPGRADE) == 0
    services = _services(place)
    ingest_file(services, place.folder / "history.parquet")
    contest = hold_contest(services, Month.parse(MONTH))
    services.store.close()
    return place.folder, contest


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def undisturbed(request, tmp_path_factory, learnt) -> Iterator[Undisturbed]:
    """A month run with a model that was prepared."""
    server = None if request.param == "sqlite" else request.getfixturevalue("postgres_server")
    places = Places(tmp_path_factory.mktemp("faults"), server, [])
    folder, contest = learnt
    try:
        bare = places.new()
        for name in ("source.parquet", "history.parquet"):
            shutil.copy(folder / name, bare.folder)
        prepared = places.new(bare)
        migrating = _cost(prepared, UPGRADE)
        services = _services(prepared)
        ingest_file(services, prepared.folder / "history.parquet")
        register(services, contest)
        services.store.close()
        scored = places.new(prepared)
        scoring = _cost(scored, SCORE)
        export = scored.export()
        assert export.count(b"\n") > 1, "a month without flags shows nothing"
        assert len(scored.finished_shards()) >= 5
        yield Undisturbed(places, bare, prepared, export, scored.results(), scoring, migrating)
    finally:
        places.clear()


def _services(place: Place) -> Services:
    run = place.settings.run.model_copy(update={"artefacts": place.folder / "artefacts"})
    source = place.settings.source.model_copy(update={"path": str(place.folder / "source.parquet")})
    return open_services(place.settings.model_copy(update={"run": run, "source": source}), SILENT)


def _cost(place: Place, *commands: tuple[str, ...]) -> Cost:
    began = time.monotonic()
    assert place.end(*commands) == 0, place.log()
    return Cost(time.monotonic() - began, place.statements())


def drawn(cost: Cost, count: int, seed: int) -> list[Moment]:
    """Moments of a command that costs so much."""
    return moments(count, cost.seconds, cost.statements, seed)


def killed_months(undisturbed: Undisturbed, kills: int, seed: int) -> Found:
    """Kill scoring months `kills` times, a few times each, and let each month end."""
    found = Found()
    waiting = drawn(undisturbed.scoring, kills, seed)
    while waiting:
        place = undisturbed.places.new(undisturbed.prepared)
        for moment in [waiting.pop() for _ in range(min(CHAIN, len(waiting)))]:
            finished = place.finished_shards()
            process = place.interrupted(signal.SIGKILL, moment, SCORE)
            found.met[_met(place, process.exitcode)] += 1
            found.lost += _lost(place, finished)
            place.wait_out_lease()
        check_whole(place, undisturbed, found, SCORE)
    return found


def check_whole(place: Place, undisturbed: Undisturbed, found: Found, command) -> None:
    """The month completes; it is that of an undisturbed run, and nothing is done twice."""
    finished = place.finished_shards()
    assert place.end(command) == 0, place.log()
    found.kept += len(finished)
    found.lost += _lost(place, finished)
    assert found.lost == 0, "a finished shard was scored again"
    check_published_once(place, undisturbed)
    undisturbed.places.drop(place)


def check_published_once(place: Place, undisturbed: Undisturbed) -> None:
    """One complete month and nothing beside it, all of it as in an undisturbed run."""
    assert place.export() == undisturbed.export
    assert place.results() == undisturbed.results
    assert place.strays() == []
    runs = place.rows()["runs"]
    assert Counter(run["state"] for run in runs if run["job"] == "month")["complete"] == 1


def _lost(place: Place, finished: dict[tuple[int, int], object]) -> int:
    after = place.finished_shards()
    return sum(after.get(shard) != published_at for shard, published_at in finished.items())


def _met(place: Place, exitcode: int | None) -> str:
    """What a process was doing when a signal met it, as far as the ledger tells."""
    if exitcode == 0:
        return "after its end"
    rows = place.rows()
    running = [run for run in rows["runs"] if run["state"] == "running"]
    months = [run for run in running if run["job"] == "month"]
    if any(run["job"] == "month" and run["state"] == "complete" for run in rows["runs"]):
        return "after publishing"
    if not running:
        return "before any run"
    if not months or len(running) > len(months):
        return "in " + next(run["job"] for run in running if run["job"] != "month")
    run = max(run["id"] for run in months)
    count = sum(row["run_id"] == run for row in rows["shards"])
    stages = {row["stage"] for row in rows["run_stages"] if row["run_id"] == run}
    if count == 0:
        return "before its states" if "remember" not in stages else "before its first shard"
    return "between shards" if count * SHARD_USERS < USERS else "after its last shard"


def killed_migrations(undisturbed: Undisturbed, kills: int, seed: int) -> Counter[str]:
    """Kill migrations; each leaves the old schema or the new one, and the next one ends."""
    met: Counter[str] = Counter()
    for moment in drawn(undisturbed.migrating, kills, seed):
        place = undisturbed.places.new()
        process = place.interrupted(signal.SIGKILL, moment, UPGRADE)
        engine = open_engine(place.url)
        revision = schema.current(engine)
        assert revision in (None, schema.head()), "a migration is whole or not at all"
        assert place.end(UPGRADE) == 0, place.log()
        schema.check(engine)
        engine.dispose()
        met[f"{'ended' if process.exitcode == 0 else 'killed'} at {revision or 'nothing'}"] += 1
        undisturbed.places.drop(place)
    return met


def killed_trainings(undisturbed: Undisturbed, kills: int, seed: int) -> Found:
    """Kill a month that begins with nothing, so that most kills meet its training."""
    found = Found()
    place = undisturbed.places.new(undisturbed.bare)
    assert place.end(UPGRADE) == 0, place.log()
    for moment in moments(2 * kills, TRAINING_SECONDS, 1, seed):
        if isinstance(moment, float):
            process = place.interrupted(signal.SIGKILL, moment, RUN)
            found.met[_met(place, process.exitcode)] += 1
            place.wait_out_lease()
    check_whole(place, undisturbed, found, RUN)
    return found


def frozen_leaders(undisturbed: Undisturbed, times: int, seed: int) -> Counter[str]:
    """Freeze a leader, let another take over, thaw the first: one result, published once."""
    met: Counter[str] = Counter()
    for moment in drawn(undisturbed.scoring, times, seed):
        place = undisturbed.places.new(undisturbed.prepared)
        leader = place.interrupted(signal.SIGSTOP, moment, SCORE)
        second = place.end(SCORE)
        finished = place.finished_shards()
        if leader.exitcode is None:
            os.kill(leader.pid, signal.SIGCONT)
            leader.join(LONGEST_SECONDS)
        met[f"the other ended with {second}, the frozen one with {leader.exitcode}"] += 1
        if second == 0:
            assert _lost(place, finished) == 0, "the frozen one has published"
            assert leader.exitcode in (0, AWAY, BUSY), place.log()
        else:
            # Frozen while it writes, its lock on SQLite's file lasts as long as it does.
            assert (second, place.url[:6]) == (AWAY, "sqlite"), place.log()
            assert place.end(SCORE) == 0, place.log()
        check_published_once(place, undisturbed)
        undisturbed.places.drop(place)
    return met


@pytest.mark.timeout(120)
def test_a_month_killed_while_it_scores_ends_as_if_it_had_not_been(undisturbed):
    found = killed_months(undisturbed, FEW, seed=time.time_ns())
    assert (found.met.total(), found.lost) == (FEW, 0)


@pytest.mark.timeout(120)
def test_a_killed_migration_leaves_the_old_schema_or_the_new(undisturbed):
    assert killed_migrations(undisturbed, FEW, seed=time.time_ns()).total() == FEW


@pytest.mark.timeout(120)
def test_a_frozen_leader_is_replaced_and_publishes_nothing(undisturbed):
    assert frozen_leaders(undisturbed, 1, seed=time.time_ns()).total() == 1


@pytest.mark.long
@pytest.mark.timeout(3_600)
def test_many_kills(undisturbed, request, capsys):
    training, migrating, freezing = (max(1, KILLS // part) for part in (20, 5, 5))
    scored = killed_months(undisturbed, max(1, KILLS - training - migrating), seed=1)
    migrated = killed_migrations(undisturbed, migrating, seed=2)
    trained = killed_trainings(undisturbed, training, seed=3)
    frozen = frozen_leaders(undisturbed, freezing, seed=4)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{request.node.callspec.id}\n  killed while scoring: {scored}\n"
            f"  killed while training: {trained}\n  killed while migrating: {dict(migrated)}\n"
            f"  frozen: {dict(frozen)}\n"
        )
