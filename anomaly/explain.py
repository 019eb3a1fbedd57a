"""Says of a flagged window what was odd, how much, and in which way; every number is a column."""

from __future__ import annotations

import datetime as dt
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import numpy as np

from anomaly.panel import DAY_SECONDS
from anomaly.records import SEVERITIES
from anomaly.scan import energy, floor_of, loud_floor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from anomaly.likelihoods.forecast import Forecast
    from anomaly.likelihoods.links import Links
    from anomaly.metrics import MetricSpec

DRAWS = 400
INTERVAL = (0.025, 0.975)
LEAST_SUM = 1e-9  # of squares, to divide by
LEAST_SHARE = 0.15  # of the surprise, for a metric to be named
DRIFT_DAYS = 3.0  # longer than this is a drift, not a burst
USED = 0.5  # discounted past uses under which a behaviour is new
KNOWN_DAYS = 7.0  # days of history that it takes to call something new
ODD_HOURS = 0.05  # usual rate of activity under which hours are odd ones
SILENT = 0.5  # of what was expected; less is a silence
USUAL_ALONE = 3.0  # deviations under which each metric by itself is nothing odd
HOW = {
    "burst": "unusually much",
    "silence": "unusually little",
    "shift": "activity at unusual hours",
    "drift": "a change that lasts",
    "new": "never seen before from this user",
    "combination": "unusual together with the rest",
}
COURSE = "in an unusual course"
SCALES = ((1e12, "trillion"), (1e9, "billion"), (1e6, "million"))
SEVERITY_AT = (1.0, 1.5, 2.0, 3.0)  # lowest score of each severity


@dataclass(frozen=True, slots=True)
class Size:
    """A metric over a flag, in its unit: totals, or means where totals mean nothing."""

    observed: float
    expected: float
    lower: float
    upper: float


@dataclass(frozen=True, slots=True)
class Story:
    """What a flag is about. metrics: positions, the largest share of the surprise first. by_course: only
    the course of values is odd, not how much they come to.
    """

    metrics: tuple[int, ...]
    direction: str
    kind: str
    size: Size
    by_course: bool = False


def severity_of(score: float) -> str:
    """The band of a score of 1 or more."""
    return [
        name
        for name, least in zip(SEVERITIES, SEVERITY_AT, strict=True)
        if score >= least or least == 1.0
    ][-1]


def rounded(value: float) -> float:
    """Six significant digits: what differs beyond them is no difference."""
    return float(f"{value:.6g}")


def blame(joint: NDArray[np.float32]) -> tuple[int, ...]:
    """Which metrics carry the surprise of a window, the largest share first.

    Args: joint: (steps, metrics) heeded deviations within the window. A metric's share is its energy,
    and that of its sum: loud steps count, and so does what is small but does not end.
    """
    total = joint.sum(0, dtype=np.float64)
    weight = np.square(joint, dtype=np.float64).sum(0) + total**2 / len(joint)
    order = np.argsort(-weight, kind="stable")
    least = LEAST_SHARE * weight.sum()
    return tuple(int(m) for m in order if weight[m] >= least and weight[m] > 0) or (int(order[0]),)


def shares(joint: NDArray[np.float32], step: int) -> NDArray[np.float64]:
    """What each step of a window brings to it, (steps,): to how loud and how steady the metrics are that
    carry it, on the side they carry it to.

    Both ways count what lies beyond their floor, as in `anomaly.scan`: else the noise of days would
    outweigh an hour. What is steady is shared out by squares.
    """
    metrics, part = joint.shape[1], joint[:, list(blame(joint))]
    total = part.sum(0, dtype=np.float64)
    toward = np.maximum(part * np.sign(total), 0)
    loud = energy(toward, loud_floor(metrics, step))
    steady = energy(total / np.sqrt(len(part)), floor_of(metrics))
    shared = np.square(toward) / np.maximum(np.square(toward).sum(0), LEAST_SUM)
    return np.asarray((loud + steady * shared).sum(1), dtype=np.float64)


def departure(size: Size) -> int:
    """On which side the observed lies outside what was expected: 1, -1, or 0 for neither."""
    return int(size.observed > size.upper) - int(size.observed < size.lower)


def visible_first(named: tuple[int, ...], sizes: Mapping[int, Size]) -> tuple[int, ...]:
    """The metrics with those first whose totals show a departure, else in their order."""
    return tuple(sorted(named, key=lambda metric: departure(sizes[metric]) == 0))


def direction_of(named: tuple[int, ...], sizes: Mapping[int, Size]) -> str:
    """Where the totals of these metrics lie: 'up', 'down', or 'both' if not all on one side."""
    sides = {departure(sizes[metric]) for metric in named} - {0}
    return "both" if len(sides) != 1 else ("up" if sides == {1} else "down")


def size_of(
    metric: int, spec: MetricSpec, values: NDArray[np.float32], mask: NDArray[np.bool_],
    said: Forecast, links: Links, seed: int, highest: float,
) -> Size:  # fmt: skip
    """Observed against expected over a window, by simulation from the twin's forecast.

    Args: values, mask, said: (steps, metrics). The twin knows nothing of the window itself, so its
    expectation is not drawn along by the incident. Interval of 95 %. highest: see `most`.
    """
    known = mask[:, metric]
    observed = values[known, metric].astype(np.float64)
    own, link = said.metric(metric), links.only(metric)
    draws = own.sample(np.random.default_rng(seed), DRAWS)[:, known]
    draws = np.minimum(draws, most(own, link, highest)[known])
    simulated = link.inverse(draws)[..., 0].astype(np.float64)
    simulated = np.where(np.isfinite(simulated), simulated, 0)
    combine = np.sum if spec.kind == "count" else np.mean
    if not known.any():
        return Size(0.0, 0.0, 0.0, 0.0)
    totals = combine(simulated, axis=1)
    lower, middle, upper = np.quantile(totals, (INTERVAL[0], 0.5, INTERVAL[1]))
    if links.ticks[metric] == 1:
        lower, middle, upper = np.round((lower, middle, upper))
    return Size(rounded(float(combine(observed))), rounded(middle), rounded(lower), rounded(upper))


