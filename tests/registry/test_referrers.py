"""Referrers: all of them, by page, by type, and those that older clients kept under a tag."""

from __future__ import annotations

import json
from typing import Any

import pytest

from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.registry import manifests, referrers
from homeport.registry.referrers import Referrer
from homeport.testing.images import Image, image, index
from tests.registry.world import ADA, OTHER, REPOSITORY, World

SUBJECT = image([b"the subject"])
SIGNATURE = "application/vnd.example.signature"
SBOM = "application/vnd.example.sbom"


async def get(
    world: World,
    subject: Digest = SUBJECT.digest,
    artifact_type: str | None = None,
    after: str = "",
    limit: int = 100,
    repository: str = REPOSITORY,
) -> list[Referrer]:
    found, _ = await referrers.get(world.registry, repository, subject, artifact_type, after, limit)
    return found


async def every(world: World, limit: int, artifact_type: str | None = None) -> list[list[Digest]]:
    """All pages."""
    pages: list[list[Digest]] = []
    after = ""
    more = True
    while more:
        found, more = await referrers.get(world.registry, REPOSITORY, SUBJECT.digest, artifact_type, after, limit)
        pages.append([referrer.digest for referrer in found])
        after = found[-1].digest if found else ""
    return pages


def document(**others: Any) -> dict[str, Any]:
    empty = {"mediaType": mediatype.OCI_EMPTY, "digest": Digest.of(b"{}"), "size": 2}
    return {"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST, "config": empty, "layers": [empty], **others}


def subject_of(subject: Image = SUBJECT) -> dict[str, Any]:
    return {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.data)}


async def refer(world: World, repository: str = REPOSITORY, tag: str | None = None, **others: Any) -> Digest:
    """Push an artifact that refers to the subject."""
    await world.blob(b"{}", repository)
    found = document(**{"subject": subject_of(), "artifactType": SIGNATURE, **others})
    return await put(world, found, repository, tag)


async def put(world: World, found: dict[str, Any], repository: str = REPOSITORY, tag: str | None = None) -> Digest:
    data = json.dumps(found).encode()
    names = [tag] if tag else []
    pushed = await manifests.push(world.registry, ADA, repository, data, found["mediaType"], Digest.of(data), names)
    return pushed.digest


async def fall_back(world: World, *digests: Digest, subject: Digest = SUBJECT.digest) -> Digest:
    """Keep an index under the subject's fallback tag, as clients do with registries that lack the API."""
    children = [{"mediaType": mediatype.OCI_MANIFEST, "digest": digest, "size": 1} for digest in digests]
    found = {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": children}
    return await put(world, found, tag=subject.fallback_tag)


async def test_nothing_refers_to_what_is_not_here(world: World) -> None:
    for repository in (REPOSITORY, "nowhere"):
        assert await referrers.get(world.registry, repository, SUBJECT.digest, None, "", 10) == ([], False)


async def test_a_referrer_is_described_from_its_manifest(world: World) -> None:
    digest = await refer(world, annotations={"a": "b", "é": "😀"})
    (found,) = await get(world)
    stored = await manifests.get(world.registry, REPOSITORY, digest)
    assert found == Referrer(digest, mediatype.OCI_MANIFEST, len(stored.data), SIGNATURE, {"a": "b", "é": "😀"})


async def test_the_type_is_the_config_s_where_there_is_no_other(world: World) -> None:
    await refer(world, artifactType="")
    assert [found.artifact_type for found in await get(world)] == [mediatype.OCI_EMPTY]


async def test_an_index_may_refer_too(world: World) -> None:
    typed = index([])
    for others in ({}, {"artifactType": SBOM}):
        found = {**json.loads(typed.data), "subject": subject_of(), **others}
        await put(world, found)
    assert sorted((found.media_type, found.artifact_type or "") for found in await get(world)) == [
        (mediatype.OCI_INDEX, ""),
        (mediatype.OCI_INDEX, SBOM),
    ]


async def test_the_subject_may_come_later_and_may_go(world: World) -> None:
    digest = await refer(world)
    await world.push(SUBJECT)
    assert [found.digest for found in await get(world)] == [digest]
    await manifests.delete(world.registry, ADA, REPOSITORY, SUBJECT.digest)
    assert [found.digest for found in await get(world)] == [digest]
    await manifests.delete(world.registry, ADA, REPOSITORY, digest)
    assert await get(world) == []


async def test_those_of_other_repositories_and_subjects_are_not_listed(world: World) -> None:
    await refer(world, OTHER)
    await refer(world, subject=subject_of(image([b"another"])))
    assert await get(world) == []
    assert len(await get(world, repository=OTHER)) == 1


async def test_a_subject_by_sha512(world: World) -> None:
    subject = Digest.of(SUBJECT.data, "sha512")
    digest = await refer(world, subject={**subject_of(), "digest": subject})
    assert [found.digest for found in await get(world, subject)] == [digest]
    assert await get(world) == []


async def test_by_type(world: World) -> None:
    signature = await refer(world)
    sbom = await refer(world, artifactType=SBOM)
    assert [found.digest for found in await get(world, artifact_type=SBOM)] == [sbom]
    assert [found.digest for found in await get(world, artifact_type=SIGNATURE)] == [signature]
    assert await get(world, artifact_type="application/x") == []
    assert await get(world, artifact_type="") == []


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 8, 100])
async def test_by_page(world: World, limit: int) -> None:
    digests = sorted([await refer(world, annotations={"number": str(number)}) for number in range(7)])
    pages = await every(world, limit)
    assert [digest for page in pages for digest in page] == digests
    assert all(len(page) == limit for page in pages[:-1])
    assert pages[-1]


