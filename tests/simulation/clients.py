"""Clients of a simulated registry: they push as docker does, pull, tag, delete, hang up, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from typing import Any, Final, TypeVar

from homeport.db.database import DatabaseError, Transaction
from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    BlobUnknown,
    BlobUploadUnknown,
    BodyIncomplete,
    DigestInvalid,
    ManifestBlobUnknown,
    ManifestUnknown,
    QuotaExceeded,
    ReferencedByManifest,
    RegistryError,
    UploadOutOfOrder,
    UploadTakenOver,
)
from homeport.registry import blobs, manifests, quotas, referrers, repositories, tags, uploads
from homeport.registry.registry import Registry
from homeport.registry.uploads import Sessions
from homeport.storage.blobstore import StorageError
from homeport.testing.images import Image
from homeport.testing.model import Change, Model
from tests.simulation.ledger import Request
from tests.simulation.world import REPOSITORIES, TAGS, Session, World

T = TypeVar("T")

CLIENTS: Final = 4
ACTIONS: Final = 8

Refusals = dict[type[RegistryError], Callable[[Model], bool]]


class NothingToMount(RegistryError):
    """What a client is told by getting a session instead of a blob."""


class NoAnswer(Exception):
    """The request ended without one: the client hung up, or the registry could not do it at the moment."""


def whatever(_: Model) -> bool:
    """True at any moment: an answer that says nothing about images."""
    return True


async def work(world: World, registry: Registry) -> None:
    """A life's work: every client does some things, while an auditor looks on."""
    sessions = Sessions()
    hung_up: list[asyncio.Task[object]] = []
    try:
        async with asyncio.TaskGroup() as group:
            for number in range(CLIENTS):
                group.create_task(Client(world, registry, sessions, hung_up, f"client{number}").work())
            group.create_task(_audit_now_and_then(world))
            group.create_task(_count_quotas(world, registry))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None
    while not all(task.done() for task in hung_up):
        await asyncio.wait(hung_up)
    assert not sessions.turns, "a request has ended and kept its turn"


async def _audit_now_and_then(world: World) -> None:
    for _ in range(3):
        await world.clock.sleep(world.clock.random())
        await world.audit()


async def _count_quotas(world: World, registry: Registry) -> None:
    """What the job does, in small steps."""
    for step in (quotas.recount, quotas.forget):
        try:
            while await registry.db.jot(step, 2) is not None:
                await world.clock.sleep(world.clock.random() * 0.2)
        except DatabaseError:
            assert world.faulty


def _last_event(tx: Transaction) -> int:
    row = tx.one("SELECT coalesce(max(id), 0) FROM events")
    assert row is not None
    last: int = row[0]
    return last


