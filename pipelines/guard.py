"""Who is let in: the door of the server, the key that signs its cookies, and when it must not open."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import secrets
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from anomaly.exceptions import SettingsError
from anomaly.roles import is_local
from anomaly.settings import secret_in
from anomaly.web.access import Door, Provider
from pipelines.services import artefacts_folder

if TYPE_CHECKING:
    from anomaly.settings import Settings, WebSettings
    from pipelines.services import Services

KEY_FILE = "web.key"
KEY_BYTES = 32
SHORTEST_TOKEN = 32  # characters of a token that somebody else made
FIRST_TOKEN_LASTS = dt.timedelta(days=30)  # from each start
log = structlog.get_logger()


def open_door(services: Services) -> Door:
    """The door as [web] says.

    Raises: SettingsError if others could reach the server and nobody could log on.
    """
    web = services.settings.web
    if web.first_token_file is not None:
        now = services.clock()
        secret = _first_token(web.first_token_file)
        services.store.tokens.adopt(secret, "first token", now, now + FIRST_TOKEN_LASTS)
    somebody_can = web.issuer is not None or services.store.tokens.opens(services.clock())
    refuse_unguarded(web, somebody_can=somebody_can)
    if not is_local(web.host) and not (web.public_url or "").startswith("https:"):
        log.warning(
            "tokens_travel_in_clear",
            do="put a proxy with TLS before this and set [web] public_url to its https:// address",
        )
    key = session_key(services.settings)
    return Door(
        services.store.tokens, web, key, services.clock, _provider(web), services.audit.record
    )


def refuse_unguarded(web: WebSettings, *, somebody_can: bool) -> None:
    """Refuse to listen where others reach the server unless they must log on, and somebody can.

    Args: somebody_can: whether there is a valid token or a provider of identities.
    Raises: SettingsError that says what to do.
    """
    place = f"[web] host {web.host}"
    if not is_local(web.host) and web.authentication == "none":
        raise SettingsError(
            f'{place}: others reach this address, and [web] authentication = "none" would let them '
            'all in. Set it to "auto", or listen on 127.0.0.1.'
        )
    if not somebody_can and (web.authentication == "required" or not is_local(web.host)):
        raise SettingsError(
            f"{place}: people must log on here, and nobody can. Make a token first: anomaly token "
            "create NAME --role administrator; or name a provider: [web] issuer; or give one to start "
            "with: [web] first_token_file; or listen on 127.0.0.1, which is open to this machine."
        )


def _provider(web: WebSettings) -> Provider | None:
    if web.issuer is None:
        return None
    from anomaly.web.oidc import OpenIdProvider

    file = web.client_secret_file
    secret = None if file is None else secret_in(file, "[web] client_secret_file")
    return OpenIdProvider(web, secret)


def _first_token(file: Path) -> str:
    secret = secret_in(file, "[web] first_token_file")
    if len(secret) < SHORTEST_TOKEN:
        raise SettingsError(
            f"[web] first_token_file {file}: {len(secret)} characters could be guessed, "
            f"{SHORTEST_TOKEN} are needed. Write one: openssl rand -hex 24 > FILE"
        )
    return secret


def session_key(settings: Settings) -> bytes:
    """The key that signs cookies: from [web] session_key_file, else made once, beside the models.

    Where that cannot be written the key lasts as long as this process, and log-ons with it.
    Raises: SettingsError if the named file cannot be read or holds too little.
    """
    named = settings.web.session_key_file
    if named is not None:
        return _read_key(named)
    kept = artefacts_folder(settings) / KEY_FILE
    try:
        if not kept.exists():
            _write_once(kept, secrets.token_bytes(KEY_BYTES))
    except OSError as error:
        log.warning("log_ons_end_with_this_process", file=str(kept), error=error.strerror)
        return secrets.token_bytes(KEY_BYTES)
    return _read_key(kept)


def _read_key(file: Path) -> bytes:
    try:
        key = file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"[web] session_key_file {file}: cannot be read ({error.strerror}). "
            "Write one: head -c 32 /dev/urandom > FILE"
        ) from error
    if len(key) < KEY_BYTES:
        raise SettingsError(
            f"[web] session_key_file {file}: holds {len(key)} bytes, {KEY_BYTES} are needed. "
            "Write one: head -c 32 /dev/urandom > FILE"
        )
    return key


def _write_once(file: Path, content: bytes) -> None:
    """Write a file for its owner alone; where another process was quicker, its file stays."""
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, draft = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}-")
    try:
        with os.fdopen(handle, "wb") as written:
            written.write(content)
        with contextlib.suppress(FileExistsError):
            os.link(draft, file)
    finally:
        Path(draft).unlink()
