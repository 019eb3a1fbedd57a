"""The networks as Keras layers. Imported by training alone: it brings TensorFlow along.

A network is called on a stretch of steps: (inputs, current, memory...) -> (word..., memory...), one
word for each head. Of a step t, `inputs` hold what is known before it (the deviations of a horizon
earlier, the calendar, the twin's expectation) and `current` its own deviations, which a head reads
only where it says so:

| mapping      | forecast                                | reconstruct                             |
|--------------|-----------------------------------------|-----------------------------------------|
| many-to-many | t from the steps before it, read into   | t from itself, put into the memory with |
|              | the memory                              | noise; bidirectional: t from the steps  |
|              |                                         | before it and those after it that day   |
| many-to-one  | one word for the day, from memory when  | one word for the day, from memory when  |
|              | the day begins                          | it has been read                        |
| one-to-many  | from memory when the day begins step by | the day, read into one code of `units`  |
|              | step, fed with its own expectations     | numbers, is run through from that code  |
| one-to-one   | t from its inputs alone, no memory      | t from itself and its inputs, no memory |

Reconstructing a step from itself is an auto-encoder: it squeezes what it reads through `units`
numbers and learns with noise on it (denoising: Vincent et al. 2008), lest it merely copy; run
through a day from one code it is the encoder-decoder of Malhotra et al. 2016, fed with the code at
each step as in Cho et al. 2014. Having seen the step, it is less surprised by it than a forecast.
Both heads side by side follow AER (Wong et al. 2022). A forecast may not share a memory that has read
its answer; so, many-to-many, the head that reconstructs reads the forecast's memory, which has not, and
beside it the step itself, squeezed and noisy (bidirectional: what comes after it). Otherwise each head
has a memory of its own.

Memory moves on by what was really observed, whatever was said. What reads backwards begins anew
each day, as the next day is not there yet; so history may be replayed in any parts of whole days.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import ops

from anomaly import features, plugins
from anomaly.networks.spec import states_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.networks.spec import NetworkSpec, Objective

# Keras has no types: hence `type: ignore[misc]` where its classes are extended.
NOISE = 0.5  # of what an auto-encoder reads while it learns, in deviations
WIDTH = 8  # numbers between a metric and those before it in the same step
DROPPED = 0.3  # share of what it reads that is hidden from it while it learns
RECURRENT = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU, "rnn": keras.layers.SimpleRNN}


def recurrent(cell: str, units: int) -> Any:
    """A recurrent layer that gives its sequence and its memory."""
    if cell in RECURRENT:
        return RECURRENT[cell](units, return_sequences=True, return_state=True)
    return plugins.load("cells", cell)().layer(units)


def build(spec: NetworkSpec, truncate_steps: int | None = None) -> Any:
    """The Keras model: (inputs, current, memory...) -> (word of each head, memory...).

    Words are corrections, (users, steps, 2 metrics OUTPUTS): first each metric by itself, then each
    given those before it in the same step. They start at zero: an untrained network says what the
    twin says. truncate_steps: gradients within a longer stretch are cut so often.
    """
    given = keras.Input((None, spec.features), name="inputs")
    current = keras.Input((None, 2 * spec.metrics), name="current")
    memory = [keras.Input((spec.units,), name=f"memory_{i}") for i in range(spec.state_arrays)]
    if spec.one_memory:
        said, hidden, *after = Head(spec, "forecast", truncate_steps)([given, current, *memory])
        words = [said, Look(spec, truncate_steps)([hidden, given, current])]
    else:
        words, after = [], []
        for place, objective in enumerate(spec.heads):
            own = memory[place * spec.head_states : (place + 1) * spec.head_states]
            said, _, *states = Head(spec, objective, truncate_steps)([given, current, *own])
            words.append(said)
            after += states
    return keras.Model([given, current, *memory], [*words, *after], name="forecaster")


class Head(keras.layers.Layer):  # type: ignore[misc]
    """What one objective says: [inputs, current, memory...] -> [word, hidden, memory...]."""

    def __init__(self, spec: NetworkSpec, objective: Objective, truncate_steps: int | None) -> None:
        super().__init__(name=objective)
        self.spec = spec
        self.encodes = objective == "reconstruct" and not spec.bidirectional
        self.backwards = objective == "reconstruct" and spec.bidirectional
        kind = Alone if spec.mapping == "one-to-one" else Stack
        self.stack = kind(spec, truncate_steps, "read")
        if self.encodes:
            self.corrupt = corruption()
        if self.backwards:
            self.later = Backwards(spec, truncate_steps)
        self.say, self.given_earlier = corrections(spec)
        if spec.mapping == "one-to-many":
            decoder = Stack(spec, truncate_steps, "run") if self.encodes else self.stack
            self.free = FreeRun(decoder, self.say, spec.metrics)

    def call(self, arrays: list[Any], training: bool = False) -> list[Any]:
        """See the table above."""
        given, current, *memory = arrays
        seen = given
        if self.encodes:
            seen = ops.concatenate([self.corrupt(current, training=training), given], axis=-1)
        hidden, after = self.stack(seen, memory)
        if self.spec.mapping == "one-to-many":
            said = self._run(hidden, given, memory)
        elif self.spec.mapping == "many-to-one":
            code = self._code(hidden) if self.encodes else hidden[:, :1]
            said = held(self.say(code), given)
        elif self.backwards:
            said = self.say(ops.concatenate([hidden, self.later([given, current])], axis=-1))
        else:
            said = self.say(hidden)
        return [said + self.given_earlier([current, known_long(self.spec, given)]), hidden, *after]

    def _run(self, hidden: Any, given: Any, memory: list[Any]) -> Any:
        """Through the day without reading it, from the memory before it or from its code."""
        known, before = known_long(self.spec, given), given[:, 0, : 2 * self.spec.metrics]
        if self.encodes:
            known = ops.concatenate([known, held(self._code(hidden), given)], axis=-1)
            memory = self.stack.empty(given)
        return self.free(known, before, memory)

    def _code(self, hidden: Any) -> Any:
        """(users, 1, units): a stretch in one code, the last memory; where cells remember nothing,
        the mean over the steps stands in.
        """
        if self.spec.cell == "feedforward":
            return ops.mean(hidden, axis=1, keepdims=True)
        return hidden[:, -1:]


class Look(keras.layers.Layer):  # type: ignore[misc]
    """A reconstruction beside a forecast: [hidden, inputs, current] -> word.

    hidden: the forecast's memory before each step. A step is looked at through `units` numbers and
    noise, or, bidirectional, stays unseen and what comes after it is read.
    """

    def __init__(self, spec: NetworkSpec, truncate_steps: int | None) -> None:
        super().__init__(name="reconstruct")
        self.spec = spec
        if spec.bidirectional:
            self.later = Backwards(spec, truncate_steps)
        else:
            self.corrupt = corruption()
            self.squeeze = keras.layers.Dense(spec.units, activation="tanh", name="code")
        self.say, self.given_earlier = corrections(spec)

    def call(self, arrays: list[Any], training: bool = False) -> Any:
        """See above."""
        hidden, given, current = arrays
        if self.spec.bidirectional:
            held_of_it = ops.concatenate([hidden, self.later([given, current])], axis=-1)
        else:
            shown = self.corrupt(current, training=training)
            held_of_it = self.squeeze(ops.concatenate([hidden, shown, given], axis=-1))
        return self.say(held_of_it) + self.given_earlier([current, known_long(self.spec, given)])


class Backwards(keras.layers.Layer):  # type: ignore[misc]
    """[inputs, current] -> what is read from the stretch's end to the step after each."""

    def __init__(self, spec: NetworkSpec, truncate_steps: int | None) -> None:
        super().__init__(name="backwards")
        self.spec = spec
        self.stack = Stack(spec, truncate_steps, "back")

    def call(self, arrays: list[Any]) -> Any:
        """The last step has nothing after it: zeros."""
        given, current = arrays
        told = ops.concatenate([current, known_long(self.spec, given)], axis=-1)
        later, _ = self.stack(ops.flip(told, axis=1), self.stack.empty(told))
        later = ops.flip(later, axis=1)
        return ops.concatenate([later[:, 1:], ops.zeros_like(later[:, :1])], axis=1)


