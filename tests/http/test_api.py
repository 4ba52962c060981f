"""The administration API of a server as it runs: over sockets, with its worker, its log and its signals."""

import json
import os
import re
import signal
from collections.abc import Iterator
from typing import Any, BinaryIO

import pytest

from tests.cli.tools import CommandLine
from tests.http.images import push_image
from tests.http.watching import eventually, log_lines
from tests.http.wire import Answer, Client, Connection, compose
from tests.support.processes import Config, Homeport

CONFIG: Config = {"log": {"format": "json"}, "housekeeping": {"schedule": "never"}}
JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Homeport]:
    server = Homeport(tmp_path_factory.mktemp("api"))
    server.start(CONFIG, verb="up")
    yield server
    server.stop()


@pytest.fixture(scope="module")
def admin(running: Homeport) -> Client:
    return robot(running, "**=admin")


def robot(server: Homeport, allow: str) -> Client:
    """Somebody who has nothing but a token."""
    cli = CommandLine(server.folder)
    made = cli.run("token", "create", "--data", str(server.data), "--robot", "cron", "--allow", allow)
    return Client(server.url).bearer(made.out.strip())


def post(client: Client, target: str, body: object) -> Answer:
    return client.request("POST", f"/api/v1{target}", json.dumps(body).encode(), JSON)


def follow(client: Client, connection: Connection, target: str) -> tuple[str, Iterator[Any]]:
    """Open a stream: the id of the request, and the objects as they come. None: a heartbeat."""
    assert client.authorization is not None
    connection.send(compose(client.host, "GET", f"/api/v1{target}", None, {"Authorization": client.authorization}))
    stream = connection._stream
    head = b"".join(iter(stream.readline, b"\r\n"))
    assert head.startswith(b"HTTP/1.1 200 "), head
    assert b"content-type: application/jsonl\r\n" in head.lower()
    request_id = re.search(rb"(?i)x-request-id: (\w+)", head)
    assert request_id
    return request_id[1].decode(), _objects(stream)


def _objects(stream: BinaryIO) -> Iterator[Any]:
    """What comes in chunks, each of whole lines. Its end is the end of a whole answer."""
    while size := int(stream.readline(), 16):
        part = stream.read(size)
        assert part.endswith(b"\n")
        yield from (json.loads(line) if line else None for line in part.splitlines())
        stream.readline()
    stream.readline()


def metric(client: Client, name: str) -> float:
    found = [line for line in client.get("/metrics").body.decode().splitlines() if line.startswith(f"{name} ")]
    return float(found[0].split()[1])


def test_a_run_is_asked_for_and_followed_to_its_end(admin: Client) -> None:
    """All that a job container does, on one connection for each request."""
    started = post(admin, "/jobs", {"kind": "housekeeping"})
    assert (started.status, started.json["actor"]) == (202, "robot:cron")
    with admin.connect() as connection:
        _, stream = follow(admin, connection, f"{started['location'].removeprefix('/api/v1')}/follow")
        *before, last = list(stream)
    assert all("line" in each or each["job"]["state"] != "ended" for each in before if each)
    assert (last["job"]["state"], last["job"]["outcome"]) == ("ended", "success")
    assert admin.get(started["location"]).json == last["job"]
    kinds = [event["kind"] for event in admin.get("/api/v1/events?kind=*.*&limit=2").json["events"]]
    assert kinds == ["job.requested", "housekeeping.finished"]


def test_who_may(running: Homeport, admin: Client) -> None:
    nobody = Client(running.url)
    for client, status in (
        (nobody, 401),
        (nobody.basic("admin", "wrong"), 401),
        (nobody.bearer("hp_" + "0" * 16 + "_" + "0" * 40), 401),
        (nobody.basic("writer", running.passwords["writer"]), 403),
        (robot(running, "team/**=admin"), 403),
        (robot(running, "**=pull,push,delete"), 403),
        (nobody.basic("admin", running.passwords["admin"]), 200),
        (admin, 200),
    ):
        answer = client.get("/api/v1/jobs")
        assert answer.status == status, answer
        assert ("www-authenticate" in answer) == (status == 401)
        assert answer["cache-control"] == "no-store"
        assert client.head("/api/v1/jobs").status == status
    issued = nobody.basic("admin", running.passwords["admin"]).get("/token?scope=repository:a:*").json["token"]
    assert nobody.bearer(issued).get("/api/v1/jobs").status == 403


