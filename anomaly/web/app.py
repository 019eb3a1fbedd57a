"""The page, the JSON API, /metrics and the health checks as one ASGI application.

Nothing it serves makes a browser ask another machine for anything, and the headers forbid it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException

import anomaly
from anomaly.exceptions import AnomalyError, SourceError
from anomaly.ports import WebStore
from anomaly.settings import Settings
from anomaly.web import api, assets, pages

if TYPE_CHECKING:
    from anomaly.model import Model

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def create_app(
    store: WebStore,
    settings: Settings,
    registry: CollectorRegistry,
    leader: Callable[[], bool],
    model: Callable[[], Model | None] = lambda: None,
) -> FastAPI:
    """Put the application together; reads nothing until it is asked.

    Args: registry: what /metrics renders, filled by the caller.
        leader: whether this process holds the scheduler's lease; /readyz says so.
        model: reads the model in use, or None where there is none; asked by its page alone.
    """
    app = FastAPI(
        title="anomaly",
        version=anomaly.__version__,
        description="Flags, users and runs, with the filters of the command line.",
        openapi_url="/api/v1/openapi.json",
        docs_url=None,  # FastAPI's documentation pages load their scripts from elsewhere
        redoc_url=None,
    )
    renderer = pages.Renderer(settings)
    app.include_router(assets.router())
    app.include_router(pages.router(store, renderer, model))
    app.include_router(api.router(store))
    _add_probes(app, store, registry, leader)
    _add_errors(app, renderer)

    @app.middleware("http")
    async def guard(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        response = await following(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        # Pages name people: nothing between here and the reader may keep them.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


def _add_probes(
    app: FastAPI, store: WebStore, registry: CollectorRegistry, leader: Callable[[], bool]
) -> None:
    @app.get("/metrics", include_in_schema=False)
    def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": kind})

    @app.get("/healthz", include_in_schema=False)
    def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False)
    def readyz() -> Response:
        try:
            store.check()
        except SourceError as error:
            return JSONResponse({"status": "unavailable", "error": str(error)}, 503)
        return JSONResponse({"status": "ready", "leader": leader()})


def _add_errors(app: FastAPI, renderer: pages.Renderer) -> None:
    def answer(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": message}, status)
        return renderer.page("error.html", status=status, message=message)

    @app.exception_handler(AnomalyError)
    def refused(request: Request, error: AnomalyError) -> Response:
        return answer(request, 503 if isinstance(error, SourceError) else 400, str(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        return answer(request, error.status_code, str(error.detail))

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return answer(request, 422, "; ".join(problems))
