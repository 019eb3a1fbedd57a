import numpy as np
import pytest

from anomaly.exceptions import DataError, UsageError
from anomaly.grid import infer_step, make_grid, refuse_long_gap, to_panel
from anomaly.metrics import MetricSpec
from anomaly.months import Month
from anomaly.rows import Rows

HOUR, DAY = 3_600, 86_400
START = 1_767_225_600  # 2026-01-01 UTC


def rows(*observed, users=None, metrics=None):
    """Rows from (user, metric, seconds after START, value)."""
    users = users or tuple(sorted({row[0] for row in observed}))
    metrics = metrics or tuple(sorted({row[1] for row in observed}))
    user_codes, metric_codes = (
        {name: code for code, name in enumerate(names)} for names in (users, metrics)
    )
    return Rows(
        np.array([user_codes[row[0]] for row in observed], dtype=np.int32),
        np.array([metric_codes[row[1]] for row in observed], dtype=np.int32),
        np.array([START + row[2] for row in observed], dtype=np.int64),
        np.array([row[3] for row in observed], dtype=np.float64),
        users,
        metrics,
    )


def one_metric(*observed, hours=4, **spec):
    """The panel of a single metric 'm' over some hours."""
    grid = make_grid(START, START + hours * HOUR, HOUR, "UTC")
    return to_panel(rows(*observed), grid, ("m",), {"m": MetricSpec("m", **spec)})


def span(month, timezone):
    parsed = Month.parse(month)
    return int(parsed.start(timezone).timestamp()), int(parsed.end(timezone).timestamp())


@pytest.mark.parametrize(
    ("month", "days"), [("2026-02", 28), ("2028-02", 29), ("2026-04", 30), ("2026-07", 31)]
)
def test_months_have_their_own_number_of_steps(month, days):
    start, end = span(month, "UTC")
    assert len(make_grid(start, end, HOUR, "UTC")) == days * 24
    assert len(make_grid(start, end, 300, "UTC")) == days * 288
    assert len(make_grid(start, end, DAY, "UTC")) == days


@pytest.mark.parametrize(("month", "odd"), [("2026-03", 23), ("2026-10", 25)])
def test_daily_steps_begin_at_local_midnights(month, odd):
    start, end = span(month, "Europe/Berlin")
    grid = make_grid(start, end, DAY, "Europe/Berlin")
    assert len(grid) == 31
    assert set(np.diff(grid.times)) == {24 * HOUR, odd * HOUR}
    assert len(make_grid(start, end, HOUR, "Europe/Berlin")) == (end - start) // HOUR


def test_steps_of_several_days():
    grid = make_grid(START, START + 21 * DAY, 7 * DAY, "UTC")
    assert grid.times.tolist() == [START, START + 7 * DAY, START + 14 * DAY]


@pytest.mark.parametrize("step", [0, -60, DAY + HOUR])
def test_a_step_that_cannot_be_laid_is_refused(step):
    with pytest.raises(UsageError, match="whole days"):
        make_grid(START, START + DAY, step, "UTC")


def test_an_empty_span_is_refused():
    with pytest.raises(DataError, match="no time between"):
        make_grid(START, START, HOUR, "UTC")


@pytest.mark.parametrize(
    ("aggregate", "expected"), [("sum", 12.0), ("mean", 4.0), ("max", 7.0), ("last", 2.0)]
)
def test_rows_of_one_step_are_joined(aggregate, expected):
    panel = one_metric(
        ("u", "m", 60, 3), ("u", "m", 3_000, 2), ("u", "m", 120, 7), aggregate=aggregate
    )
    assert panel.values[0, 0, 0] == expected


@pytest.mark.parametrize("aggregate", ["sum", "mean", "max", "last"])
def test_the_order_of_rows_changes_nothing(aggregate):
    rng = np.random.default_rng(1)
    observed = [("u", "m", second, value) for second, value in enumerate(rng.lognormal(0, 9, 500))]
    shuffled = [observed[place] for place in rng.permutation(500)]
    panels = [one_metric(*order, aggregate=aggregate) for order in (observed, shuffled)]
    assert panels[0].values.tobytes() == panels[1].values.tobytes()


def test_absent_is_zero_or_unknown_as_the_metric_says():
    observed = (("u", "m", 0, 3), ("u", "m", 2 * HOUR, 4))
    zero = one_metric(*observed, absent="zero")
    missing = one_metric(*observed, absent="missing")
    assert zero.values[0, :, 0].tolist() == missing.values[0, :, 0].tolist() == [3, 0, 4, 0]
    assert zero.mask[0, :, 0].tolist() == [True] * 4
    assert missing.mask[0, :, 0].tolist() == [True, False, True, False]


def test_nothing_is_known_of_a_user_before_the_first_row():
    panel = one_metric(("u", "m", 2 * HOUR + 5, 1), absent="zero")
    assert (panel.first.tolist(), panel.last.tolist()) == ([2], [4])
    assert panel.mask[0, :, 0].tolist() == [False, False, True, True]


def test_first_and_last_seen_elsewhere_widen_and_end_presence():
    grid = make_grid(START, START + 4 * HOUR, HOUR, "UTC")
    spec = {"m": MetricSpec("m", absent="zero")}
    observed = rows(("early", "m", HOUR, 1), ("gone", "m", 0, 1))
    panel = to_panel(
        observed,
        grid,
        ("m",),
        spec,
        first_seen={"early": START - DAY, "quiet": START - DAY, "later": START + DAY},
        last_seen={"gone": START + 10},
        users=("early", "gone", "quiet", "later", "unknown"),
    )
    assert panel.first.tolist() == [0, 0, 0, 4, 4]
    assert panel.last.tolist() == [4, 1, 4, 4, 4]
    assert panel.mask[:, :, 0].sum(axis=1).tolist() == [4, 1, 4, 0, 0]


