"""Which planted incidents were found, and what was flagged besides."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from anomaly.exceptions import DataError

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from anomaly.records import Flag

FLAG_COLUMNS = ("user_id", "start", "end", "score")
DAYS_PER_MONTH = 30.44


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
