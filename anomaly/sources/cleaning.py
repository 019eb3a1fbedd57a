"""From columns as a source has them to observations: checked, placed in time, none of them twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from anomaly.rows import MICROSECONDS, REASONS, SCHEMA, TIME_TYPE, all_rising, find_repeated
from anomaly.sources.batch import LONGEST_TEXT, Batch, Reject
from anomaly.sources.duplicates import Seen, hashed
from anomaly.sources.parsing import (
    CODES,
    GOOD,
    Names,
    Times,
    as_words,
    first_reason,
    parse_names,
    parse_times,
    parse_values,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from anomaly.sources.parsing import Reasons

LAST = np.iinfo(np.int64).max  # of all instants


@dataclass(frozen=True, slots=True)
class Checks:
    """What rows are held against, and which of them are wanted.

    timezone: the zone of times that carry none. now: seconds UTC; later rows are set aside (None:
        none are). counts: metrics that cannot be negative. start, end: seconds UTC, end exclusive,
        and users: rows of other times and users are passed over; None means all.
    """

    timezone: str = "UTC"
    now: int | None = None
    counts: frozenset[str] = frozenset()
    start: int | None = None
    end: int | None = None
    users: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Raw:
    """Columns of equal length, of whatever type the source has. locate: a row's place in words."""

    user_id: pa.Array
    metric: pa.Array
    observed_at: pa.Array
    value: pa.Array
    locate: Callable[[int], str]


class Cleaner:
    """Cleans a source's blocks one after another; remembers their keys, to know repeated rows."""

    def __init__(self, checks: Checks) -> None:
        self.checks = checks
        self._seen = Seen()

    def clean(self, raw: Raw) -> Batch:
        """Split a block into observations and rejects."""
        users = parse_names(raw.user_id, "missing_user_id", "user_id_too_long")
        metrics = parse_names(raw.metric, "missing_metric", "metric_too_long")
        times = parse_times(raw.observed_at, self.checks.timezone)
        values, unreadable = parse_values(raw.value)
        instants = _unfolded(users, metrics, times)
        reasons = first_reason(
            users.reasons,
            metrics.reasons,
            times.reasons,
            self._future(instants),
            unreadable,
            self._negative(metrics, values),
        )
        if reasons is None:
            reasons = np.full(len(values), GOOD)
        wanted = self._wanted(users, instants)
        kept = np.flatnonzero(reasons == GOOD if wanted is None else wanted & (reasons == GOOD))
        equal, contradicts = self._seen.repeats(
            hashed(users.words)[users.codes[kept]],
            hashed(metrics.words)[metrics.codes[kept]],
            instants[kept],
            values[kept],
        )
        reasons[kept[contradicts]] = CODES["contradicting_duplicate"]
        kept = kept[~(equal | contradicts)]
        table = pa.Table.from_arrays(
            [
                _text(users, kept),
                _text(metrics, kept),
                pa.array(instants[kept]).cast(TIME_TYPE),
                pa.array(values[kept]),
            ],
            schema=SCHEMA,
        )
        return Batch(table, _rejects(raw, reasons), int(equal.sum()))

    def _future(self, instants: NDArray[np.int64]) -> Reasons:
        now = self.checks.now
        if now is None or instants.max(initial=0) <= now * MICROSECONDS:
            return None
        return np.where(instants > now * MICROSECONDS, CODES["future_time"], GOOD)

    def _negative(self, metrics: Names, values: NDArray[np.float64]) -> Reasons:
        if values.min(initial=0) >= 0:
            return None
        counts = np.array([word in self.checks.counts for word in metrics.words], dtype=np.bool_)
        return np.where((values < 0) & counts[metrics.codes], CODES["negative_count"], GOOD)

    def _wanted(self, users: Names, instants: NDArray[np.int64]) -> NDArray[np.bool_] | None:
        """Which rows are; None: all of them."""
        checks, least, most = self.checks, instants.min(initial=LAST), instants.max(initial=-LAST)
        found = []
        if checks.start is not None and least < checks.start * MICROSECONDS:
            found.append(instants >= checks.start * MICROSECONDS)
        if checks.end is not None and most >= checks.end * MICROSECONDS:
            found.append(instants < checks.end * MICROSECONDS)
        if checks.users is not None:
            asked = np.array([word in checks.users for word in users.words], dtype=np.bool_)
            if not asked[:-1].all():  # the last stands for nulls
                found.append(asked[users.codes])
        return np.logical_and.reduce(found) if found else None


class Trusting(Cleaner):
    """Takes blocks of a source that was found faultless as they are, at a tenth of the cost."""

    def clean(self, raw: Raw) -> Batch:
        """The block's wanted rows; names as codes into dictionaries."""
        users = parse_names(raw.user_id, "missing_user_id", "user_id_too_long")
        metrics = parse_names(raw.metric, "missing_metric", "metric_too_long")
        times = parse_times(raw.observed_at, self.checks.timezone)
        values, unreadable = parse_values(raw.value)
        self._look_at(users, metrics, times, (unreadable, self._negative(metrics, values)))
        wanted = self._wanted(users, times.instants)
        kept = slice(None) if wanted is None else _stretch(np.flatnonzero(wanted))
        columns = [
            _coded(users, kept),
            _coded(metrics, kept),
            pa.array(times.instants[kept]).cast(TIME_TYPE),
            pa.array(values[kept]),
        ]
        return Batch(pa.table(columns, names=SCHEMA.names), [])

    def _look_at(
        self, users: Names, metrics: Names, times: Times, values: Sequence[Reasons]
    ) -> None:
        """Nothing is looked at again."""


