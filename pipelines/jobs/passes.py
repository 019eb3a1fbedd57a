"""One pass over a month's shards; what cannot be scored is set aside and does not stop the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from pipelines.executors import Failure
from pipelines.jobs.reading import chunks
from pipelines.jobs.scoring import FAILED, Scored, joined, unscored

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipelines.executors import Executor
    from pipelines.jobs.books import Books, ShardResult
    from pipelines.jobs.reading import Known
    from pipelines.jobs.scope import Scope
    from pipelines.jobs.scoring import Scoring

    Work = Callable[[Known], Scored]

HOPELESS = 3  # shards that fail before any was scored: then the fault is not their users'


@dataclass(slots=True)
class Sums:
    """What scoring went through. negative: counts below zero, left out; aside: users not scored."""

    rows: int = 0
    negative: int = 0
    aside: int = 0

    @property
    def rejected(self) -> dict[str, int]:
        """Rows that were left out, by reason, for the ledger."""
        return {"negative_count": self.negative} if self.negative else {}


@dataclass(frozen=True, slots=True)
class Passed:
    """What came of a shard. parts: what was scored of it. at_fault: users not scored, and why."""

    users: Sequence[str]
    parts: Sequence[Scored]
    at_fault: Mapping[str, Failure] = field(default_factory=dict)

    @property
    def result(self) -> ShardResult:
        """What is published, everyone in it."""
        aside = [unscored([user], FAILED) for user in self.at_fault]
        return joined([*(part.result for part in self.parts), *aside], self.users)

    @property
    def error(self) -> str | None:
        """Why some of its users were not scored, for the ledger."""
        if not self.at_fault:
            return None
        first = next(iter(self.at_fault.values()))
        return (
            f"{len(self.at_fault)} of {len(self.users)} users not scored in {first.attempts} "
            f"attempts: {first.reason}"
        )


def score_shards(
    scoring: Scoring, known: Known, scope: Scope, books: Books, executor: Executor,
    finished: set[int], first: int = 0,
) -> Sums:  # fmt: skip
    """Score and publish the shards that are not finished.

    Args: first: the number of the first shard; a month that is reopened has others before it, whose
        users were scored.
    """
    services, version = scoring.services, scoring.past.model.version
    shards = dict(enumerate(chunks(scope.users, services.settings.run.shard_users), first))
    left = {number: users for number, users in shards.items() if number not in finished}
    sums = Sums()
    with (
        structlog.contextvars.bound_contextvars(stage="score"),
        services.progress.track(f"scoring {scope.month}", len(scope.users)) as advance,
    ):
        advance(sum(len(shards[number]) for number in finished & set(shards)))
        passing = each_shard(executor, scoring, known, left, hopeful=bool(finished) or first > 0)
        for number, passed in awaited(books, passing):
            for part in passed.parts:
                books.record("score", part)
                sums.rows += part.rows
                sums.negative += part.negative
            with books.stage("publish"):
                books.publish(number, version, passed.result, passed.error)
            sums.aside += len(passed.at_fault)
            advance(len(shards[number]))
    return sums


def awaited(books: Books, passing: Iterator[tuple[int, Passed]]) -> Iterator[tuple[int, Passed]]:
    """What passes, one after another, each wait for the next watched as part of the stage."""
    while True:
        with books.waiting("score"):
            found = next(passing, None)
        if found is None:
            return
        yield found


def each_shard(
    executor: Executor,
    work: Work,
    known: Known,
    shards: Mapping[int, Sequence[str]],
    *,
    hopeful: bool,
) -> Iterator[tuple[int, Passed]]:
    """Score shards in their order. Those that fail come last, halved until users at fault stand alone.

    Args: hopeful: whether shards of the month were scored before.
    Raises: what the work raised, where the first shards fail and nothing could be scored.
    """
    failed: dict[int, Failure] = {}
    parts = ((number, known.of(users)) for number, users in shards.items())
    for number, outcome in executor.run(work, parts):
        if isinstance(outcome, Failure):
            failed[number] = outcome
            structlog.get_logger().warning("shard_failed", shard=number, error=outcome.reason)
            if len(failed) == HOPELESS and not hopeful:
                raise outcome.error
        else:
            hopeful = True
            yield number, Passed(shards[number], [outcome])
    for number, failure in failed.items():
        passed = narrowed(executor, work, known.of(shards[number]), failure)
        if not passed.parts and not hopeful:
            raise failure.error
        hopeful = True
        structlog.get_logger().warning("users_set_aside", shard=number, error=passed.error)
        yield number, passed


def narrowed(executor: Executor, work: Work, known: Known, failure: Failure) -> Passed:
    """Halve a shard that failed until the users at fault stand alone, and score the others.

    Where not even a quarter of it can be scored, the whole of it is set aside.
    """
    users = known.people.users
    parts: list[Scored] = []
    at_fault: dict[str, Failure] = {}
    waiting: list[Sequence[str]] = [users] if len(users) > 1 else []
    if not waiting:
        at_fault = dict.fromkeys(users, failure)
    while waiting:
        halves = [
            half for part in waiting for half in (part[: len(part) // 2], part[len(part) // 2 :])
        ]
        waiting = []
        for number, outcome in executor.run(work, enumerate(map(known.of, halves))):
            if not isinstance(outcome, Failure):
                parts.append(outcome)
            elif len(halves[number]) == 1:
                at_fault[halves[number][0]] = outcome
            else:
                waiting.append(halves[number])
        if not parts and len(halves) > 2:
            return Passed(users, [], dict.fromkeys(users, failure))
    return Passed(users, parts, at_fault)
