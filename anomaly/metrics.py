"""What a metric is: a count, a gauge or a share, and what its absence means."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from anomaly.exceptions import SettingsError
from anomaly.likelihoods.names import AUTO, families_of
from anomaly.panel import DAY_SECONDS
from anomaly.settings import MetricSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from anomaly.rows import Rows

Kind = Literal["count", "gauge", "share"]
Aggregate = Literal["sum", "mean", "last", "max"]
Absent = Literal["zero", "missing"]
Direction = Literal["both", "up", "down"]

LOOKED_AT = 1_000_000  # rows of a metric that are enough to tell its kind
# A stray negative number does not make a gauge of a count; more of them do.
STRAY_NEGATIVES = 1e-3
# Amounts such as bytes: at least this share of steps is zero or absent, and the mean of the others
# lies this far above their median.
AMOUNT_ZEROS = 0.2
AMOUNT_SKEW = 1.3
# Zeros are recorded by the source itself, rather than being chance values of 0, where they are at
# least this often met against steps without a row, or where most steps have a row anyway.
ZEROS_TO_ABSENT = 0.25
MOSTLY_PRESENT = 0.5
LATE_DAYS = 7  # days of a metric, as often as it is met later, missed before its first
STEADY = 0.8  # a user's gaps that are alike, for them to be the user's pace


@dataclass(frozen=True, slots=True)
class MetricSpec:
    """How a metric is laid out on the grid and judged.

    aggregate joins the rows of one step. absent says what a step without a row means.
    minimum: a departure from the expected total below this is not flagged, in the metric's unit.
    since: seconds UTC before which nobody was measured: absence there is unknown and not zero.
    likelihood: the family asked for; 'auto': chosen when a model is fitted.
    """

    name: str
    kind: Kind = "count"
    aggregate: Aggregate = "sum"
    absent: Absent = "zero"
    direction: Direction = "both"
    minimum: float = 0.0
    likelihood: str = AUTO
    since: int = 0


@dataclass(frozen=True, slots=True)
class _History:
    """One metric's values and how they lie on the grid."""

    values: NDArray[np.float64]
    zero_steps: int  # steps whose rows are all 0
    rows_steps: int  # steps with a row
    absent_steps: int  # steps without one at each user's pace, between his first and last row
    since: int  # as in MetricSpec


def infer_specs(
    rows: Rows, step: int, settings: Mapping[str, MetricSettings]
) -> dict[str, MetricSpec]:
    """Find out what each metric of these rows is; settings have the last word.

    Args: rows: history. step: the grid's, in seconds.
    Returns: a spec for each of rows.metric_names, in that order.
    """
    specs = {}
    for code, name in enumerate(rows.metric_names):
        history = _history(rows, code, step)
        specs[name] = _spec(name, history, settings.get(name))
    return specs


def set_aside_negatives(rows: Rows, specs: Mapping[str, MetricSpec]) -> tuple[Rows, Rows]:
    """Split rows into those that can be judged and the counts below zero, which cannot."""
    kinds = {name: spec.kind for name, spec in specs.items()}
    counts = np.array([kinds.get(name) == "count" for name in rows.metric_names], dtype=np.bool_)
    negative = rows.value < 0
    if not negative.any():
        return rows, rows.take(negative)
    bad = negative & counts[rows.metric_code]
    return rows.take(~bad), rows.take(bad)


def _spec(name: str, history: _History, settings: MetricSettings | None) -> MetricSpec:
    given = settings or MetricSettings()
    kind = given.kind or _kind(history)
    _refuse_impossible(name, kind, given.likelihood)
    return MetricSpec(
        name,
        kind,
        given.aggregate or ("sum" if kind == "count" else "mean"),
        given.absent or _absent(history, kind),
        given.direction,
        given.minimum,
        given.likelihood,
        history.since,
    )


def _refuse_impossible(name: str, kind: Kind, likelihood: str) -> None:
    allowed = (AUTO, *families_of(kind))
    if likelihood not in allowed:
        raise SettingsError(
            f"[metric.{name}] likelihood = {likelihood!r}: {name} is a {kind}. "
            f"Take one of: {', '.join(allowed)}; or set its kind."
        )


