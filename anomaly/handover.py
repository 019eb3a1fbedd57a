"""Flags in the words of other systems: a SIEM that reads OCSF or ECS, an Alertmanager."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any

import anomaly

if TYPE_CHECKING:
    from collections.abc import Mapping

Record = dict[str, Any]
SEVERITY_IDS = {"low": 2, "medium": 3, "high": 4, "critical": 5}  # OCSF
RISK = {"low": 21, "medium": 47, "high": 73, "critical": 99}  # Elastic's detection rules
OCSF_VERSION = "1.3.0"
ECS_VERSION = "8.11.0"


def ocsf(flag: Mapping[str, Any]) -> Record:
    """A Detection Finding (class 2004) of OCSF; times in milliseconds since 1970."""
    start, end = _milliseconds(flag["start"]), _milliseconds(flag["end"])
    return {
        "category_uid": 2, "class_uid": 2004, "type_uid": 200401, "activity_id": 1,
        "time": end, "start_time": start, "end_time": end,
        "severity_id": SEVERITY_IDS[flag["severity"]], "severity": flag["severity"].capitalize(),
        "status_id": 1, "message": flag["explanation"],
        "metadata": {
            "version": OCSF_VERSION, "uid": flag["flag_id"],
            "product": {"name": "anomaly", "version": anomaly.__version__},
        },
        "finding_info": {
            "uid": flag["flag_id"], "title": _title(flag), "desc": flag["explanation"],
            "types": [flag["kind"]], "first_seen_time": start, "last_seen_time": end,
            "analytic": {"name": "anomaly", "type_id": 3, "type": "Statistical"},
        },
        "evidences": [{"actor": {"user": {"uid": flag["user_id"], "name": flag["user_id"]}}}],
        "unmapped": _numbers(flag),
    }  # fmt: skip


def ecs(flag: Mapping[str, Any]) -> Record:
    """An alert in the Elastic Common Schema; what it has no field for lies below `anomaly`."""
    return {
        "@timestamp": _iso(flag["start"]),
        "ecs": {"version": ECS_VERSION},
        "event": {
            "kind": "alert", "category": ["iam"], "type": ["info"], "id": flag["flag_id"],
            "provider": "anomaly", "start": _iso(flag["start"]), "end": _iso(flag["end"]),
            "severity": RISK[flag["severity"]], "risk_score": float(flag["score"]),
            "reason": flag["explanation"],
        },
        "user": {"id": flag["user_id"], "name": flag["user_id"]},
        "rule": {"name": _title(flag), "category": flag["kind"]},
        "message": flag["explanation"],
        "anomaly": {**_numbers(flag), "severity": flag["severity"]},
    }  # fmt: skip


def alert(flag: Mapping[str, Any]) -> Record:
    """An alert as Alertmanager's POST /api/v2/alerts takes it, in an array.

    The person stands in an annotation, not in a label: labels group, route and are kept in names of files.
    """
    return {
        "labels": {
            "alertname": "AnomalyFlag", "flag_id": flag["flag_id"],
            "severity": flag["severity"], "kind": flag["kind"],
        },
        "annotations": {
            "summary": _title(flag), "description": flag["explanation"], "user": flag["user_id"],
            "score": f"{flag['score']:.6g}",
        },
        "startsAt": _iso(flag["start"]),
    }  # fmt: skip


def _title(flag: Mapping[str, Any]) -> str:
    return f"{flag['kind']} of {flag['metrics'].split(';')[0]}"


def _numbers(flag: Mapping[str, Any]) -> Record:
    names = (
        "score", "p_value", "kind", "direction", "metrics", "observed", "expected", "lower", "upper",
        "self_percentile", "peer_percentile", "all_percentile", "peer_count",
    )  # fmt: skip
    return {name: flag[name] for name in names}


def _iso(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _milliseconds(when: dt.datetime) -> int:
    return round(when.timestamp() * 1_000)
