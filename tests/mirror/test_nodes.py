"""The files for nodes are what docker, containerd, podman and BuildKit read, and lead to the door."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from typing import Any

import pytest

from homeport.config.settings import Settings
from homeport.mirror import nodes
from homeport.mirror.nodes import AddressUnknown, Door

UPSTREAMS = ("docker.io", "ghcr.io", "lan:5001")
TLS = {"certificate": "/c.pem", "key": "/k.pem"}


def files(which: str, door: Door, upstreams: tuple[str, ...] = UPSTREAMS) -> dict[str, str]:
    return {file.path: file.content for file in nodes.WRITERS[which](door, upstreams)}


def notes(which: str, door: Door, upstreams: tuple[str, ...] = UPSTREAMS) -> str:
    return "\n".join(note for file in nodes.WRITERS[which](door, upstreams) for note in file.notes)


def settings(server: Mapping[str, Any] | None = None, **sections: Any) -> Settings:
    return Settings.model_validate({"server": server or {}, **sections})


@pytest.mark.parametrize(
    ("server", "cache", "url", "root"),
    [
        ({}, {}, "http://127.0.0.1:5000", None),
        ({"tls": TLS, "listen": "10.0.0.7:443"}, {}, "https://10.0.0.7:443", None),
        ({"url": "https://registry.lan"}, {"listen": ":5010"}, "https://registry.lan", "http://registry.lan:5010"),
        ({"url": "https://r.lan:5000", "tls": TLS}, {"listen": "0.0.0.0:81"}, "https://r.lan:5000", "https://r.lan:81"),
        ({"listen": "[::1]:5000"}, {"listen": "[::]:81"}, "http://[::1]:5000", "http://[::1]:81"),
        ({}, {"listen": "10.0.0.7:81"}, "http://127.0.0.1:5000", "http://10.0.0.7:81"),
    ],
)
def test_where_the_door_is(server: dict[str, Any], cache: dict[str, Any], url: str, root: str | None) -> None:
    assert Door.of(settings(server, cache=cache)) == Door(url, root)


def test_every_address_of_a_machine_is_no_address() -> None:
    with pytest.raises(AddressUnknown, match="say with --url"):
        Door.of(settings({"listen": "0.0.0.0:5000"}))
    assert Door.of(settings({"listen": "0.0.0.0:5000"}), url="https://registry.lan").url == "https://registry.lan"


def test_docker() -> None:
    door = Door("https://registry.lan", ca="/etc/ssl/lan.crt")
    found = files("docker", door)
    assert json.loads(found["/etc/docker/daemon.json"]) == {"registry-mirrors": ["https://registry.lan/mirror"]}
    assert tomllib.loads(found["/etc/docker/certs.d/ghcr.io/hosts.toml"]) == {
        "server": "https://ghcr.io",
        "host": {"https://registry.lan/mirror": {"capabilities": ["pull", "resolve"], "ca": "/etc/ssl/lan.crt"}},
    }
    assert list(found)[1:] == ["/etc/docker/certs.d/ghcr.io/hosts.toml", "/etc/docker/certs.d/lan:5001/hosts.toml"]
    told = notes("docker", door)
    assert "needs an address without one: set cache.listen" in told
    assert "once /etc/ssl/lan.crt is at /etc/docker/certs.d/registry.lan/ca.crt as well" in told
    assert "Swarm's managers ask ghcr.io, lan:5001 themselves" in told


def test_docker_at_an_address_without_a_path() -> None:
    door = Door("https://registry.lan", root="http://registry.lan:5010")
    (content,) = files("docker", door, ("docker.io",)).values()
    assert json.loads(content) == {"registry-mirrors": ["http://registry.lan:5010"]}
    told = notes("docker", door, ("docker.io",))
    assert "cache.listen" not in told
    assert "Swarm" not in told


def test_containerd() -> None:
    found = files("containerd", Door("http://10.0.0.7:5000"))
    assert list(found) == [f"/etc/containerd/certs.d/{host}/hosts.toml" for host in UPSTREAMS]
    assert tomllib.loads(found["/etc/containerd/certs.d/docker.io/hosts.toml"]) == {
        "server": "https://registry-1.docker.io",
        "host": {"http://10.0.0.7:5000/mirror": {"capabilities": ["pull", "resolve"]}},
    }
    assert notes("containerd", Door("http://10.0.0.7:5000")).count("config_path") == 1


def test_podman() -> None:
    (path, content), *others = files("podman", Door("http://10.0.0.7:5000")).items()
    assert (path, others) == ("/etc/containers/registries.conf.d/50-homeport.conf", [])
    assert tomllib.loads(content)["registry"] == [
        {"prefix": host, "location": host, "mirror": [{"location": f"10.0.0.7:5000/{at}", "insecure": True}]}
        for host, at in zip(UPSTREAMS, ("docker.io", "ghcr.io", "lan_5001"), strict=True)
    ]
    secure = Door("https://registry.lan", ca="/ca.crt")
    (content,) = files("podman", secure, ("quay.io",)).values()
    assert tomllib.loads(content)["registry"][0]["mirror"] == [{"location": "registry.lan/quay.io"}]
    assert "at /etc/containers/certs.d/registry.lan/ca.crt" in notes("podman", secure)


@pytest.mark.parametrize(
    ("door", "own"),
    [
        (Door("http://10.0.0.7:5000"), {"10.0.0.7:5000": {"http": True}}),
        (Door("http://10.0.0.7:5000", ca="/ca.crt"), {"10.0.0.7:5000": {"http": True}}),
        (Door("https://registry.lan", ca="/ca.crt"), {"registry.lan": {"http": False, "ca": ["/ca.crt"]}}),
        (Door("https://127.0.0.1:5000"), {"127.0.0.1:5000": {"http": False}}),
    ],
)
def test_buildkit(door: Door, own: dict[str, Any]) -> None:
    (path, content), *others = files("buildkit", door).items()
    assert (path, others) == ("/etc/buildkit/buildkitd.toml", [])
    mirrors = {"docker.io": "docker.io", "ghcr.io": "ghcr.io", "lan:5001": "lan_5001"}
    assert (
        tomllib.loads(content)["registry"]
        == {host: {"mirrors": [f"{door.host}/{at}"]} for host, at in mirrors.items()} | own
    )


def test_what_would_keep_a_node_from_getting_anything_is_told() -> None:
    bare = settings()
    told = "\n".join(nodes.warnings(bare, Door.of(bare), ("docker.io", "quay.io")))
    assert "cache.upstreams does not have docker.io, quay.io" in told
    assert "cache.networks names no network" in told
    assert "http://127.0.0.1:5000 is this machine only" in told
    ready = settings({"url": "https://r.lan"}, cache={"upstreams": ["docker.io"], "networks": ["10.0.0.0/8"]})
    assert list(nodes.warnings(ready, Door.of(ready), ("docker.io",))) == []
    own = settings({"listen": "10.0.0.7:443", "tls": TLS}, access={"anonymous": ["pull"]})
    assert list(nodes.warnings(own, Door.of(own), ())) == [
        "where the certificate is from an authority of your own, say with --ca where that is on the node"
    ]
    assert list(nodes.warnings(own, Door.of(own, ca="/ca.crt"), ())) == []
