"""Uploads: blobs that are coming, most of them in sessions of a client. Owns the table `uploads`.

Holds:
- Where a session stands is what the blob store has of it; so it can be resumed after a restart.
- A session belongs to the repository and the actor that began it: for everybody else it does not exist
  (CVE-2026-32589).
- One request writes to a session at a time. A newer one takes over, since the older is most likely a connection that
  died without our noticing; the epoch in the row tells a process that another one took over.
- What an upload receives is reserved of the quotas of its repository, until it ends or its request breaks off.
- `moved_at` is true to about a minute for whatever grows, also in the middle of a request that lasts for hours, and
  for a push in one request, which gets its row when it has lasted that long. Cleanups rely on it.
- What `downloads` brings is received and settled as what a client pushes is. Its row says what it is
  (`resumable_as`), and nobody goes on with it who does not bring the same.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, field

from homeport import events
from homeport.db.database import DatabaseError, Transaction
from homeport.events import SYSTEM, Origin
from homeport.oci import patterns
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUploadUnknown, DigestInvalid, QuotaExceeded, UploadOutOfOrder, UploadTakenOver
from homeport.registry import blobs, quotas
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.storage.blobstore import StorageError, UploadMissing, WrongOffset


@dataclass(slots=True)
class Known:
    """What this process remembers of an upload: its epoch, and its size where that is certain."""

    #: None: it has no row yet, as a push in one request.
    epoch: int | None
    #: When its row last said that it moves.
    moved_at: float
    size: int | None = None
    #: How many bytes its row reserves of a quota.
    reserved: int = 0
    #: What the row that it gets says that it is; None: something that only its own client goes on with.
    resumable_as: str | None = None


@dataclass(slots=True)
class _Turn:
    """One request's turn at a session."""

    task: asyncio.Task[object]
    #: Whether it still waits for bytes. Once it has them all, a newer request waits for it instead of ending it.
    receiving: bool = True
    superseded: bool = False
    over: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class Sessions:
    """What this process knows of the sessions that it writes to; all of it can be lost without harm."""

    known: dict[str, Known] = field(default_factory=dict)
    turns: dict[str, _Turn] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Resting:
    """An upload of which no byte has come for a while."""

    id: str
    repository: str
    actor: str
    started_at: float
    moved_at: float


#: Sessions that are remembered; one that was forgotten is simply taken over again.
SESSIONS_MAX = 10_000
#: How old `moved_at` of an upload that grows may get.
MOVED_SECONDS = 60.0
#: An upload tells a quota what it has received each time that so much more has come; less is not worth a transaction.
RESERVATION_BYTES = 4 * 1024**2
#: What an upload reserves counts for so long after it last moved: its process may have died.
RESERVED_SECONDS = 600.0


# --- facts ------------------------------------------------------------------------------------------------------


def _insert(
    tx: Transaction, registry: Registry, origin: Origin, repository: str, upload: str, resumable_as: str | None
) -> None:
    now = registry.clock.now()
    tx.run(
        "INSERT INTO uploads (id, repository, actor, epoch, started_at, moved_at, resumable_as)"
        " VALUES (?, ?, ?, 1, ?, ?, ?)",
        (upload, repository, origin.actor, now, now, resumable_as),
    )


def _begin(tx: Transaction, registry: Registry, origin: Origin, repository: str, upload: str) -> None:
    quotas.check(tx, registry, repository, None, 1)  # Under a full quota nobody needs to send what will be refused.
    _insert(tx, registry, origin, repository, upload, None)


def _exists(tx: Transaction, origin: Origin, repository: str, upload: str) -> bool:
    return bool(
        tx.one(
            "SELECT 1 FROM uploads WHERE id = ? AND repository = ? AND actor = ?", (upload, repository, origin.actor)
        )
    )


def _take_over(tx: Transaction, registry: Registry, origin: Origin, repository: str, upload: str) -> int | None:
    row = tx.one(
        "UPDATE uploads SET epoch = epoch + 1, moved_at = ?"
        " WHERE id = ? AND repository = ? AND actor = ? RETURNING epoch",
        (registry.clock.now(), upload, repository, origin.actor),
    )
    return row[0] if row else None


