"""Manifests: complete or refused, stored twice, deleted with their tags."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestInvalid,
    ManifestTooLarge,
    ManifestUnknown,
    ReferencedByManifest,
)
from homeport.registry import blobs, manifests, tags
from homeport.registry.manifests import Pushed
from homeport.storage.blobstore import StorageError
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.images import image, index
from tests.registry.world import ADA, HOUR, OTHER, REPOSITORY, World

LAYER = b"a layer"
IMAGE = image([LAYER])
SECOND = image([b"another layer"])
INDEX = index([IMAGE, SECOND])
ABSENT = "sha256:" + "0" * 64

Document = dict[str, Any]


async def push(
    world: World, document: Document, *names: str, media_type: str = mediatype.OCI_MANIFEST, algorithm: str = "sha256"
) -> Pushed:
    data = json.dumps({"schemaVersion": 2, **document}).encode()
    return await manifests.push(world.registry, ADA, REPOSITORY, data, media_type, Digest.of(data, algorithm), names)


def descriptor(digest: str, media_type: str = mediatype.OCI_LAYER) -> Document:
    return {"mediaType": media_type, "digest": digest, "size": 1}


async def prepare(world: World, *data: bytes, repository: str = REPOSITORY) -> None:
    for each in data:
        await world.blob(each, repository)


# --- pushing ----------------------------------------------------------------------------------------------------


async def test_what_was_pushed_is_served_to_the_byte(world: World) -> None:
    await world.push(IMAGE, "latest", "1.0")
    for reference in (IMAGE.digest, "latest", "1.0"):
        stored = await manifests.get(world.registry, REPOSITORY, reference)
        assert (stored.digest, stored.media_type, stored.data) == (IMAGE.digest, IMAGE.media_type, IMAGE.data)
    assert world.file(IMAGE.digest).read_bytes() == IMAGE.data


async def test_each_change_has_its_event(world: World) -> None:
    await prepare(world, *IMAGE.blobs)
    since = await world.new_events()
    assert await world.manifest(IMAGE, "a", "b") == Pushed(IMAGE.digest, None)
    assert await since() == [
        ("manifest.pushed", REPOSITORY, IMAGE.digest, None),
        ("tag.set", REPOSITORY, IMAGE.digest, "a"),
        ("tag.set", REPOSITORY, IMAGE.digest, "b"),
    ]
    await world.manifest(IMAGE, "a")
    assert len(await since()) == 3, "nothing changed"


async def test_a_manifest_without_a_tag(world: World) -> None:
    await world.push(IMAGE)
    assert (await manifests.get(world.registry, REPOSITORY, IMAGE.digest)).data == IMAGE.data
    assert await world.registry.db.read(tags.names, REPOSITORY, "", 10) == []


async def test_with_sha512(world: World) -> None:
    await prepare(world, *IMAGE.blobs)
    digest = Digest.of(IMAGE.data, "sha512")
    await manifests.push(world.registry, ADA, REPOSITORY, IMAGE.data, IMAGE.media_type, digest, ["a"])
    assert (await manifests.get(world.registry, REPOSITORY, "a")).digest == digest
    with pytest.raises(ManifestUnknown):
        await manifests.get(world.registry, REPOSITORY, IMAGE.digest)
    await world.manifest(IMAGE)
    assert await world.registry.db.read(manifests.by_digest, REPOSITORY, digest)


async def test_the_same_manifest_many_times_at_once(world: World) -> None:
    await prepare(world, *IMAGE.blobs)
    since = await world.new_events()
    await asyncio.gather(*(world.manifest(IMAGE, f"t{number}") for number in range(10)))
    kinds = [kind for kind, *_ in await since()]
    assert kinds.count("manifest.pushed") == 1
    assert kinds.count("tag.set") == 10


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"digest": Digest(ABSENT)}, DigestInvalid),
        ({"digest": Digest.of(IMAGE.data, "sha512")}, None),
        ({"data": IMAGE.data + b" "}, DigestInvalid),
        ({"content_type": mediatype.OCI_INDEX}, ManifestInvalid),
        ({"data": b"{}", "digest": Digest.of(b"{}")}, ManifestInvalid),
    ],
)
async def test_bytes_that_are_not_what_they_are_said_to_be(
    world: World, changes: Document, error: type[Exception] | None
) -> None:
    await prepare(world, *IMAGE.blobs)
    before = await world.rows("SELECT digest FROM blobs")
    asked = {"data": IMAGE.data, "content_type": IMAGE.media_type, "digest": IMAGE.digest, "names": ["a"], **changes}
    if error is None:
        await manifests.push(world.registry, ADA, REPOSITORY, **asked)
        return
    with pytest.raises(error):
        await manifests.push(world.registry, ADA, REPOSITORY, **asked)
    assert await world.rows("SELECT digest FROM blobs") == before
    with pytest.raises(ManifestUnknown):
        await manifests.get(world.registry, REPOSITORY, "a")


async def test_a_manifest_that_is_too_large(world: World) -> None:
    await prepare(world, *IMAGE.blobs)
    world.rule(manifest_bytes_max=len(IMAGE.data) - 1)
    with pytest.raises(ManifestTooLarge):
        await world.manifest(IMAGE)
    world.rule(manifest_bytes_max=len(IMAGE.data))
    await world.manifest(IMAGE)


async def test_names_that_are_not_there(world: World) -> None:
    await world.push(IMAGE, "a")
    for repository, reference in [(REPOSITORY, "b"), (REPOSITORY, ABSENT), (OTHER, "a"), (OTHER, IMAGE.digest)]:
        with pytest.raises(ManifestUnknown):
            await manifests.get(world.registry, repository, reference)


async def test_a_manifest_that_may_lack_what_it_names(world: World) -> None:
    """As a mirror stores it: what it names says how long it is, and a tag can be set on it."""
    db = world.registry.db
    named = {reference.digest: reference.size for reference in IMAGE.manifest.references}
    await manifests.push(
        world.registry, ADA, REPOSITORY, IMAGE.data, IMAGE.media_type, IMAGE.digest, (), may_lack=named
    )
    for digest, size in named.items():
        assert await db.read(manifests.size_named, REPOSITORY, digest) == size
        assert await db.read(manifests.size_named, OTHER, digest) is None
    assert await db.read(manifests.size_named, REPOSITORY, IMAGE.digest) is None
    assert await db.write(manifests.tag, world.registry, ADA, REPOSITORY, IMAGE.digest, "latest")
    assert (await manifests.get(world.registry, REPOSITORY, "latest")).digest == IMAGE.digest
    assert not await db.write(manifests.tag, world.registry, ADA, REPOSITORY, SECOND.digest, "latest")
    assert not await db.write(manifests.tag, world.registry, ADA, OTHER, IMAGE.digest, "latest")
    assert (await manifests.get(world.registry, REPOSITORY, "latest")).digest == IMAGE.digest


# --- what it names ----------------------------------------------------------------------------------------------


async def test_what_it_names_must_be_in_this_repository(world: World) -> None:
    await prepare(world, *IMAGE.blobs, repository=OTHER)
    since = await world.new_events()
    for blob in IMAGE.blobs:
        with pytest.raises(ManifestBlobUnknown):
            await world.manifest(IMAGE, "a")
        await world.blob(blob)
    await world.manifest(IMAGE, "a")
    assert [kind for kind, *_ in await since()] == ["blob.pushed", "blob.pushed", "manifest.pushed", "tag.set"]


async def test_a_refused_manifest_leaves_nothing(world: World) -> None:
    with pytest.raises(ManifestBlobUnknown, match=r"config|layer"):
        await world.manifest(IMAGE, "a")
    for table in ("blobs", "holds", "links", "repositories", "manifests", "events"):
        assert await world.rows(f"SELECT 1 FROM {table}") == [], table
    assert not world.file(IMAGE.digest).exists()


async def test_children_must_be_manifests_of_this_repository(world: World) -> None:
    await prepare(world, IMAGE.data, SECOND.data)  # Their bytes are here, but as blobs.
    with pytest.raises(ManifestBlobUnknown, match="child"):
        await world.manifest(INDEX)
    await world.push(IMAGE)
    with pytest.raises(ManifestBlobUnknown, match=SECOND.digest):
        await world.manifest(INDEX)
    await world.push(SECOND)
    await world.manifest(INDEX, "a")
    await world.push(index([INDEX]), "nested")


async def test_an_index_may_name_blobs(world: World) -> None:
    """As BuildKit's registry cache does."""
    await prepare(world, LAYER, b"{}")
    children = [
        descriptor(Digest.of(LAYER), mediatype.OCI_LAYER_GZIP),
        descriptor(Digest.of(b"{}"), "application/vnd.buildkit.cacheconfig.v0"),
    ]
    document = {"mediaType": mediatype.OCI_INDEX, "manifests": children}
    await push(world, document, "cache", media_type=mediatype.OCI_INDEX)
    with pytest.raises(ReferencedByManifest):
        await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(LAYER))
    document["manifests"] = [*children, descriptor(ABSENT)]
    with pytest.raises(ManifestBlobUnknown):
        await push(world, document, media_type=mediatype.OCI_INDEX)


