"""Digests: the names of bytes.

Holds: a `Digest` that exists is well formed, so it can be put into a path, a query or a log line without another look.
Source: OCI image-spec, descriptor.md, section "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import Protocol

from homeport.oci.errors import DigestInvalid

#: Length of the encoded part for each registered algorithm; there is no other.
ENCODED_CHARACTERS = {"sha256": 64, "sha512": 128}

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Hasher(Protocol):
    """The part of `hashlib`'s objects that is used here."""

    def update(self, data: bytes | bytearray | memoryview, /) -> None: ...

    def hexdigest(self) -> str: ...


class Digest(str):
    """`algorithm:encoded`, lower case; equal to, and usable as, its text."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Digest:
        """The digest that `text` is, or `DigestInvalid`."""
        if not _DIGEST.fullmatch(text):
            raise DigestInvalid(text[:160])
        return cls(text)

    @classmethod
    def of(cls, data: bytes | bytearray | memoryview, algorithm: str = "sha256") -> Digest:
        """The digest of `data`."""
        hasher = new_hasher(algorithm)
        hasher.update(data)
        return cls(f"{algorithm}:{hasher.hexdigest()}")

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def encoded(self) -> str:
        return self.partition(":")[2]

    @property
    def fallback_tag(self) -> str:
        """The tag under which clients without the referrers API keep this digest's referrers.

        The algorithm is cut at 32 characters and the encoded part at 64 (distribution-spec, "Referrers Tag Schema").
        """
        return f"{self.algorithm[:32]}-{self.encoded[:64]}"


def new_hasher(algorithm: str) -> Hasher:
    """A fresh hasher, or `DigestInvalid` for an algorithm that is not registered."""
    if algorithm not in ENCODED_CHARACTERS:
        raise DigestInvalid(algorithm[:160])
    return hashlib.new(algorithm, usedforsecurity=False)
