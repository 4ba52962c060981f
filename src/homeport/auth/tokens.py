"""Personal, robot and refresh tokens: facts of the table `tokens`, and the form of their text.

Holds: a token is shown once and kept only as a hash; with 160 random bits in it, a plain SHA-256 is enough. It never
changes what it allows. A revoked token's row is gone, so it counts at once, everywhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from homeport import events
from homeport.auth.actors import Limit, Right
from homeport.auth.errors import TokenInvalid, TokenUnknown
from homeport.clock import Clock
from homeport.db.database import Row, Transaction
from homeport.oci import patterns

Kind: TypeAlias = Literal["personal", "robot", "refresh"]

LIMITS_MAX = 32
PATTERNS_MAX = 32
DESCRIPTION_CHARACTERS_MAX = 200
#: How long a refresh token is good for after it was last used.
REFRESH_SECONDS = 90 * 86400.0
#: How long an expired token is still listed, so that its owner sees why the login stopped working.
LISTED_SECONDS = 30 * 86400.0
#: How exact `used_at` is: it is written at most this often, since a login should not cost a write.
USED_SECONDS = 3600.0

_TEXT = re.compile(r"hp_([0-9a-f]{16})_([0-9a-f]{40})")
_SELECT = (
    "SELECT id, kind, owner, user_id, secret_hash, limits, description, created_at, expires_at, used_at FROM tokens"
)
_BY_ID = _SELECT + " WHERE id = ?"
_BY_OWNER = _SELECT + " WHERE kind <> 'refresh' AND owner = coalesce(?, owner) ORDER BY created_at, id"


@dataclass(frozen=True, slots=True)
class Token:
    """A token as it is kept: everything but its secret."""

    id: str
    kind: Kind
    #: The user that it logs in, or the robot's name.
    owner: str
    #: The id of the owner's row; None for robots and for users of the configuration.
    user_id: int | None
    secret_hash: str
    limits: tuple[Limit, ...] | None
    description: str
    created_at: float
    expires_at: float | None
    used_at: float | None

    def expired(self, now: float) -> bool:
        """Whether it is too late for it."""
        return self.expires_at is not None and now >= self.expires_at


@dataclass(frozen=True, slots=True)
class Secret:
    """What the owner of a token is shown, once: its text."""

    id: str
    secret: str

    @classmethod
    def new(cls, clock: Clock) -> Secret:
        """One that nobody can guess."""
        return cls(clock.random_bytes(8).hex(), clock.random_bytes(20).hex())

    @classmethod
    def parse(cls, text: str) -> Secret | None:
        """The token that `text` is; None: it is no token of ours."""
        found = _TEXT.fullmatch(text)
        return cls(found[1], found[2]) if found else None

    def hash(self, bound_to: str = "") -> str:
        """What is kept of it. `bound_to` is something that ends the token when it changes."""
        return hashlib.sha256(f"{self.secret}\0{bound_to}".encode()).hexdigest()

    def __str__(self) -> str:
        return f"hp_{self.id}_{self.secret}"


def check_limits(limits: tuple[Limit, ...]) -> tuple[Limit, ...]:
    """`limits`, if a token may have them. Raises `TokenInvalid`."""
    if len(limits) > LIMITS_MAX or any(len(limit.patterns) > PATTERNS_MAX for limit in limits):
        raise TokenInvalid(f"at most {LIMITS_MAX} limits of {PATTERNS_MAX} patterns")
    for limit in limits:
        if not limit.patterns or not limit.rights:
            raise TokenInvalid("a limit needs repositories and rights")
        for pattern in limit.patterns:
            try:
                patterns.compiled(pattern)
            except ValueError as error:
                raise TokenInvalid(str(error)) from None
    return limits


def add(tx: Transaction, clock: Clock, origin: events.Origin, token: Token) -> None:
    """Keep a new token, and forget those that expired long ago. Raises `TokenInvalid`."""
    now = clock.now()
    if token.kind == "robot" and not token.limits:
        raise TokenInvalid("a robot has only the rights of its token, so say which")
    if token.expired(now):
        raise TokenInvalid("it would have expired already")
    if len(token.description) > DESCRIPTION_CHARACTERS_MAX or not token.description.isprintable():
        raise TokenInvalid(f"a description is at most {DESCRIPTION_CHARACTERS_MAX} printable characters")
    limits = _to_json(check_limits(token.limits)) if token.limits is not None else None
    tx.run("DELETE FROM tokens WHERE expires_at < ?", (now - LISTED_SECONDS,))
    tx.run(
        "INSERT INTO tokens"
        " (id, kind, owner, user_id, secret_hash, limits, description, created_at, expires_at)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            token.id, token.kind, token.owner, token.user_id, token.secret_hash,
            limits, token.description, token.created_at, token.expires_at,
        ),
    )  # fmt: skip
    if token.kind != "refresh":  # One for each `docker login`: not a decision of anybody's.
        events.append(tx, clock, "token.created", origin, reason=_label(token))


def find(tx: Transaction, id: str) -> Token | None:  # noqa: A002
    """The token with this id, expired or not."""
    row = tx.one(_BY_ID, (id,))
    return _token(row) if row else None


def exists(tx: Transaction, id: str) -> bool:  # noqa: A002
    """Whether the token has not been revoked. Asked at every request of a cached login."""
    return tx.one("SELECT 1 FROM tokens WHERE id = ?", (id,)) is not None


def all_of(tx: Transaction, owner: str | None = None) -> list[Token]:
    """The personal and robot tokens (of `owner`), expired ones too; the newest last."""
    return [_token(row) for row in tx.all(_BY_OWNER, (owner,))]


def revoke(tx: Transaction, clock: Clock, origin: events.Origin, id: str) -> None:  # noqa: A002
    """End the token. Raises `TokenUnknown`."""
    token = find(tx, id)
    if token is None:
        raise TokenUnknown(id[:64])
    tx.run("DELETE FROM tokens WHERE id = ?", (id,))
    events.append(tx, clock, "token.revoked", origin, reason=_label(token))


def remove_of(tx: Transaction, owner: str, user_id: int, kind: Kind | None = None) -> None:
    """End every token (of the kind) of a user of the database. Whoever changes the user writes the event."""
    tx.run("DELETE FROM tokens WHERE owner = ? AND user_id = ? AND kind = coalesce(?, kind)", (owner, user_id, kind))


def prune(tx: Transaction, before: float, limit: int = 1_000) -> int:
    """Forget tokens, at most `limit`, that expired before `before`; how many those were."""
    return tx.run(
        "DELETE FROM tokens WHERE id IN (SELECT id FROM tokens WHERE expires_at < ? ORDER BY expires_at LIMIT ?)",
        (before, limit),
    )


def used(tx: Transaction, clock: Clock, id: str) -> None:  # noqa: A002
    """Note that the token is in use; a refresh token is good for longer then."""
    now = clock.now()
    tx.run(
        "UPDATE tokens SET used_at = ?, expires_at = CASE kind WHEN 'refresh' THEN ? ELSE expires_at END WHERE id = ?",
        (now, now + REFRESH_SECONDS, id),
    )


def use_is_news(token: Token, now: float) -> bool:
    """Whether it is long enough since `used` was last told of the token."""
    return token.used_at is None or not 0 <= now - token.used_at < USED_SECONDS


def is_right(token: Token, secret: Secret, bound_to: str = "") -> bool:
    """Whether the secret is the token's, compared in constant time."""
    return hmac.compare_digest(token.secret_hash, secret.hash(bound_to))


def _label(token: Token) -> str:
    return f"{token.kind} token {token.id} of {token.owner}"


def _to_json(limits: Iterable[Limit]) -> str:
    return json.dumps([{"repositories": limit.patterns, "rights": sorted(limit.rights)} for limit in limits])


def _token(row: Row) -> Token:
    id_, kind, owner, user_id, secret_hash, limits, description, created_at, expires_at, used_at = row
    parsed = None
    if limits is not None:
        parsed = tuple(
            Limit(tuple(limit["repositories"]), frozenset(map(Right, limit["rights"]))) for limit in json.loads(limits)
        )
    return Token(id_, kind, owner, user_id, secret_hash, parsed, description, created_at, expires_at, used_at)
