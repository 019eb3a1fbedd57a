"""Who may do what: five roles, each with all that the ones before it may do (decision 9)."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
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


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom a provider of identities says it is. subject: its own name for the person, for good."""

    name: str
    subject: str
    role: Role | None


def identity(
    claims: Mapping[str, object],
    name_claim: str,
    role_claim: str,
    roles: Mapping[str, Role],
    default: Role | None,
) -> Identity:
    """Read a person off the claims of a provider.

    Args: name_claim, role_claim: a claim's name, or a way inwards: realm_access.roles.
        roles: values of the role claim and their roles; the highest counts. default: without any.
    Returns: a name that prints on one line; the role is None where nothing gives one.
    """
    held = _claim(claims, role_claim)
    values = held if isinstance(held, list) else [held]
    given = [roles[value] for value in values if isinstance(value, str) and value in roles]
    subject = str(claims.get("sub", ""))
    name = "".join(filter(str.isprintable, str(_claim(claims, name_claim) or ""))).strip()
    return Identity(name or subject, subject, max(given, key=list(Role).index, default=default))


def is_local(host: str) -> bool:
    """Whether only this machine reaches an address to listen on."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _claim(claims: Mapping[str, object], name: str) -> object:
    if name in claims:
        return claims[name]
    found: object = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found
