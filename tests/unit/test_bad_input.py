"""Input as bad as it comes: a sensible result, or a refusal that says what is wrong and what to do."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

import anomaly
from anomaly.detector import Detection
from anomaly.exceptions import DataError
from anomaly.settings import Settings

pytestmark = pytest.mark.slow  # it trains networks

START = pd.Timestamp("2026-01-05", tz="UTC")  # a Monday
CUT = START + pd.Timedelta(days=28)
FLAGS_PER_USER = 5  # of ten working days, where something did happen to everybody
Change = Callable[[pd.DataFrame], pd.DataFrame]


def office(
    users: int = 4, days: float = 40, step: str = "2h", metrics: int = 2, zeros: bool = False
) -> pd.DataFrame:
    """Office hours of counts; steps in which nothing happened have a row only where `zeros`."""
    times = pd.date_range(START, START + pd.Timedelta(days=days), freq=step, inclusive="left")
    work = times.day_of_week < 5
    if pd.Timedelta(step) < pd.Timedelta("1D"):
        work &= (times.hour >= 8) & (times.hour < 17)
    parts = []
    for user in range(users):
        rng = np.random.default_rng(user)
        for metric in range(metrics):
            value = work * rng.poisson(3 + 2 * user + 3 * (metric % 5), len(times)).astype(float)
            parts.append(pd.DataFrame({
                "user_id": f"u{user}", "metric": f"m{metric:02d}", "observed_at": times, "value": value,
            }))  # fmt: skip
    rows = pd.concat(parts, ignore_index=True)
    return rows if zeros else rows[rows["value"] > 0].reset_index(drop=True)


def detect(
    rows: pd.DataFrame, until: pd.Timestamp | None = CUT, step: str | None = None
) -> Detection:
    """Detect with a network too small to matter, and check what must hold of any result."""
    config = {"model": {"steps": 20, "units": 8, "batch": 16, "truncate_steps": 24}}
    if step is not None:
        config["grid"] = {"step": step}
    found = anomaly.detect(rows, until, Settings.model_validate(config))
    assert len(found.scores)
    assert np.isfinite(found.scores["score"]).all()
    assert (found.scores["score"] >= 0).all()
    assert found.scores["p_value"].between(0, 1, inclusive="right").all()
    numbers = found.flags[["score", "p_value", "observed", "expected", "lower", "upper"]]
    assert np.isfinite(numbers.to_numpy(dtype=float)).all()
    return found


def of(rows: pd.DataFrame, metric: str = "m01", since: float = 0.0) -> pd.Series:
    """Which rows are of a metric, from so many days after the start on."""
    return (rows["metric"] == metric) & (rows["observed_at"] >= START + pd.Timedelta(days=since))


def without(**of_what: float) -> Change:
    """Leave out m01 from the day `since` or before the day `until`."""

    def change(rows: pd.DataFrame) -> pd.DataFrame:
        if "since" in of_what:
            return rows[~of(rows, since=of_what["since"])]
        return rows[~of(rows) | of(rows, since=of_what["until"])]

    return change


def constant(value: float) -> Change:
    def change(rows: pd.DataFrame) -> pd.DataFrame:
        return rows.assign(value=rows["value"].where(~of(rows), value))

    return change


def month_missing(rows: pd.DataFrame) -> pd.DataFrame:
    """Move the second half of history on by a month in which there is nothing."""
    late = rows["observed_at"] >= START + pd.Timedelta(days=14)
    moved = rows["observed_at"] + pd.Timedelta(days=28)
    return rows.assign(observed_at=rows["observed_at"].where(~late, moved))


UNEVENTFUL = {
    "a metric is constant": (constant(7.0), True),
    "a gauge is constant": (constant(7.5), True),
    "all are zero": (lambda rows: rows.assign(value=0.0), True),
    "a metric appears in history": (without(until=14), False),
    "a metric appears just before scoring": (without(until=25), False),
    "a metric is there only in the scored part": (without(until=31), False),
    "a metric disappears in history": (without(since=14), False),
    "a few counts are negative": (
        lambda rows: rows.assign(value=rows["value"].where(rows.index % 2_000 != 9, -3.0)), True,
    ),
    "every third row is there twice": (lambda rows: pd.concat([rows, rows.iloc[::3]]), False),
}  # fmt: skip


@pytest.mark.parametrize("name", UNEVENTFUL)
def test_what_is_odd_about_the_data_is_no_anomaly_of_anybody(name):
    change, zeros = UNEVENTFUL[name]
    found = detect(change(office(zeros=zeros)))
    assert found.scores["user_id"].nunique() == 4
    assert len(found.flags) <= 2
    assert (found.scores["score"] >= 1).mean() < 0.05


def test_a_month_missing_in_the_middle_is_not_learnt_as_silence():
    found = detect(month_missing(office()), CUT + pd.Timedelta(days=28))
    assert len(found.flags) <= 2


def test_a_metric_that_ceases_is_told_and_not_every_day():
    found = detect(without(since=32)(office()))
    assert 1 <= len(found.flags) <= 4 * FLAGS_PER_USER
    assert "m01" in found.flags["metrics"].str.cat()


def test_a_change_of_unit_shows_as_one_lasting_change_a_user():
    rows = office()
    found = detect(
        rows.assign(value=rows["value"].where(~of(rows, since=32), rows["value"] * 1_000))
    )
    assert set(found.flags["user_id"]) == {"u0", "u1", "u2", "u3"}
    assert len(found.flags) <= 4 * FLAGS_PER_USER
    assert (found.flags["direction"] == "up").all()


def test_a_change_of_unit_in_history_is_outlived():
    rows = office()
    found = detect(
        rows.assign(value=rows["value"].where(~of(rows, since=10), rows["value"] * 1_000))
    )
    assert len(found.flags) <= 2 * 4


@pytest.mark.parametrize("days", [7, 14])
def test_history_of_some_days_is_enough_to_begin_with(days):
    """Half of it is learnt from: less than a week, or one, so no weekly round is known."""
    found = detect(office(days=days, step="1h"), START + pd.Timedelta(days=days / 2))
    assert len(found.flags) <= 4


def test_one_user_is_judged_by_the_own_past():
    found = detect(office(users=1))
    assert set(found.scores["user_id"]) == {"u0"}
    assert len(found.flags) <= 1
    assert (found.flags["peer_count"] == 0).all()


def test_users_whose_times_do_not_meet_are_judged_each_in_theirs():
    rows, middle = office(users=2), START + pd.Timedelta(days=20)
    early = (rows["user_id"] == "u0") & (rows["observed_at"] < middle)
    late = (rows["user_id"] == "u1") & (rows["observed_at"] >= middle)
    found = detect(rows[early | late])
    assert len(found.flags) <= 2
    newcomer = detect(rows[early | (late & (rows["observed_at"] >= CUT))])
    assert len(newcomer.flags) <= 4


@pytest.mark.parametrize("metrics", [1, 40])
def test_one_metric_or_forty(metrics):
    found = detect(office(metrics=metrics))
    assert set(found.scores["top_metric"]) <= {f"m{metric:02d}" for metric in range(metrics)}
    assert len(found.flags) <= 2 * 4


@pytest.mark.parametrize(
    ("step", "days", "learnt"), [("5min", 8, 6), ("15min", 15, 11), ("6h", 60, 45), ("1D", 120, 90)]
)
def test_grids_from_minutes_to_days(step, days, learnt):
    found = detect(office(users=3, days=days, step=step), START + pd.Timedelta(days=learnt), step)
    assert found.model.step == pd.Timedelta(step).total_seconds()
    assert len(found.flags) <= 3


def test_sampled_once_a_day_but_asked_for_by_hour():
    """Twenty-three of twenty-four steps are unknown, not zero, and cannot be judged."""
    rows = office(days=60, step="1D", zeros=True)
    found = detect(rows, START + pd.Timedelta(days=45), "1h")
    assert {spec.absent for spec in found.model.specs} == {"missing"}
    assert len(found.flags) <= 2
    other_hours = found.scores[found.scores["observed_at"].dt.hour != 0]
    assert (other_hours["p_value"] == 1).all()


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.nan, r"not finite .* in 1 of 1080 rows, the first of them row 6 \(nan\). Leave"),
        (np.inf, r"row 6 \(inf\). Leave such rows out"),
        (1e300, "beyond 1e"),
        ("n/a", "cannot be read .*'n/a'.* Give times and numbers"),
    ],
)
def test_values_that_are_no_numbers_are_refused(value, message):
    rows = office(users=1, days=45, zeros=True)
    rows["value"] = rows["value"].astype(object)
    rows.loc[5, "value"] = value
    with pytest.raises(DataError, match=message):
        detect(rows)


@pytest.mark.parametrize(
    ("when", "message"),
    [
        (
            "1970-01-01 00:00:00+00:00",
            r"1 rows up to 1970-01-01 and \d+ from 2026-01-05 on.* placeholders",
        ),
        ("2099-01-01 00:00:00+00:00", r"\d+ rows up to 2026-02-13 and 1 from 2099-01-01 on"),
        ("yesterday", "observed_at or value cannot be read"),
        (None, "1 nulls.* Give times in UTC"),
    ],
)
def test_times_that_are_none_are_refused(when, message):
    rows = office().astype({"observed_at": str}).astype({"observed_at": object})
    rows.loc[1, "observed_at"] = when
    with pytest.raises(DataError, match=message):
        detect(rows)


def test_too_little_is_refused():
    with pytest.raises(DataError, match="no rows before 2026-01-05T08.*Give earlier rows"):
        detect(office().iloc[:1], None)
    with pytest.raises(DataError, match="no rows. Give a table"):
        detect(office().iloc[:0])
    with pytest.raises(DataError, match="at least 48 with data .* Import earlier data"):
        detect(office(days=2), START + pd.Timedelta(days=1))
    with pytest.raises(DataError, match="a user_id or metric is null"):
        detect(office().assign(user_id=[None, *office()["user_id"][1:]]))
