"""Everything at once against a real server whose graces are about a second, and SIGKILLs every few seconds.

Clients push, mount, pull, tag, delete and restore while the server sweeps, a second process sweeps beside it, and both
lose the race with whatever else goes on. What the clients may rely on, and what they verify to the byte, is:
- What a tag points at is there, with all that it names and all that belongs to it.
- Nothing that was answered is refused to a manifest for as long as the promise of that answer lasts.
- What was deleted, or has lost its last tag, can be brought back for as long as the trash is kept.
- Whatever is served is whole. What nothing refers to may be gone at any time, and in the end is: also from the disk.
"""

import asyncio
import io
import json
import time
from collections import Counter, deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final, TypeAlias

from homeport.events import SYSTEM
from homeport.garbage import totals
from homeport.garbage.guard import ClockGuard
from homeport.garbage.sweep import Pace, Sweeper
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestBlobUnknown, NotInTrash
from homeport.registry import restoring
from homeport.testing import images
from homeport.testing.images import Image
from tests.faults import shrunk
from tests.faults.kill import (
    CLIENTS,
    CONFIG,
    REPOSITORIES,
    TAGS,
    Client,
    Harness,
    Memory,
    Pusher,
    Thing,
    Upload,
    check_folder,
    open_folder,
)
from tests.faults.shrunk import RELIABLE_SECONDS, RULES

#: How long the last of what was let go of may take to leave the disk: all graces, one after the other, and the work.
DRAIN_SECONDS_MAX: Final = 90.0
POLL_SECONDS: Final = 0.25
#: How long a sweep beside the server's may take.
SWEEP_SECONDS_MAX: Final = 0.5
#: What each client still remembers of its own.
IMAGES_MAX, LOST_MAX = 30, 20
#: Of the layers that are one image's own.
SIZES: Final = (0, 100, 5_000, 60_000, 60_000, 300_000)
#: What a server says of itself when something is wrong.
ALARMS: Final = (
    "sweep.failed",
    "sweep.broken",
    "walk.failed",
    "purge.failed",
    "loop.failed",
    "loop.died",
    "blob.lost",
    "blob.damaged",
)

State: TypeAlias = tuple[int, frozenset[Digest | None]]


class SoakMemory(Memory):
    """What the clients were answered. What is named by its digest may go by itself; a tag may not."""

    def __init__(self) -> None:
        super().__init__()
        self._versions: Counter[Thing] = Counter()

    def asked(self, thing: Thing, content: Digest | None) -> None:
        self._versions[thing] += 1
        super().asked(thing, content)

    def refused(self, thing: Thing, before: frozenset[Digest | None]) -> None:
        """The request changed nothing. Only for what one client alone changes."""
        with self._lock:
            self._possible[thing] = set(before)

    def state(self, thing: Thing) -> State:
        """What the thing may be; the same state twice means that nobody changed it in between."""
        with self._lock:
            return self._versions[thing], frozenset(self._possible.get(thing, {None}))

    def _from_now_on(self, thing: Thing, content: Digest | None) -> set[Digest | None]:
        return {content, None} if ":" in thing.name else {content}


@dataclass(frozen=True)
class Lost:
    """What a tag pointed at before it was changed or deleted, or its manifest was."""

    repository: str
    tag: str
    image: Image
    at: float


