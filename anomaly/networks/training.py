"""Training with Keras: the only module that imports TensorFlow.

Back-propagation through time is truncated (Williams & Peng 1990): a sequence is read in pieces of
`truncate_steps`, the memory is carried from piece to piece, gradients are not. Gradients are scaled
to `clip_norm` (Pascanu et al. 2013). Training is bounded by steps, so that it is reproducible, and
ends early when later history is no longer forecast better.
"""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly import features
from anomaly.networks.spec import STATES, NetworkSpec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from anomaly.features import Observed
    from anomaly.settings import ModelSettings
    from anomaly.twin import TwinForecast

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
THREADS = 2  # fixed: the order of sums, and so the last digit, depends on it
EVALUATE_EVERY = 20  # gradient steps between looks at later history
PIECES = 4  # pieces of truncate_steps in a training sequence
VALIDATION_USERS = 256
MIN_WIDTH = 1e-6


@dataclass(frozen=True, slots=True)
class TrainingData:
    """History ready for the network, (users, steps, ...) throughout.

    inputs: features; current: deviations of the same step; low, high: the observed interval in the
    twin's deviations; active, mask, hurdle_logit: see HurdleLogistic.
    train_steps: steps before it train, those after it validate.
    """

    inputs: NDArray[np.float16]
    current: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    active: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    active_logit: NDArray[np.float32]
    train_steps: int

    @classmethod
    def of(
        cls, inputs: NDArray[np.float16], current: NDArray[np.float32], seen: Observed,
        said: TwinForecast, train_steps: int,
    ) -> TrainingData:  # fmt: skip
        """Put the observed intervals into the twin's deviations."""
        return cls(
            inputs, current,
            ((seen.low - said.location) / said.spread).astype(np.float32),
            ((seen.high - said.location) / said.spread).astype(np.float32),
            seen.active, seen.mask, said.active_logit, train_steps,
        )  # fmt: skip

    def piece(
        self, rows: NDArray[np.int64], starts: NDArray[np.int64], length: int
    ) -> list[NDArray[Any]]:
        """Sequences of these users from these steps, as the loss wants them."""
        steps = starts[:, None] + np.arange(length)
        at = (rows[:, None], steps)
        arrays = (
            self.inputs,
            self.current,
            self.low,
            self.high,
            self.active,
            self.mask,
            self.active_logit,
        )
        return [array[at].astype(np.float32) for array in arrays]


@dataclass(frozen=True, slots=True)
class Trained:
    """onnx: the network for scoring; losses: mean negative log-likelihood per known value on later
    history, of the network and of the twin it corrects; steps: gradient steps taken; stopped: why.
    """

    onnx: bytes
    validation_loss: float
    twin_loss: float
    steps: int
    stopped: str


def build(spec: NetworkSpec) -> Any:
    """The Keras model: (inputs, current, memory...) -> (corrections, memory...).

    Corrections are (users, steps, 2, metrics, OUTPUTS): first each metric by itself, then each given
    those before it in the same step (a masked layer, Germain et al. 2015). Both start at zero: an
    untrained network says what the twin says.
    """
    import keras

    _fix_threads()
    given = keras.Input((None, spec.features), name="inputs")
    current = keras.Input((None, 2 * spec.metrics), name="current")
    memories = [keras.Input((spec.units,), name=f"memory_{i}") for i in range(spec.state_arrays)]
    hidden, after = given, []
    for layer in range(spec.layers):
        width = STATES[spec.cell]
        before = memories[layer * width : (layer + 1) * width]
        if spec.cell == "feedforward":
            hidden = keras.layers.Dense(spec.units, activation="tanh", name=f"cell_{layer}")(hidden)
            continue
        kind = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}[
            spec.cell
        ]
        cell = kind(spec.units, return_sequences=True, return_state=True, name=f"cell_{layer}")
        hidden, *states = cell(hidden, initial_state=before if width > 1 else before[0])
        after += states
    size = 2 * spec.metrics * features.OUTPUTS
    said = keras.layers.Dense(size, kernel_initializer="zeros", name="corrections")(hidden)
    earlier = keras.layers.Dense(
        size, use_bias=False, kernel_initializer="zeros", name="given_earlier",
        kernel_constraint=_only_earlier(spec.metrics),
    )(current)  # fmt: skip
    out = keras.layers.Add(name="sum")([said, earlier])
    return keras.Model([given, current, *memories], [out, *after], name="forecaster")


def call(model: Any, given: list[Any], *, training: bool = False) -> list[Any]:
    """Corrections and memories; Keras unpacks a list of one, this does not."""
    out = model(given, training=training)
    return list(out) if isinstance(out, list | tuple) else [out]


