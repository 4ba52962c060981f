"""Other registries' images over HTTP: every way of asking for one, by everybody, with every method."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from ipaddress import ip_network
from pathlib import Path

import pytest

from homeport.auth.actors import Limit
from homeport.auth.permissions import Rule
from homeport.oci.digest import Digest
from homeport.testing.images import image
from tests.server.upstreams import NODE_ADDRESS, PULL, PUSH, STRANGERS_ADDRESS, Answer, UpstreamWorld

ALPINE = image([b"the layer of alpine"])
LAYER = Digest.of(b"the layer of alpine")
HUB = "docker.io/library/alpine"
ELSEWHERE = image([b"somebody else's"])

#: Every way of asking for the same repository on the registry's own address, and at the mirror door.
FORMS = [
    f"/v2/{HUB}/{{}}",
    "/v2/docker.io/alpine/{}",
    "/v2/library/alpine/{}?ns=docker.io",
    "/v2/alpine/{}?ns=docker.io",
    f"/v2/{HUB}/{{}}?ns=docker.io",
    "/v2/docker.io/alpine/{}?ns=registry.example",
]
AT_DOOR = [
    "/mirror/v2/library/alpine/{}",
    "/mirror/v2/alpine/{}",
    "/mirror/v2/library/alpine/{}?ns=docker.io",
    f"/mirror/v2/{HUB}/{{}}",
    f"/mirror/v2/{HUB}/{{}}?ns=docker.io",
]


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[UpstreamWorld]:
    world = UpstreamWorld(tmp_path)
    world.cache.images[HUB] = ALPINE
    await world.push(image([b"ours"]), "latest", repository="library/alpine")
    await world.push(image([b"ours, too"]), "latest", repository="alpine")
    yield world
    await world.close()


def told(answer: Answer) -> dict[str, object]:
    return {"status": answer.status, "body": answer.body, "type": answer.headers.get("content-type")}


@pytest.mark.parametrize("form", [*FORMS, *AT_DOOR])
async def test_every_way_of_asking(world: UpstreamWorld, form: str) -> None:
    manifest = await world.ask("node", "GET", form.format("manifests/latest"))
    assert told(manifest) == {"status": 200, "body": ALPINE.data, "type": ALPINE.media_type}
    assert manifest.headers["docker-content-digest"] == ALPINE.digest
    by_digest = await world.ask("node", "GET", form.format(f"manifests/{ALPINE.digest}"))
    assert told(by_digest) == told(manifest)
    head = await world.ask("node", "HEAD", form.format("manifests/latest"))
    assert (head.status, head.body, head.headers["content-length"]) == (200, b"", str(len(ALPINE.data)))

    blob = await world.ask("node", "GET", form.format(f"blobs/{LAYER}"))
    assert (blob.status, blob.body) == (200, b"the layer of alpine")
    part = await world.ask("node", "GET", form.format(f"blobs/{LAYER}"), headers={"range": "bytes=4-8"})
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"layer", "bytes 4-8/19")
    size = await world.ask("node", "HEAD", form.format(f"blobs/{LAYER}"))
    assert (size.status, size.body, size.headers["content-length"]) == (200, b"", "19")

    tags = await world.ask("node", "GET", form.format("tags/list"))
    assert tags.json == {"name": HUB, "tags": ["1", "10", "2", "latest"]}
    referrers = await world.ask("node", "GET", form.format(f"referrers/{ALPINE.digest}"))
    assert (referrers.status, referrers.json["manifests"]) == (200, [])
    assert {repository for _, repository, _ in world.cache.asked} == {HUB}
    assert [what for what, _, _ in world.cache.asked] == [
        "manifest", "manifest", "manifest", "blob", "blob", "size", "tags", "referrers"
    ]  # fmt: skip


async def test_the_header_says_the_same(world: UpstreamWorld) -> None:
    for before in ("", "/mirror"):
        target = f"{before}/v2/library/alpine/manifests/latest"
        answer = await world.ask("node", "GET", target, headers={"oci-namespace": "docker.io"})
        assert answer.body == ALPINE.data
        both = await world.ask("node", "GET", f"{target}?ns=ghcr.io", headers={"oci-namespace": "docker.io"})
        assert (both.status, both.error) == (400, "UNSUPPORTED")


async def test_the_second_address_is_the_door(world: UpstreamWorld) -> None:
    for target in ("/v2/library/alpine/manifests/latest", f"/v2/{HUB}/manifests/latest?ns=docker.io"):
        assert (await world.ask("node", "GET", target, at_door=True)).body == ALPINE.data
    for target in ("/mirror/v2/", "/healthz", "/metrics", "/token", "/api/v1/status", "/", "/v3/"):
        assert (await world.ask("node", "GET", target, at_door=True)).status == 404


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
@pytest.mark.parametrize(
    "name",
    [
        "manifests/latest",
        f"manifests/{ALPINE.digest}",
        f"blobs/{LAYER}",
        "blobs/uploads/",
        f"blobs/uploads/{'0' * 32}",
        "tags/list",
        f"referrers/{ALPINE.digest}",
    ],
)
async def test_the_door_is_for_reading(world: UpstreamWorld, method: str, name: str) -> None:
    world.authorization["node"] = world.authorization["root"]
    world.allow(rules=(Rule(("docker.io/**",), {"anonymous": frozenset({PULL, PUSH})}),))
    answer = await world.ask("node", method, f"/mirror/v2/library/alpine/{name}")
    if method not in {"GET", "HEAD"}:
        assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")
    else:
        assert answer.status == (404 if "uploads" in name else 200)
    assert not await world.events() or {event.repository for event in await world.events()} == {
        "library/alpine", "alpine"
    }  # fmt: skip


async def test_the_door_answers_the_ping_of_everybody(world: UpstreamWorld) -> None:
    for who in ("node", "anonymous", "root"):
        for target, at_door in (("/mirror/v2/", False), ("/mirror/v2", False), ("/v2/", True)):
            answer = await world.ask(who, "GET", target, at_door=at_door)
            assert (answer.status, answer.json) == (200, {})
        assert (await world.ask(who, "POST", "/mirror/v2/")).status == 405
    assert (await world.ask("node", "GET", "/mirror/v2/_catalog")).status == 404
    assert (await world.ask("node", "GET", "/mirror")).status == 404
    assert (await world.ask("node", "GET", "/mirror/")).status == 404
    assert (await world.ask("node", "GET", "/mirrors/v2/")).status == 404
    assert (await world.ask("node", "GET", "/mirror/token")).status == 404


async def test_credentials_that_come_to_the_door_are_not_looked_at(world: UpstreamWorld) -> None:
    """dockerd sends Docker Hub's there."""
    for header in ("Basic aGVsbG86aHViLXBhc3N3b3Jk", "Bearer hub-token", "nonsense", world.authorization["root"]):
        world.authorization.update(node=header, anonymous=header)
        assert (await world.ask("node", "GET", AT_DOOR[0].format("manifests/latest"))).status == 200
        assert (await world.ask("anonymous", "GET", AT_DOOR[0].format("manifests/latest"))).status == 403
    for secret in ("hub-password", "aGVsbG86aHViLXBhc3N3b3Jk", "hub-token"):
        assert secret not in world.logged.getvalue()


