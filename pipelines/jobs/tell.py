"""Tells people: flags that cannot wait at once, a digest when a month is complete.

There is no queue to lose. What is to be told is worked out from the flags that stand and from what a
channel was told before, so a rerun, a restart or a second process tells nothing twice, and what quiet
hours, the rate or a failure held back is told at the next look.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError, SettingsError
from anomaly.months import Month, parse_duration
from anomaly.notify.messages import Digest, Place, digest, trial, urgent
from anomaly.notify.timing import is_quiet
from anomaly.ports import PUBLISHED
from anomaly.records import SEVERITIES
from anomaly.store import FlagFilter

if TYPE_CHECKING:
    from anomaly.notify.channels import Channel
    from anomaly.notify.messages import Message
    from anomaly.records import Flag
    from anomaly.settings import NotifySettings
    from anomaly.store import Run, Store
    from pipelines.services import Services

HOUR = dt.timedelta(hours=1)
LOST = dt.timedelta(minutes=10)  # a message that long on its way has lost its process
DIGEST, URGENT, TEST = "digest", "urgent", "test"


@dataclass(frozen=True, slots=True)
class Sent:
    """A message and what became of it. why: None where it was taken."""

    channel: str
    title: str
    why: str | None


@dataclass(frozen=True, slots=True)
class Due:
    """A message that a channel should get. write: says it of those subjects that were claimed."""

    kind: str
    subjects: Sequence[str]
    write: Callable[[frozenset[str]], Message]
    month: str | None = None
    run_id: int | None = None


def tell(services: Services) -> list[Sent]:
    """Send what is due on each channel, as far as quiet hours and the rate allow.

    Raises: SettingsError for an address that nobody can send to; SourceError.
    """
    notify, now = services.settings.notify, services.clock()
    channels = channels_of(notify)
    if not channels or is_quiet(notify.quiet, services.timezone, now):
        return []
    services.store.notifications.abandon(now - LOST, now)
    runs = recent_runs(services, now)
    sent = []
    for channel in channels:
        for due in (
            *due_urgent(services, channel.name, runs),
            *due_digests(services, channel.name, runs),
        ):
            if (
                services.store.notifications.count_since(channel.name, now - HOUR)
                >= notify.per_hour
            ):
                structlog.get_logger().debug("notifications_held_back", channel=channel.name)
                break
            sent += send(services, channel, due)
    return sent


def tell_carefully(services: Services) -> None:
    """The same, for work that must not fail because nobody could be told."""
    try:
        tell(services)
    except AnomalyError as error:
        structlog.get_logger().warning("notifications_failed", error=str(error))


def send(services: Services, channel: Channel, due: Due) -> list[Sent]:
    """Send one message, unless another process is doing so."""
    from anomaly.notify.channels import deliver
    from anomaly.store.notifications import FAILED, SENT

    ledger = services.store.notifications
    claim = ledger.claim(
        channel.name, due.kind, due.subjects, services.clock(), month=due.month, run_id=due.run_id
    )
    if claim is None:
        return []
    message = due.write(claim.subjects)
    why: str | None = "interrupted"
    try:
        why = deliver(channel, message, services.sleep)
    finally:
        outcome = SENT if why is None else FAILED
        ledger.settle(claim, outcome, why or "", services.clock())
        structlog.get_logger().info(
            "notification", channel=channel.name, kind=due.kind, outcome=outcome, why=why
        )
    return [Sent(channel.name, message.title, why)]


def send_tests(services: Services) -> list[Sent]:
    """Send a test message to every channel, whatever the hour.

    Raises: SettingsError if there is no channel.
    """
    from anomaly.notify.channels import deliver
    from anomaly.store.notifications import FAILED, SENT

    channels = channels_of(services.settings.notify)
    if not channels:
        raise SettingsError(
            "[notify] urls: names nobody. Write addresses as apprise has them: "
            'urls = ["mailto://user:password@example.org"]'
        )
    sent = []
    for channel in channels:
        message = trial(channel.name, place_of(services))
        why = deliver(channel, message, services.sleep)
        outcome = SENT if why is None else FAILED
        services.store.notifications.record(
            channel.name, TEST, outcome, why or "", services.clock()
        )
        sent.append(Sent(channel.name, message.title, why))
    return sent


def channels_of(notify: NotifySettings) -> list[Channel]:
    """Whom [notify] names, in urls and in urls_file.

    Raises: SettingsError if the file cannot be read or an address is none.
    """
    entries = list(notify.urls)
    if notify.urls_file is not None:
        try:
            lines = notify.urls_file.read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise SettingsError(
                f"[notify] urls_file {notify.urls_file}: cannot be read ({error.strerror})."
            ) from error
        entries += [line.strip() for line in lines if line.strip() and line.strip()[0] != "#"]
    if not entries:
        return []
    from anomaly.notify.channels import channels  # apprise takes half a second to import

    return channels(entries)


def recent_runs(services: Services, now: dt.datetime) -> list[Run]:
    """The runs whose results stand, of months that ended lately or have not ended yet."""
    recent = parse_duration(services.settings.notify.recent)
    return [
        run
        for run in services.store.ledger.month_states()
        if run.month is not None
        and run.state in PUBLISHED
        and Month.parse(run.month).end(services.timezone) > now - recent
    ]


def due_urgent(services: Services, channel: str, runs: Sequence[Run]) -> Iterator[Due]:
    """One message of all flags that cannot wait and were not told yet."""
    store, level = services.store, services.settings.notify.urgent
    if level == "never" or not runs:
        return
    severities = SEVERITIES[SEVERITIES.index(level) :]
    months = [str(run.month) for run in runs]
    rows = [
        row.flag
        for month in months
        for severity in severities
        for row in store.flags.select(
            FlagFilter(month, severity=severity, status="open", suppressed=False)
        )
    ]
    new = untold(store, channel, months, rows)
    if new:
        found = {flag.flag_id: flag for flag in sorted(new, key=by_score)}
        yield Due(
            URGENT,
            list(found),
            lambda ours: urgent([f for key, f in found.items() if key in ours], place_of(services)),
            run_id=runs[0].id,
        )


def untold(store: Store, channel: str, months: Sequence[str], flags: Sequence[Flag]) -> list[Flag]:
    """Flags that a channel was not told of, neither as they are nor as they were before they grew."""
    known = store.notifications.subjects(channel)
    earlier = store.notifications.told_flags(channel, months)
    return [
        flag
        for flag in flags
        if flag.flag_id not in known
        and not any(
            one.user_id == flag.user_id and one.start < flag.end and flag.start < one.end
            for one in earlier
        )
    ]


def due_digests(services: Services, channel: str, runs: Sequence[Run]) -> Iterator[Due]:
    """A message for each complete month, the earliest first; again only if its counts have changed."""
    known = services.store.notifications.subjects(channel)
    for run in reversed(runs):
        subject = f"{DIGEST} {run.month} {counts_of(run)}"
        if run.state != "complete" or subject in known:
            continue
        corrected = any(other.startswith(f"{DIGEST} {run.month} ") for other in known)
        yield Due(DIGEST, [subject], _digest_of(services, run, corrected), run.month, run.id)


def _digest_of(
    services: Services, run: Run, corrected: bool
) -> Callable[[frozenset[str]], Message]:
    def write(ours: frozenset[str]) -> Message:
        del ours
        flags = services.store.flags
        found = [row.flag for row in flags.select(FlagFilter(run.month, suppressed=False))]
        quieted = sum(flags.severities(FlagFilter(run.month, suppressed=True)).values())
        month = Digest(
            str(run.month), found, run.users_scored, run.users_skipped, corrected, quieted
        )
        return digest(month, place_of(services))

    return write


def counts_of(run: Run) -> str:
    """A short word for a run's counts: equal counts are no news."""
    counts = (dict(run.flag_kinds), run.users_scored, dict(run.users_skipped))
    return hashlib.sha256(json.dumps(counts, sort_keys=True).encode()).hexdigest()[:12]


def by_score(flag: Flag) -> tuple[float, str]:
    """Sorts the highest score first."""
    return -flag.score, flag.flag_id


def place_of(services: Services) -> Place:
    """Where readers find the page."""
    page = services.settings.web.public_url
    return Place(None if page is None else str(page).rstrip("/"), services.timezone)
