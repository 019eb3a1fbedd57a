"""What scoring a month again made different: which flags came, went and changed."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from anomaly.records import Flag

SAME_SCORE = 1e-6  # closer scores are one figure, rounded on another way
KINDS = ("came", "went", "changed")


@dataclass(frozen=True, slots=True)
class Change:
    """One flag that is not as it was. before: None of one that came; after: None of one that went."""

    kind: Literal["came", "went", "changed"]
    before: Flag | None
    after: Flag | None

    @property
    def flag(self) -> Flag:
        """The flag as it is now, or as it was before it went."""
        flag = self.after or self.before
        if flag is None:
            raise ValueError("a change needs the flag before it or after it")
        return flag


def changes(before: Sequence[Flag], after: Sequence[Flag]) -> list[Change]:
    """What differs, the highest score first; flags that stayed the same are left out.

    A flag's counterpart is the one of the same id, else one of the same user that shares time with it
    and has no counterpart yet: a flag whose edge moved has changed, it did not go and come.
    """
    left = {flag.flag_id: flag for flag in before}
    pairs: list[tuple[Flag | None, Flag | None]] = []
    new = []
    for flag in after:
        same = left.pop(flag.flag_id, None)
        if same is None:
            new.append(flag)
        else:
            pairs.append((same, flag))
    of_user: dict[str, list[Flag]] = defaultdict(list)
    for flag in left.values():
        of_user[flag.user_id].append(flag)
    for flag in new:
        candidates = of_user[flag.user_id]
        other = next((old for old in candidates if _share_time(old, flag)), None)
        if other is not None:
            candidates.remove(other)
        pairs.append((other, flag))
    pairs += [(old, None) for flags in of_user.values() for old in flags]
    found = (_change(old, flag) for old, flag in pairs)
    different = [change for change in found if change is not None]
    return sorted(different, key=lambda change: (-change.flag.score, change.flag.flag_id))


def summary(kinds: Iterable[str]) -> str:
    """How many came, went and changed, in words."""
    all_of = list(kinds)
    parts = [f"{all_of.count(kind)} {kind}" for kind in KINDS if kind in all_of]
    return f"flags: {', '.join(parts)}" if parts else "no flag is different"


def _change(before: Flag | None, after: Flag | None) -> Change | None:
    if before is None:
        return Change("came", None, after)
    if after is None:
        return Change("went", before, None)
    same = _shape(before) == _shape(after) and abs(before.score - after.score) <= SAME_SCORE
    return None if same else Change("changed", before, after)


def _shape(flag: Flag) -> tuple[object, ...]:
    return flag.start, flag.end, flag.metrics, flag.severity, flag.kind, flag.direction


def _share_time(one: Flag, other: Flag) -> bool:
    return one.start < other.end and other.start < one.end
