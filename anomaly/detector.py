"""Detection without a database: learn from the first part of a table, score the rest."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa

from anomaly import engine
from anomaly.calendar import CalendarContext
from anomaly.exceptions import DataError, UsageError
from anomaly.grid import infer_step, make_grid, refuse_long_gap, to_panel
from anomaly.metrics import infer_specs
from anomaly.months import month_of, parse_duration
from anomaly.panel import evenly
from anomaly.progress import SILENT
from anomaly.records import FLAG_COLUMNS, SCORE_COLUMNS, Flag
from anomaly.rows import Rows
from anomaly.settings import Settings, with_values
from anomaly.thresholds.choice import FEW_USERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anomaly.engine import Model, Scored
    from anomaly.metrics import MetricSpec
    from anomaly.panel import Panel
    from anomaly.progress import Progress

SHARD_USERS = 500
REFERENCE_USERS = 2_000


@dataclass(frozen=True, slots=True)
class Detection:
    """flags: FLAG_COLUMNS; scores: SCORE_COLUMNS, a row per user and step; model: what was learnt."""

    flags: pd.DataFrame
    scores: pd.DataFrame
    model: Model


def detect(
    frame: pd.DataFrame,
    train_until: dt.datetime | str | None = None,
    config: Settings | None = None,
    *,
    model: Model | None = None,
    progress: Progress = SILENT,
) -> Detection:
    """Learn what is normal from the rows before `train_until`, and judge those from then on.

    Args: frame: user_id, metric, observed_at (aware, or naive UTC), value. train_until: default is
        the start of the last calendar month. config: default settings otherwise, with the grid's step
        found from the data. model: score with it instead of learning one.
    Returns: flags and scores; a part longer than a month is scored month by month, what is known of
        each user growing with it.
    Raises: DataError if the history is too short to learn from, or nothing is left to score.
    """
    settings = config or Settings()
    rows = Rows.from_arrow(_table(frame))
    if len(rows) == 0:
        raise DataError(
            "detect: no rows. Give a table with user_id, metric, observed_at and value."
        )
    work = _Work.lay_out(rows, train_until, settings, model, _step_is_open(config))
    model = model or work.fit(settings, progress)
    return work.score(model, settings, progress)


class Detector:
    """Learns from one table and judges later ones, with scikit-learn's manners.

    model_: what `fit` learnt. history_: the rows it learnt from; what is known of each user when
    `score` begins comes from them.
    """

    def __init__(self, config: Settings | None = None) -> None:
        self.config = config

    def get_params(self, deep: bool = True) -> dict[str, Settings | None]:
        """The arguments of the constructor. deep: there is nothing deeper."""
        del deep
        return {"config": self.config}

    def set_params(self, config: Settings | None = None) -> Detector:
        """Set the arguments of the constructor."""
        self.config = config
        return self

    def fit(self, frame: pd.DataFrame) -> Detector:
        """Learn what is normal from all rows of a table. See `detect` for its columns."""
        settings = self.config or Settings()
        rows = Rows.from_arrow(_table(frame))
        if len(rows) == 0:
            raise DataError("fit: no rows. Give a table with history.")
        work = _Work.lay_out(
            rows, int(rows.observed_at.max()) + 1, settings, None, _step_is_open(self.config)
        )
        self.model_ = work.fit(settings, SILENT)
        self.history_ = frame
        return self

    def score(self, frame: pd.DataFrame) -> Detection:
        """Judge a table whose rows come after those that were learnt from."""
        if not hasattr(self, "model_"):
            raise UsageError("score: nothing has been learnt yet. Call fit first.")
        first = pd.to_datetime(frame["observed_at"], utc=True).min()
        joined = pd.concat([self.history_, frame], ignore_index=True)
        return detect(joined, first, self.config, model=self.model_)


def _suited(settings: Settings, users: int) -> Settings:
    """The twin alone for few users, unless a cell is named: a network earns its place by what many users
    have in common, and here no trial decides between the two as the monthly run's does.
    """
    if users >= FEW_USERS or "cell" in settings.model.model_fields_set:
        return settings
    return with_values(settings, "few users", "model", cell="none")


def _step_is_open(config: Settings | None) -> bool:
    """Whether the grid's step is to be found from the data."""
    return config is None or "step" not in config.grid.model_fields_set


