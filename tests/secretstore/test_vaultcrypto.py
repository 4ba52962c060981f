"""The vault's cryptography against vectors of others, and against what a hostile server would send."""

import base64

import pytest

from homeport.secretstore.vaultcrypto import CannotDecrypt, Kdf, PrivateKey, SymmetricKey, WrongKey
from tests.secretstore.vectors import (
    ACCOUNT,
    PASSWORD,
    PASSWORDS,
    RSA_KEY,
    RSA_SHA1,
    RSA_SHA256,
    SALT,
    STRETCHED,
    TEXT,
)
from tests.support.vault import encrypted, stretched

KEY = bytes(range(64))


@pytest.mark.parametrize(("kdf", "master_key"), PASSWORDS)
def test_the_master_key(kdf: tuple[int, ...], master_key: str) -> None:
    assert Kdf(*kdf).master_key(PASSWORD, SALT).hex() == master_key
    assert Kdf(*kdf).master_key(PASSWORD, f" {SALT.upper()} ").hex() == master_key


def test_the_stretched_key() -> None:
    master_key = bytes.fromhex(PASSWORDS[0][1])
    key = SymmetricKey.stretched(master_key)
    assert (key.encryption.hex(), key.authentication.hex()) == STRETCHED
    assert stretched(master_key).hex() == "".join(STRETCHED)


def test_a_text() -> None:
    key, text, clear = TEXT
    assert SymmetricKey.of(base64.b64decode(key)).decrypt(text) == clear


def test_an_account() -> None:
    email, password, iterations, protected, user_key = ACCOUNT
    stretched_key = SymmetricKey.stretched(Kdf(0, iterations).master_key(password, email))
    assert base64.b64encode(stretched_key.decrypt(protected)).decode() == user_key
    with pytest.raises(WrongKey):
        SymmetricKey.stretched(Kdf(0, iterations).master_key(f"{password}x", email)).decrypt(protected)


@pytest.mark.parametrize("text", [RSA_SHA1, RSA_SHA256], ids=["sha1", "sha256"])
def test_a_key_for_the_account(text: str) -> None:
    assert PrivateKey(base64.b64decode(RSA_KEY)).decrypt(text) == KEY


@pytest.mark.parametrize("clear", [b"", b"x" * 15, b"x" * 16, "naïve ☃".encode(), bytes(1000)])
def test_every_length(clear: bytes) -> None:
    assert SymmetricKey.of(KEY).decrypt(encrypted(clear, KEY)) == clear


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_changed_bit_is_seen_before_anything_is_decrypted(part: int) -> None:
    parts = [bytearray(base64.b64decode(each)) for each in encrypted("secret", KEY)[2:].split("|")]
    parts[part][0] ^= 1
    with pytest.raises(WrongKey):
        SymmetricKey.of(KEY).decrypt("2." + "|".join(base64.b64encode(each).decode() for each in parts))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "none"),
        ("secret", "none"),
        ("x.AAAA", "none"),
        ("²." + "AAAA", "none"),
        ("2.AAAA", "damaged"),
        ("2.A|A|A", "damaged"),
        ("2.é|é|é", "damaged"),
        ("2.AAAA|AAAA|AAAA", "damaged"),
        ("2." + "|".join([base64.b64encode(bytes(16)).decode(), "", base64.b64encode(bytes(32)).decode()]), "damaged"),
        ("0." + "|".join([base64.b64encode(bytes(16)).decode()] * 2), "without a MAC"),
        ("1.AAAA|AAAA|AAAA", "type 1"),
        ("4.AAAA", "type 4"),
        ("7.AAAA", "newer encryption"),
    ],
)
def test_what_is_no_text_of_ours_is_refused(text: str, why: str) -> None:
    with pytest.raises(CannotDecrypt, match=why):
        SymmetricKey.of(KEY).decrypt(text)


@pytest.mark.parametrize("text", ["4.AAAA", "4.AAAA|AAAA", "2.AAAA|AAAA|AAAA", "6.AAAA|AAAA", "4.!"])
def test_what_is_no_key_for_the_account_is_refused(text: str) -> None:
    with pytest.raises(CannotDecrypt):
        PrivateKey(base64.b64decode(RSA_KEY)).decrypt(text)


@pytest.mark.parametrize("der", [b"", b"no key", base64.b64decode(RSA_KEY)[:-10]])
def test_what_is_no_private_key_is_refused(der: bytes) -> None:
    with pytest.raises(CannotDecrypt):
        PrivateKey(der)


@pytest.mark.parametrize("length", [0, 32, 63, 65, 70])
def test_a_key_of_another_length_is_refused(length: int) -> None:
    with pytest.raises(CannotDecrypt, match="V2"):
        SymmetricKey.of(bytes(length))


@pytest.mark.parametrize(
    "kdf",
    [
        (0, 1), (0, 4_999), (0, 10_000_001), (0, -1),
        (1, 1, 32, 4), (1, 11, 32, 4), (1, 3, 14, 4), (1, 3, 1025, 4), (1, 3, 64, 0), (1, 3, 64, 17),
        (2, 100_000), (-1, 100_000),
    ],
)  # fmt: skip
def test_what_a_server_may_ask_for_is_bounded(kdf: tuple[int, ...]) -> None:
    with pytest.raises(CannotDecrypt):
        Kdf(*kdf)


def test_no_repr_has_a_key() -> None:
    assert repr(SymmetricKey.of(b"secret secret secret secret secr" * 2)) == "SymmetricKey()"
