"""The token service's logic: what bearer and refresh tokens are given for, and when they stop being good."""

from dataclasses import replace
from datetime import datetime

import pytest

from homeport.auth import bearer, keys, tokens, users
from homeport.auth.actors import ANONYMOUS, Actor, Limit, Right, Scope
from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.keys import Key
from homeport.auth.logins import Logins, basic
from homeport.auth.permissions import Policy, Rule, may, may_list, unscoped
from homeport.auth.throttle import USER_FAILURES_FREE
from homeport.auth.tokens import REFRESH_SECONDS, Secret, Token
from homeport.db.database import Database
from homeport.oci.errors import RequestInvalid, TooManyRequests, Unauthorized
from tests.auth.tools import ADDRESS, ORIGIN, PASSWORD, CountedPasswords, HandClock

ADA = basic("ada", PASSWORD)
PULL, PUSH = "repository:team/app:pull", "repository:team/app:pull,push"
LIMITS = (Limit(("team/*",), frozenset({Right.PULL})),)


async def who(logins: Logins, token: str) -> Actor:
    return await logins.authenticate(f"Bearer {token}", ADDRESS)


async def add_token(database: Database, clock: HandClock, **values: object) -> Secret:
    secret = Secret.new(clock)
    token = Token(secret.id, "personal", "ada", None, secret.hash(), LIMITS, "", clock.now(), None, None)
    await database.write(tokens.add, clock, ORIGIN, replace(token, **values))  # type: ignore[arg-type]
    return secret


async def test_a_users_bearer_token(logins: Logins, ada: str, clock: HandClock) -> None:
    issued = await logins.token([PUSH, "repository:other:delete", "registry:catalog:*"], ADDRESS, authorization=ADA)
    assert issued.expires_in_seconds == 300
    assert datetime.fromisoformat(issued.issued_at).timestamp() == clock.now()
    assert issued.scope == f"{PUSH} registry:catalog:*"
    assert issued.refresh_token is None
    actor = await who(logins, issued.token)
    scope = Scope(frozenset({("team/app", Right.PULL), ("team/app", Right.PUSH)}), catalog=True)
    assert actor == Actor("user", "ada", scope=scope)
    assert may(logins.policy, actor, Right.PUSH, "team/app")
    assert not may(logins.policy, actor, Right.PULL, "other")
    assert may_list(actor)
    assert may(logins.policy, unscoped(actor), Right.PULL, "other")


async def test_nobodys_bearer_token(logins: Logins) -> None:
    issued = await logins.token([PUSH], ADDRESS)
    assert issued.scope == ""
    assert await who(logins, issued.token) == replace(ANONYMOUS, scope=Scope(frozenset()))
    logins.reload(LoginSettings(Policy(rules=(Rule(("team/*",), visibility="public"),))))
    issued = await logins.token([PUSH], ADDRESS, authorization=basic("", ""), offline=True)
    assert issued.scope == PULL
    assert issued.refresh_token is None
    assert may(logins.policy, await who(logins, issued.token), Right.PULL, "team/app")


async def test_docker_login_asks_for_nothing(logins: Logins, ada: str) -> None:
    issued = await logins.token([], ADDRESS, authorization=ADA)
    assert await who(logins, issued.token) == Actor("user", "ada", scope=Scope(frozenset()))


async def test_wrong_credentials_get_no_token(logins: Logins, ada: str) -> None:
    for number in range(USER_FAILURES_FREE):
        with pytest.raises(Unauthorized):
            await logins.token([PULL], ADDRESS, authorization=basic("ada", f"wrong{number}"))
    with pytest.raises(TooManyRequests):
        await logins.token([PULL], ADDRESS, authorization=basic("ada", "wrong"))


async def test_a_bearer_token_does_not_get_another(logins: Logins, ada: str) -> None:
    """Else whoever steals one for five minutes has it for ever."""
    for credentials in (ADA, None):
        issued = await logins.token([PULL], ADDRESS, authorization=credentials)
        with pytest.raises(Unauthorized):
            await logins.token([PULL], ADDRESS, authorization=f"Bearer {issued.token}")


async def test_a_bearer_token_expires(logins: Logins, ada: str, clock: HandClock) -> None:
    token = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    clock.advance(299)
    await who(logins, token)
    clock.advance(1)
    with pytest.raises(Unauthorized):
        await who(logins, token)
    with pytest.raises(Unauthorized):
        await who(logins, token)


