"""Copying whole images: what is moved, in which order, what is not, and what is said when something is broken."""

import resource
from collections.abc import AsyncIterator, Sequence

import pytest
from aiohttp import web

from homeport.client.copying import CopyReport, Observer, copy
from homeport.client.errors import BadAnswer, ContentMismatch, CopyFailed, NotFound
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.transport import Transport
from homeport.client.uploads import Outcome
from homeport.oci import mediatype
from homeport.oci.digest import Digest, new_hasher
from homeport.oci.manifest import INDEX_DEPTH_MAX, Descriptor, Role
from tests.client.images import Factory, Image, descriptor, make, pull, push
from tests.client.memory import MemoryRegistry
from tests.client.servers import DockerRegistry, LittleServer, serving


class Notes(Observer):
    """What an observer was told."""

    def __init__(self) -> None:
        self.blobs: list[Digest] = []
        self.positions: dict[Digest, list[int]] = {}
        self.done: dict[Digest, Outcome] = {}

    def planned(self, blobs: Sequence[Descriptor]) -> None:
        self.blobs = [blob.digest for blob in blobs]

    def blob_moved(self, blob: Descriptor, position: int) -> None:
        self.positions.setdefault(blob.digest, []).append(position)

    def blob_done(self, blob: Descriptor, outcome: Outcome) -> None:
        self.done[blob.digest] = outcome


@pytest.fixture
def source(docker_registry: DockerRegistry, transport: Transport) -> RemoteRepository:
    return RemoteRepository(Remote(docker_registry.host, transport), "team/app")


@pytest.fixture
def destination(docker_registry: DockerRegistry, transport: Transport) -> RemoteRepository:
    """In the same registry, but copied to as if it were another one."""
    return RemoteRepository(Remote(docker_registry.host, transport), "copy/app")


async def copied(
    source: RemoteRepository, image: Image, destination: RemoteRepository, *, referrers: bool = False
) -> CopyReport:
    report = await copy(source, image.digest, destination, "1.0", referrers=referrers)
    assert (await destination.get_manifest("1.0")).digest == image.digest
    return report


async def test_progress_is_told(source: RemoteRepository, destination: RemoteRepository) -> None:
    image = Factory().image(3_000_000, 0, 10)
    await push(source, image, "1.0")
    await destination.put_blob(image.blobs[0])
    notes = Notes()
    await copy(source, "1.0", destination, "1.0", observer=notes)
    digests = [blob.blob.digest for blob in image.blobs]
    assert notes.blobs == digests
    assert notes.done == {digests[0]: Outcome.PRESENT, **dict.fromkeys(digests[1:], Outcome.SENT)}
    assert notes.positions[digests[1]][-1] == 3_000_000
    assert notes.positions[digests[1]] == sorted(notes.positions[digests[1]])


async def test_without_a_tag_it_is_there_under_its_digest(
    source: RemoteRepository, destination: RemoteRepository
) -> None:
    image = Factory().image()
    await push(source, image)
    report = await copy(source, image.digest, destination, None)
    assert report.manifests_pushed == 1
    assert (await destination.get_manifest(image.digest)).manifest.data == image.pushed.manifest.data


async def test_what_is_shared_is_copied_once_and_children_come_first(
    source: RemoteRepository, destination: RemoteRepository
) -> None:
    made = Factory()
    shared = made.image()
    # `shared` is a child of the outer index and of the inner one, which comes before it.
    image = made.index([made.index([made.image(), shared]), shared, made.index([shared], mediatype.DOCKER_LIST)])
    await push(source, image, "1.0")
    report = await copied(source, image, destination)
    assert report.manifests_pushed == 5
    assert report.blobs == {Outcome.SENT: 6}
    assert await pull(destination, "1.0") == await pull(source, "1.0")


async def test_signatures_and_what_refers_to_them_follow(
    source: RemoteRepository, destination: RemoteRepository
) -> None:
    made = Factory()
    child = made.image()
    image = made.index([child])
    signature = made.image(10, subject=image)
    of_the_signature = made.image(11, subject=signature)
    of_the_child = made.image(12, subject=child)
    cosign = made.image(13)
    for item, tag in ((image, "1.0"), (signature, None), (of_the_signature, None), (of_the_child, None)):
        await push(source, item, tag)
    await push(source, cosign, f"{child.digest.fallback_tag}.sig")
    await copied(source, image, destination)
    assert await destination.referrers(image.digest) == []
    report = await copied(source, image, destination, referrers=True)
    assert report.manifests_pushed == 7
    for subject, expected in ((image, signature), (signature, of_the_signature), (child, of_the_child)):
        assert [item.descriptor.digest for item in await destination.referrers(subject.digest)] == [expected.digest]
        assert await pull(destination, expected.digest) == await pull(source, expected.digest)
    assert (await destination.get_manifest(f"{child.digest.fallback_tag}.sig")).digest == cosign.digest


