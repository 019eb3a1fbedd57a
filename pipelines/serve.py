"""Scheduler, page, API and /metrics in one process."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import uvicorn

from anomaly.exceptions import SettingsError
from anomaly.telemetry.collector import build_registry
from anomaly.web.app import create_app
from pipelines.guard import open_door
from pipelines.jobs.tell import channels_of
from pipelines.jobs.train import load_model
from pipelines.schedule import Children, Scheduler

if TYPE_CHECKING:
    from anomaly.model import Model
    from pipelines.services import Services

DRAIN_SECONDS = 5  # requests that are under way at SIGTERM may take so long


def serve(services: Services, config: Path | None, say: Callable[[str], None]) -> None:
    """Serve at [web] host and port until SIGTERM or Ctrl-C. Port 0 takes a free one.

    Raises: SettingsError if the address cannot be listened on, or would be open to others.
    """
    web = services.settings.web
    door = open_door(services)
    children = Children(config)
    scheduler = Scheduler(services, children.run)

    def leads() -> bool:
        return scheduler.leads

    registry = build_registry(
        services.store,
        leads,
        services.clock,
        services.timezone,
        [channel.name for channel in channels_of(services.settings.notify)],
    )

    def model() -> Model | None:
        champion = services.store.models.champion()
        return None if champion is None else load_model(services, champion)

    app = create_app(services.store, services.settings, registry, leads, door, model)
    listening = _listen(web.host, web.port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=bool(web.trusted_proxies),
            forwarded_allow_ips=web.trusted_proxies,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
    # uvicorn stops on these and then raises them again for whoever had them before: nobody.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    with scheduler.running():
        say(f"page: http://{web.host}:{listening.getsockname()[1]}/ (end with Ctrl-C)")
        server.run(sockets=[listening])
    children.stop()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise SettingsError(
            f"[web] {host}:{port}: cannot be listened on ({error.strerror}). Choose another "
            "address: anomaly serve --host HOST --port PORT"
        ) from error
