"""Which of some runs ended last.

A run's number does not say: the run that closes a month has that of the plan made as it began.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from anomaly.store.tables import runs


def ended_last(query: sa.Select[Any], *alike: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Of the query's runs that are alike in these columns, those that ended last, one of each kind."""
    order = (runs.c.finished_at.desc(), runs.c.id.desc())
    place = sa.func.row_number().over(partition_by=alike, order_by=order).label("place")
    placed = query.add_columns(place).subquery()
    return sa.select(*placed.c[:-1]).where(placed.c.place == 1)
