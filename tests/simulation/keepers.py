"""Whoever looks after a simulated registry: says what is in use, applies a policy, and brings back what was deleted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Final

from homeport.db.database import Transaction
from homeport.events import Origin
from homeport.garbage import purge
from homeport.oci import companions
from homeport.oci.digest import Digest
from homeport.oci.errors import (
    ManifestBlobUnknown,
    ManifestUnknown,
    NotInTrash,
    QuotaExceeded,
    ReferencedByManifest,
    Unavailable,
)
from homeport.registry import protections, repositories, restoring, standing, tags, trash
from homeport.registry.protections import Use
from homeport.registry.registry import Registry
from homeport.registry.retention import Tagged, decide
from homeport.testing.model import Change
from tests.simulation.asking import Asker, NoAnswer, going, whatever
from tests.simulation.oracle import Span
from tests.simulation.world import REPOSITORIES, TAGS

ACTIONS: Final = 6
ENGINE: Final = "engine"
#: A restore is refused where a part of it was purged just now, or swept again, a quota is full, or it took longer than
#: a write hold lasts.
_REFUSALS: Final = (NotInTrash, ManifestBlobUnknown, ManifestUnknown, QuotaExceeded, Unavailable)


class Keeper(Asker):
    """Does one of these things after the other."""

    async def work(self) -> None:
        for _ in range(ACTIONS):
            await self._attempt(self._draw_action())
            await self._world.clock.sleep(self._draw() * 0.5)

    def _draw_action(self) -> Callable[[], Awaitable[None]]:
        draw = self._draw()
        for share, action in (
            (0.35, self._restore),
            (0.15, self._restore_a_tag),
            (0.20, self._purge),
            (0.15, self._apply_the_policy),
        ):
            if draw < share:
                return action
            draw -= share
        return self._report_what_runs

    # --- bringing back ------------------------------------------------------------------------------------------

    async def _restore(self) -> None:
        listed = await self._world.observed.read(trash.links, None, ("", ""), 1_000)
        if not listed:
            return
        found = await self._world.observed.read(going, self._world.clock.now())
        # Rather what a sweep is about to take.
        one = self._one([one for one in listed if one.digest in found and self._draw() < 0.8] or listed)
        names = [self._one(TAGS)] if one.media_type is not None and self._draw() < 0.5 else []
        await self._ask(
            f"restore {one.repository}@{one.digest[:15]} as {names}",
            lambda origin: restoring.restore(self._registry, origin, one.repository, one.digest, names),
            answer=lambda _: (
                lambda model: (
                    model.has_blob(one.repository, one.digest)
                    and all(model.tag(one.repository, name) == one.digest for name in names)
                )
            ),
            refusals=dict.fromkeys(_REFUSALS, whatever),
            causes=self._changes_of_a_restore(one.repository, names),
            # A blob that somebody pushed just now is there; if the power takes it back, it is in the trash again.
            durable=one.media_type is not None,
            promises=[(one.repository, one.digest)] if one.media_type is not None else [],
            gradual=True,
        )

    async def _restore_a_tag(self) -> None:
        repository, name = self._one(REPOSITORIES), self._one(TAGS)
        await self._ask(
            f"restore {repository}:{name}",
            lambda origin: restoring.restore_tag(self._registry, origin, repository, name, None),
            answer=lambda digest: lambda model: model.tag(repository, name) == digest,
            refusals=dict.fromkeys(_REFUSALS, whatever),
            causes=self._changes_of_a_restore(repository, [name]),
            durable=True,
            gradual=True,
        )

    async def _purge(self) -> None:
        """Let go of one thing for good, with what only it needs, and of the bytes of all that."""
        listed = await self._world.observed.read(trash.links, None, ("", ""), 1_000)
        if not listed:
            return
        twice = [one for one in listed if sum(other.digest == one.digest for other in listed) > 1]
        # Rather something that another repository can have back.
        one = self._one(twice if twice and self._draw() < 0.7 else listed)

        async def purge_one(origin: Origin) -> None:
            links = await purge.choose(self._registry, one.repository, one.digest)
            self._world.purged.update({(link.repository, link.digest): self._world.clock.now() for link in links})
            await purge.purge(self._registry, origin, links)

        await self._ask(
            f"purge {one.repository}@{one.digest[:15]}",
            purge_one,
            refusals=dict.fromkeys((NotInTrash, ReferencedByManifest), whatever),
        )

    def _changes_of_a_restore(self, repository: str, names: list[str]) -> Iterator[Change]:
        for data in self._world.blobs:
            yield Change("blob.restored", repository, Digest.of(data))
        for digest in self._world.contents:
            # A manifest that was deleted while nothing but its own link was here comes back as the blob that it is.
            yield Change("blob.restored", repository, digest)
            yield Change("manifest.pushed", repository, digest)
            for name in names:
                yield Change("tag.set", repository, digest, name)

    # --- what goes and what stays -------------------------------------------------------------------------------

    async def _apply_the_policy(self) -> None:
        repository = self._one(REPOSITORIES)
        await self._ask(
            f"apply the policy to {repository}",
            lambda origin: self._registry.db.write(_remove_tags, self._registry, origin, repository),
            causes=[
                Change("tag.deleted", repository, digest, name) for digest in self._world.contents for name in TAGS
            ],
        )

    async def _report_what_runs(self) -> None:
        images = [image for image in self._world.images if self._draw() < 0.25]
        # An engine knows an image by its manifest, or by its config.
        digests = [
            Digest.of(image.blobs[-1]) if image.blobs and self._draw() < 0.3 else image.digest for image in images
        ]
        uses = [Use(f"service {number}", "current", "image", digest) for number, digest in enumerate(digests)]
        clock, oracle = self._world.clock, self._world.ledger.oracle
        span = Span(clock.now())
        oracle.reports.append((span, frozenset(digests)))
        try:
            await self._ask(
                f"report that {[digest[:15] for digest in digests]} run",
                lambda _: self._registry.db.write(protections.report, self._registry.clock, ENGINE, uses, 0),
            )
        except NoAnswer:
            return
        span.ended = clock.now()


def _remove_tags(tx: Transaction, registry: Registry, origin: Origin, repository: str) -> None:
    """What the policy decides, done at once."""
    repository_id = repositories.find(tx, repository)
    found = tags.page(tx, repository, "", 1_000)
    if repository_id is None or found is None:
        return
    by_name = {tag.name: tag for tag in found}
    tagged = [
        Tagged(
            tag.name,
            tag.digest,
            tag.pushed_at,
            in_use=standing.in_use(tx, repository_id, tag.digest),
            companion_of=_subject(tag.name),
        )
        for tag in found
    ]
    for decision in decide(registry.rules.retention, repository, tagged, registry.clock.now()):
        if not decision.keeps:
            tags.remove(
                tx, registry, origin, repository, repository_id, by_name[decision.tag.name], reason=decision.reason
            )


def _subject(name: str) -> Digest | None:
    subject = companions.subject(name)
    return Digest(subject) if subject is not None else None