def _go_on(tx: Transaction, registry: Registry, origin: Origin, repository: str, upload: str) -> int | None:
    row = tx.one(
        "UPDATE uploads SET epoch = epoch + 1, started_at = ?"
        " WHERE id = ? AND repository = ? AND actor = ? RETURNING epoch",
        (registry.clock.now(), upload, repository, origin.actor),
    )
    return row[0] if row else None


def broken_off(tx: Transaction, origin: Origin, repository: str, resumable_as: str) -> str | None:
    """Of the uploads that say to be this, the one that moved last."""
    row = tx.one(
        "SELECT id FROM uploads WHERE repository = ? AND actor = ? AND resumable_as = ? ORDER BY moved_at DESC LIMIT 1",
        (repository, origin.actor, resumable_as),
    )
    return row[0] if row else None


def _hold(
    tx: Transaction, registry: Registry, repository: str, upload: str, epoch: int | None, digest: Digest, size: int
) -> Blob | None:
    quotas.check(tx, registry, repository, digest, size)  # Before the bytes are in place; `_offer` decides.
    if epoch is not None and not tx.one("SELECT 1 FROM uploads WHERE id = ? AND epoch = ?", (upload, epoch)):
        raise UploadTakenOver
    return blobs.hold(tx, registry, digest, upload)


def _offer(tx: Transaction, registry: Registry, origin: Origin, repository: str, upload: str, blob: Blob) -> None:
    new = blobs.find(tx, repository, blob.digest) is None
    blobs.offer(tx, registry, repository, blob, upload)
    tx.run("DELETE FROM uploads WHERE id = ?", (upload,))
    if new:
        events.append(tx, registry.clock, "blob.pushed", origin, repository=repository, digest=blob.digest)


def _move(
    tx: Transaction,
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    known: Known,
    reserved: int,
    digest: Digest | None,
) -> str | None:
    """Note that the upload moves and what it reserves; one that has no row yet gets it.

    If a quota has no room beside what other uploads reserve, it gives the numbers, and the row is gone. So of those
    that do not fit together the others go on.
    """
    now, epoch = registry.clock.now(), known.epoch
    if epoch is None:
        _insert(tx, registry, origin, repository, upload, known.resumable_as)
        epoch = 1
    if not tx.run(
        "UPDATE uploads SET moved_at = ?, reserved_bytes = ? WHERE id = ? AND epoch = ?",
        (now, reserved, upload, epoch),
    ):
        raise UploadTakenOver(upload) if _has_session(tx, upload) else BlobUploadUnknown(upload)
    if not reserved:
        return None
    others: list[tuple[str, int]] = tx.all(
        "SELECT repository, reserved_bytes FROM uploads WHERE reserved_bytes > 0 AND moved_at >= ? AND id <> ?",
        (now - RESERVED_SECONDS, upload),
    )
    for room in quotas.rooms(tx, registry, repository, digest, reserved):
        taken = sum(size for name, size in others if patterns.matches(room.pattern, name))
        if refusal := room.refusal(reserved, reserved_bytes=taken):
            tx.run("DELETE FROM uploads WHERE id = ?", (upload,))
            return refusal
    return None


def _unreserve(tx: Transaction, upload: str) -> None:
    tx.run("UPDATE uploads SET reserved_bytes = 0 WHERE id = ?", (upload,))


def oldest_moving(tx: Transaction, repository: str, since: float) -> float | None:
    """When the oldest of the repository's uploads began that moved at `since` or later."""
    row = tx.one("SELECT min(started_at) FROM uploads WHERE repository = ? AND moved_at >= ?", (repository, since))
    return row[0] if row else None


def count_moving(tx: Transaction, since: float) -> int:
    """How many uploads moved at `since` or later."""
    row = tx.one("SELECT count(*) FROM uploads WHERE moved_at >= ?", (since,))
    assert row is not None
    found: int = row[0]
    return found


def resting(tx: Transaction, before: float, limit: int) -> list[Resting]:
    """At most `limit` uploads that have not moved since `before`, the longest first."""
    rows = tx.all(
        "SELECT id, repository, actor, started_at, moved_at FROM uploads WHERE moved_at < ? ORDER BY moved_at LIMIT ?",
        (before, limit),
    )
    return [Resting(*row) for row in rows]