class Stack(keras.layers.Layer):  # type: ignore[misc]
    """Layers of one cell on top of each other: (sequence, memory) -> (hidden, memory)."""

    def __init__(self, spec: NetworkSpec, truncate_steps: int | None, name: str) -> None:
        super().__init__(name=name)
        self.units, self.truncate_steps = spec.units, truncate_steps
        self.width = states_of(spec.cell)
        self.each = [
            recurrent(spec.cell, spec.units)
            if self.width
            else keras.layers.Dense(spec.units, activation="tanh")
            for _ in range(spec.layers)
        ]

    def call(self, sequence: Any, memory: list[Any]) -> tuple[Any, list[Any]]:
        """Read a stretch; gradients are cut where it is longer than `truncate_steps`."""
        hidden: list[Any] = []
        for piece in pieces_of(sequence, self.truncate_steps):
            if hidden:
                memory = [ops.stop_gradient(state) for state in memory]
            said, memory = self._read(piece, memory)
            hidden.append(said)
        return (ops.concatenate(hidden, axis=1) if len(hidden) > 1 else hidden[0]), memory

    def _read(self, sequence: Any, memory: list[Any]) -> tuple[Any, list[Any]]:
        after: list[Any] = []
        for place, layer in enumerate(self.each):
            if self.width:
                before = memory[place * self.width : (place + 1) * self.width]
                sequence, *states = layer(
                    sequence, initial_state=before if self.width > 1 else before[0]
                )
                after += states
            else:
                sequence = layer(sequence)
        return sequence, after

    def step(self, inputs: Any, memory: list[Any]) -> tuple[Any, list[Any]]:
        """One step of (users, features)."""
        after: list[Any] = []
        for place, layer in enumerate(self.each):
            if self.width:
                before = memory[place * self.width : (place + 1) * self.width]
                inputs, states = layer.cell(inputs, before)
                after += states
            else:
                inputs = layer(inputs)
        return inputs, after

    def build_for(self, width: int) -> None:
        """Make the weights for inputs of so many features, where the layers are not called whole."""
        for layer in self.each:
            if not layer.built:
                layer.build((None, None, width) if self.width else (None, width))
            width = self.units

    def empty(self, like: Any) -> list[Any]:
        """Memory of as many users, of nothing."""
        rows = ops.shape(like)[0]
        return [ops.zeros((rows, self.units)) for _ in range(self.width * len(self.each))]