async def test_who_is_no_node_is_told_which_address_was_seen(world: UpstreamWorld) -> None:
    answer = await world.ask("anonymous", "GET", AT_DOOR[0].format("manifests/latest"))
    assert (answer.status, answer.error) == (403, "DENIED")
    (error,) = answer.json["errors"]
    assert "cache.networks" in error["message"]
    assert STRANGERS_ADDRESS in error["message"]
    assert "www-authenticate" not in answer.headers
    assert world.cache.asked == []


async def test_a_trusted_proxy_says_who_it_is(world: UpstreamWorld) -> None:
    target = AT_DOOR[0].format("manifests/latest")

    async def status(forwarded_for: str) -> int:
        return (await world.ask("anonymous", "GET", target, headers={"x-forwarded-for": forwarded_for})).status

    assert await status(NODE_ADDRESS) == 403
    world.context.options = replace(world.context.options, trusted_proxies=(ip_network(STRANGERS_ADDRESS),))
    assert await status(NODE_ADDRESS) == 200
    assert await status(f"{NODE_ADDRESS}, 203.0.113.5") == 403


async def test_where_anybody_may_pull_nobody_has_to_be_a_node(world: UpstreamWorld) -> None:
    world.allow(anonymous=frozenset({PULL}), networks=())
    assert (await world.ask("anonymous", "GET", AT_DOOR[0].format("manifests/latest"))).status == 200


