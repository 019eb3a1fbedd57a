"""Shards: in order, bounded, and over at the first error."""

import threading

import pytest

from pipelines.jobs.shards import in_order


@pytest.mark.parametrize("workers", [0, 1, 3, 20])
def test_results_come_in_the_order_of_shards(workers):
    turns = {number: threading.Event() for number in range(6)}
    turns[5].set()

    def work(number):
        if workers == 20:  # all at once: let the last one end first
            turns[number].wait(5)
            turns.get(number - 1, threading.Event()).set()
        return number * 10

    shards = {number: number for number in range(6)}
    assert list(in_order(shards, work, workers)) == [(n, n * 10) for n in range(6)]


def test_no_more_are_begun_than_may_run_at_once():
    begun = []
    results = in_order({number: number for number in range(9)}, begun.append, 2)
    next(results)
    assert len(begun) <= 2
    results.close()
    assert len(begun) <= 3


def test_an_error_ends_it_at_its_shard():
    def work(number):
        if number == 3:
            raise ValueError("three")
        return number

    results = in_order({number: number for number in range(9)}, work, 2)
    assert [next(results)[0] for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
