"""Servers, engines and clients, each started once for all tests of this folder."""

from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from tests.real.clients import Client, Ctr, Docker, Podman, Sandbox, Skopeo
from tests.real.engines import Containerd, Daemon, DockerEngine
from tests.real.layouts import Layout
from tests.real.registries import Registry
from tests.support.components import need
from tests.support.processes import Config, Homeport

CLIENTS = ("debian-docker", "docker", "skopeo", "buildah", "podman", "ctr")
DaemonType = TypeVar("DaemonType", bound=Daemon)
RULES: Config = {"repositories": {"immutable": [{"repositories": "fixed/**"}]}}
OPEN: Config = {"access": {"anonymous": ["pull", "push"]}}


def started(folder: Path, *, login: bool, tls: bool) -> Iterator[Registry]:
    server = Homeport(folder)
    server.start(RULES if login else OPEN, tls=tls)
    yield Registry(server, server.host, "writer" if login else None)
    server.stop()


@pytest.fixture(scope="session", params=["anonymous-http", "login-http", "anonymous-tls", "login-tls"])
def registry(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A server, in turn each of the four kinds."""
    access, transport = str(request.param).split("-")
    yield from started(tmp_path_factory.mktemp(request.param), login=access == "login", tls=transport == "tls")


@pytest.fixture(scope="session")
def login_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A server over HTTP that wants a login."""
    yield from started(tmp_path_factory.mktemp("registry"), login=True, tls=False)


@pytest.fixture(scope="session")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    files = {"bin/busybox": need("busybox").resolve().read_bytes()}
    return Layout(tmp_path_factory.mktemp("image") / "layout", files)


@pytest.fixture(scope="session")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What docker builds its image from."""
    folder = tmp_path_factory.mktemp("context")
    (folder / "busybox").write_bytes(need("busybox").resolve().read_bytes())
    (folder / "busybox").chmod(0o755)
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY busybox /bin/busybox\nCMD ["/bin/busybox"]\n')
    return folder


@pytest.fixture(scope="session")
def debian_engine() -> Iterator[DockerEngine]:
    """Debian's docker.io: 20.10, with its images in its own store."""
    yield from running(DockerEngine("debian-dockerd"))


@pytest.fixture(scope="session")
def current_engine() -> Iterator[DockerEngine]:
    """The current engine, with its images in containerd's store."""
    yield from running(DockerEngine("dockerd"))


@pytest.fixture(scope="module")
def swarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DockerEngine]:
    """A Swarm of one node."""
    for engine in running(DockerEngine("debian-dockerd")):
        docker = Docker("docker", engine, Sandbox(tmp_path_factory.mktemp("swarm")), Path())
        # A Swarm wants this network and makes it where it is not: under a name that the machine's own engine may use.
        own = "com.docker.network.bridge.name=homeport-swarm"
        docker.run("network", "create", "--driver", "bridge", "--opt", own, "docker_gwbridge")
        docker.run("swarm", "init", "--advertise-addr", "127.0.0.1", "--listen-addr", "127.0.0.1:0")
        yield engine
        docker.run("swarm", "leave", "--force")
        docker.run("network", "rm", "docker_gwbridge")


@pytest.fixture(scope="session")
def containerd() -> Iterator[Containerd]:
    yield from running(Containerd())


@pytest.fixture(scope="session")
def clients(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> "Clients":
    return Clients(request, tmp_path_factory.mktemp("clients"))


class Clients:
    """Every client by its name, made when it is first asked for."""

    def __init__(self, request: pytest.FixtureRequest, folder: Path) -> None:
        self._request = request
        self._folder = folder
        self._made: dict[str, Client] = {}

    def __getitem__(self, name: str) -> Client:
        if name not in self._made:
            self._made[name] = self._make(name, Sandbox(self._folder / name))
        return self._made[name]

    def _make(self, name: str, sandbox: Sandbox) -> Client:
        layout = self._request.getfixturevalue("layout")
        match name:
            case "debian-docker":
                return Docker(name, self._request.getfixturevalue("debian_engine"), sandbox, self._context())
            case "docker":
                return Docker(name, self._request.getfixturevalue("current_engine"), sandbox, self._context())
            case "skopeo":
                return Skopeo(sandbox, layout)
            case "ctr":
                return Ctr(self._request.getfixturevalue("containerd"), sandbox, layout)
            case _:
                return Podman(name, sandbox, layout)

    def _context(self) -> Path:
        folder: Path = self._request.getfixturevalue("context")
        return folder


def running(daemon: DaemonType) -> Iterator[DaemonType]:
    daemon.start()
    yield daemon
    daemon.stop()
