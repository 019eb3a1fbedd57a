"""The audit as commands and the page use it: who did what, to what, why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.audit import PEOPLE, Entry, actor_hash, findings, subject_hash
from anomaly.exceptions import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.secrecy import Secret
    from anomaly.settings import Settings
    from anomaly.store import Store
    from pipelines.services import Clock

SHORTEST_NAME = 3  # letters; shorter ones are found in any sentence


@dataclass(frozen=True, slots=True)
class Trail:
    """Writes and reads the audit of one database."""

    settings: Settings
    store: Store
    clock: Clock

    def record(self, actor: str, action: str, subject: str, reason: str = "") -> None:
        """Add a row.

        Args: actor: who acts; kept as a keyed hash. action: dotted words, such as user.reveal.
            subject: KIND:NAME, such as user:ann, month:2026-03 or token:7; a user's name is kept
            as a keyed hash. reason: kept as it is.
        Raises: UsageError if the reason names the user; SettingsError, SourceError.
        """
        self.store.audit.append(self.secret(), self.entry(actor, action, subject, reason))

    def entry(self, actor: str, action: str, subject: str, reason: str) -> Entry:
        """The row that `record` would add, for a transaction that adds it itself.

        Raises: UsageError if the reason names the user.
        """
        refuse_name(subject, reason)
        secret = self.secret()
        hashes = actor_hash(secret, actor), subject_hash(secret, subject)
        return Entry(0, self.clock(), hashes[0], action, hashes[1], reason)

    def findings(self, expected: str | None = None) -> tuple[int, str, Sequence[str]]:
        """How many rows there are, the last digest, and what is wrong with the chain.

        Args: expected: the digest that was the last one at an earlier time.
        """
        entries, head = self.store.audit.read(), self.store.audit.head()
        found = findings(self.secret(), entries, head)
        if expected is not None and expected not in {entry.digest for entry in entries}:
            found.append(f"no row has the digest {expected} that was expected: rows were replaced")
        return len(entries), entries[-1].digest if entries else "", found

    def rows(self, actor: str | None = None, subject: str | None = None) -> list[Entry]:
        """Rows by whom and of what was named, by hashing the names."""
        secret = self.secret()
        who = None if actor is None else actor_hash(secret, actor)
        what = None if subject is None else subject_hash(secret, subject)
        return [
            entry
            for entry in self.store.audit.read()
            if who in (None, entry.actor) and what in (None, entry.subject)
        ]

    def secret(self) -> Secret:
        """The database's secret."""
        # It brings cryptography along, a wait for those who only look at flags.
        from pipelines.keys import open_secret

        return open_secret(self.settings, self.store, self.clock())


def refuse_name(subject: str, reason: str) -> None:
    """A reason is kept for ever and must not say what the audit hides.

    Raises: UsageError.
    """
    kind, _, name = subject.partition(":")
    if kind in PEOPLE and len(name) >= SHORTEST_NAME and name.casefold() in reason.casefold():
        raise UsageError(
            "--reason names the user, and the audit keeps it for ever. Name a ticket instead."
        )
