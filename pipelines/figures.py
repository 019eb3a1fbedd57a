"""Hands the figures on when a command ends: what cron started is gone before it could be scraped."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import AnomalyError
from anomaly.telemetry import handing, tracking
from anomaly.telemetry.collector import LedgerCollector

if TYPE_CHECKING:
    from anomaly.engine import Model
    from pipelines.jobs.train import Contest
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


def track_training(services: Services, contest: Contest) -> None:
    """Tell MLflow of the models that were fitted, as [telemetry] says; a failure fails nothing else."""
    address = services.settings.telemetry.mlflow
    if address is None:
        return
    for model in contest.models:
        _carefully(partial(tracking.track, address, _trained(services, contest, model)))


def _trained(services: Services, contest: Contest, model: Model) -> tracking.Trained:
    summary, showing = model.summary, contest.showings.get(model.version)
    row = services.store.models.get(model.version)
    return tracking.Trained(
        model.version,
        {
            **services.settings.model.model_dump(), "cell": model.network_spec.cell,
            "users": summary.users, "metrics": ";".join(model.metrics),
        },
        {
            "validation_loss": summary.validation_loss, "twin_loss": summary.twin_loss,
            "calibration_error": summary.calibration_error, "steps": float(summary.steps),
            "likelihood": None if showing is None else showing.likelihood,
            "planted_found": None if showing is None else showing.share,
        },
        {
            "configuration": services.configuration, "code_version": services.code_version,
            "serves": model.version == contest.choice.version, "reason": contest.choice.reason,
            "stopped": summary.stopped, "files": row.address, "sha256": row.sha256,
        },
    )  # fmt: skip
