"""A month's log: a page, each line with its run, stage and shard, and nobody's name."""

import io
import json
from dataclasses import replace

import pytest
import structlog

from anomaly.months import Month
from anomaly.settings import TelemetrySettings, with_values
from anomaly.telemetry import logs
from pipelines.cli.progress import Lines
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, SmallEngine, at, behaviour, make_services

USERS = 60
PAGE = 40  # lines

pytestmark = pytest.mark.usefixtures("logging_as_before")


class Telling(SmallEngine):
    """An engine that says a word for each shard."""

    def score(self, *given):
        structlog.get_logger().warning("noticed_while_scoring")
        return super().score(*given)


@pytest.fixture
def lines(sqlite_url, tmp_path):
    """What a month of thirty shards, two at a time, logs, one of whose users cannot be scored."""
    services = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    settings = with_values(services.settings, "test", "run", shard_users=2, workers=2)
    engine = Telling(poison=frozenset({"u31"}))
    services = replace(
        services, settings=settings, engine=lambda: engine, progress=Lines(),
    )  # fmt: skip
    services.store.observations.write(behaviour("2026-02", "2026-03", users=USERS), "t")
    stream = io.StringIO()
    logs.configure(TelemetrySettings(log_format="json"), stream)
    run_month(services, Month(2026, 3))
    services.store.close()
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_month_is_a_page_and_each_line_says_what_it_belongs_to(lines):
    own = [line for line in lines if line["event"] != "noticed_while_scoring"]
    assert len(own) <= PAGE, [line["event"] for line in own]
    assert {"month_started", "model_chosen", "users_set_aside"} <= {line["event"] for line in own}
    assert [line for line in own if "run_id" not in line] == []
    started = "month_started"
    assert [line for line in own if "stage" not in line and line["event"] != started] == []
    told = [line for line in lines if line["event"] == "noticed_while_scoring"]
    assert {line["shard"] for line in told} >= set(range(15))
    assert {line["stage"] for line in told} == {"score"}
    text = json.dumps(lines)
    assert not any(f"u{number}" in text for number in range(10, USERS)), "a user is named"
