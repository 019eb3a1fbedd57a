"""Families: what each says, held against scipy and against what must hold of any of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from anomaly.exceptions import SettingsError
from anomaly.features import Observed
from anomaly.likelihoods import beta, negative_binomial
from anomaly.likelihoods.choice import choose
from anomaly.likelihoods.forecast import LAWS, Families, Forecast
from anomaly.likelihoods.law import LOG_TINY, Parameters
from anomaly.likelihoods.links import FINEST, Links
from anomaly.likelihoods.names import BUILT_IN, BY_KIND
from anomaly.metrics import MetricSpec, infer_specs
from anomaly.rows import Rows
from anomaly.settings import MetricSettings
from anomaly.twin import TwinForecast

COUNTS = Links(("log",), np.ones(1, np.float32), np.ones(1, bool))
SHARES = Links(("logit",), np.array([0.01], np.float32), np.zeros(1, bool))
GAUGES = Links(("identity",), np.array([1e-3], np.float32), np.zeros(1, bool))
LINKS = {"count": COUNTS, "share": SHARES, "gauge": GAUGES}
FAMILIES = [(kind, name) for kind, names in BY_KIND.items() for name in names]
KIND_OF = {name: kind for kind, name in FAMILIES}


def said(location: float, spread: float, rate: float = 0.3, size: int = 1) -> Parameters:
    logit = np.log(rate / (1 - rate)) if rate < 1 else 80.0
    shape = (size, 1)
    return Parameters(
        np.full(shape, logit, np.float32),
        np.full(shape, location, np.float32),
        np.full(shape, spread, np.float32),
    )


def seen(kind: str, values: np.ndarray, censored: bool = False) -> tuple[np.ndarray, ...]:
    links = LINKS[kind]
    column = np.asarray(values, np.float32)[:, None]
    low, high = links.bounds(column)
    if censored:
        low, high = links.censored(low, high)
    return links.active(column, np.ones_like(column, bool)), low, high


def tails(name: str, values: np.ndarray, location: float, spread: float, rate: float = 0.3):
    kind = KIND_OF[name]
    parameters = said(location, spread, rate if kind == "count" else 1, len(values))
    lower, upper = LAWS[name].log_tails(parameters, *seen(kind, values))
    return lower[:, 0].astype(float), upper[:, 0].astype(float)


def test_the_setting_offers_every_family():
    offered = BUILT_IN
    assert offered == ("auto", *(name for _, name in FAMILIES))
    assert set(LAWS) == set(offered) - {"auto"}


@pytest.mark.parametrize("name", BY_KIND["count"])
@pytest.mark.parametrize(
    ("location", "spread"), [(-0.14, 0.27), (0.4, 0.5), (1.5, 1.3), (3.0, 0.2)]
)
def test_the_probabilities_of_all_counts_sum_to_one(name, location, spread):
    values = np.arange(200_000)
    each = LAWS[name].log_likelihood(
        said(location, spread, 0.3, len(values)), *seen("count", values, censored=True)
    )
    share = 1 / np.maximum(1, FINEST * values)  # of its interval, past 1,000
    assert share @ np.exp(each[:, 0].astype(float)) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", BY_KIND["share"])
@pytest.mark.parametrize(("location", "spread"), [(-2.0, 0.4), (0.0, 1.0), (1.0, 2.5)])
def test_the_probabilities_of_all_shares_sum_to_one(name, location, spread):
    """Intervals of .01 on the logit scale, side by side from one edge to the other."""
    edge = np.log(0.999 / 0.001)
    values = np.append(1 / (1 + np.exp(-np.arange(-edge, edge - 0.01, 0.01))), 1)
    each = LAWS[name].log_likelihood(
        said(location, spread, 1, len(values)), *seen("share", values, censored=True)
    )
    assert np.exp(each.astype(float)).sum() == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize(("location", "spread"), [(0.2, 0.3), (1.0, 1.0), (2.0, 0.1)])
def test_more_is_never_less_surprising(name, location, spread):
    values = {
        "count": np.unique(np.geomspace(1, 1e5, 400).round()),
        "share": np.linspace(0, 1, 400),
        "gauge": np.linspace(-30, 30, 400),
    }[KIND_OF[name]]
    values = np.append(0, values) if KIND_OF[name] == "count" else values
    lower, upper = tails(name, values, location, spread)
    assert (np.diff(lower) >= -1e-5).all()
    assert (np.diff(upper) <= 1e-5).all()
    assert lower.min() >= LOG_TINY
    assert upper.max() <= 1e-6
    total = np.exp(lower) + np.exp(upper)
    assert np.allclose(total, 1, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "law"),
    [
        ("logistic", stats.logistic(1, 2 * np.sqrt(3) / np.pi)),
        ("gaussian", stats.norm(1, 2)),
        ("student", stats.t(4, 1, 2 / np.sqrt(2))),
    ],
)
def test_gauges_agree_with_scipy_far_into_the_tails(name, law):
    """To 1e-30, on either side."""
    values = np.concatenate([1 + 2 * np.linspace(-12, 12, 49), [-1e5, 1e5]])
    lower, upper = tails(name, values, 1, 2)
    wanted = [
        np.maximum(tail(values.astype(np.float32)), LOG_TINY) for tail in (law.logcdf, law.logsf)
    ]
    assert np.allclose(lower, wanted[0], rtol=2e-5, atol=2e-5)
    assert np.allclose(upper, wanted[1], rtol=2e-5, atol=2e-5)
    assert min(lower.min(), upper.min()) < (-40 if name != "student" else -35)
    each = LAWS[name].log_likelihood(said(1, 2, 1, len(values)), *seen("gauge", values))[:-2, 0]
    assert np.allclose(each, law.logpdf(values[:-2]) + np.log(1e-3), atol=0.02)


@pytest.mark.parametrize("name", ["hurdle-negative-binomial", "zero-inflated-negative-binomial"])
@pytest.mark.parametrize(("location", "spread"), [(0.3, 0.4), (2.0, 0.8), (4.0, 0.15)])
def test_negative_binomials_agree_with_scipy(name, location, spread):
    rate = 0.3
    mean, r = (float(part[0, 0]) for part in negative_binomial.shape(said(location, spread)))
    law = stats.nbinom(r, r / (r + mean))
    values = np.arange(1, 400)
    lower, upper = tails(name, values, location, spread, rate)
    some = law.sf(0)
    above = rate * (law.sf(values) + law.pmf(values) / 2) / some
    below = 1 - rate + rate * (law.cdf(values - 1) - law.pmf(0) + law.pmf(values) / 2) / some
    assert np.allclose(
        upper, np.log(np.maximum(above, np.exp(float(LOG_TINY)))), rtol=1e-4, atol=1e-4
    )
    assert np.allclose(lower, np.log(below), atol=1e-5)
    assert upper.min() == LOG_TINY or upper.min() < -20


def test_whichever_way_tails_of_counts_are_worked_out_they_agree_with_the_beta_function():
    """Few by recurrence, many by a gamma law, the rest by the incomplete beta function itself."""
    random, size = np.random.default_rng(0), 20_000
    r = np.exp(random.uniform(np.log(0.5), np.log(1e4), size))
    mean = np.exp(random.uniform(np.log(1e-2), np.log(1e7), size))
    y = np.round(random.negative_binomial(r, r / (r + mean)) * np.exp(random.normal(0, 1, size)))
    y = np.maximum(y, 1)
    told = said(0, 1, size=size)
    shaped = negative_binomial.Counting(
        *(part[:, 0] for part in (told.active_logit, told.location, told.spread)), mean, r
    )
    found = LAWS["hurdle-negative-binomial"].size_tails(shaped, np.log(y - 0.5), np.log(y + 0.5))
    some = stats.nbinom.sf(0, r, r / (r + mean))
    half = stats.nbinom.pmf(y, r, r / (r + mean)) / 2
    above = (stats.nbinom.sf(y, r, r / (r + mean)) + half) / some
    below = (np.maximum(stats.nbinom.cdf(y - 1, r, r / (r + mean)) - (1 - some), 0) + half) / some
    for tail, wanted in zip(found, (below, above), strict=True):
        told_of = wanted > np.exp(float(LOG_TINY))
        wrong = np.abs(tail[told_of] - np.log(wanted[told_of]))
        clear = wanted[told_of] > 1e-9  # the reference itself loses digits below
        assert wrong[clear].max() < 2 * negative_binomial.GAMMA_ERROR
        assert wrong.max() < 0.01
    assert (y <= negative_binomial.MOST_ADDED).sum() > size / 10
    assert (r * (r / np.minimum(mean, y)) ** 2 < negative_binomial.GAMMA_ERROR).sum() > size / 10


@pytest.mark.parametrize(
    ("location", "spread"), [(-0.14, 0.27), (0.0, 1.0), (2.0, 3.0), (9.0, 0.01)]
)
def test_the_mean_of_positive_counts_is_found(location, spread):
    """`shape` solves for the mean of the whole law: that of its positive part must come back."""
    mean, r = negative_binomial.shape(said(location, spread))
    positive = mean / -np.expm1(-r * np.log1p(mean / r))
    chance = 1 / (1 + np.exp(np.float32(location).astype(float)))
    wanted = np.exp(location + chance / 2 + 1 / (2 * r) + 1 / (12 * r**2))
    assert positive == pytest.approx(
        np.maximum(wanted, 1 + negative_binomial.LEAST_ABOVE), rel=1e-5
    )


def test_zeros_of_the_zero_inflated_come_from_both_parts():
    """A rate of .9 cannot be where the counts themselves are so small that a half are zero."""
    often = said(0.1, 0.3, rate=0.9)
    mean, r = negative_binomial.shape(often)
    log_p, log_q = LAWS["zero-inflated-negative-binomial"].log_rates(often)
    assert np.exp(log_p) == pytest.approx(stats.nbinom(r, r / (r + mean)).sf(0))
    assert np.exp(log_p) + np.exp(log_q) == pytest.approx(1)
    seldom, _ = LAWS["zero-inflated-negative-binomial"].log_rates(said(0.1, 0.3, rate=0.05))
    assert np.exp(seldom) == pytest.approx(0.05, rel=1e-5)


def test_beta_agrees_with_scipy():
    parameters = said(-1.0, 0.5, 1)
    a, b = (float(part[0, 0]) for part in beta.shape(parameters))
    law = stats.beta(a, b)
    share = 1 / (1 + np.exp(1.0))
    assert (a / (a + b), law.std()) == pytest.approx((share, 0.5 * share * (1 - share)), rel=1e-5)
    values = np.linspace(0.01, 0.99, 50)
    lower, upper = tails("beta", values, -1.0, 0.5)
    assert np.allclose(lower, np.maximum(law.logcdf(values), LOG_TINY), rtol=1e-4, atol=1e-4)
    assert np.allclose(upper, np.maximum(law.logsf(values), LOG_TINY), rtol=1e-4, atol=1e-4)


def test_a_bernoulli_metric_is_not_speechless_before_a_five():
    _, upper = tails("bernoulli", np.array([0, 1, 2, 5]), 0, 0.3)
    assert upper[1] == pytest.approx(np.log(0.3 * 0.5), abs=1e-3)
    assert upper[1] - 5 > upper[2] > upper[3] > LOG_TINY


@pytest.mark.parametrize("name", LAWS)
def test_mid_p_tails_are_fair(name):
    """Of values drawn from the law itself, the upper mid-p averages one half."""
    kind = KIND_OF[name]
    parameters = said(1.0, 0.6, 0.4 if kind == "count" else 1)
    drawn = LAWS[name].sample(parameters, np.random.default_rng(0), 20_000)[:, 0, 0]
    values = LINKS[kind].inverse(drawn[:, None])[:, 0]
    values = np.where(np.isfinite(drawn), np.round(values) if kind == "count" else values, 0)
    lower, upper = tails(name, values, 1.0, 0.6, 0.4)
    assert np.exp(upper).mean() == pytest.approx(0.5, abs=0.02)
    assert np.exp(lower).mean() == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("name", LAWS)
def test_quantiles_belong_to_the_tails(name):
    kind = KIND_OF[name]
    parameters = said(2.0, 0.4, 0.7 if kind == "count" else 1)
    assert LAWS[name].quantile(parameters, 0.29 if kind == "count" else 1e-9).item() < 2
    at = LAWS[name].quantile(parameters, 0.975)
    if name == "bernoulli":
        assert at.item() == 0
        return
    lower, _ = tails(name, LINKS[kind].inverse(at)[:, 0], 2.0, 0.4, 0.7)
    assert np.exp(lower).item() == pytest.approx(0.975, abs=0.012)


def test_a_panel_of_many_families_is_each_metric_by_itself():
    rng = np.random.default_rng(0)
    names = ("hurdle-student", "beta", "hurdle-loglogistic", "gaussian", "hurdle-student")
    kinds = tuple({"count": "log", "share": "logit", "gauge": "identity"}[KIND_OF[name]] for name in names)  # fmt: skip
    links = Links(kinds, np.ones(5, np.float32), np.array([kind == "log" for kind in kinds]))
    values = rng.integers(0, 2, (3, 7, 5)).astype(np.float32)
    arrays = [rng.normal(size=(3, 7, 5)).astype(np.float32) for _ in range(2)]
    forecast = Forecast(arrays[0], arrays[1], np.ones_like(values), Families(names, (1.0,) * 5))
    active = links.active(values, np.ones_like(values, bool))
    low, high = links.bounds(values)
    for metric in range(5):
        at = np.s_[..., metric : metric + 1]
        mixed = (*forecast.log_tails(active, low, high), forecast.quantile(0.9))
        one = forecast.metric(metric)
        alone = (*one.log_tails(active[at], low[at], high[at]), one.quantile(0.9))
        for together, apart in zip(mixed, alone, strict=True):
            assert np.array_equal(together[at], apart)
    assert forecast.at(np.s_[1, 2:4]).sample(rng, 6).shape == (6, 2, 5)


def history_of(
    sizes: np.ndarray, active: np.ndarray, links: Links
) -> tuple[TwinForecast, Observed]:
    """History, (users, steps, 1), whose twin knows rate, mean and spread but no shape."""
    values = np.where(active, sizes, 0).astype(np.float32)
    low, high = links.bounds(values)
    active = links.active(values, np.ones(values.shape, bool))
    known = ((low + high) / 2)[active]
    rate = np.log(active.mean() / (1 - active.mean())) if links.hurdle[0] else 80.0
    arrays = [
        np.full(values.shape, value, np.float32)
        for value in (rate, known.mean(), max(known.std(), 0.1))
    ]
    families = Families.usual(["count"])
    return TwinForecast(*arrays, families), Observed(active, low, high, np.ones_like(active))


def counts_from(name: str, seed: int = 0) -> tuple[TwinForecast, Observed]:
    rng = np.random.default_rng(seed)
    drawn = LAWS[name].sample(said(1.6, 0.7, 0.8), rng, 90 * 300)[:, 0, 0].reshape(90, 300, 1)
    return history_of(np.maximum(np.round(np.exp(drawn)), 1), np.isfinite(drawn), COUNTS)


@pytest.mark.parametrize(
    "name", ["hurdle-loglogistic", "hurdle-lognormal", "hurdle-student", "hurdle-negative-binomial"]
)
def test_the_family_that_made_history_is_chosen(name):
    chosen = choose([MetricSpec("m")], COUNTS, *counts_from(name), 200)
    found, table = chosen.families.names[0], chosen.held_out["m"]
    nb = {"hurdle-negative-binomial", "zero-inflated-negative-binomial"}  # equal at this rate
    assert found == name or {found, name} == nb
    assert table[found] >= max(table.values()) - 0.002
    assert "bernoulli" not in table


@pytest.mark.parametrize("name", BY_KIND["count"][:4])
def test_large_counts_are_as_likely_as_their_density_says(name):
    """A law that is smooth gives an interval its density times its width: twice as wide, half of it."""
    values = np.round(np.exp(np.linspace(16, 17, 200)))
    narrow, wide = (
        LAWS[name].log_likelihood(said(16.5, spread, 0.3, 200), *seen("count", values)).mean()
        for spread in (0.6, 1.2)
    )
    assert narrow - wide == pytest.approx(np.log(2), abs=0.2)


@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_large_counts_by_the_negative_binomial_agree_with_scipy(spread):
    values = np.array([400, 4_000, 40_000])
    given = said(9.0, spread, 1 - 1e-9, 3)
    mean, r = (each[0, 0] for each in negative_binomial.shape(given))
    counts = np.array([1, 4, 40])  # that a value stands for
    wanted = stats.nbinom(r, r / (r + mean)).logpmf(values) + np.log(counts)
    found = LAWS["hurdle-negative-binomial"].log_likelihood(given, *seen("count", values))[:, 0]
    assert np.maximum(found, LOG_TINY) == pytest.approx(np.maximum(wanted, LOG_TINY), abs=0.02)


def test_counts_by_the_million_are_held_to_vary_as_they_do():
    rng = np.random.default_rng(0)
    sizes, active = np.exp(rng.normal(16, 1.5, (60, 300, 1))), rng.random((60, 300, 1)) < 0.4
    chosen = choose([MetricSpec("m")], COUNTS, *history_of(np.round(sizes), active, COUNTS), 200)
    assert chosen.families == Families(("hurdle-lognormal",), (1.0,))


def test_a_spread_that_is_wrong_is_widened():
    forecast, seen = counts_from("hurdle-loglogistic")
    narrow = replace(forecast, spread=forecast.spread / np.float32(np.exp(0.8)))
    right, wide = (choose([MetricSpec("m")], COUNTS, f, seen, 200) for f in (forecast, narrow))
    ratio = wide.families.widths[0] / right.families.widths[0]
    assert right.families.names == wide.families.names
    assert ratio == pytest.approx(np.exp(0.8), rel=0.25)


def test_a_metric_of_ones_is_bernoulli_and_one_of_little_data_keeps_the_default():
    rng = np.random.default_rng(0)
    active = rng.random((60, 300, 1)) < 0.4
    given = history_of(np.ones(active.shape), active, COUNTS)
    assert choose([MetricSpec("m")], COUNTS, *given, 200).families.names == ("bernoulli",)
    given = history_of(np.ones((60, 300, 1)), rng.random((60, 300, 1)) < 1e-3, COUNTS)
    chosen = choose([MetricSpec("m")], COUNTS, *given, 200)
    assert chosen.families == Families(("hurdle-loglogistic",), (1.0,))
    assert chosen.held_out == {}


def test_the_settings_have_the_last_word():
    given = counts_from("hurdle-student")
    asked = MetricSpec("m", likelihood="hurdle-lognormal")
    assert choose([asked], COUNTS, *given, 200).families.names == ("hurdle-lognormal",)
    with pytest.raises(SettingsError, match=r"\[metric.m\] likelihood = 'bernoulli'.*Take one of"):
        choose([MetricSpec("m", likelihood="bernoulli")], COUNTS, *given, 200)
    amounts = Links(("log",), np.zeros(1, np.float32), np.ones(1, bool))
    with pytest.raises(SettingsError, match="history rule it out. Take one of: auto, hurdle-logl"):
        choose([MetricSpec("m", likelihood="hurdle-negative-binomial")], amounts, *given, 200)


def test_beta_for_a_count_is_refused_when_the_kind_is_known():
    rows = Rows.from_arrow(
        pa.table({
            "user_id": ["a", "b"], "metric": ["logons"] * 2, "value": [1.0, 2.0],
            "observed_at": pa.array([0, 3_600_000_000], pa.timestamp("us", "UTC")),
        })
    )  # fmt: skip
    message = (
        r"\[metric.logons\] likelihood = 'beta': logons is a count. Take one of: auto, hurdle-"
    )
    with pytest.raises(SettingsError, match=message):
        infer_specs(rows, 3_600, {"logons": MetricSettings(likelihood="beta")})
    share = MetricSettings(likelihood="beta", kind="share")
    assert infer_specs(rows, 3_600, {"logons": share})["logons"].likelihood == "beta"