class Inspecting(Trusting):
    """Finds out whether a source is faultless: every row good, rising by user, time and metric."""

    def __init__(self, checks: Checks) -> None:
        super().__init__(checks)
        self.faultless = True
        self._last: tuple[bytes, int, bytes] | None = None

    def _look_at(
        self, users: Names, metrics: Names, times: Times, values: Sequence[Reasons]
    ) -> None:
        names = users.reasons, metrics.reasons
        reasons = (*names, times.reasons, self._future(times.instants), *values)
        bad = any(each is not None and each.any() for each in reasons)
        if bad or times.instants is not times.later:
            self.faultless = False
        if not self.faultless or not len(times.instants):
            return
        rising = all_rising(_ranks(users), times.instants, _ranks(metrics))
        first, last = (
            (
                users.words[users.codes[place]].encode(),
                int(times.instants[place]),
                metrics.words[metrics.codes[place]].encode(),
            )
            for place in (0, -1)
        )
        self.faultless = rising and (self._last is None or self._last < first)
        self._last = last


def _ranks(names: Names) -> NDArray[np.int32]:
    """Where each row's name stands among the words in byte order; the codes, where words are so ordered."""
    words = names.words[:-1]
    order = sorted(range(len(words)), key=words.__getitem__)  # as their bytes in UTF-8
    if order == list(range(len(words))):
        return names.codes
    ranks = np.empty(len(order), dtype=np.int32)
    ranks[order] = np.arange(len(order))
    return ranks[names.codes]


def _stretch(places: NDArray[np.int64]) -> slice | NDArray[np.int64]:
    """Rising places that follow one another as a slice, which copies nothing."""
    if len(places) and places[-1] - places[0] == len(places) - 1:
        return slice(int(places[0]), int(places[-1]) + 1)
    return places


def repeated_column(word: str, length: int) -> pa.DictionaryArray:
    """A column that says the same in every row."""
    codes = pa.array(np.zeros(length, dtype=np.int32))
    return pa.DictionaryArray.from_arrays(codes, pa.array([word], pa.string()))


def melted(
    user_id: pa.Array,
    observed_at: pa.Array,
    values: dict[str, pa.Array],
    locate: Callable[[int], str],
) -> Raw:
    """A wide block made long: a row for each cell of the value columns that is not empty."""
    length = len(observed_at)
    cells = pa.concat_arrays(list(values.values()))
    filled = np.flatnonzero(~_empty(cells))
    rows = pa.array(filled % length if length else filled)
    metric = pa.DictionaryArray.from_arrays(
        pa.array((filled // length if length else filled).astype(np.int32)),
        pa.array(list(values), pa.string()),
    )
    return Raw(
        _encoded(user_id).take(rows),
        metric,
        _encoded(observed_at).take(rows),
        cells.take(pa.array(filled)),
        lambda place: locate(int(filled[place] % length)),
    )


def _empty(cells: pa.Array) -> NDArray[np.bool_]:
    """Cells that hold nothing: null, no text, or NaN among numbers."""
    empty = cells.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
    if pa.types.is_binary(cells.type) or pa.types.is_string(cells.type):
        sizes = pc.binary_length(cells).fill_null(0).to_numpy(zero_copy_only=False)
        empty = empty | (sizes == 0)
    return np.asarray(empty, dtype=np.bool_)


def _encoded(column: pa.Array) -> pa.DictionaryArray:
    """Parsed once for each word instead of once for each metric's row."""
    return column if pa.types.is_dictionary(column.type) else column.dictionary_encode()


def _unfolded(users: Names, metrics: Names, times: Times) -> NDArray[np.int64]:
    """Times, where a wall-clock time that the clocks repeat is the later one the second time.

    In an hour that comes twice, a series' first row of a time belongs to the first pass and the
    next row of the same time to the second.
    """
    if times.instants is times.later:
        return times.instants
    folded = np.flatnonzero(times.instants != times.later)
    if len(folded) == 0:
        return times.instants
    again = find_repeated(users.codes[folded], metrics.codes[folded], times.instants[folded])
    instants = times.instants.copy()
    instants[folded[again]] = times.later[folded[again]]
    return instants


def _text(names: Names, kept: NDArray[np.int64]) -> pa.Array:
    codes = pa.array(names.codes[kept])
    return pa.DictionaryArray.from_arrays(codes, pa.array(names.words, pa.string())).cast(
        pa.string()
    )


def _coded(names: Names, kept: slice | NDArray[np.int64]) -> pa.DictionaryArray:
    words = pa.array(names.words, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(names.codes[kept]), words)


def _rejects(raw: Raw, reasons: NDArray[np.int8]) -> list[Reject]:
    places = np.flatnonzero(reasons != GOOD).tolist()
    cells = zip(
        *(
            as_words(column, places)
            for column in (raw.user_id, raw.metric, raw.observed_at, raw.value)
        ),
        strict=True,
    )
    return [
        Reject(raw.locate(place), REASONS[reasons[place] - 1], ",".join(words)[:LONGEST_TEXT])
        for place, words in zip(places, cells, strict=True)
    ]
