"""The key file, and the database's secret that lies under its key.

The file holds one key a line, the first in use; lines after it are keys that are being replaced.
Without [privacy] key_file the secret lies in the database as it is: the audit's chain then holds
against whoever cannot write to the database, and names are not sealed.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from anomaly.exceptions import SettingsError, UsageError
from anomaly.secrecy import SECRET_BYTES, Secret
from anomaly.store import Sealed

if TYPE_CHECKING:
    import datetime as dt
    from collections.abc import Sequence

    from anomaly.settings import Settings
    from anomaly.store import Store

KEY_ID_DIGITS = 8


def create_key_file(path: Path) -> str:
    """Write a file with a new key, for its owner alone to read.

    Returns: the key's id. Raises: UsageError if the file is there or cannot be written.
    """
    key = Fernet.generate_key().decode()
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise UsageError(
            f"{path}: is there already. Replace its key with: anomaly key rotate"
        ) from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error.strerror}).") from error
    with os.fdopen(handle, "w") as file:
        file.write(f"{key}\n")
        file.flush()
        os.fsync(file.fileno())
    return key_id(key)


def read_keys(path: Path) -> list[str]:
    """The keys of a file, the one in use first.

    Raises: SettingsError if it cannot be read, anybody may read it, or it holds no key.
    """
    try:
        text = path.read_text(encoding="ascii")
        anybody = path.stat().st_mode & stat.S_IROTH
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            f"[privacy] key_file {path}: cannot be read ({type(error).__name__}). Make one with: "
            "anomaly key create"
        ) from error
    if anybody:
        raise SettingsError(
            f"[privacy] key_file {path}: anybody may read it. Keep it to its owner: chmod 600"
        )
    keys = [line.strip() for line in text.splitlines() if line.strip()]
    try:
        for key in keys:
            Fernet(key)
    except ValueError as error:
        raise SettingsError(
            f"[privacy] key_file {path}: a line is no key. Restore it from a backup; "
            "anomaly key create makes one for a new database."
        ) from error
    if not keys:
        raise SettingsError(f"[privacy] key_file {path}: holds no key.")
    return keys


def key_id(key: str) -> str:
    """Names a key without giving it away."""
    return hashlib.sha256(key.encode()).hexdigest()[:KEY_ID_DIGITS]


def open_secret(settings: Settings, store: Store, now: dt.datetime) -> Secret:
    """The database's secret; made at the first use, and sealed once a key file is set.

    Raises: SettingsError if the key file is not the one that the secret is under.
    """
    keys = _keys(settings)
    sealed = store.secrets.read()
    if sealed is None:
        sealed = store.secrets.create(_seal(secrets.token_bytes(SECRET_BYTES), keys), now)
    secret = _open(settings, sealed, keys)
    if sealed.key_id is None and keys:
        store.secrets.replace(sealed, _seal(secret.content, keys), now)
    return secret


def rotate_key(settings: Settings, store: Store, now: dt.datetime) -> tuple[str, str]:
    """Put the secret under a new key; the old one opens nothing of this database any more.

    Killed in between, the file holds both keys and everything works; a second call ends it. A file
    that cannot be written gets its new key from whoever can: as a first line, before the call.
    Returns: the ids of the old key and the new one. Raises: SettingsError; UsageError without a
        key file, or if it holds one key and cannot be written.
    """
    path = settings.privacy.key_file
    if path is None:
        raise UsageError(
            "[privacy] key_file is not set, so there is no key. Make one with: anomaly key create"
        )
    keys = read_keys(path)
    if len(keys) == 1:
        keys = [Fernet.generate_key().decode(), *keys]
        _write(path, keys)
    secret = open_secret(settings, store, now)
    sealed = store.secrets.read()
    assert sealed is not None
    store.secrets.replace(sealed, _seal(secret.content, keys), now)
    _write(path, keys[:1])
    return key_id(keys[1]), key_id(keys[0])


def _keys(settings: Settings) -> list[str]:
    return [] if settings.privacy.key_file is None else read_keys(settings.privacy.key_file)


def _seal(content: bytes, keys: Sequence[str]) -> Sealed:
    if not keys:
        return Sealed(content, None)
    return Sealed(Fernet(keys[0]).encrypt(content), key_id(keys[0]))


def _open(settings: Settings, sealed: Sealed, keys: Sequence[str]) -> Secret:
    if sealed.key_id is None:
        return Secret(sealed.content)
    if not keys:
        raise SettingsError(
            f"[privacy] key_file is not set, but this database is under key {sealed.key_id}. "
            "Name the file that holds it."
        )
    try:
        return Secret(MultiFernet([Fernet(key) for key in keys]).decrypt(sealed.content))
    except InvalidToken as error:
        raise SettingsError(
            f"[privacy] key_file {settings.privacy.key_file}: this database is under key "
            f"{sealed.key_id}, the file holds {', '.join(map(key_id, keys))}. Restore the right one."
        ) from error


def _write(path: Path, keys: Sequence[str]) -> None:
    draft = path.with_name(f".{path.name}.new")
    try:
        handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(handle, "w") as file:
            file.write("".join(f"{key}\n" for key in keys))
            file.flush()
            os.fsync(file.fileno())
        draft.replace(path)
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be written ({error.strerror}). Whoever can: keep the key in use as its "
            "only line; before a rotation, put a new one before it (anomaly key create writes one)."
        ) from error
