"""Flags for other systems: what they need is where they look for it."""

from __future__ import annotations

import datetime as dt
import io
import json
from dataclasses import fields

import pyarrow as pa
import pytest

from anomaly.exceptions import UsageError
from anomaly.handover import alert, ecs, ocsf
from anomaly.records import SEVERITIES
from anomaly.store import ChangeRow
from pipelines.cli.feedback import COLUMNS as SUPPRESSIONS
from pipelines.cli.output import Format, writer

USERS = ["rank", "user_id", "score", "flags"]
FLAG = {
    "flag_id": "b2cac3de", "user_id": "u07", "severity": "high", "score": 2.5, "p_value": 1e-7,
    "start": dt.datetime(2026, 3, 12, 1, tzinfo=dt.UTC),
    "end": dt.datetime(2026, 3, 12, 5, tzinfo=dt.UTC),
    "kind": "burst", "direction": "up", "metrics": "files_read;logons", "observed": 400.0,
    "expected": 3.0, "lower": 0.0, "upper": 9.0, "explanation": "u07: unusually much: …",
    "self_percentile": 100.0, "peer_percentile": 99.0, "all_percentile": 99.5, "peer_count": 12,
}  # fmt: skip


def written(form: Format, *flags: dict) -> bytes:
    file = io.BytesIO()
    writer(form)(pa.Table.from_pylist([*flags]), file)
    return file.getvalue()


def test_ocsf_is_a_detection_finding_a_line_each():
    first, second = map(json.loads, written(Format.ocsf, FLAG, FLAG).splitlines())
    assert first == second == ocsf(FLAG)
    assert first["class_uid"] * 100 + first["activity_id"] == first["type_uid"] == 200_401
    assert (first["start_time"], first["time"]) == (1_773_277_200_000, 1_773_291_600_000)
    assert first["evidences"][0]["actor"]["user"]["uid"] == "u07"
    assert [ocsf({**FLAG, "severity": one})["severity_id"] for one in SEVERITIES] == [2, 3, 4, 5]


def test_ecs_has_its_required_fields_and_risk_rises_with_severity():
    (line,) = map(json.loads, written(Format.ecs, FLAG).splitlines())
    assert line == ecs(FLAG)
    assert {"@timestamp", "ecs", "message", "event"} <= set(line)
    assert line["event"]["kind"] == "alert"
    assert line["@timestamp"] == "2026-03-12T01:00:00Z"
    risks = [ecs({**FLAG, "severity": one})["event"]["severity"] for one in SEVERITIES]
    assert risks == sorted(set(risks))


def test_an_alert_names_nobody_in_its_labels():
    (shown,) = json.loads(written(Format.alertmanager, FLAG))
    assert shown == alert(FLAG)
    assert "u07" not in json.dumps(shown["labels"])
    assert shown["annotations"]["user"] == "u07"
    assert all(isinstance(value, str) for value in shown["labels"].values())


def test_what_is_not_finite_is_left_out():
    (line,) = map(json.loads, written(Format.ocsf, {**FLAG, "upper": float("inf")}).splitlines())
    assert line["unmapped"]["upper"] is None


@pytest.mark.parametrize("form", [Format.ocsf, Format.ecs, Format.alertmanager])
@pytest.mark.parametrize("columns", [USERS, SUPPRESSIONS, [one.name for one in fields(ChangeRow)]])
def test_tables_of_something_else_are_refused(form, columns):
    with pytest.raises(UsageError, match="are for flags"):
        writer(form)(pa.table({name: ["u07"] for name in columns}), io.BytesIO())
