"""Reading a blob from another registry: resumed when the connection is cut, verified before its last byte is passed on.

Holds: `read` gives the bytes of the blob or raises; never more than its size, and never its last bytes unless all of
them together have its digest. Who verifies that (`verify=False`) may begin anywhere. What is in memory does not grow
with the blob.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from homeport.client import trust
from homeport.client.errors import BadAnswer, Cause, ConnectionFailed, ContentMismatch
from homeport.client.remote import Remote
from homeport.client.retries import Retries, is_temporary
from homeport.client.transport import Answer, OpenAnswer
from homeport.oci.digest import new_hasher
from homeport.oci.manifest import Descriptor

CHUNK_BYTES_MAX = 1024 * 1024

#: Below this speed a host only keeps a connection busy; it is given time to show another.
SLOWEST_BYTES_PER_SECOND = 512
SLOW_SECONDS_MAX = 180.0

#: How stores say that a signed address is not valid any more.
_EXPIRED_STATUSES = frozenset({400, 401, 403, 410})

_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,19})-[0-9]{1,19}/([0-9]{1,19}|\*)")


class BlobDownload:
    """One blob as it comes. `close` when done with it, read to its end or not."""

    def __init__(
        self, remote: Remote, path: str, scopes: tuple[str, ...], blob: Descriptor, *, verify: bool = True
    ) -> None:
        self.blob = blob
        self._remote = remote
        self._path = path
        self._scopes = scopes
        self._answer: OpenAnswer | None = None
        self._position = 0
        self._hasher = new_hasher(blob.digest.algorithm) if verify else None
        #: How far it was read, and hashed.
        self._read_bytes = 0
        #: How long was waited for bytes, over all connections, and how many came.
        self._waited_seconds = 0.0
        self._came_bytes = 0
        self._retries = Retries(remote.transport.clock, remote.patience)

    async def read(self, position: int) -> bytes:
        """The next bytes at `position`, nothing at the end. It may go back, but skip nothing where this verifies."""
        if self._hasher is not None and position > self._read_bytes:
            raise ValueError("a blob is read from its beginning; what is skipped could not be verified")
        if position >= self.blob.size:
            self._verify()
            return b""
        while True:
            try:
                chunk = await self._read(position)
            except ConnectionFailed as error:
                self.close()
                if not error.temporary or not await self._retries.failed():
                    raise
            else:
                self._retries.progressed()
                self._account(chunk)
                return chunk

    async def chunks(self) -> AsyncIterator[bytes]:
        """All bytes from the beginning."""
        position = 0
        while chunk := await self.read(position):
            yield chunk
            position += len(chunk)

    def close(self) -> None:
        """Gives up the connection. A later `read` opens a new one."""
        if self._answer is not None:
            self._answer.close()
            self._answer = None

    async def _read(self, position: int) -> bytes:
        if self._answer is None or self._position != position:
            self.close()
            self._answer = await self._open(position)
        chunk = await self._next(self._answer, CHUNK_BYTES_MAX)
        if not chunk:
            raise self._ended_at(position, self._answer)
        if position + len(chunk) > self.blob.size:
            raise ContentMismatch(f"{self._answer.request}: sends more than the {self.blob.size} bytes of this blob")
        return chunk

    def _account(self, chunk: bytes) -> None:
        start, self._position = self._position, self._position + len(chunk)
        if self._position > self._read_bytes:
            if self._hasher is not None:
                self._hasher.update(chunk[self._read_bytes - start :])
            self._read_bytes = self._position
        if self._read_bytes == self.blob.size:
            self._verify()

    def _verify(self) -> None:
        if self._hasher is None:
            return
        encoded = self._hasher.hexdigest()
        if encoded != self.blob.digest.encoded:
            self.close()
            sent = f"{self.blob.digest.algorithm}:{encoded}"
            raise ContentMismatch(f"{self._remote.host}: what it sends as blob {self.blob.digest} is {sent}")

    async def _open(self, position: int) -> OpenAnswer:
        """An answer whose next byte is the one at `position`.

        Asks the registry itself each time: the address that it redirects to may have expired.
        """
        headers = {"Range": f"bytes={position}-"} if position else {}
        while True:
            answer = await self._remote.open(self._path, self._scopes, headers)
            if isinstance(answer, Answer):
                temporary = is_temporary(answer.status, answer.headers, answer.body) or await self._may_be_late(answer)
                if not temporary or not await self._retries.failed(answer.headers):
                    raise self._remote.refused(answer)
                continue
            try:
                await self._go_to(position, answer)
            except BaseException:
                answer.close()
                raise
            return answer

    async def _may_be_late(self, answer: Answer) -> bool:
        """Whether the address that the registry sent us to may have expired on the way; then there is a new one."""
        return answer.status in _EXPIRED_STATUSES and not trust.same_origin(answer.url, await self._remote.base())

    async def _go_to(self, position: int, answer: OpenAnswer) -> None:
        start, size = 0, answer.body_bytes
        if answer.status == 206:
            found = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
            if found is None or int(found[1]) != position:
                raise BadAnswer(f"{answer.request}: sends another range than the one from {position}")
            start, size = position, int(found[2]) if found[2] != "*" else None
        if size is not None and size != self.blob.size:
            raise ContentMismatch(f"{answer.request}: has {size} bytes, and the manifest says {self.blob.size}")
        # A server that cannot do ranges sends everything: what we have is read once more and dropped.
        while start < position:
            skipped = await self._next(answer, min(CHUNK_BYTES_MAX, position - start))
            if not skipped:
                raise self._ended_at(start, answer)
            start += len(skipped)
        self._position = position

    async def _next(self, answer: OpenAnswer, bytes_max: int) -> bytes:
        """The next bytes of an answer, at our pace; an error if they come too slowly to ever end."""
        clock, pace = self._remote.transport.clock, self._remote.gate.pace
        await pace.bytes_turn()
        began = clock.monotonic()
        chunk = await answer.read(bytes_max)
        pace.moved(len(chunk))
        self._waited_seconds += clock.monotonic() - began
        self._came_bytes += len(chunk)
        too_few = self._came_bytes < self._waited_seconds * SLOWEST_BYTES_PER_SECOND
        if too_few and self._waited_seconds > SLOW_SECONDS_MAX:
            text = f"{answer.request}: sends {self._came_bytes} bytes in {self._waited_seconds:.0f} seconds, too slowly"
            raise ConnectionFailed(text, temporary=False, cause=Cause.TIMED_OUT)
        return chunk

    def _ended_at(self, position: int, answer: OpenAnswer) -> ConnectionFailed:
        text = f"{answer.request}: ended after {position} of {self.blob.size} bytes"
        return ConnectionFailed(text, temporary=True)