def _abandon(tx: Transaction, registry: Registry, upload: str, before: float) -> bool:
    row = tx.one("DELETE FROM uploads WHERE id = ? AND moved_at < ? RETURNING repository, actor", (upload, before))
    if row is None:  # It moved, or has ended.
        return False
    repository, actor = row
    events.append(tx, registry.clock, "upload.abandoned", SYSTEM, repository=repository, reason=f"{actor} had begun it")
    return True


def _delete(tx: Transaction, origin: Origin, repository: str, upload: str) -> bool:
    return bool(
        tx.run("DELETE FROM uploads WHERE id = ? AND repository = ? AND actor = ?", (upload, repository, origin.actor))
    )


def _delete_unless_taken_over(tx: Transaction, origin: Origin, repository: str, upload: str, epoch: int) -> bool:
    """Whether it was taken over."""
    taken_over = bool(tx.one("SELECT 1 FROM uploads WHERE id = ? AND epoch <> ?", (upload, epoch)))
    if not taken_over:
        _delete(tx, origin, repository, upload)
    return taken_over


def _has_session(tx: Transaction, upload: str) -> bool:
    return bool(tx.one("SELECT 1 FROM uploads WHERE id = ?", (upload,)))


# --- flows ------------------------------------------------------------------------------------------------------


async def start(registry: Registry, sessions: Sessions, origin: Origin, repository: str) -> str:
    """Begin a session; its id."""
    registry.check_writable()
    upload = registry.clock.new_id()
    known = Known(epoch=1, moved_at=registry.clock.now(), size=0)
    await registry.db.jot(_begin, registry, origin, repository, upload)
    _remember(sessions, upload, known)
    return upload


async def size(registry: Registry, origin: Origin, repository: str, upload: str) -> int:
    """How many bytes the session has."""
    await _check_exists(registry, origin, repository, upload)
    return await registry.blobs.size(upload)


async def append(
    registry: Registry,
    sessions: Sessions,
    origin: Origin,
    repository: str,
    upload: str,
    offset: int | None,
    chunks: AsyncIterable[bytes],
) -> int:
    """Write a chunk, or all that is left, to the session; its new size.

    `offset` is where the client believes the session to end; None where it did not say. Whatever arrives before the
    connection ends is kept, so the client can go on from there.
    """
    registry.check_writable()
    async with _turn(registry, sessions, origin, repository, upload) as (_, known):
        return await receive(registry, origin, repository, upload, known, offset, chunks, None)


async def finish(
    registry: Registry,
    sessions: Sessions,
    origin: Origin,
    repository: str,
    upload: str,
    digest: Digest,
    offset: int | None,
    chunks: AsyncIterable[bytes] | None,
) -> Blob:
    """Write the last chunk, where there is one, and make the session's bytes a blob of the repository.

    `DigestInvalid` when the bytes have another digest; the session is over then, since bytes can't be taken back.
    """
    registry.check_writable()
    async with _turn(registry, sessions, origin, repository, upload) as (turn, known):
        await receive(registry, origin, repository, upload, known, offset, chunks, digest)
        turn.receiving = False
        known.size = None
        blob = await settle(registry, origin, repository, upload, known.epoch, digest)
    sessions.known.pop(upload, None)
    return blob


async def push(
    registry: Registry,
    origin: Origin,
    repository: str,
    digest: Digest,
    chunks: AsyncIterable[bytes],
    length: int | None = None,
) -> Blob:
    """A whole blob in one request, of `length` bytes where that is known. Nobody could resume it: it needs no session.

    Raises `QuotaExceeded`, if it can before a byte is received.
    """
    registry.check_writable()
    await registry.db.read(quotas.check, registry, repository, digest, 1 if length is None else length)
    upload = registry.clock.new_id()
    known = Known(epoch=None, moved_at=registry.clock.now(), size=0)
    registry.writing.add(upload)
    try:
        await receive(registry, origin, repository, upload, known, 0, chunks, digest)
        return await settle(registry, origin, repository, upload, known.epoch, digest)
    except BaseException:
        await forget(registry, origin, repository, upload, known)
        raise
    finally:
        registry.writing.discard(upload)


async def cancel(registry: Registry, sessions: Sessions, origin: Origin, repository: str, upload: str) -> None:
    """End the session and forget its bytes."""
    registry.check_writable()
    async with _turn(registry, sessions, origin, repository, upload) as (turn, _):
        turn.receiving = False
        await registry.db.write(_delete, origin, repository, upload)
        await registry.blobs.cancel(upload)
    sessions.known.pop(upload, None)


