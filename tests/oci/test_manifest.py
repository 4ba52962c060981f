"""Reading manifests: what the clients of the field push is understood, and nothing that could be read in two ways."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci import manifest, mediatype
from homeport.oci.digest import Digest
from homeport.oci.errors import ManifestInvalid
from homeport.oci.manifest import Manifest, Role

A = Digest.of(b"a")
B = Digest.of(b"b")
C = Digest.of(b"c", "sha512")
MIB = 1 << 20

Document = dict[str, Any]


def descriptor(digest: str = A, media_type: str = mediatype.OCI_LAYER, size: int = 1, **others: object) -> Document:
    return {"mediaType": media_type, "digest": digest, "size": size, **others}


CONFIG = descriptor(A, mediatype.OCI_CONFIG)


def image(**others: object) -> Document:
    layers = [descriptor(B)]
    return {"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST, "config": CONFIG, "layers": layers, **others}


def index(*children: Document, **others: object) -> Document:
    return {"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX, "manifests": list(children), **others}


def without(document: Document, key: str) -> Document:
    return {name: value for name, value in document.items() if name != key}


def parse(document: object, content_type: str | None = None) -> Manifest:
    if content_type is None:
        assert isinstance(document, dict)
        content_type = document.get("mediaType", mediatype.OCI_MANIFEST)
        assert content_type is not None
    return manifest.parse(json.dumps(document).encode(), content_type)


def refused(data: bytes | Document, content_type: str = mediatype.OCI_MANIFEST) -> str:
    """Why it is refused."""
    with pytest.raises(ManifestInvalid) as caught:
        manifest.parse(data if isinstance(data, bytes) else json.dumps(data).encode(), content_type)
    assert len(caught.value.detail) < 600
    return caught.value.detail


# --- what is understood -----------------------------------------------------------------------------------------


def test_an_image() -> None:
    parsed = parse(image(annotations={"a": "b"}, layers=[descriptor(B), descriptor(C, size=0)]))
    assert [(one.role, one.digest, one.size) for one in parsed.references] == [
        (Role.CONFIG, A, 1),
        (Role.LAYER, B, 1),
        (Role.LAYER, C, 0),
    ]
    assert not parsed.is_index
    assert parsed.artifact_type == mediatype.OCI_CONFIG
    assert parsed.subject is None
    assert parsed.annotations == {"a": "b"}


def test_an_index() -> None:
    child = descriptor(A, mediatype.OCI_MANIFEST, platform={"architecture": "amd64", "os": "linux"})
    nested = descriptor(B, mediatype.OCI_INDEX)
    parsed = parse(index(child, nested))
    assert [(one.role, one.digest, one.is_manifest) for one in parsed.references] == [
        (Role.CHILD, A, True),
        (Role.CHILD, B, True),
    ]
    assert parsed.is_index
    assert parsed.artifact_type is None


def test_the_bytes_are_kept_as_they_came() -> None:
    data = b' { "schemaVersion":2,\n\t"manifests" :[]}\r\n'
    assert manifest.parse(data, mediatype.OCI_INDEX).data == data


@pytest.mark.parametrize(
    ("document", "content_type", "media_type"),
    [
        # docker push, with the graph driver store
        (image(mediaType=mediatype.DOCKER_MANIFEST), mediatype.DOCKER_MANIFEST, mediatype.DOCKER_MANIFEST),
        (index(mediaType=mediatype.DOCKER_LIST), mediatype.DOCKER_LIST, mediatype.DOCKER_LIST),
        # image-spec 1.0 had no mediaType; the Content-Type tells
        (without(image(), "mediaType"), mediatype.OCI_MANIFEST, mediatype.OCI_MANIFEST),
        (without(index(), "mediaType"), mediatype.OCI_INDEX, mediatype.OCI_INDEX),
        (without(index(), "mediaType"), "", mediatype.OCI_INDEX),
        (without(image(), "mediaType"), "", mediatype.OCI_MANIFEST),
        (image(mediaType=""), mediatype.OCI_MANIFEST, mediatype.OCI_MANIFEST),
        (image(mediaType=None), mediatype.OCI_MANIFEST, mediatype.OCI_MANIFEST),
        (image(), f"{mediatype.OCI_MANIFEST}; charset=utf-8", mediatype.OCI_MANIFEST),
    ],
)
def test_the_type_is_the_one_that_is_stated(document: Document, content_type: str, media_type: str) -> None:
    assert parse(document, content_type).media_type == media_type


def test_buildkit_attestations_and_provenance() -> None:
    attestation = descriptor(
        B,
        mediatype.OCI_MANIFEST,
        annotations={"vnd.docker.reference.digest": A, "vnd.docker.reference.type": "attestation-manifest"},
        platform={"architecture": "unknown", "os": "unknown"},
    )
    assert len(parse(index(descriptor(A, mediatype.OCI_MANIFEST), attestation)).references) == 2
    statement = descriptor(B, "application/vnd.in-toto+json", annotations={"in-toto.io/predicate-type": "https://…"})
    assert parse(image(layers=[statement])).references[1].media_type == "application/vnd.in-toto+json"


def test_buildkit_cache_is_an_index_of_blobs() -> None:
    """BuildKit's registry cache, unless it is told `image-manifest=true`."""
    config = descriptor(A, "application/vnd.buildkit.cacheconfig.v0")
    layer = descriptor(B, mediatype.OCI_LAYER_GZIP, annotations={"buildkit/createdat": "2026-01-01T00:00:00Z"})
    parsed = parse(index(layer, config))
    assert [one.is_manifest for one in parsed.references] == [False, False]
    assert all(one.must_be_held for one in parsed.references)


