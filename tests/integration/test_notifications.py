"""Who is told what, once: real receivers, reruns, restarts, failures, quiet hours and rates."""

import datetime as dt
import os
import re
import subprocess
import sys
import urllib.request
from dataclasses import replace

import pytest

from anomaly import plugins
from anomaly.exceptions import SettingsError
from anomaly.feedback import Suppression
from anomaly.notify.channels import Channel, channels, deliver, without_secrets
from anomaly.notify.messages import Message, Place, plain, urgent
from anomaly.notify.timing import is_quiet
from anomaly.settings import Settings
from anomaly.store import FlagFilter
from pipelines.jobs.tell import send_tests, tell
from tests.factories import MONTH, RUN_AT, band, flag, publish_month, user_month
from tests.fixtures.jobs import Clock, at, make_services
from tests.fixtures.serving import door_of, serving

PAGE = "https://anomaly.corp.test"
SECRET = "s3cr3t-t0ken"  # pragma: allowlist secret


def told_by(sqlite_url, tmp_path, *urls, now=RUN_AT, **notify):
    """Services that notify these addresses."""
    settings = Settings.model_validate(
        {
            "database": {"url": sqlite_url},
            "notify": {"urls": list(urls), **notify},
            "web": {"public_url": PAGE},
        }
    )
    return make_services(sqlite_url, tmp_path, Clock(now), settings)


@pytest.fixture
def services(sqlite_url, tmp_path, webhook):
    made = told_by(sqlite_url, tmp_path, webhook.url)
    publish_month(made.store)
    return made


def test_an_extension_that_fails_is_tried_again_and_gives_no_secret_away(monkeypatch):
    tried = []

    class Broken:
        def __init__(self, address: str) -> None:
            self.address = address

        def send(self, title: str, body: str) -> None:
            tried.append((title, body))
            raise RuntimeError(f"{self.address} hung up")

    monkeypatch.setattr(plugins, "names", lambda kind: ("bell",) if kind == "notifiers" else ())
    monkeypatch.setattr(plugins, "load", lambda kind, name: Broken)
    why = deliver(
        Channel("bell", f"bell://host/{SECRET}"), Message("title", "body"), lambda _: None
    )
    assert why == "RuntimeError: bell://host/*** hung up"
    assert tried == [("title", "body")] * 3


def test_a_month_and_what_is_urgent_are_told_once(services, webhook):
    assert [(one.channel, one.why) for one in tell(services)] == [("json", None)] * 2
    first, digest = webhook.posted
    assert first["title"] == "1 new flag on 1 user: 1 critical"
    assert "• u007" in first["message"]
    assert "where" in first["message"]  # the explanation
    (flag_id,) = re.findall(rf"{PAGE}/flags/(\w+)", first["message"])
    assert services.store.flags.get(flag_id).flag.severity == "critical"
    assert digest["title"].startswith("March 2026: 9 flags on 8 users")
    assert f"{PAGE}/?month={MONTH}" in digest["message"]
    assert tell(services) == []
    publish_month(services.store)  # the same month again: nothing new
    again = replace(services, holder="another process")
    assert tell(again) == []


def test_the_digest_counts_what_the_page_counts(services, webhook):
    from anomaly.telemetry.collector import build_registry
    from anomaly.web.app import create_app

    tell(services)
    said = webhook.posted[-1]["message"]
    registry = build_registry(services.store, lambda: True, services.clock)
    app = create_app(services.store, Settings(), registry, lambda: True, door_of(services.store))
    with serving(app) as address, urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
    counts = next(line for line in said.splitlines() if "critical" in line)
    assert f"<small>{counts}</small>" in page
    assert "48 users scored; not scored: too_short 1" in said
    assert "<dt>Users scored</dt><dd>48</dd>" in page


def test_what_is_suppressed_is_not_told_and_counted_apart_here_and_on_the_page(services, webhook):
    from anomaly.telemetry.collector import build_registry
    from anomaly.web.app import create_app

    everything = Suppression(RUN_AT - dt.timedelta(days=99), "a machine", "ann", user_id="u007")
    services.store.suppressions.add(everything, RUN_AT)
    tell(services)
    (digest,) = webhook.posted  # u007 had the only critical flag
    assert digest["title"].startswith("March 2026: 7 flags on 7 users")
    assert "2 more flags suppressed" in digest["message"]
    assert "u007" not in digest["message"]
    registry = build_registry(services.store, lambda: True, services.clock)
    app = create_app(services.store, Settings(), registry, lambda: True, door_of(services.store))
    with serving(app) as address, urllib.request.urlopen(address) as answer:
        page = answer.read().decode()
    assert "<dt>Flags</dt><dd>7" in page
    assert ">2 more flags suppressed</a>" in page


