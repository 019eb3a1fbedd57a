"""Who may do what: five roles, each with all that the ones before it may do (decision 9)."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal


class Role(StrEnum):
    """From the least to the most; see docs/security.md."""

    MONITOR = "monitor"  # the metrics, which name nobody: for Prometheus
    READER = "reader"  # flags, users, the model: looks at what was found
    ANALYST = "analyst"  # says what a flag was worth, suppresses, annotates
    OPERATOR = "operator"  # asks for runs, promotes models
    ADMINISTRATOR = "administrator"  # sees and ends log-ons and tokens

    def covers(self, needed: Role) -> bool:
        """Whether who has this role may do what `needed` may."""
        order = list(Role)
        return order.index(self) >= order.index(needed)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks. name: as feedback, requests and the audit write it.

    way: how they are known: as the local user of an open server, by a token, or by a log-on.
    """

    name: str
    role: Role
    way: Literal["local", "token", "session"]
