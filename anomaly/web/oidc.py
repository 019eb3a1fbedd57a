"""Log-on by a provider of identities: OpenID Connect's code flow with PKCE, state and nonce.

authlib does it; what is added here: the issuer must be the one that the settings name, tokens are
signed by keys (never by "none" or by a shared secret), and whatever fails becomes one short answer.
"""

from __future__ import annotations

import warnings
from typing import Any

import structlog
from fastapi import HTTPException, Request, Response

from anomaly.roles import Identity, identity
from anomaly.settings import WebSettings

with warnings.catch_warnings():
    import authlib.deprecate  # sets a filter of its own, so it comes before ours

    warnings.simplefilter("ignore", authlib.deprecate.AuthlibDeprecationWarning)
    import httpx
    from authlib.common.errors import AuthlibBaseError
    from authlib.integrations.starlette_client import OAuth
    from joserfc.errors import JoseError

SECONDS = 10  # that the provider may take to answer
SIGNATURES = (
    "RS256",
    "RS384",
    "RS512",
    "PS256",
    "PS384",
    "PS512",
    "ES256",
    "ES384",
    "ES512",
    "EdDSA",
)
FAILURES = (
    AuthlibBaseError,
    JoseError,
    httpx.HTTPError,
    KeyError,
    TypeError,
    ValueError,
    RuntimeError,
)
log = structlog.get_logger()


class OpenIdProvider:
    """The provider that [web] issuer names; asked for the first time when somebody logs on."""

    def __init__(self, settings: WebSettings, secret: str | None) -> None:
        assert settings.issuer is not None
        self._settings = settings
        self._client: Any = OAuth().register(
            "provider",
            client_id=settings.client_id,
            client_secret=secret,
            server_metadata_url=f"{settings.issuer.rstrip('/')}/.well-known/openid-configuration",
            client_kwargs={
                "scope": settings.scopes,
                "code_challenge_method": "S256",
                "timeout": SECONDS,
            },
        )

    async def start(self, request: Request, back: str) -> Response:
        """Lead a browser to the provider, which leads it to `back`.

        Raises: HTTPException 502 if the provider does not answer or is another.
        """
        try:
            await self._check_provider()
            response: Response = await self._client.authorize_redirect(request, back)
        except FAILURES as error:
            raise _refused(error) from error
        return response

    async def finish(self, request: Request) -> Identity:
        """Whom the provider let in.

        Raises: HTTPException 502 if that cannot be known.
        """
        wanted = self._settings
        try:
            await self._check_provider()
            options = {"iss": {"essential": True, "values": [wanted.issuer]}}
            token = await self._client.authorize_access_token(request, claims_options=options)
            claims = dict(token["userinfo"])
            if self._client.server_metadata.get("userinfo_endpoint"):
                more = await self._client.userinfo(token=token)
                if more.get("sub") != claims["sub"]:
                    raise ValueError("userinfo is about somebody else")
                claims = {**more, **claims}
        except FAILURES as error:
            raise _refused(error) from error
        return identity(
            claims, wanted.name_claim, wanted.role_claim, wanted.roles, wanted.default_role
        )

    async def _check_provider(self) -> None:
        known = await self._client.load_server_metadata()
        if known["issuer"] != self._settings.issuer:
            raise ValueError(
                f"the provider calls itself {known['issuer']!r}; set [web] issuer to that"
            )
        offered = known.get("id_token_signing_alg_values_supported", ["RS256"])
        known["id_token_signing_alg_values_supported"] = [a for a in SIGNATURES if a in offered]


def _refused(error: Exception) -> HTTPException:
    log.warning("provider_refused", kind=type(error).__name__, error=str(error))
    return HTTPException(
        502, "the log-on with your organisation did not work. Try again; the server's log says why."
    )
