"""The page and the API over real databases."""

import datetime as dt
import itertools
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.settings import GridSettings, Settings
from anomaly.store import EXPORT_COLUMNS, Store, open_engine
from anomaly.web.app import create_app
from anomaly.web.words import user_url
from tests.factories import MONTH, NASTY_NAMES, publish_month
from tests.fixtures.serving import door_of, serving


@contextmanager
def client(store: Store, settings: Settings | None = None) -> Iterator[httpx.Client]:
    door = door_of(store)
    app = create_app(store, settings or Settings(), CollectorRegistry(), lambda: True, door)
    with serving(app) as address, httpx.Client(base_url=address) as web:
        yield web


@pytest.fixture
def web(store: Store) -> Iterator[httpx.Client]:
    publish_month(store)
    with client(store) as web:
        yield web


def first_flag(web: httpx.Client, user: str) -> str:
    flags = web.get("/api/v1/flags", params={"user": user}).json()
    return str(flags[0]["flag_id"])


class Outline(HTMLParser):
    """Elements and attributes as a browser would see them."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


def test_the_month_lists_users_and_flags_the_strongest_first(web):
    page = web.get("/").text
    assert "March 2026" in page
    assert page.index("u007") < page.index("u012") < page.index("u020")
    assert "1 critical, 1 high, 1 medium, 6 low" in page
    assert "1: too little history to know what is normal" in page


def test_a_month_is_chosen_and_a_wrong_one_refused(web):
    assert "has not been scored" in web.get("/?month=2025-01").text
    answer = web.get("/?month=March")
    assert answer.status_code == 400
    assert "Write year and month" in answer.text


def test_filters_narrow_the_flags(web):
    page = web.get(f"/?month={MONTH}&severity=high&status=&user=&metric=").text
    flags = page[page.index('id="flags"') :]
    assert "u012" in flags
    assert "u007" not in flags


def test_pages_of_users_reach_everyone_once(web):
    shown: list[str] = []
    for page in range(1, 10):
        html = web.get(f"/?users={page}").text
        users = html[html.index('id="users"') : html.index('id="flags"')]
        shown += re.findall(r'class="name"><a href="([^"]+)"', users)
        if "Next users" not in users:
            break
    assert len(shown) == len(set(shown)) == 49


def test_a_flag_says_what_was_odd_and_carries_its_series(web):
    page = web.get(f"/flags/{first_flag(web, 'u007')}").text
    assert "files_read in 4 hours" in page
    assert "More unusual than 99.4 % of the 34 users most like this one." in page
    data = json.loads(re.findall(r'<script type="application/json">(.*?)</script>', page)[0])
    assert data["flagged"] == ["2026-03-12T01:00:00", "2026-03-12T05:00:00"]
    assert len(data["times"]) == 3 * 24 + 4 + 3 * 24
    assert max(data["observed"]) > 400 > max(data["upper"])


def test_times_are_those_of_the_grid(store):
    publish_month(store)
    settings = Settings(grid=GridSettings(timezone="America/New_York"))
    with client(store, settings) as web:
        page = web.get(f"/flags/{first_flag(web, 'u007')}").text
    assert "Wed 11 Mar 2026, 21:00 to Thu 12 Mar 2026, 01:00" in page
    assert "America/New_York, UTC-04:00" in page


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_names_are_values_never_markup(web, name):
    month = web.get("/").text
    links = [tag["href"] for kind, tag in Outline(month).tags if kind == "a"]
    found = [web.get(link) for link in links if link and link.startswith("/users")]
    assert {page.status_code for page in found} == {200}
    flag_page = web.get(f"/flags/{first_flag(web, name)}").text
    for html in (month, flag_page, *(page.text for page in found)):
        outline = Outline(html)
        assert not [tag for tag, _ in outline.tags if tag == "b"]
        inline = [tag for kind, tag in outline.tags if kind == "script" and not tag.get("src")]
        assert all(tag.get("type") == "application/json" for tag in inline)
        assert not [key for _, tag in outline.tags for key in tag if key.startswith("on")]


@pytest.mark.parametrize("name", NASTY_NAMES)
def test_a_user_is_found_by_any_name(web, name):
    answer = web.get(user_url(name, MONTH))
    assert answer.status_code == 200
    assert "Burst of files_read" in answer.text


def test_a_name_that_a_path_cannot_hold_travels_in_the_query(web):
    month = web.get("/").text
    assert 'href="/users?user=..&amp;month=2026-03"' in month
    assert 'href="/users?user=line%0Abreak&amp;month=2026-03"' in month


def test_what_is_not_there_is_404(web):
    for address in ("/users/nobody", "/flags/none", "/static/app.py", "/nowhere"):
        answer = web.get(address)
        assert answer.status_code == 404
        assert "<h1>" in answer.text
    assert web.get("/api/v1/flags/none").json().keys() == {"error"}


def test_an_empty_database_says_what_to_do(store):
    with client(store) as web:
        assert "anomaly import" in web.get("/").text


def test_a_provisional_month_says_so(store):
    publish_month(store, state="provisional")
    with client(store) as web:
        assert "flags may still change" in web.get("/").text


def test_flags_of_the_api_are_those_of_the_export(web):
    flags = web.get("/api/v1/flags").json()
    assert tuple(flags[0]) == EXPORT_COLUMNS
    assert [flag["score"] for flag in flags] == sorted((f["score"] for f in flags), reverse=True)
    assert flags[0]["start"] == "2026-03-12T01:00:00Z"
    assert [f["user_id"] for f in web.get("/api/v1/flags?metric=log_ons").json()] == ["u012"]
    assert len(web.get("/api/v1/flags?limit=2&offset=8").json()) == 1
    assert web.get("/api/v1/flags?severity=dire").status_code == 422
    assert web.get("/api/v1/flags?month=2026-13").status_code == 400


def test_one_flag_of_the_api_has_its_series(web):
    flag = web.get(f"/api/v1/flags/{first_flag(web, 'u007')}").json()
    assert flag["series"]["times"][0] == "2026-03-09T01:00:00Z"
    peers = [flag["series"].pop(name) for name in ("peers_middle", "peers_high")]
    assert peers == [None, None], "kept by a run that draws them"
    assert {len(values) for values in flag["series"].values()} == {148}


def test_users_and_runs_of_the_api(web):
    users = web.get("/api/v1/users", params={"month": MONTH, "limit": 2}).json()
    assert [(user["rank"], user["user_id"]) for user in users] == [(1, "u007"), (2, "u012")]
    runs = web.get("/api/v1/runs", params={"job": "month"}).json()
    assert [(run["month"], run["state"], run["users_scored"]) for run in runs] == [
        (MONTH, "complete", 48)
    ]
    assert "holder" not in runs[0]


def test_nothing_may_come_from_elsewhere(web):
    for address in ("/", "/api/v1/flags", "/nowhere", "/healthz"):
        policy = web.get(address).headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    loaded = Outline(web.get(f"/flags/{first_flag(web, 'u007')}").text).tags
    sources = [tag["src"] for _, tag in loaded if "src" in tag]
    sheets = [tag["href"] for kind, tag in loaded if kind == "link"]
    assert all(str(address).startswith("/static/") for address in sources + sheets)
    assert {web.get(str(address)).status_code for address in sources + sheets} == {200}


def test_pages_are_not_kept_but_assets_are(web):
    assert web.get("/").headers["cache-control"] == "no-store"
    asset = web.get("/static/plotly.min.js", headers={"accept-encoding": "gzip"})
    assert "immutable" in asset.headers["cache-control"]
    assert asset.headers["content-encoding"] == "gzip"


def test_ready_only_with_the_database(store, tmp_path):
    with client(store) as web:
        assert web.get("/readyz").json() == {
            "status": "ready",
            "leader": True,
            "conditions": {},
            "reasons": {},
        }
    lost = Store(open_engine(f"sqlite:///{tmp_path / 'nowhere' / 'a.db'}"), retries=0)
    with client(lost) as web:
        assert web.get("/readyz").status_code == 503
        assert web.get("/healthz").status_code == 200
        assert web.get("/").status_code == 503
        assert "<h1>" in web.get("/").text
        assert web.get("/api/v1/flags").json().keys() == {"error"}


def test_starting_the_page_imports_neither_tensorflow_nor_pandas_nor_plotly():
    heavy = ("tensorflow", "keras", "pandas", "sklearn", "plotly", "sqlalchemy")
    code = f"import sys, anomaly.web.app; print([m for m in {heavy} if m in sys.modules])"
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    assert shown.strip() == "[]"


def test_an_axis_never_runs_backwards_where_clocks_change(store):
    publish_month(store)
    with client(store, Settings(grid=GridSettings(timezone="Europe/Berlin"))) as web:
        page = web.get(f"/flags/{first_flag(web, 'u012')}").text
    times = json.loads(re.findall(r'application/json">(.*?)</script>', page)[0])["times"]
    moments = [dt.datetime.fromisoformat(time) for time in times]
    steps = {later - sooner for sooner, later in itertools.pairwise(moments)}
    assert steps == {dt.timedelta(hours=1)}
