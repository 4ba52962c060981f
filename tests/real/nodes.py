"""Nodes whose images come through Homeport's cache, each set up by the files that Homeport prints for it.

Their upstreams are registries on this machine that Homeport reaches by their real names through an HTTP proxy, as in
many a company's network. Nothing else reaches them: a node that gets an image has it from Homeport, unless the test
lets it use that proxy as well.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from tests.client.servers import DockerRegistry, free_port
from tests.real.clients import Docker, Sandbox, digest_in, digests_in
from tests.real.engines import Buildkitd, Containerd, Daemon, DockerEngine
from tests.real.layouts import Layout
from tests.real.proxies import NamingProxy
from tests.support.certificates import Authority
from tests.support.components import need
from tests.support.processes import Config, Homeport

#: Docker Hub, as nodes name it and as its clients reach it; and a registry that no engine treats as special.
HUB, HUB_ADDRESS = "docker.io", "registry-1.docker.io:443"
QUAY = "quay.io"
#: An image of each. Neither is really there, so nobody can have it from there.
HUB_IMAGE, QUAY_IMAGE = "library/homeport-node", "homeport-team/node"
BOTH: tuple[str, ...] = (f"{HUB}/{HUB_IMAGE}:1", f"{QUAY}/{QUAY_IMAGE}:1")
#: A node's own way to the world: a port at which nobody listens.
NOWHERE: Mapping[str, str] = {"HTTPS_PROXY": "http://127.0.0.1:9"}


class Behind:
    """A Homeport that caches two upstreams: Debian's docker-registry as Docker Hub, and another Homeport."""

    def __init__(self, folder: Path, layout: Layout, stack: ExitStack, *, tls: bool) -> None:
        self._hub = DockerRegistry.start(_made(folder / "hub"), tls=True, names=(HUB_ADDRESS.partition(":")[0],))
        stack.callback(self._hub.stop)
        self._quay = Homeport(_made(folder / "quay"))
        certificate = Authority(self._quay.folder).issue(hosts=("127.0.0.1", "localhost", QUAY))
        files = {"certificate": str(certificate.certificate), "key": str(certificate.key)}
        self._quay.start({"server": {"tls": files}, "access": {"anonymous": ["pull", "push"]}})
        stack.callback(self._quay.kill)
        ports = {HUB_ADDRESS: _port(self._hub.host), f"{QUAY}:443": _port(self._quay.host)}
        self.proxy = stack.enter_context(NamingProxy(ports))
        self.authorities = [str(self._hub.ca), str(certificate.ca)]
        trusted = folder / "authorities.pem"
        trusted.write_text("".join(Path(file).read_text() for file in self.authorities))
        #: A node's own way to the upstreams.
        self.world: Mapping[str, str] = {"HTTPS_PROXY": f"http://{self.proxy.host}", "SSL_CERT_FILE": str(trusted)}
        self.digest = layout.digest
        pushing = Sandbox(folder / "pushing")
        for host, image in ((self._hub.host, HUB_IMAGE), (self._quay.host, QUAY_IMAGE)):
            to = f"docker://{host}/{image}:1"
            access = ("--dest-no-creds", "--dest-tls-verify=false")
            pushing.run(need("skopeo"), "copy", "--all", *access, f"oci:{layout.folder}:1", to)
        self.server = Homeport(_made(folder / "homeport"))
        self.server.start(self.config(), tls=tls)
        stack.callback(self.server.kill)

    def config(self) -> Config:
        return {
            "client": {"proxy": f"http://{self.proxy.host}", "ca": self.authorities},
            "cache": {
                "upstreams": [HUB, QUAY],
                "networks": ["127.0.0.0/8"],
                "listen": f"127.0.0.1:{free_port()}",
                "fresh_for": 0,
            },
        }

    def files(self, which: str) -> dict[str, str]:
        """What `homeport mirror client-config` prints for such a node, by the path that it names."""
        command = [sys.executable, "-m", "homeport", "mirror", "client-config", which, "--json"]
        command += ["--config", str(self.server.folder / "homeport.yaml"), "--url", self.server.url]
        command += ["--ca", str(self.server.ca)] if self.server.ca else []
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return {file["path"]: file["content"] for file in json.loads(done.stdout)["files"]}

    def stop_upstreams(self) -> None:
        """They are gone, and with them every way to their images but ours."""
        self._hub.stop()
        self._quay.stop()


class Node(Protocol):
    """An engine or a program that pulls through a Homeport."""

    #: The images that its settings make come through it.
    images: tuple[str, ...]

    def pull(self, reference: str) -> set[str]:
        """Pull it by its upstream's name; the digests that it is known by now."""

    def forget(self, reference: str) -> None:
        """Remove the image, so that a pull has all of it to fetch."""


