"""Bad days upstream: whatever it answers, what is here is right, nothing goes, the report says it, and it heals."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from homeport.client import remote
from homeport.jobs.summary import Summary
from homeport.kinds import Outcome
from tests.mirror import faults
from tests.mirror.artifacts import Artifacts
from tests.mirror.faults import Fault
from tests.mirror.mirroring import DAY, Mirroring
from tests.mirror.upstream import Kind, Quota, Upstream

APP, OTHER = "team/app", "team/other"

#: Whatever an upstream may answer to any request. Each is made anew for a test: some count.
FAULTS: dict[str, Callable[[], Fault]] = {
    "500": lambda: faults.status(500),
    "502 page": lambda: faults.html(502),
    "503": faults.unavailable,
    "503 soon": lambda: faults.unavailable("1"),
    "503 late": lambda: faults.unavailable("86400"),
    "429": faults.abuse_limit,
    "429 soon": lambda: faults.abuse_limit("1"),
    "429 late": lambda: faults.abuse_limit("86400"),
    "429 long ago": lambda: faults.abuse_limit("Wed, 21 Oct 2015 07:28:00 GMT"),
    "429 far away": lambda: faults.abuse_limit("Wed, 21 Oct 2099 07:28:00 GMT"),
    "429 nonsense": lambda: faults.abuse_limit("soon"),
    "no pulls left": faults.pull_limit,
    "no pulls left for a while": lambda: faults.pull_limit("600"),
    "401": lambda: faults.status(401),
    "403": lambda: faults.status(403, b'{"errors":[{"code":"DENIED","message":"requested access is denied"}]}'),
    "404 page": lambda: faults.html(404),
    "418": lambda: faults.status(418),
    "nothing": lambda: faults.status(200),
    "204": lambda: faults.status(204),
    "page": faults.html,
    "half": faults.half,
    "shorter": faults.shorter,
    "longer": faults.longer,
    "wrong bytes": faults.wrong_bytes,
    "wrong first byte": lambda: faults.wrong_bytes(0),
    "claims less": lambda: faults.claims(10),
    "claims more": lambda: faults.claims(1_000_000),
    "cut at once": lambda: faults.cut(0),
    "cut": lambda: faults.cut(20),
    "another digest": lambda: faults.headers(Docker_Content_Digest=f"sha256:{'0' * 64}"),
    "no digest": lambda: faults.headers(Docker_Content_Digest="sha256:none"),
    "no type": lambda: faults.headers(Content_Type="text/plain"),
    "huge": lambda: faults.status(200, b"x" * 5_000_000),
    "deep": lambda: faults.status(200, b"[" * 200_000),
    "other json": lambda: faults.status(200, b'{"schemaVersion": 2, "manifests": 7, "tags": {"a": 1}}'),
    "redirects inside": lambda: faults.status(307, Location="http://10.0.0.1/latest/meta-data"),
    "redirects to a file": lambda: faults.status(307, Location="file:///etc/passwd"),
    "redirects for ever": lambda: faults.status(307, Location="?again"),
    "redirects nowhere": lambda: faults.status(302, Location="http://127.0.0.1:1/"),
    "not HTTP": lambda: faults.headers(Content_Encoding="gzip"),
    "endless pages": faults.endless_pages,
}

#: Those that are for a whole host to leave alone, whatever was asked for.
PAUSES = frozenset({"503 late", *(name for name in FAULTS if name.startswith("429"))})

#: Which requests of a run it may be.
KINDS = (Kind.TAGS, Kind.HEAD_MANIFEST, Kind.GET_MANIFEST, Kind.GET_BLOB, Kind.REFERRERS)


@dataclass
class Place:
    """An upstream with two repositories, and a registry that mirrors them."""

    mirroring: Mirroring
    upstream: Upstream
    artifacts: Artifacts

    def begin(self, **more: Any) -> None:
        image = self.upstream.put(APP, self.artifacts.platforms("linux/amd64", "linux/arm64", attested=True), "1.0")
        self.upstream.put(APP, self.artifacts.image(), "1.1")
        self.upstream.attach(APP, self.artifacts.artifact("application/spdx+json", subject=image))
        self.upstream.put(OTHER, self.artifacts.image(), "1")
        self.mirroring.configure(*self.images(), **more)

    async def log_in(self) -> None:
        """Begin as a user of the upstream."""
        await self.mirroring.restart({"UPSTREAM": self.upstream.password})
        self.begin(upstreams={self.upstream.host: {"username": self.upstream.user, "password": "env:UPSTREAM"}})

    def images(self, **more: object) -> list[dict[str, object]]:
        """As the configuration names them: with the shortest grace, so that whatever may go has gone."""
        brief: dict[str, object] = {"remove_after": "1h"}
        common = {"gone_upstream": brief, "repository_gone": brief, "unselected": brief, "referrers": True, **more}
        named = ((APP, "app"), (OTHER, "other"))
        return [{"source": f"{self.upstream.host}/{name}", "target": target, **common} for name, target in named]

    def move(self) -> None:
        """Upstream goes on."""
        moved = self.upstream.put(APP, self.artifacts.platforms(), "1.1", "latest")
        self.upstream.attach(APP, self.artifacts.artifact("application/spdx+json", subject=moved))
        self.upstream.put(OTHER, self.artifacts.image(), "2")

    async def run(self) -> Summary:
        """A night. Whatever happened in it, nothing half is here and nothing went."""
        self.mirroring.pass_time(DAY)
        summary = await self.mirroring.run()
        await self.mirroring.check_everything()
        assert await self.mirroring.told("tag.deleted") == []
        assert summary.outcome is not Outcome.SUCCESS or not summary.failures
        return summary

    async def is_in_step(self, repository: str = APP) -> bool:
        ours = await self.mirroring.tags(repository.removeprefix("team/"))
        return ours == self.upstream.repositories[repository].tags

    async def heals(self) -> None:
        """Without the fault the next run does everything."""
        self.upstream.behave()
        self.mirroring.pass_time(DAY)
        summary = await self.run()
        assert (summary.outcome, summary.failures) == (Outcome.SUCCESS, ())
        assert await self.is_in_step(APP)
        assert await self.is_in_step(OTHER)
        assert await self.mirroring.rows("SELECT tag, failure FROM mirror_copies") == []


@pytest.fixture(autouse=True)
def few_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same end of what does not end, sooner."""
    monkeypatch.setattr(remote, "PAGES_MAX", 30)