async def test_layers_that_are_never_distributed_need_not_be_here(world: World) -> None:
    await prepare(world, b"{}")
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    config = descriptor(Digest.of(b"{}"), mediatype.OCI_CONFIG)
    document = {"config": config, "layers": [descriptor(ABSENT, foreign)]}
    await push(world, document, "a")
    await push(world, document, "b")
    for wrong in (
        {"config": descriptor(ABSENT, foreign), "layers": []},
        {"config": config, "layers": [descriptor(ABSENT)]},
    ):
        with pytest.raises(ManifestBlobUnknown):
            await push(world, wrong)


@pytest.mark.parametrize("subject", [Digest(ABSENT), Digest.of(b"?", "sha512")])
async def test_a_subject_may_come_later(world: World, subject: Digest) -> None:
    await prepare(world, b"{}")
    document = {
        "config": descriptor(Digest.of(b"{}"), mediatype.OCI_EMPTY),
        "layers": [],
        "subject": descriptor(subject, mediatype.OCI_MANIFEST),
    }
    assert (await push(world, document)).subject == subject


async def test_only_where_the_rules_say_so_may_children_be_missing(world: World) -> None:
    await world.push(IMAGE)
    for sparse in ((), ("mirror/**",), (OTHER,)):
        world.rule(sparse=sparse)
        with pytest.raises(ManifestBlobUnknown):
            await world.manifest(INDEX, "a")
    world.rule(sparse=("team/*",))
    await world.manifest(INDEX, "a")
    await world.manifest(INDEX, "b")
    with pytest.raises(ManifestBlobUnknown):  # of an index only
        await world.manifest(image([b"not here"]))
    with pytest.raises(ReferencedByManifest):
        await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    await world.push(SECOND)  # It may be filled up later.


