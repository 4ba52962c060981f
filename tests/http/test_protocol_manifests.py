"""Manifests by tag and by digest: end-3, end-7a, end-7b and end-9 of the distribution-spec, and Docker's older ones."""

import json

import pytest

from tests.http.images import (
    CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    INDEX,
    MANIFEST,
    Document,
    Manifest,
    descriptor,
    digest_of,
    encoded,
    image,
    index,
    push_blob,
    push_image,
    push_manifest,
)
from tests.http.wire import Answer, Client

LAYER = b"a layer"
ABSENT = digest_of(b"absent")
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"
DOCKER_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"
DOCKER_FOREIGN_LAYER = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
HELM_CONFIG = "application/vnd.cncf.helm.config.v1+json"
HELM_CHART = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
EMPTY = "application/vnd.oci.empty.v1+json"


@pytest.fixture
def blobs(client: Client, repository: str) -> str:
    """The repository, holding `{}` and a layer."""
    push_blob(client, repository, b"{}")
    push_blob(client, repository, LAYER)
    return repository


def put(client: Client, repository: str, reference: str, manifest: Manifest) -> Answer:
    return client.put(f"/v2/{repository}/manifests/{reference}", manifest.data, content_type=manifest.media_type)


def is_served(client: Client, repository: str, reference: str, manifest: Manifest) -> bool:
    """Whether GET and HEAD give the manifest's very bytes under this tag or digest."""
    path = f"/v2/{repository}/manifests/{reference}"
    digest = reference if ":" in reference else manifest.digest
    got, head = client.get(path), client.head(path)
    if got.status != 200:
        assert got.status == head.status == 404
        assert got.error == "MANIFEST_UNKNOWN"
        return False
    for answer in (got, head):
        assert answer.status == 200
        assert answer["content-type"] == manifest.media_type
        assert answer["content-length"] == str(len(manifest.data))
        assert answer["docker-content-digest"] == digest
        assert answer["etag"] == f'"{digest}"'
    return got.body == manifest.data and head.body == b""


def _docker(config: bytes, layers: list[Document]) -> Manifest:
    return encoded(
        {
            "schemaVersion": 2,
            "mediaType": DOCKER_MANIFEST,
            "config": descriptor(config, DOCKER_CONFIG),
            "layers": layers,
        }
    )


def _without_media_type(manifest: Manifest) -> Manifest:
    document = json.loads(manifest.data)
    del document["mediaType"]
    return encoded(document, manifest.media_type)


KINDS = {
    "oci-image": image(b"{}", [LAYER]),
    "oci-image-without-layers": image(b"{}"),
    "oci-image-without-media-type": _without_media_type(image(b"{}", [LAYER])),
    "oci-image-no-layers-as-go-writes-it": image(b"{}", layers=None),
    "docker-schema-2": _docker(b"{}", [descriptor(LAYER, DOCKER_LAYER)]),
    "docker-foreign-layer": _docker(b"{}", [descriptor(b"elsewhere", DOCKER_FOREIGN_LAYER)]),
    "helm-chart": image(b"{}", config=descriptor(b"{}", HELM_CONFIG), layers=[descriptor(LAYER, HELM_CHART)]),
    "artifact": image(b"{}", [LAYER], artifactType="application/vnd.example+type", config=descriptor(b"{}", EMPTY)),
    "data-in-the-descriptor": image(b"{}", config=descriptor(b"{}", EMPTY) | {"data": "e30="}),
    "fields-of-tomorrow": image(b"{}", [LAYER], **{"org.example.new": {"a": [1, None, {"b": 1.5}]}}),
    "annotations": image(b"{}", [LAYER], annotations={"\u00e4\u2028\U0001f433": "\n\"'<script>"}),
    "non-distributable": image(
        b"{}", layers=[descriptor(b"x", "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip")]
    ),
    "missing-subject": image(b"{}", [LAYER], subject=descriptor(b"never pushed", MANIFEST)),
    "empty-index": index([]),
    "empty-index-without-media-type": _without_media_type(index([])),
    "empty-docker-list": encoded({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": []}),
    "build-cache": encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(LAYER, DOCKER_LAYER)]}),
    "odd-bytes": Manifest(b'  {"config":\r\n' + image(b"{}").data.partition(b'"config":')[2][:-1]
        + b',"schemaVersion":2 ,\t"mediaType":"' + MANIFEST.encode() + b'"}\n', MANIFEST),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_tag(client: Client, blobs: str, kind: str) -> None:
    manifest = KINDS[kind]
    answer = put(client, blobs, "v1", manifest)
    assert (answer.status, answer.body, answer["content-length"]) == (201, b"", "0"), answer
    assert answer["docker-content-digest"] == manifest.digest
    assert is_served(client, blobs, answer["location"].rpartition("/")[2], manifest)
    assert is_served(client, blobs, "v1", manifest)
    assert is_served(client, blobs, manifest.digest, manifest)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_by_digest(client: Client, blobs: str, kind: str, algorithm: str) -> None:
    manifest = KINDS[kind]
    digest = digest_of(manifest.data, algorithm)
    answer = put(client, blobs, digest, manifest)
    assert (answer.status, answer["docker-content-digest"]) == (201, digest)
    assert answer["location"] == f"/v2/{blobs}/manifests/{digest}"
    assert is_served(client, blobs, digest, manifest)
    assert "oci-tag" not in answer
    assert client.get(f"/v2/{blobs}/tags/list").json["tags"] == []