@pytest.fixture
def place(mirroring: Mirroring, upstream: Upstream, artifacts: Artifacts) -> Place:
    return Place(mirroring, upstream, artifacts)


# --- whatever is answered -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("fault", FAULTS)
async def test_a_fault_harms_nothing_is_told_and_heals(place: Place, kind: Kind, fault: str) -> None:
    """From nothing, and for two nights once something is here and upstream went on."""
    is_for_all = fault in PAUSES or (kind is Kind.HEAD_MANIFEST and "pulls" in fault)  # Which it cannot say there.
    place.begin()
    for nights in (1, 2):
        place.upstream.fail(kind, FAULTS[fault](), of=APP)
        for _ in range(nights):
            summary = await place.run()
            if summary.outcome is Outcome.SUCCESS:
                assert await place.is_in_step(APP)
            elif not is_for_all:
                assert all(APP in failure.what for failure in summary.failures)
                assert await place.is_in_step(OTHER)
        await place.heals()
        place.move()


@pytest.mark.parametrize(
    "fault", ["500", "429 late", "401", "404 page", "nothing", "page", "half", "cut", "other json", "endless pages"]
)
async def test_a_catalog_that_fails_takes_nothing(place: Place, fault: str) -> None:
    place.begin()
    source = {"source": f"{place.upstream.host}/team/*", "target": "{name}"}
    brief = {"remove_after": "1h"}
    place.mirroring.configure(source | {"repository_gone": brief, "gone_upstream": brief, "referrers": True})
    await place.run()
    place.upstream.fail(Kind.CATALOG, FAULTS[fault]())
    for _ in range(3):
        await place.run()
    await place.heals()


