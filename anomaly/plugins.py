"""What others add, found by entry points: a source, a threshold, a likelihood, a cell, a calendar, a notifier.

A package names its class under the group `anomaly.KIND` of its entry points; the settings name the entry
point. Nothing is imported until it is named there.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Literal

from anomaly.exceptions import SettingsError

if TYPE_CHECKING:
    from collections.abc import Iterable

Kind = Literal["sources", "thresholds", "likelihoods", "cells", "calendars", "notifiers"]

OURS = (EntryPoint("prometheus", "anomaly.sources.prometheus:PrometheusReader", "anomaly.sources"),)


@cache
def names(kind: Kind) -> tuple[str, ...]:
    """The entry points of a kind that are installed."""
    return tuple(sorted({point.name for point in _points(kind)}))


@cache
def load(kind: Kind, name: str) -> Any:
    """What an entry point names.

    Raises: SettingsError if there is none of this name, or it cannot be imported.
    """
    point = next((point for point in _points(kind) if point.name == name), None)
    if point is None:
        raise SettingsError(f"{kind}: {name!r} {unknown(name, kind)}")
    try:
        return point.load()
    except Exception as error:  # anything may happen in somebody else's module
        raise SettingsError(
            f"{kind}: {name!r} ({point.value}) cannot be imported: {type(error).__name__}: {error}. "
            "Mend or update the package that it comes from."
        ) from error


def _points(kind: Kind) -> list[EntryPoint]:
    group = f"anomaly.{kind}"
    return [*(point for point in OURS if point.group == group), *entry_points(group=group)]


def unknown(name: str, kind: Kind, built_in: Iterable[str] = ()) -> str:
    """What to say of a name that nothing has."""
    known = [*built_in, *names(kind)]
    return (
        f"is none of {', '.join(known)}" if known else "is not there: none is installed"
    ) + f". Install the package whose entry points name {name!r} in the group anomaly.{kind}."
