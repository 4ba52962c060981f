"""What people see whose push does not fit into a quota."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.tools import CommandLine
from tests.http.watching import eventually
from tests.real.clients import ClientFailedError, Docker
from tests.real.conftest import OPEN, Clients
from tests.real.registries import Registry
from tests.support.processes import Homeport

pytestmark = pytest.mark.real

MIB = 1024 * 1024
#: docker tries five times, the longer the later; an answer that it understands ends it at once.
SECONDS_MAX = 15


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    server = Homeport(tmp_path_factory.mktemp("limited"))
    quota = {"repositories": "team/**", "bytes": 6 * MIB}
    server.start({**OPEN, "quotas": [quota]}, verb="up")
    words = ("quota", "list", "--config", str(server.folder / "homeport.yaml"), "--data", str(server.data), "--json")
    cli = CommandLine(server.folder)
    assert eventually(lambda: all(row["counted"] for row in cli.run_here(*words).json))
    yield Registry(server, server.host)
    server.stop()


@pytest.mark.parametrize("name", ["debian-docker", "docker"])
def test_docker_says_why_and_does_not_try_again(name: str, limited: Registry, clients: Clients, tmp_path: Path) -> None:
    docker = clients[name]
    assert isinstance(docker, Docker)

    def push(repository: str, mebibytes: int) -> str:
        (tmp_path / "large").write_bytes(os.urandom(mebibytes * MIB))
        (tmp_path / "Dockerfile").write_text('FROM scratch\nCOPY large /\nCMD ["/large"]\n')
        reference = limited.reference(repository)
        docker.run("build", "--tag", reference, tmp_path)
        try:
            return docker.run("push", reference)
        finally:
            docker.forget(reference)

    repository = f"team/{name}"
    for mebibytes in (40, 7):  # Cut on the way; refused when all of it is there.
        begun = time.monotonic()
        with pytest.raises(ClientFailedError, match=r"no room left.*team/\*\*: \d+ of 6291456 bytes are used\)\.\n"):
            push(repository, mebibytes)
        assert time.monotonic() - begun < SECONDS_MAX
    assert list((limited.server.data / "uploads").iterdir()) == []
    push(f"elsewhere/{name}", 7)
    push(repository, 2)
