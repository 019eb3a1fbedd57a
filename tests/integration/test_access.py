"""Who may do what: every route by every role, and how people come in and go."""

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from fastapi import APIRouter, HTTPException
from prometheus_client import CollectorRegistry, Gauge

from anomaly.exceptions import SourceError
from anomaly.roles import Role
from anomaly.settings import Settings
from anomaly.store import Store, open_engine
from anomaly.telemetry.collector import build_registry
from anomaly.web.access import Recorder, roles_of_routes, unrecorded
from anomaly.web.app import create_app
from pipelines.trail import Trail
from tests.factories import MONTH, publish_month
from tests.fixtures.databases import store_on
from tests.fixtures.serving import bearer, door_of, serving, token_of

NOBODY = "nobody"
HTML = {"Accept": "text/html"}
# Every route with what it needs, and an address of it that there is; {flag} is a flag's id.
ROUTES = [
    ("GET", "/", "reader", "/"),
    ("GET", "/users", "reader", "/users?user=u007"),
    ("GET", "/users/{user_id:path}", "reader", "/users/u007"),
    ("GET", "/flags/{flag_id}", "reader", "/flags/{flag}"),
    ("POST", "/flags/{flag_id}/label", "analyst", "/flags/{flag}/label"),
    ("POST", "/flags/{flag_id}/remark", "analyst", "/flags/{flag}/remark"),
    ("GET", "/suppressions", "reader", "/suppressions"),
    ("POST", "/suppressions/{number}/revoke", "analyst", "/suppressions/7/revoke"),
    ("GET", "/model", "reader", "/model"),
    ("GET", "/cohorts", "reader", "/cohorts"),
    ("GET", "/api/v1/flags/{flag_id}/feedback", "reader", "/api/v1/flags/{flag}/feedback"),
    ("POST", "/api/v1/flags/{flag_id}/feedback", "analyst", "/api/v1/flags/{flag}/feedback"),
    ("POST", "/api/v1/feedback", "analyst", "/api/v1/feedback"),
    ("GET", "/api/v1/suppressions", "reader", "/api/v1/suppressions"),
    ("POST", "/api/v1/suppressions", "analyst", "/api/v1/suppressions"),
    ("DELETE", "/api/v1/suppressions/{number}", "analyst", "/api/v1/suppressions/7"),
    ("GET", "/api/v1/flags", "reader", "/api/v1/flags"),
    ("GET", "/api/v1/flags/{flag_id}", "reader", "/api/v1/flags/{flag}"),
    ("GET", "/api/v1/users", "reader", f"/api/v1/users?month={MONTH}"),
    ("GET", "/api/v1/runs", "reader", "/api/v1/runs"),
    ("GET", "/api/v1/changes", "reader", "/api/v1/changes"),
    ("GET", "/api/v1/openapi.json", "reader", "/api/v1/openapi.json"),
    ("GET", "/metrics", "monitor", "/metrics"),
    ("GET", "/healthz", None, "/healthz"),
    ("GET", "/readyz", None, "/readyz"),
    ("GET", "/static/{name}", None, "/static/style.css"),
    ("GET", "/login", None, "/login"),
    ("POST", "/login", None, "/login"),
    ("GET", "/login/provider", None, "/login/provider"),
    ("GET", "/login/callback", None, "/login/callback"),
    ("POST", "/logout", "monitor", "/logout"),
]
REFUSED = {401, 403}


class AwayProvider:
    """A provider of identities that does not answer."""

    async def start(self, request, back):
        raise HTTPException(502, "away")

    async def finish(self, request):
        raise HTTPException(502, "away")


@contextmanager
def client(
    store: Store,
    provider: AwayProvider | None = None,
    record: Recorder = unrecorded,
    **settings: object,
) -> Iterator[httpx.Client]:
    door = door_of(store, provider, record, **settings)
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as web:
        yield web


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    """A month that tests read and do not change; some tokens."""
    store = store_on(f"sqlite:///{tmp_path_factory.mktemp('access') / 'a.db'}")
    publish_month(store)
    yield store
    store.close()


@pytest.fixture(scope="module")
def web(shared: Store) -> Iterator[httpx.Client]:
    """A server on which everyone must log on."""
    with client(shared, AwayProvider(), authentication="required", log_ons_per_minute=1_000) as web:
        yield web


@pytest.fixture(scope="module")
def tokens(shared: Store) -> dict[str, str]:
    return {role: token_of(shared, role) for role in Role}


