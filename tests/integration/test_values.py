"""Names and queries are values: never SQL, never a path."""

from collections.abc import Iterator

import httpx
import pytest
from prometheus_client import CollectorRegistry

from anomaly.settings import Settings
from anomaly.store import Store, open_engine, schema
from anomaly.web.app import create_app
from tests.factories import publish_month
from tests.fixtures.serving import bearer, door_of, serving, token_of


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A server's address, and an administrator's headers."""
    engine = open_engine(f"sqlite:///{tmp_path_factory.mktemp('api') / 'a.db'}")
    schema.upgrade(engine)
    store = Store(engine, retries=0)
    publish_month(store)
    headers = bearer(token_of(store, "administrator"))
    app = create_app(store, Settings(), CollectorRegistry(), lambda: True, door_of(store))
    with serving(app) as address:
        yield address, headers
    store.close()


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
    root, headers = site
    with httpx.Client(base_url=root, headers=headers, timeout=60) as web:
        answer = web.get(address)
        assert answer.status_code in {200, 400, 404}
        if answer.status_code == 200:
            assert answer.json() == []
        assert "root:" not in answer.text
        assert "import" not in answer.text
        assert len(web.get("/api/v1/flags").json()) == 9, "nothing was dropped"