async def test_whether_all_is_here_that_a_manifest_names_at_any_depth(world: World) -> None:
    nested = index([INDEX])
    world.rule(sparse=("team/*",))

    async def has_all(*digests: Digest) -> bool:
        return await world.registry.db.read(manifests.has_all, REPOSITORY, digests)

    assert not await has_all(nested.digest)
    await world.push(IMAGE)
    await world.manifest(INDEX)
    await world.manifest(nested)
    assert await has_all(IMAGE.digest)
    assert not await has_all(INDEX.digest)
    assert not await has_all(nested.digest)
    await prepare(world, SECOND.data, *SECOND.blobs)  # Its bytes are no manifest yet.
    assert not await has_all(nested.digest)
    await world.push(SECOND)
    assert await has_all(nested.digest)
    await blobs_go(world, LAYER)
    assert not await has_all(nested.digest)
    assert await has_all(SECOND.digest)
    assert not await has_all(SECOND.digest, IMAGE.digest)  # Of several, nothing may be lacking of any.
    assert not await has_all(SECOND.digest, Digest.of(b"unknown"))
    assert await has_all(SECOND.digest, SECOND.digest)


async def blobs_go(world: World, data: bytes) -> None:
    """As if the disk had lost it, and somebody had noticed."""
    await world.registry.db.write(lambda tx: tx.run("DELETE FROM links WHERE digest = ?", (Digest.of(data),)))


