"""Tokens and log-ons: kept as hashes, with a role and an end.

A secret holds 256 random bits, so a plain sha256 says nothing of it and cannot be searched through,
as a password's could.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import secrets
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from anomaly.exceptions import SourceError, UsageError
from anomaly.roles import Role
from anomaly.store.database import row_values
from anomaly.store.entities import AccessToken
from anomaly.store.tables import tokens

if TYPE_CHECKING:
    from anomaly.store.database import Database

PREFIX = "anomaly_"  # so that scanners for leaked secrets know what they found
SECRET_BYTES = 32
LONGEST_NAME = 200  # characters; a provider of identities may send any
USE_IS_NOTED_EVERY = dt.timedelta(minutes=1)
ENDED_SESSIONS_ARE_KEPT = dt.timedelta(days=30)
_PUBLIC = [column for column in tokens.c if column.name != "sha256"]


class Tokens:
    """Who may come in."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def create(
        self, name: str, role: Role, author: str, now: dt.datetime, expires_at: dt.datetime
    ) -> tuple[AccessToken, str]:
        """Make a token. Its secret is given once, here.

        Raises: UsageError if the name is empty or too long, or the end has passed.
        """
        if not name.strip() or len(name) > LONGEST_NAME or not name.isprintable():
            raise UsageError(
                f"token name {name!r}: give 1 to {LONGEST_NAME} printable characters, such as the "
                "person or program that will hold it."
            )
        if expires_at <= now:
            raise UsageError(f"a token that ends on {expires_at:%Y-%m-%d %H:%M} would open nothing")
        secret = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
        values = _values("token", name, role, author, now, expires_at, secret)
        made = sa.insert(tokens).values(values).returning(*_PUBLIC)
        return _token(self._database.write(lambda c: c.execute(made).one())), secret

    def adopt(self, secret: str, name: str, now: dt.datetime, expires_at: dt.datetime) -> None:
        """Let a secret of somebody's own making be an administrator's token until an end.

        One that is known already gets the new end; one that was revoked stays so.
        """
        values = _values("token", name, Role.ADMINISTRATOR, "settings", now, expires_at, secret)
        made = self._database.insert(tokens).values(values)
        made = made.on_conflict_do_update(
            index_elements=[tokens.c.sha256], set_={"expires_at": expires_at}
        )
        self._database.write(lambda c: c.execute(made))

    def open_session(
        self,
        name: str,
        role: Role,
        author: str,
        now: dt.datetime,
        expires_at: dt.datetime,
        parent: int | None = None,
    ) -> str:
        """Let somebody in and give the session's secret; sessions that ended long ago are removed."""
        secret = secrets.token_urlsafe(SECRET_BYTES)
        values = _values("session", name[:LONGEST_NAME], role, author, now, expires_at, secret)
        opened = sa.insert(tokens).values(**values, parent=parent)
        old = sa.delete(tokens).where(
            tokens.c.kind == "session", tokens.c.expires_at < now - ENDED_SESSIONS_ARE_KEPT
        )

        def work(connection: sa.Connection) -> None:
            connection.execute(old)
            connection.execute(opened)

        self._database.write(work)
        return secret

    def find(self, secret: str, kind: str, now: dt.datetime) -> AccessToken | None:
        """The token or session of this secret, if it is neither expired nor revoked.

        Its use is noted to the minute; a database that cannot be written does not lock readers out.
        """
        query = sa.select(*_PUBLIC).where(
            tokens.c.sha256 == _sha256(secret),
            tokens.c.kind == kind,
            tokens.c.revoked_at.is_(None),
            tokens.c.expires_at > now,
        )
        row = self._database.read(lambda c: c.execute(query).one_or_none())
        if row is None:
            return None
        found = _token(row)
        if found.last_used_at is None or now - found.last_used_at >= USE_IS_NOTED_EVERY:
            self._note_use(found.id, now)
        return found

    def revoke(self, token_id: int, now: dt.datetime) -> bool:
        """End a token, or a session, and the sessions it opened. False if it was not valid."""
        ended = sa.update(tokens).where(
            (tokens.c.id == token_id) | (tokens.c.parent == token_id),
            tokens.c.revoked_at.is_(None),
            tokens.c.expires_at > now,
        )
        ended = ended.values(revoked_at=now).returning(tokens.c.id)
        return token_id in self._database.write(lambda c: c.scalars(ended).all())

    def everyone(self) -> list[AccessToken]:
        """All tokens and sessions, the oldest first."""
        query = sa.select(*_PUBLIC).order_by(tokens.c.id)
        return [_token(row) for row in self._database.read(lambda c: c.execute(query).all())]

    def ever_made(self) -> bool:
        """Whether a token was ever made, valid or not."""
        made = sa.select(sa.exists().where(tokens.c.kind == "token"))
        return bool(self._database.read(lambda c: c.scalar(made)))

    def opens(self, now: dt.datetime) -> bool:
        """Whether some token is valid, so that somebody can log on with it."""
        valid = sa.select(
            sa.exists().where(
                tokens.c.kind == "token",
                tokens.c.revoked_at.is_(None),
                tokens.c.expires_at > now,
            )
        )
        return bool(self._database.read(lambda c: c.scalar(valid)))

    def _note_use(self, token_id: int, now: dt.datetime) -> None:
        used = sa.update(tokens).where(tokens.c.id == token_id).values(last_used_at=now)
        try:
            self._database.write(lambda c: c.execute(used))
        except SourceError:
            return


def _values(
    kind: str,
    name: str,
    role: Role,
    author: str,
    now: dt.datetime,
    expires_at: dt.datetime,
    secret: str,
) -> dict[str, object]:
    return {
        "kind": kind,
        "name": name,
        "role": str(role),
        "author": author,
        "created_at": now,
        "expires_at": expires_at,
        "sha256": _sha256(secret),
    }


def _token(row: sa.Row[Any]) -> AccessToken:
    values = row_values(row)
    return AccessToken(**{**values, "role": Role(values["role"])})


def _sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
