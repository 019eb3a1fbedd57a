"""A cell: a minimal gated unit (Zhou et al. 2016), one gate where a GRU has two."""

from __future__ import annotations

from typing import Any


class Minimal:
    """states: arrays of memory. The class is imported to score, so Keras is imported only to train."""

    states = 1

    def layer(self, units: int) -> Any:
        """A Keras layer that gives its sequence and its memory; its `cell` takes one step."""
        import keras  # noqa: PLC0415
        from keras import ops  # noqa: PLC0415

        class Cell(keras.layers.Layer):
            def __init__(self) -> None:
                super().__init__()
                self.units = self.state_size = units
                self.gate = keras.layers.Dense(units, activation="sigmoid")
                self.candidate = keras.layers.Dense(units, activation="tanh")

            def build(self, shape: Any) -> None:
                self.gate.build((shape[0], shape[-1] + units))
                self.candidate.build((shape[0], shape[-1] + units))

            def call(self, inputs: Any, states: Any) -> Any:
                before = states[0]
                kept = self.gate(ops.concatenate([inputs, before], -1))
                new = self.candidate(ops.concatenate([inputs, kept * before], -1))
                after = (1 - kept) * before + kept * new
                return after, [after]

        return keras.layers.RNN(Cell(), return_sequences=True, return_state=True)