class Alone(Stack):
    """The same, each step by itself, with nothing remembered."""

    def call(self, sequence: Any, memory: list[Any]) -> tuple[Any, list[Any]]:
        """See Stack; memory is empty before and after."""
        self.build_for(sequence.shape[-1])
        flat = ops.reshape(sequence, (-1, sequence.shape[-1]))
        hidden, _ = self.step(flat, self.empty(flat))
        return ops.reshape(hidden, (-1, ops.shape(sequence)[1], self.units)), memory


class FreeRun(keras.layers.Layer):  # type: ignore[misc]
    """Steps said one after another, each fed with what was expected of the one before."""

    def __init__(self, stack: Stack, say: Any, metrics: int) -> None:
        super().__init__(name="free_run")
        self.truncate_steps = stack.truncate_steps
        self.loop = keras.layers.RNN(
            FreeRunCell(stack, say, metrics), return_sequences=True, return_state=True
        )

    def call(self, known: Any, before: Any, memory: list[Any]) -> Any:
        """Args: known (users, steps, features less deviations); before (users, 2 metrics): the last
        deviations observed.
        """
        states, words = [*memory, before], list[Any]()
        for piece in pieces_of(known, self.truncate_steps):
            if words:
                states = [ops.stop_gradient(state) for state in states]
            said, *states = self.loop(piece, initial_state=states)
            words.append(said)
        return ops.concatenate(words, axis=1) if len(words) > 1 else words[0]


class FreeRunCell(keras.layers.Layer):  # type: ignore[misc]
    """One step: its word, and what it expects is its own next input."""

    def __init__(self, stack: Stack, say: Any, metrics: int) -> None:
        super().__init__(name="step")
        self.stack, self.say, self.count = stack, say, metrics
        memory = [stack.units] * (stack.width * len(stack.each))
        self.state_size = [*memory, 2 * metrics]
        self.output_size = 2 * metrics * features.OUTPUTS

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights before the loop begins."""
        self.stack.build_for(2 * self.count + int(shape[-1] or 0))
        if not self.say.built:
            self.say.build((None, self.stack.units))

    def call(self, known: Any, states: list[Any]) -> tuple[Any, list[Any]]:
        """(users, features less deviations), [memory..., deviations] -> word, the same."""
        *memory, before = states
        hidden, memory = self.stack.step(ops.concatenate([before, known], axis=-1), memory)
        said = self.say(hidden)
        return said, [*memory, self._expected(said, known)]

    def _expected(self, said: Any, known: Any) -> Any:
        """The mean of the deviations to come; `features.expected` in the network's own terms."""
        metrics = self.count
        alone = ops.reshape(said, (-1, 2, metrics, features.OUTPUTS))[:, 0]
        alone = ops.clip(alone, -features.MAX_CORRECTION, features.MAX_CORRECTION)
        logit = known[:, :metrics] * features.LOGIT_UNIT
        rate = ops.sigmoid(logit + alone[..., 0])
        size = ops.clip(alone[..., 1], -features.CLIP, features.CLIP)
        return ops.concatenate([rate * size, rate - ops.sigmoid(logit)], axis=-1)


