"""Who asks, and whether they may: each route states a role, and a route that states none is refused.

    @routes.post("/flags/{flag_id}/label")
    def label(flag_id: str, caller: Annotated[Caller, Depends(needs("analyst"))]) -> ...

A request that changes something and is known by its cookie or its place must also prove that it
comes from a page of this site: by its Origin, and by the token that the page put into its form as
`csrf` (`{{ parts.csrf() }}` in a template) or a script sends as X-CSRF-Token.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlsplit

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.routing import iter_route_contexts

from anomaly.exceptions import SourceError
from anomaly.ports import TokenKeeper
from anomaly.roles import Caller, Identity, Role, is_local
from anomaly.settings import WebSettings

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
FORM = ("application/x-www-form-urlencoded", "multipart/form-data")
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
# A proxy writes one of these: whoever comes through it may sit anywhere.
PROXY_HEADERS = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")
LOCAL = Caller("local user", Role.ADMINISTRATOR, "local")

Clock = Callable[[], dt.datetime]


@dataclass(frozen=True, slots=True)
class Visit:
    """One request's caller, if any, and the token that its forms carry."""

    caller: Caller | None
    csrf: str


_VISIT: ContextVar[Visit] = ContextVar("visit")


def current_visit() -> Visit | None:
    """The visit that the page being rendered answers; None where nobody looked who asks."""
    return _VISIT.get(None)


class Provider(Protocol):
    """A provider of identities. See `anomaly.web.oidc`."""

    async def start(self, request: Request, back: str) -> Response:
        """Lead a browser to the provider, which leads it to `back`."""
        ...

    async def finish(self, request: Request) -> Identity:
        """Whom the provider let in. Raises: HTTPException 502 if that cannot be known."""
        ...


class Recorder(Protocol):
    """Writes who did what into the audit."""

    def __call__(self, actor: str, action: str, subject: str, reason: str = "") -> None:
        """Add a row; see `pipelines.trail.Trail.record`."""
        ...


def unrecorded(actor: str, action: str, subject: str, reason: str = "") -> None:
    """Write nothing: for a door without an audit behind it."""


class Door:
    """Tells who asks: by a token, by a log-on, or, on an open server, as the local user.

    A server is open while it listens on this machine alone, knows no other way to log on, and no
    token was ever made; see [web] authentication.
    """

    def __init__(
        self,
        tokens: TokenKeeper,
        settings: WebSettings,
        key: bytes,
        clock: Clock,
        provider: Provider | None = None,
        record: Recorder = unrecorded,
    ) -> None:
        self.record = record
        self.tokens = tokens
        self.settings = settings
        self.clock = clock
        self.provider = provider
        # Cookies go over TLS alone where browsers reach the server by it.
        self.secure = (settings.public_url or "").startswith("https:")
        self._key = key
        self._locked = settings.authentication == "required" or not is_local(settings.host)
        if settings.authentication == "auto" and provider is not None:
            self._locked = True

    @property
    def cookie_key(self) -> str:
        """What signs the cookies."""
        return self._derived("cookie")

    def is_open(self) -> bool:
        """Whether nobody need log on. A server that was locked once stays so."""
        if self.settings.authentication == "auto" and not self._locked:
            self._locked = self.tokens.ever_made()
        return not self._locked

    def look(self, request: Request) -> Visit:
        """Who sends a request.

        Raises: HTTPException 401 for a token that opens nothing; 403 for a request that reached an
            open server from elsewhere.
        """
        scheme, _, secret = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(secret.strip())
        session = request.session.get("session", "")
        found = self.tokens.find(session, "session", self.clock()) if session else None
        if found is not None:
            return Visit(Caller(found.name, found.role, "session"), self._csrf(session))
        if self.is_open():
            _refuse_from_elsewhere(request)
            return Visit(LOCAL, self._csrf("local"))
        return Visit(None, self._csrf(request.session.get("visit", "")))

    def _bearer(self, secret: str) -> Visit:
        found = self.tokens.find(secret, "token", self.clock())
        if found is None:
            raise HTTPException(
                401,
                "this token is unknown, has expired or was revoked. Make another: anomaly token create",
                {"WWW-Authenticate": 'Bearer error="invalid_token"'},
            )
        return Visit(Caller(found.name, found.role, "token"), "")

    def _csrf(self, of: str) -> str:
        return self._derived(f"csrf:{of}")

    def _derived(self, purpose: str) -> str:
        return hmac.new(self._key, purpose.encode(), hashlib.sha256).hexdigest()


