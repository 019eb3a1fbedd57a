"""The operator's pages: what they say, whom they serve, and what they ask of the scheduler."""

import datetime as dt
import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.settings import Settings
from anomaly.store import Store
from anomaly.web.access import roles_of_routes
from anomaly.web.app import create_app
from tests.fixtures.databases import store_on
from tests.fixtures.operating import NOW, Asked, publish_year
from tests.fixtures.serving import bearer, door_of, serving, token_of


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Iterator[Store]:
    made = store_on(f"sqlite:///{tmp_path_factory.mktemp('operate') / 'anomaly.db'}")
    publish_year(made)
    yield made
    made.close()


def app_of(store, asked, **settings):
    return create_app(
        store, Settings(), CollectorRegistry(), lambda: True, door_of(store, **settings),
        operations=asked,
    )  # fmt: skip


@pytest.fixture
def asked(store):
    return Asked(store)


@pytest.fixture
def web(store, asked) -> Iterator[httpx.Client]:
    with (
        serving(app_of(store, asked)) as address,
        httpx.Client(base_url=address, timeout=60) as client,
    ):
        yield client


def text_of(answer):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.text))


def test_it_says_at_a_glance_whether_the_last_month_ran(web):
    said = text_of(web.get("/operate"))
    assert "July 2026 is not complete. It is being scored now." in said
    assert "Needs attention" in said
    assert "those read at 09:12 were refused: [schedule] score" in said
    assert "job score" in said.lower()
    assert "made up once" in said


def test_an_empty_ledger_does_not_hide_that_nobody_ran_the_last_month(fresh):
    with serving(app_of(fresh, Asked(fresh))) as address:
        page = httpx.get(f"{address}/operate", timeout=60)
    assert "July 2026 is not complete. Nobody ran it" in text_of(page)
    assert "/operate/ask?action=month&amp;month=2026-07" in page.text


def test_messages_that_fail_and_rows_that_are_set_aside_are_named(fresh):
    for minutes, rejected in ((50, {}), (40, {"unreadable_value": 41})):
        at = NOW - dt.timedelta(minutes=minutes)
        run = fresh.ledger.start("ingest", configuration="c", code_version="1", now=at)
        fresh.ledger.finish(
            run, "complete", at, source="hr:activity", rows_read=1_000, rows_rejected=rejected
        )
    fresh.notifications.record("chat", "test", "failed", "it said 500.", NOW)
    with serving(app_of(fresh, Asked(fresh))) as address:
        said = text_of(httpx.get(f"{address}/operate", timeout=60))
        assert "Source hr:activity 41 of the 1,000 rows read last were set aside" in said
        assert "41 unreadable value" in said
        assert "Messages to chat the last one failed at" in said
        fresh.notifications.record("chat", "test", "sent", "", NOW)
        assert "Messages to chat" not in text_of(httpx.get(f"{address}/operate", timeout=60))


def test_a_running_month_shows_its_stage_and_how_far_it_is(web):
    said = text_of(web.get("/operate"))
    assert "score, for 1 minute" in said
    assert "1,000 of 2,000 users scored" in said


def test_a_run_that_hangs_is_named(store, asked):
    (run,) = store.ledger.runs(job="month", states=("running",))
    asked.now_at = NOW + dt.timedelta(minutes=40)
    try:
        with (
            serving(app_of(store, asked)) as address,
            httpx.Client(base_url=address, timeout=60) as client,
        ):
            assert f"Run {run.id} no sign of life for" in text_of(client.get("/operate"))
            store.ledger.heartbeat(run, asked.now_at)
            said = text_of(client.get("/operate"))
            assert "its process lives, but its work has not got on for 43 minutes" in said
    finally:
        store.ledger.heartbeat(run, NOW - dt.timedelta(seconds=5))


def test_a_run_shows_its_stages_with_what_was_left_out(web, store):
    run = store.ledger.runs(job="month", states=("running",))[0]
    said = text_of(web.get(f"/operate/runs/{run.id}"))
    assert "3 no rows in this month" in said
    assert "700 MiB" in said
    assert web.get("/operate/runs/99999").status_code == 404


@pytest.mark.parametrize(
    ("action", "fields"),
    [
        ("month", {"month": "2026-05"}),
        ("rescore", {"month": "2026-03"}),
        ("pause", {}),
        ("resume", {}),
        ("cancel", {"target": "7"}),
    ],
)
def test_what_is_asked_for_is_confirmed_first_and_names_who_and_why(web, asked, action, fields):
    page = web.get("/operate/ask", params={"action": action, **fields})
    csrf = re.search(r'name="csrf" value="(\w+)"', page.text)[1]
    form = {"csrf": csrf, "action": action, "reason": "because", **fields}
    answer = web.post("/operate/ask", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/operate?said={action}")
    target = int(fields["target"]) if "target" in fields else None
    assert asked.asked == [("local user", action, fields.get("month"), target, "because")]
    assert "Asked for" in text_of(web.get(f"/operate?said={action}"))


def test_a_form_of_another_site_and_a_wrong_action_are_refused(web, asked):
    assert web.post("/operate/ask", data={"action": "pause"}).status_code == 403
    assert web.get("/operate/ask?action=erase").status_code == 422
    assert web.get("/operate/ask?action=month&month=May").status_code == 400
    assert web.get("/operate/ask?action=cancel").status_code == 400
    assert asked.asked == []


def test_only_operators_and_those_above_may(store, asked):
    app = app_of(store, asked, authentication="required")
    stated = {path: role for _, path, role in roles_of_routes(app) if path.startswith("/operate")}
    assert set(stated.values()) == {"operator"}
    assert set(stated) == {"/operate", "/operate/runs/{run_id}", "/operate/ask"}
    roles = ("analyst", "operator")
    tokens = {role: token_of(store, role, role) for role in roles}
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as client:
        codes = [client.get("/operate", headers=bearer(tokens[role])).status_code for role in roles]
        assert client.get("/operate").status_code == 401
    assert codes == [403, 200]


def test_a_long_path_in_a_note_stays_within_its_card(fresh, page):
    run = fresh.ledger.start("month", "2026-07", configuration="c", code_version="1", now=NOW)
    note = f"the file of the model differs: /var/lib/{'anomaly_models' * 8}/network.onnx"
    fresh.ledger.finish(run, "failed", NOW, note=note)
    with serving(app_of(fresh, Asked(fresh))) as address:
        page.goto(f"{address}/operate")
        cards = "[...document.querySelectorAll('section.card')]"
        assert page.evaluate(f"{cards}.filter(it => it.scrollWidth > it.clientWidth).length") == 0