async def test_too_much_for_one_token(logins: Logins, ada: str) -> None:
    """32 repositories are a token; with names of 255 characters they are more than a header holds, and refused."""
    with pytest.raises(RequestInvalid):
        await logins.token([f"repository:app{n}:pull" for n in range(33)], ADDRESS, authorization=ADA)
    names = [f"repository:{'x' * 250}{n:02}:pull" for n in range(32)]
    with pytest.raises(RequestInvalid):
        await logins.token(names, ADDRESS, authorization=ADA)
    issued = await logins.token([f"repository:team/app{n}:pull,push" for n in range(32)], ADDRESS, authorization=ADA)
    await who(logins, issued.token)


async def test_rights_are_those_of_now(logins: Logins, ada: str) -> None:
    """harbor #22900: a token from before says what was asked for, the rules of now say what may be done."""
    token = (await logins.token([PUSH], ADDRESS, authorization=ADA)).token
    logins.reload(LoginSettings(Policy(rules=(Rule(("team/**",), {"ada": frozenset({Right.PULL})}, "private"),))))
    actor = await who(logins, token)
    assert may(logins.policy, actor, Right.PULL, "team/app")
    assert not may(logins.policy, actor, Right.PUSH, "team/app")


async def test_changes_of_the_user_end_bearer_tokens_at_once(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    token = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    unused = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    await who(logins, token)
    await database.write(users.change_password, clock, ORIGIN, "ada", await passwords.hash("another horse"))
    for text in (token, unused):
        with pytest.raises(Unauthorized):
            await who(logins, text)
    token = (await logins.token([PULL], ADDRESS, authorization=basic("ada", "another horse"))).token
    await who(logins, token)
    await database.write(users.remove, clock, ORIGIN, "ada")
    await database.write(users.add, clock, ORIGIN, "ada", await passwords.hash("another horse"))
    with pytest.raises(Unauthorized):
        await who(logins, token)


async def test_bearer_tokens_of_configured_users_hold_until_the_password_changes(
    logins: Logins, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    settings = LoginSettings(users=(ConfiguredUser("ci", "first password"),))
    logins.reload(settings)
    token = (await logins.token([PULL], ADDRESS, authorization=basic("ci", "first password"))).token
    restarted = Logins(database, clock, passwords, settings)
    assert (await who(restarted, token)).name == "ci"
    restarted.reload(LoginSettings(users=(ConfiguredUser("ci", "second password"),)))
    with pytest.raises(Unauthorized):
        await who(restarted, token)
    restarted.reload(LoginSettings())
    with pytest.raises(Unauthorized):
        await who(restarted, token)


async def test_a_token_for_another_service_is_none_of_ours(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    other = Logins(database, clock, passwords, LoginSettings(service="another"))
    token = (await other.token([PULL], ADDRESS, authorization=ADA)).token
    await who(other, token)
    with pytest.raises(Unauthorized):
        await who(logins, token)


async def test_by_a_personal_token(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    user = await database.read(users.get, "ada")
    secret = await add_token(database, clock, user_id=user.id, expires_at=clock.now() + 100)
    login = basic("ada", str(secret))
    issued = await logins.token(
        [PUSH, "repository:other:pull", "registry:catalog:*"], ADDRESS, authorization=login, offline=True
    )
    assert issued.refresh_token is None, "whoever has a token needs no other"
    assert issued.scope == f"{PULL} registry:catalog:*"
    assert issued.expires_in_seconds == 100
    actor = await who(logins, issued.token)
    assert actor.limits == LIMITS
    assert not may(logins.policy, unscoped(actor), Right.PULL, "other")
    await database.write(tokens.revoke, clock, ORIGIN, secret.id)
    with pytest.raises(Unauthorized):
        await who(logins, issued.token)


async def test_by_a_robots_token(logins: Logins, database: Database, clock: HandClock) -> None:
    logins.reload(LoginSettings(Policy(rules=(Rule(("**",), visibility="private"),))))
    secret = await add_token(database, clock, kind="robot", owner="ci")
    issued = await logins.token([PUSH], ADDRESS, authorization=basic("ci", str(secret)))
    actor = await who(logins, issued.token)
    assert (actor.kind, actor.name, issued.scope) == ("robot", "ci", PULL)
    assert may(logins.policy, actor, Right.PULL, "team/app")


# --- refresh tokens ---------------------------------------------------------------------------------------------


async def refresh_token(logins: Logins, authorization: str = ADA) -> str:
    text = (await logins.token([], ADDRESS, authorization=authorization, offline=True)).refresh_token
    assert text
    return text


async def test_a_refresh_token_instead_of_the_password(logins: Logins, ada: str, passwords: CountedPasswords) -> None:
    text = await refresh_token(logins)
    issued = await logins.token([PUSH], ADDRESS, refresh_token=text, offline=True)
    assert issued.scope == PUSH
    assert issued.refresh_token is None
    assert (await who(logins, issued.token)).name == "ada"
    assert len(passwords.checked) == 1


async def test_a_refresh_token_is_good_for_nothing_else(logins: Logins, ada: str, database: Database) -> None:
    text = await refresh_token(logins)
    for header in (basic("ada", text), f"Bearer {text}"):
        with pytest.raises(Unauthorized):
            await logins.authenticate(header, ADDRESS)
    assert await database.read(tokens.all_of) == [], "nobody made it, so nobody is shown it"


async def test_what_is_no_refresh_token(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    user = await database.read(users.get, "ada")
    personal = await add_token(database, clock, user_id=user.id)
    real = Secret.parse(await refresh_token(logins))
    assert real
    for text in ("", "x", PASSWORD, str(personal), str(Secret.new(clock)), str(Secret(real.id, "0" * 40))):
        with pytest.raises(Unauthorized):
            await logins.token([PULL], ADDRESS, refresh_token=text)


async def test_a_changed_password_or_a_removed_user_ends_refresh_tokens(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    old = await refresh_token(logins)
    await database.write(users.change_password, clock, ORIGIN, "ada", await passwords.hash(PASSWORD))
    with pytest.raises(Unauthorized):
        await logins.token([PULL], ADDRESS, refresh_token=old)
    new = await refresh_token(logins)
    await database.write(users.remove, clock, ORIGIN, "ada")
    await database.write(users.add, clock, ORIGIN, "ada", await passwords.hash(PASSWORD))
    with pytest.raises(Unauthorized):
        await logins.token([PULL], ADDRESS, refresh_token=new)


async def test_refresh_tokens_of_configured_users_hold_until_the_password_changes(
    logins: Logins, database: Database, clock: HandClock
) -> None:
    logins.reload(LoginSettings(users=(ConfiguredUser("ci", "first password"),)))
    text = await refresh_token(logins, basic("ci", "first password"))
    kept = await database.read(lambda tx: tx.all("SELECT secret_hash FROM tokens"))
    logins.reload(LoginSettings(users=(ConfiguredUser("ci", "second password"),)))
    with pytest.raises(Unauthorized):
        await logins.token([PULL], ADDRESS, refresh_token=text)
    logins.reload(LoginSettings(users=(ConfiguredUser("ci", "first password"),)))
    await logins.token([PULL], ADDRESS, refresh_token=text)
    secret = Secret.parse(text)
    assert secret
    assert kept != [(secret.hash(),)], "bound to the password, of which the row tells nothing"


async def test_a_refresh_token_lives_while_it_is_used(logins: Logins, ada: str, clock: HandClock) -> None:
    """A Swarm node that pulls once a month goes on for years; one that nobody uses ends."""
    used, unused = await refresh_token(logins), await refresh_token(logins)
    for _ in range(12):
        clock.advance(REFRESH_SECONDS / 3)
        await logins.token([PULL], ADDRESS, refresh_token=used)
    with pytest.raises(Unauthorized):
        await logins.token([PULL], ADDRESS, refresh_token=unused)


# --- keys -------------------------------------------------------------------------------------------------------


async def test_unknown_key_names_change_nothing(logins: Logins, ada: str, database: Database) -> None:
    """CVE-2026-48524: names of keys that nobody knows must neither fetch nor forget anything."""
    good = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    before = await database.read(lambda tx: tx.all("SELECT * FROM signing_keys"))
    claims = bearer.Claims("user", "ada", "", Scope(frozenset()), "id", 0, 2_000_000_000)
    for number in range(200):
        forged = bearer.sign(Key(f"{number:032x}", b"attacker" * 4, 0.0), "homeport", claims)
        with pytest.raises(Unauthorized):
            await who(logins, forged)
    assert await database.read(lambda tx: tx.all("SELECT * FROM signing_keys")) == before
    await who(logins, good)
    assert len(logins._bearers) == 1


async def test_tokens_hold_while_keys_rotate(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    await logins.token([PULL], ADDRESS, authorization=ADA)
    clock.advance(keys.SIGNS_SECONDS - 10)
    old = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    clock.advance(20)
    new = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    assert bearer.key_id(old) != bearer.key_id(new)
    for token in (old, new):
        assert (await who(logins, token)).name == "ada"


async def test_a_key_that_was_removed_takes_its_tokens_along(logins: Logins, ada: str, database: Database) -> None:
    token = (await logins.token([PULL], ADDRESS, authorization=ADA)).token
    await database.write(lambda tx: tx.run("DELETE FROM signing_keys"))
    with pytest.raises(Unauthorized):
        await who(logins, token)
