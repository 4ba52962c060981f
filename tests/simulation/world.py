"""A world for simulations: a disk and a database that outlive processes, and clients that outlive both.

A life is one process on the disk. It ends at a drawn moment, between two steps of the loop or in the middle of an
operation on the disk, sometimes with the power; the next one finds what is left.
"""

from __future__ import annotations

import copy
import errno
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Concatenate, TypeAlias

from homeport.clock import Clock
from homeport.db.database import ConstraintViolated, Database, DatabaseError, P, T, Transaction
from homeport.db.sqlite import MEMORY, SqliteDatabase
from homeport.oci.digest import Digest
from homeport.registry import quotas, uploads
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry, Rules
from homeport.registry.retention import KeepRule, Retention
from homeport.storage.blobstore import BlobStore, StorageError
from homeport.storage.disk import Disk
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.database_faults import FailingDatabase
from homeport.testing.disk_faults import FailingDisk, MemoryDisk
from homeport.testing.images import Image
from homeport.testing.invariants import Told
from homeport.testing.model import Model
from homeport.testing.simulation import ProcessDied, SimulatedClock, run
from tests.simulation.ledger import Ledger
from tests.simulation.oracle import Moving, Oracle

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

    def __init__(
        self, clock: Clock, committed: bytes | None, look: Callable[[Transaction], None] = lambda _: None
    ) -> None:
        """`look` is shown the rows after each transaction."""
        super().__init__(MEMORY, clock)
        self._look = look
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
        result = super()._transact(function)
        if self._older is not None:
            self._look(self._transaction)
        return result

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
    moving: Moving
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
        #: In a narrow world all want one blob, in one repository, which comes and goes, and the disk is slow.
        self.is_narrow = self.clock.random() < 0.25
        self.repositories = REPOSITORIES[:1] if self.is_narrow else REPOSITORIES
        self.images = self._draw_images()
        blobs = list(dict.fromkeys(blob for image in self.images for blob in image.blobs))
        self.blobs = blobs[:1] if self.is_narrow else blobs
        self.contents = {image.digest: image for image in self.images}
        self.companion_tags = _companion_tags(self.images)
        self.rules = self._draw_rules()
        model = Model({digest: image.manifest for digest, image in self.contents.items()})
        self.ledger = Ledger(model, Oracle(self.rules))
        self.trace: list[str] = []
        #: Every change that was there when a life began or ended.
        self.told: list[Told] = []
        self.sessions: list[Session] = []
        #: When somebody let go for good of what was deleted.
        self.purged: dict[tuple[str, Digest], float] = {}
        #: Whether this life lasts for hours rather than for seconds, since the disk is slow.
        self.is_slow = False
        self.life = 0
        #: What was asked for, and what the server did by itself.
        self.operations = 0
        self.faulty = False
        #: What an invariant said between two transactions.
        self._wrong: list[str] = []
        #: What the next process finds in its database.
        self.committed: bytes | None = None
        self._database: MemoryDatabase | None = None

    @property
    def observed(self) -> Database:
        """The database as it is, without the faults that the registry sees."""
        assert self._database is not None
        return self._database

    def may_fail(self, error: Exception) -> bool:
        """Whether this may go wrong in this life; facts that contradict one another never may."""
        return self.faulty and not isinstance(error, ConstraintViolated)

    def note(self, line: str) -> None:
        self.trace.append(f"{self.clock.monotonic():.6f} {line}")

    def _draw_images(self) -> list[Image]:
        """Few images that share layers, so that all is wanted again and again: also what was just swept.

        An index of two of them, an artifact that refers to one, and an index that names its own subject.
        """
        if self.is_narrow:
            return [images.image([self.clock.random_bytes(100)])]
        sizes = [int(20_000 * self.clock.random() ** 3) for _ in range(3)]
        layers = [self.clock.random_bytes(size) for size in sizes]
        singles = [
            images.image([layers[self.clock.below(3)], layers[self.clock.below(3)]], config=b'{"n": %d}' % number)
            for number in range(3)
        ]
        artifact = images.image([layers[self.clock.below(3)]], subject=singles[0])
        return [*singles, artifact, images.index(singles[:2]), images.index(singles[1:], subject=singles[2])]

    def _draw_rules(self) -> Rules:
        """Short spans of which each may be the shortest, but for those that the settings hold in order."""
        return Rules(
            hold_seconds=120.0,
            condemned_seconds=120.0,
            keep_seconds=(1_800.0, 7_200.0)[self.clock.below(2)],
            keep_renewal_seconds=300.0,
            grace_seconds=(300.0, 3_600.0)[self.clock.below(2)],
            untagged_seconds=(600.0, 7_200.0)[self.clock.below(2)],
            uploads_seconds=7_200.0,
            moving_seconds=900.0,
            trash_seconds=(1_800.0, 14_400.0)[self.clock.below(2)],
            jitter_seconds=30.0,
            retention=Retention(
                keep=(KeepRule("app", newest=1), KeepRule("base", newest=2), KeepRule("team/**", untagged_after=300.0))
            ),
        )

    def _draw_quotas(self) -> dict[str, int]:
        """The quotas of a life: they come and go, and few are so small that they refuse much."""
        drawn = {"**": 10**9, "team/**": 200_000, "app": 20_000, "*": 60_000}
        return {pattern: limit for pattern, limit in drawn.items() if self.clock.random() < 0.6}

    # --- lives --------------------------------------------------------------------------------------------------

    def live(self, work: Work, lives: int, between: Callable[[World], None] = lambda _: None) -> None:
        """Let processes live one after the other; the last one dies of nothing and does its work to the end."""
        for self.life in range(1, lives + 1):
            self._one_life(work, last=self.life == lives)
            between(self)
            self.clock.advance(self.clock.random() ** 2 * _HOURS_BETWEEN_LIVES_MAX * 3600)

    def _one_life(self, work: Work, *, last: bool) -> None:
        steps_max = _STEPS_MAX if last else int(4_000 * self.clock.random() ** 2)
        operation = 0 if last or self.clock.random() < 0.5 else 1 + int(400 * self.clock.random() ** 2)
        # Either the process dies at this operation, or that fails and the process goes on.
        deadly = self.clock.random() < 0.7
        # Some wait with dying until something is committed that was not flushed.
        patient = self.clock.random() < 0.5
        transaction = 0 if last or self.clock.random() < 0.8 else 1 + int(100 * self.clock.random())
        self.faulty = operation > 0 or transaction > 0
        # Pushes whose bytes are slow to come into their place can be in each other's way.
        stalls = not self.is_narrow and self.clock.random() < 0.2
        self.clock.jobs_per_stall = 50 if stalls else 5_000
        self.clock.jobs_per_stall_of = {"finish": 2} if self.is_narrow else {}
        self.clock.stall_seconds_max = 400.0 if self.is_narrow else 1_200.0
        self.is_slow = self.is_narrow or stalls
        # Most can go wrong with what was renamed and is not durable, and with what was renamed in a transaction.
        only = (None, "sync_folder", "rename")[self.clock.below(3)]
        if only is not None:
            operation = (operation + 9) // 10
        disk = (DyingDisk if deadly else FailingDisk)(
            self.disk,
            operation,
            only=only,
            forever=deadly,
            done=self.clock.random() < 0.5,
            number=errno.EIO if self.clock.random() < 0.7 else errno.ENOSPC,
        )
        self.note(f"life {self.life}: {steps_max} steps, {operation} operations, {transaction} transactions")

        def dies(steps: int) -> bool:
            assert not self._wrong, "; ".join(self._wrong)
            if steps >= steps_max:
                return not patient or (self._database is not None and self._database.is_unflushed)
            return deadly and 0 < operation <= len(disk.operations)

        try:
            run(self.clock, lambda: self._process(disk, transaction, work), dies)
        except ProcessDied:
            assert not last, "it does not come to an end"
            self.note("the process dies")
            self._find_what_is_left(power_cut=self.clock.random() < 0.5)
        else:
            self._find_what_is_left(power_cut=False)

    def _find_what_is_left(self, *, power_cut: bool) -> None:
        if self._database is not None:
            left = self._database.die()
            self.committed = left[self.clock.below(len(left)) if power_cut else -1]
            if self.committed is not left[-1]:
                # What was never durable was seen all the same: by those who were told of it, not by those who come.
                seen = copy.deepcopy(self.ledger)
                run(SimulatedClock(0), lambda: review(MemoryDatabase(SimulatedClock(0), left[-1]), seen))
                self.ledger.forget_what_need_not_last()
            self._database = None
        if not power_cut:
            return
        self.note("the power is cut")
        self.disk.power_cut()
        self.ledger.oracle.uploads.clear()
        for session in self.sessions:
            session.torn = True
            session.acknowledged = 0

    def rest(self, work: Work) -> None:
        """One more life, in which nothing goes wrong."""
        self.life += 1
        self.faulty = False
        self.note(f"life {self.life}: the last")
        run(self.clock, lambda: self._process(self.disk, 0, work))

    async def _process(self, disk: Disk, transaction: int, work: Work) -> None:
        """What a server does from its start to its end."""
        self._database = MemoryDatabase(self.clock, self.committed, self._look)
        self._store = FilesystemStore(ROOT, self.clock, disk=self.faults.disk(disk), reserve_percent=0, reserve_bytes=0)
        await self.audit()
        self.told += await self._database.read(invariants.changes, self.ledger.last_event)
        await review(self._database, self.ledger)
        self.ledger.oracle.new_life(await self._database.read(_in_use))
        database = FailingDatabase(self._database, transaction, done=self.clock.random() < 0.5)
        rules = replace(self.rules, quotas=self._draw_quotas())
        registry = Registry(database, self.faults.store(self._store), self.clock, rules)
        try:
            await database.write(quotas.sync, rules.quotas)
            await uploads.discard_strays(registry)
        except (StorageError, DatabaseError):
            assert self.faulty
            self.note("the process cannot start")
            return
        await work(self, registry)
        await self.audit()
        self.told += await self._database.read(invariants.changes, self.ledger.last_event)
        await review(self._database, self.ledger)

    def _look(self, tx: Transaction) -> None:
        """What is quickly looked at, and so after each transaction."""
        self._wrong += invariants.unattended(tx)
        for digest, size, location in tx.all("SELECT digest, size, location FROM blobs WHERE state = 'live'"):
            if self.disk.size(ROOT / location) != size:
                self._wrong.append(f"{digest} is live, and its file is not there")

    # --- looking ------------------------------------------------------------------------------------------------

    async def audit(self) -> None:
        """Look at rows and bytes as they are at this moment, and as they would be if the power were cut now.

        Nothing else runs meanwhile: a database in memory answers without giving up the loop.
        """
        read = self.observed.read
        live = await read(invariants.live_blobs)
        trash = await read(invariants.restorable, self._store)
        wrong = await read(invariants.facts, self.rules)
        wrong += await read(invariants.trash, self.rules, self.clock.now(), self.purged)
        wrong += _wrong_bytes(self.disk, live, trash)
        after_a_cut = copy.deepcopy(self.disk, {id(self.clock): self.clock})
        after_a_cut.power_cut()
        wrong += [f"after a power cut {sentence}" for sentence in _wrong_bytes(after_a_cut, live, trash)]
        assert not wrong, "; ".join(wrong)