class DockerNode:
    """An engine that `registry-mirrors` leads to Homeport and, where it reads hosts.toml, that as well."""

    def __init__(self, docker: Docker, *images: str) -> None:
        self.docker = docker
        self.images = images

    def pull(self, reference: str) -> set[str]:
        return {digest_in(self.docker.run("pull", reference))}

    def forget(self, reference: str) -> None:
        self.docker.forget(reference)


class PodmanNode:
    """podman or buildah, with a drop-in for its registries.conf."""

    images = BOTH

    def __init__(self, program: str, sandbox: Sandbox, behind: Behind) -> None:
        self._program = need(program)
        self._sandbox = sandbox
        (content,) = behind.files("podman").values()
        with (sandbox.folder / "registries.conf").open("a") as file:
            file.write(content)

    def pull(self, reference: str) -> set[str]:
        self._run("pull", f"docker://{reference}")
        return {line for line in self._run("images", "--digests", "--no-trunc").split() if line.startswith("sha256:")}

    def forget(self, reference: str) -> None:
        self._run("rmi", "--force", reference)

    def _run(self, *arguments: str) -> str:
        return self._sandbox.run(self._program, *arguments)


class ContainerdNode:
    """containerd's own client, with a folder of hosts.toml files."""

    images = BOTH

    def __init__(self, containerd: Containerd, sandbox: Sandbox, behind: Behind) -> None:
        self._command = (need("ctr"), "--address", str(containerd.socket))
        self._sandbox = sandbox
        self._hosts = sandbox.folder / "certs.d"
        _write(behind.files("containerd"), "/etc/containerd/certs.d", self._hosts)

    def pull(self, reference: str) -> set[str]:
        self._run("images", "pull", "--hosts-dir", self._hosts, reference)
        return {digest_in(self._run("images", "ls", f"name=={reference}"))}

    def forget(self, reference: str) -> None:
        self._run("images", "rm", "--sync", reference)

    def _run(self, *arguments: str | Path) -> str:
        return self._sandbox.run(*self._command, *arguments)


class BuildkitNode:
    """buildkitd, which gets an image when something is built on it."""

    images = BOTH

    def __init__(self, buildkitd: Buildkitd, sandbox: Sandbox) -> None:
        self._command = (need("buildctl"), "--addr", f"unix://{buildkitd.socket}")
        self._sandbox = sandbox

    def pull(self, reference: str) -> set[str]:
        (self._sandbox.folder / "Dockerfile").write_text(f"FROM {reference}\nCOPY Dockerfile /\n")
        given = ("--local", "context=.", "--local", "dockerfile=.", "--progress", "plain")
        return digests_in(self._run("build", "--frontend", "dockerfile.v0", *given))

    def forget(self, _reference: str) -> None:
        self._run("prune", "--all")

    def _run(self, *arguments: str) -> str:
        return self._sandbox.run(*self._command, *arguments)


@contextmanager
def behind(folder: Path, layout: Layout, *, tls: bool = False) -> Iterator[Behind]:
    """Everything that is not the node."""
    with ExitStack() as stack:
        yield Behind(folder, layout, stack, tls=tls)


@contextmanager
def node(name: str, behind: Behind, folder: Path, world: Mapping[str, str] = NOWHERE) -> Iterator[Node]:
    """The node of this name, whose own way to the world is `world`."""
    sandbox = Sandbox(folder / name)
    sandbox.environment |= world
    match name:
        case "debian-docker" | "docker":
            engine = _engine(name, behind, folder / "etc")
            with _running(engine, world):
                docker = Docker(name, engine, sandbox, Path())
                images = BOTH if name == "docker" else BOTH[:1]
                yield DockerNode(docker, *images)
        case "ctr":
            containerd = Containerd()
            with _running(containerd, world):
                yield ContainerdNode(containerd, sandbox, behind)
        case "buildkit":
            (content,) = behind.files("buildkit").values()
            buildkitd = Buildkitd(content)
            with _running(buildkitd, world):
                yield BuildkitNode(buildkitd, sandbox)
        case _:
            yield PodmanNode(name, sandbox, behind)


def _engine(name: str, behind: Behind, folder: Path) -> DockerEngine:
    files = behind.files("docker")
    engine = DockerEngine(
        {"docker": "dockerd"}.get(name, "debian-dockerd"), json.loads(files.pop("/etc/docker/daemon.json"))
    )
    _write(files, "/etc/docker", _made(folder))
    engine.replaced = {"/etc/docker": folder}
    return engine


@contextmanager
def _running(daemon: Daemon, world: Mapping[str, str]) -> Iterator[None]:
    daemon.environment = {**os.environ, **world}
    daemon.start()
    try:
        yield
    finally:
        daemon.stop()


def _write(files: Mapping[str, str], root: str, folder: Path) -> None:
    """Put the files below `folder` that are meant to be below `root`."""
    for path, content in files.items():
        place = folder / Path(path).relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)


def _port(host: str) -> int:
    return int(host.rpartition(":")[2])


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return folder
