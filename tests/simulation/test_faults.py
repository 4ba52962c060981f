"""What the simulation must see: each rule of the protocol is left out, and one of the first seeds fails.

The rules are those of `docs/format.md`. What only rare interleavings show takes its time: `make long`.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from homeport import events
from homeport.clock import Clock
from homeport.db.database import Transaction
from homeport.garbage import sweep
from homeport.garbage.sweep import Sweeper
from homeport.oci.digest import Digest
from homeport.registry import blobs, manifests, quotas, reviews, standing, tags, trash, uploads
from homeport.registry.blobs import Blob
from homeport.registry.registry import Registry
from homeport.registry.reviews import BLOB, Review
from homeport.registry.standing import Link, Standing
from homeport.storage.disk import Disk
from homeport.testing.blobstore_faults import FailingStore
from homeport.testing.disk_faults import FailingDisk
from tests.simulation.life import simulate
from tests.simulation.world import Faults, place

#: How many seeds a fault may pass unseen: fewer than a hundred thousand steps take.
SEEDS_TO_SEE_A_FAULT = 150


def is_seen(faults: Faults | None = None) -> bool:
    """Whether one of the first seeds fails."""
    for seed in range(SEEDS_TO_SEE_A_FAULT):
        try:
            simulate(seed, faults)
        except AssertionError:
            return True
    return False


# --- bytes first, facts last ------------------------------------------------------------------------------------


class NoSync(FailingDisk):
    def sync(self, handle: int) -> None:
        pass


class NoFolderSync(FailingDisk):
    def sync_folder(self, path: Path) -> None:
        pass


class EarlyFinish(FailingStore):
    """Says where the bytes are before they are there."""

    async def finish(self, upload: str, digest: Digest) -> str:
        finishing = asyncio.ensure_future(super().finish(upload, digest))
        finishing.add_done_callback(lambda done: done.cancelled() or done.exception())
        return place(digest)


@pytest.mark.parametrize("disk", [NoSync, NoFolderSync])
def test_a_lost_sync(disk: Callable[[Disk], Disk]) -> None:
    assert is_seen(Faults(disk=disk))


def test_a_row_that_is_live_before_its_bytes() -> None:
    assert is_seen(Faults(store=EarlyFinish))


@pytest.mark.long
def test_an_upload_that_is_dropped_although_the_blob_is_not_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Because its file is there, which a crash may have left before it was durable, or a sweep may take."""
    hold = blobs.hold

    def hold_what_is_there(tx: Transaction, registry: Registry, digest: Digest, upload: str) -> Blob | None:
        found = hold(tx, registry, digest, upload)
        folder = registry.blobs._folder  # type: ignore[attr-defined]
        disk = getattr(folder._disk, "_disk", folder._disk)  # Below the one that fails.
        size = disk.size(folder.blob_path(place(digest)))
        return found or (None if size is None else Blob(digest, size, place(digest)))

    monkeypatch.setattr(blobs, "hold", hold_what_is_there)
    assert is_seen()


@pytest.mark.long
def test_an_offer_under_the_hold_of_another_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    offer = blobs.offer

    def offer_under_any(tx: Transaction, registry: Registry, repository: str, blob: Blob, upload: str) -> int:
        now = registry.clock.now()
        if tx.one("SELECT 1 FROM holds WHERE digest = ? AND expires_at > ?", (blob.digest, now)):
            tx.run("INSERT OR REPLACE INTO holds VALUES (?, ?, ?)", (blob.digest, upload, now + 1))
        return offer(tx, registry, repository, blob, upload)

    monkeypatch.setattr(blobs, "offer", offer_under_any)
    assert is_seen()


# --- what goes --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_bytes_that_go_before_the_row_was_condemned(monkeypatch: pytest.MonkeyPatch) -> None:
    look_at_blob = sweep._look_at_blob

    def look_and_retire(tx: Transaction, registry: Registry, digest: Digest) -> Counter[str]:
        counts = look_at_blob(tx, registry, digest)
        found = blobs.condition(tx, registry.clock.now(), digest)
        if found is not None and found.state == "condemned" and found.changed_at == registry.clock.now():
            blobs.retire(tx, registry, digest, found)
            reviews.drop(tx, BLOB, digest)
            counts["trashed"] += 1
        return counts

    monkeypatch.setattr(sweep, "_look_at_blob", look_and_retire)
    assert is_seen()


