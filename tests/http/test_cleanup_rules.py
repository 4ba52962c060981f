"""Tags that never change, and whose pulls count, on a server whose configuration says so."""

import sqlite3
from contextlib import closing

import pytest

from tests.http.images import digest_of, image, push_image, push_manifest
from tests.http.watching import reload
from tests.http.wire import Answer, Client
from tests.support.processes import Config, Homeport

CONFIGURATION: Config = {
    "access": {"anonymous": ["pull", "push", "delete"]},
    "log": {"format": "json"},
    "storage": {"reserve_bytes": 0, "reserve_percent": 0},
}
IMMUTABLE = {"repositories": {"immutable": [{"repositories": "team/**", "tags": ["v*", "latest"]}]}}
OTHER = image(b"{}", [b"other"])


@pytest.fixture
def client(homeport: Homeport) -> Client:
    """Nobody in particular, at a server that was started for this test alone."""
    homeport.start(CONFIGURATION)
    return Client(homeport.url)


def refused(answer: Answer, by: str) -> bool:
    """Whether it is told as docker shows it and gives up at: `denied: ...`, with the tag and the rule."""
    assert by in answer.json["errors"][0]["message"]
    return (answer.status, answer.error) == (403, "DENIED") and "retry-after" not in answer


def test_immutable_tags(homeport: Homeport, client: Client) -> None:
    """CVE-2026-31801: `latest`, and tags beside a digest, were left out of the check."""
    manifest = push_image(client, "team/app", "v1", b"layer")
    push_manifest(client, "team/app", manifest, "latest")
    push_image(client, "team/app", "main", b"other")
    reload(homeport, {**CONFIGURATION, **IMMUTABLE})

    path = "/v2/team/app/manifests"
    for tag, by in (("v1", "v1 by v* (team/**)"), ("latest", "latest by latest (team/**)")):
        for target in (tag, f"{OTHER.digest}?tag={tag}", f"{OTHER.digest}?tag=new&tag={tag}"):
            answer = client.put(f"{path}/{target}", OTHER.data, content_type=OTHER.media_type)
            assert refused(answer, by), target
        assert refused(client.delete(f"{path}/{tag}"), by)
        assert client.put(f"{path}/{tag}", manifest.data, content_type=manifest.media_type).status == 201
        assert client.head(f"{path}/{tag}")["docker-content-digest"] == manifest.digest
    assert client.delete(f"{path}/{manifest.digest}").status == 403
    assert client.get("/v2/team/app/tags/list").json["tags"] == ["latest", "main", "v1"]
    push_manifest(client, "team/app", OTHER, "v2")
    assert client.delete(f"{path}/main").status == 202

    reload(homeport, CONFIGURATION)
    assert client.delete(f"{path}/v1").status == 202


def pulled(homeport: Homeport) -> dict[str, int]:
    """How often each tag was pulled, as a stopped server wrote it down."""
    with closing(sqlite3.connect(homeport.data / "homeport.db")) as database:
        return dict(database.execute("SELECT reference, pulls FROM pulls").fetchall())


def test_only_the_pulls_of_people_and_nodes_count(homeport: Homeport, client: Client) -> None:
    digest = push_image(client, "app", "v1", b"layer").digest
    push_image(client, "app", "v2", b"layer")

    def pull(reference: str, agent: str | None) -> None:
        headers = {"user_agent": agent} if agent is not None else {}
        assert client.get(f"/v2/app/manifests/{reference}", **headers).status == 200

    for agent in ("docker/28.0 go/1.24", "containerd/2.0", None, ""):
        pull("v1", agent)
    for agent in ("homeport", "Trivy/0.60", "regclient/regsync (v0.11)", "go/1.2 (clair/4.8)"):
        pull("v1", agent)
        pull("v2", agent)
        pull(digest, agent)
        assert client.get(f"/v2/app/blobs/{digest_of(b'layer')}", user_agent=agent).status == 200
    client.head("/v2/app/manifests/v2")
    reload(homeport, {**CONFIGURATION, "cleanup": {"not_pulls": ["docker/*"]}})
    pull("v2", "docker/28.0")
    pull("v2", "Trivy/0.60")
    homeport.stop()
    assert pulled(homeport) == {"v1": 4, "v2": 1}
