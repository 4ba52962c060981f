"""What runs on real engines is known, and stays known when they do not answer."""

from __future__ import annotations

import asyncio
import io
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from homeport.db.sqlite import SqliteDatabase
from homeport.events import SYSTEM
from homeport.garbage import policy
from homeport.garbage.guard import ClockGuard
from homeport.garbage.policy import Brisk
from homeport.garbage.sweep import Sweeper
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry.registry import Registry, Rules
from homeport.registry.retention import KeepRule, Retention
from homeport.storage.filesystem import FilesystemStore
from tests.cli.tools import CommandLine
from tests.http.watching import eventually
from tests.http.wire import Client
from tests.real.clients import Docker, Sandbox, digest_in
from tests.real.conftest import OPEN
from tests.real.engines import DockerEngine
from tests.real.layouts import Layout
from tests.registry.world import MovableClock
from tests.support.components import need
from tests.support.processes import Homeport

pytestmark = [pytest.mark.real, pytest.mark.long]

SECONDS_MAX = 60.0
#: Where a container needs no network of its own.
ON_THE_MACHINE = ("--network", "host")


@pytest.fixture
def served(homeport: Homeport) -> Homeport:
    homeport.start(OPEN)
    return homeport


@pytest.fixture
def cli(served: Homeport) -> CommandLine:
    return CommandLine(served.folder)


def docker_on(engine: DockerEngine, folder: Path, program: str = "docker") -> Docker:
    context = folder / "context"
    context.mkdir()
    (context / "busybox").write_bytes(need("busybox").resolve().read_bytes())
    (context / "busybox").chmod(0o755)
    return Docker(program, engine, Sandbox(folder / "docker"), context)


def push(docker: Docker, folder: Path, reference: str, content: str) -> str:
    """Build an image that does nothing for long, and push it; its digest."""
    (folder / "context/Dockerfile").write_text(
        f'FROM scratch\nCOPY busybox /bin/busybox\nLABEL content={content}\nCMD ["/bin/busybox", "sleep", "600"]\n'
    )
    docker.build(reference)
    return digest_in(docker.run("push", reference))


def configure(homeport: Homeport, **urls: str) -> None:
    """Let these be the engines, of those who read the configuration from now on."""
    lines = [f"    {name}: {{url: '{url}'}}\n" for name, url in urls.items()]
    with (homeport.folder / "homeport.yaml").open("a") as file:
        file.write("in_use:\n  refresh_seconds: 5\n  engines:\n" + "".join(lines))


def in_use(cli: CommandLine, *words: str, code: int = 0) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cli.run("in-use", "--data", "data", "--json", *words, code=code).json
    return found


def whys(rows: list[dict[str, Any]], digest: str) -> list[str]:
    return [row["why"] for row in rows if row["digest"] == digest]


def clean_up_as_much_as_can_be(data: Path) -> set[str]:
    """Keep no tag and nothing untagged, forty days from now, when nobody relies on a promise; the tags that went."""
    return asyncio.run(_clean_up(data))


async def _clean_up(data: Path) -> set[str]:
    clock = MovableClock()
    registry = Registry(SqliteDatabase(data / "homeport.db", clock), FilesystemStore(data, clock), clock)
    nothing = KeepRule("**", always=("no-tag-is-called-so",))
    registry.rules = Rules(untagged_seconds=0.0, jitter_seconds=0.0, retention=Retention(keep=(nothing,)))
    pace, guard = Brisk(clock, lambda: False), ClockGuard(registry)
    sweeper = Sweeper(registry, Log(io.StringIO(), clock), guard, pace)
    assert await guard.stopped() is None
    clock.ahead = 40 * 86_400.0
    found, _ = await policy.removals(registry, pace)

    async def always() -> bool:
        return True

    await policy.remove(registry, pace, SYSTEM, found, registry.rules.retention, clock.now(), always)
    for _ in range(3):
        await sweeper.sweep()
        clock.ahead += registry.rules.condemned_seconds
    await registry.db.close()
    await registry.blobs.close()
    return {f"{removal.repository}:{decision.tag.name}" for removal in found for decision in removal.tags}


def is_whole(homeport: Homeport, repository: str, digest: str) -> bool:
    """Whether the server has the image with all its parts."""
    server = Client(homeport.url)
    found = server.get(f"/v2/{repository}/manifests/{digest}")
    if found.status == 404:
        return False
    parts = [found.json["config"], *found.json["layers"]]
    bodies = [server.get(f"/v2/{repository}/blobs/{part['digest']}").body for part in parts]
    return [Digest.of(body) for body in bodies] == [part["digest"] for part in parts]


@pytest.fixture
def running_swarm(swarm: DockerEngine, tmp_path: Path) -> Iterator[Docker]:
    """The docker command on the Swarm; the service is gone at the end."""
    docker = docker_on(swarm, tmp_path)
    yield docker
    if "app" in docker.run("service", "ls", "--format", "{{.Name}}").split():
        docker.run("service", "rm", "app")
    assert eventually(lambda: not docker.run("container", "ls", "--quiet"), SECONDS_MAX)