@dataclass(kw_only=True)
class Soaker(Pusher):
    """A client that does everything. Its tags and images nobody else changes."""

    memory: SoakMemory
    data: Path
    did: Counter[str] = field(default_factory=Counter)
    _images: deque[tuple[str, Image]] = field(default_factory=lambda: deque(maxlen=IMAGES_MAX))
    _lost: deque[Lost] = field(default_factory=lambda: deque(maxlen=LOST_MAX))
    #: By tag: what it points at, as far as that is known.
    _tagged: dict[Thing, Image] = field(default_factory=dict)
    #: By subject: what belongs to it, for as long as it has kept a tag since.
    _artifacts: dict[tuple[str, Digest], list[Image]] = field(default_factory=dict)
    #: What was done last, which may have been cut off: the image that was put, and when it began.
    _last: Image | None = None
    _began: float = 0.0

    def _work(self) -> None:
        self._began = time.monotonic()
        work: dict[Callable[[], None], int] = {
            self._push_an_image: 30,
            self._push_an_artifact: 5,
            self._tag_again: 12,
            self._pull: 30,
            self._delete_a_manifest: 8,
            self._delete_a_tag: 6,
            self._delete_a_blob: 6,
            self._restore: 10,
            self._leave_an_upload: 3,
            self._sweep_beside: 2,
        }
        (chosen,) = self.random.choices(list(work), weights=list(work.values()))
        chosen()

    # --- pushing ------------------------------------------------------------------------------------------------

    def _push_an_image(self) -> None:
        image = self._new_image()
        if self.random.random() < 0.2:
            image = images.index([image, self._new_image()])
        repository = self.random.choice(REPOSITORIES)
        if self._push(repository, image, self._a_tag()) is not None:
            self._images.append((repository, image))

    def _push_an_artifact(self) -> None:
        """One that belongs to an image, and lives as long as that does."""
        tagged = self._own_tagged()
        if tagged is None:
            return
        tag, subject = tagged
        artifact = self._new_image(subject=subject)
        if self._push(tag.repository, artifact, None) is not None:
            self._artifacts.setdefault((tag.repository, subject.digest), []).append(artifact)

    def _tag_again(self) -> None:
        """What was pushed once gets another tag, or its old one back; where it is gone it is pushed again."""
        if not self._images:
            return
        repository, image = self.random.choice(self._images)
        tag = self._a_tag()
        promised = float("inf") if self._is_tagged(repository, image) else float("-inf")
        if not self._put(repository, image, tag, promised):
            self._push(repository, image, tag)

    def _push(self, repository: str, image: Image, tag: str | None) -> float | None:
        """Push all of the image; since when it is promised. None if that took too long for the first of its parts."""
        promised = [self._push(repository, child, None) for child in image.children]
        promised += [self._push_promised(repository, data) for data in image.blobs]
        kept = [at for at in promised if at is not None]
        began = time.monotonic()
        if len(kept) < len(promised) or not self._put(repository, image, tag, min(kept)):
            return None
        return began

    def _push_promised(self, repository: str, data: bytes) -> float:
        began = time.monotonic()
        self._push_blob(repository, data)
        if self.random.random() < 0.1:
            thing = Thing("blobs", repository, Digest.of(data))
            found = self._client.look_up(thing, self.memory)
            assert found is not None or time.monotonic() > began + RELIABLE_SECONDS, f"{thing} was promised and is gone"
        return began

    def _put(self, repository: str, image: Image, tag: str | None, promised: float) -> bool:
        """Push the manifest, whose parts were promised at this time; False where one of them has gone since."""
        digest = self.memory.keep(image.data)
        by_digest = Thing("manifests", repository, digest)
        by_name = by_digest if tag is None else Thing("manifests", repository, tag)
        things = {by_digest, by_name}
        before = {thing: self.memory.state(thing)[1] for thing in things}
        self._last = image
        for thing in things:
            self.memory.asked(thing, digest)
        response, content = self._client.ask("PUT", by_name.path, image.data, content_type=image.media_type)
        if response.status == 400 and b"MANIFEST_BLOB_UNKNOWN" in content:
            assert time.monotonic() > promised + RELIABLE_SECONDS, f"{by_name}: a part was promised and is gone"
            for thing in things:
                self.memory.refused(thing, before[thing])
            self.did["refused"] += 1
            return False
        assert response.status == 201, f"{by_name}: {response.status} {content[:300]!r}"
        for thing in things:
            self.memory.answer(thing, digest)
        if tag is not None:
            self._moved(by_name, image)
        self.did["pushed"] += 1
        return True

    # --- pulling ------------------------------------------------------------------------------------------------

    def _pull(self) -> None:
        """Anybody's tag. If nobody changed it meanwhile all of it must have been there."""
        owner = f"client{self.random.randrange(CLIENTS)}"
        tag = Thing("manifests", self.random.choice(REPOSITORIES), f"{owner}-{self.random.randrange(TAGS)}")
        before = self.memory.state(tag)
        digest = self._client.look_up(tag, self.memory)
        absent = [] if digest is None else self._client.missing(tag.repository, digest, self.memory)
        if digest is not None and tag in self._tagged:
            for artifact in self._artifacts.get((tag.repository, digest), []):
                thing = Thing("manifests", tag.repository, artifact.digest)
                absent += [] if self._client.look_up(thing, self.memory) else [thing]
                absent += self._client.missing(tag.repository, artifact.digest, self.memory)
        if len(before[1]) == 1 and self.memory.state(tag) == before:
            assert digest in before[1], f"{tag} is {digest}, and should be {before[1]}"
            assert not absent, f"{tag} lacks {absent}"
            self.did["verified"] += 1

    # --- taking away --------------------------------------------------------------------------------------------

    def _delete_a_manifest(self) -> None:
        if not self._images:
            return
        repository, image = self.random.choice(self._images)
        tags = [tag for tag, one in self._tagged.items() if tag.repository == repository and one.digest == image.digest]
        things = [Thing("manifests", repository, image.digest), *tags]
        for thing in things:
            self.memory.asked(thing, None)
        response, content = self._client.ask("DELETE", things[0].path)
        gone = response.status == 404 and not tags
        assert response.status == 202 or gone, f"DELETE {things[0]}: {response.status} {content[:300]!r}"
        for thing in things:
            self.memory.answer(thing, None)
        for tag in tags:
            self._moved(tag, None)
        self.did["deleted"] += 1

    def _delete_a_tag(self) -> None:
        tagged = self._own_tagged()
        if tagged is None:
            return
        tag, _ = tagged
        self.memory.asked(tag, None)
        self._client.expect(202, "DELETE", tag.path)
        self.memory.answer(tag, None)
        self._moved(tag, None)
        self.did["deleted"] += 1

    def _delete_a_blob(self) -> None:
        """One that nobody else has; refused while a manifest names it."""
        if not self._images:
            return
        repository, image = self.random.choice(self._images)
        config = next(image.walk()).blobs[-1]
        thing = Thing("blobs", repository, Digest.of(config))
        before = self.memory.state(thing)[1]
        self.memory.asked(thing, None)
        response, content = self._client.ask("DELETE", thing.path)
        allowed = {405} if self._is_tagged(repository, image) else {202, 404, 405}
        assert response.status in allowed, f"DELETE {thing}: {response.status} {content[:300]!r}"
        if response.status == 405:
            self.memory.refused(thing, before)
        else:
            self.memory.answer(thing, None)

    def _leave_an_upload(self) -> None:
        """Begin one that nobody ever goes on with."""
        response = self._client.expect(202, "POST", f"/v2/{self.random.choice(REPOSITORIES)}/blobs/uploads/")
        self._client.expect(202, "PATCH", str(response.getheader("location")), self.random.randbytes(1_000))
        self.did["left"] += 1

    def _may_be_over(self, upload: Upload) -> bool:
        return super()._may_be_over(upload) or time.monotonic() > upload.moved_at + RULES.uploads_seconds

    # --- beside the server ---------------------------------------------------------------------------------------

    def _restore(self) -> None:
        """As `homeport tag restore` does it: another process on the same folder."""
        if not self._lost:
            return
        lost = self.random.choice(self._lost)
        tag = Thing("manifests", lost.repository, lost.tag)
        before = self.memory.state(tag)[1]
        parts = list(_parts(lost.repository, lost.image))
        for thing, digest in [(tag, lost.image.digest), *parts]:
            self.memory.asked(thing, digest)
        try:
            asyncio.run(self._restore_beside(lost))
        except NotInTrash:
            assert time.monotonic() > lost.at + RULES.trash_seconds, f"{tag} cannot be brought back any more"
            self.memory.refused(tag, before)
        except ManifestBlobUnknown:
            assert time.monotonic() > self._began + RELIABLE_SECONDS, f"{tag} was brought back without all of its parts"
            self.memory.refused(tag, before)
        else:
            self.memory.answer(tag, lost.image.digest)
            self._moved(tag, lost.image)
            self.did["restored"] += 1
        for thing, digest in parts:
            self.memory.answer(thing, digest)

    async def _restore_beside(self, lost: Lost) -> None:
        async with open_folder(self.data, RULES) as registry:
            await restoring.restore(registry, SYSTEM, lost.repository, lost.image.digest, [lost.tag])

    def _sweep_beside(self) -> None:
        """As `homeport cleanup run --untagged-after 0` does it."""
        asyncio.run(self._sweep_now())
        self.did["sweeps"] += 1

    async def _sweep_now(self) -> None:
        said = io.StringIO()
        async with open_folder(self.data, RULES) as registry:
            log = Log(said, registry.clock)
            sweeper = Sweeper(registry, log, ClockGuard(registry), Pace(registry.clock, busy=lambda: False))
            with suppress(TimeoutError):
                async with asyncio.timeout(SWEEP_SECONDS_MAX):
                    await sweeper.sweep_now(0.0)
            log.flush()
        assert not said.getvalue()

    # --- what is one's own ---------------------------------------------------------------------------------------

    def _own_tagged(self) -> tuple[Thing, Image] | None:
        """Any of one's tags, and what it points at."""
        return self.random.choice(list(self._tagged.items())) if self._tagged else None

    def _is_tagged(self, repository: str, image: Image) -> bool:
        return any(tag.repository == repository and one.digest == image.digest for tag, one in self._tagged.items())

    def _moved(self, tag: Thing, image: Image | None) -> None:
        """A tag points at the image now; None: it is deleted."""
        was = self._tagged.pop(tag, None)
        if image is not None:
            self._tagged[tag] = image
        if was is not None and (image is None or was.digest != image.digest):
            self._artifacts.pop((tag.repository, was.digest), None)
            self._lost.append(Lost(tag.repository, tag.name, was, self._began))

    def settle(self) -> None:
        """Whatever was cut off has been looked up since, so one's own tags are known again."""
        known = {image.digest: image for _, image in self._images}
        known.update((lost.image.digest, lost.image) for lost in self._lost)
        if self._last is not None:
            known[self._last.digest] = self._last
        for repository in REPOSITORIES:
            for number in range(TAGS):
                tag = Thing("manifests", repository, f"{self.name}-{number}")
                (content,) = self.memory.state(tag)[1]
                if content != (self._tagged[tag].digest if tag in self._tagged else None):
                    self._moved(tag, known[content] if content else None)


