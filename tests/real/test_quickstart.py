"""The README's quick start as a new user tries it: `homeport up`, then the docker commands that it prints."""

import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.cli.tools import Terminal
from tests.real.clients import Docker
from tests.real.conftest import Clients
from tests.support.processes import READY

pytestmark = pytest.mark.real

PASSWORD = re.compile(r"its password is +(\S+)")


@contextmanager
def up(folder: Path, listen: str) -> Iterator[str]:
    """`homeport up` on a terminal: what it shows. Ended with Ctrl-C."""
    terminal = Terminal(folder, "up", "--listen", listen)
    try:
        yield terminal.wait_for("Ctrl-C stops it").replace("\r", "")
        terminal.process.send_signal(signal.SIGINT)
        assert terminal.end() == 0
    finally:
        terminal.process.kill()


@pytest.mark.parametrize("name", ["debian-docker", "docker"])
def test_the_commands_that_up_prints(name: str, clients: Clients, tmp_path: Path) -> None:
    docker = clients[name]
    assert isinstance(docker, Docker)
    docker.build("busybox")  # in place of the pull from Docker Hub, which no test asks

    with up(tmp_path, "127.0.0.1:0") as screen:
        host = READY.findall(screen)[0][1]
        assert [line.strip() for line in screen.splitlines() if line.startswith("  docker ")] == [
            f"docker login {host} -u admin",
            f"docker pull busybox && docker tag busybox {host}/busybox",
            f"docker push {host}/busybox",
            f"docker pull {host}/busybox",
        ]
        docker.run("login", host, "-u", "admin", "--password-stdin", stdin=PASSWORD.findall(screen)[0])
        docker.run("tag", "busybox", f"{host}/busybox")
        docker.run("push", f"{host}/busybox")
        docker.forget(f"{host}/busybox")
        docker.run("pull", f"{host}/busybox")

    docker.forget(f"{host}/busybox")
    with up(tmp_path, host):
        docker.run("pull", f"{host}/busybox")
