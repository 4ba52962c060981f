"""The data folder as a whole: whose it is, who runs on it, and whether the disk below it can be trusted.

Holds: a folder has at most one process of each role, which holds the lock of that role for as long as it lives. What
root makes here belongs to the folder's owner, so that a server that is not root can go on with it. Nothing is made on
a network file system, where SQLite's locks and shared memory do not hold.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path

#: File systems that several machines can write to at once, as /proc/self/mountinfo names them.
NETWORK_FILE_SYSTEM = re.compile(
    r"afs|beegfs|ceph|cifs|coda|glusterfs|gpfs|lustre|ncpfs|nfs4?|orangefs|smb3|smbfs"
    r"|fuse\.(ceph-fuse|davfs|glusterfs|juicefs|mfs|rclone|s3fs|seaweedfs|sshfs)"
)

_MOUNTS = Path("/proc/self/mountinfo")
_OCTAL = re.compile(r"\\([0-7]{3})")
_LOCK_BYTES_MAX = 64 * 1024


class DataFolderError(Exception):
    """The data folder cannot be used; the text says why and what to do."""


class RoleTaken(DataFolderError):
    """Another process has this role in the folder."""


@dataclass(frozen=True, slots=True)
class Running:
    """What a process that holds a role tells of itself."""

    pid: int
    url: str = ""
    #: How often it read the configuration again, what it says of the last time, and whether it took the file over.
    reloads: int = 0
    answer: str = ""
    applied: bool = True
    #: The SQLite file that it works on, as a path from the folder; empty until it is ready.
    database: str = ""
    #: Which file that is, should another one have that path elsewhere, such as outside its container (`identity`).
    database_file: str = ""
    #: Parts of the configuration that it goes by, each with its mark (`config.loading.marks`).
    loaded: Mapping[str, str] = field(default_factory=dict)
    #: What the file looked like that they are from (`config.place.stamp`).
    stamp: str = ""


#: What a process can tell of itself.
_TOLD = [each.name for each in fields(Running)]


class RoleLock:
    """A role that this process has, until it ends or lets go."""

    def __init__(self, handle: int) -> None:
        self._handle = handle
        self._running = Running(os.getpid())
        self._write()

    def serves(self, url: str, database: str, database_file: str) -> None:
        """Tell where clients reach this process, and which database it works on."""
        self._running = replace(self._running, url=url, database=database, database_file=database_file)
        self._write()

    def goes_by(self, loaded: Mapping[str, str], stamp: str) -> None:
        """Tell the marks of the configuration that counts in this process, and what its file looked like."""
        self._running = replace(self._running, loaded=loaded, stamp=stamp)
        self._write()

    def answer(self, text: str, *, applied: bool) -> None:
        """Tell what came of reading the configuration again."""
        self._running = replace(self._running, reloads=self._running.reloads + 1, answer=text, applied=applied)
        self._write()

    def release(self) -> None:
        """Let go of the role. The file stays: removing it could take away the lock of the next who has it."""
        os.close(self._handle)

    def _write(self) -> None:
        text = json.dumps(asdict(self._running)).encode()
        os.pwrite(self._handle, text, 0)
        os.ftruncate(self._handle, len(text))


class DataFolder:
    """An existing data folder that this process may use."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def open(cls, path: Path, *, create: bool) -> DataFolder:
        """The folder at `path`; made for this user alone if it is not there and `create` says so.

        Raises `DataFolderError`.
        """
        try:
            if create and not path.exists():
                path.mkdir(mode=0o700, parents=True)
            if not path.is_dir():
                raise DataFolderError(f"{path} is not there; give the data folder with --data, or start a server first")
        except OSError as error:
            raise DataFolderError(f"{path} cannot be made or opened: {error.strerror}") from error
        if not os.access(path, os.R_OK | os.W_OK | os.X_OK):
            owner = path.stat().st_uid
            raise DataFolderError(f"{path} belongs to the user with the id {owner}; run this as that user or as root")
        return cls(path)

    def prepare_database(self, path: Path, *, create: bool) -> None:
        """See to it that the SQLite file `path` is there, on a local disk, and belongs to the owner of its folder.

        SQLite gives the files that it makes beside it to the same owner. Raises `DataFolderError`.
        """
        if not path.parent.is_dir():
            raise DataFolderError(f"{path.parent} is not there; make the folder of the database first")
        kind = file_system(path)
        if kind and NETWORK_FILE_SYSTEM.fullmatch(kind):
            raise DataFolderError(
                f"{path} would lie on {kind}, a network file system, where SQLite loses data;"
                " set 'database' to a path on a local disk"
            )
        if path.exists():
            return
        if not create:
            raise DataFolderError(f"{path} is not there; give the data folder with --data, or start a server first")
        try:
            os.close(_open_owned(path))
        except OSError as error:
            raise DataFolderError(f"{path} cannot be made: {error.strerror}") from error

    def from_here(self, path: Path) -> str:
        """The path from this folder, as other processes find it: the folder may have another name there."""
        path, here = path.resolve(), self.path.resolve()
        return str(path.relative_to(here) if path.is_relative_to(here) else path)

    def write_private(self, name: str, text: str) -> Path:
        """A new file that only the owner may read, in place of one that was there; its path."""
        path = self.path / name
        path.unlink(missing_ok=True)
        with os.fdopen(_open_owned(path), "w") as file:
            file.write(text)
        return path

    def lock(self, role: str) -> RoleLock:
        """Take the role. Raises `RoleTaken` where another process has it."""
        try:
            handle = _open_owned(self._lock_file(role))
        except OSError as error:
            raise DataFolderError(f"{self._lock_file(role)} cannot be opened: {error.strerror}") from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            other = self.running(role)
            who = f"process {other.pid}" if other else "another process"
            does = "works on" if role == "work" else "serves from"
            raise RoleTaken(f"{who} {does} {self.path} already; stop it first, or give another --data") from None
        return RoleLock(handle)

    def running(self, role: str) -> Running | None:
        """What the process that has the role tells of itself; None where nobody has it."""
        try:
            handle = os.open(self._lock_file(role), os.O_RDONLY | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            if _is_free(handle):
                return None
            told = json.loads(os.pread(handle, _LOCK_BYTES_MAX, 0))
            # Another version may tell more, or less.
            return Running(**{name: told[name] for name in _TOLD if name in told})
        except (ValueError, TypeError):
            return None  # It has the lock and is about to say who it is.
        finally:
            os.close(handle)

    def _lock_file(self, role: str) -> Path:
        return self.path / f"{role}.lock"


def _open_owned(path: Path) -> int:
    """A handle to the file, made if it is not there; root gives it to the owner of the folder."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.fchown(handle, folder.st_uid, folder.st_gid)
    return handle


def give_to_owner(path: Path) -> None:
    """What root has made here belongs to the owner of the folder."""
    if os.geteuid() == 0:
        folder = path.parent.stat()
        os.chown(path, folder.st_uid, folder.st_gid, follow_symlinks=False)


def _is_free(handle: int) -> bool:
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    fcntl.flock(handle, fcntl.LOCK_UN)
    return True


def identity(path: Path) -> str:
    """Which file that is, whatever it is called; nothing where none can be looked at."""
    try:
        found = path.stat()
    except OSError:
        return ""
    return f"{found.st_dev}:{found.st_ino}"


def file_system(path: Path, mounts: str | None = None) -> str | None:
    """The type of the file system that `path` lies or would lie on, such as `ext4`; None where nobody tells.

    `mounts` is the text of /proc/self/mountinfo, read from there unless it is given.
    """
    if mounts is None:
        try:
            mounts = _MOUNTS.read_text()
        except OSError:
            return None
    resolved = path.resolve()
    best, kind = -1, None
    for line in mounts.splitlines():
        before, separator, after = line.partition(" - ")
        columns = before.split(" ")
        if not separator or len(columns) < 5:
            continue
        mount = Path(_OCTAL.sub(lambda match: chr(int(match[1], 8)), columns[4]))
        # The last line that fits wins among equals: it was mounted over the others.
        if resolved.is_relative_to(mount) and len(mount.parts) >= best:
            best, kind = len(mount.parts), after.split(" ")[0]
    return kind
