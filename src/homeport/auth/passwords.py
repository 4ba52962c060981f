"""Passwords: hashing and checking them off the event loop, at most two at once.

Holds: a hash that we make is argon2id at one cost. bcrypt hashes from elsewhere are checked, and replaced after the
next login. Whether a password was right takes the same work for a user who is not there as for one who is.
Source: RFC 9106 (Argon2), OWASP Password Storage Cheat Sheet, RFC 8265 (normalising before hashing).
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

import bcrypt
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import ARGON2_VERSION, Type, hash_secret, verify_secret

from homeport.auth.errors import PasswordHashInvalid, PasswordInvalid
from homeport.clock import Clock

PASSWORD_BYTES_MAX = 1024
PASSWORD_CHARACTERS_MIN = 8
#: bcrypt looks at no more. A longer password is refused: two that differ only later would both be right.
BCRYPT_BYTES_MAX = 72
#: 2**14 rounds take about a second; Caddy's default. More would be an attack on ourselves.
BCRYPT_ROUNDS_MAX = 14

#: How many are worked on at once; each takes `Cost.memory_kib`.
THREADS = 2

_SALT_BYTES = 16
_HASH_BYTES = 32

_ARGON2 = re.compile(
    r"\$argon2id\$v=19\$m=(\d{1,7}),t=(\d{1,3}),p=(\d{1,2})\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_BCRYPT = re.compile(r"\$2[aby]\$(\d\d)\$[./A-Za-z0-9]{53}")
_ARGON2_KIB_MAX = 128 * 1024
_ARGON2_PASSES_MAX = 16
_ARGON2_LANES_MAX = 4


@dataclass(frozen=True, slots=True)
class Cost:
    """What one argon2id takes: memory in KiB and passes over it. One lane: more would start threads of their own."""

    memory_kib: int
    passes: int


#: OWASP's first choice. Above 32 MiB the allocator always gives the memory back, so an idle server stays small.
STANDARD: Final = Cost(46 * 1024, 1)


class Passwords:
    """Hashes and checks passwords in two threads of its own."""

    def __init__(self, clock: Clock, cost: Cost = STANDARD) -> None:
        self._clock = clock
        self._cost = cost
        self._threads = clock.threads("passwords", THREADS)
        salt, tag = (_unpadded(clock.random_bytes(count)) for count in (_SALT_BYTES, _HASH_BYTES))
        #: The hash of no password. To check against it is as much work as against any other.
        self.decoy: Final = f"$argon2id$v={ARGON2_VERSION}$m={cost.memory_kib},t={cost.passes},p=1${salt}${tag}"

    async def hash(self, password: str) -> str:
        """The hash to keep. Raises `PasswordInvalid`."""
        return await self._threads.run(_hash, normalized(password), self._clock.random_bytes(_SALT_BYTES), self._cost)

    async def verify(self, password: str, password_hash: str) -> bool:
        """Whether `password` has this hash."""
        return await self._threads.run(_verify, password, password_hash)

    def outdated(self, password_hash: str) -> bool:
        """Whether we would make another kind of hash today."""
        parts = _ARGON2.fullmatch(password_hash)
        return parts is None or parts.groups() != (str(self._cost.memory_kib), str(self._cost.passes), "1")

    def close(self) -> None:
        """Wait for those that are being worked on."""
        self._threads.close()


def normalized(password: str) -> bytes:
    """The bytes that are hashed: the same however the keyboard composed the characters. Raises `PasswordInvalid`."""
    try:
        data = unicodedata.normalize("NFC", password).encode()
    except UnicodeEncodeError:
        raise PasswordInvalid("it is not text") from None
    if not data:
        raise PasswordInvalid("it is empty")
    if len(data) > PASSWORD_BYTES_MAX:
        raise PasswordInvalid(f"it is longer than {PASSWORD_BYTES_MAX} bytes")
    if b"\0" in data:
        raise PasswordInvalid("it has a NUL character")
    return data


def check_new(password: str) -> str:
    """`password`, if a person may choose it. Raises `PasswordInvalid`."""
    normalized(password)
    if len(password) < PASSWORD_CHARACTERS_MIN:
        raise PasswordInvalid(f"it is shorter than {PASSWORD_CHARACTERS_MIN} characters")
    return password


def looks_like_hash(text: str) -> bool:
    """Whether `text` is meant as a hash rather than as a password; it may still be one that is not taken."""
    return text.startswith(("$argon2", "$2a$", "$2b$", "$2y$")) or _unwrapped(text) != text


def check_hash(text: str) -> str:
    """The hash that `text` is, taken out of base64 where Caddy wrapped it. Raises `PasswordHashInvalid`."""
    found = _unwrapped(text)
    if parts := _ARGON2.fullmatch(found):
        memory_kib, passes, lanes = map(int, parts.groups())
        if memory_kib > _ARGON2_KIB_MAX or passes > _ARGON2_PASSES_MAX or lanes > _ARGON2_LANES_MAX:
            raise PasswordHashInvalid("its argon2 cost is too high to check at every login")
        return found
    if parts := _BCRYPT.fullmatch(found):
        if not 4 <= int(parts[1]) <= BCRYPT_ROUNDS_MAX:
            raise PasswordHashInvalid(f"its bcrypt cost is not between 4 and {BCRYPT_ROUNDS_MAX}")
        return found
    raise PasswordHashInvalid


def _unwrapped(text: str) -> str:
    try:
        inner = base64.b64decode(text, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return text
    return inner if inner.startswith(("$2", "$argon2")) else text


def _hash(password: bytes, salt: bytes, cost: Cost) -> str:
    return hash_secret(
        password,
        salt,
        time_cost=cost.passes,
        memory_cost=cost.memory_kib,
        parallelism=1,
        hash_len=_HASH_BYTES,
        type=Type.ID,
    ).decode("ascii")


def _verify(password: str, password_hash: str) -> bool:
    try:
        data = normalized(password)
        if password_hash.startswith("$argon2"):
            return verify_secret(password_hash.encode("ascii"), data, Type.ID)
        # As it was typed: whoever made this hash did not normalise.
        raw = password.encode()
        fits = len(raw) <= BCRYPT_BYTES_MAX
        return bcrypt.checkpw(raw[:BCRYPT_BYTES_MAX], password_hash.encode("ascii")) and fits
    except (PasswordInvalid, VerificationError, InvalidHashError, ValueError):
        return False


def _unpadded(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii").rstrip("=")
