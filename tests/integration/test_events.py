"""Events that are announced after the fact: closed months are judged anew, for those they concern."""

import json
from dataclasses import replace

import pytest

from anomaly.cohorts import name_of
from anomaly.settings import with_values
from anomaly.store import EventRow, Moved
from pipelines.cli.app import run
from pipelines.exclusive import exclusive
from pipelines.jobs.events import enter, rejudge, withdraw
from pipelines.jobs.month import run_month
from pipelines.jobs.people import import_calendar
from pipelines.jobs.scope import Options
from tests.fixtures.closing import APRIL, MARCH
from tests.fixtures.jobs import at, exported

PEAK = at("2026-03-12T00:00"), at("2026-03-13T00:00")
RELEASE = EventRow("announced", *PEAK, "Release")


@pytest.fixture
def services(closing):
    return closing


def announce(services, *events):
    with exclusive(services):
        entered = enter(services, events, "dana")
    services.clock.sleep(3_600)
    return entered


def flagged(services, month="2026-03"):
    return {row["user_id"] for row in exported(services, month)}


def test_an_event_takes_its_flags_back_and_keeps_the_verdict_that_stood(any_closing):
    services = any_closing
    standing = services.store.ledger.current("2026-03")
    scored = len(services.engine().scored)
    fitted = len(services.engine().fitted)
    announce(services, replace(RELEASE, user_id="u2"))
    assert services.store.late.waiting() == {"2026-03": 1, "2026-04": 1}
    first, second = rejudge(services).done
    assert services.engine().scored[scored:] == [("u2",), ("u2",)]
    assert len(services.engine().fitted) == fitted
    assert flagged(services) == set()
    assert flagged(services, "2026-04") == {"u4"}
    assert "a changed calendar (announced) or late rows of 1 user" in first.note
    assert "flags: 1 went" in first.note
    assert "no flag is different" in second.note
    earlier = services.store.ledger.get(standing.id)
    assert earlier.state == "superseded"
    assert [flag.user_id for flag in services.store.flags.of_run(standing.id)] == ["u2"]
    (change,) = services.store.changes.list()
    assert (change.kind, change.user_id, change.earlier_run) == ("went", "u2", standing.id)
    assert services.store.ledger.current("2026-03").model_version == standing.model_version


def test_it_is_as_if_the_event_had_always_been_known(services, tmp_path):
    announce(services, RELEASE)
    rejudge(services)
    marks = {month: exported(services, str(month)) for month in (MARCH, APRIL)}
    for month in (MARCH, APRIL):
        services.clock.sleep(3_600)
        run_month(services, month, Options(force=True))
        assert exported(services, str(month)) == marks[month]


def test_an_event_withdrawn_brings_its_flags_back(services):
    before = exported(services, "2026-03")
    announce(services, RELEASE)
    rejudge(services)
    services.clock.sleep(3_600)
    (entry,) = services.store.events.list()
    withdraw(services, entry.event_id, "dana")
    services.clock.sleep(3_600)
    first, _ = rejudge(services).done
    assert "calendar (Release)" in first.note
    assert exported(services, "2026-03") == before
    changes = [one for one in services.store.changes.list("2026-03") if one.user_id == "u2"]
    assert [change.kind for change in changes] == ["came", "went"]


@pytest.mark.parametrize("moved", [False, True])
def test_an_event_of_a_group_concerns_its_members_alone(services, moved):
    group = "night shift" if moved else name_of(0)
    if moved:
        services.store.cohorts.move(Moved("u2", group, services.clock(), "dana", "asked to"))
    entered = announce(services, replace(RELEASE, cohort=group))
    assert entered.nobody == ()
    assert services.store.late.waiting()["2026-03"] == (1 if moved else 6)
    rejudge(services)
    assert flagged(services) == set()


def test_an_event_of_another_group_takes_nothing_back(services):
    before = exported(services, "2026-03")
    services.store.cohorts.move(Moved("u1", "night shift", services.clock(), "dana", "asked to"))
    announce(services, replace(RELEASE, cohort="night shift"))
    rejudge(services)
    assert exported(services, "2026-03") == before


def test_events_of_days_before_the_first_month_change_what_is_known(services):
    whole_february = EventRow("announced", at("2026-02-01T00:00"), at("2026-03-01T00:00"), "Move")
    announce(services, replace(whole_february, user_id="u2"))
    assert services.store.late.waiting() == {"2026-03": 1, "2026-04": 1}


