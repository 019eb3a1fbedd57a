"""One question, six ways to ask it: the SQL view, REST, the page, the CLI, an export, pandas."""

import html
import io
import json
import re
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace

import httpx
import pandas as pd
import pytest
from prometheus_client import CollectorRegistry
from pyarrow import parquet

from anomaly.feedback import Label, Remark, Suppression, Terms
from anomaly.settings import Settings
from anomaly.store import FlagFilter, Store, open_engine, schema
from anomaly.web import words
from anomaly.web.app import create_app
from pipelines.cli.app import run
from tests.factories import MONTH, MONTH_START, RUN_AT, publish_month
from tests.fixtures.serving import door_of, serving

FILTERS = [
    {},
    {"month": MONTH},
    {"user": "u007"},
    {"metric": "bytes_out"},
    {"metric": "files"},
    {"severity": "low"},
    {"status": "closed"},
    {"kind": "burst"},
    {"label": "false_alarm"},
    {"assignee": "dana"},
    {"suppressed": True},
    {"suppressed": False, "kind": "burst", "severity": "low"},
    {"user": "nobody"},
]
TERMS = Terms(1.25, pd.Timedelta(days=90).to_pytimedelta())


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimpleNamespace]:
    folder = tmp_path_factory.mktemp("six")
    file = folder / "anomaly.db"
    store = Store(open_engine(f"sqlite:///{file}"), retries=0)
    schema.upgrade(store._database.engine)
    publish_month(store)
    (burst,) = store.flags.select(FlagFilter(user="u007", kind="burst"))
    store.feedback.label([Label(burst.flag.flag_id, "false_alarm", "ann")], TERMS, RUN_AT)
    silence = store.flags.select(FlagFilter(kind="silence"))[0]
    store.feedback.remark(
        Remark(silence.flag.flag_id, "ann", status="acknowledged", assignee="dana"), RUN_AT
    )
    store.suppressions.add(Suppression(MONTH_START, "noise", "ann", user_id=".."), RUN_AT)
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door_of(store))
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as web:
        yield SimpleNamespace(store=store, web=web, file=file)
    store.close()


def by_view(site, asked):
    names = {"user": "user_id"}
    rules = ["month = ?"] if not asked else []
    values = [MONTH] if not asked else []
    for name, value in asked.items():
        if name == "metric":
            rules.append("instr(';' || metrics || ';', ';' || ? || ';') > 0")
        elif name == "suppressed":
            rules.append("(suppressed_by IS NOT NULL) = ?")
        else:
            rules.append(f"{names.get(name, name)} = ?")
        values.append(value)
    with sqlite3.connect(site.file) as database:
        question = f"SELECT count(*) FROM flags_current WHERE {' AND '.join(rules)}"
        return database.execute(question, values).fetchone()[0]


def by_rest(site, asked):
    """Page after page by cursor, two flags each."""
    answer = site.web.get("/api/v1/flags", params={**asked, "limit": 2})
    found, totals = [], set()
    while True:
        assert answer.status_code == 200, answer.text
        found += [flag["flag_id"] for flag in answer.json()]
        totals.add(int(answer.headers["X-Total-Count"]))
        following = answer.links.get("next")
        if following is None:
            break
        answer = site.web.get(following["url"])
    assert len(set(found)) == len(found)
    assert totals == {len(found)}
    return len(found)


def by_page(site, asked):
    query = {**asked}
    if "suppressed" in query:
        query["suppressed"] = "only" if query["suppressed"] else "no"
    page = site.web.get("/", params=query).text
    found = re.search(r"<caption>([\d,]+) flags?", page)
    return int(found[1].replace(",", "")) if found else 0


def options_of(asked):
    given = []
    for name, value in asked.items():
        if name == "suppressed":
            given.append("--suppressed" if value else "--no-suppressed")
        else:
            given += [f"--{name}", value]
    return given


