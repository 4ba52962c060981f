"""Requests that are not as they should be: each gets one clean error, and changes nothing."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from homeport import events
from homeport.jobs import queue
from homeport.server.api.calls import BODY_BYTES_MAX
from tests.server.api.world import World

JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("target", "sentence"),
    [
        ("/jobs?limit=-1", "limit: must be a whole number"),
        ("/jobs?limit=0", "limit: Input should be greater than or equal to 1"),
        ("/jobs?limit=1001", "limit: Input should be less than or equal to 1000"),
        ("/jobs?limit=1e3", "limit: must be a whole number"),
        ("/jobs?limit=1_0", "limit: must be a whole number"),
        ("/jobs?limit=%20%201", "limit: must be a whole number"),
        ("/jobs?limit=%D9%A1", "limit: must be a whole number"),
        ("/jobs?limit=", "limit: must be a whole number"),
        (f"/jobs?limit={'9' * 5000}", "limit: must be a whole number"),
        (f"/jobs?before={2**63}", "before: Input should be less than or equal to"),
        ("/jobs?limit=1&limit=2", "'limit' is given more than once"),
        ("/jobs?state=gone", "state: Input should be 'waiting', 'running' or 'ended'"),
        ("/jobs?kind=", "kind: String should have at least 1 character"),
        (f"/jobs?kind={'k' * 256}", "kind: String should have at most 255 characters"),
        ("/jobs?unknown=1", "no parameter is called 'unknown'; there are: kind, state, before, limit"),
        ("/targets?x=1", "no parameter is called 'x'; there are: none"),
        (f"/jobs?{'u' * 5000}=1", "no parameter is called 'uuu"),
        ("/jobs?" + "&".join(f"a{n}=1" for n in range(300)), "cannot be read"),
        ("/jobs/x", "id: must be a whole number"),
        ("/jobs/-1", "id: must be a whole number"),
        ("/jobs/5?id=6", "no parameter is called 'id'"),
        (f"/jobs/{2**63}", "id: Input should be less than or equal to"),
        (f"/jobs/{'1' * 5000}", "id: must be a whole number"),
        ("/jobs/%00", "id: must be a whole number"),
        ("/jobs/5/log?after=-1", "after: must be a whole number"),
        ("/jobs/5/follow?limit=1", "no parameter is called 'limit'"),
        ("/events?kind=tag.sett", "did you mean 'tag.set'?"),
        ("/events?repository=Team", "is not a pattern of repository names"),
        ("/events?repository=a**", "is not a pattern of repository names"),
        ("/events?after=5", "a position in the log is two numbers"),
        ("/events?after=x-y", "after: "),
        (f"/events?after={'1' * 4000}-1", "a position in the log is two numbers"),
        ("/events?since=yesterday", "must be seconds ago, such as 3600"),
        ("/events?since=2026-01-31T08:00:00", "or a time with its zone"),
        ("/events?since=-5", "must be seconds ago"),
        ("/events?since=1e3", "must be seconds ago"),
        ("/events?since=NaN", "must be seconds ago"),
        ("/events?since=5&after=0-0", "'after' and 'since' both say where to begin"),
        ("/events?follow=yes", "follow: must be true or false"),
        ("/events?follow=true&limit=5", "'limit' is for a page"),
        ("/deliveries?state=ended", "state: Input should be 'waiting', 'sent' or 'given-up'"),
    ],
)
async def test_parameters_that_cannot_be_meant(world: World, target: str, sentence: str) -> None:
    answer = await world.get(f"/api/v1{target}")
    assert answer.status == 400, answer
    assert sentence in answer.sentence
    assert len(answer.body) < 1_500


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (b"", "the field 'kind' has to be given"),
        (b"{", "the body: Invalid JSON"),
        (b"[]", "the body: "),
        (b"null", "the body: "),
        (b"\xff\xfe", "the body: Invalid JSON"),
        (b'{"kind": "\\ud800"}', "the body: Invalid JSON"),
        (b'{"kind": 5}', "kind: Input should be a valid string"),
        (b'{"kind": "housekeeping", "arguments": []}', "arguments: Input should be an object"),
        (b'{"kind": "housekeeping", "argument": {}}', "no field is called 'argument'; there are: kind, arguments"),
        (b'{"kind": "mirror"}', "no kind of job is called 'mirror'; there are: housekeeping"),
        (b'{"kind": "housekeeping", "arguments": {"a": NaN}}', "must be JSON"),
        (b'{"kind": "housekeeping", "arguments": {"a": -Infinity}}', "must be JSON"),
        (b'{"kind": "housekeeping", "arguments": {"a": 1e999}}', "must be JSON"),
        (b'{"kind": "housekeeping", "arguments": ' + b'{"a":' * 9_000 + b"1" + b"}" * 9_001, "recursion limit"),
        (b'{"kind": "housekeeping", "arguments": {"a": ' + b"1" * 60_000 + b"}}", "the body: Invalid JSON"),
    ],
)
async def test_bodies_that_cannot_be_meant(world: World, body: bytes, sentence: str) -> None:
    answer = await world.ask("POST", "/api/v1/jobs", body)
    assert (answer.status, answer.code) == (400, "INVALID"), answer
    assert sentence in answer.sentence
    assert len(answer.body) < 1_500
    assert await world.database.read(queue.listed) == []


async def test_a_body_has_a_bound(world: World) -> None:
    filler = {"kind": "housekeeping", "arguments": {"a": "x" * BODY_BYTES_MAX}}
    for headers in ({}, {"content-length": "", "transfer-encoding": "chunked"}):
        answer = await world.ask("POST", "/api/v1/jobs", json.dumps(filler).encode(), headers)
        assert (answer.status, answer.code) == (413, "TOO_LARGE")
        assert str(BODY_BYTES_MAX) in answer.sentence


async def test_a_body_that_is_cut_off(world: World) -> None:
    answer = await world.ask("POST", "/api/v1/jobs", b"{", {"content-length": "10"})
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


@pytest.mark.parametrize("media_type", ["", "text/plain", "application/x-www-form-urlencoded", "application/jsonx"])
@pytest.mark.parametrize("path", ["/jobs", "/jobs/1/cancel", "/targets/ops/test", "/deliveries/1/replay"])
async def test_what_a_web_page_could_send_to_a_foreign_site_is_refused(
    world: World, media_type: str, path: str
) -> None:
    """A browser sends a form, with the password that it remembers, wherever a page says; JSON only after asking."""
    answer = await world.ask("POST", f"/api/v1{path}", b'{"kind":"housekeeping"}', {"content-type": media_type})
    assert (answer.status, answer.code) == (415, "UNSUPPORTED_MEDIA_TYPE")
    asked = {"origin": "https://evil.example", "access-control-request-method": "POST"}
    answer = await world.ask("OPTIONS", f"/api/v1{path}", headers=asked)
    assert (answer.status, answer.code) == (405, "METHOD_NOT_ALLOWED")


async def test_the_media_type_may_say_its_character_set(world: World) -> None:
    for media_type in ("application/json; charset=utf-8", "Application/JSON;charset=UTF-8"):
        answer = await world.ask("POST", "/api/v1/jobs", b'{"kind":"housekeeping"}', {"content-type": media_type})
        assert answer.status == 202


@pytest.mark.parametrize("body", [b"", b"{}", b" { } "])
async def test_where_there_is_nothing_to_say(world: World, body: bytes) -> None:
    started = await world.post("/api/v1/jobs", {"kind": "housekeeping"})
    assert (await world.ask("POST", f"/api/v1/jobs/{started.json['id']}/cancel", body)).status == 200


async def test_a_field_where_there_is_nothing_to_say(world: World) -> None:
    answer = await world.post("/api/v1/jobs/5/cancel", {"force": True})
    assert (answer.status, answer.sentence) == (400, "no field is called 'force'; there are: none")


@pytest.mark.parametrize(
    ("method", "target", "allow"),
    [
        ("DELETE", "/jobs", "GET, HEAD, POST"),
        ("PUT", "/jobs/5", "GET, HEAD"),
        ("GET", "/jobs/5/cancel", "POST"),
        ("HEAD", "/jobs/5/cancel", "POST"),
        ("OPTIONS", "/events", "GET, HEAD"),
        ("TRACE", "/secrets", "GET, HEAD"),
        ("MADEUP", "/targets", "GET, HEAD"),
    ],
)
async def test_methods_that_an_address_does_not_take(world: World, method: str, target: str, allow: str) -> None:
    answer = await world.ask(method, f"/api/v1{target}", who="anonymous")
    assert (answer.status, answer.headers["allow"]) == (405, allow)


@pytest.mark.parametrize(
    "target",
    [
        "/api/",
        "/api/v1",
        "/api/v1/",
        "/api/v2/jobs",
        "/api/v1/jobs/",
        "/api/v1//jobs",
        "/api/v1/jobs/5/x",
        "/api/v1/%2e",
        "/api/v1/jobs%2F5",
    ],
)
async def test_addresses_that_are_not_there(world: World, target: str) -> None:
    answer = await world.get(target)
    assert (answer.status, answer.code) == (404, "NOT_FOUND")
    assert "openapi.json" in answer.sentence


async def test_headers_that_are_too_large(world: World) -> None:
    answer = await world.ask("GET", "/api/v1/jobs", headers={"x": "y" * 100_000})
    assert answer.status == 431


ADDRESSES = st.sampled_from(
    [
        "jobs",
        "jobs/{}",
        "jobs/{}/log",
        "jobs/{}/cancel",
        "events",
        "targets/{}/test",
        "deliveries",
        "deliveries/{}/replay",
        "{}",
    ]
)
PIECES = st.binary(max_size=12).map(quote) | st.sampled_from(["1", "0", "-1", str(2**63), "x", "%2F", "%00"])
NAMES = st.sampled_from(["limit", "before", "after", "since", "kind", "state", "repository", "target", "id"]) | PIECES
VALUES = PIECES | st.sampled_from(["tag.*", "[", "**", "a**", "1-1", "1e5", "2026-01-31", "waiting", "9" * 400])
BODIES = st.binary(max_size=20) | st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["kind", "arguments", "x"]), inner),
    max_leaves=8,
).map(lambda value: json.dumps(value).encode())


@given(
    st.sampled_from(["GET", "HEAD", "POST"]), ADDRESSES, PIECES, st.lists(st.tuples(NAMES, VALUES), max_size=3), BODIES
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
async def test_whatever_is_sent_is_done_or_refused(
    world: World, method: str, address: str, piece: str, query: list[tuple[str, str]], body: bytes
) -> None:
    target = "/api/v1/" + address.format(piece)
    if query:
        target += "?" + "&".join(f"{name}={value}" for name, value in query)
    answer = await world.ask(method, target, body if method == "POST" else b"")
    assert answer.status < 500, answer


async def test_a_fault_is_told_as_one_and_what_it_was_is_logged(world: World) -> None:
    world.references = None  # type: ignore[assignment]
    answer = await world.get("/api/v1/secrets")
    assert (answer.status, answer.code) == (500, "UNKNOWN")
    assert b"NoneType" not in answer.body
    world.context.log.flush()
    (line,) = [
        line for line in map(json.loads, world.logged.getvalue().splitlines()) if line["event"] == "request.failed"
    ]
    assert (line["id"], "NoneType" in line["error"]) == (answer.headers["x-request-id"], True)


async def test_a_fault_in_the_middle_of_a_stream_cuts_it(world: World) -> None:
    """So nobody takes what came for all there is."""
    started = await world.post("/api/v1/jobs", {"kind": "housekeeping"})
    async with world.asking("GET", f"/api/v1/jobs/{started.json['id']}/follow") as stream:
        await stream.line()
        await world.database.write(lambda tx: tx.run("DROP TABLE job_lines"))
        assert stream.task is not None
        with pytest.raises(Exception, match="job_lines"):
            await stream.task
    assert await world.database.read(events.after, events.START)
    world.context.log.flush()
    assert '"event":"request.cut"' in world.logged.getvalue()


async def test_routes_are_counted_by_their_names(world: World) -> None:
    await world.get("/api/v1/jobs/5")
    await world.get("/api/v1/made/up")
    await world.ask("MADEUP", "/api/v1/jobs")
    text = world.context.counters.exposition({})
    assert 'route="job-show",method="GET",status="404"' in text
    assert 'route="none",method="GET",status="404"' in text
    assert "made" not in text
    assert "MADEUP" not in text