@dataclass(frozen=True, slots=True)
class Needs:
    """A dependency: the caller, who has at least this role; None lets anyone in, unlooked at.

    away: the route also answers while the database is away, which knows callers: to None then.
    """

    role: Role | None
    away: bool = False

    async def __call__(self, request: Request) -> Caller | None:
        """The caller.

        Raises: HTTPException 401 if nobody is known, 403 if the role does not do or the request
            comes from another site.
        """
        if self.role is None:
            return None
        try:
            visit = await visiting(request)
        except SourceError:
            if not self.away:
                raise
            return None
        caller = visit.caller
        if caller is None:
            raise HTTPException(401, "log on first", {"WWW-Authenticate": "Bearer"})
        if not caller.role.covers(self.role):
            raise HTTPException(
                403,
                f"this needs the role {self.role}; {caller.name} has the role {caller.role}. "
                "Ask whoever gave it to you.",
            )
        if caller.way != "token":
            await refuse_forged(request, visit)
        return caller


def needs(role: str, *, away: bool = False) -> Needs:
    """What a route depends on to be served to callers of a role and of all above it.

    Args: away: see `Needs`.
    Raises: ValueError if there is no such role.
    """
    return Needs(Role(role), away)


ANYONE = Needs(None)


async def visiting(request: Request) -> Visit:
    """Who sends this request, looked up once."""
    visit: Visit | None = getattr(request.state, "visit", None)
    if visit is None:
        door: Door = request.app.state.door
        visit = await run_in_threadpool(door.look, request)
        request.state.visit = visit
    _VISIT.set(visit)
    return visit


async def refuse_forged(request: Request, visit: Visit) -> None:
    """Make sure that what changes something was asked for by a page of this site.

    Raises: HTTPException 403.
    """
    if request.method in SAFE_METHODS:
        return
    given = request.headers.get("x-csrf-token")
    if given is None and request.headers.get("content-type", "").startswith(FORM):
        given = str((await request.form()).get("csrf", ""))
    door: Door = request.app.state.door
    if not _same_site(request, door.settings.public_url) or not hmac.compare_digest(
        (given or "").encode(), visit.csrf.encode()
    ):
        raise HTTPException(
            403,
            "this request did not come from a page of this site, or the page was too old. Load it "
            "again and send it once more; programs use a token: Authorization: Bearer …",
        )


def was_looked_up(request: Request) -> bool:
    """Whether it was looked up who sends this request."""
    return getattr(request.state, "visit", None) is not None


def roles_of_routes(app: FastAPI) -> Iterator[tuple[str, str, Role | None]]:
    """Method, path and role of each route of an application; None: anyone.

    Raises: ValueError naming a route that states no role.
    """
    for route in iter_route_contexts(app.routes):
        stated = [
            call.role for call in _calls(getattr(route, "dependant", None)) if _is_needs(call)
        ]
        if not stated:
            raise ValueError(f"{route.path} states no role: Depends(needs(...)) or Depends(ANYONE)")
        roles = [role for role in stated if role is not None]
        strictest = max(roles, key=list(Role).index, default=None)
        for method in sorted(route.methods or ()):
            yield method, str(route.path), strictest


def _refuse_from_elsewhere(request: Request) -> None:
    # A page of another site can make a browser ask this machine (DNS rebinding): not by this name.
    if request.url.hostname in LOCAL_NAMES and not any(n in request.headers for n in PROXY_HEADERS):
        return
    raise HTTPException(
        403,
        f"this server is open to its own machine alone and was reached as {request.url.hostname!r}"
        " or through a proxy. Make a token, so that people can log on: anomaly token create",
    )


def _same_site(request: Request, public_url: str | None) -> bool:
    if request.headers.get("sec-fetch-site", "same-origin") != "same-origin":
        return False
    origin = request.headers.get("origin")
    own = {request.headers.get("host"), urlsplit(public_url or "").netloc}
    return origin is None or urlsplit(origin).netloc in own - {"", None}


def _calls(dependant: Any) -> Iterable[Any]:
    for inner in dependant.dependencies if dependant else ():
        yield inner.call
        yield from _calls(inner)


def _is_needs(call: object) -> bool:
    return isinstance(call, Needs)
