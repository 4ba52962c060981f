"""Real nodes behind the cache: each pulls through it, also when upstream is not there any more."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import nodes
from tests.real.clients import ClientFailedError, Docker
from tests.real.conftest import Clients
from tests.real.layouts import Layout
from tests.real.nodes import HUB, HUB_IMAGE, QUAY, QUAY_IMAGE, Behind

pytestmark = pytest.mark.real

#: Docker Hub's own images have a name of one part as well.
SHORT = f"{HUB}/{HUB_IMAGE.partition('/')[2]}"


@pytest.fixture
def behind(tmp_path: Path, layout: Layout) -> Iterator[Behind]:
    """A Homeport with two upstreams, which end with the test."""
    with nodes.behind(tmp_path, layout) as found:
        yield found


@pytest.mark.parametrize("name", ["debian-docker", "docker", "podman", "buildah", "ctr", "buildkit"])
def test_a_node_pulls_through_and_again_when_upstream_is_gone(name: str, behind: Behind, tmp_path: Path) -> None:
    with nodes.node(name, behind, tmp_path) as node:
        for image in node.images:
            assert behind.digest in node.pull(image)
            node.forget(image)
        behind.stop_upstreams()
        for image in node.images:
            assert behind.digest in node.pull(image)
    assert set(behind.proxy.asked) <= {nodes.HUB_ADDRESS, f"{QUAY}:443"}


@pytest.mark.parametrize("name", ["ctr", "buildkit"])
def test_a_node_trusts_the_authority_that_its_file_names(name: str, layout: Layout, tmp_path: Path) -> None:
    with nodes.behind(tmp_path, layout, tls=True) as behind, nodes.node(name, behind, tmp_path) as node:
        for image in node.images:
            assert behind.digest in node.pull(image)


@pytest.mark.parametrize("name", ["debian-docker", "docker", "podman", "ctr", "buildkit"])
def test_a_node_asks_upstream_itself_when_homeport_does_not_answer(name: str, behind: Behind, tmp_path: Path) -> None:
    with nodes.node(name, behind, tmp_path, behind.world) as node:
        behind.server.kill()
        for image in node.images:
            assert behind.digest in node.pull(image)


@pytest.mark.parametrize("name", ["debian-docker", "docker"])
def test_the_cache_is_pulled_from_by_its_own_name(name: str, behind: Behind, clients: Clients) -> None:
    """Without any settings of the node."""
    docker = clients[name]
    assert isinstance(docker, Docker)
    references = [f"{behind.server.host}/{image}:1" for image in (f"{HUB}/{HUB_IMAGE}", SHORT, f"{QUAY}/{QUAY_IMAGE}")]
    for reference in references:
        assert behind.digest in docker.run("pull", reference)
        docker.forget(reference)
    behind.stop_upstreams()
    for reference in references:
        assert behind.digest in docker.run("pull", reference)
        docker.forget(reference)


def test_nobody_pushes_under_an_upstreams_name(behind: Behind, clients: Clients) -> None:
    docker = clients["docker"]
    assert isinstance(docker, Docker)
    host = behind.server.host
    for user in ("writer", "admin"):
        docker.run("login", host, "--username", user, "--password-stdin", stdin=behind.server.passwords[user])
        for image in (f"{HUB}/{HUB_IMAGE}", f"{QUAY}/new/image"):
            docker.build(f"{host}/{image}:1")
            with pytest.raises(ClientFailedError, match="another registry"):
                docker.run("push", f"{host}/{image}:1")
    docker.build(f"{host}/team/own:1")
    docker.run("push", f"{host}/team/own:1")
