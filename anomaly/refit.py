"""The threshold fitted to verdicts: how much more evidence which flags need, within a budget.

Verdicts say what share of the flags of each group (leading metric, kind, direction) is false. Where
that comes to more false flags than the operator's budget allows, the least score of groups is raised
step by step, first where most false flags go for the fewest true ones. What true flags a step would
cost is never read off the group's few verdicts alone, which had none there by luck, but drawn towards
what all verdicts say of flags of such a score (empirical Bayes); and no more than LOST of all true
flags may go. It cannot be lowered: what did not reach 1.0 was never flagged and has no verdict.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

LEAST_JUDGED = 20  # verdicts under which nothing is fitted
LOST = 0.1  # of all flags that were judged right, at most
PRIOR = 8.0  # verdicts that what all groups say is worth in each
NEAR = 0.25  # of verdicts, by score, tell how often a flag of such a score is right
LEAST_COST = 0.01  # right flags that a step is held to cost at least, to rank those that cost none
STEP = 1e-4  # above a score, so that a flag of that score needs more

Group = tuple[str, str, str]  # leading metric, kind, direction


@dataclass(frozen=True, slots=True)
class Judged:
    """A flag with a verdict. right: it told of a real change."""

    group: Group
    score: float
    right: bool


@dataclass(frozen=True, slots=True)
class Fitted:
    """A group: how many were judged, how many of them wrong, and from which score on it is shown;
    None where 1.0, at which all flags begin, is enough.
    """

    metric: str
    kind: str
    direction: str
    judged: int
    wrong: int
    least_score: float | None


@dataclass(frozen=True, slots=True)
class Refit:
    """What the verdicts came to. before, after: false flags per 1,000 user-months, None where too few
    flags were judged to say.
    """

    groups: tuple[Fitted, ...]
    judged: int
    budget: float
    before: float | None
    after: float | None

    @property
    def words(self) -> str:
        """One sentence for a reader."""
        if self.before is None or self.after is None:
            return (
                f"{self.judged} flags have a verdict; from {LEAST_JUDGED} on the threshold is fitted "
                "to them."
            )
        text = (
            f"{self.judged} verdicts: {self.before:.1f} false flags per 1,000 user-months, the budget "
            f"is {self.budget:g}."
        )
        raised = sum(group.least_score is not None for group in self.groups)
        if not raised:
            return text + (
                " Nothing is asked for." if self.before <= self.budget else
                " No group has false flags that could go without true ones."
            )  # fmt: skip
        return text + f" With more evidence asked of {raised} groups: {self.after:.1f}."


def refit(
    judged: Sequence[Judged], flags: Mapping[Group, int], user_months: int, budget: float
) -> Refit:
    """Raise least scores until the false flags that verdicts tell of are within the budget.

    Args: flags: how many flags each group has in the months that were judged, with a verdict or not.
        user_months: that were scored in them. budget: false flags per 1,000 user-months.
    """
    if len(judged) < LEAST_JUDGED or user_months <= 0:
        return Refit((), len(judged), budget, None, None)
    per: dict[Group, list[tuple[Judged, float]]] = defaultdict(list)
    for one, likely in zip(judged, likely_right(judged).tolist(), strict=True):
        per[one.group].append((one, likely))
    # A flag that was judged stands for as many as its group has flags per verdict.
    weight = {
        group: 1_000 * max(flags.get(group, 0), len(rows)) / len(rows) / user_months
        for group, rows in per.items()
    }
    spare = LOST * sum(one.right for one in judged)
    floors: dict[Group, float] = {}
    wrong = Counter(one.group for one in judged if not one.right)
    before = rate = sum(weight[group] * count for group, count in wrong.items())
    while rate > budget:
        raises = [
            step
            for group in per
            if (step := _raised(per[group], floors.get(group, 0.0))) and step.lost <= spare
        ]
        if not raises:
            break
        best = max(
            raises, key=lambda it: (it.gone * weight[it.group] / (LEAST_COST + it.lost), it.group)
        )
        floors[best.group] = best.least_score
        spare -= best.lost
        rate -= best.gone * weight[best.group]
    groups = tuple(
        Fitted(*group, len(per[group]), wrong[group], floors.get(group)) for group in sorted(per)
    )
    return Refit(groups, len(judged), budget, before, max(rate, 0.0))


def likely_right(judged: Sequence[Judged]) -> NDArray[np.float64]:
    """How often a flag of such a score is right, whatever its group: the share among the nearest scores."""
    order = np.argsort([one.score for one in judged], kind="stable")
    right = np.array([judged[place].right for place in order], dtype=np.float64)
    reach = max(1, round(NEAR * len(judged) / 2))
    total = np.concatenate([[0.0], np.cumsum(right)])
    first = np.maximum(np.arange(len(judged)) - reach, 0)
    last = np.minimum(np.arange(len(judged)) + reach + 1, len(judged))
    share = np.empty(len(judged))
    share[order] = (total[last] - total[first]) / (last - first)
    return share


@dataclass(frozen=True, slots=True)
class _Raise:
    """A higher floor of a group: wrong flags that go, and right ones that likely go with them."""

    group: Group
    least_score: float
    gone: int
    lost: float


def _raised(rows: Sequence[tuple[Judged, float]], floor: float) -> _Raise | None:
    """The next floor at which a wrong flag goes. rows: with what `likely_right` says of each."""
    wrong = [one.score for one, _ in rows if one.score >= floor and not one.right]
    if not wrong:
        return None
    least = round(min(wrong) + STEP, 4)
    gone = sum(score < least for score in wrong)
    return _Raise(rows[0][0].group, least, gone, max(_lost(rows, least) - _lost(rows, floor), 0.0))


def _lost(rows: Sequence[tuple[Judged, float]], floor: float) -> float:
    """Right flags among those under a floor: as many as were seen, or more where that was luck."""
    under = [(one.right, likely) for one, likely in rows if one.score < floor]
    if not under:
        return 0.0
    seen = sum(right for right, _ in under)
    drawn = (seen + PRIOR * float(np.mean([likely for _, likely in under]))) / (len(under) + PRIOR)
    return max(float(seen), len(under) * drawn)
