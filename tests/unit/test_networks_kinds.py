"""Every kind of network learns, is exported and scored, and reads only what it says it reads."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest

from anomaly import engine, features
from anomaly.exceptions import DataError, ModelError, SettingsError
from anomaly.likelihoods.forecast import Families
from anomaly.networks import training
from anomaly.networks.runtime import Network
from anomaly.networks.spec import NetworkSpec, refuse_unserved
from anomaly.panel import Grid
from anomaly.reading import free_run, read_with
from anomaly.settings import ModelSettings
from tests.fixtures.behaviour import SPECS, UTC, hourly_panel, small_settings

pytestmark = pytest.mark.slow  # it trains networks

METRICS, DAY = 2, 6
CELLS = ("lstm", "gru", "rnn", "feedforward")
OBJECTIVES = ("forecast", "reconstruct", "both")
MAPPINGS = ("many-to-many", "many-to-one", "one-to-many", "one-to-one")
KINDS = [
    *((cell, objective, mapping, False) for cell, objective, mapping in product(CELLS, OBJECTIVES, MAPPINGS)),
    *((cell, objective, "many-to-many", True) for cell in CELLS for objective in OBJECTIVES[1:]),
]  # fmt: skip
EVERY_TIME = [  # each cell, objective and mapping; the whole product takes minutes
    ("lstm", "forecast", "many-to-one", False),
    ("rnn", "forecast", "one-to-many", False),
    ("lstm", "reconstruct", "one-to-many", False),
    ("feedforward", "both", "one-to-one", False),
    ("gru", "both", "many-to-many", True),
]


def spec_of(cell: str, objective: str, mapping: str, bidirectional: bool, layers=1) -> NetworkSpec:
    size = features.input_size(METRICS)
    return NetworkSpec(cell, layers, 5, size, METRICS, 4, objective, mapping, bidirectional)


def shifted_data(users: int = 8, days: int = 12) -> training.TrainingData:
    """Behaviour that lies above what the twin expects: something to learn at once."""
    rng = np.random.default_rng(0)
    shape = (users, days * DAY, METRICS)
    middle = rng.normal(1.5, 0.5, size=shape).astype(np.float32)
    return training.TrainingData(
        rng.normal(size=(*shape[:2], features.input_size(METRICS))).astype(np.float16),
        rng.normal(size=(*shape[:2], 2 * METRICS)).astype(np.float32),
        middle - 0.05, middle + 0.05, np.ones(shape, bool), np.ones(shape, bool),
        np.zeros(shape, np.float32), np.zeros(shape, np.float32), np.ones(shape, np.float32),
        8 * DAY, Families.usual(["gauge"] * METRICS),
        tuple((first, first + DAY) for first in range(0, days * DAY, DAY)),
    )  # fmt: skip


def train(spec: NetworkSpec, **chosen) -> training.Trained:
    settings = {"steps": 6, "batch": 8, "truncate_steps": 12, "learning_rate": 0.05, **chosen}
    return training.train(shifted_data(), spec, ModelSettings(**settings), 0, lambda _: None)


def day_of(spec: NetworkSpec, seed: int = 1):
    """A made day of six users: inputs, current, memory."""
    rng = np.random.default_rng(seed)
    return (
        rng.normal(size=(6, DAY, spec.features)).astype(np.float32),
        rng.normal(size=(6, DAY, 2 * METRICS)).astype(np.float32),
        rng.normal(size=(6, spec.state_arrays, spec.units)).astype(np.float32),
    )


def learnt_and_scored_alike(kind: tuple, monkeypatch, layers: int) -> None:
    kept = []
    export = training.to_onnx
    monkeypatch.setattr(
        training, "to_onnx", lambda model, spec: kept.append(model) or export(model, spec)
    )
    spec = spec_of(*kind, layers=layers)
    trained = train(spec)
    assert trained.validation_loss < trained.twin_loss
    network = Network(spec, trained.onnx)
    given, current, memory = day_of(spec)
    said, after = network.read(given, current, memory)
    told = training.call(kept[0], [given, current, *memory.transpose(1, 0, 2)])
    heads = len(spec.heads)
    for head in range(heads):
        assert said[head].any()
        assert np.abs(said[head].reshape(told[head].shape) - np.asarray(told[head])).max() < 1e-5
    for place, state in enumerate(told[heads:]):
        assert np.abs(after[:, place] - np.asarray(state)).max() < 1e-5


@pytest.mark.parametrize("kind", EVERY_TIME, ids=str)
def test_what_keras_learnt_onnx_says(kind, monkeypatch):
    learnt_and_scored_alike(kind, monkeypatch, layers=1)


@pytest.mark.long
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_what_keras_learnt_onnx_says_in_every_combination(kind, monkeypatch):
    learnt_and_scored_alike(kind, monkeypatch, layers=2)


BEFORE, ITSELF, AFTER = (
    np.tril(np.ones((DAY, DAY)), -1),
    np.eye(DAY),
    np.triu(np.ones((DAY, DAY)), 1),
)
LAST = np.eye(DAY, k=-1)
NOTHING, ALL = np.zeros((DAY, DAY)), np.ones((DAY, DAY))
READS = {  # (step said, step read)
    ("lstm", "forecast", "many-to-many", False): [BEFORE],
    ("feedforward", "forecast", "many-to-many", False): [LAST],
    ("gru", "forecast", "many-to-one", False): [NOTHING],
    ("lstm", "forecast", "one-to-many", False): [NOTHING],
    ("lstm", "forecast", "one-to-one", False): [LAST],
    ("lstm", "reconstruct", "many-to-many", False): [BEFORE + ITSELF],
    ("lstm", "reconstruct", "many-to-many", True): [BEFORE + AFTER],
    ("rnn", "reconstruct", "many-to-one", False): [ALL],
    ("feedforward", "reconstruct", "many-to-one", False): [ALL],
    ("gru", "reconstruct", "one-to-many", False): [ALL],
    ("lstm", "reconstruct", "one-to-one", False): [LAST + ITSELF],
    ("rnn", "both", "many-to-many", True): [BEFORE, BEFORE + AFTER],
    ("gru", "both", "one-to-many", False): [NOTHING, ALL],
}  # fmt: skip


def test_each_metric_is_told_of_those_before_it_and_of_no_other():
    metrics, rng = 4, np.random.default_rng(0)
    size = features.input_size(metrics)
    spec = NetworkSpec("lstm", 1, 5, size, metrics, 4)
    layer = training.build(spec).get_layer("forecast").given_earlier
    current, context = (
        rng.normal(size=(1, 3, 2 * metrics)),
        rng.normal(size=(1, 3, size - 2 * metrics)),
    )
    assert not np.asarray(layer([current, context])).any()  # at first it says nothing
    for weight in layer.weights:
        weight.assign(rng.normal(size=weight.shape))

    def said(now):
        word = np.asarray(layer([now, context]))
        return word.reshape(3, 2, metrics, features.OUTPUTS)

    for changed, of in product(range(metrics), ("size", "activity")):
        other = current.copy()
        other[..., changed + metrics * (of == "activity")] += 1
        moved = np.abs(said(other) - said(current)).max(axis=(0, 3)) > 1e-6
        assert moved.tolist() == [[False] * metrics, [m > changed for m in range(metrics)]]
    doubled = said(2 * current) - said(0 * current)
    assert np.abs(doubled - 2 * (said(current) - said(0 * current))).max() > 0.1  # no mere sum


@pytest.mark.parametrize("kind", READS, ids=str)
def test_a_step_is_said_from_what_the_kind_may_read(kind):
    """One step of the day is changed at a time; the words on which steps move?"""
    reads, spec = READS[kind], spec_of(*kind, layers=2)
    model = training.build(spec)
    rng = np.random.default_rng(3)
    for weight in model.weights:
        if "given_earlier" not in weight.path:  # the step itself, but for a metric's own part
            weight.assign(rng.normal(0, 0.6, weight.shape))
    given, current, memory = (array[:1] for array in day_of(spec))

    def said(now):
        lagged = np.concatenate([given[:, :1, : 2 * METRICS], now[:, :-1]], axis=1)
        shown = np.concatenate([lagged, given[..., 2 * METRICS :]], axis=-1)
        told = training.call(model, [shown, now, *memory.transpose(1, 0, 2)])
        shape = (DAY, 2, METRICS, features.OUTPUTS)
        return [np.asarray(word).reshape(shape)[:, 0] for word in told[: len(reads)]]

    usual = said(current)
    found = [np.zeros((DAY, DAY)) for _ in reads]
    for step in range(DAY):
        changed = current.copy()
        changed[:, step] += 1
        for head, word in enumerate(said(changed)):
            found[head][:, step] = np.abs(word - usual[head]).max(axis=(1, 2)) > 1e-7
    for head, wanted in enumerate(reads):
        assert np.array_equal(found[head], wanted), found[head]


@pytest.mark.parametrize("cell", ["lstm", "gru", "rnn"])
@pytest.mark.parametrize("mapping", ["many-to-many", "one-to-many"])
def test_gradients_flow_back_so_many_steps_and_no_further(cell, mapping):
    import tensorflow as tf

    spec = spec_of(cell, "forecast", mapping, bidirectional=False)
    model = training.build(spec, truncate_steps=4)
    rng = np.random.default_rng(4)
    model.set_weights([rng.normal(0, 0.6, w.shape) for w in model.get_weights()])
    given = tf.constant(rng.normal(size=(1, 12, spec.features)), tf.float32)
    memory = [tf.zeros((1, spec.units))] * spec.state_arrays
    with tf.GradientTape() as tape:
        tape.watch(given)
        out = training.call(model, [given, tf.zeros((1, 12, 2 * METRICS)), *memory])[0]
        last = tf.reduce_sum(out[:, 10])
    reach = np.abs(tape.gradient(last, given)).max(axis=(0, 2))
    assert (reach[8:11] > 0).all()
    assert not reach[:8].any()
    assert not reach[11:].any()


@pytest.mark.parametrize(
    "kind",
    [
        ("rnn", "forecast", "one-to-many", False),
        ("feedforward", "both", "many-to-many", True),
    ],
    ids=str,
)
def test_gradients_are_scaled_to_the_norm(kind):
    """Gradients of next to no length move nothing; Adam does not make up for it."""
    held = train(spec_of(*kind), clip_norm=1e-14)
    assert held.twin_loss - held.validation_loss < 1e-3
    assert train(spec_of(*kind)).validation_loss < held.validation_loss - 0.05


def test_days_on_which_the_clock_changes_are_not_learnt_from():
    data = shifted_data(days=12)
    shorter = ((0, DAY), (DAY, 2 * DAY - 1), *((f - 1, f + DAY - 1) for f in range(12, 72, DAY)))
    spec = spec_of("lstm", "forecast", "one-to-many", bidirectional=False)
    cut = training.Cut.of(replace(data, days=shorter), spec, 2 * DAY)
    assert (cut.spell, cut.piece, cut.pieces) == (DAY, 2 * DAY, 3)
    assert cut.starts.tolist() == [11]
    assert cut.later == (53, 3 * DAY)
    daily = training.Cut.of(replace(data, days=shorter), spec, 1)
    assert daily.piece == DAY  # the least that it can be given


def test_a_history_without_whole_days_is_refused_where_they_are_needed():
    data = replace(shifted_data(days=12), days=((0, 40), (40, 72)))
    spec = spec_of("lstm", "reconstruct", "many-to-many", bidirectional=True)
    with pytest.raises(DataError, match="set mapping = 'many-to-many' and bidirectional = false"):
        training.Cut.of(data, spec, 12)


LIVED = [
    {"cell": "lstm", "mapping": "one-to-many"},
    {"cell": "gru", "objective": "both", "bidirectional": True},
    {"cell": "rnn", "objective": "reconstruct", "mapping": "many-to-one"},
]


@pytest.fixture(scope="module", params=LIVED, ids=str)
def lived(request):
    """A model of some kind, and history over the end of a month."""
    panel = hourly_panel(9, "2026-01-10", "2026-02-20")
    return engine.fit(panel, SPECS, UTC, small_settings(steps=4, **request.param), seed=1), panel


def test_history_may_be_read_in_parts_by_anybody(lived):
    """Day by day or at once, in whatever order and company: the same bytes."""
    model, panel = lived
    once, end = read_with(model, panel, engine.States.empty(model, panel.users), UTC)
    rows = np.array([7, 2, 5, 0, 8])
    states, odds = engine.States.empty(model, panel.take(rows).users), []
    for first, last in ((0, 240), (240, 264), (264, len(panel.grid))):
        part, states = read_with(model, panel.take(rows).between(first, last), states, UTC)
        odds.append(part.marginal())
    assert np.concatenate(odds, axis=1).tobytes() == once.marginal()[rows].tobytes()
    assert states.memory.tobytes() == end.memory[rows].tobytes()
    assert np.isfinite(once.marginal()).all()


def coming(panel, days: int) -> Grid:
    return Grid(panel.grid.end + 3_600 * np.arange(24 * days, dtype=np.int64), 3_600)


def test_a_free_run_says_the_coming_day_as_scoring_will(lived):
    model, panel = lived
    _, states = read_with(model, panel, engine.States.empty(model, panel.users), UTC)
    if model.network_spec.objective == "reconstruct":
        with pytest.raises(ModelError, match="cannot run freely"):
            free_run(model, states, coming(panel, 1), UTC)
        return
    said = free_run(model, states, coming(panel, 3), UTC)
    assert said.location.shape == (9, 72, 2)
    assert np.isfinite(said.location).all()
    later = hourly_panel(9, "2026-02-20", "2026-02-21", seed=5)
    scored, _ = read_with(model, later, states, UTC)
    same = np.abs(said.location[:, :24] - scored.forecast().location) < 1e-5
    assert same[:, 0].all()
    assert same.all() == (model.network_spec.mapping == "one-to-many")


def test_on_a_grid_of_days_a_day_is_a_step():
    settings = ModelSettings(mapping="one-to-many")
    assert NetworkSpec.of(settings, 2, 86_400, 4).mapping == "many-to-many"
    assert NetworkSpec.of(settings, 2, 3_600, 4).by_day
    both_ways = ModelSettings(objective="reconstruct", bidirectional=True)
    assert NetworkSpec.of(both_ways, 2, 86_400, 4).objective == "forecast"
    assert NetworkSpec.of(both_ways, 2, 3_600, 4).heads == ("reconstruct",)


@pytest.mark.parametrize(
    ("chosen", "reason"),
    [
        ({"bidirectional": True, "objective": "forecast"}, "has seen its answer"),
        ({"bidirectional": True, "objective": "both", "mapping": "one-to-one"}, "that step alone"),
        ({"bidirectional": True, "objective": "reconstruct", "mapping": "many-to-one"}, "not there yet"),
        ({"bidirectional": True, "objective": "both", "mapping": "one-to-many"}, "its own words"),
        ({"mapping": "one-to-many", "horizon": "24h"}, "one step at a time"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_with_the_reason(chosen, reason):
    with pytest.raises(SettingsError, match=reason):
        refuse_unserved(ModelSettings(**chosen))
