"""What people do with docker beyond a push and a pull, on both engines."""

import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.http.watching import eventually
from tests.real.clients import ClientFailedError, Docker, digest_in
from tests.real.conftest import Clients
from tests.real.proxies import CuttingProxy
from tests.real.registries import Registry

pytestmark = pytest.mark.real

MIB = 1024 * 1024


@pytest.fixture(params=["debian-docker", "docker"])
def docker(request: pytest.FixtureRequest, clients: Clients) -> Docker:
    client = clients[request.param]
    assert isinstance(client, Docker)
    return client


def test_a_wrong_password_is_refused_at_login(docker: Docker, login_registry: Registry) -> None:
    with pytest.raises(ClientFailedError, match=r"(?i)unauthorized|denied|401"):
        docker.run("login", login_registry.host, "--username", "writer", "--password-stdin", stdin="not-the-password")


def test_who_may_only_pull_is_told_so_when_pushing(docker: Docker, login_registry: Registry) -> None:
    docker.push(login_registry, "shared/image")
    reader = replace(login_registry, user="reader")

    assert docker.pull(reader, "shared/image")
    with pytest.raises(ClientFailedError, match=r"(?i)denied|unauthorized|insufficient"):
        docker.push(reader, "shared/image")


def test_who_pushes_another_image_under_an_immutable_tag_is_told_so_at_once(
    docker: Docker, login_registry: Registry, tmp_path: Path
) -> None:
    reference = login_registry.reference(f"fixed/{tmp_path.name.lower().replace('_', '-')}")
    docker.login(login_registry)
    docker.build(reference)
    pushed = digest_in(docker.run("push", reference))
    assert digest_in(docker.run("push", reference)) == pushed  # The same again.
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY Dockerfile /\n")
    docker.run("build", "--tag", reference, tmp_path)
    logged = len(login_registry.server.log)

    with pytest.raises(ClientFailedError, match=r": This tag is immutable: .* \(1 by \* \(fixed/\*\*\)\)\.\n"):
        docker.run("push", reference)

    def refusals() -> int:
        return login_registry.server.log[logged:].count(" status=403 ")

    assert eventually(lambda: refusals() > 0)
    assert refusals() == 1, "it was tried again"


def test_without_a_login_a_private_image_is_not_to_be_had(docker: Docker, login_registry: Registry) -> None:
    docker.push(login_registry, "private/image")
    docker.run("logout", login_registry.host)

    with pytest.raises(ClientFailedError, match=r"(?i)denied|unauthorized|authentication|authorization"):
        docker.run("pull", login_registry.reference("private/image"))


def test_a_layer_that_the_registry_has_is_mounted_and_not_sent_again(docker: Docker, login_registry: Registry) -> None:
    docker.push(login_registry, "mount/first")
    source, target = (login_registry.reference(f"mount/{name}") for name in ("first", "second"))
    docker.run("tag", source, target)

    assert re.search(r"Mounted from mount/first|Layer already exists", docker.run("push", target))
    assert login_registry.digest("mount/second") == login_registry.digest("mount/first")


def test_what_is_pulled_has_the_layers_that_were_built(docker: Docker, login_registry: Registry) -> None:
    reference = login_registry.reference("identity/image")
    docker.push(login_registry, "identity/image")
    built = layers(docker, reference)

    docker.pull(login_registry, "identity/image")

    assert layers(docker, reference) == built


@pytest.mark.parametrize("name", ["debian-docker", "docker", "ctr"])
def test_a_pull_that_is_cut_goes_on_where_it_was(
    name: str, login_registry: Registry, clients: Clients, tmp_path: Path
) -> None:
    builder, client = clients["debian-docker"], clients[name]
    assert isinstance(builder, Docker)
    repository = f"cut/{name}"
    pushed = push_large(builder, login_registry, repository, tmp_path)
    logged = len(login_registry.server.log)

    port = int(login_registry.host.rpartition(":")[2])
    with CuttingProxy(port, cut_after_bytes=8 * MIB, cuts=2) as proxy:
        pulled = client.pull(replace(login_registry, host=proxy.host), repository)
        assert proxy.cuts_left <= 0

    assert pushed in pulled
    assert " status=206 " in login_registry.server.log[logged:], "it started from the beginning again"


def layers(docker: Docker, reference: str) -> list[str]:
    found: list[str] = json.loads(docker.run("image", "inspect", "--format", "{{json .RootFS.Layers}}", reference))
    return found


def push_large(docker: Docker, registry: Registry, repository: str, folder: Path) -> str:
    """Push an image with a layer of 32 MiB that does not get smaller when it is compressed."""
    (folder / "large").write_bytes(os.urandom(32 * MIB))
    (folder / "Dockerfile").write_text('FROM scratch\nCOPY large /\nCMD ["/large"]\n')
    docker.login(registry)
    reference = registry.reference(repository)
    docker.run("build", "--tag", reference, folder)
    pushed = docker.run("push", reference)
    docker.forget(reference)
    return digest_in(pushed)