class GivenEarlier(keras.layers.Layer):  # type: ignore[misc]
    """What metrics tell of those after them in the same step: [current, context] -> corrections.

    A masked network with direct connections (MADE: Germain et al. 2015). Each metric has WIDTH
    numbers of its own, which read the metrics before it and what is known of the step anyway, and
    speak only of what is said of it given those. They say nothing at first.
    """

    def __init__(self, metrics: int) -> None:
        super().__init__(name="given_earlier")
        earlier = np.tile(np.triu(np.ones((metrics, metrics)), 1), (2, 1))
        own = np.repeat(np.eye(metrics), WIDTH, axis=0)
        self.told = Masked(_said_given(earlier), "zeros", "told")
        self.read = Masked(np.repeat(earlier, WIDTH, axis=1), "glorot_uniform", "read")
        self.context = keras.layers.Dense(metrics * WIDTH, name="context")
        self.say = Masked(_said_given(own), "zeros", "say")

    def call(self, arrays: list[Any]) -> Any:
        """Args: current (users, steps, 2 metrics); context (users, steps, anything)."""
        current, context = arrays
        hidden = ops.tanh(self.read(current) + self.context(context))
        return self.told(current) + self.say(hidden)


def _said_given(reads: NDArray[np.float64]) -> NDArray[np.float64]:
    """From connections to metrics, (inputs, metrics), those to the second correction of each."""
    second = np.repeat(reads, features.OUTPUTS, axis=1)
    return np.concatenate([np.zeros_like(second), second], axis=1)


class Masked(keras.layers.Layer):  # type: ignore[misc]
    """A dense layer without bias, of which only the connections in `mask` (inputs, outputs) are there."""

    def __init__(self, mask: NDArray[np.float64], initializer: str, name: str) -> None:
        super().__init__(name=name)
        self.mask, self.initializer = mask.astype(np.float32), initializer

    def build(self, shape: tuple[int | None, ...]) -> None:
        """Make the weights."""
        del shape  # the mask's
        self.kernel = self.add_weight(self.mask.shape, self.initializer, name="kernel")

    def call(self, inputs: Any) -> Any:
        """(..., inputs) -> (..., outputs)."""
        return ops.matmul(inputs, self.kernel * self.mask)


def corrections(spec: NetworkSpec) -> tuple[Any, GivenEarlier]:
    """What says corrections from a hidden state, and what adds to each metric's second one what the
    metrics before it in the same step tell.
    """
    size = 2 * spec.metrics * features.OUTPUTS
    say = keras.layers.Dense(size, kernel_initializer="zeros", name="corrections")
    return say, GivenEarlier(spec.metrics)


def corruption() -> Any:
    """The noise on what is to be reconstructed, while it is learnt."""
    return keras.Sequential([keras.layers.GaussianNoise(NOISE), keras.layers.Dropout(DROPPED)])


def known_long(spec: NetworkSpec, given: Any) -> Any:
    """What is known of each step long before it: its inputs without the deviations."""
    return given[..., 2 * spec.metrics :]


def held(word: Any, like: Any) -> Any:
    """(users, 1, size) said of each step of a stretch."""
    users, steps = ops.shape(like)[:2]
    return ops.broadcast_to(word, (users, steps, word.shape[-1]))


def pieces_of(sequence: Any, limit: int | None) -> list[Any]:
    """The sequence in pieces of at most `limit` steps; whole where its length is not known yet."""
    steps = sequence.shape[1]
    if limit is None or steps is None or steps <= limit:
        return [sequence]
    return [sequence[:, first : first + limit] for first in range(0, steps, limit)]
