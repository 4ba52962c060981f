"""What every verb is handed, and how it says which settings and which data folder it works on."""

from __future__ import annotations

import os
import pwd
from argparse import Namespace
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from homeport.cli.output import Output
from homeport.clock import Clock
from homeport.events import Origin
from homeport.kinds import JOB_SETTINGS
from homeport.storage.datafolder import DataFolder, RoleLock

if TYPE_CHECKING:  # What verbs are handed is imported by who makes it: most verbs need none of it.
    from homeport.config.errors import Problem
    from homeport.config.loading import Reading
    from homeport.config.references import SecretReference
    from homeport.config.settings import Settings
    from homeport.db.database import Database
    from homeport.jobs.work import Kind
    from homeport.jobs.worker import Worker
    from homeport.mirror.run import Parts
    from homeport.notify.notifier import Notifier
    from homeport.registry.registry import Registry
    from homeport.secretstore.store import SecretStore

CONFIG_FILE = Path("homeport.yaml")

#: The roles of a process that serves, and of one that runs jobs. `homeport up` has both.
SERVE = "serve"
WORK = "work"


class Run(Protocol):
    """Does what the roles say until the process is told to stop."""

    async def __call__(
        self,
        settings: Settings,
        roles: Collection[str],
        *,
        reread: Callable[[], Reading],
        ready: Callable[[str], None],
        locks: Collection[RoleLock],
    ) -> None: ...


@dataclass(frozen=True, slots=True)
class Services:
    """What works on a registry, beside a server that may be running on it."""

    kinds: Mapping[str, Kind]
    worker: Worker
    #: What a mirror run works with.
    mirror: Parts


@dataclass(frozen=True, slots=True)
class Outgoing:
    """What calls others as the configuration says. It has no database: that knows the targets of the server."""

    notifier: Notifier
    secrets: SecretStore
    #: Every secret that the configuration refers to, by the name of its setting.
    references: Sequence[tuple[str, SecretReference]]


@dataclass(frozen=True, slots=True)
class Doors:
    """What the composition root builds for the command line, which must not import it.

    Each is imported when it is called, since that alone takes longer than most verbs.
    """

    run: Run
    open_database: Callable[[Path], AbstractAsyncContextManager[Database]]
    open_registry: Callable[[Settings], AbstractAsyncContextManager[Registry]]
    open_services: Callable[[Settings, Registry], AbstractAsyncContextManager[Services]]
    open_outgoing: Callable[[Settings], AbstractAsyncContextManager[Outgoing]]
    #: What a start with these settings would refuse beyond what their form shows.
    problems: Callable[[Settings, Mapping[str, str]], list[Problem]]


@dataclass(frozen=True, slots=True)
class Context:
    """What a verb is handed."""

    arguments: Namespace
    output: Output
    environ: Mapping[str, str]
    clock: Clock
    doors: Doors

    @property
    def config_file(self) -> Path | None:
        """`--config`, else ./homeport.yaml where there is one."""
        if self.arguments.config is not None:
            return Path(self.arguments.config)
        return CONFIG_FILE if CONFIG_FILE.is_file() else None

    def settings(self) -> Settings:
        """The settings with what the command line says on top. Raises `ConfigError`."""
        from homeport.config.loading import load

        settings = load(self.config_file, self.environ)
        if (data := getattr(self.arguments, "data", None)) is not None:
            settings = settings.model_copy(update={"data": Path(data)})
        if (listen := getattr(self.arguments, "listen", None)) is not None:
            server = settings.server.model_copy(update={"listen": listen})
            settings = settings.model_copy(update={"server": server})
        return settings

    def read(self) -> Reading:
        """The settings, with what their file looked like just before. Raises `ConfigError`."""
        from homeport.config.loading import Reading

        stamp = self.stamp()
        return Reading(self.settings(), stamp)

    def stamp(self) -> str:
        """What the file of the settings looks like."""
        from homeport.config.place import stamp

        return stamp(self.config_file)

    def data_folder(self) -> Path | None:
        """The data folder of `settings`, which are not built for it; None where only they can tell."""
        from homeport.config.place import data_folder, is_plain

        if (data := getattr(self.arguments, "data", None)) is not None:
            return Path(data) if is_plain(self.config_file) else None
        return data_folder(self.config_file, self.environ)

    @property
    def origin(self) -> Origin:
        """Who runs this, for the audit log: the user of the machine."""
        uid = os.getuid()
        try:
            return Origin(f"cli:{pwd.getpwuid(uid).pw_name}")
        except KeyError:
            return Origin(f"cli:{uid}")

    @asynccontextmanager
    async def registry(self, settings: Settings | None = None, *, create: bool = False) -> AsyncIterator[Registry]:
        """The registry of the data folder, beside a server that may be running on it.

        `settings` instead of those of the command line, where a verb changes some. Only where `create` says so is a
        folder made that is not there: a slip in --data must not look like an empty registry.
        """
        settings = settings or self.settings()
        self.folder(settings, create=create)
        async with self.doors.open_registry(settings) as registry:
            yield registry

    def loaded_otherwise(self, settings: Settings, kind: str) -> list[str]:
        """The parts of the configuration that a run of this kind goes by, and that are others than in `settings`.

        That is so where the process that runs jobs read them at another time, or from another place. Where there is
        no such process, a run goes by what it is given.
        """
        from homeport.config.loading import marks

        worker = DataFolder(settings.data).running(WORK)
        if worker is None:
            return []
        ours = marks(settings, JOB_SETTINGS.get(kind, ()))
        return [part for part, mark in ours.items() if worker.loaded.get(part, mark) != mark]

    def folder(self, settings: Settings, *, create: bool = False) -> DataFolder:
        """The data folder with its database in place. Raises `DataFolderError`."""
        folder = DataFolder.open(settings.data, create=create)
        folder.prepare_database(settings.database_path, create=create)
        return folder


Handler = Callable[[Context], Awaitable[int]]
