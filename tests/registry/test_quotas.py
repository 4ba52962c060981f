"""Quotas: exact whatever happens, refused in the transaction that links, reserved by what is coming."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from homeport.db.database import Transaction
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUploadUnknown, QuotaExceeded
from homeport.registry import blobs, manifests, quotas, uploads
from homeport.testing import images, invariants
from tests.registry.world import ADA, OTHER, REPOSITORY, World, body, broken

KIB = 1024
MIB = 1024 * KIB
ELSEWHERE = "solo"


async def limit(world: World, **bytes_max: int) -> None:
    """These quotas and no others, counted to the end. `team` is team/**, `all` is **."""
    names = {"team": "team/**", "all": "**", "app": REPOSITORY}
    rules = {names[name]: size for name, size in bytes_max.items()}
    world.rule(quotas=rules)
    await world.registry.db.write(quotas.sync, rules)
    await count(world)


async def count(world: World, batch: int = 500) -> None:
    for step in (quotas.recount, quotas.forget):
        while await world.registry.db.jot(step, batch) is not None:
            await check(world)


async def used(world: World) -> dict[str, int]:
    await check(world)
    return {usage.pattern: usage.used_bytes for usage in await world.registry.db.read(quotas.usage)}


async def check(world: World) -> None:
    assert await world.registry.db.read(invariants.facts, world.registry.rules) == []


async def reserved(world: World) -> list[int]:
    return [size for (size,) in await world.rows("SELECT reserved_bytes FROM uploads")]


def mounted(world: World, digest: Digest, repository: str, source: str) -> asyncio.Future[blobs.Blob | None]:
    return asyncio.ensure_future(blobs.mount(world.registry, ADA, repository, digest, source, lambda _, name: True))


# --- what counts ------------------------------------------------------------------------------------------------


async def test_each_digest_counts_once(world: World) -> None:
    await limit(world, team=10_000, all=10_000, app=10_000)
    first = await world.blob(b"a" * 100)
    await world.blob(b"a" * 100)
    await mounted(world, first, OTHER, REPOSITORY)
    await world.blob(b"a" * 100, ELSEWHERE)
    assert await used(world) == {"team/**": 100, "**": 100, REPOSITORY: 100}
    await blobs.delete(world.registry, ADA, REPOSITORY, first)
    assert await used(world) == {"team/**": 100, "**": 100, REPOSITORY: 0}
    await blobs.delete(world.registry, ADA, OTHER, first)
    assert await used(world) == {"team/**": 0, "**": 100, REPOSITORY: 0}
    await blobs.delete(world.registry, ADA, ELSEWHERE, first)
    assert await used(world) == {"team/**": 0, "**": 0, REPOSITORY: 0}


async def test_manifests_count_and_tags_do_not(world: World) -> None:
    await limit(world, team=10_000)
    image = images.image([b"layer"])
    await world.push(image, "v1", "v2", "v3")
    size = len(image.data) + sum(map(len, image.blobs))
    assert await used(world) == {"team/**": size}
    await manifests.delete(world.registry, ADA, REPOSITORY, image.digest)
    assert await used(world) == {"team/**": size - len(image.data)}


# --- what is refused --------------------------------------------------------------------------------------------


async def test_what_does_not_fit_is_refused_and_nothing_is_kept(world: World) -> None:
    await limit(world, team=100, all=1_000)
    await world.blob(b"a" * 60)
    since = await world.new_events()
    told = r"team/\*\*: 60 of 100 bytes are used"
    for length in (None, 41):
        with pytest.raises(QuotaExceeded, match=told):
            await uploads.push(world.registry, ADA, REPOSITORY, Digest.of(b"b" * 41), body(b"b" * 41), length)
    upload = await world.start()
    await world.append(upload, b"b" * 41)
    with pytest.raises(QuotaExceeded, match=told):
        await world.finish(upload, Digest.of(b"b" * 41))
    with pytest.raises(BlobUploadUnknown):
        await world.finish(upload, Digest.of(b"b" * 41))
    elsewhere = await world.blob(b"b" * 41, ELSEWHERE)
    with pytest.raises(QuotaExceeded, match=told):
        await mounted(world, elsewhere, REPOSITORY, ELSEWHERE)
    assert world.strays() == []
    assert await since() == [("blob.pushed", ELSEWHERE, elsewhere, None)]
    assert await used(world) == {"team/**": 60, "**": 101}
    await world.blob(b"b" * 40)
    assert await used(world) == {"team/**": 100, "**": 141}


async def test_a_full_quota(world: World) -> None:
    await limit(world, team=100)
    full = await world.blob(b"a" * 100)
    with pytest.raises(QuotaExceeded):
        await world.start()
    with pytest.raises(QuotaExceeded):
        await uploads.push(world.registry, ADA, OTHER, Digest.of(b"b"), body(b"b"), 1)
    # What is counted already costs nothing, nor does what has no bytes.
    await uploads.push(world.registry, ADA, OTHER, full, body(b"a" * 100), 100)
    await uploads.push(world.registry, ADA, OTHER, Digest.of(b""), body(), 0)
    await mounted(world, full, "team/third", REPOSITORY)
    await world.start(ELSEWHERE)
    assert await used(world) == {"team/**": 100}


async def test_a_manifest_that_does_not_fit(world: World) -> None:
    image = images.image([b"layer"])
    await limit(world, team=sum(map(len, image.blobs)) + len(image.data) - 1)
    with pytest.raises(QuotaExceeded):
        await world.push(image, "v1")
    assert await world.rows("SELECT 1 FROM manifests") == await world.rows("SELECT 1 FROM tags") == []
    assert not world.file(image.digest).exists()


async def test_of_two_that_fit_alone_one_wins(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both have passed every look beforehand: the transactions that link decide."""
    await limit(world, team=100)
    monkeypatch.setattr(quotas, "check", lambda *_: None)
    outcomes = await asyncio.gather(
        *(world.blob(b"%d" % number * 60, repository) for number, repository in enumerate((REPOSITORY, OTHER, OTHER))),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes if isinstance(outcome, Exception)] == [QuotaExceeded] * 2
    assert await used(world) == {"team/**": 60}
    assert world.strays() == []
    assert await world.rows("SELECT 1 FROM uploads") == []


async def test_a_limit_that_was_made_smaller_refuses_what_is_new_only(world: World) -> None:
    await limit(world, team=100)
    digest = await world.blob(b"a" * 100)
    await limit(world, team=50)
    assert await used(world) == {"team/**": 100}
    await world.blob(b"a" * 100)
    await mounted(world, digest, OTHER, REPOSITORY)
    with pytest.raises(QuotaExceeded):
        await uploads.push(world.registry, ADA, REPOSITORY, Digest.of(b""), body(), 0)


async def test_a_rule_that_only_the_database_knows_is_counted_and_one_that_only_we_know_is_not(world: World) -> None:
    await limit(world, team=10)
    world.rule(quotas={"**": 10})
    await world.blob(b"a" * 100)
    assert await used(world) == {"team/**": 100}


# --- what is coming ---------------------------------------------------------------------------------------------


async def parts(mebibytes: int, fill: bytes = b"x") -> AsyncIterator[bytes]:
    for _ in range(mebibytes):
        await asyncio.sleep(0)
        yield fill * MIB


def append(world: World, upload: str, chunks: AsyncIterator[bytes]) -> asyncio.Future[int]:
    call = uploads.append(world.registry, world.sessions, ADA, REPOSITORY, upload, None, chunks)
    return asyncio.ensure_future(call)


async def test_a_session_is_cut_when_it_passes_what_is_free(world: World) -> None:
    await limit(world, team=10 * MIB)
    await world.blob(b"a" * MIB)
    upload = await world.start()
    taken = 0

    async def counting() -> AsyncIterator[bytes]:
        nonlocal taken
        async for part in parts(100):
            taken += 1
            yield part

    with pytest.raises(QuotaExceeded, match="1048576 of 10485760"):
        await append(world, upload, counting())
    assert taken == 12
    assert world.strays() == []
    assert await reserved(world) == []
    with pytest.raises(BlobUploadUnknown):
        await world.append(upload, b"!")


async def test_what_others_receive_is_reserved(world: World) -> None:
    await limit(world, team=10 * MIB)
    first, second = await world.start(), await world.start()
    assert await append(world, first, parts(6)) == 6 * MIB
    assert await reserved(world) in ([4 * MIB, 0], [0, 4 * MIB])
    with pytest.raises(QuotaExceeded, match="4194304 are being uploaded"):
        await append(world, second, parts(8))
    await append(world, first, parts(4))
    await world.finish(first, Digest.of(b"x" * 10 * MIB))
    assert await used(world) == {"team/**": 10 * MIB}


async def test_what_broke_off_is_free_again_and_reserved_when_it_goes_on(world: World) -> None:
    await limit(world, team=10 * MIB)
    first, second = await world.start(), await world.start()
    with pytest.raises(ConnectionResetError):
        await append(world, first, broken(*[b"x" * MIB] * 8))
    assert await reserved(world) == [0, 0]
    await append(world, second, parts(4))
    await uploads.cancel(world.registry, world.sessions, ADA, REPOSITORY, second)
    third = await world.start()
    await append(world, third, parts(5))
    with pytest.raises(QuotaExceeded):
        await append(world, first, parts(1))
    await append(world, third, parts(5))
    await world.finish(third, Digest.of(b"x" * 10 * MIB))


async def test_what_a_dead_process_reserved_is_free_after_ten_minutes(world: World) -> None:
    await limit(world, team=10 * MIB)
    first = await world.start()
    await append(world, first, parts(8))
    with pytest.raises(QuotaExceeded):
        await append(world, await world.start(), parts(4))
    world.pass_time(uploads.RESERVED_SECONDS + 1)
    second = await world.start()
    await append(world, second, parts(8, b"y"))
    await world.finish(second, Digest.of(b"y" * 8 * MIB))


async def test_what_is_counted_needs_no_room_where_its_digest_is_known(world: World) -> None:
    await limit(world, team=10 * MIB)
    data = b"x" * 8 * MIB
    digest = await world.blob(data)
    blob = await uploads.push(world.registry, ADA, OTHER, digest, parts(8), len(data))
    assert blob.digest == digest
    upload = await world.start()
    await uploads.finish(world.registry, world.sessions, ADA, REPOSITORY, upload, digest, None, parts(8))
    assert await used(world) == {"team/**": 8 * MIB}


async def test_what_is_longer_than_what_is_counted_is_something_else(world: World) -> None:
    """Whoever names a digest that is here already may not send without end on its account."""
    await limit(world, team=MIB + 6 * MIB)
    digest = await world.blob(b"y" * MIB)
    for sent in (parts(64), parts(64, b"z")):
        with pytest.raises(QuotaExceeded, match=rf"team/\*\*: {MIB} of {7 * MIB} bytes are used"):
            await uploads.push(world.registry, ADA, REPOSITORY, digest, sent)
    assert world.strays() == []
    assert await used(world) == {"team/**": MIB}


async def test_a_push_in_one_request_reserves_too(world: World) -> None:
    await limit(world, team=10 * MIB)
    seen: list[list[int]] = []

    async def looking() -> AsyncIterator[bytes]:
        async for part in parts(8):
            yield part
            seen.append(await reserved(world))

    digest = Digest.of(b"x" * 8 * MIB)
    await uploads.push(world.registry, ADA, REPOSITORY, digest, looking())
    assert seen == [[]] * 3 + [[4 * MIB]] * 4 + [[8 * MIB]]
    assert await reserved(world) == []
    with pytest.raises(QuotaExceeded):
        await uploads.push(world.registry, ADA, REPOSITORY, Digest.of(b"y"), parts(8, b"y"))
    assert await reserved(world) == []
    assert world.strays() == []


async def test_where_there_is_no_quota_nothing_is_told(world: World) -> None:
    await limit(world, app=MIB)
    await uploads.push(world.registry, ADA, ELSEWHERE, Digest.of(b"x" * 8 * MIB), parts(8))
    upload = await world.start(ELSEWHERE)
    call = uploads.append(world.registry, world.sessions, ADA, ELSEWHERE, upload, None, parts(8))
    await call
    assert await reserved(world) == [0]


# --- counting anew ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [1, 2, 3, 100])
async def test_a_new_rule_counts_what_is_there(world: World, batch: int) -> None:
    for number in range(5):
        await world.blob(b"%d" % number * 10, (REPOSITORY, OTHER, ELSEWHERE)[number % 3])
    await world.blob(b"0" * 10, OTHER)
    assert await world.registry.db.write(quotas.sync, ["team/**", "**"])
    assert {usage.is_counted for usage in await world.registry.db.read(quotas.usage)} == {False}
    await count(world, batch)
    assert await used(world) == {"team/**": 40, "**": 50}
    assert not await world.registry.db.write(quotas.sync, ["team/**", "**"])
    assert {usage.is_counted for usage in await world.registry.db.read(quotas.usage)} == {True}


async def test_what_changes_while_a_rule_is_counted_is_counted_once(world: World) -> None:
    """Before and behind the place where the counting is, new and gone, also where that place's link goes itself."""
    digests = sorted([await world.blob(b"%d" % number * 10) for number in range(20)])
    fresh = {Digest.of(b"new%d" % number): b"new%d" % number for number in range(20)}
    await world.registry.db.write(quotas.sync, ["**"])
    for step in range(1, 6):
        await world.registry.db.jot(quotas.recount, 3)
        for digest in digests[step * 3 - 1 : step * 3 + 1]:
            await blobs.delete(world.registry, ADA, REPOSITORY, digest)
            await check(world)
        await world.blob(fresh.popitem()[1])
        await world.blob(fresh.popitem()[1], OTHER)
        await check(world)
    await count(world)
    assert await used(world) == {"**": await total(world)}


async def test_a_rule_that_is_not_counted_yet_is_enforced_with_what_is(world: World) -> None:
    await world.blob(b"a" * 80)
    await world.blob(b"b" * 80, OTHER)
    world.rule(quotas={"**": 100})
    await world.registry.db.write(quotas.sync, ["**"])
    await world.blob(b"c" * 30, ELSEWHERE)
    await world.registry.db.jot(quotas.recount, 1)
    with pytest.raises(QuotaExceeded, match="80 of 100"):
        await world.blob(b"d" * 30, ELSEWHERE)
    await count(world)
    assert await used(world) == {"**": 190}


async def test_a_rule_that_left_is_forgotten_bit_by_bit_and_may_come_back_meanwhile(world: World) -> None:
    await limit(world, all=10_000)
    for number in range(5):
        await world.blob(b"%d" % number * 10)
    assert await world.registry.db.write(quotas.sync, [])
    assert await used(world) == {}
    assert await world.registry.db.jot(quotas.forget, 2) == 2
    await world.blob(b"more")
    assert await world.registry.db.write(quotas.sync, ["**"])
    await count(world, 2)
    assert await used(world) == {"**": 54}
    assert await world.rows("SELECT count(*) FROM quota_rules") == [(1,)]
    assert await world.rows("SELECT count(*) FROM quota_digests") == [(6,)]


async def test_a_recount_goes_on_after_a_restart(durable: World) -> None:
    for number in range(5):
        await durable.blob(b"%d" % number * 10)
    await durable.registry.db.write(quotas.sync, ["**"])
    await durable.registry.db.jot(quotas.recount, 2)
    await durable.restart()
    assert await durable.registry.db.write(quotas.sync, ["**"])
    await count(durable, 2)
    assert await used(durable) == {"**": 50}


async def test_counting_looks_links_up_by_their_key(world: World) -> None:
    def plan(tx: Transaction) -> str:
        sql = (
            "EXPLAIN QUERY PLAN SELECT repository_id, repository, digest, size FROM linked_blobs"
            " WHERE (repository_id, digest) > (?, ?) ORDER BY repository_id, digest LIMIT ?"
        )
        return " | ".join(row[3] for row in tx.all(sql, (0, "", 10)))

    found = await world.registry.db.read(plan)
    assert "SEARCH l USING PRIMARY KEY" in found
    assert "TEMP B-TREE" not in found


async def total(world: World) -> int:
    rows = await world.rows("SELECT sum(size) FROM blobs WHERE digest IN (SELECT digest FROM links)")
    size: int = rows[0][0]
    return size
