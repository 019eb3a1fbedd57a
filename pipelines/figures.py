"""Hands the figures on when a command ends: what cron started is gone before it could be scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError
from anomaly.telemetry import handing
from anomaly.telemetry.collector import LedgerCollector

if TYPE_CHECKING:
    from pipelines.services import Services


@contextmanager
def handed_on(services: Services) -> Iterator[None]:
    """Hand the figures on at the end, however it ends. A failure to do so fails nothing else."""
    try:
        yield
    finally:
        hand_on(services)


def hand_on(services: Services) -> None:
    """Push the ledger's figures and write them into the file, as [telemetry] says."""
    telemetry = services.settings.telemetry
    figures = LedgerCollector(services.store, services.clock, services.timezone)
    gateway, file = telemetry.pushgateway, telemetry.textfile
    if gateway is not None:
        _carefully(lambda: handing.push(gateway, figures))
    if file is not None:
        _carefully(lambda: handing.write(file, figures))


def _carefully(work: Callable[[], None]) -> None:
    try:
        work()
    except AnomalyError as error:
        structlog.get_logger().warning("figures_not_handed_on", error=str(error))
