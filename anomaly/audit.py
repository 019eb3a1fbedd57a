"""The audit's chain: each row's digest covers the row and the digest before it.

A digest is keyed, so whoever alters a row cannot make the chain fit again without the secret. The
head says how many rows there are; without it the last ones could be cut off unseen.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from anomaly.secrecy import Secret

PURPOSE = "audit"
PEOPLE = ("user",)  # kinds of subjects that are people; their names are hashed
BEGINNING = ""  # the digest before the first row
MOST_FINDINGS = 20


@dataclass(frozen=True, slots=True)
class Entry:
    """One row. actor: a keyed hash. subject: KIND:NAME, the name of a person a keyed hash."""

    id: int
    happened_at: dt.datetime
    actor: str
    action: str
    subject: str
    reason: str
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Head:
    """Where the chain ends: the number of rows, the last digest, and a seal over both."""

    rows: int
    digest: str
    seal: str


def actor_hash(secret: Secret, name: str) -> str:
    """How the audit calls who acted."""
    return secret.hashed(PURPOSE, f"actor:{name}")


def subject_hash(secret: Secret, subject: str) -> str:
    """How the audit calls what was acted on: KIND:NAME, with a keyed hash for a person's name."""
    kind, _, name = subject.partition(":")
    return f"{kind}:{secret.hashed(PURPOSE, subject)}" if kind in PEOPLE and name else subject


def link(secret: Secret, before: str, entry: Entry) -> str:
    """The digest of a row that follows the one with the digest `before`."""
    moment = entry.happened_at.isoformat()
    parts = [before, moment, entry.actor, entry.action, entry.subject, entry.reason]
    return secret.digest(PURPOSE, json.dumps(parts))


def head_of(secret: Secret, rows: int, digest: str) -> Head:
    """The sealed head of a chain."""
    return Head(rows, digest, secret.digest(PURPOSE, f"head:{rows}:{digest}"))


def findings(secret: Secret, entries: Sequence[Entry], head: Head | None) -> list[str]:
    """What is wrong with a chain, one sentence each; none if nothing is.

    Args: entries: all rows, by id.
    """
    homes = {BEGINNING: 0, **{entry.digest: entry.id for entry in entries}}
    found: list[str] = []
    before, last = BEGINNING, 0
    for entry in entries:
        if entry.id > last + 1:
            found.append(_removed(last + 1, entry.id - 1))
        elif entry.digest != link(secret, before, entry):
            found.append(_broken(secret, entry, homes))
        before, last = entry.digest, entry.id
        if len(found) >= MOST_FINDINGS:
            return [*found, "and perhaps more: the rest was not looked at"]
    return found + _head_findings(secret, head, last, before)


def _broken(secret: Secret, entry: Entry, homes: Mapping[str, int]) -> str:
    for digest, row in homes.items():
        if entry.digest == link(secret, digest, entry):
            return f"row {entry.id} was moved: it belongs after row {row}"
    return f"row {entry.id} was altered, or rows before it were removed and the rest renumbered"


def _removed(first: int, last: int) -> str:
    return f"row {first} was removed" if first == last else f"rows {first} to {last} were removed"


def _head_findings(secret: Secret, head: Head | None, rows: int, digest: str) -> list[str]:
    if head is None:
        return [f"the head of the chain was removed; it had at least {rows} rows"] if rows else []
    if head != head_of(secret, head.rows, head.digest):
        return ["the head of the chain was altered"]
    if head.rows > rows:
        return [_removed(rows + 1, head.rows)]
    if (head.rows, head.digest) != (rows, digest):
        return [f"row {rows} is not the one that the head of the chain ends with"]
    return []
