"""What tests of cleaning up talk to."""

import io
from pathlib import Path

from homeport.clock import Clock
from homeport.garbage.guard import SETTLING_SECONDS, ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.garbage.walk import Found, Walker
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests
from homeport.testing.blobstore_suite import content
from homeport.testing.images import Image
from tests.registry.world import REPOSITORY, World

HOUR, DAY = 3600.0, 86_400.0
#: Behind every promise and grace of the defaults.
LONG = 9 * DAY


class Unpaced(Pace):
    """Rests nowhere: tests have no requests to give way to."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock, lambda: False)

    async def rest(self) -> None:
        await self.clock.sleep(0)


class Cleaning(World):
    """A registry, its sweeper and its walker."""

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self.said = io.StringIO()
        #: When tags were decided about, for tests that do something after that.
        self.decided_at = 0.0
        super().__init__(folder, database or folder.parent / "homeport.db")
        self.rule(jitter_seconds=0.0)

    def open(self) -> None:
        super().open()
        log = Log(self.said, self.clock)
        self.guard = ClockGuard(self.registry)
        self.sweeper = Sweeper(self.registry, log, self.guard, Unpaced(self.clock))
        self.walker = Walker(self.registry, log, self.guard, Unpaced(self.clock))

    async def sweep(self) -> None:
        """All that is due, condemned and retired."""
        await self.sweeper.sweep()
        self.pass_time(self.registry.rules.condemned_seconds)
        await self.sweeper.sweep()

    async def sweep_after(self, seconds: float) -> None:
        """As `sweep`, when this time has passed."""
        self.pass_time(seconds)
        await self.sweep()

    async def walk(self) -> Found:
        return await self.walker.walk()

    async def pull(self, image: Image, reference: str, repository: str = REPOSITORY) -> None:
        """Pull the image as a client does, with all that it needs, and look at every byte."""
        stored = await manifests.get(self.registry, repository, reference)
        assert stored == (image.digest, image.media_type, image.data)
        for child in image.children:
            await self.pull(child, child.digest, repository)
        for data in image.blobs:
            blob = await blobs.get(self.registry, repository, Digest.of(data))
            assert await content(self.registry.blobs, blob.location) == data

    async def listed(self, repository: str = REPOSITORY) -> set[str]:
        """What the trash has of the repository."""
        return {row[0] for row in await self.rows("SELECT digest FROM trashed_links WHERE repository = ?", repository)}

    async def digests(self, repository: str = REPOSITORY) -> set[str]:
        """What the repository offers."""
        return {row[0] for row in await self.rows("SELECT digest FROM held_blobs WHERE repository = ?", repository)}

    async def state(self, digest: Digest) -> str | None:
        """The state of a blob's row; None: it has none."""
        rows = await self.rows("SELECT state FROM blobs WHERE digest = ?", digest)
        return rows[0][0] if rows else None

    def trash(self) -> list[str]:
        """The files in the trash."""
        folder = self.folder / "trash"
        return sorted(file.name for file in folder.iterdir()) if folder.exists() else []


async def settle(cleaning: Cleaning, *guards: ClockGuard) -> None:
    """Let the first minutes pass, in which a clock may be set."""
    assert [await guard.stopped() for guard in guards] == [None] * len(guards)
    cleaning.pass_time(SETTLING_SECONDS)
    assert [await guard.stopped() for guard in guards] == [None] * len(guards)