def test_bytes_that_go_without_a_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the sweep knows of a condemned blob is from an earlier transaction."""

    async def look_at_what_was_seen(self: Sweeper, page: list[Review], untagged_seconds: float | None) -> Counter[str]:
        registry = self._registry
        now = registry.clock.now()
        seen = {
            review.digest: await registry.db.read(blobs.condition, now, review.digest)
            for review in page
            if review.repository_id == BLOB
        }
        await registry.clock.sleep(registry.clock.random())

        def look(tx: Transaction) -> Counter[str]:
            condition = blobs.condition

            def remembered(tx: Transaction, now: float, digest: Digest) -> blobs.Condition | None:
                before = seen.get(digest)
                found = condition(tx, now, digest)
                return before if found is not None and before is not None and before.state == "condemned" else found

            with pytest.MonkeyPatch.context() as within:
                within.setattr(blobs, "condition", remembered)
                return sweep.look_at(tx, registry, page, untagged_seconds)

        return await registry.db.write(look)

    monkeypatch.setattr(Sweeper, "_look_at", look_at_what_was_seen)
    assert is_seen()


def test_a_promise_that_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    of = standing.of

    def of_unpromised(tx: Transaction, registry: Registry, link: Link, untagged_seconds: float | None) -> Standing:
        return of(tx, registry, replace(link, keep_until=0.0), untagged_seconds)

    monkeypatch.setattr(standing, "of", of_unpromised)
    assert is_seen()


def test_a_promise_that_is_not_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "keep", lambda *_: None)
    assert is_seen()


@pytest.mark.long
def test_an_upload_that_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "oldest_moving", lambda *_: None)
    assert is_seen()


def test_a_grace_that_counts_from_the_push(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(tx: Transaction, registry: Registry, repository_id: int, digest: Digest) -> None:
        if standing.find(tx, repository_id, digest) is not None:
            reviews.ask(tx, registry, repository_id, digest, registry.clock.now() + registry.rules.grace_seconds_min)

    monkeypatch.setattr(blobs, "release", release)
    assert is_seen()


def test_a_loss_of_which_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def release(tx: Transaction, registry: Registry, repository_id: int, digest: Digest) -> None:
        tx.run(
            "UPDATE links SET released_at = ? WHERE repository_id = ? AND digest = ?",
            (registry.clock.now(), repository_id, digest),
        )

    monkeypatch.setattr(blobs, "release", release)
    assert is_seen()


def test_companions_that_are_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "companions_of", lambda *_: [])
    assert is_seen()


def test_something_in_use_that_is_not_spared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "in_use", lambda *_: None)
    assert is_seen()


def test_a_deletion_without_the_trash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trash, "keep_link", lambda *_, **__: None)
    assert is_seen()


@pytest.mark.long
def test_a_purge_of_what_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    def purgeable(tx: Transaction, before: float, limit: int) -> list[trash.TrashedBlob]:
        rows = tx.all("SELECT digest FROM trashed_blobs WHERE retired_at < ? LIMIT ?", (before, limit))
        return [blob for (digest,) in rows for blob in trash.bytes_of(tx, digest)]

    monkeypatch.setattr(trash, "purgeable", purgeable)
    monkeypatch.setattr(trash, "may_purge", lambda *_: True)
    assert is_seen()


# --- what refers to what ----------------------------------------------------------------------------------------


def test_a_manifest_without_its_layers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blobs, "missing", lambda *_: [])
    assert is_seen()


def test_a_manifest_that_is_checked_too_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Before its bytes are written, and not again in the transaction that takes it in."""
    record = manifests._record

    def unchecked(*args: Any) -> None:
        with pytest.MonkeyPatch.context() as within:
            within.setattr(blobs, "missing", lambda *_: [])
            record(*args)

    monkeypatch.setattr(manifests, "_record", unchecked)
    assert is_seen()


def test_a_quota_that_a_deletion_does_not_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quotas, "discharge", lambda *_: None)
    assert is_seen()


def test_a_quota_that_counts_ahead_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link behind the place where the counting is counts twice."""
    monkeypatch.setattr(quotas._Rule, "has_passed", lambda *_: True)
    assert is_seen()


def test_a_change_without_its_event(monkeypatch: pytest.MonkeyPatch) -> None:
    append = events.append

    def forgetful(tx: Transaction, clock: Clock, kind: str, *args: Any, **kwargs: Any) -> None:
        if kind != "blob.mounted":
            append(tx, clock, kind, *args, **kwargs)

    monkeypatch.setattr(events, "append", forgetful)
    assert is_seen()


def test_a_tag_without_its_history(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tags, "_remember", lambda *_: None)
    assert is_seen()
