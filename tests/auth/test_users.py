"""Facts about users and tokens."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from homeport import events
from homeport.auth import tokens, users
from homeport.auth.actors import Limit, Right
from homeport.auth.errors import TokenInvalid, TokenUnknown, UserExists, UserNameInvalid, UserUnknown
from homeport.auth.tokens import LISTED_SECONDS, REFRESH_SECONDS, USED_SECONDS, Secret, Token
from homeport.db.database import Database
from tests.auth.tools import ORIGIN, HandClock

LIMITS = (Limit(("team/**", "app"), frozenset({Right.PULL, Right.PUSH})), Limit(("x",), frozenset({Right.ADMIN})))


def token(clock: HandClock, **changes: Any) -> Token:
    secret = Secret.new(clock)
    made = Token(secret.id, "personal", "ada", None, secret.hash(), None, "", clock.now(), None, None)
    return replace(made, **changes)


async def kinds(database: Database) -> list[tuple[str, str | None]]:
    return [(event.kind, event.reason) for event in await database.read(events.after, events.START)]


async def test_a_user_comes_changes_and_goes(database: Database, clock: HandClock) -> None:
    await database.write(users.add, clock, ORIGIN, "ada", "hash", admin=True)
    user = await database.read(users.get, "ada")
    assert (user.name, user.admin, user.version, user.created_at) == ("ada", True, 1, clock.now())
    assert await database.read(users.credentials, "ada") == (user, "hash")
    assert await database.read(users.standing, "ada") == (user.id, 1)
    clock.advance(5)
    await database.write(users.change_password, clock, ORIGIN, "ada", "hash2")
    assert await database.read(users.standing, "ada") == (user.id, 2)
    assert (await database.read(users.get, "ada")).changed_at == clock.now()
    assert await database.read(users.everyone) == [await database.read(users.get, "ada")]
    await database.write(users.remove, clock, ORIGIN, "ada")
    assert await database.read(users.everyone) == []
    assert await database.read(users.standing, "ada") is None
    assert await kinds(database) == [("user.added", "ada"), ("user.changed", "ada"), ("user.removed", "ada")]


async def test_a_name_is_one_users(database: Database, clock: HandClock) -> None:
    await database.write(users.add, clock, ORIGIN, "ada", "hash")
    with pytest.raises(UserExists):
        await database.write(users.add, clock, ORIGIN, "ada", "other")
    assert await database.read(users.credentials, "ada") == (await database.read(users.get, "ada"), "hash")
    assert await kinds(database) == [("user.added", "ada")]


@pytest.mark.parametrize(
    "name", ["", "a:b", "anonymous", "*", "group:ops", "-x", "a b", "a\n", "ä", "x" * 129, "<token>"]
)
async def test_what_a_user_cannot_be_called(database: Database, clock: HandClock, name: str) -> None:
    with pytest.raises(UserNameInvalid):
        await database.write(users.add, clock, ORIGIN, name, "hash")


@pytest.mark.parametrize(
    "fact",
    [
        lambda tx, clock: users.get(tx, "eve"),
        lambda tx, clock: users.change_password(tx, clock, ORIGIN, "eve", "hash"),
        lambda tx, clock: users.remove(tx, clock, ORIGIN, "eve"),
    ],
)
async def test_nobody_can_be_changed(database: Database, clock: HandClock, fact: Callable[..., Any]) -> None:
    with pytest.raises(UserUnknown):
        await database.write(fact, clock)
    assert await kinds(database) == []


async def test_a_better_hash_is_no_change_and_never_undoes_one(database: Database, clock: HandClock) -> None:
    await database.write(users.add, clock, ORIGIN, "ada", "old")
    standing = await database.read(users.standing, "ada")
    assert standing
    await database.write(users.rehash, standing, "better")
    assert await database.read(users.standing, "ada") == standing
    await database.write(users.change_password, clock, ORIGIN, "ada", "new password")
    await database.write(users.rehash, standing, "of the old password")
    found = await database.read(users.credentials, "ada")
    assert found
    assert found[1] == "new password"


async def test_a_removed_users_tokens_are_nobodys(database: Database, clock: HandClock) -> None:
    """Neither a new user of the name, nor one whose id a careless database would hand out again, inherits them."""
    await database.write(users.add, clock, ORIGIN, "ada", "hash")
    first = await database.read(users.get, "ada")
    mine = token(clock, user_id=first.id)
    robots = token(clock, kind="robot", limits=LIMITS)
    for made in (mine, robots):
        await database.write(tokens.add, clock, ORIGIN, made)
    await database.write(users.remove, clock, ORIGIN, "ada")
    assert await database.read(tokens.all_of) == [robots]
    await database.write(users.add, clock, ORIGIN, "ada", "hash")
    assert (await database.read(users.get, "ada")).id != first.id


async def test_a_token_comes_and_goes(database: Database, clock: HandClock) -> None:
    made = token(clock, limits=LIMITS, description="laptop", expires_at=clock.now() + 60)
    await database.write(tokens.add, clock, ORIGIN, made)
    assert await database.read(tokens.find, made.id) == made
    assert await database.read(tokens.all_of, "ada") == [made]
    assert await database.read(tokens.all_of, "eve") == []
    assert await database.read(tokens.exists, made.id)
    await database.write(tokens.revoke, clock, ORIGIN, made.id)
    assert not await database.read(tokens.exists, made.id)
    with pytest.raises(TokenUnknown):
        await database.write(tokens.revoke, clock, ORIGIN, made.id)
    label = f"personal token {made.id} of ada"
    assert await kinds(database) == [("token.created", label), ("token.revoked", label)]


@pytest.mark.parametrize(
    "changes",
    [
        {"kind": "robot"},
        {"kind": "robot", "limits": ()},
        {"limits": (Limit((), frozenset({Right.PULL})),)},
        {"limits": (Limit(("a**",), frozenset({Right.PULL})),)},
        {"limits": (Limit(("a",), frozenset()),)},
        {"limits": (Limit(("a",) * 33, frozenset({Right.PULL})),)},
        {"limits": LIMITS * 17},
        {"expires_at": 0.0},
        {"description": "x" * 201},
        {"description": "two\nlines"},
    ],
)
async def test_tokens_that_cannot_be(database: Database, clock: HandClock, changes: dict[str, Any]) -> None:
    with pytest.raises(TokenInvalid):
        await database.write(tokens.add, clock, ORIGIN, token(clock, **changes))


async def test_an_expired_token_is_listed_for_a_while(database: Database, clock: HandClock) -> None:
    made = token(clock, expires_at=clock.now() + 60)
    await database.write(tokens.add, clock, ORIGIN, made)
    clock.advance(60)
    assert made.expired(clock.now())
    await database.write(tokens.add, clock, ORIGIN, token(clock))
    assert made in await database.read(tokens.all_of)
    clock.advance(LISTED_SECONDS + 1)
    await database.write(tokens.add, clock, ORIGIN, token(clock))
    assert made not in await database.read(tokens.all_of)


async def test_use_is_noted_seldom_and_keeps_a_refresh_token_alive(database: Database, clock: HandClock) -> None:
    personal = token(clock, expires_at=clock.now() + 10 * USED_SECONDS)
    refresh = token(clock, kind="refresh", expires_at=clock.now() + REFRESH_SECONDS)
    for made in (personal, refresh):
        await database.write(tokens.add, clock, ORIGIN, made)
        assert tokens.use_is_news(made, clock.now())
    clock.advance(USED_SECONDS)
    for made in (personal, refresh):
        await database.write(tokens.used, clock, made.id)
        found = await database.read(tokens.find, made.id)
        assert found
        assert not tokens.use_is_news(found, clock.now() + USED_SECONDS - 1)
        assert tokens.use_is_news(found, clock.now() + USED_SECONDS)
        assert tokens.use_is_news(found, clock.now() - 1)
        later = clock.now() + REFRESH_SECONDS if made is refresh else made.expires_at
        assert (found.used_at, found.expires_at) == (clock.now(), later)
    assert await database.read(tokens.all_of) == [replace(personal, used_at=clock.now())]


async def test_another_password_ends_what_was_given_for_the_old_one(database: Database, clock: HandClock) -> None:
    await database.write(users.add, clock, ORIGIN, "ada", "hash")
    user = await database.read(users.get, "ada")
    personal = token(clock, user_id=user.id)
    refresh = token(clock, kind="refresh", user_id=user.id, expires_at=clock.now() + 60)
    for made in (personal, refresh):
        await database.write(tokens.add, clock, ORIGIN, made)
    await database.write(users.change_password, clock, ORIGIN, "ada", "hash2")
    assert await database.read(tokens.exists, personal.id)
    assert not await database.read(tokens.exists, refresh.id)


def test_the_text_of_a_token(clock: HandClock) -> None:
    secret = Secret.new(clock)
    assert Secret.parse(str(secret)) == secret
    assert str(secret).startswith("hp_")
    for wrong in (
        "",
        "hp_",
        str(secret)[:-1],
        str(secret) + "0",
        str(secret).upper(),
        " " + str(secret),
        str(secret) + "\n",
    ):
        assert Secret.parse(wrong) is None
    assert secret.hash() != secret.hash("something")
    assert tokens.is_right(token(clock, secret_hash=secret.hash("a")), secret, "a")
    assert not tokens.is_right(token(clock, secret_hash=secret.hash("a")), secret)
