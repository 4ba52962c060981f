"""The mirror door of a real server: both of its addresses, with TLS, and what a reload changes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.http.images import Manifest, digest_of, push_image
from tests.http.watching import eventually, log_lines, reload
from tests.http.wire import Client
from tests.support.processes import Config, Homeport, ServerFailedError

HUB = "docker.io/library/alpine"
LAYER = b"the layer of alpine"
NODES = ["127.0.0.0/8"]


def config(**cache: object) -> Config:
    """A server of Docker Hub's images, whom a rule lets put there what a test pulls."""
    access = {
        "signed_in": [],
        "rules": [
            {"repositories": "docker.io/**", "allow": {"writer": ["pull", "push"]}},
            {"repositories": "library/**", "allow": {"writer": ["pull", "push"]}},
        ],
    }
    settings = {"upstreams": ["docker.io"], "networks": NODES, "listen": "127.0.0.1:0"}
    return {"access": access, "cache": {**settings, **cache}, "log": {"format": "json"}}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Homeport]:
    server = Homeport(tmp_path)
    yield server
    server.stop()


def writer(server: Homeport) -> Client:
    return Client(server.url, ca=server.ca).basic("writer", server.passwords["writer"])


def filled(server: Homeport) -> Manifest:
    """Docker Hub's alpine, and one of our own that is called so at Docker Hub."""
    push_image(writer(server), "library/alpine", "latest", b"ours")
    return push_image(writer(server), HUB, "latest", LAYER)


def second_address(server: Homeport) -> Client:
    found: list[str] = []

    def opened() -> bool:
        found[:] = [str(line["url"]) for line in log_lines(server) if line["event"] == "door.opened"]
        return bool(found)

    assert eventually(opened), server.log
    return Client(found[0], ca=server.ca)


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "tls"])
def test_both_addresses(server: Homeport, tls: bool) -> None:
    server.start(config(), tls=tls)
    alpine = filled(server)
    nobody = Client(server.url, ca=server.ca)
    for client, base in ((nobody, "/mirror"), (second_address(server), "")):
        ping = client.get(f"{base}/v2/")
        assert (ping.status, ping.json) == (200, {})
        assert "www-authenticate" not in ping
        for name in ("library/alpine", "alpine", HUB):
            assert client.get(f"{base}/v2/{name}/manifests/latest").body == alpine.data
            assert client.get(f"{base}/v2/{name}/manifests/{alpine.digest}?ns=docker.io").body == alpine.data
            assert client.get(f"{base}/v2/{name}/blobs/{digest_of(LAYER)}").body == LAYER
            assert client.get(f"{base}/v2/{name}/blobs/{digest_of(LAYER)}", range="bytes=0-2").body == LAYER[:3]
            assert client.head(f"{base}/v2/{name}/blobs/{digest_of(LAYER)}")["content-length"] == str(len(LAYER))
        assert client.post(f"{base}/v2/alpine/blobs/uploads/", b"x" * 100_000).status == 405
    assert second_address(server).get("/healthz").status == 404
    assert nobody.get("/v2/").status == 401
    assert nobody.get("/v2/library/alpine/manifests/latest").status == 401
    assert nobody.get("/v2/library/alpine/manifests/latest?ns=docker.io").body == alpine.data


def test_docker_hubs_password_is_neither_checked_nor_written_down(server: Homeport) -> None:
    server.start(config())
    alpine = filled(server)
    hub = replace(Client(server.url), authorization="Basic aHVidXNlcjpodWItcGFzc3dvcmQ=")
    answers = [hub.get("/mirror/v2/library/alpine/manifests/latest") for _ in range(12)]  # More than may be wrong.
    assert all(answer.body == alpine.data for answer in answers)
    assert writer(server).get("/v2/").status == 200

    def logged() -> bool:
        return any(line.get("id") == answers[-1]["x-request-id"] for line in log_lines(server))

    assert eventually(logged)
    (line,) = [line for line in log_lines(server) if line.get("id") == answers[-1]["x-request-id"]]
    assert (line["actor"], line["address"]) == ("node", "127.0.0.1")
    for secret in ("aHVidXNlcjpodWItcGFzc3dvcmQ", "hub-password", "hubuser"):
        assert secret not in server.log


def test_a_reload_counts_at_once(server: Homeport) -> None:
    server.start(config())
    alpine = filled(server)
    nobody, target = Client(server.url), "/mirror/v2/library/alpine/manifests/latest"
    assert nobody.get(target).body == alpine.data
    reload(server, config(networks=["192.0.2.0/24"]))
    refused = nobody.get(target)
    assert (refused.status, refused.error) == (403, "DENIED")
    assert "127.0.0.1" in refused.sentence
    assert nobody.get("/v2/library/alpine/manifests/latest?ns=docker.io").status == 401
    reload(server, config(upstreams=["ghcr.io"]))
    assert nobody.get(target).error == "NAME_UNKNOWN"
    assert writer(server).get("/v2/library/alpine/manifests/latest?ns=docker.io").error == "NAME_UNKNOWN"
    reload(server, config(upstreams=[]))
    assert nobody.get(target).status == 404
    assert second_address(server).get("/v2/").status == 404
    reload(server, config())
    assert nobody.get(target).body == alpine.data


@pytest.mark.parametrize(
    ("settings", "is_reserved"),
    [
        ({"cache": {"upstreams": ["docker.io"]}}, True),
        ({"upstreams": {"docker.io": {}}}, True),
        ({"mirror": {"images": [{"source": "docker.io/library/alpine"}]}}, True),
        ({"mirror": {"images": [{"source": "docker.io/library/alpine", "target": "docker.io/x/{name}"}]}}, True),
        ({"mirror": {"images": [{"source": "docker.io/library/alpine", "target": "{name}"}]}}, False),
        ({"cache": {"upstreams": ["ghcr.io"]}}, False),
        ({}, False),
    ],
)
def test_what_makes_a_name_an_upstreams(server: Homeport, settings: Config, is_reserved: bool) -> None:
    server.start(settings)
    admin = Client(server.url).basic("admin", server.passwords["admin"])
    answer = admin.post(f"/v2/{HUB}/blobs/uploads/", b"")
    assert answer.status == (403 if is_reserved else 202)
    if is_reserved:
        assert "another registry" in answer.sentence
    assert admin.post("/v2/library/alpine/blobs/uploads/", b"").status == 202


def test_a_second_address_that_is_taken_stops_the_start(tmp_path: Path) -> None:
    server = Homeport(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerFailedError, match=f"127.0.0.1:{port}"):
            server.start(config(listen=f"127.0.0.1:{port}"))
