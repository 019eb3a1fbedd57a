"""Log-on through a provider of identities: a real one, on a port of this machine."""

import datetime as dt
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.roles import Role, identity
from anomaly.settings import Settings, WebSettings
from anomaly.store import Store
from anomaly.web.access import Recorder, unrecorded
from anomaly.web.app import create_app
from anomaly.web.oidc import OpenIdProvider
from pipelines.trail import Trail
from tests.fixtures.serving import bearer, door_of, serving, token_of

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # it says at import what authlib will drop one day
    from oidc_provider_mock import User, run_server_in_thread

# Raised within the provider, by the provider.
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PEOPLE = [
    User(sub="s1", claims={"preferred_username": "ann", "groups": ["soc", "staff"]}),
    User(sub="s2", claims={"preferred_username": "bob", "groups": ["staff"]}),
    User(sub="s3", claims={"preferred_username": "<b>eve</b>\n2026 forged", "groups": ["admins"]}),
    User(sub="s4", claims={"groups": "soc"}),
]
ROLES = {"soc": "analyst", "admins": "administrator"}


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with run_server_in_thread(require_nonce=True, user_claims=PEOPLE) as server:
            yield f"http://localhost:{server.server_port}"


@pytest.fixture
def store(fresh: Store) -> Store:
    """One kind of database is enough here."""
    return fresh


@contextmanager
def browser_at(
    store: Store, issuer: str, record: Recorder = unrecorded, **settings: object
) -> Iterator[httpx.Client]:
    """A browser before a server that knows the provider."""
    web = WebSettings(issuer=issuer, client_id="anomaly", **{"roles": ROLES, **settings})
    provider = OpenIdProvider(web, "shared secret")
    door = door_of(store, provider, record, **web.model_dump())
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door)
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as browser:
        yield browser


def at_provider(browser: httpx.Client, subject: str, target: str = "/model") -> str:
    """Go to the provider, say who one is, and give the address that it leads back to."""
    away = browser.get("/login/provider", params={"next": target})
    assert away.status_code == 302, away.text
    with httpx.Client(timeout=60) as elsewhere:
        back = elsewhere.post(away.headers["location"], data={"sub": subject})
    return back.headers["location"]


def test_a_person_of_a_group_comes_in_with_its_role(store, issuer):
    with browser_at(store, issuer) as browser:
        assert browser.get("/").status_code == 401, "a provider locks the door"
        assert "Log on with your organisation" in browser.get("/login").text
        back = browser.get(at_provider(browser, "s1"))
        assert (back.status_code, back.headers["location"]) == (303, "/model")
        assert "ann, analyst" in browser.get("/").text
        (session,) = store.tokens.everyone()
        assert (session.name, session.role, session.author) == ("ann", "analyst", f"{issuer} s1")
        form = {"csrf": re.findall(r'name="csrf" value="(\w+)"', browser.get("/").text)[0]}
        browser.post("/logout", data=form)
        assert browser.get("/").status_code == 401


def test_a_person_without_a_role_stays_outside(store, issuer):
    with browser_at(store, issuer) as browser:
        answer = browser.get(at_provider(browser, "s2"))
        assert answer.status_code == 403
        assert "bob has no role here" in answer.text
        assert store.tokens.everyone() == []
    with browser_at(store, issuer, default_role="reader") as browser:
        browser.get(at_provider(browser, "s2"))
        assert "bob, reader" in browser.get("/").text


def test_log_ons_through_the_provider_are_in_the_audit_by_hashes_alone(store, issuer, tmp_path):
    settings = Settings.model_validate({"run": {"artefacts": str(tmp_path)}})
    trail = Trail(settings, store, lambda: dt.datetime.now(dt.UTC))
    with browser_at(store, issuer, trail.record) as browser:
        browser.get(at_provider(browser, "s2"))  # of no group that has a role
        browser.get(at_provider(browser, "s1"))
        form = {"csrf": re.findall(r'name="csrf" value="(\w+)"', browser.get("/").text)[0]}
        browser.post("/logout", data=form)
    (refused,) = trail.rows(actor="bob")
    assert (refused.action, refused.reason) == ("log_on.refused", "no role here")
    came, went = trail.rows(actor="ann")
    assert (came.action, came.reason, went.action) == ("log_on", "role analyst", "log_off")
    kept = repr(store.audit.read())
    assert not any(name in kept for name in ("ann", "bob"))
    assert trail.findings()[2] == []