def most(twin: Forecast, links: Links, highest: float) -> NDArray[np.float32]:
    """The largest size that can be expected of one metric, (..., 1), linked.

    A law with heavy tails on a logarithmic scale promises amounts that never were: what lies beyond
    `highest`, which anyone has reached in these steps, is none to expect, nor what lies more than a
    spread above the user's own level.
    """
    if not links.hurdle[0]:
        return np.full_like(twin.location, np.inf)
    _, reached = links.bounds(np.array([highest], np.float32))
    return np.asarray(np.maximum(twin.location + twin.spread, reached), dtype=np.float32)


def usual_alone(marginal: NDArray[np.float32]) -> bool:
    """Whether over a window each metric by itself is nothing odd; (steps, metrics) deviations."""
    strongest = np.abs(marginal.sum(0) / np.sqrt(max(len(marginal), 1))).max()
    return bool(strongest < USUAL_ALONE)


def kind_of(
    direction: str, together: bool, size: Size, said_rate: NDArray[np.float64], hurdle: bool,
    used: float, days_known: float, step: int,
) -> str:  # fmt: skip
    """The kind of anomaly.

    Args: together: whether only metrics together are odd; said_rate: of activity, (steps,); used:
        discounted past uses of the first metric by this user.
    """
    length_days = len(said_rate) * step / DAY_SECONDS
    if together:
        return "combination"
    if direction == "down":
        return "silence" if size.observed < SILENT * size.expected else "drift"
    if hurdle and used < USED and days_known >= KNOWN_DAYS:
        return "new"
    if length_days > DRIFT_DAYS:
        return "drift"
    if hurdle and step < DAY_SECONDS and float(said_rate.mean()) < ODD_HOURS:
        return "shift"
    return "burst"


@dataclass(frozen=True, slots=True)
class Compared:
    """Percentiles (0 to 100) of a flag's evidence among own past, peers and everyone.

    self_percentile is 50 where there is no past to compare with: has_past is False.
    """

    has_past: bool
    self_percentile: float
    peer_percentile: float
    all_percentile: float
    peer_count: int


def sentence(
    user: str, story: Story, specs: Sequence[MetricSpec], start: dt.datetime, end: dt.datetime,
    timezone: str, compared: Compared, cohort: str, continues: bool,
) -> str:  # fmt: skip
    """One plain sentence or two, in which every number is one of the flag's columns."""
    spec = specs[story.metrics[0]]
    size = story.size
    came_to, what = ("came to", "total") if spec.kind == "count" else ("averaged", "mean")
    others = ", ".join(specs[m].name for m in story.metrics[1:])
    text = (
        f"{user}: {spec.name} {came_to} {_number(size.observed)} {_when(start, end, timezone)}, "
        f"{COURSE if story.by_course else HOW[story.kind]}: {_expected(size)}."
    )
    if others:
        text += f" Also odd: {others}."
    if story.by_course:
        text += (
            f" Not the {what} is odd but the order of values: no stretch of the past is like it."
        )
    text += _comparison(compared, cohort)
    return text + (" It reaches the month's end and may continue." if continues else "")


def _expected(size: Size) -> str:
    lower, upper, expected = (_number(value) for value in (size.lower, size.upper, size.expected))
    if lower == upper == expected:
        return f"{expected} expected"
    return f"{lower} to {upper} expected, {expected} most likely"


def _comparison(compared: Compared, cohort: str) -> str:
    peers = "users" if cohort == "everyone" else f"members of {cohort}"
    if compared.peer_percentile == 100:
        there = f"all {compared.peer_count} other {peers} at that time"
    else:
        there = (
            f"{compared.peer_percentile:g} % of {compared.peer_count} other {peers} at that time"
        )
    past = f"{compared.self_percentile:g} % of the user's own past" if compared.has_past else ""
    than = [part for part in (past, there if compared.peer_count else "") if part]
    text = f" More surprising than {' and than '.join(than)}." if than else ""
    return text + ("" if compared.has_past else " There is no past of this user to compare with.")


def _number(value: float) -> str:
    """To three digits where it is small, whole where it is not, in words where it is huge."""
    for scale, name in SCALES:
        if abs(value) >= scale:
            return f"{value / scale:,.4g} {name}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"


def _when(start: dt.datetime, end: dt.datetime, timezone: str) -> str:
    zone = ZoneInfo(timezone)
    first, last = start.astimezone(zone), end.astimezone(zone)
    whole = first.time() == last.time() == dt.time(0)
    if whole and last - first <= dt.timedelta(days=1, hours=1):
        return f"on {first:%-d %B %Y} ({timezone})"
    if whole:
        return f"from {first:%-d %B %Y} to before {last:%-d %B %Y} ({timezone})"
    if first.date() == last.date():
        return f"between {first:%H:%M} and {last:%H:%M} on {first:%-d %B %Y} ({timezone})"
    return f"between {first:%H:%M on %-d %B %Y} and {last:%H:%M on %-d %B %Y} ({timezone})"


def flag_id(user: str, start: dt.datetime, metrics: str, month: str, configuration: str) -> str:
    """A hash of the natural key: the same flag has the same id everywhere."""
    key = f"{user}\0{start.isoformat()}\0{metrics}\0{month}\0{configuration}"
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:16]
