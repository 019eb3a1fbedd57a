"""The network in fewer bits: what float16 and int8 save of its time, and what they do to flags.

A network is trained and calibrated as always, in float32. Then only its file is rewritten, by ONNX
Runtime's own tools, and all that follows is done with it: history lived through, the reference read,
the month scored.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnxruntime.quantization import quantize_dynamic
from onnxruntime.transformers.float16 import convert_float_to_float16

from anomaly import engine
from anomaly.calendar import CalendarContext
from anomaly.networks.runtime import Network
from anomaly.settings import ModelSettings, Settings
from benchmarks.scale import world
from benchmarks.scale.network import seconds_a_month
from benchmarks.scale.peers import average_precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.panel import Panel

CALENDAR = CalendarContext()
SHARD = 500  # users scored at a time
FEW = 20  # users scored again by themselves
ROUNDS = 5  # in which each form's time is taken in turn
NETWORK_USERS = 512


def in_float16(network: bytes) -> bytes:
    """All weights and operators in half precision; what goes in and comes out stays float32."""
    halved = convert_float_to_float16(onnx.load_from_string(network), keep_io_types=True)
    return bytes(halved.SerializeToString())


def in_int8(network: bytes, operators: Sequence[str] | None = None) -> bytes:
    """Weights in eight bits, what they are multiplied with rounded as it comes. operators: only of these
    kinds; None: of all that have such a form.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "network.onnx"
        quantize_dynamic(onnx.load_from_string(network), file, op_types_to_quantize=operators)
        return file.read_bytes()


@dataclass(frozen=True, slots=True)
class Told:
    """A month by one form of the network. scores: of each user's month. flags: their ids.

    swayed: how far the scores of the first few move when nobody else is scored beside them.
    """

    scores: NDArray[np.float64]
    flags: frozenset[str]
    swayed: float


def told(model: engine.Model, history: Panel, month: Panel) -> Told:
    """Live through history and score the month."""
    sample = np.arange(min(world.KNOWN_USERS, len(history.users)))
    before = history.take(sample)
    past = engine.reference(model, before, engine.States.empty(model, before.users), CALENDAR)
    now = engine.reference(model, month.take(sample), past.states, CALENDAR)

    def scored(rows: NDArray[np.int64]) -> engine.Scored:
        part = history.take(rows)
        empty = engine.States.empty(model, part.users)
        states = engine.replay(model, part, empty, past, CALENDAR)
        name = str(world.MONTH)
        return engine.score(model, month.take(rows), states, now, name, CALENDAR, "precision")

    users = np.arange(len(month.users))
    shards = [scored(users[first : first + SHARD]) for first in range(0, len(users), SHARD)]
    scores = np.concatenate([_scores(shard) for shard in shards])
    few = _scores(scored(users[:FEW]))
    return Told(
        scores,
        frozenset(flag.flag_id for shard in shards for flag in shard.flags),
        float(np.abs(few - scores[:FEW]).max()),
    )


def _scores(scored: engine.Scored) -> NDArray[np.float64]:
    return np.array([month.score for month in scored.user_months])


def rows(users: int, steps: int) -> list[list[str]]:
    """A line for each form of the network."""
    history = world.panel_of(0, users, world.HISTORY)
    month = world.panel_of(0, users, [world.MONTH], incidents=True)
    learnt_from = history.take(np.arange(min(world.KNOWN_USERS, users)))
    settings = Settings(model=ModelSettings(steps=steps))
    model = engine.fit(learnt_from, world.SPECS, CALENDAR, settings, 0)
    forms = {
        "float32": model.onnx,
        "float16": in_float16(model.onnx),
        "int8": in_int8(model.onnx),
        "int8, LSTM alone": in_int8(model.onnx, ["LSTM"]),
    }
    models = {name: replace(model, onnx=network) for name, network in forms.items()}
    seconds = seconds_of({name: Network(model.network_spec, each) for name, each in forms.items()})
    found = {name: told(each, history, month) for name, each in models.items()}
    truth, first = world.attacked_of(users), found["float32"]
    return [
        [
            name,
            f"{1e3 * seconds[name]:.2f}",
            f"{seconds[name] / seconds['float32']:.2f}",
            f"{len(forms[name]) / 1024:.0f}",
            str(len(one.flags)),
            str(len(one.flags & first.flags)),
            str(len(first.flags - one.flags)),
            str(len(one.flags - first.flags)),
            f"{np.abs(one.scores - first.scores).max():.4f}",
            f"{one.swayed:.4f}",
            f"{average_precision(one.scores, truth):.3f}",
        ]
        for name, one in found.items()
    ]


def seconds_of(networks: dict[str, Network]) -> dict[str, float]:
    """Processor seconds that each network takes for a user-month, the least of some rounds, in which they
    take turns: others on the machine then trouble all alike.
    """
    taken = [
        [seconds_a_month(each, NETWORK_USERS) for each in networks.values()] for _ in range(ROUNDS)
    ]
    return dict(zip(networks, np.min(taken, axis=0).tolist(), strict=True))
