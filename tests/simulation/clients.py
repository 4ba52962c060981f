"""Clients of a simulated registry: they push as docker does, pull, tag, delete, hang up, and come back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

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
from homeport.registry import blobs, manifests, referrers, repositories, tags, uploads
from homeport.registry.uploads import MOVED_SECONDS
from homeport.storage.blobstore import BlobMissing
from homeport.testing.images import Image
from homeport.testing.model import Change
from tests.simulation.asking import Asker, NoAnswer, Refusals, going, whatever
from tests.simulation.oracle import Moving, Span
from tests.simulation.world import REPOSITORIES, TAGS, Session

T = TypeVar("T")

ACTIONS: Final = 8
NARROW_ACTIONS: Final = 20


class NothingToMount(RegistryError):
    """What a client is told by getting a session instead of a blob."""


class Gone(RegistryError):
    """What a client sees that asked for a blob so slowly that it was swept meanwhile."""


class Client(Asker):
    """One client, which does one thing after the other."""

    async def work(self) -> None:
        for session in [session for session in self._world.sessions if session.client == self._name]:
            await self._attempt(self._come_back, session)
        for _ in range(NARROW_ACTIONS if self._world.is_narrow else ACTIONS):
            await self._attempt(self._draw_action())
            await self._world.clock.sleep(self._draw() * (200.0 if self._world.is_narrow else 0.1))

    def _draw_action(self) -> Callable[[], Awaitable[None]]:
        draw = self._draw()
        if self._world.is_narrow:
            return self._push_a_blob if draw < 0.65 else self._delete_a_blob
        for share, action in (
            (0.40, self._push_an_image),
            (0.10, self._push_what_goes),
            (0.05, self._retag),
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

    # --- pushing ------------------------------------------------------------------------------------------------

    async def _push_an_image(self) -> None:
        repository, image = self._one(self._world.repositories), self._one(self._world.images)
        for part in image.walk():
            for blob in dict.fromkeys(part.blobs):
                await self._push_blob(repository, blob)
            names = self._names() if part is image else []
            if part.blobs and self._draw() < 0.15:
                # Somebody cleans up what no manifest names yet.
                await asyncio.gather(
                    self._attempt(self._push_manifest, repository, part, names),
                    self._attempt(self._delete_blob, repository, Digest.of(self._one(part.blobs))),
                )
            else:
                await self._push_manifest(repository, part, names)

    async def _push_a_blob(self) -> None:
        await self._push_blob(self._one(self._world.repositories), self._one(self._world.blobs))

    async def _push_what_goes(self) -> None:
        """Push what a sweep takes, or another client writes: there whoever comes second has most to lose."""
        found = await self._world.observed.read(going, self._world.clock.now())
        data = [data for data in self._world.blobs if Digest.of(data) in found]
        if not data:
            await self._push_an_image()
            return
        await self._push_blob(self._one(self._world.repositories), self._one(data))

    def _names(self) -> list[str]:
        """None, one or two tags; some say in their name which manifest theirs belongs to."""
        names = [self._one(TAGS) for _ in range(self._world.clock.below(3))]
        if self._draw() < 0.15:
            names.append(self._one(self._world.companion_tags))
        return names

    async def _retag(self) -> None:
        await self._push_manifest(
            self._one(self._world.repositories), self._one(self._world.images), self._names() or [self._one(TAGS)]
        )

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
        source = self._one([*self._world.repositories, None])
        sources = REPOSITORIES if source is None else (source,)

        async def mount(origin: Origin) -> None:
            if await blobs.mount(self._registry, origin, repository, digest, source, lambda _, name: True) is None:
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
        began = self._world.clock.now()
        upload = await self._ask(
            f"start an upload in {repository}",
            lambda origin: uploads.start(self._registry, self._sessions, origin, repository),
            refusals={QuotaExceeded: whatever},
        )
        now = self._world.clock.now()
        session = Session(self._name, upload, repository, data, Moving(repository, now, [Span(began, now)]))
        self._world.sessions.append(session)
        self._world.ledger.oracle.uploads.append(session.moving)
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
        session = await self._start(self._one(self._world.repositories), self._one(self._world.blobs))
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
        size = await self._ask_of(
            session,
            f"size of {session.upload[:6]}",
            lambda origin: uploads.size(self._registry, origin, session.repository, session.upload),
        )
        self._acknowledge(session, size)
        return size

    async def _append(self, session: Session, offset: int, stop: int) -> int:
        data = session.data[offset:stop]
        breaks_at = self._world.clock.below(len(data) + 1) if self._draw() < 0.1 else None
        began = self._world.clock.now()
        session.unanswered = True
        try:
            size = await self._ask_of(
                session,
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
                refusals=_INTERRUPTIONS | {QuotaExceeded: whatever},
            )
        except tuple(_INTERRUPTIONS):
            raise
        except BaseException:  # A quota may have cut it, whether or not the refusal reached the client.
            session.moving.ended = min(session.moving.ended, began)
            raise
        session.unanswered = False
        assert size == stop or self._may_be_gone(session), f"{session} has {size} bytes after {stop} came"
        session.moving.moves.append(Span(began, self._world.clock.now()))
        self._acknowledge(session, size)
        return size

    def _acknowledge(self, session: Session, size: int) -> None:
        assert session.acknowledged <= size or self._may_be_gone(session), f"{session} has only {size} bytes"
        session.acknowledged = size

    async def _finish(self, session: Session, digest: Digest) -> None:
        self._end(session)
        repository, offset = session.repository, session.acknowledged
        rest = session.data[offset:]
        right = digest == Digest.of(session.data)
        try:
            await self._ask_of(
                session,
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
                refusals=_INTERRUPTIONS
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
        self._end(session)
        await self._ask_of(
            session,
            f"cancel {session.upload[:6]}",
            lambda origin: uploads.cancel(self._registry, self._sessions, origin, session.repository, session.upload),
            refusals={UploadTakenOver: whatever},
        )
        self._world.sessions.remove(session)

    def _end(self, session: Session) -> None:
        session.ending = True
        session.moving.ended = min(session.moving.ended, self._world.clock.now())

    async def _ask_of(
        self,
        session: Session,
        text: str,
        call: Callable[[Origin], Coroutine[Any, Any, T]],
        *,
        refusals: Refusals | None = None,
        **known: Any,
    ) -> T:
        """Ask for something of a session; it is unknown only where it may be gone."""
        try:
            return await self._ask(text, call, refusals={BlobUploadUnknown: whatever} | (refusals or {}), **known)
        except BlobUploadUnknown:
            assert self._may_be_gone(session), f"{session} is gone"
            raise

    def _may_be_gone(self, session: Session) -> bool:
        """Whether its client asked to end it, the power went, a quota may have cut it, or no byte came for long."""
        moved_at = max(span.began for span in session.moving.moves)
        abandoned_at = moved_at + self._world.rules.uploads_seconds - MOVED_SECONDS
        return session.ending or session.torn or session.unanswered or abandoned_at <= self._world.clock.now()

    # --- pulling, listing, deleting -----------------------------------------------------------------------------

    async def _pull(self) -> None:
        repository, name = self._one(self._world.repositories), self._one(TAGS)
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
        asked_at = self._world.clock.now()
        blob = await self._ask(
            f"pull blob {repository}@{digest[:15]}",
            lambda _: blobs.get(self._registry, repository, digest),
            answer=lambda _: lambda model: model.has_blob(repository, digest),
            refusals={BlobUnknown: lambda model: not model.has_blob(repository, digest)},
        )
        try:
            found = await self._ask(
                f"read {digest[:15]}", lambda _: self._read(blob.location), refusals={Gone: whatever}
            )
        except Gone:
            # It was there when it was asked for, so it takes at least this long until its bytes go.
            assert self._world.clock.now() >= asked_at + self._world.rules.condemned_seconds, f"{digest} is gone"
            raise
        assert found == data

    async def _read(self, location: str) -> bytes:
        try:
            return b"".join([chunk async for chunk in self._registry.blobs.read(location)])
        except BlobMissing:
            raise Gone from None

    async def _list(self) -> None:
        repository, subject = self._one(self._world.repositories), self._world.images[0]
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
        repository, name = self._one(self._world.repositories), self._one([*TAGS, *self._world.companion_tags])
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
        repository, digest = self._one(self._world.repositories), self._one(self._world.contents)
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
                *(Change("tag.deleted", repository, digest, name) for name in (*TAGS, *self._world.companion_tags)),
            ],
            must_cause=True,
            durable=True,
        )

    async def _delete_a_blob(self) -> None:
        await self._delete_blob(self._one(self._world.repositories), Digest.of(self._one(self._world.blobs)))

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
