"""What a network is trained on says what its forecast will say."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly import features
from anomaly.likelihoods.forecast import LAWS, Families
from anomaly.likelihoods.links import Links
from anomaly.likelihoods.names import BY_KIND
from anomaly.networks import training
from anomaly.networks.loss import negative_log_likelihood
from anomaly.networks.training import TrainingData
from anomaly.twin import TwinForecast

pytestmark = pytest.mark.slow  # it trains networks

KIND_OF = {name: kind for kind, names in BY_KIND.items() for name in names}
SHAPE = (3, 40, 2)


def tensorflow():
    """Threads can be set only before the first operation: a later test that trains needs them set."""
    tf = pytest.importorskip("tensorflow")
    training._fix_threads()
    return tf


def drawn(kind: str, rng: np.random.Generator, size: float = 0) -> tuple[Links, np.ndarray]:
    """Values of a kind, those at its edges among them; counts e^size times as large."""
    if kind == "count":
        values = np.round(rng.lognormal(1 + size, 1.2, SHAPE)) * (rng.random(SHAPE) < 0.7)
        return Links(("log", "log"), np.ones(2, np.float32), np.ones(2, bool)), values
    if kind == "share":
        values = np.clip(rng.normal(0.5, 0.25, SHAPE), 0.002, 0.998)
        return Links(("logit", "logit"), np.full(2, 0.01, np.float32), np.zeros(2, bool)), values
    ticks = np.array([1e-3, 0.5], np.float32)
    return Links(("identity", "identity"), ticks, np.zeros(2, bool)), rng.normal(0, 3, SHAPE)


def forecast_of(
    names: tuple[str, ...], links: Links, rng: np.random.Generator, size: float = 0
) -> TwinForecast:
    return TwinForecast(
        np.where(links.hurdle, rng.normal(1, 1, SHAPE), 80).astype(np.float32),
        rng.normal(1.4 + size, 0.3, SHAPE).astype(np.float32),
        rng.uniform(0.4, 1.2, SHAPE).astype(np.float32),
        Families(names, (0.8, 1.2)),
    )


LARGE = [(name, name) for name in BY_KIND["count"] if name != "bernoulli"]


@pytest.mark.parametrize(
    ("names", "size"),
    [
        *(((name, name), 0) for name in LAWS),
        (("hurdle-student", "bernoulli"), 0),
        *((names, 14) for names in LARGE),
    ],
)
def test_the_loss_is_the_forecasts_likelihood(names, size):
    tf = tensorflow()
    rng = np.random.default_rng(0)
    links, values = drawn(KIND_OF[names[0]], rng, size)
    values, mask = values.astype(np.float32), rng.random(SHAPE) < 0.9
    active, said = links.active(values, mask), forecast_of(names, links, rng, size)
    low, high = links.censored(*links.bounds(values))
    seen = features.Observed(active, low, high, mask)
    data = TrainingData.of(
        np.zeros((*SHAPE[:2], 1), np.float16),
        np.zeros((*SHAPE[:2], 4), np.float32),
        seen,
        said,
        20,
        (),
    )
    piece = [tf.constant(a) for a in data.piece(np.arange(3), np.zeros(3, np.int64), SHAPE[1])]
    out = tf.Variable(rng.normal(0, 0.5, (*SHAPE[:2], 2 * 2 * features.OUTPUTS)).astype(np.float32))
    with tf.GradientTape() as tape:
        loss, known = negative_log_likelihood(tf, out, piece, said.families)
    slope = tape.gradient(loss, out).numpy()
    heads = out.numpy().reshape(*SHAPE[:2], 2, 2, features.OUTPUTS)
    wanted = [
        features.corrected(said, heads[:, :, head]).log_likelihood(active, low, high)[mask]
        for head in (0, 1)
    ]
    assert int(known) == mask.sum()
    assert float(loss) / mask.sum() == pytest.approx(-np.mean(wanted), abs=2e-3 if size else 1e-4)
    assert np.isfinite(slope).all()

    def loss_at(step: float) -> float:
        moved = tf.constant((out.numpy() + step * slope / np.abs(slope).max()).astype(np.float32))
        return float(negative_log_likelihood(tf, moved, piece, said.families)[0])

    wanted_rise = np.square(slope, dtype=float).sum() / np.abs(slope).max()
    assert (loss_at(0.02) - loss_at(-0.02)) / 0.04 == pytest.approx(wanted_rise, rel=0.02)


@pytest.mark.parametrize(
    "name", ["gaussian", "student", "hurdle-lognormal", "beta", "hurdle-loglogistic"]
)
def test_a_wild_value_leaves_loss_and_gradient_finite(name):
    tf = tensorflow()
    links, _ = drawn(KIND_OF[name], np.random.default_rng(0))
    values = np.zeros(SHAPE, np.float32)
    values[0, 0], values[0, 1], values[0, 2] = 1e6, -1e6 if name in BY_KIND["gauge"] else 1e6, 1
    low, high = links.censored(*links.bounds(values))
    active = links.active(values, np.ones(SHAPE, bool))
    said = forecast_of((name, name), links, np.random.default_rng(1))
    data = TrainingData.of(
        np.zeros((*SHAPE[:2], 1), np.float16), np.zeros((*SHAPE[:2], 4), np.float32),
        features.Observed(active, low, high, np.ones(SHAPE, bool)), said, 20, (),
    )  # fmt: skip
    piece = [tf.constant(a) for a in data.piece(np.arange(3), np.zeros(3, np.int64), SHAPE[1])]
    out = tf.Variable(np.zeros((*SHAPE[:2], 12), np.float32))
    with tf.GradientTape() as tape:
        loss, _ = negative_log_likelihood(tf, out, piece, said.families)
    assert np.isfinite(float(loss))
    assert np.isfinite(tape.gradient(loss, out).numpy()).all()
