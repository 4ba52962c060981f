"""What goes of the cache, and everything that keeps something in it."""

import io
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.config.mirroring import Cache
from homeport.garbage.guard import ClockGuard, confirm
from homeport.garbage.sweep import Sweeper
from homeport.mirror import eviction, origins
from homeport.mirror.addresses import Source
from homeport.mirror.eviction import CachedTag, Evictor, Room, by_use, idle
from homeport.mirror.origins import FoundBy, TagOrigin
from homeport.observe import Log
from homeport.oci.digest import Digest
from homeport.registry import manifests, repositories, tags, uploads
from homeport.registry.protections import Use, report
from homeport.registry.pulls import Pulls
from homeport.registry.registry import Registry
from homeport.registry.retention import ImmutableTags, Retention
from homeport.storage.filesystem import FilesystemStore
from homeport.testing import invariants
from homeport.testing.disk_faults import MemoryDisk
from homeport.testing.images import Image, image, index
from homeport.testing.simulation import SimulatedClock, run
from tests.garbage.cleaning import DAY, HOUR, Cleaning, Unpaced, settle
from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import NAME, Caching
from tests.mirror.upstream import Kind, Upstream
from tests.registry.world import ADA, body
from tests.simulation.world import ROOT, MemoryDatabase

ALPINE, NGINX = "docker.io/library/alpine", "docker.io/library/nginx"
BASE = b"a layer that many have"
ONE, TWO, THREE = (image([BASE, b"own %d" % number], config=b'{"n":%d}' % number) for number in range(3))
BOTH = index([ONE, image([b"another platform"])])
KIB = 1024
#: So much that what surrounds a layer hardly counts.
LARGE = 64 * KIB


def large(number: int, *shared: bytes) -> Image:
    return image([*shared, bytes([number]) * LARGE], config=b'{"large":%d}' % number)


class Evicting(Cleaning):
    """A registry with a cache in it."""

    def open(self) -> None:
        super().open()
        self.pulls = Pulls()
        self.cache = Cache(upstreams=("docker.io", "ghcr.io"))
        self.evictor = Evictor(
            self.registry,
            Log(self.said, self.clock),
            Unpaced(self.clock),
            self.guard.may_delete,
            lambda: self.cache,
            self.flush,
        )

    async def flush(self) -> None:
        await self.pulls.flush(self.registry)

    def limit(self, **settings: object) -> None:
        self.cache = Cache.model_validate({"upstreams": ("docker.io", "ghcr.io"), **settings})

    async def fetch(
        self,
        image: Image,
        tag: str,
        repository: str = ALPINE,
        found_by: FoundBy = "cache",
        digest: Digest | None = None,
    ) -> None:
        """As the cache does: the image, and where its tag came from."""
        await self.push(image, tag, repository=repository)
        host, _, name = repository.partition("/")
        now = self.clock.now()
        origin = TagOrigin(repository, tag, Source(host, name), tag, digest or image.digest, found_by, None, now)
        await self.registry.db.write(origins.record, origin)

    def note(self, reference: str, repository: str = ALPINE) -> None:
        """Somebody pulls it."""
        self.pulls.note(repository, reference, self.clock.now())

    async def evict(self, after: float = 31 * DAY) -> int:
        """What goes when this time has passed."""
        self.pass_time(after)
        await self.walk_clock()
        return await self.evictor.step()

    async def walk_clock(self) -> None:
        """The guard saw the time pass, as it does on a machine that runs."""
        assert await self.guard.stopped() is None

    async def left(self, repository: str = ALPINE) -> list[str]:
        return await self.registry.db.read(tags.names, repository, "", 100) or []

    async def reasons(self) -> list[tuple[str | None, str | None]]:
        return [(event.tag, event.reason) for event in await self.events() if event.kind == "tag.deleted"]


@pytest.fixture
async def evicting(tmp_path: Path) -> AsyncIterator[Evicting]:
    found = Evicting(tmp_path / "data")
    await settle(found, found.guard)
    yield found
    await found.close()


# --- what nobody pulls ------------------------------------------------------------------------------------------


