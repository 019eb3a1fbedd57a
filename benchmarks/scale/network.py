"""The network beside the matrix product that numpy reaches on the same core in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from anomaly import features
from anomaly.networks import training
from anomaly.networks.export import to_onnx
from anomaly.networks.runtime import Network
from anomaly.networks.spec import NetworkSpec
from benchmarks.scale.measure import cpu_of

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS, UNITS, DAY, GATES = 5, 48, 24, 4
SIDE = 768  # of the square matrices that show what the machine can do


def peak() -> float:
    """float32 operations a second and core of numpy's matrix product."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(2))
    with threadpool_limits(limits=1):  # a second thread's waiting would count as work
        return 2 * SIDE**3 / cpu_of(lambda: left @ right, 15)


def operations(spec: NetworkSpec) -> float:
    """Multiplications and additions of one step of one user: an LSTM's gates and the output layer."""
    gates = 2 * GATES * spec.units * (spec.features + spec.units)
    return gates + 2 * (spec.units + 2 * spec.metrics) * 2 * spec.metrics * features.OUTPUTS


def rate(batch: int, users: int, units: int = UNITS) -> tuple[float, float]:
    """Operations a second, and processor seconds for a month of 744 hours of a user."""
    spec = NetworkSpec("lstm", 1, units, features.input_size(METRICS), METRICS, batch)
    network = Network(spec, to_onnx(training.build(spec), spec))
    rng = np.random.default_rng(0)
    given = rng.normal(size=(users, DAY, spec.features)).astype(np.float32)
    current = rng.normal(size=(users, DAY, 2 * METRICS)).astype(np.float32)
    memory = network.empty_memory(users)
    network.read(given, current, memory)
    seconds = cpu_of(lambda: network.read(given, current, memory), 7)
    return users * DAY * operations(spec) / seconds, seconds / users * 744 / DAY


def rows(batches: Sequence[int], users: int) -> list[list[str]]:
    """A line for each batch size and width, with its share of the machine's peak beside it."""
    most = peak()
    lines = [["numpy, matrix product", "-", f"{most / 1e9:.1f}", "1.00", "-"]]
    for units in (UNITS, 128):
        for batch in batches:
            found, seconds = rate(batch, users, units)
            share = f"{found / most:.2f}"
            lines.append(
                [f"LSTM-{units}", str(batch), f"{found / 1e9:.1f}", share, f"{1e3 * seconds:.2f}"]
            )
    return lines
