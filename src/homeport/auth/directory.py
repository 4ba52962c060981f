"""Who is known here: the users of the configuration and of the database, and what their credentials make of them.

Holds: a user of the configuration hides one of the same name in the database. What a login rests on can be asked for
again with one or two point reads (`Directory.holds`), so nobody has to trust a memory.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from homeport.auth import passwords, tokens, users
from homeport.auth.actors import ANONYMOUS, Actor
from homeport.auth.errors import PasswordInvalid
from homeport.auth.passwords import Passwords
from homeport.auth.permissions import Policy
from homeport.auth.tokens import Secret, Token
from homeport.clock import Clock
from homeport.db.database import Database, DatabaseError, Transaction

TOKEN_SECONDS_MAX = 86400


@dataclass(frozen=True, slots=True)
class ConfiguredUser:
    """A user of the configuration. `secret` is its password, or the argon2id or bcrypt hash of it.

    None where the vault that has it did not answer yet: the user is there, and no password is right.
    Raises `UserNameInvalid`, `PasswordInvalid`, `PasswordHashInvalid`.
    """

    name: str
    secret: str | None = field(repr=False)
    admin: bool = False
    #: None: the secret is the password itself.
    password_hash: str | None = field(init=False, repr=False)

    def __post_init__(self) -> None:
        users.check_name(self.name)
        hashed = self.secret is not None and passwords.looks_like_hash(self.secret)
        object.__setattr__(self, "password_hash", passwords.check_hash(self.secret) if self.secret and hashed else None)
        if self.secret is not None and not hashed:
            passwords.normalized(self.secret)


@dataclass(frozen=True, slots=True)
class LoginSettings:
    """What the configuration says about access."""

    policy: Policy = field(default_factory=Policy)
    users: tuple[ConfiguredUser, ...] = ()
    #: How long a bearer token is good for.
    token_seconds: int = 300
    #: The name of this registry in challenges and bearer tokens.
    service: str = "homeport"

    def __post_init__(self) -> None:
        if not 0 < self.token_seconds <= TOKEN_SECONDS_MAX:
            raise ValueError(f"a bearer token is good for at most {TOKEN_SECONDS_MAX} seconds")


@dataclass(frozen=True, slots=True)
class Login:
    """An actor whose credentials were right, and what that rests on."""

    actor: Actor
    #: The row of the user (by name) as it was; None: it rests on no row.
    user: str | None = None
    standing: users.Standing | None = None
    #: The personal or robot token (its id) that it came by.
    token: str | None = None
    expires_at: float = math.inf
    #: Something that is another after every change of the user's password. Never leaves the process in the clear.
    binding: str = field(default="", repr=False)


NOBODY: Final = Login(ANONYMOUS)


class Directory:
    """Finds and checks logins under one configuration. A changed configuration is another directory."""

    def __init__(self, database: Database, clock: Clock, passwords: Passwords, settings: LoginSettings) -> None:
        self.settings: Final = settings
        self._database = database
        self._clock = clock
        self._passwords = passwords
        self._configured: Mapping[str, ConfiguredUser] = {user.name: user for user in settings.users}
        self._hashes = tuple(user.password_hash or passwords.decoy for user in settings.users)
        self._draw_key = clock.random_bytes(32)

    async def holds(self, login: Login) -> bool:
        """Whether everything that `login` rests on is still as it was. Microseconds: it is asked at every request."""
        if login.user is not None and await self._database.read(users.standing, login.user) != login.standing:
            return False
        return login.token is None or await self._database.read(tokens.exists, login.token)

    async def by_password(self, name: str, password: str) -> Login | None:
        """The user's login, if the password is right. As much work if there is no such user."""
        if configured := self._configured.get(name):
            login = self._from_configuration(configured)
            return login if await self._is_configured(configured, password) else None
        found = await self._database.read(users.credentials, name)
        if found is None:
            await self._passwords.verify(password, await self._decoy(name))
            return None
        user, password_hash = found
        if not await self._passwords.verify(password, password_hash):
            return None
        login = self._from_database(user)
        if self._passwords.outdated(password_hash) and login.standing:
            # The login is right whether or not the better hash can be kept.
            with contextlib.suppress(DatabaseError, PasswordInvalid):
                await self._database.write(users.rehash, login.standing, await self._passwords.hash(password))
        return login

    async def by_name(self, name: str) -> Login | None:
        """The user's login, whose credentials the caller has checked otherwise."""
        if configured := self._configured.get(name):
            return self._from_configuration(configured)
        found = await self._database.read(users.credentials, name)
        return self._from_database(found[0]) if found else None

    async def by_token(self, secret: Secret) -> Login | None:
        """The login by a personal or robot token."""
        token = await self._database.read(tokens.find, secret.id)
        if token is None or not tokens.is_right(token, secret):
            return None
        login = await self.of_token(token)
        if login is not None:
            await self._note_use(token)
        return login

    async def by_token_id(self, token_id: str) -> Login | None:
        """The same, where a signature of ours vouches for the secret."""
        token = await self._database.read(tokens.find, token_id)
        return await self.of_token(token) if token else None

    async def of_token(self, token: Token) -> Login | None:
        """What the token makes of its owner now; None if it is too late, or the owner is another one."""
        if token.kind == "refresh" or token.expired(self._clock.now()):
            return None
        expires_at = math.inf if token.expires_at is None else token.expires_at
        if token.kind == "robot":
            return Login(Actor("robot", token.owner, limits=token.limits), token=token.id, expires_at=expires_at)
        owner = await self._owner(token)
        if owner is None:
            return None
        actor = Actor("user", owner.actor.name, owner.actor.groups, owner.actor.admin, token.limits)
        return Login(actor, owner.user, owner.standing, token.id, expires_at, owner.binding)

    async def by_refresh_token(self, secret: Secret) -> Login | None:
        """The login of whoever was given this refresh token for a password that is still theirs."""
        token = await self._database.read(tokens.find, secret.id)
        if token is None or token.kind != "refresh" or token.expired(self._clock.now()):
            return None
        owner = await self._owner(token)
        if owner is None or not tokens.is_right(token, secret, owner.binding):
            return None
        await self._note_use(token)
        return owner

    async def _owner(self, token: Token) -> Login | None:
        owner = await self.by_name(token.owner)
        if owner is None or (owner.standing[0] if owner.standing else None) != token.user_id:
            return None
        return owner

    async def _note_use(self, token: Token) -> None:
        if tokens.use_is_news(token, self._clock.now()):
            with contextlib.suppress(DatabaseError):  # A full disk must not end logins.
                await self._database.jot(tokens.used, self._clock, token.id)

    async def _is_configured(self, user: ConfiguredUser, password: str) -> bool:
        if user.password_hash is not None:
            return await self._passwords.verify(password, user.password_hash)
        await self._passwords.verify(password, self._passwords.decoy)  # The same work as for everybody else.
        if user.secret is None:
            return False
        try:
            return hmac.compare_digest(passwords.normalized(password), passwords.normalized(user.secret))
        except PasswordInvalid:
            return False

    async def _decoy(self, name: str) -> str:
        """A hash to check the password of a user who is not there against.

        It is that of some user, always the same for the same name: so where some hashes are slow (bcrypt, brought along
        from elsewhere), as many names of nobody are.
        """
        draw = int.from_bytes(hmac.digest(self._draw_key, name.encode(), "sha256")[:8])
        return await self._database.read(_some_hash, self._hashes, draw) or self._passwords.decoy

    def _from_configuration(self, user: ConfiguredUser) -> Login:
        binding = hashlib.sha256(f"configured\0{user.name}\0{user.secret}".encode()).hexdigest()
        actor = Actor("user", user.name, self.settings.policy.groups_of(user.name), user.admin)
        return Login(actor, binding=binding)

    def _from_database(self, user: users.User) -> Login:
        actor = Actor("user", user.name, self.settings.policy.groups_of(user.name), user.admin)
        return Login(actor, user.name, (user.id, user.version), binding=f"{user.id}.{user.version}")


def _some_hash(tx: Transaction, configured: tuple[str, ...], draw: int) -> str | None:
    place = draw % max(1, len(configured) + users.count(tx))
    return configured[place] if place < len(configured) else users.hash_at(tx, place - len(configured))