class Client:
    """One client, which does one thing after the other."""

    def __init__(
        self, world: World, registry: Registry, sessions: Sessions, hung_up: list[asyncio.Task[object]], name: str
    ) -> None:
        self._world = world
        self._registry = registry
        self._sessions = sessions
        #: Requests whose clients did not wait for the answer.
        self._hung_up = hung_up
        self._name = name
        self._requests = 0

    async def work(self) -> None:
        for session in [session for session in self._world.sessions if session.client == self._name]:
            await self._attempt(self._come_back, session)
        for _ in range(ACTIONS):
            await self._attempt(self._draw_action())
            await self._world.clock.sleep(self._draw() * 0.1)

    async def _attempt(self, action: Callable[..., Awaitable[object]], *args: object) -> None:
        try:
            await action(*args)
        except (RegistryError, NoAnswer) as error:
            self._world.note(f"{self._name} gives up: {type(error).__name__}")

    # --- drawing ------------------------------------------------------------------------------------------------

    def _draw(self) -> float:
        return self._world.clock.random()

    def _one(self, things: Iterable[T]) -> T:
        found = list(things)
        return found[self._world.clock.below(len(found))]

    def _draw_action(self) -> Callable[[], Awaitable[None]]:
        draw = self._draw()
        for share, action in (
            (0.45, self._push_an_image),
            (0.10, self._retag),
            (0.10, self._push_and_cancel),
            (0.10, self._pull),
            (0.05, self._list),
            (0.06, self._delete_a_tag),
            (0.07, self._delete_a_manifest),
        ):
            if draw < share:
                return action
            draw -= share
        return self._delete_a_blob

    # --- requests -----------------------------------------------------------------------------------------------

    async def _ask(
        self,
        text: str,
        call: Callable[[Origin], Coroutine[Any, Any, T]],
        *,
        answer: Callable[[T], Callable[[Model], bool]] = lambda _: whatever,
        refusals: Refusals | None = None,
        causes: Iterable[Change] = (),
        must_cause: bool = False,
        durable: bool = False,
        promises: Iterable[tuple[str, Digest]] = (),
    ) -> T:
        """Make a request and write down what it was answered.

        `answer` gives what must have been true of the images for this result, `refusals` for an error; any other
        error is a fault of the registry. `durable`: the answer says that something was done that lasts.
        """
        world = self._world
        self._requests += 1
        run = f"{world.life}-{self._name}-{self._requests}"
        since = await world.observed.read(_last_event)
        request = Request(run, f"{run} {text}", frozenset(causes), since, world.clock.now())
        world.ledger.begin(request)
        world.note(request.text)
        try:
            result = await self._until_hung_up(call(Origin(self._name, run=run)))
        except RegistryError as error:
            if type(error) not in (refusals or {}):
                raise AssertionError(f"{request.text}: {error!r}") from error
            request.witness = (refusals or {})[type(error)]
            request.until = await world.observed.read(_last_event)
            world.note(f"{run} refused: {type(error).__name__}")
            raise
        except (StorageError, DatabaseError) as error:
            if not world.faulty:
                raise AssertionError(f"{request.text}: {error!r}") from error
            world.note(f"{run} failed: {error!r}")
            raise NoAnswer from error
        request.witness = answer(result)
        request.must_cause = must_cause
        request.durable = durable
        request.promises = tuple(promises)
        request.until = await world.observed.read(_last_event)
        world.note(f"{run} answered")
        return result

    async def _until_hung_up(self, call: Coroutine[Any, Any, T]) -> T:
        """Wait for the answer; one client in twenty hangs up, and does not wait until the server has noticed."""
        task = asyncio.create_task(call)
        if self._draw() < 0.05:
            await asyncio.wait([task], timeout=self._draw() * 0.2)
            if not task.done():
                task.cancel()
                task.add_done_callback(lambda done: done.cancelled() or done.exception())
                self._hung_up.append(task)
                raise NoAnswer
        return await task

    # --- pushing ------------------------------------------------------------------------------------------------

    async def _push_an_image(self) -> None:
        repository, image = self._one(REPOSITORIES), self._one(self._world.images)
        for part in image.walk():
            for blob in dict.fromkeys(part.blobs):
                await self._push_blob(repository, blob)
            names = [self._one(TAGS) for _ in range(self._world.clock.below(3))] if part is image else []
            if part.blobs and self._draw() < 0.15:
                # Somebody cleans up what no manifest names yet.
                await asyncio.gather(
                    self._attempt(self._push_manifest, repository, part, names),
                    self._attempt(self._delete_blob, repository, Digest.of(self._one(part.blobs))),
                )
            else:
                await self._push_manifest(repository, part, names)

    async def _retag(self) -> None:
        await self._push_manifest(self._one(REPOSITORIES), self._one(self._world.images), [self._one(TAGS)])

    async def _push_manifest(self, repository: str, image: Image, names: list[str]) -> None:
        digest = image.digest
        named = [reference.digest for reference in image.manifest.references]
        await self._ask(
            f"push manifest {repository}@{digest[:15]} as {names}",
            lambda origin: manifests.push(
                self._registry, origin, repository, image.data, image.media_type, digest, names
            ),
            answer=lambda _: (
                lambda model: (
                    model.has_manifest(repository, digest)
                    and all(model.tag(repository, name) == digest for name in names)
                )
            ),
            refusals={
                ManifestBlobUnknown: lambda model: bool(model.missing(repository, digest)),
                # The disk stalled for longer than a write hold lasts.
                ManifestUnknown: whatever,
                QuotaExceeded: whatever,
            },
            causes=[
                Change("manifest.pushed", repository, digest),
                *(Change("tag.set", repository, digest, name) for name in names),
            ],
            durable=True,
            promises=[(repository, name) for name in (digest, *named)],
        )

    async def _push_blob(self, repository: str, data: bytes) -> None:
        digest = Digest.of(data)
        if self._draw() < 0.7 and await self._is_there(repository, digest):
            return
        if self._draw() < 0.4 and await self._mount(repository, digest):
            return
        if self._draw() < 0.2:
            await self._ask(
                f"push blob {repository}@{digest[:15]} at once",
                lambda origin: uploads.push(self._registry, origin, repository, digest, self._body(data)),
                answer=lambda _: lambda model: model.has_blob(repository, digest),
                refusals={BlobUploadUnknown: whatever, QuotaExceeded: whatever},
                causes=[Change("blob.pushed", repository, digest)],
                durable=True,
                promises=[(repository, digest)],
            )
            return
        session = await self._start(repository, data)
        for _ in range(3):
            try:
                await self._fill(session)
                await self._finish(session, digest)
            except (NoAnswer, UploadOutOfOrder, UploadTakenOver, BodyIncomplete):
                continue  # As docker does: ask how far it is, and go on from there.
            return

    async def _is_there(self, repository: str, digest: Digest) -> bool:
        try:
            await self._ask(
                f"HEAD blob {repository}@{digest[:15]}",
                lambda _: blobs.get_and_keep(self._registry, repository, digest),
                answer=lambda _: lambda model: model.has_blob(repository, digest),
                refusals={BlobUnknown: lambda model: not model.has_blob(repository, digest)},
                promises=[(repository, digest)],
            )
        except BlobUnknown:
            return False
        return True

    async def _mount(self, repository: str, digest: Digest) -> bool:
        source = self._one([*REPOSITORIES, None])
        sources = REPOSITORIES if source is None else (source,)

        async def mount(origin: Origin) -> None:
            if await blobs.mount(self._registry, origin, repository, digest, source, lambda _: True) is None:
                raise NothingToMount

        try:
            await self._ask(
                f"mount {digest[:15]} from {source} into {repository}",
                mount,
                answer=lambda _: lambda model: model.has_blob(repository, digest),
                refusals={
                    NothingToMount: lambda model: not all(model.has_blob(name, digest) for name in sources),
                    QuotaExceeded: whatever,
                },
                causes=[Change("blob.mounted", repository, digest)],
                durable=True,
                promises=[(repository, digest)],
            )
        except NothingToMount:
            return False
        return True

    async def _body(self, data: bytes, *, breaks_at: int | None = None) -> AsyncIterator[bytes]:
        """The bytes in pieces, as they come from a socket."""
        size = 1 + int(8_000 * self._draw() ** 2) if self._draw() < 0.98 else 1 + len(data) // 2_000
        position = 0
        while position < len(data):
            if breaks_at is not None and position >= breaks_at:
                raise BodyIncomplete
            if size > 100:
                await self._world.clock.sleep(self._draw() * 0.01)
            yield data[position : position + size]
            position += size

    # --- sessions -----------------------------------------------------------------------------------------------

    async def _start(self, repository: str, data: bytes) -> Session:
        upload = await self._ask(
            f"start an upload in {repository}",
            lambda origin: uploads.start(self._registry, self._sessions, origin, repository),
            refusals={QuotaExceeded: whatever},
        )
        session = Session(self._name, upload, repository, data)
        self._world.sessions.append(session)
        return session

    async def _come_back(self, session: Session) -> None:
        """What a client does that was pushing when the server went away."""
        try:
            if self._draw() < 0.2:
                await self._cancel(session)
            elif self._draw() < 0.9:
                await self._fill(session)
                await self._finish(session, Digest.of(session.data))
        except BlobUploadUnknown:
            self._world.sessions.remove(session)

    async def _push_and_cancel(self) -> None:
        session = await self._start(self._one(REPOSITORIES), self._one(self._world.blobs))
        await self._append(session, 0, len(session.data) // 2)
        if self._draw() < 0.5:
            await self._cancel(session)
        elif self._draw() < 0.5:
            await self._finish(session, Digest.of(b"something else"))

    async def _fill(self, session: Session) -> None:
        """Send all that the session does not have, but perhaps the last chunk."""
        size = await self._size(session)
        while size < len(session.data) and self._draw() < 0.8:
            stop = size + 1 + self._world.clock.below(len(session.data) - size)
            if self._draw() < 0.05:  # A connection seems dead, and a second one sends the same.
                await asyncio.gather(
                    *(self._attempt(self._append, session, size, stop) for _ in range(2)),
                )
                size = await self._size(session)
            else:
                size = await self._append(session, size, stop)

    async def _size(self, session: Session) -> int:
        size = await self._ask(
            f"size of {session.upload[:6]}",
            lambda origin: uploads.size(self._registry, origin, session.repository, session.upload),
            refusals=self._gone(session),
        )
        self._acknowledge(session, size)
        return size

    async def _append(self, session: Session, offset: int, stop: int) -> int:
        data = session.data[offset:stop]
        breaks_at = self._world.clock.below(len(data) + 1) if self._draw() < 0.1 else None
        session.unanswered = True
        size = await self._ask(
            f"append {offset}-{stop} to {session.upload[:6]}",
            lambda origin: uploads.append(
                self._registry,
                self._sessions,
                origin,
                session.repository,
                session.upload,
                offset,
                self._body(data, breaks_at=breaks_at),
            ),
            refusals=self._gone(session) | _INTERRUPTIONS | {QuotaExceeded: whatever},
        )
        session.unanswered = False
        assert size == stop or session.ending, f"{session} has {size} bytes after {stop} came"
        self._acknowledge(session, size)
        return size

    def _acknowledge(self, session: Session, size: int) -> None:
        assert session.ending or session.acknowledged <= size, f"{session} has only {size} bytes"
        session.acknowledged = size

    async def _finish(self, session: Session, digest: Digest) -> None:
        session.ending = True
        repository, offset = session.repository, session.acknowledged
        rest = session.data[offset:]
        right = digest == Digest.of(session.data)
        try:
            await self._ask(
                f"finish {session.upload[:6]} from {offset} as {digest[:15]}",
                lambda origin: uploads.finish(
                    self._registry,
                    self._sessions,
                    origin,
                    repository,
                    session.upload,
                    digest,
                    offset,
                    self._body(rest) if rest or self._draw() < 0.5 else None,
                ),
                answer=lambda _: lambda model: model.has_blob(repository, digest),
                refusals=self._gone(session)
                | _INTERRUPTIONS
                | {QuotaExceeded: whatever}
                | ({} if right and not session.torn else {DigestInvalid: whatever}),
                causes=[Change("blob.pushed", repository, digest)],
                durable=True,
                promises=[(repository, digest)],
            )
        except DigestInvalid:
            self._world.sessions.remove(session)
            return
        except QuotaExceeded:
            self._world.sessions.remove(session)
            raise
        assert right, f"{session} was taken for {digest}"
        self._world.sessions.remove(session)

    async def _cancel(self, session: Session) -> None:
        session.ending = True
        await self._ask(
            f"cancel {session.upload[:6]}",
            lambda origin: uploads.cancel(self._registry, self._sessions, origin, session.repository, session.upload),
            refusals=self._gone(session) | {UploadTakenOver: whatever},
        )
        self._world.sessions.remove(session)

    def _gone(self, session: Session) -> Refusals:
        """A session may be unknown only if its client asked to end it, the power went, or a quota may have cut it."""
        return {BlobUploadUnknown: whatever} if session.ending or session.torn or session.unanswered else {}

    # --- pulling, listing, deleting -----------------------------------------------------------------------------

    async def _pull(self) -> None:
        repository, name = self._one(REPOSITORIES), self._one(TAGS)
        stored = await self._ask(
            f"pull {repository}:{name}",
            lambda _: manifests.get(self._registry, repository, name),
            answer=lambda found: lambda model: model.tag(repository, name) == found.digest,
            refusals={ManifestUnknown: lambda model: model.tag(repository, name) is None},
        )
        image = self._world.contents[Digest(stored.digest)]
        assert stored.data == image.data
        for data in image.blobs:
            await self._pull_blob(repository, data)

    async def _pull_blob(self, repository: str, data: bytes) -> None:
        digest = Digest.of(data)
        blob = await self._ask(
            f"pull blob {repository}@{digest[:15]}",
            lambda _: blobs.get(self._registry, repository, digest),
            answer=lambda _: lambda model: model.has_blob(repository, digest),
            refusals={BlobUnknown: lambda model: not model.has_blob(repository, digest)},
        )
        assert await self._ask(f"read {digest[:15]}", lambda _: self._read(blob.location)) == data

    async def _read(self, location: str) -> bytes:
        return b"".join([chunk async for chunk in self._registry.blobs.read(location)])

    async def _list(self) -> None:
        repository, subject = self._one(REPOSITORIES), self._world.images[0]
        read = self._registry.db.read
        await self._ask(
            f"list the tags of {repository}",
            lambda _: read(tags.names, repository, "", 100),
            answer=lambda found: lambda model: (found or []) == sorted(model.repositories[repository].tags),
        )
        await self._ask(
            "list repositories",
            lambda _: read(repositories.page, "", 100),
            answer=lambda found: (
                lambda model: (
                    [one.name for one in found] == [name for name in REPOSITORIES if model.repositories[name].manifests]
                )
            ),
        )
        await self._ask(
            f"list the referrers of {repository}@{subject.digest[:15]}",
            lambda _: referrers.get(self._registry, repository, subject.digest, None, "", 100),
            answer=lambda found: (
                lambda model: (
                    {one.digest for one in found[0]}
                    == {
                        digest
                        for digest in model.repositories[repository].manifests
                        if self._world.contents[digest].manifest.subject == subject.digest
                    }
                )
            ),
        )

    async def _delete_a_tag(self) -> None:
        repository, name = self._one(REPOSITORIES), self._one(TAGS)
        await self._ask(
            f"delete {repository}:{name}",
            lambda origin: tags.delete(self._registry, origin, repository, name),
            answer=lambda _: lambda model: model.tag(repository, name) is None,
            refusals={ManifestUnknown: lambda model: model.tag(repository, name) is None},
            causes=[Change("tag.deleted", repository, digest, name) for digest in self._world.contents],
            must_cause=True,
            durable=True,
        )

    async def _delete_a_manifest(self) -> None:
        repository, digest = self._one(REPOSITORIES), self._one(self._world.contents)
        await self._ask(
            f"delete manifest {repository}@{digest[:15]}",
            lambda origin: manifests.delete(self._registry, origin, repository, digest),
            answer=lambda _: lambda model: not model.has_manifest(repository, digest),
            refusals={
                ManifestUnknown: lambda model: not model.has_manifest(repository, digest),
                ReferencedByManifest: lambda model: bool(model.parents(repository, digest)),
            },
            causes=[
                Change("manifest.deleted", repository, digest),
                *(Change("tag.deleted", repository, digest, name) for name in TAGS),
            ],
            must_cause=True,
            durable=True,
        )

    async def _delete_a_blob(self) -> None:
        await self._delete_blob(self._one(REPOSITORIES), Digest.of(self._one(self._world.blobs)))

    async def _delete_blob(self, repository: str, digest: Digest) -> None:
        await self._ask(
            f"delete blob {repository}@{digest[:15]}",
            lambda origin: blobs.delete(self._registry, origin, repository, digest),
            answer=lambda _: lambda model: not model.has_blob(repository, digest),
            refusals={
                BlobUnknown: lambda model: not model.has_blob(repository, digest),
                ReferencedByManifest: lambda model: model.is_needed(repository, digest),
            },
            causes=[Change("blob.deleted", repository, digest)],
            must_cause=True,
            durable=True,
        )


#: How a request for a session may end without the session being over.
_INTERRUPTIONS: Final[Refusals] = {UploadOutOfOrder: whatever, UploadTakenOver: whatever, BodyIncomplete: whatever}
