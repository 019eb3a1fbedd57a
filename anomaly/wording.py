"""Words that pages, messages and commands share."""

from __future__ import annotations


def counted(amount: int, noun: str) -> str:
    """How many of something: 1 flag, 2,400 flags."""
    return f"{amount:,} {noun}{'' if amount == 1 else 's'}"