def by_cli(site, asked, capsysbinary):
    assert run(["flags", "list", "--format", "json", *options_of(asked)]) == 0
    return len(json.loads(capsysbinary.readouterr().out))


def by_export(site, asked, capsysbinary):
    assert run(["flags", "export", "--format", "parquet", *options_of(asked)]) == 0
    return parquet.read_table(io.BytesIO(capsysbinary.readouterr().out)).num_rows


def by_pandas(site, asked):
    return len(site.store.flags.arrow(FlagFilter(**asked)).to_pandas())


@pytest.mark.parametrize(
    "asked", FILTERS, ids=lambda asked: "-".join(map(str, asked.values())) or "all"
)
def test_six_ways_give_the_same_count(site, asked, capsysbinary, monkeypatch, logging_as_before):
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///{site.file}")
    counts = {
        "view": by_view(site, asked),
        "REST": by_rest(site, asked),
        "page": by_page(site, asked),
        "CLI": by_cli(site, asked, capsysbinary),
        "export": by_export(site, asked, capsysbinary),
        "pandas": by_pandas(site, asked),
    }
    assert len(set(counts.values())) == 1, counts
    assert counts["view"] > 0 or asked in ({"user": "nobody"}, {"metric": "files"})


def rest_of(site, address, **asked):
    """Page after page by cursor, two rows each."""
    answer = site.web.get(address, params={**asked, "limit": 2})
    while True:
        assert answer.status_code == 200, answer.text
        yield from answer.json()
        following = answer.links.get("next")
        if following is None:
            return
        answer = site.web.get(following["url"])


def sure_by_page(site):
    """Risk and confidence as the pages word them, and no rank where they say why there is none."""
    found, number = {}, 1
    while rows := re.findall(
        r'<th scope="row" class="name"><a [^>]*>([^<]*)</a>(.*?)</tr>',
        site.web.get("/", params={"month": MONTH, "users": number}).text, re.DOTALL,
    ):  # fmt: skip
        for name, cells in rows:
            shown = [
                re.search(rf'data-label="{label}"[^>]*>(?:<strong>)?([^<]*)<', cells)
                for label in ("Risk", "How sure")
            ]
            found[html.unescape(name)] = tuple(one[1] if one else None for one in shown)
        number += 1
    return found


def test_six_ways_say_the_same_of_risk_and_confidence(
    site, tmp_path, capsysbinary, monkeypatch, logging_as_before
):
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///{site.file}")
    columns = ["user_id", "risk", "confidence"]
    with sqlite3.connect(site.file) as database:
        question = f"SELECT {', '.join(columns)} FROM user_months_current WHERE month = ?"
        view = {name: rest for name, *rest in database.execute(question, [MONTH])}
    rest = {row["user_id"]: [row[name] for name in columns[1:]] for row in rest_of(
        site, "/api/v1/users", month=MONTH
    )}  # fmt: skip
    assert run(["users", "list", "--month", MONTH, "--format", "json"]) == 0
    listed = json.loads(capsysbinary.readouterr().out)
    cli = {row["user_id"]: [row[name] for name in columns[1:]] for row in listed}
    out = tmp_path / "users.parquet"
    assert run(["users", "list", "--month", MONTH, "--format", "parquet", "--out", str(out)]) == 0
    export = {
        row["user_id"]: [row[name] for name in columns[1:]]
        for row in parquet.read_table(out).to_pylist()
    }
    packed = site.web.get(
        "/api/v1/users", params={"month": MONTH, "limit": 1_000},
        headers={"Accept": "application/vnd.apache.parquet"},
    )  # fmt: skip
    frame = pd.read_parquet(io.BytesIO(packed.content)).set_index("user_id")
    pandas = {
        name: [None if pd.isna(row.risk) else row.risk, row.confidence]
        for name, row in frame.iterrows()
    }
    assert len(view) > 45
    assert len({tuple(one) for one in view.values()}) > 40
    assert view == rest == cli == export == pandas
    page = sure_by_page(site)
    assert page.pop("joiner") == (None, None)
    del view["joiner"]
    assert page == {name: tuple(map(words.share, rest)) for name, rest in view.items()}
    flag = site.store.flags.select(FlagFilter(user="u007"))[0].flag.flag_id
    for shown in (
        site.web.get(f"/flags/{flag}").text,
        site.web.get(f"/users/u007?month={MONTH}").text,
    ):
        assert all(words.share(value) in shown for value in view["u007"])


