"""/metrics: what happened, read from the ledger whenever Prometheus asks, so restarts lose nothing.

Labels are bounded: jobs, stages, states, severities, kinds, reasons, sources, channels and models.
Never users, never the metrics that are observed. Every process on a database says the same, but for
its own leadership, so several of them are joined with max, not sum.
"""

from __future__ import annotations

import platform
from bisect import bisect_left
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.registry import Collector
from prometheus_client.samples import Exemplar

import anomaly
from anomaly.exceptions import AnomalyError
from anomaly.fallback import fallback_of
from anomaly.months import Month, month_of
from anomaly.ports import DATABASE_UP
from anomaly.records import SKIP_REASONS
from anomaly.rows import REASONS

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from prometheus_client.metrics_core import Metric

    from anomaly.ports import EndedRow, FigureReader, MetricStore, RunRow

BUCKETS = (0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0)  # seconds
MONTHS = 13  # a year and the month before it
RUN_STATES = ("planned", "running", "provisional", "complete", "failed", "missed", "superseded")
JOBS = ("ingest", "train", "month", "score")
ENDS = ("complete", "failed", "missed", "provisional")
OUTCOMES = ("sent", "failed")  # of a message
OBSERVATIONS = "observations"  # what months are scored from, beside the sources it was read from
NETWORK = "network"
TWIN = "twin"


def build_registry(
    store: MetricStore,
    leader: Callable[[], bool],
    now: Callable[[], dt.datetime],
    timezone: str = "UTC",
    channels: Sequence[str] = (),
) -> CollectorRegistry:
    """A registry of the ledger's figures and of this process' memory, CPU time and open files.

    Args: leader: whether this process holds the scheduler's lease.
        now, timezone: tell which month ended last. channels: whom messages go to, by name.
    """
    registry = CollectorRegistry()
    registry.register(LedgerCollector(store, now, timezone, channels, leader))
    ProcessCollector(registry=registry)
    return registry


class LedgerCollector(Collector):
    """Past runs, flags and the model in use. Keeps nothing between scrapes.

    Where the database is away every name is still there, without values, and
    anomaly_database_up is 0: an alert on absence and one on the database both work.
    leader: None in a process that runs no schedule and must not seem to have lost it.
    """

    def __init__(
        self,
        store: MetricStore,
        now: Callable[[], dt.datetime],
        timezone: str = "UTC",
        channels: Sequence[str] = (),
        leader: Callable[[], bool] | None = None,
    ) -> None:
        self._store = store
        self._now = now
        self._timezone = timezone
        self._channels = channels
        self._leader = leader

    def describe(self) -> Iterable[Metric]:
        """Say nothing: registering must not need the database."""
        return []

    def collect(self) -> Iterable[Metric]:
        """Read everything once."""
        families = _Families()
        try:
            self._fill(families)
        except AnomalyError:
            families = _Families()  # half a scrape would look like counters that fell
            families.up.add_metric([], 0)
        else:
            families.up.add_metric([], 1)
        if self._leader is not None:
            families.leader.add_metric([], self._leader())
        families.build.add_metric(
            [], {"version": anomaly.__version__, "python": platform.python_version()}
        )
        return vars(families).values()

    def _fill(self, families: _Families) -> None:
        _fill_runs(families, self._store)
        ended = month_of(self._now(), self._timezone).previous()
        months = self._store.ledger.month_states(limit=MONTHS)
        _fill_months(families, months, ended, self._timezone)
        _fill_counters(families, self._store, self._channels)
        _fill_model(families, self._store, months)
        _fill_flags(families, self._store)


