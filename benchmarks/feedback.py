"""What three months of verdicts bring: precision of the fourth month, with and without them.

    python -m benchmarks.feedback               five worlds; a table, and precision from world to world
    python -m benchmarks.feedback --seeds 1     a look

World 1 was looked at when the refit was made, so the five begin after it (--first).

A made company is learnt from and scored month by month. Somebody looks at the flags of the first three
scored months, not at all of them, and is sometimes wrong. What follows from the verdicts is worked out by
the functions that the product uses, and the fourth month is judged by what was planted. Months once scored
are kept in --cache.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
from collections import Counter
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import pandas as pd

from anomaly import engine
from anomaly.calendar import CalendarContext, Event
from anomaly.feedback import Label, Suppression, Terms, quieted_by
from anomaly.grid import make_grid, to_panel
from anomaly.metrics import infer_specs
from anomaly.months import Month
from anomaly.records import Flag
from anomaly.refit import Judged, refit
from anomaly.rows import Rows
from anomaly.settings import Settings
from anomaly.simulation import make_world

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

START = Month.parse("2026-01")
HISTORY, TAUGHT = 3, 3  # months learnt from, and months whose flags are looked at
USERS = 250
INCIDENTS = 0.08  # chance for each user and month
BUDGET = 60.0  # false flags per 1,000 user-months
SETTINGS = Settings.model_validate({
    "model": {"units": 16, "steps": 80, "batch": 32},
    "threshold": {"kind": "budget", "false_flags_per_1000_user_months": BUDGET},
})  # fmt: skip
LOOKED_AT = 0.8  # share of the flags shown that get a verdict
WRONG = 0.15  # share of the verdicts that are
KEEP = dt.timedelta(days=180)
ARMS = ("none", "suppressions", "suppressions and refit")


@dataclass(frozen=True, slots=True)
class Seen:
    """A flag, the user's cohort in its month, and whether something had been planted there."""

    flag: Flag
    month: str
    cohort: str
    true: bool


@dataclass(frozen=True, slots=True)
class Figures:
    """What the month after was worth. flags: shown; true: of them; kept: of all its true flags, shown;
    other: the same for true flags of a user's metric, kind and direction that nobody called false.
    """

    flags: int
    true: int
    all_true: int
    other: int
    all_other: int

    def __add__(self, more: Figures) -> Figures:
        """Both months together."""
        mine = (getattr(self, field.name) for field in fields(self))
        return Figures(
            *(a + getattr(more, f.name) for a, f in zip(mine, fields(self), strict=True))
        )

    def row(self, name: str) -> str:
        """A line of the table."""
        precision = self.true / self.flags if self.flags else float("nan")
        return (
            f"| {name} | {self.flags} | {self.true} | {precision:.2f} | {self.true} of {self.all_true} "
            f"| {self.other} of {self.all_other} |"
        )


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=2)
    parser.add_argument("--margin", type=float, default=SETTINGS.feedback.margin)
    parser.add_argument("--wrong", type=float, default=WRONG)
    parser.add_argument("--cache", type=Path, default=Path(".cache/feedback"))
    options = parser.parse_args()
    total = {arm: Figures(0, 0, 0, 0, 0) for arm in ARMS}
    precision: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in range(options.first, options.first + options.seeds):
        flags = scored(seed, options.cache)
        for arm in ARMS:
            found = after_feedback(flags, arm, seed, options.margin, options.wrong)
            total[arm] += found
            precision[arm].append(found.true / max(found.flags, 1))
    print("| verdicts | flags shown | true | precision | true flags kept | of other kinds kept |")
    print("|---|---|---|---|---|---|")
    for arm in ARMS:
        print(total[arm].row(arm))
    for arm in ARMS:
        print(f"{arm}: {mean_of(precision[arm])}")
    gain = [
        after - before for before, after in zip(*(precision[arm] for arm in ARMS[::2]), strict=True)
    ]
    print(f"gain: {mean_of(gain)}")


def mean_of(values: Sequence[float]) -> str:
    """The mean, its spread from world to world, and each world's."""
    spread = np.std(values, ddof=1) if len(values) > 1 else float("nan")
    each = ", ".join(f"{value:.2f}" for value in values)
    return f"{np.mean(values):.2f} ± {spread:.2f} ({each})"


def after_feedback(
    flags: Sequence[Seen], arm: str, seed: int, margin: float, wrong: float
) -> Figures:
    """Label the taught months one after the other, and look at the month after."""
    months = sorted({one.month for one in flags})
    rng = np.random.default_rng([seed, 11])
    terms = Terms(margin, KEEP)
    standing: list[tuple[int, Suppression]] = []
    judged: list[tuple[Seen, bool]] = []
    for month in months[:TAUGHT]:
        end = Month.parse(month).end("UTC")
        here = [one for one in flags if one.month == month]
        shown = [one for one in here if arm == "none" or not quiet(one, standing)]
        for one in shown:
            looked, slipped = rng.random() < LOOKED_AT, rng.random() < wrong
            if looked:
                judged.append((one, one.true != slipped))
        if arm == "none":
            continue
        standing = list(enumerate(from_verdicts(judged, terms, end)))
        if arm == ARMS[2]:
            standing += list(enumerate(from_refit(judged, flags, month, end), len(standing)))
    called_false = {_like(one) for one, right in judged if not right}
    last = [one for one in flags if one.month == months[TAUGHT]]
    shown = [one for one in last if arm == "none" or not quiet(one, standing)]
    other = [one for one in last if one.true and _like(one) not in called_false]
    return Figures(
        len(shown),
        sum(one.true for one in shown),
        sum(one.true for one in last),
        sum(one in shown for one in other),
        len(other),
    )


