"""Words that pages, messages and commands share."""

from __future__ import annotations


def counted(amount: int, noun: str) -> str:
    """How many of something: 1 flag, 2,400 flags."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"


def never_run(month: object) -> str:
    """That nothing of a month is published, and what to do."""
    return f"{month}: was not run. Run it first: anomaly run --month {month}"
