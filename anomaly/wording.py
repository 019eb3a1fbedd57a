"""Words that pages, messages and commands share."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def counted(amount: int, noun: str) -> str:
    """How many of something: 1 flag, 2,400 flags."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def listed(names: Sequence[str], most: int = 5) -> str:
    """The first of some names; dots where there are more: ann, bob, ..."""
    return ", ".join(names[:most]) + (", ..." if len(names) > most else "")


def never_run(month: object) -> str:
    """That nothing of a month is published, and what to do."""
    return f"{month}: was not run. Run it first: anomaly run --month {month}"


def score(value: float) -> str:
    """A score to two decimals; 0.999 stays below the boundary at 1.00."""
    return f"{_down(value, 100):.2f}"


def percent(percentile: float) -> str:
    """A percentile, never rounded up to a certainty: 99.96 is '99.9 %'."""
    if not math.isfinite(percentile):
        return "unknown"
    return f"{_down(percentile, 10):g} %"


def share(value: float | None) -> str:
    """A share of one as a percentage, never rounded up to a certainty."""
    return "unknown" if value is None else percent(100 * value)


def _down(value: float, parts: int) -> float:
    """The value cut to so many parts of one. Rounded first: 1.15 * 100 is 114.99999999999999."""
    return math.floor(round(value * parts, 6)) / parts