async def test_what_nobody_pulled_for_a_month_goes_by_the_way_of_everything(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "3.20")
    assert await evicting.evict(29 * DAY) == 0
    assert await evicting.evict(2 * DAY) == 1
    assert await evicting.reasons() == [("3.20", "nobody pulled it for 30 days")]
    assert await evicting.registry.db.read(origins.find, ALPINE, "3.20") is None
    # The bytes are here for the grace, then in the trash, then gone.
    assert ONE.digest in await evicting.digests(ALPINE)
    await evicting.sweep_after(evicting.registry.rules.untagged_seconds)
    assert await evicting.digests(ALPINE) == set()
    assert evicting.trash() != []
    await evicting.sweep_after(evicting.registry.rules.trash_seconds + HOUR)
    await evicting.sweep()
    assert evicting.trash() == []


@pytest.mark.parametrize("reference", ["latest", BOTH.digest, ONE.digest])
async def test_a_pull_of_the_tag_its_digest_or_a_platform_keeps_it(evicting: Evicting, reference: str) -> None:
    await evicting.fetch(BOTH, "latest")
    evicting.pass_time(20 * DAY)
    evicting.note(reference)
    assert await evicting.evict(20 * DAY) == 0
    assert await evicting.evict(11 * DAY) == 1


async def test_a_pull_that_is_only_in_memory_keeps_it(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "3.20")
    evicting.pass_time(31 * DAY)
    evicting.note("3.20")
    assert await evicting.evict(1) == 0


@pytest.mark.parametrize("found_by", ["mirror", "name"])
async def test_what_was_not_fetched_because_somebody_asked_stays(evicting: Evicting, found_by: FoundBy) -> None:
    await evicting.fetch(ONE, "3.20", found_by=found_by)
    assert await evicting.evict() == 0


async def test_what_somebody_pushed_stays(evicting: Evicting) -> None:
    await evicting.push(ONE, "own", repository=ALPINE)
    await evicting.fetch(TWO, "3.20")
    await evicting.push(THREE, "3.20", repository=ALPINE)
    assert await evicting.evict() == 0


async def test_what_is_protected_immutable_or_in_use_stays(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "1.0")
    await evicting.fetch(TWO, "2.0", NGINX)
    await evicting.fetch(BOTH, "3.0", "ghcr.io/team/app")
    use = Use("service web", "task", "ghcr.io/team/app:3.0", ONE.digest)
    await evicting.registry.db.write(report, evicting.clock, "swarm", [use], 2)
    evicting.rule(retention=Retention(immutable=(ImmutableTags(ALPINE, ("1.*",)),), protected=(NGINX,)))
    assert await evicting.evict() == 0
    evicting.rule(retention=Retention(), engines=("swarm", "one that never told"))
    assert await evicting.evict() == 0
    evicting.rule(engines=("swarm",))
    assert await evicting.evict() == 1
    assert [await evicting.left(each) for each in (ALPINE, NGINX, "ghcr.io/team/app")] == [["1.0"], [], ["3.0"]]


async def test_a_signature_goes_with_its_image(evicting: Evicting) -> None:
    signature = image([b"signature"], config=b'{"signs":1}')
    await evicting.fetch(ONE, "3.20")
    await evicting.fetch(signature, f"sha256-{ONE.digest.encoded}.sig")
    evicting.pass_time(20 * DAY)
    evicting.note("3.20")
    assert await evicting.evict(20 * DAY) == 0
    assert await evicting.evict(20 * DAY) == 1
    await evicting.sweep_after(evicting.registry.rules.untagged_seconds + HOUR)
    assert await evicting.left() == []
    assert await evicting.digests(ALPINE) == set()


async def test_nothing_goes_while_it_could_not_come_back(evicting: Evicting) -> None:
    """Nor where nobody wants it to."""
    await evicting.fetch(ONE, "3.20")
    evicting.limit(offline=True)
    assert await evicting.evict() == 0
    evicting.limit(evict_after="never")
    assert await evicting.evict() == 0


async def test_nothing_goes_while_the_clock_is_in_doubt_or_nothing_may_change(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "3.20")
    evicting.rule(read_only="a move")
    assert await evicting.evict() == 0
    evicting.rule(read_only=None)
    evicting.clock.wrong = 100 * DAY
    assert await evicting.evictor.step() == 0
    assert await evicting.left() == ["3.20"]