def test_the_image_of_a_service_and_its_previous_one_are_in_use(
    served: Homeport, cli: CommandLine, swarm: DockerEngine, running_swarm: Docker, tmp_path: Path
) -> None:
    docker = running_swarm
    one = push(docker, tmp_path, f"{served.host}/team/app:1", "one")
    two = push(docker, tmp_path, f"{served.host}/team/app:2", "two")
    three = push(docker, tmp_path, f"{served.host}/team/other:3", "three")
    unused = push(docker, tmp_path, f"{served.host}/team/other:4", "unused")
    node = docker.run("node", "ls", "--format", "{{.Hostname}}").strip()
    configure(served, swarm=f"unix://{swarm.socket}")

    docker.run("service", "create", "--name", "app", *ON_THE_MACHINE, f"{served.host}/team/app:1")
    docker.run("service", "update", "--image", f"{served.host}/team/app:2", "app")
    docker.run("run", "--detach", "--name", "tool", *ON_THE_MACHINE, f"{served.host}/team/other:3")
    rows = in_use(cli, "--refresh")
    assert f"service app runs it on {node}" in whys(rows, two)
    assert "service app can be rolled back to it" in whys(rows, one)
    assert whys(rows, three) == [f"container tool runs it on {node}"]

    docker.run("container", "rm", "--force", "tool")
    swarm.end()
    ran = cli.run("in-use", "--data", "data", "--json", "--refresh", code=1)
    assert "engine swarm has not answered since" in ran.err
    assert "cannot connect" in ran.err
    assert {one, two, three} <= {row["digest"] for row in ran.json}
    assert all("has not answered" in why for why in whys(ran.json, three)), "it does not know better"

    assert clean_up_as_much_as_can_be(served.data) == {"team/other:4"}
    for repository, digest in (("team/app", one), ("team/app", two), ("team/other", three)):
        assert is_whole(served, repository, digest)
    assert not is_whole(served, "team/other", unused)

    swarm.start()
    assert eventually(lambda: "app" in docker.run("service", "ls", "--format", "{{.Name}}"), SECONDS_MAX)
    rows = in_use(cli, "--refresh")
    assert "service app can be rolled back to it" in whys(rows, one)
    assert [row["state"] for row in rows if row["digest"] == three] == ["ran"]

    docker.run("service", "rm", "app")
    assert eventually(lambda: not docker.run("container", "ls", "--quiet"), SECONDS_MAX)
    # Its tasks go a moment after their containers.
    expected = {(one, "ran"), (two, "ran")}
    states: set[tuple[str, str]] = set()

    def has_ended() -> bool:
        nonlocal states
        states = {(row["digest"], row["state"]) for row in in_use(cli, "--refresh") if row["digest"] in (one, two)}
        return states == expected

    assert eventually(has_ended, SECONDS_MAX), states


@pytest.mark.parametrize("name", ["debian-docker", "docker"])
def test_a_container_of_either_engine_is_in_use(
    request: pytest.FixtureRequest, served: Homeport, cli: CommandLine, tmp_path: Path, name: str
) -> None:
    engine = request.getfixturevalue("debian_engine" if name == "debian-docker" else "current_engine")
    docker = docker_on(engine, tmp_path, name)
    first = push(docker, tmp_path, f"{served.host}/team/app:1", "first")
    # It is not started: the current engine wants namespaces that not every machine has.
    docker.run("container", "create", "--name", "tool", *ON_THE_MACHINE, f"{served.host}/team/app:1")
    try:
        second = push(docker, tmp_path, f"{served.host}/team/app:1", "second")
        configure(served, here=f"unix://{engine.socket}")
        rows = in_use(cli, "--refresh")
        assert whys(rows, second) == []
        assert [why.partition(" on ")[0] for why in whys(rows, first)] == ["container tool runs it"]
    finally:
        docker.run("container", "rm", "tool")
    rows = in_use(cli, "--refresh")
    assert [row["state"] for row in rows if row["digest"] == first] == ["ran"]


def test_podman_says_it_in_the_same_words(served: Homeport, cli: CommandLine, layout: Layout, tmp_path: Path) -> None:
    podman, sandbox, socket = need("podman"), Sandbox(tmp_path / "podman"), tmp_path / "podman.sock"
    sandbox.run(podman, "pull", f"oci:{layout.folder}:1")
    image = sandbox.run(podman, "images", "--quiet", "--no-trunc").split()[0]
    reference = f"{served.host}/team/app:1"
    sandbox.run(podman, "tag", image, reference)
    sandbox.run(podman, "push", "--tls-verify=false", "--digestfile", tmp_path / "digest", reference)
    # It remembers the digest of what it pulled; of what it pushed only that of the config, which a manifest names.
    sandbox.run(podman, "rmi", "--all", "--force")
    sandbox.run(podman, "pull", "--tls-verify=false", reference)
    sandbox.run(podman, "create", "--name", "tool", *ON_THE_MACHINE, reference, "/bin/busybox")
    command = ["setpriv", "--pdeathsig", "TERM", str(podman), "system", "service", "--time=0", f"unix://{socket}"]
    service = subprocess.Popen(command, env=sandbox.environment)
    try:
        assert eventually(socket.exists, SECONDS_MAX)
        configure(served, podman=f"unix://{socket}")
        rows = in_use(cli, "--refresh")
    finally:
        service.terminate()
        service.wait(SECONDS_MAX)
        sandbox.run(podman, "rm", "tool")
    (why,) = whys(rows, (tmp_path / "digest").read_text().strip())
    assert why.startswith("container tool runs it on ")


def test_a_running_homeport_asks_by_itself(homeport: Homeport, current_engine: DockerEngine, tmp_path: Path) -> None:
    docker = docker_on(current_engine, tmp_path)
    socket = f"unix://{current_engine.socket}"
    homeport.start({**OPEN, "in_use": {"refresh_seconds": 5, "engines": {"here": {"url": socket}}}}, verb="up")
    cli = CommandLine(homeport.folder)
    digest = push(docker, tmp_path, f"{homeport.host}/team/app:1", "one")
    docker.run("container", "create", "--name", "by-itself", *ON_THE_MACHINE, f"{homeport.host}/team/app:1")
    try:
        assert eventually(lambda: bool(whys(in_use(cli), digest)), 30.0), homeport.log
    finally:
        docker.run("container", "rm", "by-itself")
