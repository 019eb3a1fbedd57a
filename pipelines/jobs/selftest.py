"""Plants incidents into a copy of a real month and says which of them a model finds. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly.exceptions import DataError, UsageError
from anomaly.planting import plant
from anomaly.simulation.judge import average_precision, judge
from pipelines.executors.local import Threads
from pipelines.jobs.reading import (
    calendar_of,
    known_of,
    months_span,
    read_panel,
    sample,
    seen_between,
)
from pipelines.jobs.scope import Options, scope_of
from pipelines.jobs.states import Memory, MemoryShelf, specs_of
from pipelines.jobs.train import MAX_CELLS, load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.engine import Model
    from anomaly.months import Month
    from anomaly.panel import Panel
    from anomaly.planting import Planted
    from anomaly.records import Flag, UserMonth
    from pipelines.jobs.scope import Scope
    from pipelines.services import Services

MOST_USERS = 1_000  # chosen by hash: the same ones each time
MOST_TOUCHED = 0.5  # of the users; the others tell of false flags


@dataclass(frozen=True)
class Trial:
    """A month of some users as it was, and the users into whom incidents were planted.

    panel: (users, steps, metrics); touched: the planted ones alone, changed. incidents: user_id,
    start, end, kind, metrics, size, as `anomaly.simulation.judge` reads them.
    """

    scope: Scope
    panel: Panel
    touched: Panel
    incidents: pd.DataFrame


@dataclass(frozen=True)
class Verdict:
    """What one model made of a trial.

    incidents: the trial's that no flag hit before they were planted, with found, flag_score and
    rank (of the user's month among all of the trial, 1 is the highest). months: of the users as
    they were. false_flags: of users without an incident; false_rate: per 1,000 of their months.
    ap_users: average precision of the months' scores.
    """

    model: Model
    flags: list[Flag]
    months: list[UserMonth]
    incidents: pd.DataFrame
    flagged_before: int
    touched: int
    untouched: int
    false_flags: int
    false_rate: float
    ap_users: float

    @property
    def users(self) -> int:
        """Users who were scored."""
        return self.untouched + self.touched

    @property
    def found(self) -> int:
        """Planted incidents that a flag overlaps."""
        return int(self.incidents["found"].sum())

    @property
    def found_share(self) -> float:
        """The share of planted incidents that a flag overlaps; NaN without any."""
        return float(self.incidents["found"].mean()) if len(self.incidents) else float("nan")

    def by(self, *columns: str) -> pd.DataFrame:
        """planted, found, share and median_rank of the incidents, grouped by kind or size or both."""
        groups = self.incidents.groupby(list(columns), as_index=False, sort=True)
        table = groups.agg(
            planted=("found", "size"), found=("found", "sum"), median_rank=("rank", "median")
        )
        return table.assign(share=table["found"] / table["planted"])


def selftest(services: Services, month: Month, seed: int, incidents: int) -> Verdict:
    """Plant incidents into a month of a fixed sample of users, and judge the champion by them.

    Raises: UsageError if no model was trained before the month, or it has not begun; DataError if
        it holds no rows or no incident can be planted; ModelError.
    """
    scope = scope_of(services, month, Options())
    model = champion_of(services, month)
    trial = lay_trial(services, scope, model, seed, incidents)
    if trial.incidents.empty:
        raise DataError(
            f"{month}: none of {len(trial.panel.users)} users is there for long enough to plant an "
            "incident. Take a month with a week of rows at least."
        )
    return put_to_test(services, model, trial)


def champion_of(services: Services, month: Month) -> Model:
    """The model that scores a month.

    Raises: UsageError if none was trained before it with these settings.
    """
    champion = services.store.models.champion(
        month.start(services.timezone), services.configuration
    )
    if champion is None:
        raise UsageError(
            f"{month}: no model was trained before it with this configuration. Train one: "
            f"anomaly run --month {month}"
        )
    return load_model(services, champion)


def lay_trial(services: Services, scope: Scope, model: Model, seed: int, incidents: int) -> Trial:
    """Read a sample's month and plant incidents into a copy, sized by what the month before was like."""
    specs = specs_of(model)
    most = min(MOST_USERS, max(2, MAX_CELLS // (len(scope.span.grid) * len(specs))))
    with services.progress.track("planting incidents", 0):
        users = sample(seen_between(services, scope.span.start, scope.span.end), most)
        calendar = calendar_of(services)
        panel = read_panel(services, scope.span, scope.people, users, specs, calendar).panel
        before = months_span(services, scope.month.previous(), scope.month, model.step)
        usual = read_panel(services, before, scope.people, users, specs, calendar).panel
        most_touched = int(len(users) * MOST_TOUCHED) if len(users) > 1 else 1
        changed, planted = plant(
            panel, specs, seed, min(incidents, most_touched),
            usual=usual if usual.mask.any() else None,
        )  # fmt: skip
    rows = [incident.user for incident in planted]
    return Trial(scope, panel, changed.take(rows), incidents_of(panel, planted))


def incidents_of(panel: Panel, planted: tuple[Planted, ...]) -> pd.DataFrame:
    """Planted incidents as a table with times: user_id, start, end, kind, metrics, size."""
    edges = np.append(panel.grid.times, panel.grid.end)
    rows = [
        (
            panel.users[incident.user],
            pd.Timestamp(int(edges[incident.first]), unit="s", tz="UTC"),
            pd.Timestamp(int(edges[incident.last]), unit="s", tz="UTC"),
            incident.kind,
            ";".join(panel.metrics[metric] for metric in incident.metrics),
            incident.size,
        )
        for incident in planted
    ]
    return pd.DataFrame(rows, columns=["user_id", "start", "end", "kind", "metrics", "size"])


def put_to_test(services: Services, model: Model, trial: Trial) -> Verdict:
    """Score the users as they were, and again those with an incident, by one model.

    States that are not kept are replayed from history in memory.
    """
    scope = trial.scope
    shelf = MemoryShelf(services.store)
    known = known_of(services, scope.people)
    memory = Memory.open(services, shelf, model, scope.month, known)
    run = services.settings.run
    memory.prepare(Threads(max(run.workers, 1), run.attempts), trial.panel.users)
    reference, _ = memory.reference(scope.span)
    total = len(trial.panel.users) + len(trial.touched.users)
    with services.progress.track(f"scoring {scope.month} with {model.version}", total) as advance:
        scored = []
        for panel in (trial.panel, trial.touched):
            flags: list[Flag] = []
            months: list[UserMonth] = []
            size = services.settings.run.shard_users
            for first in range(0, len(panel.users), size):
                shard = panel.take(np.arange(first, min(first + size, len(panel.users))))
                states = memory.of(shard.users)
                found = services.engine().score(
                    model, shard, states, reference, str(scope.month),
                    known.days_of(states), services.configuration, known.peering,
                )  # fmt: skip
                flags += found.flags
                months += found.user_months
                advance(len(shard.users))
            scored.append((flags, months))
    return _verdict(model, trial, *scored)


def _verdict(
    model: Model,
    trial: Trial,
    real: tuple[list[Flag], list[UserMonth]],
    planted: tuple[list[Flag], list[UserMonth]],
) -> Verdict:
    span = trial.scope.span.start, trial.scope.span.end
    stood = judge(trial.incidents, real[0], *span).incidents["found"].to_numpy(dtype=bool)
    judged = judge(trial.incidents[~stood], planted[0], *span).incidents
    touched = set(trial.touched.users)
    score = month_scores(real[1])
    changed = month_scores(planted[1])
    score = changed.combine_first(score)
    rank = score.rank(ascending=False, method="min")
    untouched = len(score) - len(touched)
    false = judge(
        trial.incidents.iloc[:0],
        [flag for flag in real[0] if flag.user_id not in touched],
        *span,
        untouched,
    )
    return Verdict(
        model, real[0], real[1], judged.assign(rank=judged["user_id"].map(rank)), int(stood.sum()), len(touched),
        untouched, false.false_flags, false.false_flags_per_1000_user_months or 0.0,
        average_precision(score.index.isin(touched), np.asarray(score, dtype=np.float64)),
    )  # fmt: skip


def month_scores(months: Sequence[UserMonth]) -> pd.Series[float]:
    """The scores of users' months, by user, of those who were scored."""
    scores = {month.user_id: month.score for month in months if month.skipped is None}
    return pd.Series(scores, dtype=np.float64)
