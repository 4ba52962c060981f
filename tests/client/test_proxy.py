"""Calling through a proxy: a real one, that reaches hosts which nobody else here knows."""

from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from homeport.client.errors import ConnectionFailed, Untrusted
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Request, Transport
from tests.client.clocks import QuickClock
from tests.client.names import Names, names
from tests.client.proxies import proxying
from tests.client.servers import free_port, moved, serving
from tests.support.certificates import Authority

__all__ = ["names"]

SECRET = "Bearer secret-token"
INSIDE = "http://inside.example/metadata"


async def ok(request: web.Request) -> web.StreamResponse:
    return web.Response(body=b"here " + await request.read())


def post(url: str) -> Request:
    return Request("POST", URL(url), body=b"and back", authorization=SECRET)


async def test_https_goes_through_a_tunnel_that_sees_nothing(tmp_path: Path, clock: QuickClock) -> None:
    certificate = Authority(tmp_path).issue(hosts=("registry.example",))
    async with serving(ok, tls=certificate) as server, proxying({"registry.example:443": server.host}) as proxy:
        settings = ClientSettings(ca=(certificate.ca,), proxy=proxy.url)
        async with Transport(settings, clock) as transport:
            for _ in range(2):
                answer = await transport.fetch(post("https://registry.example/v2/?secret=1"), bytes_max=100)
                assert answer.body == b"here and back"
        assert proxy.asked == ["CONNECT registry.example:443 HTTP/1.1"]
        assert "secret" not in proxy.seen[0]
        assert [(seen.path, seen.authorization) for seen in server.seen] == [("/v2/?secret=1", SECRET)] * 2
        async with Transport(ClientSettings(proxy=proxy.url), clock) as transport:
            with pytest.raises(ConnectionFailed, match=r"certificate of registry\.example is not trusted"):
                await transport.fetch(post("https://registry.example/"), bytes_max=100)
        insecure = {"registry.example": HostSettings(insecure=True)}
        async with Transport(ClientSettings(proxy=proxy.url, hosts=insecure), clock) as transport:
            assert (await transport.fetch(post("https://registry.example/"), bytes_max=100)).status == 200


async def test_http_is_asked_for_by_its_whole_address(clock: QuickClock) -> None:
    async with serving(ok) as server, proxying({"registry.example:80": server.host}) as proxy:
        async with Transport(ClientSettings(proxy=proxy.url), clock) as transport:
            assert (await transport.fetch(post("http://registry.example/a?b"), bytes_max=100)).body == b"here and back"
        assert proxy.asked == ["POST http://registry.example/a?b HTTP/1.1"]
        assert server.seen[0].headers["Host"] == "registry.example"


async def test_direct_hosts_and_this_machine_are_called_without_it(clock: QuickClock, names: Names) -> None:
    names["vault.lan"] = [["127.0.0.1"]]
    async with serving(ok) as server, proxying({}) as proxy:
        async with Transport(ClientSettings(proxy=proxy.url, direct=("lan",)), clock) as transport:
            for host in ("vault.lan", "127.0.0.1"):
                assert (await transport.fetch(post(f"http://{host}:{server.port}/"), bytes_max=100)).status == 200
        assert proxy.seen == []


async def test_what_the_proxy_does_wrong_is_said_of_the_proxy(clock: QuickClock, names: Names) -> None:
    async with proxying({}) as proxy, Transport(ClientSettings(proxy=proxy.url), clock) as transport:
        with pytest.raises(ConnectionFailed, match="the proxy answers 403 Not for you") as failure:
            await transport.fetch(post("https://registry.example/"), bytes_max=100)
        assert not failure.value.temporary
    gone = URL(f"http://127.0.0.1:{free_port()}")
    async with Transport(ClientSettings(proxy=gone), clock) as transport:
        for scheme in ("http", "https"):
            with pytest.raises(ConnectionFailed, match=f"cannot connect to the proxy 127.0.0.1:{gone.port}"):
                await transport.fetch(post(f"{scheme}://registry.example/"), bytes_max=100)
    async with Transport(ClientSettings(proxy=URL("http://proxy.lan:3128")), clock) as transport:
        with pytest.raises(ConnectionFailed, match=r"there is no host proxy\.lan"):
            await transport.fetch(post("https://registry.example/"), bytes_max=100)


@pytest.mark.parametrize("address", ["10.0.0.1", "127.0.0.1", "fd00:ec2::254"])
async def test_nobody_leads_the_proxy_inside(clock: QuickClock, names: Names, address: str) -> None:
    names["inside.example"] = [[address]]

    async def redirect(request: web.Request) -> web.StreamResponse:
        return moved(INSIDE if request.path == "/name" else "http://10.0.0.1/metadata")

    async with serving(redirect) as server:
        places = dict.fromkeys(("registry.example:80", "inside.example:80", "10.0.0.1:80"), server.host)
        async with proxying(places) as proxy, Transport(ClientSettings(proxy=proxy.url), clock) as transport:
            for path in ("name", "address"):
                with pytest.raises(Untrusted, match=r"inside our network; .* client\.hosts"):
                    await transport.fetch(Request("GET", URL(f"http://registry.example/{path}")), bytes_max=100)
            # Both came through one connection, whose further requests the proxy does not look at.
            assert [seen.headers["Host"] for seen in server.seen] == ["registry.example"] * 2
            assert len(proxy.seen) == 1


@pytest.mark.parametrize("known", [True, False])
async def test_public_hosts_are_called_through_it_if_their_name_is_known_here(
    clock: QuickClock, names: Names, known: bool
) -> None:
    if known:
        names["cdn.example"] = [["1.1.1.1"]]

    async def redirect(request: web.Request) -> web.StreamResponse:
        return moved("http://cdn.example/blob") if request.host == "registry.example" else web.Response(body=b"blob")

    request = Request("GET", URL("http://registry.example/"), authorization=SECRET)
    places = ("registry.example:80", "cdn.example:80")
    async with serving(redirect) as server, proxying(dict.fromkeys(places, server.host)) as proxy:
        async with Transport(ClientSettings(proxy=proxy.url), clock) as transport:
            if known:
                assert (await transport.fetch(request, bytes_max=100)).body == b"blob"
                assert SECRET not in proxy.seen[1]
            else:
                with pytest.raises(ConnectionFailed, match=r"no host cdn\.example .* client\.hosts"):
                    await transport.fetch(request, bytes_max=100)
                assert len(proxy.seen) == 1
        allowing = ClientSettings(proxy=proxy.url, hosts={"cdn.example": HostSettings()})
        async with Transport(allowing, clock) as transport:
            assert (await transport.fetch(request, bytes_max=100)).body == b"blob"
