"""Whether an upstream shows a repository to everybody, where we log in: what it does not, is private here, too.

Holds: in doubt it is private. The repository of ours is marked before anything of it can be read. What was public and
is here stays so while upstream cannot tell, and gets nothing new. Where several sources meet in one repository, that
one of them is for everybody opens nothing of the others.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from homeport.client.errors import ClientError, Refused
from homeport.db.database import Transaction
from homeport.mirror import origins, remaining
from homeport.mirror.addresses import Source
from homeport.mirror.memory import Memory
from homeport.registry import privacy, repositories
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, UpstreamRepository, Upstreams

#: How long the answer is believed; and for how long it is not asked for again where there was none.
BELIEVED_SECONDS: Final = 86_400.0
UNTOLD_SECONDS: Final = 300.0
#: How many answers are remembered.
REMEMBERED_MAX: Final = 10_000

#: Whether everybody is shown something of a repository; asking it costs no pull.
Shown: TypeAlias = Callable[[UpstreamRepository], Awaitable[bool]]


class Untold(ClientError):
    """An upstream cannot tell now whether it shows to everybody what it did show."""


class Publicity:
    """What upstreams show to everybody, asked once a day for each repository."""

    def __init__(self, registry: Registry, upstreams: Upstreams) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._answers: Memory[tuple[Source, str], bool] = Memory(registry.clock, REMEMBERED_MAX)

    async def known(self, source: Source, repository: str) -> bool | None:
        """What `settle` would say without asking; None: it would ask."""
        known = self._answers.get((source, repository))
        if known is None and not self._upstreams.has_login(source.host):
            # What was fetched with a login that is given up stays private until everybody is shown it.
            return None if await self._registry.db.read(privacy.is_private, repository) else True
        return known

    async def settle(self, source: Source, repository: str, shown: Shown, purpose: Purpose) -> bool:
        """Whether everybody may have what is fetched from `source`; if not, `repository` is private from now on.

        `shown` is about something that is there for those who log in. Raises `Untold`.
        """
        known = await self.known(source, repository)
        if known is not None:
            return known
        was_private = await self._registry.db.read(privacy.is_private, repository)
        is_public: bool | None
        try:
            everybody = await self._upstreams.repository(*source, purpose, login=False)
            is_public = await shown(everybody)
        except (ClientError, TimeoutError) as error:
            is_public = False if isinstance(error, Refused) and error.status in {401, 403, 404} else None
            if is_public is None and not was_private and await self._registry.db.read(_is_here, repository):
                raise Untold(f"{source}: cannot tell whether it is for everybody still: {error}") from None
        if was_private == bool(is_public):
            await self._registry.db.write(_note, source, repository, is_public=bool(is_public))
        seconds = UNTOLD_SECONDS if is_public is None else BELIEVED_SECONDS
        self._answers.put((source, repository), bool(is_public), seconds)
        return bool(is_public)


def manifest_shown(reference: str) -> Shown:
    """By a tag or digest. A HEAD of a manifest is no pull."""

    async def shown(everybody: UpstreamRepository) -> bool:
        return await everybody.head_manifest(reference) is not None

    return shown


# --- facts ------------------------------------------------------------------------------------------------------


def _note(tx: Transaction, source: Source, repository: str, *, is_public: bool) -> None:
    """Write down what upstream shows of the source; for everybody is only what no other source has anything in."""
    if not is_public or not (
        origins.has_others(tx, repository, source) or remaining.has_others(tx, repository, source)
    ):
        privacy.set_private(tx, repository, private=not is_public)


def _is_here(tx: Transaction, repository: str) -> bool:
    return repositories.find(tx, repository) is not None
