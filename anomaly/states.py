"""What is known of each user when a month begins, so that a run reads the month and not the history."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from anomaly.exceptions import ModelError
from anomaly.scan import Moments
from anomaly.shapes import Past
from anomaly.twin import TwinState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

EVERYONE = -1  # the cohort of users who are not known well enough
HISTORY_BINS = 48  # of the user's own past evidence
BIN_WIDTH = 0.25  # in units of evidence, -log10


@dataclass(frozen=True, slots=True)
class Sizes:
    """The dimensions that a model fixes."""

    slots: int
    metrics: int
    horizon: int
    memories: int
    units: int
    longest: int
    lengths: int
    courses: bool = False


class Sized(Protocol):
    """Whatever fixes the dimensions of states: a model."""

    @property
    def sizes(self) -> Sizes:
        """The dimensions."""
        ...


@dataclass(frozen=True, slots=True)
class States:
    """Known of each user, rows in the order of `users`.

    twin: discounted sums. lagged: (users, horizon, 2 metrics) the last deviations shown to the
    network. memory: (users, memories, units) what it remembers. recent: (users, longest - 1,
    metrics) the last deviations given earlier metrics. own: moments of window sums. past: (users,
    HISTORY_BINS) counts of own past evidence. cohort: (users,) int16. courses: what is remembered of
    the course of values, where it is looked at.
    """

    users: tuple[str, ...]
    twin: TwinState
    lagged: NDArray[np.float32]
    memory: NDArray[np.float32]
    recent: NDArray[np.float32]
    own: Moments
    past: NDArray[np.float32]
    cohort: NDArray[np.int16]
    courses: Past

    @classmethod
    def empty(cls, model: Sized, users: Sequence[str]) -> States:
        """Users of whom nothing is known."""
        n, sizes = len(users), model.sizes
        return cls(
            tuple(users),
            TwinState.empty(n, sizes.slots, sizes.metrics),
            np.zeros((n, sizes.horizon, 2 * sizes.metrics), np.float32),
            np.zeros((n, sizes.memories, sizes.units), np.float32),
            np.zeros((n, sizes.longest - 1, sizes.metrics), np.float32),
            Moments.empty(n, 1 + sizes.metrics, sizes.lengths),
            np.zeros((n, HISTORY_BINS), np.float32),
            np.full(n, EVERYONE, dtype=np.int16),
            Past.empty(n, sizes.metrics, sizes.courses),
        )

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> States:
        """The users at these positions."""
        rows = np.asarray(rows, dtype=np.int64)
        return _rebuild(
            tuple(self.users[row] for row in rows), [array[rows] for array in _arrays(self)]
        )

    def pack(self) -> list[bytes]:
        """A compressed record per user, without any code in it."""
        users = len(self.users)
        if not users:
            return []
        each = [np.ascontiguousarray(array).reshape(users, -1) for array in _arrays(self)]
        records = np.concatenate([array.view(np.uint8) for array in each if array.size], axis=1)
        return [zlib.compress(record, 1) for record in records]

    @classmethod
    def unpack(cls, model: Sized, users: Sequence[str], blobs: Sequence[bytes | None]) -> States:
        """Records as states, in the order of users; a user without one (None) starts empty.

        Raises: ModelError if a record is damaged or of another model.
        """
        states = cls.empty(model, users)
        arrays = _arrays(states)
        expected = sum(array[:1].nbytes for array in arrays) if users else 0
        for row, blob in enumerate(blobs):
            if blob is not None:
                _fill(arrays, row, blob, expected)
        return states


def _arrays(states: States) -> list[NDArray[Any]]:
    twin, own, courses = states.twin, states.own, states.courses
    return [
        twin.seen, twin.active, twin.size, twin.squares, twin.freedom, twin.days,
        states.lagged, states.memory, states.recent,
        own.weight, own.mean, own.square, states.past, states.cohort,
        courses.last, courses.windows, courses.ends, courses.stride, courses.steps,
    ]  # fmt: skip


def _rebuild(users: tuple[str, ...], arrays: list[NDArray[Any]]) -> States:
    return States(
        users, TwinState(*arrays[:6]), arrays[6], arrays[7], arrays[8],
        Moments(*arrays[9:12]), arrays[12], arrays[13], Past(*arrays[14:]),
    )  # fmt: skip


def _fill(arrays: list[NDArray[Any]], row: int, blob: bytes, expected: int) -> None:
    try:
        raw = zlib.decompress(blob)
    except zlib.error:
        raw = b""
    if len(raw) != expected:
        raise ModelError(
            f"state of a user: {len(raw)} bytes, expected {expected}. It is damaged or of another model; "
            "rebuild it: anomaly state rebuild."
        )
    at = 0
    for array in arrays:
        size = array[row].nbytes if array.ndim > 1 else array.itemsize
        count = size // array.itemsize
        part = np.frombuffer(raw, dtype=array.dtype, count=count, offset=at)
        array[row] = part.reshape(array.shape[1:]) if array.ndim > 1 else part[0]
        at += size
