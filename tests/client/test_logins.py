"""Being let in: challenges and tokens, from registries that behave and from those that are after our login."""

import asyncio
import base64
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import pytest
from aiohttp import web
from yarl import URL

from homeport.client.credentials import Credential
from homeport.client.errors import BadAnswer, LoginFailed, Refused, Untrusted
from homeport.client.remote import Remote
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from tests.client.clocks import QuickClock
from tests.client.servers import LittleServer, moved, serving

ADA = Credential("ada", "correct horse battery")
BASIC = "Basic " + base64.b64encode(b"ada:correct horse battery").decode()
PULL = ("repository:team/app:pull",)


@dataclass
class TokenRegistry:
    """A registry with a token service of its own, on one port; what a test changes, it changes here."""

    realm: str = ""
    challenge: str = 'Bearer realm="{realm}",service="little registry"'
    token_answer: dict[str, object] = field(default_factory=lambda: {"expires_in": 300})
    token_status: int = 200
    issued: int = 0
    revoked: set[str] = field(default_factory=set)
    needed_scope: str = ""
    scopes: dict[str, set[str]] = field(default_factory=dict)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.path == "/token":
            return await self.token(request)
        sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if sent in self.scopes and sent not in self.revoked and self.needed_scope in {"", *self.scopes[sent]}:
            return web.Response(text="{}")
        challenge = self.challenge.format(realm=self.realm)
        if self.needed_scope:
            challenge += f',scope="{self.needed_scope}",error="insufficient_scope"'
        return web.Response(status=401, headers={"WWW-Authenticate": challenge})

    async def token(self, request: web.Request) -> web.Response:
        self.issued += 1
        query = parse_qs((await request.text()) or request.query_string)
        token = f"token-{self.issued}"
        self.scopes[token] = {scope for scopes in query.get("scope", []) for scope in scopes.split()}
        await asyncio.sleep(0.01)
        return web.json_response({"token": token, **self.token_answer}, status=self.token_status)


@asynccontextmanager
async def registry(made: TokenRegistry) -> AsyncIterator[LittleServer]:
    async with serving(made.answer) as server:
        made.realm = made.realm or f"{server.url}/token?account=kept"
        yield server


async def test_an_anonymous_token_is_fetched_once_and_used_until_shortly_before_its_end(
    transport: Transport, clock: QuickClock
) -> None:
    made = TokenRegistry()
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        for _ in range(3):
            await remote.fetch("GET", "/v2/", PULL)
        asked = [path for path in server.paths() if path.startswith("/token")]
        assert asked == ["/token?account=kept&service=little+registry&scope=repository%3Ateam%2Fapp%3Apull"]
        assert server.seen[1].authorization is None
        clock.offset += 269
        await remote.fetch("GET", "/v2/", PULL)
        assert made.issued == 1
        clock.offset += 2
        await remote.fetch("GET", "/v2/", PULL)
        assert made.issued == 2
        await remote.fetch("GET", "/v2/", ("repository:team/other:pull",))
        assert made.issued == 3


async def test_the_password_goes_to_the_token_service_and_not_to_the_registry(transport: Transport) -> None:
    async with registry(TokenRegistry()) as server:
        await Remote(server.host, transport, ADA).fetch("GET", "/v2/", PULL)
        assert {seen.authorization for seen in server.seen if seen.path.startswith("/token")} == {BASIC}
        assert BASIC not in {seen.authorization for seen in server.seen if seen.path.startswith("/v2")}


async def test_an_identity_token_is_posted(transport: Transport) -> None:
    async with registry(TokenRegistry(token_answer={"access_token": "given", "token": None})) as server:
        credential = Credential("ignored", "ignored", "identity/token+1")
        answer = await Remote(server.host, transport, credential).fetch("GET", "/v2/", PULL)
        assert answer.status == 401  # "given" is a token that this registry does not know
        posted = next(seen for seen in server.seen if seen.method == "POST")
        assert posted.authorization is None
        assert parse_qs(posted.body.decode()) == {
            "grant_type": ["refresh_token"],
            "refresh_token": ["identity/token+1"],
            "client_id": ["homeport"],
            "service": ["little registry"],
            "scope": ["repository:team/app:pull"],
        }


