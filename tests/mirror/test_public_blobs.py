"""Which blobs may be linked because upstream shows them to everybody."""

from homeport.mirror import public_blobs
from homeport.oci.digest import Digest
from homeport.registry import blobs
from tests.garbage.cleaning import LONG, Cleaning, settle
from tests.registry.world import ADA, HOUR, REPOSITORY

DATA = b"everybody can read this"
DIGEST = Digest.of(DATA)


async def is_public(cleaning: Cleaning) -> bool:
    return await cleaning.registry.db.read(public_blobs.is_public, DIGEST)


async def test_a_blob_is_public_once_that_was_said(cleaning: Cleaning) -> None:
    await cleaning.blob(DATA)
    assert not await is_public(cleaning)
    for _ in range(2):
        await cleaning.registry.db.write(public_blobs.record, DIGEST)
        assert await is_public(cleaning)


async def test_what_nobody_holds_is_not_public(cleaning: Cleaning) -> None:
    await cleaning.registry.db.write(public_blobs.record, DIGEST)
    assert not await is_public(cleaning)


async def test_it_is_forgotten_with_the_blob(cleaning: Cleaning) -> None:
    await settle(cleaning, cleaning.guard)
    await cleaning.blob(DATA)
    await cleaning.registry.db.write(public_blobs.record, DIGEST)
    await blobs.delete(cleaning.registry, ADA, REPOSITORY, DIGEST)
    await cleaning.sweep_after(HOUR)
    await cleaning.sweep_after(LONG)
    assert await cleaning.state(DIGEST) is None
    assert not await is_public(cleaning)
    await cleaning.blob(DATA)
    assert not await is_public(cleaning)
