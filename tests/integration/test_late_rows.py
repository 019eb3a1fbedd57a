"""Rows that come after their month was closed: it is reopened, for the users touched alone."""

import datetime as dt
import json
import shutil
from dataclasses import replace

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from anomaly.months import Month
from anomaly.settings import Settings, with_values
from anomaly.web.app import create_app
from pipelines.cli.app import run
from pipelines.exclusive import exclusive
from pipelines.jobs.ingest import ingest_file, ingest_source
from pipelines.jobs.month import run_month
from pipelines.jobs.scope import Options
from pipelines.schedule import do_score
from pipelines.services import PARQUET_INDEX, place
from tests.fixtures.closing import APRIL, MARCH, PEAKS, settle
from tests.fixtures.jobs import Clock, at, behaviour, exported, make_services
from tests.fixtures.operating import Asked
from tests.fixtures.serving import door_of, serving

LATE = {("u1", "2026-03-20T03:00"): 300.0}


@pytest.fixture
def services(closing):
    return closing


def import_rows(services, folder, rows):
    file = folder / "late.parquet"
    pq.write_table(rows, file)
    done = ingest_file(services, file)
    services.clock.sleep(3_600)
    return done


def late_rows(peaks=LATE):
    return behaviour("2026-03", "2026-03", users=0, peaks=peaks)


def marks(services, month):
    return {(row["user_id"], row["start"], row["score"]) for row in exported(services, month)}


def test_late_rows_reopen_their_month_for_their_users_alone(any_closing, tmp_path):
    services = any_closing
    before = exported(services, "2026-03")
    standing = services.store.ledger.current("2026-03")
    scored = len(services.engine().scored)
    done = import_rows(services, tmp_path, late_rows())
    assert done.late == {"u1"}
    assert services.store.late.waiting() == {"2026-03": 1, "2026-04": 1}
    first, second = settle(services)
    assert services.engine().scored[scored:] == [("u1",), ("u1",)]
    assert (first.month, first.state, first.users_scored) == ("2026-03", "complete", 6)
    after = exported(services, "2026-03")
    assert [row for row in after if row["user_id"] != "u1"] == before
    assert [row["start"] for row in after if row["user_id"] == "u1"] == [at("2026-03-20T03:00")]
    assert services.store.ledger.get(standing.id).state == "superseded"
    assert [flag.user_id for flag in services.store.flags.of_run(standing.id)] == ["u2"]
    assert "reopened: late rows of 1 user; against run" in first.note
    assert "flags: 1 came" in first.note
    assert "no flag is different" in second.note
    assert services.store.late.waiting() == {}
    assert settle(services) == []


def test_the_difference_is_written_down(any_closing, tmp_path):
    services = any_closing
    peaks = {**LATE, ("u2", "2026-03-12T03:00"): 1.0}  # a row is corrected too
    import_rows(services, tmp_path, late_rows(peaks))
    settle(services)
    run = services.store.ledger.current("2026-03")
    went, came = services.store.changes.list(month="2026-03")
    assert (came.kind, came.user_id, came.run_id, came.earlier_flag_id) == (
        "came", "u1", run.id, None,
    )  # fmt: skip
    assert (went.kind, went.user_id, went.earlier_score) == ("went", "u2", went.score)
    assert services.store.changes.list(run_id=run.id) == [went, came]


