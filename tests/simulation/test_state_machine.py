"""One client and one registry, step by step: the real one and the model must give the same answers."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule

from homeport.events import Origin
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUploadUnknown, ManifestUnknown, RegistryError
from homeport.registry import blobs, manifests, tags, uploads
from homeport.registry.registry import Registry, Rules
from homeport.registry.uploads import Sessions
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import images, invariants
from homeport.testing.disk_faults import MemoryDisk
from homeport.testing.images import Image
from homeport.testing.model import Change, Model
from homeport.testing.simulation import SimulatedClock, run
from tests.simulation.world import ROOT, MemoryDatabase

T = TypeVar("T")

ADA = Origin("ada")
BLOBS = (b"", b"one", b"two" * 1000, b"three" * 2000, b"{}")
SINGLES = (
    images.image([BLOBS[1]]),
    images.image([BLOBS[1], BLOBS[2]]),
    images.image([BLOBS[3], BLOBS[0]], config=BLOBS[1]),
    images.image([], subject=images.image([BLOBS[1]])),
)
IMAGES: dict[Digest, Image] = {
    image.digest: image for image in (*SINGLES, images.index(SINGLES[:2]), images.index([images.index(SINGLES[1:3])]))
}
IMAGES |= {child.digest: child for image in list(IMAGES.values()) for child in image.children}

repositories = st.sampled_from(["app", "base", "team/app"])
tag_names = st.sampled_from(["latest", "v1", "v2"])
blob_contents = st.sampled_from(BLOBS)
any_image = st.sampled_from(sorted(IMAGES.values(), key=lambda image: image.digest))
algorithms = st.sampled_from(["sha256", "sha256", "sha512"])


async def body(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


class RegistryMachine(RuleBasedStateMachine):
    sessions_begun = Bundle("sessions_begun")

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.clock = SimulatedClock(seed)
        self.disk = MemoryDisk(self.clock.random)
        self.database = MemoryDatabase(self.clock, None)
        self.model = Model({digest: image.manifest for digest, image in IMAGES.items()})
        self.events_seen = 0
        self.open()

    def teardown(self) -> None:
        if hasattr(self, "database"):
            self.database.die()

    def open(self) -> None:
        store = FilesystemStore(ROOT, self.clock, disk=self.disk, reserve_percent=0, reserve_bytes=0)
        self.registry = Registry(self.database, store, self.clock)
        self.sessions = Sessions()

    # --- the same of both ---------------------------------------------------------------------------------------

    def real(self, call: Callable[[], Awaitable[T]]) -> T | type[RegistryError]:
        """What the registry answers; for an error, its class."""

        async def main() -> T:
            return await call()

        try:
            return run(self.clock, main)
        except RegistryError as error:
            return type(error)

    def change(self, call: Callable[[], Awaitable[T]], expected: Callable[[], list[Change]]) -> T | type[RegistryError]:
        """Do it to both: they end in the same way, and the events are the model's changes; the registry's answer."""
        answer = self.real(call)
        changes: list[Change] = []
        refusal: type[RegistryError] | None = None
        try:
            changes = expected()
        except RegistryError as error:
            refusal = type(error)
        assert answer is refusal if isinstance(answer, type) else refusal is None, f"{answer} and not {refusal}"
        events = run(self.clock, lambda: self.database.read(invariants.changes, self.events_seen))
        assert Counter(told.change for told in events) == Counter(changes)
        if events:
            self.events_seen = events[-1].id
        return answer

    # --- uploads ------------------------------------------------------------------------------------------------

    @rule(target=sessions_begun, repository=repositories)
    def start(self, repository: str) -> tuple[str, str]:
        upload = self.real(lambda: uploads.start(self.registry, self.sessions, ADA, repository))
        assert isinstance(upload, str)
        self.model.start(upload, repository)
        return upload, repository

    @rule(session=sessions_begun, data=blob_contents, shift=st.sampled_from([None, 0, 0, 0, -1, 5]))
    def append(self, session: tuple[str, str], data: bytes, shift: int | None) -> None:
        upload, repository = session
        offset = self.offset(upload, shift)

        def expected() -> list[Change]:
            self.model.append(upload, repository, offset, data)
            return []

        answer = self.change(
            lambda: uploads.append(self.registry, self.sessions, ADA, repository, upload, offset, body(data)), expected
        )
        assert isinstance(answer, type) or answer == len(self.bytes_of(upload))

    @rule(
        session=consumes(sessions_begun),
        data=blob_contents,
        shift=st.sampled_from([None, 0, 0, 0, 1]),
        with_body=st.booleans(),
        right=st.sampled_from([True, True, True, False]),
        algorithm=algorithms,
    )
    def finish(
        self, session: tuple[str, str], data: bytes, shift: int | None, with_body: bool, right: bool, algorithm: str
    ) -> None:
        upload, repository = session
        offset = self.offset(upload, shift)
        data = data if with_body else b""
        digest = Digest.of(self.bytes_of(upload) + data + (b"" if right else b"!"), algorithm)
        self.change(
            lambda: uploads.finish(
                self.registry,
                self.sessions,
                ADA,
                repository,
                upload,
                digest,
                offset,
                body(data) if with_body else None,
            ),
            lambda: self.model.finish(upload, repository, digest, offset, data),
        )

    @rule(session=sessions_begun)
    def size(self, session: tuple[str, str]) -> None:
        upload, repository = session
        expected = len(self.bytes_of(upload)) if upload in self.model.uploads else BlobUploadUnknown
        assert self.real(lambda: uploads.size(self.registry, ADA, repository, upload)) == expected

    @rule(session=sessions_begun)
    def cancel(self, session: tuple[str, str]) -> None:
        upload, repository = session
        self.change(
            lambda: uploads.cancel(self.registry, self.sessions, ADA, repository, upload),
            lambda: self.model.cancel(upload, repository),
        )

    @rule(session=sessions_begun, other=st.sampled_from([("eve", None), ("ada", "elsewhere")]))
    def a_stranger_finds_no_session(self, session: tuple[str, str], other: tuple[str, str | None]) -> None:
        upload, repository = session
        eve, elsewhere = Origin(other[0]), other[1] or repository
        for call in (
            lambda: uploads.size(self.registry, eve, elsewhere, upload),
            lambda: uploads.append(self.registry, self.sessions, eve, elsewhere, upload, None, body(b"x")),
            lambda: uploads.cancel(self.registry, self.sessions, eve, elsewhere, upload),
            lambda: uploads.finish(self.registry, self.sessions, eve, elsewhere, upload, Digest.of(b""), None, None),
        ):
            assert self.real(call) is BlobUploadUnknown

    def offset(self, upload: str, shift: int | None) -> int | None:
        return None if shift is None else max(0, len(self.bytes_of(upload)) + shift)

    def bytes_of(self, upload: str) -> bytes:
        session = self.model.uploads.get(upload)
        return session.data if session is not None else b""

    # --- blobs --------------------------------------------------------------------------------------------------

    @rule(repository=repositories, data=blob_contents, algorithm=algorithms)
    def push_blob(self, repository: str, data: bytes, algorithm: str) -> None:
        digest = Digest.of(data, algorithm)
        self.change(
            lambda: uploads.push(self.registry, ADA, repository, digest, body(data)),
            lambda: self.model.push_blob(repository, digest),
        )

    @rule(repository=repositories, data=blob_contents, source=st.one_of(st.none(), repositories))
    def mount(self, repository: str, data: bytes, source: str | None) -> None:
        digest = Digest.of(data)
        mountable = self.model.mountable(digest, source)
        answer = self.change(
            lambda: blobs.mount(self.registry, ADA, repository, digest, source, lambda _, name: True),
            lambda: self.model.mount(repository, digest, source),
        )
        assert (answer is not None) == mountable

    @rule(repository=repositories, data=blob_contents, source=st.one_of(st.none(), repositories))
    def nothing_is_mounted_from_what_one_may_not_read(self, repository: str, data: bytes, source: str | None) -> None:
        digest = Digest.of(data)
        assert None is self.change(
            lambda: blobs.mount(self.registry, ADA, repository, digest, source, lambda _, name: False), list
        )

    @rule(repository=repositories, digest=st.sampled_from([*map(Digest.of, BLOBS), *sorted(IMAGES)]))
    def delete_blob(self, repository: str, digest: Digest) -> None:
        self.change(
            lambda: blobs.delete(self.registry, ADA, repository, digest),
            lambda: self.model.delete_blob(repository, digest),
        )

    @rule(repository=repositories, data=blob_contents)
    def pull_blob(self, repository: str, data: bytes) -> None:
        async def pull() -> bytes:
            blob = await blobs.get_and_keep(self.registry, repository, Digest.of(data))
            return b"".join([chunk async for chunk in self.registry.blobs.read(blob.location)])

        answer = self.real(pull)
        assert (answer == data) == self.model.has_blob(repository, Digest.of(data))

    # --- manifests and tags -------------------------------------------------------------------------------------

    @rule(repository=repositories, image=any_image, names=st.lists(tag_names, max_size=3))
    def push_manifest(self, repository: str, image: Image, names: list[str]) -> None:
        self.change(
            lambda: manifests.push(self.registry, ADA, repository, image.data, image.media_type, image.digest, names),
            lambda: self.model.push_manifest(repository, image.digest, names),
        )

    @rule(repository=repositories, image=any_image, names=st.lists(tag_names, max_size=3))
    def push_image(self, repository: str, image: Image, names: list[str]) -> None:
        """With all that it needs, so that the machine gets somewhere."""
        for part in image.walk():
            for data in part.blobs:
                self.push_blob(repository, data, "sha256")
            self.push_manifest(repository, part, names if part is image else [])

    @rule(repository=repositories, image=any_image)
    def delete_manifest(self, repository: str, image: Image) -> None:
        self.change(
            lambda: manifests.delete(self.registry, ADA, repository, image.digest),
            lambda: self.model.delete_manifest(repository, image.digest),
        )

    @rule(repository=repositories, name=tag_names)
    def delete_tag(self, repository: str, name: str) -> None:
        self.change(
            lambda: tags.delete(self.registry, ADA, repository, name), lambda: self.model.delete_tag(repository, name)
        )

    @rule(repository=repositories, name=tag_names)
    def pull(self, repository: str, name: str) -> None:
        answer = self.real(lambda: manifests.get(self.registry, repository, name))
        digest = self.model.tag(repository, name)
        if digest is None:
            assert answer is ManifestUnknown
        else:
            image = IMAGES[digest]
            assert answer == manifests.Stored(digest, image.media_type, image.data)

    # --- the world ----------------------------------------------------------------------------------------------

    @rule()
    def kill(self) -> None:
        """What the process had in memory is gone, and nothing else."""
        self.database = MemoryDatabase(self.clock, self.database.die()[-1])
        self.open()
        self.real(lambda: uploads.discard_strays(self.registry))

    @rule()
    def cut_the_power(self) -> None:
        """Sessions may be gone, or have other bytes; images may not."""
        self.database = MemoryDatabase(self.clock, self.database.die()[0])
        self.disk.power_cut()
        self.open()
        for upload, session in self.model.uploads.items():
            self.forget(upload, session.repository)
        self.model.uploads.clear()

    def forget(self, upload: str, repository: str) -> None:
        """End the session, if it is there."""
        self.real(lambda: uploads.cancel(self.registry, self.sessions, ADA, repository, upload))

    @rule(hours=st.sampled_from([0.1, 2, 30]))
    def wait(self, hours: float) -> None:
        self.clock.advance(hours * 3600)

    @invariant()
    def all_is_well(self) -> None:
        async def look() -> list[str]:
            wrong = await self.database.read(invariants.facts, Rules())
            wrong += await self.database.read(invariants.same, self.model)
            return wrong + await invariants.content(
                self.registry.blobs, await self.database.read(invariants.live_blobs)
            )

        if hasattr(self, "registry"):
            assert run(self.clock, look) == []


TestRegistryMachine = RegistryMachine.TestCase
TestRegistryMachine.settings = settings(
    max_examples=max(60, int(os.environ.get("SIMULATIONS", "0")) // 10),
    stateful_step_count=40,
    deadline=None,
    # The same every time, unless more was asked for than fits into every run.
    derandomize="SIMULATIONS" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