class _Families:
    """All metrics of the product, still without values."""

    def __init__(self) -> None:
        self.runs = CounterMetricFamily(
            "anomaly_runs", "Runs that ended, by job and how they ended.", labels=["job", "state"]
        )
        self.durations = HistogramMetricFamily(
            "anomaly_run_duration",
            "How long the stages of runs took.",
            labels=["job", "stage"],
            unit="seconds",
        )
        self.last_success = GaugeMetricFamily(
            "anomaly_run_last_success_timestamp",
            "When the job last ended complete or provisional, in seconds since 1970 UTC.",
            labels=["job"],
            unit="seconds",
        )
        self.last_failure = GaugeMetricFamily(
            "anomaly_run_last_failure_timestamp",
            "When the job last ended failed, in seconds since 1970 UTC.",
            labels=["job"],
            unit="seconds",
        )
        self.last_sign = GaugeMetricFamily(
            "anomaly_run_heartbeat_timestamp",
            "The last sign of life of the job's run that is going on, in seconds since 1970 UTC.",
            labels=["job"],
            unit="seconds",
        )
        self.progress = GaugeMetricFamily(
            "anomaly_run_progress_timestamp",
            "When the work of the job's run that is going on last got on, in seconds since 1970 UTC.",
            labels=["job"],
            unit="seconds",
        )
        self.month_state = GaugeMetricFamily(
            "anomaly_month_state",
            "1 for the state that each of the last 13 months is in, 0 for its other states.",
            labels=["month", "state"],
        )
        self.month_end = GaugeMetricFamily(
            "anomaly_month_end_timestamp",
            "When each of the last 13 months ends, in seconds since 1970 UTC.",
            labels=["month"],
            unit="seconds",
        )
        self.rows_read = CounterMetricFamily(
            "anomaly_rows_read", "Rows read from a source.", labels=["source"]
        )
        self.rows_rejected = CounterMetricFamily(
            "anomaly_rows_rejected", "Rows set aside as unusable, by reason.", labels=["reason"]
        )
        self.users_scored = CounterMetricFamily(
            "anomaly_users_scored", "Users scored, counted once for each run."
        )
        self.users_skipped = CounterMetricFamily(
            "anomaly_users_skipped",
            "Users that a run could not score, by reason.",
            labels=["reason"],
        )
        self.watermark = GaugeMetricFamily(
            "anomaly_source_watermark_timestamp",
            "The newest observation read from the source that was read last, in seconds since 1970 UTC.",
            labels=["source"],
            unit="seconds",
        )
        self.flags = CounterMetricFamily(
            "anomaly_flags",
            "Flags raised by runs that ended, counted once for each run.",
            labels=["severity", "kind"],
        )
        self.flag_rate = GaugeMetricFamily(
            "anomaly_flags_per_thousand_user_months",
            "Flags of the latest complete month for each thousand users scored in it.",
        )
        self.month_rate = GaugeMetricFamily(
            "anomaly_month_flags_per_thousand_user_months",
            "Flags of each complete one of the last 13 months for each thousand users scored in it.",
            labels=["month"],
        )
        self.model = InfoMetricFamily(
            "anomaly_model",
            "The model in use: network, or twin where the statistical twin serves alone.",
        )
        self.trained = GaugeMetricFamily(
            "anomaly_model_trained_timestamp",
            "When the model in use was trained, in seconds since 1970 UTC.",
            labels=["model"],
            unit="seconds",
        )
        self.fallback = GaugeMetricFamily(
            "anomaly_model_fallback",
            "1 where the statistical twin scored the newest month because its network's files could not "
            "be read, else 0.",
        )
        self.loss = GaugeMetricFamily(
            "anomaly_model_validation_loss",
            "Mean negative log-likelihood on later history, of the network and of its statistical twin.",
            labels=["model"],
        )
        self.calibration = GaugeMetricFamily(
            "anomaly_calibration_error",
            "How far tail probabilities of the model in use are certainly off: the distance of the worst "
            "group's ratio from 1, as log10; 0 is none, 0.18 a factor of 1.5.",
        )
        self.precision = GaugeMetricFamily(
            "anomaly_flag_precision", "The share of judged flags that analysts called real."
        )
        self.judged = GaugeMetricFamily(
            "anomaly_flags_judged",
            "Flags that analysts judged, by their last verdict.",
            labels=["verdict"],
        )
        self.missed = CounterMetricFamily(
            "anomaly_jobs_missed",
            "Scheduled runs that did not happen in their time.",
            labels=["job"],
        )
        self.leader = GaugeMetricFamily(
            "anomaly_scheduler_leader", "1 where this process runs the schedule, else 0."
        )
        self.lease = GaugeMetricFamily(
            "anomaly_scheduler_lease_end_timestamp",
            "When the lease of whichever scheduler leads runs out unless it is renewed, in seconds "
            "since 1970 UTC.",
            unit="seconds",
        )
        self.notifications = CounterMetricFamily(
            "anomaly_notifications",
            "Messages sent to people, by channel and outcome.",
            labels=["channel", "outcome"],
        )
        self.last_sent = GaugeMetricFamily(
            "anomaly_notification_last_success_timestamp",
            "When a message to the channel was last taken, in seconds since 1970 UTC.",
            labels=["channel"],
            unit="seconds",
        )
        self.last_not_sent = GaugeMetricFamily(
            "anomaly_notification_last_failure_timestamp",
            "When a message to the channel last failed, in seconds since 1970 UTC.",
            labels=["channel"],
            unit="seconds",
        )
        self.build = InfoMetricFamily("anomaly_build", "The version that is running.")
        self.up = GaugeMetricFamily(
            DATABASE_UP,
            "1 where the database answered this scrape, else 0 and its figures are left out.",
        )


def _fill_runs(families: _Families, store: MetricStore) -> None:
    for run in store.ledger.last_successes():
        if run.finished_at is not None:
            families.last_success.add_metric([run.job], run.finished_at.timestamp())
    for job, seen in sorted(store.figures.last_signs().items()):
        families.last_sign.add_metric([job], seen.timestamp())
    for job, seen in sorted(store.figures.last_progress().items()):
        families.progress.add_metric([job], seen.timestamp())
    until = store.figures.leader_until()
    if until is not None:
        families.lease.add_metric([], until.timestamp())
    for label, when in _watermarks(store.figures).items():
        families.watermark.add_metric([label], when)
    for row in store.figures.durations(BUCKETS):
        bounds = [*map(str, BUCKETS), "+Inf"]
        buckets: list[tuple[str, float] | tuple[str, float, Exemplar]] = [
            *zip(bounds, [*row.counts, row.count], strict=True)
        ]
        place = bisect_left(BUCKETS, row.latest_seconds)
        buckets[place] = (*buckets[place][:2], _exemplar(row.latest, row.latest_seconds))
        families.durations.add_metric([row.job, row.stage], buckets, row.seconds)


