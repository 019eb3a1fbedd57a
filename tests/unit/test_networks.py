"""Keras trains, ONNX Runtime scores: the two must say the same."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from anomaly import features
from anomaly.exceptions import ModelError
from anomaly.likelihoods.forecast import Families
from anomaly.networks import training
from anomaly.networks.export import to_onnx
from anomaly.networks.runtime import Network
from anomaly.networks.spec import NetworkSpec
from anomaly.settings import ModelSettings

pytestmark = pytest.mark.slow  # it trains networks

METRICS = 2
CELLS = ("lstm", "gru", "rnn", "feedforward")


def spec_of(cell: str, layers: int = 1) -> NetworkSpec:
    return NetworkSpec(cell, layers, 6, features.input_size(METRICS), METRICS, 4)


def made_data(users: int = 12, steps: int = 160, seed: int = 0) -> training.TrainingData:
    rng = np.random.default_rng(seed)
    size = features.input_size(METRICS)
    active = rng.random((users, steps, METRICS)) < 0.6
    middle = rng.normal(size=active.shape).astype(np.float32)
    return training.TrainingData(
        rng.normal(size=(users, steps, size)).astype(np.float16),
        rng.normal(size=(users, steps, 2 * METRICS)).astype(np.float32),
        middle - 0.05, middle + 0.05, active, np.ones_like(active),
        np.zeros(active.shape, np.float32), np.zeros(active.shape, np.float32),
        np.ones(active.shape, np.float32), 120, Families.usual(["count"] * METRICS),
    )  # fmt: skip


def settings_of(**chosen) -> ModelSettings:
    return ModelSettings(**{"steps": 12, "batch": 8, "truncate_steps": 20, **chosen})


def randomised(model, seed: int = 1):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(0, 0.3, w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("layers", [1, 4])
def test_onnx_and_keras_agree(cell, layers):
    spec = spec_of(cell, layers)
    model = randomised(training.build(spec))
    network = Network(spec, to_onnx(model, spec))
    rng = np.random.default_rng(2)
    given = rng.normal(size=(7, 30, spec.features)).astype(np.float32)
    current = rng.normal(size=(7, 30, 2 * METRICS)).astype(np.float32)
    memory = rng.normal(size=(7, spec.state_arrays, spec.units)).astype(np.float32)
    said, after = network.read(given, current, memory)
    wanted, *states = training.call(model, [given, current, *memory.transpose(1, 0, 2)])
    assert np.abs(said[0].reshape(np.shape(wanted)) - np.asarray(wanted)).max() < 1e-5
    for i, state in enumerate(states):
        assert np.abs(after[:, i] - np.asarray(state)).max() < 1e-5


@pytest.mark.parametrize("cell", CELLS)
def test_memory_carries_over(cell):
    """Reading in two parts says what reading in one says."""
    spec = spec_of(cell)
    network = Network(spec, to_onnx(randomised(training.build(spec)), spec))
    rng = np.random.default_rng(3)
    given = rng.normal(size=(4, 20, spec.features)).astype(np.float32)
    current = rng.normal(size=(4, 20, 2 * METRICS)).astype(np.float32)
    once, end = network.read(given, current, network.empty_memory(4))
    first, between = network.read(given[:, :11], current[:, :11], network.empty_memory(4))
    second, after = network.read(given[:, 11:], current[:, 11:], between)
    assert np.allclose(np.concatenate([first, second], axis=2), once, atol=1e-6)
    assert np.allclose(after, end, atol=1e-6)


def test_a_metric_never_sees_itself_or_later_ones():
    spec = spec_of("lstm")
    trained = training.train(made_data(), spec, settings_of(steps=60), 0, lambda _: None)
    network = Network(spec, trained.onnx)
    rng = np.random.default_rng(4)
    given = rng.normal(size=(1, 5, spec.features)).astype(np.float32)
    current = rng.normal(size=(1, 5, 2 * METRICS)).astype(np.float32)
    other = current.copy()
    other[..., METRICS - 1 :: METRICS] += 3  # the last metric's size and activity
    (before,), _ = network.read(given, current, network.empty_memory(1))
    (after,), _ = network.read(given, other, network.empty_memory(1))
    assert np.array_equal(before, after)
    other[..., 0::METRICS] += 3  # the first metric's: the second, given it, may change
    (moved,), _ = network.read(given, other, network.empty_memory(1))
    assert np.array_equal(moved[:, :, 0], before[:, :, 0])
    assert np.array_equal(moved[:, :, 1, 0], before[:, :, 1, 0])
    assert not np.array_equal(moved[:, :, 1, 1], before[:, :, 1, 1])


def test_an_untrained_network_says_what_the_twin_says():
    spec = spec_of("lstm")
    network = Network(spec, to_onnx(training.build(spec), spec))
    given = np.random.default_rng(5).normal(size=(2, 3, spec.features)).astype(np.float32)
    said, _ = network.read(given, np.zeros((2, 3, 4), np.float32), network.empty_memory(2))
    assert not said.any()


def test_training_is_reproducible_and_learns():
    runs = [
        training.train(made_data(), spec_of("lstm"), settings_of(steps=60), 0, lambda _: None)
        for _ in (0, 1)
    ]
    assert runs[0] == runs[1]
    assert runs[0].validation_loss < runs[0].twin_loss


@pytest.mark.parametrize(("taken", "kept"), [(1, 1 / 11), (90, 0.9), (1000, 0.98)])
def test_the_mean_of_weights_follows_them_faster_at_first(taken, kept):
    import tensorflow as tf

    model, mean = training.build(spec_of("lstm")), training.build(spec_of("lstm"))
    for network, number in ((model, 2.0), (mean, 1.0)):
        for weight in network.trainable_variables:
            weight.assign(np.full(weight.shape, number))
    training.averaging(tf, mean, model)(np.float32(taken))
    for averaged in mean.trainable_variables:
        assert np.allclose(averaged, kept * 1.0 + (1 - kept) * 2.0)
    assert all(np.allclose(weight, 2.0) for weight in model.trainable_variables)


def test_a_loss_that_is_not_finite_keeps_the_last_good_weights():
    data = made_data()
    broken = data.inputs.copy()
    broken[:, :120] = np.inf
    bad = replace(data, inputs=broken)
    trained = training.train(bad, spec_of("lstm"), settings_of(), 0, lambda _: None)
    assert trained.stopped == "loss not finite, last good weights kept"
    said, _ = Network(spec_of("lstm"), trained.onnx).read(
        np.ones((1, 3, features.input_size(METRICS)), np.float32),
        np.zeros((1, 3, 2 * METRICS), np.float32),
        np.zeros((1, 2, 6), np.float32),
    )
    assert np.isfinite(said).all()


def test_a_damaged_network_is_refused():
    with pytest.raises(ModelError, match="Train again"):
        Network(spec_of("lstm"), b"no network")
