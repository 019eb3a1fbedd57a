"""No network: the statistical twin's own forecast, through the same stages as any network's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly import features

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from anomaly.networks.spec import NetworkSpec


class Silent:
    """Stands where a network would, and corrects nothing (`[model] cell = "none"`)."""

    def __init__(self, spec: NetworkSpec) -> None:
        self.spec = spec

    def read(
        self, inputs: NDArray[np.float32], current: NDArray[np.float32], memory: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """No correction, (1, users, steps, 2, metrics, OUTPUTS) zeros; memory stays as it is."""
        del current
        shape = (1, *inputs.shape[:2], 2, self.spec.metrics, features.OUTPUTS)
        return np.zeros(shape, np.float32), memory