def quiet(one: Seen, standing: Sequence[tuple[int, Suppression]]) -> bool:
    """Whether a flag would be shown as suppressed."""
    return quieted_by(one.flag, one.cohort, standing) is not None


def from_verdicts(
    judged: Iterable[tuple[Seen, bool]], terms: Terms, now: dt.datetime
) -> list[Suppression]:
    """What follows from each false alarm."""
    made = (
        terms.suppression(
            one.flag, one.flag.flag_id, Label(one.flag.flag_id, "false_alarm", "somebody"),
            one.cohort, now,
        )
        for one, right in judged
        if not right
    )  # fmt: skip
    return [one for one in made if one is not None]


def from_refit(
    judged: Sequence[tuple[Seen, bool]], flags: Sequence[Seen], month: str, end: dt.datetime
) -> list[Suppression]:
    """What the threshold's refit asks for in the months after this one."""
    known = [one for one in flags if one.month <= month]
    found = refit(
        [Judged(_group(one), one.flag.score, right) for one, right in judged],
        Counter(map(_group, known)),
        USERS * len({one.month for one in known}),
        BUDGET,
    )
    return [
        Suppression(
            start=end, end=end + KEEP, reason="refit", author="anomaly", metric=group.metric,
            kind=group.kind, direction=group.direction, least_score=group.least_score,
        )
        for group in found.groups
        if group.least_score is not None
    ]  # fmt: skip


def _group(one: Seen) -> tuple[str, str, str]:
    return one.flag.metrics.split(";", 1)[0], one.flag.kind, one.flag.direction


def _like(one: Seen) -> tuple[str, ...]:
    return (one.flag.user_id, *_group(one))


def scored(seed: int, cache: Path) -> list[Seen]:
    """The flags of a world's scored months, with what was planted held against them."""
    file = cache / f"{seed}.parquet"
    if not file.exists():
        cache.mkdir(parents=True, exist_ok=True)
        pd.DataFrame([
            {**asdict(one.flag), "month": one.month, "cohort": one.cohort, "true": one.true}
            for one in score(seed)
        ]).to_parquet(file)  # fmt: skip
    names = [field.name for field in fields(Flag)]
    rows = pd.read_parquet(file).to_dict("records")
    return [
        Seen(
            Flag(**{name: _plain(row[name]) for name in names}),
            str(row["month"]), str(row["cohort"]), bool(row["true"]),
        )
        for row in rows
    ]  # fmt: skip


def _plain(value: Any) -> Any:
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def score(seed: int) -> list[Seen]:
    """Make a world, learn from its first months, and score the others."""
    months = HISTORY + TAUGHT + 1
    world = make_world(
        USERS, months, str(START), seed, incident_share=INCIDENTS, incident_months=TAUGHT + 1
    )
    rows = Rows.from_arrow(world.observations)
    begin, cut, end = (
        int(START.plus(number).start("UTC").timestamp()) for number in (0, HISTORY, months)
    )
    specs = infer_specs(rows.between(begin, cut), 3_600, {})
    grid = make_grid(begin, end, 3_600, "UTC")
    panel = to_panel(rows, grid, tuple(sorted(specs)), specs, users=sorted(rows.user_names))
    zones = dict(zip(world.users["user_id"], world.users["timezone"], strict=True))
    events = tuple(
        Event(
            row["kind"],
            int(row["start"].timestamp()),
            int(row["end"].timestamp()),
            row["user_id"] or None,
        )
        for row in world.events.to_dict("records")
    )
    calendar = CalendarContext("UTC", None, zones, events)
    split = int(np.searchsorted(grid.times, cut))
    history, later = panel.between(0, split), panel.between(split, len(grid))
    model = engine.fit(history, specs, calendar, SETTINGS, seed)
    states = engine.reference(
        model, history, engine.States.empty(model, panel.users), calendar
    ).states
    found: list[Seen] = []
    for number, (first, last) in enumerate(engine.months_of(model, later)):
        month, part = str(START.plus(HISTORY + number)), later.between(first, last)
        known = engine.reference(model, part, states, calendar)
        done = engine.score(model, part, states, known, month, calendar, "benchmark")
        states = done.states
        cohort = {person.user_id: person.cohort for person in done.user_months}
        found += [
            Seen(flag, month, cohort[flag.user_id], planted(world.incidents, flag))
            for flag in done.flags
        ]
    return found


def planted(incidents: pd.DataFrame, flag: Flag) -> bool:
    """Whether something was planted into this user's time."""
    own = incidents[incidents["user_id"] == flag.user_id]
    return bool(((own["start"] < flag.end) & (own["end"] > flag.start)).any())


if __name__ == "__main__":
    main()
