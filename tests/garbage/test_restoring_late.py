"""Bringing back what is about to go, or has just gone for good."""

import pytest

from homeport.events import SYSTEM
from homeport.oci.digest import Digest
from homeport.oci.errors import NotInTrash
from homeport.registry import blobs, manifests, restoring, trash
from homeport.testing.images import image
from tests.garbage.cleaning import DAY, LONG, Cleaning
from tests.registry.world import ADA, OTHER, REPOSITORY

IMAGE = image([b"layer"])


@pytest.mark.parametrize("tags", [("v1",), ()], ids=["tagged", "by digest"])
async def test_a_manifest_whose_bytes_alone_are_left_is_not_brought_back_as_a_blob(
    cleaning: Cleaning, tags: tuple[str, ...]
) -> None:
    """`tag restore` said that it was done, and there was no tag. Found by the soak."""
    digest = await cleaning.push(IMAGE, "v1")
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, digest)
    await cleaning.sweep_after(LONG)
    await cleaning.registry.db.write(trash.expire_links, cleaning.clock.now(), 100)
    assert cleaning.trash()

    with pytest.raises(NotInTrash):
        await restoring.restore(cleaning.registry, SYSTEM, REPOSITORY, digest, tags)


async def test_a_blob_that_another_repository_lost_is_not_brought_back_here(cleaning: Cleaning) -> None:
    digest = await cleaning.blob(b"theirs", OTHER)
    await blobs.delete(cleaning.registry, ADA, OTHER, digest)

    with pytest.raises(NotInTrash):
        await restoring.restore(cleaning.registry, SYSTEM, REPOSITORY, digest)
    await restoring.restore(cleaning.registry, SYSTEM, OTHER, digest)


async def test_a_part_that_is_still_here_cannot_go_while_the_rest_is_brought_back(cleaning: Cleaning) -> None:
    """A sweep between the parts and the whole left the restore without its layer. Found by the soak."""
    digest = await cleaning.push(IMAGE, "v1")
    await manifests.delete(cleaning.registry, ADA, REPOSITORY, digest)
    cleaning.pass_time(LONG)
    layer = Digest.of(IMAGE.blobs[0])
    assert layer in await cleaning.digests()

    await restoring.restore(cleaning.registry, SYSTEM, REPOSITORY, layer)
    await cleaning.sweep()
    assert layer in await cleaning.digests()

    await cleaning.sweep_after(DAY)
    assert layer not in await cleaning.digests()