async def test_a_manifest_renews_the_promises_of_what_it_names(world: World) -> None:
    await prepare(world, *IMAGE.blobs)
    world.pass_time(2 * HOUR)
    await world.manifest(IMAGE)
    for digest in (IMAGE.digest, *map(Digest.of, IMAGE.blobs)):
        link = await world.link(digest)
        assert link is not None
        assert link[0] - world.clock.now() > 24 * HOUR - 5


async def test_what_it_names_is_looked_at_again_at_the_end(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A layer that is deleted while the manifest's bytes are written is missed all the same."""
    await prepare(world, *IMAGE.blobs)
    put = world.registry.blobs.put

    async def slow_put(digest: Digest, data: bytes) -> str:
        await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(LAYER))
        return await put(digest, data)

    monkeypatch.setattr(world.registry.blobs, "put", slow_put)
    with pytest.raises(ManifestBlobUnknown):
        await world.manifest(IMAGE, "a")
    assert await world.rows("SELECT 1 FROM manifests") == []
    with pytest.raises(BlobUnknown):
        await blobs.get(world.registry, REPOSITORY, IMAGE.digest)


async def test_a_hold_that_lapsed_while_the_bytes_were_written(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await prepare(world, *IMAGE.blobs)
    put = world.registry.blobs.put

    async def slow_put(digest: Digest, data: bytes) -> str:
        world.pass_time(world.registry.rules.hold_seconds)
        return await put(digest, data)

    monkeypatch.setattr(world.registry.blobs, "put", slow_put)
    since = await world.new_events()
    with pytest.raises(ManifestUnknown, match="push it again"):
        await world.manifest(IMAGE, "a")
    assert await since() == []
    monkeypatch.undo()
    await world.manifest(IMAGE, "a")


# --- pushing again ----------------------------------------------------------------------------------------------


async def test_a_known_manifest_is_tagged_without_a_byte_being_written(world: World) -> None:
    await world.push(IMAGE, "a")
    failing = FailingStore(world.registry.blobs, fail_at=2, forever=True)  # 1: the look at its size
    world.registry.blobs = failing
    await world.manifest(IMAGE, "b")
    assert failing.calls == ["stat"]
    assert (await manifests.get(world.registry, REPOSITORY, "b")).digest == IMAGE.digest


@pytest.mark.parametrize("damage", ["gone", "short"])
async def test_pushing_again_heals_a_damaged_manifest(world: World, damage: str) -> None:
    await world.push(IMAGE, "a")
    file = world.file(IMAGE.digest)
    if damage == "gone":
        file.unlink()
    else:
        file.write_bytes(b"?")
    since = await world.new_events()
    await world.manifest(IMAGE, "a")
    assert file.read_bytes() == IMAGE.data
    assert await since() == []
    assert await world.rows("SELECT count(*) FROM manifests") == [(1,)]


@pytest.mark.parametrize("done", [False, True])
async def test_a_push_that_failed_can_be_tried_again(world: World, done: bool) -> None:
    await prepare(world, *IMAGE.blobs)
    store = world.registry.blobs
    world.registry.blobs = FailingStore(store, fail_at=1, done=done)
    with pytest.raises(StorageError):
        await world.manifest(IMAGE, "a")
    with pytest.raises(ManifestUnknown):
        await manifests.get(world.registry, REPOSITORY, "a")
    world.registry.blobs = store
    await world.manifest(IMAGE, "a")
    assert await manifests.get(world.registry, REPOSITORY, "a")


async def test_everything_is_there_after_a_restart(durable: World) -> None:
    await durable.push(INDEX, "a")
    await durable.restart()
    for pushed in INDEX.walk():
        assert (await manifests.get(durable.registry, REPOSITORY, pushed.digest)).data == pushed.data
    assert (await manifests.get(durable.registry, REPOSITORY, "a")).digest == INDEX.digest


# --- deleting ---------------------------------------------------------------------------------------------------


async def test_deleting_takes_the_tags_along_and_tells_each(world: World) -> None:
    await world.push(IMAGE, "a", "b")
    await world.push(SECOND, "c")
    since = await world.new_events()
    await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    assert sorted(await since(), key=str) == sorted(
        [
            ("tag.deleted", REPOSITORY, IMAGE.digest, "a"),
            ("tag.deleted", REPOSITORY, IMAGE.digest, "b"),
            ("manifest.deleted", REPOSITORY, IMAGE.digest, None),
        ],
        key=str,
    )
    for reference in ("a", "b", IMAGE.digest):
        with pytest.raises(ManifestUnknown):
            await manifests.get(world.registry, REPOSITORY, reference)
    assert await manifests.get(world.registry, REPOSITORY, "c")
    history = await world.registry.db.read(tags.history, REPOSITORY, "a")
    assert [change.digest for change in history] == [None, IMAGE.digest]
    with pytest.raises(BlobUnknown):
        await blobs.get(world.registry, REPOSITORY, IMAGE.digest)
    with pytest.raises(ManifestUnknown):
        await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)