@pytest.fixture(scope="module")
def flag_id(shared: Store) -> str:
    return shared.flags.select()[0].flag.flag_id


def csrf_of(page: httpx.Response) -> str:
    found = re.search(r'name="csrf" value="(\w+)"', page.text)
    assert found, page.text
    return found[1]


def log_on(web: httpx.Client, token: str, target: str = "/") -> httpx.Response:
    """As a browser does: the form, then its answer."""
    form = {"csrf": csrf_of(web.get("/login")), "token": token, "next": target}
    return web.post("/login", data=form)


def test_the_table_names_every_route_and_its_role(shared):
    door = door_of(shared, AwayProvider())
    app = create_app(shared, Settings(), CollectorRegistry(), lambda: True, door)
    stated = {(method, path, role) for method, path, role in roles_of_routes(app)}
    assert stated == {(method, path, role) for method, path, role, _ in ROUTES}


@pytest.mark.parametrize("role", [NOBODY, *Role])
@pytest.mark.parametrize(
    ("method", "path", "needed", "address"),
    # A log-on answers an empty form with a refusal: the tests of forms below speak of it.
    [route for route in ROUTES if route[:2] != ("POST", "/login")],
)
def test_a_route_serves_its_role_and_those_above(
    web, tokens, flag_id, method, path, needed, address, role, tally
):
    headers = {} if role == NOBODY else bearer(tokens[role])
    answer = web.request(method, address.format(flag=flag_id), headers=headers)
    allowed = needed is None or (role != NOBODY and Role(role).covers(Role(needed)))
    tally.add("route asked by a role", "sqlite", "served" if allowed else "refused")
    assert (answer.status_code not in REFUSED) == allowed
    if not allowed:
        assert answer.status_code == (401 if role == NOBODY else 403)
        assert "u007" not in answer.text


def test_a_route_that_states_no_role_keeps_the_server_from_starting(shared, monkeypatch):
    unguarded = APIRouter()
    unguarded.get("/all")(lambda: "everything")
    monkeypatch.setattr("anomaly.web.app.assets.router", lambda: unguarded)
    with pytest.raises(ValueError, match="/all states no role"):
        create_app(shared, Settings(), CollectorRegistry(), lambda: True, door_of(shared))


def test_an_unknown_expired_or_revoked_token_opens_nothing(web, shared):
    now = dt.datetime.now(dt.UTC)
    hour = dt.timedelta(hours=1)
    made, revoked = shared.tokens.create("bob", Role.READER, "x", now, now + hour)
    _, expired = shared.tokens.create("bob", Role.READER, "x", now - hour, now - hour / 2)
    assert web.get("/api/v1/runs", headers=bearer(revoked)).status_code == 200
    shared.tokens.revoke(made.id, now)
    for secret in (revoked, expired, "anomaly_guess", "\xe4"):
        answer = web.get(
            "/api/v1/runs", headers={"Authorization": f"Bearer {secret}".encode("latin1")}
        )
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert "token" in answer.json()["error"]


def test_somebody_who_is_not_known_is_led_to_the_log_on_and_back(shared, web, tokens):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        answer = browser.get("/flags/x?y=1", headers=HTML)
        assert answer.status_code == 303
        assert answer.headers["location"] == "/login?next=%2Fflags%2Fx%3Fy%3D1"
        assert browser.get("/", headers={"Accept": "application/json"}).status_code == 401
        answer = log_on(browser, tokens["reader"], "/model")
        assert (answer.status_code, answer.headers["location"]) == (303, "/model")
        assert "ann, reader" in browser.get("/", headers=HTML).text


@pytest.mark.parametrize(
    "target",
    ["https://evil.example", "//evil.example", "/\\evil.example", "/\t/evil.example", "evil"],
)
def test_a_log_on_leads_to_no_other_site(web, tokens, target):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        assert log_on(browser, tokens["reader"], target).headers["location"] == "/"


def test_the_cookie_is_signed_and_hidden_from_scripts(web, tokens):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        cookie = log_on(browser, tokens["reader"]).headers["set-cookie"].lower()
        assert "httponly" in cookie
        assert "samesite=lax" in cookie
        assert "path=/;" in cookie
        value = browser.cookies["anomaly"]
        said, _, signature = value.rpartition(".")
        # Not its last character, of which two bits are padding and say nothing.
        other = ("A" if signature[0] != "A" else "B") + signature[1:]
        for forged in (f"{said}.{other}", value.split(".")[0], "x"):
            assert web.get("/", headers={"Cookie": f"anomaly={forged}"}).status_code == 401
        assert tokens["reader"] not in value