def _only_earlier(metrics: int) -> Any:
    """A constraint that lets a metric see only those before it, and only in the second half."""
    import keras

    allowed = np.zeros((2, metrics, 2, metrics, features.OUTPUTS), dtype=np.float32)
    for metric in range(metrics):
        allowed[:, :metric, 1, metric, :] = 1
    mask = keras.ops.convert_to_tensor(allowed.reshape(2 * metrics, -1))

    def constrain(kernel: Any) -> Any:
        return kernel * mask

    return constrain


def train(
    data: TrainingData,
    spec: NetworkSpec,
    settings: ModelSettings,
    seed: int,
    advance: Callable[[int], None],
) -> Trained:
    """Fit a network; the same data, settings and seed give the same network.

    A loss that is not finite ends training; the last good weights are kept and `stopped` says so.
    """
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(seed)
    model = build(spec)
    optimizer = keras.optimizers.Adam(settings.learning_rate, global_clipnorm=settings.clip_norm)
    step, evaluate = _functions(tf, model, optimizer, spec)
    validation = _validation(data, settings.truncate_steps)
    twin_loss = best = _mean_loss(evaluate, validation, spec)
    good, stale, taken, stopped = model.get_weights(), 0, 0, "steps"
    for batch in _batches(data, settings, seed):
        memory = [np.zeros((len(batch[0][0]), spec.units), np.float32)] * spec.state_arrays
        for piece in batch:
            loss, memory = step(piece, memory)
            taken += 1
            advance(1)
            if not np.isfinite(float(loss)):
                stopped = "loss not finite, last good weights kept"
            elif taken % EVALUATE_EVERY == 0 or taken == settings.steps:
                now = _mean_loss(evaluate, validation, spec)
                if now < best - 1e-5:
                    best, good, stale = now, model.get_weights(), 0
                else:
                    stale += 1
                    stopped = (
                        "no better on later history" if stale >= settings.patience else stopped
                    )
            if stopped != "steps" or taken >= settings.steps:
                break
        if stopped != "steps" or taken >= settings.steps:
            break
    advance(settings.steps - taken)
    model.set_weights(good)
    return Trained(_onnx(model, spec), float(best), float(twin_loss), taken, stopped)


def _fix_threads() -> None:
    """Threads can be set only before the first operation; a second training finds them set."""
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(THREADS)
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.experimental.enable_op_determinism()
    except RuntimeError:
        if tf.config.threading.get_intra_op_parallelism_threads() != THREADS:
            raise


def _functions(tf: Any, model: Any, optimizer: Any, spec: NetworkSpec) -> tuple[Any, Any]:
    """A gradient step and an evaluation, both (piece, memory) -> (loss, memory)."""

    def loss_of(piece: Any, memory: Any, training: bool) -> Any:
        out, *after = call(model, [piece[0], piece[1], *memory], training=training)
        return _loss(tf, out, piece, spec.metrics), after

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def step(piece: Any, memory: Any) -> Any:
        with tf.GradientTape() as tape:
            (total, known), after = loss_of(piece, memory, True)
            loss = total / tf.maximum(known, 1.0)
        gradients = tape.gradient(loss, model.trainable_variables)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        optimizer.apply(
            [tf.where(finite, g, tf.zeros_like(g)) for g in gradients], model.trainable_variables
        )
        return loss, after

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def evaluate(piece: Any, memory: Any) -> Any:
        return loss_of(piece, memory, False)

    return step, evaluate


def _loss(tf: Any, out: Any, piece: Any, metrics: int) -> Any:
    """Negative log-likelihood of HurdleLogistic, summed, and how many values it speaks of.

    Half of it is of each metric by itself, half of each given those before it.
    """
    _, _, low, high, active, mask, active_logit = piece
    shape = tf.shape(out)
    out = tf.reshape(out, (shape[0], shape[1], 2, metrics, features.OUTPUTS))
    out = tf.clip_by_value(out, -features.MAX_CORRECTION, features.MAX_CORRECTION)
    scale = tf.exp(
        tf.clip_by_value(out[..., 2], -features.MAX_WIDENING, features.MAX_WIDENING)
    ) * float(np.sqrt(3) / np.pi)
    a = (low[:, :, None] - out[..., 1]) / scale
    b = (high[:, :, None] - out[..., 1]) / scale
    width = tf.maximum(b - a, MIN_WIDTH)
    size = tf.math.log_sigmoid(b) + tf.math.log_sigmoid(-a) + tf.math.log(-tf.math.expm1(-width))
    logit = active_logit[:, :, None] + out[..., 0]
    happened = active[:, :, None]
    likelihood = happened * (tf.math.log_sigmoid(logit) + tf.where(happened > 0, size, 0.0))
    likelihood += (1 - happened) * tf.math.log_sigmoid(-logit)
    return -tf.reduce_sum(likelihood * mask[:, :, None]) / 2, tf.reduce_sum(mask)


