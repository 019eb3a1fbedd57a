"""What reading gives: clean rows, and every row that was set aside with its reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from anomaly.exceptions import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

CURE = "Mend the rows, name the right columns"
CURES = {
    "unreadable_time": "Times are read as ISO 8601 (2026-01-31, 2026-01-31 08:00, 2026-01-31T08:00:00+01:00) or as "
    "seconds to nanoseconds since 1970: convert the column, or name the right one",
    "contradicting_duplicate": "Rows of one user, metric and time contradict each other: name the columns "
    "that tell users and metrics apart (user_id=…, metric=…), mend the rows",
}
LONGEST_TEXT = 200  # characters of a bad row that are kept


@dataclass(frozen=True, slots=True)
class Reject:
    """A row that was set aside.

    location: 'oct.csv row 1841' (a CSV's header is row 1). reason: one of anomaly.rows.REASONS.
    text: the row as it was, shortened.
    """

    location: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class Batch:
    """Some of a source's rows, within the memory of one block.

    table: the good ones, columns as in anomaly.rows.SCHEMA, none of them twice.
    joined: rows equal to an earlier one, which says the same.
    erased: rows of users who were erased, left out.
    passed: columns of the file that were passed over.
    """

    table: pa.Table
    rejects: list[Reject]
    joined: int = 0
    erased: int = 0
    passed: tuple[str, ...] = ()

    @property
    def read(self) -> int:
        """Rows read: good, bad, joined and left out."""
        return len(self.table) + len(self.rejects) + self.joined + self.erased


@dataclass(slots=True)
class Tally:
    """Counts over all batches of a source, and the refusal of one that has too many bad rows.

    passed: columns of its files that were passed over.
    """

    read: int = 0
    joined: int = 0
    erased: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    passed: set[str] = field(default_factory=set)
    first: Reject | None = None

    @property
    def rejected(self) -> int:
        """Rows set aside."""
        return self.reasons.total()

    def add(self, batch: Batch) -> None:
        """Count a batch."""
        self.erased += batch.erased
        self.passed.update(batch.passed)
        self.count(batch.read, batch.rejects, batch.joined)

    def count(self, read: int, rejects: Sequence[Reject], joined: int) -> None:
        """Count rows of which some were set aside and some were equal to an earlier one."""
        self.read += read
        self.joined += joined
        self.reasons.update(reject.reason for reject in rejects)
        if self.first is None and rejects:
            self.first = rejects[0]

    def refuse_beyond(self, share: float, name: str) -> None:
        """Refuse the source if more than this share of its rows was set aside.

        Raises: DataError with the counts by reason and the first bad row.
        """
        if self.first is None or self.rejected <= share * self.read:
            return
        counts = ", ".join(f"{reason}: {count}" for reason, count in self.reasons.most_common())
        ((most, _),) = self.reasons.most_common(1)
        raise DataError(
            f"{name}: {self.rejected} of {self.read} rows are bad ({counts}), more than the "
            f"{share:.1%} that [source] max_rejected allows. The first is {self.first.location}: "
            f"{self.first.text!r} ({self.first.reason}). {CURES.get(most, CURE)}, or raise max_rejected."
        )
