"""Lists: tags, repositories and referrers, and the pages of each. `_catalog`, end-8 and end-12 of the
distribution-spec."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import pytest

from tests.http.images import (
    INDEX,
    MANIFEST,
    Document,
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
from tests.support.processes import Homeport

#: In ASCII order, which is that of the answers.
TAGS = ["1.10", "1.9", "A", "Z", "_x", "a", "a.b", "a1", "aa", "latest", "v1"]


def next_page(answer: Answer) -> str | None:
    """Where the next page is, as RFC 8288 writes it."""
    if "link" not in answer:
        return None
    target, _, relation = answer["link"].partition(">; ")
    assert relation == 'rel="next"'
    assert target.startswith("</v2/")
    return target[1:]


def all_pages(client: Client, target: str, field: str) -> tuple[list[Any], int]:
    """What all pages hold together, and how many they were."""
    entries: list[Any] = []
    pages, following = 0, target or None
    while following:
        answer = client.get(following)
        assert answer.status == 200, answer
        entries += answer.json[field]
        pages += 1
        assert pages < 100
        following = next_page(answer)
    return entries, pages


# --- tags -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def tagged(client: Client, repository: str) -> str:
    manifest = push_image(client, repository, TAGS[0], b"x")
    for tag in reversed(TAGS):
        push_manifest(client, repository, manifest, tag)
    return f"/v2/{repository}/tags/list"


def test_tags(client: Client, repository: str, tagged: str) -> None:
    answer = client.get(tagged)
    assert answer.json == {"name": repository, "tags": TAGS}
    assert answer["content-type"] == "application/json"
    assert "link" not in answer


@pytest.mark.parametrize(
    ("query", "tags", "more"),
    [
        ("n=3", TAGS[:3], True),
        ("n=3&last=Z", TAGS[4:7], True),
        ("n=11", TAGS, False),
        ("n=10", TAGS[:10], True),
        ("n=1000", TAGS, False),
        ("n=0", [], False),
        ("n=0&last=a", [], False),
        ("n=00003", TAGS[:3], True),
        ("last=latest", ["v1"], False),
        ("last=v1", [], False),
        ("last=zzz", [], False),
        ("n=5&last=v1", [], False),
        # What is not a tag has its place among them all the same.
        ("last=m", ["v1"], False),
        ("last=a%00", TAGS[6:], False),
        ("n=2&last=", TAGS[:2], True),
        ("n=", TAGS, False),
        ("N=1", TAGS, False),
        ("other=1", TAGS, False),
    ],
)
def test_a_page_of_tags(client: Client, tagged: str, query: str, tags: list[str], more: bool) -> None:
    answer = client.get(f"{tagged}?{query}")
    assert answer.json["tags"] == tags
    assert ("link" in answer) == more


@pytest.mark.parametrize("size", [1, 2, 3, 10, 11, 12])
def test_all_pages_of_tags(client: Client, tagged: str, size: int) -> None:
    assert all_pages(client, f"{tagged}?n={size}", "tags") == (TAGS, -(-len(TAGS) // size))


def test_a_repository_without_tags(client: Client, repository: str) -> None:
    push_blob(client, repository, b"{}")
    assert client.get(f"/v2/{repository}/tags/list").json == {"name": repository, "tags": []}


def test_a_repository_that_is_not_here(client: Client, repository: str) -> None:
    answer = client.get(f"/v2/{repository}/tags/list")
    assert (answer.status, answer.error) == (404, "NAME_UNKNOWN")


# --- repositories -----------------------------------------------------------------------------------------------------

NAMES = ["a", "a-b/c", "a/b", "a/b/c", "a0", "b", "library/alpine", "z"]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A server of its own, which holds exactly `NAMES`."""
    server = Homeport(tmp_path_factory.mktemp("catalog"))
    server.start({"access": {"anonymous": ["pull", "push", "delete"]}, "limits": {"page_entries": 5}})
    client = Client(server.url)
    assert client.get("/v2/_catalog").body == b'{"repositories":[]}'
    for name in reversed(NAMES):
        push_image(client, name, "v1", b"x")
    yield client
    server.stop()


@pytest.mark.parametrize(
    ("query", "names", "more"),
    [
        ("", NAMES[:5], True),
        ("?n=2", NAMES[:2], True),
        ("?n=0", [], False),
        ("?n=8", NAMES[:5], True),
        (f"?n={2**63}", NAMES[:5], True),
        ("?last=a0", NAMES[5:], False),
        ("?n=3&last=a0", NAMES[5:], False),
        ("?n=2&last=a0", NAMES[5:7], True),
        ("?last=zz", [], False),
        (f"?last={quote('a/b', safe='')}", NAMES[3:], False),
    ],
)
def test_a_page_of_repositories(catalog: Client, query: str, names: list[str], more: bool) -> None:
    answer = catalog.get(f"/v2/_catalog{query}")
    assert (answer.status, answer.json) == (200, {"repositories": names})
    assert ("link" in answer) == more


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_all_pages_of_repositories(catalog: Client, size: int) -> None:
    assert all_pages(catalog, f"/v2/_catalog?n={size}", "repositories")[0] == NAMES


