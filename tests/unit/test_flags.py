"""From evidence to flags: what is one story is one flag."""

import numpy as np
import pytest

from anomaly.flags import Window, cores, select


def chosen(evidence: list[float], together: int, worth=lambda window: True) -> list[Window]:
    return select(
        np.array(evidence, np.float32), 1.0, lambda window: [window], worth, together=together
    )


TWO = [0, 2, 0, 0, 3, 3, 0]


@pytest.mark.parametrize(
    ("together", "found"),
    [
        (0, [Window(1, 2, 2.0), Window(4, 6, 3.0)]),
        (2, [Window(1, 2, 2.0), Window(4, 6, 3.0)]),
        (3, [Window(1, 6, 3.0)]),
    ],
)
def test_flags_that_lie_near_are_one(together, found):
    assert chosen(TWO, together) == found


def test_they_stay_apart_where_both_together_would_show_nothing():
    def short(window: Window) -> bool:
        return window.last - window.first < 3

    assert chosen(TWO, 3, short) == chosen(TWO, 0)


def test_a_grid_of_days_joins_what_no_day_parts():
    assert chosen([2, 2, 0, 2], 1) == [Window(0, 2, 2.0), Window(3, 4, 2.0)]


SHARE = np.array([1.0, 0.0, 2.0, 9.0, 2.0, 0.0, 6.0, 0.5])


def test_parts_of_a_stretch_close_in_on_the_step_that_brings_most():
    parts = list(cores(Window(10, 18, 4.0), SHARE))
    assert parts == [Window(12, 17, 4.0), Window(13, 17, 4.0), Window(13, 14, 4.0)]


@pytest.mark.parametrize(("longest", "found"), [(8, 5), (4, 4), (1, 1), (0, None)])
def test_a_stretch_that_shows_nothing_as_a_whole_is_told_by_the_longest_part_that_does(
    longest, found
):
    def short(window: Window) -> bool:
        return window.last - window.first <= longest

    flags = select(np.full(8, 4.0, np.float32), 1.0, lambda window: cores(window, SHARE), short)
    assert [flag.last - flag.first for flag in flags] == ([] if found is None else [found])
