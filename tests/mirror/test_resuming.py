"""What broke off on its way from upstream goes on where it was, in this process or the next; never with wrong bytes."""

from __future__ import annotations

import asyncio
import io
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport.client.errors import BadAnswer, ConnectionFailed, ContentMismatch, Refused
from homeport.events import Origin
from homeport.mirror.fetching import Fetch, Fetches
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUploadUnknown, QuotaExceeded, Unavailable
from homeport.registry import downloads, quotas, uploads
from homeport.storage.blobstore import Space, StorageError, StoreFull
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.blobstore_suite import MIB, content, pattern
from tests.mirror.upstreams import Upstream
from tests.registry.world import ADA, BOB, OTHER, REPOSITORY, World, body

DATA = pattern(9 * MIB + 17)
#: How much has come when the first process dies; what of it is in its file may be less.
CAME = 6 * MIB
#: How far an upstream lets the next process come, which so has got something from it.
FURTHER = 8 * MIB
CHUNK = 65_536


@pytest.fixture
async def after(tmp_path: Path) -> AsyncIterator[World]:
    """What a process that died in the middle of `DATA` has left, as the next one finds it."""
    world = await left_by_a_death(tmp_path, Upstream(DATA, allowed=CAME))
    yield world
    await world.close()


async def left_by_a_death(folder: Path, upstream: Upstream, *, shared: bool = True, came: int = CAME) -> World:
    """What lies on the disk in the middle of a fetch is what a killed process leaves."""
    before, after = folder / "before", folder / "after"
    before.mkdir(parents=True)
    dying = World(before / "data", before / "homeport.db")
    async with fetching(dying) as fetches:
        reading = (await begin(fetches, upstream, shared=shared)).read(came - 1)
        await anext(reading)
        await asyncio.to_thread(shutil.copytree, before, after)
    await dying.close()
    world = World(after / "data", after / "homeport.db")
    await uploads.discard_strays(world.registry)  # As every server does before it serves.
    return world


def fetching(world: World) -> Fetches:
    return Fetches(world.registry, Log(io.StringIO(), world.clock))


async def begin(
    fetches: Fetches,
    upstream: Upstream,
    repository: str = REPOSITORY,
    *,
    shared: bool = True,
    origin: Origin = ADA,
) -> Fetch:
    found = await fetches.stream(origin, repository, upstream.blob, upstream.open, shared=shared)
    assert isinstance(found, Fetch)
    return found


async def whole(fetch: Fetch) -> bytes:
    return b"".join([chunk async for chunk in fetch.read()])


async def bring(world: World, upstream: Upstream) -> bytes:
    """What a reader gets in a new process."""
    async with fetching(world) as fetches:
        return await whole(await begin(fetches, upstream))


async def is_here(world: World) -> bool:
    """Whether the bytes are here, and nothing else is."""
    locations = [location for (location,) in await world.rows("SELECT DISTINCT location FROM held_blobs")]
    clean = world.strays() == [] and await world.rows("SELECT id FROM uploads") == []
    return clean and [await content(world.registry.blobs, each) for each in locations] == [DATA]


def left(world: World) -> Path:
    """The file of what broke off."""
    (name,) = world.strays()
    return world.folder / "uploads" / name


async def failure(reading: Awaitable[object]) -> Exception:
    with pytest.raises(Exception) as caught:  # noqa: PT011 (the caller looks which)
        await reading
    return caught.value


async def turns(count: int = 50) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


# --- what a death leaves ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("came", [1, MIB, 5 * MIB, 9 * MIB, len(DATA) - 1])
@pytest.mark.parametrize("shared", [True, False])
async def test_upstream_is_asked_for_the_rest_only(tmp_path: Path, came: int, shared: bool) -> None:
    world = await left_by_a_death(tmp_path, Upstream(DATA, allowed=came), shared=shared, came=came)
    size = sum(file.stat().st_size for file in (world.folder / "uploads").glob("*"))
    assert size > came - 4 * MIB
    upstream = Upstream(DATA)
    async with fetching(world) as fetches:
        readers = [await begin(fetches, upstream, shared=shared) for _ in range(3)]
        assert [await whole(each) for each in readers] == [DATA] * 3
    assert upstream.starts == [size]
    assert await is_here(world)
    await world.close()


