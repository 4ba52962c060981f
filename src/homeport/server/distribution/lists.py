"""Lists: repositories, tags and referrers. `_catalog`, end-8 and end-12 of the distribution-spec."""

from __future__ import annotations

from bisect import bisect_right

from homeport.auth.actors import Actor
from homeport.auth.permissions import Policy, Right, may_list
from homeport.db.database import Transaction
from homeport.oci import mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import NameUnknown
from homeport.registry import referrers, repositories, tags
from homeport.registry.referrers import Referrer
from homeport.server import paging
from homeport.server.access import from_cache, may_pull_something, refuse, require, shown
from homeport.server.context import Call
from homeport.server.http import Headers, Response, json_response
from homeport.server.pullthrough import warned

#: Names that are looked at in one go while the caller's are picked out, so that the event loop gets its turn.
_CATALOG_STEP = 500
#: Referrers on one page: each is described from its manifest, so they cost more than names.
_REFERRERS_MAX = 500

_CATALOG_SCOPE = "registry:catalog:*"


async def catalog(call: Call) -> Response:
    """GET of `_catalog`: the repositories that have something to pull, for this caller, in ASCII order."""
    context = call.context
    actor, policy = call.actor, context.policy
    if not may_list(actor) or (actor.is_nobody and not may_pull_something(policy, actor)):
        refuse(call.actor, _CATALOG_SCOPE)
    limit = paging.limit(call.request, context.options.page_entries_max)
    last = call.request.parameter("last") or ""
    names: list[str] = []
    while limit and len(names) <= limit:
        step = await context.registry.db.read(repositories.page, last, min(limit + 1, _CATALOG_STEP))
        names += await context.registry.db.read(_shown, policy, actor, [found.name for found in step])
        if len(step) < min(limit + 1, _CATALOG_STEP):
            break
        last = step[-1].name
        await context.registry.clock.sleep(0)
    headers = paging.link("/v2/_catalog", limit, names[limit - 1]) if len(names) > limit > 0 else []
    return json_response(200, {"repositories": names[:limit]}, headers)


async def tag_list(call: Call) -> Response:
    """GET of `tags/list`, in ASCII order."""
    await require(call, Right.PULL)
    limit = paging.limit(call.request, call.context.options.page_entries_max)
    last = call.request.parameter("last") or ""
    warning = None
    if (cache := call.cache) is not None:
        every, warning = await from_cache(call, cache.tags(call.repository))
        start = bisect_right(every, last)
        names: list[str] | None = every[start : start + limit + 1]
    else:
        names = await call.registry.db.read(tags.names, call.repository, last, limit + 1)
    if names is None:
        raise NameUnknown(call.repository)
    path = f"{call.base}/{call.repository}/tags/list"
    headers = warned(warning) + (paging.link(path, limit, names[limit - 1]) if len(names) > limit > 0 else [])
    return json_response(200, {"name": call.repository, "tags": names[:limit]}, headers)


async def referrer_list(call: Call) -> Response:
    """GET of `referrers/<digest>`: an index of what refers to the digest, which need not be here."""
    await require(call, Right.PULL)
    subject = Digest.parse(call.reference)
    limit = paging.limit(call.request, min(_REFERRERS_MAX, call.context.options.page_entries_max))
    last = call.request.parameter("last") or ""
    artifact_type = call.request.parameter("artifactType") or None
    warning = None
    if (cache := call.cache) is not None:
        warning = await from_cache(call, cache.referrers(call.repository, subject))
    found, more = await referrers.get(call.registry, call.repository, subject, artifact_type, last, limit)
    headers: Headers = [(b"content-type", mediatype.OCI_INDEX.encode()), *warned(warning)]
    filters = {}
    if artifact_type is not None:
        headers.append((b"oci-filters-applied", b"artifactType"))
        filters["artifactType"] = artifact_type
    if more and found:
        headers += paging.link(f"{call.base}/{call.repository}/referrers/{subject}", limit, found[-1].digest, **filters)
    document = {
        "schemaVersion": 2,
        "mediaType": mediatype.OCI_INDEX,
        "manifests": [_descriptor(referrer) for referrer in found],
    }
    response = json_response(200, document)
    response.headers = headers
    return response


def _shown(tx: Transaction, policy: Policy, actor: Actor, names: list[str]) -> list[str]:
    """Those of the names that the actor is told of."""
    return [name for name in names if shown(tx, policy, actor, name)]


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
