"""Images through every client, with and without login, over HTTP and TLS: what one pushes every other pulls."""

import pytest

from tests.real.clients import Skopeo
from tests.real.conftest import CLIENTS, Clients
from tests.real.layouts import Layout
from tests.real.registries import Registry

pytestmark = pytest.mark.real


@pytest.mark.parametrize("name", CLIENTS)
def test_a_client_pulls_what_it_pushed(name: str, registry: Registry, clients: Clients) -> None:
    pushed = clients[name].push(registry, f"own/{name}")

    assert registry.digest(f"own/{name}") == pushed
    assert pushed in clients[name].pull(registry, f"own/{name}")


@pytest.mark.parametrize("pusher", CLIENTS)
def test_every_client_pulls_what_one_pushed(pusher: str, login_registry: Registry, clients: Clients) -> None:
    pushed = clients[pusher].push(login_registry, f"team/{pusher}")

    for name in CLIENTS:
        assert pushed in clients[name].pull(login_registry, f"team/{pusher}"), name


def test_all_platforms_of_an_image_are_copied_with_their_digests(
    registry: Registry, clients: Clients, layout: Layout
) -> None:
    skopeo = clients["skopeo"]
    assert isinstance(skopeo, Skopeo)

    assert skopeo.push(registry, "all/source") == layout.digest
    assert skopeo.copy_within(registry, "all/source", "all/target") == layout.digest
    assert skopeo.pull(registry, "all/target") == {layout.digest}
