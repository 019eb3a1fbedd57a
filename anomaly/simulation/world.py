"""A made world: months of hourly behaviour of a company's users, and what is known of them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from anomaly.exceptions import UsageError
from anomaly.months import Month
from anomaly.simulation.company import COMPANY, HOUR, make_company, stream
from anomaly.simulation.roles import METRICS
from anomaly.simulation.user import Exposure, make_user

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from anomaly.simulation.company import Company
    from anomaly.simulation.user import User

DELIVERY, HIRED = 6, 7  # streams of randomness beside those of anomaly.simulation.user
CONTAMINATION = 0.25  # earlier months have this part of the last ones' incidents, and nobody knows
DUPLICATES = 0.002  # share of rows that are delivered twice
OBSERVATIONS = pa.schema([
    ("user_id", pa.string()),
    ("metric", pa.string()),
    ("observed_at", pa.timestamp("us", tz="UTC")),
    ("value", pa.float64()),
])  # fmt: skip


@dataclass(frozen=True)
class World:
    """What a company collected, what it knows, and what nobody told it.

    observations: user_id, metric, observed_at (UTC, start of the hour), value; a row for each
    hour in which something happened, a few of them twice, by user and hour.
    users: user_id, department, role, timezone, country, active_from, active_to (NaT: still there).
    events: kind (leave, holiday, announced), start, end, user_id ('' for everyone), name; local
    days, to the hour.
    incidents: user_id, start, end (exclusive), kind, metrics (joined by ';', the most changed
    first), size (1 is of the order of the user's own brisk hours).
    oddities: kind, start, end, user_id ('' for everyone): what was unusual and honest, known to
    nobody; it tells what a false flag was about.
    """

    observations: pa.Table
    users: pd.DataFrame
    events: pd.DataFrame
    incidents: pd.DataFrame
    oddities: pd.DataFrame


def make_world(
    users: int = 240,
    months: int = 4,
    start: str = "2026-01",
    seed: int = 0,
    incident_share: float = 0.12,
    incident_months: int = 1,
) -> World:
    """Make a world of whole calendar months (UTC).

    Args: start: the first month. incident_share: chance of an incident for each user in each of
        the last `incident_months` months; earlier ones have a quarter of it.
    Returns: the same world for the same arguments; a world of more users holds the same users.
    Raises: UsageError if an argument is out of its range.
    """
    _check(users, months, seed, incident_share, incident_months)
    first = np.datetime64(str(Month.parse(start)), "M")
    company = make_company(first, months, stream(seed, COMPANY))
    exposure = _exposure(first, months, incident_share, incident_months)
    tables, staff = [], _Files(company, seed)
    for number in range(users):
        user = make_user(company, seed, number, exposure)
        tables.append(_rows(user, company.times, stream(seed, DELIVERY, number)))
        staff.add(user)
    return staff.world(pa.concat_tables(tables))


def _check(users: int, months: int, seed: int, incident_share: float, incident_months: int) -> None:
    """Refuse what cannot be made."""
    if users < 1 or months < 1 or seed < 0:
        raise UsageError(
            f"a world needs users, months and a seed of 0 or more: got users={users}, "
            f"months={months}, seed={seed}."
        )
    if not 0 <= incident_share <= 1 or not 0 <= incident_months <= months:
        raise UsageError(
            f"incident_share is {incident_share}, expected 0 to 1; incident_months is "
            f"{incident_months}, expected 0 to {months} (months)."
        )


def _exposure(
    first: np.datetime64, months: int, incident_share: float, incident_months: int
) -> list[Exposure]:
    """The chance of an incident in each month."""
    hours = (np.arange(first, first + months + 1).astype("datetime64[h]")).astype(np.int64)
    bounds = [int(hour) for hour in hours - hours[0]]
    return [
        Exposure(a, b, incident_share * (1 if k >= months - incident_months else CONTAMINATION))
        for k, (a, b) in enumerate(pairwise(bounds))
    ]


def _rows(user: User, times: NDArray[np.int64], rng: np.random.Generator) -> pa.Table:
    """One user's observations by hour and metric; rows delivered again follow at the end."""
    step, metric = np.nonzero(user.behaviour)
    again = rng.random(len(step)) < DUPLICATES
    if rng.random() < 0.05:  # a whole day was sent twice
        day = int(rng.integers(len(times) // 24))
        again |= step // 24 == day
    step, metric = np.append(step, step[again]), np.append(metric, metric[again])
    names = pa.DictionaryArray.from_arrays(pa.array(metric, pa.int32()), pa.array(METRICS))
    columns = [
        pa.repeat(pa.scalar(user.user_id), len(step)),
        names.cast(pa.string()),
        pa.array(times[step] * 1_000_000, pa.int64()).cast(OBSERVATIONS.field("observed_at").type),
        pa.array(user.behaviour[step, metric]),
    ]
    return pa.table(columns, schema=OBSERVATIONS)


class _Files:
    """What is written down of users, gathered one by one."""

    def __init__(self, company: Company, seed: int) -> None:
        self.company, self.seed = company, seed
        self.end = int(company.times[-1]) + HOUR
        self.users: list[tuple[object, ...]] = []
        self.incidents: list[tuple[object, ...]] = []
        self.events = [
            ("announced", self._time(s.start), self._time(s.end), "", s.name)
            for s in company.shocks
            if s.kind == "release"
        ]
        self.oddities = [
            (s.kind, self._time(s.start), self._time(s.end), "") for s in company.shocks
        ]

    def _time(self, step: int) -> int:
        """Seconds UTC at which a step begins, or the last one ends."""
        return int(self.company.times[0]) + step * HOUR

    def add(self, user: User) -> None:
        """Enter one user in all files."""
        self.users.append(self._person(user))
        self.events += self._holidays(user)
        self.events += self._leave(user)
        for spell in user.life.spells:
            start, end = self._time(spell.start), self._time(spell.end)
            self.oddities.append((spell.kind, start, end, user.user_id))
        for found in user.traces:
            start, end = self._time(found.start), self._time(found.end)
            self.incidents.append(
                (user.user_id, start, end, found.kind, found.metrics, round(found.size, 3))
            )

    def _person(self, user: User) -> tuple[object, ...]:
        """The users file's row; who was there at the beginning was hired long before."""
        life, site = user.life, user.site
        hired = self._time(life.first)
        if life.first == 0:
            hired -= 24 * HOUR * int(stream(self.seed, HIRED, user.number).integers(30, 4_000))
        left = self._time(life.last) if life.last < len(self.company.times) else None
        role = user.role
        return (user.user_id, role.department, role.name, site.timezone, site.country, hired, left)

    def _leave(self, user: User) -> Iterator[tuple[str, int, int, str, str]]:
        """Known absences; of two under one name that share time, the later begins where the other ends."""
        told: dict[str, int] = {}
        for spell in sorted(user.life.spells, key=lambda one: one.start):
            name = "Sick leave" if spell.kind == "sick" else "Leave"
            begin = max(spell.start, told.get(name, 0))
            if spell.known and begin < spell.end:
                told[name] = spell.end
                yield "leave", self._time(begin), self._time(spell.end), user.user_id, name

    def _holidays(self, user: User) -> Iterator[tuple[str, int, int, str, str]]:
        """Public holidays of the user's country: for each user, as a personnel system exports them."""
        for day, name in enumerate(user.site.holiday):
            start, end = (int(step) for step in user.site.day_start[day : day + 2])
            if name and user.life.first <= start < user.life.last:
                yield "holiday", self._time(start), self._time(end), user.user_id, name

    def world(self, observations: pa.Table) -> World:
        """Close the files."""
        return World(
            observations,
            _frame(self.users, "user_id department role timezone country active_from active_to"),
            _frame(self.events, "kind start end user_id name"),
            _frame(self.incidents, "user_id start end kind metrics size"),
            _frame(self.oddities, "kind start end user_id"),
        )


def _frame(rows: Sequence[tuple[object, ...]], names: str) -> pd.DataFrame:
    """A frame with times as times, in the order of time where it has a start."""
    frame = pd.DataFrame(list(rows), columns=names.split())
    for name in {"start", "end", "active_from", "active_to"} & set(frame.columns):
        frame[name] = pd.to_datetime(frame[name], unit="s", utc=True).dt.as_unit("us")
    if "start" in frame:
        frame = frame.sort_values(["start", "user_id", "kind"], kind="stable", ignore_index=True)
    return frame
