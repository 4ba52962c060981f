"""Requests and responses: no body is ever shorter or longer than it was said to be."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, MutableMapping
from pathlib import Path
from typing import Any

import pytest

from homeport.oci.errors import BodyIncomplete, BodyStalled, ManifestTooLarge, RequestInvalid, SizeInvalid
from homeport.server import http
from homeport.server.http import QUERY_FIELDS_MAX, Request, Response, json_response
from tests.server.requests import request


def sized(length: int | str, *body: bytes | None, **others: Any) -> Request:
    return request(headers=[("Content-Length", str(length))], body=body, **others)


def chunked(*body: bytes | None, **others: Any) -> Request:
    return request(headers=[("Transfer-Encoding", "chunked")], body=body, **others)


async def received(asked: Request, expected_bytes: int | None = None) -> list[bytes]:
    async with asked.receiving():
        return [chunk async for chunk in asked.chunks(expected_bytes)]


# --- bodies -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        lambda: sized(5, b"hello"),
        lambda: sized(5, b"he", b"llo"),
        lambda: sized(5, b"", b"hello", b""),
        lambda: chunked(b"he", b"llo"),
        lambda: chunked(b"hello", b""),
        lambda: request(body=[b"hello"], version="2"),
    ],
)
async def test_a_body_comes_as_it_is_sent(asked: Any) -> None:
    assert b"".join(await received(asked())) == b"hello"
    assert b"" not in await received(asked())
    assert await asked().body(5) == b"hello"
    assert await received(asked(), 5) == await received(asked())


@pytest.mark.parametrize("asked", [lambda: sized(0, b""), lambda: chunked(b""), lambda: request(body=[b""])])
async def test_a_body_of_nothing(asked: Any) -> None:
    assert await received(asked()) == []
    assert await asked().body(0) == b""


@pytest.mark.parametrize(
    ("asked", "expected_bytes", "error"),
    [
        (lambda: sized(6, b"hello"), None, BodyIncomplete),
        (lambda: sized(6, b"he", None), None, BodyIncomplete),
        (lambda: chunked(b"he", None), None, BodyIncomplete),
        (lambda: chunked(None), None, BodyIncomplete),
        (lambda: sized(4, b"hello"), None, SizeInvalid),
        (lambda: chunked(b"hello"), 4, SizeInvalid),
        (lambda: chunked(b"hello"), 6, BodyIncomplete),
        (lambda: chunked(b"hello"), 0, SizeInvalid),
        (lambda: sized("-1", b"hello"), None, SizeInvalid),
    ],
)
async def test_a_body_that_is_not_what_was_announced(
    asked: Any, expected_bytes: int | None, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await received(asked(), expected_bytes)
    if expected_bytes is None:
        with pytest.raises(error):
            await asked().body(100)


async def test_what_is_too_much_is_not_handed_on() -> None:
    chunks = sized(4, b"abc", b"de", b"f").chunks()
    assert await anext(chunks) == b"abc"
    with pytest.raises(SizeInvalid):
        await anext(chunks)


@pytest.mark.parametrize("asked", [lambda: sized(10, idle_seconds=0.01), lambda: chunked(idle_seconds=0.01)])
async def test_a_body_that_stands_still_is_cut(asked: Any) -> None:
    with pytest.raises(BodyStalled):
        await received(asked())
    with pytest.raises(BodyStalled):
        await asked().body(100)


async def test_a_body_that_moves_is_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """However long the whole of it takes."""
    monkeypatch.setattr(http, "DEADLINE_GRAIN_SECONDS", 0.0)
    asked = chunked(*[b"x"] * 20, idle_seconds=0.5)
    count = 0
    async with asked.receiving():
        async for _ in asked.chunks():
            await asyncio.sleep(0.05)
            count += 1
    assert count == 20


async def test_what_is_done_with_a_whole_body_takes_its_own_time() -> None:
    asked = sized(5, b"hello", idle_seconds=0.05)
    async with asked.receiving():
        assert [chunk async for chunk in asked.chunks()] == [b"hello"]
        await asyncio.sleep(0.1)


async def test_a_time_out_of_somebody_else_is_no_stalled_body() -> None:
    with pytest.raises(TimeoutError):
        async with chunked(b"x").receiving():
            raise TimeoutError


async def test_a_body_is_read_whole_only_up_to_a_bound() -> None:
    for asked in (sized(6, b"hello!"), chunked(b"hel", b"lo!"), chunked(b"hello!", b"and", b"so", b"on")):
        with pytest.raises(ManifestTooLarge):
            await asked.body(5)
    assert not sized(6, b"hello!").body_ended


@pytest.mark.parametrize(
    "text", ["-1", "+1", "1.0", "1e3", "a", "", " 1", "1 ", "٣".encode().decode("latin-1"), "9" * 21]
)
async def test_a_length_that_is_none(text: str) -> None:
    asked = sized(text, b"hello")
    with pytest.raises(SizeInvalid):
        _ = asked.content_length
    await asked.drain(10, 10)  # Nothing may fail while the refusal is on its way.


async def test_the_largest_length_that_a_server_lets_through() -> None:
    assert sized(2**64 - 1).content_length == 2**64 - 1


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (request(), False),
        (sized(0), False),
        (sized(1), True),
        (chunked(), True),
        (request(version="2"), True),
        (sized(0, version="2"), False),
    ],
)
def test_whether_anything_can_follow(asked: Request, expected: bool) -> None:
    assert asked.has_body is expected


# --- what is left of a body that was refused --------------------------------------------------------------------


async def test_draining_reads_to_the_end() -> None:
    asked = sized(9, b"abc", b"def", b"ghi")
    await asked.drain(100, 10)
    assert not asked.body_ended
    await asked.drain(100, 0.01)  # nothing comes any more


async def test_draining_is_bounded() -> None:
    asked = chunked(*[b"x" * 1000] * 100)
    await asked.drain(5000, 10)
    assert len(b"".join(await received(asked))) == 94_000


async def test_draining_ends_when_the_client_is_gone_or_slow() -> None:
    await chunked(b"abc", None).drain(100, 10)
    await chunked().drain(100, 0.01)


async def test_nothing_is_drained_where_nothing_can_come() -> None:
    await request().drain(100, 10)
    read = sized(5, b"hello")
    await read.body(5)
    await read.drain(100, 10)


# --- headers and parameters -------------------------------------------------------------------------------------


def test_headers() -> None:
    asked = request(headers=[("A", "1"), ("b", "2"), ("a", "3")])
    assert asked.header(b"a") == "1"
    assert asked.header(b"c") is None
    assert asked.joined(b"a") == "1,3"
    assert asked.joined(b"c") is None


def test_parameters() -> None:
    asked = request(query=b"a=1&b=&c&a=2&d=%C3%A9+%2B&%61e=3")
    assert asked.query == {"a": ["1", "2"], "b": [""], "c": [""], "d": ["é +"], "ae": ["3"]}
    assert asked.parameter("a") == "1"
    assert asked.parameter("b") == ""
    assert asked.parameter("x") is None
    assert request().query == {}


@pytest.mark.parametrize("query", [b"a=\xff", b"a&" * (QUERY_FIELDS_MAX + 1)])
def test_a_query_that_cannot_be_read(query: bytes) -> None:
    with pytest.raises(RequestInvalid):
        _ = request(query=query).query


def test_as_many_parameters_as_are_allowed() -> None:
    assert len(request(query=b"&".join([b"a=1"] * QUERY_FIELDS_MAX)).query["a"]) == QUERY_FIELDS_MAX


def test_bytes_that_are_no_text_do_no_harm() -> None:
    json.dumps(request(query=b"a=%FF%ED%A0%80%00").query, ensure_ascii=False).encode()


# --- responses --------------------------------------------------------------------------------------------------


async def parts(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def sent(response: Response, *, head: bool = False) -> tuple[dict[bytes, bytes], bytes, list[str]]:
    """The headers, the body, and the kinds of the messages."""
    messages: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        messages.append(message)

    await response.send(send, head=head)
    assert messages[0]["status"] == response.status
    assert [message.get("more_body", False) for message in messages[1:]] == [True] * (len(messages) - 2) + [False]
    body = b"".join(message.get("body", b"") for message in messages[1:])
    return dict(messages[0]["headers"]), body, [message["type"].rpartition(".")[2] for message in messages]


async def test_bytes() -> None:
    headers, body, kinds = await sent(Response(200, [(b"a", b"b")], b"hello"))
    assert (headers, body, kinds) == ({b"a": b"b", b"content-length": b"5"}, b"hello", ["start", "body"])


async def test_a_file_is_sent_as_it_lies() -> None:
    headers, body, kinds = await sent(Response(200, [], Path("/data/blob"), 5))
    assert (headers, body, kinds) == ({b"content-length": b"5"}, b"", ["start", "pathsend"])


async def test_parts() -> None:
    headers, body, kinds = await sent(Response(206, [], parts(b"he", b"llo"), 5))
    assert (headers, body, kinds) == ({b"content-length": b"5"}, b"hello", ["start", "body", "body", "body"])


@pytest.mark.parametrize("body", [b"hello", Path("/data/blob"), None])
async def test_head_has_everything_but_the_body(body: bytes | Path | None) -> None:
    response = Response(200, [], parts(b"hello") if body is None else body, None if isinstance(body, bytes) else 5)
    headers, found, kinds = await sent(response, head=True)
    assert (headers, found, kinds) == ({b"content-length": b"5"}, b"", ["start", "body"])


async def test_head_of_what_is_not_at_hand() -> None:
    headers, found, _ = await sent(Response(200, [], b"", 12345), head=True)
    assert (headers, found) == ({b"content-length": b"12345"}, b"")


@pytest.mark.parametrize("status", [204, 304])
async def test_answers_that_have_no_body_have_no_length(status: int) -> None:
    headers, found, _ = await sent(Response(status))
    assert (headers, found) == ({}, b"")


async def test_json() -> None:
    headers, body, _ = await sent(json_response(200, {"a": ["é", 1]}, [(b"x", b"y")]))
    assert body == '{"a":["é",1]}'.encode()
    assert headers[b"content-type"] == b"application/json"
    assert headers[b"x"] == b"y"