async def abandon(registry: Registry, limit: int) -> int:
    """Forget at most `limit` uploads of which no byte came for as long as the rules say; how many those were."""
    if registry.rules.read_only is not None:
        return 0
    before = registry.clock.now() - registry.rules.uploads_seconds
    writing = registry.writing
    found = await registry.db.read(resting, before, limit + len(writing))
    count = 0
    for upload in [each.id for each in found if each.id not in writing][:limit]:
        if await registry.db.write(_abandon, registry, upload, before):
            count += 1
            with suppress(StorageError):  # The next start discards what no session names.
                await registry.blobs.cancel(upload)
    return count


async def discard_strays(registry: Registry) -> int:
    """Forget uploads that no session names: what a crash left of pushes in one request. How many there were.

    Only for the one process that writes to this store, before it serves.
    """
    count = 0
    async for upload in registry.blobs.uploads():
        if not await registry.db.read(_has_session, upload):
            await registry.blobs.cancel(upload)
            count += 1
    return count


async def go_on(registry: Registry, origin: Origin, repository: str, upload: str) -> Known:
    """Have an upload that broke off, whoever wrote to it before; what is certain of it. Raises `BlobUploadUnknown`.

    It moves with its first byte only, so that what is tried in vain for ever is forgotten all the same. It begins now:
    whoever goes on with it was promised nothing before.
    """
    epoch = await registry.db.jot(_go_on, registry, origin, repository, upload)
    if epoch is None:
        raise BlobUploadUnknown(upload)
    return Known(epoch, moved_at=-math.inf)


async def forget(registry: Registry, origin: Origin, repository: str, upload: str, known: Known) -> None:
    """End an upload that nobody goes on with, and forget its bytes; unless another process has taken it over."""
    if known.epoch is not None:
        with suppress(DatabaseError):  # The row is forgotten later, as every one that does not move.
            if await registry.db.write(_delete_unless_taken_over, origin, repository, upload, known.epoch):
                return
    await registry.blobs.cancel(upload)


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield b""  # What makes it an iterator.


async def _check_exists(registry: Registry, origin: Origin, repository: str, upload: str) -> None:
    if not await registry.db.read(_exists, origin, repository, upload):
        raise BlobUploadUnknown(upload)


async def receive(
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    known: Known,
    offset: int | None,
    chunks: AsyncIterable[bytes] | None,
    digest: Digest | None,
) -> int:
    """Write a chunk, or all that is left, to the upload, which is to have `digest` then; its new size."""
    present = await registry.blobs.size(upload) if known.size is None else known.size
    if offset is not None and offset != present:
        raise UploadOutOfOrder(f"it has {present} bytes", accepted_bytes=present)
    if chunks is None and present:
        return present
    known.size = None  # Until it has ended well, only the store knows.
    # Also without a chunk: an upload that never got a byte becomes one of no bytes, which is a blob like others.
    coming = _received(registry, origin, repository, upload, known, present, chunks or _nothing(), digest)
    try:
        async with aclosing(coming):
            known.size = await registry.blobs.append(upload, present, coming)
    except WrongOffset as error:
        raise UploadOutOfOrder(f"it has {error.size} bytes", accepted_bytes=error.size) from error
    except (BlobUploadUnknown, QuotaExceeded):  # There is no row any more, so nobody can go on with what has come.
        await registry.blobs.cancel(upload)
        raise
    except BaseException:
        if known.reserved:  # Whoever goes on with it reserves it again; most start anew.
            known.reserved = 0
            with suppress(DatabaseError):
                await registry.db.jot(_unreserve, upload)
        raise
    return known.size


async def _received(
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    known: Known,
    size: int,
    chunks: AsyncIterable[bytes],
    digest: Digest | None,
) -> AsyncGenerator[bytes, None]:
    """The chunks as they come behind `size` bytes; once a minute, and where a quota must know, the row is told.

    Raises `BlobUploadUnknown` if there is no such row any more, `UploadTakenOver` if another process has it now, and
    `QuotaExceeded` if what has come does not fit; there is no row then.
    """
    reserves = bool(quotas.limits(registry, repository))
    try:
        async for chunk in chunks:
            size += len(chunk)
            if (reserves and size - known.reserved >= RESERVATION_BYTES) or _is_old(registry, known):
                now, reserved = registry.clock.now(), size if reserves else 0
                refusal = await registry.db.jot(_move, registry, origin, repository, upload, known, reserved, digest)
                if refusal:
                    raise QuotaExceeded(refusal)
                known.epoch = known.epoch or 1
                known.moved_at, known.reserved = now, reserved
            yield chunk
    finally:
        if isinstance(chunks, AsyncGenerator):  # It may not have been read to its end.
            await chunks.aclose()