def test_tags_are_clamped_as_repositories_are(catalog: Client) -> None:
    manifest = push_image(catalog, "a", "v1", b"x")
    for number in range(8):
        push_manifest(catalog, "a", manifest, f"v{number}")
    for query in ("", "?n=100"):
        answer = catalog.get(f"/v2/a/tags/list{query}")
        assert len(answer.json["tags"]) == 5
        assert next_page(answer) == "/v2/a/tags/list?n=5&last=v4"


def test_an_emptied_repository_leaves_the_catalog(catalog: Client) -> None:
    manifest = push_image(catalog, "emptied", "v1", b"x", config=b"emptied")
    assert "emptied" in all_pages(catalog, "/v2/_catalog", "repositories")[0]
    assert catalog.delete("/v2/emptied/manifests/v1").status == 202
    assert "emptied" in all_pages(catalog, "/v2/_catalog", "repositories")[0]  # Without a tag it can still be pulled.
    assert catalog.delete(f"/v2/emptied/manifests/{manifest.digest}").status == 202
    assert "emptied" not in all_pages(catalog, "/v2/_catalog", "repositories")[0]


def test_a_repository_with_nothing_to_pull_is_not_in_the_catalog(catalog: Client) -> None:
    push_blob(catalog, "only/blobs", b"x")
    assert all_pages(catalog, "/v2/_catalog", "repositories")[0] == NAMES


# --- referrers --------------------------------------------------------------------------------------------------------

SBOM, SIGNATURE = "application/spdx+json", "application/vnd.example.signature"


def listed(answer: Answer) -> list[Document]:
    """The descriptors of an answer, after a look at what is around them."""
    assert (answer.status, answer["content-type"]) == (200, INDEX), answer
    document = answer.json
    assert (document["schemaVersion"], document["mediaType"]) == (2, INDEX)
    assert set(document) == {"schemaVersion", "mediaType", "manifests"}
    entries: list[Document] = document["manifests"]
    return entries


@pytest.fixture
def subject(client: Client, repository: str) -> str:
    """The digest of an image in the repository."""
    push_blob(client, repository, b"{}")
    return push_image(client, repository, "v1", b"x").digest


def attach(client: Client, repository: str, subject: str, **fields: Any) -> Document:
    """Push an artifact that refers to the subject; its descriptor as the list should have it."""
    reference = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    manifest = image(b"{}", subject=reference, **fields)
    answer = client.put(f"/v2/{repository}/manifests/{manifest.digest}", manifest.data, content_type=MANIFEST)
    assert (answer.status, answer["oci-subject"]) == (201, subject)
    expected = manifest.descriptor | {
        "artifactType": fields.get("artifactType", "application/vnd.oci.image.config.v1+json")
    }
    return expected | ({"annotations": fields["annotations"]} if "annotations" in fields else {})


def test_referrers(client: Client, repository: str, subject: str) -> None:
    path = f"/v2/{repository}/referrers/{subject}"
    assert listed(client.get(path)) == []
    expected = [
        attach(client, repository, subject, artifactType=SBOM),
        attach(client, repository, subject, artifactType=SBOM, annotations={"k": "\u00e4 \u2028"}),
        attach(client, repository, subject, artifactType=SIGNATURE),
        attach(client, repository, subject),
        attach(client, repository, subject, config=descriptor(b"{}", SBOM)) | {"artifactType": SBOM},
    ]
    answer = client.get(path)
    assert listed(answer) == sorted(expected, key=lambda entry: str(entry["digest"]))
    assert "oci-filters-applied" not in answer
    # Others of the same repository, of the same subject elsewhere: not listed.
    attach(client, repository, digest_of(b"another"), artifactType=SBOM)
    assert len(listed(client.get(path))) == 5


def test_an_index_refers_too(client: Client, repository: str, subject: str) -> None:
    reference = {"mediaType": MANIFEST, "digest": subject, "size": 1}
    plain = index([], subject=reference)
    typed = index([], subject=reference, artifactType=SBOM)
    for manifest in (plain, typed):
        push_manifest(client, repository, manifest)
    entries = {entry["digest"]: entry for entry in listed(client.get(f"/v2/{repository}/referrers/{subject}"))}
    assert entries == {plain.digest: plain.descriptor, typed.digest: typed.descriptor | {"artifactType": SBOM}}


