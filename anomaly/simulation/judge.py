"""Which planted incidents were found, what was flagged besides, and how well scores rank."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly.exceptions import DataError
from anomaly.months import DAYS_PER_MONTH

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Collection, Sequence

    from numpy.typing import NDArray

    from anomaly.records import Flag

FLAG_COLUMNS = ("user_id", "start", "end", "score")


@dataclass(frozen=True, slots=True)
class Judgement:
    """What flags of a span were worth.

    incidents: those that reach into the span, with found (bool) and, where found, flag_start,
    flag_end and flag_score of the highest flag that hit. by_kind: kind, planted, found.
    flags, false_flags: counted in the span; a flag is false where it overlaps no incident of its
    user. false_flags_per_1000_user_months: None where the number of users is not known.
    """

    incidents: pd.DataFrame
    by_kind: pd.DataFrame
    flags: int
    false_flags: int
    false_flags_per_1000_user_months: float | None

    @property
    def planted(self) -> int:
        """Incidents that reach into the span."""
        return len(self.incidents)

    @property
    def found(self) -> int:
        """Those of them that a flag overlaps."""
        return int(self.incidents["found"].sum())


@dataclass(frozen=True, slots=True)
class Ranking:
    """Average precision by the highest score of each user-day (UTC), and of each user.

    A user-day counts as attacked where an incident overlaps it, a user where one overlaps the span.
    NaN where all or none are attacked.
    """

    user_days: int
    attacked_user_days: int
    ap_user_days: float
    users: int
    attacked_users: int
    ap_users: float


def judge(
    incidents: pd.DataFrame,
    flags: Sequence[Flag] | pd.DataFrame,
    month_start: dt.datetime,
    month_end: dt.datetime,
    users: int | None = None,
) -> Judgement:
    """Hold flags against incidents over one span, a month or several.

    A flag hits an incident where the user is the same and the times overlap; no tolerance and no
    adjustment, since either would pay for wide flags. Both lists are cut to the span.

    Args: incidents: as in World. flags: records, or a frame with FLAG_COLUMNS. month_start,
        month_end: aware, end exclusive. users: how many were scored, for the rate of false flags.
    Raises: DataError if a column of the flags is missing.
    """
    span = (pd.Timestamp(month_start), pd.Timestamp(month_end))
    planted = _within(incidents, *span)
    raised = _within(_frame(flags), *span)
    pairs = planted.assign(incident=planted.index).merge(
        raised.assign(flag=raised.index), on="user_id", suffixes=("", "_flag")
    )
    pairs = pairs[(pairs["start"] < pairs["end_flag"]) & (pairs["start_flag"] < pairs["end"])]
    false_flags = len(raised) - pairs["flag"].nunique()
    judged = _with_best(planted, pairs)
    by_kind = judged.groupby("kind", as_index=False).agg(
        planted=("found", "size"), found=("found", "sum")
    )
    rate = None
    if users:
        months = max(1, round((span[1] - span[0]).total_seconds() / 86_400 / DAYS_PER_MONTH))
        rate = 1_000 * false_flags / (users * months)
    return Judgement(judged, by_kind, len(raised), false_flags, rate)


def ranking(
    incidents: pd.DataFrame,
    scores: pd.DataFrame,
    month_start: dt.datetime,
    month_end: dt.datetime,
    users: Collection[str],
) -> Ranking:
    """Judge scores without any threshold.

    Args: incidents: as in World. scores: user_id, observed_at, score. month_start, month_end: aware,
        UTC midnights, end exclusive. users: who is judged; a day without a score has 0.
    """
    start, end = pd.Timestamp(month_start), pd.Timestamp(month_end)
    names = pd.Index(sorted(users))
    days = (end - start).days
    inside = scores[(scores["observed_at"] >= start) & (scores["observed_at"] < end)]
    row = names.get_indexer(pd.Index(inside["user_id"].astype(str)))
    day = (inside["observed_at"] - start).dt.days.to_numpy()
    highest = np.zeros((len(names), days))
    known = row >= 0
    np.maximum.at(highest, (row[known], day[known]), inside["score"].to_numpy()[known])
    attacked = np.zeros((len(names), days), dtype=np.bool_)
    planted = _within(incidents, start, end)
    for user, begin, until in zip(
        names.get_indexer(pd.Index(planted["user_id"].astype(str))),
        (planted["start"] - start).dt.days,
        -(start - planted["end"]).dt.days,  # rounded up: the end is exclusive
        strict=True,
    ):
        if user >= 0:
            attacked[user, max(begin, 0) : until] = True
    by_user = np.asarray(attacked.any(axis=1), dtype=np.bool_)
    return Ranking(
        attacked.size, int(attacked.sum()), average_precision(attacked.ravel(), highest.ravel()),
        len(names), int(by_user.sum()), average_precision(by_user, highest.max(axis=1)),
    )  # fmt: skip


def average_precision(positive: NDArray[np.bool_], scores: NDArray[np.float64]) -> float:
    """Mean precision at each positive, by falling score; ties share one threshold. (n,) each."""
    if positive.all() or not positive.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))  # of each group of ties
    hits = np.cumsum(positive[order])[last]
    gained = np.diff(hits, prepend=0) / positive.sum()
    return float(np.sum(gained * hits / (last + 1)))


def _frame(flags: Sequence[Flag] | pd.DataFrame) -> pd.DataFrame:
    """The four columns that matter, with times as times."""
    if not isinstance(flags, pd.DataFrame):
        rows = [(flag.user_id, flag.start, flag.end, flag.score) for flag in flags]
        flags = pd.DataFrame(rows, columns=list(FLAG_COLUMNS))
    missing = [name for name in FLAG_COLUMNS if name not in flags.columns]
    if missing:
        raise DataError(
            f"flags have no column {', '.join(missing)}; expected {', '.join(FLAG_COLUMNS)}."
        )
    times = {name: pd.to_datetime(flags[name], utc=True) for name in ("start", "end")}
    return flags.loc[:, list(FLAG_COLUMNS)].assign(**times)


def _within(frame: pd.DataFrame, start: pd.Timestamp, end: pd.Timestamp) -> pd.DataFrame:
    """Rows that reach into the span."""
    return frame[(frame["start"] < end) & (frame["end"] > start)].reset_index(drop=True)


def _with_best(planted: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """The incidents with the highest flag that hit each; missing values where none did."""
    best = pairs.sort_values("score", ascending=False, kind="stable").drop_duplicates("incident")
    best = best.set_index("incident")[["start_flag", "end_flag", "score"]]
    best.columns = pd.Index(["flag_start", "flag_end", "flag_score"])
    judged = planted.join(best)
    return judged.assign(found=judged["flag_score"].notna())