# --- bytes --------------------------------------------------------------------------------------------------------


async def test_a_connection_may_be_cut_after_any_byte(place: Place) -> None:
    """Each time it goes on where it was, so no byte comes twice."""
    image = place.upstream.put(APP, place.artifacts.image(300), "1.0")
    (layer,) = (blob.blob for blob in image.blobs if len(blob.data) == 300)
    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app"})
    place.upstream.fail(Kind.GET_BLOB, faults.cut(1), of=layer.digest)
    summary = await place.run()
    assert (summary.outcome, summary.counts["bytes"]) == (Outcome.SUCCESS, sum(len(blob.data) for blob in image.blobs))
    starts = [asked.start for asked in place.upstream.asked if asked.target == layer.digest]
    assert starts == list(range(300))


@pytest.mark.parametrize("takes_ranges", [True, False])
async def test_a_connection_that_is_cut_once_anywhere(place: Place, *, takes_ranges: bool) -> None:
    place.upstream.takes_ranges = takes_ranges
    images = {str(cut): place.artifacts.image(60) for cut in range(0, 62, 3)}
    for cut, image in images.items():
        place.upstream.put(APP, image, cut)
        place.upstream.fail(Kind.GET_BLOB, faults.cut(int(cut)), of=image.blobs[1].blob.digest, times=1)
    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app"})
    assert (await place.run()).outcome is Outcome.SUCCESS
    for tag, image in images.items():
        await place.mirroring.check_image(image, "app", tag)


@pytest.mark.parametrize("uses", [None, 1, 0])
async def test_a_cdn_gets_no_credentials_and_its_addresses_may_expire(place: Place, uses: int | None) -> None:
    place.upstream.scheme = "basic"
    place.upstream.redirects = True
    place.upstream.cdn_uses = uses
    await place.log_in()
    place.upstream.fail(Kind.CDN, faults.cut(200), times=20)
    summary = await place.run()
    at_cdn = [asked for asked in place.upstream.asked if asked.kind is Kind.CDN]
    assert at_cdn
    assert [asked.authorization for asked in at_cdn if asked.authorization is not None] == []
    if uses == 0:
        assert summary.outcome is Outcome.ERROR
        assert all("403" in failure.why for failure in summary.failures)
        place.upstream.cdn_uses = None
    else:
        assert summary.outcome is Outcome.SUCCESS
    await place.heals()


@pytest.mark.parametrize(
    "realm",
    [
        "http://10.1.2.3/token",
        "http://169.254.169.254/latest/meta-data",
        "https://user:secret@attacker.example/token",
        "file:///etc/passwd",
        "nonsense",
        "http://127.0.0.1:1/token",
    ],
)
async def test_a_hostile_realm_gets_nothing(place: Place, realm: str) -> None:
    place.upstream.scheme = "bearer"
    place.upstream.private = {APP, OTHER}
    await place.log_in()
    place.upstream.realm = realm
    summary = await place.run()
    assert summary.outcome is Outcome.ERROR
    told = json.dumps(summary.told()) + "\n".join(await place.mirroring.log(1)) + place.mirroring.said.getvalue()
    assert place.upstream.password not in told
    place.upstream.realm = None
    await place.heals()


# --- limits -------------------------------------------------------------------------------------------------------