async def test_nobody_is_sent_anything_before_upstream_has_answered(after: World) -> None:
    """A node that is told of the error at once may still ask upstream by itself."""
    upstream = Upstream(DATA, allowed=0)
    async with fetching(after) as fetches:
        asking = asyncio.create_task(begin(fetches, upstream))
        await turns()
        assert not asking.done()
        upstream.allow()
        assert await whole(await asking) == DATA
    assert await is_here(after)


async def test_that_another_repository_cannot_go_on_is_nothing_to_us(after: World) -> None:
    refusing, upstream = Upstream(DATA, allowed=0), Upstream(DATA)
    async with fetching(after) as fetches:
        theirs = asyncio.create_task(failure(begin(fetches, refusing)))
        await turns()
        ours = asyncio.create_task(begin(fetches, upstream, OTHER))
        await turns()
        refusing.fail(Refused("gone", status=404))
        assert isinstance(await theirs, Refused)
        assert await whole(await ours) == DATA
    assert upstream.starts == [0]


def _missing(file: Path, _data: bytes) -> None:
    file.unlink()


def _empty(file: Path, _data: bytes) -> None:
    file.write_bytes(b"")


def _shorter(file: Path, data: bytes) -> None:
    file.write_bytes(data[: MIB + 5])


def _all_but_one(file: Path, data: bytes) -> None:
    file.write_bytes(data[:-1])


def _all(file: Path, data: bytes) -> None:
    file.write_bytes(data)


@pytest.mark.parametrize(
    ("change", "starts"),
    [
        (_missing, [0]),
        (_empty, [0]),
        (_shorter, [MIB + 5]),
        (_all_but_one, [len(DATA) - 1]),
        (_all, [len(DATA)]),  # Of which nothing is sent.
    ],
)
async def test_what_the_file_has_is_what_counts(
    after: World, change: Callable[[Path, bytes], None], starts: list[int]
) -> None:
    change(left(after), DATA)
    upstream = Upstream(DATA)
    assert await bring(after, upstream) == DATA
    assert upstream.starts == starts
    assert await is_here(after)


def _zeros(data: bytes) -> bytes:
    return data[:MIB] + bytes(MIB)


def _wrong(data: bytes) -> bytes:
    return data[:-1] + b"!"


def _longer(data: bytes) -> bytes:
    return data + b"!"


@pytest.mark.parametrize("change", [_zeros, _wrong, _longer])
async def test_what_a_power_cut_spoilt_comes_once_more(after: World, change: Callable[[bytes], bytes]) -> None:
    wrong = change(DATA)
    left(after).write_bytes(wrong)
    upstream = Upstream(DATA)
    async with fetching(after) as fetches:
        fetch = await begin(fetches, upstream)
        assert (await fetch.done()).size == len(DATA)
        assert await whole(fetch) == DATA
    assert upstream.starts == [len(wrong), 0]
    assert await is_here(after)


