"""The blocking half of the filesystem store: the order of operations on the disk that makes it safe.

What must stay true:
- *A blob's name never stands for wrong bytes*, power cut or not: bytes are synced before they are renamed into place.
  An upload whose sync failed is deleted: the kernel forgets what it could not write and calls the next sync a success.
- *What was answered is durable*: every folder that has a new entry is synced. That a folder exists is no proof that its
  entry is durable, since whoever made it may not have come that far; so each process syncs it itself.
- *Nothing outside the root is ever named*: ids and locations are checked as they come in.

A rename is taken to be atomic in a power cut too, and durable once the target's folder is synced, which holds for
ext4, xfs, btrfs and zfs.

Everything here blocks, runs in threads and raises `OSError` for what the disk says, `StorageError` for what we say.
"""

from __future__ import annotations

import contextlib
import errno
import re
from collections.abc import Sequence
from pathlib import Path

from homeport.clock import Clock
from homeport.oci.digest import Digest, new_hasher
from homeport.oci.errors import DigestInvalid
from homeport.storage.blobstore import BlobMissing, Space, StorageError, StoreFull, UploadMissing, WrongOffset
from homeport.storage.disk import Disk

#: What one call writes, reads or hashes at a time.
BATCH_BYTES = 1 << 20

_BLOBS = "docker/registry/v2/blobs"
#: What `distribution` makes beside it, and we do not.
_REPOSITORIES = "docker/registry/v2/repositories"
_BLOB_LOCATION = re.compile(
    rf"{_BLOBS}/(?:sha256/([0-9a-f]{{2}})/\1[0-9a-f]{{62}}|sha512/([0-9a-f]{{2}})/\2[0-9a-f]{{126}})/data"
)
_TRASH_NAME = re.compile(r"[0-9A-Za-z][0-9A-Za-z:_.-]{0,254}")
_UPLOAD = re.compile(r"[0-9a-f]{32}")

#: How long a look at the free space counts.
_ROOM_SECONDS = 1.0
#: How often a push makes the blob's folder again that a sweep took away, empty, just before the rename.
_PLACE_ATTEMPTS = 3


class RunningHash:
    """The hash of the first `size` bytes of an upload."""

    __slots__ = ("_hasher", "algorithm", "size")

    def __init__(self, algorithm: str) -> None:
        self.algorithm = algorithm
        self.size = 0
        self._hasher = new_hasher(algorithm)

    def update(self, data: bytes) -> None:
        self._hasher.update(data)
        self.size += len(data)

    def digest(self) -> Digest:
        return Digest(f"{self.algorithm}:{self._hasher.hexdigest()}")


class BlobReader:
    """The bytes of one blob from `start` to before `stop`. Not to be closed while a thread is in `next`."""

    def __init__(self, disk: Disk, path: Path, start: int, stop: int | None) -> None:
        self._disk = disk
        self._path = path
        self._position = start
        self._stop = stop
        self._handle: int | None = None
        self.ended = False

    def next(self) -> bytes:
        """The next chunk, of at most `BATCH_BYTES`; `ended` tells whether it was the last."""
        if self._handle is None:
            self._open()
        assert self._handle is not None
        assert self._stop is not None
        count = min(BATCH_BYTES, self._stop - self._position)
        if count <= 0:
            self.ended = True
            return b""
        chunk = self._disk.read(self._handle, count, self._position)
        if not chunk:
            raise StorageError(f"{self._path} ended at {self._position} bytes while it was read")
        self._position += len(chunk)
        self.ended = self._position == self._stop
        return chunk

    def close(self) -> None:
        if self._handle is not None:
            self._disk.close(self._handle)
            self._handle = None

    def _open(self) -> None:
        try:
            self._handle = self._disk.open(self._path)
        except (FileNotFoundError, NotADirectoryError):
            raise BlobMissing(str(self._path)) from None
        length = self._disk.length(self._handle)
        self._stop = length if self._stop is None else min(self._stop, length)


