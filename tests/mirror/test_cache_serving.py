"""A Homeport that runs, and serves an upstream's images: what clients see of the cache."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
from aiohttp import ClientResponse, ClientSession, encode_basic_auth

from tests.mirror.artifacts import Artifacts
from tests.mirror.caching import NAME
from tests.mirror.mirroring import folder_of
from tests.mirror.upstream import Kind, Quota, Upstream
from tests.support.processes import Homeport


class Client:
    """Asks a Homeport for what it has of an upstream's repository."""

    def __init__(self, session: ClientSession, upstream: Upstream) -> None:
        self._session = session
        self._path = f"/v2/{folder_of(upstream)}/{NAME}"

    async def ask(self, method: str, path: str, **headers: str) -> tuple[ClientResponse, bytes]:
        async with self._session.request(method, f"{self._path}/{path}", headers=headers) as answer:
            return answer, await answer.read()


@pytest.fixture
async def client(homeport: Homeport, upstream: Upstream) -> AsyncIterator[Client]:
    settings = {"cache": {"upstreams": [upstream.host], "fresh_for": 0}}
    url = await asyncio.to_thread(homeport.start, settings)
    headers = {"Authorization": encode_basic_auth("reader", homeport.passwords["reader"])}
    async with ClientSession(url, headers=headers) as session:
        yield Client(session, upstream)
    await asyncio.to_thread(homeport.stop)


async def test_an_upstreams_image_is_pulled_as_one_of_ours(
    client: Client, upstream: Upstream, artifacts: Artifacts
) -> None:
    image = upstream.put(NAME, artifacts.image(200_000), "3.20")
    manifest, layer = image.pushed.manifest, image.blobs[1]
    answer, _ = await client.ask("HEAD", "manifests/3.20")
    assert answer.status == 200
    assert answer.headers["Docker-Content-Digest"] == image.digest
    assert answer.headers["Content-Length"] == str(len(manifest.data))
    assert answer.headers["Content-Type"] == manifest.media_type
    assert upstream.count(Kind.GET_MANIFEST) == 0
    assert (await client.ask("GET", f"manifests/{image.digest}"))[1] == manifest.data
    answer, _ = await client.ask("HEAD", f"blobs/{layer.blob.digest}")
    assert answer.headers["Content-Length"] == str(len(layer.data))
    answer, data = await client.ask("GET", f"blobs/{layer.blob.digest}", Range="bytes=1000-1999")
    assert (answer.status, data) == (206, layer.data[1000:2000])
    assert (await client.ask("GET", f"blobs/{layer.blob.digest}"))[1] == layer.data
    assert upstream.count(Kind.GET_BLOB) == 1
    assert (await client.ask("GET", "tags/list"))[1].endswith(b'"tags":["3.20"]}')
    assert (await client.ask("GET", "manifests/none"))[0].status == 404

    await upstream.down()
    answer, data = await client.ask("GET", "manifests/3.20")
    assert (answer.status, data) == (200, manifest.data)
    assert answer.headers["Warning"].startswith(f'299 - "{upstream.host} does not answer; served as it was at ')
    assert (await client.ask("GET", f"blobs/{layer.blob.digest}"))[1] == layer.data
    answer, data = await client.ask("GET", "manifests/other")
    assert answer.status == 503
    assert b"does not answer" in data
    assert int(answer.headers["Retry-After"]) > 0


async def test_many_pull_one_layer_at_once(client: Client, upstream: Upstream, artifacts: Artifacts) -> None:
    image = upstream.put(NAME, artifacts.image(5_000_000), "latest")
    layer = image.blobs[1]
    await client.ask("GET", "manifests/latest")
    found = await asyncio.gather(*(client.ask("GET", f"blobs/{layer.blob.digest}") for _ in range(20)))
    assert {data for _, data in found} == {layer.data}
    assert upstream.count(Kind.GET_BLOB) == 1


async def test_an_upstreams_refusal_is_no_challenge_of_ours(
    client: Client, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.scheme = "basic"
    upstream.put(NAME, artifacts.image(), "latest")
    for path in ("manifests/latest", "tags/list"):
        answer, _ = await client.ask("GET", path)
        assert answer.status == 404
        assert "WWW-Authenticate" not in answer.headers


async def test_what_pulls_left_of_a_quota_is_known_to_other_processes(
    homeport: Homeport, client: Client, upstream: Upstream, artifacts: Artifacts
) -> None:
    upstream.quota = Quota(100, 41)
    upstream.put(NAME, artifacts.image(), "latest")
    await client.ask("GET", "manifests/latest")
    await asyncio.to_thread(homeport.stop)
    command = [sys.executable, "-m", "homeport", "mirror", "status", "--json"]
    command += ["--config", str(homeport.folder / "homeport.yaml"), "--data", str(homeport.data)]
    told = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
    (quota,) = json.loads(told.stdout)["quotas"]
    assert (quota["host"], quota["remaining"]) == (upstream.host, 40)
    await asyncio.to_thread(homeport.start)
