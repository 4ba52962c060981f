"""The contract of `BlobStore` as tests: what every implementation passes.

    class TestMyStore(BlobStoreSuite):
        @pytest.fixture
        def open_store(self) -> StoreFactory: ...

A `StoreFactory` opens a store; each store that it opens is another process's view of the same bytes, which are none
when a test begins. With `full=True` the store has no room to write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Protocol

import pytest

from homeport.oci.digest import Digest
from homeport.storage.blobstore import (
    UNSEEN_BYTES_MAX,
    BlobMissing,
    BlobStore,
    StorageError,
    StoreFull,
    UploadMissing,
    WrongOffset,
)

MIB = 1 << 20
UPLOAD = "0123456789abcdef0123456789abcdef"
OTHER = "fedcba9876543210fedcba9876543210"
HELLO = b"hello"


class StoreFactory(Protocol):
    """Opens a store on the bytes of this test."""

    def __call__(self, *, full: bool = False) -> BlobStore: ...


class BodyEnded(Exception):
    """What a test's body raises in the middle."""


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, each after a turn of the event loop, as they come from a socket."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def broken_body(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, and then an error."""
    for chunk in chunks:
        yield chunk
    raise BodyEnded


async def endless_body(came: asyncio.Event, *chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, and then nothing for ever; `came` is set when the last one was taken."""
    for chunk in chunks:
        yield chunk
    came.set()
    await asyncio.Event().wait()


def pattern(count: int) -> bytes:
    """`count` bytes of which no two stretches of a block's length are alike."""
    return b"".join(index.to_bytes(8, "big") for index in range(-(-count // 8)))[:count]


def pieces(data: bytes, count: int) -> Iterable[bytes]:
    """`data` in chunks of `count` bytes."""
    return (data[start : start + count] for start in range(0, len(data), count))


async def content(store: BlobStore, location: str, start: int = 0, stop: int | None = None) -> bytes:
    """What `read` gives, whose chunks must be neither empty nor larger than 1 MiB."""
    chunks = [chunk async for chunk in store.read(location, start, stop)]
    assert all(0 < len(chunk) <= MIB for chunk in chunks)
    return b"".join(chunks)


async def written(store: BlobStore, upload: str = UPLOAD) -> bytes:
    """What those see who read the upload now, from its beginning."""
    data = b""
    while chunk := await store.read_upload(upload, len(data), MIB):
        assert len(chunk) <= MIB
        data += chunk
    return data


async def push(store: BlobStore, data: bytes, upload: str = UPLOAD) -> str:
    """`data` as a client pushes it; its location."""
    await store.append(upload, 0, body(data))
    return await store.finish(upload, await store.digest(upload, "sha256"))


class BlobStoreSuite:
    """Derive from it, and override `open_store`."""

    @pytest.fixture
    def open_store(self) -> StoreFactory:
        raise NotImplementedError

    @pytest.fixture
    async def store(self, open_store: StoreFactory) -> AsyncIterator[BlobStore]:
        store = open_store()
        yield store
        await store.close()

    # --- uploads ------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("size", [0, 1, MIB - 1, MIB, MIB + 1, 3 * MIB + 17])
    @pytest.mark.parametrize("chunk_size", [4096, 65536, 5 * MIB])
    async def test_what_is_appended_becomes_the_blob(self, store: BlobStore, size: int, chunk_size: int) -> None:
        data = pattern(size)
        assert await store.append(UPLOAD, 0, body(*pieces(data, chunk_size))) == size
        assert await store.size(UPLOAD) == size
        digest = await store.digest(UPLOAD, "sha256")
        assert digest == Digest.of(data)
        location = await store.finish(UPLOAD, digest)
        assert await store.stat(location) == size
        assert await content(store, location) == data

    async def test_chunks_may_be_tiny_and_many(self, store: BlobStore) -> None:
        data = pattern(5000)
        assert await store.append(UPLOAD, 0, body(b"", *pieces(data, 1), b"")) == 5000
        assert await store.digest(UPLOAD, "sha256") == Digest.of(data)
        assert await content(store, await store.finish(UPLOAD, Digest.of(data))) == data

    async def test_appending_goes_on_where_it_ended(self, store: BlobStore) -> None:
        assert await store.append(UPLOAD, 0, body(b"hel")) == 3
        assert await store.append(UPLOAD, 3, body()) == 3
        assert await store.append(UPLOAD, 3, body(b"l", b"o")) == 5
        assert await store.digest(UPLOAD, "sha256") == Digest.of(HELLO)

    async def test_an_append_of_nothing_begins_the_upload(self, store: BlobStore) -> None:
        assert await store.append(UPLOAD, 0, body()) == 0
        assert await store.digest(UPLOAD, "sha256") == Digest.of(b"")
        assert await store.stat(await store.finish(UPLOAD, Digest.of(b""))) == 0

    @pytest.mark.parametrize("offset", [0, 2, 4, 6, 1 << 40])
    async def test_an_append_elsewhere_is_refused_and_changes_nothing(self, store: BlobStore, offset: int) -> None:
        await store.append(UPLOAD, 0, body(HELLO))
        with pytest.raises(WrongOffset) as caught:
            await store.append(UPLOAD, offset, body(b"!"))
        assert caught.value.size == 5
        assert await store.digest(UPLOAD, "sha256") == Digest.of(HELLO)

    async def test_an_append_behind_the_end_of_nothing_is_refused(self, store: BlobStore) -> None:
        with pytest.raises(WrongOffset) as caught:
            await store.append(UPLOAD, 5, body(b"!"))
        assert caught.value.size == 0
        assert await store.size(UPLOAD) == 0
        assert [upload async for upload in store.uploads()] == []

    @pytest.mark.parametrize("size", [0, 5, MIB, 2 * MIB + 5])
    async def test_a_body_that_breaks_off_leaves_what_came(self, store: BlobStore, size: int) -> None:
        data = pattern(size)
        with pytest.raises(BodyEnded):
            await store.append(UPLOAD, 0, broken_body(*pieces(data, 65536)))
        assert await store.size(UPLOAD) == size
        await store.append(UPLOAD, size, body(b"the rest"))
        assert await store.digest(UPLOAD, "sha256") == Digest.of(data + b"the rest")

    @pytest.mark.parametrize("size", [5, MIB, 2 * MIB + 5])
    @pytest.mark.parametrize("times", [1, 2, 5])
    async def test_a_cancelled_append_leaves_what_came_and_writes_no_more(
        self, store: BlobStore, size: int, times: int
    ) -> None:
        data = pattern(size)
        came = asyncio.Event()
        append = asyncio.create_task(store.append(UPLOAD, 0, endless_body(came, *pieces(data, 65536))))
        await came.wait()
        for _ in range(times):
            append.cancel()
            await asyncio.sleep(0)
        with pytest.raises(asyncio.CancelledError):
            await append
        kept = await store.size(UPLOAD)
        assert kept == size if times == 1 else kept <= size
        await store.append(UPLOAD, kept, body(data[kept:], b"the rest"))
        assert await store.digest(UPLOAD, "sha256") == Digest.of(data + b"the rest")

    @pytest.mark.parametrize("chunk_size", [1000, 65536, MIB - 1, MIB])
    async def test_an_upload_is_read_while_it_comes(
        self, store: BlobStore, open_store: StoreFactory, chunk_size: int
    ) -> None:
        data = pattern(9 * MIB + 17)
        other = open_store()

        async def read_meanwhile() -> AsyncIterator[bytes]:
            taken = 0
            for number, chunk in enumerate(pieces(data, chunk_size)):
                if taken > UNSEEN_BYTES_MAX and number % (MIB // chunk_size) == 0:
                    seen = await written(other if number % 2 else store)
                    assert len(seen) >= taken - UNSEEN_BYTES_MAX
                    assert data.startswith(seen)
                taken += len(chunk)
                yield chunk

        await store.append(UPLOAD, 0, read_meanwhile())
        assert await written(store) == await written(other) == data
        assert await store.read_upload(UPLOAD, 5, 7) == data[5:12]
        assert await store.read_upload(UPLOAD, len(data) - 5, MIB) == data[-5:]
        assert await store.read_upload(UPLOAD, len(data), 1) == await store.read_upload(UPLOAD, 1 << 40, 1) == b""
        await other.close()

    async def test_an_upload_that_has_ended_or_never_began_is_not_read(self, store: BlobStore) -> None:
        async def is_missing() -> bool:
            with pytest.raises(UploadMissing):
                await store.read_upload(UPLOAD, 0, 1)
            return True

        assert await is_missing()
        await store.append(UPLOAD, 0, body())
        assert await written(store) == b""
        await push(store, HELLO)
        assert await is_missing()
        await store.append(UPLOAD, 0, body(HELLO))
        await store.cancel(UPLOAD)
        assert await is_missing()

    async def test_uploads_do_not_mix(self, store: BlobStore) -> None:
        uploads = {f"{number:032x}": pattern(number * 100_000) + bytes([number]) for number in range(12)}
        sizes = await asyncio.gather(*(store.append(key, 0, body(*pieces(uploads[key], 9999))) for key in uploads))
        assert sizes == [len(data) for data in uploads.values()]
        locations = await asyncio.gather(*(store.finish(key, Digest.of(uploads[key])) for key in uploads))
        for location, data in zip(locations, uploads.values(), strict=True):
            assert await content(store, location) == data

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_the_digest_is_of_all_bytes_whoever_wrote_them(
        self, store: BlobStore, open_store: StoreFactory, algorithm: str
    ) -> None:
        data = pattern(9 * MIB + 1)
        await store.append(UPLOAD, 0, body(data[:MIB]))
        other = open_store()
        await other.append(UPLOAD, MIB, body(*pieces(data[MIB:], MIB)))
        for each in (store, other, store):
            assert await each.digest(UPLOAD, algorithm) == Digest.of(data, algorithm)
        await other.append(UPLOAD, len(data), body(b"!"))
        assert await store.digest(UPLOAD, algorithm) == Digest.of(data + b"!", algorithm)
        location = await store.finish(UPLOAD, Digest.of(data + b"!", algorithm))
        assert await other.stat(location) == len(data) + 1
        await other.close()

    async def test_a_finished_upload_is_gone(self, store: BlobStore) -> None:
        await push(store, HELLO)
        assert await store.size(UPLOAD) == 0
        assert [upload async for upload in store.uploads()] == []
        with pytest.raises(UploadMissing):
            await store.finish(UPLOAD, Digest.of(HELLO))
        with pytest.raises(UploadMissing):
            await store.digest(UPLOAD, "sha256")

    async def test_finish_replaces_what_lies_in_the_place(self, store: BlobStore) -> None:
        digest = Digest.of(b"as it should be")
        await store.append(UPLOAD, 0, body(b"damaged"))
        await store.finish(UPLOAD, digest)
        await store.append(UPLOAD, 0, body(b"as it should be"))
        assert await content(store, await store.finish(UPLOAD, digest)) == b"as it should be"

    async def test_the_same_blob_may_be_finished_many_times_at_once(self, store: BlobStore) -> None:
        uploads = [f"{number:032x}" for number in range(8)]
        locations = await asyncio.gather(*(push(store, HELLO, upload) for upload in uploads))
        for location in locations:
            assert await content(store, location) == HELLO

    async def test_a_cancelled_upload_has_no_bytes(self, store: BlobStore) -> None:
        await store.append(UPLOAD, 0, body(HELLO))
        await store.cancel(UPLOAD)
        await store.cancel(UPLOAD)
        assert await store.size(UPLOAD) == 0
        with pytest.raises(UploadMissing):
            await store.finish(UPLOAD, Digest.of(HELLO))
        assert await store.append(UPLOAD, 0, body(b"bye")) == 3
        assert await store.digest(UPLOAD, "sha256") == Digest.of(b"bye")

    async def test_uploads_lists_those_that_have_bytes(self, store: BlobStore) -> None:
        assert [upload async for upload in store.uploads()] == []
        await store.append(UPLOAD, 0, body(HELLO))
        await store.append(OTHER, 0, body(HELLO))
        await store.put(Digest.of(HELLO), HELLO)
        assert sorted([upload async for upload in store.uploads()]) == sorted([UPLOAD, OTHER])

    @pytest.mark.parametrize("upload", ["", ".", "..", "../x", "a/b", UPLOAD.upper(), UPLOAD + "0", UPLOAD + "\n"])
    async def test_an_id_that_is_none_names_nothing(self, store: BlobStore, upload: str) -> None:
        for call in (
            lambda: store.append(upload, 0, body(HELLO)),
            lambda: store.size(upload),
            lambda: store.read_upload(upload, 0, 1),
            lambda: store.digest(upload, "sha256"),
            lambda: store.finish(upload, Digest.of(HELLO)),
            lambda: store.cancel(upload),
        ):
            with pytest.raises(UploadMissing):
                await call()

    # --- blobs --------------------------------------------------------------------------------------------------

    @pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
    async def test_put_is_a_push_in_one(self, store: BlobStore, algorithm: str) -> None:
        for data in (b"", HELLO, HELLO):
            location = await store.put(Digest.of(data, algorithm), data)
            assert await content(store, location) == data
        assert [upload async for upload in store.uploads()] == []

    async def test_the_path_is_a_file_of_the_same_bytes(self, store: BlobStore) -> None:
        path = store.path(await push(store, HELLO))
        if path is not None:
            assert path.read_bytes() == HELLO

    @pytest.mark.parametrize(
        ("start", "stop"),
        [(0, None), (0, 1), (5, 5), (7, 3), (0, 1 << 40), (MIB - 1, MIB + 1), (MIB, 2 * MIB), (2_500_000, None)],
    )
    async def test_a_range_is_read(self, store: BlobStore, start: int, stop: int | None) -> None:
        data = pattern(2_500_000)
        assert await content(store, await push(store, data), start, stop) == data[start:stop]

    async def test_a_read_may_be_left_early(self, store: BlobStore) -> None:
        data = pattern(5 * MIB)
        location = await push(store, data)
        reading = store.read(location)
        assert data.startswith(await anext(reading))
        await reading.aclose()  # type: ignore[attr-defined]  # an async generator, which the contract does not promise

    async def test_what_is_not_there_is_missing(self, store: BlobStore) -> None:
        location = await push(store, HELLO)
        store.retire(location, "1-hello")
        assert await store.stat(location) is None
        with pytest.raises(BlobMissing):
            await content(store, location)

    @pytest.mark.parametrize("location", ["", "/etc/passwd", "../x", "a/../../x", "x\0y"])
    async def test_a_location_that_the_store_never_gave_is_refused(self, store: BlobStore, location: str) -> None:
        with pytest.raises(StorageError):
            await store.stat(location)
        with pytest.raises(StorageError):
            await content(store, location)
        with pytest.raises(StorageError):
            store.path(location)
        with pytest.raises(StorageError):
            store.retire(location, "1-hello")
        with pytest.raises(StorageError):
            await store.restore(location, Digest.of(HELLO))
        with pytest.raises(StorageError):
            await store.purge(location)

    async def test_blobs_lists_what_lies_in_place(self, store: BlobStore) -> None:
        assert [blob async for blob in store.blobs()] == []
        expected = set()
        for number in range(300):
            data = pattern(number)
            digest = Digest.of(data, "sha512" if number % 3 == 0 else "sha256")
            expected.add((digest, await store.put(digest, data), number))
        gone = await store.put(Digest.of(b"gone"), b"gone")
        store.retire(gone, "1-gone")
        await store.append(UPLOAD, 0, body(HELLO))
        assert {blob async for blob in store.blobs()} == expected

    # --- trash --------------------------------------------------------------------------------------------------

    async def test_a_retired_blob_can_be_restored(self, store: BlobStore, open_store: StoreFactory) -> None:
        location = await push(store, HELLO)
        trash = store.retire(location, f"1-{Digest.of(HELLO)}")
        assert store.retire(location, f"1-{Digest.of(HELLO)}") == trash
        store.sync_trash()
        await store.tidy()
        other = open_store()
        for _ in range(2):
            restored = await other.restore(trash, Digest.of(HELLO))
            assert await content(store, restored) == HELLO
        await other.close()

    async def test_a_blob_may_be_restored_many_times_at_once(self, store: BlobStore) -> None:
        trash = store.retire(await push(store, HELLO), "1-hello")
        locations = await asyncio.gather(*(store.restore(trash, Digest.of(HELLO)) for _ in range(8)))
        for location in locations:
            assert await content(store, location) == HELLO

    async def test_where_retired_bytes_lie_is_known_beforehand_and_to_others(
        self, store: BlobStore, open_store: StoreFactory
    ) -> None:
        location = await push(store, HELLO)
        expected = store.trash_location(location, "1-hello")
        assert await store.stat(location) == 5
        other = open_store()
        assert store.retire(location, "1-hello") == expected
        assert other.trash_location(location, "1-hello") == expected
        assert await content(other, await other.restore(expected, Digest.of(HELLO))) == HELLO
        await other.close()

    async def test_trashed_lists_what_lies_in_the_trash(self, store: BlobStore) -> None:
        assert [found async for found in store.trashed()] == []
        expected = set()
        for number in range(300):
            data = pattern(number)
            trash = store.retire(await store.put(Digest.of(data), data), f"{number}-x")
            expected.add((trash, f"{number}-x", number))
        await store.put(Digest.of(HELLO), HELLO)
        assert {found async for found in store.trashed()} == expected
        gone, *_ = sorted(expected)
        await store.purge(gone[0])
        back = max(expected, key=lambda found: found[2])
        await store.restore(back[0], Digest.of(pattern(back[2])))
        assert {found async for found in store.trashed()} == expected - {gone, back}

    async def test_nobody_else_keeps_facts_about_what_we_made(self, store: BlobStore) -> None:
        store.retire(await push(store, HELLO), "1-hello")
        await push(store, HELLO)
        assert await store.foreign() is None

    async def test_retiring_what_is_not_there_is_no_error_and_restoring_it_is(self, store: BlobStore) -> None:
        location = await push(store, HELLO)
        await store.purge(store.retire(location, "1-hello"))
        trash = store.retire(location, "2-hello")
        with pytest.raises(BlobMissing):
            await store.restore(trash, Digest.of(HELLO))

    async def test_a_purge_is_for_good_and_hits_nothing_new(self, store: BlobStore) -> None:
        trash = store.retire(await push(store, HELLO), "1-hello")
        again = await push(store, HELLO)
        await store.purge(trash)
        await store.purge(trash)
        assert await content(store, again) == HELLO
        store.retire(again, "2-hello")
        with pytest.raises(BlobMissing):
            await store.restore(trash, Digest.of(HELLO))

    @pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", ".hidden", "x\0y", "x\n"])
    async def test_a_name_for_trash_is_one_plain_word(self, store: BlobStore, name: str) -> None:
        location = await push(store, HELLO)
        with pytest.raises(StorageError):
            store.retire(location, name)
        assert await content(store, location) == HELLO

    # --- the medium ---------------------------------------------------------------------------------------------

    async def test_space_is_told(self, store: BlobStore) -> None:
        space = await store.space()
        assert space is None or 0 <= space.free_bytes <= space.total_bytes

    async def test_a_full_store_writes_nothing_and_does_all_the_rest(
        self, store: BlobStore, open_store: StoreFactory
    ) -> None:
        location = await push(store, HELLO)
        await store.append(UPLOAD, 0, body(b"kept"))
        await store.append(OTHER, 0, body(b"complete"))
        full = open_store(full=True)
        with pytest.raises(StoreFull):
            await full.append(UPLOAD, 4, body(*pieces(pattern(3 * MIB), 65536)))
        with pytest.raises(StoreFull):
            await full.put(Digest.of(b"new"), b"new")
        assert await full.size(UPLOAD) == 4
        assert await full.digest(UPLOAD, "sha256") == Digest.of(b"kept")
        assert await content(full, await full.finish(OTHER, Digest.of(b"complete"))) == b"complete"
        trash = full.retire(location, "1-hello")
        assert await content(full, await full.restore(trash, Digest.of(HELLO))) == HELLO
        await full.purge(full.retire(location, "2-hello"))
        await full.cancel(OTHER)
        await full.close()
        assert await store.append(UPLOAD, 4, body(b" on")) == 7
