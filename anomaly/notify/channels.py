"""By what way messages go: apprise's addresses, each under a name that holds no secret."""

from __future__ import annotations

import logging
import re
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import apprise
from tenacity import RetryCallState, Retrying, retry_if_result, stop_after_attempt, wait_exponential

from anomaly import plugins
from anomaly.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from anomaly.notify.messages import Message

ATTEMPTS = 3
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 1, 10
SHORTEST_SECRET = 4  # letters; anything shorter in an address is left in an error's text
LONGEST_REASON = 300
_NAMED = re.compile(r"(?:([a-z0-9][a-z0-9-]*)=)?(([a-z][a-z0-9+.-]*)://.+)")


@dataclass(frozen=True, slots=True)
class Channel:
    """One way to people. name: a metric's label; url: holds secrets and is never shown."""

    name: str
    url: str = field(repr=False)


class Notifier(Protocol):
    """A kind of address of one's own, made from the address; see docs/extending.md."""

    def send(self, title: str, body: str) -> None:
        """Send plain text. What it raises is why it was not taken; it is then tried again."""
        ...


def channels(entries: Sequence[str]) -> list[Channel]:
    """Read addresses such as mailto://… or soc=slack://…; one without a name is called by its kind.

    Raises: SettingsError if one is no address.
    """
    found: list[Channel] = []
    kinds: Counter[str] = Counter()
    for number, entry in enumerate(entries, start=1):
        match = _NAMED.fullmatch(entry.strip())
        if match is None:
            raise SettingsError(
                f"[notify] urls: entry {number} is no address. Write KIND://… or NAME=KIND://…, as "
                "apprise has them: mailto://user:password@example.org"
            )
        name, url, kind = match.groups()
        kinds[kind] += 1
        other = kind if kinds[kind] == 1 else f"{kind}-{kinds[kind]}"
        found.append(Channel(name or other, url))
    doubled = [name for name, count in Counter(one.name for one in found).items() if count > 1]
    if doubled:
        raise SettingsError(f"[notify] urls: {doubled[0]} names two channels. Name one otherwise.")
    return found


def deliver(channel: Channel, message: Message, sleep: Callable[[float], None]) -> str | None:
    """Send a message, again after a while where it is not taken.

    Args: sleep: waits so many seconds.
    Returns: None if it was taken, else why not, without the address' secrets.
    Raises: SettingsError if neither an extension nor apprise knows such an address.
    """
    send = _sender(channel)
    retrying = Retrying(
        stop=stop_after_attempt(ATTEMPTS),
        wait=wait_exponential(FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS),
        retry=retry_if_result(lambda why: why is not None),
        retry_error_callback=_last,
        sleep=sleep,
    )
    return retrying(send, message)


def _sender(channel: Channel) -> Callable[[Message], str | None]:
    """What sends to a channel and says why it was not taken: an extension of this kind, or apprise."""
    kind = channel.url.partition("://")[0]
    if kind in plugins.names("notifiers"):
        notifier: Notifier = plugins.load("notifiers", kind)(channel.url)
        return partial(_by_extension, notifier, channel)
    sender = apprise.Apprise()
    if not sender.add(channel.url):
        raise SettingsError(
            f"[notify] urls: apprise cannot read the address of {channel.name!r}. See its page of "
            "this kind of address, and write special letters of passwords as %XX."
        )
    return partial(_by_apprise, sender, channel)


def _by_extension(notifier: Notifier, channel: Channel, message: Message) -> str | None:
    try:
        notifier.send(message.title, message.body)
    except Exception as error:  # noqa: BLE001  (anything may happen in somebody else's module)
        said = f"{type(error).__name__}: {error}"
        return without_secrets(said, channel.url)[:LONGEST_REASON]
    return None


def _by_apprise(sender: apprise.Apprise, channel: Channel, message: Message) -> str | None:
    with _overheard() as said:
        sent = sender.notify(
            body=message.body, title=message.title, body_format=apprise.NotifyFormat.TEXT
        )
    if sent:
        return None
    return without_secrets(" ".join(said) or "it was not taken", channel.url)[:LONGEST_REASON]


def _last(state: RetryCallState) -> str | None:
    assert state.outcome is not None
    why: str | None = state.outcome.result()
    return why


@contextmanager
def _overheard() -> Iterator[list[str]]:
    """What apprise logs meanwhile; it does not reach our log, as it may hold addresses."""
    logger, said = logging.getLogger("apprise"), list[str]()
    handler = _Listener(said)
    propagates, level = logger.propagate, logger.level
    logger.addHandler(handler)
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    try:
        yield said
    finally:
        logger.removeHandler(handler)
        logger.propagate, logger.level = propagates, level


class _Listener(logging.Handler):
    def __init__(self, said: list[str]) -> None:
        super().__init__(logging.WARNING)
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())


def without_secrets(text: str, url: str) -> str:
    """The text with all parts of an address but its kind, host and port replaced by ***."""
    parts = urlsplit(url)
    raw = [parts.username or "", parts.password or "", *parts.path.split("/")]
    raw += [value for _, value in parse_qsl(parts.query)]
    secrets = {form for part in raw for form in (part, unquote(part))}
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= SHORTEST_SECRET:
            text = text.replace(secret, "***")
    return text
