"""Shows runs and stages to a tracer besides the watch that guards them."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomaly.telemetry.traces import Traces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from anomaly.settings import Settings
    from anomaly.store import Run
    from pipelines.watch import Open, Watch


@dataclass(frozen=True, slots=True)
class Traced:
    """A watch whose runs and stages are spans too."""

    watch: Watch
    traces: Traces

    @contextmanager
    def run(self, run: Run) -> Iterator[None]:
        """Watch and trace a run."""
        told = {
            "anomaly.run_id": run.id, "anomaly.job": run.job, "anomaly.month": run.month or "",
            "anomaly.configuration": run.configuration,
        }  # fmt: skip
        with self.traces.run(run.id, f"run {run.job}", told), self.watch.run(run):
            yield

    @contextmanager
    def stage(self, run: Run, name: str) -> Iterator[Open]:
        """Watch and trace a stage."""
        with self.traces.stage(run.id, name), self.watch.stage(run, name) as opened:
            yield opened


def traced(watch: Watch, settings: Settings, version: str) -> Watch:
    """The watch, traced where [telemetry] otlp says so.

    Raises: SettingsError if OpenTelemetry is asked for and not installed.
    """
    address = settings.telemetry.otlp
    return watch if address is None else Traced(watch, Traces(address, version))
