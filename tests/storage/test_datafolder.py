"""The data folder: its roles, its owner, and what lies below it."""

import os
import stat
from pathlib import Path

import pytest

from homeport.storage.datafolder import DataFolder, DataFolderError, RoleTaken, file_system
from tests.support.components import need_root

SOMEBODY = 12345


def test_a_new_folder_is_for_its_owner_alone(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path / "a/data", create=True)
    folder.prepare_database(folder.path / "homeport.db", create=True)
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder.path / "homeport.db").stat().st_mode) == 0o600


def test_nothing_is_made_unless_it_was_asked_for(tmp_path: Path) -> None:
    with pytest.raises(DataFolderError, match="is not there; give the data folder with --data"):
        DataFolder.open(tmp_path / "slip", create=False)
    assert not (tmp_path / "slip").exists()
    folder = DataFolder.open(tmp_path, create=False)
    with pytest.raises(DataFolderError, match="is not there"):
        folder.prepare_database(tmp_path / "homeport.db", create=False)
    with pytest.raises(DataFolderError, match="make the folder of the database first"):
        folder.prepare_database(tmp_path / "none/homeport.db", create=True)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(DataFolderError):
            DataFolder.open(path, create=True)


def test_a_role_is_taken_once(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path, create=True)
    assert folder.running("serve") is None
    lock = folder.lock("serve")
    with pytest.raises(RoleTaken, match=f"process {os.getpid()} serves from"):
        folder.lock("serve")
    folder.lock("work").release()
    lock.release()
    assert folder.running("serve") is None
    folder.lock("serve").release()


def test_what_another_version_tells_of_itself_is_understood(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path, create=True)
    lock = folder.lock("work")
    for text in ('{"pid": 7, "colour": "blue"}', '{"pid": 7}', '{"colour": "blue"}', "[]", ""):
        (tmp_path / "work.lock").write_text(text)
        running = folder.running("work")
        assert running is None if "pid" not in text else running is not None and running.pid == 7, text
    lock.release()


def test_who_has_a_role_tells_of_itself(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path, create=True)
    lock = folder.lock("serve")
    lock.serves("http://127.0.0.1:1", "homeport.db", "1:2")
    lock.answer("a long sentence about what came of it", applied=False)
    lock.answer("short", applied=True)
    lock.goes_by({"mirror": "0123456789abcdef"}, "as it was")
    running = folder.running("serve")
    assert running is not None
    assert (running.pid, running.url) == (os.getpid(), "http://127.0.0.1:1")
    assert (running.reloads, running.answer, running.applied) == (2, "short", True)
    assert (running.loaded, running.stamp) == ({"mirror": "0123456789abcdef"}, "as it was")
    assert (running.database, running.database_file) == ("homeport.db", "1:2")
    lock.release()


def test_a_lock_file_that_is_no_text_of_ours_is_nobody(tmp_path: Path) -> None:
    folder = DataFolder.open(tmp_path, create=True)
    lock = folder.lock("serve")
    (tmp_path / "serve.lock").write_bytes(b"\xff{")
    assert folder.running("serve") is None
    lock.release()


def test_a_private_file_is_new_and_for_its_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("untouched")
    (tmp_path / "secret").symlink_to(tmp_path / "elsewhere")
    path = DataFolder.open(tmp_path, create=False).write_private("secret", "told once\n")
    assert path.read_text() == "told once\n"
    assert stat.S_IMODE(path.lstat().st_mode) == 0o600
    assert (tmp_path / "elsewhere").read_text() == "untouched"


def test_what_root_makes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    need_root()
    os.chown(tmp_path, SOMEBODY, SOMEBODY)
    folder = DataFolder.open(tmp_path, create=False)
    folder.prepare_database(tmp_path / "homeport.db", create=True)
    folder.lock("serve").release()
    folder.write_private("secret", "x")
    assert {path.stat().st_uid for path in tmp_path.iterdir()} == {SOMEBODY}


def test_a_database_on_a_network_file_system_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"1 0 8:1 / {tmp_path.resolve()}/share rw - nfs4 server:/share rw\n")
    monkeypatch.setattr("homeport.storage.datafolder._MOUNTS", mounts)
    folder = DataFolder.open(tmp_path / "share", create=True)
    with pytest.raises(DataFolderError, match="would lie on nfs4, a network file system"):
        folder.prepare_database(folder.path / "homeport.db", create=True)
    assert list(folder.path.iterdir()) == []


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/data/homeport.db", "ext4"),
        ("/mnt/share/homeport.db", "cifs"),
        ("/mnt/share/local/homeport.db", "xfs"),
        ("/mnt/sharednot", "ext4"),
        ("/mnt/with space/x", "fuse.sshfs"),
        ("/twice/x", "tmpfs"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(path: str, kind: str) -> None:
    mounts = r"""22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /mnt/share rw shared:2 master:1 - cifs //server/share rw
24 23 8:2 / /mnt/share/local rw - xfs /dev/sdb1 rw
25 22 0:6 / /mnt/with\040space rw - fuse.sshfs host: rw
26 22 0:7 / /twice rw - nfs server:/ rw
27 26 0:8 / /twice rw - tmpfs tmpfs rw
a line that is none"""
    assert file_system(Path(path), mounts) == kind
