"""The alert rules, by promtool: each fires for its own reason, alone, and stays quiet where all is well.

Time begins at 0 here, so a timestamp of 0 is as old as the test is long.
"""

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from anomaly.store import Store, open_engine, schema
from anomaly.telemetry.collector import LedgerCollector
from pipelines.cli.app import build
from tests.factories import RUN_AT

DAY = 1_440  # minutes


@dataclass(frozen=True)
class Case:
    """Series, as promtool writes them, that make an alert fire `after` minutes, and others that do not."""

    alert: str
    fires: dict[str, str]
    quiet: dict[str, str]
    after: int
    step: str = "1m"
    present: bool = True
    labels: dict[str, str] = field(default_factory=dict)


def always(value):
    return f"{value}x200"


def month(name, end, state):
    """A month's series: when it ends, and the state it is in."""
    return {
        f'anomaly_month_end_timestamp_seconds{{month="{name}"}}': always(end),
        f'anomaly_month_state{{month="{name}",state="complete"}}': always(int(state == "complete")),
        f'anomaly_month_state{{month="{name}",state="failed"}}': always(int(state == "failed")),
    }


def rates(*values):
    """The flag rates of complete months, the last of them the latest."""
    months = {
        f'anomaly_month_flags_per_thousand_user_months{{month="2026-{number:02d}"}}': always(value)
        for number, value in enumerate(values, start=1)
    }
    return {**months, "anomaly_flags_per_thousand_user_months": always(values[-1])}


FAILURE = 'anomaly_run_last_failure_timestamp_seconds{exported_job="month"}'
SUCCESS = 'anomaly_run_last_success_timestamp_seconds{exported_job="month"}'
HEARTBEAT = 'anomaly_run_heartbeat_timestamp_seconds{exported_job="month"}'
PROGRESS = 'anomaly_run_progress_timestamp_seconds{exported_job="month"}'
LEASE = "anomaly_scheduler_lease_end_timestamp_seconds"
MISSED = 'anomaly_jobs_missed_total{exported_job="score"}'
DATABASE = 'anomaly_source_watermark_timestamp_seconds{source="warehouse:behaviour"}'
FILE = 'anomaly_source_watermark_timestamp_seconds{source="file"}'
COPIED = 'anomaly_source_watermark_timestamp_seconds{source="observations"}'
REJECTED = 'anomaly_rows_rejected_total{reason="unreadable_time"}'
READ = 'anomaly_rows_read_total{source="warehouse:behaviour"}'
FALLBACK = "anomaly_model_fallback"
PRECISION = "anomaly_flag_precision"
REAL = 'anomaly_flags_judged{verdict="true"}'
FALSE = 'anomaly_flags_judged{verdict="false_alarm"}'
TRAINED = 'anomaly_model_trained_timestamp_seconds{model="network"}'
SENT = 'anomaly_notification_last_success_timestamp_seconds{channel="mailto"}'
NOT_SENT = 'anomaly_notification_last_failure_timestamp_seconds{channel="mailto"}'
OUTCOMES = 'anomaly_notifications_total{channel="mailto",outcome="%s"}'

