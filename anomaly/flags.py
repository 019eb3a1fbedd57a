"""From evidence to flags: stretches at or above the level, cut to what made them so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

KEPT = 0.9  # of a stretch's evidence lies within the flag cut from it,
HALF = 0.5  # or so much of it, where more would show nothing


@dataclass(frozen=True, slots=True)
class Window:
    """Steps first to last (exclusive) of the panel, and the highest evidence among them."""

    first: int
    last: int
    evidence: float


def select(
    evidence: NDArray[np.float32],
    level: float,
    cut: Callable[[Window], Iterable[Window]],
    worth: Callable[[Window], bool],
    prune: float = 0.0,
    together: int = 0,
) -> list[Window]:
    """A user's flags in order of time.

    Args: evidence (steps,). cut: ever shorter parts of a stretch, of the steps that made it odd; the
        first that is worth a flag is one. worth: says whether a part shows a departure that is. prune:
        see `_pruned`. together: flags nearer than so many steps are one, unless its own numbers would
        show nothing.
    """
    above = np.concatenate([[0], (evidence >= level).astype(np.int8), [0]])
    edges = np.flatnonzero(np.diff(above)).reshape(-1, 2)
    stretches = [Window(int(a), int(b), float(evidence[a:b].max())) for a, b in edges]
    parts = (next(filter(worth, cut(stretch)), None) for stretch in stretches)
    kept = [part for part in parts if part is not None]
    windows = _joined(kept, together, worth)
    if prune > 0 and windows:
        inside = np.zeros(len(evidence), dtype=bool)
        for window in stretches:
            inside[window.first : window.last] = True
        windows = _pruned(windows, float(evidence[~inside].max(initial=0.0)), prune)
    return windows


def _joined(windows: list[Window], together: int, worth: Callable[[Window], bool]) -> list[Window]:
    """Windows in order of time, those nearer than so many steps made one where that is worth a flag."""
    out: list[Window] = []
    for window in windows:
        if out and window.first - out[-1].last < together:
            last, highest = max(out[-1].last, window.last), max(out[-1].evidence, window.evidence)
            both = Window(out[-1].first, last, highest)
            if worth(both):
                out[-1] = both
                continue
        out.append(window)
    return out


def _pruned(windows: list[Window], beside: float, prune: float) -> list[Window]:
    """Those that stand out: from the last that falls off by this share to the next, and up.

    Args: beside: the highest evidence outside all stretches.
    Source: Hundman et al. 2018, section 3.3.
    """
    ranked = sorted(windows, key=lambda window: -window.evidence)
    found = np.array([*(window.evidence for window in ranked), beside])
    falls = np.flatnonzero((found[:-1] - found[1:]) / np.maximum(found[:-1], 1e-9) > prune)
    kept = set(ranked[: falls[-1] + 1]) if len(falls) else set()
    return [window for window in windows if window in kept]


def cores(window: Window, share: NDArray[np.float64]) -> Iterator[Window]:
    """What holds most of a stretch's evidence, what holds half of it, and the step that brings most.

    Args: share: (steps of the window,) what each step brings to it, not negative.
    """
    yield _narrowed(window, share, KEPT)
    yield _narrowed(window, share, HALF)
    most = window.first + int(share.argmax())
    yield Window(most, most + 1, window.evidence)


def _narrowed(window: Window, share: NDArray[np.float64], kept: float) -> Window:
    """The stretch inside that holds so much of the evidence, leaving as much at either end."""
    total = share.sum()
    if total <= 0:
        return window
    running = np.cumsum(share) / total
    edge = (1 - kept) / 2
    first, last = int(np.argmax(running > edge)), int(np.argmax(running >= 1 - edge)) + 1
    return Window(window.first + first, window.first + last, window.evidence)