async def test_a_page_is_bounded_in_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = sorted(
        [await refer(world, annotations={"number": str(number), "fill": "x" * 10_000}) for number in range(5)]
    )
    monkeypatch.setattr(referrers, "PAGE_BYTES_MAX", 25_000)
    pages = await every(world, 100)
    assert [digest for page in pages for digest in page] == digests
    assert [len(page) for page in pages] == [2, 2, 1]
    monkeypatch.setattr(referrers, "PAGE_BYTES_MAX", 1)
    assert [len(page) for page in await every(world, 100)] == [1] * 5


# --- the fallback tag -------------------------------------------------------------------------------------------


async def test_what_the_fallback_tag_lists_is_listed(world: World) -> None:
    """Also what names no subject: it was pushed by a client that knew none."""
    listed = await refer(world, subject=None, annotations={"by": "an older client"})
    both = await refer(world)
    own = await refer(world, artifactType=SBOM)
    await fall_back(world, listed, both)
    assert [found.digest for found in await get(world)] == sorted([listed, both, own])
    assert [found.digest for found in await get(world, artifact_type=SIGNATURE)] == sorted([listed, both])
    assert [found.digest for found in await get(world, artifact_type=SBOM)] == [own]


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_the_two_are_one_list_with_pages(world: World, limit: int) -> None:
    own = [await refer(world, annotations={"number": str(number)}) for number in range(4)]
    listed = [await refer(world, subject=None, annotations={"number": str(number)}) for number in range(4)]
    await fall_back(world, *listed, *own[:2])
    assert [digest for page in await every(world, limit) for digest in page] == sorted(own + listed)


async def test_what_the_fallback_tag_lists_and_is_not_here_is_left_out(world: World) -> None:
    world.rule(sparse=("**",))
    await fall_back(world, Digest.of(b"gone"))
    assert await get(world) == []


async def test_the_fallback_tag_of_a_sha512_subject_is_cut(world: World) -> None:
    subject = Digest.of(SUBJECT.data, "sha512")
    listed = await refer(world, subject=None)
    await fall_back(world, listed, subject=subject)
    assert [found.digest for found in await get(world, subject)] == [listed]


async def test_a_fallback_tag_that_is_no_index_lists_nothing(world: World) -> None:
    await refer(world, subject=None, tag=SUBJECT.digest.fallback_tag)
    assert await get(world) == []
