"""The store: everything the product keeps, in one database."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from anomaly.store import schema
from anomaly.store.audit import AuditRows
from anomaly.store.database import Database
from anomaly.store.erasing import Erasing
from anomaly.store.feedback import Feedback
from anomaly.store.figures import Figures
from anomaly.store.flags import Flags
from anomaly.store.inbox import Rejects, Requests
from anomaly.store.late import Changes, Late
from anomaly.store.lease import Leases
from anomaly.store.ledger import Ledger
from anomaly.store.models import Models
from anomaly.store.notifications import Notifications
from anomaly.store.observations import Observations
from anomaly.store.people import Cohorts, Events, Users
from anomaly.store.pseudonyms import Pseudonyms
from anomaly.store.publishing import Shards, publish
from anomaly.store.retention import Retention
from anomaly.store.secrets import Secrets
from anomaly.store.states import States
from anomaly.store.suppressions import Suppressions
from anomaly.store.tokens import Tokens

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from sqlalchemy.engine import Engine

    from anomaly.ports import Observations as AnyObservations
    from anomaly.ports import PlacedObservations
    from anomaly.records import Band, Flag, UserMonth
    from anomaly.store.entities import Run, Token

NOTHING: Mapping[str, Band] = MappingProxyType({})


class Store:
    """One database's tables, by what they are for. Every method raises SourceError if it fails."""

    def __init__(self, engine: Engine, retries: int = 5) -> None:
        self._database = Database(engine, retries)
        self.kept = Observations(self._database)
        self._placed: tuple[PlacedObservations, int] | None = None
        self._fits = False
        self.users = Users(self._database)
        self.events = Events(self._database)
        self.cohorts = Cohorts(self._database)
        self.ledger = Ledger(self._database)
        self.lease = Leases(self._database)
        self.shards = Shards(self._database)
        self.models = Models(self._database)
        self.states = States(self._database)
        self.flags = Flags(self._database)
        self.late = Late(self._database)
        self.changes = Changes(self._database)
        self.feedback = Feedback(self._database)
        self.suppressions = Suppressions(self._database)
        self.rejects = Rejects(self._database)
        self.requests = Requests(self._database)
        self.figures = Figures(self._database)
        self.notifications = Notifications(self._database)
        self.audit = AuditRows(self._database)
        self.secrets = Secrets(self._database)
        self.tokens = Tokens(self._database)
        self.pseudonyms = Pseudonyms(self._database)
        self.erasing = Erasing(self._database)
        self.retention = Retention(self._database)

    def publish(
        self,
        run: Run,
        shard: int,
        month: str,
        flags: Sequence[Flag],
        user_months: Sequence[UserMonth],
        states: Mapping[str, bytes],
        token: Token | None,
        *,
        now: dt.datetime,
        model_version: str | None = None,
        bands: Mapping[str, Band] = NOTHING,
        error: str | None = None,
    ) -> None:
        """Write one shard of a month's results, all or nothing; again: the same rows.

        They become visible when the ledger finishes the run as complete or provisional.
        Args: states: packed, by user, kept under model_version and month; empty while provisional.
            token: the lease under which the run works; None for a run without one.
            bands: by flag_id, what each flag's plot shows. error: why some users of the shard were
            not scored; it does not count as finished then.
        Raises: BusyError if another has taken the lease; DataError for a number that is not finite.
        """
        publish(
            self._database,
            run,
            shard,
            month,
            flags,
            user_months,
            states,
            token,
            model_version=model_version,
            bands=bands,
            error=error,
            now=now,
        )

    def place(self, placed: PlacedObservations, shard_users: int) -> None:
        """Read observations from files in place, if that can be done and none are kept here."""
        self._placed, self._fits = (placed, shard_users), False

    @property
    def in_place(self) -> bool:
        """Whether observations are read from files in place; never once a user was erased, for the
        files still hold the rows.
        """
        if self._placed is None:
            return False
        if not self._fits:
            placed, shard_users = self._placed
            self._fits = not self.kept.any() and placed.fits(shard_users)
        return self._fits and not self.erasing.erased()

    @property
    def observations(self) -> AnyObservations:
        """What was observed, wherever it lies."""
        if self._placed is not None and self.in_place:
            return self._placed[0]
        return self.kept

    def check(self) -> None:
        """Make sure that the database answers and has this version's schema.

        Raises: SourceError; SchemaError if the schema is older or newer.
        """
        schema.check(self._database.engine)

    def now(self) -> dt.datetime:
        """What time it is by the database's own clock. Raises: SourceError."""
        return self._database.now()

    def close(self) -> None:
        """Close all connections."""
        self._database.engine.dispose()