async def review(database: MemoryDatabase, ledger: Ledger) -> None:
    """Look at what clients were told, when none of them waits for an answer."""
    ledger.review(await database.read(invariants.changes, ledger.last_event))
    wrong = await database.read(invariants.same, ledger.model)
    assert not wrong, "; ".join(wrong)
    kept, rules = await database.read(invariants.promises), ledger.oracle.rules
    ledger.check_promises(kept, rules.keep_seconds - rules.keep_renewal_seconds)


def place(digest: Digest) -> str:
    """Where a blob lies on this disk."""
    return f"docker/registry/v2/blobs/{digest.algorithm}/{digest.encoded[:2]}/{digest.encoded}/data"


def _companion_tags(of: list[Image]) -> list[str]:
    """Tags as cosign and the fallback of the referrers API name them, of two of the images."""
    return [f"{of[0].digest.fallback_tag}.sig", of[-1].digest.fallback_tag]


def _in_use(tx: Transaction) -> frozenset[Digest]:
    return frozenset(Digest(digest) for (digest,) in tx.all("SELECT digest FROM protected_digests"))


def _wrong_bytes(disk: MemoryDisk, live: list[Blob], trash: Mapping[Digest, list[str]]) -> list[str]:
    """The live blobs whose bytes are not there or are others, and what of the trash has its bytes nowhere."""
    wrong = []
    for blob in live:
        data = _content(disk, blob.location)
        if data is None or Digest.of(data, blob.digest.algorithm) != blob.digest or len(data) != blob.size:
            wrong.append(f"the bytes of {blob.digest} are {'missing' if data is None else 'others'}")
    for digest, places in trash.items():
        found = (_content(disk, location) for location in (*places, place(digest)))
        if not any(data is not None and Digest.of(data, digest.algorithm) == digest for data in found):
            wrong.append(f"{digest} is in the trash and its bytes are nowhere")
    return wrong


def _content(disk: MemoryDisk, location: str) -> bytes | None:
    try:
        handle = disk.open(ROOT / location)
    except OSError:
        return None
    data = disk.read(handle, disk.length(handle), 0)
    disk.close(handle)
    return data


Work: TypeAlias = Callable[[World, Registry], Awaitable[None]]
