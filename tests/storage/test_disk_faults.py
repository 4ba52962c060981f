"""The disk in memory: what a power cut may do and what it may not; the disk and the store that fail on demand."""

import errno
import os
import random
import re
from pathlib import Path

import pytest

from homeport.oci.digest import Digest
from homeport.storage import disk as disk_module
from homeport.storage.blobstore import StorageError, StoreFull
from homeport.storage.disk import Disk, SystemDisk
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.blobstore_suite import HELLO, UPLOAD, body, content, push
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from tests.storage.inline import InlineClock

A, B = Path("/a"), Path("/folder/b")


def disks(count: int = 40) -> list[MemoryDisk]:
    """Disks with a durable, empty folder, each with its own luck."""
    made = [MemoryDisk(random.Random(seed).random) for seed in range(count)]
    for disk in made:
        disk.mkdir(B.parent)
        disk.sync_folder(Path("/"))
    return made


def write(disk: Disk, path: Path, data: bytes, *, sync: bool = False) -> None:
    handle = disk.open_to_write(path, create=True)
    assert disk.write(handle, [data], 0) == len(data)
    if sync:
        disk.sync(handle)
    disk.close(handle)


def read(disk: Disk, path: Path) -> bytes | None:
    size = disk.size(path)
    if size is None:
        return None
    handle = disk.open(path)
    try:
        return disk.read(handle, size, 0)
    finally:
        disk.close(handle)


def test_an_entry_that_was_not_synced_may_or_may_not_survive() -> None:
    outcomes = set()
    for disk in disks():
        write(disk, A, b"data", sync=True)
        disk.power_cut()
        outcomes.add(read(disk, A))
    assert outcomes == {None, b"data"}


def test_an_entry_that_was_synced_survives_with_any_of_its_bytes() -> None:
    outcomes = set()
    for disk in disks():
        write(disk, A, b"x" * 5000)
        disk.sync_folder(Path("/"))
        disk.power_cut()
        data = read(disk, A)
        assert data is not None
        outcomes.add((len(data), data.count(b"x")))
    assert (0, 0) in outcomes
    assert (5000, 5000) in outcomes
    assert any(count not in (0, size) for size, count in outcomes), "none was torn"


def test_what_was_synced_survives() -> None:
    for disk in disks():
        write(disk, A, b"data", sync=True)
        disk.sync_folder(Path("/"))
        disk.power_cut()
        assert read(disk, A) == b"data"


def test_a_rename_is_whole_or_not_at_all_and_durable_with_the_folder_that_it_goes_to() -> None:
    outcomes = set()
    for disk in disks():
        write(disk, A, b"data", sync=True)
        disk.sync_folder(Path("/"))
        disk.rename(A, B)
        disk.power_cut()
        outcomes.add((read(disk, A), read(disk, B)))
    assert outcomes == {(b"data", None), (None, b"data")}
    for disk in disks():
        write(disk, A, b"data", sync=True)
        disk.rename(A, B)
        disk.sync_folder(B.parent)
        disk.power_cut()
        assert (read(disk, A), read(disk, B)) == (None, b"data")


def test_changes_of_one_name_keep_their_order() -> None:
    outcomes = set()
    for disk in disks(100):
        for data in (b"1", b"2"):
            write(disk, A, data, sync=True)
            disk.rename(A, B)
        disk.unlink(B)
        disk.power_cut()
        outcomes.add((read(disk, A), read(disk, B)))
    assert outcomes == {(None, None), (b"1", None), (None, b"1"), (b"2", b"1"), (None, b"2")}


def test_what_lies_in_a_folder_that_is_lost_is_lost() -> None:
    outcomes = set()
    for disk in disks():
        folder = Path("/new")
        disk.mkdir(folder)
        write(disk, folder / "file", b"data", sync=True)
        disk.sync_folder(folder)
        disk.power_cut()
        outcomes.add(read(disk, folder / "file"))
    assert outcomes == {None, b"data"}


def test_a_sync_after_a_failed_one_promises_nothing() -> None:
    outcomes = set()
    for memory in disks():
        disk = FailingDisk(memory, 3)
        handle = disk.open_to_write(A, create=True)
        disk.write(handle, [b"data"], 0)
        with pytest.raises(OSError, match="Input/output error"):
            disk.sync(handle)
        disk.sync(handle)
        disk.sync_folder(Path("/"))
        memory.power_cut()
        outcomes.add(read(memory, A))
    assert len(outcomes) > 1


