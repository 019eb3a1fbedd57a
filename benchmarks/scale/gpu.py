"""The network's layers on a GPU: what one would save.

    python -m benchmarks.scale.gpu                     on the GPU, where JAX finds one
    JAX_PLATFORMS=cpu python -m benchmarks.scale.gpu   on all cores, to compare

The layers are Keras operations alone, so they run on any of its backends; JAX is one whose GPU
version is a package (`pip install "jax[cuda13]"`). Products are rounded as on the CPU (float32, not
TF32). Seconds are on the clock: a GPU works while the processor waits.
"""

from __future__ import annotations

import os
import statistics
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("KERAS_BACKEND", "jax")

import jax  # type: ignore[import-not-found]
import keras
import numpy as np

from anomaly import features
from anomaly.networks import layers
from anomaly.networks.spec import NetworkSpec
from benchmarks.scale.measure import table
from benchmarks.scale.network import DAY, METRICS, UNITS

if TYPE_CHECKING:
    from collections.abc import Callable

PIECE = 96  # steps that gradients flow back through
TRIES = 7


def seconds_of(work: Callable[[], Any]) -> float:
    """The middle one of TRIES, after one that compiles."""
    jax.block_until_ready(work())
    taken = []
    for _ in range(TRIES):
        began = time.perf_counter()
        jax.block_until_ready(work())
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def drawn(spec: NetworkSpec, users: int, steps: int, device: Any) -> list[Any]:
    """Inputs, deviations and empty memory, on the device."""
    rng = np.random.default_rng(0)
    shapes = [(users, steps, spec.features), (users, steps, 2 * spec.metrics)]
    arrays = [rng.normal(size=shape).astype(np.float32) for shape in shapes]
    arrays += [np.zeros((users, spec.units), np.float32)] * spec.state_arrays
    return [jax.device_put(array, device) for array in arrays]


def measured(device: Any, units: int, users: int) -> tuple[float, float]:
    """Seconds to score a day of so many users, and of a gradient step over a piece of 64."""
    spec = NetworkSpec("lstm", 1, units, features.input_size(METRICS), METRICS, users)
    with jax.default_device(device):
        model = layers.build(spec)
        held = [
            [jax.device_put(np.asarray(variable), device) for variable in variables]
            for variables in (model.trainable_variables, model.non_trainable_variables)
        ]

        def says(weights: Any, given: Any) -> Any:
            return model.stateless_call(weights, held[1], given)[0]

        def loss(weights: Any, given: Any) -> Any:
            return (says(weights, given)[0] ** 2).mean()

        score, learn = jax.jit(says), jax.jit(jax.value_and_grad(loss))
        day, piece = drawn(spec, users, DAY, device), drawn(spec, 64, PIECE, device)
        return (
            seconds_of(lambda: score(held[0], day)),
            seconds_of(lambda: learn(held[0], piece)),
        )


def main() -> None:
    """A line for each width and number of users."""
    jax.config.update("jax_default_matmul_precision", "highest")
    keras.utils.set_random_seed(0)
    device = jax.devices()[0]
    lines = []
    for units in (UNITS, 128):
        for users in (128, 2048, 16384):
            day, step = measured(device, units, users)
            month = 1e3 * day / users * 744 / DAY
            lines.append([f"LSTM-{units}", f"{users:,}", f"{month:.3f}", f"{1e3 * step:.1f}"])
    table(
        f"{device.device_kind}, {os.cpu_count()} cores",
        ["", "users at once", "ms a user-month", "ms a gradient step"],
        lines,
    )


if __name__ == "__main__":
    main()
