"""`[model] cell = "none"`: the twin speaks for itself, through the same stages as a network."""

import sys

import numpy as np
import pytest

from anomaly import engine
from anomaly.networks.spec import refuse_unserved
from anomaly.settings import ModelSettings
from tests.fixtures.behaviour import SPECS, UTC, score_after, small_settings

pytestmark = pytest.mark.slow  # it fits models


@pytest.fixture(scope="module")
def twin_model(history):
    return engine.fit(history, SPECS, UTC, small_settings(cell="none"), seed=3)


def test_its_forecast_is_the_twin_s(twin_model, history, month):
    reading = score_after(twin_model, history, month).reading
    for name in ("active_logit", "location", "spread"):
        assert np.array_equal(getattr(reading.forecast(), name), getattr(reading.twin(), name))


def test_a_network_beside_it_says_something_else_of_the_same_twin(
    twin_model, small_model, history, month
):
    alone, beside = (score_after(model, history, month) for model in (twin_model, small_model))
    assert np.array_equal(alone.reading.twin().location, beside.reading.twin().location)
    assert not np.array_equal(alone.scores, beside.scores)


def test_it_is_saved_as_other_models_are(twin_model, history, month):
    again = engine.Model.from_files(twin_model.to_files())
    assert again.version == twin_model.version
    before, after = (score_after(model, history, month) for model in (twin_model, again))
    assert before.flags == after.flags
    assert before.scores.tobytes() == after.scores.tobytes()


def test_it_has_a_threshold_and_a_calibration_of_its_own(twin_model, small_model):
    assert twin_model.level != small_model.level
    assert twin_model.calibration.records() != small_model.calibration.records()


def test_likelihoods_are_recorded_of_both(twin_model, small_model):
    alone, beside = twin_model.summary, small_model.summary
    assert alone.likelihood == alone.twin_likelihood == beside.twin_likelihood
    assert beside.likelihood != beside.twin_likelihood
    assert alone.validation_loss == -alone.likelihood


def test_a_reconstruction_has_no_held_out_likelihood(history):
    model = engine.fit(history, SPECS, UTC, small_settings(objective="reconstruct", steps=2), 3)
    assert model.summary.likelihood is None
    assert np.isfinite(model.summary.twin_likelihood)


def test_other_settings_of_the_network_do_not_matter_to_it(twin_model, history):
    asked = small_settings(
        cell="none", layers=2, units=32, mapping="one-to-one", objective="reconstruct"
    )
    refuse_unserved(ModelSettings(cell="none", bidirectional=True))
    assert engine.fit(history, SPECS, UTC, asked, seed=3).version == twin_model.version


def test_it_needs_no_training_framework(history, monkeypatch):
    monkeypatch.setitem(sys.modules, "keras", None)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    assert engine.fit(history, SPECS, UTC, small_settings(cell="none"), seed=3).onnx == b""
