"""A world for simulations: a disk and a database that outlive processes, and clients that outlive both.

A life is one process on the disk. It ends at a drawn moment, between two steps of the loop or in the middle of an
operation on the disk, sometimes with the power; the next one finds what is left.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Concatenate, TypeAlias

from homeport.clock import Clock
from homeport.db.database import Database, P, T, Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.oci.digest import Digest
from homeport.registry import quotas, uploads
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry, Rules
from homeport.storage.blobstore import BlobStore, StorageError
from homeport.storage.disk import Disk
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from homeport.testing.images import Image
from homeport.testing.model import Model
from homeport.testing.simulation import ProcessDied, SimulatedClock, run
from tests.simulation.ledger import Ledger

ROOT = Path("/data")
REPOSITORIES = ("app", "base", "team/app")
TAGS = ("latest", "v1", "v2")

#: No simulation needs so many.
_STEPS_MAX = 1_000_000
#: So that promises have to be renewed.
_HOURS_BETWEEN_LIVES_MAX = 3


class MemoryDatabase(SqliteDatabase):
    """SQLite in memory whose commits are durable only when they were flushed, and where the next process finds them."""

    #: What a power cut may leave besides: what was flushed last, and with some of the commits since then.
    _older: list[bytes] | None = None

    def __init__(self, clock: Clock, committed: bytes | None) -> None:
        super().__init__(MEMORY, clock)
        if committed is not None:
            self._writer.deserialize(committed)
        self._older = []
        self._disk = clock.threads("flush", 1)

    async def write(self, fact: Callable[Concatenate[Transaction, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        result = await super().write(fact, *args, **kwargs)
        assert self._older is not None
        await self._disk.run(self._older.clear)
        return result

    def _transact(self, function: Callable[[Transaction], T]) -> T:
        if self._older is not None:  # It has its tables.
            self._older.append(self._writer.serialize())
        return super()._transact(function)

    @property
    def is_unflushed(self) -> bool:
        return bool(self._older)

    def die(self) -> list[bytes]:
        """What a power cut may leave of it, the last of them being all that it had committed."""
        left = [*(self._older or ()), self._writer.serialize()]
        self._writer.close()
        return left


class DyingDisk(FailingDisk):
    """The disk of a process that is killed at an operation. It does not fail, so the kernel forgets nothing."""

    def sync(self, handle: int) -> None:
        self._do(self._disk.sync, handle)


@dataclass
class Faults:
    """What is put around the real parts, to see whether the simulation notices when one of them lies."""

    disk: Callable[[Disk], Disk] = lambda disk: disk
    store: Callable[[BlobStore], BlobStore] = lambda store: store


@dataclass(eq=False)
class Session:
    """What a client remembers of an upload session, also after the server died."""

    client: str
    upload: str
    repository: str
    data: bytes
    #: The server said that it has this much.
    acknowledged: int = 0
    #: The client asked to finish or cancel it, so it may be gone.
    ending: bool = False
    #: The client sent bytes and was not answered, so they may have been too many for a quota, and the session is gone.
    unanswered: bool = False
    #: The power was cut, so the session may be gone, and the bytes that the server has may be others.
    torn: bool = False


@dataclass
class World:
    """All that there is. `trace` has a line for every request, answer, death and power cut."""

    seed: int
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        self.clock = SimulatedClock(self.seed)
        self.disk = MemoryDisk(self.clock.random)
        self.images = self._draw_images()
        self.blobs = list(dict.fromkeys(blob for image in self.images for blob in image.blobs))
        self.contents = {image.digest: image for image in self.images}
        self.ledger = Ledger(Model({digest: image.manifest for digest, image in self.contents.items()}))
        self.trace: list[str] = []
        self.sessions: list[Session] = []
        self.life = 0
        self.faulty = False
        self._committed: bytes | None = None
        self._database: MemoryDatabase | None = None

    @property
    def observed(self) -> Database:
        """The database as it is, without the faults that the registry sees."""
        assert self._database is not None
        return self._database

    def note(self, line: str) -> None:
        self.trace.append(f"{self.clock.monotonic():.6f} {line}")

    def _draw_images(self) -> list[Image]:
        """Images that share layers, an index of two of them, and an artifact that refers to one."""
        sizes = [int(20_000 * self.clock.random() ** 3) for _ in range(5)]
        layers = [self.clock.random_bytes(size) for size in sizes]
        singles = [
            images.image([layers[self.clock.below(5)], layers[self.clock.below(5)]], config=b'{"n": %d}' % number)
            for number in range(4)
        ]
        artifact = images.image([layers[self.clock.below(5)]], subject=singles[0])
        return [*singles, artifact, images.index(singles[:2])]

    def _draw_quotas(self) -> dict[str, int]:
        """The quotas of a life: they come and go, and few are so small that they refuse much."""
        drawn = {"**": 10**9, "team/**": 200_000, "app": 20_000, "*": 60_000}
        return {pattern: limit for pattern, limit in drawn.items() if self.clock.random() < 0.6}

    # --- lives --------------------------------------------------------------------------------------------------

    def live(self, work: Work, lives: int) -> None:
        """Let processes live one after the other; the last one dies of nothing and does its work to the end."""
        for self.life in range(1, lives + 1):
            self._one_life(work, last=self.life == lives)
            self.clock.advance(self.clock.random() * _HOURS_BETWEEN_LIVES_MAX * 3600)

    def _one_life(self, work: Work, *, last: bool) -> None:
        steps_max = _STEPS_MAX if last else int(4_000 * self.clock.random() ** 2)
        operation = 0 if last or self.clock.random() < 0.5 else 1 + int(400 * self.clock.random() ** 2)
        # Either the process dies at this operation, or that fails and the process goes on.
        deadly = self.clock.random() < 0.7
        # Some wait with dying until something is committed that was not flushed.
        patient = self.clock.random() < 0.5
        self.faulty = operation > 0
        self.clock.jobs_per_stall = 50 if self.clock.random() < 0.2 else 5_000
        disk = (DyingDisk if deadly else FailingDisk)(
            self.disk,
            operation,
            forever=deadly,
            done=self.clock.random() < 0.5,
            number=errno.EIO if self.clock.random() < 0.7 else errno.ENOSPC,
        )
        self.note(f"life {self.life}: {steps_max} steps, {operation} operations")

        def dies(steps: int) -> bool:
            if steps >= steps_max:
                return not patient or (self._database is not None and self._database.is_unflushed)
            return deadly and 0 < operation <= len(disk.operations)

        try:
            run(self.clock, lambda: self._process(disk, work), dies)
        except ProcessDied:
            assert not last, "it does not come to an end"
            self.note("the process dies")
            self._find_what_is_left(power_cut=self.clock.random() < 0.5)
        else:
            self._find_what_is_left(power_cut=False)

    def _find_what_is_left(self, *, power_cut: bool) -> None:
        if self._database is not None:
            left = self._database.die()
            self._committed = left[self.clock.below(len(left)) if power_cut else -1]
            if self._committed is not left[-1]:
                # What was never durable was seen all the same: by those who were told of it, not by those who come.
                seen = copy.deepcopy(self.ledger)
                run(SimulatedClock(0), lambda: review(MemoryDatabase(SimulatedClock(0), left[-1]), seen))
                self.ledger.forget_what_need_not_last()
            self._database = None
        if not power_cut:
            return
        self.note("the power is cut")
        self.disk.power_cut()
        for session in self.sessions:
            session.torn = True
            session.acknowledged = 0

    async def _process(self, disk: Disk, work: Work) -> None:
        """What a server does from its start to its end."""
        self._database = MemoryDatabase(self.clock, self._committed)
        await self.audit()
        await review(self._database, self.ledger)
        store = FilesystemStore(ROOT, self.clock, disk=self.faults.disk(disk), reserve_percent=0, reserve_bytes=0)
        rules = Rules(quotas=self._draw_quotas())
        registry = Registry(self._database, self.faults.store(store), self.clock, rules)
        try:
            await self._database.write(quotas.sync, rules.quotas)
            await uploads.discard_strays(registry)
        except StorageError:
            assert self.faulty
            self.note("the process cannot start")
            return
        await work(self, registry)
        await self.audit()
        await review(self._database, self.ledger)

    # --- looking ------------------------------------------------------------------------------------------------

    async def audit(self) -> None:
        """Look at rows and bytes as they are at this moment, and as they would be if the power were cut now.

        Nothing else runs meanwhile: a database in memory answers without giving up the loop.
        """
        live = await self.observed.read(invariants.live_blobs)
        wrong = await self.observed.read(invariants.facts, Rules())
        wrong += _wrong_bytes(self.disk, live)
        after_a_cut = copy.deepcopy(self.disk, {id(self.clock): self.clock})
        after_a_cut.power_cut()
        wrong += [f"after a power cut {sentence}" for sentence in _wrong_bytes(after_a_cut, live)]
        assert not wrong, "; ".join(wrong)


async def review(database: MemoryDatabase, ledger: Ledger) -> None:
    """Look at what clients were told, when none of them waits for an answer."""
    ledger.review(await database.read(invariants.changes, ledger.last_event))
    wrong = await database.read(invariants.same, ledger.model)
    assert not wrong, "; ".join(wrong)
    kept, rules = await database.read(invariants.promises), Rules()
    ledger.check_promises(kept, rules.keep_seconds - rules.keep_renewal_seconds)


def _wrong_bytes(disk: MemoryDisk, live: list[Blob]) -> list[str]:
    """The live blobs whose bytes are not there or are others."""
    wrong = []
    for blob in live:
        try:
            handle = disk.open(ROOT / blob.location)
        except OSError as error:
            wrong.append(f"{blob.digest} cannot be opened: {error}")
            continue
        data = disk.read(handle, disk.length(handle), 0)
        disk.close(handle)
        if Digest.of(data, blob.digest.algorithm) != blob.digest or len(data) != blob.size:
            wrong.append(f"{blob.digest} of {blob.size} bytes has {len(data)} others")
    return wrong


Work: TypeAlias = Callable[[World, Registry], Awaitable[None]]
