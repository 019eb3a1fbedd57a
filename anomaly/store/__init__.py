"""What the product keeps, in SQLite or PostgreSQL, and where models' files lie.

`open_engine` connects, `schema` makes and checks the tables, `Store` reads and writes them.
"""

from anomaly.ports import FlagFilter
from anomaly.store import schema
from anomaly.store.engine import open_engine
from anomaly.store.entities import (
    EXPORT_COLUMNS,
    AccessToken,
    ChangeRow,
    Consequence,
    EventEntry,
    EventRow,
    FeedbackRow,
    FlagRow,
    Lease,
    ModelRow,
    Moved,
    RejectRow,
    Request,
    Run,
    Stage,
    SuppressionRow,
    Token,
    Totals,
    UserMonthRow,
    UserRow,
    Written,
)
from anomaly.store.secrets import Sealed
from anomaly.store.store import Store

__all__ = [
    "EXPORT_COLUMNS",
    "AccessToken",
    "ChangeRow",
    "Consequence",
    "EventEntry",
    "EventRow",
    "FeedbackRow",
    "FlagFilter",
    "FlagRow",
    "Lease",
    "ModelRow",
    "Moved",
    "RejectRow",
    "Request",
    "Run",
    "Sealed",
    "Stage",
    "Store",
    "SuppressionRow",
    "Token",
    "Totals",
    "UserMonthRow",
    "UserRow",
    "Written",
    "open_engine",
    "schema",
]