async def test_what_it_named_stays_and_its_grace_begins(world: World) -> None:
    await world.push(IMAGE)
    world.pass_time(HOUR)
    await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    for data in IMAGE.blobs:
        await blobs.get(world.registry, REPOSITORY, Digest.of(data))
        link = await world.link(Digest.of(data))
        assert link is not None
        assert world.clock.now() - link[1] < 5, "the reference was lost just now"
        await blobs.delete(world.registry, ADA, REPOSITORY, Digest.of(data))


async def test_a_child_stays_while_an_index_names_it(world: World) -> None:
    await world.push(INDEX, "a")
    since = await world.new_events()
    with pytest.raises(ReferencedByManifest, match=INDEX.digest):
        await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    assert await since() == []
    await manifests.delete(world.registry, ADA, REPOSITORY, INDEX.digest)
    await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)


async def test_a_subject_may_be_deleted_before_what_refers_to_it(world: World) -> None:
    signature = image([b"signature"], subject=IMAGE)
    await world.push(IMAGE)
    await world.push(signature)
    await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
    assert await manifests.get(world.registry, REPOSITORY, signature.digest)


async def test_deleting_elsewhere_changes_nothing_here(world: World) -> None:
    await world.push(IMAGE, "a")
    await world.push(IMAGE, "a", repository=OTHER)
    await manifests.delete(world.registry, ADA, OTHER, IMAGE.digest)
    assert await manifests.get(world.registry, REPOSITORY, "a")
    for repository in (OTHER, "nowhere"):
        with pytest.raises(ManifestUnknown):
            await manifests.delete(world.registry, ADA, repository, IMAGE.digest)


async def test_a_blob_is_no_manifest(world: World) -> None:
    await world.blob(IMAGE.data)
    with pytest.raises(ManifestUnknown):
        await manifests.get(world.registry, REPOSITORY, IMAGE.digest)
    with pytest.raises(ManifestUnknown):
        await manifests.delete(world.registry, ADA, REPOSITORY, IMAGE.digest)
