"""What was trained, as runs in MLflow, for whoever keeps all their models' figures there (extra `mlflow`)."""

from __future__ import annotations

import importlib.util
import math
import os
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from anomaly.exceptions import SettingsError, SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPERIMENT = "anomaly"
CARD = "model.json"  # the artefact: all of it in one file
LONGEST = 500  # characters of a parameter or tag


@dataclass(frozen=True, slots=True)
class Trained:
    """One model as a training left it.

    parameters: the settings it was made with; figures: what was measured, those that are not finite
    left out; tags: anything else.
    """

    version: str
    parameters: Mapping[str, object]
    figures: Mapping[str, float | None]
    tags: Mapping[str, object]


def refuse_missing() -> None:
    """Raises: SettingsError if MLflow is not installed."""
    if importlib.util.find_spec("mlflow") is None:
        raise SettingsError(
            "[telemetry] mlflow: mlflow is not installed here. Install the extra: "
            "pip install 'anomaly[mlflow]', or leave the setting out."
        )


def track(address: str, trained: Trained) -> None:
    """Write one run into the experiment `anomaly`.

    Args: address: MLflow's tracking URI: http://host:5000, or a folder as file:///path.
    Raises: SettingsError if MLflow is not installed; SourceError if it does not take the run.
    """
    refuse_missing()
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it reports its use to its makers
    from mlflow.exceptions import MlflowException
    from mlflow.tracking import MlflowClient

    try:
        client = MlflowClient(tracking_uri=address)
        known = client.get_experiment_by_name(EXPERIMENT)
        experiment = known.experiment_id if known else client.create_experiment(EXPERIMENT)
        number = client.create_run(experiment, run_name=trained.version).info.run_id
        for name, value in trained.parameters.items():
            client.log_param(number, name, str(value)[:LONGEST])
        for name, figure in trained.figures.items():
            if figure is not None and math.isfinite(figure):
                client.log_metric(number, name, figure)
        for name, value in trained.tags.items():
            client.set_tag(number, f"anomaly.{name}", str(value)[:LONGEST])
        client.log_dict(number, asdict(trained), CARD)
        client.set_terminated(number)
    except (MlflowException, OSError) as error:
        line = str(error).splitlines()[0]
        raise SourceError(
            f"[telemetry] mlflow {address}: did not take the figures of model {trained.version} "
            f"({line}). The ledger has them; the model serves all the same."
        ) from error
