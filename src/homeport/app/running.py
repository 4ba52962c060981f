"""A process that runs until it is told to stop: it serves, or works, or both."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Collection
from contextlib import AsyncExitStack

from homeport.app import serving, upstreaming, working
from homeport.app.composition import Program, open_program, program_log
from homeport.app.loops import every, running
from homeport.app.reloading import Reload
from homeport.cli.context import SERVE, WORK
from homeport.clock import SystemClock
from homeport.config.environment import process_environment
from homeport.config.loading import Reading
from homeport.config.settings import Settings
from homeport.storage import bell
from homeport.storage.datafolder import RoleLock

#: How often waiting log lines are written.
LOG_SECONDS = 0.1


async def run(
    settings: Settings,
    roles: Collection[str],
    *,
    reread: Callable[[], Reading],
    ready: Callable[[str], None],
    locks: Collection[RoleLock],
) -> None:
    """Do what the roles say until SIGTERM or SIGINT, then finish what was begun.

    `ready` is told the address once connections are accepted; it is empty where nothing is served. On SIGHUP `reread`
    gives the settings anew, or raises `ConfigError`, and what came of it is told through `locks`. Raises
    `ConfigError`, `ListenFailed`.
    """
    clock = SystemClock()
    log = program_log(settings, clock)
    async with AsyncExitStack() as stack:
        stack.callback(log.flush)
        program = await open_program(settings, process_environment(), log, clock, stack, works=WORK in roles)
        server = await serving.Server.open(program, stack) if SERVE in roles else None
        worker = working.Working(program) if WORK in roles else None
        reload = Reload(program, server, reread, locks)
        stopping = _signals(reload)
        if worker is not None:
            try:
                stack.enter_context(bell.hung(settings.data, WORK, program.worker.look_now))
            except OSError as error:
                log.warning("bell.missing", error=str(error))
        async with running(
            log,
            every(clock, log, LOG_SECONDS, _flush(program)),
            every(clock, log, upstreaming.FLUSH_SECONDS, program.upstreaming.flush),
            reload.run(),
            program.secrets.run(),
            *(server.loops() if server else ()),
            *(worker.loops() if worker else ()),
        ):
            url = await server.listen() if server else ""
            # What is there now stays: the collector need not look through it again and again while requests wait.
            gc.collect()
            gc.freeze()
            log.info("program.started", roles=sorted(roles), url=url, data=str(settings.data))
            ready(url)
            await stopping.wait()
            log.info("program.stopping", roles=sorted(roles))
            await _stop(server, worker, program.settings.server.drain_seconds)
    log.info("program.stopped")


async def _stop(server: serving.Server | None, worker: working.Working | None, seconds: float) -> None:
    """Requests and jobs that have begun may end, side by side, but no longer than `seconds`."""
    ending = [part.stop(seconds) for part in (server, worker) if part is not None]
    await asyncio.gather(*ending)


def _signals(reload: Reload) -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reload.ask)
    return stopping


def _flush(program: Program) -> Callable[[], Awaitable[object]]:
    async def step() -> None:
        program.log.flush()

    return step
