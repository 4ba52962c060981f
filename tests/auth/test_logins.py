"""From headers to actors."""

import asyncio
import base64
from dataclasses import replace

import bcrypt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport.auth import tokens, users
from homeport.auth.actors import ANONYMOUS, Actor, Limit, Right
from homeport.auth.directory import ConfiguredUser, LoginSettings
from homeport.auth.errors import PasswordHashInvalid, PasswordInvalid, UserNameInvalid
from homeport.auth.logins import AUTHORIZATION_CHARACTERS_MAX, REMEMBER_SECONDS, REMEMBERED_MAX, Logins, basic
from homeport.auth.permissions import Policy, Rule, may
from homeport.auth.throttle import ADDRESS_FAILURES_FREE, USER_FAILURES_FREE, USER_WAITING_MAX, WAIT_SECONDS_MAX
from homeport.auth.tokens import USED_SECONDS, Secret, Token
from homeport.db.database import Database
from homeport.oci.errors import TooManyRequests, Unauthorized
from tests.auth.tools import ADDRESS, ORIGIN, PASSWORD, CountedPasswords, HandClock

ADA = basic("ada", PASSWORD)
LIMITS = (Limit(("team/*",), frozenset({Right.PULL})),)


async def add_token(database: Database, clock: HandClock, **values: object) -> Secret:
    secret = Secret.new(clock)
    token = Token(secret.id, "personal", "ada", None, secret.hash(), None, "", clock.now(), None, None)
    await database.write(tokens.add, clock, ORIGIN, replace(token, **values))  # type: ignore[arg-type]
    return secret


async def add_adas_token(database: Database, clock: HandClock, **values: object) -> Secret:
    return await add_token(database, clock, user_id=(await database.read(users.get, "ada")).id, **values)


async def test_nobody(logins: Logins, passwords: CountedPasswords) -> None:
    assert await logins.authenticate(None, ADDRESS) is ANONYMOUS
    # Some clients send Basic with nothing in it where they have no login.
    assert await logins.authenticate(basic("", ""), ADDRESS) is ANONYMOUS
    assert not passwords.checked


@pytest.mark.parametrize("scheme", ["Basic", "basic", "BASIC", "Basic "])
async def test_a_user_of_the_database(logins: Logins, ada: str, scheme: str) -> None:
    header = ADA.replace("Basic", scheme)
    assert await logins.authenticate(header, ADDRESS) == Actor("user", "ada")


async def test_wrong_is_wrong(logins: Logins, ada: str) -> None:
    for user, password in (("ada", "wrong"), ("eve", PASSWORD), ("Ada", PASSWORD), ("ada", ""), ("", PASSWORD)):
        with pytest.raises(Unauthorized) as refusal:
            await logins.authenticate(basic(user, password), ADDRESS)
        assert refusal.value.detail == "wrong user or password"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "Basic",
        "Bearer",
        "Digest username=ada",
        "Basic !!!",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"ada:\xff\xfe").decode(),
        "Bearer x",
        "Bearer a.b.c",
        "Basic \ud800",
        "Bearer \xff",
        "x" * (AUTHORIZATION_CHARACTERS_MAX + 1),
        "Basic " + "A" * 1_000_000,
        "Bearer " + "A." * 1_000_000,
    ],
)
async def test_headers_that_are_no_login(logins: Logins, passwords: CountedPasswords, header: str) -> None:
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)
    assert not passwords.checked


@given(header=st.text(max_size=100))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
async def test_any_header_is_refused_or_nobody(logins: Logins, header: str) -> None:
    for text in (header, f"Basic {header}", f"Bearer {header}"):
        with pytest.raises(Unauthorized):
            await logins.authenticate(text, ADDRESS)


async def test_no_login_that_everybody_knows(logins: Logins, database: Database) -> None:
    """CVE-2026-4404: a fresh database has no user at all, so no default password either."""
    assert await database.read(users.everyone) == []
    for user, password in (("admin", "admin"), ("admin", "Harbor12345"), ("admin", ""), ("root", "root")):
        with pytest.raises(Unauthorized):
            await logins.authenticate(basic(user, password), ADDRESS)


async def test_user_who_is_not_there_costs_what_one_who_is_does(
    logins: Logins, ada: str, passwords: CountedPasswords
) -> None:
    """The same number of hashes of the same cost (harbor #23433); what time they take is not ours to see."""
    for user in ("ada", "nobody"):
        with pytest.raises(Unauthorized):
            await logins.authenticate(basic(user, "wrong"), ADDRESS)
    known, unknown = passwords.checked
    assert not passwords.outdated(known)
    assert not passwords.outdated(unknown)