def test_an_index_of_everything(client: Client, blobs: str) -> None:
    """Images, an image of Docker's, an index: all held, so the index is too."""
    children = [KINDS["oci-image"], KINDS["docker-schema-2"], KINDS["empty-index"]]
    for child in children:
        push_manifest(client, blobs, child)
    for whole in (
        index(children),
        encoded({"schemaVersion": 2, "mediaType": DOCKER_LIST, "manifests": [KINDS["docker-schema-2"].descriptor]}),
    ):
        assert put(client, blobs, "all", whole).status == 201
        assert is_served(client, blobs, "all", whole)


def test_parameters_of_the_content_type_are_tolerated(client: Client, blobs: str) -> None:
    manifest = KINDS["oci-image"]
    target = f"/v2/{blobs}/manifests/v1"
    assert client.put(target, manifest.data, content_type=f"{MANIFEST}; charset=utf-8").status == 201
    assert client.get(target)["content-type"] == MANIFEST


def test_what_is_stored_is_served_whatever_is_accepted(client: Client, blobs: str) -> None:
    push_manifest(client, blobs, KINDS["oci-image"], "v1")
    for accept in (DOCKER_MANIFEST, "text/html", "*/*", ""):
        assert client.get(f"/v2/{blobs}/manifests/v1", accept=accept)["content-type"] == MANIFEST


def test_a_large_manifest(client: Client, blobs: str) -> None:
    """The spec asks that 4 MB be coped with; the conformance program sends 3.9."""
    manifest = image(b"{}", [LAYER], annotations={f"key-{n}": "x" * 10_000 for n in range(390)})
    assert put(client, blobs, "large", manifest).status == 201
    assert is_served(client, blobs, "large", manifest)