CASES = [
    Case("AnomalyTargetAbsent", {}, {}, 10, present=False),
    Case(
        "AnomalyDatabaseDown",
        {"anomaly_database_up": always(0)},
        {"anomaly_database_up": always(1)},
        10,
    ),
    Case(
        "AnomalyMonthNotComplete",
        {**month("2026-03", 0, "failed"), **month("2026-02", 0, "complete")},
        month("2026-03", 0, "complete"),
        6 * DAY,
        "12h",
    ),
    # It ended, but late rows are still awaited.
    Case(
        "AnomalyMonthNotComplete",
        month("2026-03", 0, "none"),
        month("2026-04", 2 * 86_400, "none"),
        6 * DAY,
        "12h",
    ),
    Case(
        "AnomalyRunFailing",
        {FAILURE: always(300), SUCCESS: always(200)},
        {FAILURE: always(300), SUCCESS: always(400)},
        10,
    ),
    Case("AnomalyRunFailing", {FAILURE: always(300)}, {SUCCESS: always(300)}, 10),
    Case("AnomalyRunStuck", {HEARTBEAT: always(0)}, {HEARTBEAT: "0+60x200"}, 15),
    # It hangs: its heart beats on, its work stands.
    Case(
        "AnomalyRunStuck",
        {HEARTBEAT: "0+60x200", PROGRESS: always(0)},
        {HEARTBEAT: "0+60x200", PROGRESS: "0+60x200"},
        35,
    ),
    Case("AnomalyNoLeader", {LEASE: always(30)}, {LEASE: "30+60x200"}, 10),
    Case("AnomalyJobMissed", {MISSED: "0x5 1x200"}, {MISSED: always(7)}, 30),
    Case(
        "AnomalySourceStale",
        {DATABASE: always(0)},
        {DATABASE: "0+43200x200", COPIED: always(0), FILE: always(0)},
        3 * DAY,
        "12h",
    ),
    Case(
        "AnomalySourceStale",
        {FILE: always(0)},
        {FILE: always(3 * 86_400)},
        37 * DAY,
        "1d",
    ),
    Case(
        "AnomalyRowsRejected",
        {REJECTED: "0x5 30x200", READ: "1000x5 2000x200"},
        {REJECTED: "0x5 10x200", READ: "1000x5 2000x200"},
        30,
    ),
    Case("AnomalyFlagRateJumped", rates(20, 25, 18, 90), rates(20, 25, 18, 50), 10),
    # Two months are no habit.
    Case("AnomalyFlagRateJumped", rates(20, 20, 20, 61), rates(20, 90), 10),
    # Of thirty users one is flagged now and then: three times nothing is no measure.
    Case("AnomalyFlagRateJumped", rates(0, 3, 3, 3, 33.3), rates(0, 33.3, 0, 0, 33.3), 10),
    Case("AnomalyFlagRateFellToZero", rates(20, 25, 18, 0), rates(0, 0, 0, 0), 10),
    Case(
        "AnomalyCalibrationOff",
        {"anomaly_calibration_error": always(0.4)},
        {"anomaly_calibration_error": always(0.18)},
        30,
    ),
    Case(
        "AnomalyModelTooOld",
        {TRAINED: always(0)},
        {TRAINED: always(3 * 86_400)},
        137 * DAY,
        "1d",
    ),
    Case("AnomalyTwinServes", {FALLBACK: always(1)}, {FALLBACK: always(0)}, 10),
    Case(
        "AnomalyPrecisionFell",
        {PRECISION: always(0.2), REAL: always(5), FALSE: always(20)},
        {PRECISION: always(0.2), REAL: always(1), FALSE: always(4)},
        90,
    ),
    Case(
        "AnomalyPrecisionFell",
        {PRECISION: "0.8x10 0.5x200", REAL: always(30), FALSE: always(30)},
        {PRECISION: "0.8x10 0.7x200", REAL: always(30), FALSE: always(30)},
        120,
    ),
    Case(
        "AnomalyNotificationFailing",
        {NOT_SENT: "_x5 360x200", SENT: always(300)},
        # A retry a minute later is taken, and so are three more messages.
        {
            NOT_SENT: "_x5 360x200",
            SENT: "300x6 420x200",
            OUTCOMES % "failed": "0x5 1x200",
            OUTCOMES % "sent": "5x6 6x1 9x200",
        },
        40,
    ),
    # It never worked and is tried on; one that was taken out of [notify] is not.
    Case(
        "AnomalyNotificationFailing",
        {NOT_SENT: "0+43200x200"},
        {NOT_SENT: always(0)},
        3 * DAY,
        "12h",
    ),
]


@pytest.fixture(scope="module")
def rules(repository: Path) -> Path:
    return repository / "deploy" / "prometheus" / "alerts.yml"


def alerts(rules: Path) -> list[dict]:
    (group,) = yaml.safe_load(rules.read_text())["groups"]
    return group["rules"]


def checked(case: Case, series: dict[str, str], fires: bool) -> dict:
    """A promtool test: exactly this alert fires, or none does. Two processes say the same."""
    present = {"anomaly_build_info": always(1)} if case.present or not fires else {}
    inputs = [
        {"series": labelled(name, instance), "values": values}
        for name, values in {**present, **series}.items()
        for instance in ("a", "b")
    ]
    expected = [{"labels": f'{{alertname="{case.alert}"}}', "value": 1}] if fires else []
    return {
        "interval": case.step,
        "input_series": inputs,
        "promql_expr_test": [
            {
                "expr": 'count by (alertname) (ALERTS{alertstate="firing"})',
                "eval_time": f"{case.after}m",
                "exp_samples": expected,
            }
        ],
    }