async def test_a_run_stops_at_what_is_left_for_people_and_says_so(place: Place) -> None:
    for number in range(30):
        place.upstream.put(APP, place.artifacts.image(), f"1.{number}")
    place.upstream.put(OTHER, place.artifacts.image(), "1")
    place.upstream.quota = Quota(100, 25)
    place.mirroring.configure(*place.images(referrers=False), upstreams={place.upstream.host: {"reserve": 20}})
    summary = await place.run()
    assert summary.outcome is Outcome.PARTIAL
    assert place.upstream.quota.remaining == 20
    assert summary.counts["copied"] == 5
    assert all("a run leaves 20 for people" in failure.why for failure in summary.failures)
    assert summary.failed == 26 or len(summary.failures) == 26
    place.upstream.quota.remaining = 100
    await place.heals()
    assert place.upstream.quota.remaining == 74


async def test_a_limit_that_is_spent_is_that_upstreams_only_and_costs_no_more_requests(
    place: Place, artifacts: Artifacts
) -> None:
    async with Upstream.running() as second:
        for number in range(20):
            place.upstream.put(APP, artifacts.image(), str(number))
        second.put(APP, artifacts.image(), "1")
        place.upstream.quota = Quota(100, 3)
        place.mirroring.configure(
            {"source": f"{place.upstream.host}/{APP}", "target": "app"},
            {"source": f"{second.host}/{APP}", "target": "second"},
            upstreams={place.upstream.host: {"reserve": 0}},
        )
        summary = await place.run()
        assert summary.counts["copied"] == 4
        assert set(await place.mirroring.tags("second")) == {"1"}
        assert place.upstream.count(Kind.GET_MANIFEST) == 3
        behind = await place.mirroring.rows("SELECT tag FROM mirror_copies WHERE failure IS NOT NULL")
        assert len(behind) == 17


async def test_pulls_that_are_refused_without_a_word_of_a_quota_are_not_tried_on_and_on(place: Place) -> None:
    for number in range(20):
        place.upstream.put(APP, place.artifacts.image(), str(number))
    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app"})
    place.upstream.fail(Kind.GET_MANIFEST, faults.pull_limit("600"))
    summary = await place.run()
    assert summary.outcome is Outcome.ERROR
    assert place.upstream.count(Kind.GET_MANIFEST) <= 6  # Those that were on their way when the first was refused.
    place.upstream.behave()
    assert (await place.mirroring.run()).outcome is Outcome.ERROR  # The ten minutes are not over.
    place.mirroring.pass_time(600)
    assert (await place.mirroring.run()).outcome is Outcome.SUCCESS


async def test_who_is_too_fast_waits_and_goes_on(place: Place) -> None:
    place.begin()
    place.upstream.fail(Kind.HEAD_MANIFEST, faults.abuse_limit("7"), times=2)
    place.upstream.fail(Kind.GET_BLOB, faults.abuse_limit(), times=2)
    assert (await place.run()).outcome is Outcome.SUCCESS
    assert max(place.mirroring.clock.slept) >= 6.9


async def test_a_host_that_is_down_is_not_asked_for_each_of_its_tags(place: Place) -> None:
    for number in range(200):
        place.upstream.put(APP, place.artifacts.image(), str(number))
    place.upstream.put(OTHER, place.artifacts.image(), "1")
    place.mirroring.configure(*place.images(referrers=False))
    await place.run()
    place.upstream.forget()
    place.upstream.fail(Kind.HEAD_MANIFEST, faults.status(503))
    summary = await place.run()
    assert summary.outcome is Outcome.ERROR
    assert place.upstream.count(Kind.HEAD_MANIFEST) < 250
    assert all(len(failure.why) < 500 for failure in summary.failures)
    await place.heals()


# --- what changes meanwhile ---------------------------------------------------------------------------------------


async def test_a_tag_moves_between_the_look_and_the_copy(place: Place) -> None:
    place.begin()
    old = place.upstream.repositories[APP].tags["1.1"]
    place.upstream.upon(Kind.GET_MANIFEST, place.move, of=APP)
    assert (await place.run()).outcome is Outcome.SUCCESS
    assert (await place.mirroring.tags("app"))["1.1"] == old  # As it was when it was looked at.
    await place.heals()


