"""Figures of jobs that cron starts: nobody can scrape a process that has ended, so it hands them on.

To a Pushgateway, or into a file for the textfile collector of Prometheus' node_exporter. Either gets
the whole ledger's figures, so the last job to end speaks for all.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, push_to_gateway, write_to_textfile
from prometheus_client.registry import Collector

from anomaly.exceptions import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from prometheus_client.metrics_core import Metric

GROUP = "anomaly"  # the Pushgateway keeps one set of figures for each of these
PUSH_SECONDS = 10


def push(gateway: str, figures: Collector) -> None:
    """Replace what a Pushgateway has of us.

    Args: gateway: its address, http://host:9091.
    Raises: SourceError if it does not take them.
    """
    registry = CollectorRegistry()
    registry.register(_JobRenamed(figures))
    try:
        push_to_gateway(gateway, GROUP, registry, timeout=PUSH_SECONDS)
    except OSError as error:
        raise SourceError(
            f"[telemetry] pushgateway {gateway}: did not take the figures ({error}). Is it running "
            "there? The ledger has them; the next job hands them on."
        ) from error


def write(file: Path, figures: Collector) -> None:
    """Write a file anew, in one step: a reader sees the old figures or the new ones.

    Raises: SourceError if its folder cannot be written.
    """
    registry = CollectorRegistry()
    registry.register(figures)
    try:
        write_to_textfile(str(file), registry)
    except OSError as error:
        raise SourceError(
            f"[telemetry] textfile {file}: cannot be written ({error.strerror}). Name a file in a "
            "folder that exists and that this user may write."
        ) from error


class _JobRenamed(Collector):
    """The same figures with the label `job` as `exported_job`.

    A Pushgateway puts its own `job` over ours, which would make many series one; Prometheus gives
    ours this name when it scrapes us.
    """

    def __init__(self, figures: Collector) -> None:
        self._figures = figures

    def describe(self) -> Iterable[Metric]:
        """Say nothing: registering must not need the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Rename as they pass."""
        for family in self._figures.collect():
            family.samples = [
                sample._replace(
                    labels={
                        "exported_job" if name == "job" else name: value
                        for name, value in sample.labels.items()
                    }
                )
                for sample in family.samples
            ]
            yield family
