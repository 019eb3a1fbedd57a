"""What a network is: its shape, said without any framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Self

from anomaly import features, plugins
from anomaly.exceptions import SettingsError
from anomaly.panel import DAY_SECONDS

if TYPE_CHECKING:
    from anomaly.settings import ModelSettings

Objective = Literal["forecast", "reconstruct", "both"]
Mapping = Literal["many-to-many", "many-to-one", "one-to-many", "one-to-one"]
# arrays of memory that a layer carries
STATES = {"lstm": 2, "rnn": 1, "gru": 1, "feedforward": 0, "none": 0}


def states_of(cell: str) -> int:
    """Arrays of memory that a layer of this cell carries; said without importing any framework."""
    return STATES[cell] if cell in STATES else int(plugins.load("cells", cell).states)


@dataclass(frozen=True, slots=True)
class NetworkSpec:
    """cell, layers, units; features a step has; metrics to speak of; users in a scoring batch.

    objective: `forecast` says a step from what came before it; `reconstruct` from what surrounds it
    (bidirectional), or from itself through a bottleneck; `both` has a head for each.
    mapping: see `anomaly.networks.layers`.
    """

    cell: str
    layers: int
    units: int
    features: int
    metrics: int
    batch: int
    objective: Objective = "forecast"
    mapping: Mapping = "many-to-many"
    bidirectional: bool = False

    @classmethod
    def of(cls, model: ModelSettings, metrics: int, step: int, batch: int) -> Self:
        """The network that the settings ask for, on a grid of `step` seconds.

        On a grid of days or longer a day is one step, so a word for the whole day, or a free run
        through it, is a word at each step; and as no later step of the day is left to read
        backwards, a reconstruction from what surrounds the step is a forecast. Without a network
        (cell "none") the twin forecasts, whatever else is asked for.
        """
        if model.cell == "none":
            return cls("none", 1, 0, features.input_size(metrics), metrics, batch)
        objective, mapping, bidirectional = model.objective, model.mapping, model.bidirectional
        if step >= DAY_SECONDS:
            if mapping in {"many-to-one", "one-to-many"}:
                mapping = "many-to-many"
            if bidirectional:
                objective, bidirectional = "forecast", False
        return cls(
            model.cell, model.layers, model.units, features.input_size(metrics), metrics, batch,
            objective, mapping, bidirectional,
        )  # fmt: skip

    @property
    def heads(self) -> tuple[Objective, ...]:
        """What each word said of a step is: a forecast, a reconstruction, or one of each."""
        return ("forecast", "reconstruct") if self.objective == "both" else (self.objective,)

    @property
    def by_day(self) -> bool:
        """Whether it must be given one whole day at a time."""
        return self.bidirectional or self.mapping in {"many-to-one", "one-to-many"}

    @property
    def head_states(self) -> int:
        """Arrays of memory that each head carries from step to step."""
        return 0 if self.mapping == "one-to-one" else self.layers * states_of(self.cell)

    @property
    def state_arrays(self) -> int:
        """How many (users, units) arrays of memory the network carries from step to step."""
        return (1 if self.one_memory else len(self.heads)) * self.head_states

    @property
    def one_memory(self) -> bool:
        """Whether the head that reconstructs reads the memory of the one that forecasts, which has
        not read the step; else each has its own.
        """
        return self.objective == "both" and self.mapping == "many-to-many"


def refuse_unserved(model: ModelSettings) -> None:
    """Raise SettingsError for combinations that cannot be served, with the reason."""
    if model.cell == "none":
        return
    if model.bidirectional and model.objective == "forecast":
        raise SettingsError(
            "[model] bidirectional = true with objective = 'forecast': a forecast that reads both ways "
            "has seen its answer. Set bidirectional = false, or objective = 'reconstruct' or 'both'."
        )
    if model.bidirectional and model.mapping != "many-to-many":
        reason = {
            "many-to-one": "its word holds for the whole day, and the day after is not there yet",
            "one-to-many": "it runs through the day on its own words, and reads nothing of it",
            "one-to-one": "it says each step from that step alone",
        }[model.mapping]
        raise SettingsError(
            f"[model] bidirectional = true with mapping = {model.mapping!r}: {reason}, so nothing is left "
            "to read backwards. Set bidirectional = false, or mapping = 'many-to-many'."
        )
    if model.mapping == "one-to-many" and model.horizon != "auto":
        raise SettingsError(
            f"[model] horizon = {model.horizon!r} with mapping = 'one-to-many': it feeds each word back as "
            "the next step's input, one step at a time, to the day's end. Set horizon = 'auto'."
        )
