"""Range queries of a Prometheus server: one label of each series says whose it is."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pyarrow as pa

from anomaly.exceptions import SettingsError, SourceError
from anomaly.rows import SCHEMA

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MOST_POINTS = 10_000  # of each series in one answer; Prometheus gives 11,000
SECONDS = 60
DAYS = 92  # read at first, where nothing says how far back


@dataclass(frozen=True, slots=True)
class PrometheusReader:
    """Made from [source] options.

    url: http://host:9090. queries: a metric's name and its expression, evaluated at the end of each
    step; write rates and increases over `$step`. user: the label that names the user. days: how far
    back the first reading goes. headers: such as Authorization.
    """

    url: str
    queries: Mapping[str, str]
    user: str
    days: int = DAYS
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise SettingsError(f"[source] options url: {self.url!r} does not begin with http.")

    def read(self, since: dt.datetime | None, until: dt.datetime, step: int) -> Iterator[pa.Table]:
        """See `anomaly.sources.readers.Reader`: each value is of the step that ends where it is read."""
        begin = until - dt.timedelta(days=self.days) if since is None else since
        first = int(begin.timestamp()) // step * step
        last = int(until.timestamp()) // step * step
        width = MOST_POINTS * step
        for start in range(first, last, width):
            end = min(start + width, last)
            for metric, query in self.queries.items():
                yield self._table(metric, query, start + step, end, step)

    def _table(self, metric: str, query: str, start: int, end: int, step: int) -> pa.Table:
        asked = urlencode(
            {"query": query.replace("$step", f"{step}s"), "start": start, "end": end, "step": step}
        )
        users: list[str] = []
        times: list[int] = []
        values: list[float] = []
        for series in self._ask(f"{self.url.rstrip('/')}/api/v1/query_range?{asked}", metric):
            user = series["metric"].get(self.user)
            if user is None:
                raise SettingsError(
                    f"[source] options queries {metric}: a series has no label {self.user!r}, only "
                    f"{', '.join(series['metric']) or 'none'}. Keep it: sum by ({self.user}) (...)"
                )
            for at, value in series["values"]:
                users.append(user)
                times.append(int(at) - step)
                values.append(float(value))
        columns = [
            pa.array(users, pa.string()),
            pa.array([metric] * len(users), pa.string()),
            pa.array(times, pa.timestamp("s", "UTC")),
            pa.array(values, pa.float64()),
        ]
        return pa.table(columns, names=SCHEMA.names)

    def _ask(self, address: str, metric: str) -> list[dict[str, Any]]:
        request = Request(address, headers=dict(self.headers))  # noqa: S310  (http, see above)
        try:
            with urlopen(request, timeout=SECONDS) as answer:  # noqa: S310  # nosec B310
                said = json.load(answer)
        except HTTPError as error:
            body = error.read().decode("utf-8", "replace")[:200]
            raise SourceError(
                f"prometheus {self.url}: query {metric} was refused ({error.code}: {body}). "
                "Check [source] options queries."
            ) from error
        except (URLError, OSError, ValueError) as error:
            raise SourceError(
                f"prometheus {self.url}: query {metric} got no answer ({error}). Check [source] options url."
            ) from error
        found: list[dict[str, Any]] = said["data"]["result"]
        return found