def test_referrers_of_one_type(client: Client, repository: str, subject: str) -> None:
    sboms = [attach(client, repository, subject, artifactType=SBOM, annotations={"n": str(n)}) for n in range(3)]
    attach(client, repository, subject, artifactType=SIGNATURE)
    path = f"/v2/{repository}/referrers/{subject}"
    for artifact_type in (SBOM, quote(SBOM, safe="")):
        answer = client.get(f"{path}?artifactType={artifact_type.replace('+', '%2B')}")
        assert listed(answer) == sorted(sboms, key=lambda entry: str(entry["digest"]))
        assert answer["oci-filters-applied"] == "artifactType"
    nothing = client.get(f"{path}?artifactType=a/b")
    assert (listed(nothing), nothing["oci-filters-applied"]) == ([], "artifactType")


@pytest.mark.parametrize("query", ["", f"&artifactType={quote(SBOM, safe='')}"])
def test_pages_of_referrers(client: Client, repository: str, subject: str, query: str) -> None:
    sboms = [
        attach(client, repository, subject, artifactType=SBOM, annotations={"n": str(n)})["digest"] for n in range(7)
    ]
    others = [attach(client, repository, subject, artifactType=SIGNATURE)["digest"]] if not query else []
    expected = sorted(sboms + others)
    for size in (1, 2, 7, 8):
        target = f"/v2/{repository}/referrers/{subject}?n={size}{query}"
        entries, _ = all_pages(client, target, "manifests")
        assert [entry["digest"] for entry in entries] == expected
        assert len(client.get(target).json["manifests"]) == min(size, len(expected))


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_subject_that_comes_later(client: Client, repository: str, algorithm: str) -> None:
    for data in (b"{}", b"x"):
        push_blob(client, repository, data)
    manifest = image(b"{}", [b"x"])
    digest = digest_of(manifest.data, algorithm)
    attached = attach(client, repository, digest, artifactType=SBOM)
    path = f"/v2/{repository}/referrers/{digest}"
    assert listed(client.get(path)) == [attached]
    assert client.put(f"/v2/{repository}/manifests/{digest}", manifest.data, content_type=MANIFEST).status == 201
    assert listed(client.get(path)) == [attached]
    assert client.delete(f"/v2/{repository}/manifests/{digest}").status == 202
    assert listed(client.get(path)) == [attached]
    assert client.delete(f"/v2/{repository}/manifests/{attached['digest']}").status == 202
    assert listed(client.get(path)) == []


def test_referrers_of_what_is_not_here(client: Client) -> None:
    assert listed(client.get(f"/v2/no/such/referrers/{digest_of(b'absent')}")) == []


@pytest.mark.parametrize("reference", ["latest", "sha256:abc", "md5:" + "0" * 32])
def test_referrers_of_what_is_no_digest(client: Client, repository: str, reference: str) -> None:
    answer = client.get(f"/v2/{repository}/referrers/{reference}")
    assert (answer.status, answer.error) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_the_fallback_tag_is_folded_in(client: Client, repository: str, algorithm: str) -> None:
    """What clients listed there when the registry, or another before it, had no referrers API."""
    push_blob(client, repository, b"{}")
    subject = digest_of(b"subject", algorithm)
    by_field = attach(client, repository, subject, artifactType=SIGNATURE)
    old = image(b"{}", artifactType=SBOM)  # Without a subject: only the tag knows.
    push_manifest(client, repository, old)
    fallback = index([old], annotations={"made": "by a client"})
    tag = f"{algorithm}-{subject.partition(':')[2][:64]}"
    push_manifest(client, repository, fallback, tag)
    path = f"/v2/{repository}/referrers/{subject}"
    both = sorted([by_field, old.descriptor | {"artifactType": SBOM}], key=lambda entry: str(entry["digest"]))
    assert listed(client.get(path)) == both
    assert [entry["digest"] for entry in listed(client.get(f"{path}?artifactType={quote(SBOM)}"))] == [old.digest]
    assert all_pages(client, f"{path}?n=1", "manifests") == (both, 2)
    # Listed by both, it stands once.
    twice: Document = {"schemaVersion": 2, "mediaType": INDEX, "manifests": [old.descriptor, by_field]}
    push_manifest(client, repository, encoded(twice), tag)
    assert listed(client.get(path)) == both
    assert client.delete(f"/v2/{repository}/manifests/{tag}").status == 202
    assert listed(client.get(path)) == [by_field]


def test_a_cosign_tag_is_a_tag(client: Client, repository: str, subject: str) -> None:
    tag = subject.replace(":", "-") + ".sig"
    push_manifest(client, repository, image(b"{}", annotations={"a": "signature"}), tag)
    assert client.get(f"/v2/{repository}/manifests/{tag}").status == 200
    assert listed(client.get(f"/v2/{repository}/referrers/{subject}")) == []