def test_a_name_from_elsewhere_is_text_on_one_line(store, issuer):
    with browser_at(store, issuer) as browser:
        browser.get(at_provider(browser, "s3"))
        page = browser.get("/").text
        assert "&lt;b&gt;eve&lt;/b&gt;2026 forged, administrator" in page
        assert "<b>eve" not in page


@pytest.mark.parametrize(
    "change",
    [
        lambda back: back.replace("code=", "code=x"),
        lambda back: re.sub(r"state=[^&]+", "state=forged", back),
        lambda back: back.partition("?")[0],
        lambda back: back.partition("?")[0] + "?error=access_denied&error_description=<b>no</b>",
    ],
    ids=["code", "state", "nothing", "refusal"],
)
def test_an_answer_that_is_not_the_providers_opens_nothing(store, issuer, change):
    with browser_at(store, issuer) as browser:
        answer = browser.get(change(at_provider(browser, "s1")))
        assert answer.status_code == 502
        assert "<b>" not in answer.text
        assert browser.get("/").status_code == 401
        assert store.tokens.everyone() == []


def test_an_answer_works_once_and_only_where_the_log_on_began(store, issuer):
    with browser_at(store, issuer) as browser:
        back = at_provider(browser, "s1")
        with httpx.Client(timeout=60) as thief:
            assert thief.get(back).status_code == 502
        assert browser.get(back).status_code == 303
        assert browser.get(back).status_code == 502


def test_a_provider_that_is_away_or_another_is_said_and_tokens_still_open(store, issuer):
    for address in ("http://localhost:9", issuer + "/"):
        with browser_at(store, address) as browser:
            answer = browser.get("/login/provider")
            assert (answer.status_code, "did not work" in answer.text) == (502, True)
            headers = bearer(token_of(store, "reader"))
            assert browser.get("/api/v1/runs", headers=headers).status_code == 200


def test_log_ons_through_the_provider_are_limited_too(store, issuer):
    with browser_at(store, issuer, log_ons_per_minute=2) as browser:
        codes = [browser.get("/login/provider").status_code for _ in range(3)]
        assert codes == [302, 302, 429]


@pytest.mark.parametrize(
    ("claims", "name", "role"),
    [
        ({"sub": "s", "n": "ann", "groups": ["soc", "admins"]}, "ann", "administrator"),
        ({"sub": "s", "n": "ann", "groups": "soc"}, "ann", "analyst"),
        ({"sub": "s", "n": "ann", "groups": [1, None, {"soc": 1}]}, "ann", None),
        ({"sub": "s", "groups": {"soc": True}}, "s", None),
        ({"sub": "s", "n": " \t\n", "groups": []}, "s", None),
        ({}, "", None),
    ],
)
def test_a_role_is_the_highest_that_a_group_gives(claims, name, role):
    roles = {name: Role(role) for name, role in ROLES.items()}
    found = identity(claims, "n", "groups", roles, None)
    assert (found.name, found.role) == (name, role)


def test_a_claim_may_lie_within_others():
    claims = {"sub": "s", "realm": {"roles": ["soc"]}, "x.y": ["admins"]}
    roles = {name: Role(role) for name, role in ROLES.items()}
    assert identity(claims, "n", "realm.roles", roles, None).role == "analyst"
    assert identity(claims, "n", "x.y", roles, None).role == "administrator"
    assert identity(claims, "n", "realm.roles.deep", roles, Role.READER).role == "reader"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"issuer": "http://sso.example.org", "client_id": "a"}, "is no provider"),
        ({"issuer": "https://sso.example.org", "roles": ROLES}, "client_id"),
        ({"issuer": "https://sso.example.org", "client_id": "a"}, "roles or a default_role"),
        ({"roles": {"soc": "root"}}, "roles.soc"),
        ({"public_url": "anomaly.example.org"}, "is no address"),
        ({"public_url": "https://a.example/below"}, "is no address"),
    ],
)
def test_settings_that_would_let_nobody_or_anybody_in_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        WebSettings(**settings)