def test_an_oras_artifact_with_the_empty_config() -> None:
    empty = descriptor(Digest.of(b"{}"), mediatype.OCI_EMPTY, size=2, data="e30=")
    parsed = parse(image(config=empty, layers=[empty], artifactType="application/vnd.example+type"))
    assert parsed.artifact_type == "application/vnd.example+type"
    assert [one.digest for one in parsed.references] == [Digest.of(b"{}")] * 2


def test_a_helm_chart() -> None:
    config = descriptor(A, "application/vnd.cncf.helm.config.v1+json")
    chart = descriptor(B, "application/vnd.cncf.helm.chart.content.v1.tar+gzip")
    proof = descriptor(C, "application/vnd.cncf.helm.chart.provenance.v1.prov")
    parsed = parse(without(image(config=config, layers=[chart, proof]), "mediaType"))
    assert parsed.artifact_type == "application/vnd.cncf.helm.config.v1+json"


def test_a_cosign_signature() -> None:
    bundle = json.dumps({"SignedEntryTimestamp": 'a"b\\', "Payload": {"body": "[[[[{{{{" * 100}})
    signature = descriptor(
        B,
        "application/vnd.dev.cosign.simplesigning.v1+json",
        annotations={"dev.cosignproject.cosign/signature": "MEUCIQ…", "dev.sigstore.cosign/bundle": bundle},
    )
    assert len(parse(image(layers=[signature])).references) == 2


@pytest.mark.parametrize("subject", [A, C])
@pytest.mark.parametrize("document", [image(), index()])
def test_a_referrer(document: Document, subject: Digest) -> None:
    parsed = parse({**document, "subject": descriptor(subject, mediatype.OCI_MANIFEST)})
    assert parsed.subject == subject
    assert subject not in [one.digest for one in parsed.references if one.role is Role.CHILD]


def test_the_type_of_an_artifact() -> None:
    assert parse(index(artifactType="application/x")).artifact_type == "application/x"
    assert parse(index(artifactType="")).artifact_type is None
    assert parse(image(artifactType="")).artifact_type == mediatype.OCI_CONFIG
    assert parse(image(artifactType=None)).artifact_type == mediatype.OCI_CONFIG


@pytest.mark.parametrize("empty", [[], None])
def test_nothing_in_a_list_however_it_is_written(empty: object) -> None:
    """Go writes an empty list as null; CNAB's bundles were pushed so."""
    assert len(parse(image(layers=empty)).references) == 1
    assert parse(index(manifests=empty)).references == ()


