"""Blobs by digest: end-2 and end-10 of the distribution-spec."""

from __future__ import annotations

from collections.abc import AsyncIterator

from homeport.auth.permissions import Right, may
from homeport.oci.digest import Digest
from homeport.oci.errors import BlobUnknown, RangeInvalid
from homeport.registry import blobs
from homeport.registry.blobs import Blob
from homeport.server import failures, ranges
from homeport.server.access import from_cache, require
from homeport.server.conditions import is_known, range_applies
from homeport.server.context import Call
from homeport.server.http import Headers, Response
from homeport.server.pullers import counts
from homeport.server.pullthrough import Coming, PullThrough
from homeport.server.ranges import ByteRange


async def get(call: Call) -> Response:
    """GET of a blob, whole or in ranges."""
    await require(call, Right.PULL)
    digest = Digest.parse(call.reference)
    if (cache := call.cache) is not None:
        found = await from_cache(call, cache.blob(call.repository, digest))
    else:
        found = await blobs.get(call.registry, call.repository, digest)
    headers = _headers(digest)
    if is_known(call.request, digest):
        return Response(304, headers)
    if isinstance(found, Blob):
        await _check_whole(call, found)
    try:
        asked = _asked(call, digest, found.size)
    except RangeInvalid as error:
        return _outside(error, found.size)
    if not isinstance(found, Blob):
        return _coming(call, digest, found, asked, headers)
    if asked is not None:
        return _partial(call, found, asked, headers)
    _note(call, digest)
    headers.append((b"content-type", b"application/octet-stream"))
    path = call.registry.blobs.path(found.location)
    body = path if path is not None else call.registry.blobs.read(found.location)
    return Response(200, headers, body, found.size)


async def head(call: Call) -> Response:
    """HEAD of a blob. Whoever may push relies on the answer, so it is also a promise that the blob stays for a day."""
    await require(call, Right.PULL)
    digest = Digest.parse(call.reference)
    if not call.at_door and may(call.context.policy, call.actor, Right.PUSH, call.repository):
        blob = await blobs.get_and_keep(call.registry, call.repository, digest)
    elif (cache := call.cache) is not None:
        return await _head_through(call, cache, digest)
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
    await require(call, Right.DELETE)
    await blobs.delete(call.registry, call.origin, call.repository, Digest.parse(call.reference))
    return Response(202)


async def _check_whole(call: Call, blob: Blob) -> None:
    if not await blobs.is_whole(call.registry, blob):
        call.context.log.error("blob.damaged", digest=blob.digest, repository=call.repository)
        raise BlobUnknown(f"{blob.digest}: its bytes on disk are damaged or gone; push it again to mend it")


async def _head_through(call: Call, cache: PullThrough, digest: Digest) -> Response:
    """HEAD of a blob that upstream has, which is not fetched for that."""
    size = await from_cache(call, cache.blob_size(call.repository, digest))
    headers = _headers(digest)
    if is_known(call.request, digest):
        return Response(304, headers)
    headers.append((b"content-type", b"application/octet-stream"))
    return Response(200, headers, b"", size)


def _asked(call: Call, digest: Digest, size: int) -> list[ByteRange] | None:
    """The ranges of the blob that are asked for; None: all of it. Raises `RangeInvalid`."""
    header = call.request.header(b"range")
    if header is None or not range_applies(call.request, digest):
        return None
    return ranges.parse(header, size)


def _coming(call: Call, digest: Digest, blob: Coming, asked: list[ByteRange] | None, headers: Headers) -> Response:
    """A blob that is sent as it comes. Of many ranges the whole is sent: they would have to come in that order."""
    headers.append((b"content-type", b"application/octet-stream"))
    if asked is not None and len(asked) == 1:
        (one,) = asked
        headers.append((b"content-range", one.content_range(blob.size)))
        return Response(206, headers, blob.read(one.start, one.stop), one.stop - one.start)
    _note(call, digest)
    return Response(200, headers, blob.read(0, blob.size), blob.size)


def _outside(error: RangeInvalid, size: int) -> Response:
    """416 with how much there is, for a client that is to ask again. Source: RFC 9110, section 15.5.17."""
    return failures.response(error, [(b"content-range", b"bytes */%d" % size)])


def _note(call: Call, digest: Digest) -> None:
    """The blob is pulled, whole."""
    if counts(call.request, call.context.options.not_pulls):
        call.context.pulls.note(call.repository, digest, call.registry.clock.now())


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
