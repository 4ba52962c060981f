"""The files that put a node behind the mirror door: for docker, containerd, podman and BuildKit.

Source: docker's daemon.json, containerd's hosts.toml, containers-registries.conf(5), BuildKit's buildkitd.toml.

Pure. Holds: a node asks Homeport first, and the upstream itself when Homeport does not answer; nothing here makes it
send a login.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from homeport.config.settings import Settings
from homeport.mirror.addresses import folder
from homeport.oci.reference import DOCKER_HUB

#: Where the door is below the address of the registry.
DOOR_PATH: Final = "/mirror"

_EVERY_ADDRESS = ("0.0.0.0", "::")  # noqa: S104 (compared, not bound)
_THIS_MACHINE = ("127.0.0.1", "::1", "localhost")

#: Docker Hub's images are named after one host and come from another.
_SERVERS: Final = {DOCKER_HUB: "registry-1.docker.io"}


class AddressUnknown(Exception):
    """The configuration does not say at which address nodes reach the registry."""


@dataclass(frozen=True, slots=True)
class Door:
    """Where nodes find the mirror."""

    #: The registry's address: https://registry.lan:5000
    url: str
    #: The address of `cache.listen`, whose root is the door.
    root: str | None = None
    #: The path, on the node, of the authority that its certificate is from.
    ca: str | None = None

    @classmethod
    def of(cls, settings: Settings, *, url: str | None = None, ca: str | None = None) -> Door:
        """That of these settings; `url` wins over what they say. Raises `AddressUnknown`."""
        scheme, listen = "https" if settings.server.tls else "http", settings.server.listen
        address = url or settings.server.url
        if address is None:
            if listen.host in _EVERY_ADDRESS:
                raise AddressUnknown(
                    f"'{listen}' is every address of this machine; say with --url, or with server.url in the"
                    " configuration, at which one nodes reach it"
                )
            address = f"{scheme}://{listen}"
        root = None
        if (second := settings.cache.listen) is not None:
            host = _host_name(address) if second.host in _EVERY_ADDRESS else str(second).rpartition(":")[0]
            root = f"{scheme}://{host}:{second.port}"
        return cls(address, root, ca)

    @property
    def host(self) -> str:
        """The registry's host and port, as they stand in image names."""
        return self.url.partition("://")[2]

    @property
    def is_plain(self) -> bool:
        """Whether it speaks plain HTTP."""
        return self.url.startswith("http://")


@dataclass(frozen=True, slots=True)
class NodeFile:
    """A file of a node: where it goes, what is in it, and what else to do."""

    path: str
    content: str
    notes: tuple[str, ...] = ()


def docker(door: Door, upstreams: Sequence[str]) -> Iterator[NodeFile]:
    """dockerd: one key for Docker Hub, and for each other upstream a hosts.toml."""
    if DOCKER_HUB in upstreams:
        mirror = door.root or door.url + DOOR_PATH
        notes: tuple[str, ...] = (_DAEMON_JSON,) if door.root else (_DAEMON_JSON, _NO_PATH)
        if door.ca:
            place = f"/etc/docker/certs.d/{_address(mirror)}/ca.crt"
            notes += (f"dockerd trusts {_address(mirror)} once {door.ca} is at {place} as well",)
        content = json.dumps({"registry-mirrors": [mirror]}, indent=2) + "\n"
        yield NodeFile("/etc/docker/daemon.json", content, notes)
    others = [host for host in upstreams if host != DOCKER_HUB]
    for host in others:
        more = (_DOCKER_HOSTS, _SWARM.format(", ".join(others))) if host == others[0] else ()
        yield NodeFile(f"/etc/docker/certs.d/{host}/hosts.toml", _hosts_toml(door, host), more)


_DAEMON_JSON = "where daemon.json is there already, put the key into it; then: systemctl reload docker"
_NO_PATH = (
    "an engine that refuses the path, or has the old image store (docker info names overlay2 as its storage driver),"
    " needs an address without one: set cache.listen and ask again"
)
_DOCKER_HOSTS = "only engines with the containerd image store read hosts.toml, and they need no restart for it"
_SWARM = (
    "Swarm's managers ask {} themselves for the digest of a tag, without mirrors: `docker stack deploy --resolve-image"
    " never` leaves that to the nodes"
)


def containerd(door: Door, upstreams: Sequence[str]) -> Iterator[NodeFile]:
    """containerd, also that of Kubernetes and nerdctl: a hosts.toml for each upstream."""
    for host in upstreams:
        notes = (_CONFIG_PATH, _CAPABILITIES) if host == upstreams[0] else ()
        yield NodeFile(f"/etc/containerd/certs.d/{host}/hosts.toml", _hosts_toml(door, host), notes)