def test_fields_that_nobody_knows() -> None:
    strange = {"x": [1, 2.5, -3, True, None, {"y": "é😀\u0000"}]}
    assert len(parse(image(strange=strange, layers=[descriptor(B, strange=strange)])).references) == 2
    assert manifest.parse(b'{"schemaVersion":2,"manifests":[],"x":[1e400,-0,1E5]}', mediatype.OCI_INDEX).is_index


def test_characters_beyond_the_sixteenth_bit() -> None:
    data = json.dumps(image(annotations={"a": "😀"})).encode()
    assert b"\\ud83d\\ude00" in data
    assert manifest.parse(data, mediatype.OCI_MANIFEST).annotations == {"a": "😀"}


def test_the_conformance_programs_large_manifest() -> None:
    annotations = {f"org.example.{number}": "x" * 10_000 for number in range(390)}
    assert parse(image(annotations=annotations)).annotations == annotations


def test_the_widest_manifests() -> None:
    layers = [
        descriptor(
            B, platform={"os": "linux", "architecture": "arm", "variant": "v7"}, annotations=dict.fromkeys("abcd", "")
        )
    ] * manifest.REFERENCES_MAX
    assert len(parse(image(layers=layers)).references) == manifest.REFERENCES_MAX + 1
    assert "more than" in refused(image(layers=[*layers, descriptor(B)]))
    assert "more than" in refused(index(*layers, descriptor(B)), mediatype.OCI_INDEX)


def test_only_layers_may_be_non_distributable() -> None:
    foreign = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
    config, layer = parse(image(config=descriptor(A, foreign), layers=[descriptor(B, foreign)])).references
    (child,) = parse(index(descriptor(A, foreign))).references
    assert (config.must_be_held, layer.must_be_held, child.must_be_held) == (True, False, True)


# --- what could be read in two ways -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "document",
    [
        image(manifests=[]),
        image(manifests=None),
        image(mediaType=mediatype.OCI_INDEX, manifests=[descriptor(A, mediatype.OCI_MANIFEST)]),
        index(layers=[]),
        index(config=CONFIG),
        without(image(manifests=[]), "mediaType"),
        image(mediaType=mediatype.OCI_INDEX),
        index(mediaType=mediatype.OCI_MANIFEST),
        index(mediaType=mediatype.DOCKER_MANIFEST),
    ],
)
@pytest.mark.parametrize("content_type", [mediatype.OCI_MANIFEST, mediatype.OCI_INDEX, ""])
def test_both_kinds_at_once(document: Document, content_type: str) -> None:
    refused(document, content_type)


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        (image(), mediatype.DOCKER_MANIFEST),
        (image(), mediatype.OCI_INDEX),
        (image(), "application/json"),
        (image(), "application/octet-stream"),
        (image(), mediatype.OCI_MANIFEST.upper()),
        (without(image(), "mediaType"), mediatype.OCI_INDEX),
        (without(image(), "mediaType"), "application/json"),
        (without(index(), "mediaType"), mediatype.OCI_MANIFEST),
        (image(mediaType="application/json"), "application/json"),
        (image(mediaType=mediatype.OCI_CONFIG), mediatype.OCI_CONFIG),
        (image(mediaType="application/vnd.oci.artifact.manifest.v1+json"), ""),  # taken out of the spec again
    ],
)
def test_another_type_than_the_one_it_is_pushed_as(document: Document, content_type: str) -> None:
    refused(document, content_type)


