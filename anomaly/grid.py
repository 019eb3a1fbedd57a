"""Rows onto a grid: which step an observation falls in, and what each step then holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import DataError, UsageError
from anomaly.metrics import set_aside_negatives
from anomaly.months import local_days
from anomaly.panel import DAY_SECONDS, Grid, Panel
from anomaly.rows import all_within, run_starts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from numpy.typing import NDArray

    from anomaly.metrics import MetricSpec
    from anomaly.rows import Rows

FLOAT32_MAX = float(np.finfo(np.float32).max)
MOST_CELLS = 2**31  # 8 GiB of values: a larger panel is a mistake in the step or the times
NEVER = np.iinfo(np.int64).max
EXACT_INTEGERS = 2.0**53  # float64 adds integers below this exactly, in any order
# Steps people use, in seconds: 1 s to one week.
SENSIBLE_STEPS = np.array(
    [1, 2, 5, 10, 15, 20, 30]
    + [60 * minutes for minutes in (1, 2, 3, 5, 10, 15, 20, 30)]
    + [3_600 * hours for hours in (1, 2, 3, 4, 6, 8, 12)]
    + [DAY_SECONDS, 7 * DAY_SECONDS]
)
REGULAR_SHARE = 0.95  # gaps that are whole multiples of a step, for the step to be the series' own
LONGEST_GAP_DAYS = 366  # without a row of anybody
MOST_SERIES = 200  # series looked at to find a step


def make_grid(start: int, end: int, step: int, timezone: str) -> Grid:
    """Lay steps over [start, end), seconds UTC.

    Steps of whole days begin at local midnights, so that some last 23 or 25 hours; the first one
    is the day that holds `start`. Shorter steps follow each other every `step` seconds from start.
    Raises: UsageError if the step is not positive, or longer than a day and no number of days;
        DataError if nothing lies between start and end.
    """
    if step <= 0 or (step > DAY_SECONDS and step % DAY_SECONDS):
        raise UsageError(
            f"grid step of {step} seconds: use a positive step, in whole days if longer than a day."
        )
    if end <= start:
        raise DataError(f"grid: no time between {start} and {end}, seconds UTC. Widen the span.")
    if step < DAY_SECONDS:
        return Grid(np.arange(start, end, step, dtype=np.int64), step)
    return Grid(local_days(start, end, timezone)[:: step // DAY_SECONDS], step)


def to_panel(
    rows: Rows,
    grid: Grid,
    metrics: tuple[str, ...],
    specs: Mapping[str, MetricSpec],
    first_seen: Mapping[str, int] | None = None,
    users: Sequence[str] | None = None,
    last_seen: Mapping[str, int] | None = None,
    end: int | None = None,
) -> Panel:
    """Lay rows out as users x steps x metrics; the rows' order changes nothing.

    Args: users: which, in this order (default: rows.user_names); others' rows are left out, as
            are other metrics', rows outside the grid, and counts below zero.
        first_seen, last_seen: seconds UTC of a user's first and last observation wherever; a user
            exists from the step of the first to the step of the last. Defaults: the first in
            `rows`, the grid's end.
        end: rows from this instant on (seconds UTC) are left out. Default: grid.end. Give a
            month's true end for daily grids, whose last day may last 23 or 25 hours.
    Returns: float32 values; a step without a row holds 0, known where the metric's absence means
        zero, the user exists and the metric was measured by then, else unknown.
    Raises: DataError if the panel would not fit in memory.
    """
    names = rows.user_names if users is None else tuple(users)
    shape = (len(names), len(grid), len(metrics))
    _refuse_giant(shape)
    rows, _ = set_aside_negatives(rows, specs)
    user = _placed(rows.user_code, rows.user_names, names)
    metric = _placed(rows.metric_code, rows.metric_names, metrics)
    step = _steps(grid, rows.observed_at, end)
    first, last = _presence(names, user, step, grid, first_seen, last_seen)
    values = np.zeros(shape, dtype=np.float32)
    mask = np.zeros(shape, dtype=np.bool_)
    inside = _inside(user, len(names)) & _inside(step, len(grid)) & _inside(metric, len(metrics))
    aggregates = np.array([specs[name].aggregate for name in metrics], dtype=object)
    for aggregate in sorted(set(aggregates)):
        alike = aggregates == aggregate
        chosen: Any = inside if alike.all() else inside & alike[metric]
        if np.all(chosen):
            chosen = slice(None)  # as it is, without a copy
        cell = user[chosen].astype(np.int64)
        cell *= shape[1]
        cell += step[chosen]
        cell *= shape[2]
        cell += metric[chosen]
        cells, joined = _join(aggregate, cell, rows.observed_at[chosen], rows.value[chosen])
        values.reshape(-1)[cells] = np.clip(joined, -FLOAT32_MAX, FLOAT32_MAX)
        mask.reshape(-1)[cells] = True
    panel = Panel(names, metrics, grid, values, mask, first, last)
    for place, name in enumerate(metrics):
        if specs[name].absent == "zero":
            measured = grid.times + grid.step > specs[name].since
            mask[:, :, place] |= panel.present & measured
    return panel


def refuse_long_gap(instants: NDArray[np.int64]) -> None:
    """Refuse times (seconds UTC) with a gap of more than a year, as placeholders of no time leave.

    Raises: DataError naming both sides of the gap.
    """
    days = np.unique(instants // DAY_SECONDS)
    gaps = np.diff(days)
    if len(gaps) and gaps.max() > LONGEST_GAP_DAYS:
        place = int(gaps.argmax())
        last, first = (str(day.astype("datetime64[D]")) for day in days[place : place + 2])
        before = int((instants // DAY_SECONDS <= days[place]).sum())
        raise DataError(
            f"times: {before} rows up to {last} and {len(instants) - before} from {first} on, none "
            "between. Leave out the side that holds placeholders or does not belong."
        )


def infer_step(rows: Rows) -> int:
    """Find the step of the grid on which these rows were taken, in seconds.

    The largest sensible step (1 s to 7 days) of which nearly all gaps within series are whole
    multiples, if it is close to the usual gap or at least an hour; for evenly paced but jittering
    series the usual gap, snapped; for events at any time an hour, or a day where they are rare.
    """
    gaps = _gaps(rows)
    if len(gaps) == 0:
        return 3_600
    usual = float(np.median(gaps))
    steps = np.union1d(SENSIBLE_STEPS, _commonest(gaps))
    shares = np.array([np.mean(gaps % step == 0) for step in steps])
    own = int(steps[shares >= REGULAR_SHARE].max(initial=1))
    if own >= min(usual / 4, 3_600) and own > 1:
        return own
    low, high = np.quantile(gaps, [0.25, 0.75])
    if high - low <= 0.25 * usual:
        return int(SENSIBLE_STEPS[np.argmin(np.abs(np.log(SENSIBLE_STEPS / usual)))])
    return 3_600 if usual <= DAY_SECONDS / 2 else DAY_SECONDS


def _gaps(rows: Rows) -> NDArray[np.int64]:
    """The positive gaps between a series' consecutive rows, seconds, of up to MOST_SERIES series."""
    series = rows.user_code.astype(np.int64) * len(rows.metric_names) + rows.metric_code
    known = np.unique(series)
    kept = known[:: -(-len(known) // MOST_SERIES) or 1]
    chosen = np.isin(series, kept) if len(kept) < len(known) else np.ones(len(rows), np.bool_)
    series, times = series[chosen], rows.observed_at[chosen]
    order = np.lexsort((times, series))
    same = np.diff(series[order]) == 0
    gaps: NDArray[np.int64] = np.diff(times[order])[same]
    return gaps[gaps > 0].astype(np.int64, copy=False)


def _commonest(gaps: NDArray[np.int64]) -> NDArray[np.int64]:
    """The commonest gap, if days can be divided into it or it into days; else nothing."""
    lengths, counts = np.unique(gaps, return_counts=True)
    common = int(lengths[np.argmax(counts)])
    fits = DAY_SECONDS % common == 0 or common % DAY_SECONDS == 0
    return np.array([common] if fits else [], dtype=np.int64)


def _refuse_giant(shape: tuple[int, int, int]) -> None:
    if shape[0] * shape[1] * shape[2] > MOST_CELLS:
        raise DataError(
            f"panel: {shape[0]} users x {shape[1]} steps x {shape[2]} metrics do not fit in "
            "memory. Use a longer step, fewer users at once, or leave metrics out."
        )


def _placed(
    codes: NDArray[np.int32], names: tuple[str, ...], among: tuple[str, ...]
) -> NDArray[np.int32]:
    """Where each row's name stands among others, -1 where it does not. codes: into names."""
    if names == among:
        return codes
    place = {name: at for at, name in enumerate(among)}
    return np.array([place.get(name, -1) for name in names], dtype=np.int32)[codes]


def _inside(places: NDArray[Any], size: int) -> NDArray[np.bool_] | np.bool_:
    """Which places lie in [0, size); True alone where all do."""
    if all_within(places, 0, size - 1):
        return np.True_
    return np.asarray((places >= 0) & (places < size))


def _steps(grid: Grid, instants: NDArray[np.int64], end: int | None) -> NDArray[np.int64]:
    """The step of each instant; -1 before the grid, len(grid) after it or from `end` on."""
    stop = grid.end if end is None else end
    if grid.step < DAY_SECONDS and grid.end - grid.start == len(grid) * grid.step:
        since = instants - grid.start
        steps = since // grid.step
        if all_within(since, 0, min(stop, grid.end) - grid.start - 1):
            return np.asarray(steps)
        steps = np.clip(steps, -1, len(grid) - 1)
    else:
        steps = np.searchsorted(grid.times, instants, side="right") - 1
    return np.where(instants >= stop, len(grid), steps)


def _presence(
    names: tuple[str, ...],
    user: NDArray[np.int32],
    step: NDArray[np.int64],
    grid: Grid,
    first_seen: Mapping[str, int] | None,
    last_seen: Mapping[str, int] | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps [first, last) of each user; rows widen what first_seen and last_seen say."""
    length = len(grid)
    # Rows of a user mostly follow one another: each run of them counts by its least and greatest step.
    runs = run_starts(user)
    whose, earliest, latest = (
        (user[runs], np.minimum.reduceat(step, runs), np.maximum.reduceat(step, runs))
        if len(runs)
        else (user, step, step)
    )
    known = whose >= 0
    first = np.full(len(names), length, dtype=np.int64)
    np.minimum.at(first, whose[known], earliest[known])
    last = np.full(len(names), length if last_seen is None else 0, dtype=np.int64)
    if last_seen is not None:
        np.maximum.at(last, whose[known], np.minimum(latest[known] + 1, length))
    if first_seen is not None:
        first = np.minimum(first, grid.index(_times_of(names, first_seen)))
    if last_seen is not None:
        seen = grid.index(_times_of(names, last_seen)) + 1
        last = np.maximum(last, np.minimum(seen, length))
    first = np.clip(first, 0, length)
    return first, np.maximum(last, first)


def _times_of(names: tuple[str, ...], seen: Mapping[str, int]) -> NDArray[np.int64]:
    """Instants of these users, after every grid where none is given."""
    return np.array([seen.get(name, NEVER) for name in names], dtype=np.int64)


def _join(
    aggregate: str,
    cell: NDArray[np.int64],
    instants: NDArray[np.int64],
    value: NDArray[np.float64],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The cells that have rows, rising, and what their rows come to."""
    if len(cell) == 0:
        return cell, value
    if (cell[1:] < cell[:-1]).any():
        order = np.argsort(cell, kind="stable")
        cell, instants, value = cell[order], instants[order], value[order]
    starts = np.flatnonzero(np.append(True, cell[1:] != cell[:-1]))
    if len(starts) == len(cell):
        return cell, value
    if aggregate != "max" and not (aggregate == "sum" and _adds_exactly(value)):
        order = np.lexsort((value, instants, cell))
        value = value[order]
    sizes = np.diff(np.append(starts, len(cell)))
    if aggregate == "max":
        joined = np.maximum.reduceat(value, starts)
    elif aggregate == "last":
        joined = value[starts + sizes - 1]
    else:
        joined = np.add.reduceat(value, starts)
        joined = joined / sizes if aggregate == "mean" else joined
    return cell[starts], joined


def _adds_exactly(value: NDArray[np.float64]) -> bool:
    """Whether a sum of these does not depend on their order."""
    return bool(np.abs(value).sum() < EXACT_INTEGERS) and not (value % 1).any()
