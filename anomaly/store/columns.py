"""Column types that mean the same on SQLite and PostgreSQL.

| type | SQLite (strict tables) | PostgreSQL |
|---|---|---|
| Name, Words | TEXT, compared byte by byte | text COLLATE "C", the same order |
| Instant | TEXT, ISO 8601 with +00:00; sorts by time | timestamptz |
| Day | TEXT, ISO 8601 | date |
| Number | REAL, an IEEE double | double precision |
| Flagged | INTEGER, 0 or 1 | boolean |
| Mapping | TEXT, JSON with sorted keys | text |
"""

from __future__ import annotations

import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeDecorator, TypeEngine

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect

# The largest magnitude a Number column accepts: NaN and infinity are not between these on either
# database (PostgreSQL holds NaN to be larger than anything, SQLite stores it as NULL).
LARGEST = 1.797e308


class Instant(TypeDecorator[dt.datetime]):
    """An aware datetime, in and out as UTC."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, timestamptz elsewhere."""
        if dialect.name == "sqlite":
            return dialect.type_descriptor(sa.Text())
        return dialect.type_descriptor(postgresql.TIMESTAMP(timezone=True))

    def process_bind_param(self, value: dt.datetime | None, dialect: Dialect) -> Any:
        """As UTC; as text on SQLite."""
        if value is None:
            return None
        return instant_text(value) if dialect.name == "sqlite" else value.astimezone(dt.UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.datetime | None:
        """As an aware datetime in UTC."""
        if value is None:
            return None
        moment = dt.datetime.fromisoformat(value) if dialect.name == "sqlite" else value
        return moment.astimezone(dt.UTC)


class Day(TypeDecorator[dt.date]):
    """A calendar day without a zone."""

    impl = sa.Date
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        """Text on SQLite, date elsewhere."""
        kind = sa.Text() if dialect.name == "sqlite" else sa.Date()
        return dialect.type_descriptor(kind)

    def process_bind_param(self, value: dt.date | None, dialect: Dialect) -> Any:
        """As text on SQLite."""
        return value.isoformat() if value is not None and dialect.name == "sqlite" else value

    def process_result_value(self, value: Any, dialect: Dialect) -> dt.date | None:
        """As a date."""
        del dialect  # what came back says which it is
        return dt.date.fromisoformat(value) if isinstance(value, str) else value


class Mapping(TypeDecorator[dict[str, int]]):
    """Counts by word, as JSON text."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str:
        """As JSON with sorted keys, so that equal counts are equal text."""
        del dialect
        return json.dumps({} if value is None else dict(value), sort_keys=True)

    def process_result_value(self, value: Any, dialect: Dialect) -> dict[str, int]:
        """As a dictionary."""
        del dialect
        return dict(json.loads(value))


Name = sa.Text().with_variant(postgresql.TEXT(collation="C"), "postgresql")
Words = Name
Number: TypeEngine[float] = sa.Double().with_variant(sqlite.REAL(), "sqlite")
Whole = sa.BigInteger().with_variant(sqlite.INTEGER(), "sqlite")
Flagged = sa.Boolean(create_constraint=False).with_variant(sqlite.INTEGER(), "sqlite")
Bytes = sa.LargeBinary()


def instant_text(value: dt.datetime) -> str:
    """How SQLite keeps an instant: 2026-03-12T01:00:00+00:00, sorted as text by time.

    A fraction of a second follows only where there is one; "+" sorts before ".".
    """
    return value.astimezone(dt.UTC).isoformat()
