"""HTTP as we speak it, against servers that mean harm or are broken."""

import asyncio
import gzip
import re
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web
from yarl import URL

from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, TlsFailed, Untrusted
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import ERROR_BYTES_MAX, Request, Transport, with_retries
from tests.client.clocks import QuickClock
from tests.client.servers import free_port, moved, raw_serving, serving
from tests.support.certificates import Authority

SECRET = "Basic c2VjcmV0OnNlY3JldA=="
IMPATIENT = ClientSettings(connect_seconds=1, silence_seconds=0.3, answer_seconds=0.6, commit_seconds=0.3)


def get(url: str) -> Request:
    return Request("GET", URL(url), authorization=SECRET)


async def ok(request: web.Request) -> web.StreamResponse:
    return web.Response(text="here")


async def test_a_redirect_to_another_host_does_not_get_the_login(transport: Transport) -> None:
    async with serving(ok, address="127.0.0.2") as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            if request.path == "/end":
                return web.Response(text="end")
            return moved("/end" if request.path == "/same" else f"{other.url}/x?sig=1", 307)

        async with serving(redirect) as server:
            answer = await transport.fetch(get(f"{server.url}/same"), bytes_max=100)
            assert (answer.body, server.seen[-1].authorization) == (b"end", SECRET)
            answer = await transport.fetch(get(f"{server.url}/host"), bytes_max=100)
            assert (answer.body, answer.url.host) == (b"here", "127.0.0.2")
            assert [(seen.path, seen.authorization) for seen in other.seen] == [("/x?sig=1", None)]


async def test_another_port_of_the_host_is_another_origin(transport: Transport) -> None:
    async with serving(ok) as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(other.url)

        async with serving(redirect) as server:
            await transport.fetch(get(server.url), bytes_max=100)
        assert other.seen[0].authorization is None


async def test_a_login_does_not_come_back_after_a_detour(transport: Transport) -> None:
    urls: dict[str, str] = {}

    async def back(request: web.Request) -> web.StreamResponse:
        return moved(f"{urls['home']}/chosen-by-the-other-host")

    async def away(request: web.Request) -> web.StreamResponse:
        return web.Response() if request.path != "/" else moved(urls["other"])

    async with serving(back, address="127.0.0.2") as other, serving(away) as server:
        urls |= {"home": server.url, "other": other.url}
        await transport.fetch(get(server.url), bytes_max=100)
        assert [seen.authorization for seen in server.seen] == [SECRET, None]
        assert other.seen[0].authorization is None


async def test_encryption_is_not_left_behind(tmp_path: Path, clock: QuickClock) -> None:
    async with serving(ok, address="127.0.0.2") as plain:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(plain.url)

        certificate = Authority(tmp_path).issue()
        async with serving(redirect, tls=certificate) as server:
            settings = ClientSettings(ca=(certificate.ca,))
            async with Transport(settings, clock) as transport:
                with pytest.raises(Untrusted, match="not encrypted"):
                    await transport.fetch(get(f"https://{server.host}"), bytes_max=100)
        assert plain.seen == []


async def test_redirects_end(transport: Transport) -> None:
    async def around(request: web.Request) -> web.StreamResponse:
        return moved("/again")

    async with serving(around) as server:
        with pytest.raises(BadAnswer, match="redirects more than 5 times"):
            await transport.fetch(get(server.url), bytes_max=100)
        assert len(server.seen) == 6


async def test_a_body_is_sent_again_on_307_and_not_lost_on_303(transport: Transport) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        if request.path == "/end":
            return web.Response(body=await request.read())
        return moved("/end", int(request.path[1:]))

    async def body() -> AsyncIterator[bytes]:
        yield b"a" * 70_000
        yield b"b" * 30_000

    async with serving(redirect) as server:
        headers = {"Content-Length": "100000"}
        answer = await transport.fetch(Request("PUT", URL(f"{server.url}/307"), headers, body), bytes_max=100_000)
        assert answer.body == b"a" * 70_000 + b"b" * 30_000
        for status in (301, 302, 303):
            with pytest.raises(BadAnswer, match="would lose the body"):
                await transport.fetch(Request("PUT", URL(f"{server.url}/{status}"), headers, body), bytes_max=100)


async def test_an_answer_has_a_limit(transport: Transport) -> None:
    sent = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse(status=int(request.path[1:]))
        await response.prepare(request)
        while True:
            sent += 64 * 1024
            await response.write(b"x" * 64 * 1024)

    async with serving(endless) as server:
        with pytest.raises(BadAnswer, match="more than 1000 bytes"):
            await transport.fetch(get(f"{server.url}/200"), bytes_max=1_000)
        answer = await transport.fetch(get(f"{server.url}/500"), bytes_max=1_000)
        assert len(answer.body) == ERROR_BYTES_MAX
        assert sent < 64 * 1024 * 1024


