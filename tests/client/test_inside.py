"""Nobody is a way into our network: where another host may send us, and where it may not.

127.0.0.1 is the host that a person named. Where a test says so, 127.0.0.2 is the public internet.
"""

import pytest
from aiohttp import web
from yarl import URL

from homeport.client import trust
from homeport.client.credentials import Credential
from homeport.client.errors import BadAnswer, ConnectionFailed, Untrusted
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Request, Transport
from homeport.client.uploads import Outcome
from tests.client.clocks import QuickClock
from tests.client.images import Factory
from tests.client.memory import MemoryRegistry
from tests.client.names import Names, names
from tests.client.servers import Handler, moved, serving

__all__ = ["names"]

ADA = Credential("ada", "correct horse battery")


@pytest.fixture
def _world(monkeypatch: pytest.MonkeyPatch) -> None:
    """The world is 127.0.0.2; every other address of this machine is inside."""
    real = trust.is_internal_address
    monkeypatch.setattr(trust, "is_internal_address", lambda text: False if text == "127.0.0.2" else real(text))


async def ok(request: web.Request) -> web.StreamResponse:
    return web.Response(text="here")


def to(location: str, status: int = 302) -> Handler:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return moved(location, status)

    return redirect


async def fetched(clock: QuickClock, url: str, settings: ClientSettings | None = None) -> bytes:
    async with Transport(settings or ClientSettings(), clock) as transport:
        return (await transport.fetch(Request("GET", URL(url)), bytes_max=100)).body


@pytest.mark.parametrize(
    "host",
    [
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.100.100.200",
        "100.64.0.1",
        "0.0.0.0",
        "127.0.0.2",
        "127.0.0.2.",
        "224.0.0.1",
        "[::1]",
        "[::]",
        "[fd00:ec2::254]",
        "[fe80::1]",
        "[fe80::1%25eth0]",
        "[ff02::1]",
        "[::ffff:127.0.0.2]",
        "[::ffff:a9fe:a9fe]",
        "[::127.0.0.2]",
        "[2002:7f00:1::]",
        "[2001:0:7f00:1::1]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "localhost",
        "LOCALHOST",
        "localhost.",
    ],
)
@pytest.mark.parametrize("status", [301, 307])
async def test_no_redirect_leads_inside(clock: QuickClock, host: str, status: int) -> None:
    async with serving(to(f"http://{host}/latest/meta-data/?secret=1", status)) as server:
        with pytest.raises((Untrusted, BadAnswer)) as failure:
            await fetched(clock, server.url)
    assert "secret" not in str(failure.value)
    if "%" not in host:
        name = trust.written_host(URL(f"http://{host}"))
        assert str(failure.value).endswith(f"inside our network; if that is right, add {name} to client.hosts")


@pytest.mark.parametrize(
    "location",
    [
        "http://2130706434:{port}/",
        "http://0x7f000002:{port}/",
        "http://0177.0.0.2:{port}/",
        "http://127.2:{port}/",
        "http://0x7f.2:{port}/",
        "http://127.0.0.2.:{port}/",
        "http://quay.io@127.0.0.2:{port}/",
        "http://quay.io\\@127.0.0.2:{port}/",
        "http://127.0.0.2:{port}#@quay.io/",
        "http://127.0.0.2:{port}/@quay.io/",
        "http://\uff11\uff12\uff17.0.0.2:{port}/",
        "http://\u24db\u24de\u24d2alhost:{port}/",
        "http://%31%32%37.0.0.2:{port}/",
        "//127.0.0.2:{port}/",
        "file:///etc/passwd",
        "gopher://127.0.0.2:{port}/",
        "unix:///var/run/docker.sock",
    ],
)
async def test_no_spelling_leads_inside(clock: QuickClock, location: str) -> None:
    async with serving(ok, address="127.0.0.2") as inside, serving(to(location.format(port=inside.port))) as server:
        with pytest.raises((Untrusted, BadAnswer)):
            await fetched(clock, server.url)
        assert inside.seen == []


