"""Made rows of one month, as a run would publish them: users of several roles, some with flags."""

import datetime as dt
import hashlib

import numpy as np
import pyarrow as pa

from anomaly.records import Band, Flag, UserMonth, steps_around
from anomaly.store import Run, Store

MONTH = "2026-03"
MONTH_START = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
RUN_AT = dt.datetime(2026, 4, 4, 2, 30, tzinfo=dt.UTC)
MODEL = "3f9ac1d2"
HOURS = 744
NASTY_NAMES = (
    "<script>alert('x')</script>",
    'O\'Brien "the" <b>boss</b>',
    "team/ops/../u7",
    "..",
    "grüße 🦊 & co?x=1#y",
    "line\nbreak",
)


def band(seed: int, *, start: int = 0, hours: int = 0, extra: float = 0.0) -> Band:
    """A month of hours of a metric that is busy by day and nearly still by night.

    extra: what is added to each of `hours` steps from step `start`: a planted incident.
    """
    times = int(MONTH_START.timestamp()) + 3_600 * np.arange(HOURS)
    hour, day = (times // 3_600) % 24, (times // 86_400 + 3) % 7
    expected = np.where((hour >= 8) & (hour < 18) & (day < 5), 18.0, 0.8)
    observed = np.random.default_rng(seed).poisson(expected).astype(np.float32)
    observed[start : start + hours] = np.maximum(0, observed[start : start + hours] + extra)
    spread = 2.6 * np.sqrt(expected)
    return Band(
        times.astype(np.int64),
        observed,
        expected.astype(np.float32),
        np.maximum(0, expected - spread).astype(np.float32),
        (expected + spread + 1).astype(np.float32),
    )


def flag(user_id: str, series: Band, *, start: int, hours: int, **changes: object) -> Flag:
    """A flag over `hours` steps from step `start` of the month, with the figures of `series`."""
    begin = MONTH_START + dt.timedelta(hours=start)
    inside = slice(start, start + hours)
    observed, expected = float(series.observed[inside].sum()), float(series.expected[inside].sum())
    fields = {
        "flag_id": hashlib.sha256(f"{user_id}{start}".encode()).hexdigest()[:16],
        "user_id": user_id,
        "start": begin,
        "end": begin + dt.timedelta(hours=hours),
        "severity": "critical",
        "score": 4.7,
        "p_value": 3.1e-9,
        "kind": "burst",
        "direction": "up",
        "metrics": "files_read;bytes_out",
        "observed": observed,
        "expected": expected,
        "lower": float(series.lower[inside].sum()),
        "upper": float(series.upper[inside].sum()),
        "explanation": (
            f"{observed:,.0f} files_read in {hours} hours, where {expected:.0f} are usual for this "
            f"user at that time; bytes_out rose with them."
        ),
        "self_percentile": 99.97,
        "peer_percentile": 99.4,
        "all_percentile": 99.9,
        "peer_count": 34,
    }
    return Flag(**{**fields, **changes})  # type: ignore[arg-type]


def user_month(user_id: str, **changes: object) -> UserMonth:
    """An ordinary month of one user."""
    fields = {
        "user_id": user_id,
        "cohort": "engineers",
        "score": 0.42,
        "p_value": 0.2,
        "flags": 0,
        "worst_at": MONTH_START + dt.timedelta(hours=200),
        "metrics": "files_read",
        "self_percentile": 61.0,
        "peer_percentile": 48.0,
        "all_percentile": 52.0,
        "peer_count": 34,
        "confidence": 0.93,
    }
    return UserMonth(**{**fields, **changes})  # type: ignore[arg-type]


def month_of_flags() -> tuple[list[Flag], list[UserMonth], dict[str, Band]]:
    """Flags, users' months and the flags' series of MONTH, nasty names among them."""
    flags: list[Flag] = []
    series: dict[str, Band] = {}

    def add(
        user_id: str, seed: int, start: int, hours: int, extra: float, **changes: object
    ) -> None:
        whole = band(seed, start=start, hours=hours, extra=extra)
        made = flag(user_id, whole, start=start, hours=hours, **changes)
        flags.append(made)
        shown = steps_around(whole.times, made.start, made.end)
        lines = (whole.times, whole.observed, whole.expected, whole.lower, whole.upper)
        series[made.flag_id] = Band(*(line[shown] for line in lines))

    add("u007", 7, 265, 4, 400.0)
    add("u007", 7, 400, 30, 14.0, severity="medium", kind="shift", score=1.6, p_value=4e-5)
    add(
        "u012", 12, 464, 10, -30.0, severity="high", kind="silence", direction="down", score=2.4,
        p_value=8e-7, metrics="log_ons",
        explanation="No log_ons in 10 hours of a working day, where 180 are usual for this user.",
    )  # fmt: skip
    for seed, name in enumerate(NASTY_NAMES):
        add(name, seed, 320, 3, 60.0, severity="low", score=1.1, p_value=2e-4)
    noted = {made.user_id: made for made in reversed(flags)}
    months = [
        user_month(
            name,
            score=made.score,
            flags=sum(other.user_id == name for other in flags),
            p_value=made.p_value,
            worst_at=made.start,
            self_percentile=99.9,
            peer_percentile=99.4,
            all_percentile=99.8,
            risk=0.9471 - place / 20,
            confidence=0.931 - place / 25,
        )
        for place, (name, made) in enumerate(noted.items())
    ]
    months += [
        user_month(f"u{number:03d}", score=0.9 - number / 200, risk=number / 2_000)
        for number in range(20, 60)
    ]
    months += [user_month("joiner", score=0.0, p_value=1.0, skipped="too_short", confidence=0.0)]
    return flags, months, series


def observe(store: Store, user_id: str, first: dt.date, last: dt.date) -> None:
    """Write hours of two metrics of a user, both days included; u007's incidents are among them."""
    times = np.arange(
        np.datetime64(first, "s"), np.datetime64(last, "s") + np.timedelta64(1, "D"), 3_600
    ).astype(np.int64)
    hour, day = (times // 3_600) % 24, (times // 86_400 + 3) % 7
    busy = np.where((hour >= 8) & (hour < 18) & (day < 5), 18.0, 0.8)
    rng = np.random.default_rng(7)
    planted = np.zeros(len(times))
    for start, hours, extra in ((265, 4, 400.0), (400, 30, 14.0)):
        at = (times - int(MONTH_START.timestamp())) // 3_600
        planted += np.where((at >= start) & (at < start + hours), extra, 0)
    for metric, factor in (("files_read", 1.0), ("bytes_out", 20.0)):
        values = (rng.poisson(busy) + planted) * factor
        store.observations.write(
            pa.table(
                {
                    "user_id": [user_id] * len(times),
                    "metric": [metric] * len(times),
                    "observed_at": pa.array(times, pa.timestamp("s", "UTC")),
                    "value": values.astype(np.float64),
                }
            ),
            "factory",
        )


def publish_month(store: Store, state: str = "complete") -> Run:
    """Write MONTH as a run would: rows ingested, a model, the flags, users' months and series."""
    minutes = dt.timedelta(minutes=1)
    observe(store, "u007", dt.date(2026, 1, 1), dt.date(2026, 3, 31))
    ingest = store.ledger.start("ingest", configuration="c0ffee", code_version="1.0", now=RUN_AT)
    store.ledger.finish(
        ingest,
        "complete",
        RUN_AT + minutes,
        rows_read=120_000,
        rows_rejected={"bad_time": 3, "not_finite": 1},
        watermark=MONTH_START + dt.timedelta(days=31),
        source="warehouse:behaviour",
    )
    store.models.register(
        version=MODEL,
        address="models/3f9ac1d2",
        sha256="0" * 64,
        trained_from=MONTH_START - dt.timedelta(days=90),
        trained_to=MONTH_START,
        validation_loss=1.25,
        twin_loss=1.5,
        calibration_error=0.02,
        users=48,
        metrics=("files_read", "bytes_out", "log_ons"),
        configuration="c0ffee",
        now=RUN_AT + minutes,
    )
    store.models.promote(MODEL, RUN_AT + minutes)
    flags, user_months, series = month_of_flags()
    run = store.ledger.start(
        "month", MONTH, configuration="c0ffee", code_version="1.0", now=RUN_AT + 2 * minutes
    )
    store.ledger.stage(run, "score", 3.5, users=len(user_months))
    store.publish(
        run,
        0,
        MONTH,
        flags,
        user_months,
        {},
        None,
        now=RUN_AT + 3 * minutes,
        model_version=MODEL,
        bands=series,
    )
    return store.ledger.finish(run, state, RUN_AT + 4 * minutes, model_version=MODEL)
