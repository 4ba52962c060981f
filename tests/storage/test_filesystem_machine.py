"""Any order of calls, crashes and power cuts on one store, compared with a model of a few dictionaries."""

import asyncio
import random
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from homeport.oci.digest import Digest
from homeport.storage.blobstore import BlobMissing, UploadMissing, WrongOffset
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_suite import BodyEnded, body, broken_body, content, written
from homeport.testing.disk_faults import MemoryDisk
from tests.storage.inline import InlineClock

T = TypeVar("T")

UPLOADS = st.sampled_from([f"{number:032x}" for number in range(3)])
CONTENTS = [b"", b"a", b"ab", b"abc", b"ba", b"x" * 5000]
DIGESTS = st.sampled_from([Digest.of(data) for data in CONTENTS])
CHUNKS = st.lists(st.sampled_from([b"a", b"b", b"c", b"x" * 5000]), max_size=3)
TRASH = st.sampled_from(["1-x", "2-x"])


class StoreMachine(RuleBasedStateMachine):
    """What was finished, put, retired or restored is durable; what an upload has is not before it is finished."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.uploads: dict[str, bytes] = {}
        self.blobs: dict[Digest, bytes] = {}
        self.locations: dict[Digest, str] = {}
        self.trash: dict[str, bytes] = {}

    def teardown(self) -> None:
        self.loop.close()

    def do(self, call: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(call)

    @initialize(seed=st.integers(0, 1 << 32))
    def begin(self, seed: int) -> None:
        self.disk = MemoryDisk(random.Random(seed).random)
        self.open()

    @rule()
    def open(self) -> None:
        self.store = FilesystemStore(Path("/data"), InlineClock(), disk=self.disk, reserve_bytes=0, reserve_percent=0)

    @rule(upload=UPLOADS, chunks=CHUNKS, breaks=st.booleans())
    def append(self, upload: str, chunks: list[bytes], breaks: bool) -> None:
        before = self.uploads.get(upload, b"")
        data = before + b"".join(chunks)
        if breaks:
            with pytest.raises(BodyEnded):
                self.do(self.store.append(upload, len(before), broken_body(*chunks)))
        else:
            assert self.do(self.store.append(upload, len(before), body(*chunks))) == len(data)
        self.uploads[upload] = data

    @rule(upload=UPLOADS, offset=st.integers(0, 4), chunks=CHUNKS)
    def append_elsewhere(self, upload: str, offset: int, chunks: list[bytes]) -> None:
        size = len(self.uploads.get(upload, b""))
        if offset != size:
            with pytest.raises(WrongOffset) as caught:
                self.do(self.store.append(upload, offset, body(*chunks)))
            assert caught.value.size == size

    @rule(upload=UPLOADS, algorithm=st.sampled_from(["sha256", "sha512"]))
    def finish(self, upload: str, algorithm: str) -> None:
        if upload not in self.uploads:
            with pytest.raises(UploadMissing):
                self.do(self.store.digest(upload, algorithm))
            with pytest.raises(UploadMissing):
                self.do(self.store.finish(upload, Digest.of(b"")))
            return
        data = self.uploads.pop(upload)
        digest = self.do(self.store.digest(upload, algorithm))
        assert digest == Digest.of(data, algorithm)
        self.locations[digest] = self.do(self.store.finish(upload, digest))
        self.blobs[digest] = data

    @rule(upload=UPLOADS)
    def cancel(self, upload: str) -> None:
        self.do(self.store.cancel(upload))
        self.uploads.pop(upload, None)

    @rule(data=st.sampled_from(CONTENTS))
    def put(self, data: bytes) -> None:
        digest = Digest.of(data)
        self.locations[digest] = self.do(self.store.put(digest, data))
        self.blobs[digest] = data

    @rule(digest=DIGESTS, trash=TRASH)
    def retire(self, digest: Digest, trash: str) -> None:
        if digest in self.locations:
            location = self.store.retire(self.locations[digest], trash)
            assert location == self.store.retire(self.locations[digest], trash)
            self.store.sync_trash()
            if digest in self.blobs:
                self.trash[trash] = self.blobs.pop(digest)

    @precondition(lambda self: self.trash)
    @rule(data=st.data())
    def restore(self, data: st.DataObject) -> None:
        trash = data.draw(st.sampled_from(sorted(self.trash)))
        digest = Digest.of(self.trash[trash])
        self.locations[digest] = self.do(self.store.restore(f"trash/{trash}", digest))
        self.blobs[digest] = self.trash.pop(trash)

    @rule(trash=TRASH)
    def restore_what_is_gone(self, trash: str) -> None:
        digest = Digest.of(b"never pushed")
        if trash not in self.trash:
            with pytest.raises(BlobMissing):
                self.do(self.store.restore(f"trash/{trash}", digest))

    @rule(trash=TRASH)
    def purge(self, trash: str) -> None:
        self.do(self.store.purge(f"trash/{trash}"))
        self.trash.pop(trash, None)

    @rule()
    def lose_power(self) -> None:
        self.disk.power_cut()
        self.open()
        # An upload may come back as it was at any time, or torn. The registry forgets those that it does not know.
        self.uploads.clear()
        self.do(self._cancel_all())

    @invariant()
    def the_store_is_as_the_model_says(self) -> None:
        if hasattr(self, "store"):
            self.do(self._compare())
            assert self.disk.handles_open == 0

    async def _compare(self) -> None:
        for upload, data in self.uploads.items():
            assert await self.store.size(upload) == len(data)
            assert await written(self.store, upload) == data
        assert {upload async for upload in self.store.uploads()} == self.uploads.keys()
        found = {digest: (location, size) async for digest, location, size in self.store.blobs()}
        assert found == {digest: (self.locations[digest], len(data)) for digest, data in self.blobs.items()}
        for digest, data in self.blobs.items():
            assert await content(self.store, self.locations[digest]) == data
        trashed = {(name, size) async for _, name, size in self.store.trashed()}
        assert trashed == {(name, len(data)) for name, data in self.trash.items()}
        for digest in self.locations.keys() - self.blobs.keys():
            assert await self.store.stat(self.locations[digest]) is None

    async def _cancel_all(self) -> None:
        for upload in [upload async for upload in self.store.uploads()]:
            await self.store.cancel(upload)


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
