"""The page, the JSON API, /metrics and the health checks as one ASGI application.

Nothing it serves makes a browser ask another machine for anything, and the headers forbid it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import structlog
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, RedirectResponse
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.exceptions import HTTPException
from starlette.middleware.sessions import SessionMiddleware

import anomaly
from anomaly.exceptions import AnomalyError, SourceError
from anomaly.months import parse_duration
from anomaly.ports import DATABASE_UP, Operations, WebStore
from anomaly.settings import Settings
from anomaly.web import api, assets, feedback, logon, operate, pages
from anomaly.web.access import ANYONE, Door, needs, roles_of_routes, was_looked_up

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from anomaly.model import Model

LARGEST_BODY = 1 << 20  # bytes; the largest form holds some notes
NO_NUL = "the address holds a NUL character, which no name has. Leave it out."
YEAR_SECONDS = 31_536_000
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


log = structlog.get_logger()


def create_app(
    store: WebStore,
    settings: Settings,
    registry: CollectorRegistry,
    leader: Callable[[], bool],
    door: Door,
    model: Callable[[], Model | None] = lambda: None,
    operations: Operations | None = None,
    alive: Callable[[], bool] = lambda: True,
) -> FastAPI:
    """Put the application together; reads nothing until it is asked.

    Args: registry: what /metrics renders, filled by the caller.
        leader: whether this process holds the scheduler's lease; /readyz says so.
        door: tells who asks; each route states which role it needs.
        model: reads the model in use, or None where there is none; asked by its page alone.
        operations: the service around it, for the operator's pages; without it there are none.
        alive: whether what this process does in the background still goes; /healthz asks.
    Raises: ValueError if a route states no role.
    """
    app = FastAPI(
        title="anomaly",
        version=anomaly.__version__,
        description="Flags, users and runs, with the filters of the command line.",
        max_body_size=LARGEST_BODY,
        openapi_url=None,  # served below, to those who may read the API
        docs_url=None,  # FastAPI's documentation pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.door = door
    renderer = pages.Renderer(settings)
    app.include_router(assets.router())
    app.include_router(logon.router(renderer, door))
    app.include_router(pages.router(store, renderer, model))
    app.include_router(api.router(store))
    terms = feedback.terms_of(settings.feedback)
    app.include_router(feedback.api(store, door, terms))
    app.include_router(feedback.pages(store, renderer, door, terms))
    if operations is not None:
        app.include_router(operate.router(store, renderer, operations))
    _add_probes(app, store, registry, leader, operations, alive)
    answer = _add_errors(app, renderer)
    list(roles_of_routes(app))  # raises for a route that states none
    app.add_middleware(
        SessionMiddleware,
        secret_key=door.cookie_key,
        # A browser takes a cookie of this name from this very host over TLS alone.
        session_cookie="__Host-anomaly" if door.secure else "anomaly",
        max_age=int(parse_duration(door.settings.session).total_seconds()),
        https_only=door.secure,
    )

    @app.middleware("http")
    async def guard(
        request: Request, following: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        # No text in the database holds a NUL; PostgreSQL would call the question itself a failure.
        nul = "\0" in request.url.path or b"%00" in request.scope["query_string"]
        response = answer(request, 400, NO_NUL) if nul else await following(request)
        for name, value in HEADERS.items():
            response.headers[name] = value
        if door.secure:
            response.headers["Strict-Transport-Security"] = f"max-age={YEAR_SECONDS}"
        # Pages name people: nothing between here and the reader may keep them.
        response.headers.setdefault("Cache-Control", "no-store")
        return response

    return app


def _add_probes(
    app: FastAPI,
    store: WebStore,
    registry: CollectorRegistry,
    leader: Callable[[], bool],
    operations: Operations | None,
    alive: Callable[[], bool],
) -> None:
    door: Door = app.state.door
    # That the database is away must be told while it is away, and with it who may ask.
    watched = ANYONE if door.settings.metrics_public else needs("monitor", away=True)

    @app.get("/metrics", include_in_schema=False, dependencies=[Depends(watched)])
    def metrics(request: Request) -> Response:
        encode, kind = choose_encoder(request.headers.get("accept", ""))
        told = Collected(tuple(registry.collect()))
        if watched.role is not None and not was_looked_up(request) and told.reads_database:
            raise HTTPException(503, "the database came back a moment ago. Ask again.")
        return Response(encode(told), headers={"Content-Type": kind})

    @app.get("/healthz", include_in_schema=False, dependencies=[Depends(ANYONE)])
    def healthz() -> Response:
        if not alive():
            return PlainTextResponse("the schedule's clockwork has stopped\n", 503)
        return PlainTextResponse("ok\n")

    @app.get("/readyz", include_in_schema=False, dependencies=[Depends(ANYONE)])
    def readyz(request: Request) -> Response:
        try:
            store.check()
        except SourceError as error:
            # Anyone may ask, so why it is not ready goes to the log: it names the database.
            log.warning("not_ready", error=str(error))
            return JSONResponse(
                {"status": "unavailable", "conditions": {"database": "failed"}}, 503
            )
        answer: dict[str, Any] = {"status": "ready", "leader": leader()}
        found = operations.conditions() if operations is not None else ()
        answer["conditions"] = {each.name: each.state for each in found}
        if _is_known(door, request):
            answer["reasons"] = {each.name: each.reason for each in found}
        return JSONResponse(answer)

    @app.get(
        "/api/v1/openapi.json", include_in_schema=False, dependencies=[Depends(needs("reader"))]
    )
    def description() -> dict[str, Any]:
        return app.openapi()


@dataclass(frozen=True, slots=True)
class Collected:
    """What a registry said once, for an encoder of prometheus_client."""

    families: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        """All of it."""
        return self.families

    @property
    def reads_database(self) -> bool:
        """Whether figures of the database are among it."""
        samples = [sample for family in self.families for sample in family.samples]
        return not any(one.name == DATABASE_UP and one.value == 0 for one in samples)


def _is_known(door: Door, request: Request) -> bool:
    """Whether somebody asks who may read reasons, which name processes and files."""
    try:
        return door.look(request).caller is not None
    except HTTPException:
        return False


def _add_errors(app: FastAPI, renderer: pages.Renderer) -> Callable[[Request, int, str], Response]:
    def answer(request: Request, status: int, message: str) -> Response:
        if request.url.path.startswith("/api/"):
            return JSONResponse({"error": message}, status)
        return renderer.page("error.html", status=status, message=message)

    @app.exception_handler(AnomalyError)
    def refused(request: Request, error: AnomalyError) -> Response:
        return answer(request, 503 if isinstance(error, SourceError) else 400, str(error))

    @app.exception_handler(HTTPException)
    def http(request: Request, error: HTTPException) -> Response:
        if error.status_code == 401 and _is_page(request):
            query = f"?{request.url.query}" if request.url.query else ""
            return RedirectResponse(f"/login?{urlencode({'next': request.url.path + query})}", 303)
        response = answer(request, error.status_code, str(error.detail))
        response.headers.update(error.headers or {})
        return response

    @app.exception_handler(RequestValidationError)
    def invalid(request: Request, error: RequestValidationError) -> Response:
        problems = (f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        return answer(request, 422, "; ".join(problems))

    return answer


def _is_page(request: Request) -> bool:
    """Whether a person's browser asks for something to show, who can then be led to the log-on."""
    return request.method == "GET" and "text/html" in request.headers.get("accept", "")
