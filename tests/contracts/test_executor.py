"""What every executor holds to, whether its workers are threads or processes of a cluster."""

import threading
import time

import pytest

from anomaly.exceptions import SourceError
from pipelines.executors import Failure
from pipelines.executors.local import Threads

WORKERS, ATTEMPTS = 2, 3


class Notes:
    """A folder in which work, wherever it is done, leaves a line for each attempt."""

    def __init__(self, folder):
        self.folder = folder

    def write(self, shard):
        with (self.folder / str(shard)).open("a") as file:
            file.write(".")

    def attempts(self, shard):
        file = self.folder / str(shard)
        return len(file.read_text()) if file.exists() else 0

    def begun(self):
        return sum(1 for _ in self.folder.iterdir())


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path)


@pytest.fixture
def executor():
    return Threads(WORKERS, ATTEMPTS)


def numbered(count):
    return {number: number for number in range(count)}


def test_results_come_in_the_order_of_shards(executor):
    def work(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number * 10

    assert list(executor.run(work, numbered(9))) == [(n, n * 10) for n in range(9)]


def test_there_may_be_nothing_to_do(executor):
    assert list(executor.run(str, {})) == []


def test_no_more_are_begun_than_are_taken(executor, notes):
    results = executor.run(notes.write, numbered(40))
    assert notes.begun() == 0
    next(results)
    time.sleep(0.3)
    assert notes.begun() <= 2 * WORKERS + 1
    results.close()
    assert notes.begun() <= 2 * WORKERS + 1


def test_work_that_raises_is_tried_again_and_then_given_up(executor, notes):
    def work(number):
        notes.write(number)
        if number == 1:
            raise ValueError("one is odd")
        if number == 3 and notes.attempts(3) < ATTEMPTS:
            raise ValueError("three, twice")
        return number

    *others, failure = sorted(
        (outcome for _, outcome in executor.run(work, numbered(5))),
        key=lambda outcome: isinstance(outcome, Failure),
    )
    assert others == [0, 2, 3, 4]
    assert (failure.attempts, failure.reason) == (ATTEMPTS, "ValueError: one is odd")
    assert isinstance(failure.error, ValueError)
    assert [notes.attempts(number) for number in range(5)] == [1, ATTEMPTS, 1, ATTEMPTS, 1]


def test_what_is_no_shard_s_fault_ends_it_at_once(executor, notes):
    def work(number):
        notes.write(number)
        if number == 1:
            raise SourceError("the database is away")
        return number

    results = executor.run(work, numbered(40))
    assert next(results) == (0, 0)
    with pytest.raises(SourceError, match="the database is away"):
        next(results)
    assert notes.attempts(1) == 1
    assert notes.begun() <= 2 * WORKERS + 2


def test_work_is_done_at_the_same_time():
    both = threading.Barrier(WORKERS, timeout=10)
    assert len(list(Threads(WORKERS, 1).run(lambda _: both.wait(), numbered(4)))) == 4