_CONFIG_PATH = (
    'containerd reads that folder where config.toml names it: config_path = "/etc/containerd/certs.d" in the registry'
    " section of its CRI plugin; nerdctl reads it always, ctr with --hosts-dir; a new file needs no restart"
)
_CAPABILITIES = 'newer containerds know "referrers" as a capability as well; older ones refuse a file that has it'


def podman(door: Door, upstreams: Sequence[str]) -> Iterator[NodeFile]:
    """podman, buildah, skopeo and CRI-O: one drop-in for all upstreams."""
    lines = ["# Images of these registries come through Homeport; when it does not answer, from where they are."]
    for host in upstreams:
        lines += ["", "[[registry]]", f"prefix = {_quoted(host)}", f"location = {_quoted(host)}"]
        lines += ["", "[[registry.mirror]]", f"location = {_quoted(f'{door.host}/{folder(host)}')}"]
        lines += ["insecure = true"] if door.is_plain else []
    notes: tuple[str, ...] = ("it counts from the next pull on; CRI-O: systemctl reload crio",)
    if door.ca:
        notes += (f"they trust {door.host} once {door.ca} is at /etc/containers/certs.d/{door.host}/ca.crt as well",)
    yield NodeFile("/etc/containers/registries.conf.d/50-homeport.conf", "\n".join(lines) + "\n", notes)


def buildkit(door: Door, upstreams: Sequence[str]) -> Iterator[NodeFile]:
    """buildkitd, also in a builder of `docker buildx`."""
    lines = ["# Images of these registries come through Homeport; when it does not answer, from where they are."]
    for host in upstreams:
        lines += ["", f"[registry.{_quoted(host)}]", f"  mirrors = [{_quoted(f'{door.host}/{folder(host)}')}]"]
    # Said either way: BuildKit takes an address of its own machine for plain HTTP.
    lines += ["", f"[registry.{_quoted(door.host)}]", f"  http = {json.dumps(door.is_plain)}"]
    lines += [f"  ca = [{_quoted(door.ca)}]"] if door.ca and not door.is_plain else []
    notes = ("restart buildkitd; for buildx: docker buildx create --use --buildkitd-config FILE",)
    yield NodeFile("/etc/buildkit/buildkitd.toml", "\n".join(lines) + "\n", notes)


_Writer: TypeAlias = Callable[[Door, Sequence[str]], Iterator[NodeFile]]

#: What a node can be, by its name on the command line.
WRITERS: Final[Mapping[str, _Writer]] = {
    "docker": docker,
    "containerd": containerd,
    "podman": podman,
    "buildkit": buildkit,
}


def warnings(settings: Settings, door: Door, upstreams: Sequence[str]) -> Iterator[str]:
    """Why nodes with these files would not get what they ask for."""
    if missing := [host for host in upstreams if host not in settings.cache.upstreams]:
        yield f"cache.upstreams does not have {', '.join(missing)}, so Homeport does not answer for it"
    if not settings.cache.networks and "pull" not in settings.access.anonymous:
        yield "nodes have no login, and cache.networks names no network from which they can pull without one"
    if _host_name(door.url).strip("[]") in _THIS_MACHINE:
        yield f"{door.url} is this machine only; --url, or server.url in the configuration, says another address"
    if settings.server.tls and not door.ca and not door.is_plain:
        yield "where the certificate is from an authority of your own, say with --ca where that is on the node"


def _hosts_toml(door: Door, host: str) -> str:
    lines = [
        f"# Images of {host} come through Homeport; when it does not answer, from where they are.",
        f"server = {_quoted(f'https://{_SERVERS.get(host, host)}')}",
        "",
        f"[host.{_quoted(door.url + DOOR_PATH)}]",
        '  capabilities = ["pull", "resolve"]',
    ]
    lines += [f"  ca = {_quoted(door.ca)}"] if door.ca else []
    return "\n".join(lines) + "\n"


def _address(url: str) -> str:
    return url.partition("://")[2].partition("/")[0]


def _host_name(url: str) -> str:
    """The host of an address without its port."""
    address = _address(url)
    return address[: address.index("]") + 1] if address.startswith("[") else address.partition(":")[0]


def _quoted(text: str) -> str:
    """A string of TOML: the same as one of JSON."""
    return json.dumps(text, ensure_ascii=False)