@pytest.mark.parametrize("minimum_age", ["0", "3d"])
async def test_a_tag_moves_and_what_it_was_is_gone(place: Place, minimum_age: str) -> None:
    """What has not been looked at for its age is not taken in the place of what has."""
    old = place.upstream.put(APP, place.artifacts.image(), "1")
    new = place.artifacts.image()
    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app", "minimum_age": minimum_age})
    if minimum_age != "0":
        for _ in range(4):
            await place.mirroring.run()
            place.mirroring.pass_time(0.9 * DAY)

    def move() -> None:
        place.upstream.put(APP, new, "1")
        del place.upstream.repositories[APP].manifests[old.digest]

    place.upstream.upon(Kind.GET_MANIFEST, move)
    summary = await place.run()
    if minimum_age == "0":
        assert await place.mirroring.tags("app") == {"1": new.digest}
    else:
        assert await place.mirroring.tags("app") == {}
        assert "not old enough" in summary.failures[0].why
        for _ in range(4):
            await place.run()
        assert await place.mirroring.tags("app") == {"1": new.digest}


async def test_a_tag_moves_between_its_manifest_and_its_blobs_and_they_are_gone(place: Place) -> None:
    old = place.upstream.put(APP, place.artifacts.image(), "1")
    new = place.artifacts.image()

    def move() -> None:
        place.upstream.remove(APP)
        place.upstream.put(APP, new, "1")

    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app"})
    place.upstream.upon(Kind.GET_BLOB, move)
    summary = await place.run()
    assert summary.outcome is Outcome.ERROR
    assert "blob" in summary.failures[0].why
    assert await place.mirroring.tags("app") == {}
    assert old.digest != new.digest
    summary = await place.run()
    assert await place.mirroring.tags("app") == {"1": new.digest}


@pytest.mark.parametrize("kind", KINDS)
async def test_the_upstream_vanishes_in_the_middle(place: Place, kind: Kind) -> None:
    place.begin()
    for number in range(30):
        place.upstream.put(APP, place.artifacts.image(), f"3.{number}")

    def vanish() -> None:
        for each in Kind:
            place.upstream.fail(each, faults.cut(0))

    place.upstream.upon(kind, vanish, skip=1)
    summary = await place.run()
    assert summary.outcome in (Outcome.PARTIAL, Outcome.ERROR)
    place.upstream.asked.clear()
    await place.heals()


async def test_it_does_not_listen_any_more(place: Place) -> None:
    place.begin()
    await place.run()
    place.move()
    await place.upstream.down()
    for _ in range(3):
        summary = await place.run()
        assert summary.outcome is Outcome.ERROR
        assert all("cannot connect" in failure.why for failure in summary.failures)
    await place.upstream.up()
    await place.heals()


async def test_one_of_many_fails_and_the_others_come(place: Place) -> None:
    images = {str(number): place.artifacts.image() for number in range(20)}
    for tag, image in images.items():
        place.upstream.put(APP, image, tag)
    bad = images["7"].blobs[1].blob.digest
    place.upstream.fail(Kind.GET_BLOB, faults.wrong_bytes(), of=bad)
    place.mirroring.configure({"source": f"{place.upstream.host}/{APP}", "target": "app"})
    summary = await place.run()
    assert (summary.outcome, summary.counts["copied"]) == (Outcome.PARTIAL, 19)
    (failure,) = summary.failures
    assert failure.what == f"{place.upstream.host}/{APP}:7"
    assert bad in failure.why
    (row,) = await place.mirroring.rows("SELECT tag, failure FROM mirror_copies")
    assert (row[0], bad in row[1]) == ("7", True)
    place.upstream.behave()
    assert (await place.run()).counts["copied"] == 1