async def test_headers_have_a_limit(clock: QuickClock) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\n")
        while True:
            writer.write(b"X-More: " + b"x" * 4_000 + b"\r\n")
            await writer.drain()

    async with raw_serving(converse) as host, Transport(IMPATIENT, clock) as transport:
        with pytest.raises(ClientError):
            await transport.fetch(get(f"http://{host}"), bytes_max=100)


@pytest.mark.parametrize(
    "said", [b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 9999 X\r\n\r\n", b"\x15\x03\x01\x00\x02\x02F" * 3]
)
async def test_what_is_not_http_is_said_to_be(transport: Transport, said: bytes) -> None:
    async def converse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(said)
        await writer.drain()

    async with raw_serving(converse) as host:
        with pytest.raises((BadAnswer, ConnectionFailed)):
            await transport.fetch(get(f"http://{host}"), bytes_max=100)


async def test_silence_and_trickle_end(clock: QuickClock) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def trickling(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b"x")
            await writer.drain()
            await asyncio.sleep(0.05)

    for converse in (silent, trickling):
        async with raw_serving(converse) as host, Transport(IMPATIENT, clock) as transport:
            began = time.monotonic()
            with pytest.raises(ConnectionFailed, match="too long"):
                await transport.fetch(get(f"http://{host}"), bytes_max=10_000_000)
            assert time.monotonic() - began < 5


async def test_a_host_that_does_not_take_the_body_is_given_up(clock: QuickClock) -> None:
    async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    taken = 0

    async def body() -> AsyncIterator[bytes]:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 100_000

    async with raw_serving(deaf) as host, Transport(IMPATIENT, clock) as transport:
        with pytest.raises(ConnectionFailed, match="too long"):
            await transport.fetch(
                Request("PUT", URL(f"http://{host}"), {"Content-Length": "100000000000"}, body), bytes_max=100
            )
    assert taken < 1_000


async def test_a_slow_source_is_not_the_hosts_fault(clock: QuickClock) -> None:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.4)
            yield b"slow"

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read())

    async with serving(echo) as server, Transport(IMPATIENT, clock) as transport:
        request = Request("PUT", URL(server.url), {"Content-Length": "12"}, body)
        assert (await transport.fetch(request, bytes_max=100)).body == b"slowslowslow"


async def test_what_went_wrong_with_the_source_is_told_as_it_was(transport: Transport) -> None:
    class SourceBroke(Exception):
        pass

    async def body() -> AsyncIterator[bytes]:
        yield b"some"
        raise SourceBroke

    async def echo(request: web.Request) -> web.StreamResponse:
        return web.Response(body=await request.read())

    async with serving(echo) as server:
        with pytest.raises(SourceBroke):
            await transport.fetch(Request("PUT", URL(server.url), {"Content-Length": "12"}, body), bytes_max=100)


async def test_a_refused_connection_is_tried_again_and_then_told(transport: Transport, clock: QuickClock) -> None:
    request = get(f"http://127.0.0.1:{free_port()}/v2/?secret=1")
    with pytest.raises(ConnectionFailed, match="cannot connect") as failure:
        await with_retries(clock, lambda: transport.fetch(request, bytes_max=100))
    assert len(clock.slept) == 4
    assert "secret" not in str(failure.value)


async def test_a_name_that_does_not_exist_is_told(transport: Transport) -> None:
    with pytest.raises(ConnectionFailed, match=r"there is no host nowhere\.invalid"):
        await transport.fetch(get("http://nowhere.invalid/"), bytes_max=100)


@pytest.mark.parametrize("host", ["2130706433", "127.1", f"{'a' * 64}.example", "a..b"])
async def test_what_is_no_host_is_told(transport: Transport, host: str) -> None:
    with pytest.raises(ClientError, match=re.escape(host)):
        await transport.fetch(get(f"http://{host}:1/"), bytes_max=100)


async def test_a_login_in_the_address(transport: Transport) -> None:
    async with serving(ok) as server:
        url = URL(f"http://ada:lovelace@{server.host}/")
        for request in (Request("GET", url), Request("GET", url, authorization=SECRET)):
            await transport.fetch(request, bytes_max=100)
            assert "lovelace" not in str(request)
        await transport.fetch(Request("GET", url, secret_headers={"authorization": SECRET}), bytes_max=100)
        assert [seen.authorization for seen in server.seen] == ["Basic YWRhOmxvdmVsYWNl", SECRET, SECRET]


async def test_no_tls_where_tls_is_expected(transport: Transport) -> None:
    async with serving(ok) as server:
        with pytest.raises(TlsFailed):
            await transport.fetch(get(f"https://{server.host}"), bytes_max=100)