async def test_a_foreign_layer_is_never_fetched_from_its_urls(
    source: RemoteRepository, destination: RemoteRepository
) -> None:
    made = Factory()
    blob = made.blob()
    foreign = type(blob)(blob.data, "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")
    image = made.image(foreign=foreign)
    await push(source, image, "1.0")
    report = await copied(source, image, destination)
    assert report.foreign == (foreign.blob.digest,)
    assert not await destination.has_blob(foreign.blob.digest)
    await source.put_blob(foreign)
    await destination.delete_manifest(image.digest)
    report = await copied(source, image, destination)
    assert report.foreign == ()
    assert await destination.has_blob(foreign.blob.digest)


@pytest.fixture
async def memory(transport: Transport) -> AsyncIterator[tuple[MemoryRegistry, LittleServer, RemoteRepository]]:
    """A registry that takes and gives whatever a test puts into it."""
    made = MemoryRegistry()
    async with serving(made.answer) as server:
        yield made, server, RemoteRepository(Remote(server.host, transport), "team/app")


Memory = tuple[MemoryRegistry, LittleServer, RemoteRepository]


def hold(made: MemoryRegistry, *images: Image) -> None:
    """Puts images with everything that they consist of into a registry in memory."""
    for image in images:
        manifest = image.pushed.manifest
        made.manifests[image.digest] = (manifest.media_type, manifest.data)
        made.blobs |= {blob.blob.digest: blob.data for blob in image.blobs}
        hold(made, *image.children)


async def test_buildkits_cache_is_an_index_of_layers(memory: Memory, destination: RemoteRepository) -> None:
    made, _, source = memory
    layers = [Factory().blob(), Factory().blob(5)]
    index = make({"mediaType": mediatype.OCI_INDEX, "manifests": [descriptor(layer.blob) for layer in layers]})
    hold(made, Image(index, tuple(layers)))
    report = await copy(source, index.digest, destination, "cache")
    assert report.blobs == {Outcome.SENT: 2}
    assert (await destination.get_manifest("cache")).digest == index.digest


async def test_a_sparse_index_stays_as_sparse_as_it_is(memory: Memory, source: RemoteRepository) -> None:
    made, _, destination = memory
    factory = Factory()
    image = factory.index([factory.image(), factory.image()])
    there, missing = image.children
    hidden = MemoryRegistry()
    hold(hidden, there)
    hidden.manifests[image.digest] = (image.pushed.manifest.media_type, image.pushed.manifest.data)
    async with serving(hidden.answer) as server:
        sparse = RemoteRepository(Remote(server.host, source.remote.transport), "team/app")
        report = await copy(sparse, image.digest, destination, "1.0")
    assert report.missing == (missing.digest,)
    assert set(made.manifests) == {image.digest, "1.0", there.digest}


async def test_the_tag_is_last_and_what_is_named_comes_first(memory: Memory, source: RemoteRepository) -> None:
    _, server, destination = memory
    factory = Factory()
    child = factory.image()
    image = factory.index([factory.index([child])])
    signature = factory.image(4, subject=image)
    await push(source, image)
    await push(source, signature)
    await copy(source, image.digest, destination, "1.0", referrers=True)
    order = [path.rpartition("/")[2] for path in server.paths("PUT") if "/manifests/" in path]
    assert order == [child.digest, image.children[0].digest, image.digest, signature.digest, "1.0"]
    last_blob = max(number for number, seen in enumerate(server.seen) if "/upload" in seen.path)
    puts = [number for number, seen in enumerate(server.seen) if seen.method == "PUT" and child.digest in seen.path]
    assert last_blob < puts[0]