async def test_many_requests_at_once_fetch_one_token(transport: Transport) -> None:
    made = TokenRegistry()
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        answers = await asyncio.gather(*(remote.fetch("GET", f"/v2/?{number}", PULL) for number in range(8)))
        assert {answer.status for answer in answers} == {200}
        assert made.issued <= 2


async def test_a_revoked_token_is_replaced(transport: Transport) -> None:
    made = TokenRegistry()
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        await remote.fetch("GET", "/v2/", PULL)
        made.revoked.add("token-1")
        assert (await remote.fetch("GET", "/v2/", PULL)).status == 200
        assert made.issued == 2


async def test_what_the_registry_finds_missing_is_asked_for_as_well(transport: Transport) -> None:
    made = TokenRegistry(needed_scope="registry:catalog:*")
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        assert (await remote.fetch("GET", "/v2/", PULL)).status == 200
        assert (await remote.fetch("GET", "/v2/", PULL)).status == 200
        assert made.issued == 1
        assert made.scopes["token-1"] == {*PULL, "registry:catalog:*"}


async def test_a_registry_that_never_lets_us_in_is_asked_a_few_times_only(transport: Transport) -> None:
    made = TokenRegistry(needed_scope="never:given:to-anybody")
    made.revoked = {f"token-{number}" for number in range(10)}
    async with registry(made) as server:
        with pytest.raises(LoginFailed):
            await Remote(server.host, transport, ADA).ping()
        assert len(server.seen) == 5


async def test_basic_where_only_basic_is_offered(transport: Transport) -> None:
    async def basic(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") == BASIC:
            return web.Response(text="{}")
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async with serving(basic) as server:
        remote = Remote(server.host, transport, ADA)
        await remote.ping()
        await remote.ping()
        assert [seen.authorization for seen in server.seen[-3:]] == [None, BASIC, BASIC]
        with pytest.raises(LoginFailed, match=f"no login is known for {server.host}"):
            await Remote(server.host, transport).ping()
        with pytest.raises(LoginFailed, match=f"the login that is configured for {server.host} is wrong, or not for"):
            await Remote(server.host, transport, Credential("ada", "wrong")).ping()


async def test_both_in_one_header(transport: Transport) -> None:
    made = TokenRegistry(challenge='Basic realm="Forgejo",Bearer realm="{realm}",service="s",scope="*"')
    async with registry(made) as server:
        assert (await Remote(server.host, transport).fetch("GET", "/v2/", PULL)).status == 200
        assert made.scopes["token-1"] == set(PULL)


@pytest.mark.parametrize("credential", [None, ADA])
async def test_a_realm_on_another_host_gets_nothing(transport: Transport, credential: Credential | None) -> None:
    other = TokenRegistry()
    async with serving(other.answer, address="127.0.0.2") as stranger:
        async with registry(TokenRegistry(realm=f"{stranger.url}/token")) as server:
            with pytest.raises(Untrusted, match="another party's"):
                await Remote(server.host, transport, credential).ping()
        assert stranger.seen == []


async def test_a_realm_on_another_host_that_the_configuration_names(clock: QuickClock) -> None:
    made = TokenRegistry()
    async with serving(made.answer, address="127.0.0.2") as service:
        made.realm = f"{service.url}/token"
        async with serving(made.answer) as server:
            settings = ClientSettings(hosts={server.host: HostSettings(realms=("127.0.0.2",))})
            async with Transport(settings, clock) as transport:
                await Remote(server.host, transport, ADA).ping()
        assert [seen.authorization for seen in service.seen] == [BASIC]


@pytest.mark.parametrize("credential", [ADA, Credential(identity_token="identity-token")])
async def test_a_token_service_cannot_pass_our_login_on(transport: Transport, credential: Credential) -> None:
    async def hungry(request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "stolen"})

    async with serving(hungry, address="127.0.0.2") as stranger:

        async def passing_on(request: web.Request) -> web.StreamResponse:
            if request.path == "/token":
                return moved(f"{stranger.url}/steal", 307)
            challenge = f'Bearer realm="{URL(str(request.url)).origin()}/token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        async with serving(passing_on) as server:
            with pytest.raises((BadAnswer, Untrusted, LoginFailed)):
                await Remote(server.host, transport, credential).ping()
        assert all(seen.authorization is None and b"identity" not in seen.body for seen in stranger.seen)


