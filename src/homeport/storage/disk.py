"""The seam between the filesystem store and the operating system.

Every operation that the store does on a disk is one method here and nothing else, so that the store's own code runs
in tests on a disk that fails, fills up or loses power (`homeport.testing.disk_faults`).

Holds: a `Disk` has no state and no opinion. Failures are the operating system's `OSError`s; what survives a power cut
is what POSIX promises: a file's bytes after `sync`, a folder's entries after `sync_folder`.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from pathlib import Path

from homeport.storage.blobstore import Space

#: What may read and enter what the store makes: its owner. What was there before is left as it is.
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700

#: How many parts one vectored write takes at most (IOV_MAX of Linux and the BSDs).
WRITE_PARTS_MAX = 1024

_SYNC_FILE_RANGE_WRITE = 2


class Disk(ABC):
    """Low-level operations on files and folders. All block; all raise `OSError`. Links are never followed to a file."""

    # --- files --------------------------------------------------------------------------------------------------

    @abstractmethod
    def open(self, path: Path) -> int:
        """A handle to read and to sync the file."""

    @abstractmethod
    def open_to_write(self, path: Path, *, create: bool) -> int:
        """A handle to write the file, which is made empty if it is not there and `create` says so."""

    @abstractmethod
    def close(self, handle: int) -> None:
        """Let go of the handle. Promises nothing about the bytes."""

    @abstractmethod
    def length(self, handle: int) -> int:
        """The file's bytes."""

    @abstractmethod
    def read(self, handle: int, count: int, offset: int) -> bytes:
        """At most `count` bytes from `offset`; none at the file's end."""

    @abstractmethod
    def write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        """Write `parts` (at most `WRITE_PARTS_MAX`) from `offset` on; how many bytes the disk took, maybe not all."""

    @abstractmethod
    def start_writeback(self, handle: int, offset: int, count: int) -> None:
        """A hint that this range will be synced soon. Promises nothing and never fails."""

    @abstractmethod
    def sync(self, handle: int) -> None:
        """The file's bytes and length survive a power cut. After a failure they are lost: never try again."""

    # --- names --------------------------------------------------------------------------------------------------

    @abstractmethod
    def size(self, path: Path) -> int | None:
        """The bytes of the file; None where no plain file is."""

    @abstractmethod
    def rename(self, source: Path, target: Path) -> None:
        """Give the file another name at once, replacing a file that has it."""

    @abstractmethod
    def unlink(self, path: Path) -> None:
        """Take the file's name away, which must be there."""

    @abstractmethod
    def mkdir(self, path: Path) -> None:
        """Make the folder, which must not be there, in one that is."""

    @abstractmethod
    def rmdir(self, path: Path) -> None:
        """Remove the folder, which must be empty."""

    @abstractmethod
    def sync_folder(self, path: Path) -> None:
        """The folder's entries (not what is behind them) survive a power cut."""

    @abstractmethod
    def names(self, path: Path) -> list[str]:
        """The folder's entries, in no order."""

    # --- the medium ---------------------------------------------------------------------------------------------

    @abstractmethod
    def space(self, path: Path) -> Space:
        """The room on the medium that holds `path`, as far as this user may fill it."""

    @abstractmethod
    def file(self, path: Path) -> Path | None:
        """The path by which others find that file in the machine's file system; None where it is in no file system."""


class SystemDisk(Disk):
    """The machine's own file system. What root makes belongs to the owner of the folder that it is made in."""

    def __init__(self) -> None:
        self._is_root = os.geteuid() == 0

    def open(self, path: Path) -> int:
        return os.open(path, os.O_RDONLY | os.O_NOFOLLOW)

    def open_to_write(self, path: Path, *, create: bool) -> int:
        handle = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | (os.O_CREAT if create else 0), _FILE_MODE)
        if create and self._is_root:
            self._give_away(handle, path)
        return handle

    def close(self, handle: int) -> None:
        os.close(handle)

    def length(self, handle: int) -> int:
        return os.fstat(handle).st_size

    def read(self, handle: int, count: int, offset: int) -> bytes:
        return os.pread(handle, count, offset)

    def write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        return os.pwritev(handle, parts, offset)

    def start_writeback(self, handle: int, offset: int, count: int) -> None:
        if _sync_file_range is not None:
            _sync_file_range(handle, offset, count, _SYNC_FILE_RANGE_WRITE)

    def sync(self, handle: int) -> None:
        os.fsync(handle)

    def size(self, path: Path) -> int | None:
        try:
            status = path.lstat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        return status.st_size if stat.S_ISREG(status.st_mode) else None

    def rename(self, source: Path, target: Path) -> None:
        source.replace(target)

    def unlink(self, path: Path) -> None:
        path.unlink()

    def mkdir(self, path: Path) -> None:
        path.mkdir(_FOLDER_MODE)
        if self._is_root:
            self._give_away(path, path)

    def rmdir(self, path: Path) -> None:
        path.rmdir()

    def sync_folder(self, path: Path) -> None:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def names(self, path: Path) -> list[str]:
        return os.listdir(path)  # noqa: PTH208 - names, not a Path each

    def space(self, path: Path) -> Space:
        status = os.statvfs(path)
        return Space(total_bytes=status.f_blocks * status.f_frsize, free_bytes=status.f_bavail * status.f_frsize)

    def file(self, path: Path) -> Path | None:
        return path

    def _give_away(self, what: int | Path, path: Path) -> None:
        """So that a server that is not root can go on with what an administrator's command began."""
        folder = path.parent.stat()
        if folder.st_uid != 0:
            # A root that may not do this is root in name only, and then nobody else's server runs here either.
            with contextlib.suppress(PermissionError):
                os.chown(what, folder.st_uid, folder.st_gid)


def _find_sync_file_range() -> Callable[[int, int, int, int], int] | None:
    """Linux's sync_file_range(2), which `os` lacks; None where libc lacks it too."""
    try:
        function = ctypes.CDLL(None).sync_file_range
    except (AttributeError, OSError):
        return None
    function.argtypes = [ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint]
    function.restype = ctypes.c_int
    return function


_sync_file_range = _find_sync_file_range()
