"""The cryptography of a Bitwarden vault: from the master password to the keys, from an encrypted string to its bytes.

Pure. Holds:
- nothing is decrypted before its MAC was checked, in constant time; what has no MAC is refused;
- the cost that a server names is bounded both ways: it can neither make us burn the machine nor make guessing cheap;
- no key is in a `repr`, and no error says what was decrypted.

Source: Bitwarden security whitepaper; bitwarden/sdk-internal, crates/bitwarden-crypto (keys, enc_string).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from dataclasses import dataclass, field

from argon2.low_level import Type, hash_secret_raw
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand
from cryptography.hazmat.primitives.padding import PKCS7
from cryptography.hazmat.primitives.serialization import load_der_private_key

KEY_BYTES = 32
_BLOCK_BYTES = 16

#: What a vault's account can ask for, at least and at most; Bitwarden's clients and Vaultwarden offer no more.
PBKDF2_ITERATIONS = (5_000, 10_000_000)
ARGON2_ITERATIONS = (2, 10)
ARGON2_MEBIBYTES = (15, 1024)
ARGON2_PARALLELISM = (1, 16)

# EncString, the number before the point.
_AES_WITHOUT_MAC, _AES_WITH_MAC, _RSA_SHA256, _RSA_SHA1, _COSE = 0, 2, 3, 4, 7


class CannotDecrypt(Exception):
    """What is encrypted cannot be opened: it is damaged, or of a kind that is not read here."""


class WrongKey(CannotDecrypt):
    """The MAC is not that of this key: the key is another one, or the text was changed."""


@dataclass(frozen=True, slots=True)
class Kdf:
    """How the master key is made of the master password, as the server says. `CannotDecrypt` when out of bounds."""

    #: 0: PBKDF2, 1: Argon2id.
    kind: int
    iterations: int
    memory_mebibytes: int = 0
    parallelism: int = 0

    def __post_init__(self) -> None:
        if self.kind == 0:
            _check("PBKDF2 iterations", self.iterations, PBKDF2_ITERATIONS)
        elif self.kind == 1:
            _check("Argon2id iterations", self.iterations, ARGON2_ITERATIONS)
            _check("MiB of memory for Argon2id", self.memory_mebibytes, ARGON2_MEBIBYTES)
            _check("lanes of Argon2id", self.parallelism, ARGON2_PARALLELISM)
        else:
            raise CannotDecrypt(f"the account's key derivation is of kind {self.kind}, which is not supported")

    def master_key(self, password: str, email: str) -> bytes:
        """32 bytes. Takes a second and up to a gigabyte: for a thread."""
        salt = email.strip().lower().encode()
        if self.kind == 0:
            return hashlib.pbkdf2_hmac("sha256", password.encode(), salt, self.iterations, KEY_BYTES)
        return hash_secret_raw(
            password.encode(),
            hashlib.sha256(salt).digest(),
            time_cost=self.iterations,
            memory_cost=self.memory_mebibytes * 1024,
            parallelism=self.parallelism,
            hash_len=KEY_BYTES,
            type=Type.ID,
        )


def _check(what: str, value: int, bounds: tuple[int, int]) -> None:
    if not bounds[0] <= value <= bounds[1]:
        raise CannotDecrypt(f"the server asks for {value} {what}; {bounds[0]} to {bounds[1]} are accepted")


@dataclass(frozen=True, slots=True)
class SymmetricKey:
    """A key of the vault: one half encrypts, the other authenticates."""

    encryption: bytes = field(repr=False)
    authentication: bytes = field(repr=False)

    @classmethod
    def of(cls, data: bytes) -> SymmetricKey:
        """The two halves of 64 bytes. Raises `CannotDecrypt`."""
        if len(data) != 2 * KEY_BYTES:
            raise CannotDecrypt(
                "a key of the vault is not of 64 bytes: accounts with the newer encryption (V2) are not supported"
            )
        return cls(data[:KEY_BYTES], data[KEY_BYTES:])

    @classmethod
    def stretched(cls, master_key: bytes) -> SymmetricKey:
        """What the user's key is encrypted with: HKDF without its first step."""
        encryption, authentication = (HKDFExpand(hashes.SHA256(), KEY_BYTES, info) for info in (b"enc", b"mac"))
        return cls(encryption.derive(master_key), authentication.derive(master_key))

    def decrypt(self, text: str) -> bytes:
        """The bytes of an encrypted string of type 2. Raises `CannotDecrypt`; `WrongKey` if the MAC is not right."""
        kind, parts = _parsed(text)
        if kind != _AES_WITH_MAC:
            raise _not_supported(kind)
        if len(parts) != 3 or len(parts[0]) != _BLOCK_BYTES or not parts[1] or len(parts[1]) % _BLOCK_BYTES:
            raise CannotDecrypt("an encrypted string is damaged")
        iv, encrypted, mac = parts
        if not hmac.compare_digest(hmac.digest(self.authentication, iv + encrypted, "sha256"), mac):
            raise WrongKey("an encrypted string is damaged, or is encrypted with another key")
        decryptor = Cipher(AES(self.encryption), CBC(iv)).decryptor()
        unpadder = PKCS7(8 * _BLOCK_BYTES).unpadder()
        try:
            return unpadder.update(decryptor.update(encrypted) + decryptor.finalize()) + unpadder.finalize()
        except ValueError:
            raise CannotDecrypt("an encrypted string is damaged") from None


