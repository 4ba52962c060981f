"""Registries that are mirrored, as other people run them, and a Homeport that mirrors them."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from homeport.client.credentials import Credential
from homeport.client.remote import Remote
from homeport.client.repository import RemoteRepository
from homeport.client.settings import ClientSettings
from homeport.client.transport import Transport
from homeport.clock import SystemClock
from homeport.oci.digest import Digest
from tests.cli.tools import CommandLine
from tests.client import images
from tests.client.images import Image
from tests.support.processes import Config, Homeport


@dataclass(frozen=True)
class Upstream:
    """A registry at `host`, and who we are there."""

    host: str
    ca: Path | None = None
    login: Credential | None = None

    @property
    def folder(self) -> str:
        """The first part of Homeport's names for what is there."""
        return self.host.replace(":", "_")

    def push(self, repository: str, image: Image, *tags: str) -> None:
        """Push the image, under all the tags or under none."""

        async def push() -> None:
            async with self._connected(repository) as remote:
                for tag in tags or (None,):
                    await images.push(remote, image, tag)

        asyncio.run(push())

    def push_by_digest(self, repository: str, image: Image, tag: str) -> None:
        """Push it under its own digest, which need not be the one that the registry would choose, and tag that."""

        async def push() -> None:
            async with self._connected(repository) as remote:
                await images.push(remote, image)
                path = f"/v2/{repository}/manifests/{image.digest}?tag={tag}"
                headers = {"Content-Type": image.pushed.manifest.media_type}
                data, scopes = image.pushed.manifest.data, (f"repository:{repository}:pull,push",)
                answer = await remote.remote.fetch("PUT", path, scopes, headers=headers, body=data)
                assert answer.status == 201

        asyncio.run(push())

    def pull(self, repository: str, target: str) -> dict[Digest, bytes]:
        """Everything that a tag or a digest consists of, verified."""

        async def pull() -> dict[Digest, bytes]:
            async with self._connected(repository) as remote:
                return await images.pull(remote, target)

        return asyncio.run(pull())

    def digest(self, repository: str, tag: str) -> Digest | None:
        """What the tag points at."""

        async def head() -> Digest | None:
            async with self._connected(repository) as remote:
                found = await remote.head_manifest(tag)
                return found.digest if found else None

        return asyncio.run(head())

    def tags(self, repository: str) -> set[str]:
        """All tags."""

        async def tags() -> set[str]:
            async with self._connected(repository) as remote:
                return {tag async for tag in remote.tags()}

        return asyncio.run(tags())

    def referrers(self, repository: str, subject: Digest) -> set[Digest]:
        """What refers to the subject."""

        async def referrers() -> set[Digest]:
            async with self._connected(repository) as remote:
                return {each.descriptor.digest for each in await remote.referrers(subject)}

        return asyncio.run(referrers())

    def delete(self, repository: str, tag: str) -> None:
        """Delete the tag's manifest, and the tag with it."""
        digest = self.digest(repository, tag)

        async def delete() -> None:
            async with self._connected(repository) as remote:
                assert await remote.delete_manifest(digest or tag)

        asyncio.run(delete())

    @asynccontextmanager
    async def _connected(self, repository: str) -> AsyncIterator[RemoteRepository]:
        settings = ClientSettings(ca=(self.ca,) if self.ca else ())
        async with Transport(settings, SystemClock()) as transport:
            yield RemoteRepository(Remote(self.host, transport, self.login), repository)


@dataclass(frozen=True)
class Mirror:
    """A running Homeport that mirrors what it is told to, when it is told to."""

    server: Homeport

    @property
    def cli(self) -> CommandLine:
        """Its command line, in its folder."""
        return CommandLine(self.server.folder)

    @property
    def registry(self) -> Upstream:
        """It as a registry, as its administrator sees it."""
        return Upstream(self.server.host, login=Credential("admin", self.server.passwords["admin"]))

    def start(self, images: Iterable[Mapping[str, Any]] = (), mirror: Config | None = None, **sections: Any) -> None:
        """`homeport up` that mirrors these images; where it runs already, anew on the same port."""
        port = int(self.server.host.rpartition(":")[2] or 0)
        if port:
            self.server.stop()
        wanted = {"schedule": "never", "images": list(images), **(mirror or {})}
        data = self.server.folder / "homeport-data"
        self.server.start({**sections, "mirror": wanted}, verb="up", data=data, port=port)

    def run(self, *words: str, code: int = 0) -> dict[str, Any]:
        """`homeport mirror run`: the summary of its job."""
        summary: dict[str, Any] = self.cli.run("mirror", "run", *words, "--json", code=code).json["summary"]
        return summary

    def plan(self) -> str:
        """`homeport mirror plan`."""
        return self.cli.run("mirror", "plan").out

    def age(self, days: float) -> None:
        """Let what leaves have been found so long ago."""
        with sqlite3.connect(self.server.data / "homeport.db") as database:
            database.execute("UPDATE origins SET leaving_since = leaving_since - ?", (days * 86_400,))
        database.close()
