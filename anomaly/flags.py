"""From windows to flags: the most surprising windows that do not overlap, cut to what made them so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from anomaly.scan import Best

KEPT = 0.9  # of a window's evidence lies within the flag cut from it


@dataclass(frozen=True, slots=True)
class Window:
    """Steps first to last (exclusive) of the panel; channel and evidence, the highest if joined."""

    first: int
    last: int
    channel: int
    evidence: float


def select(
    best: Best,
    user: int,
    seen: NDArray[np.float32],
    lengths: Sequence[int],
    level: float,
    worth: Callable[[Window], bool],
) -> list[Window]:
    """The user's windows at or above the level, most surprising first, none overlapping.

    Args: best: of all users; seen: (steps, channels) what each channel saw of this user. worth:
        says whether a window shows a departure that is worth a flag; others are passed over.
    Returns: windows in order of time; those that touch are joined.
    """
    ends, which = np.nonzero(best.surprise[user] >= level)
    found = best.surprise[user][ends, which]
    spans = np.asarray(lengths)[which]
    taken = np.zeros(len(seen), dtype=bool)
    windows: list[Window] = []
    for at in np.lexsort((ends, spans, -found)):  # of equals the shortest, then the earliest
        first, last = max(0, int(ends[at]) + 1 - int(spans[at])), int(ends[at]) + 1
        if taken[first:last].any():
            continue
        channel = int(best.channel[user, ends[at], which[at]])
        first, last = _cut(seen[:, channel], first, last)
        window = Window(first, last, channel, float(found[at]))
        if worth(window):
            taken[first:last] = True
            windows.append(window)
    return _joined(sorted(windows, key=lambda window: window.first))


def _cut(seen: NDArray[np.float32], first: int, last: int) -> tuple[int, int]:
    """The shortest stretch inside that holds most of the evidence, leaving as much at either end."""
    part = np.maximum(seen[first:last].astype(np.float64), 0)
    total = part.sum()
    if total <= 0:
        return first, last
    running = np.cumsum(part) / total
    edge = (1 - KEPT) / 2
    return first + int(np.argmax(running > edge)), first + int(np.argmax(running >= 1 - edge)) + 1


def _joined(windows: list[Window]) -> list[Window]:
    out: list[Window] = []
    for window in windows:
        if out and window.first <= out[-1].last:
            loud = max(out[-1], window, key=lambda w: w.evidence)
            out[-1] = Window(out[-1].first, window.last, loud.channel, loud.evidence)
        else:
            out.append(window)
    return out
