"""Blobs by digest: end-2 and end-10 of the distribution-spec."""

from __future__ import annotations

from collections.abc import AsyncIterator

from homeport.auth.permissions import Right, may
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, RangeInvalid
from homeport.registry import blobs
from homeport.registry.blobs import Blob
from homeport.server import failures, ranges
from homeport.server.access import require
from homeport.server.conditions import is_known, range_applies
from homeport.server.context import Call
from homeport.server.http import Headers, Response
from homeport.server.pullers import counts
from homeport.server.ranges import ByteRange


async def get(call: Call) -> Response:
    """GET of a blob, whole or in ranges."""
    require(call, Right.PULL)
    digest = Digest.parse(call.reference)
    blob = await blobs.get(call.registry, call.repository, digest)
    headers = _headers(digest)
    if is_known(call.request, digest):
        return Response(304, headers)
    await _check_whole(call, blob)
    header = call.request.header(b"range")
    if header is not None and range_applies(call.request, digest):
        try:
            asked = ranges.parse(header, blob.size)
        except RangeInvalid as error:
            # RFC 9110, section 15.5.17: how much there is, for a client that is to ask again.
            return failures.response(error, [(b"content-range", b"bytes */%d" % blob.size)])
        if asked is not None:
            return _partial(call, blob, asked, headers)
    if counts(call.request, call.context.options.not_pulls):
        call.context.pulls.note(call.repository, digest, call.registry.clock.now())
    headers.append((b"content-type", b"application/octet-stream"))
    path = call.registry.blobs.path(blob.location)
    body = path if path is not None else call.registry.blobs.read(blob.location)
    return Response(200, headers, body, blob.size)


async def head(call: Call) -> Response:
    """HEAD of a blob. Whoever may push relies on the answer, so it is also a promise that the blob stays for a day."""
    require(call, Right.PULL)
    digest = Digest.parse(call.reference)
    if may(call.context.policy, call.actor, Right.PUSH, call.repository):
        blob = await blobs.get_and_keep(call.registry, call.repository, digest)
    else:
        blob = await blobs.get(call.registry, call.repository, digest)
    headers = _headers(digest)
    if is_known(call.request, digest):
        return Response(304, headers)
    await _check_whole(call, blob)
    headers.append((b"content-type", b"application/octet-stream"))
    return Response(200, headers, b"", blob.size)


async def delete(call: Call) -> Response:
    """DELETE of a blob from this repository."""
    require(call, Right.DELETE)
    await blobs.delete(call.registry, call.origin, call.repository, Digest.parse(call.reference))
    return Response(202)


async def _check_whole(call: Call, blob: Blob) -> None:
    if not await blobs.is_whole(call.registry, blob):
        call.context.log.error("blob.damaged", digest=blob.digest, repository=call.repository)
        raise BlobUnknown(f"{blob.digest}: its bytes on disk are damaged or gone; push it again to mend it")


def _headers(digest: Digest) -> Headers:
    text = digest.encode()
    return [
        (b"docker-content-digest", text),
        (b"etag", b'"%b"' % text),
        (b"accept-ranges", b"bytes"),
        (b"cache-control", b"private, max-age=31536000, immutable"),
    ]


def _partial(call: Call, blob: Blob, asked: list[ByteRange], headers: Headers) -> Response:
    store = call.registry.blobs
    if len(asked) == 1:
        (one,) = asked
        headers += [(b"content-type", b"application/octet-stream"), (b"content-range", one.content_range(blob.size))]
        return Response(206, headers, store.read(blob.location, one.start, one.stop), one.stop - one.start)
    # RFC 9110, section 15.3.7.2. The boundary can't occur in what it separates by chance: 128 random bits.
    boundary = call.registry.clock.new_id().encode()
    heads = [
        b"\r\n--%b\r\ncontent-type: application/octet-stream\r\ncontent-range: %b\r\n\r\n"
        % (boundary, one.content_range(blob.size))
        for one in asked
    ]
    end = b"\r\n--%b--\r\n" % boundary
    length = sum(map(len, heads)) + sum(one.stop - one.start for one in asked) + len(end)

    async def parts() -> AsyncIterator[bytes]:
        for head, one in zip(heads, asked, strict=True):
            yield head
            async for part in store.read(blob.location, one.start, one.stop):
                yield part
        yield end

    headers.append((b"content-type", b"multipart/byteranges; boundary=" + boundary))
    return Response(206, headers, parts(), length)
