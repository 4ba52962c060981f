"""A blob comes from upstream once, and streams to whoever asks for it meanwhile."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator, Awaitable
from dataclasses import replace
from pathlib import Path

import pytest

from homeport.client.errors import ContentMismatch, NotFound, Refused
from homeport.mirror import fetching, public_blobs
from homeport.mirror.fetching import Fetch, Fetches
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import QuotaExceeded, ReadOnly, Unavailable
from homeport.registry import blobs, quotas, uploads
from homeport.registry.blobs import Blob
from homeport.storage.blobstore import UNSEEN_BYTES_MAX, StorageError, StoreFull
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.blobstore_suite import MIB, content, pattern
from homeport.upstreams.upstreams import Purpose
from tests.mirror.upstreams import Upstream
from tests.registry.world import ADA, OTHER, REPOSITORY, World

DATA = pattern(9 * MIB + 17)


@pytest.fixture
async def fetches(world: World) -> AsyncIterator[Fetches]:
    async with Fetches(world.registry, Log(io.StringIO(), world.clock)) as fetches:
        yield fetches


async def stream(
    fetches: Fetches, upstream: Upstream, repository: str = REPOSITORY, *, shared: bool = True
) -> Fetch | Blob:
    return await fetches.stream(ADA, repository, upstream.blob, upstream.open, shared=shared)


async def begin(fetches: Fetches, upstream: Upstream, repository: str = REPOSITORY, *, shared: bool = True) -> Fetch:
    found = await stream(fetches, upstream, repository, shared=shared)
    assert isinstance(found, Fetch)
    return found


async def whole(fetch: Fetch, start: int = 0, stop: int | None = None) -> bytes:
    chunks = [chunk async for chunk in fetch.read(start, stop)]
    assert all(0 < len(chunk) <= fetching.CHUNK_BYTES for chunk in chunks)
    return b"".join(chunks)


async def held(world: World, repository: str, data: bytes) -> bool:
    """Whether the repository offers these bytes, and has them."""
    blob = await world.registry.db.read(blobs.find, repository, Digest.of(data))
    if blob is None:
        return False
    assert await content(world.registry.blobs, blob.location) == data
    return True


async def is_public(world: World, data: bytes) -> bool:
    return await world.registry.db.read(public_blobs.is_public, Digest.of(data))


async def failure(of: Awaitable[object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the caller looks which)
        await of
    return caught.value


async def limit(world: World, pattern: str, bytes_max: int) -> None:
    """This quota and no other, counted to the end."""
    world.rule(quotas={pattern: bytes_max})
    await world.registry.db.write(quotas.sync, {pattern: bytes_max})
    while await world.registry.db.write(quotas.recount, 500) is not None:
        pass


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def opened(upstreams: list[Upstream], count: int) -> None:
    """Wait until so many of them are read, and see that no more are."""
    while sum(upstream.opened for upstream in upstreams) < count:
        await asyncio.sleep(0.001)  # A thread looks for room on the disk.
    await turns()
    assert sum(upstream.opened for upstream in upstreams) == count


# --- one fetch --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, MIB, UNSEEN_BYTES_MAX + MIB + 1])
@pytest.mark.parametrize("shared", [True, False])
async def test_a_blob_is_here_when_its_stream_ends(world: World, fetches: Fetches, size: int, shared: bool) -> None:
    upstream = Upstream(pattern(size))
    fetch = await begin(fetches, upstream, shared=shared)
    assert await whole(fetch) == upstream.data
    assert await held(world, REPOSITORY, upstream.data)
    assert await fetch.done() == await stream(fetches, upstream, shared=shared)
    assert (upstream.opened, upstream.closed) == (1, 1)
    assert world.strays() == []


async def test_bytes_are_given_as_they_come(fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=10)
    reading = (await begin(fetches, upstream)).read()
    got = await anext(reading)
    for position in (10, 11, 70_000, 5 * MIB, 5 * MIB + 1, len(DATA)):
        upstream.allow(position)
        while len(got) < position:
            got += await anext(reading)
        assert got == DATA[:position]
    assert [chunk async for chunk in reading] == []


async def test_fifty_readers_and_one_fetch(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=0)
    asking = [asyncio.create_task(begin(fetches, upstream)) for _ in range(50)]
    await turns()
    upstream.allow(MIB)
    found = await asyncio.gather(*asking)

    async def slowly(fetch: Fetch, pause: int) -> bytes:
        got = b""
        async for chunk in fetch.read():
            got += chunk
            await turns(pause)
        return got

    reading = [asyncio.create_task(slowly(fetch, number * 3)) for number, fetch in enumerate(found)]
    await turns()
    upstream.allow()
    for task in reading:
        assert await task == DATA
    assert upstream.opened == 1
    assert await held(world, REPOSITORY, DATA)


async def test_a_reader_that_stands_still_keeps_nobody_waiting(fetches: Fetches) -> None:
    upstream = Upstream(DATA)
    fetch = await begin(fetches, upstream)
    slow = fetch.read()
    first = await anext(slow)
    assert await whole(fetch) == DATA
    assert first + b"".join([chunk async for chunk in slow]) == DATA


async def test_who_is_behind_reads_from_the_store_while_the_rest_comes(fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=9 * MIB)
    fetch = await begin(fetches, upstream)
    ahead = fetch.read(9 * MIB - 1)
    await anext(ahead)
    assert await whole(fetch, 0, 9 * MIB) == DATA[: 9 * MIB]
    upstream.allow()
    assert await whole(fetch) == DATA


@pytest.mark.parametrize(
    ("start", "stop"), [(0, 1), (5, 5), (7, 3), (MIB - 1, MIB + 1), (len(DATA) - 1, None), (len(DATA), None)]
)
async def test_a_range_is_read(fetches: Fetches, start: int, stop: int | None) -> None:
    fetch = await begin(fetches, Upstream(DATA))
    assert await whole(fetch, start, stop) == DATA[start:stop]
    await fetch.done()
    assert await whole(fetch, start, stop) == DATA[start:stop]


async def test_a_range_that_has_come_does_not_wait_for_the_rest(fetches: Fetches) -> None:
    fetch = await begin(fetches, Upstream(DATA, allowed=100))
    assert await whole(fetch, 10, 100) == DATA[10:100]


async def test_who_leaves_stops_nothing(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=0)
    asking = asyncio.create_task(stream(fetches, upstream))
    await turns()
    asking.cancel()
    upstream.allow(MIB)
    fetch = await begin(fetches, upstream)
    reading = asyncio.create_task(whole(fetch))
    await turns()
    reading.cancel()
    upstream.allow()
    await fetch.done()
    assert upstream.opened == 1
    assert await held(world, REPOSITORY, DATA)


async def test_what_is_here_is_not_fetched(world: World, fetches: Fetches) -> None:
    await world.blob(DATA)
    upstream = Upstream(DATA)
    assert isinstance(await stream(fetches, upstream), Blob)
    assert upstream.opened == 0
    assert not await is_public(world, DATA)


async def test_a_damaged_blob_is_mended(world: World, fetches: Fetches) -> None:
    world.file(await world.blob(DATA)).write_bytes(b"damaged")
    assert await whole(await begin(fetches, Upstream(DATA))) == DATA
    assert await held(world, REPOSITORY, DATA)


# --- who gets it ------------------------------------------------------------------------------------------------


async def test_a_shared_blob_is_fetched_once_for_all_repositories(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=1)
    fetch = await begin(fetches, upstream)
    others = [await begin(fetches, upstream, f"team/{number}") for number in range(5)]
    upstream.allow()
    assert [await whole(each) for each in (fetch, *others)] == [DATA] * 6
    for number in range(5):
        assert await held(world, f"team/{number}", DATA)
    assert upstream.opened == 1
    assert isinstance(await stream(fetches, upstream, OTHER), Blob)
    assert await held(world, OTHER, DATA)
    assert upstream.opened == 1


async def test_it_is_linked_for_who_left(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=1)
    fetch = await begin(fetches, upstream)
    await begin(fetches, upstream, OTHER)
    upstream.allow()
    await fetch.done()
    assert await held(world, OTHER, DATA)


async def test_what_upstream_shows_to_us_only_is_fetched_for_each_repository(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=1)
    first = await begin(fetches, upstream, shared=False)
    again = await begin(fetches, upstream, shared=False)
    other = await begin(fetches, upstream, OTHER, shared=False)
    public = await begin(fetches, upstream, "team/public")
    assert upstream.opened == 3
    upstream.allow()
    assert [await whole(each) for each in (first, again, other, public)] == [DATA] * 4


async def test_what_came_with_our_login_is_not_public(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA)
    await (await begin(fetches, upstream, shared=False)).done()
    assert not await is_public(world, DATA)
    await (await begin(fetches, upstream, OTHER)).done()
    assert upstream.opened == 2
    assert await is_public(world, DATA)


async def test_a_manifest_of_upstream_that_names_a_secret_does_not_open_it(world: World, fetches: Fetches) -> None:
    """The attack: who learns the digest of a private layer names it in a public image, and pulls that through us."""
    await world.blob(DATA, "team/secret")
    evil = Upstream(DATA, allowed=0)
    evil.fail(NotFound("upstream never had it", status=404))
    for shared in (True, False):
        assert isinstance(await failure(stream(fetches, evil, "docker.io/evil/app", shared=shared)), NotFound)
    assert not await held(world, "docker.io/evil/app", DATA)
    assert not await is_public(world, DATA)
    # Somebody who shows that upstream has these bytes learns nothing by getting them.
    await (await begin(fetches, Upstream(DATA), "docker.io/library/app")).done()
    assert isinstance(await stream(fetches, evil, "docker.io/evil/app"), Blob)


async def test_who_lies_about_the_size_fails_alone(world: World, fetches: Fetches) -> None:
    honest, liar = Upstream(DATA, allowed=1), Upstream(DATA, allowed=0)
    liar.blob = replace(liar.blob, size=len(DATA) + 1)
    lying = asyncio.create_task(failure(stream(fetches, liar)))
    await turns()
    fetch = await begin(fetches, honest)
    liar.fail(Refused("no", status=403))
    honest.allow()
    assert await whole(fetch) == DATA
    assert isinstance(await lying, Refused)


# --- what goes wrong --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", [0, 1, MIB, len(DATA) - 1])
async def test_a_failure_reaches_all_who_wait_and_the_next_one_tries_anew(
    world: World, fetches: Fetches, came: int
) -> None:
    upstream = Upstream(DATA, allowed=came)
    asking = [asyncio.create_task(stream(fetches, upstream, repository)) for repository in (REPOSITORY, OTHER)]
    await turns()
    refusal = Refused("too many pulls", status=429)
    upstream.fail(refusal)
    for task in asking:
        try:
            fetch = await task
        except Refused as error:
            found: Exception = error
        else:
            assert isinstance(fetch, Fetch)
            found = await failure(whole(fetch))
            assert await failure(fetch.done()) is refusal
        assert found is refusal
    assert not await held(world, REPOSITORY, DATA)
    assert world.strays() == []
    assert await whole(await begin(fetches, Upstream(DATA))) == DATA


async def test_a_way_that_leads_nowhere_does_not_block_the_others(world: World, fetches: Fetches) -> None:
    """Or whoever names a layer of somebody else in an image of their own could keep it from everybody."""
    nowhere, honest = Upstream(DATA, allowed=0), Upstream(DATA)
    asking = [asyncio.create_task(failure(stream(fetches, nowhere, "docker.io/evil/app"))) for _ in range(2)]
    await turns()
    getting = [asyncio.create_task(begin(fetches, honest)) for _ in range(2)]
    await turns()
    assert honest.opened == 0
    nowhere.fail(NotFound("upstream never had it", status=404))
    for task in asking:
        assert isinstance(await task, NotFound)
    for getter in getting:
        assert await whole(await getter) == DATA
    assert (nowhere.opened, honest.opened) == (1, 1)
    assert await is_public(world, DATA)


async def test_who_has_read_much_is_told_too(fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=8 * MIB)
    reading = (await begin(fetches, upstream)).read()
    got = len(await anext(reading))
    upstream.fail(Refused("the line was cut", status=500))

    async def read_on() -> None:
        nonlocal got
        async for chunk in reading:
            got += len(chunk)

    assert isinstance(await failure(read_on()), Refused)
    assert got < len(DATA)


async def test_wrong_bytes_are_nobodys_blob(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA)
    upstream.data = DATA[:-1] + b"!"
    fetch = await begin(fetches, upstream)
    got = 0

    async def read() -> None:
        nonlocal got
        async for chunk in fetch.read():
            got += len(chunk)

    assert isinstance(await failure(read()), ContentMismatch)
    assert got < len(DATA)  # Nobody got a wrong blob whole.
    assert not await held(world, REPOSITORY, DATA)
    assert not await is_public(world, DATA)
    assert world.strays() == []


async def test_a_repository_without_room_is_refused_alone(world: World, fetches: Fetches) -> None:
    await limit(world, OTHER, MIB)
    upstream = Upstream(DATA, allowed=1)
    fetch = await begin(fetches, upstream)
    refused = await begin(fetches, upstream, OTHER)
    upstream.allow()
    assert await whole(fetch) == DATA
    assert isinstance(await failure(whole(refused)), QuotaExceeded)
    assert not await held(world, OTHER, DATA)
    assert isinstance(await failure(stream(fetches, upstream, OTHER)), QuotaExceeded)


async def test_nothing_is_fetched_where_nothing_may_change(world: World, fetches: Fetches) -> None:
    world.rule(read_only="moving house")
    upstream = Upstream(DATA)
    assert isinstance(await failure(stream(fetches, upstream)), ReadOnly)
    assert upstream.opened == 0


@pytest.mark.parametrize("error", [StorageError, StoreFull])
@pytest.mark.parametrize("done", [False, True])
async def test_a_store_that_fails_at_any_call(tmp_path: Path, error: type[StorageError], done: bool) -> None:
    """All who wait are told what it was, or have the blob; and when it works again, so does the next one."""
    for call in range(1, 20):
        world = World(tmp_path / f"{call}")
        store = world.registry.blobs = FailingStore(world.registry.blobs, call, done=done, error=error)
        async with Fetches(world.registry, Log(io.StringIO(), world.clock)) as fetches:
            results = await asyncio.gather(
                *(_outcome(fetches, Upstream(DATA[: 6 * MIB])) for _ in range(3)), return_exceptions=True
            )
            assert all(result == DATA[: 6 * MIB] or type(result) is error for result in results)
            failed = len(store.calls) >= call
            store.mend()
            assert await _outcome(fetches, Upstream(DATA[: 6 * MIB])) == DATA[: 6 * MIB]
            assert await held(world, REPOSITORY, DATA[: 6 * MIB])
        await world.close()
        if not failed:
            return
    pytest.fail("a fetch has fewer calls than that")


async def _outcome(fetches: Fetches, upstream: Upstream) -> bytes:
    found = await stream(fetches, upstream)
    if isinstance(found, Fetch):
        return await whole(found)
    return await content(fetches._registry.blobs, found.location)


async def test_a_reader_whose_own_read_fails_leaves_the_others_alone(world: World, fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=9 * MIB)
    fetch = await begin(fetches, upstream)
    await anext(fetch.read(9 * MIB - 1))
    store = world.registry.blobs = FailingStore(world.registry.blobs, 1)
    assert isinstance(await failure(whole(fetch)), StorageError)
    store.mend()
    upstream.allow()
    assert await whole(fetch) == DATA


# --- limits -----------------------------------------------------------------------------------------------------


async def test_no_more_than_some_are_fetched_at_once(world: World) -> None:
    async with Fetches(world.registry, Log(io.StringIO(), world.clock), at_once=2) as fetches:
        upstreams = [Upstream(bytes([number]) * 1000, allowed=0) for number in range(5)]
        asking = [asyncio.create_task(begin(fetches, upstream)) for upstream in upstreams]
        await opened(upstreams, 2)
        for upstream in upstreams:
            upstream.allow()
        for task, upstream in zip(asking, upstreams, strict=True):
            assert await whole(await task) == upstream.data


async def test_nobody_waits_until_a_slow_upstream_has_given_a_run_its_blobs(world: World) -> None:
    async with Fetches(world.registry, Log(io.StringIO(), world.clock), at_once=2) as fetches:
        slow = [Upstream(bytes([number]) * 1000, allowed=0) for number in range(5)]
        run = [
            asyncio.create_task(
                fetches.stream(ADA, REPOSITORY, each.blob, each.open, shared=True, purpose=Purpose.RUNS)
            )
            for each in slow
        ]
        await opened(slow, 2)
        assert await whole(await begin(fetches, Upstream(DATA))) == DATA
        for upstream in slow:
            upstream.allow()
        await asyncio.gather(*run)


async def test_the_queue_has_an_end(fetches: Fetches, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fetching, "FETCHES_MAX", 2)
    monkeypatch.setattr(fetching, "REPOSITORIES_MAX", 1)
    upstreams = [Upstream(bytes([number]) * 1000, allowed=1) for number in range(3)]
    for upstream in upstreams[:2]:
        await begin(fetches, upstream)
    assert isinstance(await failure(stream(fetches, upstreams[2])), Unavailable)
    await begin(fetches, upstreams[0])
    await begin(fetches, upstreams[0], OTHER)
    assert isinstance(await failure(stream(fetches, upstreams[0], "team/third")), Unavailable)
    upstreams[0].allow()
    await (await begin(fetches, upstreams[0])).done()
    await begin(fetches, upstreams[2])


async def test_memory_holds_the_last_bytes_only(fetches: Fetches) -> None:
    upstream = Upstream(DATA, allowed=9 * MIB)
    fetch = await begin(fetches, upstream)
    await anext(fetch.read(9 * MIB - 1))
    remembered = sum(len(chunk) for _, chunk in fetch._coming._tail)
    assert UNSEEN_BYTES_MAX <= remembered <= UNSEEN_BYTES_MAX + 65_536
    upstream.allow()
    await fetch.done()
    assert not fetch._coming._tail


# --- the end ----------------------------------------------------------------------------------------------------


async def test_at_the_end_everything_is_broken_off(world: World) -> None:
    upstream = Upstream(DATA, allowed=MIB)
    async with Fetches(world.registry, Log(io.StringIO(), world.clock), at_once=1) as fetches:
        reading = asyncio.create_task(failure(whole(await begin(fetches, upstream))))
        waiting = asyncio.create_task(failure(stream(fetches, Upstream(b"not yet"))))
        await turns()
    assert isinstance(await reading, Unavailable)
    assert isinstance(await waiting, Unavailable)
    assert isinstance(await failure(stream(fetches, upstream)), Unavailable)
    assert (upstream.opened, upstream.closed) == (1, 1)
    assert world.strays() == []


async def test_a_server_that_starts_beside_it_leaves_alone_what_is_on_its_way(fetches: Fetches, world: World) -> None:
    upstream = Upstream(DATA, allowed=6 * MIB)
    fetch = await begin(fetches, upstream)
    await anext(fetch.read(5 * MIB))
    assert world.strays()
    assert await uploads.discard_strays(world.registry) == 0
    upstream.allow()
    assert await whole(fetch) == DATA
    assert not await world.rows("SELECT id FROM uploads")


async def test_who_asked_for_what_has_not_even_begun_is_told_of_the_end(world: World) -> None:
    async with Fetches(world.registry, Log(io.StringIO(), world.clock)) as fetches:
        asking = asyncio.create_task(failure(stream(fetches, Upstream(DATA))))
        while not fetches._coming:
            await asyncio.sleep(0)
    assert isinstance(await asking, Unavailable)
    assert not fetches._coming