def _fill_months(families: _Families, known: Sequence[RunRow], ended: Month, timezone: str) -> None:
    """States of the months that the ledger knows, and of the one that ended last even if it does not."""
    runs: dict[str, RunRow | None] = {str(ended): None}
    runs |= {str(run.month): run for run in known}
    for month, run in sorted(runs.items())[-MONTHS:]:
        end = Month.parse(month).end(timezone)
        families.month_end.add_metric([month], end.timestamp())
        for state in RUN_STATES:
            families.month_state.add_metric([month, state], run is not None and run.state == state)
        if run is not None and run.state == "complete" and run.users_scored:
            families.month_rate.add_metric([month], 1_000 * run.flags / run.users_scored)


def _fill_counters(families: _Families, store: MetricStore, channels: Sequence[str]) -> None:
    totals = store.ledger.totals()
    ends = store.figures.latest_ends()
    # A counter that begins at 1 shows no increase: what can be known beforehand begins at 0.
    runs = dict.fromkeys(product(JOBS, ENDS), 0) | dict(totals.runs)
    for (job, state), count in sorted(runs.items()):
        latest = ends.get((job, state))
        exemplar = None if latest is None else _exemplar(latest, 1)
        families.runs.add_metric([job, state], count, exemplar=exemplar)
        if latest is not None and state == "failed":
            families.last_failure.add_metric([job], latest.at.timestamp())
    read: Counter[tuple[str, ...]] = Counter()
    for source, rows in totals.rows_read.items():
        read[source_label(source),] += rows
    _count(families.rows_read, read)
    _count(families.rows_rejected, _keyed(dict.fromkeys(REASONS, 0) | dict(totals.rows_rejected)))
    families.users_scored.add_metric([], totals.users_scored)
    skipped = dict.fromkeys(SKIP_REASONS, 0) | dict(totals.users_skipped)
    _count(families.users_skipped, _keyed(skipped))
    _count(families.flags, totals.flags)
    _count(families.missed, _keyed(dict.fromkeys(JOBS, 0) | dict(totals.missed)))
    sent = dict.fromkeys(product(channels, OUTCOMES), 0) | dict(store.figures.notifications())
    _count(families.notifications, sent)
    last = {"sent": families.last_sent, "failed": families.last_not_sent}
    for (channel, outcome), when in sorted(store.figures.last_notifications().items()):
        last[outcome].add_metric([channel], when.timestamp())


def _fill_model(families: _Families, store: MetricStore, months: Sequence[RunRow]) -> None:
    champion = store.models.champion()
    if champion is None:
        return
    stands_in = fallback_of(months, store.models.list())
    families.fallback.add_metric([], stands_in is not None)
    serves = TWIN if champion.cell == "none" else NETWORK
    families.model.add_metric([], {"model": serves, "version": champion.version})
    families.trained.add_metric([serves], champion.registered_at.timestamp())
    losses = {TWIN: champion.twin_loss, serves: champion.validation_loss}
    for model, loss in losses.items():
        if loss is not None:
            families.loss.add_metric([model], loss)
    if champion.calibration_error is not None:
        families.calibration.add_metric([], champion.calibration_error)


def _fill_flags(families: _Families, store: MetricStore) -> None:
    rate = store.ledger.flags_per_thousand_user_months()
    if rate is not None:
        families.flag_rate.add_metric([], rate)
    precision = store.feedback.precision()
    if precision is not None:
        families.precision.add_metric([], precision)
    for verdict, count in sorted(store.figures.judged().items()):
        families.judged.add_metric([verdict], count)


def _watermarks(figures: FigureReader) -> dict[str, float]:
    """By label: of the source that was read last, and of `observations`, what months were scored from.

    One that is no longer read, such as a history that was imported once, brings nothing new for ever.
    """
    in_use = {OBSERVATIONS, source_label(figures.last_source() or OBSERVATIONS)}
    newest: dict[str, float] = {}
    for source, watermark in figures.watermarks().items():
        label = source_label(source)
        if label in in_use:
            newest[label] = max(newest.get(label, 0.0), watermark.timestamp())
    return newest


def source_label(source: str) -> str:
    """A source as a label: a database's table, a reader, or `file` for all files together.

    Files are many, and the name of a file with one user's series is that user's name.
    """
    return source if source == OBSERVATIONS or ":" in source else "file"


def _exemplar(run: EndedRow, value: float) -> Exemplar:
    """Which run it was: OpenMetrics carries it, so a graph leads to a line of the ledger."""
    return Exemplar({"run_id": str(run.run_id)}, value, run.at.timestamp())


def _count(
    family: CounterMetricFamily,
    counts: Mapping[tuple[str, ...], int] | Mapping[tuple[str, str], int],
) -> None:
    for labels, count in sorted(counts.items()):
        family.add_metric(labels, count)


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(label,): count for label, count in counts.items()}
