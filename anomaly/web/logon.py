"""Logging on and off: a token, or a provider of identities, opens a session.

A signed cookie carries the session's secret; the session itself is a row beside the tokens, so that
logging off ends it wherever the cookie went.
"""

from __future__ import annotations

import ipaddress
import secrets
from typing import Annotated

import structlog
from fastapi import APIRouter, Depends, Form, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import HTMLResponse, RedirectResponse
from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from anomaly.months import parse_duration
from anomaly.roles import Caller, Identity
from anomaly.web.access import ANYONE, Door, Visit, needs, refuse_forged, visiting
from anomaly.web.pages import Renderer
from anomaly.web.refusals import Refusals

# What the audit calls it; what cannot be written there does not come to pass.
LOG_ON, LOG_OFF, REFUSED = "log_on", "log_off", "log_on.refused"
PROVIDER = "page:login/callback"
IPV6_HOME = 64  # bits that one customer of a network shares
Target = Annotated[str, Query(alias="next", max_length=2_000)]
log = structlog.get_logger()


class Attempts:
    """How often one address may try to log on. Kept in memory: a restart forgets."""

    def __init__(self, per_minute: int) -> None:
        self._limit = RateLimitItemPerMinute(per_minute)
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, request: Request) -> None:
        """Count an attempt.

        Raises: HTTPException 429 if there were too many.
        """
        if not self._limiter.hit(self._limit, whence(request)):
            log.warning("log_on_limited", client=whence(request))
            raise HTTPException(
                429, "too many attempts to log on; wait a minute", {"Retry-After": "60"}
            )


async def greeted(request: Request) -> Visit:
    """The visit; whoever is not known yet gets a cookie for the form's token to belong to."""
    if not request.session.get("visit") and not request.session.get("session"):
        request.session["visit"] = secrets.token_urlsafe(16)
    return await visiting(request)


async def genuine(request: Request) -> None:
    """Refuse a log-on that another site's page asks for (one could log a victim on as itself)."""
    await refuse_forged(request, await visiting(request))


def router(renderer: Renderer, door: Door) -> APIRouter:
    """Serves /login and /logout."""
    routes = APIRouter(include_in_schema=False)
    attempts = Attempts(door.settings.log_ons_per_minute)
    refusals = Refusals()
    provider = door.provider
    back = f"{door.settings.public_url}/login/callback" if door.settings.public_url else None

    def refuse(actor: str, subject: str, reason: str) -> None:
        written = refusals.count(actor, door.clock())
        if written is not None:
            name, number = written
            which = "" if number == 1 else f"; refusal {number:,} of the day"
            door.record(name, REFUSED, subject, reason + which)

    def page(
        target: str, caller: Caller | None, problem: str = "", status: int = 200
    ) -> HTMLResponse:
        known = {"provider": provider is not None, "target": target, "caller": caller}
        return renderer.page("login.html", status, problem=problem, **known)

    @routes.get("/login", dependencies=[Depends(ANYONE)])
    def form(visit: Annotated[Visit, Depends(greeted)], target: Target = "/") -> HTMLResponse:
        return page(target, visit.caller)

    @routes.post("/login", dependencies=[Depends(ANYONE), Depends(genuine)])
    def log_on(
        request: Request,
        token: Annotated[str, Form(max_length=500)],
        target: Annotated[str, Form(alias="next", max_length=2_000)] = "/",
    ) -> Response:
        attempts.count(request)
        if _let_in(request, door, token.strip()):
            return RedirectResponse(local_path(target), 303)
        log.warning("log_on_refused", client=whence(request))
        refuse(f"address:{whence(request)}", "page:login", "no such token")
        return page(target, None, "This token is unknown, has expired or was revoked.", 401)

    @routes.post("/logout", dependencies=[Depends(needs("monitor"))])
    def log_off(request: Request) -> Response:
        session = door.tokens.find(request.session.get("session", ""), "session", door.clock())
        if session is not None:
            door.record(session.name, LOG_OFF, f"token:{session.id}")
            door.tokens.revoke(session.id, door.clock())
        request.session.clear()
        return RedirectResponse("/login", 303)

    if provider is None:
        return routes

    @routes.get("/login/provider", dependencies=[Depends(ANYONE)])
    async def lead_away(request: Request, target: Target = "/") -> Response:
        attempts.count(request)
        request.session["next"] = local_path(target)
        return await provider.start(request, back or str(request.url_for("come_back")))

    @routes.get("/login/callback", dependencies=[Depends(ANYONE)])
    async def come_back(request: Request) -> Response:
        attempts.count(request)
        target = str(request.session.get("next", "/"))
        person = await provider.finish(request)
        if person.role is None:
            log.warning("log_on_without_role", client=whence(request))
            await run_in_threadpool(refuse, person.name, PROVIDER, "no role here")
            raise HTTPException(
                403,
                f"{person.name} has no role here. Ask whoever runs this server for one, or for a "
                "place in a group that [web] roles names.",
            )
        await run_in_threadpool(_admit, request, door, person)
        return RedirectResponse(target, 303)

    return routes


def local_path(target: str) -> str:
    """A path of this site to go to; anything that a browser could take for another site is "/"."""
    # Browsers read a backslash as a slash and drop control characters, so "/\t/x" is "//x".
    if target.startswith("/") and target.isprintable() and target[1:2] not in {"/", "\\"}:
        return target
    return "/"


def whence(request: Request) -> str:
    """The address of a client; of IPv6 the network, whose addresses one client can change at will."""
    host = request.client.host if request.client else ""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 4:
        return host
    return str(ipaddress.ip_network((address, IPV6_HOME), strict=False))


def _admit(request: Request, door: Door, person: Identity) -> None:
    assert person.role is not None
    now = door.clock()
    author = f"{door.settings.issuer} {person.subject}"
    ends = now + parse_duration(door.settings.session)
    door.record(person.name, LOG_ON, PROVIDER, f"role {person.role}")
    session = door.tokens.open_session(person.name, person.role, author, now, ends)
    request.session.clear()
    request.session["session"] = session


def _let_in(request: Request, door: Door, secret: str) -> bool:
    now = door.clock()
    token = door.tokens.find(secret, "token", now)
    if token is None:
        return False
    ends = min(now + parse_duration(door.settings.session), token.expires_at)
    author = f"token {token.id}"
    door.record(token.name, LOG_ON, f"token:{token.id}", f"role {token.role}")
    session = door.tokens.open_session(token.name, token.role, author, now, ends, token.id)
    request.session.clear()  # nothing from before the log-on is carried over
    request.session["session"] = session
    return True
