"""Disks that forget, fail and fill up, for running the real filesystem store on.

`MemoryDisk` keeps two images of one tree: what a program sees, and what would be there after a power cut. It allows
all that POSIX allows and no more than journaling file systems do; `homeport.storage.folder` says what it relies on:
- bytes that were not synced survive page by page, or not;
- an entry of a folder (made, renamed, removed) that was not synced survives or not, whatever came after it did, but no
  two changes of one name change places;
- a rename is one change, of the folder that it goes to, even where it comes from another one.

`FailingDisk` makes one operation of any disk fail. To cut the power before operation n of a program: run it on
`FailingDisk(memory, n, forever=True)`, which lets nothing more happen, and then call `memory.power_cut()`.

No locks: for code that runs on one thread, as it does with a simulated clock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ParamSpec, TypeAlias, TypeVar

from homeport.storage.blobstore import Space
from homeport.storage.disk import WRITE_PARTS_MAX, Disk

P = ParamSpec("P")
T = TypeVar("T")

_PAGE_BYTES = 4096
#: What a folder takes of the room.
_FOLDER_BYTES = 4096
_ENDLESS_BYTES = 1 << 50


@dataclass(eq=False, slots=True)
class _File:
    data: bytearray = field(default_factory=bytearray)
    #: What was there at the last sync.
    durable: bytes = b""
    #: A sync failed: the kernel takes the pages for clean now, so later syncs succeed and write nothing.
    lost: bool = False


@dataclass(eq=False, slots=True)
class _Folder:
    entries: dict[str, _Node] = field(default_factory=dict)
    durable: dict[str, _Node] = field(default_factory=dict)


_Node: TypeAlias = _File | _Folder


@dataclass(eq=False, slots=True)
class _Change:
    """A change of entries that no `sync_folder` of `folder` has made durable yet."""

    folder: _Folder
    edits: list[tuple[_Folder, str, _Node | None]]

    def shares_a_name(self, later: _Change) -> bool:
        return any(mine[:2] == theirs[:2] for mine in self.edits for theirs in later.edits)

    def make_durable(self) -> None:
        for folder, name, node in self.edits:
            if node is None:
                folder.durable.pop(name, None)
            else:
                folder.durable[name] = node


class MemoryDisk(Disk):
    """A disk in memory with `/` on it; `random` decides what a power cut leaves. It has a size only if one is given."""

    def __init__(self, random: Callable[[], float], *, capacity_bytes: int | None = None) -> None:
        self._random = random
        self._capacity_bytes = capacity_bytes
        self._root = _Folder()
        self._changes: list[_Change] = []
        self._handles: dict[int, _File] = {}
        self._next_handle = 3

    @property
    def handles_open(self) -> int:
        """How many handles nobody has closed."""
        return len(self._handles)

    def power_cut(self) -> None:
        """Forget what was not synced, or some of it. Handles from before are bad; what is there now is durable."""
        self._make_durable(lambda _: self._random() < 0.5)
        self._changes.clear()
        self._handles.clear()
        for node in _walk_durable(self._root):
            if isinstance(node, _Folder):
                node.entries = dict(node.durable)
            else:
                node.durable = self._torn(node)
                node.data = bytearray(node.durable)
                node.lost = False

    def lose_unsynced(self, handle: int) -> None:
        """What the kernel does when a sync fails: the file's dirty pages are gone with the next power cut."""
        self._file(handle).lost = True

    def damage(self, path: Path, data: bytes) -> None:
        """Put `data` in the file's place, durably, as a failing disk does."""
        file = self._find(path)
        assert isinstance(file, _File)
        file.data, file.durable = bytearray(data), data

    # --- files --------------------------------------------------------------------------------------------------

    def open(self, path: Path) -> int:
        return self._open(path, create=False)

    def open_to_write(self, path: Path, *, create: bool) -> int:
        return self._open(path, create=create)

    def close(self, handle: int) -> None:
        self._file(handle)
        del self._handles[handle]

    def length(self, handle: int) -> int:
        return len(self._file(handle).data)

    def read(self, handle: int, count: int, offset: int) -> bytes:
        return bytes(self._file(handle).data[offset : offset + count])

    def write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        assert len(parts) <= WRITE_PARTS_MAX
        file = self._file(handle)
        data = b"".join(parts)
        room = len(file.data) - offset + self._free_bytes()
        if data and room <= 0:
            raise _error(errno.ENOSPC)
        data = data[:room]
        file.data.extend(bytes(max(0, offset - len(file.data))))
        file.data[offset : offset + len(data)] = data
        return len(data)

    def start_writeback(self, handle: int, offset: int, count: int) -> None:  # noqa: ARG002
        self._file(handle)

    def sync(self, handle: int) -> None:
        file = self._file(handle)
        if not file.lost:
            file.durable = bytes(file.data)

    # --- names --------------------------------------------------------------------------------------------------

    def size(self, path: Path) -> int | None:
        try:
            node = self._find(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return len(node.data) if isinstance(node, _File) else None

    def rename(self, source: Path, target: Path) -> None:
        folder, other = self._folder(source.parent), self._folder(target.parent)
        node = self._find(source)
        replaced = other.entries.get(target.name)
        if not isinstance(node, _File) or isinstance(replaced, _Folder):
            raise _error(errno.EISDIR, target)
        if node is not replaced:
            self._change(other, (folder, source.name, None), (other, target.name, node))

    def unlink(self, path: Path) -> None:
        if isinstance(self._find(path), _Folder):
            raise _error(errno.EISDIR, path)
        folder = self._folder(path.parent)
        self._change(folder, (folder, path.name, None))

    def mkdir(self, path: Path) -> None:
        folder = self._folder(path.parent)
        if path.name in folder.entries:
            raise _error(errno.EEXIST, path)
        if self._free_bytes() < _FOLDER_BYTES:
            raise _error(errno.ENOSPC, path)
        self._change(folder, (folder, path.name, _Folder()))

    def rmdir(self, path: Path) -> None:
        if self._folder(path).entries:
            raise _error(errno.ENOTEMPTY, path)
        folder = self._folder(path.parent)
        self._change(folder, (folder, path.name, None))

    def sync_folder(self, path: Path) -> None:
        folder = self._folder(path)
        self._make_durable(lambda change: change.folder is folder)

    def names(self, path: Path) -> list[str]:
        return list(self._folder(path).entries)

    # --- the medium ---------------------------------------------------------------------------------------------

    def space(self, path: Path) -> Space:
        self._folder(path)
        return Space(self._capacity_bytes or _ENDLESS_BYTES, self._free_bytes())

    def file(self, path: Path) -> Path | None:  # noqa: ARG002
        return None

    # --- inside -------------------------------------------------------------------------------------------------

    def _find(self, path: Path) -> _Node:
        node: _Node = self._root
        for name in path.parts[1:]:
            if not isinstance(node, _Folder):
                raise _error(errno.ENOTDIR, path)
            if name not in node.entries:
                raise _error(errno.ENOENT, path)
            node = node.entries[name]
        return node

    def _folder(self, path: Path) -> _Folder:
        node = self._find(path)
        if not isinstance(node, _Folder):
            raise _error(errno.ENOTDIR, path)
        return node

    def _file(self, handle: int) -> _File:
        if handle not in self._handles:
            raise _error(errno.EBADF)
        return self._handles[handle]

    def _open(self, path: Path, *, create: bool) -> int:
        folder = self._folder(path.parent)
        node = folder.entries.get(path.name)
        if node is None:
            if not create:
                raise _error(errno.ENOENT, path)
            node = _File()
            self._change(folder, (folder, path.name, node))
        if not isinstance(node, _File):
            raise _error(errno.EISDIR, path)
        handle = self._next_handle
        self._next_handle += 1
        self._handles[handle] = node
        return handle

    def _change(self, folder: _Folder, *edits: tuple[_Folder, str, _Node | None]) -> None:
        for edited, name, node in edits:
            if node is None:
                del edited.entries[name]
            else:
                edited.entries[name] = node
        self._changes.append(_Change(folder, list(edits)))

    def _make_durable(self, chosen: Callable[[_Change], bool]) -> None:
        """Make the chosen changes durable, and with each one those before it that were of the same name."""
        durable: list[_Change] = []
        for change in reversed(self._changes):
            if chosen(change) or any(change.shares_a_name(later) for later in durable):
                durable.append(change)
        for change in reversed(durable):
            change.make_durable()
        self._changes = [change for change in self._changes if change not in durable]

    def _torn(self, file: _File) -> bytes:
        """What a power cut leaves of the file: the durable bytes with any pages of the newer ones, of any length."""
        if file.data == file.durable:
            return file.durable
        shortest, longest = sorted((len(file.durable), len(file.data)))
        length = (shortest, longest, shortest + int(self._random() * (longest - shortest)))[int(self._random() * 3)]
        image = bytearray(file.durable[:length].ljust(length, b"\0"))
        for start in range(0, length, _PAGE_BYTES):
            page = file.data[start : min(start + _PAGE_BYTES, length)]
            if self._random() < 0.5:
                image[start : start + len(page)] = page
        return bytes(image)

    def _free_bytes(self) -> int:
        if self._capacity_bytes is None:
            return _ENDLESS_BYTES
        free = self._capacity_bytes
        folders = [self._root]
        while folders:
            for node in folders.pop().entries.values():
                if isinstance(node, _Folder):
                    free -= _FOLDER_BYTES
                    folders.append(node)
                else:
                    free -= len(node.data)
        return free


class FailingDisk(Disk):
    """Hands everything to `disk`, counts it, and fails operation `fail_at` (the first is 1; 0: none) with `number`.

    `forever`: and all that come after it. `done`: the operation is carried out all the same, and fails then, as one
    may that was on its way when the disk broke. Closing and hints do not count, since nothing hangs on them; with
    `only` nothing counts but operations of that name.
    """

    def __init__(
        self,
        disk: Disk,
        fail_at: int = 0,
        *,
        forever: bool = False,
        done: bool = False,
        number: int = errno.EIO,
        only: str | None = None,
    ) -> None:
        self._disk = disk
        self._fail_at = fail_at
        self._forever = forever
        self._done = done
        self._number = number
        self._only = only
        #: The names of the operations so far that count.
        self.operations: list[str] = []

    def mend(self) -> None:
        """Nothing fails any more."""
        self._fail_at = 0

    def _do(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        broken = self._forever and 0 < self._fail_at <= len(self.operations)
        breaks = False
        if self._only in (None, function.__name__):
            self.operations.append(function.__name__)
            breaks = len(self.operations) == self._fail_at
        if not breaks and not broken:
            return function(*args, **kwargs)
        if self._done and breaks:
            result = function(*args, **kwargs)
            if isinstance(result, int) and function.__name__.startswith("open"):
                self._disk.close(result)
        raise _error(self._number)

    def open(self, path: Path) -> int:
        return self._do(self._disk.open, path)

    def open_to_write(self, path: Path, *, create: bool) -> int:
        return self._do(self._disk.open_to_write, path, create=create)

    def close(self, handle: int) -> None:
        self._disk.close(handle)

    def length(self, handle: int) -> int:
        return self._do(self._disk.length, handle)

    def read(self, handle: int, count: int, offset: int) -> bytes:
        return self._do(self._disk.read, handle, count, offset)

    def write(self, handle: int, parts: Sequence[bytes], offset: int) -> int:
        return self._do(self._disk.write, handle, parts, offset)

    def start_writeback(self, handle: int, offset: int, count: int) -> None:
        self._disk.start_writeback(handle, offset, count)

    def sync(self, handle: int) -> None:
        try:
            self._do(self._disk.sync, handle)
        except OSError:
            if isinstance(self._disk, MemoryDisk):
                self._disk.lose_unsynced(handle)
            raise

    def size(self, path: Path) -> int | None:
        return self._do(self._disk.size, path)

    def rename(self, source: Path, target: Path) -> None:
        self._do(self._disk.rename, source, target)

    def unlink(self, path: Path) -> None:
        self._do(self._disk.unlink, path)

    def mkdir(self, path: Path) -> None:
        self._do(self._disk.mkdir, path)

    def rmdir(self, path: Path) -> None:
        self._do(self._disk.rmdir, path)

    def sync_folder(self, path: Path) -> None:
        self._do(self._disk.sync_folder, path)

    def names(self, path: Path) -> list[str]:
        return self._do(self._disk.names, path)

    def space(self, path: Path) -> Space:
        return self._do(self._disk.space, path)

    def file(self, path: Path) -> Path | None:
        return self._disk.file(path)


def _walk_durable(folder: _Folder) -> Iterator[_Node]:
    """Everything that is reached through durable entries, each once."""
    seen: set[int] = set()
    left: list[_Node] = [folder]
    while left:
        node = left.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield node
        if isinstance(node, _Folder):
            left.extend(node.durable.values())


def _error(number: int, path: Path | None = None) -> OSError:
    return OSError(number, os.strerror(number), None if path is None else str(path))
