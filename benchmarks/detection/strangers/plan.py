"""What a world is to be like."""

from __future__ import annotations

from dataclasses import dataclass

METRICS = ("distinct_hosts", "emails_sent", "files_read", "logons", "mb_uploaded")
HOSTS, MAIL, FILES, LOGONS, UPLOAD = range(5)
START, SCORED, END = "2025-01-01", "2025-05-01", "2025-06-01"  # incidents are in the scored month


@dataclass(frozen=True)
class Plan:
    """Rates are a month and user, unless said otherwise; sizes are logarithms.

    incident_share: of users, who have one incident each. strength: of incidents. duration: of
    incidents, 1: as their kind lasts. bursts: honest ones, of burst_size on average. evenings,
    weekends: of such days, the share on which a person works. lingering: deviation of a day's
    intensity. tail: of sizes. waves: events of a whole site, a month.
    """

    strength: float
    incident_share: float = 0.06
    duration: float = 1.0
    bursts: float = 0.4
    burst_size: float = 0.9
    leaves: float = 0.25
    travels: float = 0.15
    evenings: float = 0.10
    weekends: float = 0.04
    lingering: float = 0.30
    tail: float = 1.0
    waves: float = 0.0


CLEAN = Plan(strength=1.7)
BUSY = Plan(
    strength=2.0, duration=0.5, bursts=1.0, burst_size=1.0, leaves=0.35, travels=0.3,
    evenings=0.2, weekends=0.08, lingering=0.45, tail=1.25, waves=1.0,
)  # fmt: skip
