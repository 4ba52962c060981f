"""Upstreams of one blob, as slow and as faulty as a test likes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.manifest import Descriptor, Role


def layer(data: bytes) -> Descriptor:
    """What a manifest says of this layer."""
    return Descriptor(mediatype.OCI_LAYER_GZIP, Digest.of(data), len(data), Role.LAYER)


class Upstream:
    """A blob that comes as far as the test lets it, in chunks of `chunk_bytes`. It counts who opens and closes it.

    `starts`: where it was first read each time.
    """

    def __init__(self, data: bytes, *, chunk_bytes: int = 65_536, allowed: int | None = None) -> None:
        self.data = data
        self.blob = layer(data)
        self.opened = self.closed = 0
        self.starts: list[int] = []
        self._chunk_bytes = chunk_bytes
        self._allowed = len(data) if allowed is None else allowed
        self._failure: Exception | None = None
        self._moved = asyncio.Event()

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Upstream]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    async def read(self, position: int) -> bytes:
        if len(self.starts) < self.opened:
            self.starts.append(position)
        if position >= len(self.data):
            return b""
        while position >= self._allowed:
            if self._failure is not None:
                raise self._failure
            self._moved.clear()
            await self._moved.wait()
        await asyncio.sleep(0)
        return self.data[position : min(self._allowed, position + self._chunk_bytes)]

    def allow(self, count: int | None = None) -> None:
        """Let it come to this position."""
        self._allowed = len(self.data) if count is None else count
        self._moved.set()

    def fail(self, error: Exception) -> None:
        """Fail when what was allowed has come."""
        self._failure = error
        self._moved.set()