@pytest.mark.parametrize(
    "event",
    [
        EventRow("announced", at("2026-05-20T00:00"), at("2026-05-21T00:00"), "later than all"),
        replace(RELEASE, user_id="nobody"),
        replace(RELEASE, cohort="nobody's"),
    ],
)
def test_what_concerns_nobody_yet_reopens_nothing(services, event):
    entered = announce(services, event)
    assert entered.nobody == (() if event.whom == "everyone" else (event.whom,))
    assert services.store.late.waiting() == {}
    assert services.store.events.read() == [event]


def test_what_is_known_already_reopens_nothing(services):
    announce(services, RELEASE)
    rejudge(services)
    assert announce(services, RELEASE).new == []
    assert services.store.late.waiting() == {}


def test_other_settings_leave_the_month_as_it_is(services):
    before = exported(services, "2026-03")
    changed = with_values(services.settings, "test", "threshold", fdr=0.2)
    other = replace(services, settings=changed)
    announce(other, RELEASE)
    found = rejudge(other)
    assert (found.done, found.waiting) == ([], {"2026-03": 6, "2026-04": 6})
    assert exported(services, "2026-03") == before


def test_shards_that_did_not_know_an_event_do_not_stand_beside_those_that_do(services):
    services.engine().fail_at = len(services.engine().scored)
    with pytest.raises(Exception, match="the database went away"):
        run_month(services, MARCH, Options(force=True))
    services.clock.sleep(60)
    announce(services, RELEASE)
    interrupted = services.store.ledger.runs(states=("failed", "running"))[0]
    done = run_month(services, MARCH, Options(force=True))
    assert services.store.ledger.current("2026-03").id != interrupted.id
    assert done.flags == []


def test_a_file_of_events_counts_what_is_new(services, tmp_path):
    file = tmp_path / "days.csv"
    file.write_text("kind,start,user_id\nleave,2026-03-12,u2\npayday,2026-03-31,\n")
    assert [len(import_calendar(services, file).new) for _ in range(2)] == [2, 0]
    (leave, payday) = services.store.events.read()
    assert (leave.user_id, payday.kind, payday.whom) == ("u2", "payday", "everyone")


def command(tmp_path, monkeypatch, *arguments):
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///{tmp_path}/anomaly.db")
    return run([*arguments])


def test_the_command_line_enters_lists_and_withdraws(services, tmp_path, monkeypatch, capsys):
    add = ("events", "add", "announced", "--from", "2026-03-12", "--name", "Release")
    assert command(tmp_path, monkeypatch, *add, "--user", "u2", "--author", "dana") == 0
    said = capsys.readouterr().out
    assert "1 event, 1 new" in said
    assert "2026-03: 1 user to be judged anew; the next run does it" in said
    assert command(tmp_path, monkeypatch, "events", "list", "--format", "json") == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["whom"], record["author"], record["end"]) == (
        "u2",
        "dana",
        "2026-03-13T00:00:00Z",
    )
    assert command(tmp_path, monkeypatch, "events", "withdraw", record["event_id"][:12]) == 0
    assert "(announced of u2) is withdrawn" in capsys.readouterr().out
    assert command(tmp_path, monkeypatch, "events", "list") == 0
    assert "Release" not in capsys.readouterr().out
    assert command(tmp_path, monkeypatch, "events", "list", "--withdrawn") == 0
    assert "Release" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("add", "party", "--from", "2026-03-12"), 4, "events add kind: 'party' is no kind. Use one of leave"),
        (("add", "leave", "--from", "soon"), 4, "events add start: 'soon' is no day or time"),
        (("add", "leave", "--from", "2026-03-12", "--until", "9999-01-01"), 4, "lasts longer than a year"),
        (("add", "leave", "--from", "2026-03-12", "--until", "2026-03-12"), 4, "is not after start"),
        (("add", "leave", "--from", "2026-03-12", "--user", "u", "--cohort", "c"), 4, "stands beside a user_id"),
        (("withdraw", "abc"), 2, "0 of the calendar begin so"),
    ],
)  # fmt: skip
def test_what_cannot_be_understood_is_refused(
    services, tmp_path, monkeypatch, capsys, arguments, code, said
):
    assert command(tmp_path, monkeypatch, "events", *arguments) == code
    assert said in capsys.readouterr().err
    assert services.store.events.list() == []


def test_whoever_is_not_known_is_named(services, tmp_path, monkeypatch, capsys):
    add = ("events", "add", "leave", "--from", "2026-03-12", "--cohort", "slaes")
    assert command(tmp_path, monkeypatch, *add) == 0
    assert "nothing is known yet of cohort slaes" in capsys.readouterr().err
