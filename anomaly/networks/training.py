"""Training with Keras: this module and `layers` alone import TensorFlow.

Back-propagation through time is truncated (Williams & Peng 1990): a sequence is read in pieces of
`truncate_steps`, the memory is carried from piece to piece, gradients are not. A network that is
given whole days (`NetworkSpec.by_day`) is trained on pieces of whole days; where a day is longer
than `truncate_steps`, gradients are cut within it. Gradients are scaled to `clip_norm` (Pascanu et
al. 2013). What is kept is the mean of the weights over the last steps (Polyak & Juditsky 1992): it lies
nearer to the optimum than any of them, without a rate that falls and so must know when training ends.
Training is bounded by steps, so that it is reproducible, and ends early when later history is no longer
forecast better.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomaly.exceptions import DataError
from anomaly.networks.export import to_onnx
from anomaly.networks.loss import negative_log_likelihood
from anomaly.panel import evenly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from anomaly.features import Observed
    from anomaly.likelihoods.forecast import Families
    from anomaly.networks.spec import NetworkSpec
    from anomaly.settings import ModelSettings
    from anomaly.twin import TwinForecast

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
THREADS = 2  # fixed: the order of sums, and so the last digit, depends on it
EVALUATE_EVERY = 40  # gradient steps between looks at later history
REMEMBERED = 0.98  # of the mean of weights at each gradient step: it is over some 50 steps
PIECES = 4  # pieces of truncate_steps in a training sequence
VALIDATION_USERS = 256
OPEN = np.float32(1e4)  # deviations: nothing lies beyond


@dataclass(frozen=True, slots=True)
class TrainingData:
    """History ready for the network, (users, steps, ...) throughout.

    inputs: features; current: deviations of the same step; low, high: the observed interval in the
    twin's deviations, infinite ones cut to OPEN; location, spread: the twin's, on the linked scale.
    train_steps: steps before it train, those after it validate. families: see `loss`. days: local days as (first, last)
    step, last exclusive; needed by networks that are given whole days.
    """

    inputs: NDArray[np.float16]
    current: NDArray[np.float32]
    low: NDArray[np.float32]
    high: NDArray[np.float32]
    active: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    active_logit: NDArray[np.float32]
    location: NDArray[np.float32]
    spread: NDArray[np.float32]
    train_steps: int
    families: Families
    days: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(
        cls, inputs: NDArray[np.float16], current: NDArray[np.float32], seen: Observed,
        said: TwinForecast, train_steps: int, days: Sequence[tuple[int, int]],
    ) -> TrainingData:  # fmt: skip
        """Put the observed intervals into the twin's deviations."""
        return cls(
            inputs, current,
            np.clip((seen.low - said.location) / said.spread, -OPEN, OPEN),
            np.clip((seen.high - said.location) / said.spread, -OPEN, OPEN),
            seen.active, seen.mask, said.active_logit, said.location, said.spread, train_steps,
            said.families, tuple(days),
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
            self.location,
            self.spread,
        )
        return [array[at].astype(np.float32) for array in arrays]


@dataclass(frozen=True, slots=True)
class Trained:
    """onnx: the network for scoring; losses: mean negative log-likelihood per known value on later
    history, of the network and of the twin it corrects, None where no network was trained; steps:
    gradient steps taken; stopped: why.
    """

    onnx: bytes
    validation_loss: float | None
    twin_loss: float | None
    steps: int
    stopped: str


