"""A month hour by day, beside what is usual at that hour of the week."""

import numpy as np
import pytest

from anomaly.heatmap import heat_map, span
from anomaly.months import Month

MARCH = Month(2026, 3)
HOUR = 3_600


def hours(timezone: str = "UTC") -> np.ndarray:
    start, end = span(MARCH, timezone)
    return np.arange(int(start.timestamp()), int(end.timestamp()), HOUR)


def laid(times, values, timezone="UTC", step=HOUR, **changes):
    until = int(MARCH.end(timezone).timestamp())
    return heat_map(times, values, MARCH, timezone, step, until, **changes)


@pytest.mark.parametrize("hour", [0, 13, 743])
def test_an_impulse_is_one_cell_wherever_it_is(hour):
    times = hours()
    values = np.full(len(times), 4.0)
    at = int(MARCH.start("UTC").timestamp()) + hour * HOUR
    values[times == at] = 400
    found = laid(times, values)
    assert found.observed.shape == (24, 31)
    assert np.argwhere(found.departure > 6).tolist() == [[hour % 24, hour // 24]]
    assert (found.usual == 4).all()


def test_what_the_month_holds_moves_no_usual():
    times = hours()
    values = np.full(len(times), 4.0)
    values[times >= int(MARCH.start("UTC").timestamp())] = 90
    assert (laid(times, values).usual == 4).all()


def test_an_absent_hour_is_zero_only_where_zeros_are_not_recorded():
    times = hours()
    gap = int(MARCH.start("UTC").timestamp()) + 5 * HOUR
    kept = times != gap
    assert laid(times[kept], np.full(kept.sum(), 4.0)).observed[5, 0] == 0
    recorded = np.where(np.arange(kept.sum()) == 0, 0.0, 4.0)
    assert np.isnan(laid(times[kept], recorded).observed[5, 0])
    assert np.isnan(laid(times[kept], np.full(kept.sum(), 4.0), absent="missing").observed[5, 0])


def test_a_short_past_says_nothing_of_the_usual():
    times = hours()
    late = times >= int(MARCH.start("UTC").timestamp()) - 14 * 24 * HOUR
    found = laid(times[late], np.full(late.sum(), 4.0))
    assert np.isnan(found.usual).all()
    assert np.isnan(found.departure).all()


def test_days_are_local_where_clocks_change():
    times = hours("Europe/Berlin")
    found = laid(times, np.full(len(times), 4.0), "Europe/Berlin", absent="missing")
    assert np.argwhere(np.isnan(found.observed)).tolist() == [[2, 28]]  # skipped on 29 March


def test_a_daily_grid_has_one_part_a_day():
    times = hours()[::24]
    assert laid(times, np.full(len(times), 4.0), step=24 * HOUR).observed.shape == (1, 31)