def test_rows_outside_the_grid_and_of_others_are_left_out():
    grid = make_grid(START, START + HOUR, HOUR, "UTC")
    observed = rows(
        ("u", "m", -1, 100),
        ("u", "m", 0, 1),
        ("u", "m", HOUR, 100),
        ("u", "n", 5, 100),
        ("v", "m", 6, 100),
    )
    panel = to_panel(observed, grid, ("m",), {"m": MetricSpec("m")}, users=("u",))
    assert panel.values.tolist() == [[[1.0]]]


@pytest.mark.parametrize(("month", "hours"), [("2024-03", 23), ("2010-10", 25)])
def test_a_month_that_ends_on_a_day_of_odd_length_holds_its_rows_and_no_others(month, hours):
    start, end = span(month, "Europe/Berlin")
    grid = make_grid(start, end, DAY, "Europe/Berlin")
    assert end - grid.times[-1] == hours * HOUR
    offsets = [end - 1 - START, end - START]
    observed = rows(("u", "m", offsets[0], 1), ("u", "m", offsets[1], 10))
    panel = to_panel(observed, grid, ("m",), {"m": MetricSpec("m")}, end=end)
    assert panel.values.sum() == panel.values[0, -1, 0] == 1


def test_negative_counts_are_unknown_not_numbers():
    panel = one_metric(("u", "m", 0, -4), ("u", "m", HOUR, 4), absent="missing")
    assert panel.mask[0, :, 0].tolist() == [False, True, False, False]


def test_nothing_is_known_to_be_zero_before_the_metric_was_measured():
    grid = make_grid(START, START + 4 * HOUR, HOUR, "UTC")
    spec = MetricSpec("m", since=START + 2 * HOUR + 60)
    panel = to_panel(rows(("u", "m", 0, 1)), grid, ("m",), {"m": spec})
    assert panel.mask[0, :, 0].tolist() == [True, False, True, True]


def test_a_gap_of_years_is_refused_and_one_of_months_is_not():
    refuse_long_gap(np.array([START, START + 300 * DAY]))
    with pytest.raises(DataError, match="1 rows up to 1970-01-01 and 2 from 2026"):
        refuse_long_gap(np.array([0, START, START + DAY]))


def test_sums_stay_within_float32():
    panel = one_metric(("u", "m", 0, 3e38), ("u", "m", 1, 3e38))
    assert np.isfinite(panel.values).all()


def test_an_empty_month_is_a_panel_of_nobody():
    grid = make_grid(START, START + HOUR, HOUR, "UTC")
    empty = rows(("u", "m", 0, 1)).between(0, 1)
    panel = to_panel(empty, grid, ("m",), {"m": MetricSpec("m")})
    assert panel.shape == (0, 1, 1)


def test_ten_thousand_metrics():
    names = tuple(f"m{number:05d}" for number in range(10_000))
    observed = rows(*[("u", name, 0, place) for place, name in enumerate(names)])
    specs = {name: MetricSpec(name) for name in names}
    panel = to_panel(observed, make_grid(START, START + HOUR, HOUR, "UTC"), names, specs)
    assert panel.values[0, 0].tolist() == list(range(10_000))


def test_a_panel_beyond_memory_is_refused_with_its_shape():
    grid = make_grid(START, START + DAY, 1, "UTC")
    users = tuple(f"u{number}" for number in range(30_000))
    with pytest.raises(DataError, match="30000 users x 86400 steps x 1 metrics"):
        to_panel(rows(("u", "m", 0, 1)), grid, ("m",), {"m": MetricSpec("m")}, users=users)


@pytest.mark.parametrize("step", [1, 60, 300, 900, 2_700, HOUR, DAY, 7 * DAY])
def test_the_step_of_a_regular_series_is_its_gap(step):
    assert infer_step(rows(*[("u", "m", place * step, 1) for place in range(50)])) == step


def test_the_step_of_a_sparse_series_is_that_of_its_grid():
    hours = np.flatnonzero(np.random.default_rng(0).random(2_000) < 0.1)
    assert infer_step(rows(*[("u", "m", int(hour) * HOUR, 1) for hour in hours])) == HOUR


def test_the_step_of_local_days_is_a_day():
    start, end = span("2026-03", "Europe/Berlin")
    days = make_grid(start - 60 * DAY, end, DAY, "Europe/Berlin").times - START
    assert infer_step(rows(*[("u", "m", int(day), 1) for day in days])) == DAY


def test_jitter_is_snapped():
    rng = np.random.default_rng(0)
    jitter = rng.integers(-9, 10, 300)
    observed = [("u", "m", place * 300 + int(jitter[place]), 1) for place in range(300)]
    assert infer_step(rows(*observed)) == 300


@pytest.mark.parametrize(("mean_gap", "step"), [(2 * HOUR, HOUR), (5 * DAY, DAY)])
def test_events_at_any_time_get_hours_or_days(mean_gap, step):
    times = np.cumsum(np.random.default_rng(0).exponential(mean_gap, 400)).astype(int)
    assert infer_step(rows(*[("u", "m", int(time), 1) for time in times])) == step


def test_one_row_has_no_gap_and_gets_hours():
    assert infer_step(rows(("u", "m", 0, 1))) == HOUR


def test_gaps_are_those_within_a_series():
    observed = [
        (f"u{user}", "m", place * HOUR + user, 1) for user in range(50) for place in range(9)
    ]
    assert infer_step(rows(*observed)) == HOUR