def _batches(
    data: TrainingData, settings: ModelSettings, seed: int
) -> Iterator[list[list[NDArray[Any]]]]:
    """Batches of sequences from random users and starts, each cut into pieces."""
    generator = np.random.default_rng(seed)
    users = len(data.mask)
    length = min(settings.truncate_steps, data.train_steps)
    pieces = min(PIECES, data.train_steps // length)
    weight = data.mask[:, : data.train_steps].any(2).sum(1).astype(float)
    weight = weight / weight.sum()
    while True:
        rows = generator.choice(users, settings.batch, p=weight)
        starts = generator.integers(0, data.train_steps - pieces * length + 1, settings.batch)
        yield [data.piece(rows, starts + i * length, length) for i in range(pieces)]


def _validation(
    data: TrainingData, warm_up: int
) -> list[tuple[list[NDArray[Any]], list[NDArray[Any]]]]:
    """Later history, a group of users at a time: a warm-up piece and the piece that counts."""
    users, steps = data.mask.shape[:2]
    rows = np.unique(np.linspace(0, users - 1, min(users, VALIDATION_USERS)).astype(np.int64))
    lead = min(warm_up, data.train_steps)
    length = min(steps - data.train_steps, max(4 * warm_up, 200_000 // len(rows)))
    parts = []
    for group in np.array_split(rows, max(1, len(rows) // 64)):
        first = np.full(len(group), data.train_steps, dtype=np.int64)
        parts.append((data.piece(group, first - lead, lead), data.piece(group, first, length)))
    return parts


def _mean_loss(evaluate: Any, validation: Any, spec: NetworkSpec) -> float:
    total = known = 0.0
    for lead, part in validation:
        memory = [np.zeros((len(lead[0]), spec.units), np.float32)] * spec.state_arrays
        _, memory = evaluate(lead, memory)
        (loss, count), _ = evaluate(part, memory)
        total, known = total + float(loss), known + float(count)
    return total / max(known, 1.0)


def _onnx(model: Any, spec: NetworkSpec) -> bytes:
    """The network as ONNX; LSTM becomes one fused operator there."""
    example = [
        np.zeros((1, 2, spec.features), np.float32),
        np.zeros((1, 2, 2 * spec.metrics), np.float32),
        *[np.zeros((1, spec.units), np.float32)] * spec.state_arrays,
    ]
    model(example)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        model.export(path, format="onnx", verbose=False)
        return _renamed(path.read_bytes())


def _renamed(exported: bytes) -> bytes:
    """Inner names numbered in order: the exporter counts them up over a process's life, and the same
    network must give the same bytes whenever it was trained.
    """
    import onnx

    model = onnx.load_from_string(exported)
    graph = model.graph
    kept = {value.name for value in (*graph.input, *graph.output)}
    names: dict[str, str] = {"": ""}

    def name_of(old: str) -> str:
        return old if old in kept else names.setdefault(old, f"v{len(names)}")

    _rename(graph, name_of)
    for number, output in enumerate(graph.output):
        _rename_value(graph, output.name, f"said_{number}")
        output.name = f"said_{number}"
    graph.name, graph.doc_string = "forecaster", ""
    model.producer_version = model.doc_string = ""
    return bytes(model.SerializeToString(deterministic=True))


def _rename(graph: Any, name_of: Callable[[str], str]) -> None:
    """Rename tensors and nodes, those of loop bodies too."""
    for number, node in enumerate(graph.node):
        node.name, node.doc_string = f"n{number}", ""
        node.input[:] = [name_of(name) for name in node.input]
        for attribute in node.attribute:
            if attribute.HasField("g"):
                _rename(attribute.g, name_of)
                for value in (*attribute.g.input, *attribute.g.output):
                    value.name = name_of(value.name)
        node.output[:] = [name_of(name) for name in node.output]
    for tensor in graph.initializer:
        tensor.name, tensor.doc_string = name_of(tensor.name), ""
    ordered = sorted(graph.initializer, key=lambda tensor: int(tensor.name[1:]))
    del graph.value_info[:], graph.initializer[:]
    graph.initializer.extend(ordered)
    for value in (*graph.input, *graph.output):
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_param = name_of(dimension.dim_param)


def _rename_value(graph: Any, old: str, new: str) -> None:
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]
