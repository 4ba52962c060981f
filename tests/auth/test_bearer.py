"""Bearer tokens that are not ours, and the keys behind those that are."""

import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from hypothesis import given
from hypothesis import strategies as st

from homeport.auth import bearer, keys
from homeport.auth.actors import Right, Scope
from homeport.auth.bearer import CHARACTERS_MAX, ISSUER, SKEW_SECONDS, BearerInvalid, Claims
from homeport.auth.keys import KEPT_SECONDS, SIGNS_SECONDS, Key
from homeport.db.database import Database
from tests.auth.tools import HandClock

NOW = 1_800_000_000
KEY = Key("a" * 32, b"k" * 32, NOW)
CLAIMS = Claims(
    "user", "ada", "b" * 32, Scope(frozenset({("team/app", Right.PULL)}), catalog=True), "id", NOW, NOW + 300
)
TOKEN = bearer.sign(KEY, "homeport", CLAIMS)
PAYLOAD: dict[str, Any] = jwt.decode(TOKEN, options={"verify_signature": False})


def encoded(value: object) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(header: dict[str, Any], payload: Any = PAYLOAD, secret: bytes = KEY.secret) -> str:
    """A token signed as ours are, whatever its header says."""
    text = f"{encoded(header)}.{encoded(payload)}"
    return f"{text}.{encoded(hmac.digest(secret, text.encode(), 'sha256'))}"


HEADER = {"alg": "HS256", "typ": "JWT", "kid": KEY.id}


def verify(text: str, *, key: Key = KEY, service: str = "homeport", now: float = NOW) -> Claims:
    return bearer.verify(key, service, text, now)


def test_ours() -> None:
    assert verify(TOKEN) == CLAIMS
    assert bearer.key_id(TOKEN) == KEY.id
    assert verify(signed(HEADER)) == CLAIMS
    anonymous = replace(CLAIMS, kind="anonymous", subject="", bound="", scope=Scope(frozenset()))
    assert verify(bearer.sign(KEY, "homeport", anonymous)) == anonymous