def test_a_reopened_month_is_as_if_all_of_it_were_scored_again(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    settle(services)
    reopened = {month: marks(services, str(month)) for month in (MARCH, APRIL)}
    for month in (MARCH, APRIL):
        services.clock.sleep(3_600)
        run_month(services, month, Options(force=True))
        assert marks(services, str(month)) == reopened[month]


def test_what_is_known_of_the_user_afterwards_has_the_late_rows(services, tmp_path):
    version = services.store.models.champion().version
    states = services.store.states
    before = [states.read(version, month) for month in ("2026-03", "2026-04")]
    import_rows(services, tmp_path, late_rows())
    settle(services)
    after = [states.read(version, month) for month in ("2026-03", "2026-04")]
    for old, new in zip(before, after, strict=True):
        assert {user for user in old if old[user] != new[user]} == {"u1"}


def test_rows_of_history_change_what_is_known_before_the_first_month(services, tmp_path):
    old = behaviour("2026-02", "2026-02", users=0, peaks={("u4", "2026-02-10T03:00"): 90_000.0})
    import_rows(services, tmp_path, old)
    assert services.store.late.waiting() == {"2026-03": 1, "2026-04": 1}
    settle(services)
    # 90,000 files in February make 500 in April nothing out of the way.
    (change,) = services.store.changes.list(month="2026-04")
    assert (change.kind, change.user_id) == ("went", "u4")


def test_equal_rows_are_not_late(services, tmp_path):
    done = import_rows(services, tmp_path, behaviour("2026-03", "2026-04", peaks=PEAKS))
    assert done.late == frozenset()
    assert services.store.late.waiting() == {}


def test_someone_never_seen_before_is_scored_too(services, tmp_path):
    import_rows(services, tmp_path, late_rows({("new", "2026-03-20T03:00"): 300.0}))
    first, _ = settle(services)
    assert first.users_scored == 7
    assert services.store.flags.user_months("2026-03", "new")


def test_the_next_run_takes_late_rows_in_before_it_scores(services, tmp_path):
    more = behaviour("2026-05", "2026-05")
    services.clock.now = at("2026-06-05T00:00")
    import_rows(services, tmp_path, pa.concat_tables([late_rows(), more]))
    outcome = run_month(services, Month(2026, 5))
    assert outcome.month == "2026-05"
    assert services.store.late.waiting() == {}
    assert [change.month for change in services.store.changes.list()] == ["2026-03"]


def test_a_run_of_the_closed_month_takes_them_in(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    assert "flags: 1 came" in run_month(services, MARCH).note
    assert "nothing changed" in run_month(services, MARCH).note


def test_the_scheduled_scoring_takes_them_in(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    services.clock.now = at("2026-05-21T00:00")
    said = list(do_score(services, None))
    assert said[0].startswith("2026-03 reopened: late rows of 1 user")


def test_other_settings_leave_the_month_as_it_is(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    before = exported(services, "2026-03")
    changed = with_values(services.settings, "test", "threshold", fdr=0.2)
    assert settle(replace(services, settings=changed)) == []
    assert exported(services, "2026-03") == before
    assert services.store.late.waiting() == {"2026-03": 1, "2026-04": 1}


def test_a_user_who_cannot_be_scored_leaves_the_month_as_it_is(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    standing = services.store.ledger.current("2026-03")
    services.engine().poison = frozenset({"u1"})
    assert settle(services) == []
    assert services.store.ledger.current("2026-03") == standing
    failed = services.store.ledger.runs(states=("failed",))
    assert all("could not be scored" in run.note for run in failed)
    services.engine().poison = frozenset()
    assert [outcome.month for outcome in settle(services)] == ["2026-03", "2026-04"]


def test_an_interrupted_reopening_begins_anew(services, tmp_path):
    import_rows(services, tmp_path, late_rows())
    services.engine().fail_at = len(services.engine().scored)
    with pytest.raises(Exception, match="the database went away"):
        settle(services)
    assert marks(services, "2026-03") == {
        (row["user_id"], row["start"], row["score"]) for row in exported(services, "2026-03")
    }
    assert len(settle(services)) == 2
    assert services.store.ledger.current("2026-03").users_scored == 6


def test_a_file_that_is_read_in_place_may_come_late(sqlite_url, tmp_path):
    clock = Clock(dt.datetime.now(dt.UTC))  # files know when they came by the machine's own clock
    folder, artefacts = tmp_path / "files", tmp_path / "artefacts"
    folder.mkdir()
    settings = Settings.model_validate(
        {
            "database": {"url": sqlite_url},
            "run": {"workers": 1, "artefacts": str(artefacts)},
            "source": {"path": str(folder)},
        }
    )
    services = make_services(sqlite_url, tmp_path, clock, settings)
    place(settings, services.store, artefacts, clock)
    pq.write_table(behaviour("2026-01", "2026-03", peaks=PEAKS), folder / "rows.parquet")
    run_month(services, MARCH)
    assert services.store.in_place
    clock.sleep(3_600)
    pq.write_table(late_rows(), folder / "late.parquet")
    assert look_over(services).late == {"u1"}
    clock.sleep(3_600)
    (outcome,) = settle(services)
    assert "flags: 1 came" in outcome.note
    shutil.rmtree(artefacts / PARQUET_INDEX)
    anew = make_services(sqlite_url, tmp_path, clock, settings)
    place(settings, anew.store, artefacts, clock)
    done = look_over(anew)  # an index that is made again is no news of its files
    assert (done.tally.read > 0, done.late) == (True, frozenset())


def look_over(services):
    with exclusive(services):
        return ingest_source(services)


def test_the_page_and_the_api_show_what_waits_and_what_became_different(services, tmp_path):
    app = create_app(
        services.store, Settings(), CollectorRegistry(), lambda: True, door_of(services.store),
        operations=Asked(services.store, services.clock()),
    )  # fmt: skip
    import_rows(services, tmp_path, late_rows())
    with serving(app) as address, httpx.Client(base_url=address, timeout=60) as web:
        assert "came late, of 1 user, wait" in web.get("/operate").text
        settle(services)
        assert "came late" not in web.get("/operate").text.split('id="runs"')[0]
        run = services.store.ledger.current("2026-03")
        page = web.get(f"/operate/runs/{run.id}").text
        assert "What became different" in page
        (record,) = web.get("/api/v1/changes", params={"month": "2026-03"}).json()
        assert (record["kind"], record["start"]) == ("came", "2026-03-20T03:00:00Z")
        assert f"/flags/{record['flag_id']}" in page
        assert web.get("/api/v1/changes", params={"run": run.id + 1}).json() == []


def test_the_command_line_lists_what_became_different(services, tmp_path, monkeypatch, capsys):
    import_rows(services, tmp_path, late_rows())
    settle(services)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///{tmp_path}/anomaly.db")
    capsys.readouterr()
    assert run(["flags", "changes", "--month", "2026-03", "--format", "json"]) == 0
    (record,) = json.loads(capsys.readouterr().out)
    assert (record["kind"], record["user_id"], record["earlier_flag_id"]) == ("came", "u1", None)
    assert run(["flags", "changes"]) == 0
    assert "what became different, 1 " in capsys.readouterr().out
    assert run(["flags", "changes", "--month", "2026-04", "--format", "csv"]) == 0
    assert capsys.readouterr().out.startswith("run_id,flag_id,month,kind,user_id,start,end")