async def test_what_is_pulled_between_decision_and_removal_stays(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "a")
    await evicting.fetch(TWO, "b")
    evicting.pass_time(31 * DAY)
    page = await evicting.registry.db.read(eviction._page, ("", ""), 0.0)
    evicting.note("a")
    await evicting.flush()
    removed = await evicting.registry.db.write(eviction._evict, evicting.registry, page.tags, "it is old")
    assert removed == 1
    assert await evicting.left() == ["a"]
    # Done again, as after a power cut that came before the disk had it.
    assert await evicting.registry.db.write(eviction._evict, evicting.registry, page.tags, "it is old") == 0


async def test_what_is_pulled_within_the_grace_is_whole(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "3.20")
    assert await evicting.evict() == 1
    await evicting.sweep_after(6 * DAY)
    await evicting.fetch(ONE, "3.20")
    await evicting.sweep_after(8 * DAY)
    await evicting.pull(ONE, "3.20", ALPINE)
    assert await evicting.evict(29 * DAY) == 1


async def test_a_layer_of_an_image_that_was_pushed_stays(evicting: Evicting) -> None:
    await evicting.fetch(ONE, "3.20")
    await evicting.push(TWO, "latest", repository="team/app")
    assert await evicting.evict() == 1
    await evicting.sweep_after(30 * DAY)
    await evicting.sweep_after(30 * DAY)
    await evicting.pull(TWO, "latest", "team/app")
    assert await evicting.state(Digest.of(BASE)) == "live"
    assert await evicting.state(Digest.of(b"own 0")) is None


async def test_records_of_tags_that_are_gone_go_a_day_later(evicting: Evicting) -> None:
    """Until then the tag may be about to come."""
    await evicting.fetch(ONE, "3.20")
    await tags.delete(evicting.registry, ADA, ALPINE, "3.20")
    await evicting.evict(HOUR)
    assert await evicting.registry.db.read(origins.find, ALPINE, "3.20") is not None
    await evicting.evict(DAY)
    assert await evicting.registry.db.read(origins.find, ALPINE, "3.20") is None


async def test_all_pages_are_looked_at(evicting: Evicting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "PAGE", 3)
    for number in range(8):
        await evicting.fetch(ONE, f"3.{number}")
    assert await evicting.evict() == 8


# --- how much it holds ------------------------------------------------------------------------------------------


async def test_what_was_pulled_the_longest_ago_goes_until_the_rest_fits(evicting: Evicting) -> None:
    for number in range(4):
        await evicting.fetch(large(number), f"v{number}")
        evicting.pass_time(HOUR)
    evicting.note("v0")
    evicting.limit(size=2 * LARGE + 8 * KIB)
    assert await evicting.evict(2 * HOUR) == 2
    assert await evicting.left() == ["v0", "v3"]
    assert await evicting.reasons() == [("v1", eviction.FULL), ("v2", eviction.FULL)]
    # What is going already is not counted again.
    assert await evicting.evict(HOUR) == 0


async def test_what_fits_stays(evicting: Evicting) -> None:
    for number in range(3):
        await evicting.fetch(large(number), f"v{number}")
    evicting.limit(size="1MiB")
    assert await evicting.evict(2 * HOUR) == 0


async def test_what_images_share_counts_once_and_goes_with_the_last_of_them(evicting: Evicting) -> None:
    shared = b"s" * LARGE
    for number, repository in enumerate((ALPINE, NGINX, ALPINE)):
        await evicting.fetch(large(number, shared), f"v{number}", repository)
        evicting.pass_time(HOUR)
    await evicting.fetch(large(2, shared), "same", NGINX)
    evicting.limit(size=4 * LARGE + 16 * KIB)
    assert await evicting.evict(2 * HOUR) == 0
    evicting.limit(size=3 * LARGE + 16 * KIB)
    assert await evicting.evict(HOUR) == 1
    assert [await evicting.left(each) for each in (ALPINE, NGINX)] == [["v2"], ["same", "v1"]]
    await evicting.sweep_after(30 * DAY)
    await evicting.pull(large(1, shared), "v1", NGINX)


