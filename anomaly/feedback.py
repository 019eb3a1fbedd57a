"""What analysts say of flags, and what follows from it.

    true         something was wrong or worth knowing
    false alarm  nothing had happened that matters; similar flags need more evidence from now on
    expected     something had happened, and it was in order; similar flags need more evidence
    new normal   it is how this user works from now on: the user's baseline starts afresh there

Nothing here touches a score or a flag: a flag that lacks the evidence asked for is kept, and shown
as suppressed.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from anomaly.exceptions import UsageError
from anomaly.records import DIRECTIONS, KINDS, STATUSES

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Iterable, Sequence

VERDICTS = ("true", "false_alarm", "expected", "new_normal")
RIGHT = ("true", "new_normal")  # the flag told of something that had really changed
QUIETING = ("false_alarm", "expected")
SCOPES = ("user", "cohort", "none")
FORMER = {"real": "true", "false": "false_alarm"}  # names of before
LONGEST_NOTE = 4_000  # characters
LONGEST_AUTHOR = 200


class Similar(Protocol):
    """What of a flag decides which suppressions cover it."""

    @property
    def user_id(self) -> str:
        """Whose it is."""
        ...

    @property
    def start(self) -> dt.datetime:
        """When it begins, aware."""
        ...

    @property
    def metrics(self) -> str:
        """Names joined by ';', the leading one first."""
        ...

    @property
    def kind(self) -> str:
        """One of KINDS."""
        ...

    @property
    def direction(self) -> str:
        """One of DIRECTIONS."""
        ...

    @property
    def score(self) -> float:
        """1 is where flags begin."""
        ...

    @property
    def observed(self) -> float:
        """Total of the leading metric."""
        ...

    @property
    def expected(self) -> float:
        """What was expected of it."""
        ...


@dataclass(frozen=True, slots=True)
class Suppression:
    """Asks for more evidence or effect of some flags; None in a field of its scope means any.

    Covers flags of this user or cohort whose leading metric, kind and direction are these and that
    begin within [start, end), aware UTC; end None: until revoked. least_score, least_effect: what a
    covered flag must reach (|observed - expected|) to be shown as open; neither: none is enough.
    flag_id: the flag whose verdict made it, None where somebody wrote it or the refit did.
    """

    start: dt.datetime
    reason: str
    author: str
    user_id: str | None = None
    cohort: str | None = None
    metric: str | None = None
    kind: str | None = None
    direction: str | None = None
    end: dt.datetime | None = None
    least_score: float | None = None
    least_effect: float | None = None
    flag_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse what could never be meant."""
        _keepable(reason=self.reason, user=self.user_id, cohort=self.cohort, metric=self.metric)
        _one_of("kind", self.kind, KINDS)
        _one_of("direction", self.direction, DIRECTIONS)
        if self.end is not None and self.end <= self.start:
            raise UsageError(
                f"suppression: it would end ({self.end:%Y-%m-%d}) before it begins "
                f"({self.start:%Y-%m-%d}). Give a later end, or none to keep it until revoked."
            )
        for name, value in (("score", self.least_score), ("effect", self.least_effect)):
            if value is not None and not 0 < value < float("inf"):
                raise UsageError(
                    f"suppression: a least {name} of {value} is none. Give more than 0."
                )

    def covers(self, flag: Similar, cohort: str) -> bool:
        """Whether it speaks of this flag. cohort: the user's in that month."""
        wanted = (
            (self.user_id, flag.user_id),
            (self.cohort, cohort),
            (self.metric, flag.metrics.split(";", 1)[0]),
            (self.kind, flag.kind),
            (self.direction, flag.direction),
        )
        inside = self.start <= flag.start and (self.end is None or flag.start < self.end)
        return inside and all(mine is None or mine == its for mine, its in wanted)

    def quiets(self, flag: Similar, cohort: str) -> bool:
        """Whether it covers the flag and asks for more than the flag brings."""
        if not self.covers(flag, cohort):
            return False
        if self.least_score is None and self.least_effect is None:
            return True
        weak = self.least_score is not None and flag.score < self.least_score
        effect = abs(flag.observed - flag.expected)
        return weak or (self.least_effect is not None and effect < self.least_effect)

    @property
    def whom(self) -> str:
        """Its scope in words."""
        if self.user_id is not None:
            return f"user {self.user_id}"
        return "everyone" if self.cohort is None else f"members of {self.cohort}"

    @property
    def asks(self) -> str:
        """What it asks of a flag, in words."""
        parts = []
        if self.least_score is not None:
            parts.append(f"a score of {self.least_score:.2f}")
        if self.least_effect is not None:
            parts.append(f"a departure of {self.least_effect:g}")
        return " and ".join(parts) or "ignored whatever the evidence"


def quieted_by(
    flag: Similar, cohort: str, suppressions: Iterable[tuple[int, Suppression]]
) -> int | None:
    """The number of the first suppression that quiets a flag, None if none does."""
    return next((number for number, one in suppressions if one.quiets(flag, cohort)), None)


