"""From habits and life to numbers: what one user did in each hour.

Metrics of an hour rise together, because one latent load drives them all; the load has a memory
over hours and over days, so that busy days come in runs; counts are gamma-Poisson, wilder than
Poisson; the amount is log-normal with a rare heavy jump. None of these shapes is the exact family
of a forecaster's likelihood, on purpose: data come from habits, not from a likelihood.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from scipy.signal import lfilter
from scipy.special import ndtri

from anomaly.simulation.rhythm import own_clock, presence
from anomaly.simulation.roles import BYTES, FILES, LOGONS, METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.simulation.company import Company, Site
    from anomaly.simulation.habits import Habits
    from anomaly.simulation.life import Life
    from anomaly.simulation.rhythm import Clock

PRESENCE_MEMORY = 0.5  # being at the desk in one hour speaks for the next
LOAD_MEMORY = 0.6
LOAD_SWING = 0.4  # sd of the hour's log load
JUMPS = 0.004  # share of uploads that are far larger than usual
JUMP_TAIL = 1.1  # Pareto exponent of their size: the mean hardly exists, as for real transfers
# How strongly each metric follows the load; a stick is plugged in for its own reasons.
ELASTICITY = np.array([0.4, 1.2, 1.0, 0.6, 0.3])


def behave(
    rng: np.random.Generator,
    habits: Habits,
    later: Habits,
    life: Life,
    site: Site,
    company: Company,
) -> NDArray[np.float64]:
    """What the user did, (hours, metrics), in counts and bytes; before anything was lost.

    later: the habits from the step on at which the user's life has a new role.
    """
    values = _work(rng, habits, life, site, company)
    if life.new_role < len(values):
        values[life.new_role :] = _work(rng, later, life, site, company)[life.new_role :]
    values[: life.first] = 0
    values[life.last :] = 0
    return values


def _work(
    rng: np.random.Generator, habits: Habits, life: Life, site: Site, company: Company
) -> NDArray[np.float64]:
    """The same, in one role for the whole time."""
    clock = own_clock(habits, life, site)
    chance = presence(rng, habits, life, site, clock)
    at_work = autoregression(rng, len(chance), PRESENCE_MEMORY) < ndtri(chance)
    load = _load(rng, habits, clock)
    log_factor = life.log_factor + company.log_factor[habits.role.department]
    rates = habits.rates * np.exp(load[:, None] * ELASTICITY + log_factor)
    used = at_work[:, None] & (rng.random(rates.shape) < _use(habits, load))
    values = used * _counts(rng, rates, habits.clumping)
    values[:, LOGONS] += _arrivals(rng, at_work)
    values[:, BYTES] = used[:, BYTES] * _bytes(rng, habits, rates, values)
    return _backup(rng, habits, values, clock, life.away)


def autoregression(rng: np.random.Generator, length: int, memory: float) -> NDArray[np.float64]:
    """(length,) standard normal values, each correlated by `memory` with the one before."""
    noise = rng.standard_normal(length) * np.sqrt(1 - memory**2)
    noise[0] /= np.sqrt(1 - memory**2)
    return np.asarray(lfilter([1.0], [1.0, -memory], noise), dtype=np.float64)


def _load(rng: np.random.Generator, habits: Habits, clock: Clock) -> NDArray[np.float64]:
    """The logarithm of how busy each hour is, (hours,)."""
    days = habits.swing * autoregression(rng, clock.days, habits.memory)
    swing = LOAD_SWING * (0.5 if habits.role.is_machine else 1.0)
    return days[clock.day] + swing * autoregression(rng, len(clock.day), LOAD_MEMORY)


def _use(habits: Habits, load: NDArray[np.float64]) -> NDArray[np.float64]:
    """The chance that a metric is used in a working hour, (hours, metrics): busier, more of them."""
    rare = habits.use / (1 - habits.use)
    odds = rare * np.exp(0.8 * load)[:, None]
    return np.asarray(odds / (1 + odds), dtype=np.float64)


def _counts(
    rng: np.random.Generator, rates: NDArray[np.float64], clumping: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Counts of at least 1 around the rates, (hours, metrics); the amount's column is left 0."""
    drawn = np.zeros(rates.shape)
    for metric in range(len(METRICS)):
        if metric != BYTES:
            wild = rng.gamma(clumping[metric], 1 / clumping[metric], len(rates))
            drawn[:, metric] = 1 + rng.poisson(np.clip(rates[:, metric] - 1, 0.1, 1e6) * wild)
    return drawn


def _arrivals(rng: np.random.Generator, at_work: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Coming back to the desk takes a log-on or two."""
    came = at_work & ~np.append(False, at_work[:-1])
    return np.where(came, 1.0 + rng.poisson(0.4, len(at_work)), 0.0)


def _bytes(
    rng: np.random.Generator,
    habits: Habits,
    rates: NDArray[np.float64],
    values: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Amounts, (hours,), whole bytes: they follow the files that were read, and at times jump."""
    usual = np.log1p(habits.rates[FILES])
    with_files = 0.5 * (np.log1p(values[:, FILES]) - usual)
    size = np.exp(
        np.log(rates[:, BYTES]) + with_files + habits.spread * rng.standard_normal(len(rates))
    )
    jump = 1 + rng.pareto(JUMP_TAIL, len(rates)).clip(max=200) * (rng.random(len(rates)) < JUMPS)
    return np.asarray(np.ceil(size * jump), dtype=np.float64)


def _backup(
    rng: np.random.Generator,
    habits: Habits,
    values: NDArray[np.float64],
    clock: Clock,
    away: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Some machines upload themselves once a week at a fixed hour, most weeks."""
    hour_of_week = clock.weekday * 24 + clock.hour.astype(np.int64)
    runs = (hour_of_week == habits.backup) & ~away & (rng.random(len(away)) < 0.9)
    values[runs, BYTES] += np.ceil(8 * habits.rates[BYTES] * rng.lognormal(0, 0.3, int(runs.sum())))
    values[runs, LOGONS] += 1
    return values