async def test_what_others_hold_as_well_takes_no_room(evicting: Evicting) -> None:
    shared = b"s" * LARGE
    await evicting.fetch(large(0, shared), "old")
    await evicting.fetch(large(1, shared), "new")
    await evicting.fetch(large(2), "mirrored", found_by="mirror")
    await evicting.fetch(large(2), "same")
    evicting.limit(size=2 * LARGE + 8 * KIB)
    # Nobody else has the layer that both share: 3 x 64 KiB.
    assert await evicting.evict(2 * HOUR) == 1
    assert await evicting.left() == ["mirrored", "new", "same"]
    await evicting.fetch(large(0, shared), "old")
    await evicting.push(image([shared]), "latest", repository="team/app")
    assert await evicting.evict(2 * HOUR) == 0


async def test_what_was_pulled_just_now_stays_however_full_it_is(evicting: Evicting) -> None:
    await evicting.fetch(large(0), "old")
    evicting.pass_time(2 * HOUR)
    await evicting.fetch(large(1), "new")
    evicting.limit(size=1 * KIB)
    assert await evicting.evict(60) == 1
    assert await evicting.left() == ["new"]


async def test_platforms_and_what_belongs_to_an_image_count_with_it(evicting: Evicting) -> None:
    subject = index([large(0), large(1)])
    attestation = image([b"a" * LARGE], config=b'{"a":1}', subject=subject)
    await evicting.fetch(large(9), "old")
    evicting.pass_time(HOUR)
    await evicting.fetch(subject, "new")
    await evicting.push(attestation, repository=ALPINE)
    evicting.limit(size=4 * LARGE)
    assert await evicting.evict(2 * HOUR) == 1
    assert await evicting.left() == ["new"]
    await evicting.fetch(large(9), "old")
    evicting.limit(size=4 * LARGE + 16 * KIB)
    assert await evicting.evict(2 * HOUR) == 0


async def test_what_is_no_cache_of_a_configured_upstream_is_not_counted(evicting: Evicting) -> None:
    await evicting.fetch(large(0), "old", "quay.io/team/app")
    await evicting.push(large(1), "pushed", repository="docker.io_x/app")
    await evicting.fetch(large(2), "new")
    evicting.limit(size=LARGE + 8 * KIB)
    assert await evicting.evict(2 * HOUR) == 0
    assert await evicting.evict() == 2


async def test_large_indexes_are_read_in_pages(evicting: Evicting, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "PAGE", 2)
    await evicting.fetch(large(9), "old")
    evicting.pass_time(HOUR)
    await evicting.fetch(index([large(number) for number in range(5)]), "new")
    evicting.limit(size=5 * LARGE + 32 * KIB)
    assert await evicting.evict(2 * HOUR) == 1
    assert await evicting.left() == ["new"]


# --- decisions --------------------------------------------------------------------------------------------------


def cached(name: str, used_at: float) -> CachedTag:
    return CachedTag(ALPINE, 1, name, ONE.digest, used_at)


def test_a_short_time_is_an_hour_at_least() -> None:
    found = [cached("old", 0.0), cached("new", 2.0)]
    assert idle(found, 0.0, HOUR + 1.0) == [cached("old", 0.0)]
    assert idle(found, 2 * HOUR, HOUR + 1.0) == []


def test_the_order_is_that_of_the_last_use_then_of_the_name() -> None:
    assert [tag.name for tag in by_use([cached("b", 1.0), cached("a", 1.0), cached("c", 2.0)])] == ["c", "a", "b"]


_DIGESTS = [Digest.of(b"%d" % number) for number in range(8)]


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sets(st.sampled_from(range(8)))), max_size=12),
    st.integers(0, 40),
    st.sets(st.sampled_from(range(8))),
)
def test_what_stays_is_what_was_used_last_and_fits(
    images: list[tuple[int, set[int]]], size: int, others: set[int]
) -> None:
    room = Room(size, recent_since=1000.0)
    room.give(_DIGESTS[number] for number in others)
    images.sort(key=lambda each: -each[0])
    stays = [room.takes(at, [(_DIGESTS[number], number) for number in needs]) for at, needs in images]
    kept = set().union(*(needs for (_, needs), keeps in zip(images, stays, strict=True) if keeps)) - others
    assert room.used == sum(kept) <= size
    if False in stays:
        first = stays.index(False)
        needed = set().union(*(needs for _, needs in images[: first + 1])) - others
        assert sum(needed) > size, "the first that goes would have fitted"
        before = set().union(others, *(needs for _, needs in images[:first]))
        behind = zip(images[first:], stays[first:], strict=True)
        assert all(sum(needs - before) == 0 for (_, needs), keeps in behind if keeps), "older than one that went"


