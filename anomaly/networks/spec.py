"""What a network is: its shape, said without any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from anomaly.exceptions import SettingsError

if TYPE_CHECKING:
    from anomaly.settings import ModelSettings

Cell = Literal["lstm", "rnn", "gru", "feedforward"]
STATES = {"lstm": 2, "rnn": 1, "gru": 1, "feedforward": 0}  # arrays of memory a layer carries


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """cell, layers, units; features a step has; metrics to speak of; users in a scoring batch."""

    cell: Cell
    layers: int
    units: int
    features: int
    metrics: int
    batch: int

    @property
    def state_arrays(self) -> int:
        """How many (users, units) arrays of memory the network carries from step to step."""
        return self.layers * STATES[self.cell]


def refuse_unserved(model: ModelSettings) -> None:
    """Raise SettingsError for combinations that cannot be served, with the reason."""
    if model.bidirectional and model.objective != "reconstruct":
        raise SettingsError(
            "[model] bidirectional = true with objective = "
            f"{model.objective!r}: a forecast that reads both ways has seen its answer. "
            "Set bidirectional = false, or objective = 'reconstruct'."
        )
    if model.objective != "forecast" or model.mapping != "many-to-many":
        raise SettingsError(
            f"[model] objective = {model.objective!r}, mapping = {model.mapping!r}: this version serves "
            "objective = 'forecast' with mapping = 'many-to-many'. Set these."
        )
