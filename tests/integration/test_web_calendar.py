"""What the calendar knew stands beside a flag and over a user's month."""

import datetime as dt
import re

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.settings import Settings
from anomaly.store import EventRow, FlagFilter
from anomaly.web.app import create_app
from tests.factories import MONTH, RUN_AT, publish_month
from tests.fixtures.jobs import at
from tests.fixtures.serving import door_of, serving

DAY = dt.timedelta(days=1)
NIGHT = at("2026-03-12T00:00")  # u007's burst is in it
EVENTS = {
    "<b>Release</b>": EventRow("announced", NIGHT, NIGHT + DAY, "<b>Release</b>"),
    "Own leave": EventRow("leave", NIGHT - 2 * DAY, NIGHT - DAY, "Own leave", user_id="u007"),
    "Their leave": EventRow("leave", NIGHT, NIGHT + DAY, "Their leave", user_id="u012"),
    "Stocktaking": EventRow("payday", NIGHT, NIGHT + DAY, "Stocktaking", cohort="engineers"),
    "Elsewhere": EventRow("payday", NIGHT, NIGHT + DAY, "Elsewhere", cohort="cleaners"),
    "Ten days on": EventRow("holiday", NIGHT + 10 * DAY, NIGHT + 11 * DAY, "Ten days on"),
    "In April": EventRow("holiday", NIGHT + 30 * DAY, NIGHT + 31 * DAY, "In April"),
}


@pytest.fixture
def store(fresh):
    publish_month(fresh)
    return fresh


@pytest.fixture
def web(store):
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door_of(store))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client


def told(page):
    """The names of EVENTS that a page lists."""
    listed = re.search(r'<div class="known">(.*?)</div>', page, re.DOTALL)
    text = listed[1].replace("&lt;", "<").replace("&gt;", ">") if listed else ""
    return {name for name in EVENTS if name in text}


def test_a_flag_is_shown_with_the_days_around_it(store, web):
    address = f"/flags/{store.flags.select(FlagFilter(user='u007'))[0].flag.flag_id}"
    assert told(web.get(address).text) == set()
    store.events.write([*EVENTS.values()], RUN_AT)
    page = web.get(address).text
    assert told(page) == {"<b>Release</b>", "Own leave", "Stocktaking"}
    assert "<b>Release" not in page
    assert "announced: not judged while it lasts" in page
    (release,) = [entry for entry in store.events.list() if entry.event.kind == "announced"]
    store.events.withdraw(release.event_id, RUN_AT, "dana")
    assert told(web.get(address).text) == {"Own leave", "Stocktaking"}


def test_a_users_month_is_shown_with_its_days(store, web):
    store.events.write([*EVENTS.values()], RUN_AT)
    page = web.get("/users/u007", params={"month": MONTH}).text
    assert told(page) == {"<b>Release</b>", "Own leave", "Stocktaking", "Ten days on"}


def test_who_is_new_has_no_past_to_be_compared_with(store, web):
    row = store.flags.user_months(MONTH, "u012")[0]
    assert "of own past" in web.get("/").text
    assert "no past of their own yet" not in web.get("/").text
    with store._database.engine.begin() as connection:
        connection.exec_driver_sql("UPDATE user_months SET confidence = 0 WHERE user_id = 'u012'")
    assert row.user_month.confidence > 0
    assert web.get("/").text.count("no past of their own yet") == 1
    assert "there is no past to compare with" in web.get(f"/users/u012?month={MONTH}").text
