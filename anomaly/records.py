"""What the engine says of a month, as plain records: flags, users' months, skipped users.

Column order is a contract with everyone who reads exports and views: never reorder, only append.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import ShapeError

if TYPE_CHECKING:
    import datetime as dt

    from numpy.typing import NDArray

FLAG_COLUMNS = (
    "flag_id", "user_id", "start", "end", "severity", "score", "p_value", "kind", "direction",
    "metrics", "observed", "expected", "lower", "upper", "explanation", "self_percentile",
    "peer_percentile", "all_percentile", "peer_count",
)  # fmt: skip
SCORE_COLUMNS = ("user_id", "observed_at", "score", "p_value", "top_metric")
SEVERITIES = ("low", "medium", "high", "critical")
KINDS = ("burst", "silence", "shift", "drift", "new", "combination")
DIRECTIONS = ("up", "down", "both")
STATUSES = ("open", "acknowledged", "closed")
SKIP_REASONS = ("no_rows", "too_short", "unknown_metrics", "not_selected", "failed_shard")
CONTEXT_SECONDS = 3 * 86_400  # what a plot shows on either side of a flag ...
CONTEXT_STEPS = 12  # ... and at least so many steps, which matters on daily grids


@dataclass(frozen=True, slots=True)
class Flag:
    """One contiguous anomaly of one user within one month.

    start, end: aware UTC, end exclusive. metrics: names joined by ';', the largest share of the
    surprise first. observed, expected, lower, upper: totals of the first metric over the flag, in
    its unit (means for a gauge). Percentiles run from 0 to 100; peer_count leaves the user out.
    continues: the flag ran up to the month's end and may go on in the next.
    """

    flag_id: str
    user_id: str
    start: dt.datetime
    end: dt.datetime
    severity: str
    score: float
    p_value: float
    kind: str
    direction: str
    metrics: str
    observed: float
    expected: float
    lower: float
    upper: float
    explanation: str
    self_percentile: float
    peer_percentile: float
    all_percentile: float
    peer_count: int
    continues: bool = False


@dataclass(frozen=True, slots=True)
class UserMonth:
    """How far one user's month was from normal.

    score: the month's highest step score (1.0 is the flag boundary). worst_at: its time, UTC.
    confidence: 0 to 1, lower for short histories, missing values and a model that learnt from little.
    skipped: why the user was not scored (one of SKIP_REASONS), or None. risk: 0 to 1, see
    `anomaly.risk`; None of months scored before it was worked out. cohort_distance: from the peer
    group's middle, 1 is typical of its members; None where nobody can say. cohort_why: why it is this
    group, in words.
    """

    user_id: str
    cohort: str
    score: float
    p_value: float
    flags: int
    worst_at: dt.datetime | None
    metrics: str
    self_percentile: float
    peer_percentile: float
    all_percentile: float
    peer_count: int
    confidence: float
    skipped: str | None = None
    risk: float | None = None
    cohort_distance: float | None = None
    cohort_why: str = ""


@dataclass(frozen=True, slots=True)
class Band:
    """One user's metric, step by step, against what was expected of it: what a plot shows.

    times: (steps,) int64, the start of each step in seconds since 1970 UTC, rising.
    observed, expected, lower, upper: (steps,) float32, in the metric's unit. NaN in `observed`
    where nothing was known, in the others where nothing could be expected.
    """

    times: NDArray[np.int64]
    observed: NDArray[np.float32]
    expected: NDArray[np.float32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    peers: tuple[NDArray[np.float32], NDArray[np.float32]] | None = None

    def __post_init__(self) -> None:
        lines = (self.observed, self.expected, self.lower, self.upper, *(self.peers or ()))
        if any(line.shape != self.times.shape for line in lines):
            raise ShapeError(
                f"band: times are {self.times.shape}, observed, expected, lower, upper and peers are "
                f"{', '.join(str(line.shape) for line in lines)}. Give each one value a step."
            )


def steps_around(times: NDArray[np.int64], start: dt.datetime, end: dt.datetime) -> slice:
    """The steps of a flag [start, end) and, either side, three days or a dozen steps."""
    first = np.searchsorted(times, start.timestamp(), side="right") - 1
    last = np.searchsorted(times, end.timestamp(), side="left")
    early = np.searchsorted(times, start.timestamp() - CONTEXT_SECONDS, side="left")
    late = np.searchsorted(times, end.timestamp() + CONTEXT_SECONDS, side="left")
    return slice(
        max(0, min(int(early), int(first) - CONTEXT_STEPS)),
        max(int(late), int(last) + CONTEXT_STEPS),
    )
