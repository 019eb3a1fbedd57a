"""Forgets a user, and opens a pseudonym: each with a reason and a row in the audit."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from anomaly.store.observations import LATEST
from pipelines.exclusive import exclusive
from pipelines.services import place
from pipelines.trail import refuse_name

if TYPE_CHECKING:
    from anomaly.secrecy import Secret
    from pipelines.services import Services

SWEEPS = 5  # a page that is being shown holds the log for a moment
SWEEP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Erased:
    """rows: how many went, by table. swept: whether the database's file and log are rewritten."""

    rows: Mapping[str, int]
    swept: bool


def erase_user(
    services: Services, actor: str, name: str, reason: str, *, keep_out: bool = False
) -> Erased:
    """Remove a user, given by name or as flags show it, from every table and from the file.

    Args: keep_out: rows observed later do not come in either.
    Raises: UsageError if nobody is called so, or the reason is empty or names the user; BusyError.
    """
    require(reason)
    secret = services.audit.secret()
    store = services.store
    with exclusive(services):
        user = known_user(services, secret, name)
        called = name_behind(services, secret, user)
        for each in {name, called or user}:
            refuse_name(f"user:{each}", reason)
        now = services.clock()
        rows = store.erasing.erase(
            user,
            {user, name, *([called] if called else [])},
            secret.person(user),
            LATEST if keep_out else now,
            secret,
            services.audit.entry(actor, "user.erase", f"user:{user}", reason),
        )
        placed = place(services.settings, store, services.artefacts.folder, services.clock)
        if placed is not None:
            placed.forget()
        return Erased(rows, swept(services))


def swept(services: Services) -> bool:
    """Rewrite the file, a few times where somebody reads it meanwhile."""
    for attempt in range(SWEEPS):
        if services.store.erasing.sweep():
            return True
        if attempt + 1 < SWEEPS:
            time.sleep(SWEEP_SECONDS)
    return False


def known_user(services: Services, secret: Secret, name: str) -> str:
    """The user_id of a name or of a pseudonym.

    Raises: UsageError if no table knows either.
    """
    candidates = [name]
    if services.settings.privacy.pseudonymise:
        candidates.append(secret.pseudonym(name))
    for user in candidates:
        if services.store.erasing.known(user):
            return user
    raise UsageError(f"--user {name[:40]!r}: no table holds this user. See: anomaly users list")


def name_behind(services: Services, secret: Secret, user: str) -> str | None:
    """The name of a pseudonym; None where none is kept."""
    sealed = services.store.pseudonyms.read(user)
    return None if sealed is None else secret.names().decrypt(sealed).decode()


def reveal_user(services: Services, actor: str, pseudonym: str, reason: str) -> str:
    """The name behind a pseudonym; the audit's row is written before it is said.

    Raises: UsageError if there is none, or the reason is empty or says the name.
    """
    require(reason)
    name = name_behind(services, services.audit.secret(), pseudonym)
    if name is None:
        raise UsageError(
            f"{pseudonym[:40]!r} is no pseudonym of this database. Give user_id as flags show it."
        )
    refuse_name(f"user:{name}", reason)
    services.audit.record(actor, "user.reveal", f"user:{pseudonym}", reason)
    return name


def require(reason: str) -> None:
    """Refuse to act without a reason.

    Raises: UsageError.
    """
    if not reason.strip():
        raise UsageError("--reason is empty. Say why, such as the number of a ticket.")