def test_a_month_whose_counts_changed_is_corrected(services, webhook):
    tell(services)
    run = services.store.ledger.start(
        "month", MONTH, configuration="c0ffee", code_version="1.0", now=RUN_AT
    )
    services.store.publish(
        run, 0, MONTH, [], [user_month("u020")], {}, None, now=RUN_AT, model_version="3f9ac1d2"
    )
    services.store.ledger.finish(run, "complete", RUN_AT, model_version="3f9ac1d2")
    assert [one.title for one in tell(services)] == ["March 2026: 0 flags on 0 users (corrected)"]
    assert tell(services) == []


def test_a_flag_that_grew_is_not_told_again(sqlite_url, tmp_path, webhook):
    services = told_by(sqlite_url, tmp_path, webhook.url)

    def published(hours, user="u1"):
        run = services.store.ledger.start(
            "month", MONTH, configuration="c", code_version="1", now=RUN_AT
        )
        made = flag(user, band(0), start=100, hours=hours, flag_id=f"{user}-{hours}")
        services.store.publish(
            run, 0, MONTH, [made], [user_month(user, flags=1)], {}, None, now=RUN_AT
        )
        services.store.ledger.finish(run, "provisional", RUN_AT)

    published(2)
    assert len(tell(services)) == 1
    published(9)
    assert tell(services) == []
    published(9, user="u2")
    assert len(tell(services)) == 1
    assert "u1" not in webhook.posted[-1]["message"]


def test_what_failed_is_told_later_and_counted(services, webhook):
    webhook.status = 500
    sent = tell(services)
    assert [one.why is None for one in sent] == [False, False]
    assert services.store.figures.notifications() == {("json", "failed"): 2}
    webhook.status = 200
    assert [one.why for one in tell(services)] == [None, None]
    assert services.store.figures.notifications() == {("json", "failed"): 2, ("json", "sent"): 2}
    assert len(webhook.posted) == 2


def test_a_message_is_tried_three_times(webhook):
    waits = []

    def mended(seconds):
        waits.append(seconds)
        if len(waits) == 2:
            webhook.status = 200

    webhook.status = 503
    assert deliver(Channel("json", webhook.url), Message("t", "b"), mended) is None
    assert waits == [1, 2]
    assert webhook.titles() == ["t"]


def test_what_a_dead_process_claimed_is_told_by_another(services, webhook):
    ids = [row.flag.flag_id for row in services.store.flags.select(FlagFilter(MONTH))]
    assert services.store.notifications.claim("json", "urgent", ids, RUN_AT) is not None
    assert [one.title[:5] for one in tell(services)] == ["March"]  # the urgent one is on its way
    services.clock.now = RUN_AT + dt.timedelta(minutes=11)
    assert [one.title[:5] for one in tell(services)] == ["1 new"]


def test_two_processes_do_not_tell_the_same(services):
    ids = [row.flag.flag_id for row in services.store.flags.select(FlagFilter(MONTH))]
    first = services.store.notifications.claim("json", "urgent", ids[:2], RUN_AT)
    second = services.store.notifications.claim("json", "urgent", ids[:3], RUN_AT)
    assert first.subjects == frozenset(ids[:2])
    assert second.subjects == {ids[2]}
    assert services.store.notifications.claim("json", "urgent", ids[:3], RUN_AT) is None


def test_quiet_hours_hold_back(sqlite_url, tmp_path, webhook):
    services = told_by(sqlite_url, tmp_path, webhook.url, quiet="22:00-07:00")
    publish_month(services.store)  # at 02:30
    assert tell(services) == []
    services.clock.now = at("2026-04-04T07:00")
    assert len(tell(services)) == 2


@pytest.mark.parametrize(
    ("hours", "clock", "zone", "quiet"),
    [
        ("22:00-07:00", "21:59", "UTC", False),
        ("22:00-07:00", "22:00", "UTC", True),
        ("22:00-07:00", "06:59", "UTC", True),
        ("22:00-07:00", "07:00", "UTC", False),
        ("12:00-13:00", "12:30", "UTC", True),
        ("12:00-13:00", "10:30", "Europe/Berlin", True),  # summer: two hours ahead
        (None, "03:00", "UTC", False),
    ],
)
def test_when_it_is_quiet(hours, clock, zone, quiet):
    assert is_quiet(hours, zone, at(f"2026-07-01T{clock}")) is quiet


