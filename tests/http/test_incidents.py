"""What went wrong in other registries, tried on this one.

Here is what no other test of this folder names. Elsewhere:
CVE-2026-27771, CVE-2024-39897, CVE-2026-32589, CVE-2026-31801: test_access_matrix.py;
CVE-2024-4956, CVE-2024-3727, CVE-2017-11468, CVE-2023-2253: test_bad_input.py; CVE-2021-41190: test_bad_manifests.py;
CVE-2026-35172: test_protocol_blobs.py; CVE-2026-41888: test_running.py; zot #3980: test_protocol_http.py;
tokens and passwords (CVE-2025-24976, CVE-2025-30204, CVE-2025-23208, CVE-2022-31667 and others): tests/auth;
what a hostile registry does to us as its client (CVE-2020-15157, CVE-2026-12566 and others): tests/client.
"""

import gzip
import json
import socket
import time
from urllib.parse import quote

import pytest

from tests.http.images import (
    INDEX,
    MANIFEST,
    begin_upload,
    descriptor,
    digest_of,
    encoded,
    image,
    index,
    push_blob,
    push_image,
    push_manifest,
)
from tests.http.wire import Client
from tests.support.processes import Homeport


def test_cve_2026_4404_no_login_that_everybody_knows(homeport: Homeport) -> None:
    """Harbor came with a password. A server that nobody configured lets nobody in."""
    homeport.start({"access": {"users": {}, "groups": {}, "rules": []}})
    # Few enough that it is not their number that is refused.
    for login in ("admin:Harbor12345", "admin:admin", "admin:admin123", "admin:", "root:root"):
        answer = Client(homeport.url).basic(*login.split(":")).get("/v2/")
        assert (answer.status, answer.error) == (401, "UNAUTHORIZED")
    homeport.stop()


def test_cve_2026_2376_cve_2022_27907_nothing_that_is_pushed_makes_the_server_call_somebody(
    client: Client, repository: str
) -> None:
    """Quay and Nexus fetched what clients named; here an address in a manifest is text."""
    push_blob(client, repository, b"{}")
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/latest/meta-data"
        foreign = descriptor(b"x", "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip") | {"urls": [url]}
        manifest = image(b"{}", layers=[foreign], annotations={"org.opencontainers.image.source": url})
        push_manifest(client, repository, manifest, "v1")
        for target in (f"manifests/v1?ns={url}", f"blobs/{foreign['digest']}", f"referrers/{manifest.digest}"):
            client.get(f"/v2/{repository}/{target}", X_Forwarded_Host=url, Referer=url)
        listening.settimeout(0.3)
        with pytest.raises(TimeoutError):
            listening.accept()


def test_zot_4318_indexes_that_double_at_each_level(client: Client, repository: str) -> None:
    """A walk of them would visit 2^25 manifests; nothing walks."""
    manifest = push_image(client, repository, "leaf", b"x")
    chain = [manifest]
    began = time.monotonic()
    for level in range(25):
        manifest = index([manifest, manifest], annotations={"level": str(level)})
        push_manifest(client, repository, manifest, "top")
        chain.append(manifest)
    assert client.get(f"/v2/{repository}/manifests/top").body == manifest.data
    assert client.get(f"/v2/{repository}/referrers/{manifest.digest}").json["manifests"] == []
    for one in reversed(chain):
        assert client.delete(f"/v2/{repository}/manifests/{one.digest}").status == 202
    assert time.monotonic() - began < 15


def test_quay_5340_a_list_of_thousands(client: Client, repository: str) -> None:
    child = push_image(client, repository, "child", b"x")
    wide = encoded({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child.descriptor] * 5000})
    answer = client.put(f"/v2/{repository}/manifests/wide", wide.data, content_type=INDEX)
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


def test_harbor_23497_nothing_is_unpacked(client: Client, repository: str) -> None:
    """Some KiB that would become 64 MiB, as a layer, as a config, and as an encoding of a request."""
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 9)
    digest = push_blob(client, repository, bomb)
    push_manifest(client, repository, image(bomb, [bomb]), "v1")
    assert client.get(f"/v2/{repository}/blobs/{digest}", accept_encoding="identity").body == bomb
    answer = client.put(f"{begin_upload(client, repository)}?digest={digest}", bomb, content_encoding="gzip")
    assert answer.status == 201  # The bytes as they came, whatever they claim to be.
    packed = gzip.compress(image(bomb).data)
    answer = client.put(f"/v2/{repository}/manifests/v2", packed, content_type=MANIFEST, content_encoding="gzip")
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "/%5cevil.example", "/v2//evil.example/", "/token//evil"]
)
def test_zot_3844_no_redirects_anywhere(client: Client, path: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, f"{path}?redirect=//evil.example&next=https://evil.example", b"")
        assert 400 <= answer.status < 500
        assert "location" not in answer


