"""Two models on the same month and the same planted incidents: which flags would change. Writes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from anomaly.exceptions import UsageError
from pipelines.jobs.scope import Options, scope_of
from pipelines.jobs.selftest import Verdict, champion_of, lay_trial, month_scores, put_to_test
from pipelines.jobs.train import load_model

if TYPE_CHECKING:
    from collections.abc import Sequence

    from anomaly.engine import Model
    from anomaly.months import Month
    from anomaly.records import Flag
    from anomaly.store import ModelRow
    from pipelines.services import Services

STAYS, VANISHES, APPEARS = "stays", "vanishes", "appears"
CHANGE_COLUMNS = (
    "change", "user_id", "start", "end", "metrics", "score", "other_score", "explanation",
)  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """What two models make of one month of the same users.

    changes: CHANGE_COLUMNS, a row per flag of the first model (stays, vanishes) and per flag of
    the second that overlaps none of the first (appears); other_score is the second model's highest
    where a flag stays. rank_correlation: Spearman's, of the users' months; NaN where all are equal.
    """

    month: str
    users: int
    first: Verdict
    second: Verdict
    changes: pd.DataFrame
    rank_correlation: float

    def figures(self) -> list[tuple[str, float | str | None, float | str | None]]:
        """What tells the models apart, by name, of the first and of the second."""
        pair = (self.first, self.second)
        summaries = [verdict.model.summary for verdict in pair]
        count = self.changes["change"].value_counts()
        lines: list[tuple[str, Sequence[float | str | None]]] = [
            ("model", [verdict.model.version for verdict in pair]),
            ("validation loss", [summary.validation_loss for summary in summaries]),
            ("its twin's loss", [summary.twin_loss for summary in summaries]),
            ("calibration error", [summary.calibration_error for summary in summaries]),
            ("flags", [len(verdict.flags) for verdict in pair]),
            ("flags the other has not", [int(count.get(word, 0)) for word in (VANISHES, APPEARS)]),
            ("planted incidents", [len(verdict.incidents) for verdict in pair]),
            ("share found", [verdict.found_share for verdict in pair]),
            ("average precision, users", [verdict.ap_users for verdict in pair]),
            (
                "flags per 1,000 untouched user-months",
                [round(verdict.false_rate, 1) for verdict in pair],
            ),
        ]
        return [(name, values[0], values[1]) for name, values in lines]


def compare_models(
    services: Services,
    month: Month,
    versions: Sequence[str],
    seed: int,
    incidents: int,
) -> Comparison:
    """Score a fixed sample's month with two models, and incidents planted into it.

    Args: versions: two; one is compared with the champion; none: the champion and the newest other.
    Raises: UsageError if there is no other model, one learnt from the month or is of another grid
        or other metrics, or the month has not begun; ModelError if one is unknown or its files
        fail their checks; DataError if the month holds no rows.
    """
    scope = scope_of(services, month, Options())
    first, second = _models(services, month, versions)
    if (first.metrics, first.step) != (second.metrics, second.step):
        raise UsageError(
            f"models {first.version} and {second.version} see different panels: "
            f"{len(first.metrics)} metrics by {first.step} s, {len(second.metrics)} by "
            f"{second.step} s. Compare models of the same metrics and grid."
        )
    trial = lay_trial(services, scope, first, seed, incidents)
    one, other = (put_to_test(services, model, trial) for model in (first, second))
    return Comparison(
        str(month), len(trial.panel.users), one, other, changes(one.flags, other.flags),
        rank_correlation(one, other),
    )  # fmt: skip


def _models(services: Services, month: Month, versions: Sequence[str]) -> tuple[Model, Model]:
    """The models meant, none of which has seen the month."""
    if len(versions) == 2:
        rows = [services.store.models.get(version) for version in versions]
        first, second = (_unseen(services, row, month) for row in rows)
        return first, second
    champion = champion_of(services, month)
    if versions:
        row = services.store.models.get(versions[0])
        return champion, _unseen(services, row, month)
    start = month.start(services.timezone)
    others = [
        row
        for row in services.store.models.list()
        if row.version != champion.version and row.trained_to <= start and row.state != "refused"
    ]
    if not others:
        raise UsageError(
            f"{month}: {champion.version} is the only model trained before it. Train another "
            "(with other settings, say), or name two: anomaly models compare A B"
        )
    return champion, load_model(services, others[0])


def _unseen(services: Services, row: ModelRow, month: Month) -> Model:
    if row.trained_to > month.start(services.timezone):
        raise UsageError(
            f"model {row.version} learnt from data up to {row.trained_to:%Y-%m-%d} and has seen "
            f"{month}. Compare on a later month."
        )
    return load_model(services, row)


def changes(first: Sequence[Flag], second: Sequence[Flag]) -> pd.DataFrame:
    """Flags of two models side by side, matched where they overlap in a user's time."""
    rows: list[tuple[str, Flag, float | None, float | None]] = []
    for flag in first:
        same = [other.score for other in second if _overlap(flag, other)]
        rows.append((STAYS if same else VANISHES, flag, flag.score, max(same, default=None)))
    rows += [
        (APPEARS, other, None, other.score)
        for other in second
        if not any(_overlap(flag, other) for flag in first)
    ]
    table = pd.DataFrame(
        [
            (
                change,
                flag.user_id,
                flag.start,
                flag.end,
                flag.metrics,
                mine,
                theirs,
                flag.explanation,
            )
            for change, flag, mine, theirs in rows
        ],
        columns=list(CHANGE_COLUMNS),
    ).astype({"score": float, "other_score": float})
    return table.sort_values(["change", "user_id", "start"], ignore_index=True)


def _overlap(one: Flag, other: Flag) -> bool:
    return one.user_id == other.user_id and one.start < other.end and other.start < one.end


def rank_correlation(first: Verdict, second: Verdict) -> float:
    """Spearman's correlation of users' months, of users whom both scored; NaN where all are equal."""
    both = pd.concat([month_scores(verdict.months) for verdict in (first, second)], axis=1).dropna()
    ranks = both.rank()
    if len(ranks) < 2 or (ranks.nunique() < 2).any():
        return float("nan")
    return float(np.corrcoef(ranks.to_numpy(), rowvar=False)[0, 1])
