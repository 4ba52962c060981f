"""An upstream in memory that a property test moves, and a registry that mirrors it, with what it may never do."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from homeport.client.errors import BadAnswer, NotFound, Refused
from homeport.client.referrers import Referrer
from homeport.client.repository import FetchedManifest
from homeport.config import mirroring as config
from homeport.db.sqlite import MEMORY
from homeport.jobs.summary import Summary
from homeport.jobs.worker import Worker
from homeport.mirror import brake, job
from homeport.mirror.fetching import Fetches
from homeport.mirror.publicity import Publicity
from homeport.mirror.run import Parts
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor
from homeport.registry import protections
from homeport.registry.protections import Use
from homeport.testing import images
from tests.client.images import Bytes, Image
from tests.mirror.artifacts import Artifacts
from tests.mirror.mirroring import DAY, Mirroring
from tests.registry.world import ADA

OURS = "app"
#: How the list of tags is answered: as it is, not at all, or as something else than it is.
Lie = Callable[[list[str]], list[str]]


class Truth:
    """What the upstream has, and how it answers: as much of `Upstreams` and its repositories as runs use."""

    def __init__(self) -> None:
        self.tags_there: dict[str, Image] = {}
        self.known: dict[Digest, Image] = {}
        self.exists = True
        self.fails = False
        self.lie: Lie = lambda tags: tags
        #: Tags that cannot be asked for.
        self.silent: set[str] = set()

    def put(self, tag: str, image: Image) -> None:
        self.tags_there[tag] = image
        self.known |= {each.digest: each for each in (image, *image.children)}

    @property
    def listed(self) -> list[str]:
        """The list as it is told."""
        return self.lie(sorted(self.tags_there))

    # --- as runs see it -----------------------------------------------------------------------------------------

    def has_login(self, _host: str) -> bool:
        return False

    async def repository(self, _host: str, _name: str, _purpose: str) -> Truth:
        return self

    async def flush(self) -> None:
        pass

    def reconfigure(self, _settings: Mapping[str, config.Upstream]) -> None:
        pass

    async def tags(self) -> AsyncIterator[str]:
        if not self.exists:
            raise NotFound("no such repository", status=404, code="NAME_UNKNOWN")
        for number, tag in enumerate(self.listed):
            if self.fails and number == 2:
                break
            yield tag
        if self.fails:
            raise BadAnswer("the list broke off")

    async def head_manifest(self, target: str) -> Descriptor | None:
        if target in self.silent:
            raise Refused("not now", status=500)
        image = self.known.get(Digest(target)) or self.tags_there.get(target)
        return image.pushed.descriptor if image and self.exists else None

    async def get_manifest(self, target: str) -> FetchedManifest:
        return self.known[Digest(target)].pushed

    async def has_blob(self, _digest: Digest) -> bool:
        return True

    async def referrers(self, _subject: Digest) -> list[Referrer]:
        return []

    @asynccontextmanager
    async def open_blob(self, blob: Descriptor, *, verify: bool = True) -> AsyncIterator[Bytes]:
        del verify
        yield next(each for image in self.known.values() for each in image.blobs if each.blob.digest == blob.digest)


class Promised(Mirroring):
    """A registry that mirrors `Truth` into one repository. It checks at each night what may never happen."""

    def __init__(self, folder: Path) -> None:
        self.truth = Truth()
        self.artifacts = Artifacts()
        self.grace: float | None = None
        #: Since which night, of those without a break, the upstream has each tag no more.
        self.missing: dict[str, float] = {}
        self.pushed: dict[str, Digest] = {}
        self.used: set[Digest] = set()
        self._protected: Collection[Digest] = ()
        super().__init__(folder)

    def open(self) -> None:
        self._database = MEMORY
        super().open()

    async def connect(self, environ: Mapping[str, str] | None = None) -> None:
        del environ
        log = Log(self.said, self.clock)
        upstreams: Any = self.truth
        self.fetches = await self._stack.enter_async_context(Fetches(self.registry, log))
        publicity = Publicity(self.registry, upstreams)
        self.parts = Parts(self.registry, upstreams, self.fetches, publicity, self._may_delete, lambda: self.settings)
        self.kinds = {job.NAME: job.kind(self.parts)}
        self.worker = Worker(self.registry.db, self.clock, log, self.kinds, count=1, on_end=self._ended)
        self.rule(engines=("swarm",))
        await self.use()

    def want(self, grace_days: float | None, **more: Any) -> None:
        """From now on, mirror it so."""
        self.grace = None if grace_days is None else grace_days * DAY
        gone = "keep" if grace_days is None else {"remove_after": f"{round(grace_days * 24)}h"}
        self.configure({"source": "up.lan/app", "target": OURS, "gone_upstream": gone, **more})

    async def push_over(self, tag: str, content: bytes) -> None:
        """Somebody pushes an image of their own."""
        image = images.image([content])
        await self.push(image, tag, repository=OURS)
        self.pushed[tag] = image.digest

    async def use(self, *tags: str) -> None:
        """An engine tells that it runs these, and nothing else."""
        held = await self.tags(OURS)
        self.used = {held[tag] for tag in tags if tag in held}
        uses = [Use("service web", "task", f"registry.lan/{OURS}@{digest}", digest) for digest in self.used]
        await self.registry.db.write(protections.report, self.clock, "swarm", uses, 3)

    async def release(self) -> None:
        """A person believes the newest list that a run did not."""
        stopped = await self.registry.db.read(brake.stopped)
        if stopped:
            await self.registry.db.write(brake.release, self.clock, ADA, stopped[0].run)

    async def night(self, days: float) -> Summary:
        """Time passes, and a run is made."""
        self.pass_time(days * DAY)
        before, marked = await self.tags(OURS), await self._marked()
        stops = await self._stops(set(before) - self.pushed.keys() - marked)
        now = self.clock.now()
        for tag in before:
            if self.truth.exists and tag in self.truth.tags_there:
                self.missing.pop(tag, None)
            else:
                self.missing.setdefault(tag, now)
        summary = await self.run()
        after = await self.tags(OURS)
        for tag in before.keys() - after.keys():
            self._check_removed(tag, before[tag])
        for tag, digest in self.pushed.items():
            assert after[tag] == digest, f"{tag} is what somebody pushed"
        if stops:
            assert before.keys() <= after.keys(), "nothing goes on a list that is not believed"
            assert await self._marked() <= marked, "nothing is marked on a list that is not believed"
        return summary

    def _check_removed(self, tag: str, digest: Digest) -> None:
        assert not self.truth.exists or tag not in self.truth.tags_there, f"upstream has {tag}"
        assert tag not in self.pushed, f"{tag} is what somebody pushed"
        assert digest not in self.used, f"{tag} is in use"
        assert self.grace is not None, f"{tag} is to be kept"
        assert tag in self.missing, f"{tag} was there the night before"
        assert self.missing[tag] + self.grace <= self.clock.now(), f"the grace of {tag} is not over"

    async def _marked(self) -> set[str]:
        rows = await self.rows("SELECT tag FROM origins WHERE leaving = 'gone upstream'")
        return {tag for (tag,) in rows}

    async def _stops(self, known: set[str]) -> bool:
        """Whether the list that is told now is none to believe, as the issue says it, and nobody said to believe it."""
        if self.truth.fails or not self.truth.exists:
            return True
        listed = set(self.truth.listed)
        held = {tag for (tag,) in await self.rows("SELECT tag FROM origins WHERE leaving IS NULL")} & known
        lost = len(held - listed)
        if not (lost > max(5, int(0.2 * len(held))) or (held and not listed)):
            return False
        return not any(each.released_at for each in await self.registry.db.read(brake.stopped))


class Nights:
    """The same without `await`, for a machine of Hypothesis."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._folder = tempfile.TemporaryDirectory()
        self.world = self._runner.run(self._begin())

    async def _begin(self) -> Promised:
        world = Promised(Path(self._folder.name) / "data")
        await world.connect()
        return world

    def do(self, awaitable: Any) -> Any:
        return self._runner.run(awaitable)

    def end(self) -> None:
        self._runner.run(self.world.close())
        self._runner.close()
        self._folder.cleanup()
