"""Bearer tokens: what is signed into them and what is believed of one that comes back.

Holds: one algorithm (HS256), one issuer, one audience; keys come from `keys` only, whatever the token's header offers.
A token that lacks a claim is no token. Nothing is parsed that is longer than ours can be. Pure: the caller has the key
and the time.
Source: RFC 7519 (JWT), RFC 8725 (best current practices), distribution, "Token Authentication Specification".
"""

from __future__ import annotations

import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

import jwt

from homeport.auth import scopes
from homeport.auth.actors import Scope
from homeport.auth.keys import Key

ISSUER: Final = "homeport"
#: Fits into a header of any proxy; 32 repositories with long names do not, and are refused when asked for.
CHARACTERS_MAX = 8000
#: How far the clocks of two processes on two machines may be apart.
SKEW_SECONDS = 10.0

_ALGORITHM: Final = "HS256"
_HEADER: Final = {"alg": _ALGORITHM, "typ": "JWT"}

_KEY_ID: Final = re.compile(r"[0-9a-f]{32}")

Kind: TypeAlias = Literal["anonymous", "user", "token"]


class BearerInvalid(Exception):
    """Not a bearer token of ours, or not any more."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a bearer token says."""

    #: What `subject` is: nobody, the name of a user, or the id of a personal or robot token.
    kind: Kind
    subject: str
    #: What must not have changed since: see `bind`. Empty where `kind` is not "user".
    bound: str
    scope: Scope
    id: str
    issued_at: int
    expires_at: int


def bind(key: Key, secret: str) -> str:
    """A proof that `secret` was this when the token was made. It says nothing about it to whoever reads the token."""
    return hmac.new(key.secret, f"bound\0{secret}".encode(), hashlib.sha256).hexdigest()[:32]


def sign(key: Key, service: str, claims: Claims) -> str:
    """The token's text."""
    payload = {
        "iss": ISSUER,
        "aud": service,
        "sub": claims.subject,
        "iat": claims.issued_at,
        "nbf": claims.issued_at,
        "exp": claims.expires_at,
        "jti": claims.id,
        "kind": claims.kind,
        "bound": claims.bound,
        "access": scopes.access(claims.scope),
    }
    return jwt.encode(payload, key.secret, algorithm=_ALGORITHM, headers={"kid": key.id})


def key_id(text: str) -> str:
    """The name of the key that it says it was signed with. Nothing is believed yet. Raises `BearerInvalid`."""
    if len(text) > CHARACTERS_MAX:
        raise BearerInvalid("it is too long")
    try:
        header = jwt.get_unverified_header(text)
    except (jwt.InvalidTokenError, ValueError, binascii.Error) as error:
        raise BearerInvalid("it is not a token") from error
    # Exactly the header that `sign` writes: no other algorithm, and no `jwk`, `jku`, `x5c`, `crit` or the like.
    kid = header.pop("kid", None)
    if header != _HEADER or not isinstance(kid, str) or not _KEY_ID.fullmatch(kid):
        raise BearerInvalid("it is not one of our tokens")
    return kid


def verify(key: Key, service: str, text: str, now: float) -> Claims:
    """What the token says, if it was signed with `key` and is good `now`. Raises `BearerInvalid`."""
    if key_id(text) != key.id:
        raise BearerInvalid("it is of another key")
    try:
        payload = jwt.decode(
            text,
            key.secret,
            algorithms=[_ALGORITHM],
            audience=service,
            issuer=ISSUER,
            # The times are compared below, with our clock.
            options={
                "require": ["iss", "aud", "sub", "iat", "nbf", "exp", "jti"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
                "strict_aud": True,
            },
        )
    except (jwt.InvalidTokenError, ValueError) as error:
        raise BearerInvalid(str(error)) from error
    claims = _claims(payload)
    if not payload["nbf"] - SKEW_SECONDS <= now < claims.expires_at:
        raise BearerInvalid("it has expired")
    return claims


def _claims(payload: dict[str, Any]) -> Claims:
    match payload:
        case {
            "kind": "anonymous" | "user" | "token" as kind,
            "sub": str(subject),
            "bound": str(bound),
            "access": access,
            "jti": str(id_),
            "iat": int(issued_at),
            "nbf": int(),
            "exp": int(expires_at),
        }:
            try:
                return Claims(kind, subject, bound, scopes.from_access(access), id_, issued_at, expires_at)
            except ValueError as error:
                raise BearerInvalid(str(error)) from error
    raise BearerInvalid("a claim is missing or is not what it should be")
