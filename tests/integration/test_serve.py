"""The server's process: it answers, fires by schedule, and ends with 0."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import httpx
import pytest

from anomaly.months import Month
from pipelines.jobs.month import run_month
from tests.fixtures.jobs import Clock, at, behaviour, make_services
from tests.fixtures.serving import token_of

PEAKS = {("u2", "2026-03-12T03:00"): 400.0}


def get(address):
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


@pytest.fixture
def services(sqlite_url, tmp_path):
    made = make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    made.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "t")
    run_month(made, Month(2026, 3))
    return made


def started(url, *arguments):
    environment = {**os.environ, "ANOMALY_DATABASE__URL": url}
    command = [sys.executable, "-m", "pipelines", "serve", *arguments]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@contextmanager
def serving_process(url, *arguments):
    """A server's process; gives its address."""
    process = started(url, *arguments)
    try:
        lines = iter(process.stderr.readline, "")
        yield next(filter(None, (re.search(r"http://\S+:\d+/", line) for line in lines)))[0]
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def test_it_serves_page_and_metrics_and_ends_with_0(services, sqlite_url):
    process = started(sqlite_url, "--port", "0")
    try:
        lines = iter(process.stderr.readline, "")
        address = next(filter(None, (re.search(r"http://\S+:\d+/", line) for line in lines)))[0]
        assert "<html" in get(address)[1]
        metrics = get(f"{address}metrics")[1]
        assert 'anomaly_month_state{month="2026-03",state="complete"} 1.0' in metrics
        assert "anomaly_scheduler_leader 1.0" in metrics
        assert "u2" not in metrics
        ready = json.loads(get(f"{address}readyz")[1])
        assert (ready["status"], ready["leader"]) == ("ready", True)
        assert ready["conditions"] == {
            "database": "ok", "model": "warning", "leader": "ok", "settings": "ok",
        }  # fmt: skip
        assert "cannot be read" in ready["reasons"]["model"], "this server looks elsewhere"
        assert ready["reasons"]["leader"] == "this process runs the schedule"
        assert {run.state for run in services.store.ledger.runs(job="score")} == {"planned"}
    finally:
        began = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, rest = process.communicate(timeout=30)
    assert process.returncode == 0, rest
    assert time.monotonic() - began < 15
    assert services.store.lease.holder("scheduler") is None


def test_an_address_that_is_taken_is_named(services, sqlite_url):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = started(sqlite_url, "--port", str(port))
        _, error = process.communicate(timeout=60)
    assert process.returncode == 2
    assert f"[web] 127.0.0.1:{port}: cannot be listened on" in error


@pytest.mark.parametrize(("trusted", "last"), [("[]", 429), ('["127.0.0.1"]', 401)])
def test_a_proxy_tells_clients_apart_where_it_is_trusted(
    services, sqlite_url, monkeypatch, trusted, last
):
    token_of(services.store, "reader")
    monkeypatch.setenv("ANOMALY_WEB__LOG_ONS_PER_MINUTE", "2")
    monkeypatch.setenv("ANOMALY_WEB__TRUSTED_PROXIES", trusted)
    with serving_process(sqlite_url, "--port", "0", "--no-schedule") as address:
        answers = []
        for client in ("203.0.113.1", "203.0.113.1", "203.0.113.1", "203.0.113.2"):
            headers = {"X-Forwarded-For": client}
            with httpx.Client(base_url=address, headers=headers, timeout=60) as browser:
                found = re.search(r'name="csrf" value="(\w+)"', browser.get("/login").text)
                form = {"csrf": found[1], "token": "guess", "next": "/"}
                answers.append(browser.post("/login", data=form).status_code)
    assert answers == [401, 401, 429, last]
