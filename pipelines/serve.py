"""Scheduler, page, API and /metrics in one process, or the page without the scheduler."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
import uvicorn

from anomaly.exceptions import SettingsError
from anomaly.telemetry.collector import build_registry
from anomaly.web.app import create_app
from pipelines.configuration import Configuration, configured
from pipelines.guard import open_door
from pipelines.jobs.tell import channels_of
from pipelines.jobs.train import load_model
from pipelines.operations import ServiceOperations
from pipelines.schedule import Children, Scheduler, grace_of

if TYPE_CHECKING:
    from fastapi import FastAPI

    from anomaly.model import Model
    from anomaly.web.access import Door
    from pipelines.services import Services

DRAIN_SECONDS = 5  # requests that are under way at SIGTERM may take so long


def serve(
    services: Services,
    config: Path | None,
    say: Callable[[str], None],
    *,
    schedules: bool = True,
) -> None:
    """Serve at [web] host and port until SIGTERM or Ctrl-C. Port 0 takes a free one.

    schedules: whether this process also runs the schedule.
    Raises: SettingsError if the address cannot be listened on, or would be open to others.
    """
    web = services.settings.web
    door = open_door(services)
    listening = _listen(web.host, web.port)
    with configured(services, config) as configuration:
        children = Children(configuration.copy, grace_of(services))
        scheduler = Scheduler(services, children.run) if schedules else None
        site = Site(configuration, scheduler, door)
        configuration.adopted.append(site.adopt)
        if scheduler is not None:
            configuration.adopted.append(scheduler.adopt)
        server = uvicorn.Server(
            uvicorn.Config(
                site,
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
        with nullcontext() if scheduler is None else scheduler.running():
            say(f"page: http://{web.host}:{listening.getsockname()[1]}/ (end with Ctrl-C)")
            structlog.get_logger().info("server_started", schedules=schedules)
            server.run(sockets=[listening])
        children.stop()


class Site:
    """The application under the settings in force; new ones make it anew for requests to come."""

    def __init__(
        self, configuration: Configuration, scheduler: Scheduler | None, door: Door
    ) -> None:
        self._configuration = configuration
        self._door = door
        self._scheduler = scheduler
        self._app = self._build(configuration.services)

    def adopt(self, services: Services) -> None:
        """Serve under other settings."""
        self._app = self._build(services)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Pass an ASGI call on."""
        await self._app(scope, receive, send)

    def _build(self, services: Services) -> FastAPI:
        def leads() -> bool:
            return self._scheduler is not None and self._scheduler.leads

        def model() -> Model | None:
            champion = services.store.models.champion()
            return None if champion is None else load_model(services, champion)

        return create_app(
            services.store,
            services.settings,
            build_registry(
                services.store,
                leads,
                services.clock,
                services.timezone,
                [channel.name for channel in channels_of(services.settings.notify)],
            ),
            leads,
            self._door,
            model,
            ServiceOperations(services, self._scheduler, self._configuration),
            alive=lambda: self._scheduler is None or self._scheduler.alive,
        )


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise SettingsError(
            f"[web] {host}:{port}: cannot be listened on ({error.strerror}). Choose another "
            "address: anomaly serve --host HOST --port PORT"
        ) from error