def test_harbor_23418_no_text_becomes_sql(client: Client, repository: str) -> None:
    manifest = push_image(client, repository, "v1", b"x")
    attached = image(b"{}", artifactType="a/b", subject=manifest.descriptor)
    push_manifest(client, repository, attached, "v2")
    for text in (
        "' OR '1'='1",
        "'; DROP TABLE tags; --",
        'x" OR 1=1 --',
        "%' --",
        "v1' UNION SELECT name FROM users --",
        "_",
    ):
        value = quote(text, safe="")
        referrers = client.get(f"/v2/{repository}/referrers/{manifest.digest}?artifactType={value}")
        assert referrers.json["manifests"] == []
        after = client.get(f"/v2/{repository}/tags/list?last={value}").json["tags"]
        assert after == [tag for tag in ("v1", "v2") if tag > text]
        assert client.get(f"/v2/_catalog?last={value}&n=1").status == 200
        assert client.get(f"/v2/{repository}/manifests/{value}").status in {400, 404}
    assert client.get(f"/v2/{repository}/tags/list").json["tags"] == ["v1", "v2"]


def test_harbor_xss_what_is_pushed_is_never_a_web_page(client: Client, repository: str) -> None:
    """Stored markup comes back as data: no answer has a type that a browser would run."""
    page = b"<script>alert(document.cookie)</script>"
    digest = push_blob(client, repository, page)
    manifest = image(page, annotations={"<script>": "<img src=x onerror=alert(1)>"}, artifactType="text/html")
    push_manifest(client, repository, manifest, "v1")
    push_manifest(client, repository, image(page, subject=manifest.descriptor, artifactType="text/html"))
    kinds = {
        f"blobs/{digest}": "application/octet-stream",
        "manifests/v1": MANIFEST,
        f"referrers/{manifest.digest}": INDEX,
        "tags/list": "application/json",
        "manifests/%3Cscript%3E": "application/json",
        "<script>": "",
    }
    for target, kind in kinds.items():
        answer = client.get(f"/v2/{repository}/{target}")
        assert ("content-type" in answer and answer["content-type"]) == (kind or False)
    upload = client.put(f"{begin_upload(client, repository)}?digest={digest}", page, content_type="text/html")
    assert client.get(upload["location"])["content-type"] == "application/octet-stream"


def test_distribution_4898_tags_that_begin_alike(client: Client, repository: str) -> None:
    """Lists of other registries lost entries where one name is the beginning of another."""
    manifest = push_image(client, repository, "a", b"x")
    names = sorted(["a", "a-", "a-b", "a.", "a.b", "a0", "aa", "a_", "a_b", "ab", "A", "a" * 128, "a-b-c"])
    for name in names:
        push_manifest(client, repository, manifest, name)
    for last in names:
        answer = client.get(f"/v2/{repository}/tags/list?last={last}&n=3").json["tags"]
        assert answer == names[names.index(last) + 1 :][:3]


def test_distribution_4904_repositories_that_begin_alike(client: Client, repository: str) -> None:
    names = [f"{repository}{end}" for end in ("", "-a", "-a/b", ".a", "/a", "/a/b", "/ab", "0", "a", "_a")]
    for name in names:
        push_image(client, name, "v1", b"x")
    listed = client.get("/v2/_catalog").json["repositories"]
    assert [name for name in listed if name.startswith(repository)] == sorted(names)
    # Deleting one leaves those whose names begin with its name.
    first = json.loads(client.get(f"/v2/{repository}/manifests/v1").body)
    assert client.delete(f"/v2/{repository}/manifests/{image(b'{}', [b'x']).digest}").status == 202
    for entry in (first["config"], *first["layers"]):
        assert client.delete(f"/v2/{repository}/blobs/{entry['digest']}").status == 202
    for name in names[1:]:
        assert client.get(f"/v2/{name}/blobs/{digest_of(b'x')}").body == b"x"


def test_a_tag_that_looks_like_a_digest_is_a_tag(client: Client, repository: str) -> None:
    manifest = push_image(client, repository, "v1", b"x")
    other = image(b"{}", [b"x"], annotations={"other": "1"})
    for tag in (manifest.digest.replace(":", "-"), manifest.digest.partition(":")[2]):
        push_manifest(client, repository, other, tag)
        assert client.get(f"/v2/{repository}/manifests/{tag}")["docker-content-digest"] == other.digest
    assert client.get(f"/v2/{repository}/manifests/{manifest.digest}").body == manifest.data
