"""Whether an upstream shows a repository to everybody, where we log in: what it does not, is private here, too.

Holds: in doubt it is private. The repository of ours is marked before anything of it can be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from homeport.client.errors import ClientError
from homeport.mirror.addresses import Source
from homeport.registry import visibility
from homeport.registry.registry import Registry
from homeport.upstreams.upstreams import Purpose, Upstreams

#: How long the answer is believed.
BELIEVED_SECONDS: Final = 86_400.0
#: How many answers are remembered; then all are forgotten and asked anew.
_REMEMBERED_MAX: Final = 10_000


@dataclass(frozen=True, slots=True)
class _Answer:
    is_public: bool
    asked_at: float


class Publicity:
    """What upstreams show to everybody, asked once a day for each repository. A HEAD of a manifest is no pull."""

    def __init__(self, registry: Registry, upstreams: Upstreams) -> None:
        self._registry = registry
        self._upstreams = upstreams
        self._answers: dict[tuple[Source, str], _Answer] = {}

    async def settle(self, source: Source, reference: str, repository: str) -> bool:
        """Whether everybody may have what is fetched from `source`; if not, `repository` is private from now on.

        `reference`: a tag or digest that is asked for without a login. A failure to ask counts until the next call.
        """
        if not self._upstreams.has_login(source.host):
            return True
        now = self._registry.clock.monotonic()
        known = self._answers.get((source, repository))
        if known is not None and now - known.asked_at < BELIEVED_SECONDS:
            return known.is_public
        try:
            anonymous = await self._upstreams.repository(source.host, source.repository, Purpose.RUNS, login=False)
            is_public = await anonymous.head_manifest(reference) is not None
            answered = True
        except ClientError as error:
            is_public = False
            answered = getattr(error, "status", None) in (401, 403, 404)
        await self._registry.db.write(visibility.set_private, repository, private=not is_public)
        if answered:
            if len(self._answers) >= _REMEMBERED_MAX:
                self._answers.clear()
            self._answers[source, repository] = _Answer(is_public, now)
        return is_public