async def test_without_upstreams_there_is_no_door(world: UpstreamWorld) -> None:
    world.context.options = replace(world.context.options, upstreams={})
    for target in ("/mirror/v2/", "/mirror/v2/library/alpine/manifests/latest"):
        answer = await world.ask("node", "GET", target)
        assert (answer.status, answer.error) == (404, "UNSUPPORTED")
    assert (await world.ask("node", "GET", "/v2/", at_door=True)).status == 404
    assert (await world.ask("ada", "GET", "/v2/library/alpine/manifests/latest?ns=docker.io")).status == 200  # Ours.


# --- ours stays ours --------------------------------------------------------------------------------------------------


async def test_what_says_no_upstream_is_ours_and_nobody_else_hears_of_it(world: UpstreamWorld) -> None:
    for name in ("library/alpine", "alpine", "team/x", "dockerio/library/alpine"):
        for path in ("manifests/latest", f"blobs/{LAYER}", "tags/list", f"referrers/{ALPINE.digest}"):
            for method in ("GET", "HEAD"):
                answer = await world.ask("ada", method, f"/v2/{name}/{path}")
                assert answer.body != ALPINE.data
    assert world.cache.asked == []


@pytest.mark.parametrize(
    "target",
    [
        "/v2/library/alpine/manifests/latest?ns=quay.io",
        "/v2/library/alpine/manifests/latest?ns=docker.io.evil",
        "/v2/library/alpine/manifests/latest?ns=DOCKER.IO",
        "/v2/library/alpine/manifests/latest?ns=",
        "/v2/library/alpine/manifests/latest?ns=http%3A%2F%2Fdocker.io",
        "/v2/library/alpine/tags/list?ns=quay.io",
        f"/v2/library/alpine/blobs/{LAYER}?ns=quay.io",
        f"/v2/library/alpine/referrers/{ALPINE.digest}?ns=quay.io",
        "/mirror/v2/library/alpine/manifests/latest?ns=quay.io",
        "/mirror/v2/quay.io/library/alpine/manifests/latest",
    ],
)
async def test_another_registry_is_not_ours_and_not_asked(world: UpstreamWorld, target: str) -> None:
    for who in ("root", "node"):
        answer = await world.ask(who, "GET", target)
        assert (answer.status, answer.error) == (404, "NAME_UNKNOWN")
    assert world.cache.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/v2/docker.io%2Flibrary%2Falpine/manifests/latest",
        "/v2/docker.io%2flibrary/alpine/manifests/latest",
        "/v2/docker.io/library%5calpine/manifests/latest",
        "/v2/docker.io%252Flibrary/alpine/manifests/latest",
        "/mirror%2Fv2/library/alpine/manifests/latest",
        "/mirror/v2/docker.io%2Flibrary/alpine/manifests/latest",
        "/mirror/v2/../v2/library/alpine/manifests/latest",
        "/mirror/v2//library/alpine/manifests/latest",
        "/MIRROR/v2/library/alpine/manifests/latest",
        "/v2/DOCKER.IO/library/alpine/manifests/latest",
        "/v2/docker.io//alpine/manifests/latest",
        "/v2/docker.io/./alpine/manifests/latest",
        "/v2/docker.io./library/alpine/manifests/latest",
        "/v2/docker.io:443/library/alpine/manifests/latest",
        "/v2/user@docker.io/library/alpine/manifests/latest",
    ],
)
async def test_a_path_has_one_reading(world: UpstreamWorld, path: str) -> None:
    for who in ("root", "node"):
        assert (await world.ask(who, "GET", path)).status in {400, 404}
    assert world.cache.asked == []


async def test_skipped_names_are_ours(world: UpstreamWorld) -> None:
    world.cache.skipped.add(HUB)
    assert (await world.ask("ada", "GET", f"/v2/{HUB}/manifests/latest")).status == 404
    await world.hold(ELSEWHERE, "latest", repository=HUB)
    assert (await world.ask("ada", "GET", f"/v2/{HUB}/manifests/latest")).body == ELSEWHERE.data
    assert world.cache.asked == []


async def test_without_a_cache_what_is_here_is_served(world: UpstreamWorld) -> None:
    world.context.cache = None
    await world.hold(ELSEWHERE, "latest", repository=HUB)
    for form in (*FORMS, *AT_DOOR):
        assert (await world.ask("node", "GET", form.format("manifests/latest"))).body == ELSEWHERE.data


