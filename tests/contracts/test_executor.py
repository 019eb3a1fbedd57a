"""What every executor holds to, whether its workers are threads or processes of a cluster."""

import os
import signal
import time

import pytest

from anomaly.exceptions import SettingsError, SourceError
from pipelines.executors import Failure, cluster
from pipelines.executors.cluster import Tasks
from pipelines.executors.local import Threads
from tests.fixtures.cluster import Notes, ray_folder

__all__ = ["ray_folder"]

pytestmark = pytest.mark.timeout(600)

WORKERS, ATTEMPTS = 2, 3


@pytest.fixture
def notes(tmp_path):
    return Notes(tmp_path)


@pytest.fixture(scope="module")
def ray_here(ray_folder):
    """Ray on this machine alone, as a run starts it that is told of no cluster."""
    with cluster.connected(None, WORKERS, ATTEMPTS, WORKERS) as tasks:
        yield tasks


@pytest.fixture(params=["local", "ray"])
def executor(request):
    if request.param == "local":
        return Threads(WORKERS, ATTEMPTS)
    return request.getfixturevalue("ray_here")


def numbered(count):
    return [(number, number) for number in range(count)]


def test_results_come_in_the_order_of_shards(executor):
    def work(number):
        time.sleep(0.02 * (number % 3 == 0))
        return number * 10

    assert list(executor.run(work, numbered(9))) == [(n, n * 10) for n in range(9)]


def test_there_may_be_nothing_to_do(executor):
    assert list(executor.run(str, [])) == []


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


def test_work_is_done_at_the_same_time(executor, notes):
    def work(number):
        notes.write(number)
        while notes.begun() < WORKERS:  # ends only if another is begun meanwhile
            time.sleep(0.01)
        return number

    assert len(list(executor.run(work, numbered(WORKERS)))) == WORKERS
    assert executor.workers == WORKERS


def test_a_process_that_dies_takes_no_other_with_it(ray_here, notes):
    def work(number):
        notes.write(number)
        if number == 1 or (number == 2 and notes.attempts(2) < 2):
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    outcomes = dict(Tasks(WORKERS, 2).run(work, numbered(4)))
    failure = outcomes.pop(1)
    assert outcomes == {0: 0, 2: 2, 3: 3}
    assert isinstance(failure, Failure)
    assert failure.reason.startswith("WorkerCrashedError: ")
    assert [notes.attempts(number) for number in (1, 2)] == [2, 2]


def test_a_worker_of_another_version_is_refused(ray_here, monkeypatch):
    monkeypatch.setattr("anomaly.__version__", "9.9")
    with pytest.raises(SettingsError, match="has anomaly .* the driver has 9.9"):
        list(ray_here.run(str, numbered(1)))
