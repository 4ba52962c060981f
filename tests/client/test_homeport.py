"""Our client and our server: tokens, mounts, referrers by the API, and copies to and from another make."""

from collections.abc import AsyncIterator

import pytest

from homeport.client.copying import copy
from homeport.client.credentials import Credential, FixedCredentials
from homeport.client.errors import LoginFailed, NotFound, Refused
from homeport.client.registries import Registries
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings
from homeport.client.uploads import Outcome
from tests.client.clocks import QuickClock
from tests.client.images import Factory, pull, push
from tests.client.servers import DockerRegistry
from tests.support.processes import Homeport


def login(homeport: Homeport, user: str) -> FixedCredentials:
    return FixedCredentials({homeport.host: Credential(user, homeport.passwords[user])})


@pytest.fixture(params=[False, True], ids=["http", "tls"])
async def registries(
    homeport: Homeport, clock: QuickClock, request: pytest.FixtureRequest
) -> AsyncIterator[Registries]:
    """The server runs; the administrator is logged in."""
    homeport.start(tls=request.param)
    settings = ClientSettings(ca=(homeport.ca,) if homeport.ca else ())
    async with Registries(settings, login(homeport, "admin"), clock) as registries:
        yield registries


async def repository(registries: Registries, homeport: Homeport, name: str) -> RemoteRepository:
    return RemoteRepository(await registries.remote(homeport.host), name)


async def test_everything_there_and_back(registries: Registries, homeport: Homeport, clock: QuickClock) -> None:
    app = await repository(registries, homeport, "team/app")
    made = Factory()
    image = made.index([made.image(0, 1, 5_000_000), made.image()])
    signature = made.image(3, subject=image)
    await push(app, image, "1.0")
    await push(app, signature)
    pulled = await pull(app, "1.0")
    assert all(pulled[blob.blob.digest] == blob.data for blob in image.all_blobs)
    assert [tag async for tag in app.tags()] == ["1.0"]  # no fallback tag: the server knows referrers
    assert [item.descriptor for item in await app.referrers(image.digest)] == [signature.pushed.descriptor]
    assert [name async for name in app.remote.catalog()] == ["team/app"]
    other = await repository(registries, homeport, "team/other")
    report = await copy(app, "1.0", other, "1.0", referrers=True, mount_from="team/app")
    assert set(report.blobs) == {Outcome.MOUNTED}
    assert await pull(other, "1.0") == pulled
    assert await other.delete_manifest("1.0")
    assert await other.head_manifest("1.0") is None
    assert clock.slept == []


async def test_from_and_to_another_make(
    registries: Registries, homeport: Homeport, docker_registry: DockerRegistry
) -> None:
    ours = await repository(registries, homeport, "team/app")
    theirs = RemoteRepository(await registries.remote(docker_registry.host), "team/app")
    made = Factory()
    image = made.index([made.image(2_000_000), made.image()])
    signature = made.image(3, subject=image.children[0])
    await push(theirs, image, "1.0")
    await push(theirs, signature)
    for source, destination in ((theirs, ours), (ours, RemoteRepository(theirs.remote, "back/app"))):
        await copy(source, "1.0", destination, "1.0", referrers=True)
        assert await pull(destination, "1.0") == await pull(theirs, "1.0")
        referrers = await destination.referrers(image.children[0].digest)
        assert [item.descriptor.digest for item in referrers] == [signature.digest]
        assert referrers[0].artifact_type == "application/example"


async def test_rights(homeport: Homeport, clock: QuickClock) -> None:
    homeport.start()
    image = Factory().image()
    for user, may_push, may_pull in (("writer", True, True), ("reader", False, True), ("stranger", False, False)):
        async with Registries(ClientSettings(), login(homeport, user), clock) as registries:
            app = await repository(registries, homeport, "team/app")
            if may_push:
                await push(app, image, "1.0")
            else:
                with pytest.raises(Refused):
                    await app.put_blob(Factory().blob(7))
            if may_pull:
                assert await pull(app, "1.0")
            else:
                with pytest.raises(Refused):
                    await app.get_manifest("1.0")
    async with Registries(ClientSettings(), FixedCredentials(), clock) as registries:
        with pytest.raises((LoginFailed, NotFound)):
            await (await repository(registries, homeport, "team/app")).get_manifest("1.0")
    wrong = FixedCredentials({homeport.host: Credential("writer", "wrong password")})
    async with Registries(ClientSettings(), wrong, clock) as registries:
        with pytest.raises(LoginFailed, match="does not accept the login"):
            await (await registries.remote(homeport.host)).ping()
