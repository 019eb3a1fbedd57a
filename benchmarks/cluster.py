"""What ten and a hundred million users need, from shards measured here: python -m benchmarks.cluster

Scores a made month through the product's own run, one transaction a shard, and measures each shard.
Then a simulation of the executor (shards in order, a bounded number in flight, one driver that
publishes) is checked against the same run, and asked about clusters that are not here.

    --users, --shard-users, --workers   the measured run
    --database URL                      instead of a SQLite file; it must be empty
    --price                             of a core-hour, in whatever money
    --quick                             small enough for a test of the command itself
"""

from __future__ import annotations

import argparse
import heapq
import itertools
import os
import tempfile
import time
import tracemalloc
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from anomaly.months import Month
from anomaly.progress import SILENT
from anomaly.rows import SCHEMA
from anomaly.settings import Settings
from anomaly.store import schema
from pipelines.exclusive import exclusive
from pipelines.jobs.books import Counts, Ledger, Outcome, Passage, ShardResult, open_run
from pipelines.jobs.month import score_month
from pipelines.jobs.reading import People
from pipelines.jobs.scope import Options, Scope, scope_of
from pipelines.services import Services, open_database, open_services

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

MONTH = Month(2026, 3)
HISTORY = Month(2026, 2)
METRICS = ("files_read", "logons", "bytes_sent", "prints", "mails")
SCALES = (100_000, 10_000_000, 100_000_000)
CORES = (2, 16, 128, 1_024)
RAY_IN_FLIGHT = 2
BOTTLENECK = 0.95  # of the driver's time: from here on more cores change nothing


def main() -> None:
    """Measure, check, and print what more would need."""
    options = arguments()
    with tempfile.TemporaryDirectory() as folder:
        url = options.database or f"sqlite:///{folder}/anomaly.db"
        services = prepared(url, Path(folder), options)
        measured = measure(services)
        measured.rows_a_second = read_rate(services)
    for table in (tell(measured), check(measured, options.workers), project(measured, options)):
        print("\n".join(table), end="\n\n")


