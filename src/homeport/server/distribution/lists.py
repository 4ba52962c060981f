"""Lists: repositories, tags and referrers. `_catalog`, end-8 and end-12 of the distribution-spec."""

from __future__ import annotations

from homeport.auth.actors import ANONYMOUS
from homeport.auth.permissions import Right, listable, may_list
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import NameUnknown
from homeport.registry import referrers, repositories, tags
from homeport.registry.referrers import Referrer
from homeport.server import paging
from homeport.server.access import anonymous_may_pull_something, refuse, require
from homeport.server.context import Call
from homeport.server.http import Headers, Response, json_response

#: Names that are looked at in one go while the caller's are picked out, so that the event loop gets its turn.
_CATALOG_STEP = 500
#: Referrers on one page: each is described from its manifest, so they cost more than names.
_REFERRERS_MAX = 500

_CATALOG_SCOPE = "registry:catalog:*"


async def catalog(call: Call) -> Response:
    """GET of `_catalog`: the repositories that have something to pull, for this caller, in ASCII order."""
    context = call.context
    if not may_list(call.actor) or (call.actor == ANONYMOUS and not anonymous_may_pull_something(context.policy)):
        refuse(call.actor, _CATALOG_SCOPE)
    limit = paging.limit(call.request, context.options.page_entries_max)
    last = call.request.parameter("last") or ""
    names: list[str] = []
    while limit and len(names) <= limit:
        step = await context.registry.db.read(repositories.page, last, min(limit + 1, _CATALOG_STEP))
        names += [found.name for found in step if listable(context.policy, call.actor, found.name)]
        if len(step) < min(limit + 1, _CATALOG_STEP):
            break
        last = step[-1].name
        await context.registry.clock.sleep(0)
    headers = paging.link("/v2/_catalog", limit, names[limit - 1]) if len(names) > limit > 0 else []
    return json_response(200, {"repositories": names[:limit]}, headers)


async def tag_list(call: Call) -> Response:
    """GET of `tags/list`, in ASCII order."""
    require(call, Right.PULL)
    limit = paging.limit(call.request, call.context.options.page_entries_max)
    last = call.request.parameter("last") or ""
    names = await call.registry.db.read(tags.names, call.repository, last, limit + 1)
    if names is None:
        raise NameUnknown(call.repository)
    path = f"/v2/{call.repository}/tags/list"
    headers = paging.link(path, limit, names[limit - 1]) if len(names) > limit > 0 else []
    return json_response(200, {"name": call.repository, "tags": names[:limit]}, headers)


async def referrer_list(call: Call) -> Response:
    """GET of `referrers/<digest>`: an index of what refers to the digest, which need not be here."""
    require(call, Right.PULL)
    subject = Digest.parse(call.reference)
    limit = paging.limit(call.request, min(_REFERRERS_MAX, call.context.options.page_entries_max))
    last = call.request.parameter("last") or ""
    artifact_type = call.request.parameter("artifactType") or None
    found, more = await referrers.get(call.registry, call.repository, subject, artifact_type, last, limit)
    headers: Headers = [(b"content-type", mediatype.OCI_INDEX.encode())]
    filters = {}
    if artifact_type is not None:
        headers.append((b"oci-filters-applied", b"artifactType"))
        filters["artifactType"] = artifact_type
    if more and found:
        headers += paging.link(f"/v2/{call.repository}/referrers/{subject}", limit, found[-1].digest, **filters)
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [_descriptor(referrer) for referrer in found],
    }
    response = json_response(200, document)
    response.headers = headers
    return response


def _descriptor(referrer: Referrer) -> dict[str, object]:
    descriptor: dict[str, object] = {
        "mediaType": referrer.media_type,
        "digest": referrer.digest,
        "size": referrer.size,
    }
    if referrer.artifact_type is not None:
        descriptor["artifactType"] = referrer.artifact_type
    if referrer.annotations:
        descriptor["annotations"] = referrer.annotations
    return descriptor