@pytest.mark.parametrize(
    "data",
    [
        b'{"schemaVersion":2,"manifests":[],"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"x":{"a":1,"a":1}}',
        b'{"schemaVersion":2,"manifests":[],"x":{"a":1,"\\u0061":1}}',
        b'{"schemaVersion":2,"manifests":[],"x":NaN}',
        b'{"schemaVersion":2,"manifests":[],"x":-Infinity}',
        b'{"schemaVersion":2,"manifests":[],"x":"\\ud800"}',
        b'{"schemaVersion":2,"manifests":[],"\\uDFFF":1}',
        b'{"schemaVersion":2,"manifests":[],"annotations":{"a":"\\ud83d \\ude00"}}',
        b'{"schemaVersion":2,"manifests":[]}{}',
        b'{"schemaVersion":2,"manifests":[]}\0',
        b'\xef\xbb\xbf{"schemaVersion":2,"manifests":[]}',
        '{"schemaVersion":2,"manifests":[]}'.encode("utf-16"),
        b'{"schemaVersion":2,"manifests":[],"x":"\xff"}',
        b'{"schemaVersion":2,"manifests":[],"x":"\xed\xa0\x80"}',
        b'{"schemaVersion":2,"manifests":[],"x":"\n"}',
        b'{"schemaVersion":2,"manifests":[],}',
        b"{'schemaVersion':2}",
        b'{"schemaVersion":2 // "manifests":[]\n}',
        b'{"schemaVersion":02,"manifests":[]}',
        b'{"schemaVersion":2,"manifests":[],"x":' + b"9" * 5000 + b"}",
        b"",
        b" ",
        b"null",
        b"[]",
        b'"manifests"',
        b"2",
    ],
)
def test_json_that_readers_disagree_on(data: bytes) -> None:
    refused(data, mediatype.OCI_INDEX)


# --- what is wrong ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [None, 0, 1, 3, "2", True, [2]])
def test_other_schema_versions(version: object) -> None:
    refused(image(schemaVersion=version))
    refused(index(schemaVersion=version), mediatype.OCI_INDEX)
    refused(without(image(), "schemaVersion"))


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": []}, media_type)
        for media_type in ["", *sorted(mediatype.SCHEMA_1), mediatype.OCI_MANIFEST, "application/json"]
    ]
    + [(image(), media_type) for media_type in sorted(mediatype.SCHEMA_1)]
    + [(image(fsLayers=[]), mediatype.OCI_MANIFEST)],
)
def test_schema_1_is_refused_and_says_so(document: Document, content_type: str) -> None:
    assert "schema 1" in refused(document, content_type)


def test_schema_1_is_refused_before_it_is_read() -> None:
    assert "schema 1" in refused(b"anything", "application/vnd.docker.distribution.manifest.v1+prettyjws")


@pytest.mark.parametrize(
    "wrong",
    [
        None,
        1,
        "text",
        [],
        {},
        descriptor(digest="sha256:abc"),
        descriptor(digest="md5:" + "0" * 32),
        descriptor(digest=f"{A}\n"),
        descriptor(digest=""),
        without(descriptor(), "digest"),
        without(descriptor(), "mediaType"),
        without(descriptor(), "size"),
        {**descriptor(), "size": -1},
        {**descriptor(), "size": 2**53},
        {**descriptor(), "size": 10**30},
        {**descriptor(), "size": True},
        {**descriptor(), "size": 1.0},
        {**descriptor(), "size": "1"},
        {**descriptor(), "size": None},
        {**descriptor(), "digest": 1},
        {**descriptor(), "mediaType": 1},
        {**descriptor(), "mediaType": "a" * 256},
        {**descriptor(), "mediaType": "a\0b"},
        {**descriptor(), "mediaType": "a\r\nb"},
    ],
)
def test_a_descriptor_that_is_wrong(wrong: object) -> None:
    refused(image(config=wrong))
    refused(image(layers=[descriptor(), wrong]))
    refused({**index(), "manifests": [wrong]}, mediatype.OCI_INDEX)
    if wrong is not None:
        refused(image(subject=wrong))
        refused(index(subject=wrong), mediatype.OCI_INDEX)


@pytest.mark.parametrize("wrong", [{}, "", 0, False, "text", {"0": descriptor()}, descriptor()])
def test_a_list_that_is_none(wrong: object) -> None:
    refused(image(layers=wrong))
    refused(index(manifests=wrong), mediatype.OCI_INDEX)


def test_a_field_that_must_be_there() -> None:
    assert "layers" in refused(without(image(), "layers"))
    refused(without(image(), "config"))
    refused({"schemaVersion": 2, "mediaType": mediatype.OCI_MANIFEST})
    refused({"schemaVersion": 2, "mediaType": mediatype.OCI_INDEX}, mediatype.OCI_INDEX)