class PrivateKey:
    """The account's RSA key, which its organizations' keys are encrypted with."""

    def __init__(self, der: bytes) -> None:
        """From PKCS #8. Raises `CannotDecrypt`."""
        try:
            key = load_der_private_key(der, None)
        except (ValueError, TypeError):
            raise CannotDecrypt("the account's private key is damaged") from None
        if not isinstance(key, RSAPrivateKey):
            raise CannotDecrypt("the account's private key is not RSA, which is not supported")
        self._key = key

    def decrypt(self, text: str) -> bytes:
        """The bytes of an encrypted string of type 3 or 4. Raises `CannotDecrypt`."""
        kind, parts = _parsed(text)
        if kind not in (_RSA_SHA256, _RSA_SHA1):
            raise _not_supported(kind)
        # SHA-1 is the vault's format; in OAEP nothing rests on its collisions.
        algorithm = hashes.SHA256() if kind == _RSA_SHA256 else hashes.SHA1()  # noqa: S303
        oaep = padding.OAEP(mgf=padding.MGF1(algorithm), algorithm=algorithm, label=None)
        try:
            (encrypted,) = parts
            return self._key.decrypt(encrypted, oaep)
        except ValueError:
            raise CannotDecrypt("an encrypted key is damaged, or is encrypted for another account") from None


def _parsed(text: str) -> tuple[int, list[bytes]]:
    """The type and the parts of `TYPE.BASE64|BASE64|BASE64`."""
    kind, point, rest = text.partition(".")
    if not point or len(kind) != 1 or not "0" <= kind <= "9":
        raise CannotDecrypt("what should be an encrypted string is none")
    try:
        return int(kind), [base64.b64decode(part, validate=True) for part in rest.split("|")]
    except (binascii.Error, ValueError):  # ValueError: what is not ASCII
        raise CannotDecrypt("an encrypted string is damaged") from None


def _not_supported(kind: int) -> CannotDecrypt:
    if kind == _COSE:
        return CannotDecrypt("the account uses Bitwarden's newer encryption (V2), which is not supported")
    if kind == _AES_WITHOUT_MAC:
        return CannotDecrypt("is encrypted without a MAC, as years ago: save it anew in one of Bitwarden's programs")
    return CannotDecrypt(f"is encrypted in a way (type {kind}) that is not supported here")
