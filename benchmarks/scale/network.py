"""The network beside the matrix product that numpy reaches on the same core in the same run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from anomaly import features
from anomaly.networks import layers, training
from anomaly.networks.export import to_onnx
from anomaly.networks.runtime import Network
from anomaly.networks.spec import NetworkSpec
from anomaly.settings import ModelSettings
from benchmarks.scale import made
from benchmarks.scale.measure import cpu_of

if TYPE_CHECKING:
    from collections.abc import Sequence

METRICS, UNITS, DAY, GATES = len(made.METRICS), 48, 24, 4
HOURS = 744  # of a month
SIDE = 768  # of the square matrices that show what the machine can do


def peak() -> float:
    """float32 operations a second and core of numpy's matrix product."""
    rng = np.random.default_rng(0)
    left, right = (rng.normal(size=(SIDE, SIDE)).astype(np.float32) for _ in range(2))
    with threadpool_limits(limits=1):  # a second thread's waiting would count as work
        return 2 * SIDE**3 / cpu_of(lambda: left @ right, 15)


def operations(spec: NetworkSpec) -> float:
    """Multiplications and additions of one step of one user: an LSTM's gates, what each head says of its
    hidden state and of the metrics before each, and the code through which the second sees the step.
    Connections that are cut are multiplied too.
    """
    seen, said = 2 * spec.metrics, 2 * spec.metrics * features.OUTPUTS
    gates = GATES * spec.units * (spec.features + spec.units)
    code = spec.units * (spec.units + seen + spec.features) * (len(spec.heads) - 1)
    between = spec.metrics * layers.WIDTH
    earlier = between * (spec.features + said) + seen * said
    return 2.0 * (gates + code + len(spec.heads) * (said * spec.units + earlier))


def of_default(batch: int, units: int = UNITS) -> Network:
    """The network that is the default, so wide, untrained."""
    spec = NetworkSpec.of(ModelSettings(units=units), METRICS, made.HOUR, batch)
    return Network(spec, to_onnx(training.build(spec), spec))


def seconds_a_month(network: Network, users: int) -> float:
    """Processor seconds for a month of 744 hours of a user."""
    spec, rng = network.spec, np.random.default_rng(0)
    given = rng.normal(size=(users, DAY, spec.features)).astype(np.float32)
    current = rng.normal(size=(users, DAY, 2 * METRICS)).astype(np.float32)
    memory = network.empty_memory(users)
    network.read(given, current, memory)
    return cpu_of(lambda: network.read(given, current, memory), 7) / users * HOURS / DAY


def rows(batches: Sequence[int], users: int) -> list[list[str]]:
    """A line for each batch size and width, with its share of the machine's peak beside it."""
    most = peak()
    lines = [["numpy, matrix product", "-", f"{most / 1e9:.1f}", "1.00", "-"]]
    for units in (UNITS, 128):
        for batch in batches:
            network = of_default(batch, units)
            seconds = seconds_a_month(network, users)
            found = HOURS * operations(network.spec) / seconds
            share = f"{found / most:.2f}"
            lines.append(
                [f"LSTM-{units}", str(batch), f"{found / 1e9:.1f}", share, f"{1e3 * seconds:.2f}"]
            )
    return lines
