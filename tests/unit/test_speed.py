"""What a few users tell of many."""

import pytest

from anomaly.networks.training import EVALUATE_EVERY
from pipelines.jobs.speed import FEW, MORE, TRAINING, Law, Stopwatch, timed

USERS = [f"u{number}" for number in range(MORE)]


class Machine:
    """Takes 3 s to set up, 2 s a call and 0.1 s a user."""

    def __init__(self):
        self.calls = []

    def __call__(self, work, users):
        self.calls.append(len(users))
        return 2.0 + 0.1 * len(users) + (3.0 if len(self.calls) == 1 else 0.0)


def test_what_is_taken_anyway_is_told_from_what_users_add():
    machine = Machine()
    law = timed(print, USERS, seconds=machine)
    assert machine.calls == [FEW, FEW, MORE]
    assert (law.anyway, law.each) == pytest.approx((5.0, 0.1))
    assert law.of(1_000) == pytest.approx(105.0)


def test_where_nothing_is_set_up_each_size_is_timed_once():
    machine = Machine()
    machine.calls.append(0)
    law = timed(print, USERS, once=True, seconds=machine)
    assert machine.calls == [0, FEW, MORE]
    assert (law.anyway, law.each) == pytest.approx((2.0, 0.1))


def test_a_slow_first_call_makes_no_user_free():
    # A machine that was busy while few users were timed and idle later.
    law = timed(print, USERS, once=True, seconds=lambda work, users: 60.0 / len(users))
    assert law.each > 0


def test_with_a_handful_of_users_all_of_them_are_timed():
    law = timed(print, USERS[:5], seconds=lambda work, users: 0.1 * len(users))
    assert law == Law(0.0, pytest.approx(0.1))


def test_gradient_steps_are_timed_after_the_first_look_at_later_history():
    watch = Stopwatch()
    watch.ends = [
        100.0 + 9.0 * (place < EVALUATE_EVERY - 1) + 0.5 * place
        for place in range(2 * EVALUATE_EVERY)
    ]
    assert watch.step_seconds == pytest.approx(0.5)
    assert Stopwatch().step_seconds == 0.0


def test_only_training_is_listened_to():
    watch = Stopwatch()
    with watch.track("reading history", 3) as advance:
        advance(1)
    with watch.track(TRAINING, 3) as advance:
        advance(1)
        advance(2)  # steps that were left out
    assert len(watch.ends) == 1
