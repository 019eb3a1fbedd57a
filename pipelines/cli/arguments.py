"""What is typed, as what is meant."""

from __future__ import annotations

import datetime as dt
import difflib
from pathlib import Path
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence


def instant_of(option: str, text: str | None, timezone: str) -> dt.datetime | None:
    """Read a date or time in ISO 8601; without an offset it is in the given zone.

    Raises: UsageError if it is written otherwise.
    """
    from anomaly.months import zone

    if text is None:
        return None
    try:
        instant = dt.datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"{option} {text!r} is no time. Write 2026-03-01 or 2026-03-01T00:00:00+00:00."
        ) from error
    local = instant if instant.tzinfo else instant.replace(tzinfo=zone(timezone))
    return local.astimezone(dt.UTC)


def one_of(option: str, value: str | None, known: Sequence[str]) -> str | None:
    """Refuse a word that is not known.

    Raises: UsageError with the nearest one.
    """
    if value is None or value in known:
        return value
    near = difflib.get_close_matches(value, known, n=1)
    hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(known)}."
    raise UsageError(f"{option} {value!r} is not known. {hint}")


def users_of(text: str | None) -> tuple[str, ...]:
    """Users separated by commas, or, after an @, one a line in a file.

    Raises: UsageError if the file cannot be read.
    """
    if text is None:
        return ()
    if not text.startswith("@"):
        return tuple(filter(None, (part.strip() for part in text.split(","))))
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--users {text}: the file cannot be read ({error}).") from error
    return tuple(filter(None, (line.strip() for line in lines)))
