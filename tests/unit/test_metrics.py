import numpy as np
import pytest

from anomaly.metrics import MetricSpec, infer_specs, set_aside_negatives
from anomaly.rows import Rows
from anomaly.settings import MetricSettings

HOUR = 3_600


def history(values, *, hours=None, users=1, name="m"):
    """The same values for each user, at these hours (default: one after the other)."""
    length = len(values)
    hours = np.arange(length) if hours is None else np.asarray(hours)
    return Rows(
        np.repeat(np.arange(users, dtype=np.int32), length),
        np.zeros(length * users, dtype=np.int32),
        np.tile(hours * HOUR, users).astype(np.int64),
        np.tile(np.asarray(values, dtype=np.float64), users),
        tuple(f"u{user}" for user in range(users)),
        (name,),
    )


def spec(values, *, hours=None, settings=None):
    return infer_specs(history(values, hours=hours), HOUR, settings or {})["m"]


RNG = np.random.default_rng(3)
AMOUNTS = np.where(RNG.random(500) < 0.5, 0, RNG.lognormal(5, 1.5, 500))


@pytest.mark.parametrize(
    ("values", "kind", "aggregate"),
    [
        ([0, 3, 1, 0], "count", "sum"),
        ([20.5, 21.0, 19.75], "gauge", "mean"),
        ([-5, 3, 1, 0], "gauge", "mean"),
        ([0.1, 0.9, 1.0], "share", "mean"),
        (AMOUNTS, "count", "sum"),
        ([0.0] * 10, "count", "sum"),
        ([7.25] * 10, "gauge", "mean"),
    ],
)
def test_the_kind_is_found_from_history(values, kind, aggregate):
    found = spec(values)
    assert (found.kind, found.aggregate) == (kind, aggregate)


def test_amounts_recorded_only_when_something_happened_are_amounts():
    hours = np.flatnonzero(AMOUNTS)
    found = spec(AMOUNTS[hours], hours=hours)
    assert (found.kind, found.absent) == ("count", "zero")


def test_one_stray_negative_makes_no_gauge_of_a_count():
    values = [1, 2, 0, 5] * 1_000
    assert spec([*values, -3]).kind == "count"
    assert spec([*values, *[-3] * 100]).kind == "gauge"


@pytest.mark.parametrize(
    ("values", "hours", "absent"),
    [
        ([1, 0, 0, 2], None, "missing"),  # the source records its zeros
        ([1, 2, 1], [0, 7, 20], "zero"),  # rows only where something happened
        ([0, 1, 2], [0, 50, 200], "zero"),  # one zero by chance is no habit
        ([0, 1, 0, 2, 0, 1], [0, 1, 2, 3, 4, 60], "zero"),
        ([0, 1, 0, 2, 0, 1], [0, 1, 2, 3, 4, 9], "missing"),  # an outage
        ([20.5, 21.5], [0, 9], "missing"),  # a gauge is never zero by silence
    ],
)
def test_absence_means_what_history_says(values, hours, absent):
    assert spec(values, hours=hours).absent == absent


def test_a_steady_pace_slower_than_the_grid_is_no_absence():
    sizes = spec([900.5, 5, 1, 2.5, 800, 1, 7, 3] * 10, hours=np.arange(80) * 12)
    assert (sizes.kind, sizes.absent) == ("gauge", "missing")
    counts = spec([1, 0, 2, 5] * 20, hours=np.arange(80) * 12)
    assert (counts.kind, counts.absent) == ("count", "missing")


def test_settings_have_the_last_word():
    given = MetricSettings(kind="gauge", aggregate="max", absent="zero", direction="up", minimum=2)
    found = spec([1, 0, 2], settings={"m": given})
    assert found == MetricSpec("m", "gauge", "max", "zero", "up", 2)


def test_a_kind_that_is_set_brings_its_aggregate():
    assert spec([1, 0, 2], settings={"m": MetricSettings(kind="gauge")}).aggregate == "mean"


def test_long_histories_are_judged_by_whole_users(monkeypatch):
    monkeypatch.setattr("anomaly.metrics.LOOKED_AT", 10)
    found = infer_specs(history([0, 1, 2, 0], users=9), HOUR, {})["m"]
    assert (found.kind, found.absent) == ("count", "missing")


def test_counts_below_zero_are_set_aside_and_gauges_kept():
    rows = history([4, -1, 2])
    kept, aside = set_aside_negatives(rows, {"m": MetricSpec("m", "count")})
    assert kept.value.tolist() == [4, 2]
    assert aside.value.tolist() == [-1]
    kept, aside = set_aside_negatives(rows, {"m": MetricSpec("m", "gauge")})
    assert kept.value.tolist() == [4, -1, 2]
    assert len(aside) == 0


DAYS = np.arange(40) * 24


@pytest.mark.parametrize(
    ("first_day", "users", "since"),
    [
        (0, 4, 0),  # as early as the others
        (3, 4, 0),  # a few days may be chance
        (20, 4, 20 * 24 * HOUR),
        (20, 1, 0),  # one of four began with it: news of that user, not of the collector
    ],
)
def test_a_metric_that_most_users_get_late_was_not_measured_before(first_day, users, since):
    old = history(np.ones(40), hours=DAYS, users=4, name="a")
    late = history(np.ones(40 - first_day), hours=DAYS[first_day:], users=users, name="b")
    both = Rows(
        np.concatenate([old.user_code, late.user_code]),
        np.concatenate([old.metric_code, late.metric_code + 1]),
        np.concatenate([old.observed_at, late.observed_at]),
        np.concatenate([old.value, late.value]),
        old.user_names,
        ("a", "b"),
    )
    found = infer_specs(both, 24 * HOUR, {})
    assert (found["a"].since, found["b"].since) == (0, since)


def test_a_metric_that_is_rare_is_not_late():
    """Two days in forty say nothing of when measuring began."""
    old = history(np.ones(40), hours=DAYS, name="a")
    times = np.concatenate([old.observed_at, DAYS[[20, 39]] * HOUR])
    codes = np.repeat(np.array([0, 1], np.int32), [40, 2])
    both = Rows(np.zeros(42, np.int32), codes, times, np.ones(42), ("u0",), ("a", "b"))
    assert infer_specs(both, 24 * HOUR, {})["b"].since == 0