# --- power ------------------------------------------------------------------------------------------------------


class Life:
    """One process on a disk and a database that outlive it."""

    def __init__(self, clock: SimulatedClock, disk: MemoryDisk, committed: bytes | None) -> None:
        store = FilesystemStore(ROOT, clock, disk=disk, reserve_percent=0, reserve_bytes=0)
        self.database = MemoryDatabase(clock, committed)
        self.registry = Registry(self.database, store, clock)
        log, guard, pace = Log(io.StringIO(), clock), ClockGuard(self.registry), Unpaced(clock)
        self.sweeper = Sweeper(self.registry, log, guard, pace)
        settings = Cache(upstreams=("docker.io",))
        self.evictor = Evictor(self.registry, log, pace, guard.may_delete, lambda: settings, nothing)

    async def push(self, image: Image, tag: str, repository: str) -> None:
        for data in image.blobs:
            await uploads.push(self.registry, ADA, repository, Digest.of(data), body(data))
        await manifests.push(self.registry, ADA, repository, image.data, image.media_type, image.digest, [tag])


async def always() -> bool:
    return True


async def nothing() -> None:
    pass


@pytest.mark.parametrize("seed", range(12))
def test_a_power_cut_in_between_leaves_everything_whole_or_gone(seed: int) -> None:
    clock = SimulatedClock(seed)
    disk = MemoryDisk(clock.random)
    lives = [Life(clock, disk, None)]

    async def prepare() -> None:
        life = lives[-1]
        await life.push(ONE, "3.20", ALPINE)
        await life.push(TWO, "latest", "team/app")
        source = Source("docker.io", "library/alpine")
        now = clock.now()
        origin = TagOrigin(ALPINE, "3.20", source, "3.20", ONE.digest, "cache", None, now)
        await life.registry.db.write(origins.record, origin)
        clock.advance(31 * DAY)
        await life.registry.db.write(confirm, life.registry, ADA)

    async def live() -> None:
        life, rules = lives[-1], lives[-1].registry.rules
        steps = (life.evictor.step, life.sweeper.sweep)
        for wait in (0.0, rules.untagged_seconds + HOUR, rules.condemned_seconds, rules.trash_seconds + HOUR):
            clock.advance(wait)
            await life.registry.db.write(confirm, life.registry, ADA)
            for step in steps:
                await step()
                if len(lives) == 1 and clock.random() < 1 / 4:
                    return  # The power goes.

    async def look() -> None:
        await invariants.check(lives[-1].registry)

    run(clock, prepare)
    run(clock, live)
    left = lives[-1].database.die()
    disk.power_cut()
    lives.append(Life(clock, disk, left[int(clock.random() * len(left))]))
    run(clock, look)
    run(clock, live)
    run(clock, look)

    async def end() -> None:
        db = lives[-1].registry.db
        assert await db.read(origins.find, ALPINE, "3.20") is None
        assert await db.read(repositories.find, ALPINE) is None
        assert (await manifests.get(lives[-1].registry, "team/app", "latest")).digest == TWO.digest

    run(clock, end)


# --- with the cache itself --------------------------------------------------------------------------------------


async def test_a_tag_that_went_is_back_by_a_look_and_no_pull(
    caching: Caching, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.platforms(), "3.20")
    await caching.fetch(image, "3.20")
    settings = Cache(upstreams=(upstream.host,))
    evictor = Evictor(
        caching.registry, Log(caching.said, caching.clock), Unpaced(caching.clock), always, lambda: settings, nothing
    )
    caching.pass_time(31 * DAY)
    assert await evictor.step() == 1
    assert await caching.origin("3.20") is None
    upstream.forget()
    await caching.fetch(image, "3.20")
    assert [seen.kind for seen in upstream.asked] == [Kind.HEAD_MANIFEST]
    assert await evictor.step() == 0
