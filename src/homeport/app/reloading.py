"""Reading the configuration again: all of it counts, or the old one stays."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection

from homeport import events
from homeport.app.access import login_settings
from homeport.app.composition import Program
from homeport.app.serving import Server
from homeport.config.errors import ConfigError
from homeport.config.loading import changes
from homeport.config.settings import Settings
from homeport.db.database import DatabaseError
from homeport.events import SYSTEM
from homeport.notify.targets import targets_of
from homeport.storage.datafolder import RoleLock


class Reload:
    """Takes over a changed configuration when it is asked to, and says what came of it."""

    def __init__(
        self, program: Program, server: Server | None, reread: Callable[[], Settings], locks: Collection[RoleLock]
    ) -> None:
        self._program = program
        self._server = server
        self._started = program.settings
        self._reread = reread
        self._locks = locks
        self._asked = asyncio.Event()

    def ask(self) -> None:
        """Somebody wants the configuration read again."""
        self._asked.set()

    async def run(self) -> None:
        """Do so whenever somebody asks."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            try:
                await self._reload()
            except Exception as error:  # noqa: BLE001 (a loop that died would be missed by nobody until it is needed)
                self._program.log.error("config.failed", error=repr(error))  # noqa: TRY400

    async def _reload(self) -> None:
        try:
            text = await self._apply()
        except ConfigError as error:
            problems = [str(problem) for problem in error.problems]
            self._program.log.error("config.refused", problems=problems)  # noqa: TRY400 (a traceback helps nobody)
            await self._tell("config.refused", "; ".join(problems)[:4096])
            self._answer(f"the old configuration stays:\n{error}", applied=False)
        except DatabaseError as error:
            self._program.log.error("config.refused", problems=[str(error)])  # noqa: TRY400
            self._answer(f"the old configuration stays: {error}", applied=False)
        else:
            self._answer(text, applied=True)

    async def _apply(self) -> str:
        """Take over what may change while the program runs; what that is, and what waits. Raises `ConfigError`."""
        program = self._program
        settings = self._reread()
        targets = targets_of(settings.notify)
        logins = login_settings(settings, program.secrets.held) if self._server else None
        # Nothing was refused: from here on everything counts.
        live = [setting.name for setting in changes(program.settings, settings) if setting.live]
        waiting = [setting.name for setting in changes(self._started, settings) if not setting.live]
        await program.apply(settings, targets)
        if self._server and logins:
            self._server.apply(settings, logins)
        program.log.info("config.reloaded", changed=live, waiting=waiting)
        await self._tell("config.reloaded", f"changed: {', '.join(live) or 'nothing'}")
        text = f"taken over: {', '.join(live) or 'nothing had changed'}"
        return text + (f"; waits for the next start: {', '.join(waiting)}" if waiting else "")

    async def _tell(self, kind: str, reason: str) -> None:
        registry = self._program.registry
        try:
            await registry.db.write(events.append, registry.clock, kind, SYSTEM, reason=reason)
        except DatabaseError as error:
            self._program.log.warning("event.lost", kind=kind, error=str(error))

    def _answer(self, text: str, *, applied: bool) -> None:
        for lock in self._locks:
            lock.answer(text, applied=applied)