@dataclass(frozen=True, slots=True)
class Terms:
    """What follows from a verdict. margin: how much more evidence than the judged flag's score
    similar ones need; keep: for how long.
    """

    margin: float
    keep: dt.timedelta

    def suppression(
        self, flag: Similar, flag_id: str, label: Label, cohort: str, now: dt.datetime
    ) -> Suppression | None:
        """What asks for more evidence after a verdict on a flag; None where nothing does."""
        if label.verdict not in QUIETING or label.scope == "none":
            return None
        if label.scope == "cohort" and cohort == "everyone":
            raise UsageError(
                f"flag {flag_id}: {flag.user_id} is in no cohort, so none can be quieted. "
                "Say it of the user."
            )
        return Suppression(
            start=flag.start,
            end=label.until or max(now, flag.start) + self.keep,
            reason=label.note or f"{label.verdict.replace('_', ' ')}: flag {flag_id}",
            author=label.author,
            user_id=flag.user_id if label.scope == "user" else None,
            cohort=cohort if label.scope == "cohort" else None,
            metric=flag.metrics.split(";", 1)[0],
            kind=flag.kind,
            direction=flag.direction,
            least_score=round(flag.score * self.margin, 4),
            flag_id=flag_id,
        )


@dataclass(frozen=True, slots=True)
class Label:
    """A verdict on a flag.

    scope: whose similar flags need more evidence after a false alarm or an expected one: of this
    user, of the user's cohort, of none. until: when that ends; default: as long as the terms say.
    replacing: the standing verdict that the author has seen and overrules.
    """

    flag_id: str
    verdict: str
    author: str
    note: str = ""
    scope: str = "user"
    until: dt.datetime | None = None
    replacing: str | None = None

    def __post_init__(self) -> None:
        """Refuse what no one can have said."""
        if self.verdict not in VERDICTS:
            raise UsageError(f"verdict {self.verdict[:40]!r} is none of {', '.join(VERDICTS)}.")
        _one_of("scope", self.scope, SCOPES)
        _keepable(flag_id=self.flag_id)
        _check_words(self.author, self.note)


@dataclass(frozen=True, slots=True)
class Remark:
    """What else is said of a flag: a comment, another status, somebody to look at it ('' nobody)."""

    flag_id: str
    author: str
    note: str = ""
    status: str | None = None
    assignee: str | None = None

    def __post_init__(self) -> None:
        """Refuse an empty one."""
        _one_of("status", self.status, STATUSES)
        _keepable(flag_id=self.flag_id, assignee=self.assignee)
        _check_words(self.author, self.note)
        if not self.note and self.status is None and self.assignee is None:
            raise UsageError("remark: it says nothing. Give a comment, a status or an assignee.")
        if self.assignee is not None and len(self.assignee) > LONGEST_AUTHOR:
            raise UsageError(f"assignee: longer than {LONGEST_AUTHOR} characters. Shorten it.")


def verdict_of(text: str) -> str:
    """A verdict as people write it: 'false alarm', 'False-Alarm', and the former names.

    Raises: UsageError with the nearest one.
    """
    word = "_".join(text.strip().lower().replace("-", " ").replace("_", " ").split())
    word = FORMER.get(word, word)
    if word in VERDICTS:
        return word
    if word == "unsure":
        raise UsageError(
            "verdict 'unsure' is no longer one: leave the verdict open and acknowledge the flag "
            "(anomaly flags note FLAG --status acknowledged)."
        )
    near = difflib.get_close_matches(word, VERDICTS, n=1)
    hint = f" Did you mean {near[0]}?" if near else ""
    raise UsageError(f"verdict {text[:40]!r} is none of {', '.join(VERDICTS)}.{hint}")


def contradictions(labels: Sequence[Label]) -> None:
    """Refuse labels that say different things of one flag.

    Raises: UsageError naming the flag and both places.
    """
    first: dict[str, tuple[int, str]] = {}
    for place, label in enumerate(labels, start=1):
        where, verdict = first.setdefault(label.flag_id, (place, label.verdict))
        if verdict != label.verdict:
            raise UsageError(
                f"labels {where} and {place} contradict each other: flag {label.flag_id} is said to "
                f"be {verdict} and {label.verdict}. Nothing was written; keep one of them."
            )


def _check_words(author: str, note: str) -> None:
    if not author.strip() or len(author) > LONGEST_AUTHOR:
        raise UsageError(f"author: give a name of 1 to {LONGEST_AUTHOR} characters.")
    if len(note) > LONGEST_NOTE:
        raise UsageError(
            f"note: {len(note)} characters, at most {LONGEST_NOTE} are kept. Shorten it."
        )
    _keepable(author=author, note=note)


def _keepable(**texts: str | None) -> None:
    """Refuse texts that no database keeps: with a NUL, or half of a character."""
    for name, text in texts.items():
        if text is not None and ("\0" in text or any("\ud800" <= one <= "\udfff" for one in text)):
            raise UsageError(
                f"{name}: holds a NUL or half a character (a lone surrogate), which no database "
                "keeps. Leave it out."
            )


def _one_of(what: str, value: str | None, known: Sequence[str]) -> None:
    if value is not None and value not in known:
        raise UsageError(f"{what} {value[:40]!r} is none of {', '.join(known)}.")
