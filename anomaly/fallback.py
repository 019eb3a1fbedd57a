"""Whether a statistical twin scores in the place of a network whose files cannot be read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anomaly.ports import ModelRow, RunRow

PROMOTED = ("champion", "retired")  # states of models that serve, or did


@dataclass(frozen=True, slots=True)
class Fallback:
    """run: the newest one that scored a month. network: in whose place its model, the twin, did so."""

    run: RunRow
    network: ModelRow


def fallback_of(runs: Iterable[RunRow], models: Sequence[ModelRow]) -> Fallback | None:
    """None where the newest scored month was scored by the model that was to score it.

    A twin that won against its network was promoted; one that was not stood in.
    Args: runs: those of months that stand.
    """
    ended = [(run.finished_at, run) for run in runs if run.finished_at and run.model_version]
    if not ended:
        return None
    _, newest = max(ended, key=lambda pair: pair[0])
    if any(row.version == newest.model_version and row.state in PROMOTED for row in models):
        return None
    stood_in = (row for row in models if row.twin == newest.model_version)
    network = next((row for row in stood_in if row.state in PROMOTED), None)
    return None if network is None else Fallback(newest, network)