async def test_slow_hashes_from_elsewhere_do_not_tell_who_is_there(
    logins: Logins, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    """With half of the users on bcrypt, about half of the names of nobody take bcrypt's time, always the same ones."""
    brought = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await database.write(users.add, clock, ORIGIN, "olaf", brought)
    await database.write(users.add, clock, ORIGIN, "ada", await passwords.hash(PASSWORD))
    slow: list[set[str]] = [set(), set()]
    for seen in slow:
        for number in range(40):
            passwords.checked.clear()
            with pytest.raises(Unauthorized):
                await logins.authenticate(basic(f"nobody{number}", "wrong"), f"10.0.0.{number}")
            if passwords.checked == [brought]:
                seen.add(f"nobody{number}")
    assert slow[0] == slow[1]
    assert 5 < len(slow[0]) < 35


async def test_one_check_for_a_pull_of_forty_layers(logins: Logins, ada: str, passwords: CountedPasswords) -> None:
    passwords.gate.clear()
    requests = [asyncio.create_task(logins.authenticate(ADA, ADDRESS)) for _ in range(40)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    passwords.gate.set()
    assert set(await asyncio.gather(*requests)) == {Actor("user", "ada")}
    for _ in range(40):
        await logins.authenticate(ADA, ADDRESS)
    assert len(passwords.checked) == 1


async def test_forty_wrong_ones_at_once_are_one_failure(logins: Logins, ada: str, passwords: CountedPasswords) -> None:
    wrong = basic("ada", "wrong")
    results = await asyncio.gather(*(logins.authenticate(wrong, ADDRESS) for _ in range(40)), return_exceptions=True)
    assert all(isinstance(result, Unauthorized) for result in results)
    assert len(passwords.checked) == 1
    await logins.authenticate(ADA, ADDRESS)


async def test_one_request_that_goes_away_does_not_take_the_others_with_it(
    logins: Logins, ada: str, passwords: CountedPasswords
) -> None:
    passwords.gate.clear()
    first, second = (asyncio.create_task(logins.authenticate(ADA, ADDRESS)) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.sleep(0)
    passwords.gate.set()
    assert await second == Actor("user", "ada")
    assert first.cancelled()
    assert len(passwords.checked) == 1


async def test_a_failure_that_nobody_waits_for_any_more_is_no_noise(
    logins: Logins, ada: str, passwords: CountedPasswords
) -> None:
    passwords.gate.clear()
    request = asyncio.create_task(logins.authenticate(basic("ada", "wrong"), ADDRESS))
    await asyncio.sleep(0)
    request.cancel()
    passwords.gate.set()
    await asyncio.gather(*logins._checks.values(), return_exceptions=True)
    assert not logins._checks


async def test_a_login_is_remembered_for_a_short_time(
    logins: Logins, ada: str, clock: HandClock, passwords: CountedPasswords
) -> None:
    await logins.authenticate(ADA, ADDRESS)
    clock.advance(REMEMBER_SECONDS - 1)
    await logins.authenticate(ADA, ADDRESS)
    assert len(passwords.checked) == 1
    clock.advance(2)
    await logins.authenticate(ADA, ADDRESS)
    assert len(passwords.checked) == 2


async def test_what_is_remembered_is_bounded_and_holds_no_password(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    await logins.authenticate(ADA, ADDRESS)
    assert PASSWORD not in repr(logins._basics)
    issued = (await logins.token([], ADDRESS)).token
    for number in range(REMEMBERED_MAX + 10):
        await logins.authenticate(f"Bearer{' ' * (number + 1)}{issued}"[:9000], ADDRESS)
    assert len(logins._bearers) <= REMEMBERED_MAX
    assert issued not in repr(logins._bearers)


async def test_what_costs_nothing_crowds_out_no_password(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    """The empty login can be written in countless ways, and a token goes with every name."""
    secret = await add_adas_token(database, clock)
    await logins.authenticate(ADA, ADDRESS)
    checked = len(passwords.checked)
    for number in range(REMEMBERED_MAX + 10):
        await logins.authenticate(basic(f"name{number}", str(secret)), ADDRESS)
        await logins.authenticate(f"Basic{' ' * (number + 1)}Og==", ADDRESS)
    await logins.authenticate(ADA, ADDRESS)
    assert len(passwords.checked) == checked


async def test_a_changed_password_counts_at_once(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    await logins.authenticate(ADA, ADDRESS)
    await database.write(users.change_password, clock, ORIGIN, "ada", await passwords.hash("another horse"))
    with pytest.raises(Unauthorized):
        await logins.authenticate(ADA, ADDRESS)
    await logins.authenticate(basic("ada", "another horse"), ADDRESS)


async def test_a_removed_user_is_out_at_once(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    await logins.authenticate(ADA, ADDRESS)
    await database.write(users.remove, clock, ORIGIN, "ada")
    with pytest.raises(Unauthorized):
        await logins.authenticate(ADA, ADDRESS)


async def test_a_password_that_changes_during_the_check_lets_nobody_in(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    """Also the request that came after the change and joined a check from before it."""
    passwords.gate.clear()
    before = asyncio.create_task(logins.authenticate(ADA, ADDRESS))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await database.write(users.change_password, clock, ORIGIN, "ada", await passwords.hash("another horse"))
    after = asyncio.create_task(logins.authenticate(ADA, ADDRESS))
    await asyncio.sleep(0)
    passwords.gate.set()
    for request in (before, after):
        with pytest.raises(Unauthorized):
            await request
    with pytest.raises(Unauthorized):
        await logins.authenticate(ADA, ADDRESS)


async def test_bcrypt_is_replaced_at_the_next_login(
    logins: Logins, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    brought = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    await database.write(users.add, clock, ORIGIN, "ada", brought)
    standing = await database.read(users.standing, "ada")
    with pytest.raises(Unauthorized):
        await logins.authenticate(basic("ada", "wrong"), ADDRESS)
    found = await database.read(users.credentials, "ada")
    assert found
    assert found[1] == brought
    await logins.authenticate(ADA, ADDRESS)
    found = await database.read(users.credentials, "ada")
    assert found
    assert not passwords.outdated(found[1])
    assert await database.read(users.standing, "ada") == standing
    await logins.authenticate(ADA, ADDRESS)
    assert len(passwords.checked) == 2


# --- tokens as passwords ----------------------------------------------------------------------------------------


async def test_a_personal_token_is_its_owner_whatever_name_comes_with_it(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    secret = await add_adas_token(database, clock, limits=LIMITS)
    for user in ("ada", "token", "", "<token>"):
        assert await logins.authenticate(basic(user, str(secret)), ADDRESS) == Actor("user", "ada", limits=LIMITS)
    assert not passwords.checked


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER "])
async def test_a_token_by_itself_is_a_bearer(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords, scheme: str
) -> None:
    """A program that was given nothing but the token need not know whose it is."""
    personal = await add_adas_token(database, clock, limits=LIMITS)
    robot = await add_token(database, clock, kind="robot", owner="ci", limits=LIMITS)
    assert await logins.authenticate(f"{scheme} {personal}", ADDRESS) == Actor("user", "ada", limits=LIMITS)
    assert await logins.authenticate(f"{scheme} {robot}", ADDRESS) == Actor("robot", "ci", limits=LIMITS)
    found = await database.read(tokens.find, robot.id)
    assert found
    assert found.used_at == clock.now()
    assert not passwords.checked
    assert not logins._bearers  # It costs nothing, so it is not remembered, and crowds out nobody.


async def test_a_bearer_that_is_no_good_token_is_refused_and_slows_nobody(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    refresh = await add_adas_token(database, clock, kind="refresh", expires_at=clock.now() + 60)
    revoked = await add_adas_token(database, clock)
    await logins.authenticate(f"Bearer {revoked}", ADDRESS)
    await database.write(tokens.revoke, clock, ORIGIN, revoked.id)
    expired = await add_adas_token(database, clock, expires_at=clock.now() + 1)
    clock.advance(1)
    known = await add_adas_token(database, clock)
    for text in (refresh, revoked, expired, Secret(known.id, "0" * 40), Secret.new(clock), f"{known}x", f"x {known}"):
        for _ in range(ADDRESS_FAILURES_FREE):
            with pytest.raises(Unauthorized):
                await logins.authenticate(f"Bearer {text}", ADDRESS)
    await logins.authenticate(ADA, ADDRESS)
    await logins.authenticate(f"Bearer {known}", ADDRESS)


async def test_a_robot_is_only_its_token(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    secret = await add_token(database, clock, kind="robot", owner="ada", limits=LIMITS)
    assert await logins.authenticate(basic("ada", str(secret)), ADDRESS) == Actor("robot", "ada", limits=LIMITS)


async def test_a_revoked_token_counts_at_once(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    header = basic("x", str(await add_adas_token(database, clock)))
    await logins.authenticate(header, ADDRESS)
    (token,) = await database.read(tokens.all_of)
    await database.write(tokens.revoke, clock, ORIGIN, token.id)
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)


async def test_an_expired_token_counts_at_once(logins: Logins, ada: str, database: Database, clock: HandClock) -> None:
    header = basic("x", str(await add_adas_token(database, clock, expires_at=clock.now() + 60)))
    await logins.authenticate(header, ADDRESS)
    clock.advance(59)
    await logins.authenticate(header, ADDRESS)
    clock.advance(1)
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)


async def test_a_token_outlives_its_owners_password_but_not_its_owner(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    header = basic("x", str(await add_adas_token(database, clock)))
    await database.write(users.change_password, clock, ORIGIN, "ada", "new hash")
    await logins.authenticate(header, ADDRESS)
    await database.write(users.remove, clock, ORIGIN, "ada")
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)


async def test_another_user_of_the_same_name_does_not_inherit_a_token(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    header = basic("x", str(await add_token(database, clock, user_id=999)))
    configured = basic("x", str(await add_token(database, clock)))
    for refused in (header, configured):
        with pytest.raises(Unauthorized):
            await logins.authenticate(refused, ADDRESS)
    logins.reload(LoginSettings(users=(ConfiguredUser("ada", "configured password"),)))
    await logins.authenticate(configured, ADDRESS)
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)


async def test_a_wrong_or_refresh_token_is_no_password_and_slows_nobody(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    refresh = await add_adas_token(database, clock, kind="refresh", expires_at=clock.now() + 60)
    known = await add_adas_token(database, clock)
    for secret in (refresh, Secret(known.id, "0" * 40), Secret.new(clock)):
        for _ in range(ADDRESS_FAILURES_FREE):
            with pytest.raises(Unauthorized):
                await logins.authenticate(basic("ada", str(secret)), ADDRESS)
    await logins.authenticate(ADA, ADDRESS)


async def test_use_of_a_token_is_noted_at_most_once_an_hour(
    logins: Logins, ada: str, database: Database, clock: HandClock
) -> None:
    secret = await add_adas_token(database, clock)
    noted = []
    for _ in range(int(3 * USED_SECONDS // 600)):
        await logins.authenticate(basic("x", str(secret)), ADDRESS)
        found = await database.read(tokens.find, secret.id)
        assert found
        noted.append(found.used_at)
        clock.advance(600)
    assert len(set(noted)) == 3


# --- users of the configuration ---------------------------------------------------------------------------------


async def test_a_user_of_the_configuration_wins(logins: Logins, ada: str, passwords: CountedPasswords) -> None:
    policy = Policy(groups={"ops": frozenset({"ada", "ci"})})
    brought = bcrypt.hashpw(b"ci password", bcrypt.gensalt(4)).decode()
    logins.reload(
        LoginSettings(policy, (ConfiguredUser("ada", "configured", admin=True), ConfiguredUser("ci", brought)))
    )
    actor = await logins.authenticate(basic("ada", "configured"), ADDRESS)
    assert actor == Actor("user", "ada", frozenset({"ops"}), admin=True)
    assert await logins.authenticate(basic("ci", "ci password"), ADDRESS) == Actor("user", "ci", frozenset({"ops"}))
    with pytest.raises(Unauthorized):
        await logins.authenticate(ADA, ADDRESS)
    with pytest.raises(Unauthorized):
        await logins.authenticate(basic("ci", brought), ADDRESS)
    assert len(passwords.checked) == 4
    assert not passwords.outdated(passwords.checked[0])


@pytest.mark.parametrize("password", ["cafe\u0301", "caf\u00e9"])
async def test_a_configured_password_however_it_was_composed(logins: Logins, password: str) -> None:
    logins.reload(LoginSettings(users=(ConfiguredUser("ada", "caf\u00e9"),)))
    await logins.authenticate(basic("ada", password), ADDRESS)


async def test_a_changed_configuration_counts_at_once(logins: Logins, passwords: CountedPasswords) -> None:
    header = basic("ci", "first")
    logins.reload(LoginSettings(users=(ConfiguredUser("ci", "first"),)))
    await logins.authenticate(header, ADDRESS)
    logins.reload(LoginSettings(users=(ConfiguredUser("ci", "second"),)))
    with pytest.raises(Unauthorized):
        await logins.authenticate(header, ADDRESS)
    logins.reload(LoginSettings())
    with pytest.raises(Unauthorized):
        await logins.authenticate(basic("ci", "second"), ADDRESS)


async def test_who_left_a_group_has_lost_its_rights(logins: Logins, ada: str) -> None:
    """CVE-2025-23208: membership that was taken away stayed in force for whoever was logged in."""
    rules = (Rule(("team/**",), {"ops": frozenset({Right.DELETE})}),)
    logins.reload(LoginSettings(Policy(rules=rules, groups={"ops": frozenset({"ada"})})))
    bearer = f"Bearer {(await logins.token(['repository:team/app:delete'], ADDRESS, authorization=ADA)).token}"
    for header in (ADA, bearer):
        assert may(logins.policy, await logins.authenticate(header, ADDRESS), Right.DELETE, "team/app")
    logins.reload(LoginSettings(Policy(rules=rules, groups={"ops": frozenset()})))
    for header in (ADA, bearer):
        assert not may(logins.policy, await logins.authenticate(header, ADDRESS), Right.DELETE, "team/app")


async def test_a_check_from_before_a_reload_is_not_remembered_after_it(
    logins: Logins, ada: str, passwords: CountedPasswords
) -> None:
    passwords.gate.clear()
    request = asyncio.create_task(logins.authenticate(ADA, ADDRESS))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    logins.reload(LoginSettings(Policy(groups={"ops": frozenset({"ada"})})))
    passwords.gate.set()
    await request
    assert (await logins.authenticate(ADA, ADDRESS)).groups == {"ops"}


@pytest.mark.parametrize(
    ("name", "secret", "error"),
    [("a:b", "x", UserNameInvalid), ("ada", "", PasswordInvalid), ("ada", "$2b$99$x", PasswordHashInvalid)],
)
def test_configured_users_that_cannot_be(name: str, secret: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ConfiguredUser(name, secret)


def test_settings_show_no_secret_and_have_bounds() -> None:
    assert "hidden" not in repr(LoginSettings(users=(ConfiguredUser("ada", "hidden secret"),)))
    with pytest.raises(ValueError, match="seconds"):
        LoginSettings(token_seconds=86401)


# --- failures ---------------------------------------------------------------------------------------------------


async def test_repeated_failures_slow_down_and_a_remembered_login_goes_on(
    logins: Logins, ada: str, clock: HandClock
) -> None:
    await logins.authenticate(ADA, ADDRESS)
    for number in range(USER_FAILURES_FREE):
        with pytest.raises(Unauthorized):
            await logins.authenticate(basic("ada", f"wrong{number}"), ADDRESS)
    with pytest.raises(TooManyRequests) as refusal:
        await logins.authenticate(basic("ada", "wrong again"), ADDRESS)
    assert refusal.value.retry_after_seconds == 1
    await logins.authenticate(ADA, ADDRESS)
    clock.advance(REMEMBER_SECONDS + 1)
    for number in range(2 * ADDRESS_FAILURES_FREE):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await logins.authenticate(basic(f"user{number}", "wrong"), ADDRESS)
    await logins.authenticate(ADA, ADDRESS)  # It was right before, so it is no guess.


async def test_a_correct_login_gets_in_at_last(logins: Logins, ada: str, clock: HandClock) -> None:
    for number in range(100):
        with pytest.raises((Unauthorized, TooManyRequests)):
            await logins.authenticate(basic("ada", f"wrong{number}"), ADDRESS)
    with pytest.raises(TooManyRequests):
        await logins.authenticate(ADA, ADDRESS)
    clock.advance(WAIT_SECONDS_MAX)
    await logins.authenticate(ADA, ADDRESS)


async def test_a_password_that_was_right_once_is_a_guess_after_it_was_changed(
    logins: Logins, ada: str, database: Database, clock: HandClock, passwords: CountedPasswords
) -> None:
    await logins.authenticate(ADA, ADDRESS)
    await database.write(users.change_password, clock, ORIGIN, "ada", await passwords.hash("another horse"))
    for _ in range(USER_FAILURES_FREE):
        with pytest.raises(Unauthorized):
            await logins.authenticate(ADA, ADDRESS)
    with pytest.raises(TooManyRequests):
        await logins.authenticate(ADA, ADDRESS)


async def test_a_flood_of_logins_is_bounded(logins: Logins, ada: str, passwords: CountedPasswords) -> None:
    passwords.gate.clear()
    flood = [asyncio.create_task(logins.authenticate(basic("ada", f"wrong{n}"), ADDRESS)) for n in range(500)]
    for _ in range(5):
        await asyncio.sleep(0)
    passwords.gate.set()
    results = await asyncio.gather(*flood, return_exceptions=True)
    assert sum(isinstance(result, TooManyRequests) for result in results) == 500 - len(passwords.checked)
    assert len(passwords.checked) <= USER_WAITING_MAX
