"""The API answers as its description says, whatever it is asked."""

from collections import Counter
from collections.abc import Iterator

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from prometheus_client import CollectorRegistry
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_schema_conformance,
    status_code_conformance,
)

from anomaly.settings import Settings
from anomaly.web.app import create_app
from tests.factories import publish_month
from tests.fixtures.databases import store_on
from tests.fixtures.serving import bearer, door_of, serving, token_of

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
    ignored_auth,
]
EXAMPLES = 8  # requests of each kind that an operation gets
MODES = [GenerationMode.POSITIVE, GenerationMode.NEGATIVE]


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def site(request, tmp_path_factory) -> Iterator[tuple[str, dict[str, str], str]]:
    """A server's address, an administrator's headers, and a flag's id."""
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path_factory.mktemp('api') / 'a.db'}"
    else:
        url = request.getfixturevalue("postgres_server").new()
    store = store_on(url)
    publish_month(store)
    headers = bearer(token_of(store, "administrator"))
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door_of(store))
    with serving(app) as address:
        yield address, headers, store.flags.select()[0].flag.flag_id
    store.close()


def answers_as_described(
    operation: APIOperation, mode: GenerationMode, headers: dict[str, str], flag_id: str
) -> Counter:
    """Send what hypothesis thinks of, of flags that are there and that are not; counts the answers."""
    met: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode), there=st.booleans())
    def send(case: Case, there: bool) -> None:
        if there and "flag_id" in case.path_parameters:
            case.path_parameters["flag_id"] = flag_id
        met[case.call_and_validate(checks=CHECKS, headers=headers).status_code] += 1

    send()
    return met


def test_each_answer_is_described_and_none_is_a_failure(site):
    address, headers, flag_id = site
    api = schemathesis.openapi.from_url(f"{address}/api/v1/openapi.json", headers=headers)
    operations = [found.ok() for found in api.get_all_operations()]
    met: dict[str, Counter[int]] = {one.label: Counter() for one in operations}
    for operation in operations:
        for mode in MODES:
            try:
                met[operation.label] += answers_as_described(operation, mode, headers, flag_id)
            except Unsatisfiable:  # nothing that it could be sent is wrong
                assert mode is GenerationMode.NEGATIVE
    assert len(met) >= 11
    for label, counts in met.items():
        assert set(counts) - {401, 422}, f"{label}: nothing came past the door"


@pytest.mark.parametrize(
    "address",
    [
        "/api/v1/flags?user=a%00b",
        "/api/v1/flags/a%00b",
        "/api/v1/flags?month=0000-01",
        "/api/v1/users?month=9999-12",
        "/api/v1/flags?user=%ff%fe",
        "/api/v1/flags?user=%27%20OR%201=1%20--",
        "/api/v1/flags?metric=%25",
        "/api/v1/runs?state=%27;DROP%20TABLE%20runs;--",
        "/users/..%2f..%2f..%2fetc%2fpasswd",
        "/users/%2e%2e%2fanomaly.toml",
        "/static/..%2fapp.py",
        "/static/%2e%2e/app.py",
        "/flags/..%2f..%2fmetrics",
    ],
)
def test_what_is_asked_is_a_value_and_nothing_more(site, address):
    root, headers, _ = site
    with httpx.Client(base_url=root, headers=headers, timeout=60) as web:
        answer = web.get(address)
        assert answer.status_code in {200, 400, 404}
        if answer.status_code == 200:
            assert answer.json() == []
        assert "root:" not in answer.text
        assert "import" not in answer.text
        assert len(web.get("/api/v1/flags").json()) == 9, "nothing was dropped"


UNKEPT = [rb"a\u0000b", rb"\ud800"]
NO_DAYS = ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"]
SAID, ASKED = "/api/v1/flags/{flag}/feedback", "/api/v1/suppressions"
BODIES = [
    *((SAID, b'{"%s": "%s"}' % (name, text)) for name in (b"note", b"assignee") for text in UNKEPT),
    *((SAID, b'{"verdict": "true", "note": "%s"}' % text) for text in UNKEPT),
    *((SAID, b'{"verdict": "expected", "until": "%s"}' % day.encode()) for day in NO_DAYS),
    *(
        (ASKED, b'{"reason": "x", "user_id": "u", "%s": "%s"}' % (name, text))
        for name in (b"reason", b"user_id", b"cohort", b"metric")
        for text in UNKEPT
    ),
    *(
        (ASKED, b'{"reason": "x", "user_id": "u", "%s": "%s"}' % (name, day.encode()))
        for name in (b"start", b"end")
        for day in NO_DAYS
    ),
    *(
        (ASKED, b'{"reason": "x", "user_id": "u", "least_score": %s}' % number)
        for number in (b"1e999", b"NaN", b"-1")
    ),
    ("/api/v1/feedback", b"flag_id,verdict\na\0b,true\n"),
    ("/api/v1/feedback", b"flag_id,verdict,note\n{flag},expected,\xff\n"),
    ("/api/v1/feedback", b"flag_id,verdict,until\n{flag},expected,0001-01-01T00:00:00+14:00\n"),
]


@pytest.mark.parametrize(("address", "body"), BODIES, ids=str)
def test_what_no_database_keeps_is_refused(site, address, body):
    root, headers, flag_id = site
    kind = "text/csv" if address == "/api/v1/feedback" else "application/json"
    answer = httpx.post(
        root + address.format(flag=flag_id),
        content=body.replace(b"{flag}", flag_id.encode()),
        headers=headers | {"Content-Type": kind},
        timeout=60,
    )
    assert answer.status_code == 400, answer.text


@pytest.mark.parametrize("number", ["0", "-1", f"{2**31}", f"{2**63}", f"{10**30}"])
def test_a_number_that_no_row_has_is_refused(site, number):
    root, headers, _ = site
    answer = httpx.delete(f"{root}{ASKED}/{number}", headers=headers, timeout=60)
    assert answer.status_code == 422, answer.text


def test_a_body_without_end_is_refused_as_described(site):
    root, headers, flag_id = site
    kind = {"Content-Type": "application/json"}
    answer = httpx.post(
        root + SAID.format(flag=flag_id), content=b"9" * 1_100_000, headers=headers | kind
    )
    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (413, "text/plain")
