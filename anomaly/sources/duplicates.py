"""Rows that say again what a source has said before, or the opposite of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from anomaly.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

# A filter that says "surely new" of most keys: one byte for each value of a key's highest bits.
FILTER_BITS = 26
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele et al. 2014)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@dataclass(frozen=True, slots=True)
class _Block:
    """The keys and values of an earlier block's rows, in temporary files that the system pages."""

    in_order: NDArray[np.uint64]
    keys: NDArray[np.uint64]
    values: NDArray[np.float64]

    def values_of(
        self, wanted: NDArray[np.uint64]
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Which of the wanted keys are here (positions in `wanted`), and their values."""
        places = np.minimum(np.searchsorted(self.in_order, wanted), len(self.in_order) - 1)
        found = np.flatnonzero(self.in_order[places] == wanted)
        if len(found) == 0:
            return found, np.empty(0)
        here = np.flatnonzero(np.isin(self.keys, wanted[found]))
        order = here[np.argsort(self.keys[here])]
        return found, self.values[order[np.searchsorted(self.keys[order], wanted[found])]]


class Seen:
    """The keys (user, metric, instant) a source has given so far, block after block.

    Memory does not grow with the source: earlier keys lie in unnamed temporary files, 24 bytes a
    row. Keys are compared by a 64-bit hash; among a hundred million rows two different ones meet
    in one source of four thousand.
    """

    def __init__(self) -> None:
        self._blocks: list[_Block] = []
        self._filter: NDArray[np.bool_] | None = None

    def repeats(
        self,
        users: NDArray[np.uint64],
        metrics: NDArray[np.uint64],
        instants: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Take in a block's rows, users and metrics as `hashed` words.

        Returns: two masks (rows,): rows equal to an earlier one, and rows that give another value
            for an earlier key.
        """
        keys = _mixed(users + _mixed(metrics + _mixed(instants.astype(np.uint64))))
        in_order = np.sort(keys)
        again, before = self._within(keys, in_order, values)
        self._across(keys, again, before)
        self._keep(keys, in_order, values, again)
        contradicts = again & (before != values)
        return again & ~contradicts, contradicts

    def _within(
        self, keys: NDArray[np.uint64], in_order: NDArray[np.uint64], values: NDArray[np.float64]
    ) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
        """Which rows repeat a key of this block, and the value it had first."""
        again = np.zeros(len(keys), dtype=np.bool_)
        if (in_order[1:] != in_order[:-1]).all():
            return again, values.copy()
        order = np.argsort(keys, kind="stable")
        new = np.append(True, in_order[1:] != in_order[:-1])
        first = np.empty(len(keys), dtype=np.int64)
        first[order] = order[np.flatnonzero(new)][np.cumsum(new) - 1]
        again[order] = ~new
        return again, values[first]

    def _across(
        self, keys: NDArray[np.uint64], again: NDArray[np.bool_], before: NDArray[np.float64]
    ) -> None:
        """Mark in `again` and `before` the rows whose key an earlier block had."""
        if not self._blocks:
            return
        if self._filter is None:  # most sources are a single block and need none
            self._filter = np.zeros(2**FILTER_BITS, dtype=np.bool_)
            self._filter[_slots(self._blocks[0].in_order)] = True
        suspects = np.flatnonzero(self._filter[_slots(keys)])
        for block in self._blocks:
            found, values = block.values_of(keys[suspects])
            again[suspects[found]] = True
            before[suspects[found]] = values

    def _keep(
        self,
        keys: NDArray[np.uint64],
        in_order: NDArray[np.uint64],
        values: NDArray[np.float64],
        again: NDArray[np.bool_],
    ) -> None:
        if again.any():
            keys, values = keys[~again], values[~again]
            in_order = np.sort(keys)
        if len(keys) == 0:
            return
        if self._filter is not None:
            self._filter[_slots(in_order)] = True
        self._blocks.append(_Block(_paged(in_order), _paged(keys), _paged(values)))


def hashed(words: Sequence[str]) -> NDArray[np.uint64]:
    """A 64-bit hash of each word, the same in every process."""
    return pd.util.hash_array(np.array(words, dtype=object), categorize=False)


def _mixed(numbers: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Spread every bit over all bits (the finish of splitmix64)."""
    mixed = numbers + _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX_1
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX_2
    return mixed ^ (mixed >> np.uint64(31))


def _slots(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    return (keys >> np.uint64(64 - FILTER_BITS)).astype(np.int64)


def _paged(numbers: NDArray[Any]) -> NDArray[Any]:
    """The same numbers in an unnamed temporary file, read as they are needed."""
    try:
        with tempfile.TemporaryFile() as file:
            file.write(numbers.data)
            file.flush()
            return np.memmap(file, dtype=numbers.dtype, mode="r", shape=numbers.shape)
    except OSError as error:
        raise SourceError(
            f"{tempfile.gettempdir()}: keys of rows cannot be set down ({error.strerror}). Free "
            "space, or point TMPDIR at a larger disk."
        ) from error