def test_behind_tls_the_cookie_goes_over_tls_alone(shared, tokens):
    with client(shared, authentication="required", public_url="https://a.example") as web:
        answer = web.get("/login")
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-anomaly=")
    assert "secure" in cookie
    assert answer.headers["strict-transport-security"].startswith("max-age=")


def test_logging_off_ends_the_session_wherever_its_cookie_went(web, tokens):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        log_on(browser, tokens["operator"])
        stolen = browser.cookies["anomaly"]
        form = {"csrf": csrf_of(browser.get("/"))}
        assert browser.post("/logout", data=form).headers["location"] == "/login"
        assert "anomaly" not in browser.cookies
    assert web.get("/", headers={"Cookie": f"anomaly={stolen}"}).status_code == 401


def test_revoking_a_token_ends_what_was_opened_with_it(web, shared):
    secret = token_of(shared, "analyst", "eve")
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        log_on(browser, secret)
        assert browser.get("/").status_code == 200
        made = next(token for token in shared.tokens.everyone() if token.name == "eve")
        shared.tokens.revoke(made.id, dt.datetime.now(dt.UTC))
        assert browser.get("/").status_code == 401


def test_a_session_is_no_token_and_a_token_no_session(web, shared):
    now = dt.datetime.now(dt.UTC)
    session = shared.tokens.open_session("x", Role.READER, "x", now, now + dt.timedelta(hours=1))
    assert web.get("/", headers=bearer(session)).status_code == 401


@pytest.mark.parametrize(
    ("headers", "change"),
    [
        ({}, {"csrf": "guess"}),
        ({}, {"csrf": ""}),
        ({"Origin": "https://evil.example"}, {}),
        ({"Origin": "null"}, {}),
        ({"Sec-Fetch-Site": "cross-site"}, {}),
        ({"Sec-Fetch-Site": "same-site"}, {}),
    ],
)
def test_a_form_of_another_site_changes_nothing(web, tokens, headers, change):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        log_on(browser, tokens["administrator"])
        form = {"csrf": csrf_of(browser.get("/")), **change}
        assert browser.post("/logout", data=form, headers=headers).status_code == 403
        assert browser.get("/").status_code == 200
    with httpx.Client(base_url=web.base_url, timeout=60) as victim:
        form = {"csrf": csrf_of(victim.get("/login")), "token": tokens["reader"], **change}
        assert victim.post("/login", data=form, headers=headers).status_code == 403


def test_a_form_of_this_site_may_say_where_it_comes_from(web, tokens):
    origin = str(web.base_url).rstrip("/")
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        log_on(browser, tokens["reader"])
        form = {"csrf": csrf_of(browser.get("/"))}
        headers = {"Origin": origin, "Sec-Fetch-Site": "same-origin"}
        assert browser.post("/logout", data=form, headers=headers).status_code == 303


def test_a_script_of_this_site_sends_the_token_as_a_header(web, tokens):
    with httpx.Client(base_url=web.base_url, timeout=60) as browser:
        log_on(browser, tokens["reader"])
        headers = {"X-CSRF-Token": csrf_of(browser.get("/"))}
        assert browser.post("/logout", headers=headers).status_code == 303


def test_attempts_to_log_on_are_limited(shared):
    with client(shared, authentication="required", log_ons_per_minute=3) as web:
        answers = [log_on(web, "guess").status_code for _ in range(5)]
        assert answers == [401, 401, 401, 429, 429]
        limited = log_on(web, "guess")
        assert limited.headers["retry-after"] == "60"
        assert web.get("/healthz").status_code == 200


@pytest.fixture
def away(tmp_path: Path) -> Iterator[Store]:
    """A store whose database cannot be reached."""
    store = Store(open_engine(f"sqlite:///{tmp_path / 'gone' / 'a.db'}"), retries=0)
    yield store
    store.close()


@pytest.mark.parametrize("authentication", ["auto", "required"])
def test_metrics_tell_that_the_database_is_away_which_knows_who_may_ask(away, authentication):
    door = door_of(away, authentication=authentication)
    registry = build_registry(away, lambda: False, lambda: dt.datetime.now(dt.UTC))
    app = create_app(away, Settings(), registry, lambda: False, door)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as web:
        bearer = {"Authorization": f"Bearer {'x' * 43}"}
        told = web.get("/metrics", headers=bearer)
        assert (told.status_code, "\nanomaly_database_up 0.0\n" in told.text) == (200, True)
        ready = web.get("/readyz")
        assert (ready.status_code, ready.json()["conditions"]) == (503, {"database": "failed"})
        assert web.get("/api/v1/flags", headers=bearer).status_code == 503