def _parts(repository: str, image: Image) -> list[tuple[Thing, Digest]]:
    """All that an image is made of."""
    parts = []
    for one in image.walk():
        parts.append((Thing("manifests", repository, one.digest), one.digest))
        parts += [(Thing("blobs", repository, digest), digest) for digest in map(Digest.of, one.blobs)]
    return parts


class Soak(Harness):
    """A server with shrunk graces, clients that do everything, and what is left of it all in the end."""

    memory: SoakMemory
    kill_after_seconds_max = 5.0

    def run(self, seconds: float) -> None:
        """Soak for so long, and then until all is gone that nothing refers to. Raises `AssertionError`."""
        deadline = time.monotonic() + seconds
        with shrunk.shrunk():
            while time.monotonic() < deadline:
                self._one_life()
            self._end()

    @property
    def did(self) -> Counter[str]:
        """What the clients did, how often."""
        return sum((soaker.did for soaker in self._soakers), Counter[str]())

    def swept(self) -> dict[str, int]:
        """What the sweeps let go of, theirs and ours."""
        return asyncio.run(self._swept())

    def _remember(self) -> SoakMemory:
        return SoakMemory()

    def _clients(self, seed: int, layers: list[bytes]) -> list[Soaker]:
        self._soakers = [
            Soaker(
                name=f"client{number}",
                memory=self.memory,
                random=Random(seed + number),
                layers=layers,
                sizes=SIZES,
                data=self._server.data,
            )
            for number in range(CLIENTS)
        ]
        return self._soakers

    def _start(self) -> str:
        self._check_log()
        return self._server.start(CONFIG, verb="up", program=[Path(shrunk.__file__)])

    def _look_up(self, things: list[Thing]) -> None:
        super()._look_up(things)
        self._resolve_every_tag()
        for soaker in self._soakers:
            soaker.settle()

    def _check_log(self) -> None:
        alarms = [line for line in self._server.log.splitlines() if any(alarm in line for alarm in ALARMS)]
        assert not alarms, alarms[:5]

    def _end(self) -> None:
        super()._end()
        self._start()
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        while left := self._superfluous():
            assert time.monotonic() < deadline, f"{DRAIN_SECONDS_MAX} s later {len(left)} are left: {sorted(left)[:5]}"
            time.sleep(POLL_SECONDS)
        self._resolve_every_tag()
        self._server.kill()
        self._check_log()
        asyncio.run(check_folder(self._server.data))

    def _superfluous(self) -> set[str]:
        """Files that no tag leads to, and what lies in the trash or was never finished."""
        data = self._server.data
        blobs = {f"sha256:{file.parent.name}" for file in (data / "docker/registry/v2/blobs").glob("sha256/*/*/data")}
        waiting = {f"{folder}/{file.name}" for folder in ("trash", "uploads") for file in (data / folder).glob("*")}
        return waiting or blobs - self._tagged()

    def _tagged(self) -> set[str]:
        """The digests that tags lead to, with those of what belongs to them."""
        client = Client(self._server.url)
        found: set[str] = set()
        for repository in REPOSITORIES:
            _, listed = client.ask("GET", f"/v2/{repository}/tags/list")
            for tag in json.loads(listed).get("tags", []):
                digest = client.look_up(Thing("manifests", repository, tag), self.memory)
                assert digest is not None
                found.update(str(one) for one in self._reachable(client, repository, digest))
        client.close()
        return found

    def _reachable(self, client: Client, repository: str, digest: str) -> set[str]:
        document = json.loads(self.memory.contents[Digest(digest)])
        found = {digest, *(blob["digest"] for blob in document.get("layers", []))}
        found |= {document["config"]["digest"]} if "config" in document else set()
        _, listed = client.ask("GET", f"/v2/{repository}/referrers/{digest}")
        for one in [*document.get("manifests", []), *json.loads(listed)["manifests"]]:
            found |= self._reachable(client, repository, one["digest"])
        return found

    async def _swept(self) -> dict[str, int]:
        async with open_folder(self._server.data) as registry:
            return await registry.db.read(totals.since_last_told)
