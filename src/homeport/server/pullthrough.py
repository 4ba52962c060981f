"""What the handlers ask of the pull-through cache, and how what it says beside an answer is told.

`mirror/cache.py` is what answers. Holds: no answer reaches a client but by `server/access.py::from_cache`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from homeport.oci.digest import Digest
from homeport.registry.blobs import Blob
from homeport.registry.manifests import Stored
from homeport.server.http import Headers

#: Longer warnings are cut: they stand in a header.
WARNING_CHARACTERS_MAX = 200


class Served(Protocol):
    """A manifest, and what is to be said of it. For a HEAD `stored` may have no bytes; `size` says how many it has."""

    @property
    def stored(self) -> Stored: ...
    @property
    def size(self) -> int: ...
    @property
    def warning(self) -> str | None: ...


class Coming(Protocol):
    """A blob of which not every byte is here yet."""

    @property
    def size(self) -> int: ...
    def read(self, start: int, stop: int, /) -> AsyncIterator[bytes]:
        """Its bytes from `start` to before `stop`, as they come. Raises when they will not."""
        ...


class PullThrough(Protocol):
    """Serves repositories of other registries as ours, and fetches what is not here.

    What upstream does not show to everybody is private (`registry/privacy.py`) before any of these returns.
    """

    def covers(self, repository: str) -> bool:
        """Whether it is asked for that repository of ours."""
        ...

    async def manifest(self, repository: str, reference: str, /, *, head: bool) -> Served:
        """The manifest by tag or digest. Raises `RegistryError`."""
        ...

    async def blob(self, repository: str, digest: Digest, /) -> Blob | Coming:
        """The blob, which may only be on its way. Raises `RegistryError`."""
        ...

    async def blob_size(self, repository: str, digest: Digest, /) -> int:
        """How long the blob is, which is not fetched for that. Raises `RegistryError`."""
        ...

    async def tags(self, repository: str, /) -> tuple[list[str], str | None]:
        """The tags of upstream and ours in ASCII order, and a warning."""
        ...

    async def referrers(self, repository: str, subject: Digest, /) -> str | None:
        """Bring here what refers to the subject; a warning where that may not be all."""
        ...


def warned(warning: str | None) -> Headers:
    """The header that says it. Source: RFC 7234, section 5.5; distribution-spec, "Warnings"."""
    if warning is None:
        return []
    text = "".join(c for c in warning[:WARNING_CHARACTERS_MAX] if c.isascii() and c.isprintable() and c not in '"\\')
    return [(b"warning", f'299 - "{text}"'.encode("ascii"))]