# --- nobody pushes ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
async def test_nobody_pushes_to_an_upstreams_name(world: UpstreamWorld, form: str) -> None:
    world.allow(anonymous=frozenset({PULL, PUSH}), signed_in=frozenset({PULL, PUSH}))
    await world.token("robot", None, Limit(("**",), frozenset({PULL, PUSH})))
    held = Digest.of(b"ours")
    separator = "&" if "?" in form else "?"
    for who in ("root", "ada", "robot", "anonymous", "node"):
        for method, path in (
            ("POST", "blobs/uploads/"),
            ("POST", f"blobs/uploads/{{}}digest={held}"),
            ("POST", f"blobs/uploads/{{}}mount={held}&from=alpine"),
            ("PATCH", f"blobs/uploads/{'0' * 32}"),
            ("PUT", f"blobs/uploads/{'0' * 32}{{}}digest={held}"),
            ("GET", f"blobs/uploads/{'0' * 32}"),
            ("PUT", "manifests/latest"),
            ("PUT", f"manifests/{ELSEWHERE.digest}{{}}tag=latest"),
        ):
            name, asks, query = path.partition("{}")
            target = form.format(name) + (separator + query if asks else "")
            answer = await world.ask(who, method, target, ELSEWHERE.data, {"content-type": ELSEWHERE.media_type})
            logged_in = who not in {"anonymous", "node"}
            assert answer.status == (403 if logged_in else 401), (who, method, path)
            if logged_in:
                assert answer.error == "DENIED"
                assert "another registry" in answer.json["errors"][0]["message"]
    assert not await world.has_manifest(HUB, "latest")
    assert await world.link(held, HUB) is None
    assert world.cache.asked == []


async def test_a_bearer_hears_why_as_well(world: UpstreamWorld) -> None:
    who = await world.bearer("root", f"repository:{HUB}:pull,push")
    answer = await world.ask(who, "POST", f"/v2/{HUB}/blobs/uploads/")
    assert (answer.status, "another registry" in answer.json["errors"][0]["message"]) == (403, True)
    elsewhere = await world.bearer("ada", "repository:team/x:pull")
    assert (await world.ask(elsewhere, "POST", "/v2/team/x/blobs/uploads/")).status == 401


async def test_a_rule_that_begins_with_the_upstream_lets_push(world: UpstreamWorld) -> None:
    world.allow(rules=(Rule(("docker.io/ours/**",), {"ada": frozenset({PULL, PUSH})}),))
    assert (await world.ask("ada", "POST", "/v2/docker.io/ours/app/blobs/uploads/")).status == 202
    assert (await world.ask("ada", "POST", "/v2/ours/app/blobs/uploads/?ns=docker.io")).status == 202
    assert (await world.ask("ada", "POST", f"/v2/{HUB}/blobs/uploads/")).status == 403


async def test_a_pusher_is_not_told_that_a_blob_is_here_that_only_upstream_has(world: UpstreamWorld) -> None:
    world.allow(rules=(Rule(("docker.io/**",), {"ada": frozenset({PULL, PUSH})}),))
    assert (await world.ask("ada", "HEAD", f"/v2/{HUB}/blobs/{LAYER}")).status == 404
    assert (await world.ask("node", "HEAD", f"/v2/{HUB}/blobs/{LAYER}")).status == 200


# --- answers of the cache ---------------------------------------------------------------------------------------------


async def test_a_warning_is_a_header(world: UpstreamWorld) -> None:
    world.cache.warning = 'docker.io does not answer "now"\r\nx: y'
    for path in ("manifests/latest", "tags/list", f"referrers/{ALPINE.digest}"):
        answer = await world.ask("node", "GET", f"/v2/{HUB}/{path}")
        assert answer.headers["warning"] == '299 - "docker.io does not answer nowx: y"'
    world.cache.warning = None
    assert "warning" not in (await world.ask("node", "GET", f"/v2/{HUB}/tags/list")).headers


