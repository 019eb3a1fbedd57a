"""What a message says. Values in, plain text out.

Users are named as flags name them: where names are replaced as they are read, by their pseudonyms.
"""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

from anomaly.months import Month, zone
from anomaly.records import SEVERITIES
from anomaly.wording import counted

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Mapping, Sequence

    from anomaly.records import Flag

SHOWN_FLAGS = 10  # a message is read on a phone; the page has the rest
LONGEST_NAME = 80
BRACKETS = str.maketrans("<>", "()")  # chats read <!here> or <https://…> as commands


@dataclass(frozen=True, slots=True)
class Message:
    """Plain text."""

    title: str
    body: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where the reader is: the address of the page, if there is one, and the zone of all times."""

    page: str | None
    timezone: str


@dataclass(frozen=True, slots=True)
class Digest:
    """A complete month, as its page shows it. flags: the highest score first; suppressed: how many
    others there are.
    """

    month: str
    flags: Sequence[Flag]
    users_scored: int
    users_skipped: Mapping[str, int]
    corrected: bool
    suppressed: int = 0


def digest(month: Digest, place: Place) -> Message:
    """Say what a month came to, and whom to look at first."""
    name = f"{Month.parse(month.month).start('UTC'):%B %Y}"
    users = len({flag.user_id for flag in month.flags})
    title = f"{name}: {counted(len(month.flags), 'flag')} on {counted(users, 'user')}"
    lines = []
    if month.corrected:
        lines.append("Corrected: the month was scored again, and its counts have changed.")
    lines += [severities(month.flags), scored(month.users_scored, month.users_skipped)]
    if month.suppressed:
        lines.append(f"{counted(month.suppressed, 'more flag')} suppressed")
    if month.flags:
        lines += ["", "Look at first:", *shown(month.flags, place)]
    if place.page is not None:
        lines += ["", f"The month: {place.page}/?month={month.month}"]
    return Message(f"{title} (corrected)" if month.corrected else title, "\n".join(lines))


def urgent(flags: Sequence[Flag], place: Place) -> Message:
    """Say which flags cannot wait for the month's digest. flags: the highest score first."""
    users = len({flag.user_id for flag in flags})
    title = f"{counted(len(flags), 'new flag')} on {counted(users, 'user')}: {severities(flags)}"
    return Message(title, "\n".join(shown(flags, place)))


def trial(channel: str, place: Place) -> Message:
    """Say that messages arrive."""
    where = f" The page is at {place.page}." if place.page else ""
    return Message("Test message", f"Messages to {channel} arrive here.{where}")


def severities(flags: Sequence[Flag]) -> str:
    """How many flags of each severity, the worst first: '2 critical, 5 high'."""
    counts = Counter(flag.severity for flag in flags)
    named = [f"{counts[name]} {name}" for name in reversed(SEVERITIES) if counts[name]]
    return ", ".join(named) or "No flags"


def scored(users: int, skipped: Mapping[str, int]) -> str:
    """How many users were scored, and why others were not."""
    left = ", ".join(f"{reason} {count}" for reason, count in sorted(skipped.items()))
    return f"{counted(users, 'user')} scored" + (f"; not scored: {left}" if left else "")


def shown(flags: Sequence[Flag], place: Place) -> list[str]:
    """The first flags, those of a user together, with explanation and link."""
    lines: list[str] = []
    by_user: dict[str, list[Flag]] = {}
    for flag in flags[:SHOWN_FLAGS]:
        by_user.setdefault(flag.user_id, []).append(flag)
    for user, own in by_user.items():
        lines.append(f"• {plain(user)}")
        for flag in own:
            lines.append(f"  {stretch(flag, place.timezone)}, {flag.severity} {flag.kind}")
            lines.append(f"  {plain(flag.explanation, longest=500)}")
            lines.append(f"  {link(flag, place)}")
    if len(flags) > SHOWN_FLAGS:
        lines.append(f"and {len(flags) - SHOWN_FLAGS} more")
    return lines


def link(flag: Flag, place: Place) -> str:
    """Where to read more of a flag."""
    if place.page is None:
        return f"anomaly flags show {flag.flag_id}"
    return f"{place.page}/flags/{quote(flag.flag_id, safe='')}"


def stretch(flag: Flag, timezone: str) -> str:
    """From when to when: Thu 12 Mar 01:00 to 05:00."""
    start, end = _local(flag.start, timezone), _local(flag.end, timezone)
    same = start.date() == end.date()
    return (
        f"{start:%a %-d %b %H:%M} to {end:%H:%M}"
        if same
        else (f"{start:%a %-d %b %H:%M} to {end:%a %-d %b %H:%M}")
    )


def plain(text: str, longest: int = LONGEST_NAME) -> str:
    """Text from the data on one line, that no mail or chat takes for anything but text."""
    kept = "".join(" " if unicodedata.category(letter)[0] == "C" else letter for letter in text)
    kept = kept.translate(BRACKETS)
    return kept if len(kept) <= longest else f"{kept[: longest - 1]}…"


def _local(when: dt.datetime, timezone: str) -> dt.datetime:
    return when.astimezone(zone(timezone))
