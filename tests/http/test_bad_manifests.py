"""Bytes that are pushed as a manifest and are none: always a 4xx, in bounded time and memory, and nothing stays.

CVE-2021-41190 (the same bytes read in two ways), zot #4318 and quay #5340 (work made out of few bytes).
"""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.http.bad import ABSENT, BOUNDED, HELD, LAYER, refused
from tests.http.images import CONFIG, INDEX, MANIFEST, descriptor, digest_of, image, index
from tests.http.wire import Client


@pytest.fixture
def client(watched: Client) -> Client:
    return watched


GOOD = json.loads(image(b"{}", [LAYER]).data)


def _with(**changes: object) -> bytes:
    return json.dumps(GOOD | changes).encode()


BOMBS = {
    "empty": b"",
    "not-json": b"hello",
    "half": b'{"schemaVersion": 2',
    "list": b"[]",
    "null": b"null",
    "number": b"1",
    "nothing-in-it": b"{}",
    "deep-lists": b"[" * 100_000,
    "deep-lists-closed": b"[" * 100_000 + b"]" * 100_000,
    "deep-objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "deep-in-a-field": b'{"schemaVersion": 2, "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "escaped-quotes": b'{"a": "' + rb"\"" * 1_000_000,
    "wide": b'{"a": [' + b"1," * 1_500_000 + b"1]}",
    "many-objects": b'{"a": [' + b"{}," * 1_000_000 + b"{}]}",
    "many-keys": b"{" + b",".join(b'"%d": 1' % n for n in range(300_000)) + b"}",
    "many-layers": _with(layers=[descriptor(LAYER)] * 5000),
    "huge-integer": b'{"schemaVersion": 2, "a": ' + b"9" * 1_000_000 + b"}",
    "huge-size": _with(config=descriptor(b"{}", CONFIG) | {"size": 10**30}),
    "negative-size": _with(config=descriptor(b"{}", CONFIG) | {"size": -1}),
    "fractional-size": _with(config=descriptor(b"{}", CONFIG) | {"size": 2.5}),
    "true-size": _with(config=descriptor(b"{}", CONFIG) | {"size": True}),
    "huge-exponent": b'{"schemaVersion": 2e999999999}',
    "nan": b'{"schemaVersion": NaN}',
    "infinity": b'{"schemaVersion": -Infinity}',
    "duplicate-keys": b'{"schemaVersion": 2,' + image(b"{}").data[1:],
    "duplicate-config": image(b"{}").data[:-1] + b', "config": {}}',
    "utf-16": image(b"{}").data.decode().encode("utf-16"),
    "byte-order-mark": b"\xef\xbb\xbf" + image(b"{}").data,
    "not-utf-8": image(b"{}").data[:-1] + b', "a": "\xff"}',
    "half-a-character": image(b"{}").data[:-1] + rb', "annotations": {"a": "\ud800"}}',
    "nul": image(b"{}").data + b"\0",
    "trailing": image(b"{}").data + b"{}",
    "comment": b"/* */" + image(b"{}").data,
    "digest-is-a-path": _with(config=descriptor(b"{}", CONFIG) | {"digest": "sha256:../../../etc/passwd"}),
    "digest-is-upper": _with(config=descriptor(b"{}", CONFIG) | {"digest": "sha256:" + "A" * 64}),
    "digest-is-a-number": _with(config=descriptor(b"{}", CONFIG) | {"digest": 1}),
    "config-is-a-list": _with(config=[]),
    "layers-is-an-object": _with(layers={}),
    "layer-is-text": _with(layers=["x"]),
    "subject-is-text": _with(subject="x"),
    "annotations-are-a-list": _with(annotations=[]),
    "annotation-is-a-number": _with(annotations={"a": 1}),
    "type-with-a-newline": _with(artifactType="a/b\r\nX-Forged: yes"),
    "type-is-a-list": _with(mediaType=[]),
    "type-is-an-image": _with(mediaType="image/png"),
    "version-1": _with(schemaVersion=1),
    "version-true": _with(schemaVersion="2"),
    "absent-config": _with(config=descriptor(b"absent", CONFIG)),
}  # fmt: skip


@pytest.mark.parametrize("bomb", BOMBS)
def test_manifests(client: Client, bomb: str) -> None:
    data = BOMBS[bomb]
    for reference in ("bomb", digest_of(data)):
        answer = client.put(f"/v2/{HELD}/manifests/{reference}", data, content_type=MANIFEST)
        assert answer.status == 400
        assert answer.error in {"MANIFEST_INVALID", "MANIFEST_BLOB_UNKNOWN"}
        assert len(answer.body) < 1000
    assert client.get(f"/v2/{HELD}/tags/list").json["tags"] == ["v1"]


_FIELDS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "digest", "size", "subject", "annotations"]
_VALUES = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from([ABSENT, INDEX])
)
_JSON = st.recursive(
    _VALUES,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(_FIELDS) | st.text(max_size=6), inner, max_size=6)
    ),
    max_leaves=20,
)


@BOUNDED
@given(data=_JSON)
@pytest.mark.parametrize("media_type", [MANIFEST, INDEX, ""])
def test_any_json(client: Client, media_type: str, data: object) -> None:
    """As a manifest, and as what a manifest cannot do without."""
    for document in (data, GOOD | {"config": data}):
        text = json.dumps(document).encode()
        answer = client.put(f"/v2/{HELD}/manifests/any", text, content_type=media_type)
        assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


@pytest.mark.parametrize("media_type", [
    "text/plain", "application/json", "image/png", "x", "a/b\u00e9", INDEX, "multipart/form-data; boundary=x",
    "a" * 5000,
], ids=lambda text: ascii(text)[1:20])  # fmt: skip
def test_a_content_type_that_is_not_the_manifests(client: Client, media_type: str) -> None:
    """CVE-2021-41190."""
    answer = client.put(f"/v2/{HELD}/manifests/x", image(b"{}", [LAYER]).data, content_type=media_type)
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


def test_bytes_that_are_two_manifests(client: Client) -> None:
    """CVE-2021-41190."""
    both = GOOD | {"manifests": []}
    for media_type in (MANIFEST, INDEX):
        for document in (
            both,
            {key: both[key] for key in both if key != "mediaType"},
            both | {"mediaType": media_type},
        ):
            answer = client.put(f"/v2/{HELD}/manifests/x", json.dumps(document).encode(), content_type=media_type)
            assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


def test_no_content_type(client: Client) -> None:
    answer = client.put(f"/v2/{HELD}/manifests/x", image(b"{}", [LAYER]).data)
    assert (answer.status, answer.error) == (400, "MANIFEST_INVALID")


def test_tags_of_a_push_that_are_none(client: Client) -> None:
    manifest = index([])
    for query in (
        "tag=a b",
        "tag=..%2Fx",
        "tag=",
        "tag=" + "a" * 129,
        "&".join(f"tag=t{n}" for n in range(101)),
        "tag=%0a",
    ):
        answer = client.put(
            f"/v2/{HELD}/manifests/{manifest.digest}?{query.replace(' ', '%20')}", manifest.data, content_type=INDEX
        )
        assert refused(answer)
        assert answer.status == 400
    assert client.get(f"/v2/{HELD}/manifests/{manifest.digest}").status == 404
