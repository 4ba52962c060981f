"""Being let in at one registry: what it challenged us with, and the tokens that answer it.

Holds:
- the password or identity token goes to the registry itself or to a token service that `trust.check_realm` accepts, in
  a request that follows no redirect to another origin;
- a token is used for the scopes that it was asked for, until a margin before it ends; many requests that need the same
  new token at once cause one request for it.

Source: Docker's "Token Authentication Specification" and "Oauth2 Token Authentication".
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from yarl import URL

from homeport.client import challenges, trust
from homeport.client.challenges import Challenge
from homeport.client.credentials import Credential
from homeport.client.errors import BadAnswer, ClientError, LoginFailed
from homeport.client.refusals import refused
from homeport.client.retries import PATIENCE, Patience
from homeport.client.transport import Answer, Request, Transport, with_retries

CLIENT_ID = "homeport"
TOKEN_ANSWER_BYTES_MAX = 256 * 1024
TOKEN_CHARACTERS_MAX = 64 * 1024

#: What a token lives for when its service does not say (the specification's default), and at most.
LIFETIME_SECONDS_DEFAULT = 60.0
LIFETIME_SECONDS_MAX = 24 * 3600.0
#: A token is given up this long before its end, or for the last quarter of a short life.
MARGIN_SECONDS_MAX = 30.0


@dataclass(frozen=True, slots=True)
class _Token:
    value: str = field(repr=False)
    #: By the monotonic clock.
    ends_at: float


@dataclass(frozen=True, slots=True)
class _TokenService:
    realm: URL
    service: str


class Logins:
    """Makes the `Authorization` header for requests to one registry."""

    def __init__(
        self,
        transport: Transport,
        base: URL,
        credential: Credential | None,
        allowed_realms: Iterable[str],
        patience: Patience = PATIENCE,
    ) -> None:
        self._transport = transport
        self._patience = patience
        self._base = base
        self._credential = credential
        self._allowed_realms = frozenset(allowed_realms)
        self._basic = False
        self._token_service: _TokenService | None = None
        #: Scopes that the registry asked for when ours were not enough.
        self._also: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._asking = asyncio.Lock()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown: the login and the tokens that are in use."""
        own = self._credential.secrets if self._credential else ()
        return (*own, *(token.value for token in self._tokens.values()))

    async def header(self, scopes: tuple[str, ...]) -> str | None:
        """What to send with a request that needs `scopes`; None before the registry has asked for anything."""
        if self._basic and self._credential is not None:
            return self._credential.basic
        if self._token_service is None:
            return None
        wanted = self._wanted(scopes)
        if self._token(wanted) is None:
            async with self._asking:
                if self._token(wanted) is None:  # whoever held the lock may have brought it
                    if self._token_service is None:
                        return None
                    try:
                        self._tokens[wanted] = await self._new_token(self._token_service, wanted)
                    except ClientError:
                        self._token_service = None  # The registry is asked again who gives tokens.
                        raise
        return f"Bearer {self._tokens[wanted].value}"

    def challenged(self, answer_challenges: Iterable[str], scopes: tuple[str, ...], sent: str | None) -> bool:
        """Learns from a 401 to a request that carried `sent`: whether there is anything else to try.

        `Untrusted` if the registry names a token service that is not its own.
        """
        offered = {challenge.scheme: challenge for challenge in reversed(challenges.parse(answer_challenges))}
        bearer = offered.get("bearer")
        if bearer is not None and bearer.parameters.get("realm"):
            return self._learn_token_service(bearer, scopes, sent)
        if "basic" in offered and self._credential is not None and self._credential.username:
            self._basic = True
            return sent != self._credential.basic
        return False

    def _learn_token_service(self, bearer: Challenge, scopes: tuple[str, ...], sent: str | None) -> bool:
        realm = trust.check_realm(self._base, bearer.parameters["realm"], self._allowed_realms)
        self._basic = False
        self._token_service = _TokenService(realm, bearer.parameters.get("service", ""))
        missing = set(bearer.parameters.get("scope", "").split()) - set(scopes) - {"*"}
        if missing:
            self._also[scopes] = tuple(sorted(missing))
        wanted = self._wanted(scopes)
        token = self._tokens.get(wanted)
        if token is not None and sent == f"Bearer {token.value}":
            del self._tokens[wanted]
        return True

    def _token(self, scopes: tuple[str, ...]) -> _Token | None:
        now = self._transport.clock.monotonic()
        self._tokens = {key: token for key, token in self._tokens.items() if token.ends_at > now}
        return self._tokens.get(scopes)

    def _wanted(self, scopes: tuple[str, ...]) -> tuple[str, ...]:
        return scopes + self._also.get(scopes, ())

    async def _new_token(self, service: _TokenService, scopes: tuple[str, ...]) -> _Token:
        asked_at = self._transport.clock.monotonic()
        request = self._token_request(service, scopes)
        answer = await with_retries(
            self._transport.clock,
            lambda: self._transport.fetch(request, bytes_max=TOKEN_ANSWER_BYTES_MAX),
            self._patience,
        )
        if answer.status in (400, 401, 403) and self._credential is not None:
            text = f"{service.realm.host} does not accept the login that is configured for {self._base.host}"
            raise LoginFailed(text, status=answer.status)
        if answer.status != 200:
            raise refused(answer, now=self._transport.clock.now(), secrets=self.secrets)
        value, lifetime = _parse_token(answer)
        return _Token(value, asked_at + lifetime - min(MARGIN_SECONDS_MAX, lifetime / 4))

    def _token_request(self, service: _TokenService, scopes: tuple[str, ...]) -> Request:
        credential = self._credential
        if credential is not None and credential.identity_token:
            form = {
                "grant_type": "refresh_token",
                "refresh_token": credential.identity_token,
                "client_id": CLIENT_ID,
                "service": service.service,
                "scope": " ".join(scopes),
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            return Request("POST", service.realm, headers, body, body_is_secret=True, on_behalf_of=self._base.host)
        query = [("scope", scope) for scope in scopes]
        if service.service:
            query.insert(0, ("service", service.service))
        joined = "&".join(part for part in (service.realm.raw_query_string, urlencode(query)) if part)
        url = URL(f"{service.realm.with_query(None)}?{joined}", encoded=True) if joined else service.realm
        authorization = credential.basic if credential is not None else None
        return Request("GET", url, authorization=authorization, on_behalf_of=self._base.host)


def _parse_token(answer: Answer) -> tuple[str, float]:
    """The token and how many seconds it lives for."""
    try:
        document = json.loads(answer.body)
        value = document.get("token") or document.get("access_token")
        lifetime = float(document.get("expires_in") or LIFETIME_SECONDS_DEFAULT)
    except (ValueError, TypeError, AttributeError, RecursionError):
        raise BadAnswer(f"{answer.request}: not the answer of a token service") from None
    if not isinstance(value, str) or not value or len(value) > TOKEN_CHARACTERS_MAX or not _is_header_safe(value):
        raise BadAnswer(f"{answer.request}: answers without a usable token")
    if not lifetime > 0:  # also if it is not a number
        lifetime = LIFETIME_SECONDS_DEFAULT
    return value, min(lifetime, LIFETIME_SECONDS_MAX)


def _is_header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value