async def test_nobody_gets_a_wrong_blob_whole(after: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither from what lies here, nor from what the store has before it is verified."""
    left(after).write_bytes(_zeros(DATA) + DATA[2 * MIB : -CHUNK - 50])
    upstream = Upstream(DATA, chunk_bytes=CHUNK)
    verify, looked = after.registry.blobs.digest, asyncio.Event()

    async def look(upload: str, algorithm: str) -> Digest:
        if upstream.starts:
            await looked.wait()
        return await verify(upload, algorithm)

    monkeypatch.setattr(after.registry.blobs, "digest", look)
    async with fetching(after) as fetches:
        fetch = await begin(fetches, upstream)
        came, reading = bytearray(), fetch.read(1000)  # So that a read goes beyond what may be shown.

        async def read() -> None:
            async for chunk in reading:
                came.extend(chunk)

        early = asyncio.create_task(failure(read()))
        await asyncio.sleep(0.1)
        assert 0 < len(came) < len(DATA) - 1000
        assert left(after).stat().st_size == len(DATA)
        looked.set()
        assert isinstance(await early, ContentMismatch)
        assert len(came) < len(DATA) - 1000
        assert await whole(fetch) == DATA
    assert await is_here(after)


async def test_it_comes_once_more_and_no_more(after: World) -> None:
    left(after).write_bytes(_zeros(DATA))
    upstream = Upstream(DATA)
    upstream.data = _wrong(DATA)
    async with fetching(after) as fetches:
        assert isinstance(await failure((await begin(fetches, upstream)).done()), ContentMismatch)
    assert upstream.starts == [2 * MIB, 0]
    assert after.strays() == []
    assert await after.rows("SELECT id FROM uploads") == []


@pytest.mark.parametrize(
    "error",
    [
        BadAnswer("another range"),
        *(Refused("no such range", status=status) for status in (400, 416, 501)),
    ],
)
async def test_an_upstream_that_cannot_send_the_rest_sends_all(
    after: World, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """What cannot be gone on with is not left lying about, however much it is."""
    monkeypatch.setattr(downloads, "KEPT_BYTES_MIN", 1)

    class Unranged(Upstream):
        async def read(self, position: int) -> bytes:
            chunk = await super().read(position)
            if self.starts[-1] > 0:
                raise error
            return chunk

    upstream = Unranged(DATA)
    async with fetching(after) as fetches:
        await (await begin(fetches, upstream)).done()
    assert len(upstream.starts) == 2
    assert await is_here(after)


async def test_an_upstream_that_refuses_is_not_asked_again(after: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "KEPT_BYTES_MIN", 1)
    kept, upstream = left(after), Upstream(DATA, allowed=0)
    upstream.fail(Refused("too many pulls", status=429))
    async with fetching(after) as fetches:
        assert isinstance(await failure(begin(fetches, upstream)), Refused)
    assert upstream.starts == [kept.stat().st_size]


async def test_a_row_that_a_power_cut_took_back_takes_the_bytes_with_it(after: World) -> None:
    await after.registry.db.write(lambda tx: tx.run("DELETE FROM uploads"))
    assert await uploads.discard_strays(after.registry) == 1
    upstream = Upstream(DATA)
    assert await bring(after, upstream) == DATA
    assert upstream.starts == [0]


async def test_every_call_of_the_store_may_fail(tmp_path: Path) -> None:
    for call in range(1, 20):
        world = await left_by_a_death(tmp_path / str(call), Upstream(DATA, allowed=CAME))
        store = world.registry.blobs = FailingStore(world.registry.blobs, call)
        async with fetching(world) as fetches:
            with suppress(StorageError):
                await (await begin(fetches, Upstream(DATA))).done()
            failed = len(store.calls) >= call
            store.mend()
            upstream = Upstream(DATA)
            found = await fetches.stream(ADA, REPOSITORY, upstream.blob, upstream.open, shared=True)
            if isinstance(found, Fetch):
                assert await whole(found) == DATA
        if not failed:
            assert await is_here(world)
        await world.close()
        if not failed:
            return
    pytest.fail("a fetch has fewer calls than that")


# --- whose it is --------------------------------------------------------------------------------------------------


async def test_bytes_that_upstream_showed_to_us_only_become_nothing_that_everybody_may_have(tmp_path: Path) -> None:
    world = await left_by_a_death(tmp_path, Upstream(DATA, allowed=CAME), shared=False)
    upstream = Upstream(DATA)
    assert await bring(world, upstream) == DATA
    assert upstream.starts == [0]
    await world.close()


@pytest.mark.parametrize("other", [{"repository": OTHER}, {"origin": BOB}])
async def test_nobody_else_goes_on_with_it(after: World, other: dict[str, Any]) -> None:
    kept, upstream = left(after), Upstream(DATA)
    async with fetching(after) as fetches:
        assert await whole(await begin(fetches, upstream, **other)) == DATA
    assert upstream.starts == [0]
    assert after.strays() == [kept.name]


async def test_who_says_another_size_begins_at_the_first_byte(after: World) -> None:
    liar = Upstream(DATA)
    liar.blob = replace(liar.blob, size=len(DATA) + 1)
    async with fetching(after) as fetches:
        await (await begin(fetches, liar)).done()
    assert liar.starts == [0]


async def test_a_client_cannot_reach_it(after: World) -> None:
    with pytest.raises(BlobUploadUnknown):
        await uploads.append(after.registry, after.sessions, BOB, REPOSITORY, left(after).name, None, body(b"mine"))


async def test_two_processes_that_bring_the_same_do_not_spoil_it(tmp_path: Path) -> None:
    """Whatever they do to each other's bytes, they are told, and each brings all of it once more."""
    one = World(tmp_path / "data", tmp_path / "homeport.db")
    two = World(tmp_path / "data", tmp_path / "homeport.db")
    first, second = Upstream(DATA, allowed=CAME), Upstream(DATA)
    async with fetching(one) as early, fetching(two) as late:
        slow = await begin(early, first)
        await anext(slow.read(CAME - 1))
        fast = await begin(late, second)
        first.allow()
        await asyncio.gather(slow.done(), fast.done())
    assert second.starts[0] > 0
    one.pass_time(one.registry.rules.uploads_seconds + 1)
    await uploads.abandon(one.registry, 10)  # What neither of them has any more.
    assert await is_here(one)
    await one.close()
    await two.close()


async def test_who_gives_up_ends_nothing_that_another_process_has_taken_over(tmp_path: Path) -> None:
    one = World(tmp_path / "data", tmp_path / "homeport.db")
    two = World(tmp_path / "data", tmp_path / "homeport.db")
    first, second = Upstream(DATA, allowed=CAME), Upstream(DATA, allowed=CAME + 3 * MIB)
    async with fetching(one) as early, fetching(two) as late:
        slow = await begin(early, first)
        await anext(slow.read(CAME - 1))
        while left(one).stat().st_size < CAME:
            await asyncio.sleep(0.01)
        fast = await begin(late, second)
        while left(one).stat().st_size == CAME:
            await asyncio.sleep(0.01)
        first.fail(ConnectionFailed("the line is cut", temporary=True))
        assert isinstance(await failure(slow.done()), ConnectionFailed)
        second.allow()
        assert await whole(fast) == DATA
    assert second.starts == [CAME]
    assert await is_here(two)
    await one.close()
    await two.close()


# --- what comes to an end -----------------------------------------------------------------------------------------


async def test_what_nobody_goes_on_with_is_forgotten(after: World) -> None:
    after.pass_time(after.registry.rules.uploads_seconds + 1)
    assert await uploads.abandon(after.registry, 10) == 1
    assert after.strays() == []
    upstream = Upstream(DATA)
    assert await bring(after, upstream) == DATA
    assert upstream.starts == [0]


async def test_what_is_tried_in_vain_for_ever_is_forgotten_all_the_same(
    after: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It moves when a byte comes; until then it stops no cleanup either."""
    monkeypatch.setattr(downloads, "KEPT_BYTES_MIN", 1)
    hour = 3600.0
    after.pass_time(hour)
    for _ in range(24):
        upstream = Upstream(DATA, allowed=0)
        upstream.fail(ConnectionFailed("the line is cut", temporary=True))
        async with fetching(after) as fetches:
            await failure(begin(fetches, upstream))
        assert await after.registry.db.read(uploads.count_moving, after.clock.now() - hour) == 0
        after.pass_time(hour)
    assert await uploads.abandon(after.registry, 10) == 1
    assert after.strays() == []


async def test_who_goes_on_with_it_was_promised_nothing_before(after: World) -> None:
    """So an upload that goes on and breaks off for weeks keeps nothing that was promised in those weeks."""
    after.pass_time(10 * 86_400.0)
    now, upstream = after.clock.now(), Upstream(DATA, allowed=FURTHER)
    async with fetching(after) as fetches:
        await anext((await begin(fetches, upstream)).read(CAME - 1))
        began = await after.registry.db.read(uploads.oldest_moving, REPOSITORY, now)
    assert began is not None
    assert began >= now


async def test_what_is_gone_on_with_is_not_forgotten(after: World) -> None:
    after.pass_time(after.registry.rules.uploads_seconds + 1)
    upstream = Upstream(DATA, allowed=FURTHER)
    async with fetching(after) as fetches:
        fetch = await begin(fetches, upstream)
        await anext(fetch.read(CAME - 1))
        assert await uploads.abandon(after.registry, 10) == 0
        upstream.allow()
        assert await whole(fetch) == DATA


async def test_what_another_process_forgot_meanwhile_comes_once_more(after: World) -> None:
    upstream = Upstream(DATA, allowed=FURTHER)
    size = left(after).stat().st_size
    async with fetching(after) as fetches:
        fetch = await begin(fetches, upstream)
        await anext(fetch.read(CAME - 1))
        await after.registry.db.write(lambda tx: tx.run("DELETE FROM uploads"))
        after.pass_time(uploads.MOVED_SECONDS)
        upstream.allow()
        await fetch.done()
    assert upstream.starts == [size, 0]
    assert await is_here(after)


async def test_a_quota_counts_what_is_here_and_what_comes(after: World) -> None:
    await limit(after, 8 * MIB)
    async with fetching(after) as fetches:
        found = await failure(fetches.stream(ADA, REPOSITORY, Upstream(DATA).blob, Upstream(DATA).open, shared=True))
        assert isinstance(found, QuotaExceeded)
        await limit(after, 10 * MIB)
        assert await whole(await begin(fetches, Upstream(DATA))) == DATA
    assert await is_here(after)


async def test_a_quota_that_shrank_ends_it(after: World) -> None:
    upstream = Upstream(DATA, allowed=FURTHER)
    async with fetching(after) as fetches:
        fetch = await begin(fetches, upstream)
        await anext(fetch.read(CAME - 1))
        await limit(after, 2 * MIB)
        upstream.allow()
        assert isinstance(await failure(fetch.done()), QuotaExceeded)
    assert after.strays() == []
    assert await after.rows("SELECT id FROM uploads") == []


async def limit(world: World, bytes_max: int) -> None:
    """The repository may hold so much."""
    world.rule(quotas={REPOSITORY: bytes_max})
    await world.registry.db.write(quotas.sync, {REPOSITORY: bytes_max})
    while await world.registry.db.write(quotas.recount, 500) is not None:
        pass


@pytest.mark.parametrize("fits", [True, False])
async def test_only_the_rest_needs_room(after: World, monkeypatch: pytest.MonkeyPatch, fits: bool) -> None:
    room = len(DATA) - left(after).stat().st_size - (not fits)

    async def space() -> Space:
        return Space(total_bytes=10 * MIB, free_bytes=room)

    monkeypatch.setattr(after.registry.blobs, "space", space)
    if fits:
        assert await bring(after, Upstream(DATA)) == DATA
        assert await is_here(after)
    else:
        assert isinstance(await failure(bring(after, Upstream(DATA))), StoreFull)
        assert after.strays() == []  # Others need the room more.


# --- what breaks off without a death ------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
async def test_what_a_stopped_process_had_is_gone_on_with(
    world: World, monkeypatch: pytest.MonkeyPatch, kept: bool
) -> None:
    monkeypatch.setattr(downloads, "KEPT_BYTES_MIN", 1 if kept else len(DATA))
    async with fetching(world) as fetches:
        reading = asyncio.create_task(failure(whole(await begin(fetches, Upstream(DATA, allowed=CAME)))))
        await turns()
    assert isinstance(await reading, Unavailable)
    assert await uploads.discard_strays(world.registry) == 0
    upstream = Upstream(DATA)
    assert await bring(world, upstream) == DATA
    assert (upstream.starts[0] > 0) == kept
    assert await is_here(world)


async def test_what_an_upstream_broke_off_is_gone_on_with(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "KEPT_BYTES_MIN", 1)
    failing = Upstream(DATA, allowed=CAME)
    failing.fail(ConnectionFailed("the line is cut", temporary=True))
    upstream = Upstream(DATA)
    async with fetching(world) as fetches:
        await failure((await begin(fetches, failing)).done())
        assert await world.rows("SELECT reserved_bytes FROM uploads") == [(0,)]
        assert await whole(await begin(fetches, upstream)) == DATA
    assert upstream.starts == [CAME]
    assert await is_here(world)


async def test_what_comes_within_a_minute_costs_nothing_more(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    jotted, jot = [], world.registry.db.jot

    async def counting(fact: Callable[..., object], *args: object) -> object:
        jotted.append(fact.__name__)
        return await jot(fact, *args)

    monkeypatch.setattr(world.registry.db, "jot", counting)
    assert await bring(world, Upstream(DATA)) == DATA
    assert jotted == ["_move", "_hold", "_offer", "record"]
