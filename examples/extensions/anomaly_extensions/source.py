"""A source: a log of doors, one line for each opening, counted by the hour."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from anomaly.exceptions import SourceError


class DoorLog:
    """Reads lines such as '2026-03-01T08:15:00+00:00 east u07'. Made from [source] options."""

    def __init__(self, path: str) -> None:
        self.path = Path(path)

    def read(self, since: dt.datetime | None, until: dt.datetime, step: int) -> Iterator[pa.Table]:
        """One table; openings are counted by user and step."""
        try:
            lines = self.path.read_text().splitlines()
        except OSError as error:
            raise SourceError(f"{self.path}: cannot be read ({error.strerror}).") from error
        counts: Counter[tuple[str, int]] = Counter()
        for line in lines:
            at, _, user = line.split()
            when = dt.datetime.fromisoformat(at)
            if (since is None or when >= since) and when < until:
                counts[user, int(when.timestamp()) // step * step] += 1
        yield pa.table(
            {
                "user_id": [user for user, _ in counts],
                "metric": ["doors"] * len(counts),
                "observed_at": pa.array([at for _, at in counts], pa.timestamp("s", "UTC")),
                "value": pa.array(list(counts.values()), pa.float64()),
            }
        )
