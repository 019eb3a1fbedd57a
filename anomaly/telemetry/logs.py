"""Log lines: constant events with their data as keys, one JSON object a line off a terminal.

No line carries a user's name, a row or a secret: callers pass counts, and addresses pass through
`without_password`.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import TYPE_CHECKING, Any, TextIO

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

    from anomaly.settings import TelemetrySettings

_PASSWORD = re.compile(r"(\w+://[^:/@\s]*):\S+@")
# Without the values of variables, rows and names among them.
TRACEBACKS = structlog.processors.ExceptionRenderer(
    structlog.tracebacks.ExceptionDictTransformer(show_locals=False)
)
# Keys that would name a person or open a door are dropped, whoever wrote the call.
_FORBIDDEN = frozenset({"user", "user_id", "users_names", "password", "token", "secret"})


def configure(settings: TelemetrySettings, stream: TextIO | None = None) -> None:
    """Set up logging for this process, once, at its start.

    Args: settings: format (auto: readable on a terminal, else JSON) and least level.
        stream: where lines go; default: standard error.
    """
    stream = stream or sys.stderr
    readable = settings.log_format == "console" or (
        settings.log_format == "auto" and stream.isatty()
    )
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _discreet,
    ]
    last: list[structlog.typing.Processor] = (
        [
            _on_one_line,
            structlog.dev.ConsoleRenderer(
                colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ]
        if readable
        else [TRACEBACKS, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=shared + last,
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _route_standard_logging(stream, shared, last, level)


def without_password(url: str) -> str:
    """The address with its password replaced by ***."""
    return _PASSWORD.sub(r"\1:***@", url)


def _discreet(logger: Any, name: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    del logger, name
    return {
        key: without_password(value) if isinstance(value, str) else value
        for key, value in event.items()
        if key not in _FORBIDDEN
    }


def _on_one_line(
    logger: Any, name: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Escape what would begin a line or steer a terminal, so that no value can forge a log line."""
    del logger, name
    return {key: _printable(value) for key, value in event.items()}


def _printable(value: Any) -> Any:
    if isinstance(value, str) and not value.isprintable():
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in value)
    return value


def _route_standard_logging(
    stream: TextIO,
    shared: list[structlog.typing.Processor],
    last: list[structlog.typing.Processor],
    level: int,
) -> None:
    """Give libraries that use `logging` the same lines; only their warnings are of interest."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *last],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
