"""Commands over a database with a scored month, and imports that lead there."""

import csv
import json
import logging
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest
import structlog
from pyarrow import csv as pcsv
from pyarrow import parquet

from anomaly.months import Month
from anomaly.records import FLAG_COLUMNS
from anomaly.settings import CohortSettings, with_values
from anomaly.store import Moved, UserRow
from pipelines.cli.app import run
from pipelines.cli.data import plan_lines
from pipelines.exclusive import exclusive
from pipelines.jobs.groups import known_groups
from pipelines.jobs.month import Options, run_month
from pipelines.jobs.plan import plan_month, started_seconds
from pipelines.jobs.reading import peering_of
from pipelines.jobs.report import as_markdown, month_report
from pipelines.jobs.retention import delete_due
from tests.fixtures.jobs import Clock, at, behaviour, make_services

PEAKS = {("u2", "2026-03-12T03:00"): 400.0, ("u4", "2026-03-20T03:00"): 900.0}


@pytest.fixture
def database(sqlite_url, tmp_path, monkeypatch):
    """An upgraded database that commands find through the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", sqlite_url)
    monkeypatch.setenv("ANOMALY_RUN__ARTEFACTS", str(tmp_path / "artefacts"))
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield make_services(sqlite_url, tmp_path, Clock(at("2026-05-20T00:00")))
    root.handlers, root.level = handlers, level
    structlog.reset_defaults()


@pytest.fixture
def scored(database):
    database.store.observations.write(behaviour("2026-01", "2026-03", peaks=PEAKS), "t")
    run_month(database, Month(2026, 3))
    return database


def out_of(capsys, *arguments):
    code = run(list(arguments))
    said = capsys.readouterr()
    assert code == 0, said.err
    return said.out


def test_flags_are_listed_highest_first_with_their_sentence(scored, capsys):
    text = out_of(capsys, "flags", "list", "--month", "2026-03")
    assert text.index("u4: files was 900") < text.index("u2: files was 400")
    assert "u2" not in out_of(capsys, "flags", "list", "--limit", "1")
    assert "u4" not in out_of(capsys, "flags", "list", "--user", "u2")
    nothing = out_of(capsys, "flags", "list", "--severity", "low", "--no-suppressed")
    assert nothing == "no flags with --severity low --no-suppressed\n"


def test_exports_agree_and_begin_with_the_same_columns(scored, tmp_path, capsys):
    for form in ("csv", "json", "parquet"):
        out_of(capsys, "flags", "export", "--format", form, "--out", f"f.{form}")
    records = json.loads(Path("f.json").read_text())
    assert [record["user_id"] for record in records] == ["u4", "u2"]
    table = parquet.read_table("f.parquet")
    rows = list(csv.DictReader(Path("f.csv").read_text().splitlines()))
    assert tuple(table.column_names[: len(FLAG_COLUMNS)]) == FLAG_COLUMNS
    assert tuple(rows[0])[: len(FLAG_COLUMNS)] == FLAG_COLUMNS
    assert [row["flag_id"] for row in rows] == table["flag_id"].to_pylist()
    assert rows[0]["start"] == "2026-03-20T03:00:00Z"


def test_export_writes_to_standard_output(scored, capfdbinary):
    assert run(["flags", "export"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"flag_id,user_id,start,end")


def test_a_flag_is_shown_labelled_and_remarked_on(scored, capsys):
    flag_id = scored.store.flags.select()[0].flag.flag_id
    text = out_of(capsys, "flags", "show", flag_id[:6])
    assert "all_percentile" in text
    assert run(["flags", "show", flag_id[:5]]) == 2
    assert "open" in text
    out_of(capsys, "flags", "note", flag_id[:6], "asked", "--assign", "bob", "--author", "me")
    assert flag_id in out_of(capsys, "flags", "list", "--assignee", "bob")
    out_of(capsys, "flags", "label", flag_id[:8], "true", "--note", "it was", "--author", "me")
    row = scored.store.flags.get(flag_id)
    assert (row.status, row.label) == ("closed", "true")
    assert "it was" in out_of(capsys, "flags", "show", flag_id)
    assert run(["flags", "label", flag_id, "ture"]) == 2
    assert "Did you mean true?" in capsys.readouterr().err
    assert run(["flags", "show", "nonsense"]) == 2
    assert run(["flags", "label", flag_id, "expected"]) == 2
    error = capsys.readouterr().err
    assert "me said true" in error
    assert "it replaces true; both stay in the flag's history. Say so with --replace." in error
    text = out_of(
        capsys, "flags", "label", flag_id, "false-alarm", "--replace", "--until", "2027-01-31"
    )
    assert "suppression 1 asks for more evidence" in text


def test_labels_come_from_a_file_all_or_none(scored, capsys):
    first, second = (row.flag.flag_id for row in scored.store.flags.select())
    Path("labels.csv").write_text(f"flag_id,verdict,note\n{first},true,\n{second},maybe,\n")
    assert run(["flags", "label", "--from", "labels.csv"]) == 2
    assert "labels.csv line 3: verdict 'maybe' is none of" in capsys.readouterr().err
    assert scored.store.feedback.said(first) == []
    Path("labels.csv").write_text(f"flag_id,verdict\n{first},true\n{second},false alarm\n")
    text = out_of(capsys, "flags", "label", "--from", "labels.csv", "--author", "me")
    assert "2 flags labelled: 1 true, 1 false alarm" in text
    assert [row.label for row in scored.store.flags.select()] == ["true", "false_alarm"]
    Path("labels.csv").write_text(f"flag_id,verdict\n{first},expected\n")
    assert run(["flags", "label", "--from", "labels.csv"]) == 2
    assert "Say so in a column replacing." in capsys.readouterr().err


def test_a_suppression_of_what_is_not_known_is_warned_of(scored, capsys):
    asked = ["suppressions", "add", "--reason", "quiet"]
    given = ["--user", "nobody", "--cohort", "nowhere", "--metric", "nothing"]
    assert run([*asked, *given]) == 0
    told = capsys.readouterr().err
    assert "nothing is known yet of user nobody, members of nowhere, metric nothing; " in told
    assert "If a name is misspelt, revoke it: anomaly suppressions revoke 1" in told
    group = next(iter(scored.store.flags.cohorts("2026-03")))
    assert run([*asked, "--user", "u2", "--cohort", group, "--metric", "files"]) == 0
    assert "nothing is known" not in capsys.readouterr().err


def test_a_suppression_that_is_over_is_refused_unless_it_is_of_a_time_that_is(scored, capsys):
    asked = ["suppressions", "add", "--user", "u2", "--reason", "moved", "--until", "2026-04-01"]
    assert run(asked) == 2
    assert "--until 2026-04-01 lies in the past" in capsys.readouterr().err
    assert "quiets 1 flags now" in out_of(capsys, *asked, "--from", "2026-03-01")


def test_suppressions_are_added_listed_and_revoked(scored, capsys):
    assert run(["suppressions", "add", "--reason", "all"]) == 2
    assert "would silence everything" in capsys.readouterr().err
    text = out_of(
        capsys,
        "suppressions",
        "add",
        "--metric",
        "files",
        "--least-effect",
        "500",
        "--reason",
        "small",
    )
    assert "quiets 1 flags now" in text
    assert "u2" not in out_of(capsys, "flags", "list", "--no-suppressed")
    assert "u2" in out_of(capsys, "flags", "list", "--suppressed")
    out_of(capsys, "suppressions", "list", "--format", "json", "--out", "s.json")
    (record,) = json.loads(Path("s.json").read_text())
    assert (record["asks"], record["quiets"]) == ("a departure of 500", 1)
    assert "1 flags of this month are suppressed" in out_of(capsys, "report", "--month", "2026-03")
    assert "1 flags show again" in out_of(capsys, "suppressions", "revoke", "1")
    assert "flags have a verdict; from 20 on" in out_of(
        capsys, "suppressions", "refit", "--dry-run"
    )


def test_users_are_ranked(scored, capsys):
    text = out_of(capsys, "users", "list", "--month", "2026-03")
    assert text.index("u4") < text.index("u2") < text.index("u0")
    out_of(capsys, "users", "list", "--month", "2026-03", "--format", "csv", "--out", "u.csv")
    rows = pcsv.read_csv("u.csv").to_pylist()
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5, 6]


def test_terminal_and_report_never_round_up(scored, capsys):
    with scored.store._database.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE user_months SET score = 0.9999, risk = 0.9996, peer_percentile = 99.97, "
            "self_percentile = 50, confidence = 0 WHERE user_id = 'u1'"
        )
        connection.exec_driver_sql("UPDATE flags SET score = 1.687, all_percentile = 99.999")
    users = out_of(capsys, "users", "list", "--month", "2026-03")
    (line,) = (line for line in users.splitlines() if " u1 " in line)
    cells = [cell.strip() for cell in line.split("│")]
    assert [cells[place] for place in (3, 4, 8, 9, 12)] == ["99.9 %", "0.99", "-", "99.9 %", "0 %"]
    listed = out_of(capsys, "flags", "list")
    assert listed.count(" 1.68 ") == 2
    flag_id = scored.store.flags.select()[0].flag.flag_id
    shown = out_of(capsys, "flags", "show", flag_id)
    assert " 1.68 " in shown
    assert " 99.9 % " in shown
    report = out_of(capsys, "report", "--month", "2026-03")
    assert re.search(r"\| u1 \| \S+ \| 99\.9 % \| 0\.99 \|", report)
    assert report.count("| 1.68 |") == 2


def test_the_report_is_for_readers(scored, capsys):
    text = as_markdown(month_report(scored, Month(2026, 3)))
    assert text.startswith("# 2026-03\n")
    assert "2 flags" in text
    assert "| scored | 6 |" in text
    assert "| files | negative binomial |" in text
    assert "| all | too much | 1.00 | 1.00 | too few | too few |" in text
    assert "| all | too little | 4.50 off | 1.00 |" in text
    page = out_of(capsys, "report", "--month", "2026-03", "--format", "html")
    assert "<table>" in page
    assert run(["report", "--month", "2026-01"]) == 2
    assert "was not run" in capsys.readouterr().err


def test_the_report_says_who_would_have_been_better(scored):
    text = as_markdown(month_report(scored, Month(2026, 3)))
    assert "The network would have been better." in text
    assert "| planted incidents found | 5 of 10 (50 %) | 4 of 10 (40 %) |" in text
    rows = scored.store.models.list()
    network, twin = sorted(rows, key=lambda row: row.cell)
    assert f"| on this month | network {network.version} | the twin {twin.version} |" in text
    shutil.rmtree(scored.artefacts.folder / twin.version)
    text = as_markdown(month_report(scored, Month(2026, 3)))
    assert "cannot be compared on this month" in text
    assert "manifest.json: the model's file cannot be read" in text


def test_models_are_listed_promoted_and_rolled_back(scored, capsys):
    version = scored.store.models.champion().version
    text = out_of(capsys, "models", "list")
    said = text.replace("\n", " ")
    assert f"network {version} serves" in said
    assert "4 of 10 planted incidents found" in said
    assert said.count("serves (") == 1, "the verdict on a network is that on its twin, said once"
    assert all(word in text for word in ("lstm", "none", "negative"))
    assert "is champion" in out_of(capsys, "models", "promote", version)
    (scored.artefacts.folder / version / "model.json").write_text("{}")
    assert run(["models", "promote", version]) == 4
    assert run(["models", "rollback"]) == 4
    assert run(["models", "promote", "nonsense"]) == 4


def test_starting_is_counted_by_the_clock_which_a_busy_machine_stretches():
    before = started_seconds()
    time.sleep(0.3)  # takes no processor time
    assert started_seconds() - before >= 0.3


def test_a_plan_changes_nothing(scored, capsys):
    before = len(scored.store.ledger.runs())
    plan = plan_month(scored, Month(2026, 3))
    assert (plan.rows, plan.users, plan.learnt, plan.state) == (1490, 6, 0, "complete")
    assert (plan.flags, plan.chance) == (None, pytest.approx(0.12))
    assert plan.seconds > 0
    assert plan.memory > 50 * 2**20
    assert len(scored.store.ledger.runs()) == before
    assert run(["plan", "--month", "2026-04"]) == 4
    said = dict(plan_lines(plan))
    assert said["stands already"].endswith("complete")
    assert said["train a model"] == "no"


def test_a_plan_for_a_month_without_a_model_times_training(database):
    database.store.observations.write(behaviour("2026-01", "2026-03"), "t")
    plan = plan_month(database, Month(2026, 3))
    assert (plan.learnt, plan.history, plan.standing) == (6, 2, "nothing")
    assert len(database.engine().fitted) == 1, "tried, with few gradient steps"
    assert database.store.models.list() == []
    assert dict(plan_lines(plan))["train a model"] == "yes, on 6 users"


def test_flags_are_expected_as_in_the_months_before(scored):
    scored.store.observations.write(behaviour("2026-04", "2026-04"), "t")
    assert plan_month(scored, Month(2026, 4)).flags == pytest.approx(2.0)


def test_checks_tell_what_is_ready(scored, capsys):
    text = out_of(capsys, "check")
    assert "4,322 rows, 6 users, 2 metrics" in text
    assert "2026-02 is the first month that can be run" in text


def test_checks_pass_before_the_first_run_has_read_its_files(
    database, tmp_path, capsys, monkeypatch
):
    monkeypatch.setenv("ANOMALY_SOURCE__PATH", str(tmp_path / "rows"))
    assert run(["check"]) == 3
    assert "there is no such file" in capsys.readouterr().out
    (tmp_path / "rows").mkdir()
    parquet.write_table(behaviour("2026-01", "2026-03"), tmp_path / "rows" / "a.parquet")
    text = out_of(capsys, "check")
    assert "1 file, " in text
    assert "none yet; the first run reads them from the source" in text


def test_a_wrong_setting_is_told_of_the_settings(database, capsys, monkeypatch):
    monkeypatch.setenv("ANOMALY_GRID__STEPP", "1h")
    assert run(["check"]) == 2
    text = capsys.readouterr().out
    assert "settings" in text
    assert "stepp is no setting" in text
    assert "read and understood" not in text
    assert "database" not in text


def test_a_month_that_never_ran_is_not_one_without_flags(scored, capsys):
    for what in ("flags", "users"):
        said = out_of(capsys, what, "list", "--month", "2026-04")
        assert "2026-04: was not run. Run it first: anomaly run --month 2026-04" in said
    nothing = out_of(capsys, "flags", "list", "--month", "2026-03", "--user", "u1")
    assert nothing == "no flags with --month 2026-03 --user u1\n"


def test_a_plan_reads_nothing_first_where_rows_come_by_import(database, tmp_path, capsys):
    pcsv.write_csv(behaviour("2026-01", "2026-03"), tmp_path / "a.csv")
    out_of(capsys, "import", "a.csv")
    assert plan_month(database, Month(2026, 3)).new_rows == 0


def test_times_in_another_writing_are_refused_with_those_that_are_read(database, capsys, tmp_path):
    rows = "user_id,metric,observed_at,value\nada,logons,17.03.2026 08:00,3\n"
    (tmp_path / "a.csv").write_text(rows)
    assert run(["import", "a.csv"]) == 4
    said = capsys.readouterr().err
    assert "'ada,logons,17.03.2026 08:00,3' (unreadable_time)" in said
    assert "Times are read as ISO 8601 (2026-01-31, 2026-01-31 08:00" in said


def test_a_file_whose_users_are_not_named_says_how_to_name_them(database, tmp_path, capsys):
    table = behaviour("2026-01", "2026-01").rename_columns(["who", "what", "at", "amount"])
    pcsv.write_csv(table, tmp_path / "a.csv")
    assert run(["import", "a.csv", "--columns", "observed_at=at"]) == 4
    assert (
        "name the columns that tell users and metrics apart (user_id=…" in capsys.readouterr().err
    )


def test_checks_tell_what_is_missing_and_who_will_be_left_out(database, capsys):
    table = behaviour("2026-01", "2026-03")
    days = pc.day(table["observed_at"])
    gap = pc.and_(pc.equal(pc.month(table["observed_at"]), 3), pc.equal(days, 14))
    silent = pc.and_(pc.equal(table["user_id"], "u5"), pc.equal(pc.month(table["observed_at"]), 3))
    database.store.observations.write(table.filter(pc.invert(pc.or_(gap, silent))), "t")
    text = out_of(capsys, "check")
    assert "no rows on 1 day of 2026-03: 2026-03-14" in text
    assert "1 of 6 users without a row in 2026-03" in text
    assert "it can be written" in text


def test_retention_counts_what_is_due_and_then_deletes_it(scored, capsys, monkeypatch):
    assert "for ever" in out_of(capsys, "retention", "--dry-run")
    assert "nothing is older" in out_of(capsys, "retention")
    monkeypatch.setenv("ANOMALY_RETENTION__OBSERVATIONS_MONTHS", "1")
    assert run(["retention", "--dry-run"]) == 2
    assert "history_months" in capsys.readouterr().err
    monkeypatch.setenv("ANOMALY_MODEL__HISTORY_MONTHS", "1")
    assert "4,322" in out_of(capsys, "retention", "--dry-run")
    assert scored.store.kept.count() == 4_322
    assert "4,322" in out_of(capsys, "retention")
    assert scored.store.kept.count() == 0
    assert len(scored.store.flags.select()) == 2, "flags stay"
    assert "retention.delete" in out_of(capsys, "audit", "list")
    assert "nothing is older" in out_of(capsys, "retention")


def test_retention_keeps_what_is_young(scored, clocked, monkeypatch):
    run_month(scored, Month(2026, 3), Options(force=True))
    young = {"observations_months": 2, "superseded_months": 1, "rejects_months": 1}
    services = clocked(scored, "2026-05-20T00:00", young)
    scored.store.rejects.write("t", "not_finite", [("1", "x")], at("2026-03-01T00:00"))
    scored.store.rejects.write("t", "not_finite", [("2", "y")], at("2026-05-01T00:00"))
    with exclusive(services) as holding:
        gone = {one.what: one.rows for one in delete_due(services, holding)}
    march = 2 * 6 * 31 * 4 + 2
    assert gone["observations"] == 4_322 - march
    assert gone["results of superseded and failed runs"] == 2 + 6
    assert gone["rows set aside"] == 1
    assert services.store.kept.count() == march
    assert len(services.store.flags.select()) == 2


def test_what_is_known_of_users_goes_with_the_rows_it_was_learnt_from(scored, clocked):
    model, states = scored.store.models.champion().version, scored.store.states
    for when, gone, entered in (("2026-05-20", 0, "2026-02"), ("2026-06-20", 6, "2026-03")):
        services = clocked(scored, f"{when}T00:00", {"observations_months": 2})
        with exclusive(services) as holding:
            deleted = {one.what: one.rows for one in delete_due(services, holding)}
        assert deleted.get("states of users", 0) == gone
        assert states.complete(model, entered), "the first month that is kept begins with them"
    assert not states.complete(model, "2026-02")
    assert states.read(model, "2026-02") == {}


@pytest.fixture
def clocked():
    """Services at another time, with a retention policy."""

    def at_time(services, when, policy):
        settings = with_values(services.settings, "test", "retention", **policy)
        settings = with_values(settings, "test", "model", history_months=2)
        return replace(services, settings=settings, clock=Clock(at(when)))

    return at_time


def test_cohorts_are_listed(scored, capsys):
    assert "cohort-1" in out_of(capsys, "cohorts", "list", "--month", "2026-03")
    assert run(["cohorts", "list", "--month", "2026-01"]) == 2
    assert "u4" in out_of(capsys, "cohorts", "show", "cohort-1", "--month", "2026-03")


def cohort_of(services, user, month="2026-03"):
    (row,) = services.store.flags.user_months(month, user)
    return row.user_month.cohort


def test_a_user_is_moved_from_the_next_scored_month_on_and_back(scored, capsys):
    said = out_of(capsys, "cohorts", "move", "u2", "night shift", "--new", "--reason", "since May")
    assert "from the next scored month on" in said
    assert cohort_of(scored, "u2") == "cohort-1", "a scored month stays as it is"
    assert "since May" in out_of(capsys, "cohorts", "moved")
    run_month(scored, Month(2026, 3), Options(force=True))
    assert (cohort_of(scored, "u2"), cohort_of(scored, "u4")) == ("night shift", "cohort-1")
    out_of(capsys, "cohorts", "move", "u2", "--back")
    run_month(scored, Month(2026, 3), Options(force=True))
    assert cohort_of(scored, "u2") == "cohort-1"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("u9", "cohort-1"), "user 'u9' was never seen"),
        (("u2", "cohort-11"), "Did you mean cohort-1?"),
        (("u2", " ", "--new"), "printable name"),
        (("u2", "--back"), "was not moved"),
        (("u2",), "name a cohort"),
        (("u2", "cohort-1", "--back"), "name a cohort"),
    ],
)
def test_moves_that_cannot_be_are_refused(scored, capsys, arguments, message):
    assert run(["cohorts", "move", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_groups_and_usual_flags_are_known_however_long_ago_the_last_month_was(scored):
    for number in range(4, 20):  # nobody ran these
        month = Month(2026, 1).plus(number - 1)
        closing = month.end("UTC")
        scored.store.ledger.plan("month", closing, str(month))
        scored.store.ledger.missed("month", closing, closing)
    assert "cohort-1" in known_groups(scored)
    scored.store.observations.write(behaviour("2027-09", "2027-10"), "t")
    scored.clock.now = at("2027-11-20T00:00")
    assert plan_month(scored, Month(2027, 10)).flags == pytest.approx(2)


def test_columns_set_groups_and_a_move_overrules_them(scored):
    people = [UserRow(f"u{number}", department="sales", role="clerk") for number in range(3)]
    scored.store.users.write([*people, UserRow("u3", department="sales")])
    by = replace(
        scored,
        settings=scored.settings.model_copy(
            update={"cohorts": CohortSettings(by=["department", "role"], minimum_members=3)}
        ),
    )
    scored.store.cohorts.move(Moved("u1", "desk", scored.clock(), "ann", ""))
    peering = peering_of(by)
    names = {user: placed.name for user, placed in peering.placed.items()}
    assert names == {"u0": "sales / clerk", "u1": "desk", "u2": "sales / clerk"}
    assert peering.placed["u0"].why == "department is sales, role is clerk"
    assert peering.placed["u1"].why == "moved by ann on 2026-05-20"
    assert peering.least == 3


def write_csv(name, table):
    pcsv.write_csv(table, name)


def test_import_counts_rows_and_sets_bad_ones_aside(database, capsys):
    table = behaviour("2026-01", "2026-01", users=1)
    write_csv("a.csv", table)
    with Path("a.csv").open("a") as file:
        file.write("u0,files,yesterday,3\nu0,files,2026-01-05T01:00:00Z,much\n")
        file.write("u0,files,2226-01-05T01:00:00Z,3\n")
    text = out_of(capsys, "import", "a.csv")
    assert "251 rows read, 248 new" in text
    assert "3 set aside" in text
    assert database.store.rejects.counts().keys() == {
        "unreadable_time",
        "unreadable_value",
        "time_out_of_range",
    }
    text = out_of(capsys, "import", "a.csv")
    assert "0 new, 0 corrected, 248 known already" in text
    (run_, _) = database.store.ledger.runs(job="ingest")
    assert (run_.state, run_.rows_read, run_.rejected) == ("complete", 251, 3)
    assert run_.watermark == at("2026-01-31T18:00")


def test_a_file_with_too_many_bad_rows_leaves_nothing_behind(database, capsys):
    write_csv("a.csv", behaviour("2026-01", "2026-01", users=1))
    with Path("a.csv").open("a") as file:
        file.writelines("u0,files,yesterday,3\n" for _ in range(40))
    assert run(["import", "a.csv"]) == 4
    error = capsys.readouterr().err
    assert "a.csv: 40 of 288 rows are bad (unreadable_time: 40)" in error
    assert database.store.observations.count() == 0
    (failed,) = database.store.ledger.runs(job="ingest")
    assert (failed.state, failed.rejected) == ("failed", 40)
    assert database.store.rejects.counts() == {"unreadable_time": 40}


def test_later_values_win(database, capsys):
    table = behaviour("2026-01", "2026-01", users=1)
    write_csv("a.csv", table)
    out_of(capsys, "import", "a.csv")
    values = pa.array([7.0] * 3 + table["value"].to_pylist()[3:])
    write_csv("a.csv", table.set_column(3, "value", values))
    text = out_of(capsys, "import", "a.csv")
    assert "0 new" in text
    assert "corrected" in text


def test_users_and_calendars_are_imported(database, capsys):
    Path("users.csv").write_text(
        "user_id,department,timezone,active_to\nu1,sales,Europe/Berlin,2026-03-10\nu2,,,\n"
    )
    Path("days.csv").write_text("kind,start,end,user_id,name\nholiday,2026-03-03,2026-03-04,,Day\n")
    text = out_of(capsys, "import", "--users", "users.csv", "--calendar", "days.csv")
    assert "users.csv: 2 users" in text
    assert "days.csv: 1 event, 1 new" in text
    assert database.store.users.read()[0].timezone == "Europe/Berlin"


def test_an_import_names_the_columns_it_passed_over(database, capsys):
    Path("wide.csv").write_text("user_id,observed_at,mails,place\nu1,2026-01-01,3,Bonn\n")
    Path("users.csv").write_text("user_id,tz\nu1,UTC\n")
    text = out_of(capsys, "import", "wide.csv", "--users", "users.csv")
    assert (
        "wide.csv: 1 rows read, 1 new, 0 corrected, 0 known already; columns passed over: place"
        in text
    )
    assert "users.csv: 1 users; columns passed over: tz" in text


def test_a_file_without_rows_is_refused(database, capsys):
    Path("a.csv").write_text("user_id,metric,observed_at,value\n")
    assert run(["import", "a.csv"]) == 4
    assert "a.csv" in capsys.readouterr().err


def test_a_folder_of_parquet_is_imported(database, capsys):
    Path("rows").mkdir()
    for month in ("2026-01", "2026-02"):
        parquet.write_table(behaviour(month, month, users=2), f"rows/{month}.parquet")
    assert "944 new" in out_of(capsys, "import", "rows")


def test_a_configured_source_is_read_by_its_watermark(database, tmp_path, monkeypatch, capsys):
    import sqlite3

    rows = behaviour("2026-01", "2026-02", users=2).to_pylist()
    with sqlite3.connect(tmp_path / "theirs.db") as theirs:
        theirs.execute("create table log (who text, what text, at text, n real)")
        theirs.executemany(
            "insert into log values (?, ?, ?, ?)",
            [(r["user_id"], r["metric"], r["observed_at"].isoformat(), r["value"]) for r in rows],
        )
    theirs.close()
    monkeypatch.setenv("ANOMALY_SOURCE__URL", f"sqlite:///{tmp_path / 'theirs.db'}")
    monkeypatch.setenv("ANOMALY_SOURCE__TABLE", "log")
    columns = {"user_id": "who", "metric": "what", "observed_at": "at", "value": "n"}
    monkeypatch.setenv("ANOMALY_SOURCE__COLUMNS", json.dumps(columns))
    assert "944 rows read, 944 new" in out_of(capsys, "schedule", "--once", "ingest")
    # three days before the watermark are read again, for late rows
    assert "52 rows read, 0 new" in out_of(capsys, "schedule", "--once", "ingest")
    assert database.store.ledger.watermark("theirs.db:log") == at("2026-02-28T18:00")


@pytest.mark.parametrize(
    "url", ["sqlite:////nowhere/at/all.db", "postgresql://u:secret@127.0.0.1:1/x"]
)
def test_a_database_that_is_away_ends_with_3_and_no_password(url, monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("ANOMALY_DATABASE__URL", url)
    monkeypatch.setenv("ANOMALY_DATABASE__RETRIES", "0")
    assert run(["flags", "list"]) == 3
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert "secret" not in error
    structlog.reset_defaults()


def test_a_database_that_cannot_be_written_ends_with_3(scored, capsys, monkeypatch):
    path = Path(scored.settings.database.url.removeprefix("sqlite:///"))
    monkeypatch.setenv("ANOMALY_DATABASE__URL", f"sqlite:///file:{path}?mode=ro&uri=true")
    assert run(["run", "--month", "2026-03", "--force"]) == 3
    assert "error: " in capsys.readouterr().err
