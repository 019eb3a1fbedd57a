"""Learns what is normal for each user, scores what happened, and says what does not belong.

found = anomaly.detect(frame, train_until="2026-10-01")  # found.flags, found.scores
detector = anomaly.Detector().fit(history); detector.score(month)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anomaly.detector import Detection, Detector, detect

__version__ = "0.1.0"
__all__ = ["Detection", "Detector", "__version__", "detect"]


def __getattr__(name: str) -> Any:
    """Import the engine when it is asked for: the command line starts without it."""
    if name not in __all__:
        raise AttributeError(f"module 'anomaly' has no attribute {name!r}")
    from anomaly import detector  # noqa: PLC0415 (see the docstring)

    return getattr(detector, name)