async def settle(
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    epoch: int | None,
    digest: Digest,
    verified: Callable[[], None] | None = None,
    *,
    durable: bool = True,
) -> Blob:
    """From bytes of an upload to a live blob of the repository; bytes that may not become one end it."""
    try:
        length = await _check_digest(registry, upload, digest)
        if verified is not None:
            verified()
        return await _take_in(registry, origin, repository, upload, epoch, digest, length, durable=durable)
    except (DigestInvalid, QuotaExceeded):
        await registry.db.write(_delete, origin, repository, upload)
        await registry.blobs.cancel(upload)
        raise


async def _check_digest(registry: Registry, upload: str, digest: Digest) -> int:
    """How many bytes the upload has, which have this digest."""
    actual = await registry.blobs.digest(upload, digest.algorithm)
    length = await registry.blobs.size(upload)
    if actual != digest:
        raise DigestInvalid(f"the {length} bytes that came are {actual}")
    return length


async def _take_in(
    registry: Registry,
    origin: Origin,
    repository: str,
    upload: str,
    epoch: int | None,
    digest: Digest,
    length: int,
    *,
    durable: bool,
) -> Blob:
    present = await registry.db.jot(_hold, registry, repository, upload, epoch, digest, length)
    if present is not None and await registry.blobs.stat(present.location) == present.size:
        blob = present
    else:
        # Not live, or its file is damaged: what was just received replaces it.
        try:
            blob = Blob(digest, length, await registry.blobs.finish(upload, digest))
        except UploadMissing:
            raise BlobUploadUnknown(upload) from None
    keep = registry.db.write if durable else registry.db.jot
    await keep(_offer, registry, origin, repository, upload, blob)
    if blob is present:
        await registry.blobs.cancel(upload)
    return blob


@asynccontextmanager
async def _turn(
    registry: Registry, sessions: Sessions, origin: Origin, repository: str, upload: str
) -> AsyncIterator[tuple[_Turn, Known]]:
    """This request's turn at the session, after whoever had it was made to stop."""
    await _check_exists(registry, origin, repository, upload)  # A stranger must not stop whoever has the turn.
    waited = False
    while (before := sessions.turns.get(upload)) is not None:
        waited = True
        if before.receiving and not before.superseded:
            before.superseded = True
            before.task.cancel()
        await before.over.wait()
    task = asyncio.current_task()
    assert task is not None
    turn = sessions.turns[upload] = _Turn(task)
    registry.writing.add(upload)
    try:
        if waited:  # Whoever had the turn may have finished after all.
            await _check_exists(registry, origin, repository, upload)
        yield turn, await _know(registry, sessions, origin, repository, upload)
    except asyncio.CancelledError:
        if turn.superseded and task.uncancel() == 0:
            raise UploadTakenOver(upload) from None
        raise
    finally:
        del sessions.turns[upload]
        registry.writing.discard(upload)
        turn.over.set()


async def _know(registry: Registry, sessions: Sessions, origin: Origin, repository: str, upload: str) -> Known:
    """What this process knows of the session, having taken it over where that is nothing, or old."""
    known = sessions.known.get(upload)
    if known is None or _is_old(registry, known):
        now = registry.clock.now()
        epoch = await registry.db.jot(_take_over, registry, origin, repository, upload)
        if epoch is None:
            raise BlobUploadUnknown(upload)
        known = Known(epoch, moved_at=now)
        _remember(sessions, upload, known)
    return known


def _is_old(registry: Registry, known: Known) -> bool:
    """Whether the row should say again that the upload moves; also after a clock was set back."""
    return not 0 <= registry.clock.now() - known.moved_at < MOVED_SECONDS


def _remember(sessions: Sessions, upload: str, known: Known) -> None:
    sessions.known[upload] = known
    if len(sessions.known) > SESSIONS_MAX:
        sessions.known.pop(next(iter(sessions.known)))