def test_the_claims_that_other_tools_know() -> None:
    """distribution's names, so that tools which show tokens show ours."""
    assert PAYLOAD["access"] == [
        {"type": "repository", "name": "team/app", "actions": ["pull"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    assert (PAYLOAD["iss"], PAYLOAD["aud"], PAYLOAD["sub"]) == (ISSUER, "homeport", "ada")


@pytest.mark.parametrize(
    "text",
    [
        f"{encoded({'alg': 'none', 'typ': 'JWT', 'kid': KEY.id})}.{encoded(PAYLOAD)}.",
        f"{encoded({'alg': 'none'})}.{encoded(PAYLOAD)}.",
        signed({**HEADER, "alg": "none"}),
        signed({**HEADER, "alg": "HS512"}),
        signed({**HEADER, "alg": "RS256"}),
        signed({**HEADER, "alg": "hs256"}),
        signed({"typ": "JWT", "kid": KEY.id}),
        TOKEN.rpartition(".")[0] + ".",
        TOKEN[:-4] + "AAAA",
    ],
)
def test_no_other_algorithm_and_no_missing_signature(text: str) -> None:
    with pytest.raises(BearerInvalid):
        verify(text)


def test_a_public_key_is_no_secret() -> None:
    """The classic confusion: a token "signed" with what everybody knows."""
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    for alg in ("HS256", "RS256"):
        with pytest.raises(BearerInvalid):
            verify(signed({**HEADER, "alg": alg}, secret=pem))


@pytest.mark.parametrize(
    "extra",
    [
        {"jwk": {"kty": "oct", "k": encoded(b"attacker" * 4)}},
        {"jku": "https://attacker.example/keys"},
        {"x5c": ["MIIB"]},
        {"x5u": "https://attacker.example/cert"},
        {"crit": ["b64"], "b64": False},
        {"zip": "DEF"},
    ],
)
def test_a_key_in_the_header_is_not_believed(extra: dict[str, Any]) -> None:
    """CVE-2025-24976: an attacker's own key beside the name of a trusted one."""
    for secret in (KEY.secret, b"attacker" * 4):
        with pytest.raises(BearerInvalid):
            verify(signed({**HEADER, **extra}, secret=secret))
        with pytest.raises(BearerInvalid):
            bearer.key_id(signed({**HEADER, **extra}, secret=secret))


@pytest.mark.parametrize("kid", [None, 1, [], {}, "b" * 32, "../../key", "' OR 1=1 --", "\ud800"])
def test_another_keys_name(kid: object) -> None:
    with pytest.raises(BearerInvalid):
        verify(signed({**HEADER, "kid": kid}))


def test_another_key_of_the_same_name() -> None:
    with pytest.raises(BearerInvalid):
        verify(signed(HEADER, secret=b"x" * 32))


@pytest.mark.parametrize("claim", sorted(PAYLOAD))
def test_a_missing_claim_is_no_token(claim: str) -> None:
    """harbor #23270: a token without `iat` was an accident; here it is a refusal, as for every other claim."""
    with pytest.raises(BearerInvalid):
        verify(signed(HEADER, {name: value for name, value in PAYLOAD.items() if name != claim}))


@pytest.mark.parametrize("claim", sorted(PAYLOAD))
@pytest.mark.parametrize("value", [None, "x", 1.5, [], {}, ["homeport", "x"], -1])
def test_a_claim_that_is_something_else(claim: str, value: object) -> None:
    altered = {**PAYLOAD, claim: value}
    if claim in ("sub", "jti", "bound") and value == "x":
        verify(signed(HEADER, altered))
    elif claim == "access" and value == []:
        assert verify(signed(HEADER, altered)).scope == Scope(frozenset())
    elif claim in ("iat", "nbf") and value == -1:
        verify(signed(HEADER, altered))
    else:
        with pytest.raises(BearerInvalid):
            verify(signed(HEADER, altered))


def test_for_another_service_or_from_another_issuer() -> None:
    with pytest.raises(BearerInvalid):
        verify(TOKEN, service="other")
    with pytest.raises(BearerInvalid):
        verify(signed(HEADER, {**PAYLOAD, "aud": ["homeport", "other"]}))
    with pytest.raises(BearerInvalid):
        verify(signed(HEADER, {**PAYLOAD, "iss": "https://attacker.example"}))


def test_times() -> None:
    verify(TOKEN, now=NOW + 299.9)
    with pytest.raises(BearerInvalid):
        verify(TOKEN, now=NOW + 300)
    verify(TOKEN, now=NOW - SKEW_SECONDS)
    with pytest.raises(BearerInvalid):
        verify(TOKEN, now=NOW - SKEW_SECONDS - 1)


def test_a_long_token_is_not_looked_at() -> None:
    """CVE-2025-30204, CVE-2025-66564: nothing is split or decoded before its size is known."""
    for text in ("." * 10_000_000, TOKEN + "A" * CHARACTERS_MAX, "A" * (CHARACTERS_MAX + 1)):
        with pytest.raises(BearerInvalid, match="too long"):
            verify(text)


@given(st.one_of(st.text(max_size=200), st.lists(st.text(max_size=40), min_size=3, max_size=3).map(".".join)))
def test_garbage(text: str) -> None:
    with pytest.raises(BearerInvalid):
        verify(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(JSON, st.dictionaries(st.sampled_from([*PAYLOAD, "crit", "x"]), JSON, max_size=3))
def test_garbage_that_is_signed(header: Any, changes: dict[str, Any]) -> None:
    """Nothing but `BearerInvalid` ever comes out, even of what only a thief of the key could make."""
    for text in (
        signed(header),
        signed(HEADER, header),
        signed({**HEADER, **changes}),
        signed(HEADER, {**PAYLOAD, **changes}),
    ):
        try:
            verify(text)
        except BearerInvalid:
            continue


def test_what_a_token_is_bound_to_cannot_be_read_from_it() -> None:
    bound = bearer.bind(KEY, "hash of a password")
    assert bound == bearer.bind(KEY, "hash of a password")
    assert bound != bearer.bind(replace(KEY, secret=b"x" * 32), "hash of a password")
    assert bound not in (hashlib.sha256(b"hash of a password").hexdigest()[:32], "")


async def test_keys_rotate_and_the_old_are_kept_for_their_tokens(database: Database, clock: HandClock) -> None:
    assert await database.read(keys.newest) is None
    first = await database.write(keys.rotate, clock)
    assert await database.write(keys.rotate, clock) == first
    clock.advance(SIGNS_SECONDS)
    second = await database.write(keys.rotate, clock)
    assert second.id != first.id
    assert second.secret != first.secret
    assert len(second.secret) == 32
    assert await database.read(keys.newest) == second
    assert await database.read(keys.find, first.id) == first
    clock.advance(KEPT_SECONDS + 1)
    await database.write(keys.rotate, clock)
    assert await database.read(keys.find, first.id) == first  # Only a new key is worth looking for old ones.
    clock.advance(SIGNS_SECONDS - KEPT_SECONDS)
    await database.write(keys.rotate, clock)
    assert await database.read(keys.find, first.id) is None
    assert await database.read(keys.find, second.id) == second


async def test_a_clock_that_was_set_back_makes_no_keys(database: Database, clock: HandClock) -> None:
    first = await database.write(keys.rotate, clock)
    clock.time -= 10 * SIGNS_SECONDS
    assert await database.write(keys.rotate, clock) == first


def test_a_key_is_not_shown() -> None:
    assert "kkkk" not in repr(KEY)
