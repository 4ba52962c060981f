"""The command `homeport`: the command line, with the program that `app` builds behind it.

What of `app` a verb asks for is imported when it asks: all of it takes longer than most verbs do.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from homeport.cli.context import Doors
from homeport.cli.main import run
from homeport.storage.datafolder import RoleLock

if TYPE_CHECKING:
    from homeport.cli.context import Outgoing, Services
    from homeport.config.errors import Problem
    from homeport.config.settings import Settings
    from homeport.db.database import Database
    from homeport.registry.registry import Registry


async def _run(
    settings: Settings,
    roles: Collection[str],
    *,
    reread: Callable[[], Settings],
    ready: Callable[[str], None],
    locks: Collection[RoleLock],
) -> None:
    from homeport.app.running import run

    await run(settings, roles, reread=reread, ready=ready, locks=locks)


def _open_database(path: Path) -> AbstractAsyncContextManager[Database]:
    from homeport.app.database import open_database

    return open_database(path)


def _open_registry(settings: Settings) -> AbstractAsyncContextManager[Registry]:
    from homeport.app.core import open_registry

    return open_registry(settings)


def _open_services(settings: Settings, registry: Registry) -> AbstractAsyncContextManager[Services]:
    from homeport.app.composition import open_services

    return open_services(settings, registry)


def _open_outgoing(settings: Settings) -> AbstractAsyncContextManager[Outgoing]:
    from homeport.app.composition import open_outgoing

    return open_outgoing(settings)


def _problems(settings: Settings, environ: Mapping[str, str]) -> list[Problem]:
    from homeport.app.access import problems

    return problems(settings, environ)


#: What the command line may ask the composition root for.
DOORS = Doors(
    run=_run,
    open_database=_open_database,
    open_registry=_open_registry,
    open_services=_open_services,
    open_outgoing=_open_outgoing,
    problems=_problems,
)


def main() -> int:
    """Run with the words of this process's command line; the exit code."""
    # Killed, we would leave behind the programs that we run; left, everything is taken down as always.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    return run(sys.argv[1:], DOORS)


if __name__ == "__main__":
    sys.exit(main())
