"""Who may open a pseudonym or erase a user from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING

from anomaly.exceptions import UsageError
from anomaly.roles import Role

if TYPE_CHECKING:
    from pipelines.services import Services

VARIABLE = "ANOMALY_TOKEN"


def administrator(services: Services, account: str, secret: str | None) -> str:
    """Who acts, as the audit knows them: the holder of an administrator's token.

    Where no token was ever made, whoever can read the key and the database has the right, and is
    known by the account of the machine.

    Args: secret: of the token, if one was given.
    Raises: UsageError if a token is needed and this is none, or one of a lower role.
    """
    tokens = services.store.tokens
    if secret is None and not tokens.ever_made():
        return account
    found = tokens.find(secret or "", "token", services.clock())
    if found is None:
        raise UsageError(
            f"this takes the token of an administrator: set the variable {VARIABLE} to one that is "
            "valid. An administrator makes one with: anomaly token create NAME --role administrator"
        )
    if not found.role.covers(Role.ADMINISTRATOR):
        raise UsageError(
            f"token {found.id} of {found.name} is of the role {found.role}; this takes the role "
            f"{Role.ADMINISTRATOR}. Ask an administrator, or for a token of that role."
        )
    return found.name
