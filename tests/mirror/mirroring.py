"""What tests of mirror runs talk to: a registry, the ways to upstreams, and the job as the worker runs it."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from homeport import administration
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import SystemClock
from homeport.config.settings import Secrets, Settings
from homeport.db.database import Transaction
from homeport.events import Event
from homeport.jobs import joblog, queue, work
from homeport.jobs.queue import Job
from homeport.jobs.summary import Summary
from homeport.jobs.worker import Worker
from homeport.mirror import holdings, job
from homeport.mirror.fetching import Fetches
from homeport.mirror.planning import Decided, Planner
from homeport.mirror.publicity import Publicity
from homeport.mirror.rules import of as rules_of
from homeport.mirror.run import Parts
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests
from homeport.secretstore.store import SecretStore
from homeport.testing import invariants
from homeport.upstreams.upstreams import Upstreams
from tests.client.clocks import QuickClock
from tests.client.images import Image
from tests.mirror.upstream import Upstream
from tests.registry.world import MovableClock, World

DAY = 86_400.0


class QuickMovableClock(MovableClock, QuickClock):
    """One that a test moves, and on which nobody waits."""


class Mirroring(World):
    """A registry that mirrors."""

    clock: QuickMovableClock

    def __init__(self, folder: Path, database: Path | None = None) -> None:
        self.data = folder
        self.settings = Settings(data=folder)
        self.may_delete = True
        self.said = io.StringIO()
        self.folder = folder
        self.clock = QuickMovableClock()
        self._database = database or folder.parent / "homeport.db"
        self._stack = AsyncExitStack()
        self.open()

    @property
    def database_clock(self) -> SystemClock:
        """One that waits: for the database's own threads, which are real."""
        return SystemClock()

    async def connect(self, environ: Mapping[str, str] | None = None) -> None:
        """Build what talks to upstreams."""
        log = Log(self.said, self.clock)
        transport = await self._stack.enter_async_context(Transport(ClientSettings(), self.clock))

        async def tell(kind: str, reason: str) -> None:
            del kind, reason

        secrets = SecretStore(self.clock, environ or {}, transport, settings=Secrets(), tell=tell)
        self.upstreams = Upstreams(self.registry.db, self.clock, transport, secrets, self.settings.upstreams)
        self.fetches = await self._stack.enter_async_context(Fetches(self.registry, log))
        self.parts = Parts(
            self.registry,
            self.upstreams,
            self.fetches,
            Publicity(self.registry, self.upstreams),
            self._may_delete,
            lambda: self.settings,
        )
        self.kinds = {job.NAME: job.kind(self.parts)}
        self.worker = Worker(self.registry.db, self.clock, log, self.kinds, count=1, on_end=self._ended)

    async def close(self) -> None:
        await self._stack.aclose()
        self._stack = AsyncExitStack()
        await super().close()

    async def restart(self, environ: Mapping[str, str] | None = None) -> None:
        """As a process that starts anew."""
        await self.close()
        self.open()
        await self.connect(environ)

    def configure(self, *images: Mapping[str, Any], upstreams: Mapping[str, Any] | None = None, **mirror: Any) -> None:
        """From now on mirror these images. `referrers` are off where an image does not say so."""
        listed = [{"referrers": False, **image} for image in images]
        self.settings = Settings.model_validate(
            {"data": str(self.data), "mirror": {"images": listed, **mirror}, "upstreams": dict(upstreams or {})}
        )
        if hasattr(self, "upstreams"):
            self.upstreams.reconfigure(self.settings.upstreams)

    def keep_in(self, data: Path) -> None:
        """Let the data folder be here, as far as what is written beside it goes."""
        self.data = data
        self.settings = self.settings.model_copy(update={"data": data})

    async def ask(self, **arguments: str) -> Job:
        """Ask for a run."""
        return await self.registry.db.write(
            work.request, self.clock, self.kinds, job.NAME, actor="ada", address="", arguments=arguments
        )

    async def run(self, **arguments: str) -> Summary:
        """A run, as the worker does it."""
        asked = await self.ask(**arguments)
        await self.worker.run_until_idle()
        return await self.summary(asked)

    async def summary(self, asked: Job) -> Summary:
        """How a run ended."""
        ended = await self.registry.db.read(_job, asked.id)
        assert ended.summary is not None, ended
        return ended.summary

    async def plan(self) -> Decided:
        """What a run would do now."""
        planner = Planner(self.registry, self.upstreams, self.settings, quiet=True)
        follow = self.settings.mirror.follow
        return await planner.decide(rules_of(self.settings.mirror), follow=follow, everything=True)

    async def log(self, job_id: int) -> list[str]:
        """What a run said."""
        return [line.text for line in await self.registry.db.read(joblog.lines, job_id, 0)]

    async def told(self, kind: str) -> list[Event]:
        """The events of this kind."""
        return [event for event in await self.events() if event.kind == kind]

    async def tags(self, repository: str) -> dict[str, Digest]:
        """What the tags of a repository of ours point at."""
        rows = await self.rows("SELECT tag, digest FROM tagged_manifests WHERE repository = ?", repository)
        return {tag: Digest(digest) for tag, digest in rows}

    async def content(self, digest: Digest, repository: str) -> bytes:
        """The bytes of a blob of ours."""
        blob = await blobs.get(self.registry, repository, digest)
        return b"".join([chunk async for chunk in self.registry.blobs.read(blob.location)])

    async def check_image(self, image: Image, repository: str, reference: str | None = None) -> None:
        """The image is here, with all that it names and every byte as upstream has it."""
        stored = await manifests.get(self.registry, repository, reference or image.digest)
        assert (stored.digest, stored.data) == (image.digest, image.pushed.manifest.data)
        for blob in image.blobs:
            assert await self.content(blob.blob.digest, repository) == blob.data
        for child in image.children:
            await self.check_image(child, repository)

    async def check_everything(self) -> None:
        """Facts and bytes are as they must be, and every tag's image is here with all that it names."""
        await invariants.check(self.registry)
        for repository, tag, digest in await self.rows("SELECT repository, tag, digest FROM tagged_manifests"):
            lacking = await self.registry.db.read(holdings.lacking, repository, digest, ())
            assert not lacking, f"{repository}:{tag} lacks {lacking}"

    async def _may_delete(self) -> bool:
        return self.may_delete

    def _ended(self, tx: Transaction, ended: Job) -> None:
        administration.ended(tx, self.clock, ended)


def folder_of(upstream: Upstream) -> str:
    """The first part of our names for what is there."""
    return upstream.host.replace(":", "_")


def _job(tx: Transaction, job_id: int) -> Job:
    found = queue.get(tx, job_id)
    assert found is not None
    return found
