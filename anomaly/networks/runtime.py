"""Scoring with ONNX Runtime: the trained network without TensorFlow."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import numpy as np

from anomaly import features
from anomaly.exceptions import ModelError

# Since 1.29 it marks the machine and tells its maker of each model, unless told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.networks.spec import NetworkSpec


class Network:
    """Reads some steps of some users and carries their memory on.

    Users go through in batches of one shape, the last padded, so that what is said of a user does
    not depend on who else is scored, nor on the number of threads or workers.
    """

    def __init__(self, spec: NetworkSpec, onnx: bytes) -> None:
        self.spec = spec
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        try:
            self._session = onnxruntime.InferenceSession(
                onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the runtime raises types of its own for each kind of damage
            raise ModelError(
                f"network.onnx cannot be read ({type(error).__name__}). Train again: anomaly run --force."
            ) from error
        names = {given.name for given in self._session.get_inputs()}
        self._memory = [f"memory_{i}" for i in range(spec.state_arrays)]
        missing = {"inputs", "current", *self._memory} - names
        if missing:
            raise ModelError(
                f"network.onnx has inputs {sorted(names)}, lacks {sorted(missing)}. Train again."
            )

    def empty_memory(self, users: int) -> NDArray[np.float32]:
        """(users, state arrays, units) zeros: nothing has been read."""
        return np.zeros((users, self.spec.state_arrays, self.spec.units), dtype=np.float32)

    def read(
        self, inputs: NDArray[np.float32], current: NDArray[np.float32], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """One pass over the steps: a whole day of them, if the network is one that is `by_day`.

        Args: inputs (users, steps, features); current (users, steps, 2 metrics); memory.
        Returns: corrections (heads, users, steps, 2, metrics, OUTPUTS), one for each of the network's
        heads, and memory after the last step.
        """
        users, steps = inputs.shape[:2]
        heads = len(self.spec.heads)
        size = 2 * self.spec.metrics * features.OUTPUTS
        out = np.empty((heads, users, steps, size), dtype=np.float32)
        after = np.empty_like(memory)
        for first in range(0, users, self.spec.batch):
            part = slice(first, min(first + self.spec.batch, users))
            feed = {"inputs": self._padded(inputs[part]), "current": self._padded(current[part])}
            for i, name in enumerate(self._memory):
                feed[name] = self._padded(memory[part, i])
            told = self._session.run(None, feed)
            count = part.stop - part.start
            for head, said in enumerate(told[:heads]):
                out[head, part] = said[:count]
            for i, state in enumerate(told[heads:]):
                after[part, i] = state[:count]
        shape = (heads, users, steps, 2, self.spec.metrics, features.OUTPUTS)
        return out.reshape(shape), after

    def _padded(self, array: NDArray[np.float32]) -> NDArray[np.float32]:
        missing = self.spec.batch - len(array)
        return (
            np.pad(array, [(0, missing)] + [(0, 0)] * (array.ndim - 1))
            if missing
            else np.ascontiguousarray(array)
        )