class BlobFolder:
    """The tree that `homeport.storage.filesystem` draws. Safe for many threads, but for two on the same upload."""

    def __init__(self, root: Path, clock: Clock, disk: Disk, reserve_percent: float, reserve_bytes: int) -> None:
        self._root = root
        self._uploads = root / "uploads"
        self._trash = root / "trash"
        self._clock = clock
        self._disk = disk
        self._reserve_percent = reserve_percent
        self._reserve_bytes = reserve_bytes
        #: How much may be written before the next look at the free space, and when the last one was.
        self._room_bytes = 0
        self._room_seen = 0.0
        #: Folders whose own entry this process has synced; those of single blobs, which come and go, are not kept.
        self._durable_folders: set[Path] = set()
        #: Folders of blobs that were retired since the trash was last synced, and of those before.
        self._emptied: list[Path] = []
        self._to_tidy: list[Path] = []

    # --- names --------------------------------------------------------------------------------------------------

    def upload_path(self, upload: str) -> Path:
        if not _UPLOAD.fullmatch(upload):
            raise UploadMissing(f"not an upload's id: {upload[:80]!r}")
        return self._uploads / upload

    def blob_path(self, location: str) -> Path:
        if not _BLOB_LOCATION.fullmatch(location):
            raise StorageError(f"not a blob's location: {location[:300]!r}")
        return self._root / location

    def trash_path(self, location: str) -> Path:
        folder, _, name = location.partition("/")
        if folder != "trash" or not _TRASH_NAME.fullmatch(name):
            raise StorageError(f"not a location in the trash: {location[:300]!r}")
        return self._trash / name

    # --- uploads ------------------------------------------------------------------------------------------------

    def append(self, path: Path, offset: int, parts: Sequence[bytes], running: RunningHash | None) -> int:
        """Write `parts` (at most `WRITE_PARTS_MAX`) at the upload's end, which must be `offset`; the new end.

        Where the disk takes only some of it, that stays; the hash then does not cover it and is of no more use.
        """
        self._make_own_folders()
        self._take_room(sum(map(len, parts)))
        try:
            handle = self._disk.open_to_write(path, create=offset == 0)
        except FileNotFoundError:
            if offset == 0:
                raise
            raise WrongOffset(0) from None
        try:
            size = self._disk.length(handle)
            if size != offset:
                raise WrongOffset(size)
            end = self._write(handle, parts, offset)
            if end - offset >= BATCH_BYTES:
                self._disk.start_writeback(handle, offset, end - offset)
        finally:
            self._disk.close(handle)
        if running is not None:
            for part in parts:
                running.update(part)
        return end

    def size(self, path: Path) -> int | None:
        """The bytes of the file; None if it is not there."""
        return self._disk.size(path)

    def read_upload(self, path: Path, offset: int, count: int) -> bytes:
        """At most `count` bytes of what the upload has from `offset` on."""
        handle = self._open_upload(path)
        try:
            return self._disk.read(handle, count, offset)
        finally:
            self._disk.close(handle)

    def rehash(self, path: Path, running: RunningHash, count: int) -> bool:
        """Take the next `count` bytes of the upload into the hash; whether there are more."""
        handle = self._open_upload(path)
        try:
            stop = running.size + count
            while running.size < stop:
                data = self._disk.read(handle, BATCH_BYTES, running.size)
                if not data:
                    return False
                running.update(data)
            return True
        finally:
            self._disk.close(handle)

    def finish(self, path: Path, digest: Digest) -> str:
        """Make the upload a blob."""
        return self._place(path, self._open_upload(path), digest)

    def unlink(self, path: Path) -> None:
        """Delete the file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            self._disk.unlink(path)

    def uploads(self) -> list[str]:
        return [name for name in self.names(self._uploads) if _UPLOAD.fullmatch(name)]

    # --- blobs --------------------------------------------------------------------------------------------------

    def put(self, path: Path, digest: Digest, data: bytes) -> str:
        """Make `data` a blob by way of the upload `path`, which is new."""
        try:
            self.append(path, 0, [data], None)
            return self.finish(path, digest)
        except (OSError, StorageError):
            # Nobody knows this upload, so nobody else would ever delete it.
            with contextlib.suppress(OSError):
                self._disk.unlink(path)
            raise

    def reader(self, path: Path, start: int, stop: int | None) -> BlobReader:
        return BlobReader(self._disk, path, start, stop)

    def file(self, path: Path) -> Path | None:
        return self._disk.file(path)

    def prefixes(self, algorithm: str) -> list[Path]:
        """The folders that hold the blobs' folders."""
        folder = self._root / _BLOBS / algorithm
        return [folder / name for name in sorted(self.names(folder))]

    def names(self, folder: Path) -> list[str]:
        """The names in the folder; none if it is not there."""
        try:
            return self._disk.names(folder)
        except (FileNotFoundError, NotADirectoryError):
            return []

    def look(self, prefix: Path, names: list[str]) -> list[tuple[Digest, str, int]]:
        """Those of `names` under which a blob lies; whatever else is there is not ours and left alone."""
        found = []
        for name in names:
            try:
                digest = Digest.parse(f"{prefix.parent.name}:{name}")
            except DigestInvalid:
                continue
            location = _blob_location(digest)
            if name[:2] == prefix.name and (size := self._disk.size(self._root / location)) is not None:
                found.append((digest, location, size))
        return found

    def foreign(self) -> str | None:
        """Whether `distribution` keeps repositories and tags beside the blobs."""
        repositories = self._root / _REPOSITORIES
        return f"{_REPOSITORIES} holds repositories of another registry" if self.names(repositories) else None

    # --- trash --------------------------------------------------------------------------------------------------

    def trash_location(self, trash: str) -> str:
        return f"trash/{trash}"

    def trashed(self) -> list[str]:
        """The names in the trash."""
        return sorted(name for name in self.names(self._trash) if _TRASH_NAME.fullmatch(name))

    def look_at_trash(self, names: list[str]) -> list[tuple[str, str, int]]:
        """Location, name and size of those that are files."""
        sizes = ((name, self._disk.size(self._trash / name)) for name in names)
        return [(self.trash_location(name), name, size) for name, size in sizes if size is not None]

    def retire(self, path: Path, trash: str) -> str:
        """Move the blob's file to the trash."""
        location = self.trash_location(trash)
        target = self.trash_path(location)
        self._make_folder(self._trash)
        try:
            self._disk.rename(path, target)
        except FileNotFoundError:
            if self._disk.size(path) is not None:
                raise
        # Also where nothing was there to rename: a call that was cut short may have done that much and no more.
        self._emptied.append(path.parent)
        return location

    def sync_trash(self) -> None:
        """Make durable what was moved there."""
        self._disk.sync_folder(self._trash)
        self._to_tidy += self._emptied
        self._emptied = []

    def take_emptied(self, count: int) -> list[Path]:
        """At most so many of the folders whose bytes are safely in the trash; they are the caller's to tidy."""
        taken, self._to_tidy = self._to_tidy[:count], self._to_tidy[count:]
        return taken

    def tidy(self, folders: Sequence[Path]) -> None:
        """Take away those of the folders that are empty.

        That they are gone need not be durable: one that comes back after a power cut is as empty, and in nobody's way.
        """
        for folder in folders:
            with contextlib.suppress(OSError):
                self._disk.rmdir(folder)

    def restore(self, path: Path, digest: Digest) -> str:
        """Move the file back from the trash; done already if it is gone from there and the blob lies in its place.

        So it is after a call that broke off, and when another one moves it just now.
        """
        try:
            return self._place(path, self._disk.open(path), digest)
        except FileNotFoundError:
            if self._disk.size(path) is not None:
                raise
        location = _blob_location(digest)
        place = (self._root / location).parent
        if self._disk.size(self._root / location) is None:
            raise BlobMissing(path.name)
        self._make_folder(place.parent)
        self._disk.sync_folder(place.parent)
        self._disk.sync_folder(place)
        return location

    def purge(self, path: Path) -> None:
        """Delete the file from the trash, durably, since nobody lists what comes back there."""
        self.unlink(path)
        with contextlib.suppress(FileNotFoundError):
            self._disk.sync_folder(self._trash)

    # --- the medium ---------------------------------------------------------------------------------------------

    def space(self) -> Space:
        self._make_folder(self._root)
        return self._disk.space(self._root)

    def _take_room(self, count: int) -> None:
        """Raise `StoreFull` if writing `count` bytes would touch the reserve.

        Threads may pass here at once and both take the same room; the reserve has room for that.
        """
        now = self._clock.monotonic()
        if count > self._room_bytes or now - self._room_seen >= _ROOM_SECONDS:
            space = self._disk.space(self._root)
            reserve = max(self._reserve_bytes, int(space.total_bytes * self._reserve_percent / 100))
            self._room_bytes, self._room_seen = space.free_bytes - reserve, now
        if count > self._room_bytes:
            raise StoreFull("the disk is full but for its reserve (storage.reserve_bytes, storage.reserve_percent)")
        self._room_bytes -= count

    # --- steps --------------------------------------------------------------------------------------------------

    def _open_upload(self, path: Path) -> int:
        """A handle to read and to sync the upload."""
        try:
            return self._disk.open(path)
        except FileNotFoundError:
            raise UploadMissing(path.name) from None

    def _write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        """Write all of `parts` at `offset`; the end. What was written when the disk fails lies there without a gap."""
        end = offset + sum(map(len, parts))
        left: Sequence[bytes] = parts
        while offset < end:
            written = self._disk.write(handle, left, offset)
            if written == 0:
                raise OSError(errno.EIO, "the disk takes nothing and gives no reason")
            offset += written
            if offset < end:
                left = [b"".join(left)[written:]]
        return end

    def _place(self, source: Path, handle: int, digest: Digest) -> str:
        """Make the bytes of `source` durable, rename it to where `digest` belongs, and let go of its handle.

        Its new folder is durable before the rename: a blob that comes back from the trash is nowhere else.
        """
        location = _blob_location(digest)
        target = self._root / location
        try:
            self._make_folder(target.parent.parent)
            self._mkdir(target.parent)
            self._sync(handle, source)
        finally:
            self._disk.close(handle)
        for attempt in range(_PLACE_ATTEMPTS):
            self._disk.sync_folder(target.parent.parent)
            try:
                self._disk.rename(source, target)
                break
            except FileNotFoundError:
                if attempt == _PLACE_ATTEMPTS - 1:
                    raise
                self._mkdir(target.parent)
        self._disk.sync_folder(target.parent)
        return location

    def _sync(self, handle: int, path: Path) -> None:
        """Sync the file; an upload that could not be is deleted, a retired blob was durable before."""
        try:
            self._disk.sync(handle)
        except OSError:
            if path.parent == self._uploads:
                with contextlib.suppress(OSError):
                    self._disk.unlink(path)
            raise

    def _make_own_folders(self) -> None:
        """The trash is made with the first upload, so that a disk that has filled up meanwhile can be cleaned up."""
        self._make_folder(self._uploads)
        self._make_folder(self._trash)

    def _make_folder(self, path: Path) -> None:
        """Make the folder and those above it up to the root, with durable entries; once in a process."""
        if path in self._durable_folders:
            return
        if path != self._root:
            self._make_folder(path.parent)
        self._mkdir(path)
        # What holds the root may be another user's, and is then that one's to make durable.
        with contextlib.suppress(PermissionError) if path == self._root else contextlib.nullcontext():
            self._disk.sync_folder(path.parent)
        self._durable_folders.add(path)

    def _mkdir(self, path: Path) -> None:
        with contextlib.suppress(FileExistsError):
            self._disk.mkdir(path)


def _blob_location(digest: Digest) -> str:
    return f"{_BLOBS}/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"
