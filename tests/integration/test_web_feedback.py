"""Verdicts by the page's forms and by the API, as an analyst and a program give them."""

import re
from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.ports import FlagFilter
from anomaly.settings import Settings
from anomaly.store import Store
from anomaly.web.app import create_app
from tests.factories import publish_month
from tests.fixtures.databases import store_on
from tests.fixtures.serving import door_of, serving


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Store, httpx.Client]]:
    store = store_on(f"sqlite:///{tmp_path_factory.mktemp('web') / 'a.db'}")
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door_of(store))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as web:
        yield store, web
    store.close()


@pytest.fixture
def store(running: tuple[Store, httpx.Client]) -> Store:
    """Nothing was said of the month's flags yet."""
    with running[0]._database.engine.begin() as connection:
        for table in ("feedback", "suppressions", "baselines"):
            connection.exec_driver_sql(f"DELETE FROM {table}")
    publish_month(running[0])
    return running[0]


@pytest.fixture
def web(running: tuple[Store, httpx.Client], store: Store) -> httpx.Client:
    return running[1]


def flag_of(store: Store, user: str, kind: str = "burst") -> str:
    (row,) = store.flags.select(FlagFilter(user=user, kind=kind))
    return row.flag.flag_id


def csrf(page: httpx.Response) -> str:
    return re.findall(r'name="csrf" value="(\w+)"', page.text)[0]


def token(web: httpx.Client, flag_id: str) -> dict[str, str]:
    return {"X-CSRF-Token": csrf(web.get(f"/flags/{flag_id}"))}


def test_a_verdict_on_the_page_changes_the_page(store, web):
    flag_id = flag_of(store, "u007")
    page = web.get(f"/flags/{flag_id}")
    form = {
        "csrf": csrf(page),
        "verdict": "false_alarm",
        "note": "a <b>backup</b>",
        "scope": "user",
    }
    answer = web.post(f"/flags/{flag_id}/label", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/flags/{flag_id}#said")
    page = web.get(f"/flags/{flag_id}")
    assert "<strong>false alarm</strong>" in page.text
    assert "a &lt;b&gt;backup&lt;/b&gt;" in page.text
    assert 'name="replacing" value="false_alarm"' in page.text
    listed = web.get("/suppressions")
    assert "user u007" in listed.text
    revoked = re.findall(r'action="(/suppressions/\d+/revoke)"', listed.text)[0]
    assert web.post(revoked, data={"csrf": csrf(listed)}).status_code == 303
    assert "None: every flag is shown" in web.get("/suppressions").text
    assert "by local user" in web.get("/suppressions?revoked=1").text


def test_a_page_that_is_out_of_date_does_not_overrule(store, web):
    flag_id = flag_of(store, "u007")
    page = web.get(f"/flags/{flag_id}")
    for verdict, code in (("true", 303), ("expected", 409)):
        form = {"csrf": csrf(page), "verdict": verdict, "replacing": ""}
        answer = web.post(f"/flags/{flag_id}/label", data=form)
        assert answer.status_code == code
    assert "local user said true" in answer.text
    assert store.flags.get(flag_id).label == "true"


def test_remarks_on_the_page_hand_a_flag_on(store, web):
    flag_id = flag_of(store, "u007")
    form = {"csrf": csrf(web.get(f"/flags/{flag_id}")), "note": "see HR", "status": "acknowledged"}
    assert (
        web.post(f"/flags/{flag_id}/remark", data={**form, "assignee": "dana"}).status_code == 303
    )
    row = store.flags.get(flag_id)
    assert (row.status, row.assignee) == ("acknowledged", "dana")
    nothing = {"csrf": form["csrf"], "status": "acknowledged", "assignee": "dana"}
    answer = web.post(f"/flags/{flag_id}/remark", data=nothing)
    assert (answer.status_code, "it says nothing" in answer.text) == (400, True)


def test_programs_give_verdicts_and_read_what_was_said(store, web):
    flag_id = flag_of(store, "u007", "shift")
    headers = token(web, flag_id)
    address = f"/api/v1/flags/{flag_id}/feedback"
    done = web.post(address, json={"verdict": "new normal", "note": "moved"}, headers=headers)
    assert done.status_code == 201
    assert done.json()["baseline"].startswith("2026-03-17")
    again = web.post(address, json={"verdict": "true"}, headers=headers)
    assert again.status_code == 409
    body = {"verdict": "true", "replacing": "new_normal"}
    assert web.post(address, json=body, headers=headers).status_code == 201
    said = web.get(address).json()
    assert [one["verdict"] for one in said] == ["new_normal", "true"]
    assert web.get("/api/v1/flags/nonsense/feedback").status_code == 404
    wrong = {"verdict": "true", "status": "open"}
    assert web.post(address, json=wrong, headers=headers).status_code == 400
    assert web.post(address, json={"verdikt": "true"}, headers=headers).status_code == 422


def test_programs_give_verdicts_in_bulk_all_or_none(store, web):
    flag_id = flag_of(store, "u012", "silence")
    headers = {**token(web, flag_id), "Content-Type": "text/csv"}

    def send(text):
        return web.post("/api/v1/feedback", content=text.encode(), headers=headers)

    answer = send(f"flag_id,verdict\n{flag_id},true\nnope,true\n")
    assert (answer.status_code, "'nope' is not there" in answer.json()["error"]) == (400, True)
    assert store.feedback.said(flag_id) == []
    assert send(f"flag_id,verdict\n{flag_id},false alarm\n").status_code == 201
    assert store.flags.get(flag_id).label == "false_alarm"


def test_programs_suppress_and_take_back(store, web):
    headers = token(web, flag_of(store, "u007"))
    asked = {"reason": "small", "metric": "files_read", "least_effect": 1e6}
    made = web.post("/api/v1/suppressions", json=asked, headers=headers).json()
    assert made["quieted"] == 8
    (one,) = web.get("/api/v1/suppressions").json()
    assert (one["metric"], one["quiets"], one["author"]) == ("files_read", 8, "local user")
    flags = web.get("/api/v1/flags").json()
    assert {flag["suppressed_by"] for flag in flags} == {made["id"], None}
    gone = web.delete(f"/api/v1/suppressions/{made['id']}", headers=headers).json()
    assert gone["shown"] == 8
    everything = web.post("/api/v1/suppressions", json={"reason": "x"}, headers=headers)
    assert (everything.status_code, "silence everything" in everything.text) == (400, True)