@dataclass(frozen=True, slots=True)
class Cut:
    """How history is cut into what the network is trained on, in steps.

    spell: what the network is given at once, None: a whole piece. piece: what gradients flow back
    through; pieces: in a training sequence. starts: where training sequences may begin. lead, later:
    (first, length) of what is read before validation, and of validation.
    """

    spell: int | None
    piece: int
    pieces: int
    starts: NDArray[np.int64]
    lead: tuple[int, int]
    later: tuple[int, int]

    @classmethod
    def of(cls, data: TrainingData, spec: NetworkSpec, truncate_steps: int) -> Cut:
        """Cut anywhere, or between days.

        Raises: DataError if the network needs whole days and history has none on either side.
        """
        users, steps = data.mask.shape[:2]
        wanted = max(4 * truncate_steps, 200_000 // min(users, VALIDATION_USERS))
        if not spec.by_day:
            piece = min(truncate_steps, data.train_steps)
            pieces = min(PIECES, data.train_steps // piece)
            starts = np.arange(data.train_steps - pieces * piece + 1)
            later = (data.train_steps, min(steps - data.train_steps, wanted))
            return cls(None, piece, pieces, starts, (data.train_steps - piece, piece), later)
        day = _usual_day(data.days)
        before = _runs(data.days, day, 0, data.train_steps)
        after = _runs(data.days, day, data.train_steps, steps)
        if not (before and after):
            raise DataError(
                f"history: {len(data.days)} days, of which {len(before)} whole ones to learn from and "
                f"{len(after)} to validate on; mapping = {spec.mapping!r} with bidirectional = "
                f"{str(spec.bidirectional).lower()} needs both. Import earlier data, or set mapping = "
                "'many-to-many' and bidirectional = false."
            )
        longest = max(before.values())
        per = min(max(1, truncate_steps // day), longest)
        pieces = min(PIECES, longest // per)
        fitting = [first for first, run in before.items() if run >= pieces * per]
        lead = max(first for first, run in before.items() if run >= per)
        first = max(after, key=lambda start: after[start])
        length = min(after[first], max(1, wanted // day)) * day
        return cls(day, per * day, pieces, np.array(fitting), (lead, per * day), (first, length))


def _usual_day(days: Sequence[tuple[int, int]]) -> int:
    """The commonest length of a day: days on which the clock changes are not learnt from."""
    lengths, counts = np.unique([last - first for first, last in days], return_counts=True)
    return int(lengths[counts.argmax()])


def _runs(days: Sequence[tuple[int, int]], usual: int, first: int, last: int) -> dict[int, int]:
    """Where usual days within [first, last) begin, and how many follow each other from there."""
    found: dict[int, int] = {}
    for start, end in reversed(days):
        if end - start == usual and first <= start and end <= last:
            found[start] = 1 + found.get(end, 0)
    return found


def build(spec: NetworkSpec, truncate_steps: int | None = None) -> Any:
    """The Keras model of `anomaly.networks.layers.build`, with the threads that training takes."""
    _fix_threads()
    from anomaly.networks import layers

    return layers.build(spec, truncate_steps)


def call(model: Any, given: list[Any], *, training: bool = False) -> list[Any]:
    """Words and memories; Keras unpacks a list of one, this does not."""
    out = model(given, training=training)
    return list(out) if isinstance(out, list | tuple) else [out]


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
    model, mean = (build(spec, settings.truncate_steps) for _ in range(2))
    optimizer = keras.optimizers.Adam(settings.learning_rate, global_clipnorm=settings.clip_norm)
    cut = Cut.of(data, spec, settings.truncate_steps)
    step = gradient_step(tf, model, optimizer, spec, data.families, cut.spell)
    follow = averaging(tf, mean, model)
    evaluate = _evaluation(tf, mean, spec, data.families, cut.spell)
    validation = _validation(data, cut)
    twin_loss = best = _mean_loss(evaluate, validation, spec)
    good, stale, taken, stopped = mean.get_weights(), 0, 0, "steps"
    for batch in _batches(data, cut, settings.batch, seed):
        memory = [np.zeros((len(batch[0][0]), spec.units), np.float32)] * spec.state_arrays
        for piece in batch:
            loss, memory, _ = step(piece, memory)
            taken += 1
            follow(np.float32(taken))
            advance(1)
            if not np.isfinite(float(loss)):
                stopped = "loss not finite, last good weights kept"
            elif taken % EVALUATE_EVERY == 0 or taken == settings.steps:
                now = _mean_loss(evaluate, validation, spec)
                if now < best - 1e-5:
                    best, good, stale = now, mean.get_weights(), 0
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
    mean.set_weights(good)
    return Trained(to_onnx(mean, spec), float(best), float(twin_loss), taken, stopped)


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


def loss_over(
    tf: Any, model: Any, spec: NetworkSpec, families: Families, spell: int | None
) -> Callable[[Any, Any, bool], tuple[Any, Any, Any]]:
    """(piece, memory, training) -> the sum of losses, known values, memory.

    spell: steps that the network is given at once; None: the whole piece.
    """

    def loss_of(piece: Any, memory: Any, training: bool) -> Any:
        out = call(model, [piece[0], piece[1], *memory], training=training)
        words, after = out[: len(spec.heads)], out[len(spec.heads) :]
        losses = [negative_log_likelihood(tf, word, piece, families) for word in words]
        return tf.add_n([total for total, _ in losses]) / len(losses), losses[0][1], after

    def spell_by_spell(piece: Any, memory: Any, training: bool) -> Any:
        if spell is None or piece[0].shape[1] == spell:
            return loss_of(piece, memory, training)
        shape = tf.shape(piece[0])
        spells = [tf.reshape(a, (shape[0], -1, spell, *a.shape[2:])) for a in piece]

        def read(place: Any, total: Any, known: Any, memory: Any) -> Any:
            more, count, after = loss_of([a[:, place] for a in spells], memory, training)
            return place + 1, total + more, known + count, after

        start = (0, 0.0, 0.0, [tf.convert_to_tensor(state) for state in memory])
        last = shape[1] // spell
        _, total, known, after = tf.while_loop(lambda place, *_: place < last, read, start)
        return total, known, after

    return spell_by_spell


def gradient_step(
    tf: Any, model: Any, optimizer: Any, spec: NetworkSpec, families: Families, spell: int | None
) -> Any:
    """(piece, memory) -> (loss, memory, the norm of its gradient before clipping).

    The loss is a mean over known values.
    """
    loss_of = loss_over(tf, model, spec, families, spell)

    @tf.function(reduce_retracing=True, autograph=False)  # type: ignore[untyped-decorator]
    def step(piece: Any, memory: Any) -> Any:
        with tf.GradientTape() as tape:
            total, known, after = loss_of(piece, memory, True)
            loss = total / tf.maximum(known, 1.0)
        gradients = tape.gradient(loss, model.trainable_variables)
        finite = tf.reduce_all([tf.reduce_all(tf.math.is_finite(g)) for g in gradients])
        optimizer.apply(
            [tf.where(finite, g, tf.zeros_like(g)) for g in gradients], model.trainable_variables
        )
        return loss, after, tf.linalg.global_norm(gradients)

    return step


def _evaluation(
    tf: Any, model: Any, spec: NetworkSpec, families: Families, spell: int | None
) -> Any:
    """(piece, memory) -> (sum of losses, known values, memory)."""
    loss_of = loss_over(tf, model, spec, families, spell)
    return tf.function(
        lambda piece, memory: loss_of(piece, memory, False), reduce_retracing=True, autograph=False
    )


def averaging(tf: Any, mean: Any, model: Any) -> Any:
    """After a gradient step, by its number from 1 on: the mean of the weights moves on.

    It is over a tenth of the steps so far and at most some 50, so that it soon forgets the untrained
    network.
    """

    @tf.function(autograph=False)  # type: ignore[untyped-decorator]
    def follow(taken: Any) -> None:
        kept = tf.minimum(REMEMBERED, taken / (10.0 + taken))
        for averaged, weight in zip(
            mean.trainable_variables, model.trainable_variables, strict=True
        ):
            averaged.assign(kept * averaged + (1.0 - kept) * weight)

    return follow


def _batches(
    data: TrainingData, cut: Cut, batch: int, seed: int
) -> Iterator[list[list[NDArray[Any]]]]:
    """Batches of sequences from random users and starts, each cut into pieces."""
    generator = np.random.default_rng(seed)
    users = len(data.mask)
    weight = data.mask[:, : data.train_steps].any(2).sum(1).astype(float)
    weight = weight / weight.sum()
    while True:
        rows = generator.choice(users, batch, p=weight)
        starts = cut.starts[generator.integers(0, len(cut.starts), batch)]
        yield [data.piece(rows, starts + i * cut.piece, cut.piece) for i in range(cut.pieces)]


def _validation(
    data: TrainingData, cut: Cut
) -> list[tuple[list[NDArray[Any]], list[NDArray[Any]]]]:
    """Later history, a group of users at a time: a warm-up piece and the piece that counts."""
    rows = evenly(len(data.mask), VALIDATION_USERS)
    parts = []
    for group in np.array_split(rows, max(1, len(rows) // 64)):
        lead, later = (
            data.piece(group, np.full(len(group), first, dtype=np.int64), length)
            for first, length in (cut.lead, cut.later)
        )
        parts.append((lead, later))
    return parts


def _mean_loss(evaluate: Any, validation: Any, spec: NetworkSpec) -> float:
    total = known = 0.0
    for lead, part in validation:
        memory = [np.zeros((len(lead[0]), spec.units), np.float32)] * spec.state_arrays
        _, _, memory = evaluate(lead, memory)
        loss, count, _ = evaluate(part, memory)
        total, known = total + float(loss), known + float(count)
    return total / max(known, 1.0)