async def test_a_host_of_our_network_is_no_way_to_another_one(clock: QuickClock) -> None:
    async with serving(ok, address="127.0.0.2") as other, serving(to(other.url)) as server:
        with pytest.raises(Untrusted, match=r"add 127\.0\.0\.2 to client\.hosts"):
            await fetched(clock, server.url)
        assert other.seen == []
        for key in ("127.0.0.2", f"127.0.0.2:{other.port}"):
            assert await fetched(clock, server.url, ClientSettings(hosts={key: HostSettings()})) == b"here"
        with pytest.raises(Untrusted):
            await fetched(clock, server.url, ClientSettings(hosts={f"127.0.0.2:{other.port + 1}": HostSettings()}))


async def test_another_port_of_the_same_host_is_the_same_host(clock: QuickClock) -> None:
    async with serving(ok) as other, serving(to(other.url)) as server:
        assert await fetched(clock, server.url) == b"here"


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize("name", ["127.0.0.1", "[::ffff:127.0.0.1]", "localhost"])
async def test_the_world_cannot_send_us_inside(clock: QuickClock, name: str) -> None:
    async with serving(ok) as inside, serving(to(f"http://{name}:{inside.port}/"), address="127.0.0.2") as server:
        with pytest.raises(Untrusted, match="inside our network"):
            await fetched(clock, server.url)
        assert inside.seen == []
        host = trust.written_host(URL(f"http://{name}"))
        for key in (host, f"{host}:{inside.port}"):
            assert await fetched(clock, server.url, ClientSettings(hosts={key: HostSettings()})) == b"here"


@pytest.mark.usefixtures("_world")
async def test_each_redirect_is_checked_again(clock: QuickClock) -> None:
    async with (
        serving(ok) as inside,
        serving(to(f"http://localhost:{inside.port}/"), address="127.0.0.2") as cdn,
        serving(to(f"{cdn.url}/blob")) as server,
    ):
        with pytest.raises(Untrusted, match=r"127\.0\.0\.1 sends us to http://localhost"):
            await fetched(clock, server.url)
        assert cdn.paths() == ["/blob"]
        assert inside.seen == []


@pytest.mark.usefixtures("_world")
async def test_what_was_checked_is_what_is_connected_to(clock: QuickClock, names: Names) -> None:
    """DNS rebinding: a name that is public when it is looked at, and ours when it is used."""
    async with serving(ok, address="127.0.0.2") as public:
        names["rebinding.example"] = [["127.0.0.2"], ["127.0.0.1"]]
        location = f"http://rebinding.example:{public.port}/"
        async with serving(to(location)) as server, serving(ok) as inside:
            assert await fetched(clock, server.url) == b"here"
            assert public.paths() == ["/"]
            assert names.asked == ["rebinding.example"], "looked at once, so it cannot have differed"
            with pytest.raises(Untrusted, match=r"add rebinding\.example to client\.hosts"):
                await fetched(clock, server.url)  # now it is ours
            assert inside.seen == []


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize("others", ["127.0.0.1", "10.0.0.1", "::1", "fd00:ec2::254", "::ffff:127.0.0.1"])
async def test_every_address_of_a_name_must_be_public(clock: QuickClock, names: Names, others: str) -> None:
    async with serving(ok, address="127.0.0.2") as public:
        names["both.example"] = [["127.0.0.2", others]]
        async with serving(to(f"http://both.example:{public.port}/")) as server:
            with pytest.raises(Untrusted, match="inside our network"):
                await fetched(clock, server.url)
        assert public.seen == []


@pytest.mark.usefixtures("_world")
async def test_a_name_that_a_person_wrote_may_lead_anywhere(clock: QuickClock, names: Names) -> None:
    names["vault.lan"] = [["127.0.0.1"]]
    names["minio.lan"] = [["127.0.0.3"]]
    async with serving(ok, address="127.0.0.3") as other, serving(to(f"http://minio.lan:{other.port}/")) as server:
        url = f"http://vault.lan:{server.port}/"
        with pytest.raises(Untrusted, match=r"vault\.lan sends us .* add minio\.lan to client\.hosts"):
            await fetched(clock, url)
        assert await fetched(clock, url, ClientSettings(hosts={"minio.lan": HostSettings()})) == b"here"