def test_the_rate_holds_back_and_the_rest_comes_later(sqlite_url, tmp_path, webhook):
    services = told_by(sqlite_url, tmp_path, webhook.url, per_hour=1)
    publish_month(services.store)
    assert [one.title[:5] for one in tell(services)] == ["1 new"]  # what is urgent goes first
    assert tell(services) == []
    services.clock.now += dt.timedelta(minutes=61)
    assert [one.title[:5] for one in tell(services)] == ["March"]


def test_months_of_long_ago_are_not_told(sqlite_url, tmp_path, webhook):
    services = told_by(sqlite_url, tmp_path, webhook.url, now=RUN_AT + dt.timedelta(days=60))
    publish_month(services.store)
    assert tell(services) == []


def test_a_mail_carries_the_digest(sqlite_url, tmp_path, mailbox):
    services = told_by(sqlite_url, tmp_path, f"soc={mailbox.url}", urgent="never")
    publish_month(services.store)
    assert [(one.channel, one.why) for one in tell(services)] == [("soc", None)]
    (mail,) = mailbox.mails
    assert mail["To"] == "soc@corp.test"
    assert mail["Subject"] == "March 2026: 9 flags on 8 users"
    text = mail.get_body(("plain",)).get_content()
    assert "48 users scored" in text
    assert "boss" in text
    assert "<script>" not in text  # a user's name is text and nothing else
    mailbox.refuses = True
    assert [one.why is None for one in send_tests(services)] == [False]


def test_a_name_is_text_wherever_it_lands():
    assert plain("<!here> a\nb\x00\u202e") == "(!here) a b  "
    assert len(plain("x" * 200)) == 80
    long = [flag(f"u{n}", band(0), start=n, hours=1) for n in range(14)]
    said = urgent(long, Place(None, "UTC")).body
    assert said.endswith("and 4 more")
    assert f"anomaly flags show {long[0].flag_id}" in said


def test_channels_have_names_without_secrets():
    made = channels(["json://h/secret", "json://h/other", "soc=slack://a/b/c", "mailto://u:p@h"])
    assert [one.name for one in made] == ["json", "json-2", "soc", "mailto"]
    assert "secret" not in repr(made)
    assert SECRET not in repr(Settings.model_validate({"notify": {"urls": [f"json://h/{SECRET}"]}}))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (["ops@corp.test"], r"\[notify\] urls: entry 1 is no address"),
        (["a=json://h", "a=json://g"], "a names two channels"),
    ],
)
def test_addresses_that_are_none_are_named(entries, message):
    with pytest.raises(SettingsError, match=message) as refused:
        channels(entries)
    assert "corp.test" not in str(refused.value)


def test_an_address_that_apprise_does_not_know_is_named():
    with pytest.raises(SettingsError, match="cannot read the address of 'nobody'"):
        deliver(Channel("nobody", "nosuchkind://host"), Message("t", "b"), lambda _: None)


def test_reasons_hold_no_secret():
    url = "https://user:pass%20word@hooks.corp.test/services/T0001/B0002/xyzzy?token=tttt"
    said = "failed: user pass word /services/T0001/B0002/xyzzy tttt hooks.corp.test"
    hidden = without_secrets(said, url)
    for secret in ("pass word", "T0001", "B0002", "xyzzy", "tttt"):
        assert secret not in hidden
    assert "hooks.corp.test" in hidden


def command(sqlite_url, tmp_path, *arguments, webhook):
    secrets = tmp_path / "channels"
    secrets.write_text(f"# whom to tell\nsoc={webhook.url}\n")
    environment = {
        **os.environ,
        "ANOMALY_DATABASE__URL": sqlite_url,
        "ANOMALY_NOTIFY__URLS_FILE": str(secrets),
        "ANOMALY_TELEMETRY__LOG_LEVEL": "debug",
    }
    return subprocess.run(
        [sys.executable, "-m", "pipelines", "notify", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_says_whether_messages_arrive(services, sqlite_url, tmp_path, webhook):
    done = command(sqlite_url, tmp_path, "test", webhook=webhook)
    assert (done.returncode, done.stdout) == (0, "soc: Test message: sent\n")
    webhook.status = 500
    done = command(sqlite_url, tmp_path, "test", webhook=webhook)
    assert done.returncode == 3
    assert "soc did not take the message" in done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert services.store.figures.notifications() == {("soc", "sent"): 1, ("soc", "failed"): 1}
