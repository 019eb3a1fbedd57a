"""Peer groups: users who behave alike, found with k-means (Lloyd 1982) on their habits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from anomaly import twin
from anomaly.states import EVERYONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from anomaly.twin import TwinPrior, TwinState

LEAST_DAYS = 14.0  # whose habits are known for less belongs to everyone
USERS_PER_COHORT = 12  # no more cohorts than leave them so many members on average
COARSE = 6  # parts into which the weekly round is summed up
PARTS = tuple(
    f"{part} on {days} days"
    for days in ("working", "free")
    for part in ("at night", "by day", "in the evening")
)  # of an hourly round
TOLD = 3  # of what sets a cohort apart


def profiles(state: TwinState, prior: TwinPrior) -> NDArray[np.float32]:
    """(users, profile): how much, how often, and when, for each metric."""
    seen = np.maximum(state.seen.sum(1), 1e-6)
    parts = [twin.levels(state, prior), state.active.sum(1) / seen]
    share = state.active / np.maximum(state.active.sum(1, keepdims=True), 1e-6)
    parts += [part.sum(1) for part in np.array_split(share, min(COARSE, share.shape[1]), axis=1)]
    return np.concatenate(parts, axis=1).astype(np.float32)


def fit(
    state: TwinState, prior: TwinPrior, most: int, seed: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Find cohorts; centres (cohorts, profile), largest first, and the scale (2, profile) they use.

    With too few users there are no cohorts, and everyone is everyone's peer.
    """
    from sklearn.cluster import KMeans  # noqa: PLC0415 (a second to import; scoring does without)

    found = profiles(state, prior)
    scale = np.stack([found.mean(0), np.maximum(found.std(0), 1e-6)])
    count = min(most, len(found) // USERS_PER_COHORT)
    if count < 2:
        return np.zeros((0, found.shape[1]), np.float32), scale.astype(np.float32)
    standard = _standard(found, scale)
    means = KMeans(count, n_init=4, random_state=seed).fit(standard)
    order = np.argsort(-np.bincount(means.labels_, minlength=count), kind="stable")
    return means.cluster_centers_[order].astype(np.float32), scale.astype(np.float32)


def assign(
    state: TwinState, prior: TwinPrior, centres: NDArray[np.float32], scale: NDArray[np.float32]
) -> NDArray[np.int16]:
    """The nearest cohort of each user, EVERYONE for those hardly known."""
    if len(centres) == 0:
        return np.full(len(state.days), EVERYONE, dtype=np.int16)
    standard = habits(state, prior, scale)
    apart = np.square(standard[:, None] - centres[None]).sum(-1)
    return np.where(state.days >= LEAST_DAYS, apart.argmin(1), EVERYONE).astype(np.int16)


def habits(state: TwinState, prior: TwinPrior, scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """(users, profile) in the deviations of everyone when cohorts were found."""
    return _standard(profiles(state, prior), scale)


def _standard(found: NDArray[np.float32], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.asarray((found - scale[0]) / scale[1], dtype=np.float32)


def told(centre: NDArray[np.float32], metrics: Sequence[str], by_hour: bool) -> str:
    """What sets a cohort apart from everyone, in a few words: 'much bytes_out, seldom logons'."""
    count = len(metrics)
    parts = [("much", "little"), ("often", "seldom")]
    if by_hour:
        parts += [(f"often {when}", f"seldom {when}") for when in PARTS]
    named = [
        (
            abs(value),
            f"{words[value < 0]} {metric}" if place < 2 else f"{metric} {words[value < 0]}",
        )
        for place, words in enumerate(parts)
        for metric, value in zip(metrics, centre[place * count :].tolist(), strict=False)
    ]
    strongest = sorted(named, key=lambda it: (-it[0], it[1]))[:TOLD]
    return ", ".join(words for _, words in strongest)


def name_of(cohort: int) -> str:
    """The name shown to people."""
    return "everyone" if cohort == EVERYONE else f"cohort-{cohort + 1}"