async def test_a_broken_blob_is_named_and_nothing_is_tagged(memory: Memory, destination: RemoteRepository) -> None:
    made, _, source = memory
    image = Factory().image(2_000_000, 10)
    hold(made, image)
    broken = image.blobs[1].blob
    made.blobs[broken.digest] = bytes(2_000_000)
    with pytest.raises(CopyFailed, match=rf"blob {broken.digest} \(2000000 bytes\) could not be copied: ") as failure:
        await copy(source, image.digest, destination, "1.0")
    assert isinstance(failure.value.__cause__, ContentMismatch)
    assert await destination.head_manifest("1.0") is None
    del made.blobs[broken.digest]
    with pytest.raises(CopyFailed, match=f"blob {broken.digest}") as failure:
        await copy(source, image.digest, destination, "1.0")
    assert isinstance(failure.value.__cause__, NotFound)
    hold(made, image)
    report = await copy(source, image.digest, destination, "1.0")
    # What was on its way beside the broken blob was cut off or got through, whichever came first.
    assert report.blobs[Outcome.SENT] >= 1
    assert report.blobs[Outcome.SENT] + report.blobs[Outcome.PRESENT] == 3


async def test_a_cut_source_goes_on_within_the_upload(memory: Memory, destination: RemoteRepository) -> None:
    made, _, source = memory
    image = Factory().image(5_000_000)
    hold(made, image)
    cuts = 0

    async def cut(registry: MemoryRegistry, request: web.Request) -> web.StreamResponse | None:
        nonlocal cuts
        if "/blobs/" not in request.path or "Range" in request.headers:
            return None
        data = registry.blobs[request.path.rpartition("/")[2]]
        response = web.StreamResponse(headers={"Content-Length": str(len(data))})
        await response.prepare(request)
        await response.write(data[: len(data) // 2])
        assert request.transport is not None
        request.transport.close()
        cuts += 1
        return response

    made.faults["GET"] = [cut] * 10
    report = await copy(source, image.digest, destination, "1.0")
    assert cuts == 2
    assert report.bytes_sent == sum(len(blob.data) for blob in image.blobs)
    assert (await pull(destination, "1.0"))[image.blobs[1].blob.digest] == image.blobs[1].data


async def test_an_index_that_lies_about_a_child_is_refused(memory: Memory, destination: RemoteRepository) -> None:
    made, _, source = memory
    factory = Factory()
    image, other = factory.index([factory.image()]), factory.image()
    hold(made, image, other)
    made.manifests[image.children[0].digest] = made.manifests[other.digest]
    with pytest.raises(ContentMismatch):
        await copy(source, image.digest, destination, "1.0")


async def test_indexes_nested_too_deep_and_doubled_at_each_level(memory: Memory, destination: RemoteRepository) -> None:
    made, server, source = memory
    factory = Factory()
    image = factory.image()
    # 2^n ways through it, but each index is read once; and past a depth none is.
    for _ in range(INDEX_DEPTH_MAX + 2):
        image = factory.index([image, image])
        hold(made, image)
    with pytest.raises(BadAnswer, match="deeper"):
        await copy(source, image.digest, destination, "1.0")
    assert len(server.paths("GET")) < 2 * INDEX_DEPTH_MAX


async def test_a_large_blob_does_not_pass_through_memory_whole(transport: Transport) -> None:
    size = 256 * 1024 * 1024
    piece = bytes(1024 * 1024)
    hasher = new_hasher("sha256")
    for _ in range(size // len(piece)):
        hasher.update(piece)
    blob = Descriptor("x/y", Digest.parse(f"sha256:{hasher.hexdigest()}"), size, Role.LAYER)
    got = 0

    async def large(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(size)})
        await response.prepare(request)
        for _ in range(size // len(piece)):
            await response.write(piece)
        return response

    async def sink(request: web.Request) -> web.StreamResponse:
        nonlocal got
        if request.method == "HEAD":
            return web.Response(status=404)
        async for chunk in request.content.iter_any():
            got += len(chunk)
        return web.Response(status=201 if request.method == "PUT" else 202, headers={"Location": "/upload"})

    async with serving(large) as far, serving(sink) as near:
        source = RemoteRepository(Remote(far.host, transport), "a")
        destination = RemoteRepository(Remote(near.host, transport), "b")
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with source.open_blob(blob) as content:
            assert await destination.put_blob(content) is Outcome.SENT
        grown_bytes = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert got == size
    assert grown_bytes < 64 * 1024 * 1024
