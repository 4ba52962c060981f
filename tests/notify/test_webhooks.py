"""One try of a webhook, against receivers as they are: down, slow, wrong, hostile."""

from __future__ import annotations

import asyncio
import socket

import pytest
from aiohttp import web

from homeport.client.transport import Transport
from homeport.notify import webhooks
from homeport.notify.sent import ANSWER_CHARACTERS_MAX, Sent, shortened
from tests.client.servers import moved, raw_serving, serving

HEADERS = {"Content-Type": "application/json", "webhook-signature": "v1,signature", "X-Token": "token"}


async def send(transport: Transport, url: str, seconds: float = 20.0, method: str = "POST") -> Sent:
    return await webhooks.send(transport, method, url, HEADERS, b'{"a":1}', seconds=seconds)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_what_is_sent_arrives(transport: Transport, method: str) -> None:
    bodies = []

    async def take(request: web.Request) -> web.Response:
        bodies.append((request.method, request.path, await request.read(), request.headers["X-Token"]))
        return web.Response(text="thank\nyou")

    async with serving(take) as server:
        assert await send(transport, f"{server.url}/hook", method=method) == Sent(200, "thank\nyou", "sent")
    assert bodies == [(method, "/hook", b'{"a":1}', "token")]


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        (200, "sent"), (202, "sent"), (204, "sent"), (304, "retry"), (400, "refused"), (401, "refused"),
        (404, "refused"), (408, "retry"), (410, "refused"), (425, "refused"), (429, "retry"), (500, "retry"),
        (501, "retry"), (503, "retry"), (599, "retry"),
    ],
)  # fmt: skip
async def test_what_a_status_means(transport: Transport, status: int, outcome: str) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status)

    async with serving(answer) as server:
        assert await send(transport, server.url) == Sent(status, "", outcome)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "header", "asked"), [(429, "30", 30.0), (503, "0", 0.0), (429, "soon", None), (500, "30", None)]
)
async def test_when_a_receiver_asks_for_time(
    transport: Transport, status: int, header: str, asked: float | None
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=status, headers={"Retry-After": header})

    async with serving(answer) as server:
        assert (await send(transport, server.url)).retry_after == asked


async def test_a_receiver_that_is_down(transport: Transport) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # bound and not listening: nobody else gets the port
        said = await send(transport, f"http://127.0.0.1:{closed.getsockname()[1]}/")
    assert (said.status, said.outcome) == (None, "retry")
    assert "Connection refused" in said.answer


async def test_a_receiver_that_does_not_answer_in_time(transport: Transport) -> None:
    async def never(_: web.Request) -> web.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(never) as server:
        assert await send(transport, server.url, 0.2) == Sent(None, "no answer within 0.2 seconds", "retry")


async def test_a_receiver_that_closes_in_the_middle(transport: Transport) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 20")
        await writer.drain()

    async with raw_serving(hang_up) as host:
        said = await send(transport, f"http://{host}/")
    assert (said.status, said.outcome) == (None, "retry")


async def test_a_status_counts_though_the_text_breaks_off(transport: Transport) -> None:
    async def break_off(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\ntaken")
        await writer.drain()

    async with raw_serving(break_off) as host:
        assert await send(transport, f"http://{host}/") == Sent(200, "taken", "sent")


async def test_a_status_counts_though_the_text_never_ends(transport: Transport) -> None:
    async def drip(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 No\r\nContent-Length: 100\r\n\r\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with raw_serving(drip) as host:
        assert await send(transport, f"http://{host}/", 0.5) == Sent(404, "", "refused")


async def test_of_ten_megabytes_little_is_read(transport: Transport) -> None:
    written = 0
    done = asyncio.Event()

    async def flood(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Length": "10000000"})
        await response.prepare(request)
        try:
            for _ in range(1_000):
                await response.write(b"x" * 10_000)
                written += 10_000
        except ConnectionError:
            pass
        finally:
            done.set()
        return response

    async with serving(flood) as server:
        said = await send(transport, server.url)
        await done.wait()
    assert (said.status, said.outcome, len(said.answer)) == (200, "sent", 4096)
    assert written < 10_000_000


async def test_a_redirect_that_would_lose_the_body_is_not_followed(transport: Transport) -> None:
    async def answer(request: web.Request) -> web.Response:
        return moved("/other", 301) if request.path == "/" else web.Response()

    async with serving(answer) as server:
        said = await send(transport, server.url)
        assert [seen.path for seen in server.seen] == ["/"]
    assert said.outcome == "retry"
    assert "redirects with 301" in said.answer


async def test_nothing_follows_a_redirect_to_another_host(transport: Transport) -> None:
    async def take(_: web.Request) -> web.Response:
        return web.Response()

    async with serving(take, address="127.0.0.2") as other:

        async def lead_away(_: web.Request) -> web.Response:
            return moved(f"{other.url}/x?key=value", 307)

        async with serving(lead_away) as server:
            said = await send(transport, server.url)
        assert other.seen == []
    assert (said.status, said.outcome) == (None, "retry")
    assert "key=value" not in said.answer


async def test_a_redirect_on_the_same_host_is_followed(transport: Transport) -> None:
    async def answer(request: web.Request) -> web.Response:
        return moved("/new", 308) if request.path == "/" else web.Response(text="here")

    async with serving(answer) as server:
        assert await send(transport, server.url) == Sent(200, "here", "sent")
        assert [(seen.path, seen.body) for seen in server.seen] == [("/", b'{"a":1}'), ("/new", b'{"a":1}')]
        assert server.seen[1].headers["webhook-signature"] == "v1,signature"


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://[::1/", "http://"])
async def test_what_cannot_be_called(transport: Transport, url: str) -> None:
    said = await send(transport, url)
    assert (said.status, said.outcome) == (None, "retry")


def test_what_makes_an_address_secret_is_not_shown() -> None:
    url = "https://ada:secret-word@hooks.lan/services/T0000/abcdef123456?sig=a%2Fb%3D99&v=1"
    hidden = webhooks.secrets_of(url)
    for text in (
        f"POST {url}: cannot connect",
        "no such hook: abcdef123456",
        "sig a/b=99 is wrong",
        "POST https://hooks.lan/services/T0000/abcdef123456: there is no host hooks.lan",
        "secret-word",
    ):
        shown = shortened(text, hidden)
        assert not {"abcdef", "secret-word", "a/b=99", "sig=", "T0000"} & set(_parts(shown)), shown
    assert "hooks.lan" in shortened("there is no host hooks.lan", hidden)
    assert webhooks.secrets_of("http://[") == {"http://["}


def _parts(text: str) -> list[str]:
    return [part for part in ("abcdef", "secret-word", "a/b=99", "sig=", "T0000") if part in text]


def test_an_answer_is_kept_short_on_one_line() -> None:
    kept = shortened("a\x1b[31m\nb " + "x" * 5000, ())
    assert kept.startswith("a [31m b xxx")
    assert len(kept) == ANSWER_CHARACTERS_MAX + 1