@pytest.mark.parametrize("known", ["{}", "W/{}", '"x", {}', "*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_if_none_match(client: Client, blobs: str, known: str, method: str, by: str) -> None:
    digest = push_manifest(client, blobs, KINDS["oci-image"], "v1")
    path = f"/v2/{blobs}/manifests/{'v1' if by == 'tag' else digest}"
    header = known.format(f'"{digest}"')
    answer = client.request(method, path, headers={"If-None-Match": header})
    assert (answer.status, answer.body, answer["etag"]) == (304, b"", f'"{digest}"')
    assert answer["docker-content-digest"] == digest
    push_manifest(client, blobs, KINDS["annotations"], "v1")
    if by == "tag" and known != "*":
        assert client.request(method, path, headers={"If-None-Match": header}).status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD", "DELETE"])
@pytest.mark.parametrize("reference", ["v1", ABSENT, "latest"])
def test_what_is_not_here(client: Client, blobs: str, method: str, reference: str) -> None:
    for name in (blobs, "no/such"):
        answer = client.request(method, f"/v2/{name}/manifests/{reference}")
        assert answer.status == 404
        assert method == "HEAD" or answer.error == "MANIFEST_UNKNOWN"


# --- tags -------------------------------------------------------------------------------------------------------------


def test_a_tag_moves(client: Client, blobs: str) -> None:
    for kind in ("oci-image", "artifact", "oci-image"):
        push_manifest(client, blobs, KINDS[kind], "latest")
        assert is_served(client, blobs, "latest", KINDS[kind])
    assert is_served(client, blobs, KINDS["artifact"].digest, KINDS["artifact"])


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_tags_of_a_push_by_digest(client: Client, blobs: str, algorithm: str) -> None:
    """end-7b."""
    manifest = KINDS["oci-image"]
    digest = digest_of(manifest.data, algorithm)
    names = [f"t{n}" for n in range(12)]
    query = "&".join(f"tag={name}" for name in names)
    answer = put(client, blobs, f"{digest}?{query}", manifest)
    assert (answer.status, answer["oci-tag"]) == (201, ", ".join(names))
    assert client.get(f"/v2/{blobs}/tags/list").json["tags"] == sorted(names)
    for name in names:
        assert client.head(f"/v2/{blobs}/manifests/{name}")["docker-content-digest"] == digest


def test_all_tags_of_a_push_or_none(client: Client, blobs: str) -> None:
    manifest = KINDS["oci-image"]
    answer = put(client, blobs, f"{manifest.digest}?tag=good&tag=not%20good", manifest)
    assert (answer.status, answer.error) == (400, "TAG_INVALID")
    assert client.get(f"/v2/{blobs}/manifests/good").status == 404
    assert client.get(f"/v2/{blobs}/manifests/{manifest.digest}").status == 404


@pytest.mark.parametrize(
    "tag", ["a", "_", "A.b-c_d", "1", "a" * 128, "sha256-" + "0" * 64, "latest", "list", "uploads"]
)
def test_tags_that_can_be(client: Client, blobs: str, tag: str) -> None:
    push_manifest(client, blobs, KINDS["oci-image"], tag)
    assert is_served(client, blobs, tag, KINDS["oci-image"])


def test_tags_differ_by_case(client: Client, blobs: str) -> None:
    push_manifest(client, blobs, KINDS["oci-image"], "V1")
    assert client.get(f"/v2/{blobs}/manifests/v1").status == 404


# --- what is refused --------------------------------------------------------------------------------------------------


def test_the_digest_has_to_be_of_the_bytes(client: Client, blobs: str) -> None:
    answer = put(client, blobs, ABSENT, KINDS["oci-image"])
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")
    assert KINDS["oci-image"].digest in answer.sentence


@pytest.mark.parametrize(
    ("manifest", "missing"),
    [
        (image(b"absent"), ABSENT),
        (image(b"{}", [LAYER, b"absent"]), ABSENT),
        (index([Manifest(b"absent", MANIFEST)]), ABSENT),
        (index([Manifest(b"absent", INDEX)]), ABSENT),
        (encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [descriptor(b"absent", "a/b")]}), ABSENT),
        # It is here, but as a blob: nobody could pull it as a manifest.
        (index([Manifest(LAYER, MANIFEST)]), digest_of(LAYER)),
        # Only a layer may be held elsewhere.
        (image(b"{}", config=descriptor(b"absent", DOCKER_FOREIGN_LAYER)), ABSENT),
    ],
    ids=["config", "layer", "child", "child-index", "child-blob", "blob-as-child", "foreign-config"],
)
def test_what_a_manifest_names_has_to_be_here(client: Client, blobs: str, manifest: Manifest, missing: str) -> None:
    for reference in ("v1", manifest.digest, f"{manifest.digest}?tag=v1"):
        answer = put(client, blobs, reference, manifest)
        assert (answer.status, answer.error) == (400, "MANIFEST_BLOB_UNKNOWN")
        assert missing in answer.sentence
    assert not is_served(client, blobs, manifest.digest, manifest)
    assert client.get(f"/v2/{blobs}/tags/list").json["tags"] == []


def test_what_another_repository_holds_is_not_here(client: Client, blobs: str) -> None:
    push_image(client, f"{blobs}/other", "v1", b"only there", config=b"{}")
    for manifest in (image(b"{}", [b"only there"]), index([image(b"{}", [b"only there"])])):
        assert put(client, blobs, "v1", manifest).error == "MANIFEST_BLOB_UNKNOWN"


def test_an_index_with_missing_children_where_that_is_allowed(client: Client, repository: str) -> None:
    sparse = f"sparse/{repository}"
    held = push_image(client, sparse, "held", LAYER)
    manifest = index([held, Manifest(b"absent", MANIFEST)])
    push_manifest(client, sparse, manifest, "some")
    assert is_served(client, sparse, "some", manifest)
    assert client.get(f"/v2/{sparse}/manifests/{digest_of(b'absent')}").status == 404
    # Only children: an image is whole or not here.
    assert put(client, sparse, "v1", image(b"absent")).error == "MANIFEST_BLOB_UNKNOWN"