SORTS = {
    "/api/v1/flags": ("score", "start", "end", "user_id", "kind", "metrics", "p_value"),
    "/api/v1/users": ("rank", "score", "risk", "flags", "confidence", "user_id", "cohort"),
}


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize(
    ("address", "column"), [(address, one) for address, names in SORTS.items() for one in names]
)
def test_a_list_is_sorted_and_gone_through_whole(site, address, column, falling):
    sort = f"-{column}" if falling else column
    rows = list(rest_of(site, address, month=MONTH, sort=sort))
    key = "flag_id" if address.endswith("flags") else "user_id"
    total = site.web.get(address, params={"month": MONTH}).headers["X-Total-Count"]
    assert len({row[key] for row in rows}) == len(rows) == int(total)
    scored = [row for row in rows if row.get("skipped") is None]
    assert rows[: len(scored)] == scored, "whoever was not scored comes last"
    expected = sorted(scored, key=lambda row: row[key].encode())
    expected.sort(key=lambda row: _sortable(row[column]), reverse=falling)
    assert [row[key] for row in scored] == [row[key] for row in expected]


def _sortable(value):
    return value.encode() if isinstance(value, str) else value


def test_the_command_line_sorts_too(site, capsysbinary, monkeypatch, logging_as_before):
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///{site.file}")
    assert run(["flags", "list", "--format", "json", "--sort", "start"]) == 0
    starts = [row["start"] for row in json.loads(capsysbinary.readouterr().out)]
    assert (starts, len(starts) > 3) == (sorted(starts), True)
    assert (
        run(
            [
                "users",
                "list",
                "--month",
                MONTH,
                "--sort",
                "-risk",
                "--limit",
                "2",
                "--format",
                "json",
            ]
        )
        == 0
    )
    first, second = json.loads(capsysbinary.readouterr().out)
    assert first["risk"] > second["risk"]
    assert run(["flags", "list", "--sort", "password"]) == 2
    assert b"'password' is no column to sort by. Use one of score" in capsysbinary.readouterr().err


@pytest.mark.parametrize(
    "address", [f"/api/v1/users?month={MONTH}", "/api/v1/runs", "/api/v1/changes"]
)
def test_a_list_that_has_not_changed_is_not_sent_again(site, address):
    first = site.web.get(address)
    again = site.web.get(address, headers={"If-None-Match": first.headers["ETag"]})
    assert (first.status_code, again.status_code, again.content) == (200, 304, b"")
    assert site.web.get(address, headers={"If-None-Match": '"another"'}).content == first.content


def test_runs_are_gone_through_by_cursor(site):
    numbers = [row["id"] for row in rest_of(site, "/api/v1/runs")]
    assert len(numbers) >= 2
    assert [row["id"] for row in site.web.get("/api/v1/runs?limit=1").json()] == numbers[:1]
    first = site.web.get("/api/v1/runs?limit=1")
    assert site.web.get(first.links["next"]["url"]).json()[0]["id"] == numbers[1]


def test_users_as_a_spreadsheet_hold_no_formulas(site):
    answer = site.web.get(f"/api/v1/users?month={MONTH}", headers={"Accept": "text/csv"})
    assert answer.headers["content-type"].startswith("text/csv")
    names = pd.read_csv(io.BytesIO(answer.content))["user_id"].astype(str)
    assert not names.str.startswith("=").any()
    empty = site.web.get("/api/v1/users?month=1999-01", headers={"Accept": "text/csv"})
    assert empty.text.startswith("month,rank,user_id")


