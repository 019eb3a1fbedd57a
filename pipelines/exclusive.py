"""One job at a time on a database: a lease that is renewed while its holder lives."""

from __future__ import annotations

import datetime as dt
import threading
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError, BusyError
from anomaly.months import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.store import Token
    from pipelines.services import Services

JOBS = "jobs"  # the lease that ingest, train and month share: each writes what the others read
POLL_SECONDS = 1.0
RENEWALS_PER_LEASE = 3


@dataclass(slots=True)
class Holding:
    """The lease this process holds. token: proves it to the store."""

    token: Token
    lost: threading.Event = field(default_factory=threading.Event)

    def check(self) -> None:
        """Raise BusyError if another process has taken the lease over."""
        if self.lost.is_set():
            raise BusyError(
                "this run was silent for longer than [run] lease and another process took it "
                "over. Its results stand; nothing more is written here."
            )


@contextmanager
def exclusive(services: Services, name: str = JOBS) -> Iterator[Holding]:
    """Hold the lease on this work; a dead holder's is waited out and taken over.

    Raises: BusyError if its holder is alive.
    """
    ttl = parse_duration(services.settings.run.lease)
    holding = Holding(_acquire(services, name, ttl))
    ended = threading.Event()
    renewal = threading.Thread(
        target=_renew, args=(services, name, ttl, holding, ended), name="lease", daemon=True
    )
    renewal.start()
    try:
        yield holding
    finally:
        ended.set()
        renewal.join()
        services.store.lease.release(name, services.holder, holding.token)


def _acquire(services: Services, name: str, ttl: dt.timedelta) -> Token:
    """Take the lease. While it is another's, a later expiry than first seen proves a live holder."""
    lease = services.store.lease
    seen = lease.holder(name)
    while True:
        token = lease.acquire(name, services.holder, ttl, services.clock())
        if token is not None:
            return token
        current = lease.holder(name)
        if current is not None and seen is not None and current != seen:
            raise BusyError(
                f"{current.holder} is working on this database. Wait until it has ended; "
                f"a dead process's lease ends {services.settings.run.lease} after its last sign."
            )
        seen = seen or current
        services.sleep(POLL_SECONDS)


def _renew(
    services: Services, name: str, ttl: dt.timedelta, holding: Holding, ended: threading.Event
) -> None:
    log = structlog.get_logger()
    while not ended.wait(ttl.total_seconds() / RENEWALS_PER_LEASE):
        try:
            kept = services.store.lease.renew(
                name, services.holder, holding.token, ttl, services.clock()
            )
        except AnomalyError as error:
            # The database may come back before the lease ends; publishing checks the token anyway.
            log.warning("lease_renewal_failed", error=str(error))
            continue
        if not kept:
            holding.lost.set()
            return
