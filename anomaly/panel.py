"""The one shape in which behaviour reaches the core: users x steps x metrics on one time grid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from anomaly.exceptions import ShapeError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

DAY_SECONDS = 86_400


@dataclass(frozen=True, slots=True)
class Grid:
    """Consecutive steps of time.

    times: (steps,) int64, the start of each step in seconds since 1970 UTC, rising.
    step: seconds a step covers; a local day counts 86,400 even where the clock changes.
    """

    times: NDArray[np.int64]
    step: int

    def __len__(self) -> int:
        return len(self.times)

    @property
    def start(self) -> int:
        """Start of the first step, seconds UTC."""
        return int(self.times[0])

    @property
    def end(self) -> int:
        """End of the last step (exclusive), seconds UTC."""
        return int(self.times[-1]) + self.step

    def index(self, when: NDArray[np.int64] | int) -> NDArray[np.int64]:
        """The step that holds each instant; -1 before the grid, len(grid) after it."""
        found = np.searchsorted(self.times, when, side="right") - 1
        return np.where(np.asarray(when) >= self.end, len(self), found).astype(np.int64)

    def between(self, first: int, last: int) -> Grid:
        """Steps first (inclusive) to last (exclusive), by index."""
        return Grid(self.times[first:last], self.step)


@dataclass(frozen=True, slots=True)
class Panel:
    """What each user did, step by step.

    users: names; metrics: names.
    values: (users, steps, metrics) float32, each metric in its own unit; 0 where `mask` is False.
    mask: same shape, bool: True where the value is known. A known zero (nothing happened) is a
        value; an absent one (nobody knows) is not.
    first, last: (users,) int64 step indices: the user exists in [first, last).
    """

    users: tuple[str, ...]
    metrics: tuple[str, ...]
    grid: Grid
    values: NDArray[np.float32]
    mask: NDArray[np.bool_]
    first: NDArray[np.int64]
    last: NDArray[np.int64]

    def __post_init__(self) -> None:
        expected = (len(self.users), len(self.grid), len(self.metrics))
        if self.values.shape != expected or self.mask.shape != expected:
            raise ShapeError(
                f"panel: values are {self.values.shape} and mask is {self.mask.shape}, expected "
                f"{expected} (users, steps, metrics). Build panels with anomaly.grid.to_panel."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(users, steps, metrics)."""
        return len(self.users), len(self.grid), len(self.metrics)

    @property
    def present(self) -> NDArray[np.bool_]:
        """(users, steps): True where the user exists at that step."""
        steps = np.arange(len(self.grid))
        inside: NDArray[np.bool_] = (steps >= self.first[:, None]) & (steps < self.last[:, None])
        return inside

    def between(self, first: int, last: int) -> Panel:
        """The same users over steps first (inclusive) to last (exclusive)."""
        return Panel(
            self.users,
            self.metrics,
            self.grid.between(first, last),
            self.values[:, first:last],
            self.mask[:, first:last],
            np.clip(self.first - first, 0, last - first),
            np.clip(self.last - first, 0, last - first),
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> Panel:
        """The users at these positions, in this order."""
        rows = np.asarray(rows, dtype=np.int64)
        return Panel(
            tuple(self.users[row] for row in rows),
            self.metrics,
            self.grid,
            self.values[rows],
            self.mask[rows],
            self.first[rows],
            self.last[rows],
        )


def awake(panel: Panel) -> NDArray[np.bool_]:
    """(users, steps): where a user is present, something is known, and the user did anything in the panel.

    Who did nothing at all in a month has left, or is not recorded: that is said once, in the list of
    users who were not scored, and is not learnt as a habit.
    """
    known = panel.present & panel.mask.any(-1)
    did = ((panel.values != 0) & panel.mask).any((1, 2))
    awake: NDArray[np.bool_] = known & did[:, None]
    return awake


def evenly(count: int, most: int) -> NDArray[np.int64]:
    """Positions of at most `most` of `count` things, evenly spread."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))
