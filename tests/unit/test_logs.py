"""Log lines: readable or JSON, and discreet."""

import io
import json
import logging

import pytest
import structlog

from anomaly.settings import TelemetrySettings
from anomaly.telemetry import logs

pytestmark = pytest.mark.usefixtures("logging_as_before")


def lines(settings, work):
    stream = io.StringIO()
    logs.configure(settings, stream)
    work(structlog.get_logger())
    return stream.getvalue().splitlines()


def test_off_a_terminal_lines_are_json_with_what_is_bound():
    def work(log):
        with structlog.contextvars.bound_contextvars(run_id=7, stage="score"):
            log.info("shard_scored", users=500)

    (line,) = map(json.loads, lines(TelemetrySettings(), work))
    assert line["event"] == "shard_scored"
    assert (line["run_id"], line["stage"], line["users"], line["level"]) == (
        7,
        "score",
        500,
        "info",
    )
    assert line["timestamp"].endswith("Z")


def test_lines_can_be_made_readable():
    (line,) = lines(
        TelemetrySettings(log_format="console"), lambda log: log.info("x_happened", n=1)
    )
    assert "x_happened" in line
    assert "n=1" in line
    with pytest.raises(ValueError, match="Extra data"):
        json.loads(line)


def test_lesser_lines_are_left_out():
    def work(log):
        log.debug("small")
        log.warning("large")

    assert [json.loads(line)["event"] for line in lines(TelemetrySettings(), work)] == ["large"]
    assert len(lines(TelemetrySettings(log_level="debug"), work)) == 2


def test_no_line_names_a_user_or_holds_a_password():
    def work(log):
        log.warning("failed", user_id="u007", password="x", url="postgresql://me:se@cret@db/x")

    (line,) = lines(TelemetrySettings(), work)
    assert "u007" not in line
    assert "cret" not in line
    assert json.loads(line)["url"] == "postgresql://me:***@db/x"


def test_warnings_of_libraries_become_such_lines():
    def work(log):
        logging.getLogger("some.library").warning("low on %s", "space")
        logging.getLogger("some.library").info("chatter")

    (line,) = map(json.loads, lines(TelemetrySettings(), work))
    assert (line["event"], line["level"]) == ("low on space", "warning")


def test_tracebacks_are_kept_in_one_line():
    def work(log):
        user_name = "u" + "007"
        try:
            raise ValueError(len(user_name))
        except ValueError:
            log.warning("broke", exc_info=True)

    (text,) = lines(TelemetrySettings(), work)
    assert json.loads(text)["exception"][0]["exc_type"] == "ValueError"
    assert "u007" not in text, "a variable's value"


@pytest.mark.parametrize("form", ["console", "json"])
def test_no_value_begins_a_line_or_steers_a_terminal(form):
    hostile = "x\n2026-01-01 [info] month_complete\r\x1b[2J\u2028"

    def work(log):
        log.warning("refused", client=hostile)
        logging.getLogger("library").warning("said %s", hostile)

    said = lines(TelemetrySettings(log_format=form), work)
    assert len(said) == 2
    assert not any("\x1b[2J" in line for line in said)
    assert all("month_complete" in line for line in said)
