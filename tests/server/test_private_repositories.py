"""What upstream does not show to everybody, over every route, to everybody (CVE-2026-27771: private images were pulled
without a login, since the check was on the repository and forgotten on what lies in it).

What comes is compared with a model of a few lines: `SEES`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import pytest

from homeport.auth.actors import Limit, Right
from homeport.auth.permissions import Rule
from homeport.oci.digest import Digest
from homeport.registry import privacy
from homeport.testing.images import image
from tests.server.upstreams import NODE_ADDRESS, PULL, PUSH, Answer, UpstreamWorld

IMAGE = image([b"a layer"])
SIGNATURE = image([b"a signature"], subject=IMAGE)
LAYER = Digest.of(b"a layer")
PRIVATE, PUBLIC = "docker.io/ours/private", "docker.io/ours/public"
#: Fetched, private, and by its target outside of the upstream's folder.
MOVED = "mirrored/private"

READS: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "manifests/latest", {}),
    ("HEAD", "manifests/latest", {}),
    ("GET", f"manifests/{IMAGE.digest}", {}),
    ("HEAD", f"manifests/{IMAGE.digest}", {}),
    ("GET", "manifests/latest", {"if-none-match": f'"{IMAGE.digest}"'}),
    ("GET", f"manifests/{Digest.of(b'nothing')}", {}),
    ("GET", f"blobs/{LAYER}", {}),
    ("HEAD", f"blobs/{LAYER}", {}),
    ("GET", f"blobs/{LAYER}", {"range": "bytes=0-0"}),
    ("GET", f"blobs/{LAYER}", {"range": "bytes=0-0,2-2"}),
    ("GET", f"blobs/{LAYER}", {"range": "bytes=900-"}),
    ("GET", f"blobs/{LAYER}", {"if-none-match": f'"{LAYER}"'}),
    ("GET", f"blobs/{Digest.of(b'nothing')}", {}),
    ("GET", "tags/list", {}),
    ("HEAD", "tags/list", {}),
    ("GET", "tags/list?n=1&last=a", {}),
    ("GET", f"referrers/{IMAGE.digest}", {}),
    ("HEAD", f"referrers/{IMAGE.digest}", {}),
    ("GET", f"referrers/{IMAGE.digest}?artifactType=a/b", {}),
    ("PUT", "manifests/latest", {"content-type": IMAGE.media_type}),
    ("POST", "blobs/uploads/", {}),
]

#: Who sees what is private, where anybody may pull and push and users may pull.
SEES = {
    "anonymous": False,
    "node": False,
    "anonymous-bearer": False,
    "node-bearer": False,
    "limited": False,
    "robot-elsewhere": False,
    "ada": True,
    "ada-bearer": True,
    "root": True,
    "robot": True,
}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[UpstreamWorld]:
    world = UpstreamWorld(tmp_path)
    world.context.cache = None
    for repository in (PRIVATE, PUBLIC, MOVED):
        await world.hold(IMAGE, "latest", repository=repository, private=repository != PUBLIC)
        await world.push(SIGNATURE, repository=repository)
    world.allow(anonymous=frozenset({PULL, PUSH}))
    elsewhere = Limit(("elsewhere/**",), frozenset({PULL, PUSH}))
    await world.token("limited", "ada", elsewhere)
    await world.token("robot-elsewhere", None, elsewhere)
    await world.token("robot", None, Limit(("**",), frozenset({PULL, PUSH})))
    for who in ("anonymous", "node", "ada"):
        await world.bearer(who, *(f"repository:{name}:pull,push" for name in (PRIVATE, PUBLIC, MOVED, "elsewhere/x")))
    yield world
    await world.close()


def is_refused(answer: Answer) -> bool:
    """Whether nothing is told but that one may not."""
    if answer.status not in {401, 403}:
        return False
    assert not {"docker-content-digest", "etag", "link", "content-range"} & answer.headers.keys()
    assert IMAGE.digest.encode() not in answer.body
    return True


@pytest.mark.parametrize("repository", [PRIVATE, MOVED])
@pytest.mark.parametrize("who", SEES)
async def test_every_route(world: UpstreamWorld, who: str, repository: str) -> None:
    for method, path, headers in READS:
        if method in {"PUT", "POST"} and SEES[who]:
            continue  # Who may push is another matter.
        answer = await world.ask(who, method, f"/v2/{repository}/{path}", IMAGE.data, headers)
        assert is_refused(answer) is not SEES[who], (method, path, headers, answer)


@pytest.mark.parametrize("who", SEES)
async def test_what_is_public_is_for_everybody(world: UpstreamWorld, who: str) -> None:
    for method, path, headers in READS:
        if method in {"GET", "HEAD"}:
            answer = await world.ask(who, method, f"/v2/{PUBLIC}/{path}", headers=headers)
            assert answer.status in {200, 206, 304, 404, 416}, (method, path, headers, answer)


@pytest.mark.parametrize("who", ["anonymous", "node", "root"])
async def test_at_the_door_nobody_sees_it(world: UpstreamWorld, who: str) -> None:
    for method, path, headers in READS:
        if method in {"GET", "HEAD"}:
            for target in (f"/mirror/v2/{PRIVATE}/{path}", f"/mirror/v2/ours/private/{path}"):
                answer = await world.ask(who, method, target, headers=headers)
                assert answer.status == 403
                assert is_refused(answer)
                public = await world.ask(who, method, target.replace("private", "public"), headers=headers)
                assert public.status != 403


@pytest.mark.parametrize("who", SEES)
async def test_the_catalog(world: UpstreamWorld, who: str) -> None:
    if who.endswith("-bearer"):
        await world.bearer(who.removesuffix("-bearer"), "registry:catalog:*")
    for query in ("", "?n=1"):
        found: list[str] = []
        target = f"/v2/_catalog{query}"
        while target:
            answer = await world.ask(who, "GET", target)
            found += answer.json["repositories"]
            target = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
        assert found == ([PRIVATE, PUBLIC, MOVED] if SEES[who] else [PUBLIC])


@pytest.mark.parametrize("who", SEES)
@pytest.mark.parametrize("source", ["", f"&from={PRIVATE}", f"&from={MOVED}"])
async def test_nothing_is_mounted_out_of_it(world: UpstreamWorld, who: str, source: str) -> None:
    only_there = await world.blob(b"only in what is private", PRIVATE)
    await world.blob(b"only in what is private", MOVED)
    target = f"/v2/elsewhere/x/blobs/uploads/?mount={only_there}{source}"
    answer = await world.ask(who, "POST", target)
    assert answer.status == (201 if SEES[who] else 202)
    assert (await world.ask(who, "HEAD", f"/v2/elsewhere/x/blobs/{only_there}")).status == (200 if SEES[who] else 404)
    public = await world.ask(who, "POST", f"/v2/elsewhere/x/blobs/uploads/?mount={LAYER}&from={PUBLIC}")
    assert public.status == 201


RULES: list[tuple[Iterable[Rule], bool]] = [
    ([Rule(("**",), visibility="public")], False),
    ([Rule(("docker.io/**",), {"anonymous": frozenset({PULL})})], False),
    ([Rule(("docker.io/**",), {"anonymous": frozenset({Right.ADMIN})})], False),
    ([Rule((PRIVATE,), visibility="private")], False),
    ([Rule((PRIVATE,), visibility="public")], True),
    ([Rule(("docker.io/ours/**",), {"anonymous": frozenset({PULL})})], True),
]


@pytest.mark.parametrize(("rules", "opens"), RULES)
async def test_only_a_rule_that_names_it_opens_it(world: UpstreamWorld, rules: Iterable[Rule], opens: bool) -> None:
    world.allow(rules=tuple(rules))
    for who in ("anonymous", "node"):
        for path in ("manifests/latest", f"blobs/{LAYER}", "tags/list", f"referrers/{IMAGE.digest}"):
            answer = await world.ask(who, "GET", f"/v2/{PRIVATE}/{path}")
            assert is_refused(answer) is not opens, (who, path)
    assert (await world.ask("node", "GET", f"/mirror/v2/{PRIVATE}/manifests/latest")).status == (200 if opens else 403)


async def test_it_stays_so_when_the_upstream_leaves_the_configuration(world: UpstreamWorld) -> None:
    world.allow(anonymous=frozenset({PULL}), upstreams=frozenset(), cached=frozenset())
    for who in ("anonymous", "node"):
        assert is_refused(await world.ask(who, "GET", f"/v2/{PRIVATE}/manifests/latest"))
    assert (await world.ask("ada", "GET", f"/v2/{PRIVATE}/manifests/latest")).status == 200


async def test_it_opens_when_upstream_shows_it(world: UpstreamWorld) -> None:
    await world.registry.db.write(privacy.set_private, PRIVATE, private=False)
    assert (await world.ask("anonymous", "GET", f"/v2/{PRIVATE}/manifests/latest")).status == 200


#: What a cache is asked for, and finds out only then that it is not for everybody.
COLD: list[tuple[str, str, dict[str, str]]] = [
    ("GET", "manifests/latest", {}),
    ("HEAD", "manifests/latest", {}),
    ("GET", f"manifests/{IMAGE.digest}", {}),
    ("GET", f"blobs/{LAYER}", {}),
    ("GET", f"blobs/{LAYER}", {"range": "bytes=0-0"}),
    ("HEAD", f"blobs/{LAYER}", {}),
    ("GET", "tags/list", {}),
    ("GET", f"referrers/{IMAGE.digest}", {}),
]


@pytest.mark.parametrize(("method", "path", "headers"), COLD)
@pytest.mark.parametrize("who", SEES)
async def test_what_is_found_to_be_private_by_asking_for_it(
    world: UpstreamWorld, who: str, method: str, path: str, headers: dict[str, str]
) -> None:
    cold = "docker.io/ours/cold"
    if who.endswith("-bearer"):
        await world.bearer(who.removesuffix("-bearer"), f"repository:{cold}:pull")
    world.context.cache = world.cache
    world.cache.images[cold] = IMAGE
    world.cache.hidden.add(cold)
    answer = await world.ask(who, method, f"/v2/{cold}/{path}", headers=headers)
    assert is_refused(answer) is not SEES[who]
    if not SEES[who]:
        world.cache.asked.clear()
        assert is_refused(await world.ask(who, method, f"/v2/{cold}/{path}", headers=headers))
        assert world.cache.asked == [], "upstream is asked again for somebody who may not see it"


async def test_a_node_is_told_what_was_seen(world: UpstreamWorld) -> None:
    answer = await world.ask("node", "GET", f"/mirror/v2/{PRIVATE}/manifests/latest")
    assert NODE_ADDRESS in answer.json["errors"][0]["message"]
