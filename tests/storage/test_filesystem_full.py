"""The filesystem store on a real file system of 16 MiB."""

import errno
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from homeport.clock import SystemClock
from homeport.oci.digest import Digest
from homeport.storage.blobstore import StoreFull
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_suite import MIB, OTHER, UPLOAD, body, content, pattern, pieces, push
from tests.support.components import need_root


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    need_root()
    mount = tmp_path / "small"
    mount.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "homeport-test", mount], check=True)
    yield mount
    subprocess.run(["umount", mount], check=True)


def fill(path: Path) -> None:
    """Somebody else writes until nothing is left."""
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(bytes(65536)):
                pass
        except OSError as error:
            assert error.errno == errno.ENOSPC  # noqa: PT017 - it always comes to that


async def test_the_reserve_is_kept(small_disk: Path) -> None:
    store = FilesystemStore(small_disk / "data", SystemClock(), reserve_percent=25, reserve_bytes=MIB)
    with pytest.raises(StoreFull):
        await store.append(UPLOAD, 0, body(*pieces(pattern(20 * MIB), 65536)))
    assert 11 * MIB <= await store.size(UPLOAD) <= 12 * MIB
    space = await store.space()
    assert space is not None
    assert space.free_bytes >= 4 * MIB
    await store.close()


async def test_a_full_disk_harms_nothing_and_can_be_cleaned_up(small_disk: Path) -> None:
    store = FilesystemStore(small_disk / "data", SystemClock(), reserve_percent=0, reserve_bytes=0)
    layer = await push(store, pattern(5 * MIB))
    long = pattern(12 * MIB)
    size = await store.append(UPLOAD, 0, body(*pieces(long[: 2 * MIB + 1000], 65536)))
    await store.append(OTHER, 0, body(b"complete"))
    fill(small_disk / "others")
    with pytest.raises(StoreFull):
        await store.append(UPLOAD, size, body(*pieces(long[size:], 65536)))
    size = await store.size(UPLOAD)
    assert await store.digest(UPLOAD, "sha256") == Digest.of(long[:size])
    assert await content(store, layer) == pattern(5 * MIB)
    with pytest.raises(StoreFull):
        await store.put(Digest.of(long), long)
    assert sorted([upload async for upload in store.uploads()]) == [UPLOAD, OTHER]

    await store.purge(store.retire(layer, "1-layer"))
    assert await content(store, await store.finish(OTHER, Digest.of(b"complete"))) == b"complete"
    assert await store.append(UPLOAD, size, body(long[size : size + MIB])) == size + MIB
    digest = Digest.of(long[: size + MIB])
    assert await store.digest(UPLOAD, "sha256") == digest
    assert await store.stat(await store.finish(UPLOAD, digest)) == size + MIB
    await store.close()