def test_metrics_of_a_database_that_came_back_meanwhile_are_not_for_the_unknown(away):
    registry = CollectorRegistry()
    Gauge("anomaly_database_up", "x", registry=registry).set(1)
    app = create_app(
        away, Settings(), registry, lambda: False, door_of(away, authentication="auto")
    )
    with serving(app) as address:
        assert httpx.get(f"{address}/metrics", timeout=60).status_code == 503


def test_metrics_can_be_made_public(shared):
    with client(shared, authentication="required") as web:
        assert web.get("/metrics").status_code == 401
    with client(shared, authentication="required", metrics_public=True) as web:
        assert web.get("/metrics").status_code == 200
        assert web.get("/").status_code == 401


def test_log_ons_are_in_the_audit_by_hashes_alone(shared, tokens, tmp_path):
    settings = Settings.model_validate({"run": {"artefacts": str(tmp_path)}})
    trail = Trail(settings, shared, lambda: dt.datetime.now(dt.UTC))
    with client(shared, record=trail.record, authentication="required") as web:
        log_on(web, "guess")
        log_on(web, tokens["operator"])
        web.post("/logout", data={"csrf": csrf_of(web.get("/"))})
    (refused,) = trail.rows(actor="address:127.0.0.1")
    assert (refused.action, refused.subject) == ("log_on.refused", "page:login")
    came, went = trail.rows(actor="ann")
    assert (came.action, came.reason) == ("log_on", "role operator")
    assert came.subject.startswith("token:")
    assert went.action == "log_off"
    kept = repr(shared.audit.read())
    assert not any(word in kept for word in ("ann", "127.0.0.1", "guess", tokens["operator"]))
    assert trail.findings()[2] == []


def test_guessing_does_not_fill_the_audit(shared):
    rows: list[tuple[str, ...]] = []

    def record(*row: str) -> None:
        rows.append(row)

    with client(shared, record=record, authentication="required", log_ons_per_minute=100) as web:
        assert {log_on(web, "guess").status_code for _ in range(12)} == {401}
    assert [reason for *_, reason in rows] == [
        "no such token",
        "no such token; refusal 10 of the day",
    ]


def test_a_log_on_that_cannot_be_written_does_not_come_to_pass(shared, tokens):
    def full(*_: object) -> None:
        raise SourceError("the disk is full")

    with client(shared, record=full, authentication="required") as web:
        assert log_on(web, tokens["reader"]).status_code == 503
        assert web.get("/").status_code == 401


# --- an open server: on localhost, before the first token


def test_localhost_is_open_until_the_first_token_is_made(fresh):
    with client(fresh) as web:
        assert web.get("/").status_code == 200
        assert "Log off" not in web.get("/").text
        now = dt.datetime.now(dt.UTC)
        made, _ = fresh.tokens.create("a", Role.READER, "x", now, now + dt.timedelta(hours=1))
        assert web.get("/").status_code == 401
        fresh.tokens.revoke(made.id, now)
        assert web.get("/").status_code == 401, "it does not fall open when tokens end"
    with client(fresh, authentication="none") as web:
        assert web.get("/").status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},  # DNS rebinding: the page of another site, by its own name
        {"Host": "evil.example:8090"},
        {"X-Forwarded-For": "203.0.113.9"},
        {"Forwarded": "for=203.0.113.9"},
        {"Via": "1.1 proxy"},
    ],
)
def test_an_open_server_serves_nobody_from_elsewhere(fresh, headers):
    with client(fresh) as web:
        answer = web.get("/api/v1/flags", headers=headers)
        assert answer.status_code == 403
        assert "anomaly token create" in answer.json()["error"]


def test_a_wrong_token_opens_not_even_an_open_server(fresh):
    with client(fresh) as web:
        assert web.get("/api/v1/flags", headers=bearer("anomaly_x")).status_code == 401
        assert web.get("/api/v1/flags").status_code == 200


def test_forms_of_an_open_server_carry_a_token_too(fresh):
    with client(fresh) as web:
        assert web.post("/logout").status_code == 403
