"""The kinds of people and machines a made company employs.

The figures are round numbers for an office of knowledge workers, not fitted to any data set or
detector: roles must differ enough for peer groups to exist, and people within a role must differ
more than roles do (see `habits.py`), as they do in real log-on data.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

METRICS = ("logons", "bytes_out", "files_read", "hosts_touched", "usb_events")
LOGONS, BYTES, FILES, HOSTS, USB = range(len(METRICS))

Rhythm = Literal["office", "rotating", "night", "machine"]


@dataclass(frozen=True, slots=True)
class Role:
    """What members of a role have in common.

    share: part of the staff. rates: per METRICS, a usual amount in an hour in which the metric is
    used at all (bytes for bytes_out). use: per METRICS, the share of working hours in which it is.
    start, hours: local hour at which work begins, and its length. evening, weekend: chance of work
    on an evening or a free day. on_call: chance that a night of one's on-call week is broken.
    travel: trips a month. month_end: how many times busier the turn of a month is.
    """

    name: str
    department: str
    share: float
    rates: tuple[float, ...]
    use: tuple[float, ...]
    rhythm: Rhythm = "office"
    start: float = 8.5
    hours: float = 9.0
    evening: float = 0.05
    weekend: float = 0.02
    on_call: float = 0.0
    travel: float = 0.05
    month_end: float = 1.0

    @property
    def is_machine(self) -> bool:
        """True of an account that no person works with."""
        return self.rhythm == "machine"


ROLES = (
    Role("engineer", "Engineering", 0.32, (1.6, 9e6, 14, 2.4, 2.0), (0.40, 0.75, 0.80, 0.60, 0.05),
         start=9.2, evening=0.18, weekend=0.06, on_call=0.10),
    Role("sales", "Sales", 0.22, (1.5, 5e6, 7, 1.6, 2.0), (0.50, 0.70, 0.60, 0.35, 0.08),
         evening=0.15, weekend=0.04, travel=0.35, month_end=1.3),
    Role("support", "Support", 0.13, (2.2, 2e6, 9, 3.0, 1.5), (0.65, 0.65, 0.75, 0.70, 0.02),
         rhythm="rotating", hours=8.5),
    Role("finance", "Finance", 0.11, (1.4, 3e6, 17, 1.4, 1.8), (0.35, 0.60, 0.85, 0.40, 0.03),
         start=8.0, evening=0.05, month_end=2.4),
    Role("administrator", "IT", 0.07, (3.0, 1.2e7, 10, 8.0, 2.0), (0.75, 0.75, 0.65, 0.85, 0.06),
         evening=0.15, weekend=0.08, on_call=0.30),
    Role("night operator", "Operations", 0.06, (2.0, 3e6, 8, 4.0, 1.5), (0.60, 0.60, 0.65, 0.70, 0.03),
         rhythm="night", hours=8.5),
    Role("service account", "Platform", 0.09, (5.0, 4e7, 60, 4.0, 1.0), (0.95, 0.90, 0.90, 0.90, 0.0),
         rhythm="machine", hours=24.0, travel=0.0, month_end=1.2),
)  # fmt: skip