def arguments() -> argparse.Namespace:
    """The command's options."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--users", type=int, default=400)
    parser.add_argument("--shard-users", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--database")
    parser.add_argument("--price", type=float, default=0.04)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    if options.quick:
        options.users, options.shard_users = 12, 4
    return options


def prepared(url: str, folder: Path, options: argparse.Namespace) -> Services:
    """A database with a month of history and the month to score, of made users."""
    settings = Settings.model_validate(
        {
            "database": {"url": url},
            "model": {"steps": 4 if options.quick else 10, "sample_users": 50},
            "run": {
                "workers": options.workers,
                "shard_users": options.shard_users,
                "artefacts": folder / "models",
            },
        }
    )
    schema.upgrade(open_database(settings))
    services = open_services(settings, SILENT)
    for month in (HISTORY, MONTH):
        for first in range(0, options.users, 50):
            users = range(first, min(first + 50, options.users))
            services.store.observations.write(behaviour(month, users), "benchmark")
    return services


def behaviour(month: Month, users: Sequence[int]) -> pa.Table:
    """Every hour and metric of these users: office hours, each user's own level, a row for each zero."""
    start, end = (int(when.timestamp()) for when in (month.start("UTC"), month.end("UTC")))
    times = np.arange(start, end, 3_600)
    busy = ((times // 3_600) % 24 >= 8) & ((times // 3_600) % 24 < 18)
    level = np.random.default_rng(users[0]).lognormal(1, 0.6, (len(users), 1, len(METRICS)))
    rng = np.random.default_rng([month.month, users[0]])
    rate = np.where(busy[None, :, None], level, 0.02)
    values = rng.poisson(rate).astype(np.float64)
    shape = values.shape
    names = np.array([f"user{number:09d}" for number in users])
    columns = [
        pa.array(np.broadcast_to(names[:, None, None], shape).ravel()),
        pa.array(np.broadcast_to(np.array(METRICS)[None, None, :], shape).ravel()),
        pa.array(np.broadcast_to((times * 1_000_000)[None, :, None], shape).ravel()).cast(
            SCHEMA.field("observed_at").type
        ),
        pa.array(values.ravel()),
    ]
    return pa.table(columns, schema=SCHEMA)


@dataclass
class Timed:
    """The run's books, with a stopwatch. score, publish: seconds of each shard, by the clock."""

    books: Ledger
    score: list[float] = field(default_factory=list)
    publish_: list[float] = field(default_factory=list)
    rows: int = 0
    rows_a_second: float = 0.0
    users: int = 0
    flags: int = 0
    state_bytes: int = 0
    began: float = 0.0
    began_cpu: float = 0.0
    ended: float = 0.0
    ended_cpu: float = 0.0

    def stage(self, name: str) -> AbstractContextManager[Counts]:
        """As the books do."""
        return self.books.stage(name)

    def waiting(self, stage: str) -> AbstractContextManager[object]:
        """As the books do."""
        return self.books.waiting(stage)

    def record(self, stage: str, passed: Passage) -> None:
        """Note a shard's own time."""
        self.books.record(stage, passed)
        self.score.append(passed.seconds)
        self.rows += passed.rows

    def finished_shards(self) -> set[int]:
        """Start the clock: the pass over shards begins."""
        self.began, self.began_cpu = time.perf_counter(), time.process_time()
        return self.books.finished_shards()

    def take_over(self, scope: Scope, model_version: str, finished: set[int]) -> set[int]:
        """As the books do."""
        return self.books.take_over(scope, model_version, finished)

    def publish(
        self, shard: int, model_version: str, result: ShardResult, error: str | None = None
    ) -> None:
        """Time the transaction."""
        before = time.perf_counter()
        self.books.publish(shard, model_version, result, error)
        self.publish_.append(time.perf_counter() - before)
        self.users += len(result.user_months)
        self.flags += len(result.flags)
        self.state_bytes += sum(map(len, result.states.values()))

    def finish(
        self, state: str, model_version: str, scope: Scope, rejected: Mapping[str, int]
    ) -> Outcome:
        """Stop the clock."""
        self.ended, self.ended_cpu = time.perf_counter(), time.process_time()
        return self.books.finish(state, model_version, scope, rejected)

    @property
    def seconds(self) -> float:
        """From the first shard begun to the last one published."""
        return self.ended - self.began

    @property
    def cpu(self) -> float:
        """Of this process, in the same time."""
        return self.ended_cpu - self.began_cpu

    @property
    def slowdown(self) -> float:
        """Clock over CPU time of shards: above 1 where others use the machine or threads wait."""
        return (sum(self.score) + sum(self.publish_)) / self.cpu


def measure(services: Services) -> Timed:
    """Score the month as `anomaly run` does."""
    with exclusive(services) as holding:
        scope = scope_of(services, MONTH, Options())
        with open_run(services, scope, holding) as ledger:
            timed = Timed(ledger)
            score_month(services, scope, Options(), timed)
    return timed


def read_rate(services: Services) -> float:
    """Rows of the month that come out of the database in a second of CPU."""
    began, rows = time.process_time(), 0
    for table in services.store.observations.read(MONTH.start("UTC"), MONTH.end("UTC")):
        rows += len(table)
    return rows / (time.process_time() - began)


@dataclass(frozen=True, slots=True)
class Simulated:
    """seconds: until the last shard is published. driver: the share of them in which it publishes."""

    seconds: float
    driver: float


def simulate(shards: Iterator[tuple[float, float]], workers: int, in_flight: int) -> Simulated:
    """Play the executor: workers take shards as they are begun, the driver takes results in order.

    Args: shards: seconds to score and seconds to publish, of each.
    """
    free = [0.0] * workers  # when each worker is free; a heap
    going: deque[tuple[float, float]] = deque()
    now = published = 0.0
    while True:
        for score, publish in itertools.islice(shards, in_flight - len(going)):
            end = max(now, heapq.heappop(free)) + score
            heapq.heappush(free, end)
            going.append((end, publish))
        if not going:
            return Simulated(now, published / now if now else 0.0)
        end, publish = going.popleft()
        now = max(now, end) + publish
        published += publish


def tell(measured: Timed) -> list[str]:
    """What was measured, by user-month."""
    each = measured.users
    score, publish = sum(measured.score), sum(measured.publish_)
    return [
        "Measured here",
        "| what | figure |",
        "|---|---|",
        f"| users, shards, rows | {each:,}, {len(measured.score)}, {measured.rows:,} |",
        f"| CPU of a user-month, read to published | {1e3 * measured.cpu / each:.2f} ms |",
        f"| of that, published by the driver | {1e3 * publish / measured.slowdown / each:.3f} ms |",
        f"| rows read from the database in a second of CPU | {measured.rows_a_second:,.0f} |",
        f"| state kept of a user | {measured.state_bytes / each / 1e3:.1f} kB |",
        f"| rows written for a user | {(2 * each + measured.flags) / each:.3f} |",
        f"| clock over CPU (others use the machine) | {measured.slowdown:.2f} |",
        f"| memory of the driver for each user it knows | {known_bytes():.0f} bytes |",
        f"| share of shards' time that is publishing | {publish / (score + publish):.4f} |",
    ]


def known_bytes(users: int = 100_000) -> float:
    """Bytes that a name and its first row take in the driver, as `people_before` holds them."""
    tracemalloc.start()
    first = {f"user{number:09d}": 1_700_000_000 + number for number in range(users)}
    people = People({user: first[user] for user in sorted(first, key=str.encode)}, {})
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return taken / len(people.first_seen)


def check(measured: Timed, workers: int) -> list[str]:
    """The simulation beside the run that was measured, by the clock."""
    shards = zip(measured.score, measured.publish_, strict=True)
    said = simulate(shards, workers, workers + 1).seconds
    return [
        "The simulation against the measured run",
        "| workers | measured, s | simulated, s | ratio |",
        "|---|---|---|---|",
        f"| {workers} | {measured.seconds:.2f} | {said:.2f} | {said / measured.seconds:.2f} |",
    ]


def project(measured: Timed, options: argparse.Namespace) -> list[str]:
    """Hours, writes and money for more users than are here, shards of the default size."""
    lines = [
        "Simulated: shards of the default size, with the CPU times that were measured",
        (
            "| users | cores | hours | cores busy | driver busy | reading, core-hours "
            "| rows written | states, GB | cost |"
        ),
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rng = np.random.default_rng(0)
    size = Settings().run.shard_users
    scale = size / options.shard_users / measured.slowdown
    score, publish = (np.array(of) * scale for of in (measured.score, measured.publish_))
    for users, cores in itertools.product(SCALES, CORES):
        count = -(-users // size)
        drawn = rng.integers(0, len(score), count)
        shards = zip(score[drawn].tolist(), publish[drawn].tolist(), strict=True)
        said = simulate(shards, cores, RAY_IN_FLIGHT * cores)
        busy = score[drawn].sum() / (said.seconds * cores)
        rows = users * (2 + measured.flags / measured.users)
        states = users * measured.state_bytes / measured.users
        reading = users * measured.rows / measured.users / measured.rows_a_second / 3_600
        cost = said.seconds / 3_600 * (cores + 1) * options.price
        limit = " (the limit)" if said.driver > BOTTLENECK else ""
        lines.append(
            f"| {users:,} | {cores:,} | {said.seconds / 3_600:,.2f} | {busy:.0%} | "
            f"{said.driver:.0%}{limit} | {reading:,.1f} | {rows:,.0f} | {states / 1e9:,.1f} | {cost:,.2f} |"
        )
    lines.append("")
    lines.append(
        f"One driver keeps up to {score.mean() / publish.mean():,.0f} cores busy; beyond that its "
        "publishing is the bottleneck."
    )
    return lines


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    main()
