"""Our client against a real registry of another make: Debian's docker-registry, open, and with login and TLS."""

import pytest

from homeport.client.copying import copy
from homeport.client.credentials import Credential, FixedCredentials
from homeport.client.errors import ConnectionFailed, LoginFailed, NotFound
from homeport.client.registries import Registries
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings, HostSettings
from homeport.client.transport import Transport
from homeport.client.uploads import Outcome
from homeport.oci.digest import Digest
from tests.client.clocks import QuickClock
from tests.client.images import Factory, pull, push
from tests.client.servers import PASSWORD, USER, DockerRegistry


@pytest.fixture
def repository(docker_registry: DockerRegistry, transport: Transport) -> RemoteRepository:
    return RemoteRepository(Remote(docker_registry.host, transport), "team/app")


async def test_what_is_pushed_is_pulled_with_the_same_bytes(repository: RemoteRepository) -> None:
    made = Factory()
    image = made.index([made.image(0, 1, 5_000_000), made.image()])
    await push(repository, image, "1.0")
    pulled = await pull(repository, "1.0")
    assert pulled[image.digest] == image.pushed.manifest.data
    assert all(pulled[blob.blob.digest] == blob.data for blob in image.all_blobs)
    assert await repository.head_manifest("1.0") == image.pushed.descriptor
    assert await repository.head_manifest("2.0") is None
    with pytest.raises(NotFound, match="MANIFEST_UNKNOWN"):
        await repository.get_manifest("2.0")


async def test_a_blob_is_present_or_mounted_or_sent(repository: RemoteRepository) -> None:
    blob = Factory().blob(3_000_000)
    other = RemoteRepository(repository.remote, "team/other")
    assert await repository.put_blob(blob) is Outcome.SENT
    assert await repository.put_blob(blob) is Outcome.PRESENT
    assert await other.put_blob(blob, mount_from="team/app") is Outcome.MOUNTED
    third = RemoteRepository(repository.remote, "team/third")
    assert await third.put_blob(blob, mount_from="team/empty") is Outcome.SENT


async def test_tags_and_catalog_are_read_over_all_pages(repository: RemoteRepository) -> None:
    image = Factory().image(1)
    await push(repository, image, "t0")
    for number in range(1, 12):
        await repository.put_manifest(image.pushed, f"t{number}")
    for name in ("team/other", "team/third"):
        await push(RemoteRepository(repository.remote, name), image, "x")
    assert sorted([tag async for tag in repository.tags()]) == sorted(f"t{number}" for number in range(12))
    assert [name async for name in repository.remote.catalog()] == ["team/app", "team/other", "team/third"]
    paged = repository.remote.pages("/v2/_catalog?n=2", "repositories", ())  # this version knows no pages of tags
    assert [len(page) async for page in paged] == [2, 1]


async def test_what_is_deleted_is_gone(repository: RemoteRepository) -> None:
    image = Factory().image()
    await push(repository, image, "1.0")
    assert await repository.delete_manifest(image.digest)
    assert not await repository.delete_manifest(image.digest)
    assert await repository.head_manifest(image.digest) is None
    assert await repository.delete_blob(image.blobs[0].blob.digest)
    assert not await repository.has_blob(image.blobs[0].blob.digest)
    assert await repository.blob_size(image.blobs[0].blob.digest) is None
    kept = image.blobs[1].blob
    assert await repository.blob_size(kept.digest) == kept.size


async def test_referrers_are_kept_under_the_fallback_tag_where_there_is_no_api(repository: RemoteRepository) -> None:
    made = Factory()
    image = made.image()
    signatures = [made.image(10, subject=image) for _ in range(2)]
    for item in (image, *signatures, *signatures):
        await push(repository, item)
    found = await repository.referrers(image.digest)
    assert [item.descriptor for item in found] == [item.pushed.descriptor for item in signatures]
    assert {item.artifact_type for item in found} == {"application/example"}
    assert found[0].annotations == {"org.example": "yes"}
    assert len(await repository.referrers(image.digest, "application/example")) == 2
    assert await repository.referrers(image.digest, "application/other") == []
    assert await repository.referrers(Digest.of(b"nothing")) == []


async def test_a_registry_with_tls_and_login_needs_both(
    private_docker_registry: DockerRegistry, docker_registry: DockerRegistry, clock: QuickClock
) -> None:
    host = private_docker_registry.host
    login = FixedCredentials({host: Credential(USER, PASSWORD)})
    wrong = FixedCredentials({host: Credential(USER, "wrong password")})
    ca = private_docker_registry.ca
    assert ca is not None
    async with Registries(ClientSettings(), login, clock) as registries:
        with pytest.raises(ConnectionFailed, match="is not trusted"):
            await (await registries.remote(host)).ping()
    trusting = ClientSettings(hosts={host: HostSettings(ca=ca)})
    async with Registries(trusting, FixedCredentials(), clock) as registries:
        with pytest.raises(LoginFailed, match="no login is known"):
            await (await registries.remote(host)).ping()
    async with Registries(trusting, wrong, clock) as registries:
        with pytest.raises(LoginFailed) as refusal:
            await (await registries.remote(host)).ping()
        assert "wrong password" not in str(refusal.value)
    for settings in (trusting, ClientSettings(ca=(ca,)), ClientSettings(hosts={host: HostSettings(insecure=True)})):
        async with Registries(settings, login, clock) as registries:
            await (await registries.remote(host)).ping()
    assert clock.slept == []


async def test_copy_between_two_registries(
    private_docker_registry: DockerRegistry, docker_registry: DockerRegistry, clock: QuickClock
) -> None:
    host = private_docker_registry.host
    assert private_docker_registry.ca is not None
    settings = ClientSettings(ca=(private_docker_registry.ca,))
    login = FixedCredentials({host: Credential(USER, PASSWORD)})
    made = Factory()
    image = made.index([made.image(0, 3_000_000), made.image(5), made.index([made.image()])])
    async with Registries(settings, login, clock) as registries:
        source = RemoteRepository(await registries.remote(docker_registry.host), "team/app")
        destination = RemoteRepository(await registries.remote(host), "copy/of/app")
        await push(source, image, "1.0")
        report = await copy(source, "1.0", destination, "1.0-copy")
        assert report.digest == image.digest
        assert report.blobs == {Outcome.SENT: len(image.all_blobs)}
        assert report.bytes_sent == sum(len(blob.data) for blob in image.all_blobs)
        assert await pull(destination, "1.0-copy") == await pull(source, "1.0")
        again = await copy(source, image.digest, destination, "again")
        assert again.blobs == {}
        assert again.bytes_sent == 0
        beside = RemoteRepository(source.remote, "team/beside")
        mounted = await copy(source, "1.0", beside, "1.0", mount_from=source.name)
        assert mounted.blobs == {Outcome.MOUNTED: len(image.all_blobs)}
