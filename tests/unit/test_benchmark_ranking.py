import numpy as np
import pandas as pd
import pytest

from anomaly.simulation import ranking
from anomaly.simulation.judge import average_precision

START, END = pd.Timestamp("2026-04-01", tz="UTC"), pd.Timestamp("2026-05-01", tz="UTC")
INCIDENTS = pd.DataFrame({
    "user_id": ["a", "b", "b"],
    "start": pd.to_datetime(["2026-04-02T22:00Z", "2026-04-10", "2026-03-05"], utc=True, format="ISO8601"),
    "end": pd.to_datetime(["2026-04-04T00:00Z", "2026-04-10T01:00Z", "2026-03-06"], utc=True, format="ISO8601"),
})  # fmt: skip


def ranked(*rows, users=("a", "b", "c", "d")):
    scores = pd.DataFrame(rows, columns=["user_id", "observed_at", "score"])
    scores["observed_at"] = pd.to_datetime(scores["observed_at"], utc=True, format="ISO8601")
    return ranking(INCIDENTS, scores, START, END, users)


def test_the_days_an_incident_overlaps_are_attacked_and_no_others():
    found = ranked()
    assert (found.user_days, found.attacked_user_days) == (4 * 30, 3)  # 2nd, 3rd, 10th of April
    assert (found.users, found.attacked_users) == (4, 2)


def test_scores_that_rank_every_attacked_day_first_are_perfect():
    found = ranked(
        ("a", "2026-04-02T01:00Z", 3.0), ("a", "2026-04-03T23:00Z", 2.0),
        ("b", "2026-04-10T12:00Z", 1.0), ("c", "2026-04-10T12:00Z", 0.5),
    )  # fmt: skip
    assert (found.ap_user_days, found.ap_users) == (1.0, 1.0)


def test_a_day_without_scores_counts_as_zero_and_one_before_the_span_not_at_all():
    found = ranked(("c", "2026-03-31T23:00Z", 9.0), ("d", "2026-04-04T00:00Z", 5.0))
    assert found.ap_user_days == pytest.approx(3 / 120)
    assert found.ap_users == pytest.approx(2 / 4)


def test_ties_share_one_threshold_whatever_their_order():
    positive = np.array([True, False, True, False])
    assert average_precision(positive, np.array([4.0, 3, 2, 1])) == pytest.approx(0.5 + 1 / 3)
    assert (
        average_precision(positive, np.zeros(4)) == average_precision(~positive, np.zeros(4)) == 0.5
    )


def test_nothing_is_said_where_all_or_none_are_attacked():
    assert np.isnan(average_precision(np.zeros(3, dtype=bool), np.arange(3.0)))