def test_a_change_is_seen_by_who_follows_the_log(running: Homeport, admin: Client) -> None:
    writer = Client(running.url).basic("writer", running.passwords["writer"])
    with admin.connect() as connection:
        _, stream = follow(admin, connection, "/events?follow=true&kind=tag.*&repository=team/**")
        push_image(writer, "other/app", "v1", b"a layer")
        manifest = push_image(writer, "team/app", "v1", b"a layer")
        event = next(told for told in stream if told is not None)["event"]
        assert (event["kind"], event["repository"], event["tag"]) == ("tag.set", "team/app", "v1")
        assert (event["digest"], event["actor"], event["address"]) == (manifest.digest, "user:writer", "127.0.0.1")


def test_a_client_that_leaves_a_stream_is_no_failure(running: Homeport, admin: Client) -> None:
    read = len(running.log)
    with admin.connect() as connection:
        request_id, stream = follow(admin, connection, "/events?follow=true&since=86400")
        assert "event" in next(stream)
        assert metric(admin, "homeport_requests_active") >= 2
    assert eventually(lambda: metric(admin, "homeport_requests_active") == 1)
    assert eventually(lambda: any(line.get("id") == request_id for line in log_lines(running, read)))
    (line,) = [line for line in log_lines(running, read) if line.get("id") == request_id]
    assert (line["status"], line["error"], line["level"]) == (200, None, "info")
    assert not [line for line in log_lines(running, read) if line["level"] != "info"]


def test_requests_that_are_no_good(running: Homeport, admin: Client) -> None:
    read = len(running.log)
    for method, target, body, headers, status in (
        ("GET", "/jobs?limit=-1", None, {}, 400),
        ("GET", "/jobs/%00", None, {}, 400),
        ("GET", "/jobs/%ff", None, {}, 400),
        ("GET", "/jobs%2F1", None, {}, 404),
        ("GET", "/nothing", None, {}, 404),
        ("DELETE", "/jobs", None, {}, 405),
        ("OPTIONS", "/jobs", None, {}, 405),
        ("POST", "/jobs", b"{}", {}, 415),
        ("POST", "/jobs", b"{", JSON, 400),
        ("POST", "/jobs", b"[" * 60_000, JSON, 400),
        ("POST", "/jobs", b'{"kind":"housekeeping","arguments":{"a":NaN}}', JSON, 400),
        ("POST", "/jobs", b" " * 65_537, JSON, 413),
        ("POST", "/jobs", [b" " * 30_000] * 100, JSON, 413),
        ("POST", "/jobs", b" " * 4_000_000, JSON, 413),
        ("POST", "/targets/ops%2F1/test", b"", JSON, 404),
        ("GET", "/jobs", None, {"X-Large": "x" * 70_000}, 431),
    ):
        answer = admin.request(method, f"/api/v1{target}", body, headers)
        assert answer.status == status, (method, target[:100], answer)
        assert set(answer.json) == {"error"}
        assert answer.json["error"]["request"] == answer["x-request-id"]
        assert "docker-distribution-api-version" not in answer
    assert eventually(lambda: answer["x-request-id"] in running.log[read:])
    assert not [line for line in log_lines(running, read) if line["level"] != "info"]


def test_the_description_is_there_for_everybody(running: Homeport) -> None:
    answer = Client(running.url).get("/api/v1/openapi.json")
    assert (answer.status, answer.json["openapi"]) == (200, "3.1.1")
    assert "/api/v1/jobs/{id}/follow" in answer.json["paths"]


def test_nothing_of_a_token_is_logged(running: Homeport, admin: Client) -> None:
    admin.get("/api/v1/secrets")
    admin.bearer("hp_0123456789abcdef_" + "f" * 40).get("/api/v1/jobs")
    assert eventually(lambda: "/api/v1/secrets" in running.log)
    assert admin.authorization is not None
    assert admin.authorization.removeprefix("Bearer ") not in running.log
    assert "f" * 40 not in running.log


def test_sigterm_ends_the_streams(homeport: Homeport) -> None:
    """Cleanly, and at once: whoever follows asks again, and nobody waits for what may go on for days."""
    homeport.start({**CONFIG, "server": {"drain_seconds": 60}}, verb="up")
    admin = robot(homeport, "**=admin")
    with admin.connect() as connection:
        _, stream = follow(admin, connection, "/events?follow=true&since=86400")
        assert "event" in next(stream)
        os.kill(homeport.pid, signal.SIGTERM)
        assert [each for each in stream if each is not None and each["event"]["kind"] != "token.created"] == []
    homeport.stop()
    assert "requests.cut" not in homeport.log
    assert '"level":"error"' not in homeport.log