def _table(frame: pd.DataFrame) -> pa.Table:
    missing = [name for name in ("user_id", "metric", "observed_at", "value") if name not in frame]
    if missing:
        raise DataError(
            f"detect: the table has no {', '.join(missing)}; it has {', '.join(map(str, frame))}. Rename its columns."
        )
    try:
        observed = pd.to_datetime(frame["observed_at"], utc=True).dt.as_unit("us")
        value = frame["value"].astype("float64")
    except (ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise DataError(
            f"detect: observed_at or value cannot be read ({reason}). Give times and numbers."
        ) from error
    columns = {
        "user_id": frame["user_id"].astype(str), "metric": frame["metric"].astype(str),
        "observed_at": observed, "value": value,
    }  # fmt: skip
    return pa.Table.from_pandas(pd.DataFrame(columns), preserve_index=False)


@dataclass(frozen=True, slots=True)
class _Work:
    """Rows laid out on their grid, and where the scored part begins (step index)."""

    panel: Panel
    split: int
    specs: Mapping[str, MetricSpec]
    step: int
    timezone: str

    @classmethod
    def lay_out(
        cls,
        rows: Rows,
        train_until: dt.datetime | str | int | None,
        settings: Settings,
        model: Model | None,
        find_step: bool,
    ) -> _Work:
        """Put rows on their grid; a model brings its own step, zone and metrics."""
        timezone = model.timezone if model else settings.grid.timezone
        refuse_long_gap(rows.observed_at)
        step = model.step if model else _step(rows, settings, find_step)
        begin, end = int(rows.observed_at.min()), int(rows.observed_at.max()) + 1
        cut = _cut(train_until, begin, end, timezone)
        grid = make_grid(_aligned(begin, cut, step), max(end, cut), step, timezone)
        history = rows.between(grid.start, cut)
        if model is None and len(history) == 0:
            raise DataError(
                f"detect: no rows before {_iso(cut)}, where scoring begins. Give earlier rows to learn "
                "from, or set a later --train-until."
            )
        specs = (
            {spec.name: spec for spec in model.specs}
            if model
            else infer_specs(history, step, settings.metric)
        )
        named = np.array(history.metric_names, dtype=object)[np.unique(history.metric_code)]
        metrics = model.metrics if model else tuple(sorted(named.tolist()))
        panel = to_panel(rows, grid, metrics, specs, users=sorted(rows.user_names))
        return cls(panel, int(np.searchsorted(grid.times, cut)), specs, step, timezone)

    def fit(self, settings: Settings, progress: Progress) -> Model:
        """Learn from what lies before the scored part, from a fixed sample of users."""
        history = self.panel.between(0, self.split)
        started = np.flatnonzero(history.first < self.split)
        chosen = started[evenly(len(started), settings.model.sample_users)]
        return engine.fit(
            history.take(chosen),
            self.specs,
            self._context(settings),
            _suited(settings, len(chosen)),
            settings.model.seed,
            progress,
        )

    def _context(self, settings: Settings) -> CalendarContext:
        return CalendarContext(timezone=self.timezone, country=settings.calendar.country)

    def score(self, model: Model, settings: Settings, progress: Progress) -> Detection:
        """Replay history, then score what follows month by month, shard by shard."""
        if self.split >= len(self.panel.grid):
            raise DataError(
                f"detect: no rows from {_iso(self.panel.grid.end)} on, where scoring begins. "
                "Set an earlier --train-until."
            )
        users = len(self.panel.users)
        context = self._context(settings)
        sample = self.panel.take(evenly(users, REFERENCE_USERS))
        history, later = (
            self.panel.between(0, self.split),
            self.panel.between(self.split, len(self.panel.grid)),
        )
        known = sample.between(0, self.split)
        base = (
            engine.reference(
                model, known, engine.States.empty(model, known.users), context, progress
            )
            if self.split
            else None
        )
        refs = _references(model, sample.between(self.split, len(self.panel.grid)), base, context)
        flags: list[Flag] = []
        scores: list[pd.DataFrame] = []
        with progress.track("scoring", users) as advance:
            for first in range(0, users, SHARD_USERS):
                rows = np.arange(first, min(first + SHARD_USERS, users))
                states = engine.States.empty(model, [self.panel.users[row] for row in rows])
                if base is not None:
                    states = engine.replay(model, history.take(rows), states, base, context)
                for (begin, end), ref in refs:
                    part = later.take(rows).between(begin, end)
                    month = str(month_of(part.grid.start, model.timezone))
                    scored = engine.score(
                        model, part, states, ref, month, context, configuration=model.version
                    )
                    states = scored.states
                    flags += scored.flags
                    scores.append(score_frame(scored))
                advance(len(rows))
        return Detection(flag_frame(flags), pd.concat(scores, ignore_index=True), model)


def _references(
    model: Model, sample: Panel, base: engine.Reference | None, context: CalendarContext
) -> list[tuple[tuple[int, int], engine.Reference]]:
    """A reference for each month of the scored part, states carried from one to the next."""
    states = base.states if base is not None else engine.States.empty(model, sample.users)
    out = []
    for first, last in engine.months_of(model, sample):
        found = engine.reference(model, sample.between(first, last), states, context)
        states = found.states
        out.append(((first, last), found))
    return out


def _step(rows: Rows, settings: Settings, auto: bool) -> int:
    return infer_step(rows) if auto else int(parse_duration(settings.grid.step).total_seconds())


def _cut(train_until: dt.datetime | str | int | None, begin: int, end: int, timezone: str) -> int:
    """Where scoring begins, seconds UTC."""
    if isinstance(train_until, int):
        return train_until
    if train_until is not None:
        instant = pd.Timestamp(train_until)
        return int((instant.tz_localize("UTC") if instant.tz is None else instant).timestamp())
    return max(int(month_of(end - 1, timezone).start(timezone).timestamp()), begin)


def _aligned(begin: int, cut: int, step: int) -> int:
    """The last instant at or before `begin` from which steps reach `cut` exactly."""
    return cut - -(-(cut - begin) // step) * step


def _iso(seconds: int) -> str:
    return dt.datetime.fromtimestamp(seconds, tz=dt.UTC).isoformat()


def flag_frame(flags: list[Flag]) -> pd.DataFrame:
    """Flags as a table with FLAG_COLUMNS, most surprising first."""
    ordered = sorted(flags, key=lambda flag: (-flag.score, flag.flag_id))
    names = [field.name for field in fields(Flag)]
    table = pd.DataFrame(
        [[getattr(flag, name) for name in names] for flag in ordered], columns=names
    )
    return table[list(FLAG_COLUMNS)]


def score_frame(scored: Scored) -> pd.DataFrame:
    """Scores as a table with SCORE_COLUMNS: a row per user and step since the first observation."""
    row, step = np.nonzero(scored.present)
    metrics = np.array(scored.model.metrics, dtype=object)
    return pd.DataFrame(
        {
            "user_id": np.array(scored.users, dtype=object)[row],
            "observed_at": pd.DatetimeIndex(scored.times[step].astype("datetime64[s]"), tz="UTC"),
            "score": scored.scores[row, step],
            "p_value": scored.p_values[row, step],
            "top_metric": metrics[scored.top_metric()[row, step]],
        },
        columns=list(SCORE_COLUMNS),
    )
