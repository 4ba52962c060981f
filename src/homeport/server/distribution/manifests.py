"""Manifests by tag and by digest: end-3, end-7a, end-7b and end-9 of the distribution-spec."""

from __future__ import annotations

from urllib.parse import quote

from homeport.auth.permissions import Right, may
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestInvalid, RequestInvalid
from homeport.oci.reference import check_tag
from homeport.registry import blobs, manifests, tags
from homeport.server.access import from_cache, require
from homeport.server.conditions import is_known
from homeport.server.context import Call
from homeport.server.http import Response
from homeport.server.pullers import counts
from homeport.server.pullthrough import warned

#: Tags that one push may set. The spec asks for ten at least.
TAGS_MAX = 100


async def get(call: Call) -> Response:
    """GET and HEAD of a manifest. `Accept` is not looked at: what was pushed is what is served."""
    await require(call, Right.PULL)
    reference = call.reference
    if ":" in reference:
        Digest.parse(reference)
    else:
        check_tag(reference)
    size = warning = None
    if (cache := call.cache) is not None:
        served = await from_cache(call, cache.manifest(call.repository, reference, head=call.request.method == "HEAD"))
        stored, size, warning = served.stored, served.size, served.warning
    else:
        stored = await manifests.get(call.registry, call.repository, reference)
        if call.request.method == "HEAD" and may(call.context.policy, call.actor, Right.PUSH, call.repository):
            # Whoever may push relies on it being here (an index that names it may come hours later), as with blobs.
            await blobs.get_and_keep(call.registry, call.repository, stored.digest)
    digest = stored.digest.encode()
    headers = [
        (b"content-type", stored.media_type.encode("latin-1")),
        (b"docker-content-digest", digest),
        (b"etag", b'"%b"' % digest),
        *warned(warning),
    ]
    if is_known(call.request, stored.digest):
        return Response(304, headers)
    if call.request.method == "GET" and counts(call.request, call.context.options.not_pulls):
        call.context.pulls.note(call.repository, reference, call.registry.clock.now())
    return Response(200, headers, stored.data, size)


async def put(call: Call) -> Response:
    """PUT of a manifest under a tag or a digest; with a digest, any number of tags as `tag=` parameters."""
    await require(call, Right.PULL, Right.PUSH)
    call.registry.check_writable()
    content_type = call.request.header(b"content-type")
    if content_type is None:
        raise ManifestInvalid("the request has no Content-Type, which says what kind of manifest it is")
    names = call.request.query.get("tag", [])
    if ":" not in call.reference:
        names = [call.reference, *names]
    if len(names) > TAGS_MAX:
        raise RequestInvalid(f"one push sets at most {TAGS_MAX} tags")
    for name in names:
        check_tag(name)
    promised = Digest.parse(call.reference) if ":" in call.reference else None
    data = await call.request.body(call.context.options.manifest_bytes_max)
    digest = promised or Digest.of(data)
    pushed = await manifests.push(call.registry, call.origin, call.repository, data, content_type, digest, names)
    location = f"/v2/{call.repository}/manifests/{quote(call.reference, safe=':')}"
    headers = [(b"location", location.encode("ascii")), (b"docker-content-digest", digest.encode())]
    if pushed.subject is not None:
        headers.append((b"oci-subject", pushed.subject.encode()))
    if promised is not None and names:
        headers.append((b"oci-tag", ", ".join(names).encode("ascii")))
    return Response(201, headers)


async def delete(call: Call) -> Response:
    """DELETE of a tag, or of a manifest with all its tags."""
    await require(call, Right.DELETE)
    if ":" in call.reference:
        await manifests.delete(call.registry, call.origin, call.repository, Digest.parse(call.reference))
    else:
        await tags.delete(call.registry, call.origin, call.repository, check_tag(call.reference))
    return Response(202)
