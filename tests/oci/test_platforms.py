"""Platforms: what is the same, and which parts of an index are for which."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci import manifest, mediatype, platforms
from homeport.oci.digest import Digest
from homeport.oci.manifest import Manifest
from homeport.oci.platforms import Platform, parse

Document = dict[str, Any]


def digest(name: str) -> Digest:
    return Digest.of(name.encode())


def child(name: str, platform: object = None, media_type: str = mediatype.OCI_MANIFEST, **others: object) -> Document:
    """A descriptor; `platform` as text is written as indexes write it."""
    if isinstance(platform, str):
        found = parse(platform)
        platform = {"os": found.os, "architecture": found.architecture, "variant": found.variant}
    described = {"platform": platform} if platform is not None else {}
    return {"mediaType": media_type, "digest": digest(name), "size": 1, **described, **others}


def attestation(name: str, of: str) -> Document:
    """As BuildKit writes it."""
    annotations = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": digest(of)}
    return child(name, {"os": "unknown", "architecture": "unknown"}, annotations=annotations)


def index(*children: Document, media_type: str = mediatype.OCI_INDEX) -> Manifest:
    document = {"schemaVersion": 2, "mediaType": media_type, "manifests": list(children)}
    return manifest.parse(json.dumps(document).encode(), media_type)


def selected(of: Manifest, *wanted: str) -> tuple[list[str], list[str], list[str]]:
    """Digests that stay, digests that are left out, platforms that are absent."""
    found = platforms.select(of, map(parse, wanted))
    return (
        [each.descriptor.digest for each in found.kept],
        [each.descriptor.digest for each in found.left_out],
        [str(each) for each in found.absent],
    )


# --- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "same_as"),
    [
        ("linux/amd64", "linux/amd64"),
        ("Linux/x86_64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64"),
        ("linux/amd64/v1", "linux/amd64"),
        ("linux/amd64/v3", "linux/amd64/v3"),
        ("linux/i386", "linux/386"),
        ("linux/aarch64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64"),
        ("linux/arm64/v9.0", "linux/arm64/v9"),
        ("linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7"),
        ("linux/armhf", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5"),
        ("linux/s390x", "linux/s390x"),
        ("macos/arm64", "darwin/arm64"),
        ("windows(10.0.20348)/amd64", "windows(10.0.20348)/amd64"),
        ("windows(10.0.20348+win32k+a)/amd64", "windows(10.0.20348+a+win32k)/amd64"),
        ("windows(+win32k)/amd64", "windows(+win32k)/amd64"),
    ],
)
def test_what_is_the_same(text: str, same_as: str) -> None:
    assert str(parse(text)) == same_as
    assert parse(same_as) == parse(text)


@pytest.mark.parametrize(
    "text",
    ["", "linux", "amd64", "linux/", "/amd64", "linux/arm/v7/x", "linux/*", "linux/amd64\n", "l\u00fc/amd64", "a b/c",
     "windows(/amd64", "windows(a)(b)/amd64", f"linux/{'x' * 65}", "linux/" * 1_000_000],
)  # fmt: skip
def test_no_platform(text: str) -> None:
    with pytest.raises(ValueError, match="write it as linux/amd64"):
        parse(text)


@pytest.mark.parametrize(
    ("wanted", "other", "expected"),
    [
        ("linux/arm64", "linux/arm64/v8", True),
        ("linux/arm/v7", "linux/arm/v6", False),
        ("linux/amd64", "linux/amd64/v3", False),
        ("windows/amd64", "windows(10.0.20348.2700)/amd64", True),
        ("windows(10.0.20348)/amd64", "windows(10.0.20348.2700)/amd64", True),
        ("windows(10.0.20348.2700)/amd64", "windows(10.0.20348)/amd64", False),
        ("windows(10.0.2034)/amd64", "windows(10.0.20348.2700)/amd64", False),
        ("windows(10.0.20348)/amd64", "windows/amd64", False),
        ("windows/amd64", "windows(+win32k)/amd64", True),
        ("windows(+win32k)/amd64", "windows/amd64", False),
    ],
)
def test_what_it_means(wanted: str, other: str, expected: bool) -> None:
    assert parse(wanted).means(parse(other)) is expected


# --- what an index says -----------------------------------------------------------------------------------------


def test_what_an_index_says_of_a_platform() -> None:
    written = {"os": "windows", "architecture": "amd64", "os.version": "10.0.1", "os.features": ["win32k"], "x": 1}
    [found] = platforms.of_index(index(child("a", written, annotations={"one": "1", "two": 2})))
    assert found.platform == Platform("windows", "amd64", "", "10.0.1", ("win32k",))
    assert found.annotations == {"one": "1"}
    assert found.descriptor.digest == digest("a")


def test_normal_forms_are_seen_in_an_index() -> None:
    found = platforms.of_index(
        index(
            child("a", {"os": "linux", "architecture": "arm", "variant": "v7"}),
            child("b", {"os": "linux", "architecture": "aarch64", "variant": None}),
            media_type=mediatype.DOCKER_LIST,
        )
    )
    assert [str(each.platform) for each in found] == ["linux/arm/v7", "linux/arm64"]


@pytest.mark.parametrize(
    "written",
    [None, [], "linux/amd64", {}, {"os": "linux"}, {"os": 1, "architecture": "amd64"}, {"os": "unknown", "architecture":
     "amd64"}, {"os": "linux", "architecture": "unknown"}, {"os": "linux", "architecture": "x" * 65},
     {"os": "linux", "architecture": "amd64", "variant": 3}, {"os": "linux", "architecture": "a/b"},
     {"os": "linux", "architecture": "amd64", "os.features": "x"},
     {"os": "linux", "architecture": "amd64", "os.features": [1]},
     {"os": "linux", "architecture": "amd64", "os.features": [f"f{number}" for number in range(17)]},
     {"os": "linux", "architecture": "amd64", "os.version": "10\u0000"}],
)  # fmt: skip
def test_what_is_no_platform_counts_as_not_said(written: object) -> None:
    item = {**child("a"), "platform": written}
    assert platforms.of_index(index(item))[0].platform is None
    assert selected(index(item), "linux/amd64") == ([digest("a")], [], ["linux/amd64"])


def test_an_index_that_go_wrote_without_children() -> None:
    empty = manifest.parse(b'{"schemaVersion": 2, "manifests": null}', mediatype.OCI_INDEX)
    assert platforms.of_index(empty) == []
    assert selected(empty, "linux/amd64") == ([], [], ["linux/amd64"])


# --- selection --------------------------------------------------------------------------------------------------


def test_wanted_platforms_stay() -> None:
    of = index(child("a", "linux/amd64"), child("b", "linux/arm64"), child("c", "linux/arm/v7"))
    assert selected(of, "linux/arm64", "linux/amd64") == ([digest("a"), digest("b")], [digest("c")], [])
    assert selected(of) == ([digest("a"), digest("b"), digest("c")], [], [])


def test_a_platform_that_is_not_there_is_told() -> None:
    of = index(child("a", "linux/amd64"))
    assert selected(of, "linux/riscv64", "linux/amd64", "linux/riscv64") == ([digest("a")], [], ["linux/riscv64"])


def test_what_names_no_platform_stays() -> None:
    of = index(child("a", "linux/amd64"), child("nested", media_type=mediatype.OCI_INDEX), child("artifact"))
    assert selected(of, "linux/arm64") == ([digest("nested"), digest("artifact")], [digest("a")], ["linux/arm64"])


def test_an_attestation_goes_where_its_image_goes() -> None:
    of = index(child("a", "linux/amd64"), child("b", "linux/arm64"), attestation("of a", "a"), attestation("of b", "b"))
    assert selected(of, "linux/arm64")[:2] == ([digest("b"), digest("of b")], [digest("a"), digest("of a")])
    assert [each.describes for each in platforms.of_index(of)] == [None, None, digest("a"), digest("b")]


def test_an_attestation_of_nothing_here_stays() -> None:
    malformed = attestation("x", "a")
    malformed["annotations"]["vnd.docker.reference.digest"] = "sha256:no"
    of = index(child("a", "linux/amd64"), attestation("y", "elsewhere"), malformed)
    assert selected(of, "linux/arm64")[0] == [digest("y"), digest("x")]


def test_what_has_a_platform_is_no_attestation() -> None:
    pretending = {**attestation("x", "a"), **child("x", "linux/arm64")}
    of = index(child("a", "linux/amd64"), pretending)
    assert selected(of, "linux/arm64")[0] == [digest("x")]


def test_one_manifest_for_two_platforms_stays_for_either() -> None:
    of = index(child("a", "linux/amd64"), child("a", "linux/arm64"), attestation("of a", "a"))
    assert selected(of, "linux/arm64") == ([digest("a"), digest("a"), digest("of a")], [], [])


PLATFORMS = ["linux/amd64", "linux/arm64", "linux/arm/v7", "windows/amd64"]
NAMES = st.sampled_from("abcd")
CHILDREN = (
    st.builds(child, NAMES, st.sampled_from(PLATFORMS)) | st.builds(child, NAMES) | st.builds(attestation, NAMES, NAMES)
)


@given(st.lists(CHILDREN, max_size=8), st.lists(st.sampled_from(PLATFORMS), max_size=3))
def test_nothing_wanted_is_ever_left_out(children: list[Document], wanted: list[str]) -> None:
    of = index(*children)
    found = platforms.select(of, map(parse, wanted))
    kept = {each.descriptor.digest for each in found.kept}
    left_out = {each.descriptor.digest for each in found.left_out}
    assert not kept & left_out
    assert kept | left_out == {each.digest for each in of.references}
    here = {str(each.platform) for each in platforms.of_index(of)}
    assert {str(each.platform) for each in found.kept if each.platform} >= here & set(wanted)
    assert {str(each) for each in found.absent} == set(wanted) - here
    if not wanted:
        assert not left_out
