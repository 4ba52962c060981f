"""Upload sessions: end-4a to end-6, end-11, end-13 and end-14 of the distribution-spec."""

from __future__ import annotations

import re

from homeport.auth.permissions import Right
from homeport.db.database import Transaction
from homeport.oci.digest import ENCODED_CHARACTERS, Digest
from homeport.oci.errors import BlobUploadInvalid, BlobUploadUnknown, DigestInvalid, RangeInvalid, SizeInvalid
from homeport.oci.reference import is_repository
from homeport.registry import blobs, uploads
from homeport.server.access import require, shown
from homeport.server.context import Call
from homeport.server.http import Headers, Response

#: `<first>-<last>`, both inclusive; some clients write a unit, as HTTP has it, and a size.
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?([0-9]{1,18})-([0-9]{1,18})(?:/(?:[0-9]+|\*))?")
_UPLOAD = re.compile(r"[0-9a-f]{32}")


async def start(call: Call) -> Response:
    """POST: a mount, a whole blob in one request, or a new session."""
    await require(call, Right.PULL, Right.PUSH)
    call.registry.check_writable()
    algorithm = call.request.parameter("digest-algorithm")
    if algorithm is not None and algorithm not in ENCODED_CHARACTERS:
        raise DigestInvalid(f"'{algorithm[:40]}' is not among {', '.join(ENCODED_CHARACTERS)}")
    wanted = call.request.parameter("mount")
    if wanted is not None:
        mounted = await _mount(call, Digest.parse(wanted))
        if mounted is not None:
            return mounted
    promised = call.request.parameter("digest")
    if promised is not None and wanted is None:
        digest = Digest.parse(promised)
        async with call.request.receiving():
            await uploads.push(
                call.registry,
                call.origin,
                call.repository,
                digest,
                call.request.chunks(),
                call.request.content_length,
            )
        return _created(call, digest)
    upload = await uploads.start(call.registry, call.context.sessions, call.origin, call.repository)
    return Response(202, session_headers(call.repository, upload, 0))


async def status(call: Call) -> Response:
    """GET: how far the session is."""
    await require(call, Right.PULL, Right.PUSH)
    upload = _upload(call)
    size = await uploads.size(call.registry, call.origin, call.repository, upload)
    return Response(204, session_headers(call.repository, upload, size))


async def patch(call: Call) -> Response:
    """PATCH: a chunk with its place, or everything that is left without one, as docker sends it."""
    await require(call, Right.PULL, Right.PUSH)
    call.registry.check_writable()
    upload = _upload(call)
    offset, length = _content_range(call)
    async with call.request.receiving():
        size = await uploads.append(
            call.registry,
            call.context.sessions,
            call.origin,
            call.repository,
            upload,
            offset,
            call.request.chunks(length),
        )
    return Response(202, session_headers(call.repository, upload, size))


async def put(call: Call) -> Response:
    """PUT: the end of the session, perhaps with the last chunk, and the digest of it all."""
    await require(call, Right.PULL, Right.PUSH)
    call.registry.check_writable()
    upload = _upload(call)
    promised = call.request.parameter("digest")
    if promised is None:
        raise DigestInvalid("the closing PUT needs the parameter 'digest'")
    digest = Digest.parse(promised)
    offset, length = _content_range(call)
    async with call.request.receiving():
        await uploads.finish(
            call.registry,
            call.context.sessions,
            call.origin,
            call.repository,
            upload,
            digest,
            offset,
            call.request.chunks(length) if call.request.has_body else None,
        )
    return _created(call, digest)


async def cancel(call: Call) -> Response:
    """DELETE: forget the session. One's own, so it needs the right to push and not the right to delete."""
    await require(call, Right.PULL, Right.PUSH)
    await uploads.cancel(call.registry, call.context.sessions, call.origin, call.repository, _upload(call))
    return Response(204)


async def _mount(call: Call, digest: Digest) -> Response | None:
    source = call.request.parameter("from")
    if source is not None and not is_repository(source):
        return None
    policy, actor = call.context.policy, call.actor

    def readable(tx: Transaction, name: str) -> bool:
        return shown(tx, policy, actor, name)

    mounted = await blobs.mount(call.registry, call.origin, call.repository, digest, source, readable)
    return _created(call, digest) if mounted is not None else None


def session_headers(repository: str, upload: str, size: int) -> Headers:
    """Where the session is and how much it has: the headers of every answer about one."""
    return [
        (b"location", f"/v2/{repository}/blobs/uploads/{upload}".encode("ascii")),
        (b"range", b"0-%d" % max(size - 1, 0)),
        (b"docker-upload-uuid", upload.encode("ascii")),
    ]


def _created(call: Call, digest: Digest) -> Response:
    location = f"/v2/{call.repository}/blobs/{digest}".encode("ascii")
    return Response(201, [(b"location", location), (b"docker-content-digest", digest.encode())])


def _upload(call: Call) -> str:
    if not _UPLOAD.fullmatch(call.reference):
        raise BlobUploadUnknown(call.reference[:80])
    return call.reference


def _content_range(call: Call) -> tuple[int | None, int | None]:
    """Where the chunk begins and how long it is; None where the client does not say."""
    header = call.request.header(b"content-range")
    if header is None:
        return None, None
    matched = _CONTENT_RANGE.fullmatch(header.strip())
    if matched is None:
        raise BlobUploadInvalid("Content-Range must be '<first byte>-<last byte>'")
    first, last = int(matched[1]), int(matched[2])
    length = last - first + 1
    announced = call.request.content_length
    if length <= 0:
        if announced == 0:
            return first, 0  # An empty last chunk can't be written in this notation; clients send "0-0" or "n-(n-1)".
        raise RangeInvalid(header[:80])
    if announced is not None and announced != length:
        if announced == 0:
            return None, 0
        raise SizeInvalid(f"Content-Range has {length} bytes, Content-Length {announced}")
    return first, length
