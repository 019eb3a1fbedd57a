"""Which of a table's columns mean what."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.exceptions import DataError, UsageError
from anomaly.rows import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALIASES = {"observed_at": ("observed_at", "timestamp")}
PLAIN_METRIC = "value"  # the metric of a table that names none
EVENTS_METRIC = "events"  # and of a table of events


@dataclass(frozen=True, slots=True)
class Layout:
    """Column names by meaning; None where the table has no such column.

    values: one column of a long table, one for each metric of a wide one, none of plain events.
    default_user, default_metric: what stands in for a missing column.
    """

    user_id: str | None
    metric: str | None
    observed_at: str
    values: tuple[str, ...]
    wide: bool
    default_user: str
    default_metric: str

    @property
    def columns(self) -> list[str]:
        """Every column that is read."""
        named = (self.user_id, self.metric, self.observed_at, *self.values)
        return [name for name in named if name is not None]


def parse_columns(text: str) -> dict[str, str]:
    """Read user_id=who,observed_at=when into a mapping from our names to the table's.

    Raises: UsageError if it is written otherwise or names a column we do not have.
    """
    pairs = [part.partition("=") for part in text.split(",") if part.strip()]
    mapping = {name.strip(): column.strip() for name, _, column in pairs}
    if not all(mapping.values()) or len(mapping) < len(pairs):
        raise UsageError(f"columns {text!r}: write user_id=…,metric=…,observed_at=…,value=….")
    _refuse_unknown(mapping)
    return mapping


def find_layout(
    source: str,
    present: Sequence[str],
    columns: Mapping[str, str] | None,
    metric: str | None,
    user: str,
    *,
    events: bool = False,
) -> Layout:
    """Tell a table's columns apart.

    With user_id, metric, observed_at, value it is long; without `metric` and with `value`, one
    metric; without both, wide: every other column is a metric. `timestamp` stands for observed_at.

    Args: source: its name, for messages. present: its columns. columns: our names to its own.
        metric, user: what a table without such a column is about. events: rows are events, which
            have no value unless `columns` maps one.
    Raises: DataError if a column is missing or there twice, naming it and what is there.
    """
    mapping = dict(columns or {})
    _refuse_unknown(mapping)
    _refuse_doubled(source, present)
    for ours, theirs in mapping.items():
        if theirs not in present:
            raise _missing(source, theirs, present, ours)
    found = {ours: mapping.get(ours) or _alias(ours, present) for ours in COLUMNS}
    time = found["observed_at"]
    if time is None:
        raise _missing(source, "observed_at", present, "observed_at")
    if events:
        counted = (mapping["value"],) if "value" in mapping else ()
        name = metric or EVENTS_METRIC
        return Layout(found["user_id"], found["metric"], time, counted, False, user, name)
    value = found["value"]
    if value is None and found["metric"] is not None:
        raise _missing(source, "value", present, "value")
    wide = value is None
    others = tuple(name for name in present if name not in (found["user_id"], time))
    if wide and not others:
        raise _missing(source, "value", present, "value")
    return Layout(
        found["user_id"],
        found["metric"],
        time,
        others if value is None else (value,),
        wide,
        user,
        metric or PLAIN_METRIC,
    )


def _alias(ours: str, present: Sequence[str]) -> str | None:
    return next((name for name in ALIASES.get(ours, (ours,)) if name in present), None)


def _refuse_unknown(mapping: Mapping[str, str]) -> None:
    unknown = [name for name in mapping if name not in COLUMNS]
    if unknown:
        raise UsageError(
            f"columns: there is no {unknown[0]!r} to map. Map {', '.join(COLUMNS)} to columns."
        )


def _refuse_doubled(source: str, present: Sequence[str]) -> None:
    doubled = sorted(name for name, times in Counter(present).items() if times > 1)
    if doubled:
        raise DataError(f"{source}: column {doubled[0]!r} is there twice. Rename one of them.")


def _missing(source: str, column: str, present: Sequence[str], ours: str) -> DataError:
    shown = ", ".join(present[:20]) + (", …" if len(present) > 20 else "")
    return DataError(
        f"{source}: there is no column {column!r}, only {shown}. Rename one, or map it: "
        f"--columns {ours}=…, or columns in [source]."
    )
