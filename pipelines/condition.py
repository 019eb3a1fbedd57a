"""What /readyz and the operator's page say of the service: each thing it leans on, with a reason."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING

from anomaly.exceptions import ModelError, SourceError
from anomaly.fallback import fallback_of
from anomaly.ports import Condition
from anomaly.store.lease import LEADER

if TYPE_CHECKING:
    from pipelines.configuration import Refused
    from pipelines.schedule import Scheduler
    from pipelines.services import Services


def conditions(
    services: Services, scheduler: Scheduler | None, refused: Refused | None
) -> list[Condition]:
    """Database and schema first; what is read from them only where they answer."""
    try:
        services.store.check()
    except SourceError as error:
        return [Condition("database", "failed", str(error)), _settings(services, refused)]
    return [
        Condition("database", "ok", "it answers, and its schema is this version's"),
        _model(services),
        _leader(services, scheduler, services.clock()),
        _settings(services, refused),
    ]


def _model(services: Services) -> Condition:
    champion = services.store.models.champion()
    if champion is None:
        return Condition("model", "warning", "none yet; the first run trains one")
    try:
        services.artefacts.read(champion.address, champion.sha256)
    except ModelError as error:
        left = "no month can be scored"
        if champion.twin is not None:
            left = f"its twin {champion.twin} scores in its place"
        return Condition("model", "warning", f"{str(error).rstrip('.')}. Until then {left}.")
    stood_in = fallback_of(services.store.ledger.month_states(), services.store.models.list())
    if stood_in is not None:
        return Condition(
            "model",
            "warning",
            f"the twin {stood_in.run.model_version} scored {stood_in.run.month} in the place of "
            f"{stood_in.network.version}, whose files could not be read. Score the month again.",
        )
    return Condition("model", "ok", f"{champion.version} is in service, its files are whole")


def _leader(services: Services, scheduler: Scheduler | None, now: dt.datetime) -> Condition:
    if scheduler is not None and scheduler.leads:
        return Condition("leader", "ok", "this process runs the schedule")
    lease = services.store.lease.holder(LEADER)
    if lease is not None and lease.expires_at > now:
        return Condition("leader", "ok", f"{lease.holder} runs the schedule")
    since = "" if lease is None else f" since {lease.expires_at:%Y-%m-%d %H:%M} UTC"
    return Condition(
        "leader", "warning", f"nobody runs the schedule{since}: start anomaly serve or schedule"
    )


def _settings(services: Services, refused: Refused | None) -> Condition:
    if refused is None:
        return Condition("settings", "ok", f"in force: configuration {services.configuration}")
    return Condition(
        "settings",
        "warning",
        f"those read at {refused.when:%Y-%m-%d %H:%M} UTC were refused, the old ones are kept: "
        f"{refused.why}",
    )
