"""Other detectors on the same user-months: processor time to fit and score, and average precision.

Runs by itself under any Python that has numpy and scikit-learn: python peers.py ROWS.npz. What else is
installed there (pyod, adtk) is tried too. Each scores hours; a user's month is its highest hour.
"""

from __future__ import annotations

import contextlib
import sys
import time
from typing import Any

import numpy as np


def robust_z(history: Any, month: Any) -> Any:
    """The largest deviation from the user's own median for the hour of the day, by its MAD."""
    users, hours, metrics = history.shape
    days = history.reshape(users, hours // 24, 24, metrics)
    middle = np.median(days, axis=1)
    spread = 1.4826 * np.median(np.abs(days - middle[:, None]), axis=1) + days.std(1) / 2 + 0.5
    now = month.reshape(users, -1, 24, metrics)
    return (np.abs(now - middle[:, None]) / spread[:, None]).max(-1).reshape(users, -1)


def isolation_forest(history: Any, month: Any) -> Any:
    """The one of scikit-learn, one for each user, on the logarithms of the metrics and the hour."""
    from sklearn.ensemble import IsolationForest  # noqa: PLC0415

    out = np.empty(month.shape[:2])
    for user in range(len(history)):
        model = IsolationForest(n_estimators=50, random_state=0).fit(_logs(history[user]))
        out[user] = -model.score_samples(_logs(month[user]))
    return out


def pyod_ecod(history: Any, month: Any) -> Any:
    """PyOD's ECOD, one for each user."""
    from pyod.models.ecod import ECOD  # noqa: PLC0415

    out = np.empty(month.shape[:2])
    for user in range(len(history)):
        out[user] = ECOD().fit(_logs(history[user])).decision_function(_logs(month[user]))
    return out


def adtk_seasonal(history: Any, month: Any) -> Any:
    """The seasonal detector of adtk with its own residuals, each metric by itself, the day its season."""
    import pandas as pd  # noqa: PLC0415
    from adtk.transformer import ClassicSeasonalDecomposition  # noqa: PLC0415

    out = np.zeros(month.shape[:2])
    hours = history.shape[1]
    index = pd.date_range("2026-01-01", periods=hours + month.shape[1], freq="h")
    for user in range(len(history)):
        for metric in range(history.shape[2]):
            both = np.concatenate([history[user, :, metric], month[user, :, metric]])
            series = pd.Series(np.log1p(both), index=index)
            with contextlib.suppress(Exception):  # it refuses series in which it finds no season
                model = ClassicSeasonalDecomposition(freq=24)
                model.fit(series[:hours])
                left = np.abs(model.transform(series[hours:]).to_numpy())
                out[user] = np.maximum(out[user], left / (left.std() + 1e-6))
    return out


def _logs(values: Any) -> Any:
    hour = np.arange(len(values)) % 24
    turn = 2 * np.pi * hour / 24
    return np.column_stack([np.log1p(values), np.sin(turn), np.cos(turn)])


def average_precision(scores: Any, truth: Any) -> float:
    """Area under precision by recall."""
    order = np.argsort(-scores, kind="stable")
    hits = truth[order].cumsum()
    return float((hits / np.arange(1, len(hits) + 1))[truth[order]].mean())


def main() -> None:
    """Print name, seconds a user-month and average precision of all that run here."""
    with np.load(sys.argv[1]) as rows:
        history, month, odd = rows["history"], rows["month"], rows["odd"]
    for detect in (robust_z, isolation_forest, pyod_ecod, adtk_seasonal):
        try:
            detect(history[:1], month[:1])  # what it imports is not counted
        except ImportError:
            continue
        began = time.process_time()
        scores = detect(history, month)
        seconds = (time.process_time() - began) / len(month)
        print(f"{detect.__name__};{seconds:.5f};{average_precision(scores.max(1), odd.any(1)):.3f}")


if __name__ == "__main__":
    main()
