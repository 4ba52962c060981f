"""A registry on a real database and a real folder, with a clock that a test can move."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

from homeport import events
from homeport.clock import SystemClock
from homeport.db.database import Row, Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.events import Event, Origin
from homeport.oci.digest import Digest
from homeport.registry import manifests, uploads
from homeport.registry.blobs import Blob
from homeport.registry.manifests import Pushed
from homeport.registry.registry import Registry
from homeport.registry.uploads import Sessions
from homeport.storage.filesystem import FilesystemStore
from homeport.testing.images import Image

ADA = Origin("ada", "192.0.2.1", "run-1")
BOB = Origin("bob", "192.0.2.2", "run-2")
REPOSITORY = "team/app"
OTHER = "team/other"
HOUR = 3600.0


class MovableClock(SystemClock):
    """The machine's clock, put forward."""

    ahead = 0.0
    #: By how much the time that it shows is wrong.
    wrong = 0.0

    def now(self) -> float:
        return super().now() + self.ahead + self.wrong

    def elapsed(self) -> float:
        return super().elapsed() + self.ahead

    def monotonic(self) -> float:
        return super().monotonic() + self.ahead


class World:
    """What a test talks to. `database` is a path, or `:memory:`, which nothing outlives."""

    def __init__(self, folder: Path, database: Path | str = MEMORY) -> None:
        self.folder = folder
        self.clock = MovableClock()
        self._database = database
        self.open()

    @property
    def database_clock(self) -> SystemClock:
        """What the database waits by."""
        return self.clock

    def open(self) -> None:
        """Open everything anew, as a process that starts."""
        store = FilesystemStore(self.folder, self.clock, reserve_percent=0, reserve_bytes=0)
        self.registry = Registry(SqliteDatabase(self._database, self.database_clock), store, self.clock)
        self.sessions = Sessions()

    async def close(self) -> None:
        await self.registry.db.close()
        await self.registry.blobs.close()

    async def restart(self) -> None:
        await self.close()
        self.open()

    def rule(self, **changes: object) -> None:
        self.registry.rules = replace(self.registry.rules, **changes)  # type: ignore[arg-type]

    def pass_time(self, seconds: float) -> None:
        self.clock.ahead += seconds

    # --- pushing ------------------------------------------------------------------------------------------------

    async def blob(self, data: bytes, repository: str = REPOSITORY, algorithm: str = "sha256") -> Digest:
        digest = Digest.of(data, algorithm)
        await uploads.push(self.registry, ADA, repository, digest, body(data))
        return digest

    async def start(self, repository: str = REPOSITORY, origin: Origin = ADA) -> str:
        return await uploads.start(self.registry, self.sessions, origin, repository)

    async def append(self, upload: str, *chunks: bytes, offset: int | None = None, origin: Origin = ADA) -> int:
        return await uploads.append(self.registry, self.sessions, origin, REPOSITORY, upload, offset, body(*chunks))

    async def finish(
        self, upload: str, digest: Digest, *chunks: bytes, offset: int | None = None, origin: Origin = ADA
    ) -> Blob:
        last = body(*chunks) if chunks else None
        return await uploads.finish(self.registry, self.sessions, origin, REPOSITORY, upload, digest, offset, last)

    async def manifest(self, image: Image, *tags: str, repository: str = REPOSITORY) -> Pushed:
        """Push the manifest alone."""
        return await manifests.push(self.registry, ADA, repository, image.data, image.media_type, image.digest, tags)

    async def push(self, image: Image, *tags: str, repository: str = REPOSITORY) -> Digest:
        """Push everything that the image needs, and it."""
        for child in image.children:
            await self.push(child, repository=repository)
        for data in image.blobs:
            await self.blob(data, repository)
        await self.manifest(image, *tags, repository=repository)
        return image.digest

    # --- looking ------------------------------------------------------------------------------------------------

    async def rows(self, sql: str, *parameters: str | int) -> list[Row]:
        return await self.registry.db.read(lambda tx: tx.all(sql, parameters))

    async def events(self) -> list[Event]:
        return await self.registry.db.read(events.after, events.START)

    async def new_events(self) -> NewEvents:
        """What happens from now on: `[(kind, repository, digest, tag), ...]` when it is asked."""
        return NewEvents(self, len(await self.events()))

    async def link(self, digest: Digest, repository: str = REPOSITORY) -> tuple[float, float] | None:
        """How long the link is promised, and when its last reference was lost; None where there is none."""
        rows = await self.rows(
            "SELECT keep_until, released_at FROM links l JOIN repositories r ON r.id = l.repository_id"
            " WHERE r.name = ? AND l.digest = ?",
            repository,
            digest,
        )
        return rows[0] if rows else None

    def file(self, digest: Digest) -> Path:
        hexadecimal = digest.encoded
        return self.folder / "docker/registry/v2/blobs" / digest.algorithm / hexadecimal[:2] / hexadecimal / "data"

    def strays(self) -> list[str]:
        """Files of uploads that are on the disk."""
        folder = self.folder / "uploads"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


class NewEvents:
    """The events that were written after some moment."""

    def __init__(self, world: World, before: int) -> None:
        self._world = world
        self._before = before

    async def __call__(self) -> list[tuple[str, str | None, str | None, str | None]]:
        found = (await self._world.events())[self._before :]
        assert all((event.actor, event.address, event.run) == (ADA.actor, ADA.address, ADA.run) for event in found)
        return [(event.kind, event.repository, event.digest, event.tag) for event in found]


async def body(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, each after a turn of the event loop, as they come from a socket."""
    for chunk in chunks:
        await asyncio.sleep(0)
        yield chunk


async def stuck(begun: asyncio.Event, *chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, then nothing for ever: a client that went away without saying so. `begun`: all were taken."""
    for chunk in chunks:
        yield chunk
    begun.set()
    await asyncio.Event().wait()


async def broken(*chunks: bytes) -> AsyncIterator[bytes]:
    """The chunks, then the connection's end."""
    for chunk in chunks:
        yield chunk
    raise ConnectionResetError


def delete_everything_held(tx: Transaction) -> None:
    """As if all holds had been lost."""
    tx.run("DELETE FROM holds")
