"""Ranges of versions: which tags are in one, and what is no range."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeport.oci import versions
from homeport.oci.version_ranges import CHARACTERS_MAX, parse
from homeport.oci.versions import Version


def version(tag: str) -> Version:
    found = versions.parse(tag)
    assert found is not None, tag
    return found


def within(text: str, tags: str, prereleases: bool = False) -> str:
    """Those of the tags that are in the range."""
    found = parse(text)
    return " ".join(tag for tag in tags.split() if found.contains(version(tag), prereleases))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=3.18", "3.18 3.18.0 3.19 v3.18.4 4 10.0.0", "3 3.17 3.17.9"),
        (">=3.18.2", "3.18.2 3.19 4", "3.18 3.18.1"),
        (">=3.18 <4", "3.18 3.20.1", "4 4.0.0 3.17"),
        (">=3.18,<4", "3.18 3.20.1", "4 3.17"),
        (">= 3.18 , < 4", "3.18 3.20.1", "4 3.17"),
        (">3.18", "3.19 3.19.0 4", "3.18 3.18.9"),
        (">3.18.1", "3.18.2 3.19", "3.18.1 3.18"),
        ("<=3.18", "3.18 3.18.9 3.17", "3.19 4"),
        ("<=3.18.1", "3.18.1 3.18", "3.18.2"),
        ("<3.18", "3.17.9 0", "3.18 3.18.0"),
        ("3.18", "3.18 3.18.9", "3.17 3.19 3"),
        ("3.18.x", "3.18 3.18.9", "3.17 3.19 3"),
        ("3.18.*", "3.18 3.18.9", "3.17 3.19 3"),
        ("3.X", "3 3.18 3.18.9", "2.9 4"),
        ("3.x.x", "3 3.18 3.18.9", "2.9 4"),
        ("*", "0 1 2.3 4.5.6", ""),
        ("x", "0 1 2.3 4.5.6", ""),
        (">=x", "0 1 2.3 4.5.6", ""),
        ("=1.2.3", "1.2.3 v1.2.3 1.2.3_build", "1.2.4 1.2 1.2.2"),
        ("==1.2.3", "1.2.3", "1.2.4"),
        ("1.2.0", "1.2.0 1.2", "1.2.1"),
        ("!=1.2.3", "1.2.2 1.2.4 1", "1.2.3"),
        ("1.x !=1.2", "1.1.9 1.3", "1.2 1.2.3 2"),
        ("^1.2", "1.2 1.2.3 1.99", "1.1 2 2.0.0"),
        ("^1.2.3", "1.2.3 1.99.0", "1.2.2 1.2 2"),
        ("^0.2.3", "0.2.3 0.2.9", "0.2.2 0.3 1"),
        ("^0.0.3", "0.0.3", "0.0.2 0.0.4 0.1"),
        ("^0.0", "0.0 0.0.9", "0.1 1"),
        ("^0", "0 0.9.9", "1"),
        ("^0.x", "0 0.9.9", "1"),
        ("~1.4", "1.4 1.4.9", "1.3 1.5"),
        ("~1.4.2", "1.4.2 1.4.9", "1.4.1 1.5"),
        ("~1", "1 1.9.9", "0.9 2"),
        ("~>1.4", "1.4.9", "1.5"),
        ("~*", "0 9", ""),
        ("1.2 - 1.4", "1.2 1.2.0 1.4.9", "1.1.9 1.5"),
        ("1.2.3 - 1.4.5", "1.2.3 1.4.5", "1.2.2 1.4.6"),
        ("1.2 - 1.4 !=1.3.1", "1.3.0 1.3.2", "1.3.1 1.5"),
        ("1.x || >=3.1", "1.9 3.1 4", "2 3.0.9"),
        ("1||2", "1.9 2.9", "0.9 3"),
        ("=>1.2 =<1.4", "1.2 1.4.9", "1.1 1.5"),
        ("v1.2", "1.2.3", "1.3"),
        (">=2024.01.05", "2024.1.5 2024.02.01", "2024.01.04"),
    ],
)  # fmt: skip
def test_releases(text: str, inside: str, outside: str) -> None:
    assert within(text, inside) == inside
    assert within(text, outside) == ""


@pytest.mark.parametrize(
    ("text", "unasked", "asked", "outside"),
    [
        (">=3.18 <4", "", "3.18-rc1 3.18.0-rc.1 3.19.0-beta.2", "4.0.0-rc.1 4-rc1 3.17.0-rc.1"),
        (">=3.18.0 <4.0.0", "", "3.18.1-rc1 4.0.0-rc.1", "3.18.0-rc.1 4.0.0"),
        (">=1.2.3-rc.2", "1.2.3-rc.2 1.2.3-rc.10", "1.2.4-rc.1 2.0.0-1", "1.2.3-rc.1 1.2.3-beta"),
        (">1.2.3-rc.2", "1.2.3-rc.2.1 1.2.3-rc.3", "1.3-rc1", "1.2.3-rc.2 1.2.3-rc.1"),
        ("<=1.2.3-rc.2", "1.2.3-rc.1 1.2.3-rc.2", "1.2.2-rc.9", "1.2.3-rc.2.1 1.2.3-rc.3"),
        ("=1.2.3-rc.2", "1.2.3-rc.2 1.2.3-RC2", "", "1.2.3-rc.1 1.2.3-rc.3 1.2.3"),
        ("=1.2-rc.2", "1.2-rc2 1.2.0-rc.2", "", "1.2-rc.1 1.2.1-rc.2 1.2"),
        ("^1.2.3-rc.2", "1.2.3-rc.2", "1.9.0-rc.1", "1.2.3-rc.1 2.0.0-rc.1"),
        ("~1.2-rc.2", "1.2-rc.2", "1.2.9-rc.1", "1.2-rc.1 1.3-rc.1"),
        ("*", "", "1.2.3-rc.1 0-alpha", ""),
        ("3.18.x", "", "3.18.0-rc.1 3.18.9-1", "3.19.0-rc.1"),
    ],
)
def test_prereleases(text: str, unasked: str, asked: str, outside: str) -> None:
    everything = " ".join(filter(None, (unasked, asked, outside)))
    assert within(text, everything) == unasked
    assert within(text, everything, prereleases=True) == " ".join(filter(None, (unasked, asked)))


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        (">=3.18", "3.18", "3.18-alpine 3.19.1-slim-bookworm"),
        (">=3.18-alpine", "3.18-alpine 3.19.1-Alpine", "3.18 3.17-alpine 3.18-alpine3.19"),
        (">=3.18-alpine <4", "3.18-alpine", "4-alpine 3.18"),
        (">=3.18 || >=3.18-alpine", "3.18 3.19-alpine", "3.19-slim"),
        ("3.18.x-alpine", "3.18-alpine 3.18.4-alpine", "3.18 3.19-alpine"),
        ("*-slim-bookworm", "3-slim-bookworm 3.1.2-slim-bookworm", "3-slim 3"),
        ("1.2 - 1.4-alpine", "1.2-alpine 1.4.9-alpine", "1.3 1.5-alpine"),
        (">=1.2.3-rc.1-alpine", "1.2.3-rc.2-alpine 1.2.3-alpine", "1.2.3-rc.2 1.2.3"),
    ],
)
def test_variants(text: str, inside: str, outside: str) -> None:
    assert within(text, inside) == inside
    assert within(text, outside) == ""


def test_which_variants_it_is_about() -> None:
    assert parse(">=3.18 || >=3.18-alpine <4").variants == {"", "alpine"}


def test_a_date_is_no_version() -> None:
    assert within(">=3.18", "20240329 240329 3.20") == "3.20"
    assert within("*", "20240329 21") == "21"
    assert within(">=20240101", "20240329 20231231 21") == "20240329"
    assert within(">=3.18", "2024.03.29 20240329.1") == "2024.03.29 20240329.1"


@pytest.mark.parametrize(
    "text",
    ["", " ", "||", "1 ||", "|| 1", "1 | 2", "latest", ">=", ">= <4", ">=latest", "1.2.3.4", "1.x.3", "1..2", "1.2.",
     "1.2.3x", "xx", "1.x-rc.1", "=!1", "<>1", ">=1.2 - 1.4", "1.2 -", "- 1.4", "1.2 -1.4", ",1", "1.2.3+build",
     "1" * 19, "\u0661", "1.2\0", ">=1 &2"],
)  # fmt: skip
def test_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=r"write it as '>=3\.18 <4'"):
        parse(text)


@pytest.mark.parametrize("text", [">4 <3", "1.2.3 1.2.4", ">*", "<*", "<0", "!=*", "1.2 !=1.x", "4 - 3", "1 || >2 <2"])
def test_what_no_version_can_be_in(text: str) -> None:
    with pytest.raises(ValueError, match="no version can be in"):
        parse(text)


def test_two_variants_are_alternatives() -> None:
    with pytest.raises(ValueError, match=r"write '\|\|' between"):
        parse(">=3.18-alpine <4-slim")


NUMBERS = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(lambda parts: ".".join(map(str, parts)))
FULL = st.lists(st.integers(0, 3), min_size=3, max_size=3).map(lambda parts: ".".join(map(str, parts)))
TAGS = st.builds("{}{}".format, NUMBERS, st.sampled_from(["", "-rc.1", "-rc.2", "-beta"]))


def holds(text: str, tag: str, prereleases: bool = True) -> bool:
    return parse(text).contains(version(tag), prereleases)


@given(st.builds("{}{}".format, FULL, st.sampled_from(["", "-rc.1"])), TAGS)
def test_the_comparisons_are_those_of_versions(bound: str, tag: str) -> None:
    numbers, is_release, prerelease = version(tag).precedence
    place, limit = ((*numbers, 0, 0)[:3], is_release, prerelease), version(bound).precedence
    assert holds(f">={bound}", tag) == (place >= limit)
    assert holds(f">{bound}", tag) == (place > limit)
    assert holds(f"<={bound}", tag) == (place <= limit)
    assert holds(f"={bound}", tag) == (place == limit)
    assert holds(f"!={bound}", tag) == (place != limit)


@given(NUMBERS, TAGS)
def test_each_is_the_opposite_of_another(bound: str, tag: str) -> None:
    assert holds(f">{bound}", tag) != holds(f"<={bound}", tag)
    assert holds(f"={bound}", tag) != holds(f"!={bound}", tag)
    assert holds(f"={bound}", tag) == (holds(f">={bound}", tag) and holds(f"<={bound}", tag))
    assert holds(f"={bound}", tag) == holds(f"{bound} - {bound}", tag)


@given(NUMBERS, TAGS)
def test_nothing_is_in_without_prereleases_that_is_not_with_them(bound: str, tag: str) -> None:
    for operator in ("", "!=", ">=", ">", "<=", "~", "^"):
        assert holds(operator + bound, tag) >= holds(operator + bound, tag, prereleases=False)


@given(st.text("0123.xX*v-arc<>=!~^|, ", max_size=20) | st.text(max_size=20))
def test_any_text_is_a_range_or_is_refused(text: str) -> None:
    try:
        found = parse(text)
    except ValueError:
        return
    assert not found.contains(version("1.2.3-unheard-of-variant"))


def test_hostile_text_is_cheap() -> None:
    before = time.perf_counter()
    for text in (
        "1" * 10_000_000,
        "1" * CHARACTERS_MAX,
        "1" + " " * 253 + "!",
        " - " * 85,
        "1||" * 84 + "1",
        "1." * 127,
    ):
        try:
            parse(text).contains(version("1.2.3"))
        except ValueError:
            continue
    assert time.perf_counter() - before < 0.2