async def test_a_token_service_inside_is_not_called(clock: QuickClock, names: Names) -> None:
    """One party's by its name, so the login would be for it, but nobody wrote that it is in our network."""
    names["registry.home.lan"] = [["127.0.0.1"]]
    names["auth.home.lan"] = [["127.0.0.2"]]

    async def token(request: web.Request) -> web.StreamResponse:
        return web.json_response({"token": "given"})

    async with serving(token, address="127.0.0.2") as service:

        async def challenging(request: web.Request) -> web.StreamResponse:
            if request.headers.get("Authorization") == "Bearer given":
                return web.json_response({})
            challenge = f'Bearer realm="http://auth.home.lan:{service.port}/token"'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge})

        async with serving(challenging) as server:
            host = f"registry.home.lan:{server.port}"
            plain = HostSettings(insecure=True)
            async with Transport(ClientSettings(hosts={host: plain}), clock) as transport:
                with pytest.raises(Untrusted, match=r"add auth\.home\.lan to client\.hosts"):
                    await Remote(host, transport, ADA).ping()
            assert service.seen == []
            realms = HostSettings(insecure=True, realms=("auth.home.lan",))
            for settings in ({host: plain, "auth.home.lan": HostSettings()}, {host: realms}):
                async with Transport(ClientSettings(hosts=settings), clock) as transport:
                    await Remote(host, transport, ADA).ping()


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(("address", "refused"), [("127.0.0.2", False), ("127.0.0.3", True)])
async def test_an_upload_may_go_to_the_world_and_not_to_a_neighbour(
    clock: QuickClock, address: str, refused: bool
) -> None:
    blob = Factory().blob(3_000_000)
    made = MemoryRegistry()
    async with serving(made.answer, address=address) as store, serving(made.answer) as server:
        made.locations = store.url + "/upload/{number}?state=a%2Fb"
        async with Transport(ClientSettings(), clock) as transport:
            repository = RemoteRepository(Remote(server.host, transport), "team/app")
            if refused:
                with pytest.raises(Untrusted, match=r"add 127\.0\.0\.3 to client\.hosts"):
                    await repository.put_blob(blob)
                assert store.seen == []
            else:
                assert await repository.put_blob(blob) is Outcome.SENT
                assert made.blobs == {blob.blob.digest: blob.data}


@pytest.mark.usefixtures("_world")
@pytest.mark.parametrize(("address", "refused"), [("127.0.0.2", False), ("127.0.0.3", True)])
async def test_a_blob_may_come_from_the_world_and_not_from_a_neighbour(
    clock: QuickClock, address: str, refused: bool
) -> None:
    blob = Factory().blob(1_000)
    made = MemoryRegistry(blobs={blob.blob.digest: blob.data})
    async with serving(made.answer, address=address) as cdn:

        async def registry(request: web.Request) -> web.StreamResponse:
            return (
                web.Response() if request.path == "/v2/" else moved(f"{cdn.url}{request.path}?X-Amz-Signature=1", 307)
            )

        async with serving(registry) as server, Transport(ClientSettings(), clock) as transport:
            repository = RemoteRepository(Remote(server.host, transport), "team/app")
            async with repository.open_blob(blob.blob) as download:
                if refused:
                    with pytest.raises(Untrusted, match=r"add 127\.0\.0\.3 to client\.hosts"):
                        await download.read(0)
                    assert cdn.seen == []
                else:
                    assert b"".join([chunk async for chunk in download.chunks()]) == blob.data


async def test_a_name_that_is_not_there_is_said_to_be_so(clock: QuickClock, names: Names) -> None:
    async with serving(to("http://nowhere.example/")) as server:
        with pytest.raises(ConnectionFailed, match=r"there is no host nowhere\.example"):
            await fetched(clock, server.url)