def labelled(series: str, instance: str) -> str:
    name, _, labels = series.partition("{")
    given = f"{labels.removesuffix('}')}," if labels else ""
    return f'{name}{{{given}job="anomaly",instance="{instance}"}}'


@pytest.mark.parametrize("step", sorted({case.step for case in CASES}))
def test_each_alert_fires_for_its_reason_alone_and_stays_quiet(rules, promtool, tmp_path, step):
    cases = [case for case in CASES if case.step == step]
    tests = [checked(case, case.fires, True) for case in cases]
    tests += [checked(case, case.quiet, False) for case in cases]
    file = tmp_path / "rules.test.yml"
    file.write_text(
        yaml.safe_dump({"rule_files": [str(rules)], "evaluation_interval": step, "tests": tests})
    )
    done = subprocess.run(
        [promtool, "test", "rules", file], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_no_alert_is_without_a_case(rules):
    assert {case.alert for case in CASES} == {alert["alert"] for alert in alerts(rules)}


def test_what_they_say_is_filled_in(rules, promtool, tmp_path):
    series = {FAILURE: always(300)}
    test = checked(Case("AnomalyRunFailing", series, {}, 10), series, True)
    del test["promql_expr_test"]
    rule = next(it for it in alerts(rules) if it["alert"] == "AnomalyRunFailing")
    labels = "{{ or $labels.exported_job $labels.job }}"
    said = {name: text.replace(labels, "month") for name, text in rule["annotations"].items()}
    expected = {
        "exp_labels": {"job": "anomaly", "exported_job": "month", **rule["labels"]},
        "exp_annotations": said,
    }
    test["alert_rule_test"] = [
        {"eval_time": "10m", "alertname": "AnomalyRunFailing", "exp_alerts": [expected]}
    ]
    file = tmp_path / "words.test.yml"
    file.write_text(yaml.safe_dump({"rule_files": [str(rules)], "tests": [test]}))
    subprocess.run([promtool, "test", "rules", file], check=True)


def test_each_alert_says_what_it_is_means_and_asks_for(rules, repository):
    for alert in alerts(rules):
        said = alert["annotations"]
        assert set(said) == {"summary", "description", "action", "runbook_url"}, alert["alert"]
        page = (repository / said["runbook_url"]).read_text()
        assert f"`{alert['alert']}`" in page
        assert alert["labels"]["severity"] in {"critical", "warning"}
    linked = {Path(alert["annotations"]["runbook_url"]).name for alert in alerts(rules)}
    kept = {page.name for page in (repository / "docs" / "runbooks").glob("*.md")}
    assert kept - linked == {"index.md"}


def test_alerts_ask_for_metrics_that_exist(rules, sqlite_url):
    engine = open_engine(sqlite_url)
    schema.upgrade(engine)
    registry = CollectorRegistry()
    registry.register(LedgerCollector(Store(engine), lambda: RUN_AT))
    names = re.findall(r"# HELP (\w+)", generate_latest(registry).decode())
    for alert in alerts(rules):
        asked = re.findall(r"anomaly_\w+", alert["expr"])
        assert asked
        assert set(asked) <= set(names), alert["alert"]


def test_runbooks_name_commands_that_exist(repository):
    commands = build().commands
    for page in (repository / "docs" / "runbooks").glob("*.md"):
        for words in re.findall(r"\banomaly ([a-z-]+(?: [a-z]+)?)", shell_lines(page.read_text())):
            first, _, second = words.partition(" ")
            assert first in commands, f"{page.name}: anomaly {words}"
            within = getattr(commands[first], "commands", {})
            assert not within or second in within, f"{page.name}: anomaly {words}"


def shell_lines(page: str) -> str:
    """What stands in blocks of shell and in inline code."""
    return "\n".join(
        re.findall(r"```sh\n(.*?)```", page, re.DOTALL) + re.findall(r"`(anomaly [^`]*)`", page)
    )


@pytest.mark.parametrize("name", ["prometheus.yml", "alertmanager.yml"])
def test_examples_are_understood(repository, promtool, alertmanager, name):
    file = repository / "deploy" / "prometheus" / name
    check = (
        [promtool, "check", "config"] if name == "prometheus.yml" else ["amtool", "check-config"]
    )
    subprocess.run([*check, file], check=True)
