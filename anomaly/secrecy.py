"""What follows from one secret: keyed hashes that only its holder can make, and sealed names.

A keyed hash of a name cannot be undone by trying names, as a plain one can. Each purpose has a key
of its own, so that equal names look different in different places.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.fernet import Fernet

SECRET_BYTES = 32
PSEUDONYM_PREFIX = "p-"
PSEUDONYM_LENGTH = 24  # of 5 bits each: among a billion users no two are alike (1 in 10^18)
HASH_DIGITS = 32

_PSEUDONYM = re.compile(f"{PSEUDONYM_PREFIX}[a-z2-7]{{{PSEUDONYM_LENGTH}}}")


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """Random bytes from which every key follows. They are never shown, not even in a traceback."""

    content: bytes

    def __repr__(self) -> str:
        return "Secret(...)"

    def key(self, purpose: str) -> bytes:
        """The key of one purpose, 32 bytes."""
        return hmac.digest(self.content, purpose.encode(), hashlib.sha256)

    def hashed(self, purpose: str, text: str) -> str:
        """A keyed hash: 32 hexadecimal digits."""
        return self.digest(purpose, text)[:HASH_DIGITS]

    def digest(self, purpose: str, text: str) -> str:
        """A keyed hash at its full length: 64 hexadecimal digits."""
        return hmac.digest(self.key(purpose), text.encode(), hashlib.sha256).hex()

    def pseudonym(self, name: str) -> str:
        """What stands for a user's name everywhere: p- and 24 letters and digits."""
        code = base64.b32encode(hmac.digest(self.key("pseudonym"), name.encode(), hashlib.sha256))
        return PSEUDONYM_PREFIX + code.decode().lower()[:PSEUDONYM_LENGTH]

    def person(self, user_id: str) -> str:
        """What is remembered of an erased user: enough to know the same one again, and no more."""
        return self.hashed("erased", user_id)

    def names(self) -> Fernet:
        """Seals names and opens them again."""
        # Only pseudonyms need it; whoever looks at flags should not wait for it.
        from cryptography.fernet import Fernet  # noqa: PLC0415

        return Fernet(base64.urlsafe_b64encode(self.key("names")))


def is_pseudonym(user_id: str) -> bool:
    """Whether a user_id looks like a pseudonym."""
    return _PSEUDONYM.fullmatch(user_id) is not None
