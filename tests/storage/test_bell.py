"""The bell of the data folder is heard by who has it, and hurts nobody who rings it in vain."""

from __future__ import annotations

import asyncio
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from homeport.storage import bell


class Ear:
    """Counts."""

    def __init__(self) -> None:
        self.heard = 0
        self._now = asyncio.Event()

    def __call__(self) -> None:
        self.heard += 1
        self._now.set()

    async def hears(self) -> None:
        async with asyncio.timeout(10):
            await self._now.wait()
        self._now.clear()


async def test_it_is_heard(tmp_path: Path) -> None:
    ear = Ear()
    with bell.hung(tmp_path, "work", ear):
        mode = (tmp_path / "work.bell").stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        for _ in range(3):
            bell.ring(tmp_path, "work")
            await ear.hears()
    assert not (tmp_path / "work.bell").exists()


async def test_it_is_heard_from_another_process(tmp_path: Path) -> None:
    ear = Ear()
    code = "import sys, pathlib; from homeport.storage import bell; bell.ring(pathlib.Path(sys.argv[1]), 'work')"
    with bell.hung(tmp_path, "work", ear):
        await asyncio.to_thread(subprocess.run, [sys.executable, "-c", code, str(tmp_path)], check=True)
        await ear.hears()


async def test_rung_without_end_it_is_heard_a_few_times_and_nobody_waits(tmp_path: Path) -> None:
    ear = Ear()
    with bell.hung(tmp_path, "work", ear):
        for _ in range(10_000):
            bell.ring(tmp_path, "work")
        await ear.hears()
        await asyncio.sleep(0.1)
        assert 1 <= ear.heard < 200
        bell.ring(tmp_path, "work")
        await ear.hears()


async def test_a_folder_may_have_any_name(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 50) / ("ünlä ge" * 20)
    folder.mkdir(parents=True)
    ear = Ear()
    with bell.hung(folder, "work", ear):
        bell.ring(folder, "work")
        await ear.hears()


async def test_one_that_a_killed_process_left_is_replaced(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as left:
        left.bind(str(tmp_path / "work.bell"))
    bell.ring(tmp_path, "work")  # Nobody is there.
    ear = Ear()
    with bell.hung(tmp_path, "work", ear):
        bell.ring(tmp_path, "work")
        await ear.hears()


@pytest.mark.parametrize("what", ["nothing", "a file", "a folder", "a stream", "no folder"])
async def test_in_vain_it_hurts_nobody(tmp_path: Path, what: str) -> None:
    path = tmp_path / "work.bell"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        if what == "a file":
            path.write_bytes(b"x")
        elif what == "a folder":
            path.mkdir()
        elif what == "a stream":
            stream.bind(str(path))
            stream.listen()
        bell.ring(tmp_path / "none" if what == "no folder" else tmp_path, "work")


async def test_where_none_can_hang_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "work.bell").mkdir()
    handles = len([*Path("/proc/self/fd").iterdir()])
    with pytest.raises(OSError, match=r"work\.bell"), bell.hung(tmp_path, "work", Ear()):
        pass
    assert len([*Path("/proc/self/fd").iterdir()]) == handles


async def test_what_a_stranger_sends_is_only_heard(tmp_path: Path) -> None:
    ear = Ear()
    with (
        bell.hung(tmp_path, "work", ear),
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as stranger,
    ):
        stranger.sendto(b"x" * 100_000, str(tmp_path / "work.bell"))
        await ear.hears()