def test_the_api_answers_in_the_form_that_is_accepted(site):
    def ask(accept):
        return site.web.get("/api/v1/flags", headers={"Accept": accept})

    records = ask("application/json").json()
    csv, packed = ask("text/csv, */*;q=0.1"), ask("application/vnd.apache.parquet")
    assert csv.headers["content-type"].startswith("text/csv")
    assert len(pd.read_csv(io.BytesIO(csv.content))) == len(records)
    assert b"'=" not in csv.content
    frame = pd.read_parquet(io.BytesIO(packed.content))
    assert list(frame["flag_id"]) == [record["flag_id"] for record in records]
    refused = ask("image/png")
    assert (refused.status_code, "text/csv" in refused.json()["error"]) == (406, True)
    assert ask("text/csv;q=0, application/json").headers["content-type"] == "application/json"


def test_what_has_not_changed_is_not_sent_again(site):
    first = site.web.get("/api/v1/flags?kind=silence")
    again = site.web.get(
        "/api/v1/flags?kind=silence", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert (again.status_code, again.content) == (304, b"")
    other = {"If-None-Match": first.headers["ETag"], "Accept": "text/csv"}
    assert site.web.get("/api/v1/flags?kind=silence", headers=other).status_code == 200
    silence = site.store.flags.select(FlagFilter(kind="silence"))[0].flag.flag_id
    site.store.feedback.remark(Remark(silence, "ann", status="closed"), RUN_AT)
    changed = site.web.get(
        "/api/v1/flags?kind=silence", headers={"If-None-Match": first.headers["ETag"]}
    )
    assert changed.status_code == 200
    site.store.feedback.remark(Remark(silence, "ann", status="acknowledged"), RUN_AT)


HOSTILE = ["", "x", "!!!", "W10=", "bnVsbA==", "WzEsIDJd", "A" * 5_000, "é", "eyJhIjogMX0="]


@pytest.mark.parametrize("cursor", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize(
    "address", ["/api/v1/flags", f"/api/v1/users?month={MONTH}", "/api/v1/runs"]
)
def test_a_cursor_that_is_none_is_refused(site, address, cursor):
    answer = site.web.get(httpx.URL(address).copy_merge_params({"cursor": cursor}))
    assert (answer.status_code, "cursor" in answer.json()["error"]) == (400, True)


def test_a_cursor_of_another_filter_is_refused(site):
    first = site.web.get("/api/v1/flags?limit=1")
    cursor = httpx.URL(first.links["next"]["url"]).params["cursor"]
    for more in ({"kind": "burst"}, {"sort": "start"}):
        answer = site.web.get("/api/v1/flags", params={"cursor": cursor, **more})
        assert answer.status_code == 400
        assert "cursor: " in answer.json()["error"]


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("colour=red", 422, "query.colour: is no parameter here"),
        ("severty=low", 422, "Did you mean severity?"),
        ("kind=' OR 1=1 --", 422, "kind"),
        ("user=' OR 1=1 --", 200, ""),
        ("metric=%25", 200, ""),
        ("limit=0", 422, "limit"),
        ("limit=1e9", 422, "limit"),
        ("offset=-1", 422, "offset"),
        ("month=2026-13", 400, "2026-13"),
        ("sort=password", 422, "sort"),
        ("sort=score;DROP TABLE flags", 422, "sort"),
        ("sort=--score", 422, "sort"),
        ("sort=", 422, "sort"),
    ],
)
def test_hostile_filters_are_refused_or_find_nothing(site, query, code, said):
    answer = site.web.get(f"/api/v1/flags?{query}")
    assert answer.status_code == code
    if code == 200:
        assert answer.json() == []
    else:
        assert said in answer.json()["error"]
