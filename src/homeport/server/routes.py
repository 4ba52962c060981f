"""The routes of the registry protocol: one flat table, and the one function that reads a path.

Holds: a path has one reading. A digest has a colon and an upload id has none, so the shapes below are unambiguous even
for repositories that are called `manifests` or `blobs/uploads`. What is percent-encoded never becomes a separator.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from typing import Final, NamedTuple, TypeAlias
from urllib.parse import unquote_to_bytes

from homeport.oci.errors import NotFound
from homeport.oci.reference import check_repository
from homeport.server.context import Call
from homeport.server.distribution import blobs, lists, manifests, uploads
from homeport.server.http import Response

Handler: TypeAlias = Callable[[Call], Awaitable[Response]]


class Route(NamedTuple):
    """What a path means."""

    name: str
    repository: str
    reference: str


#: Route and method to handler. HEAD is GET without the body where it does not stand here by itself.
HANDLERS: Mapping[str, Mapping[str, Handler]] = {
    "catalog": {"GET": lists.catalog},
    "tags": {"GET": lists.tag_list},
    "referrers": {"GET": lists.referrer_list},
    "manifest": {"GET": manifests.get, "PUT": manifests.put, "DELETE": manifests.delete},
    "blob": {"GET": blobs.get, "HEAD": blobs.head, "DELETE": blobs.delete},
    "uploads": {"POST": uploads.start},
    "upload": {"GET": uploads.status, "PATCH": uploads.patch, "PUT": uploads.put, "DELETE": uploads.cancel},
}

#: The routes that are there at the mirror door.
AT_DOOR: Final = frozenset({"manifest", "blob", "tags", "referrers"})

#: Longer paths are read each time they come, so that what is remembered stays small.
_REMEMBERED_BYTES_MAX = 512

_ENCODED = re.compile(rb"%(?![0-9A-Fa-f]{2})|%2[Ff]|%5[Cc]|%[01][0-9A-Fa-f]|%7[Ff]")


def handler(name: str, method: str) -> Handler | None:
    """What answers requests of this method to the route; None: it has no such method."""
    handlers = HANDLERS[name]
    return handlers.get(method) or (handlers.get("GET") if method == "HEAD" else None)


def read(raw_path: bytes) -> Route:
    """The route of a path below `/v2/`. Raises `NotFound`, or `NameInvalid` for the repository's name."""
    return _remembered(raw_path) if len(raw_path) <= _REMEMBERED_BYTES_MAX else _read(raw_path)


def _read(raw_path: bytes) -> Route:
    path = _decoded(raw_path)
    if path == "/v2/_catalog":
        return Route("catalog", "", "")
    parts = path[len("/v2/") :].rsplit("/", 2)
    if len(parts) != 3:
        raise NotFound(path[:200])
    head, kind, reference = parts
    if kind == "manifests":
        return Route("manifest", check_repository(head), reference)
    if kind == "blobs" and ":" in reference:
        return Route("blob", check_repository(head), reference)
    if kind == "blobs" and reference == "uploads":
        return Route("uploads", check_repository(head), "")
    if kind == "uploads" and head.endswith("/blobs") and ":" not in reference:
        return Route("upload" if reference else "uploads", check_repository(head.removesuffix("/blobs")), reference)
    if kind == "tags" and reference == "list":
        return Route("tags", check_repository(head), "")
    if kind == "referrers":
        return Route("referrers", check_repository(head), reference)
    raise NotFound(path[:200])


_remembered = lru_cache(maxsize=8192)(_read)


def _decoded(raw_path: bytes) -> str:
    """The path as text. No name has a character that needs encoding, but some clients encode the colon of a digest."""
    if b"%" in raw_path:
        if _ENCODED.search(raw_path):
            raise NotFound("the path has an encoded separator or control character")
        raw_path = unquote_to_bytes(raw_path)
        if b"%" in raw_path:
            raise NotFound("the path is encoded twice")
    try:
        return raw_path.decode("ascii")
    except UnicodeDecodeError:
        raise NotFound("the path has characters that no name has") from None