async def test_a_401_of_a_host_we_were_redirected_to_teaches_nothing(transport: Transport) -> None:
    async def challenging(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="give it to me"'})

    async with serving(challenging, address="127.0.0.2") as stranger:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(stranger.url)

        async with serving(redirect) as server:
            with pytest.raises(LoginFailed):
                await Remote(server.host, transport, ADA).ping()
            assert {seen.authorization for seen in (*server.seen, *stranger.seen)} == {None}


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "a\r\nX-Injected: 1"},
        {"token": "spaced out"},
        {"token": "é"},
        {"token": 7},
        {"token": ""},
        {"token": "x" * 100_000},
        {"token": "x" * 1_000_000},
        {"token": "fine", "expires_in": "soon"},
        {"token": "fine", "expires_in": [1]},
    ],
)
async def test_a_token_that_cannot_be_one_is_refused(transport: Transport, answer: dict[str, object]) -> None:
    async with registry(TokenRegistry(token_answer=answer)) as server:
        with pytest.raises(BadAnswer):
            await Remote(server.host, transport).ping()


@pytest.mark.parametrize(("expires_in", "lasts"), [(None, 45), (0, 45), (-5, 45), (1e30, 24 * 3600 - 30), (8, 6)])
async def test_how_long_a_token_is_used(
    transport: Transport, clock: QuickClock, expires_in: float | None, lasts: float
) -> None:
    made = TokenRegistry(token_answer={"expires_in": expires_in})
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        await remote.fetch("GET", "/v2/", PULL)
        clock.offset += lasts - 1
        await remote.fetch("GET", "/v2/", PULL)
        assert made.issued == 1
        clock.offset += 2
        await remote.fetch("GET", "/v2/", PULL)
        assert made.issued == 2


@pytest.mark.parametrize("issued_at", ["2001-01-01T00:00:00Z", "2999-01-01T00:00:00Z", "soon", 7])
async def test_a_service_whose_clock_is_wrong(transport: Transport, clock: QuickClock, issued_at: object) -> None:
    """How long a token lives is counted from when we asked for it."""
    made = TokenRegistry(token_answer={"expires_in": 300, "issued_at": issued_at})
    async with registry(made) as server:
        remote = Remote(server.host, transport)
        await remote.fetch("GET", "/v2/", PULL)
        clock.offset += 260
        await remote.fetch("GET", "/v2/", PULL)
        assert made.issued == 1


async def test_a_wrong_password_is_said_without_it(transport: Transport) -> None:
    async with registry(TokenRegistry(token_status=401)) as server:
        with pytest.raises(LoginFailed, match="does not accept the login") as failure:
            await Remote(server.host, transport, ADA).ping()
        assert ADA.password not in str(failure.value)


async def test_what_the_registry_says_back_is_scrubbed(transport: Transport) -> None:
    async def parrot(request: web.Request) -> web.StreamResponse:
        sent = request.headers.get("Authorization")
        if sent is None:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})
        plain = base64.b64decode(sent.removeprefix("Basic ")).decode()
        message = f"you said {sent} which is {plain} \x1b[2J"
        return web.json_response({"errors": [{"code": "DENIED", "message": message, "detail": sent[6:]}]}, status=403)

    async with serving(parrot) as server:
        with pytest.raises(Refused) as failure:
            await Remote(server.host, transport, ADA).ping()
        text = str(failure.value)
        assert "DENIED: you said" in text
        assert ADA.password not in text
        assert BASIC[6:] not in text
        assert "\x1b" not in text
        assert failure.value.code == "DENIED"


async def test_temporary_failures_of_the_token_service_are_tried_again(transport: Transport, clock: QuickClock) -> None:
    made = TokenRegistry()

    async def shaky(request: web.Request) -> web.StreamResponse:
        if request.path == "/token" and len(clock.slept) < 2:
            return web.Response(status=503)
        return await made.answer(request)

    async with serving(shaky) as server:
        made.realm = f"{server.url}/token"
        await Remote(server.host, transport).ping()
        assert len(clock.slept) == 2


def test_no_secret_shows_in_a_repr() -> None:
    assert ADA.password not in repr(Credential("ada", ADA.password, "identity"))
    assert "identity" not in repr(Credential("ada", ADA.password, "identity")).replace("identity_token", "")
