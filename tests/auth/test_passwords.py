"""Passwords and their hashes."""

import base64

import bcrypt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth.errors import PasswordHashInvalid, PasswordInvalid
from homeport.auth.passwords import (
    BCRYPT_BYTES_MAX,
    PASSWORD_BYTES_MAX,
    STANDARD,
    Cost,
    Passwords,
    check_hash,
    check_new,
    looks_like_hash,
    normalized,
)
from tests.auth.tools import CHEAP, CountedPasswords, HandClock

ARGON2 = "$argon2id$v=19$m=47104,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$nFSS2pC4tDzCgrIfMz/FLwrWGqPa6GYsCnXhwzEzxPI"


def made_elsewhere(password: bytes, prefix: bytes = b"$2y$") -> str:
    return (prefix + bcrypt.hashpw(password, bcrypt.gensalt(4))[4:]).decode()


@pytest.mark.parametrize("password", ["correct horse", "ä" * 500, "\U0001f511 key", " ", "a\tb\n"])
async def test_hash_and_verify(passwords: CountedPasswords, password: str) -> None:
    password_hash = await passwords.hash(password)
    assert await passwords.verify(password, password_hash)
    assert not await passwords.verify(password + "x", password_hash)
    assert password not in password_hash
    assert await passwords.hash(password) != password_hash
    assert check_hash(password_hash) == password_hash
    assert not passwords.outdated(password_hash)


async def test_the_same_password_however_the_keyboard_composed_it(passwords: CountedPasswords) -> None:
    assert await passwords.verify("cafe\u0301 noir", await passwords.hash("caf\u00e9 noir"))


@pytest.mark.parametrize("password", ["", "a\0b", "x" * (PASSWORD_BYTES_MAX + 1), "\ud800"])
async def test_what_cannot_be_a_password(passwords: CountedPasswords, password: str) -> None:
    with pytest.raises(PasswordInvalid):
        await passwords.hash(password)
    assert not await passwords.verify(password, passwords.decoy)
    assert not await passwords.verify(password, made_elsewhere(b"something"))


def test_a_new_password_has_some_length() -> None:
    with pytest.raises(PasswordInvalid):
        check_new("1234567")
    assert check_new("12345678") == "12345678"


@pytest.mark.parametrize("prefix", [b"$2a$", b"$2b$", b"$2y$"])
async def test_bcrypt_from_elsewhere(passwords: CountedPasswords, prefix: bytes) -> None:
    password_hash = check_hash(made_elsewhere("pässword".encode(), prefix))
    assert await passwords.verify("pässword", password_hash)
    assert not await passwords.verify("password", password_hash)
    assert passwords.outdated(password_hash)


async def test_bcrypt_is_not_asked_about_what_it_would_cut_off(passwords: CountedPasswords) -> None:
    longest = "x" * BCRYPT_BYTES_MAX
    password_hash = made_elsewhere(longest.encode())
    assert await passwords.verify(longest, password_hash)
    assert not await passwords.verify(longest + "y", password_hash)


async def test_bcrypt_takes_the_bytes_that_were_typed(passwords: CountedPasswords) -> None:
    decomposed = "cafe\u0301 noir"
    assert await passwords.verify(decomposed, made_elsewhere(decomposed.encode()))


def test_caddy_wraps_hashes_in_base64() -> None:
    inner = made_elsewhere(b"something", b"$2a$")
    wrapped = base64.b64encode(inner.encode()).decode()
    assert looks_like_hash(wrapped)
    assert check_hash(wrapped) == inner
    assert check_hash(base64.b64encode(ARGON2.encode()).decode()) == ARGON2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "$apr1$vk8yUZVt$QKmqw8zw7YzXzG7Gc9jxW/",
        "{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=",
        "$2x$04$" + "a" * 53,
        "$2b$04$short",
        "$2b$31$" + "a" * 53,
        "$2b$03$" + "a" * 53,
        "$argon2i$v=19$m=47104,t=1,p=1$c29tZXNhbHRzb21lc2FsdA$nFSS2pC4tDzCgrIfMz/FLwrWGqPa6GYsCnXhwzEzxPI",
        ARGON2.replace("m=47104", "m=4194304"),
        ARGON2.replace("t=1", "t=200"),
        ARGON2.replace("p=1", "p=64"),
        ARGON2 + "\n",
    ],
)
def test_hashes_that_are_not_taken(text: str) -> None:
    """Also those that would make every login an attack on ourselves."""
    with pytest.raises(PasswordHashInvalid):
        check_hash(text)


@pytest.mark.parametrize("text", ["secret", "$ecret", "c2VjcmV0", "$2 bill", "correct horse"])
def test_a_password_is_not_taken_for_a_hash(text: str) -> None:
    assert not looks_like_hash(text)


@given(st.text(max_size=200))
def test_any_text_has_one_normal_form_or_is_refused(text: str) -> None:
    try:
        data = normalized(text)
    except PasswordInvalid:
        return
    assert normalized(data.decode()) == data


async def test_the_decoy_is_of_the_same_cost_as_everything_we_make(clock: HandClock) -> None:
    """CVE-like timing (harbor #23433): a user who is not there takes the same work as one who is."""
    passwords = Passwords(clock, Cost(16, 2))
    assert not passwords.outdated(passwords.decoy)
    assert check_hash(passwords.decoy) == passwords.decoy
    assert len(passwords.decoy) == len(await passwords.hash("something"))
    assert not await passwords.verify("something", passwords.decoy)
    passwords.close()


async def test_a_hash_of_another_cost_is_outdated(clock: HandClock, passwords: CountedPasswords) -> None:
    stronger = Passwords(clock, Cost(CHEAP.memory_kib, CHEAP.passes + 1))
    password_hash = await passwords.hash("something")
    assert stronger.outdated(password_hash)
    assert await stronger.verify("something", password_hash)
    stronger.close()


async def test_the_standard_cost(clock: HandClock) -> None:
    """One real hash: OWASP's first choice, and above the size that the allocator would keep."""
    passwords = Passwords(clock)
    password_hash = await passwords.hash("correct horse")
    assert password_hash.startswith(f"$argon2id$v=19$m={STANDARD.memory_kib},t={STANDARD.passes},p=1$")
    assert await passwords.verify("correct horse", password_hash)
    assert STANDARD.memory_kib > 32 * 1024
    passwords.close()