@pytest.mark.parametrize(
    ("header", "status", "body", "content_range"),
    [
        (None, 200, b"the layer of alpine", None),
        ("bytes=0-2", 206, b"the", "bytes 0-2/19"),
        ("bytes=13-", 206, b"alpine", "bytes 13-18/19"),
        ("bytes=-6", 206, b"alpine", "bytes 13-18/19"),
        ("bytes=0-2,4-8", 200, b"the layer of alpine", None),
        ("bytes=19-", 416, None, "bytes */19"),
        ("nonsense", 200, b"the layer of alpine", None),
    ],
)
async def test_a_blob_that_is_coming(
    world: UpstreamWorld, header: str | None, status: int, body: bytes | None, content_range: str | None
) -> None:
    headers = {"range": header} if header else {}
    answer = await world.ask("node", "GET", f"/v2/{HUB}/blobs/{LAYER}", headers=headers)
    assert (answer.status, answer.headers.get("content-range")) == (status, content_range)
    if body is not None:
        assert answer.body == body
        assert answer.headers["content-length"] == str(len(body))
        assert answer.headers["docker-content-digest"] == LAYER


async def test_a_blob_that_stops_coming_is_cut_and_never_shorter(world: UpstreamWorld) -> None:
    world.cache.fails_at = 5
    answer = await world.ask("node", "GET", f"/v2/{HUB}/blobs/{LAYER}")
    assert (answer.status, answer.cut, answer.body) == (200, True, b"the l")
    assert answer.headers["content-length"] == "19"


async def test_what_the_client_has_is_not_sent(world: UpstreamWorld) -> None:
    for path, digest in ((f"blobs/{LAYER}", LAYER), ("manifests/latest", ALPINE.digest)):
        for method in ("GET", "HEAD"):
            answer = await world.ask("node", method, f"/v2/{HUB}/{path}", headers={"if-none-match": f'"{digest}"'})
            assert (answer.status, answer.body) == (304, b"")


async def test_pulls_count_under_our_name(world: UpstreamWorld) -> None:
    await world.ask("node", "GET", AT_DOOR[0].format("manifests/latest"))
    await world.ask("node", "GET", AT_DOOR[0].format(f"blobs/{LAYER}"))
    await world.ask("node", "HEAD", AT_DOOR[0].format("manifests/latest"))
    await world.context.pulls.flush(world.registry)
    rows = await world.rows("SELECT repository, reference, pulls FROM pulls ORDER BY reference")
    assert rows == [(HUB, "latest", 1), (HUB, LAYER, 1)]


@pytest.mark.parametrize("base", ["/v2/docker.io/library/alpine", "/mirror/v2/docker.io/library/alpine"])
async def test_pages_lead_on_through_the_same_door(world: UpstreamWorld, base: str) -> None:
    found: list[str] = []
    target = base.removesuffix("docker.io/library/alpine") + "library/alpine/tags/list?n=1&ns=docker.io"
    while target:
        answer = await world.ask("node", "GET", target)
        found += answer.json["tags"]
        target = answer.headers.get("link", "").partition("<")[2].partition(">")[0]
        assert not target or target.startswith(f"{base}/tags/list?n=1&last=")
    assert found == ["1", "10", "2", "latest"]
    assert (await world.ask("node", "GET", f"{base}/tags/list?n=0")).json["tags"] == []
    assert (await world.ask("node", "GET", f"{base}/tags/list?last=zzz")).json["tags"] == []


# --- logging in on the registry's own address -------------------------------------------------------------------------


async def test_a_client_is_asked_for_a_token_for_our_name(world: UpstreamWorld) -> None:
    for target in ("/v2/library/alpine/manifests/latest?ns=docker.io", f"/v2/{HUB}/manifests/latest"):
        answer = await world.ask("anonymous", "GET", target)
        assert answer.status == 401
        assert f'scope="repository:{HUB}:pull"' in answer.headers["www-authenticate"]
    assert world.cache.asked == []
    assert (await world.ask("ada", "GET", "/v2/library/alpine/manifests/latest?ns=docker.io")).status == 200


async def test_a_node_that_asks_as_docker_does(world: UpstreamWorld) -> None:
    """It is asked for a token at `/v2/`, gets one without a login, by the name that was typed."""
    assert (await world.ask("node", "GET", "/v2/")).status == 401
    who = await world.bearer("node", "repository:docker.io/alpine:pull")
    assert (await world.ask(who, "GET", "/v2/")).status == 200
    assert (await world.ask(who, "GET", "/v2/docker.io/alpine/manifests/latest")).body == ALPINE.data
