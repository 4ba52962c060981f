"""Versions in tags: what is one, what competes with what, and what comes before what."""

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci.versions import Version, parse


def version(tag: str) -> Version:
    found = parse(tag)
    assert found is not None, tag
    return found


@pytest.mark.parametrize(
    "tag",
    ["latest", "", "v", "x1.2", "1.2.3.4", "1..2", "1.2.", "1.2.3-", "1.2.3 ", "1.2.3\n", "1a2b3c4", "sha-1a2b3c4",
     "release-1.2", "1" * 19, "1.2.3-\u00e4", "\u0661.2", "1.2.3-" + "a" * 200],
)  # fmt: skip
def test_no_version(tag: str) -> None:
    assert parse(tag) is None


@pytest.mark.parametrize(
    ("tag", "numbers", "is_release", "variant"),
    [
        ("1", (1,), True, ""),
        ("v1.2", (1, 2), True, ""),
        ("V1.2.3", (1, 2, 3), True, ""),
        ("2024.01.05", (2024, 1, 5), True, ""),
        ("1.2.3-alpine", (1, 2, 3), True, "alpine"),
        ("1.2.3-alpine3.18", (1, 2, 3), True, "alpine3.18"),
        ("3.12-slim-bookworm", (3, 12), True, "slim-bookworm"),
        ("1.2.3-debian-12-r3", (1, 2, 3), True, "debian-12-r3"),
        ("1.2.3-7zip", (1, 2, 3), True, "7zip"),
        ("1.2.3-devel", (1, 2, 3), True, "devel"),
        ("1.2.3_build.7", (1, 2, 3), True, ""),
        ("1.2.3-rc.1_build", (1, 2, 3), False, ""),
        ("1.2.3-rc.1-alpine", (1, 2, 3), False, "alpine"),
        ("1.2.3-SNAPSHOT", (1, 2, 3), False, ""),
        ("17beta3", (17,), False, ""),
        ("1.2.3-20240101", (1, 2, 3), False, ""),
        ("22-ea-1-jdk", (22,), False, "jdk"),
        ("1.2.3-preview.2-Windows", (1, 2, 3), False, "windows"),
    ],
)  # fmt: skip
def test_what_a_tag_names(tag: str, numbers: tuple[int, ...], is_release: bool, variant: str) -> None:
    found = version(tag)
    assert (found.numbers, found.is_release, found.variant) == (numbers, is_release, variant)


@pytest.mark.parametrize(
    "ordered",
    [
        # semver 2.0, section 11
        ["1.0.0", "2.0.0", "2.1.0", "2.1.1"],
        ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta", "1.0.0-beta.2", "1.0.0-beta.11",
         "1.0.0-rc.1", "1.0.0"],
        ["1.9.0", "1.10.0", "1.11.0"],
        ["1.0.0-1", "1.0.0-2", "1.0.0-10", "1.0.0-alpha", "1.0.0"],
        # ours
        ["1.0.0-rc9", "1.0.0-rc10", "v1.0.0", "1.0.1-rc1"],
        ["1.0-RC1-alpine", "1.0-rc2-alpine", "1.0-alpine", "1.1-alpine"],
    ],
)  # fmt: skip
def test_order(ordered: list[str]) -> None:
    for before, after in pairwise(ordered):
        assert version(before).precedence < version(after).precedence
        assert version(before).series == version(after).series


@pytest.mark.parametrize(
    ("one", "other"), [("1.2.3", "v1.2.3"), ("1.2.3_a", "1.2.3_b"), ("1.2-RC1", "1.2-rc.1"), ("1.02", "1.2")]
)
def test_the_same_version(one: str, other: str) -> None:
    assert version(one).precedence == version(other).precedence
    assert version(one).series == version(other).series


@pytest.mark.parametrize(("one", "other"), [("1.4.2", "1.4.1-alpine"), ("1.4.2", "1.4"), ("1.4", "1")])
def test_what_never_competes(one: str, other: str) -> None:
    assert version(one).series != version(other).series


def test_its_minor() -> None:
    assert [version(tag).minor for tag in ("1", "1.2", "1.2.3-rc.1")] == [(1,), (1, 2), (1, 2)]


@given(st.from_regex(r"[v0-9]{1,3}[0-9a-zA-Z._-]{0,40}", fullmatch=True))
def test_any_text_has_an_answer(tag: str) -> None:
    found = parse(tag)
    if found is not None:
        assert 1 <= len(found.numbers) <= 3
        assert found.precedence <= found.precedence


def test_hostile_text_is_cheap() -> None:
    before = time.perf_counter()
    for tag in (
        "1" * 10_000_000,
        "1-" + "1" * 126,
        "1-rc" + ".1" * 62,
        "1-rc" + "-1" * 62 + "!",
        "1-" + "a-" * 62 + "!",
    ):
        parse(tag)
    assert time.perf_counter() - before < 0.2
