"""Columns of any type into times and numbers; what cannot be read gets a reason, not a guess."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from anomaly.months import zone
from anomaly.rows import (
    EARLIEST,
    LARGEST_VALUE,
    LATEST,
    LONGEST_NAME,
    MICROSECONDS,
    REASONS,
    TIME_TYPE,
    all_within,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    # A reason for each row, (rows,); None where every row is good, as in most blocks.
    Reasons = NDArray[np.int8] | None

GOOD = np.int8(0)
SUBSTITUTE = "\x1a"  # ASCII's sign for a character that was lost
CODES = {reason: np.int8(place + 1) for place, reason in enumerate(REASONS)}
_ZONED = r"(?:[Zz]|[+-]\d{2}:?\d{2})$"
_ISO = r"^\d{4}-?\d{2}-?\d{2}(?:[T ]\d{2}(?::?\d{2}(?::?\d{2}(?:[.,]\d+)?)?)?\s*(?:[Zz]|[+-]\d{2}:?(?:\d{2})?)?)?$"
_EPOCH = r"^\d{9,10}$|^\d{12,13}$|^\d{15,16}$|^\d{18,19}$"
_NAN_WORDS = r"(?i)^[+-]?nan$"
_COMMAS = r"^\s*[+-]?(?:\d+,\d+|\d{1,3}(?:\.\d{3})+,\d+|\d{1,3}(?:,\d{3})+(?:\.\d+)?)\s*$"
# Numbers of so many digits are seconds, milliseconds, microseconds or nanoseconds since 1970.
_EPOCH_UNITS = ((10**11, MICROSECONDS), (10**14, 1_000), (10**17, 1))


@dataclass(frozen=True, slots=True)
class Names:
    """A column of user ids or metrics: codes (rows,) into `words`, with a reason for each row; None
    where every row is good, as in most blocks.
    """

    codes: NDArray[np.int32]
    words: list[str]
    reasons: Reasons


@dataclass(frozen=True, slots=True)
class Times:
    """Instants in microseconds since 1970 UTC, with a reason for each row; None where all are good.

    later: the second of the two instants that an hour repeated by the clocks can mean, else the
        same as `instants`.
    """

    instants: NDArray[np.int64]
    later: NDArray[np.int64]
    reasons: Reasons

    def take(self, codes: NDArray[np.int64]) -> Times:
        """The times at these positions."""
        instants = self.instants[codes]
        later = instants if self.later is self.instants else self.later[codes]
        return Times(instants, later, None if self.reasons is None else self.reasons[codes])


def parse_names(column: pa.Array, missing: str, too_long: str) -> Names:
    """Read user ids or metrics, of text, bytes or numbers, as they are.

    Args: missing, too_long: the reasons for a name that is null or empty, or above LONGEST_NAME.
    """
    if not pa.types.is_dictionary(column.type):
        column = column.dictionary_encode()
    words, readable = _decoded(column.dictionary)
    text = pa.array(words, pa.string())
    sizes = pc.binary_length(text).to_numpy(zero_copy_only=False)
    reasons = np.select(
        [
            ~readable | _containing(text, SUBSTITUTE),
            sizes == 0,
            sizes > LONGEST_NAME,
            _containing(text, "\0"),
        ],
        [CODES["not_utf8"], CODES[missing], CODES[too_long], CODES["nul_character"]],
        GOOD,
    ).astype(np.int8)
    indices, nulls = column.indices, column.indices.null_count
    codes = (indices.fill_null(len(words)) if nulls else indices).to_numpy(zero_copy_only=False)
    # One word more, for nulls.
    reasons = np.append(reasons, CODES[missing])
    bad = nulls or reasons[:-1].any()
    return Names(codes.astype(np.int32, copy=False), [*words, ""], reasons[codes] if bad else None)


def parse_times(column: pa.Array, timezone: str) -> Times:
    """Read instants.

    Timestamps and dates as they are; text in ISO 8601, with a zone or in `timezone`; whole numbers
    of 9 to 19 digits as seconds, milli-, micro- or nanoseconds since 1970.
    """
    if pa.types.is_dictionary(column.type):
        words = parse_times(
            pa.concat_arrays([column.dictionary, pa.nulls(1, column.type.value_type)]), timezone
        )
        codes = column.indices.fill_null(len(column.dictionary)).to_numpy(zero_copy_only=False)
        return words.take(codes.astype(np.int64))
    if pa.types.is_timestamp(column.type):
        return _typed_times(column, timezone)
    if pa.types.is_date(column.type):
        return _typed_times(column.cast(pa.date32()).cast(pa.timestamp("s")), timezone)
    if pa.types.is_integer(column.type) or pa.types.is_floating(column.type):
        return _epochs(column)
    return _text_times(_as_text(column), timezone)


def parse_values(column: pa.Array) -> tuple[NDArray[np.float64], Reasons]:
    """Read finite numbers up to LARGEST_VALUE: the values, and a reason for each row; None where all
    are good.
    """
    text = not _is_number(column.type)
    values = _text_values(_as_text(column)) if text else column.cast(pa.float64(), safe=False)
    numbers = _filled(values).to_numpy(zero_copy_only=False)
    if not values.null_count and all_within(numbers, -LARGEST_VALUE, LARGEST_VALUE):
        return numbers, None
    reasons = np.full(len(column), GOOD, dtype=np.int8)
    if values.null_count:
        reasons[values.is_null().to_numpy(zero_copy_only=False)] = CODES["unreadable_value"]
        empty = _is_empty(column)
        reasons[empty] = CODES["missing_value"]
    with np.errstate(invalid="ignore"):
        large = ~(np.abs(numbers) <= LARGEST_VALUE)
    if large.any():
        finite = np.isfinite(numbers)
        reasons[large & finite] = CODES["value_too_large"]
        reasons[large & ~finite] = CODES["not_finite"]
        numbers = np.where(finite, numbers, 0.0)
    return numbers, reasons


def with_commas(column: pa.Array) -> NDArray[np.bool_]:
    """Which cells look like numbers written with commas, for decimals or between thousands."""
    found = pc.match_substring_regex(_as_text(column), _COMMAS).fill_null(False)
    return np.asarray(found.to_numpy(zero_copy_only=False), dtype=np.bool_)


def first_reason(*reasons: Reasons) -> Reasons:
    """For each row the first reason that is one."""
    found: Reasons = None
    for others in reasons:
        if found is None:
            found = None if others is None else others.copy()
        elif others is not None:
            np.copyto(found, others, where=found == GOOD)
    return found


def as_words(column: pa.Array, positions: Sequence[int]) -> list[str]:
    """The cells at these positions as text, for a person to read."""
    cells = column.take(pa.array(positions, pa.int64()))
    if pa.types.is_dictionary(cells.type):
        cells = cells.dictionary_decode()
    try:
        words = cells.to_pylist()
    except (ValueError, OverflowError):  # times beyond the year 9999
        words = cells.cast(pa.int64()).to_pylist()
    return [shown(word) for word in words]


def shown(word: object) -> str:
    """A cell, or a whole row, for a person to read."""
    if isinstance(word, bytes):
        return word.decode("utf-8", "replace")
    return "" if word is None else str(word).replace(SUBSTITUTE, "\ufffd")


def _is_number(kind: pa.DataType) -> bool:
    return bool(
        pa.types.is_integer(kind)
        or pa.types.is_floating(kind)
        or pa.types.is_decimal(kind)
        or pa.types.is_boolean(kind)
    )


def _decoded(words: pa.Array) -> tuple[list[str], NDArray[np.bool_]]:
    """Words as text, and which of them are UTF-8."""
    readable = np.ones(len(words), dtype=np.bool_)
    try:
        return [word or "" for word in words.cast(pa.string()).to_pylist()], readable
    except pa.ArrowInvalid:
        decoded = []
        for place, word in enumerate(words.to_pylist()):
            try:
                decoded.append(word.decode("utf-8"))
            except UnicodeDecodeError:
                readable[place] = False
                decoded.append("")
        return decoded, readable


def _as_text(column: pa.Array) -> pa.Array:
    """A column of text; bytes that are not UTF-8 become replacement characters."""
    try:
        return column.cast(pa.string())
    except pa.ArrowInvalid:
        cells = [
            None if cell is None else cell.decode("utf-8", "replace") for cell in column.to_pylist()
        ]
        return pa.array(cells, pa.string())
    except pa.ArrowNotImplementedError:  # lists, structs: no text of theirs could be read
        return pa.array([str(cell) for cell in column.to_pylist()], pa.string())


def _is_empty(column: pa.Array) -> NDArray[np.bool_]:
    empty = column.is_null()
    if not _is_number(column.type):
        empty = pc.or_(
            empty, pc.equal(pc.utf8_trim_whitespace(_as_text(column)), "").fill_null(True)
        )
    return np.asarray(empty.to_numpy(zero_copy_only=False), dtype=np.bool_)


def _text_values(text: pa.Array) -> pa.Array:
    """Numbers from text; null where there is none."""
    try:
        return text.cast(pa.float64())
    except pa.ArrowInvalid:
        trimmed = pc.utf8_trim_whitespace(text)
        words = trimmed.dictionary_encode()
        numbers = pd.to_numeric(
            pd.Series(words.dictionary.to_pylist(), dtype=object), errors="coerce"
        )
        known = pa.array(numbers.to_numpy(dtype=np.float64), from_pandas=True)
        nan = pc.match_substring_regex(words.dictionary, _NAN_WORDS)
        return pc.if_else(nan, float("nan"), known).take(words.indices)


def _typed_times(column: pa.Array, timezone: str) -> Times:
    per_second = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[column.type.unit]
    counts = _filled(column.cast(pa.int64())).to_numpy(zero_copy_only=False)
    reasons: Reasons = None
    earliest, latest = EARLIEST * per_second, (LATEST + 86_400) * per_second
    if column.null_count or not all_within(counts, earliest, latest - 1):
        inside = (counts >= earliest) & (counts < latest)
        counts = np.where(inside, counts, 0)
        reasons = np.where(inside, GOOD, CODES["time_out_of_range"])
        reasons[column.is_null().to_numpy(zero_copy_only=False)] = CODES["missing_time"]
    if per_second < MICROSECONDS:
        instants = counts * (MICROSECONDS // per_second)
    else:
        instants = counts // 1_000 if per_second > MICROSECONDS else counts
    if column.type.tz is None:
        local = _localised(instants, timezone)
        return Times(local.instants, local.later, first_reason(reasons, local.reasons))
    return _bounded(instants, instants, reasons)


def _epochs(column: pa.Array) -> Times:
    null = column.is_null().to_numpy(zero_copy_only=False)
    counts = column.fill_null(0).to_numpy(zero_copy_only=False)
    with np.errstate(invalid="ignore"):
        whole = (counts % 1 == 0) & (counts >= 10**8) & (counts < 2**62)
    counts = np.where(whole, counts, 10**8).astype(np.int64)
    factors = [np.where(counts < limit, factor, 0) for limit, factor in _EPOCH_UNITS]
    factor = np.select([each > 0 for each in factors], factors, 0)
    instants = np.where(factor > 0, counts * factor, counts // 1_000)
    reasons = np.where(whole, GOOD, CODES["unreadable_time"])
    reasons[null] = CODES["missing_time"]
    return _bounded(instants, instants, reasons)


def _text_times(text: pa.Array, timezone: str) -> Times:
    first = next((word.as_py() for word in text if word.is_valid), "")
    zoned = re.search(_ZONED, first) is not None and len(first) > 10
    # Most files write all times as their first; a cast that fails costs more than one that works.
    with suppress(pa.ArrowInvalid):
        return _typed_times(text.cast(TIME_TYPE if zoned else pa.timestamp("us")), timezone)
    words = pc.utf8_trim_whitespace(text).dictionary_encode()
    codes = words.indices.fill_null(len(words.dictionary)).to_numpy(zero_copy_only=False)
    return _mixed_times(words.dictionary.to_pylist(), timezone).take(codes.astype(np.int64))


def _mixed_times(words: list[str], timezone: str) -> Times:
    """Times written in several ways, word by word; one entry more at the end, for nulls."""
    series = pd.Series(words, dtype="str")
    iso = series.str.match(_ISO).to_numpy(dtype=np.bool_)
    zoned = (
        iso
        & series.str.contains(_ZONED).to_numpy(dtype=np.bool_)
        & (series.str.len() > 10).to_numpy()
    )
    epoch = series.str.match(_EPOCH).to_numpy(dtype=np.bool_)
    instants = np.zeros(len(words) + 1, dtype=np.int64)
    later = instants.copy()
    reasons = np.full(len(words) + 1, CODES["unreadable_time"], dtype=np.int8)
    reasons[-1] = CODES["missing_time"]
    reasons[:-1][(series == "").to_numpy()] = CODES["missing_time"]
    for chosen, utc in ((zoned, True), (iso & ~zoned, False), (epoch & ~iso, None)):
        places = np.flatnonzero(chosen)
        if len(places) == 0:
            continue
        some = series.iloc[places]
        if utc is None:
            times = _epochs(pa.array(some.astype(np.int64)))
        else:
            times = _typed_times(_from_iso(some, utc=utc), timezone)
        instants[places], later[places] = times.instants, times.later
        reasons[places] = GOOD if times.reasons is None else times.reasons
        nothing = reasons[places] == CODES["missing_time"]  # pandas found it to be no time
        reasons[places[nothing]] = CODES["unreadable_time"]
    return Times(instants, later, reasons)


def _from_iso(words: pd.Series[str], *, utc: bool) -> pa.Array:
    times = pd.to_datetime(words, format="ISO8601", errors="coerce", utc=utc)
    return pa.array(times.dt.as_unit("us"), pa.timestamp("us", "UTC" if utc else None))


def _localised(instants: NDArray[np.int64], timezone: str) -> Times:
    """Wall-clock times of a zone, given as if they were UTC.

    A time the clocks skip does not exist; one they repeat is its first occurrence, or `later`.
    """
    if timezone == "UTC":
        return _bounded(instants, instants, None)
    walls, codes = np.unique(instants, return_inverse=True)
    index = pd.DatetimeIndex(walls.astype("datetime64[us]"))
    summer = np.ones(len(walls), dtype=np.bool_)
    first, second = (
        index.tz_localize(zone(timezone), ambiguous=flag, nonexistent="NaT").tz_convert("UTC")
        for flag in (summer, ~summer)
    )
    gap = np.asarray(first.isna())
    reasons = np.where(gap, CODES["nonexistent_time"], GOOD)
    earlier, later = (np.where(gap, 0, each.as_unit("us").asi8) for each in (first, second))
    return _bounded(earlier, later, reasons).take(codes)


def _bounded(instants: NDArray[np.int64], later: NDArray[np.int64], reasons: Reasons) -> Times:
    if all_within(instants, EARLIEST * MICROSECONDS, LATEST * MICROSECONDS - 1):
        return Times(instants, later, reasons)
    outside = (instants < EARLIEST * MICROSECONDS) | (instants >= LATEST * MICROSECONDS)
    reasons = first_reason(reasons, np.where(outside, CODES["time_out_of_range"], GOOD))
    return Times(instants, later, reasons)


def _filled(column: pa.Array) -> pa.Array:
    """0 in place of nulls; the column itself, and no copy, where there are none."""
    return column.fill_null(0) if column.null_count else column


def _containing(words: pa.Array, part: str) -> NDArray[np.bool_]:
    found = pc.match_substring(words, part).to_numpy(zero_copy_only=False)
    return np.asarray(found, dtype=np.bool_)
