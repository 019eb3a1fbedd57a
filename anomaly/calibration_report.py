"""Whether tail probabilities are true: on fresh data P(p < a) should be a, for everyone alike.

Counted for all values and by metric, cohort and local hour, on either side and both, down to 1e-4: a
table and a plot for the reader, and one number, `Calibration.error`, for the alert.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from scipy.special import betaincinv, ndtr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.calibration import CentralMap

DEPTHS = (1e-1, 1e-2, 1e-3, 1e-4)
SIDES = ("upper", "lower", "both")
KINDS = ("all", "metric", "cohort", "hour")
LEAST_EXPECTED = 10.0  # fewer say nothing of a ratio
WITHIN = 1.5  # the factor that a ratio should keep
CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True)
class Counts:
    """How many of a group's values had a p below each of DEPTHS, on each side.

    kind: one of KINDS; group: its name; values: how many there were.
    """

    kind: str
    group: str
    values: int
    upper: tuple[int, ...]
    lower: tuple[int, ...]
    both: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the table. ratio: observed over expected; low, high: its binomial interval of 95 %.

    enough: whether so many were expected that the ratio says something.
    """

    kind: str
    group: str
    side: str
    promised: float
    values: int
    expected: float
    observed: int
    ratio: float
    low: float
    high: float
    enough: bool

    @property
    def off(self) -> bool:
        """Whether the ratio certainly misses the factor that it should keep."""
        return self.enough and (self.low > WITHIN or self.high < 1 / WITHIN)


@dataclass(frozen=True, slots=True)
class Calibration:
    """The counts of every group."""

    groups: tuple[Counts, ...] = ()

    @classmethod
    def from_records(cls, records: Sequence[Mapping[str, Any]]) -> Self:
        """Read back what `records` gave."""
        return cls(
            tuple(
                Counts(
                    str(found["kind"]), str(found["group"]), int(found["values"]),
                    *(tuple(int(count) for count in found[side]) for side in SIDES),
                )
                for found in records
            )
        )  # fmt: skip

    def records(self) -> list[dict[str, Any]]:
        """Plain values, for JSON."""
        return [asdict(group) for group in self.groups]

    def rows(self, kind: str | None = None) -> Iterator[Row]:
        """The table, of one kind of group or of all."""
        for group in self.groups:
            if kind in {None, group.kind}:
                for side in SIDES:
                    for depth, observed in zip(DEPTHS, getattr(group, side), strict=True):
                        yield _row(group, side, depth, observed)

    @property
    def error(self) -> float:
        """The largest certain |log10 ratio|, over all groups and either side: from 1 to the nearer
        end of the ratio's interval, where enough were expected. 0 is perfect, .18 a factor of 1.5.
        """
        errors = [
            max(np.log10(row.low) if row.low > 1 else -np.log10(max(row.high, 1e-9)), 0.0)
            for row in self.rows()
            if row.enough and row.side != "both"
        ]
        return round(float(max(errors, default=0.0)), 4)


def _row(group: Counts, side: str, depth: float, observed: int) -> Row:
    expected = group.values * depth
    low, high = interval(observed, group.values)
    scale = max(depth, 1e-12)
    return Row(
        group.kind, group.group, side, depth, group.values, expected, observed,
        observed / expected if expected else float("nan"), low / scale, high / scale,
        expected >= LEAST_EXPECTED,
    )  # fmt: skip


def interval(observed: int, values: int) -> tuple[float, float]:
    """The share's interval of 95 % (Clopper & Pearson 1934)."""
    tail = (1 - CONFIDENCE) / 2
    low = float(betaincinv(observed, values - observed + 1, tail)) if observed else 0.0
    high = (
        float(betaincinv(observed + 1, values - observed, 1 - tail)) if observed < values else 1.0
    )
    return low, high


def tabulate(
    deviation: NDArray[np.float32],
    known: NDArray[np.bool_],
    metrics: Sequence[str],
    cohort: Sequence[str],
    hour: NDArray[np.integer[Any]] | None,
) -> Calibration:
    """Count how often calibrated deviations pass the depths that they promise.

    Args: deviation (users, steps, metrics), standard normal where all is well; known: same shape,
        what counts. cohort: (users,) names. hour: (users, steps) local hours, or None on a grid
        of days.
    """
    upper, lower = ndtr(-deviation.astype(np.float64)), ndtr(deviation.astype(np.float64))
    levels = {
        "upper": _depth(upper),
        "lower": _depth(lower),
        "both": _depth(2 * np.minimum(upper, lower)),
    }
    keys: dict[str, tuple[NDArray[np.int64], Sequence[str]]] = {
        "all": (np.zeros((1, 1, 1), np.int64), ("all",)),
        "metric": (np.arange(len(metrics))[None, None], metrics),
    }
    names = sorted(set(cohort))
    keys["cohort"] = (np.array([names.index(name) for name in cohort])[:, None, None], names)
    if hour is not None:
        keys["hour"] = (hour[..., None].astype(np.int64), [f"{h:02d}:00" for h in range(24)])
    found = [
        counts
        for kind in KINDS
        if kind in keys
        for counts in _counted(kind, *keys[kind], levels, known)
    ]
    return Calibration(tuple(found))


def _depth(p: NDArray[np.float64]) -> NDArray[np.int64]:
    """How many of DEPTHS each p lies below."""
    return np.asarray(sum((p < depth).astype(np.int64) for depth in DEPTHS))


def _counted(
    kind: str,
    key: NDArray[np.int64],
    names: Sequence[str],
    levels: Mapping[str, NDArray[np.int64]],
    known: NDArray[np.bool_],
) -> Iterator[Counts]:
    cells = len(DEPTHS) + 1
    group = np.broadcast_to(key, known.shape)[known]
    tables = {
        side: np.bincount(group * cells + level[known], minlength=len(names) * cells)
        .reshape(len(names), cells)[:, ::-1]
        .cumsum(axis=1)[:, ::-1]
        for side, level in levels.items()
    }
    for index, name in enumerate(names):
        values = int(tables["upper"][index, 0])
        if values:
            passed = (tuple(int(n) for n in tables[side][index, 1:]) for side in SIDES)
            yield Counts(kind, name, values, *passed)


def on_fresh(
    odds: NDArray[np.float32],
    known: NDArray[np.bool_],
    fit: Callable[[NDArray[np.float32]], CentralMap],
    metrics: Sequence[str],
    cohort: Sequence[str],
    hour: NDArray[np.integer[Any]] | None,
) -> Calibration:
    """Tabulate the second half of later history under maps fitted to its first half.

    Args: odds (users, steps, metrics), NaN where unknown; known (users, steps); the rest as in
        `tabulate`, of all steps.
    """
    half = odds.shape[1] // 2
    counts = known[:, half:, None] & np.isfinite(odds[:, half:])
    deviation = np.zeros(counts.shape, np.float32)
    for metric in range(odds.shape[-1]):
        early = odds[:, :half, metric][known[:, :half]]
        at = counts[..., metric]
        deviation[..., metric][at] = fit(early)(odds[:, half:, metric][at])
    return tabulate(deviation, counts, metrics, cohort, None if hour is None else hour[:, half:])