def _history(rows: Rows, code: int, step: int) -> _History:
    chosen = np.flatnonzero(rows.metric_code == code)
    users = rows.user_code[chosen]
    if len(chosen) > LOOKED_AT:  # whole users, so that the gaps between their rows stay true
        every = -(-len(chosen) // LOOKED_AT)
        chosen = chosen[users % every == users.min() % every]
        users = rows.user_code[chosen]
    values = rows.value[chosen]
    steps = rows.observed_at[chosen] // step
    order = np.lexsort((steps, users))
    users, steps, busy = users[order], steps[order], values[order] != 0
    new_user = np.append(True, users[1:] != users[:-1])
    new_step = new_user | np.append(True, steps[1:] != steps[:-1])
    absent = _absent_steps(users[new_step], steps[new_step])
    zero_steps = ~np.logical_or.reduceat(busy, np.flatnonzero(new_step))
    return _History(values, int(zero_steps.sum()), int(new_step.sum()), absent, _since(rows, code))


def _since(rows: Rows, code: int) -> int:
    """When the measuring of a metric began, seconds UTC; 0 if as early as that of the others.

    A metric that most users have, on most days once it is there, and that nobody had on earlier
    days, was not collected then; to learn zeros from those days would make its arrival a flood.
    """
    own = rows.metric_code == code
    first = int(rows.observed_at[own].min())
    days = np.unique(rows.observed_at // DAY_SECONDS)
    own_days = np.unique(rows.observed_at[own] // DAY_SECONDS)
    before = int((days < own_days[0]).sum())
    expected = before * len(own_days) / (len(days) - before)
    common = len(np.unique(rows.user_code[own])) >= len(rows.user_names) / 2
    return first if common and expected >= LATE_DAYS else 0


def _absent_steps(users: NDArray[np.int32], steps: NDArray[np.int64]) -> int:
    """How many steps lack a row, of users' distinct rising steps.

    A user with a steady pace of his own, such as one row an hour on a grid of minutes, lacks only
    what falls out of it.
    """
    gaps = np.diff(steps)
    within = users[1:] == users[:-1]
    gaps, owners = gaps[within], users[1:][within]
    if len(gaps) == 0:
        return 0
    order = np.lexsort((gaps, owners))
    starts = np.flatnonzero(np.append(True, np.diff(owners[order]) != 0))
    sizes = np.diff(np.append(starts, len(gaps)))
    usual = np.repeat(gaps[order][starts + sizes // 2], sizes)
    steady = np.add.reduceat(gaps[order] == usual, starts, dtype=np.int64) >= STEADY * sizes
    pace = np.where(np.repeat(steady, sizes), usual, 1)
    return int(np.maximum(gaps[order] // pace - 1, 0).sum())


def _kind(history: _History) -> Kind:
    negative = history.values < 0
    if negative.mean() > STRAY_NEGATIVES:
        return "gauge"
    values = history.values[~negative]
    if not (values % 1).any():
        return "count"
    if negative.any():
        return "gauge"
    if values.max() <= 1:
        return "share"
    return "count" if _is_amount(history, values[values > 0]) else "gauge"


def _is_amount(history: _History, positive: NDArray[np.float64]) -> bool:
    idle = history.zero_steps + history.absent_steps
    zeros = idle / (history.rows_steps + history.absent_steps)
    skewed = float(positive.mean()) >= AMOUNT_SKEW * float(np.median(positive))
    return zeros >= AMOUNT_ZEROS and skewed


def _absent(history: _History, kind: Kind) -> Absent:
    if kind != "count":
        return "missing"
    present = history.rows_steps / (history.rows_steps + history.absent_steps)
    often = history.zero_steps >= ZEROS_TO_ABSENT * history.absent_steps
    records_zeros = history.zero_steps > 0 and (often or present >= MOSTLY_PRESENT)
    return "missing" if records_zeros else "zero"
