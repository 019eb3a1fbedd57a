"""Settings read anew while the service runs: the right ones hold, the wrong ones are named and left."""

import os
import signal
import sys
import time

import pytest

from anomaly.settings import load
from pipelines.condition import conditions
from pipelines.configuration import configured
from tests.fixtures.jobs import Clock, at, make_services


@pytest.fixture
def file(tmp_path, sqlite_url):
    path = tmp_path / "anomaly.toml"
    path.write_text(f'[database]\nurl = "{sqlite_url}"\n')
    return path


@pytest.fixture
def services(file, sqlite_url, tmp_path):
    return make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")), load(file, {}))


def state_of(services, configuration):
    found = {it.name: it for it in conditions(services, None, configuration.refused)}
    return found["settings"].state, found["settings"].reason


def hang_up(settled):
    os.kill(os.getpid(), signal.SIGHUP)
    until = time.monotonic() + 10
    while not settled() and time.monotonic() < until:
        time.sleep(0.01)
    assert settled()


def test_a_hangup_makes_new_settings_hold(services, file):
    told = []
    with configured(services, file) as configuration:
        configuration.adopted.append(told.append)
        file.write_text(file.read_text() + "[threshold]\nfdr = 0.3\n")
        assert "fdr" not in configuration.copy.read_text(), "jobs do not see a file being edited"
        hang_up(lambda: configuration.services is not services)
        assert [it.settings.threshold.fdr for it in told] == [0.3]
        assert "fdr = 0.3" in configuration.copy.read_text()
        assert state_of(services, configuration)[0] == "ok"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('[schedule]\nscore = "every night"\n', "cron expression 'every night' is none"),
        ("[modle]\n", r"modle] is no setting. Did you mean [model]"),
        ("not toml", "is no TOML"),
        ('[database]\nurl = "sqlite:///other.db"\n', "another database needs a restart"),
    ],
)
def test_wrong_settings_are_named_and_the_old_ones_hold(services, file, text, why):
    told = []
    with configured(services, file) as configuration:
        configuration.adopted.append(told.append)
        before = configuration.copy.read_bytes()
        file.write_text(text)
        configuration.reload()
        assert configuration.services is services
        assert configuration.copy.read_bytes() == before
        state, reason = state_of(services, configuration)
        assert state == "warning"
        assert why in reason
        assert str(file) in reason or "restart" in reason
        file.write_bytes(before)
        configuration.reload()
        assert (told, state_of(services, configuration)[0]) == ([configuration.services], "ok")


def test_what_a_later_command_would_refuse_is_refused_whole_before_anything_is_replaced(
    services, file
):
    told = []
    with configured(services, file) as configuration:
        configuration.adopted.append(told.append)
        before = file.read_text()
        file.write_text(
            f"{before}[schedule]\ntrain = '*/90 * * * *'\n[notify]\nurls = ['nonsense']\n"
        )
        hang_up(lambda: configuration.refused is not None)
        state, reason = state_of(services, configuration)
        assert state == "warning"
        assert "[schedule] train = '*/90 * * * *' names no times: " in reason
        assert "[notify] urls: entry 1 is no address" in reason
        assert (told, configuration.services) == ([], services)
        file.write_text(before)
        hang_up(lambda: configuration.refused is None)
        assert told == [configuration.services]


def test_what_cannot_be_adopted_everywhere_is_adopted_nowhere_and_the_next_hangup_is_heard(
    services, file
):
    told, faults = [], [ZeroDivisionError("of a clock")]

    def adopt(services):
        del services
        if faults:
            raise faults.pop()

    with configured(services, file) as configuration:
        configuration.adopted += [told.append, adopt]
        before = configuration.copy.read_bytes()
        file.write_text(file.read_text() + "[threshold]\nfdr = 0.3\n")
        hang_up(lambda: configuration.refused is not None)
        assert [it.settings.threshold.fdr for it in told] == [0.3, 0.1]
        assert told[-1] is configuration.services is services
        assert configuration.copy.read_bytes() == before
        state, reason = state_of(services, configuration)
        assert (state, "unexpected ZeroDivisionError: of a clock" in reason) == ("warning", True)
        hang_up(lambda: configuration.refused is None)
        assert configuration.services.settings.threshold.fdr == 0.3


def test_a_server_without_an_extra_that_only_runs_need_takes_the_settings(
    services, file, monkeypatch
):
    monkeypatch.setitem(sys.modules, "ray", None)
    with configured(services, file) as configuration:
        file.write_text(file.read_text() + "[run]\nengine = 'ray'\n")
        hang_up(lambda: configuration.services is not services)
        assert configuration.refused is None