@pytest.mark.parametrize("wrong", [[], "text", 1, {"a": 1}, {"a": None}, {"a": ["b"]}, {"a": {"b": "c"}}])
def test_annotations_that_are_no_texts(wrong: object) -> None:
    assert "annotations" in refused(image(annotations=wrong))


@pytest.mark.parametrize("wrong", [1, [], {}, "a\0", "a\nb", "a" * 256])
@pytest.mark.parametrize("key", ["mediaType", "artifactType"])
def test_types_that_are_none(key: str, wrong: object) -> None:
    refused(image(**{key: wrong}))


# --- what is made to hurt ---------------------------------------------------------------------------------------


def nested(depth: int) -> bytes:
    return b'{"schemaVersion":2,"manifests":[],"x":' + b"[" * depth + b"]" * depth + b"}"


def test_nesting_is_bounded() -> None:
    depth = manifest.NESTING_MAX - 1  # below the document's own brace
    assert manifest.parse(nested(depth), mediatype.OCI_INDEX).is_index
    assert "nested deeper" in refused(nested(depth + 1), mediatype.OCI_INDEX)
    refused(nested(100_000), mediatype.OCI_INDEX)


def test_brackets_in_texts_are_no_nesting() -> None:
    text = '[[[[{{{{"\\' * 1000 + "\\\\"
    assert parse(image(annotations={text: text})).annotations == {text: text}


@pytest.mark.parametrize(
    "data",
    [
        b"[" * (4 * MIB),
        b"]" * (4 * MIB),
        b"{" * (4 * MIB),
        b"[]" * (2 * MIB),
        b"[" + b"{}," * (4 * MIB // 3) + b"{}]",
        b"{" + b",".join(b'"%x":0' % number for number in range(350_000)) + b"}",
        b'"' * (4 * MIB),
        b'"' + b'\\"' * (2 * MIB),  # a text that never ends, with a way to begin at every quote
        b'"' + b'\\"' * (2 * MIB) + b"\\",
        b"\\" * (4 * MIB),
        b'{"x":"' + b"\\" * (4 * MIB),
        b'{"x":' + b"9" * (4 * MIB) + b"}",
        b'{"x":-0.' + b"9" * (4 * MIB) + b"}",
        b'{"x":"' + b"\\u0041" * (4 * MIB // 6) + b'"}',
        b'{"schemaVersion":2,"manifests":[],"x":"' + b"\\ud83d\\ude00" * (4 * MIB // 12) + b'\\ud800"}',
        b"\xff" * (4 * MIB),
        b" " * (4 * MIB),
        b"\0" * (4 * MIB),
    ],
    ids=range(18),
)
def test_four_megabytes_made_to_hurt_do_not(data: bytes) -> None:
    began = time.process_time()
    refused(data, mediatype.OCI_INDEX)
    assert time.process_time() - began < 2  # quadratic would be hours


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | st.just(descriptor()),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "artifactType", "annotations"]


@given(
    st.sampled_from([image(), index(descriptor(A, mediatype.OCI_MANIFEST))]),
    st.dictionaries(st.sampled_from(KEYS), JSON, max_size=3),
    st.sampled_from([mediatype.OCI_MANIFEST, mediatype.OCI_INDEX, ""]),
)
def test_whatever_is_changed_it_is_a_manifest_or_refused(base: Document, changes: Document, content_type: str) -> None:
    data = json.dumps({**base, **changes}).encode()
    try:
        parsed = manifest.parse(data, content_type)
    except ManifestInvalid:
        return
    assert parsed.data == data
    assert parsed.is_index == ("manifests" in json.loads(data))
    assert all(Digest.parse(one.digest) and 0 <= one.size <= manifest.SIZE_MAX for one in parsed.references)
    json.dumps([parsed.artifact_type, parsed.annotations], ensure_ascii=False).encode()


@given(st.binary(max_size=200), st.text(max_size=30))
def test_no_bytes_break_it(data: bytes, content_type: str) -> None:
    with pytest.raises(ManifestInvalid):
        manifest.parse(data, content_type)