@pytest.mark.parametrize("media_type", [
    "application/vnd.docker.distribution.manifest.v1+json", "application/vnd.docker.distribution.manifest.v1+prettyjws",
    "application/json",
])  # fmt: skip
def test_schema_1(client: Client, repository: str, media_type: str) -> None:
    document = {"schemaVersion": 1, "name": repository, "tag": "v1", "fsLayers": [{"blobSum": ABSENT}], "history": []}
    answer = put(client, repository, "v1", encoded(document, media_type))
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")
    assert "schema 1" in answer.sentence
    assert "newer" in answer.sentence


# --- deletes ----------------------------------------------------------------------------------------------------------


def test_deleting_a_tag_leaves_the_manifest_and_its_other_tags(client: Client, blobs: str) -> None:
    manifest = KINDS["oci-image"]
    for tag in ("v1", "v2"):
        push_manifest(client, blobs, manifest, tag)
    answer = client.delete(f"/v2/{blobs}/manifests/v1")
    assert (answer.status, answer.body) == (202, b"")
    assert not is_served(client, blobs, "v1", manifest)
    assert is_served(client, blobs, "v2", manifest)
    assert client.delete(f"/v2/{blobs}/manifests/v2").status == 202
    assert is_served(client, blobs, manifest.digest, manifest)
    assert client.get(f"/v2/{blobs}/tags/list").json["tags"] == []
    assert client.delete(f"/v2/{blobs}/manifests/v2").status == 404


def test_deleting_a_manifest_takes_its_tags_along(client: Client, blobs: str) -> None:
    manifest, other = KINDS["oci-image"], KINDS["artifact"]
    for tag in ("v1", "v2"):
        push_manifest(client, blobs, manifest, tag)
    push_manifest(client, blobs, other, "other")
    assert client.delete(f"/v2/{blobs}/manifests/{manifest.digest}").status == 202
    for reference in ("v1", "v2", manifest.digest):
        assert not is_served(client, blobs, reference, manifest)
    assert client.get(f"/v2/{blobs}/tags/list").json["tags"] == ["other"]
    assert is_served(client, blobs, "other", other)
    # Pushed again it is there again, without its tags.
    push_manifest(client, blobs, manifest)
    assert is_served(client, blobs, manifest.digest, manifest)
    assert not is_served(client, blobs, "v1", manifest)


def test_a_child_is_not_deleted_before_its_index(client: Client, blobs: str) -> None:
    child = KINDS["oci-image"]
    push_manifest(client, blobs, child, "child")
    whole = index([child])
    push_manifest(client, blobs, whole, "all")
    answer = client.delete(f"/v2/{blobs}/manifests/{child.digest}")
    assert (answer.status, answer.error) == (405, "UNSUPPORTED")
    assert whole.digest in answer.sentence
    assert client.delete(f"/v2/{blobs}/manifests/child").status == 202
    assert client.delete(f"/v2/{blobs}/manifests/{whole.digest}").status == 202
    assert client.delete(f"/v2/{blobs}/manifests/{child.digest}").status == 202


def test_a_repository_with_nothing_left_is_gone(client: Client, blobs: str) -> None:
    manifest = KINDS["oci-image"]
    push_manifest(client, blobs, manifest, "v1")
    assert client.delete(f"/v2/{blobs}/manifests/{manifest.digest}").status == 202
    for data in (b"{}", LAYER):
        assert client.delete(f"/v2/{blobs}/blobs/{digest_of(data)}").status == 202
    answer = client.get(f"/v2/{blobs}/tags/list")
    assert (answer.status, answer.error) == (404, "NAME_UNKNOWN")


def test_names_of_repositories_that_look_like_routes(client: Client) -> None:
    """A path has one reading, also where every part of it is a word of the protocol."""
    for name in (
        "manifests",
        "blobs/uploads",
        "tags/list",
        "a/manifests/b",
        "uploads",
        "referrers/x",
        "a/blobs",
        "_catalog",
    ):
        repository = f"words/{name}" if name != "_catalog" else "words/catalog"
        manifest = push_image(client, repository, "tags", b"x", config=CONFIG.encode())
        assert is_served(client, repository, "tags", manifest)
        assert client.get(f"/v2/{repository}/tags/list").json == {"name": repository, "tags": ["tags"]}
        assert client.get(f"/v2/{repository}/blobs/{digest_of(b'x')}").body == b"x"
        assert client.get(f"/v2/{repository}/referrers/{manifest.digest}").json["manifests"] == []
