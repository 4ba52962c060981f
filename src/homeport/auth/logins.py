"""From an Authorization header to an actor, and the logic of the token service.

Holds: a password is checked once for a burst of requests, and remembered for a few minutes under a keyed hash of the
header; at every use what the login rests on is read again, so a changed password, a removed user or a revoked token
counts at once, whichever process changed it. Nothing here knows HTTP but for the text of the header.
Source: RFC 7617 (Basic), RFC 6750 (Bearer), RFC 6749 (OAuth2), distribution, "Token Authentication Specification".
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import NamedTuple

from homeport import events
from homeport.auth import bearer, keys, scopes, tokens
from homeport.auth.actors import ANONYMOUS, NODE, Actor
from homeport.auth.bearer import BearerInvalid, Claims
from homeport.auth.directory import NOBODY, Directory, Login, LoginSettings
from homeport.auth.errors import UserNameInvalid
from homeport.auth.networks import contain
from homeport.auth.passwords import Passwords
from homeport.auth.permissions import Policy
from homeport.auth.throttle import Throttle
from homeport.auth.tokens import Secret, Token
from homeport.auth.users import check_name
from homeport.clock import Clock, rfc3339
from homeport.db.database import Database, DatabaseError
from homeport.oci.errors import RequestInvalid, Unauthorized

#: For how long a verified header is believed, as long as what it rests on holds.
REMEMBER_SECONDS = 300.0
#: How many headers are remembered, of each scheme. Strangers can get bearer tokens, so those never crowd out passwords.
REMEMBERED_MAX = 2048
AUTHORIZATION_CHARACTERS_MAX = bearer.CHARACTERS_MAX + len("Bearer ")


@dataclass(frozen=True, slots=True)
class IssuedToken:
    """What the token service answers."""

    token: str
    expires_in_seconds: int
    #: RFC 3339.
    issued_at: str
    #: What was granted, as OAuth2 says it.
    scope: str
    refresh_token: str | None = None


class _Remembered(NamedTuple):
    login: Login
    directory: Directory
    until: float


def basic(user: str, password: str) -> str:
    """The Authorization header of a user and its password, which came otherwise (OAuth2's password grant)."""
    if ":" in user:
        raise Unauthorized("a user name has no colon")
    return "Basic " + base64.b64encode(f"{user}:{password}".encode("utf-8", "replace")).decode("ascii")


class Logins:
    """Tells who sent a request. One for the process; for the tasks of one event loop."""

    def __init__(self, database: Database, clock: Clock, passwords: Passwords, settings: LoginSettings) -> None:
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._throttle = Throttle(clock)
        #: A keyed hash: what it is fed first fills one block, and nobody else knows it.
        self._hasher = hashlib.sha256(clock.random_bytes(64))
        self._basics: dict[bytes, _Remembered] = {}
        self._bearers: dict[bytes, _Remembered] = {}
        self.reload(settings)

    def reload(self, settings: LoginSettings) -> None:
        """Go by another configuration from now on. Every login is verified again under it."""
        self._directory = Directory(self._database, self._clock, self._passwords, settings)
        self._checks: dict[bytes, asyncio.Task[_Remembered]] = {}

    @property
    def policy(self) -> Policy:
        """The rights of now."""
        return self._directory.settings.policy

    async def authenticate(self, authorization: str | None, address: str) -> Actor:
        """Who sends this header from `address`. No header, and an empty user with an empty password, are nobody's.

        Basic takes a user's password or a token (then the user's name does not matter), Bearer what `token` gave or a
        personal or robot token by itself.
        Raises `Unauthorized`, and `TooManyRequests` after repeated failures.
        """
        return self._placed((await self._login(authorization, address)).actor, address)

    def nobody(self, address: str) -> Actor:
        """Who asks from `address` without credentials, or with some that are not looked at."""
        return self._placed(ANONYMOUS, address)

    async def token(
        self,
        asked: Iterable[str],
        address: str,
        *,
        authorization: str | None = None,
        refresh_token: str | None = None,
        offline: bool = False,
    ) -> IssuedToken:
        """A bearer token for those of the scopes `asked` for that the caller may have, which may be none.

        The caller shows a password or token (`authorization`), a refresh token, or nothing. With `offline`, whoever
        showed a password is given a refresh token instead of it. Raises `Unauthorized`, `TooManyRequests`,
        `RequestInvalid`.
        """
        scope = scopes.parse(asked)
        if refresh_token is None:
            login = await self._login(authorization, address)
        else:
            login = await self._by_refresh_token(refresh_token)
        if login.actor.scope is not None:
            raise Unauthorized("a bearer token is not good for getting another")
        scope = scopes.granted(self.policy, self._placed(login.actor, address), scope)
        now = int(self._clock.now())
        expires_at = min(now + self._directory.settings.token_seconds, login.expires_at)
        key = await self._signing_key()
        kind, subject, bound = _subject(login, key)
        claims = Claims(kind, subject, bound, scope, self._clock.new_id(), now, int(expires_at))
        text = bearer.sign(key, self._directory.settings.service, claims)
        if len(text) > bearer.CHARACTERS_MAX:
            raise RequestInvalid("a token for so many repositories with such long names would fit into no header")
        return IssuedToken(
            text,
            claims.expires_at - now,
            rfc3339(now),
            scopes.text(scope),
            await self._new_refresh_token(login, address) if offline and refresh_token is None else None,
        )

    def _placed(self, actor: Actor, address: str) -> Actor:
        """Nobody in particular is a node where the policy says so of the address, which is asked at every request."""
        networks = self.policy.networks
        if actor.kind == "anonymous" and networks and contain(networks, address):
            return NODE if actor.scope is None else replace(NODE, scope=actor.scope)
        return actor

    async def _login(self, authorization: str | None, address: str) -> Login:
        if authorization is None:
            return NOBODY
        if len(authorization) > AUTHORIZATION_CHARACTERS_MAX:
            raise Unauthorized("the Authorization header is too long")
        memory = self._bearers if authorization[:7].lower() == "bearer " else self._basics
        hasher = self._hasher.copy()
        hasher.update(authorization.encode("utf-8", "replace"))
        digest = hasher.digest()
        known = memory.get(digest)
        if known is not None:
            login = known.login
            if self._clock.now() < login.expires_at and await self._directory.holds(login):
                if known.directory is self._directory and self._clock.monotonic() < known.until:
                    return login
            else:
                memory.pop(digest, None)
                known = None
        found = await self._checked(digest, memory, authorization, address, trusted=known is not None)
        # The check may have begun before this request came, and the password been changed in between.
        if not await found.directory.holds(found.login):
            raise Unauthorized("what the login rests on has changed meanwhile")
        return found.login

    async def _checked(
        self, digest: bytes, memory: dict[bytes, _Remembered], authorization: str, address: str, *, trusted: bool
    ) -> _Remembered:
        """Check the header, once for all requests that bring it at the same time."""
        checks = self._checks
        check = checks.get(digest)
        if check is None:
            check = checks[digest] = asyncio.create_task(
                self._check(self._directory, digest, memory, authorization, address, trusted=trusted)
            )
            check.add_done_callback(lambda done: _forget(checks, digest, done))
        return await asyncio.shield(check)  # The others go on when one of them is cancelled.

    async def _check(
        self,
        directory: Directory,
        digest: bytes,
        memory: dict[bytes, _Remembered],
        authorization: str,
        address: str,
        *,
        trusted: bool,
    ) -> _Remembered:
        scheme, _, credentials = authorization.partition(" ")
        memory.pop(digest, None)
        costly = False  # What is checked in no time need not be remembered, and can be written in countless ways.
        if scheme.lower() == "bearer":
            if secret := Secret.parse(credentials.strip()):
                login = await self._by_token(directory, secret)
            else:
                login = await self._by_bearer(directory, credentials.strip())
                costly = True
        elif scheme.lower() == "basic":
            user, password = _user_and_password(credentials)
            if not user and not password:
                login = NOBODY
            elif secret := Secret.parse(password):
                login = await self._by_token(directory, secret)
            else:
                login = await self._by_password(directory, user, password, address, trusted=trusted)
                costly = True
        else:
            raise Unauthorized("the Authorization header is neither Basic nor Bearer")
        found = _Remembered(login, directory, self._clock.monotonic() + REMEMBER_SECONDS)
        if costly:
            if len(memory) >= REMEMBERED_MAX:
                del memory[next(iter(memory))]
            memory[digest] = found
        return found

    async def _by_password(
        self, directory: Directory, user: str, password: str, address: str, *, trusted: bool
    ) -> Login:
        try:
            check_name(user)
        except UserNameInvalid:
            raise Unauthorized("wrong user or password") from None
        with self._throttle.attempt(address, user, trusted=trusted) as attempt:
            login = await directory.by_password(user, password)
            attempt.right = login is not None
        return _proven(login, "wrong user or password")

    async def _by_token(self, directory: Directory, secret: Secret) -> Login:
        # Nobody guesses a token, so a wrong one (of a forgotten job, again and again) slows nobody down.
        return _proven(await directory.by_token(secret), "the token is unknown, expired or revoked")

    async def _by_bearer(self, directory: Directory, text: str) -> Login:
        try:
            key = await self._database.read(keys.find, bearer.key_id(text))
            if key is None:
                raise BearerInvalid("its key is gone")
            claims = bearer.verify(key, directory.settings.service, text, self._clock.now())
        except BearerInvalid as error:
            raise Unauthorized(f"the bearer token is not good: {error}") from error
        login: Login | None = NOBODY
        if claims.kind == "user":
            login = await directory.by_name(claims.subject)
            if login and not hmac.compare_digest(claims.bound, bearer.bind(key, login.binding)):
                login = None
        elif claims.kind == "token":
            login = await directory.by_token_id(claims.subject)
        login = _proven(login, "the bearer token is not good: what it rests on is gone")
        actor = replace(login.actor, scope=claims.scope)
        return replace(login, actor=actor, expires_at=min(login.expires_at, claims.expires_at))

    async def _by_refresh_token(self, text: str) -> Login:
        secret = Secret.parse(text)
        login = await self._directory.by_refresh_token(secret) if secret else None
        return _proven(login, "the refresh token is unknown or expired, or the password was changed; log in again")

    async def _new_refresh_token(self, login: Login, address: str) -> str | None:
        """None for those who need none: nobody, and who has a token of its own."""
        if login.actor.kind != "user" or login.token is not None:
            return None
        secret, now = Secret.new(self._clock), self._clock.now()
        token = Token(
            id=secret.id,
            kind="refresh",
            owner=login.actor.name,
            user_id=login.standing[0] if login.standing else None,
            secret_hash=secret.hash(login.binding),
            limits=None,
            description="",
            created_at=now,
            expires_at=now + tokens.REFRESH_SECONDS,
            used_at=None,
        )
        with contextlib.suppress(DatabaseError):  # On a full disk the client goes on with its password.
            await self._database.write(tokens.add, self._clock, events.Origin(str(login.actor), address), token)
            return str(secret)
        return None

    async def _signing_key(self) -> keys.Key:
        key = await self._database.read(keys.newest)
        if key is None or not key.signs(self._clock.now()):
            try:
                return await self._database.write(keys.rotate, self._clock)
            except DatabaseError:
                if key is None:
                    raise
        return key


def _subject(login: Login, key: keys.Key) -> tuple[bearer.Kind, str, str]:
    if login.token is not None:
        return "token", login.token, ""
    if login.actor.kind == "anonymous":
        return "anonymous", "", ""
    return "user", login.actor.name, bearer.bind(key, login.binding)


def _user_and_password(credentials: str) -> tuple[str, str]:
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode("utf-8")
    except (binascii.Error, ValueError):
        raise Unauthorized("the Basic credentials cannot be read") from None
    user, colon, password = text.partition(":")
    if not colon:
        raise Unauthorized("the Basic credentials have no colon")
    return user, password


def _proven(login: Login | None, otherwise: str) -> Login:
    if login is None:
        raise Unauthorized(otherwise)
    return login


def _forget(checks: dict[bytes, asyncio.Task[_Remembered]], digest: bytes, done: asyncio.Task[_Remembered]) -> None:
    del checks[digest]
    if not done.cancelled():
        done.exception()  # Seen, also when every request that waited for it has gone.
