"""Pushing a blob to another registry: there already, mounted, or sent; and resumed when the connection is cut.

Holds: nothing is sent that the registry has; the blob is streamed, whatever its size; `push` returns only when the
registry has answered that it holds exactly this digest.
Source: distribution-spec, "Pushing Blobs" and "Mounting a blob from another repository".
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from enum import StrEnum
from typing import Protocol
from urllib.parse import quote

from yarl import URL

from homeport.client import trust
from homeport.client.errors import BadAnswer, ClientError, ConnectionFailed, Refused
from homeport.client.remote import Remote
from homeport.client.retries import TEMPORARY_STATUSES, Retries
from homeport.client.transport import Answer
from homeport.oci.manifest import Descriptor

#: A blob of at most this size is sent in the PUT that also closes the upload: one request less.
ONE_REQUEST_BYTES_MAX = 1024 * 1024

_NO_BODY = {"Content-Length": "0"}
OCTET_STREAM = "application/octet-stream"

_RANGE = re.compile(r"(?:bytes=)?0-([0-9]{1,19})")


class Outcome(StrEnum):
    """How a blob came to be where it was wanted."""

    PRESENT = "present"
    MOUNTED = "mounted"
    SENT = "sent"


class Content(Protocol):
    """The bytes of a blob, from wherever they come."""

    @property
    def blob(self) -> Descriptor: ...

    async def read(self, position: int) -> bytes:
        """The next bytes at `position`, nothing at the end; may be asked for an earlier position again."""


class BlobUpload:
    """One blob on its way into a repository."""

    def __init__(
        self, remote: Remote, repository: str, scopes: tuple[str, ...], content: Content, moved: Callable[[int], None]
    ) -> None:
        self._remote = remote
        self._path = f"/v2/{repository}/blobs/"
        self._scopes = scopes
        self._content = content
        self._blob = content.blob
        #: Told how many bytes of the blob went out; the number may go back when the registry holds fewer.
        self._moved = moved
        self._retries = Retries(remote.transport.clock, remote.patience)
        #: Where the upload goes on: each answer may name another address.
        self._session = URL()
        self._content_failure: ClientError | None = None

    async def push(self, mount_from: str | None = None, mount_scopes: tuple[str, ...] = ()) -> Outcome:
        """Makes the registry hold the blob. `mount_from` is a repository of the same registry that has it."""
        if await self.is_present():
            return Outcome.PRESENT
        session = await self._mount(mount_from, mount_scopes) if mount_from is not None else await self._start()
        if session is None:
            return Outcome.MOUNTED
        self._session = session
        position = furthest = 0
        while True:
            try:
                await self._send(position)
                return Outcome.SENT
            except (ConnectionFailed, Refused) as error:
                if not self._is_worth_another_try(error, position) or not await self._retries.failed():
                    raise
                parts_fit = not (isinstance(error, Refused) and error.status == 400)
            if await self.is_present():
                return Outcome.SENT  # only the answer was lost
            held = await self._held_bytes() if parts_fit else None
            if held is None:
                self._session, held = await self._start(), 0
            if held > furthest:
                self._retries.progressed()
            position, furthest = held, max(held, furthest)

    async def is_present(self) -> bool:
        """Whether the repository holds the blob already."""
        answer = await self._remote.fetch("HEAD", f"{self._path}{self._blob.digest}", self._scopes)
        if answer.status == 404:
            return False
        if answer.status != 200:
            raise self._remote.refused(answer)
        return True

    def _is_worth_another_try(self, error: ConnectionFailed | Refused, position: int) -> bool:
        if error is self._content_failure:
            return False  # that side has tried again already
        if isinstance(error, ConnectionFailed):
            return error.temporary
        # The session is gone; it stands elsewhere than we thought; its parts do not fit together.
        lost = error.status in (404, 416) or (error.status == 400 and position > 0)
        return lost or error.status in TEMPORARY_STATUSES

    async def _mount(self, mount_from: str, mount_scopes: tuple[str, ...]) -> URL | None:
        """None if the registry mounted the blob; otherwise an upload session, since mounting is only ever an offer."""
        query = f"?mount={quote(self._blob.digest, safe='')}&from={quote(mount_from, safe='')}"
        scopes = (*self._scopes, *mount_scopes)
        answer = await self._remote.fetch("POST", f"{self._path}uploads/{query}", scopes, headers=_NO_BODY)
        if answer.status == 201:
            return None
        return self._location(answer) if answer.status == 202 else await self._start()

    async def _start(self) -> URL:
        answer = await self._remote.fetch("POST", f"{self._path}uploads/", self._scopes, headers=_NO_BODY)
        return self._location(answer, 202)

    async def _send(self, position: int) -> None:
        """Sends the blob from `position` on and closes the upload."""
        headers, body = dict(_NO_BODY), None
        if self._blob.size - position > ONE_REQUEST_BYTES_MAX:
            await self._send_chunks(position)
        elif self._blob.size > position:
            headers, body = self._chunk(position)
        joint = "&" if self._session.raw_query_string else "?"
        url = URL(f"{self._session}{joint}digest={quote(self._blob.digest, safe='')}", encoded=True)
        commit_seconds = self._remote.transport.settings.commit_seconds
        answer = await self._remote.fetch(
            "PUT", url, self._scopes, headers=headers, body=body, silence_seconds=commit_seconds
        )
        if answer.status != 201:
            raise self._remote.refused(answer)

    async def _send_chunks(self, position: int) -> None:
        """Sends all from `position` on without closing the upload, as docker does."""
        while position < self._blob.size:
            headers, body = self._chunk(position)
            answer = await self._remote.fetch("PATCH", self._session, self._scopes, headers=headers, body=body)
            self._session = self._location(answer, 202)
            held = _held_bytes(answer)
            if held is None or held >= self._blob.size:
                break
            if held <= position:
                raise BadAnswer(f"{answer.request}: takes the bytes from {position} on and keeps none")
            position = held

    def _chunk(self, position: int) -> tuple[dict[str, str], Callable[[], AsyncIterator[bytes]]]:
        headers = {"Content-Type": OCTET_STREAM, "Content-Length": str(self._blob.size - position)}
        if position:
            headers["Content-Range"] = f"{position}-{self._blob.size - 1}"
        return headers, lambda: self._bytes_from(position)

    async def _bytes_from(self, position: int) -> AsyncIterator[bytes]:
        try:
            while chunk := await self._content.read(position):
                yield chunk
                position += len(chunk)
                self._moved(position)
        except ClientError as error:
            self._content_failure = error
            raise

    async def _held_bytes(self) -> int | None:
        """From where the upload can go on, or None if it has to begin anew."""
        try:
            answer = await self._remote.fetch("GET", self._session, self._scopes)
        except (ConnectionFailed, BadAnswer):
            return None
        held = _held_bytes(answer)
        if answer.status != 204 or held is None or held > self._blob.size:
            return None
        self._moved(held)
        if answer.headers.get("Location"):
            self._session = self._location(answer)
        return held

    def _location(self, answer: Answer, expected_status: int | None = None) -> URL:
        if expected_status is not None and answer.status != expected_status:
            raise self._remote.refused(answer)
        location = answer.headers.get("Location")
        if not location:
            raise BadAnswer(f"{answer.request}: answers {answer.status} without saying where to go on")
        session = trust.resolve(answer.url, location)
        trust.check_redirect(answer.url, session)
        return session


def _held_bytes(answer: Answer) -> int | None:
    """How many bytes the registry says that the upload session has. `0-0` is how it says none."""
    found = _RANGE.fullmatch(answer.headers.get("Range", ""))
    if found is None:
        return None
    last = int(found[1])
    return last + 1 if last else 0
