"""Lists in an order that can be gone on with from any row: a page costs no more for being deep."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

Key = tuple[sa.ColumnElement[Any], bool]  # what is sorted by, and whether the highest comes first


def in_order(
    query: sa.Select[Any], keys: Sequence[Key], after: Sequence[Any] | None
) -> sa.Select[Any]:
    """The rows by these keys, which together tell any two apart; only those behind a row.

    Args: after: that row's value of each key.
    """
    if after is not None:
        behind: sa.ColumnElement[bool] = sa.false()
        for (column, falling), value in reversed([*zip(keys, after, strict=True)]):
            beyond = column < value if falling else column > value
            behind = beyond | ((column == value) & behind)
        query = query.where(behind)
    return query.order_by(*(column.desc() if falling else column for column, falling in keys))


def direction(sort: str, known: Iterable[str]) -> tuple[str, bool]:
    """The column of `score` or `-score`, and whether the highest comes first.

    Raises: UsageError if no list is sorted by it.
    """
    name = sort.removeprefix("-")
    if name not in known:
        raise UsageError(
            f"sort: {sort[:40]!r} is no column to sort by. Use one of {', '.join(known)}, with a - "
            "before it for the highest first."
        )
    return name, sort != name