async def test_a_certificate_for_another_name_is_not_trusted(tmp_path: Path, clock: QuickClock) -> None:
    certificate = Authority(tmp_path).issue(hosts=("elsewhere.example",))
    async with serving(ok, tls=certificate) as server:
        async with Transport(ClientSettings(ca=(certificate.ca,)), clock) as transport:
            with pytest.raises(ConnectionFailed, match="is not trusted") as failure:
                await transport.fetch(get(f"https://{server.host}"), bytes_max=100)
            assert not failure.value.temporary
        one_host = ClientSettings(hosts={"127.0.0.1": HostSettings(insecure=True)})
        async with Transport(one_host, clock) as transport:
            assert (await transport.fetch(get(f"https://{server.host}"), bytes_max=100)).body == b"here"


async def test_a_file_that_is_no_authority_is_named(tmp_path: Path, clock: QuickClock) -> None:
    for file in (tmp_path / "missing.pem", Path(__file__)):
        async with Transport(ClientSettings(ca=(file,)), clock) as transport:
            with pytest.raises(ClientError, match=file.name):
                await transport.fetch(get("https://127.0.0.1:1"), bytes_max=100)


async def test_nothing_is_decompressed_and_no_cookie_is_kept(transport: Transport) -> None:
    packed = gzip.compress(b"layer")

    async def handler(request: web.Request) -> web.StreamResponse:
        assert request.headers["Accept-Encoding"] == "identity"
        assert "Cookie" not in request.headers
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Set-Cookie": "a=b; Path=/"})

    async with serving(handler) as server:
        for _ in range(2):
            assert (await transport.fetch(get(server.url), bytes_max=1_000)).body == packed


async def test_secret_headers_go_where_the_login_goes(transport: Transport) -> None:
    async with serving(ok, address="127.0.0.2") as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved("/same") if request.path == "/" else moved(other.url)

        async with serving(redirect) as server:
            secret = {"X-Token": "secret", "webhook-signature": "v1,secret"}
            request = Request("GET", URL(server.url), {"X-Plain": "1"}, secret_headers=secret)
            assert (await transport.fetch(request, bytes_max=100)).body == b"here"
            assert all(seen.headers["X-Token"] == "secret" for seen in server.seen)
            assert len(server.seen) == 2
        assert other.seen[0].headers["X-Plain"] == "1"
        assert "secret" not in str(other.seen[0].headers)
    assert "secret" not in repr(request)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_can_be_an_answer(transport: Transport, status: int) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse:
        return web.Response(status=status, headers={"Location": "http://10.0.0.1/"}, body=b"x" * ERROR_BYTES_MAX * 2)

    async with serving(redirect) as server:
        request = Request("POST", URL(server.url), body=b"told", follow=False)
        answer = await transport.fetch(request, bytes_max=10)
        assert (answer.status, answer.headers["Location"]) == (status, "http://10.0.0.1/")
        assert len(answer.body) == ERROR_BYTES_MAX
        assert len(server.seen) == 1


async def test_a_secret_body_goes_to_no_other_origin(transport: Transport) -> None:
    async with serving(ok, address="127.0.0.2") as other:

        async def redirect(request: web.Request) -> web.StreamResponse:
            return moved(other.url, 307)

        async with serving(redirect) as server:
            request = Request("POST", URL(server.url), body=b"secret", body_is_secret=True)
            with pytest.raises(Untrusted, match="would pass on what is for"):
                await transport.fetch(request, bytes_max=100)
        assert other.seen == []


@pytest.mark.parametrize("value", ["a\r\nX-Injected: 1", "a\nb", "a\0b", "\x1b"])
async def test_no_header_can_be_smuggled_in(transport: Transport, value: str) -> None:
    async with serving(ok) as server:
        for request in (
            Request("GET", URL(server.url), {"X-Given": value}),
            Request("GET", URL(server.url), secret_headers={"X-Given": value}),
            Request("GET", URL(server.url), authorization=value),
        ):
            with pytest.raises(ClientError, match="has characters that no header may have") as failure:
                await transport.fetch(request, bytes_max=100)
            assert value not in str(failure.value)
        assert server.seen == []


async def test_other_settings_count_from_the_next_request_on(tmp_path: Path, clock: QuickClock) -> None:
    may_end = asyncio.Event()

    async def slow(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"be")
        await may_end.wait()
        await response.write(b"gun")
        return response

    certificate = Authority(tmp_path).issue()
    trusting = ClientSettings(ca=(certificate.ca,))
    async with serving(slow, tls=certificate) as server, Transport(trusting, clock) as transport:
        request = get(f"https://{server.host}")
        under_way = await transport.open(request)
        assert await under_way.read(2) == b"be"
        transport.reconfigure(ClientSettings())
        with pytest.raises(ConnectionFailed, match="is not trusted"):
            await transport.fetch(request, bytes_max=100)
        with pytest.raises(ClientError, match="is no certificate authority"):
            transport.reconfigure(ClientSettings(hosts={"elsewhere": HostSettings(ca=tmp_path / "missing.pem")}))
        transport.reconfigure(trusting)
        may_end.set()
        assert (await under_way.whole(100)).body == b"gun"
        assert (await transport.fetch(request, bytes_max=100)).body == b"begun"
