"""Reading the configuration again, where the answer cannot be given."""

from __future__ import annotations

import asyncio
import errno
import io
from contextlib import AsyncExitStack
from pathlib import Path
from typing import cast

from homeport.app.composition import open_program
from homeport.app.reloading import Reload
from homeport.clock import SystemClock
from homeport.config.settings import Settings
from homeport.observe import Log
from homeport.storage.datafolder import RoleLock


class FullDisk:
    """A lock whose file has no room for an answer."""

    def __init__(self) -> None:
        self.asked = asyncio.Event()

    def answer(self, _text: str, *, applied: bool) -> None:
        assert applied
        self.asked.set()
        raise OSError(errno.ENOSPC, "No space left on device")


async def test_an_answer_that_cannot_be_written_is_not_the_last(tmp_path: Path) -> None:
    settings, clock, lock = Settings(data=tmp_path), SystemClock(), FullDisk()
    log = Log(io.StringIO(), clock)
    async with AsyncExitStack() as stack:
        program = await open_program(settings, {}, log, clock, stack, works=False)
        reload = Reload(program, None, lambda: settings, [cast("RoleLock", lock)])
        running = asyncio.create_task(reload.run())
        for _ in range(2):
            lock.asked.clear()
            reload.ask()
            async with asyncio.timeout(10):
                await lock.asked.wait()
        running.cancel()
