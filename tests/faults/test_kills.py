"""SIGKILL and SIGSTOP at random moments: nothing is lost, nothing doubled, nothing done twice.

The short form runs with all tests. The long form is `make faults`; ANOMALY_TEST_KILLS says how many
kills it makes on each kind of database (default: 100), and a table at the end says what they met.
"""

import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
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
from tests.fixtures.tally import Tally, compared

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

    name: str
    places: Places
    bare: Place
    prepared: Place
    export: bytes
    results: dict[str, list[str]]
    scoring: Cost
    migrating: Cost


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
        yield Undisturbed(
            request.param, places, bare, prepared, export, scored.results(), scoring, migrating
        )
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


def killed_months(undisturbed: Undisturbed, kills: int, seed: int, tally: Tally) -> int:
    """Kill scoring months `kills` times, a few times each, and let each month end; counts kills."""
    waiting, killed = drawn(undisturbed.scoring, kills, seed), 0
    while waiting:
        place = undisturbed.places.new(undisturbed.prepared)
        for moment in [waiting.pop() for _ in range(min(CHAIN, len(waiting)))]:
            finished = place.finished_shards()
            process = place.interrupted(signal.SIGKILL, moment, SCORE)
            again = _again(place, finished)
            met = _met(place, process.exitcode)
            tally.add("SIGKILL of a month", undisturbed.name, met, doubled=again)
            killed += 1
            assert again == 0, "a finished shard was scored again"
            place.wait_out_lease()
        check_whole(place, undisturbed, "SIGKILL of a month", SCORE, tally)
    return killed


def check_whole(
    place: Place, undisturbed: Undisturbed, what: str, command: tuple[str, ...], tally: Tally
) -> None:
    """The month completes; it is that of an undisturbed run, and nothing is done twice."""
    finished = place.finished_shards()
    assert place.end(command) == 0, place.log()
    again = _again(place, finished)
    tally.add("shards kept over a kill", undisturbed.name, "", len(finished) - again, doubled=again)
    assert again == 0, "a finished shard was scored again"
    check_published_once(place, undisturbed, what, tally)
    undisturbed.places.drop(place)


def check_published_once(place: Place, undisturbed: Undisturbed, what: str, tally: Tally) -> None:
    """One complete month and nothing beside it, all of it as in an undisturbed run."""
    export = place.export()
    lost, doubled = compared(undisturbed.export.splitlines(), export.splitlines())
    tally.add(what, undisturbed.name, "", 0, lost, doubled)
    assert export == undisturbed.export
    assert place.results() == undisturbed.results
    assert place.strays() == []
    runs = place.rows()["runs"]
    assert Counter(run["state"] for run in runs if run["job"] == "month")["complete"] == 1


def _again(place: Place, finished: dict[tuple[int, int], object]) -> int:
    """How many of these shards are not there any more as they were."""
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


def killed_migrations(undisturbed: Undisturbed, kills: int, seed: int, tally: Tally) -> None:
    """Kill migrations; each leaves the old schema or the new one, and the next one ends."""
    for moment in drawn(undisturbed.migrating, kills, seed):
        place = undisturbed.places.new()
        process = place.interrupted(signal.SIGKILL, moment, UPGRADE)
        engine = open_engine(place.url)
        revision = schema.current(engine)
        how = "ended" if process.exitcode == 0 else "killed"
        tally.add("SIGKILL of a migration", undisturbed.name, f"{how} at {revision or 'no schema'}")
        assert revision in (None, schema.head()), "a migration is whole or not at all"
        assert place.end(UPGRADE) == 0, place.log()
        schema.check(engine)
        engine.dispose()
        undisturbed.places.drop(place)


def killed_trainings(undisturbed: Undisturbed, kills: int, seed: int, tally: Tally) -> None:
    """Kill a month that begins with nothing, so that most kills meet its training."""
    place = undisturbed.places.new(undisturbed.bare)
    assert place.end(UPGRADE) == 0, place.log()
    for moment in moments(2 * kills, TRAINING_SECONDS, 1, seed):
        if isinstance(moment, float):
            process = place.interrupted(signal.SIGKILL, moment, RUN)
            tally.add("SIGKILL of training", undisturbed.name, _met(place, process.exitcode))
            place.wait_out_lease()
    check_whole(place, undisturbed, "SIGKILL of training", RUN, tally)


def frozen_leaders(undisturbed: Undisturbed, times: int, seed: int, tally: Tally) -> None:
    """Freeze a leader, let another take over, thaw the first: one result, published once."""
    what = "SIGSTOP of a leader, takeover, SIGCONT"
    for moment in drawn(undisturbed.scoring, times, seed):
        place = undisturbed.places.new(undisturbed.prepared)
        leader = place.interrupted(signal.SIGSTOP, moment, SCORE)
        second = place.end(SCORE)
        finished = place.finished_shards()
        if leader.exitcode is None:
            os.kill(leader.pid, signal.SIGCONT)
            leader.join(LONGEST_SECONDS)
        again = _again(place, finished) if second == 0 else 0
        met = f"other ended {second}, thawed one {leader.exitcode}"
        tally.add(what, undisturbed.name, met, doubled=again)
        if second == 0:
            assert again == 0, "the frozen one has published"
            assert leader.exitcode in (0, AWAY, BUSY), place.log()
        else:
            # Frozen while it writes, its lock on SQLite's file lasts as long as it does.
            assert (second, place.url[:6]) == (AWAY, "sqlite"), place.log()
            assert place.end(SCORE) == 0, place.log()
        check_published_once(place, undisturbed, what, tally)
        undisturbed.places.drop(place)


@pytest.mark.timeout(120, func_only=True)  # a busy machine takes minutes to import all
def test_a_month_killed_while_it_scores_ends_as_if_it_had_not_been(undisturbed, tally):
    assert killed_months(undisturbed, FEW, time.time_ns(), tally) == FEW


@pytest.mark.timeout(120, func_only=True)  # a busy machine takes minutes to import all
def test_a_killed_migration_leaves_the_old_schema_or_the_new(undisturbed, tally):
    killed_migrations(undisturbed, FEW, time.time_ns(), tally)


@pytest.mark.timeout(120, func_only=True)  # a busy machine takes minutes to import all
def test_a_frozen_leader_is_replaced_and_publishes_nothing(undisturbed, tally):
    frozen_leaders(undisturbed, 1, time.time_ns(), tally)


@pytest.mark.long
@pytest.mark.timeout(7_200, func_only=True)
def test_many_kills(undisturbed, tally):
    tally.shown = True
    training, migrating, freezing = (max(1, KILLS // part) for part in (20, 5, 5))
    killed_months(undisturbed, max(1, KILLS - training - migrating), 1, tally)
    killed_migrations(undisturbed, migrating, 2, tally)
    killed_trainings(undisturbed, training, 3, tally)
    frozen_leaders(undisturbed, freezing, 4, tally)