def test_handles_are_bad_after_a_power_cut_and_counted_before() -> None:
    disk = MemoryDisk(random.Random(0).random)
    handle = disk.open_to_write(A, create=True)
    assert disk.handles_open == 1
    disk.power_cut()
    assert disk.handles_open == 0
    with pytest.raises(OSError, match="Bad file descriptor"):
        disk.length(handle)


@pytest.fixture(params=["system", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Disk, Path]:
    if request.param == "system":
        return SystemDisk(), tmp_path
    return MemoryDisk(random.Random(0).random), Path("/")


def test_both_disks_answer_alike(root: tuple[Disk, Path]) -> None:
    disk, folder = root
    a, b, sub = folder / "a", folder / "b", folder / "sub"
    write(disk, a, b"hello")
    disk.mkdir(sub)
    assert sorted(disk.names(folder)) == ["a", "sub"]
    assert disk.size(a) == 5
    assert disk.size(b) is None
    assert disk.size(sub) is None
    assert disk.size(a / "below") is None
    disk.rename(a, b)
    disk.rename(b, sub / "c")
    assert read(disk, sub / "c") == b"hello"
    assert 0 < disk.space(folder).free_bytes <= disk.space(folder).total_bytes
    for number, call in (
        (errno.ENOENT, lambda: disk.open(a)),
        (errno.ENOENT, lambda: disk.open_to_write(a, create=False)),
        (errno.ENOENT, lambda: disk.rename(a, b)),
        (errno.ENOENT, lambda: disk.unlink(a)),
        (errno.ENOENT, lambda: disk.names(a)),
        (errno.ENOENT, lambda: disk.sync_folder(a)),
        (errno.ENOENT, lambda: disk.mkdir(a / "b")),
        (errno.EEXIST, lambda: disk.mkdir(sub)),
        (errno.ENOTEMPTY, lambda: disk.rmdir(sub)),
        (errno.ENOTDIR, lambda: disk.sync_folder(sub / "c")),
        (errno.EBADF, lambda: disk.length(9999)),
    ):
        with pytest.raises(OSError, match=re.escape(os.strerror(number))):
            call()
    disk.unlink(sub / "c")
    disk.rmdir(sub)
    assert disk.names(folder) == []


def test_the_systems_disk_follows_no_link_to_a_file(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert SystemDisk().size(tmp_path / "link") is None
    for call in (SystemDisk().open, lambda path: SystemDisk().open_to_write(path, create=True)):
        with pytest.raises(OSError, match="symbolic links") as caught:
            call(tmp_path / "link")
        assert caught.value.errno == errno.ELOOP


def test_the_hint_to_write_back_is_only_a_hint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(SystemDisk(), tmp_path / "file", b"hello")
    handle = SystemDisk().open(tmp_path / "file")
    SystemDisk().start_writeback(handle, 0, 5)
    monkeypatch.setattr(disk_module, "_sync_file_range", None)
    SystemDisk().start_writeback(handle, 0, 5)
    SystemDisk().close(handle)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(handle)


async def test_a_store_fails_at_the_call_that_was_named() -> None:
    memory = MemoryDisk(random.Random(0).random)
    inner = FilesystemStore(Path("/data"), InlineClock(), disk=memory)
    store = FailingStore(inner)
    location = await push(store, HELLO)
    assert await content(store, location) == HELLO
    assert store.calls == ["append", "digest", "finish", "read"]

    once = FailingStore(inner, 2, error=StoreFull)
    await once.append(UPLOAD, 0, body(HELLO))
    with pytest.raises(StoreFull):
        await once.size(UPLOAD)
    assert await once.size(UPLOAD) == 5

    forever = FailingStore(inner, 2, forever=True)
    assert await forever.size(UPLOAD) == 5
    for _ in range(2):
        with pytest.raises(StorageError):
            await forever.cancel(UPLOAD)
    assert await inner.size(UPLOAD) == 5

    done = FailingStore(inner, 1, done=True)
    with pytest.raises(StorageError):
        await done.finish(UPLOAD, Digest.of(HELLO))
    assert await inner.size(UPLOAD) == 0
    with pytest.raises(StorageError):
        FailingStore(inner, 1, done=True).retire(location, "1-hello")
    assert await inner.stat(location) is None
